# tr_schedule, tr_unschedule and token_rotation.schedules, with the real pg_cron.
#
#  1. pg_cron is loaded and not installed: 55000, no row in the view; a schema cron
#     that somebody else made, with functions of these names, is not called, also
#     where the extension is there and the schema is not its own.
#  2. What the caller needs: LOGIN, and USAGE on the schema cron, which the error
#     names; no superuser.  The job is his, and everybody sees his own.
#  3. The job: its text and its name, one for each policy; another schedule leaves it
#     the same; pg_cron's own error for a schedule that is none; nothing of a token
#     gets into it.  Each change is in the trail.
#  4. Another database than cron.database_name: 55000 with the statement to run in that
#     one, which does it.
#  5. It runs: tokens that are due have their windows open, of the caller's realms;
#     history and view say how many.  A job whose policy is gone fails, and so say
#     both.
#  6. With client sessions in place of background workers: likewise.  A job that was
#     removed runs no more; after DROP EXTENSION jobs fail.
#
# pg_cron before 1.5 knows no seconds: the test then takes minutes.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my ($libdir) = run_command([ 'pg_config', '--pkglibdir' ]);
plan skip_all => 'no pg_cron: see test/setup' unless -e "$libdir/pg_cron.so";

my $node = new_node('cron', extension => 0, conf => q(
	shared_preload_libraries = 'pg_cron, token_rotation'
	cron.database_name = 'postgres'
	cron.use_background_workers = on
	max_worker_processes = 24
	token_rotation.worker_nap = '500ms'
));
my $other = 'the "other" one';

$node->safe_psql('postgres', q{
	CREATE DATABASE "the ""other"" one";
	CREATE ROLE shop; CREATE ROLE operator LOGIN; CREATE ROLE nobody NOLOGIN});
