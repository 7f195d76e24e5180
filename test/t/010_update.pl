# ALTER EXTENSION UPDATE from every earlier version, under this library.
#
#  1. The version before this one is served before the update: every kind of call
#     works, and so does the worker.  An older one is refused, with what to do.
#  2. The update keeps tokens, their verdicts, audit rows and grants; sessions
#     that go on notice nothing, but know what is new.
#  3. An updated catalog equals a fresh one: functions, relations, columns,
#     constraints, indexes, triggers, policies, types, their comments, owners and
#     privileges, and what is dumped.  Also when another superuser updates, under
#     default privileges that open everything that is made.
#  4. An update that is rolled back leaves the earlier version as it was.
#  5. What depends on a function that is made anew stops the update, with an
#     error that names it, and nothing is changed.
#  6. What default privileges had opened in 0.1, and no preset gives, is taken
#     back; a trigger of somebody's own stops the update.
#  7. An updated database is dumped without a warning, and restored with its
#     grants.
#
# With the library of the earlier version: test/update.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my $node = new_node('update', extension => 0, conf => "token_rotation.worker_nap = '500ms'\n");
my @earlier = split /\n/, value($node, q{
	SELECT version FROM pg_available_extension_versions v JOIN pg_available_extensions a USING (name)
	WHERE name = 'token_rotation' AND version <> default_version ORDER BY 1});
my $newest = value($node, "SELECT default_version FROM pg_available_extensions WHERE name = 'token_rotation'");

$node->safe_psql('postgres', 'CREATE ROLE app; CREATE ROLE boss SUPERUSER; CREATE ROLE prying');
isnt(scalar @earlier, 0, 'there are earlier versions');

# Everything that the extension consists of, as text, without oids.
my $catalog = q{
	SELECT line FROM (
	SELECT concat_ws(' ', 'function', p.oid::regprocedure, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid),
		p.proowner::regrole, p.provolatile, p.proisstrict, p.proparallel, p.prosecdef, p.prosrc,
		(SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(coalesce(p.proacl, acldefault('f', p.proowner))) a),
		obj_description(p.oid, 'pg_proc')) AS line
	FROM pg_proc p WHERE p.pronamespace = 'tr'::regnamespace
	UNION ALL
	SELECT concat_ws(' ', 'relation', c.oid::regclass, c.relkind, c.relpersistence, c.relowner::regrole, c.relrowsecurity,
		c.relforcerowsecurity, c.reloptions,
		(SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) a),
		t.typowner::regrole,
		obj_description(c.oid, 'pg_class'),
		obj_description(t.oid, 'pg_type'), CASE c.relkind WHEN 'v' THEN pg_get_viewdef(c.oid) WHEN 'i' THEN pg_get_indexdef(c.oid) END)
	FROM pg_class c LEFT JOIN pg_type t ON t.oid = c.reltype
	WHERE c.relnamespace IN ('token_rotation'::regnamespace, 'tr'::regnamespace)
	UNION ALL
	SELECT concat_ws(' ', 'column', c.oid::regclass, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
		coalesce(a.attstattarget, -1),
		a.attcollation::regcollation, a.attacl, pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum))
	FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
	LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
	WHERE c.relnamespace IN ('token_rotation'::regnamespace, 'tr'::regnamespace)
	UNION ALL
	SELECT concat_ws(' ', 'constraint', k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid), obj_description(k.oid, 'pg_constraint'))
	FROM pg_constraint k WHERE k.connamespace = 'token_rotation'::regnamespace
	UNION ALL
	SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid), t.tgenabled, obj_description(t.oid, 'pg_trigger'))
	FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
	WHERE c.relnamespace = 'token_rotation'::regnamespace AND NOT t.tgisinternal
	UNION ALL
	SELECT concat_ws(' ', 'policy', c.oid::regclass, p.polname, p.polcmd, p.polpermissive, p.polroles::regrole[],
		pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid), obj_description(p.oid, 'pg_policy'))
	FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE c.relnamespace = 'token_rotation'::regnamespace
	UNION ALL
	SELECT concat_ws(' ', 'schema', n.nspowner::regrole, n.nspacl, obj_description(n.oid, 'pg_namespace'))
	FROM pg_namespace n WHERE n.nspname = 'token_rotation'
	UNION ALL
	SELECT concat_ws(' ', 'dumped', x.id::regclass, x.condition) FROM pg_extension e,
		unnest(e.extconfig, e.extcondition) x (id, condition) WHERE e.extname = 'token_rotation'
	UNION ALL
	SELECT concat_ws(' ', 'member', pg_describe_object(d.classid, d.objid, 0))
	FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid
	WHERE d.deptype = 'e' AND e.extname = 'token_rotation') y};

