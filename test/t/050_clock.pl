# A server whose clock is moved while it runs.
#
# A preloaded library (lib/clock.c) lets the server, and nothing else, see the
# clock that this test sets; it stands still in between, so that edges are exact.
#
#  1. Without a worker, so that nothing is recorded: every state of a token, at
#     every distance of the clock, has the verdict that its times say, to the
#     millisecond at the edges of the leeway; there and back again.  Sessions
#     that are open see the clock move, in mid-transaction, too.
#  2. Rotations at these moments: made, replayed and refused as the times say,
#     and nothing but that is written.
#  3. Revocations, cutoffs and blocks count at once and at every distance of the
#     clock: the leeway is none of theirs, whatever the clock says when they are
#     made.
#  4. What was recorded as ended stays ended, a day back, and however far; by
#     tr_sweep and by the worker; with the audit rows that it had.
#  5. A worker whose clock is set back or ahead goes on: it records ends, empties
#     the rings, and commits heartbeats.  A clock that is set back beyond the
#     leeway, at once, in small steps, or while the server is down, is in the
#     trail once, and nothing else is; tr_health tells until it comes again.
#
#  6. While nothing can be sealed, tr_health tells for how long, and judges.
#  7. Likewise while a worker finds locked what it needs.
#
# What the leeway let through is counted in tr_stat.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use Clock;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

plan skip_all => 'another library is preloaded' if $ENV{LD_PRELOAD};

my $node = new_node('clock', start => 0, conf => "token_rotation.worker_nap = '500ms'\nwal_level = replica\n");
my $clock = Clock->new($node->basedir . '/clock');
my $base = int(time());
my $checks = 0;

# Move the clock to so many seconds from the base, to the millisecond; it stands
# still there.  Or let it run, so many seconds from the true time.
sub at
{
	my ($seconds) = @_;

	$clock->set($base * 1_000_000 + POSIX::floor($seconds * 1000 + 0.5) * 1000, 1);
	return;
}

sub runs_at
{
	my ($seconds) = @_;

	$clock->set($seconds * 1_000_000, 0);
	return;
}

sub start
{
	local %ENV = (%ENV, $clock->env);

	$node->start;
	return;
}

# The verdicts of all tokens in a hash, at a moment: pairs of name and reason.
sub verdicts_at
{
	my ($seconds, $token, $reasons) = @_;

	at($seconds);
	$checks += keys %$reasons;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	verdicts_are($node, 'at ' . $seconds . ' s: ' . join(', ', map { "$_ $reasons->{$_}" } sort keys %$reasons),
		[ map { [ $token->{$_}{token}, $reasons->{$_} ] } sort keys %$reasons ]);
	return;
}

my ($minute, $hour, $day) = (60, 3600, 86400);

at(0);
workers_at_next_start($node, 0);
start();
install($node);
is( value($node, "SELECT extract(epoch FROM clock_timestamp())::float8 = $base AND now() = clock_timestamp()"),
	't', 'the server sees the clock of this test');
value($node, q{
	INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window, refresh_before)
	VALUES ('half', '12 hours', '5 minutes', '5 minutes', '10 minutes'),
		('brief', '1 minute', '0', '10 seconds', '10 seconds')});

# 1. Verdicts.  "half" lives 12 hours with 30 seconds of leeway, "brief" one
# minute with 6.

my %t = map { $_ => issue($node, "'$_', 'half'") } qw(active rotating at_once revoked cut blocked finished);
$t{brief} = issue($node, "'brief', 'brief'");
$t{successor} = rotate($node, $t{rotating}{token});
rotate($node, $t{at_once}{token}, "overlap => '0'");
rotate($node, $t{finished}{token});
value($node, "SELECT tr_finish_overlap('$t{finished}{token_id}')");
value($node, "SELECT tr_revoke('$t{revoked}{token}'), tr_revoke_client('cut'), tr_block_client('blocked')");
at($hour);
$t{future} = issue($node, "'future', 'half'");
at(0);

# what is the same at every moment
my %always = (revoked => 'revoked', cut => 'cutoff', blocked => 'blocked', finished => 'overlap_ended');
# moment => what differs from the row before
my @moments = (
	[ 0, {
		active => 'ok', rotating => 'ok', successor => 'ok', at_once => 'overlap_ended',
		brief => 'ok', future => 'not_yet_valid' } ],
	[ 30, {} ],
	[ 65.999, {} ],
	[ 66, { brief => 'expired' } ],
	[ 5 * $minute + 29.999, {} ],
	[ 5 * $minute + 30, { rotating => 'overlap_ended' } ],
	[ $hour - 30.001, {} ],
	[ $hour - 30, { future => 'ok' } ],
	[ 12 * $hour + 29.999, {} ],
	[ 12 * $hour + 30, { map { $_ => 'expired' } qw(active rotating successor at_once) } ],
	[ $day, { future => 'expired' } ],
	[ 30 * $day, {} ]);
