# What survives the end of a server, or of a part of it.
#
#  1. A clean restart: verdicts stay, the cache is kept with its usage counts,
#     and a replay is still answered with the identical token.
#  2. A cache that was changed behind the durable rows before the restart
#     (revived, prolonged, damaged, invented and lost rows) misleads nobody
#     after it: it is not asked until a worker has corrected it.
#  3. kill -9 of a backend in mid-rotation: the old token is valid and has no
#     successor; the next rotation makes the first one.  Likewise a revocation
#     that was not committed.
#  4. kill -9 of the launcher and of a worker in the midst of its work: they
#     come back, and what was due is done once.
#  5. The launcher is terminated: it comes back without a crash restart.
#  6. An immediate stop right after a verb was acknowledged, with
#     synchronous_commit = off (in the configuration, in the session, and by SET
#     LOCAL after the verb): what was acknowledged holds, for every verb that
#     ends something and for issue and rotation.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my $node = new_node('durability', conf => "token_rotation.worker_nap = '500ms'\n");

# 1. and 2. A clean restart

my $rotated = issue($node, "'kept'");
my $successor = rotate($node, $rotated->{token});
my $revoked = issue($node, "'revived'");
my $short = issue($node, "'prolonged', ttl => '1 second'");
my $damaged = issue($node, "'damaged'");
my $lost = issue($node, "'lost'");
my $quiet = issue($node, "'quiet'");
my $moved = issue($node, "'moved'");
my $moved_to = rotate($node, $moved->{token}, "overlap => '0'");

verdict($node, $quiet->{token}) for 1 .. 3;
poll($node, 'usage is stored',
	"SELECT use_count = 3 FROM token_rotation.tokens WHERE client_id = 'quiet'");
wait_trusted($node, $quiet->{token}, 'the cache answers');
my $uses = "SELECT coalesce(sum(use_count), 0) FROM token_rotation.tokens WHERE client_id = 'quiet'";
poll($node, 'ends are recorded', q{
	SELECT count(*) = 2 FROM token_rotation.token
	WHERE status = 'expired' AND client_id IN ('prolonged', 'moved')});
value($node, "SELECT tr_revoke('$revoked->{token}')");

# worker off, then lies
worker_stays_away($node, $revoked);
$node->safe_psql('postgres', q{
	INSERT INTO token_rotation.token_cache (token_id, status, secret_hash, client_id, policy, owner,
		scopes, metadata, issued_at, expires_at, refresh_at)
	SELECT token_id, 'active', secret_hash, client_id, policy, owner,
		scopes, metadata, issued_at, now() + '1 day', refresh_at
	FROM token_rotation.token WHERE client_id IN ('revived', 'prolonged')
	UNION ALL
	SELECT gen_random_uuid(), 'active', secret_hash, 'invented', policy, owner,
		scopes, metadata, issued_at, expires_at, refresh_at
	FROM token_rotation.token WHERE client_id = 'damaged';
	UPDATE token_rotation.token_cache SET secret_hash = sha256('x') WHERE client_id = 'damaged';
	UPDATE token_rotation.token_cache SET status = 'rotating', overlap_ends_at = expires_at
	WHERE client_id = 'moved' AND rotated_at IS NOT NULL;
	DELETE FROM token_rotation.token_cache WHERE client_id = 'lost'});
verdicts_are($node, 'while it runs, the server believes its cache',
	[
		[ $revoked->{token}, 'ok' ],
		[ $short->{token}, 'ok' ],
		[ $damaged->{token}, 'bad_secret' ],
		[ $moved->{token}, 'ok' ],
		[ $lost->{token}, 'ok' ]
	]);
my $kept_uses = value($node, $uses);

workers_at_next_start($node, 0);
$node->restart;
my @truth = (
	[ $rotated->{token}, 'ok' ],
	[ $successor->{token}, 'ok' ],
	[ $revoked->{token}, 'revoked' ],
	[ $short->{token}, 'expired' ],
	[ $damaged->{token}, 'ok' ],
	[ $moved->{token}, 'overlap_ended' ],
	[ $lost->{token}, 'ok' ],
	[ $quiet->{token}, 'ok' ]);
