# What standbys answer when they lag, are in the way, or hang off each other.
#
#  1. While replay stands still every acceptance is at most max_staleness old,
#     by the newest commit that was replayed; then the answer is `stale`, and
#     the token that was revoked meanwhile was never accepted later than that.
#     A standby that applies late by intention answers what was true then, or
#     `stale` where that is too long ago.
#  2. A standby whose primary is gone goes stale, and stays so over a restart;
#     with the primary it is fresh again, without a change of any token.  Tokens
#     whose policy has degraded_scopes are accepted for these all the while; of a
#     policy that is not there no scope is left.
#  3. Recovery conflicts fail closed.  With max_standby_streaming_delay = 0 a
#     session with an old snapshot, and one in mid-validation, meet VACUUM, an
#     exclusive lock, TRUNCATE, and DROP EXTENSION: they get an error or the right
#     verdict.  While a lock of the primary is held a validation waits, or ends
#     with an error by its timeout.
#  4. No acceptance begins after the replay of the revocation, in statements that
#     run meanwhile, at each isolation level that a standby has.
#  5. A standby of a standby: verdicts, revocations and lag, each by its own
#     replay; it follows when the one in between is promoted.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();
use TokenRotation;

my $primary = new_node('primary', streaming => 1, conf => "autovacuum = off\n");
my @tokens = map { issue($primary, "'client $_', 'partner'") } 0 .. 59;
my $live = shift @tokens;
my $checks = 0;

# Tokens with the scopes write and read, by what their policies leave of them.
$primary->safe_psql('postgres', q{
	INSERT INTO token_rotation.policy (name, degraded_scopes)
	VALUES ('some', '{read,list}'), ('none', '{}'), ('all', NULL), ('gone', NULL)});
my %degraded = map { $_ => issue($primary, "'degraded', '$_', '{write,read}'") } qw(some none all gone);
my $ended = issue($primary, q{'ended', 'some', '{read}'});
$primary->safe_psql('postgres', qq{
	SELECT tr_revoke('$ended->{token}');
	ALTER TABLE token_rotation.policy DISABLE TRIGGER policy_guard;
	DELETE FROM token_rotation.policy WHERE name = 'gone';
	ALTER TABLE token_rotation.policy ENABLE ALWAYS TRIGGER policy_guard});

# The reason, or ok and the scopes that the transaction is left with.
sub bound
{
	my ($node, $token) = @_;
	my ($out, $err) = ('', '');

	$node->psql('postgres', qq{
		BEGIN;
		SELECT FROM tr_authenticate('$token->{token}');
		SELECT concat_ws(' ', 'ok', (SELECT string_agg(s, ' ' ORDER BY n) FROM unnest(tr_scopes()) WITH ORDINALITY u (s, n)
			WHERE tr_has_scope(s)));
		COMMIT}, stdout => \$out, stderr => \$err);
	return $err =~ /The reason is (\w+)/ ? $1 : $out =~ s/^\s+|\s+$//gr;
}

