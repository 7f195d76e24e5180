# Events where a server starts, stops, fails over and is restored.
#
#  1. NOTIFY: who listens is woken when something is sealed, by the worker, with an
#     empty payload, and not when nothing is; a caller's transaction holds no lock of
#     it, in none of the verbs.  A queue that somebody has filled stops no worker, and
#     who listens is woken when there is room (from 17 on: only there it can be small).
#  2. A standby reads events, and what a consumer has acknowledged; it cannot
#     acknowledge.  After the promotion the consumer goes on where it was: all that
#     was committed comes, once, in order, and positions rise.
#  3. key_changed: once for each change of the key that is used, whatever reloads,
#     restarts and crashes there are; not for keys that cannot be read.
#  4. A crash: what was told is not told again, and what had passed meanwhile is.
#  5. A restore: the consumer goes on where the dump had it, over what the dump had
#     and what comes here; nothing of it comes twice, positions rise.
#  6. What was pruned before it was read is told, once, and a consumer that has not
#     begun misses nothing.
#  7. One that brings a trail of a later installation is not stopped by it.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use Digest::SHA qw(sha256_hex);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my $primary = new_node('events', streaming => 1, conf => "token_rotation.worker_nap = '400ms'\n");
my $sealed = 'SELECT unsealed = 0 FROM tr_audit_verify()';

# What a session says until a notification comes.
sub heard
{
	my ($listener) = @_;
	my $heard = '';

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$heard .= $listener->query_safe('SELECT pg_sleep(0.1)');
		last if $heard =~ /Asynchronous notification/;
	}
	return $heard;
}

# What a consumer is given, page by page, each acknowledged: [position, seq] pairs.
sub all_events
{
	my ($node, $consumer, $db) = @_;
	my @all;

	while (my @page = rows($node, "SELECT position::text, seq::text FROM tr_events('$consumer', 7) WITH ORDINALITY ORDER BY ordinality", $db))
	{
		push @all, map { [ $_->{position}, $_->{seq} ] } @page;
		value($node, "SELECT tr_ack('$consumer', $page[-1]{position})", $db);
	}
	return @all;
}

# What the trail has, in order of the seals.
sub trail
{
	my ($node, $db) = @_;

	return split /\n/, value($node, q{SELECT u.seq FROM token_rotation.audit_seal s, unnest(s.seqs) WITH ORDINALITY u (seq, n)
		ORDER BY s.segment, s.seal, u.n}, $db);
}