verdicts_are($node, 'after a restart the durable rows count', \@truth);
level_is($node, $quiet->{token}, 'token', 'the cache is not even asked');
ok($node->log_contains(qr/LOG:  token_rotation cannot start a worker.*max_worker_processes/s),
	'the log says that there is no room for a worker');
workers_at_next_start($node, 1);
$node->restart;
wait_trusted($node, $quiet->{token}, 'the cache is used again');
cmp_ok(value($node, $uses), '>=', $kept_uses, 'it was kept with its usage, not filled anew');
is( value($node, q{
		SELECT count(*) FROM token_rotation.token_cache
		WHERE client_id IN ('revived', 'prolonged', 'invented')}),
	'0', 'rows that should not be there are gone');
is( value($node, q{
		SELECT count(*) FROM token_rotation.token_cache c JOIN token_rotation.token t USING (token_id)
		WHERE (c.status, c.secret_hash, c.expires_at, c.overlap_ends_at)
			IS DISTINCT FROM (t.status, t.secret_hash, t.expires_at, t.overlap_ends_at)}),
	'0', 'no row contradicts its token');
verdicts_are($node, 'and the verdicts are the same', \@truth);

my $again = rotate($node, $rotated->{token});
is($again->{token}, $successor->{token}, 'a replay after the restart: the identical token');
ok($again->{replayed}, 'as a replay');

# 3. kill -9 in mid-rotation

my $old = issue($node, "'killed'");
my $session = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->query_safe('BEGIN');
my $unseen = $session->query_safe("SELECT token FROM tr_rotate('$old->{token}')");
$session->query_safe("SELECT tr_revoke('$quiet->{token}')");
like($unseen, qr/^trk_/, 'a rotation that is not committed');
ok(kill_and_wait($node, $pid), 'kill -9 of its backend, and the server is back');
eval { $session->quit };

verdicts_are($node, 'the old token is valid, the unborn one unknown, the other one not revoked',
	[ [ $old->{token}, 'ok' ], [ $unseen, 'unknown' ], [ $quiet->{token}, 'ok' ] ]);
is( value($node, "SELECT count(*) FROM token_rotation.tokens WHERE client_id = 'killed'"),
	'1', 'there is no successor');
is( audit_count($node, "client_id = 'killed' AND event = 'rotated'"), '0', 'nor an audit row');
my $first = rotate($node, $old->{token});
ok($first->{reason} eq 'ok' && !$first->{replayed}, 'the next rotation makes the first successor');
verdicts_are($node, 'both are valid', [ [ $old->{token}, 'ok' ], [ $first->{token}, 'ok' ] ]);

# 4. kill -9 of launcher and worker

set_conf($node, 'token_rotation.worker_nap' => '500ms', 'token_rotation.leeway' => '0');
my $ending = issue($node, "'ending'");
rotate($node, $ending->{token}, "overlap => '1 second'");
$pid = pid_of($node, 'token_rotation launcher');
ok(kill_and_wait($node, $pid), 'kill -9 of the launcher, and the server is back');
poll($node, 'the launcher is back', qq{
	SELECT count(*) = 1 AND bool_and(pid <> $pid) FROM pg_stat_activity
	WHERE backend_type = 'token_rotation launcher'});
poll($node, 'and the window ends',
	"SELECT status = 'expired' FROM token_rotation.token WHERE token_id = '$ending->{token_id}'");

# a worker is in the midst of its work while it waits for the lock on audit
my $held = hold_audit($node);
my $refused = rotate($node, $revoked->{token}, "origin => 'lost'");
is($refused->{reason}, 'revoked', 'an event for the worker');
my $killed = 0;
for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	$pid = pid_of($node, 'token_rotation worker') or next;
	$killed = kill_and_wait($node, $pid) and last;
}
ok($killed, 'kill -9 of a worker, and the server is back');
eval { $held->quit };
rotate($node, $revoked->{token}, "origin => 'next'");
poll($node, 'a worker comes again: it records the next event',
	q{SELECT count(*) = 1 FROM token_rotation.audit WHERE event = 'rotation_refused' AND origin = 'next'});