# What each of them says, and what tr_authenticate binds.
sub degraded_are
{
	my ($node, $name, %expected) = @_;

	for my $policy (sort keys %expected)
	{
		my $verdict = validate($node, $degraded{$policy}{token});

		is(join(' ', $verdict->{reason}, @{ $verdict->{scopes} // [] }), $expected{$policy}, "$name: $policy");
		is(bound($node, $degraded{$policy}), $expected{$policy}, "$name: $policy, as it is bound");
	}
	return;
}

sub standby_of
{
	my ($from, $name, $conf) = @_;

	$from->backup($name);
	my $standby = PostgreSQL::Test::Cluster->new($name);
	$standby->init_from_backup($from, $name, has_streaming => 1);
	$standby->append_conf('postgresql.conf', "$conf\n");
	$standby->start;
	return $standby;
}

# Everything that is committed now is replayed there; through the one in between.
sub caught_up
{
	my (@chain) = @_;
	my $lsn = $chain[0]->lsn('insert');

	for my $i (1 .. $#chain)
	{
		$chain[$i]->poll_query_until('postgres', "SELECT pg_last_wal_replay_lsn() >= '$lsn'")
		  or die 'the standby does not catch up';
	}
	return;
}

# Revoke a token on the primary; tells where in the WAL that is.
sub revoke
{
	my ($token) = @_;

	value($primary, "SELECT tr_revoke('$token->{token}')") eq 't' or die 'not revoked';
	return $primary->lsn('insert');
}

# The age of the standby, then its verdict: in this order.
sub aged
{
	my ($node, $token) = @_;
	my $row = row($node, qq(
		SELECT a.age, v.reason, v.valid FROM
			(SELECT extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 AS age OFFSET 0) a,
			LATERAL tr_validate(CASE WHEN a.age > -1e9 OR a.age IS NULL THEN '$token->{token}' END) v));

	$checks++;
	return @$row{qw(age reason valid)};
}

# 1. Replay stands still

my $standby = standby_of($primary, 'standby', "max_standby_streaming_delay = '30s'");
caught_up($primary, $standby);
set_conf($standby, 'token_rotation.max_staleness' => '3s');
value($primary, 'SELECT pg_current_xact_id()');
caught_up($primary, $standby);
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
poll($standby, 'replay is paused', "SELECT pg_get_wal_replay_pause_state() = 'paused'");
my $revoked = shift @tokens;
revoke($revoked);
my ($age, $reason, $too_old, $fresh) = (0, 'ok', 0, 0);
for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
{
	($age, $reason) = aged($standby, $revoked);
	last if $reason eq 'stale';
	$fresh++;
	$too_old++ if $reason ne 'ok' || $age > 3;
	Time::HiRes::usleep(20_000);
}
is($reason, 'stale', 'replay stands still: the answer becomes stale');
is($too_old, 0, "each of $fresh acceptances before was at most max_staleness old");
for (1 .. 20)
{
	($age, $reason) = aged($standby, $live);
	$too_old++ if $reason ne 'stale';
}
is($too_old, 0, 'it stays stale, for every token');
$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
poll($standby, 'replay goes on: the revocation is there',
	"SELECT reason = 'revoked' FROM tr_validate('$revoked->{token}')");

# late by intention
set_conf($standby, 'token_rotation.max_staleness' => '1h', 'recovery_min_apply_delay' => '2s');
$revoked = shift @tokens;
revoke($revoked);
is(verdict($standby, $revoked->{token}), 'ok', 'applied late: what was true then');
poll($standby, 'until it is applied', "SELECT reason = 'revoked' FROM tr_validate('$revoked->{token}')");
set_conf($standby, 'token_rotation.max_staleness' => '1s');
poll($standby, 'stale where that is too long ago', "SELECT reason = 'stale' FROM tr_validate('$live->{token}')");
set_conf($standby, 'recovery_min_apply_delay' => '0', 'token_rotation.max_staleness' => '15s');
value($primary, 'SELECT pg_current_xact_id()');
caught_up($primary, $standby);
is(verdict($standby, $live->{token}), 'ok', 'with the delay the staleness goes');
degraded_are($primary, 'degraded_scopes on the primary', map { $_ => 'ok write read' } keys %degraded);
degraded_are($standby, 'degraded_scopes on a standby', some => 'ok read', none => 'ok', all => 'ok write read', gone => 'ok');
is(verdict($standby, $ended->{token}), 'revoked', 'they revive nothing');

# 2. The primary is gone

$revoked = shift @tokens;
revoke($revoked);
caught_up($primary, $standby);
$primary->stop;
set_conf($standby, 'token_rotation.max_staleness' => '2s');
poll($standby, 'without a primary: stale', "SELECT reason = 'stale' FROM tr_validate('$live->{token}')");
$standby->restart;
is((aged($standby, $live))[1], 'stale', 'also after a restart');
is((aged($standby, $revoked))[1], 'stale', 'for every token');
degraded_are($standby, 'stale', some => 'ok read', none => 'ok', all => 'stale', gone => 'stale');
is(verdict($standby, $ended->{token}), 'stale', 'but to accept by degraded_scopes, nothing is told');
is(verdict($standby, $degraded{some}{token} =~ s/.(.{6})$/x$1/r), 'malformed', 'what is wrong by itself is told');
is(value($standby, "SELECT string_agg(key, ' ') FROM jsonb_each(jsonb_strip_nulls((SELECT to_jsonb(v) FROM tr_validate('$degraded{all}{token}') v)))"),
	'valid reason token_id', 'stale tells nothing else');
set_conf($standby, 'token_rotation.max_staleness' => '15s');
$primary->start;
poll($standby, 'with the primary: fresh again, by its heartbeat',
	"SELECT reason = 'ok' FROM tr_validate('$live->{token}')");
is(verdict($standby, $revoked->{token}), 'revoked', 'and as it was');
set_conf($standby, 'token_rotation.max_staleness' => '5min');

# 3. Recovery conflicts

# What a session says that may be cancelled or gone by now: '' for an error.
sub ask
{
	my ($session, $sql) = @_;
	my $out = eval { local $SIG{PIPE} = 'IGNORE'; $session->query($sql) };

	$checks++;
	return $out // '';
}

# How many queries were cancelled here for each cause.
sub conflicts
{
	return value($standby, "SELECT confl_snapshot + confl_lock + confl_bufferpin + confl_deadlock"
		  . " FROM pg_stat_database_conflicts WHERE datname = 'postgres'");
}

set_conf($standby, max_standby_streaming_delay => '0', hot_standby_feedback => 'off');
# name; what the primary does; the session's first statement
my @in_the_way = (
	[ 'VACUUM', 'VACUUM token_rotation.token', 'BEGIN ISOLATION LEVEL REPEATABLE READ' ],
	[ 'VACUUM FULL', 'VACUUM FULL token_rotation.token', 'BEGIN ISOLATION LEVEL REPEATABLE READ' ],
	[ 'REINDEX', 'REINDEX TABLE token_rotation.token', 'BEGIN' ],
	[ 'an exclusive lock', 'BEGIN; LOCK TABLE token_rotation.token; COMMIT', 'BEGIN' ],
	[ 'VACUUM FULL of the cutoffs', 'VACUUM FULL token_rotation.cutoff', 'BEGIN' ]);
for my $case (@in_the_way)
{
	my ($name, $sql, $begin) = @$case;
	my $session = $standby->background_psql('postgres', on_error_stop => 0);
	my $token = shift @tokens;
	my $before = conflicts();

	$session->query("$begin; SELECT count(*) FROM token_rotation.token");
	is($session->query("SELECT reason FROM tr_validate('$token->{token}')"), 'ok', "$name: valid before");
	revoke($token);
	$primary->psql('postgres', $sql);
	caught_up($primary, $standby);
	my $answer = ask($session, "SELECT reason FROM tr_validate('$token->{token}')");
	like($answer, qr/^(?:revoked)?$/, "$name: the old session gets an error or the truth ("
		  . ($answer || 'error') . ')');
	is(verdict($standby, $token->{token}), 'revoked', "$name: a new one the truth");
	poll($standby, "$name: there was a conflict",
		"SELECT confl_snapshot + confl_lock + confl_bufferpin + confl_deadlock > $before"
		  . " FROM pg_stat_database_conflicts WHERE datname = 'postgres'")
	  if $name ne 'VACUUM';
	eval { $session->quit };
}

# in the midst of a statement that validates over and over, from its first moment on: in FROM the
# numbers would all be made first
my $long = 'SELECT count(*) FILTER (WHERE v.valid) FROM (SELECT generate_series(1, 1000000000) AS g) s,'
  . " LATERAL tr_validate(CASE WHEN g > 0 THEN '%s' END) v";
for my $sql ('BEGIN; LOCK TABLE token_rotation.token; COMMIT', 'TRUNCATE token_rotation.blocked_client')
{
	my ($out, $err) = ('', '');
	my $psql = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $standby->connstr('postgres'), '-c', sprintf($long, $live->{token}) ],
		'<', \undef, '>', \$out, '2>', \$err,
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));

	$standby->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_locks l JOIN pg_stat_activity USING (pid)"
		  . " WHERE query LIKE 'SELECT count(*) FILTER%' AND relation = 'token_rotation.token'::regclass")
	  or die 'it does not validate';
	value($primary, $sql);
	$psql->finish;
	ok($out eq '' && $err =~ /conflict with recovery/, "validating, and $sql: an error, and no answer")
	  or diag("$out $err");
}

