# pg_upgrade from PostgreSQL 15 to 17 with the extension in use.  Started by
# test/servers/upgrade, by 17, with the folder of 15 in OLD_INSTALL.
#
#  1. pg_upgrade succeeds, with the library preloaded in both clusters, and
#     tells of nothing to be done.
#  2. No background worker of ours is registered in the servers that pg_upgrade
#     starts; the same search finds the one of an ordinary start.
#  3. Before anything else in the new cluster: tokens are valid, dead ones dead;
#     rows are the same; audit rows too, and it added none.
#  4. The cache arrives with its rows, lies included that the old cluster had
#     no time to correct; it is not asked until the worker has corrected them.
#  5. The worker serves: the launcher runs, the cache is trusted, a window ends.
#  6. A rotation from before is replayed with the identical token; tokens
#     rotate, are issued and revoked; new audit rows have larger numbers.
#  7. Roles can do what they could; row security and the triggers are in force;
#     the objects are those of a fresh installation.
#  8. The trail verifies, a head of before is in it, and sealing goes on in the
#     same segment.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../t/lib";

use File::Find ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my @tables = qw(policy token cutoff blocked_client audit audit_seal);

# A digest of each durable table.
sub digests
{
	my ($node) = @_;

	return value($node,
		join(' UNION ALL ', map {
			"SELECT '$_', count(*), md5(string_agg(to_jsonb(x)::text, ' ' ORDER BY to_jsonb(x)::text COLLATE \"C\"))"
			  . " FROM token_rotation.$_ x"
		} @tables));
}

# What the extension consists of and who may use it, as text.  Row types are
# members in a new installation, and not in one that comes from 15.
sub objects
{
	my ($node, $db) = @_;

	return value($node, q{
		SELECT string_agg(line, E'\n' ORDER BY line COLLATE "C") FROM (
			SELECT pg_describe_object(classid, objid, 0)
			FROM pg_depend
			WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND classid <> 'pg_type'::regclass
				AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'token_rotation')
			UNION ALL
			SELECT format('%s: owner %s, rls %s %s, persistence %s', c.oid::regclass,
				pg_get_userbyid(relowner), relrowsecurity, relforcerowsecurity, relpersistence)
			FROM pg_class c WHERE relnamespace = 'token_rotation'::regnamespace
			UNION ALL
			SELECT format('%s.%s %s %s %s', attrelid::regclass, attname, format_type(atttypid, atttypmod),
				attnotnull, pg_get_expr(adbin, adrelid))
			FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
			WHERE attnum > 0 AND attrelid IN (
				SELECT oid FROM pg_class WHERE relnamespace = 'token_rotation'::regnamespace)
			UNION ALL
			SELECT pg_get_functiondef(oid) || (
				SELECT string_agg(acl::text, ' ' ORDER BY acl::text)
				FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) acl)
			FROM pg_proc WHERE proname LIKE 'tr\_%'
			UNION ALL
			SELECT pg_get_triggerdef(oid) || tgenabled::text
			FROM pg_trigger WHERE tgrelid::regclass::text LIKE 'token_rotation.%'
			UNION ALL
			SELECT policies::text FROM pg_policies policies WHERE schemaname = 'token_rotation'
			UNION ALL
			SELECT pg_get_indexdef(indexrelid) FROM pg_index
			WHERE indrelid::regclass::text LIKE 'token_rotation.%'
			UNION ALL
			SELECT pg_get_constraintdef(oid) FROM pg_constraint
			WHERE connamespace = 'token_rotation'::regnamespace
			UNION ALL
			SELECT pg_get_viewdef('token_rotation.tokens'::regclass)
			UNION ALL
			SELECT format('%s %s', extconfig::regclass[], extcondition)
			FROM pg_extension WHERE extname = 'token_rotation') AS all_of_it (line)}, $db);
}

my $conf = "token_rotation.worker_nap = '500ms'\nlog_min_messages = debug1\n";
my $old = new_node('old', conf => $conf, install_path => $ENV{OLD_INSTALL});
like(value($old, 'SHOW server_version'), qr/^15\./, 'the old server is 15');