# A database with the extension of a version, the newest without one.
sub database
{
	my ($name, $version, $before) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$node->safe_psql($name, 'SET client_min_messages = warning; CREATE SCHEMA tr; ' . ($before // '') .
		'; CREATE EXTENSION token_rotation SCHEMA tr ' . ($version ? "VERSION '$version' " : '') . 'CASCADE');
	$node->safe_psql($name, "ALTER DATABASE $name SET search_path = tr");
	return;
}

# One test, which shows the lines that differ.
sub same_catalog
{
	my ($got, $expected, $name) = @_;
	my %got = map { $_->{line} => 1 } rows($node, $catalog, $got);
	my %expected = map { $_->{line} => 1 } rows($node, $catalog, $expected);
	my @differ = ((map { "- $_" } grep { !$got{$_} } sort keys %expected), (map { "+ $_" } grep { !$expected{$_} } sort keys %got));

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(keys %got > 100 && !@differ, $name) or diag(join "\n", @differ);
	return;
}

sub version
{
	return value($node, "SELECT extversion FROM pg_extension WHERE extname = 'token_rotation'", $_[0]);
}

my $opened = 'ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO prying;'
  . ' ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO prying; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO prying;'
  . ' ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO prying; ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO prying';

database('fresh');
is(version('fresh'), $newest, "a fresh installation is of $newest");

# 1., 2., 4. and 7.: the version before this one.
sub served
{
	my ($db, $earlier) = @_;

	# 1. Served
	my ($kept, $ended, $blocked) = map { issue($node, "'$_'", $db) } qw(kept ended blocked);
	my $next = rotate($node, $kept->{token}, undef, $db);
	is($next->{reason}, 'ok', 'it rotates');
	is(value($node, "SELECT tr_revoke('$ended->{token}')", $db), 't', 'revokes');
	is(value($node, "SELECT tr_block_client('blocked')", $db), 't', 'and blocks');
	my @verdicts = ([ $kept->{token}, 'ok' ], [ $next->{token}, 'ok' ], [ $ended->{token}, 'revoked' ], [ $blocked->{token}, 'blocked' ]);
	verdicts_are($node, 'validates many', \@verdicts, $db);
	is(verdict($node, $kept->{token}, $db), 'ok', 'and one');
	poll($node, 'the worker stores uses', "SELECT first_used_at IS NOT NULL FROM token_rotation.token WHERE client_id = 'kept' AND generation = 1", $db);
	value($node, "SELECT tr_grant('app', 'validator'), tr_grant('app', 'issuer')", $db);
	my $granted = "SELECT string_agg(p.proname, ' ' ORDER BY p.proname) FROM pg_proc p"
	  . " WHERE pronamespace = 'tr'::regnamespace AND proname LIKE 'tr\\_%' AND has_function_privilege('app', p.oid, 'EXECUTE')";
	my $before = value($node, $granted, $db);
	my $rows = 'SELECT (SELECT count(*) FROM token_rotation.token), (SELECT count(*) FROM token_rotation.audit)';
	my $counts = value($node, $rows, $db);

	# 4. Not updated
	my $session = $node->background_psql($db);
	is($session->query_safe("SELECT valid FROM tr_validate('$kept->{token}')"), 't', 'a session uses it');
	$node->safe_psql($db, "BEGIN; ALTER EXTENSION token_rotation UPDATE; SELECT * FROM tr_validate('$kept->{token}'); ROLLBACK");
	is(version($db), $earlier, 'an update that is rolled back was none');
	verdicts_are($node, 'and changes no verdict', \@verdicts, $db);

	# 2. Updated
	$node->safe_psql($db, 'ALTER EXTENSION token_rotation UPDATE');
	is(version($db), $newest, "updated to $newest");
	is($session->query_safe("SELECT valid FROM tr_validate('$kept->{token}')"), 't', 'the session goes on');
	verdicts_are($node, 'verdicts are the same', \@verdicts, $db);
	is(value($node, $rows, $db), $counts, 'rows are kept');
	is(value($node, $granted, $db), $before, 'and grants');
	$node->safe_psql($db, "UPDATE token_rotation.policy SET request_role = 'app' WHERE name = 'default'");
	like($session->query_safe(qq{
			BEGIN;
			SELECT tr_pre_request() FROM set_config('request.headers', '{"x-api-key": "$kept->{token}"}', true);
			SELECT current_user;
			COMMIT}), qr/^app$/m, 'and has what is new');
	$node->safe_psql($db, "UPDATE token_rotation.policy SET request_role = NULL WHERE name = 'default'");
	$session->quit;
	is(value($node, "SET ROLE app; SELECT reason FROM tr.tr_issue('app') i, tr.tr_validate(i.token)", $db), 'ok', 'which work');
	my $replay = rotate($node, $kept->{token}, undef, $db);
	ok($replay->{replayed} && $replay->{token} eq $next->{token}, 'a rotation from before is replayed');

	# 7. Dumped
	my $dump = $node->basedir . "/$db.sql";
	my ($out, $err) = run_command([ 'pg_dump', '-d', $node->connstr($db), '-f', $dump ]);
	is($err, '', 'it is dumped without a warning');
	$node->safe_psql('postgres', "CREATE DATABASE restored_$db TEMPLATE template0");
	$node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr("restored_$db"), '-f', $dump ],
		'and restored');
	is(value($node, $granted, "restored_$db"), $before, 'with its grants');
	value($node, "SELECT tr_ungrant('app', 'validator'), tr_ungrant('app', 'issuer')", $db);
	return;
}

