# Resources that run out: an error or a correct answer, nothing half written, and
# the server recovers by itself.  (A full ring: 007_rings.pl; locks that are
# waited for in vain: 031_interrupted.pl; the circuit breaker, which is off in 3:
# 083_circuit.pl.)
#
#  1. No slot for a worker: verdicts are right, verbs work, what waits is kept,
#     the log is not flooded; with a slot again, the worker comes.
#  2. No room in the lock table: 53200 or the right answer, from every verb; the
#     worker comes through when there is room again.
#  3. The table space is full: 53100 or the right answer, from every verb;
#     validation goes on; with space again, everything does, and what waited for
#     the worker is recorded.
#  4. The disk of the WAL is full: the server stops, as PostgreSQL does.  With
#     space again, what was acknowledged is there, and nothing else that is half.
#
# 3 and 4 need a small file system of their own, which the test's runner makes
# where it can (tr_small_disk in test/common.sh), and names in TR_SMALL_DISK.

use strict;
use warnings FATAL => 'all';

use File::Temp ();
use FindBin;
use lib "$FindBin::RealBin/lib";

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();
use TokenRotation;

my $calls = 0;

# Each verb once in a session, on tokens of its own, each call in its own
# transaction.  Returns the SQLSTATEs by verb; wrong answers are failed tests.
my $round = 0;

sub every_verb
{
	my ($session, $tokens) = @_;
	my ($n, %state) = ($round++);
	my @verbs = (
		[ validate => "SELECT reason FROM tr_validate('$tokens->{live}{token}')", 'ok' ],
		[ validate_many => "SELECT reason FROM tr_validate_many('{$tokens->{live}{token}}')", 'ok' ],
		[ rotate_refused => "SELECT reason FROM tr_rotate('$tokens->{dead}{token}', origin => 'round $n')", 'revoked' ],
		[ issue => "SELECT status FROM tr_issue('round $n', metadata => '$tokens->{data}')", 'active' ],
		[ rotate => "SELECT reason FROM tr_rotate('$tokens->{rotated}[$n]{token}')", 'ok' ],
		[ rotate_id => "SELECT reason FROM tr_rotate_id('$tokens->{by_id}[$n]{token_id}')", 'ok' ],
		[ revoke => "SELECT tr_revoke('$tokens->{revoked}[$n]{token}')", 't' ],
		[ revoke_id => "SELECT tr_revoke_id('$tokens->{revoked_id}[$n]{token_id}')", '1' ],
		[ extend => "SELECT tr_extend_overlap('$tokens->{open}[$n]{token_id}', '1 minute') IS NOT NULL", 't' ],
		[ finish => "SELECT tr_finish_overlap('$tokens->{open}[$n]{token_id}')", 't' ],
		[ cancel => "SELECT tr_cancel_rotation('$tokens->{cancelled}[$n]{token_id}')", 't' ],
		[ revoke_client => "SELECT tr_revoke_client('round $n') IS NOT NULL", 't' ],
		[ revoke_before => q{SELECT tr_revoke_before('2001-01-01') IS NOT NULL}, 't' ],
		[ block => "SELECT tr_block_client('round $n')", 't' ],
		[ edit => "UPDATE token_rotation.policy SET ttl = ttl + '1 second' WHERE name = 'internal' RETURNING name",
			'internal' ],
		[ sweep => 'SELECT tr_sweep() >= 0', 't' ],
		[ prune => q{SELECT tr_prune('2001-01-01')}, '0' ]);

	for my $verb (@verbs)
	{
		my ($name, $sql, $answer) = @$verb;
		my ($out, $sqlstate) = $session->query_until(qr/state \w{5}/, "$sql;\n\\echo state :SQLSTATE\n") =~
		  /^(.*?)\n?state (\w{5})/s;

		$calls++;
		$state{$name} = $sqlstate;
		is($out, $answer, "$name answers") if $sqlstate eq '00000';
	}
	return \%state;
}