my @before = (
	[ -30, { active => 'ok', rotating => 'ok', successor => 'ok', at_once => 'ok',
		brief => 'not_yet_valid', future => 'not_yet_valid' } ],
	[ -30.001, { map { $_ => 'not_yet_valid' } qw(active rotating successor at_once) } ],
	[ -$day, {} ]);

# Each row in full.
for my $rows (\@moments, \@before)
{
	my %now = %always;
	@$rows = map { %now = (%now, %{ $_->[1] }); [ $_->[0], {%now} ] } @$rows;
}

# There and back, and with an end in between that nobody records.
verdicts_at($_->[0], \%t, $_->[1]) for @moments, reverse(@moments), @before, reverse(@before), $moments[0];

my $session = $node->background_psql('postgres');
$session->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM token_rotation.token");
for (@moments, @before)
{
	at($_->[0]);
	$checks++;
	is($session->query_safe("SELECT reason FROM tr_validate('$t{active}{token}')"), $_->[1]{active},
		"an open transaction at $_->[0] s: $_->[1]{active}");
}
$session->query_safe('COMMIT');
at(0);
is($session->query_safe("SELECT reason FROM tr_validate('$t{active}{token}')"), 'ok', 'and back');
$session->quit;

# Who is accepted by the leeway only is counted as such, and nobody else.
value($node, 'SELECT tr_stat_reset()');
for (
	[ 12 * $hour - 0.001, 'active', '' ], [ 12 * $hour, 'active', 'expired 1' ],
	[ 5 * $minute - 0.001, 'rotating', 'expired 1' ], [ 5 * $minute, 'rotating', 'expired 1, overlap_ended 1' ],
	[ 0, 'active', 'expired 1, overlap_ended 1' ],
	[ -0.001, 'active', 'expired 1, not_yet_valid 1, overlap_ended 1' ])
{
	my ($when, $name, $counts) = @$_;

	verdicts_at($when, \%t, { $name => 'ok' });
	is( value($node, q{SELECT coalesce(string_agg(reason || ' ' || count, ', ' ORDER BY reason), '') FROM tr_stat
			WHERE event = 'leeway' AND count > 0}), $counts, "by the leeway: $counts");
}

# 2. Rotations

# A rotation at a moment; of nothing that was refused is anything left.
sub rotation_at
{
	my ($seconds, $token, $reason, $same) = @_;
	my $count = 'SELECT count(*) FROM token_rotation.token';
	my $before = value($node, $count);

	at($seconds);
	$checks++;
	my $answer = rotate($node, $token->{token});
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($answer->{reason}, $reason, "rotated at $seconds s: $reason");
	is(value($node, $count) - $before, $reason eq 'ok' && !$same ? 1 : 0, 'which made as many tokens');
	is($answer->{token}, $same, 'and gave the same one') if $same;
	return $answer->{token};
}

at(0);
my @young = map { issue($node, "'young', 'half'") } 1 .. 4;
rotation_at(-30.001, $young[0], 'not_yet_valid');
rotation_at(-$day, $young[0], 'not_yet_valid');
rotation_at(-30, $young[0], 'ok');
rotation_at(12 * $hour + 30, $young[1], 'expired');
rotation_at(12 * $hour + 29.999, $young[1], 'ok');
rotation_at(0, $young[2], 'ok');
my $same = rotate($node, $young[2]{token})->{token};
rotation_at(5 * $minute - 0.001, $young[2], 'ok', $same);
rotation_at(5 * $minute, $young[2], 'replay_ended');
rotation_at(5 * $minute + 30, $young[2], 'overlap_ended');
rotation_at(12 * $hour + 30, $young[2], 'expired');
rotation_at(-30.001, $young[2], 'not_yet_valid');
rotation_at(-30, $young[2], 'ok', $same);
rotation_at($_, $t{revoked}, 'revoked'), rotation_at($_, $t{cut}, 'cutoff'), rotation_at($_, $t{blocked}, 'blocked')
  for -$day, -30, 30, $day;