# 1. and 2.: an older one.
sub refused
{
	my ($db, $earlier) = @_;

	like(error_of($node, "SELECT tr_issue('x')", $db), qr/^55000: .*does not serve version/, "$earlier is refused");
	$node->safe_psql($db, 'ALTER EXTENSION token_rotation UPDATE');
	is(version($db), $newest, "updated to $newest");
	my $token = issue($node, "'new'", $db)->{token};
	is(verdict($node, $token, $db), 'ok', 'and works');
	return;
}

# 5.: what 0.2 makes anew.
sub depended_on
{
	my ($db, $earlier) = @_;

	$node->safe_psql($db, 'CREATE VIEW public.mine AS SELECT v.valid FROM tr.tr_validate(NULL) v');
	like(error_of($node, 'ALTER EXTENSION token_rotation UPDATE', $db),
		qr/^2BP01: .*public\.mine|^2BP01: .*\n.*view public\.mine/s, 'a view on what is made anew stops it');
	is(version($db), $earlier, 'which changes nothing');
	$node->safe_psql($db, 'DROP VIEW public.mine');
	return;
}

# 6.: what 0.1 had left open.
sub left_open
{
	$node->safe_psql('postgres', 'CREATE DATABASE left_open');
	$node->safe_psql('left_open', "SET client_min_messages = warning; $opened;"
		. " CREATE EXTENSION token_rotation VERSION '0.1' CASCADE; CREATE FUNCTION mine() RETURNS trigger"
		. " LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
		. ' CREATE TRIGGER mine BEFORE INSERT ON token_rotation.token FOR EACH ROW EXECUTE FUNCTION mine()');
	my $has = q{SELECT has_table_privilege('prying', 'token_rotation.token', 'TRIGGER'), count(*) > 0 FROM pg_class c, aclexplode(c.relacl) a
		WHERE c.relnamespace = 'token_rotation'::regnamespace AND a.grantee = 'prying'::regrole AND (c.relname IN ('token', 'token_cache')
			OR a.privilege_type <> 'SELECT' AND c.relname <> 'policy' OR a.privilege_type IN ('TRIGGER', 'TRUNCATE', 'REFERENCES', 'MAINTAIN'))};
	my $create = "SELECT has_schema_privilege('prying', 'token_rotation', 'CREATE')";
	is(value($node, $has, 'left_open'), 't|t', '0.1 was open');
	is(value($node, $create, 'left_open'), 't', 'and its schema');
	like(error_of($node, 'ALTER EXTENSION token_rotation UPDATE', 'left_open'),
		qr/^55000: trigger mine on token_rotation\.token is not the extension's/, 'a trigger of somebody stops the update');
	$node->safe_psql('left_open', 'DROP TRIGGER mine ON token_rotation.token; ALTER EXTENSION token_rotation UPDATE');
	is(value($node, $has, 'left_open'), 'f|f', 'it is taken back');
	is(value($node, $create, 'left_open'), 'f', 'and the schema');
	return;
}

for my $earlier (@earlier)
{
	(my $db = "from_$earlier") =~ tr/./_/;

	database($db, $earlier);
	is(version($db), $earlier, "$earlier is there");
	depended_on($db, $earlier) if $earlier eq '0.1';
	$earlier eq $earlier[-1] ? served($db, $earlier) : refused($db, $earlier);

	# 3. Catalogs
	same_catalog($db, 'fresh', 'the catalogs are equal');
	database("opened_$db", $earlier);
	$node->safe_psql("opened_$db", "$opened; SET SESSION AUTHORIZATION boss; $opened; ALTER EXTENSION token_rotation UPDATE");
	same_catalog("opened_$db", 'fresh', 'also by another superuser, under default privileges');

	left_open() if $earlier eq '0.1';
}

done_testing();