sub rising
{
	my ($name, @events) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(scalar(grep { $events[ $_ - 1 ][0] >= $events[$_][0] } 1 .. $#events), 0, $name);
}

# --- 1. NOTIFY ---------------------------------------------------------------

poll($primary, 'all is sealed', $sealed);
my $listener = $primary->background_psql('postgres');
$listener->query_safe('LISTEN token_rotation');
my $token = issue($primary, "'woken'")->{token};
like(heard($listener), qr/^Asynchronous notification "token_rotation" received from server process with PID \d+\.$/m, 'who listens is woken, without a payload');
is(value($primary, q{SELECT count(*) > 0 FROM tr_events('nobody') WHERE client_id = 'woken'}), 't', 'by what is there to be read');
poll($primary, 'all is sealed again', $sealed);
$listener->query_safe('SELECT pg_sleep(0.5)');
my $visit = value($primary, 'SELECT last_visit FROM tr_health()');
poll($primary, 'the worker comes again', "SELECT last_visit > '$visit' FROM tr_health()");
is($listener->query_safe('SELECT 1'), '1', 'and wakes nobody when there is nothing');
$listener->quit;
my $caller = $primary->background_psql('postgres');
$caller->query_safe('LISTEN token_rotation');
$caller->query_safe("BEGIN; SELECT tr_rotate('$token'); SELECT tr_revoke('$token', NULL, true); SELECT tr_rotate_due()");
$caller->query_safe(q{SELECT tr_ack('caller', 0)});
is($caller->query_safe('SELECT pg_notification_queue_usage()'), '0', 'a caller queues nothing');
my $other = $primary->background_psql('postgres');
is($other->query_safe('NOTIFY token_rotation; SELECT 1'), '1', 'and holds nobody who does');
$other->quit;
$caller->query_safe('COMMIT');
$caller->quit;
full_queue() if value($primary, 'SHOW server_version_num') >= 170000;

sub full_queue
{
	$primary->append_conf('postgresql.conf', 'max_notify_queue_pages = 64');
	$primary->restart;
	my $sleeper = $primary->background_psql('postgres');
	$sleeper->query_safe('LISTEN token_rotation');
	$sleeper->query_safe('BEGIN');
	is(sqlstate_of($primary, q{DO $$ BEGIN
			FOR i IN 1 .. 100 LOOP PERFORM pg_notify('any', repeat('x', 7000)); COMMIT; END LOOP;
		END $$}), '54000', 'the queue is full');
	my $offset = log_position($primary);
	issue($primary, "'full'");
	poll($primary, 'the worker seals all the same', $sealed);
	for (1 .. 3)
	{
		my $visit = value($primary, 'SELECT last_visit FROM tr_health()');
		poll($primary, 'it comes, and comes again', "SELECT last_visit > '$visit' FROM tr_health()");
	}
	is(scalar(grep { /\] ERROR: / } logged($primary, $offset)), 0, 'without an error');
	$sleeper->query_safe('COMMIT');
	like(heard($sleeper), qr/"token_rotation" received/, 'there is room: who listens is woken');
	$sleeper->quit;
	return;
}

# --- 2. Standbys ---------------------------------------------------------------

value($primary, "SELECT count(*) FROM generate_series(1, 20) g, LATERAL tr_issue('client ' || g)");
poll($primary, 'sealed', $sealed);
my @before = rows($primary, q{SELECT position::text, seq::text FROM tr_events('standby', 10)});
value($primary, "SELECT tr_ack('standby', $before[-1]{position})");
$primary->backup('standby');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'standby', has_streaming => 1);
$standby->start;
value($primary, "SELECT count(*) FROM generate_series(1, 20) g, LATERAL tr_issue('later ' || g)");
poll($primary, 'sealed', $sealed);
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
my $page = q{SELECT string_agg(position || ' ' || seq, ', ' ORDER BY position) FROM tr_events('standby', 10000)};
is(value($standby, $page), value($primary, $page), 'a standby reads what the primary does');
is(sqlstate_of($standby, "SELECT tr_ack('standby', 0)"), '25006', 'and cannot acknowledge');
$primary->stop('immediate');
$standby->promote;
value($standby, "SELECT count(*) FROM generate_series(1, 5) g, LATERAL tr_issue('promoted ' || g)");
poll($standby, 'the new primary seals', $sealed);
my @got = ((map { [ $_->{position}, $_->{seq} ] } @before), all_events($standby, 'standby'));
is_deeply([ map { $_->[1] } @got ], [ trail($standby) ], 'all of it comes once, in order');
rising('and positions rise', @got);
my $node = $standby;

# --- 3. The key ------------------------------------------------------------------

my $file = PostgreSQL::Test::Utils::tempdir() . '/keys';
my $changes = q{SELECT coalesce(string_agg((detail ->> 'from') || '-' || (detail ->> 'to'), ' ' ORDER BY seq), 'none')
	FROM token_rotation.audit WHERE event = 'key_changed'};

sub keys_are
{
	my (@numbers) = @_;

	unlink $file;
	append_to_file($file, join '', map { "$_ " . sha256_hex("key $_ of this test") . "\n" } @numbers);
	chmod 0600, $file;
	set_conf($node, 'token_rotation.key_file' => $file);
	return;
}

sub visited
{
	for (1, 2)
	{
		my $last = value($node, "SELECT coalesce(last_visit, '-infinity') FROM tr_health()");

		$node->poll_query_until('postgres', "SELECT last_visit > '$last' FROM tr_health()") or die 'no visit';
	}
	return;
}

is(value($node, $changes), 'none', 'no key is no change');
keys_are(1);
poll($node, 'the first key is told', "SELECT ($changes) = '0-1'");
keys_are(1, 2);
poll($node, 'the next one, too', "SELECT ($changes) = '0-1 1-2'");
keys_are(1, 2);
visited();
$node->restart;
visited();
unlink $file;
append_to_file($file, "nonsense\n");
set_conf($node, 'token_rotation.key_file' => $file);
visited();
$node->restart;
visited();
keys_are(1, 2);
visited();
is(value($node, $changes), '0-1 1-2', 'once each, and what cannot be read is no change');
set_conf($node, 'token_rotation.key_file' => '');
poll($node, 'that there is none any more is told', "SELECT ($changes) = '0-1 1-2 2-0'");

# --- 4. A crash ---------------------------------------------------------------------

my $told = q{SELECT coalesce(string_agg(client_id, ' ' ORDER BY client_id), 'none') FROM token_rotation.audit WHERE event = 'rotation_due'};
my $due = q{UPDATE token_rotation.token SET refresh_at = clock_timestamp() + interval '%s' WHERE client_id = '%s'};
issue($node, "'$_'") for qw(early meanwhile);
value($node, sprintf($due, '0.1 s', 'early'));
poll($node, 'one is told', "SELECT ($told) = 'early'");
workers_at_next_start($node, 0);
$node->stop('immediate');
$node->start;
value($node, sprintf($due, '0.1 s', 'meanwhile'));
value($node, 'SELECT pg_sleep(0.2)');
workers_at_next_start($node, 1);
$node->stop('immediate');
$node->start;
poll($node, 'what passed while no worker came is told', "SELECT ($told) = 'early meanwhile'");
visited();
is(value($node, $told), 'early meanwhile', 'each once');

