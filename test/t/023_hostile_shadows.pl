# Ways to make the extension's code, or its roles, do somebody else's will.
#
#  1. Who may become the role that the trail is written as (a CREATEROLE user on
#     15, its login on all): writes no row of it, by no statement, also with
#     session_replication_role = replica; and BYPASSRLS with every privilege
#     writes and removes none.
#  2. A CREATEROLE user renames that role, and makes one of its name: nothing is
#     done then that could not be recorded.
#  3. token_rotation.realm, forged by every means that a setting has: refused. A
#     SECURITY DEFINER function that pins it is not misled by its caller.
#  4. session_replication_role = replica, granted to an operator: the verbs do
#     and record the same, and other sessions see it at once.
#  5. No setting that a role may change for itself changes an answer.
#  6. Functions, operators, types and tables of the names that the code uses, in
#     pg_temp and in public, which would make their caller a superuser: nobody
#     is one afterwards.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use Hostile;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my ($node, $tokens) = hostile_node('hostile_shadows');
my $tried = 0;

# 1. The worker's role

my $values = q{(seq, at, event, actor, role, xid) VALUES (1, now(), 'forged', 'x', 'x', '1')};
my @forge = (
	["INSERT INTO token_rotation.audit $values"],
	["INSERT INTO token_rotation.audit $values ON CONFLICT DO NOTHING"],
	["WITH x AS (INSERT INTO token_rotation.audit $values RETURNING 1) TABLE x"],
	[q{MERGE INTO token_rotation.audit a USING (VALUES (1)) v ON false WHEN NOT MATCHED THEN INSERT
		(seq, at, event, actor, role, xid) VALUES (1, now(), 'forged', 'x', 'x', '1')}],
	["COPY token_rotation.audit (seq, at, event, actor, role, xid) FROM STDIN\n1\tnow\tforged\tx\tx\t1", 'SELECT 1'],
	[q{DO $$ BEGIN INSERT INTO token_rotation.audit (seq, at, event, actor, role, xid)
		VALUES (1, now(), 'forged', 'x', 'x', '1'); END $$}],
	[q{UPDATE token_rotation.audit SET actor = 'x'}],
	['DELETE FROM token_rotation.audit'],
	['TRUNCATE token_rotation.audit'],
	['ALTER TABLE token_rotation.audit DISABLE TRIGGER ALL'],
	['GRANT INSERT ON token_rotation.audit TO PUBLIC WITH GRANT OPTION']);
$node->safe_psql('postgres', q{
	CREATE ROLE mighty LOGIN BYPASSRLS;
	GRANT pg_read_all_data, pg_write_all_data TO mighty;
	GRANT TRUNCATE, TRIGGER ON token_rotation.audit TO mighty;
	GRANT SET ON PARAMETER session_replication_role TO creator, token_rotation_worker, mighty, operator});
my $before = digest($node);
# (psql does not tell of an error in the data of COPY: the transaction does)
for my $first ([], ['SET LOCAL session_replication_role = replica'],
	['SET LOCAL ROLE token_rotation_worker'],
	[ 'SET LOCAL session_replication_role = replica', 'SET LOCAL ROLE token_rotation_worker' ])
{
	for my $role (qw(creator token_rotation_worker mighty))
	{
		next if $role eq 'mighty' && grep { /ROLE token/ } @$first;
		my ($outcomes) = cases_as($node, $role, map { [ @$first, @$_ ] } @forge);
		my @done = grep { $outcomes->[$_] !~ /^(?:42501|0A000|25P02)$/ } 0 .. $#forge - 1;

		$tried += @forge;
		is(join('; ', map { "$forge[$_][0]: $outcomes->[$_]" } @done), '',
			join(', ', $role, @$first) . ': forges nothing');
	}
}
is(digest($node), $before, 'the trail is what it was');

# 2. Another role of that name