is( value($node, q{
		SELECT count(*) FROM token_rotation.audit WHERE event = 'overlap_ended' AND client_id = 'ending'}),
	'1', 'the window that ended is recorded once');
wait_trusted($node, $first->{token}, 'and the cache is filled again');

# 5. A launcher that is terminated

my $checkpointer = pid_of($node, 'checkpointer');
$pid = pid_of($node, 'token_rotation launcher');
value($node, "SELECT pg_terminate_backend($pid)");
poll($node, 'a launcher that was terminated comes back', qq{
	SELECT count(*) = 1 AND bool_and(pid <> $pid) FROM pg_stat_activity
	WHERE backend_type = 'token_rotation launcher'});
is(pid_of($node, 'checkpointer'), $checkpointer, 'without a crash');
my $after = issue($node, "'after'");
rotate($node, $after->{token}, "overlap => '0'");
poll($node, 'and works',
	"SELECT count(*) = 1 FROM token_rotation.audit WHERE event = 'overlap_ended' AND client_id = 'after'");

# 6. Immediate stop after an acknowledgement

set_conf($node,
	'token_rotation.worker_nap' => '1h',
	'synchronous_commit' => 'off',
	'wal_writer_delay' => '10s',
	'autovacuum' => 'off');

# the verb; what the token says afterwards
my @verbs = (
	[ 'tr_revoke', "SELECT tr_revoke(:token)", 'revoked' ],
	[ 'tr_revoke_id', 'SELECT tr_revoke_id(:id)', 'revoked' ],
	[ 'tr_revoke_client', 'SELECT tr_revoke_client(:client)', 'cutoff' ],
	[ 'tr_revoke_policy', "SELECT tr_revoke_policy('internal')", 'cutoff' ],
	[ 'tr_revoke_before', 'SELECT tr_revoke_before(clock_timestamp())', 'cutoff' ],
	[ 'tr_block_client', 'SELECT tr_block_client(:client)', 'blocked' ],
	[ 'tr_rotate', "SELECT tr_rotate(:token, overlap => '0')", 'overlap_ended' ],
	[ 'tr_rotate_id', "SELECT tr_rotate_id(:id, '0')", 'overlap_ended' ],
	[ 'tr_finish_overlap', 'SELECT tr_finish_overlap(:id)', 'overlap_ended', 'rotate' ],
	[ 'tr_cancel_rotation', 'SELECT tr_cancel_rotation(:id)', 'ok', 'rotate' ],
	[
		'tr_revoke, SET LOCAL after it',
		'BEGIN; SELECT tr_revoke(:token); SET LOCAL synchronous_commit = off; COMMIT',
		'revoked'
	],
	[
		'tr_revoke in a savepoint',
		'BEGIN; SAVEPOINT s; SELECT tr_revoke(:token); RELEASE s; COMMIT', 'revoked'
	]);
my $n = 0;
for my $case (@verbs)
{
	my ($name, $sql, $reason, $before) = @$case;
	my $client = 'durable ' . $n++;
	my $token = issue($node, "'$client', 'internal'");
	my $next = $before ? rotate($node, $token->{token}) : undef;

	$sql =~ s/:token/'$token->{token}'/;
	$sql =~ s/:id/'$token->{token_id}'/;
	$sql =~ s/:client/'$client'/;
	$node->safe_psql('postgres', "SET synchronous_commit = off; $sql");
	$node->stop('immediate');
	$node->start;
	verdicts_are($node, "$name holds after an immediate stop",
		[ [ $token->{token}, $reason ], $name eq 'tr_cancel_rotation' ? [ $next->{token}, 'revoked' ] : () ]);
}

my $issued = issue($node, "'durable issue'");
$node->stop('immediate');
$node->start;
is(verdict($node, $issued->{token}), 'ok', 'tr_issue holds after an immediate stop');
my $made = rotate($node, $issued->{token});
$node->stop('immediate');
$node->start;
is(verdict($node, $made->{token}), 'ok', 'and so does a successor');

done_testing();
