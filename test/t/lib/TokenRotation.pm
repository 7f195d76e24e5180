# What the TAP tests share: a server with the extension, calls of its verbs as
# hashes, and waiting.  Nothing here sleeps for a tuned time: every wait polls
# for what it waits for, bounded by PG_TEST_TIMEOUT_DEFAULT.
package TokenRotation;

use strict;
use warnings FATAL => 'all';

use Errno ();
use Exporter 'import';
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

our @EXPORT = qw(
  new_node install value row rows literal error_of sqlstate_of
  issue rotate validate verdict verdicts_are
  poll set_conf pid_of audit_count nonces
  level level_is wait_trusted hold_audit release
  worker_comes worker_stays_away workers_at_next_start
  kill_and_wait is_whole logged log_position fill_disk
);

# Every test's database, unless it says otherwise.
our $DB = 'postgres';

# What an installation would see, the tests see: Cluster.pm's own settings that
# a server does not have by default (every statement logged, no restart after a
# crash, WAL without what a standby needs) are taken back.
my $conf = q(
shared_preload_libraries = 'token_rotation'
restart_after_crash = on
log_statement = none
log_replication_commands = off
max_connections = 60
wal_level = replica
);

# Options: conf (more lines), initdb (more of its options), streaming, extension
# (default 1), start (default 1), install_path (of another server version)
sub new_node
{
	my ($name, %option) = @_;
	my @path = $option{install_path} ? (install_path => $option{install_path}) : ();
	my $node = PostgreSQL::Test::Cluster->new($name, @path);

	$node->init(
		allows_streaming => $option{streaming} // 0,
		extra => [ '--encoding=UTF8', '--locale=C', @{ $option{initdb} // [] } ]);
	$node->append_conf('postgresql.conf', $conf . ($option{conf} // ''));
	return $node unless $option{start} // 1;
	$node->start;
	install($node) if $option{extension} // 1;
	return $node;
}

sub install
{
	my ($node, $db) = @_;

	$node->safe_psql($db // $DB,
		'SET client_min_messages = warning; CREATE EXTENSION token_rotation CASCADE');
	return;
}

# The value of the first column of the only row, or of all of them.
sub value
{
	my ($node, $sql, $db) = @_;

	return $node->safe_psql($db // $DB, $sql);
}

# The rows of a query as hashes; row() for the first one.  $first is run before
# in the same session.
sub rows
{
	my ($node, $query, $db, $first) = @_;
	my $json = $node->safe_psql($db // $DB,
		($first // '') . "; SELECT coalesce(pg_catalog.json_agg(x), '[]') FROM ($query) x");

	return @{ JSON::PP->new->utf8->decode($json) };
}

sub row
{
	return (rows(@_))[0];
}

# What a statement that must fail says: "SQLSTATE: message", detail and hint
# lines included; empty when it did not fail.
sub error_of
{
	my ($node, $sql, $db) = @_;
	my ($status, $out, $err) = $node->psql($db // $DB, $sql,
		extra_params => [ '-v', 'VERBOSITY=verbose' ]);

	return '' if $status == 0;
	$err =~ s/^.*?(?:ERROR|FATAL):\s+//s;
	return $err;
}

# Only its SQLSTATE, '00000' when it did not fail.
sub sqlstate_of
{
	my $error = error_of(@_);

	return $error eq '' ? '00000' : substr($error, 0, 5);
}

# SQL literals of what Perl has.
sub literal
{
	my ($text) = @_;

	return 'NULL' unless defined $text;
	$text =~ s/'/''/g;
	return "'$text'";
}

# The verbs.  issue() takes SQL arguments; the others a token and further SQL
# arguments.
sub issue
{
	my ($node, $args, $db) = @_;

	return row($node, "SELECT * FROM tr_issue($args)", $db);
}

sub rotate
{
	my ($node, $token, $more, $db) = @_;
	my $args = join(', ', literal($token), $more // ());

	return row($node, "SELECT * FROM tr_rotate($args)", $db);
}

sub validate
{
	my ($node, $token, $db) = @_;

	return row($node, 'SELECT * FROM tr_validate(' . literal($token) . ')', $db);
}

sub verdict
{
	my ($node, $token, $db) = @_;

	return validate($node, $token, $db)->{reason};
}

# One look at many tokens: pairs of [token, reason], in one statement.
sub verdicts_are
{
	my ($node, $name, $pairs, $db) = @_;
	my $list = join(', ', map { literal($_->[0]) } @$pairs);
	my $got = value($node,
		"SELECT string_agg(reason, ' ' ORDER BY ord) FROM tr_validate_many(ARRAY[$list])", $db);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($got, join(' ', map { $_->[1] } @$pairs), $name);
}

# Wait until a query answers true; a failed test when it never does.
sub poll
{
	my ($node, $name, $query, $db) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($node->poll_query_until($db // $DB, $query), $name);
}

# Change settings of the running server; back when new sessions see them, which
# is after the postmaster has told every process.
my $reloads = 0;

sub set_conf
{
	my ($node, %setting) = @_;

	$reloads++;
	$node->append_conf('postgresql.conf', "$_ = '$setting{$_}'\n") for sort keys %setting;
	$node->append_conf('postgresql.conf', "tap.reloads = '$reloads'\n");
	$node->reload;
	$node->poll_query_until($DB, "SELECT current_setting('tap.reloads', true) = '$reloads'")
	  or die 'settings did not arrive';
	return;
}

# The process of a type, for example 'token_rotation launcher'; 0 when none.
sub pid_of
{
	my ($node, $type) = @_;

	return value($node,
		"SELECT coalesce(min(pid), 0) FROM pg_stat_activity WHERE backend_type = '$type'");
}

# Audit rows that fit a condition.
sub audit_count
{
	my ($node, $where, $db) = @_;

	return value($node, "SELECT count(*) FROM token_rotation.audit WHERE $where", $db);
}

# How many nonces there are.
sub nonces
{
	my ($node, $db) = @_;

	return value($node,
		'SELECT count(*) FROM token_rotation.token_cache WHERE nonce IS NOT NULL', $db);
}

# Which level answers: validates a token many times and looks which of the two
# primary keys was scanned as often, so that what the worker scans meanwhile
# does not count.  A miss in the cache counts as a scan of it: 'cache+token';
# a cache that is not trusted is not asked: 'token'.
my $times = 400;

sub level
{
	my ($node, $token, $db) = @_;
	my $scans =
		"SELECT coalesce(sum(idx_scan) FILTER (WHERE indexrelname = 'token_cache_pkey'), 0),"
	  . " coalesce(sum(idx_scan) FILTER (WHERE indexrelname = 'token_pkey'), 0)"
	  . " FROM pg_stat_all_indexes WHERE schemaname = 'token_rotation'";
	my $out = $node->safe_psql($db // $DB, qq(
		$scans;
		SELECT count(v) FROM generate_series(1, $times) g,
			LATERAL tr_validate(CASE WHEN g > 0 THEN @{[literal($token)]} END) v;
		SELECT pg_stat_force_next_flush();
		$scans;));
	my @counts = map { [ split /\|/ ] } grep { /^\d+\|\d+$/ } split /\n/, $out;
	my @more = map { $counts[1][$_] - $counts[0][$_] } 0, 1;

	return join('+', ($more[0] >= $times ? 'cache' : ()), ($more[1] >= $times ? 'token' : ()));
}

sub level_is
{
	my ($node, $token, $level, $name, $db) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(level($node, $token, $db), $level, $name);
}

# Wait until the cache answers for this token: reconciled since the start of the
# server, and filled.
sub wait_trusted
{
	my ($node, $token, $name, $db) = @_;
	my $level = '';

	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$level = level($node, $token, $db);
		last if $level eq 'cache';
		Time::HiRes::usleep(100_000);
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($level, 'cache', $name);
}

# Keep the worker from writing audit rows, and so from emptying the rings, until
# release(): it gives up after its own lock timeout and comes again a nap later.
sub hold_audit
{
	my ($node, $db) = @_;
	my $session = $node->background_psql($db // $DB);

	$session->query_safe('BEGIN; LOCK TABLE token_rotation.audit IN EXCLUSIVE MODE');
	return $session;
}

sub release
{
	my ($session) = @_;

	$session->query_safe('COMMIT');
	$session->quit;
	return;
}

# Let the worker come twice a second, or only when something asks for it.  The
# latter is back when nothing is asked for: an event put now, the refused
# rotation of a revoked token, has been recorded and its worker has left.
sub worker_comes
{
	my ($node) = @_;

	set_conf($node, 'token_rotation.worker_nap' => '500ms');
	return;
}

sub worker_stays_away
{
	my ($node, $revoked) = @_;
	my $events = "SELECT count(*) FROM token_rotation.audit WHERE event = 'rotation_refused'";
	my $before;

	set_conf($node, 'token_rotation.worker_nap' => '1h');
	$before = value($node, $events);
	rotate($node, $revoked->{token})->{reason} eq 'revoked' or die 'the token is not revoked';
	$node->poll_query_until($DB, "SELECT ($events) > $before") or die 'no worker came';
	$node->poll_query_until($DB,
		"SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'token_rotation worker'")
	  or die 'the worker did not leave';
	return;
}

# Leave no room for a worker, or again some; both at the next start of the server.
sub workers_at_next_start
{
	my ($node, $some) = @_;

	$node->append_conf('postgresql.conf',
		$some
		? "max_worker_processes = 8\nmax_logical_replication_workers = 4\n"
		: "max_worker_processes = 1\nmax_logical_replication_workers = 0\n");
	return;
}

# kill -9 a server process and wait until the server has restarted itself.
sub kill_and_wait
{
	my ($node, $pid) = @_;
	my $checkpointer = pid_of($node, 'checkpointer');

	kill('KILL', $pid) == 1 or return 0;
	return $node->poll_query_until($DB,
		"SELECT pid <> $checkpointer FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
}

# What does not belong together: a token without its audit row or the reverse, a
# rotation without a successor or the reverse, a cache that contradicts.
sub halves
{
	my ($node, $db) = @_;

	return value($node, q{
		WITH t AS (SELECT *, sha256(uuid_send(token_id)) AS ref FROM token_rotation.token),
			a AS (SELECT * FROM token_rotation.audit)
		SELECT coalesce(string_agg(what || ' ' || n, ', '), '') FROM (
			SELECT 'tokens made without a row', count(*) FROM t WHERE NOT EXISTS (SELECT FROM a
				WHERE event = 'issued' AND token_ref = ref OR event = 'rotated' AND successor_ref = ref)
			UNION ALL SELECT 'rows without a token', count(*) FROM a WHERE event IN ('issued', 'rotated')
				AND NOT EXISTS (SELECT FROM t WHERE ref = coalesce(successor_ref, token_ref))
			UNION ALL SELECT 'revoked without a row', count(*) FROM t WHERE status = 'revoked' AND NOT EXISTS
				(SELECT FROM a WHERE event = 'revoked' AND token_ref = ref
				OR event = 'rotation_cancelled' AND successor_ref = ref)
			UNION ALL SELECT 'revocations of what lives', count(*) FROM a WHERE event = 'revoked'
				AND EXISTS (SELECT FROM t WHERE ref = token_ref AND status <> 'revoked')
			UNION ALL SELECT 'rotated without a successor', count(*) FROM t WHERE rotated_at IS NOT NULL
				AND NOT EXISTS (SELECT FROM t s WHERE s.predecessor_id = t.token_id)
			UNION ALL SELECT 'successors of none', count(*) FROM t WHERE predecessor_id IS NOT NULL
				AND NOT EXISTS (SELECT FROM t p WHERE p.token_id = t.predecessor_id AND p.rotated_at IS NOT NULL)
			UNION ALL SELECT 'contradictions of the cache', count(*) FROM token_rotation.token_cache c
				WHERE c.status IS NOT NULL AND NOT EXISTS (SELECT FROM t WHERE t.token_id = c.token_id
				AND t.status = c.status AND t.secret_hash = c.secret_hash)
		) x (what, n) WHERE n > 0}, $db);
}

sub is_whole
{
	my ($node, $name, $db) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(halves($node, $db), '', "$name: nothing is half");
}

# What the server has logged since this position, without what it says about
# checkpoints.
sub logged
{
	my ($node, $offset) = @_;

	return grep { !/LOG:  checkpoint / } split /\n/, slurp_file($node->logfile, $offset // 0);
}

sub log_position
{
	my ($node) = @_;

	return -s $node->logfile;
}

# Take all the space that is left on a disk for this file, to the last byte.
sub fill_disk
{
	my ($file) = @_;

	open my $out, '>>', $file or die "$file: $!";
	for my $bytes (65536, 4096, 512, 1)
	{
		1 while (syswrite($out, "\0" x $bytes) // 0) == $bytes;
	}
	die "$file: $!" unless $!{ENOSPC};
	close $out;
	return;
}

1;
