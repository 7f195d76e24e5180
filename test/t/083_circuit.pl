# The circuit breaker: while writes fail, rotation is refused before it begins,
# and nothing else is.
#
#  1. A disk that is really full: rotations fail with 53100, and after so many of
#     them answer `disabled`, also in READ ONLY transactions.  The tokens stay
#     good, with what their policies leave them (degraded_scopes).  Other databases
#     are not concerned; with threshold 0 it does not come to that.
#  2. One attempt at a time: it fails and another timeout has to pass; it is rolled
#     back, or its backend is terminated, and the next one is let through; it hangs,
#     and is passed after another timeout; it commits, and the circuit is closed.
#     Then every token can be rotated, and nothing is half.
#  3. A restart and a crash close it.
#  4. Where nobody rotates, the worker opens and closes it, and records both when
#     it can.
#  5. What a caller can bring about does not open it: read-only transactions,
#     timeouts, locks, wrong values, no memory, no temporary space.
#  6. On a server that is read only by its configuration rotation is refused to
#     those who have not undone that, and to nobody else.
#
# 1 to 4 need a small file system of their own (TR_SMALL_DISK), which the test's
# runner makes where it can.

use strict;
use warnings FATAL => 'all';

use File::Temp ();
use FindBin;
use lib "$FindBin::RealBin/lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my $open = q{SELECT 'circuit_open' = ANY (reasons) AND verdict = 'critical' FROM tr_health()};
my $openings = q{SELECT sum(count) FROM tr_stat WHERE event = 'circuit_opened'};
my $calls = 0;