SKIP:
{
	skip 'a CREATEROLE user has no power over roles that others made', 5 if $node->pg_version >= 16;
	my $live = issue($node, "'renamed'");
	my ($out, $error) = run_as($node, 'creator', 'ALTER ROLE token_rotation_worker RENAME TO renamed');
	is($error, '', 'renamed');
	like(error_of($node, "SELECT tr_revoke('$live->{token}')"), qr/^42704: role "token_rotation_worker" does not exist/,
		'nothing is done that could not be recorded');
	run_as($node, 'creator', 'CREATE ROLE token_rotation_worker');
	is(sqlstate_of($node, "SELECT tr_revoke('$live->{token}')"), '42501', 'nor as somebody of that name');
	is(verdict($node, $live->{token}), 'ok', 'validation goes on');
	run_as($node, 'creator', 'DROP ROLE token_rotation_worker; ALTER ROLE renamed RENAME TO token_rotation_worker');
	is(value($node, "SELECT tr_revoke('$live->{token}')"), 't', 'with its name again, so does the rest');
	$tried += 5;
}

# 3. A forged realm

$node->safe_psql('postgres', q{
	GRANT CREATE ON SCHEMA public TO rival, operator, nobody;
	GRANT USAGE ON SCHEMA tr TO nobody});
my $issue = q{SELECT owner FROM tr_issue('forged')};
my @realms = (
	['SET token_rotation.realm = shop', $issue],
	['SET LOCAL token_rotation.realm = shop', $issue],
	[q{SELECT set_config('token_rotation.realm', 'shop', true)}, $issue],
	[qq{CREATE FUNCTION f() RETURNS text LANGUAGE sql SET token_rotation.realm = shop AS \$\$ $issue \$\$}, 'SELECT f()'],
	['SET token_rotation.realm = shop', q{SELECT tr_revoke_client('shop client')}],
	['SET token_rotation.realm = shop', q{SELECT tr_block_client('shop client')}],
	['SET token_rotation.realm = "SHOP"', $issue],
	['SET token_rotation.realm = pg_read_all_data', $issue],
	['SET token_rotation.realm = postgres', $issue],
	['SET token_rotation.realm = token_rotation_worker', $issue]);
my ($outcomes) = cases_as($node, 'rival', @realms);
is(join(' ', @$outcomes), join(' ', map { /SHOP/ ? 42704 : 42501 } map { $_->[0] } @realms), 'forged realms are refused');
$tried += @realms;
{
	local $ENV{PGOPTIONS} = '-c token_rotation.realm=shop';
	my (undef, $error) = run_as($node, 'rival', $issue);
	like($error, qr/ERROR:  42501/, 'also from the command line');
}
run_as($node, 'rival', 'ALTER ROLE rival SET token_rotation.realm = shop');
my (undef, $error) = run_as($node, 'rival', $issue);
like($error, qr/ERROR:  42501/, 'and from the role');
run_as($node, 'rival', 'ALTER ROLE rival SET token_rotation.realm = rivals');
run_as($node, 'issuer', qq{CREATE FUNCTION pg_temp.x() RETURNS int LANGUAGE sql AS 'SELECT 1'});
$node->safe_psql('postgres', qq{
	CREATE FUNCTION public.pinned() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = tr, pg_temp
		SET token_rotation.realm = shop AS \$\$ $issue \$\$;
	ALTER FUNCTION public.pinned() OWNER TO issuer});
my ($pinned) = run_as($node, 'nobody', 'SET token_rotation.realm = rivals; SELECT pinned()');
is($pinned, 'shop', 'a function that pins its realm keeps it');
is(value($node, q{SELECT actor, role FROM token_rotation.audit WHERE client_id = 'forged'}), 'nobody|issuer',
	'and the trail names both');

# 4. session_replication_role

