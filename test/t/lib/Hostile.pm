# The roles of the hostile tests, tokens of two realms that they may not all
# see, and what must appear in nobody's sight.
#
# Every role logs in for itself: SET ROLE from a superuser's session would keep
# its session user.  Before the extension is made, its future owner's default
# privileges give everything to nobody, and a bare role is planted.
package Hostile;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

our @EXPORT = qw(hostile_node @ROLES run_as cases_as digest secrets others_of);

# Presets are given in the realm shop, but for rival and auditor.
our @ROLES = qw(nobody validator issuer operator auditor rival reader writer bypass
  allseeing dbowner creator token_rotation_worker replicator monitor signaller);

# wal_level lets the replication role decode; the worker comes when it is asked.
my $conf = q(
wal_level = logical
max_replication_slots = 4
max_wal_senders = 4
token_rotation.worker_nap = '1h'
);

my $roles = q{
	CREATE ROLE token_rotation_worker;
	CREATE ROLE nobody LOGIN;
	CREATE ROLE validator LOGIN;
	CREATE ROLE issuer LOGIN;
	CREATE ROLE operator LOGIN;
	CREATE ROLE auditor LOGIN;
	CREATE ROLE rival LOGIN;
	CREATE ROLE reader LOGIN;
	CREATE ROLE writer LOGIN;
	CREATE ROLE bypass LOGIN BYPASSRLS;
	CREATE ROLE allseeing LOGIN BYPASSRLS;
	CREATE ROLE dbowner LOGIN;
	CREATE ROLE creator LOGIN CREATEROLE;
	CREATE ROLE replicator LOGIN REPLICATION;
	CREATE ROLE monitor LOGIN;
	CREATE ROLE signaller LOGIN;
	GRANT pg_read_all_data TO reader, allseeing;
	GRANT pg_write_all_data TO writer;
	GRANT pg_monitor TO monitor;
	GRANT pg_signal_backend TO signaller;
	ALTER DATABASE postgres OWNER TO dbowner;
	CREATE ROLE shop;
	CREATE ROLE rivals;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO nobody;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO nobody;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO nobody;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO nobody;
	ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO nobody};
my $install = q{
	SET client_min_messages = warning;
	CREATE SCHEMA tr;
	REVOKE ALL ON SCHEMA tr FROM nobody;
	CREATE EXTENSION token_rotation SCHEMA tr CASCADE;
	ALTER DATABASE postgres SET search_path = public, tr;
	ALTER DEFAULT PRIVILEGES REVOKE ALL ON SCHEMAS FROM nobody;
	ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM nobody;
	ALTER DEFAULT PRIVILEGES REVOKE ALL ON SEQUENCES FROM nobody;
	ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM nobody;
	ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM nobody};
my $grants = q{
	SELECT tr_grant(p, p, 'shop') FROM unnest('{validator,issuer,operator}'::text[]) p;
	SELECT tr_grant('rival', p, 'rivals') FROM unnest('{validator,issuer,operator}'::text[]) p;
	SELECT tr_grant('auditor', 'auditor');
	ALTER ROLE issuer SET token_rotation.realm = shop;
	ALTER ROLE operator SET token_rotation.realm = shop;
	ALTER ROLE rival SET token_rotation.realm = rivals;
	INSERT INTO token_rotation.risk_rule (policy, kind, pattern, score) VALUES ('internal', 'history', 'reuse', 50);
	ALTER ROLE token_rotation_worker LOGIN};

# Tokens of a realm: one rotated, whose nonce is there, one with a rotation key,
# one revoked, one leaked; a cutoff and a block.  Whatever text the realm chose has its name
# one revoked, one that is delivered; a cutoff and a block.  Whatever text the realm chose has its name
# in it.
sub fill
{
	my ($node, $realm) = @_;
	my $key = literal(slurp_file("$FindBin::RealBin/../public_key.asc"));

	value($node, qq{
		SET token_rotation.realm = '$realm';
		SELECT tr_set_delivery_key('$realm sealed', $key), tr_issue('$realm sealed', 'sealed');
		UPDATE token_rotation.token SET refresh_at = issued_at WHERE client_id = '$realm sealed'});
	# (the worker, who fills the cache again, may hold it at first)
	$node->poll_query_until('postgres', qq{
		SELECT EXISTS (SELECT FROM token_rotation.delivery WHERE owner = '$realm')
			OR (SELECT count(*) < 0 FROM tr_rotate_due())}) or die 'nothing was delivered';

	return row($node, qq{
		SELECT i.token, i.token_id, r.token AS next, k.token AS keyed, k.rotation_key
		FROM tr_issue('$realm client', 'default', '{$realm-scope}', '{"$realm-data": 1}') i,
			tr_rotate(i.token, origin => '$realm origin') r,
			tr_issue('$realm keyed', 'partner') k,
			tr_issue('$realm gone') g, tr_revoke(g.token, '$realm reason') x,
			tr_issue('$realm leaked') l, tr_report_leak(l.token) y,
			tr_revoke_client('$realm cut', '$realm cutoff'), tr_block_client('$realm blocked')
	}, undef, "SET token_rotation.realm = '$realm'");
}