# What a rotation says: its reason, or its SQLSTATE.
sub answer
{
	my ($node, $token, $db, $first) = @_;
	my ($status, $out, $err) = $node->psql($db // 'postgres',
		($first // '') . "SELECT reason FROM tr_rotate('$token->{token}')",
		extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);

	$calls++;
	return $status == 0 ? $out : ($err =~ /ERROR:\s+(\w{5})/)[0];
}

# The same in a session that stays.
sub answer_in
{
	my ($session, $token, $first) = @_;
	my $out = $session->query_until(qr/state \w{5}/,
		($first // '') . "SELECT reason FROM tr_rotate('$token->{token}');\n\\echo state :SQLSTATE\n");

	$calls++;
	return $out =~ /state 00000/ ? ($out =~ /^(\w+)$/m)[0] : ($out =~ /state (\w{5})/)[0];
}

sub begun
{
	my ($node, $token, $db) = @_;
	my $session = $node->background_psql($db // 'postgres', on_error_stop => 0);

	$session->query_safe('BEGIN');
	return ($session, answer_in($session, $token));
}

sub finish
{
	my ($session, $how) = @_;

	$session->query_safe($how);
	$session->quit;
	return;
}

# Rotate until the circuit is open; how often that failed before.
sub rotate_until_open
{
	my ($node, $token, $db) = @_;

	for my $failed (0 .. 50)
	{
		my $answer = answer($node, $token, $db);
		return $failed if $answer eq 'disabled';
		is($answer, '53100', 'a rotation fails by the disk, nothing else') if $answer ne '53100';
	}
	return 'for ever';
}

sub scopes
{
	my ($node, $token, $db) = @_;
	my $verdict = validate($node, $token->{token}, $db);

	return "$verdict->{reason}: " . join(' ', @{ $verdict->{scopes} // [] });
}

my $disk = $ENV{TR_SMALL_DISK} // '';
my $node;

if (-w $disk)
{
	on_full_disk(File::Temp::tempdir(DIR => $disk, CLEANUP => 1));
}
else
{
	note('skipped: no small file system (TR_SMALL_DISK), which only root can make');
}

sub fill
{
	my ($ballast, @rest) = @_;

	fill_disk($ballast);
	# what is left is room within the pages
	for (1 .. 5000)
	{
		last if sqlstate_of($node, q{SELECT tr_issue('filler')}, 'small') ne '00000';
	}
	return;
}

sub on_full_disk
{
	my ($dir) = @_;
	my $ballast = "$dir/ballast";
	my $free = sub { unlink $ballast or die "ballast: $!" };

	# 1. Full

	mkdir "$dir/space" or die "$dir/space: $!";
	$node = new_node('full', conf => q(
token_rotation.circuit_threshold = 0
token_rotation.circuit_timeout = '1h'
token_rotation.worker_nap = '500ms'
));
	$node->safe_psql('postgres', "CREATE TABLESPACE small LOCATION '$dir/space'");
	$node->safe_psql('postgres', 'CREATE DATABASE small TABLESPACE small');
	install($node, 'small');
	$node->safe_psql('small', q{
		INSERT INTO token_rotation.policy (name, degraded_scopes)
		VALUES ('some', '{read,list}'), ('none', '{}'), ('all', NULL)});
	poll($node, 'there are events for a consumer', 'SELECT tr_events_head() > 2', 'small');
	my $head = value($node, 'SELECT tr_events_head()', 'small');
	value($node, "SELECT tr_ack('reader', $head - 2)", 'small');
	workers_at_next_start($node, 0);
	$node->restart;
	# rotating one takes room
	my $large = q{(SELECT jsonb_build_object('a', string_agg(md5(g::text), '')) FROM generate_series(1, 100) g)};
	my @tokens = map { issue($node, "'c$_', 'default', '{read,write}', $large", 'small') } 0 .. 19;
	my %of = map { $_ => issue($node, "'c', '$_', '{write,read}'", 'small') } qw(some none all);
	my $dead = issue($node, q{'dead'}, 'small');
	my $elsewhere = issue($node, q{'elsewhere'});
	value($node, "SELECT tr_revoke('$dead->{token}')", 'small');

	fill($ballast);
	is(answer($node, $tokens[0], 'small'), '53100', 'threshold 0: it fails') for 1 .. 8;
	is(value($node, $open, 'small'), 'f', 'threshold 0: and never opens');

	# An update in place succeeds all the while; it says nothing about what rotation adds.
	set_conf($node, 'token_rotation.circuit_threshold' => 3);
	for my $position ($head - 1, $head)
	{
		is(answer($node, $tokens[0], 'small'), '53100', 'threshold 3: one fails');
		is(sqlstate_of($node, "SELECT tr_ack('reader', $position)", 'small'), '00000', 'a consumer goes on');
	}
	my $offset = log_position($node);
	is(rotate_until_open($node, $tokens[0], 'small'), 1, 'threshold 3: three fail, the fourth is refused');
	is(value($node, $open, 'small'), 't', 'tr_health tells');
	is(scalar(grep { /rotates no tokens of database/ } logged($node, $offset)), 1, 'the log tells, once');
	is(answer($node, $tokens[1], 'small'), 'disabled', 'any token');
	is(answer($node, $tokens[1], 'small', 'BEGIN READ ONLY; '), 'disabled', 'in a READ ONLY transaction, too');
	is(value($node, "SELECT jsonb_strip_nulls(to_jsonb(r)) FROM tr_rotate('$tokens[1]{token}') r", 'small'), '{"reason": "disabled"}',
		'nothing but the reason is told');
	is(value($node, "SELECT reason FROM tr_rotate_id('$tokens[1]{token_id}')", 'small'), 'disabled', 'tr_rotate_id');
	is(value($node, "SELECT reason FROM tr_rotate_id(gen_random_uuid())", 'small'), 'unknown', 'it knows what it does not');
	is(value($node, 'SELECT count(*) FROM tr_rotate_due()', 'small'), '0', 'tr_rotate_due');
	is(answer($node, { token => $tokens[1]{token} =~ s/.(.{6})$/x$1/r }, 'small'), 'malformed', 'what is wrong is told');
	is(value($node, q{SELECT sum(count) > 2 FROM tr_stat WHERE event = 'rotation_refused' AND reason = 'disabled'}, 'small'),
		't', 'tr_stat counts');
	is(value($node, 'SELECT proven_waiting FROM tr_health()', 'small'), '0', 'and the ring is not filled with it');
	is(sqlstate_of($node, q{SET temp_tablespaces = small; SET work_mem = '64kB';
			SELECT count(*) FROM (SELECT repeat(g::text, 500) x FROM generate_series(1, 99999) g ORDER BY 1) y}),
		'53100', 'another database: temporary files of a caller on that disk') for 1 .. 4;
	is(answer($node, $elsewhere, undef, q{SET temp_tablespaces = small; SET work_mem = '64kB'; }), 'ok', 'it rotates');
	is(sqlstate_of($node, "SELECT tr_issue('large', metadata => $large)", 'small'), '53100', 'others than rotations go on to fail');

	verdicts_are($node, 'validation goes on', [ (map { [ $_->{token}, 'ok' ] } @tokens), [ $dead->{token}, 'revoked' ] ], 'small');
	is(scopes($node, $of{some}, 'small'), 'ok: read', 'degraded_scopes are kept');
	is(scopes($node, $of{none}, 'small'), 'ok: ', 'where there are none, none');
	is(scopes($node, $of{all}, 'small'), 'ok: write read', 'without degraded_scopes, all');
	is(value($node, "SELECT string_agg(scopes::text, ' ' ORDER BY ord) FROM tr_validate_many('{$of{some}{token},$of{none}{token},$of{all}{token}}')",
			'small'), '{read} {} {write,read}', 'tr_validate_many likewise');
	is(scopes($node, $elsewhere), 'ok: ', 'elsewhere nothing is degraded');
	is_whole($node, 'full', 'small');

	# 2. One attempt at a time.  A time that is further ahead than the timeout has
	# come, so each much shorter one makes it somebody's turn.

	my $timeout = 3600;
	my $turn = sub { set_conf($node, 'token_rotation.circuit_timeout' => ($timeout -= 600) . 's') };

	$turn->();
	is(answer($node, $tokens[2], 'small'), '53100', 'still full: the attempt fails');
	is(answer($node, $tokens[3], 'small'), 'disabled', 'and the next one is refused');
	$turn->();
	$node->safe_psql('small', "DO \$\$ BEGIN PERFORM tr_rotate('$tokens[2]{token}'); EXCEPTION WHEN disk_full THEN NULL; END \$\$");
	is(answer($node, $tokens[3], 'small'), 'disabled', 'likewise where the caller goes on to commit');
	$free->();
	is(answer($node, $tokens[3], 'small'), 'disabled', 'space again: it takes the timeout');

	$turn->();
	my ($first, $answer) = begun($node, $tokens[3], 'small');
	is($answer, 'ok', 'the timeout is over: one is let through');
	is(answer($node, $tokens[4], 'small'), 'disabled', 'not two');
	is(answer_in($first, $tokens[5]), 'ok', 'the one as often as it wants');
	finish($first, 'ROLLBACK');
	$node->safe_psql('small', "BEGIN; SAVEPOINT s; SELECT tr_rotate('$tokens[4]{token}'); ROLLBACK TO s; COMMIT");
	is(value($node, $open, 'small'), 't', 'what a savepoint took back closes nothing');
	($first, $answer) = begun($node, $tokens[4], 'small');
	is($answer, 'ok', 'it is rolled back: the next one');
	is(answer($node, $tokens[5], 'small'), 'disabled', 'and only that');
	my $pid = value($node, q{SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = 'small'});
	value($node, "SELECT pg_terminate_backend($pid, 60000)");
	eval { $first->quit };
	is(answer($node, { token => $tokens[5]{token} =~ s/.(.{6})$/x$1/r }, 'small'), 'malformed', 'what proves nothing takes no turn');
	is(answer($node, $tokens[5], 'small', 'BEGIN READ ONLY; '), '25006', 'nor does what is read only');
	($first, $answer) = begun($node, $tokens[5], 'small');
	is($answer, 'ok', 'it is terminated: the next one');
	is(answer($node, $tokens[6], 'small'), 'disabled', 'which hangs');
	$turn->();
	($first, my $hangs, $answer) = (begun($node, $tokens[6], 'small'), $first)[0, 2, 1];
	is($answer, 'ok', 'another timeout is over: it is passed');
	is(value($node, $open, 'small'), 't', 'still open');
	$offset = log_position($node);
	finish($first, 'COMMIT');
	is(value($node, $open, 'small'), 'f', 'it commits, and the circuit is closed');
	is(scalar(grep { /rotates tokens of database \d+ again/ } logged($node, $offset)), 1, 'the log tells, once');
	finish($hangs, 'COMMIT');
	is(answer($node, $tokens[$_], 'small'), 'ok', "token $_ was not lost") for 0 .. 4, 7 .. 19;
	is(scopes($node, $of{some}, 'small'), 'ok: write read', 'and has all its scopes');
	is_whole($node, 'space again', 'small');

	# 3. After a start

	@tokens = map { issue($node, "'d$_', 'default', '{}', $large", 'small') } 0 .. 9;
	for my $how (qw(restart crash))
	{
		fill($ballast);
		rotate_until_open($node, $tokens[0], 'small');
		$free->();
		is(value($node, $open, 'small'), 't', "open before a $how");
		$how eq 'restart' ? $node->restart : kill_and_wait($node, pid_of($node, 'walwriter'));
		is(value($node, $open, 'small'), 'f', "closed after a $how");
	}

	# 4. The worker alone

	workers_at_next_start($node, 1);
	set_conf($node, 'token_rotation.circuit_timeout' => '1s');
	$node->restart;
	poll($node, 'the cache is filled', 'SELECT count(*) = 1 FROM token_rotation.token_cache WHERE status IS NULL', 'small');
	my $rows = q{SELECT count(*) FROM token_rotation.audit WHERE event LIKE 'circuit\_%'};
	my $before = value($node, $rows, 'small');
	my $counted = value($node, $openings, 'small');
	fill($ballast);
	for (1 .. 10000)
	{
		# each is an audit row that the worker has to write
		$node->safe_psql('small', "SELECT count(tr_rotate('$dead->{token}', origin => 'x')) FROM generate_series(1, 50)");
		last if value($node, $open, 'small') eq 't';
	}
	is(value($node, $open, 'small'), 't', 'the worker has failed, and opened it');
	is(answer($node, $tokens[1], 'small') =~ /^(?:disabled|53100)$/ && 1, 1, 'so rotations are refused, but for an attempt');
	$free->();
	poll($node, 'space again: the worker closes it', "SELECT NOT ($open)", 'small');
	poll($node, 'and has recorded it', "SELECT ($rows) > $before", 'small');
	cmp_ok(value($node, $openings, 'small'), '>', $counted, 'and counted it');
	is(value($node, q{
			SELECT string_agg(event, ' ' ORDER BY seq) ~ '^(circuit_opened circuit_closed ?)+$'
				AND bool_and(actor = 'token_rotation_worker' AND (reason = '53100') IS NOT DISTINCT FROM (NULLIF(event = 'circuit_opened', false)))
				AND bool_and((detail ->> 'opened_at')::timestamptz < at) FROM token_rotation.audit WHERE event LIKE 'circuit\_%'},
			'small'), 't', 'in pairs, with times');
	is(answer($node, $tokens[1], 'small'), 'ok', 'rotations go on');
	is_whole($node, 'afterwards', 'small');
	$node->stop;
	return;
}

# 5. What a caller can bring about.  One failure that counts would be enough.

$node = new_node('hostile', conf => q(
max_locks_per_transaction = 10
max_connections = 20
token_rotation.circuit_threshold = 1
token_rotation.circuit_timeout = '1h'
));
my @tokens = map { issue($node, "'c$_'") } 0 .. 9;
$node->safe_psql('postgres', q{
	CREATE ROLE hostile LOGIN; SET client_min_messages = warning; SELECT tr_grant('hostile', 'issuer');
	GRANT postgres TO hostile;});
sub is_closed
{
	my ($name) = @_;

	is(value($node, $open), 'f', "$name does not open it");
	return;
}

is(answer($node, $tokens[0], undef, 'SET SESSION AUTHORIZATION hostile; BEGIN READ ONLY; '), '25006', 'READ ONLY: refused');
is_closed('a READ ONLY transaction');
is(answer($node, $tokens[0], undef, 'SET default_transaction_read_only = on; '), '25006', 'a read-only session');
is_closed('a read-only session');
$node->safe_psql('postgres', 'SET SESSION AUTHORIZATION hostile; ALTER ROLE hostile SET default_transaction_read_only = on');
is($node->psql('postgres', "SELECT * FROM tr_rotate('$tokens[0]{token}')", connstr => $node->connstr('postgres') . ' user=hostile'), 3,
	'a role of read-only sessions');
is_closed('a read-only role');
# in a statement that writes, which a first call has prepared
my $session = $node->background_psql('postgres', on_error_stop => 0);
is(answer_in($session, $tokens[0]), 'ok', 'nothing in the way');
my $holder = hold_audit($node);
is(answer_in($session, $tokens[5], "SET statement_timeout = '100ms';\n"), '57014', 'a timeout');
is(answer_in($session, $tokens[5], "SET statement_timeout = 0; SET lock_timeout = '100ms';\n"), '55P03',
	'a lock that is not to be had');
release($holder);
is_closed('waiting in vain');
is(sqlstate_of($node, "SELECT * FROM tr_rotate('$tokens[6]{token}', overlap => '1 year')"), '22023', 'a wrong value');
is(sqlstate_of($node, "SET work_mem = '64kB'; SET temp_file_limit = 0; SELECT tr_rotate_due(NULL, 1000),"
		  . " (SELECT count(*) FROM (SELECT repeat('x', 1000) x FROM generate_series(1, 9999) ORDER BY 1) y)"),
	'53400', 'no temporary files');
is_closed('wrong values');
my $occupier = $node->background_psql('postgres', on_error_stop => 0);
$occupier->query_until(qr/taken/, "SELECT count(pg_advisory_lock(g)) FROM generate_series(1, 1000000) g;\n\\echo taken\n");
is(answer_in($session, $tokens[3], "SET lock_timeout = 0;\n"), '53200', 'no room for locks');
my ($freed, %said) = (0);
for my $room (map { 2 * $_ } 1 .. 30)
{
	$occupier->query_until(qr/freed/,
		"SELECT count(pg_advisory_unlock(g)) FROM generate_series($freed + 1, $room) g;\n\\echo freed\n");
	$freed = $room;
	$said{ answer_in($session, $tokens[4]) }++;
}
is(join(' ', sort keys %said), '53200 ok', 'nor where it ends in between');
$_->quit for $occupier, $session;
is_closed('who uses up the locks');
poll($node, 'locks again', q{SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory'});
is(answer($node, $tokens[3]), 'ok', 'rotations go on all the while');

# 6. Read only by configuration

my $reason = q{SELECT 'read_only' = ANY (reasons) FROM tr_health()};
set_conf($node, default_transaction_read_only => 'on');
poll($node, 'a server that is read only: tr_health tells', $reason);
is(answer($node, $tokens[1]), 'disabled', 'rotation is refused');
is(value($node, "SELECT reason FROM tr_rotate_id('$tokens[1]{token_id}')"), 'disabled', 'tr_rotate_id');
is(value($node, 'SELECT count(*) FROM tr_rotate_due()'), '0', 'tr_rotate_due');
is(verdict($node, $tokens[1]{token}), 'ok', 'the token is good');
is(sqlstate_of($node, q{SELECT tr_issue('x')}), '25006', 'what else writes says so');
is(answer($node, $tokens[1], undef, 'BEGIN READ WRITE; '), 'ok', 'who has undone it rotates');
is_closed('a read-only server');
set_conf($node, 'token_rotation.circuit_threshold' => 0);
is(answer($node, $tokens[1]), '25006', 'threshold 0: the error');
set_conf($node, default_transaction_read_only => 'off');
poll($node, 'writable again', "SELECT NOT ($reason)");
is(answer($node, $tokens[1]), 'ok', 'rotations go on');
$node->stop;

note("tried: $calls rotations");
done_testing();
