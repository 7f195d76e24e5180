# The worker, stopped at a named point or killed there (test/stop_points only).
#
#  1. Between filling the cache and the mark that says it is complete: tokens that
#     are being copied are revoked after it, not revived; those that are issued
#     meanwhile are in the cache, too; the mark is not seen before.
#  2. Killed there: the cache is empty, and filled again.
#  3. Between comparing the cache with the tokens, after a restart, and locking
#     what differs: what a verb puts right meanwhile stays, what nobody does is
#     dropped, what somebody holds keeps the cache from being trusted.
#  4. Between the commit of audit rows and emptying the ring: each event is in the
#     trail once, whether the worker goes on or is killed.
#  5. Between writing a seal and its commit: there is none, pruning waits, what is
#     written meanwhile gets the next one; killed there, it is made again.
#  6. Between writing rows to the audit file and storing the position: killed there,
#     they are written again.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my $node = new_node('worker', conf => "token_rotation.worker_nap = '500ms'\n");
my $times = 0;

# The worker that stands at a point; 0: none.
my $stopped = q{
	SELECT coalesce(min(pid), 0) FROM pg_locks JOIN pg_stat_activity USING (pid)
	WHERE backend_type = 'token_rotation worker' AND locktype = 'advisory' AND NOT granted};

# Have the next worker stop at a point; a session that makes it stay there.
sub stop_at
{
	my ($point) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	$session->query_safe("SELECT pg_advisory_lock(hashtext('$point'))");
	$node->safe_psql('postgres', "ALTER DATABASE postgres SET token_rotation.stop_at = '$point'");
	return $session;
}

# The worker has come there; returns its pid.
sub wait_stopped
{
	my ($point) = @_;

	$times++;
	$node->poll_query_until('postgres', "SELECT ($stopped) <> 0") or die "no worker at $point";
	return value($node, $stopped);
}

# Let it go on, and do so in future.
sub go
{
	my ($session) = @_;

	$node->safe_psql('postgres', 'ALTER DATABASE postgres RESET token_rotation.stop_at');
	eval { $session->quit };
	return;
}

# Rows of the cache that contradict their token, or have none to speak for.
my $wrong = q{
	SELECT count(*) FROM token_rotation.token_cache c LEFT JOIN token_rotation.token t USING (token_id)
	WHERE c.status IS NOT NULL AND (t.status NOT IN ('active', 'rotating')
		OR (c.status, c.secret_hash, c.expires_at, c.overlap_ends_at)
			IS DISTINCT FROM (t.status, t.secret_hash, t.expires_at, t.overlap_ends_at))};
my $complete = "SELECT count(*) = 1 FROM token_rotation.token_cache WHERE status IS NULL";

# 1. Filling

my @tokens = map { issue($node, "'fill $_'") } 0 .. 3;
wait_trusted($node, $tokens[0]{token}, 'the cache answers');
poll($node, 'and is complete', $complete);