# The server, and the tokens by realm.
sub hostile_node
{
	my ($name) = @_;
	my $node = new_node($name, conf => $conf, extension => 0);
	my %tokens;

	# several statements, none in a transaction of the others
	$node->safe_psql('postgres', $_) for $roles, $install, $grants,
	  q{INSERT INTO token_rotation.policy (name, delivery) VALUES ('sealed', 'sealed')};
	# on 15 a CREATEROLE user makes himself a member of whatever role; later he
	# needs a superuser for it
	my $joined = $node->psql('postgres', 'GRANT token_rotation_worker TO creator',
		extra_params => [ '-U', 'creator' ]);
	$node->safe_psql('postgres', 'GRANT token_rotation_worker TO creator') if $joined != 0;
	$tokens{$_} = fill($node, $_) for 'shop', 'rivals';
	value($node, "SELECT tr_revoke_client('anybody cut'), tr_block_client('anybody blocked')");
	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM token_rotation.token_cache WHERE status IS NULL")
	  or die 'the cache was not filled';
	value($node, "SET SESSION AUTHORIZATION operator; SELECT tr_ack('mine', 0); SET SESSION AUTHORIZATION rival; SELECT tr_ack('theirs', 0)");
	return ($node, \%tokens);
}

# Run a script as a role; returns what it printed and its messages.
sub run_as
{
	my ($node, $role, $script, @more) = @_;
	my ($out, $err) = ('', '');

	$node->psql('postgres', $script,
		stdout => \$out,
		stderr => \$err,
		on_error_stop => 0,
		extra_params => [ '-U', $role, '-v', 'VERBOSITY=verbose', @more ]);
	return ($out, $err);
}