# 3. Revocations

my @everywhere = (-30 * $day, -$day, -30, 0, 0.001, 30, $hour, $day);
for my $when (-$day, -30, 0, 30)
{
	at(0);
	my %now = map { $_ => issue($node, "'$_ at $when', 'half'") } qw(revoke revoke_id family client block);
	$now{next} = rotate($node, $now{family}{token});
	at($when);
	is( value($node, "SELECT tr_revoke('$now{revoke}{token}'), tr_revoke_id('$now{revoke_id}{token_id}'),"
			  . " tr_revoke_id('$now{family}{token_id}', NULL, true), tr_block_client('block at $when'),"
			  . " tr_revoke_client('client at $when') IS NOT NULL"),
		't|1|2|t|t', "revoked, cut off and blocked at $when s");
	verdicts_at($_, \%now, {
		(map { $_ => 'revoked' } qw(revoke revoke_id family next)), client => 'cutoff', block => 'blocked' })
	  for $when, @everywhere;
}

# 4. What is recorded as ended

at(0);
my %ended = (window => issue($node, "'window', 'half'"), life => issue($node, "'life', 'brief'"),
	late => issue($node, "'late', 'half'"));
$ended{next} = rotate($node, $ended{window}{token});
at(5 * $minute + 30);
cmp_ok(value($node, 'SELECT tr_sweep()'), '>=', 2, 'a sweep records ends');
my %recorded = (window => 'overlap_ended', life => 'expired');
my $ends = q{SELECT count(*) FROM token_rotation.audit WHERE event = 'overlap_ended' AND client_id = 'window'};
verdicts_at($_, \%ended, \%recorded) for @everywhere;
rotation_at($_, $ended{window}, 'overlap_ended') for 0, -30, -$day, 5 * $minute;
rotation_at($_, $ended{life}, 'expired') for 0, -30, -$day;
for (0, -$day)
{
	at($_);
	is(value($node, 'SELECT tr_sweep()'), '0', "a sweep at $_ s records nothing");
}
is(value($node, $ends), '1', 'the window has one audit row');
at($day);
value($node, 'SELECT tr_sweep()');
verdicts_at($_, \%ended, { %recorded, late => 'expired', next => 'expired' }) for @everywhere;
is(value($node, $ends), '1', 'and has it still');

# 5. A worker.  The clock runs, from where it is set.

runs_at(0);
workers_at_next_start($node, 1);
$node->stop;
start();
value($node, "SELECT tr_block_client('x', false)");
my %run = map { $_ => issue($node, "'run $_', 'half'") } qw(window life kept);
$run{next} = rotate($node, $run{window}{token});
$run{dead} = issue($node, "'dead', 'half'");
value($node, "SELECT tr_revoke('$run{dead}{token}')");
wait_trusted($node, $run{kept}{token}, 'the cache answers');

# The worker comes; so often the clock was noticed to be set back.
my $visits = 0;

sub worker_comes_at
{
	my ($seconds, $set_back) = @_;
	my $origin = 'visit ' . $visits++;

	runs_at($seconds);
	rotate($node, $run{dead}{token}, "origin => '$origin'");
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll($node, "running at $seconds s: the worker empties the ring",
		"SELECT count(*) = 1 FROM token_rotation.audit WHERE origin = '$origin'");
	poll($node, "a clock that was set back is in the trail $set_back times",
		"SELECT count(*) = $set_back FROM token_rotation.audit WHERE event = 'clock_set_back'");
	return;
}

sub heart_beats
{
	my ($name) = @_;
	my $xid = value($node, 'SELECT pg_snapshot_xmax(pg_current_snapshot())');

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poll($node, "$name: the launcher commits its heartbeat",
		"SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint > $xid");
	return;
}

worker_comes_at(0, 0);
worker_comes_at(10 * $minute, 0);
poll($node, 'the worker records the end of a window',
	"SELECT status = 'expired' FROM token_rotation.token WHERE token_id = '$run{window}{token_id}'");
my $told = sub { return value($node, q{SELECT 'clock_set_back' = ANY (reasons) AND clock_behind > '1 minute' FROM tr_health()}) };
is($told->(), 'f', 'the clock is where it was');
my $times = 0;
for my $seconds (0, -$day)
{
	worker_comes_at($seconds, ++$times);
	is(verdict($node, $run{window}{token}), 'overlap_ended', 'the window stays ended');
	is(rotate($node, $run{window}{token})->{reason}, 'overlap_ended', 'and its successor is not handed out again');
	is($told->(), 't', 'tr_health tells that the clock was set back');
}
heart_beats('a day back');
worker_comes_at($day, $times);
is($told->(), 'f', 'until it comes again');
poll($node, 'the worker records the ends of lives',
	"SELECT status = 'expired' FROM token_rotation.token WHERE token_id = '$run{life}{token_id}'");