my $control = stop_at('cache_copied');
$node->safe_psql('postgres', 'DELETE FROM token_rotation.token_cache');
wait_stopped('cache_copied');
is(value($node, $complete), 'f', 'stopped after the copy: there is no mark');
my $session = $node->background_psql('postgres');
$session->query_until(qr/begun/, "\\echo begun\nSELECT tr_revoke('$tokens[1]{token}');\n\\echo ended\n");
poll($node, 'a revocation of what is copied waits', q{
	SELECT count(*) = 1 FROM pg_stat_activity
	WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT tr_revoke%'});
my $meanwhile = issue($node, "'meanwhile'");
verdicts_are($node, 'all are valid', [ map { [ $_->{token}, 'ok' ] } @tokens, $meanwhile ]);
go($control);
like($session->query_until(qr/ended/, ''), qr/^t$/m, 'it goes on with the worker');
$session->quit;
is(verdict($node, $tokens[1]{token}), 'revoked', 'and the token is revoked');
poll($node, 'the cache is complete', $complete);
is(value($node, $wrong), '0', 'and contradicts no token');
is( value($node, q{SELECT count(*) FROM token_rotation.token_cache WHERE status IS NOT NULL}),
	4, 'with every live one in it');
verdicts_are($node, 'the verdicts', [
	[ $tokens[0]{token}, 'ok' ], [ $tokens[1]{token}, 'revoked' ], [ $meanwhile->{token}, 'ok' ] ]);

# 2. Killed while filling

$control = stop_at('cache_copied');
$node->safe_psql('postgres', 'DELETE FROM token_rotation.token_cache');
ok(kill_and_wait($node, wait_stopped('cache_copied')), 'killed after the copy, and the server is back');
go($control);
verdicts_are($node, 'the verdicts are the same', [
	[ $tokens[0]{token}, 'ok' ], [ $tokens[1]{token}, 'revoked' ], [ $meanwhile->{token}, 'ok' ] ]);
poll($node, 'the cache is filled again', $complete);
is(value($node, $wrong), '0', 'and contradicts no token');

# 3. Comparing.  The worker only looks at a template: so it comes when we are ready.

my %lie = map { $_ => issue($node, "'$_'") } qw(rotated revoked ignored held);
$node->safe_psql('postgres', 'ALTER DATABASE postgres IS_TEMPLATE true');
$node->restart;
$node->safe_psql('postgres', q{
	UPDATE token_rotation.token_cache SET expires_at = expires_at + interval '1 day'
	WHERE client_id IN ('rotated', 'revoked', 'ignored', 'held')});
my $holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT FROM token_rotation.token WHERE client_id = 'held' FOR UPDATE");
$control = stop_at('cache_compared');
$node->safe_psql('postgres', 'ALTER DATABASE postgres IS_TEMPLATE false');
wait_stopped('cache_compared');
my $successor = rotate($node, $lie{rotated}{token});
value($node, "SELECT tr_revoke('$lie{revoked}{token}')");
my @truth = (
	[ $lie{rotated}{token}, 'ok' ], [ $successor->{token}, 'ok' ], [ $lie{revoked}{token}, 'revoked' ],
	[ $lie{ignored}{token}, 'ok' ], [ $lie{held}{token}, 'ok' ]);
verdicts_are($node, 'stopped after comparing: verbs work, the verdicts are right', \@truth);
go($control);
poll($node, 'what nobody put right is dropped',
	"SELECT count(*) = 0 FROM token_rotation.token_cache WHERE client_id = 'ignored'");
is( value($node, q{SELECT count(*) FROM token_rotation.token_cache c JOIN token_rotation.token t USING (token_id)
		WHERE c.client_id = 'rotated' AND c.expires_at = t.expires_at}),
	'2', 'what a verb put right stays');
is(nonces($node), '1', 'with its nonce');
level_is($node, $lie{held}{token}, 'token', 'the cache is not trusted while a token cannot be judged');
verdicts_are($node, 'and the verdicts are right', \@truth);
release($holder);
wait_trusted($node, $lie{rotated}{token}, 'it is, once it can');
is(value($node, $wrong), '0', 'the cache contradicts no token');
verdicts_are($node, 'the verdicts', \@truth);
my $recorded = "SELECT count(*) FROM token_rotation.audit WHERE origin = ";
ok(rotate($node, $lie{rotated}{token}, "origin => 'replay'")->{replayed}, 'the rotation is replayed');
poll($node, 'and that is recorded, so that the ring is empty', "SELECT ($recorded 'replay') = 1");

# 4. Audit rows and the ring

$control = stop_at('events_committed');
rotate($node, $lie{revoked}{token}, "origin => 'goes on'");
wait_stopped('events_committed');
is(value($node, "$recorded 'goes on'"), '1', 'stopped after the commit: the event is in the trail');
rotate($node, $lie{revoked}{token}, "origin => 'next'");
go($control);
poll($node, 'the next one comes after it', "SELECT count(*) = 1 FROM token_rotation.audit WHERE origin = 'next'");
worker_stays_away($node, $lie{revoked});
is(value($node, "$recorded 'goes on'"), '1', 'each once');
is(value($node, "$recorded 'next'"), '1', 'and the next one, too');

worker_comes($node);
$control = stop_at('events_committed');
rotate($node, $lie{revoked}{token}, "origin => 'killed'");
ok(kill_and_wait($node, wait_stopped('events_committed')), 'killed there, and the server is back');
go($control);
worker_stays_away($node, $lie{revoked});
is(value($node, "$recorded 'killed'"), '1', 'the event is in the trail once');

# 5. Seals

worker_comes($node);
poll($node, 'all is sealed', 'SELECT valid AND unsealed = 0 FROM tr_audit_verify()');
my $seals = value($node, 'SELECT count(*) FROM token_rotation.audit_seal');
$control = stop_at('seal_written');
issue($node, "'sealed'");
wait_stopped('seal_written');
is(value($node, 'SELECT count(*) FROM token_rotation.audit_seal'), $seals, 'a seal is written: nobody sees it');
is(value($node, 'SELECT valid, unsealed FROM tr_audit_verify()'), 't|1', 'its row is not sealed yet');
issue($node, "'sealed next'");
my $pruning = $node->background_psql('postgres');
$pruning->query_until(qr/begun/, "\\echo begun\nSELECT tr_audit_prune('2001-01-01');\n\\echo ended\n");
poll($node, 'pruning waits', q{
	SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT tr_audit_prune%'});
go($control);
like($pruning->query_until(qr/ended/, ''), qr/^0$/m, 'until the worker goes on');
$pruning->quit;
my $sealed = q{SELECT s.seal FROM token_rotation.audit a JOIN token_rotation.audit_seal s ON a.seq = ANY (s.seqs)
	WHERE a.client_id = '%s'};
poll($node, 'what came meanwhile has the next seal',
	sprintf("SELECT ($sealed) = ($sealed) + 1", 'sealed next', 'sealed'));

$control = stop_at('seal_written');
issue($node, "'not sealed'");
ok(kill_and_wait($node, wait_stopped('seal_written')), 'killed before its commit, and the server is back');
go($control);
poll($node, 'its seal is made again', sprintf("SELECT ($sealed) > 0", 'not sealed'));
is( value($node, q{SELECT valid, unsealed, rows = (SELECT count(*) FROM token_rotation.audit) FROM tr_audit_verify()}),
	't|0|t', 'and each row has one');

# 6. The audit file

my $file = PostgreSQL::Test::Utils::tempdir . '/audit.json';
my $written = sub { scalar grep { /"client_id" : "written"/ } split /\n/, -e $file ? slurp_file($file) : '' };

poll($node, 'all is sealed', 'SELECT valid AND unsealed = 0 FROM tr_audit_verify()');
set_conf($node, 'token_rotation.audit_file' => $file);
poll($node, 'the file has it all', q{SELECT (SELECT (segment, seal) FROM token_rotation.audit_sink)
	= (SELECT (segment, seal) FROM token_rotation.audit_seal ORDER BY segment DESC, seal DESC LIMIT 1)});
$control = stop_at('sink_written');
issue($node, "'written'");
my $writing = wait_stopped('sink_written');
is($written->(), 1, 'a row is in the file');
ok(kill_and_wait($node, $writing), 'killed before the position is stored, and the server is back');
go($control);
poll($node, 'it is written again', q{SELECT (SELECT (segment, seal) FROM token_rotation.audit_sink)
	= (SELECT (segment, seal) FROM token_rotation.audit_seal ORDER BY segment DESC, seal DESC LIMIT 1)});
is($written->(), 2, 'twice is at least once');

note("tried: $times stops of the worker");
done_testing();
