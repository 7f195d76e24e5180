# What the counters of tr_stat and the answer of tr_health are worth.
#
#  1. Many sessions at once, with more policies than a session keeps addresses
#     of: every count is exact, of what was answered and of what was committed.
#  2. A transaction that fails at its commit counts nothing that it changed.
#  3. Levels: the cache answers, or the table where there is no worker.
#  4. Over a restart they go on, in every database; after a crash, and where the
#     file is another library's or damaged, they begin at 0, without a word.
#  5. More policies than there is room for: what is too many is counted together,
#     and nothing gets lost; tr_health says so.
#  6. Databases are counted and reset apart; a dropped one makes room, also when
#     the server was down before anybody noticed.
#  7. A full ring, lost events, a worker that fails, locked tables, and no worker at
#     all: told by tr_health, which waits for nobody, counted, and over when it is
#     over.
#  8. A standby counts its validations, keeps them over a restart, tells how far
#     it is behind, and goes on after its promotion.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my $size = 64;
my $node = new_node('stat',
	streaming => 1,
	conf => "token_rotation.ring_size = $size\ntoken_rotation.worker_nap = '500ms'\nautovacuum = off\n");

# The count of an event and reason, of one policy (undef: of none).
sub counted
{
	my ($policy, $event, $reason, $db) = @_;
	my $is = join ' AND ', map { "$_->[0] IS NOT DISTINCT FROM " . literal($_->[1]) }
	  [ policy => $policy ], [ event => $event ], [ reason => $reason ];

	return value($node, "SELECT coalesce(sum(count), 0) FROM tr_stat WHERE $is", $db);
}

# All that is not 0, as text, but the worker's visits.
sub all_counted
{
	my ($db, $of) = @_;

	return value($of // $node, q{
		SELECT coalesce(string_agg(concat_ws(' ', policy, event, reason, count), ', ' ORDER BY policy, event, reason), '')
		FROM tr_stat WHERE count > 0 AND event <> 'visit'}, $db);
}