$old->safe_psql('postgres', q{
	UPDATE token_rotation.policy SET overlap = '1 hour', replay_window = '1 day' WHERE name = 'default';
	CREATE ROLE app; CREATE ROLE auditor;
	SELECT tr_grant('app', 'issuer'), tr_grant('auditor', 'auditor')});
my $live = issue($old, "'live', 'partner', '{}', '{\"a\": 1}'");
my $rotated = issue($old, "'rotated'");
my $successor = rotate($old, $rotated->{token});
my $ended = issue($old, "'ended'");
my $heir = rotate($old, $ended->{token}, "overlap => '0'");
my $revoked = issue($old, "'revoked'");
my $lost = issue($old, "'lost'");
my $expired = issue($old, "'expired', ttl => '1 second'");
my $cut = issue($old, "'cut'");
value($old, "SELECT tr_revoke_client('cut')");
my $blocked = issue($old, "'blocked'");
value($old, "SELECT tr_block_client('blocked')");
my $app = row($old, "SELECT * FROM tr_issue('of the app')", undef, 'SET ROLE app');
my @verdicts = (
	[ $live->{token}, 'ok' ],
	[ $rotated->{token}, 'ok' ],
	[ $successor->{token}, 'ok' ],
	[ $heir->{token}, 'ok' ],
	[ $lost->{token}, 'ok' ],
	[ $app->{token}, 'ok' ],
	[ $ended->{token}, 'overlap_ended' ],
	[ $revoked->{token}, 'revoked' ],
	[ $expired->{token}, 'expired' ],
	[ $cut->{token}, 'cutoff' ],
	[ $blocked->{token}, 'blocked' ],
	[ $live->{rotation_key}, 'bad_secret' ]);

value($old, "SELECT tr_revoke('$revoked->{token}')");
poll($old, 'ends are recorded', q{
	SELECT count(*) = 2 FROM token_rotation.token WHERE status = 'expired'});
verdicts_are($old, 'verdicts before', \@verdicts);
wait_trusted($old, $live->{token}, 'the cache answers');
poll($old, 'the trail is sealed', 'SELECT valid AND seals > 0 AND unsealed = 0 FROM tr_audit_verify()');
my $head = value($old, 'SELECT hash FROM tr_audit_head()');

# worker off, then lies
worker_stays_away($old, $revoked);
$old->safe_psql('postgres', q{
	INSERT INTO token_rotation.token_cache (token_id, status, secret_hash, client_id, policy, owner,
		scopes, metadata, issued_at, expires_at, refresh_at)
	SELECT token_id, 'active', secret_hash, client_id, policy, owner,
		scopes, metadata, issued_at, now() + '1 day', refresh_at
	FROM token_rotation.token WHERE client_id = 'revoked';
	DELETE FROM token_rotation.token_cache WHERE client_id = 'lost'});
my $lies = q{
	SELECT string_agg(client_id, ' ' ORDER BY client_id) FROM token_rotation.token_cache
	WHERE client_id IN ('lost', 'revoked')};
is(value($old, $lies), 'revoked', 'the cache lies: a revoked token is in it, a live one is not');
my $rows = digests($old);
my $last = value($old, 'SELECT max(seq) FROM token_rotation.audit');
$old->stop;
like(slurp_file($old->logfile), qr/registering background worker "token_rotation launcher"/,
	'an ordinary start registers the launcher, and says so');

# 1. and 2. pg_upgrade

my $new = new_node('new', start => 0, conf => $conf);
workers_at_next_start($new, 0);
chdir $PostgreSQL::Test::Utils::tmp_check or die $!;
my ($said, $errors) = run_command([
	'pg_upgrade', '--copy', '--retain', '--no-sync',
	'-b', "$ENV{OLD_INSTALL}/bin", '-B', $new->config_data('--bindir'),
	'-d', $old->data_dir, '-D', $new->data_dir,
	'-p', $old->port, '-P', $new->port, '-s', $new->host ]);
like($said, qr/Upgrade Complete/, 'pg_upgrade succeeds') or diag("$said\n$errors");
unlike("$said$errors", qr/update_extensions|warning|fatal/i, 'and tells of nothing to be done');

