# What an installation needs, and what it refuses.
#
#  1. Not preloaded: CREATE EXTENSION fails with the line to add, and leaves
#     nothing behind; LOAD works.
#  2. A schema named token_rotation is somebody else's: refused.
#  3. A role token_rotation_worker that is not bare is refused, for each
#     attribute, member, membership, setting and owned object, in whatever
#     database; nothing is left behind.
#  4. A bare one is accepted, also by a second database while the first has the
#     extension; then the schema of the functions is the installer's choice.
#  5. Installed, but no longer preloaded: the functions say so, pg_dump works;
#     preloaded again, everything is as it was.
#  6. Under pg_upgrade (postgres -b) the library loads and starts nothing.
#  7. PREPARE TRANSACTION after a change of tokens is refused, and changes
#     nothing; other transactions may be prepared.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my $create = 'SET client_min_messages = warning; CREATE EXTENSION token_rotation CASCADE';

sub is_clean
{
	my ($node, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(
		value($node,
			"SELECT (SELECT count(*) FROM pg_extension WHERE extname = 'token_rotation')"
			  . " + (SELECT count(*) FROM pg_proc WHERE proname LIKE 'tr\\_%')"
			  . " + (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
			  . " WHERE nspname = 'token_rotation' AND relname <> 'theirs')"),
		'0', $name);
}

# 1. Not preloaded

my $node = new_node('install',
	extension => 0,
	conf => "shared_preload_libraries = ''\nmax_prepared_transactions = 5\n");

my $error = error_of($node, $create);
like($error, qr/^55000: token_rotation must be preloaded/, 'not preloaded: refused');
like($error, qr/HINT: .*^shared_preload_libraries = 'token_rotation'$/ms,
	'the hint has the line to add');
is_clean($node, 'nothing is left behind');
is(value($node, "SELECT count(*) FROM pg_roles WHERE rolname = 'token_rotation_worker'"),
	'0', 'no role either');
is(error_of($node, "LOAD 'token_rotation'"), '', 'LOAD works without preloading');
is(value($node, "LOAD 'token_rotation'; SELECT 'alive'"), 'alive', 'and harms nothing');

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'token_rotation'\n");
$node->restart;
isnt(pid_of($node, 'token_rotation launcher'), '0', 'preloaded: the launcher runs');

# 2. The schema is taken

$node->safe_psql('postgres',
	'CREATE SCHEMA token_rotation; CREATE TABLE token_rotation.theirs ()');
is(sqlstate_of($node, $create), '42P06', 'a schema of that name: refused');
is_clean($node, 'nothing is left behind');
is(value($node, "SELECT count(*) FROM pg_roles WHERE rolname = 'token_rotation_worker'"),
	'0', 'no role either');
$node->safe_psql('postgres', 'DROP SCHEMA token_rotation CASCADE');

# 3. Roles that are not bare

my $role = 'token_rotation_worker';
$node->safe_psql('postgres', 'CREATE ROLE somebody; CREATE DATABASE other');
my @faults = (
	[ 'has SUPERUSER', "ALTER ROLE $role SUPERUSER", "ALTER ROLE $role NOSUPERUSER" ],
	[ 'has CREATEROLE', "ALTER ROLE $role CREATEROLE", "ALTER ROLE $role NOCREATEROLE" ],
	[ 'has CREATEDB', "ALTER ROLE $role CREATEDB", "ALTER ROLE $role NOCREATEDB" ],
	[ 'has LOGIN', "ALTER ROLE $role LOGIN", "ALTER ROLE $role NOLOGIN" ],
	[ 'has REPLICATION', "ALTER ROLE $role REPLICATION", "ALTER ROLE $role NOREPLICATION" ],
	[ 'has BYPASSRLS', "ALTER ROLE $role BYPASSRLS", "ALTER ROLE $role NOBYPASSRLS" ],
	[
		'has a connection limit',
		"ALTER ROLE $role CONNECTION LIMIT 3",
		"ALTER ROLE $role CONNECTION LIMIT -1"
	],
	[ 'has a password', "ALTER ROLE $role PASSWORD 'x'", "ALTER ROLE $role PASSWORD NULL" ],
	[
		'has a VALID UNTIL',
		"ALTER ROLE $role VALID UNTIL '2000-01-01'",
		"DROP ROLE $role; CREATE ROLE $role"
	],
	[
		'has settings of its own',
		"ALTER ROLE $role SET work_mem = '1MB'",
		"ALTER ROLE $role RESET work_mem"
	],
	[
		'has settings of its own',
		"ALTER ROLE $role IN DATABASE other SET work_mem = '1MB'",
		"ALTER ROLE $role IN DATABASE other RESET work_mem"
	],
	[ 'has members', "GRANT $role TO somebody", "REVOKE $role FROM somebody" ],
	[ 'is a member of another role', "GRANT somebody TO $role", "REVOKE somebody FROM $role" ],
	[
		'owns objects',
		"CREATE TABLE theirs (); ALTER TABLE theirs OWNER TO $role",
		'DROP TABLE theirs'
	],
	[
		'owns objects',
		"ALTER DATABASE other OWNER TO $role",
		'ALTER DATABASE other OWNER TO postgres'
	]
);
# the superuser of the test may be called otherwise
my $superuser = value($node, 'SELECT current_user');
$node->safe_psql('postgres', "CREATE ROLE $role");
for my $fault (@faults)
{
	my ($detail, $give, $take) = @$fault;

	$take =~ s/OWNER TO postgres/OWNER TO "$superuser"/;
	$node->safe_psql('postgres', $give);
	like(error_of($node, $create), qr/^42710: role "$role" exists and is not bare.*\Q$detail\E/s,
		"a role that $detail: refused");
	$node->safe_psql('postgres', $take);
}
$node->safe_psql('postgres', "ALTER ROLE $role LOGIN CREATEDB");
like(error_of($node, $create), qr/has CREATEDB, has LOGIN/, 'the detail names every fault');
$node->safe_psql('postgres', "ALTER ROLE $role NOLOGIN NOCREATEDB");
$node->safe_psql('other', "CREATE TABLE theirs (); ALTER TABLE theirs OWNER TO $role");
like(error_of($node, $create), qr/owns objects/, 'an object in another database: refused');
$node->safe_psql('other', 'DROP TABLE theirs');
is_clean($node, 'nothing is left behind');

# 4. A bare one

is(error_of($node, $create), '', 'a bare role is accepted');
$node->safe_psql('other',
	"SET client_min_messages = warning; CREATE SCHEMA tr;"
	  . ' CREATE EXTENSION token_rotation SCHEMA tr CASCADE');
is( value($node,
		"SELECT string_agg(DISTINCT nspname, ' ') FROM pg_proc p"
		  . " JOIN pg_namespace n ON n.oid = p.pronamespace WHERE proname LIKE 'tr\\_%'", 'other'),
	'tr', 'a second database: accepted, with the functions in a schema of choice');
is( value($node,
		"SELECT v.reason FROM tr.tr_issue('client') i, LATERAL tr.tr_validate(i.token) v", 'other'),
	'ok', 'they work there');

# 5. No longer preloaded

my $kept = issue($node, "'kept'");
my $revoked = issue($node, "'kept'");
value($node, "SELECT tr_revoke('$revoked->{token}')");
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
for my $call ("tr_validate('$kept->{token}')", "tr_issue('c')", "tr_rotate('$kept->{token}')",
	"tr_revoke('$kept->{token}')", 'tr_sweep()')
{
	my ($verb) = $call =~ /^(\w+)/;
	like(error_of($node, "SELECT $call"),
		qr/^55000: token_rotation is not preloaded.*HINT: .*shared_preload_libraries = 'token_rotation'/s,
		"not preloaded any more: $verb says so");
}
like(error_of($node, "UPDATE token_rotation.policy SET ttl = '2 h' WHERE name = 'default'"),
	qr/^55000: /, 'policies cannot be edited then');
$node->command_ok(
	[ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $node->basedir . '/dump.sql' ],
	'pg_dump works without preloading');

# 6. Under pg_upgrade

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'token_rotation'\n");
$node->stop;
system_or_bail('pg_ctl', '-w', '-D', $node->data_dir, '-l', $node->logfile, '-o', '-b', 'start');
is( value($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'token_rotation%'"),
	'0', 'in binary-upgrade mode nothing is started');
is(verdict($node, $kept->{token}), 'ok', 'and the library works');
system_or_bail('pg_ctl', '-w', '-D', $node->data_dir, '-m', 'fast', 'stop');
$node->start;
verdicts_are($node, 'preloaded again, tokens are as they were',
	[ [ $kept->{token}, 'ok' ], [ $revoked->{token}, 'revoked' ] ]);

# 7. PREPARE TRANSACTION

my %verb = (
	tr_issue => "tr_issue('prepared')",
	tr_rotate => "tr_rotate('$kept->{token}')",
	tr_revoke => "tr_revoke('$kept->{token}')",
	tr_revoke_client => "tr_revoke_client('kept')",
	tr_block_client => "tr_block_client('kept')",
	tr_sweep => 'tr_sweep()');
# What a transaction says when it is to be prepared; if it was, it is rolled back.
sub prepare
{
	my ($statements) = @_;
	my $error = error_of($node, "BEGIN; $statements; PREPARE TRANSACTION 'p'");

	value($node, "ROLLBACK PREPARED 'p'") if $error eq '';
	return $error;
}

for my $verb (sort keys %verb)
{
	like(prepare("SELECT $verb{$verb}"),
		qr/^0A000: cannot PREPARE a transaction that changed tokens.*HINT: /s,
		"$verb cannot be prepared");
}
like(prepare("SAVEPOINT s; SELECT tr_revoke('$kept->{token}'); ROLLBACK TO s"),
	qr/^0A000: /, 'nor what was rolled back to a savepoint');
is(value($node, 'SELECT count(*) FROM pg_prepared_xacts'), '0', 'nothing was prepared');
is(verdict($node, $kept->{token}), 'ok', 'and nothing changed');
is( value($node,
		"SELECT count(*) FROM token_rotation.tokens WHERE client_id = 'prepared' OR predecessor_id IS NOT NULL"),
	'0', 'no token was made');
is(prepare("CREATE TABLE t (); SELECT tr_validate('$kept->{token}')"),
	'', 'a transaction that only validates may be prepared');
is(prepare("SELECT tr_revoke('$kept->{token}'); ROLLBACK; BEGIN; CREATE TABLE t ()"),
	'', 'and so may the next one after a rollback');

done_testing();