heart_beats('a day ahead');
for my $seconds (0, -$day)
{
	worker_comes_at($seconds, ++$times);
	verdicts_are($node, 'they stay ended', [
		[ $run{window}{token}, 'overlap_ended' ], [ $run{life}{token}, 'expired' ], [ $run{next}{token}, 'expired' ] ]);
}
like( value($node, q{
		SELECT string_agg(((detail ->> 'reached')::timestamptz - at > interval '20 hours') || ' ' || actor, ', ')
		FROM (SELECT * FROM token_rotation.audit WHERE event = 'clock_set_back' ORDER BY seq DESC LIMIT 1) a}),
	qr/^true token_rotation_worker$/, 'the row tells what the clock had reached');

is(value($node, q{SELECT count FROM tr_stat WHERE event = 'clock_set_back'}), $times, 'and tr_stat has counted it');

# within the leeway, then beyond it in small steps; restarts
worker_comes_at(0, $times);
worker_comes_at(-20, $times);
worker_comes_at(-40, ++$times);
$node->stop;
start();
worker_comes_at(-40, $times);
$node->stop;
runs_at(-$hour);
start();
worker_comes_at(-$hour, ++$times);
$node->stop('immediate');
start();
worker_comes_at(-$hour, $times);

runs_at(0);
my $after = issue($node, "'after', 'half'");
is(verdict($node, $after->{token}), 'ok', 'a new token is good');
is( audit_count($node, "event = 'overlap_ended' AND client_id = 'run window'"),
	'1', 'the end of the window has one audit row');

# 6. Rows that wait for their seal

runs_at(2 * $day);
poll($node, 'two days ahead, all is well', "SELECT verdict = 'ok' AND seal_lag = '0' FROM tr_health()");
my $pruning = $node->background_psql('postgres');
$pruning->query_safe("BEGIN; SELECT tr_audit_prune('2020-01-01')");
issue($node, "'unsealed', 'half'");
for ([ 0, '', 'ok' ], [ 90, 'seals_late', 'warning' ], [ 700, 'seals_late', 'critical' ])
{
	my ($seconds, $reason, $verdict) = @$_;

	runs_at(2 * $day + $seconds);
	poll($node, "at $seconds s tr_health is $verdict: $reason", qq{
		SELECT verdict = '$verdict' AND array_to_string(reasons, ' ') = '$reason'
			AND seal_lag BETWEEN '$seconds s' AND '$seconds s'::interval + '1 minute' FROM tr_health()});
}
$pruning->query_safe('COMMIT');
$pruning->quit;
poll($node, 'once they can be sealed, they are', "SELECT verdict = 'ok' AND seal_lag = '0' FROM tr_health()");

# 7. A worker that finds something locked, visit after visit

my $locked = q{SELECT verdict, 'visits_locked' = ANY (reasons) FROM tr_health()};
my $visits_locked = q{SELECT count FROM tr_stat WHERE event = 'visit' AND reason = 'locked'};
my $holding = $node->background_psql('postgres');
$holding->query_safe('BEGIN; LOCK TABLE token_rotation.policy IN ACCESS EXCLUSIVE MODE; LOCK TABLE token_rotation.cutoff IN ACCESS EXCLUSIVE MODE;'
	. ' LOCK TABLE token_rotation.audit_seal IN ACCESS EXCLUSIVE MODE');
my $before = value($node, $visits_locked);
poll($node, 'visits find it locked', "SELECT ($visits_locked) > $before + 2");
like(value($node, $locked), qr/\|f$/, 'which is no reason at once');
for my $seconds (700 + 90, 700 + 700)
{
	runs_at(2 * $day + $seconds);
	poll($node, "at $seconds s it is", "SELECT 'visits_locked' = ANY (reasons) FROM tr_health()");
}
$holding->query_safe('COMMIT');
$holding->quit;
poll($node, 'and is none any more when it is free', "SELECT NOT 'visits_locked' = ANY (reasons) FROM tr_health()");
$node->stop;

note("tried: $checks verdicts and rotations of a server whose clock was moved");
done_testing();