my $logs = '';
File::Find::find(
	sub { $logs .= slurp_file($_) if /pg_upgrade_server.*\.log$/ },
	$new->data_dir . '/pg_upgrade_output.d');
cmp_ok(scalar(() = $logs =~ /database system is ready to accept connections/g),
	'>=', 2, 'both clusters were started');
like($logs, qr/DEBUG: /, 'and said everything');
is_deeply([ $logs =~ /registering background worker "(token_rotation.*)"/g ],
	[], 'nothing of ours was registered in them');

# 3. and 4. Rows and verdicts, as long as there is no room for a worker

$new->start;
like(value($new, 'SHOW server_version'), qr/^17\./, 'the new server is 17');
is(value($new, $lies), 'revoked', 'the cache came with its rows, and its lies');
verdicts_are($new, 'verdicts, the cache not yet corrected', \@verdicts);
level_is($new, $live->{token}, 'token', 'it is not even asked');
is(digests($new), $rows, 'the rows are the same, those of the trail too');

# 4. and 5. The worker

workers_at_next_start($new, 1);
$new->restart;
wait_trusted($new, $live->{token}, 'corrected, the cache answers');
is(value($new, $lies), 'lost', 'the revoked token is out, the live one in');
verdicts_are($new, 'and the verdicts are the same', \@verdicts);
is(audit_count($new, "seq > $last"), '0', 'until now nothing happened that would be audited');
isnt(pid_of($new, 'token_rotation launcher'), '0', 'the launcher runs');

# 6. Verbs

my $again = rotate($new, $rotated->{token});
is($again->{token}, $successor->{token}, 'a rotation from before: the identical token');
ok($again->{replayed}, 'as a replay, of one whose successor was used');
my $next = rotate($new, $live->{token}, "'$live->{rotation_key}'");
rotate($new, $heir->{token}, "overlap => '1 second'");
my $issued = issue($new, "'issued'");
value($new, "SELECT tr_revoke('$lost->{token}')");
verdicts_are($new, 'issue, rotate and revoke work',
	[ [ $next->{token}, 'ok' ], [ $issued->{token}, 'ok' ], [ $lost->{token}, 'revoked' ] ]);
poll($new, 'the worker ends a window',
	"SELECT count(*) = 2 FROM token_rotation.audit WHERE event = 'overlap_ended' AND client_id = 'ended'");
is(value($new, "SELECT string_agg(DISTINCT event, ' ' ORDER BY event) FROM token_rotation.audit WHERE seq > $last"),
	'issued overlap_ended replayed_after_use revoked rotated', 'audited, with larger numbers than before');

# 8. Seals

poll($new, 'what happened here is sealed', 'SELECT valid AND unsealed = 0 FROM tr_audit_verify()');
is(value($new, "SELECT valid, problem FROM tr_audit_verify('$head')"), 't|', 'a head of before is in the trail');
is(value($new, 'SELECT count(DISTINCT segment), count(*) = max(seal) FROM token_rotation.audit_seal'), '1|t', 'one segment goes on');

# 7. Roles, row security, objects

is(value($new, "SET ROLE app; SELECT reason FROM tr_rotate('$app->{token}')"), 'ok', 'a realm rotates its token');
is(value($new, "SET ROLE app; SELECT reason FROM tr_rotate('$issued->{token}')"), 'unknown', 'and no other');
is(value($new, 'SET ROLE auditor; SELECT count(*) > 0 FROM token_rotation.audit'), 't', 'an auditor reads the trail');
is(sqlstate_of($new, 'SET ROLE auditor; SELECT * FROM token_rotation.token'), '42501', 'and no hashes');
is(sqlstate_of($new, 'DELETE FROM token_rotation.audit'), '42501', 'the trail is append-only');
$new->safe_psql('postgres', 'CREATE DATABASE fresh TEMPLATE template0');
install($new, 'fresh');
$new->safe_psql('fresh', "SELECT tr_grant('app', 'issuer'), tr_grant('auditor', 'auditor')");
my $objects = objects($new);
cmp_ok(scalar(split /\n/, $objects), '>', 300, 'many objects are compared');
is($objects, objects($new, 'fresh'), 'they are those of a fresh installation');

done_testing();