sub health
{
	my ($of, $db) = @_;

	return row($of // $node, 'SELECT * FROM tr_health()', $db);
}

sub gives
{
	my ($name, $reason, $of) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return poll($of // $node, $name, "SELECT '$reason' = ANY (reasons) FROM tr_health()");
}

# Run scripts in sessions of their own, all at once.
sub all_at_once
{
	my (@scripts) = @_;
	my @psql = ('psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'));
	my @runs = map { my ($in, $out, $err) = ($_, '', ''); IPC::Run::start(\@psql, \$in, \$out, \$err) } @scripts;

	return scalar grep { !$_->finish } @runs;
}

# 1. Many sessions

my ($sessions, $policies, $rounds) = (8, 40, 25);
value($node, "INSERT INTO token_rotation.policy (name) SELECT 'many-' || g FROM generate_series(1, $policies) g");
my %token = map { my $p = "many-$_"; $p => issue($node, "'many', '$p'")->{token} } 1 .. $policies;
my $dead = issue($node, "'dead'");
value($node, "SELECT tr_revoke('$dead->{token}'), tr_stat_reset()");
my $look = "SELECT count(v) FROM generate_series(1, $rounds) g, unnest(ARRAY["
  . join(', ', map { "'$_'" } values %token, $dead->{token}, 'nonsense')
  . "]) t, LATERAL tr_validate(CASE WHEN g > 0 THEN t END) v;\n";
my $make = join '', map { "SELECT count(i) FROM tr_issue('new', 'many-$_') i;\n" } 1 .. $policies;
is(all_at_once(("BEGIN;\n$look ROLLBACK;\n$look BEGIN;\n$make ROLLBACK;\n$make") x $sessions), 0, 'all sessions did it');
my $looks = $sessions * $rounds * 2;
is( value($node, "SELECT count(*) FROM tr_stat WHERE policy LIKE 'many-%' AND event = 'validated' AND reason = 'ok' AND count = $looks"),
	$policies, 'every validation is counted, of each policy');
is( value($node, "SELECT count(*) FROM tr_stat WHERE policy LIKE 'many-%' AND event = 'issued' AND count = $sessions"),
	$policies, 'and every token whose transaction was committed, no other');
is(counted('default', 'validated', 'revoked'), $looks, 'the refused ones of a policy');
is(counted(undef, 'validated', 'malformed'), $looks, 'and those of none');
is(value($node, "SELECT sum(count) FROM tr_stat WHERE event = 'lookup'"),
	$looks * ($policies + 1), 'each was looked up somewhere, but what is malformed');

# what costs least is counted most often in the same moment
my $often = 50_000;
value($node, 'SELECT tr_stat_reset()');
is(all_at_once(("SELECT count(v) FROM generate_series(1, $often) g, LATERAL tr_validate(CASE WHEN g > 0 THEN 'nonsense' END) v;\n") x $sessions),
	0, 'all sessions at full speed');
is(counted(undef, 'validated', 'malformed'), $sessions * $often, 'not one is missing');
value($node, "SELECT count(i) FROM tr_issue('new', 'many-1') i");

# 2. A commit that fails

my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_safe("BEGIN; SELECT tr_issue('cut', 'many-1')");
value($node, "SELECT tr_revoke_client('cut')");
my (undef, $failed) = $session->query('COMMIT');
ok($failed, 'a commit fails');
$session->quit;
is(counted('many-1', 'issued'), 1, 'and counts nothing');

# 3. Levels

wait_trusted($node, $token{'many-1'}, 'the cache answers');
value($node, 'SELECT tr_stat_reset()');
value($node, "SELECT tr_validate('$token{'many-1'}')");
is(counted('many-1', 'lookup', 'cache'), 1, 'which is counted');
is(counted('many-1', 'lookup', 'token'), 0, 'and nothing else');
value($node, "SELECT tr_validate('$dead->{token}')");
is(counted('default', 'lookup', 'token'), 1, 'the table answers for a dead token');
my $unknown = value($node, 'BEGIN; SELECT token FROM tr_issue(\'gone\'); ROLLBACK');
value($node, "SELECT tr_validate('$unknown')");
is(counted(undef, 'lookup', 'none'), 1, 'and nothing for an unknown one');

# 4. Over a restart

my $file = $node->data_dir . '/pg_stat/token_rotation.stat';
$node->safe_psql('postgres', 'CREATE DATABASE other');
install($node, 'other');
my $there = issue($node, "'there'", 'other');
verdict($node, $there->{token}, 'other');
my $before = all_counted();
my $since = value($node, 'SELECT max(stats_reset) FROM tr_stat');
like($before, qr/many-1 validated ok 1\b/, 'something is counted');
$node->stop;
ok(-s $file, 'a file is left at the shutdown');
$node->start;
ok(!-e $file, 'which is taken over');
is(all_counted(), $before, 'and everything is as it was');
is(value($node, 'SELECT max(stats_reset) FROM tr_stat'), $since, 'since the same moment');
is(counted('default', 'validated', 'ok', 'other'), 1, 'also in another database');
my $kept = slurp_file($node->logfile);
unlike($kept, qr/could not (?:read|write) file "pg_stat/, 'without a word');

$node->stop('immediate');
ok(!-e $file, 'a crash leaves none');
$node->start;
is(counted('many-1', 'validated', 'ok'), 0, 'and begins at 0');
is(value($node, "SELECT max(stats_reset) > '$since' FROM tr_stat"), 't', 'which is said');

value($node, "SELECT tr_validate('$dead->{token}')");
for my $damage ([ 'cut off' => sub { truncate $file, 100 } ], [ 'another library\'s' => sub { flip($file, 4) } ], [ empty => sub { truncate $file, 0 } ])
{
	my ($what, $do) = @$damage;

	value($node, "SELECT tr_validate('$dead->{token}')");
	$node->stop;
	$do->();
	$node->start;
	is(counted('default', 'validated', 'revoked'), 0, "$what: it begins at 0");
	ok(!-e $file, "$what: and the file is gone");
}

# Change one byte of a file.
sub flip
{
	my ($name, $at) = @_;

	open my $f, '+<', $name or die "$name: $!";
	binmode $f;
	seek $f, $at, 0;
	read $f, my $byte, 1;
	seek $f, $at, 0;
	print $f chr(ord($byte) ^ 0xff);
	close $f or die "$name: $!";
	return;
}

# 5. More policies than there is room for

my $full = 1100;    # there is room for 1024
value($node, "SELECT count(v) FROM unnest(ARRAY['$token{'many-1'}', '$token{'many-2'}', '$dead->{token}']) t, tr_validate(t) v");
verdict($node, $there->{token}, 'other');
unlike(join(' ', @{ health()->{reasons} }), qr/statistics_full/, 'there is room yet');
value($node, "INSERT INTO token_rotation.policy (name) SELECT 'full-' || g FROM generate_series(1, $full) g");
value($node, "SELECT tr_stat_reset(); SELECT count(i) FROM generate_series(1, $full) g, tr_issue('full', 'full-' || g) i");
is(value($node, "SELECT sum(count) FROM tr_stat WHERE event = 'issued'"), $full, 'all are counted');
my $others = counted('(other)', 'issued');
cmp_ok($others, '>=', $full - 1024, 'those without room together');
is( value($node, "SELECT count(*) FROM tr_stat WHERE event = 'issued' AND policy LIKE 'full-%' AND count = 1"),
	$full - $others, 'the others by name');
value($node, "SELECT count(i) FROM generate_series(1, $full) g, tr_issue('full', 'full-' || g) i");
is(counted('(other)', 'issued'), 2 * $others, 'and so on');
gives('which is told', 'statistics_full');
value($node, "SELECT tr_issue('there')", 'other');
is(counted('default', 'issued', undef, 'other'), 1, 'what has room keeps it');

# 6. Databases

value($node, 'SELECT tr_stat_reset()', 'other');
is(counted('default', 'issued', undef, 'other'), 0, 'one database is reset');
is(value($node, "SELECT sum(count) FROM tr_stat WHERE event = 'issued'"), 2 * $full, 'the other one is not');
$node->safe_psql('postgres', 'CREATE DATABASE third');
install($node, 'third');
value($node, "INSERT INTO token_rotation.policy (name) VALUES ('late'); SELECT tr_issue('late', 'late')", 'third');
is(counted('(other)', 'issued', undef, 'third'), 1, 'a third one finds no room for a policy');
is(counted(undef, 'visit', 'done', 'third') >= 0, 1, 'but has its own numbers');
is($node->psql('third', 'SELECT count(*) FROM tr_stat'), 0, 'which it shows');
$node->safe_psql('postgres', 'DROP DATABASE other WITH (FORCE)');
$node->stop;
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE fourth');
install($node, 'fourth');
poll($node, 'where one was dropped there is room', q{
	SELECT count(i) = 1 AND count(s) > 0 FROM tr_issue('room') i
	LEFT JOIN tr_stat s ON s.policy = 'default' AND s.event = 'issued'}, 'fourth');

# 7. What goes wrong

value($node, 'SELECT tr_stat_reset()');
my $held = hold_audit($node);
value($node, "SELECT count(r) FROM generate_series(1, $size + 10) g, LATERAL tr_rotate(CASE WHEN g > 0 THEN '$dead->{token}' END) r");
is_deeply([ @{ health() }{qw(verdict proven_waiting ring_size proven_lost)} ], [ 'critical', $size, $size, 10 ],
	'a full ring, and what did not fit');
gives('is a reason', $_) for 'ring_full', 'events_lost';
poll($node, 'the worker cannot get in, which is counted', q{
	SELECT count > 0 FROM tr_stat WHERE event = 'visit' AND reason = 'locked'});
release($held);
poll($node, 'when it can, all is well', q{
	SELECT NOT reasons && '{ring_full,ring_filling,events_lost}' AND proven_waiting = 0 AND proven_lost = 0 FROM tr_health()});
is(counted(undef, 'events_lost', 'proven'), 10, 'and the losses are counted');
is(counted('default', 'rotation_refused', 'revoked'), $size + 10, 'like all that was refused');

$node->safe_psql('postgres', 'REVOKE INSERT ON token_rotation.audit FROM token_rotation_worker');
rotate($node, $dead->{token}) for 1 .. 2;
gives('a worker that fails', 'visits_fail');
my $health = health();
is($health->{last_error}, '42501', 'with its error');
cmp_ok($health->{failed_visits}, '>', 0, 'and how often');
poll($node, 'which is counted', "SELECT count > 0 FROM tr_stat WHERE event = 'visit' AND reason = 'failed'");
$node->safe_psql('postgres', 'GRANT INSERT ON token_rotation.audit TO token_rotation_worker');
poll($node, 'until it works again', "SELECT failed_visits = 0 FROM tr_health()");

for (
	[ 'token_rotation.token', 'tables_locked' ], [ 'token_rotation.token_cache', 'tables_locked' ],
	[ 'token_rotation.token_pkey', 'tables_locked' ], [ 'token_rotation.audit', 'trail_locked' ],
	[ 'token_rotation.audit_seal_pkey', 'trail_locked' ])
{
	my ($lock, $reason) = @$_;
	my $locker = $node->background_psql('postgres');

	# an index is locked with its table, by who rebuilds it
	$locker->query_safe('BEGIN; ' . ($lock =~ /pkey/ ? "REINDEX INDEX $lock" : "LOCK TABLE $lock IN ACCESS EXCLUSIVE MODE"));
	$health = health();
	is($health->{verdict}, 'critical', "$lock is locked: critical");
	like(join(' ', @{ $health->{reasons} }), qr/\b$reason\b/, "for that: $reason");
	$locker->query_safe('COMMIT');
	$locker->quit;
}

$node->append_conf('postgresql.conf', "max_worker_processes = 0\nmax_logical_replication_workers = 0\n");
$node->restart;
is(verdict($node, $token{'many-1'}), 'ok', 'without a launcher validation goes on');
$health = health();
is($health->{verdict}, 'critical', 'health is critical');
like(join(' ', @{ $health->{reasons} }), qr/^launcher_down\b/, 'for want of it');
is(value($node, 'BEGIN READ ONLY; SELECT launcher_running FROM tr_health(); COMMIT'), 'f', 'also READ ONLY');
value($node, "SELECT tr_validate('$token{'many-1'}')");
cmp_ok(counted('many-1', 'lookup', 'token'), '>', 0, 'the table answers');
$node->append_conf('postgresql.conf', "max_worker_processes = 8\nmax_logical_replication_workers = 4\n");
$node->restart;
poll($node, 'with a launcher it is no reason any more',
	"SELECT launcher_running AND NOT 'launcher_down' = ANY (reasons) AND cache_complete FROM tr_health()");

# 8. A standby

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
issue($node, "'late'");
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is(verdict($standby, $token{'many-2'}), 'ok', 'a standby validates') for 1 .. 3;
is(all_counted('postgres', $standby), 'many-2 lookup token 3, many-2 validated ok 3', 'and counts it, and nothing of the primary');
$health = health($standby);
is_deeply([ @{$health}{qw(verdict in_recovery launcher_running cache_complete last_visit)} ], [ 'ok', JSON::PP::true, undef, undef, undef ],
	'it is well, without a worker');
ok(defined $health->{staleness}, 'and knows how far it is behind');
$standby->restart;
is(all_counted('postgres', $standby), 'many-2 lookup token 3, many-2 validated ok 3', 'a restart keeps it');
$node->stop;
set_conf($standby, 'token_rotation.max_staleness' => '1s');
gives('alone it gets stale', 'stale', $standby);
is(health($standby)->{verdict}, 'critical', 'which is critical');
$standby->promote;
poll($standby, 'promoted, it has a launcher and is not stale',
	"SELECT launcher_running AND NOT in_recovery AND NOT 'stale' = ANY (reasons) FROM tr_health()");
is(verdict($standby, $token{'many-2'}), 'ok', 'it validates');
is(value($standby, "SELECT count FROM tr_stat WHERE policy = 'many-2' AND event = 'validated' AND reason = 'ok'"), 4, 'and counts on');
is($standby->safe_psql('postgres', "SELECT count(*) FROM tr_issue('new')"), 1, 'it issues');
is(value($standby, "SELECT count FROM tr_stat WHERE policy = 'default' AND event = 'issued'"), 1, 'which is counted');

done_testing();
