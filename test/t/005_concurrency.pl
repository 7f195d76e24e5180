# Many at once.
#
#  1. 32 clients rotate the same token at the same moment: one successor, and
#     everybody gets the identical text; no deadlock.  Again when they all hold
#     an old REPEATABLE READ snapshot; with a rotation key; with an overlap of 0.
#  2. 32 clients rotate it by id: one gets a successor, the others replay_ended.
#  3. 32 clients revoke it: one call ends it.
#  4. Holders, operators, revocations of families, ends of windows, sweeps and a
#     worker that is always there, on few families: no error and no deadlock;
#     then no token has two successors, the cache agrees with the tokens, each
#     window's end is recorded once, and what the trail says is what happened.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my $clients = 32;
my $node = new_node('concurrency', conf => "token_rotation.worker_nap = '200ms'\n");
$node->safe_psql('postgres', 'CREATE TABLE answer (run int, text text, replayed bool, reason text)');

# Start clients that all wait for a lock in front of the statement, then let them
# go at once.  The statement fills the columns of answer but run.
my $run = 0;

sub at_once
{
	my ($statement, $begin) = @_;
	my $script = $node->basedir . "/run$run.sql";
	my ($out, $err) = ('', '');

	append_to_file($script,
		($begin // 'BEGIN') . ";\nSELECT count(*) FROM pg_class;\n"
		  . "LOCK TABLE answer IN ROW EXCLUSIVE MODE;\nINSERT INTO answer SELECT $run, $statement;\nEND;\n");
	my $gate = $node->background_psql('postgres');
	$gate->query_safe('BEGIN; LOCK TABLE answer IN EXCLUSIVE MODE');
	my $pgbench = IPC::Run::start(
		[
			'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-c', $clients, '-j', 2, '-t', 1,
			'-f', $script, 'postgres'
		],
		'<', \undef, '>', \$out, '2>', \$err,
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	$node->poll_query_until('postgres',
		"SELECT count(*) = $clients FROM pg_stat_activity"
		  . " WHERE wait_event_type = 'Lock' AND query LIKE 'LOCK TABLE answer%'")
	  or die "the clients did not come: $out $err";
	$gate->query_safe('COMMIT');
	$gate->quit;
	$pgbench->finish;
	my ($ok) = $pgbench->result == 0;
	diag("$out\n$err") unless $ok;
	return ($ok, $run++);
}

sub answers
{
	my ($n, $expression) = @_;

	return value($node, "SELECT $expression FROM answer WHERE run = $n");
}

# 1. tr_rotate

my @cases = (
	[ 'READ COMMITTED', "'default'", '' ],
	[ 'REPEATABLE READ', "'default'", '', 'BEGIN ISOLATION LEVEL REPEATABLE READ' ],
	[ 'with a rotation key', "'partner'", 'key' ],
	[ 'with an overlap of 0', "'default'", ", overlap => '0'" ]);
for my $case (@cases)
{
	my ($name, $policy, $more, $begin) = @$case;
	my $token = issue($node, "'$name', $policy");
	my $args = $more eq 'key' ? ", '$token->{rotation_key}'" : $more;
	my ($ok, $n) = at_once(
		"token || coalesce(rotation_key, ''), replayed, reason FROM tr_rotate('$token->{token}'$args)",
		$begin);

	ok($ok, "$name: no client failed");
	is(answers($n, "count(*) || ' ' || string_agg(DISTINCT reason, ' ')"),
		"$clients ok", "$name: all got an answer");
	is(answers($n, 'count(DISTINCT text)'), '1', "$name: all got the identical text");
	is(answers($n, 'count(*) FILTER (WHERE NOT replayed)'), '1', "$name: one made it");
	is(value($node, "SELECT count(*) FROM token_rotation.token WHERE predecessor_id = '$token->{token_id}'"),
		'1', "$name: there is one successor");
	is(audit_count($node, "event = 'rotated' AND client_id = '$name'"), '1', "$name: one rotation in the trail");
	poll($node, "$name: and every replay", qq{
		SELECT count(*) = $clients - 1 FROM token_rotation.audit
		WHERE event = 'replayed' AND client_id = '$name'});
}

# 2. tr_rotate_id

my $token = issue($node, "'by id'");
my ($ok, $n) = at_once("token, replayed, reason FROM tr_rotate_id('$token->{token_id}')");
ok($ok, 'by id: no client failed');
is(answers($n, "string_agg(DISTINCT reason, ' ' ORDER BY reason)"),
	'ok replay_ended', 'by id: ok or replay_ended');
is(answers($n, 'count(text)'), '1', 'by id: one got a token');
is(value($node, "SELECT count(*) FROM token_rotation.token WHERE client_id = 'by id'"),
	'2', 'by id: one successor');

# 3. tr_revoke

$token = issue($node, "'revoked'");
($ok, $n) = at_once("NULL, tr_revoke('$token->{token}')");
ok($ok, 'revoke: no client failed');
is(answers($n, 'count(*) FILTER (WHERE replayed)'), '1', 'revoke: one call ended it');
is(audit_count($node, "event = 'revoked' AND client_id = 'revoked'"), '1', 'revoke: one row in the trail');

# 4. Everything at once.  The clients take texts and ids from a table, where
# they put the successors that they get.

$node->safe_psql('postgres', q{
	CREATE TABLE held (n serial, text text, id uuid);
	INSERT INTO held (text, id)
	SELECT token, token_id FROM generate_series(1, 8) g, LATERAL tr_issue('chaos' || g) t});
set_conf($node, 'token_rotation.leeway' => '0');
my $pick = '(SELECT text, id FROM held'
  . ' WHERE n = (SELECT max(n) FROM held) - floor(random() ^ 2 * 24) LIMIT 1) h';
my %scripts = (
	rotate => "WITH r AS MATERIALIZED (SELECT r.token, r.token_id, r.replayed FROM $pick, LATERAL"
	  . " tr_rotate(h.text, overlap => (random() * 2)::int * interval '200 ms') r)"
	  . ' INSERT INTO held (text, id) SELECT token, token_id FROM r WHERE token IS NOT NULL AND NOT replayed',
	issue => "INSERT INTO held (text, id) SELECT token, token_id FROM tr_issue('chaos')",
	rotate_id => "INSERT INTO held (text, id) SELECT r.token, r.token_id FROM $pick, LATERAL"
	  . " tr_rotate_id(h.id, '100 ms') r WHERE r.token IS NOT NULL",
	validate => "SELECT r.reason FROM $pick, LATERAL tr_validate(h.text) r",
	finish => "SELECT tr_finish_overlap(h.id) FROM $pick",
	revoke => "SELECT tr_revoke(h.text) FROM $pick",
	family => "SELECT tr_revoke_id(h.id, family => true) FROM $pick",
	sweep => 'SELECT tr_sweep(5)');
my %weight = (rotate => 12, issue => 2, validate => 6);
my @files;
for my $name (sort keys %scripts)
{
	my $file = $node->basedir . "/$name.sql";
	append_to_file($file, "$scripts{$name};\n");
	push @files, '-f', "$file\@" . ($weight{$name} // 1);
}
$node->command_ok(
	[ 'pgbench', '-n', '-h', $node->host, '-p', $node->port, '-c', 16, '-j', 2, '-T', 5, @files, 'postgres' ],
	'everything at once: no client failed');
my $made = value($node, q{
	SELECT count(*) FROM token_rotation.token WHERE client_id LIKE 'chaos%' AND generation > 0});
cmp_ok($made, '>', 0, "that made $made successors");
# the worker catches up
poll($node, 'no window that is over stays open', q{
	SELECT count(*) = 0 FROM token_rotation.token
	WHERE status = 'rotating' AND overlap_ends_at < clock_timestamp()});
is( value($node, q{
		SELECT count(*) FROM (SELECT predecessor_id FROM token_rotation.token
			WHERE predecessor_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1) x}),
	'0', 'no token has two successors');
is( value($node, q{
		SELECT count(*) FROM token_rotation.token
		WHERE (rotated_at IS NOT NULL) <> EXISTS (SELECT FROM token_rotation.token s
			WHERE s.predecessor_id = token.token_id)}),
	'0', 'who was rotated has a successor, and nobody else');
poll($node, 'the cache agrees with the tokens', q{
	SELECT count(*) = 0 FROM token_rotation.token_cache c
	FULL JOIN token_rotation.token t USING (token_id)
	WHERE token_id <> '00000000-0000-0000-0000-000000000000'
	AND (t.status IN ('active', 'rotating') OR c.token_id IS NOT NULL)
	AND (c.status, c.secret_hash, c.expires_at, c.rotated_at, c.overlap_ends_at, c.replay_ends_at)
		IS DISTINCT FROM
		(t.status, t.secret_hash, t.expires_at, t.rotated_at, t.overlap_ends_at, t.replay_ends_at)});
for my $pair (
	[ 'overlap_ended', "status = 'expired' AND overlap_ends_at IS NOT NULL" ],
	[ 'revoked', "status = 'revoked'" ],
	[ 'rotated', 'rotated_at IS NOT NULL' ],
	[ 'issued', 'generation = 0' ])
{
	my ($event, $where) = @$pair;

	$event = 'overlap_ended\', \'overlap_finished' if $event eq 'overlap_ended';
	is( value($node, qq{
			SELECT count(*) FROM
			(SELECT sha256(uuid_send(token_id)) AS ref FROM token_rotation.token WHERE $where) t
			FULL JOIN
			(SELECT token_ref AS ref FROM token_rotation.audit
				WHERE event IN ('$event') AND NOT coalesce(detail ? 'replay_window', false)) a USING (ref)
			WHERE t.ref IS NULL OR a.ref IS NULL}),
		'0', "the trail has '$event' of exactly the tokens that were");
	is( value($node, qq{
			SELECT count(*) FROM (SELECT token_ref FROM token_rotation.audit
				WHERE event IN ('$event') AND NOT coalesce(detail ? 'replay_window', false)
				GROUP BY 1 HAVING count(*) > 1) x}),
		'0', 'once each');
}
poll($node, 'the server counted no deadlock',
	"SELECT deadlocks = 0 AND xact_commit > 100 FROM pg_stat_database WHERE datname = 'postgres'");
ok(!$node->log_contains(qr/deadlock|ERROR: |FATAL: |PANIC: /), 'and its log has no error');

done_testing();