# the primary holds the lock
my $holder = $primary->background_psql('postgres');
$holder->query_safe('BEGIN; LOCK TABLE token_rotation.token; SELECT pg_current_xact_id()');
caught_up($primary, $standby);
poll($standby, 'the lock is held on the standby, too', q{
	SELECT count(*) = 1 FROM pg_locks WHERE relation = 'token_rotation.token'::regclass
		AND mode = 'AccessExclusiveLock' AND granted});
is(error_of($standby, "SET lock_timeout = '100ms'; SELECT * FROM tr_validate('$live->{token}')") =~ /^(\w+)/ && $1,
	'55P03', 'a validation with lock_timeout: an error');
is(error_of($standby, "SET statement_timeout = '100ms'; SELECT * FROM tr_validate('$live->{token}')") =~ /^(\w+)/ && $1,
	'57014', 'with statement_timeout: an error');
my $waiting = $standby->background_psql('postgres');
$waiting->query_until(qr/begun/, "\\echo begun\nSELECT reason FROM tr_validate('$live->{token}');\n\\echo ended\n");
poll($standby, 'without: it waits', q{
	SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%tr_validate%'});
release($holder);
like($waiting->query_until(qr/ended/, ''), qr/^ok$/m, 'until it is released');
$waiting->quit;

# the extension goes
$primary->safe_psql('postgres', 'CREATE DATABASE dropped');
install($primary, 'dropped');
my $other = issue($primary, "'other'", 'dropped');
caught_up($primary, $standby);
my $old = $standby->background_psql('dropped', on_error_stop => 0);
$old->query("BEGIN; SELECT reason FROM tr_validate('$other->{token}')");
$primary->safe_psql('dropped', 'DROP EXTENSION token_rotation');
caught_up($primary, $standby);
is(ask($old, "SELECT reason FROM tr_validate('$other->{token}')"), '', 'DROP EXTENSION: an error for the old session');
eval { $old->quit };
is(sqlstate_of($standby, "SELECT * FROM tr_validate('$other->{token}')", 'dropped'), '42883', 'and for a new one');

# 4. While a revocation is replayed

# How far replay is, then a verdict, many times in one statement.
my $loop = q(
	SELECT l.lsn, v.reason, count(*) FROM generate_series(1, 100000) g,
		LATERAL (SELECT pg_last_wal_replay_lsn() AS lsn WHERE g > 0 OFFSET 0) l,
		LATERAL tr_validate(CASE WHEN l.lsn IS NOT NULL THEN '%s' END) v
	GROUP BY 1, 2);
# what the primary removes meanwhile must not end the sessions that look
set_conf($standby, max_standby_streaming_delay => '30s', hot_standby_feedback => 'on', wal_receiver_status_interval => '1s');
poll($primary, 'the primary knows what the standby sees', 'SELECT count(*) > 0 FROM pg_stat_replication WHERE backend_xmin IS NOT NULL');
for my $begin ('BEGIN', 'BEGIN ISOLATION LEVEL REPEATABLE READ')
{
	for my $verb (qw(tr_revoke tr_revoke_client tr_block_client))
	{
		my $token = shift @tokens;
		my $session = $standby->background_psql('postgres');
		my %count = (before => 0, after => 0, wrong => 0);
		my $lsn;

		$session->query_safe("$begin; SELECT count(*) FROM token_rotation.token");
		while (!$count{after})
		{
			$session->query_until(qr/begun/, "\\echo begun\n" . sprintf($loop, $token->{token}) . ";\n\\echo ended\n");
			if (!defined $lsn)
			{
				value($primary, "SELECT $verb("
					  . literal($verb eq 'tr_revoke' ? $token->{token} : $token->{client_id}) . ')');
				$lsn = $primary->lsn('insert');
				caught_up($primary, $standby);
			}
			my $out = $session->query_until(qr/ended/, '');
			while ($out =~ m{^(\w+)/(\w+)\|(\w+)\|(\d+)$}mg)
			{
				my ($reason, $n) = ($3, $4);
				my $replayed = sprintf('%08s/%08s', $1, $2) ge sprintf('%08s/%08s', split m{/}, $lsn);
				$count{ $replayed ? 'after' : 'before' } += $n;
				$count{wrong} += $n if $replayed && $reason eq 'ok';
			}
		}
		$session->query_safe('COMMIT');
		$session->quit;
		$checks += $count{before} + $count{after};
		is($count{wrong}, 0, "$begin: of $count{after} verdicts that began after the replay of $verb,"
			  . " $count{before} before it, none accepts");
	}
}

set_conf($standby, hot_standby_feedback => 'off');

# 5. A standby of a standby

my $second = standby_of($standby, 'second', '');
my @chain = ($primary, $standby, $second);
caught_up(@chain);
is_deeply(validate($second, $live->{token}), validate($primary, $live->{token}),
	'the second standby says what the primary says');
$revoked = shift @tokens;
revoke($revoked);
caught_up(@chain);
is(verdict($second, $revoked->{token}), 'revoked', 'a revocation arrives there');
my $blocked = shift @tokens;
value($primary, "SELECT tr_block_client('$blocked->{client_id}')");
caught_up(@chain);
is(verdict($second, $blocked->{token}), 'blocked', 'and a block');

set_conf($second, 'token_rotation.max_staleness' => '1s');
$second->safe_psql('postgres', 'SELECT pg_wal_replay_pause()');
poll($second, 'paused, it goes stale', "SELECT reason = 'stale' FROM tr_validate('$live->{token}')");
is(verdict($standby, $live->{token}), 'ok', 'and the first does not');
$second->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
set_conf($second, 'token_rotation.max_staleness' => '5min');

$primary->stop;
$standby->promote;
verdicts_are($standby, 'the first is promoted: verdicts',
	[ [ $live->{token}, 'ok' ], [ $revoked->{token}, 'revoked' ], [ $blocked->{token}, 'blocked' ] ]);
value($standby, "SELECT tr_revoke('$live->{token}')");
my $next = issue($standby, "'next'");
caught_up($standby, $second);
verdicts_are($second, 'the second follows it',
	[ [ $live->{token}, 'revoked' ], [ $revoked->{token}, 'revoked' ], [ $blocked->{token}, 'blocked' ], [ $next->{token}, 'ok' ] ]);

note("tried: $checks verdicts of standbys that lag or are in the way");
done_testing();