# Run statements as a role, each case in a transaction that is rolled back.  A
# case is a list of statements; lines after COPY FROM STDIN are its data.  Returns for each the SQLSTATE of the first
# statement that failed, or "ok" and the rows of the last one; then all that
# was printed.
sub cases_as
{
	my ($node, $role, @cases) = @_;
	my $script = "\\pset null ''\n";

	for my $case (@cases)
	{
		$script .= "\\echo \@case\nBEGIN;\n";
		$script .= "$_\n\\echo \@state :SQLSTATE :ROW_COUNT\n"
		  for map { /^(COPY [^\n]* FROM STDIN)(\n.*)?/ ? "$1;" . ($2 // '') . "\n\\." : "$_;" } @$case;
		$script .= "ROLLBACK;\n";
	}
	my ($out, $err) = run_as($node, $role, "$script\\echo \@case\n");
	my @outcomes;
	my (undef, @parts) = split /^\@case$/m, $out, -1;

	pop @parts;
	for my $part (@parts)
	{
		my @states = $part =~ /^\@state (\S+ \d+)$/mg;
		my ($failed) = grep { !/^00000/ } @states;

		push @outcomes, defined $failed ? substr($failed, 0, 5) : 'ok ' . substr($states[-1], 6);
	}
	die "$role: " . @outcomes . " outcomes of " . @cases . " cases: $err" if @outcomes != @cases;
	return (\@outcomes, "$out\n$err");
}

# All that nobody may have changed: the rows of the tables, and who owns, may
# use, guards and calls what.  Not what the worker keeps of usage.
sub digest
{
	my ($node) = @_;

	return value($node, q{
		SELECT md5(string_agg(x, '' ORDER BY x)) FROM (
			SELECT concat_ws(' ', 'token', to_jsonb(t) - 'first_used_at' - 'last_used_at') FROM token_rotation.token t
			UNION ALL SELECT concat_ws(' ', 'cache', token_id, status, nonce, secret_hash) FROM token_rotation.token_cache
			UNION ALL SELECT concat_ws(' ', 'policy', p) FROM token_rotation.policy p
			UNION ALL SELECT concat_ws(' ', 'risk rule', r) FROM token_rotation.risk_rule r
			UNION ALL SELECT concat_ws(' ', 'cutoff', c) FROM token_rotation.cutoff c
			UNION ALL SELECT concat_ws(' ', 'block', b) FROM token_rotation.blocked_client b
			UNION ALL SELECT concat_ws(' ', 'delivery', d) FROM token_rotation.delivery d
			UNION ALL SELECT concat_ws(' ', 'delivery key', k) FROM token_rotation.delivery_key k
			UNION ALL SELECT concat_ws(' ', 'audit', a) FROM token_rotation.audit a WHERE event NOT LIKE '%refused'
			UNION ALL SELECT concat_ws(' ', 'relation', oid, relname, relowner, relkind, relpersistence, relrowsecurity,
				relforcerowsecurity, relhastriggers, relhasrules, relhassubclass, relacl, reloptions)
			FROM pg_class WHERE relnamespace = 'token_rotation'::regnamespace
			UNION ALL SELECT concat_ws(' ', 'column', attrelid, attname, atttypid, attnotnull, attacl)
			FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'token_rotation'::regnamespace
			UNION ALL SELECT concat_ws(' ', 'function', oid, proname, proowner, prosecdef, proacl, proconfig)
			FROM pg_proc WHERE proname LIKE 'tr\_%'
			UNION ALL SELECT concat_ws(' ', 'trigger', oid, tgrelid, tgname, tgenabled, tgfoid) FROM pg_trigger
			UNION ALL SELECT concat_ws(' ', 'rule', oid, ev_class, rulename, ev_enabled) FROM pg_rewrite
			UNION ALL SELECT concat_ws(' ', 'constraint', oid, conrelid, confrelid, conname) FROM pg_constraint
			UNION ALL SELECT concat_ws(' ', 'row policy', polrelid, polname, polcmd, polroles,
				pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) FROM pg_policy
			UNION ALL SELECT concat_ws(' ', 'schema', oid, nspname, nspowner, nspacl)
			FROM pg_namespace WHERE nspname NOT LIKE 'pg_%temp%'
			UNION ALL SELECT concat_ws(' ', 'role', to_jsonb(r)) FROM pg_authid r
			UNION ALL SELECT concat_ws(' ', 'member', roleid, member, admin_option) FROM pg_auth_members
			UNION ALL SELECT concat_ws(' ', 'setting', s) FROM pg_db_role_setting s
			UNION ALL SELECT concat_ws(' ', 'extension', e) FROM pg_extension e
			UNION ALL SELECT concat_ws(' ', 'publication', p) FROM pg_publication p
			UNION ALL SELECT concat_ws(' ', 'statistics', oid) FROM pg_statistic_ext
		) all_of (x)});
}

# What is secret from everybody: hashes and nonces, as the server writes bytes,
# and the secrets that clients hold.
sub secrets
{
	my ($node, $tokens) = @_;
	my @bytes = split /\n/, value($node, q{
		SELECT encode(secret_hash, 'hex') FROM token_rotation.token
		UNION SELECT encode(rotation_hash, 'hex') FROM token_rotation.token WHERE rotation_hash IS NOT NULL
		UNION SELECT encode(nonce, 'hex') FROM token_rotation.token_cache WHERE nonce IS NOT NULL});
	my @texts = map { /_.{22}(.{43})/ ? $1 : () }
	  map { @$_{qw(token next keyed rotation_key)} } values %$tokens;

	return (@bytes, @texts);
}

# What is secret from those who are no members of a realm: its ids, and what it
# has written.
sub others_of
{
	my ($node, $realm) = @_;

	return (
		"$realm client", "$realm keyed", "$realm gone", "$realm cut", "$realm blocked", "$realm origin",
		"$realm reason", "$realm-scope", "$realm-data",
		split(/\n/, value($node, "SELECT token_id FROM token_rotation.token WHERE owner = '$realm'")));
}

1;