# --- 5. A restore --------------------------------------------------------------------

poll($node, 'sealed', $sealed);
@got = rows($node, q{SELECT position::text, seq::text FROM tr_events('restored', 20)});
value($node, "SELECT tr_ack('restored', $got[-1]{position})");
@got = map { [ $_->{position}, $_->{seq} ] } @got;
my $dump = $node->basedir . '/events.sql';
value($node, "SELECT tr_issue('last')");    # which is probably not sealed
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ], 'it is dumped');
$node->safe_psql('postgres', 'CREATE DATABASE restored TEMPLATE template0');
$node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', $dump ], 'and restored');
value($node, "SELECT tr_issue('here')", 'restored');
poll($node, 'the restored one seals', $sealed, 'restored');
push @got, all_events($node, 'restored', 'restored');
is_deeply([ map { $_->[1] } @got ], [ trail($node, 'restored') ], 'the consumer goes on where it was, and all of it comes once');
rising('positions rise', @got);
is(value($node, q{SELECT waiting_since IS NULL FROM token_rotation.consumers WHERE name = 'restored'}, 'restored'), 't', 'nothing waits');
is(audit_count($node, "event = 'rotation_due' AND segment = (SELECT seqstart FROM pg_sequence WHERE seqrelid = 'token_rotation.audit_seq'::regclass)", 'restored'),
	'0', 'and nothing is told again there');

# --- 6. Retention -------------------------------------------------------------------

my $db = 'restored';
my $events = q{SELECT coalesce(string_agg(event || CASE event WHEN 'missed' THEN ' ' || (detail ->> 'rows') ELSE '' END, ' ' ORDER BY position), 'none') FROM tr_events('%s', %d)};
my $from = value($node, q{SELECT tr_ack('late', tr_events_head())}, $db);
value($node, "SELECT count(tr_revoke(token)) FROM generate_series(1, 5) g, LATERAL tr_issue('pruned ' || g)", $db);
poll($node, 'sealed', $sealed, $db);
value($node, 'SELECT tr_audit_prune(clock_timestamp())', $db);
poll($node, 'sealed again', $sealed, $db);
is(value($node, sprintf($events, 'late', 1), $db), 'missed 10', 'what it missed is told first');
my $missed = value($node, q{SELECT position FROM tr_events('late', 1)}, $db);
cmp_ok($missed, '>', $from, 'at a later position');
like(value($node, sprintf($events, 'late', 100), $db), qr/^missed 10 audit_pruned/, 'then what there is');
is(value($node, sprintf($events, 'late', 2), $db), 'missed 10 audit_pruned', 'in any page');
value($node, "SELECT tr_ack('late', $missed)", $db);
is(value($node, sprintf($events, 'late', 1), $db), 'audit_pruned', 'once');
like(value($node, sprintf($events, 'unheard-of', 1), $db), qr/^audit_pruned/, 'who has not begun misses nothing');

# --- 7. A trail from later -------------------------------------------------------------

my $copy = $node->basedir . '/later';
my $own = q{SELECT seqstart FROM pg_sequence WHERE seqrelid = 'token_rotation.audit_seq'::regclass};
my $later = value($node, $own, $db);
cmp_ok($later, '>', value($node, $own), 'it is later');
$node->safe_psql($db, "COPY (SELECT * FROM token_rotation.audit_seal WHERE segment = $later) TO '$copy.seals';
	COPY (SELECT * FROM token_rotation.audit WHERE segment = $later) TO '$copy.rows'");
all_events($node, 'mixed');
my $head = value($node, 'SELECT tr_events_head()');
$node->safe_psql('postgres', "COPY token_rotation.audit FROM '$copy.rows'; COPY token_rotation.audit_seal FROM '$copy.seals'");
value($node, "SELECT tr_issue('after')");
poll($node, 'it seals on', q{SELECT EXISTS (SELECT FROM token_rotation.audit a JOIN token_rotation.audit_seal s ON a.seq = ANY (s.seqs)
	WHERE a.client_id = 'after')});
my @mixed = all_events($node, 'mixed');
is(scalar(grep { $_->[1] eq value($node, "SELECT seq FROM token_rotation.audit WHERE client_id = 'after'") } @mixed), 1, 'what comes here is read');
cmp_ok($mixed[0][0], '>', $head, 'after what was there');
cmp_ok($mixed[-1][0], '<', $later, 'and before the later one');

done_testing();