my $replica = 'SET session_replication_role = replica; SET token_rotation.realm = shop;';
$node->safe_psql('postgres', q{SELECT tr_grant('operator', 'issuer'), tr_grant('operator', 'validator')});
my ($made) = run_as($node, 'operator', "$replica SELECT token FROM tr_issue('replica')");
is(verdict($node, $made), 'ok', 'replica: issued');
my ($moved) = run_as($node, 'operator', "$replica SELECT token FROM tr_rotate('$made')");
verdicts_are($node, 'replica: rotated', [ [ $made, 'ok' ], [ $moved, 'ok' ] ]);
run_as($node, 'operator', "$replica SELECT tr_revoke('$made')");
verdicts_are($node, 'replica: revoked', [ [ $made, 'revoked' ], [ $moved, 'ok' ] ]);
my $watcher = $node->background_psql('postgres');
is($watcher->query_safe("SELECT reason FROM tr_validate('$moved')"), 'ok', 'another session has its copy of the cutoffs');
run_as($node, 'operator', "$replica SELECT tr_revoke_client('replica')");
is($watcher->query_safe("SELECT reason FROM tr_validate('$moved')"), 'cutoff', 'replica: a cutoff counts there at once');
$watcher->quit;
is(value($node, q{SELECT string_agg(event, ' ' ORDER BY seq) FROM token_rotation.audit WHERE client_id = 'replica'}),
	'issued rotated revoked cutoff', 'replica: all is recorded');
is(value($node, q{SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
		WHERE c.relnamespace = 'token_rotation'::regnamespace AND t.tgenabled <> 'A'}), '0', 'no trigger sleeps then');
$tried += 6;

# 5. Settings

$node->safe_psql('postgres', q{
	CREATE FUNCTION public.life() RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		i record;
		r record;
		answers text;
	BEGIN
		SELECT * INTO i FROM tr.tr_issue('a life', 'default', '{x,y}', '{"a": [1, "b"]}', '90 minutes');
		SELECT * INTO r FROM tr.tr_rotate(i.token, overlap => '1 minute');
		answers := pg_catalog.concat_ws(' ',
			(SELECT pg_catalog.string_agg(v.reason || v.scopes::text || v.metadata::text, ' ' ORDER BY ord)
				FROM tr.tr_validate_many(ARRAY[i.token, r.token]) v),
			(SELECT replayed AND x.token = r.token FROM tr.tr_rotate(i.token) x),
			(SELECT reason FROM tr.tr_rotate('junk')),
			tr.tr_extend_overlap(i.token_id, '1 minute') IS NOT NULL,
			(SELECT pg_catalog.string_agg(status, ' ' ORDER BY generation) FROM token_rotation.tokens
				WHERE family_id = i.token_id),
			tr.tr_finish_overlap(i.token_id), tr.tr_block_client('a life'), tr.tr_block_client('a life', false),
			tr.tr_revoke(r.token), tr.tr_revoke_client('a life') IS NOT NULL,
			(SELECT reason FROM tr.tr_validate(r.token)), tr.tr_sweep() >= 0, tr.tr_prune('2001-01-01'));
		-- (the replay comes by the worker, and stays)
		answers := pg_catalog.concat_ws(' ', answers, (SELECT pg_catalog.string_agg(event, ' ' ORDER BY seq)
			FROM token_rotation.audit WHERE client_id = 'a life' AND event NOT IN ('replayed', 'replayed_after_use')));
		IF answers IS DISTINCT FROM 'ok{x,y}{"a": [1, "b"]} ok{x,y}{"a": [1, "b"]} t malformed t rotating active t t t t t'
			' revoked t 0 issued rotated overlap_extended overlap_finished blocked unblocked revoked cutoff' THEN
			RAISE SQLSTATE 'LIFE0' USING MESSAGE = answers;
		END IF;
		RETURN 'as ever';
	END $$});