for my $db ('postgres', $other)
{
	$node->safe_psql($db, q{
		SET client_min_messages = warning;
		CREATE SCHEMA "My Schema";
		CREATE EXTENSION token_rotation SCHEMA "My Schema" CASCADE;
		SELECT "My Schema".tr_grant('operator', 'operator', 'shop'), "My Schema".tr_grant('nobody', 'operator');
		DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = "My Schema"', current_database()); END $$});
}

# A call as a role.
sub as
{
	my ($role, $sql) = @_;

	return "SET SESSION AUTHORIZATION $role; $sql";
}

# Tokens of a realm that are due, all at once.
sub due
{
	my ($policy, $realm, $db, @clients) = @_;
	my $list = join ', ', map { literal($_) } @clients;

	$node->safe_psql($db, qq{
		SELECT count(i) FROM unnest(ARRAY[$list]) c, tr_issue(c, '$policy') i;
		UPDATE token_rotation.token SET owner = '$realm', issued_at = issued_at - interval '100 seconds',
			refresh_at = issued_at - interval '1 second' WHERE client_id IN ($list)});
	return;
}

# Whose windows are open.
sub unclaimed
{
	return value($node, "SELECT string_agg(client_id, ' ' ORDER BY client_id) FROM token_rotation.unclaimed", @_);
}

# Does the view say so of a job's newest run?
sub last_run
{
	my ($job, $status, $message) = @_;

	return "SELECT last_status = '$status' AND last_message ~ '$message' AND last_run_at > now() - interval '1 day'"
	  . " FROM token_rotation.schedules WHERE job_id = $job";
}

# Has a job had such a run, by pg_cron's history?
sub has_run
{
	my ($job, $condition) = @_;

	return "SELECT EXISTS (SELECT FROM cron.job_run_details WHERE jobid = $job AND $condition)";
}

# 1. Not installed

my $planted = q{
	CREATE SCHEMA cron;
	GRANT USAGE ON SCHEMA cron TO PUBLIC;
	CREATE TABLE cron.called (jobid int);
	CREATE TABLE cron.job (jobid bigint, schedule text, command text, database text, username text, active bool, jobname text);
	CREATE TABLE cron.job_run_details (jobid bigint, runid bigint, start_time timestamptz, status text, return_message text);
	INSERT INTO cron.job VALUES (1, '* * * * *', 'x', 'postgres', current_user, true, 'token_rotation: default in postgres');
	CREATE FUNCTION cron.schedule(text, text, text) RETURNS bigint LANGUAGE sql
		AS 'INSERT INTO cron.called VALUES (1) RETURNING 1';
	CREATE FUNCTION cron.unschedule(bigint) RETURNS boolean LANGUAGE sql
		AS 'INSERT INTO cron.called VALUES (1) RETURNING true'};
my @calls = (q{SELECT tr_schedule('default', '* * * * *')}, q{SELECT tr_unschedule('default')});

like(error_of($node, $_), qr/^55000: extension pg_cron is not installed in this database\n.*\nHINT:  Run CREATE EXTENSION pg_cron/s,
	"not installed: $_") for @calls;
$node->safe_psql($_, $planted) for 'postgres', $other;
is(sqlstate_of($node, $_), '55000', "a schema cron is no pg_cron: $_") for @calls;
is(sqlstate_of($node, $_, $other), '55000', "nor in another database: $_") for @calls;
for my $db ('postgres', $other)
{
	is(value($node, 'SELECT count(*) FROM token_rotation.schedules', $db), '0', "$db: the view has no row");
	is(value($node, 'SELECT count(*) FROM cron.called', $db), '0', 'and nothing was called');
	$node->safe_psql($db, 'SET client_min_messages = warning; DROP SCHEMA cron CASCADE');
}
$node->safe_psql('postgres', 'CREATE EXTENSION pg_cron; ALTER EXTENSION pg_cron DROP SCHEMA cron');
is(sqlstate_of($node, $_), '55000', "nor is one that is not the extension's own: $_") for @calls;
is(value($node, 'SELECT count(*) FROM token_rotation.schedules'), '0', 'nor for the view');
$node->safe_psql('postgres', 'ALTER EXTENSION pg_cron ADD SCHEMA cron');
my ($version) = value($node, q{SELECT extversion FROM pg_extension WHERE extname = 'pg_cron'}) =~ /^(\d+\.\d+)/;
my $every = $version >= 1.5 ? '2 seconds' : '* * * * *';
my $never = '0 0 30 2 *';
note("pg_cron $version, every $every");

# 2. What the caller needs

$node->safe_psql('postgres', q{
	INSERT INTO token_rotation.policy (name, ttl) VALUES ('doomed', '1 hour'), ('sessions', '1 hour');
	INSERT INTO token_rotation.policy (name) SELECT repeat('p', 62) || n FROM generate_series(1, 2) n});
for my $sql (@calls, 'SELECT FROM token_rotation.schedules')
{
	like(error_of($node, as(operator => $sql)),
		qr/^42501: permission denied for schema cron\n.*\nHINT:  .*GRANT USAGE ON SCHEMA cron TO operator/s, "without USAGE: $sql");
}
$node->safe_psql('postgres', 'GRANT USAGE ON SCHEMA cron TO operator, nobody');
like(error_of($node, as(nobody => $calls[0])), qr/^55000: role "nobody" cannot log in/, 'nor without LOGIN');
my $mine = value($node, as(operator => "SELECT tr_schedule('default', '$never')"));
my $theirs = value($node, "SELECT tr_schedule('default', '$never')");
isnt($mine, $theirs, 'two roles have two jobs');
is(value($node, as(operator => 'SELECT policy, active, job_id, database, username, last_status FROM token_rotation.schedules')),
	"default|t|$mine|postgres|operator|", 'everybody sees his own');
is(value($node, as(nobody => 'SELECT count(*) FROM token_rotation.schedules')), '0', 'or none');
is(value($node, 'SELECT count(*) FROM token_rotation.schedules'), '2', 'a superuser sees all');
is(value($node, 'BEGIN READ ONLY; SELECT count(*) FROM token_rotation.schedules; COMMIT'), '2', 'also where nothing may be written');
is(value($node, 'SELECT tr_unschedule(NULL)'), 'f', 'none to be removed');
is(value($node, "SELECT tr_unschedule('default')"), 't', 'a role removes its own');
is(value($node, "SELECT tr_unschedule('default')"), 'f', 'once');
is(value($node, 'SELECT job_id FROM token_rotation.schedules'), $mine, 'and nobody else\'s');

# 3. The job

is(value($node, "SELECT nspname FROM pg_namespace WHERE oid = (SELECT pronamespace FROM pg_proc WHERE proname = 'tr_schedule')"),
	'My Schema', 'a schema that needs quotes');
is(value($node, "SELECT jobname, command FROM cron.job WHERE jobid = $mine"),
	q{token_rotation: default in postgres|SELECT FROM "My Schema".tr_rotate_due('default', 10000) r, pg_catalog.generate_series(1, r.started)},
	'its name and its text');
is(value($node, as(operator => q{SELECT tr_schedule('default', '1 1 30 2 *')})), $mine, 'again: the same job');
is(value($node, "SELECT schedule FROM token_rotation.schedules WHERE job_id = $mine"), '1 1 30 2 *', 'with another schedule');
my $trail = audit_count($node, "event = 'schedule_changed'");
value($node, "BEGIN; SELECT tr_schedule('internal', '$never'); ROLLBACK");
is(value($node, "SELECT count(*) FROM cron.job WHERE jobname = 'token_rotation: internal in postgres'"), '0', 'what is rolled back is no job');
like(error_of($node, as(operator => "SELECT tr_schedule('default', '$_')")), qr/^22023: invalid schedule: \Q$_\E/, "pg_cron: not a schedule: '$_'")
  for 'x', '', '61 * * * *';
my $token = issue($node, "'a token'")->{token};
value($node, as(operator => "SELECT tr_schedule('default', '$never $token')"));
unlike(value($node, 'SELECT string_agg(j::text, chr(10)) FROM cron.job j'), qr/_[0-9A-Za-z]{23}/, 'no token gets into pg_cron');
like(error_of($node, "SELECT tr_schedule('none', '$every')"), qr/^42704: policy "none" does not exist/, 'a policy that is not there');
my @long = map { value($node, "SELECT tr_schedule(repeat('p', 62) || $_, '$never')") } 1, 2;
is(value($node, "SELECT count(DISTINCT jobname), max(octet_length(jobname::text)) FROM cron.job WHERE jobid IN ($long[0], $long[1])"),
	'2|63', 'long names stay apart');
is(value($node, "SELECT bool_and(tr_unschedule(policy)) FROM token_rotation.schedules WHERE policy LIKE 'pp%'"), 't', 'and are found');
$node->safe_psql('postgres', "SELECT cron.alter_job($mine, active => false)");
my ($out, $err) = ('', '');
$node->psql('postgres', as(operator => "SELECT tr_schedule('default', '$every')"), stdout => \$out, stderr => \$err);
like($err, qr/WARNING:  job $mine of pg_cron is switched off/, 'a job that is switched off stays so, and a warning says it');
is(value($node, "SELECT active FROM token_rotation.schedules WHERE job_id = $mine"), 'f', 'as the view does');
$node->safe_psql('postgres', "SELECT cron.alter_job($mine, active => true)");
my $all = value($node, "SELECT tr_schedule(NULL, '$never')");
is(value($node, "SELECT policy IS NULL, jobname FROM token_rotation.schedules JOIN cron.job ON jobid = job_id WHERE job_id = $all"),
	't|token_rotation: * in postgres', 'every policy');
is(audit_count($node, "event = 'schedule_changed'") - $trail, 7, 'what was done is in the trail, and what failed is not');
is_deeply([ rows($node, q{SELECT role, detail FROM token_rotation.audit WHERE event = 'schedule_changed' ORDER BY seq LIMIT 3}) ],
	[ { role => 'operator', detail => { policy => 'default', schedule => $never, job_id => $mine, removed => JSON::PP::false } },
		map { { role => value($node, 'SELECT current_user'), detail => { policy => 'default', schedule => $never, job_id => $theirs, removed => $_ } } }
		  JSON::PP::false, JSON::PP::true ],
	'who, and what');

# 4. Another database

my $error = error_of($node, as(operator => "SELECT tr_schedule('default', '$every')"), $other);
like($error, qr/^55000: pg_cron keeps its jobs in database "postgres"\nDETAIL:  .*cron\.database_name/, 'another database is named');
my ($there) = $error =~ /^HINT:  As a superuser, run this in that database: (SELECT cron\.schedule_in_database\(.*\))$/m;
my $elsewhere = value($node, $there);
is(value($node, "SELECT policy, active, database, username FROM token_rotation.schedules WHERE job_id = $elsewhere"),
	"default|t|$other|operator", 'what it says can be run as it is');
is(value($node, 'SELECT count(*) FROM token_rotation.schedules', $other), '0', 'there the view has no row');
my ($back) = error_of($node, as(operator => q{SELECT tr_unschedule('default')}), $other) =~ /^HINT:  .*: (SELECT cron\.unschedule.*)$/m;
is(value($node, $back), 't', 'nor is the job removed from there, but by what is said');
is(value($node, "SELECT count(*) FROM cron.job WHERE jobid = $elsewhere"), '0', 'it is gone');
value($node, $there);

# 5. It runs

my $doomed = value($node, "SELECT tr_schedule('doomed', '$every')");
$node->safe_psql('postgres', q{DELETE FROM token_rotation.policy WHERE name = 'doomed'});
due('default', 'postgres', 'postgres', 'not ours');
due('default', 'shop', 'postgres', map { "due $_" } 1 .. 3);
due('default', 'shop', $other, 'elsewhere');
poll($node, 'windows are opened', q{SELECT count(*) = 3 FROM token_rotation.unclaimed});
is(unclaimed(), 'due 1 due 2 due 3', 'of the role\'s realms');
poll($node, 'in another database, too', q{SELECT count(*) = 1 FROM token_rotation.unclaimed}, $other);
poll($node, 'the history says how many', has_run($mine, q{status = 'succeeded' AND return_message = 'SELECT 3'}));
poll($node, 'so does the view', last_run($mine, 'succeeded', '^SELECT [03]$'));
poll($node, 'a policy that is gone fails the job', last_run($doomed, 'failed', '^ERROR: policy "doomed" does not exist'));
is(audit_count($node, "event = 'rotation_started' AND actor = 'operator' AND client_addr IS NULL"), 3, 'the trail says who');
set_conf($node, 'token_rotation.rotation_enabled' => 'off');
is(value($node, 'SELECT count(*) FROM (' . value($node, "SELECT command FROM cron.job WHERE jobid = $mine") . ') x'),
	'0', 'rotation off: nothing, and no error');
set_conf($node, 'token_rotation.rotation_enabled' => 'on');

# 6. Client sessions; jobs that are no more

$node->append_conf('postgresql.conf', "cron.use_background_workers = off\ncron.host = '" . $node->host . "'\n");
$node->restart;
due('sessions', 'shop', 'postgres', 'of a session');
my $session = value($node, as(operator => "SELECT tr_schedule('sessions', '$every')"));
is(value($node, as(operator => "SELECT tr_unschedule('default')")), 't', 'removed');
my $removed = value($node, 'SELECT clock_timestamp()');
poll($node, 'a client session does the same', has_run($session, q{status = 'succeeded' AND return_message = '1 row'}));
poll($node, 'more than once', has_run($session, "status = 'succeeded' AND start_time > '$removed'"));
is(unclaimed(), 'due 1 due 2 due 3 of a session', 'it has opened a window');
# a run that pg_cron had begun is over, and it has seen since that the job is gone
$removed = value($node, 'SELECT clock_timestamp()');
$node->safe_psql('postgres', 'SET client_min_messages = warning; DROP EXTENSION token_rotation');
poll($node, 'without the extension a job fails', has_run($session, "status = 'failed' AND start_time > '$removed'"));
is(value($node, has_run($mine, "start_time > '$removed'")), 'f', 'what was removed has not run again');
unlike(join("\n", logged($node)), qr/\Q$token\E|PANIC|terminated by signal/, 'nothing of it in the log');

done_testing();