sub session
{
	my ($node, $db) = @_;

	return $node->background_psql($db // 'postgres', on_error_stop => 0);
}

# The tokens for so many rounds.
sub tokens_for
{
	my ($node, $db, $rounds) = @_;
	my %tokens = (
		live => issue($node, "'live'", $db),
		dead => issue($node, "'dead'", $db),
		data => '{"a": "' . 'x' x 3000 . '"}');

	for my $kind (qw(rotated by_id revoked revoked_id))
	{
		push @{ $tokens{$kind} }, issue($node, "'$kind'", $db) for 1 .. $rounds;
	}
	for my $kind (qw(open cancelled))
	{
		push @{ $tokens{$kind} }, row($node, "SELECT i.* FROM tr_issue('$kind') i, tr_rotate(i.token) r", $db)
		  for 1 .. $rounds;
	}
	value($node, "SELECT tr_revoke('$tokens{dead}{token}')", $db);
	$round = 0;
	return \%tokens;
}

# Each verb has answered or failed for this reason; some have failed, if asked.
sub states_are
{
	my ($states, $sqlstate, $name, @must_fail) = @_;
	my @wrong = grep { $states->{$_} !~ /^(?:00000|$sqlstate)$/ } sort keys %$states;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(join(', ', map { "$_ $states->{$_}" } @wrong), '', "$name: each verb answers or says $sqlstate");
	is($states->{$_}, $sqlstate, "$name: $_ says so") for @must_fail;
	return;
}

sub all_work
{
	my ($states, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(join(', ', map { "$_ $states->{$_}" } grep { $states->{$_} ne '00000' } sort keys %$states),
		'', "$name: all verbs work");
	return;
}

sub recorded
{
	my ($origin) = @_;

	return "SELECT count(*) = 1 FROM token_rotation.audit WHERE origin = '$origin' AND event = 'rotation_refused'";
}

# 1. No slot for a worker: a parallel query has the only one

my $node = new_node('slots', conf => q(
max_worker_processes = 2
max_parallel_workers = 2
max_logical_replication_workers = 0
token_rotation.worker_nap = '1h'
token_rotation.leeway = 0
));
my $tokens = tokens_for($node, 'postgres', 2);
my $no_worker = "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'token_rotation worker'";
poll($node, 'the worker has filled the cache, and left',
	"SELECT count(*) = 1 AND ($no_worker) FROM token_rotation.token_cache WHERE status IS NULL");
my $parallel = $node->pg_version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode';
my $occupier = session($node);
my $session = session($node);
$occupier->query_until(qr/started/, "SET $parallel = on;\n\\echo started\nSELECT pg_sleep(3600);\n");
poll($node, 'the slot is taken', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'parallel worker'");
my $offset = log_position($node);
set_conf($node, 'token_rotation.worker_nap' => '200ms');
my $brief = issue($node, "'brief'");
rotate($node, $brief->{token}, "overlap => '1 second'");
all_work(every_verb($session, $tokens), 'no worker');
poll($node, 'the window is over', q{
	SELECT overlap_ends_at < clock_timestamp() FROM token_rotation.token WHERE client_id = 'brief' AND generation = 0});
is(verdict($node, $brief->{token}), 'overlap_ended', 'no worker: a window ends nevertheless');
is(value($node, recorded('round 0')), 'f', 'no worker: the refusal waits');
is_whole($node, 'no worker');
cmp_ok(scalar(grep { /cannot start a worker/ } logged($node, $offset)), '<=', 1, 'no worker: it is said once');
value($node, q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg\_sleep%' AND backend_type = 'client backend'
	AND pid <> pg_backend_pid()});
poll($node, 'a slot again: the refusal is recorded', recorded('round 0'));
poll($node, 'a slot again: so is the end of the window',
	"SELECT count(*) = 1 FROM token_rotation.audit WHERE event = 'overlap_ended' AND client_id = 'brief'");
all_work(every_verb($session, $tokens), 'a slot again');
is_whole($node, 'a slot again');
$_->quit for $occupier, $session;
$node->stop;

# 2. No room in the lock table

$node = new_node('lock_table', conf => q(
max_locks_per_transaction = 10
max_connections = 20
token_rotation.worker_nap = '500ms'
));
my @room = (0, 1, 2, 3, 5, 8, 13, 21, 34);
$tokens = tokens_for($node, 'postgres', @room + 1);
($occupier, $session) = (session($node), session($node));
$occupier->query_until(qr/taken/, "SELECT count(pg_advisory_lock(g)) FROM generate_series(1, 1000000) g;\n\\echo taken\n");
my ($free, %failed) = (0);
for my $room (@room)
{
	$occupier->query_until(qr/freed/,
		"SELECT count(pg_advisory_unlock(g)) FROM generate_series($free + 1, $room) g;\n\\echo freed\n");
	$free = $room;
	my $states = every_verb($session, $tokens);
	states_are($states, '53200', "room for $room locks", $room == 0 ? qw(issue rotate revoke) : ());
	$failed{$_}++ for grep { $states->{$_} ne '00000' } keys %$states;
}
cmp_ok(scalar(keys %failed), '>', 10, 'most verbs have failed');
$occupier->quit;
poll($node, 'locks again', q{SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory'});
is_whole($node, 'no locks');
all_work(every_verb($session, $tokens), 'locks again');
is_whole($node, 'locks again');
poll($node, "locks again: refusal $_ is recorded", recorded("round $_")) for $#room, scalar @room;
$session->quit;
$node->stop;

# The small disk

my $disk = $ENV{TR_SMALL_DISK} // '';
if (!-w $disk)
{
	note('skipped: no small file system (TR_SMALL_DISK), which only root can make');
	note("tried: $calls calls");
	done_testing();
	exit 0;
}

$disk = File::Temp::tempdir(DIR => $disk, CLEANUP => 1);

# Give back the space that was taken.
sub free_disk
{
	unlink "$disk/ballast" or die "ballast: $!";
	return;
}

# 3. The table space is full

mkdir "$disk/space" or die "$disk/space: $!";
$node = new_node('space_full', extension => 0, conf => "token_rotation.worker_nap = '500ms'\ntoken_rotation.circuit_threshold = 0\n");
$node->safe_psql('postgres', "CREATE TABLESPACE small LOCATION '$disk/space'");
$node->safe_psql('postgres', 'CREATE DATABASE small TABLESPACE small');
install($node, 'small');
$tokens = tokens_for($node, 'small', 4);
poll($node, 'the cache is filled', 'SELECT count(*) = 1 FROM token_rotation.token_cache WHERE status IS NULL', 'small');
$session = session($node, 'small');
fill_disk("$disk/ballast");
# what is left is room within the pages
for my $at_once (50, 1)
{
	for (1 .. 5000)
	{
		last if sqlstate_of($node, "SELECT count(*) FROM generate_series(1, $at_once) g,"
			  . " tr_issue('filler' || g, metadata => '$tokens->{data}')", 'small') ne '00000';
	}
}
is_whole($node, 'full', 'small');
for (1 .. 3)
{
	states_are(every_verb($session, $tokens), '53100', "full, round $_", 'issue');
	is_whole($node, "full, round $_", 'small');
}
is(verdict($node, $tokens->{live}{token}, 'small'), 'ok', 'full: validation goes on');
is(verdict($node, $tokens->{dead}{token}, 'small'), 'revoked', 'full: and refuses');
free_disk();
all_work(every_verb($session, $tokens), 'space again');
poll($node, "space again: refusal $_ is recorded", recorded("round $_"), 'small') for 0 .. 3;
is_whole($node, 'space again', 'small');
$session->quit;
$node->stop;

# 4. The disk of the WAL is full.  (Its log has PANICs, and is judged here.)

$node = new_node('wal_full',
	initdb => [ '--waldir', "$disk/wal", '--wal-segsize=1' ],
	conf => "min_wal_size = 2MB\nmax_wal_size = 1GB\ncheckpoint_timeout = 1h\n");
my $script = "SELECT token AS old FROM tr_issue('chain') \\gset\n";
$script .= "SELECT token AS new FROM tr_rotate(:'old') \\gset\n\\echo rotated :old :new\n"
  . "SELECT tr_revoke(:'old') AS ended \\gset\n\\echo revoked :old :ended\n\\set old :new\n"
  for 1 .. 3000;
fill_disk("$disk/ballast");
my ($file, $out, $err) = ($node->basedir . '/chain.sql', '', '');
append_to_file($file, $script);
ok(!IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', $file ],
		'>', \$out, '2>', \$err),
	'WAL full: the client is told');
like($err, qr/server closed the connection|No space left|terminat/, 'by the loss of its connection');
my $log = slurp_file($node->logfile);
like($log, qr/PANIC:.*No space left on device/, 'the server has stopped itself');
unlike($log, qr/TRAP:|terminated by signal (?:[478]|11)\b|Sanitizer: |runtime error: /, 'for no other reason');
free_disk();
$node->stop('immediate', fail_ok => 1);
$node->start;
my @rotated = map { [split] } $out =~ /^rotated (.*)$/mg;
my @revoked = map { (split)[0] } $out =~ /^revoked (.* t)$/mg;
note(@rotated . ' rotations and ' . @revoked . ' revocations were acknowledged');
cmp_ok(scalar(@revoked), '>', 10, 'there was work before');
my %ended = map { $_ => 1 } @revoked;
verdicts_are($node, 'every revocation that was acknowledged counts', [ map { [ $_, 'revoked' ] } @revoked ]);
my ($last) = grep { !$ended{$_} } map { $_->[1] } reverse @rotated;
like(verdict($node, $last), qr/^(?:ok|revoked)$/, 'the last successor that was handed out is there');
is_whole($node, 'WAL full');
is(value($node, q{SELECT count(*) - count(DISTINCT predecessor_id) FROM token_rotation.token}), '1',
	'one successor each');
my $again = issue($node, "'again'");
is(rotate($node, $again->{token})->{reason}, 'ok', 'and rotations go on');
poll($node, 'the cache is filled again', 'SELECT count(*) = 1 FROM token_rotation.token_cache WHERE status IS NULL');
is_whole($node, 'afterwards');
$node->stop;

note("tried: $calls calls, and " . (@rotated + @revoked) . ' changes before the disk of the WAL was full');
done_testing();