my @settings = split /\n/, value($node, q{
	SELECT format('SET LOCAL %I = %L', name, v) FROM pg_settings, LATERAL (
		SELECT unnest(CASE vartype WHEN 'bool' THEN '{on,off}' WHEN 'enum' THEN enumvals END) v
		UNION SELECT unnest(ARRAY[min_val, max_val]) WHERE vartype IN ('integer', 'real')) l
	WHERE context = 'user' AND name NOT IN ('transaction_read_only', 'exit_on_error', 'row_security')
	UNION ALL SELECT x FROM unnest(ARRAY['SET LOCAL search_path = pg_temp', 'SET LOCAL search_path = ''''',
		'SET LOCAL DateStyle = ''SQL, DMY''', 'SET LOCAL TimeZone = ''Pacific/Apia''',
		'SET LOCAL default_text_search_config = ''pg_catalog.german''', 'SET LOCAL client_encoding = ''LATIN1''',
		'SET LOCAL standard_conforming_strings = off']) x ORDER BY 1});
my ($lives, $text) = cases_as($node, 'operator', [ 'SELECT public.life()' ],
	map { [ $_, 'SELECT public.life()' ] } @settings);
is(shift @$lives, 'ok 1', 'a life') or diag(join "\n", ($text =~ /ERROR: .*/g)[0 .. 2]);
is(join("\n", map { "$settings[$_]: $lives->[$_]" } grep { $lives->[$_] ne 'ok 1' } 0 .. $#settings), '',
	'no setting changes an answer');
cmp_ok(scalar(@settings), '>', 200, 'there are settings');
my ($read_only) = cases_as($node, 'operator', [ 'SET LOCAL transaction_read_only = on', 'SELECT public.life()' ]);
is($read_only->[0], '25006', 'read only is read only');
my ($no_rows) = cases_as($node, 'operator', [ 'SET LOCAL row_security = off', 'TABLE token_rotation.audit' ],
	[ 'SET LOCAL row_security = off', 'SELECT status FROM tr_issue(\'off\')' ]);
is("@$no_rows", '42501 ok 1', 'without row security nothing is read, and the verbs work');
$tried += @settings;

# 6. Shadows that would be worth it

my $traps = q{
	SET search_path = #s, public;
	CREATE FUNCTION #s.gain() RETURNS int LANGUAGE plpgsql AS
		$$ BEGIN EXECUTE 'ALTER ROLE nobody SUPERUSER'; RETURN 1; EXCEPTION WHEN OTHERS THEN RETURN 1; END $$;
	DO $do$
	DECLARE f record; BEGIN
		FOR f IN SELECT DISTINCT p.proname, pg_get_function_identity_arguments(p.oid) AS args,
				format_type(p.prorettype, NULL) AS result
			FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f'
			AND p.proname IN ('sha256', 'uuid_send', 'pg_has_role', 'isfinite', 'octet_length', 'jsonb_typeof',
				'array_position', 'pg_column_size', 'clock_timestamp', 'texteq', 'uuid_eq', 'timestamptz_lt', 'aclexplode',
				'acldefault', 'has_sequence_privilege', 'jsonb_in', 'inet_in', 'nextval')
			AND NOT p.proretset
		LOOP
			BEGIN EXECUTE format('CREATE FUNCTION #s.%I(%s) RETURNS %s LANGUAGE sql AS $f$ SELECT #s.gain(); SELECT NULL::%s $f$',
				f.proname, f.args, f.result, f.result);
			EXCEPTION WHEN OTHERS THEN NULL; END;
		END LOOP;
		FOR f IN SELECT oprname, format_type(oprleft, NULL) AS l, format_type(oprright, NULL) AS r FROM pg_operator
			WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprname IN ('=', '<', '>', '<=', '>=', '<>', '~', '||', '+', '-')
			AND oprleft <> 0 AND oprright <> 0 AND oprleft::regtype::text !~ '^any' AND oprright::regtype::text !~ '^any'
		LOOP
			BEGIN EXECUTE format('CREATE FUNCTION #s.op(%s, %s) RETURNS boolean LANGUAGE sql AS $f$ SELECT #s.gain(); SELECT true $f$',
				f.l, f.r);
			EXCEPTION WHEN OTHERS THEN NULL; END;
			BEGIN EXECUTE format('CREATE OPERATOR #s.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = #s.op)', f.oprname, f.l, f.r);
			EXCEPTION WHEN OTHERS THEN NULL; END;
		END LOOP;
		FOR f IN SELECT unnest('{uuid,timestamptz,text,jsonb,bytea,interval,int8,inet,xid8}'::text[]) AS t LOOP
			EXECUTE format('CREATE DOMAIN #s.%I AS pg_catalog.int4 CHECK (#s.gain() > 1)', f.t);
		END LOOP;
		FOR f IN SELECT unnest('{token,token_cache,audit,policy,cutoff,blocked_client,pg_roles,pg_authid,pg_class}'::text[]) AS t LOOP
			EXECUTE format('CREATE VIEW #s.%I AS SELECT #s.gain()', f.t);
		END LOOP;
	END $do$;
	SET search_path = #s, public, pg_catalog;
};
# (without an operator or a type of its own, which would be the shadows' indeed)
my $plain = q{
	SELECT token, token_id FROM tr.tr_issue('shadowed', 'partner') \gset
	SELECT token, token_id FROM tr.tr_issue('shadowed') \gset
	SELECT token AS next FROM tr.tr_rotate(:'token') \gset
	SELECT reason, replayed FROM tr.tr_rotate(:'token');
	SELECT tr.tr_finish_overlap(:'token_id');
	SELECT reason FROM tr.tr_validate(:'next');
	SELECT tr.tr_revoke_id(:'token_id', 'x', true);
	SELECT tr.tr_block_client('shadowed'), tr.tr_block_client('shadowed', false);
	SELECT reason FROM tr.tr_validate(:'next');
	SELECT tr.tr_sweep(), tr.tr_prune('2001-01-01');
	SELECT pg_catalog.bool_or(true) FROM token_rotation.tokens;
	SELECT pg_catalog.bool_or(true) FROM token_rotation.audit;
	SELECT pg_catalog.bool_or(true) FROM token_rotation.cutoff;
};
my $answers = "ok|t\nt\nok\n1\nt|t\nrevoked\n0|0\nt\nt\nt";
for my $schema (qw(pg_temp public))
{
	(my $script = $traps) =~ s/#s/$schema/g;
	# a superuser and an operator live by the path that nobody has prepared; of
	# pg_temp, each has one's own
	my ($out, $err);
	for my $role ($schema eq 'public' ? ('nobody', 'operator') : 'operator')
	{
		($out, $err) = run_as($node, $role, ($role ne 'operator' || $schema eq 'pg_temp' ? $script : '')
			  . ($role eq 'nobody' ? '' : "SET search_path = $schema, pg_catalog; $plain"));
	}
	unlike($err, qr/ERROR/, "shadows in $schema: no error");
	is($out, $answers, "shadows in $schema: an operator's life");
	$tried += 13;
}
cmp_ok(value($node, q{SELECT count(*) FROM pg_operator WHERE oprnamespace = 'public'::regnamespace}),
	'>', 200, 'there are shadows');
value($node, q{SET search_path = public, pg_catalog; SELECT tr.tr_sweep(); SELECT tr.tr_revoke_client('x');
	SELECT pg_catalog.count(*) FROM token_rotation.tokens; SELECT tr.tr_block_client('x');
	UPDATE token_rotation.policy SET overlap = '1 minute'; SELECT tr.tr_grant('nobody', 'validator', 'rivals')});
is(value($node, q{SET search_path = pg_catalog; SELECT rolname FROM pg_roles WHERE rolsuper}),
	value($node, 'SELECT current_user'), 'nobody is a superuser who was none');

note("tried: $tried cases, " . @settings . ' settings among them');
done_testing();
