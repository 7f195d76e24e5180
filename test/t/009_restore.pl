# pg_dump and pg_restore into a new cluster.
#
#  1. pg_restore --exit-on-error succeeds, serially and in parallel, and as a
#     plain script with ON_ERROR_STOP: with an edited shipped policy, a custom
#     one, risk rules, tokens of every status, cutoffs, blocks, deliveries and audit
#     rows.
#  2. Row counts are equal; so are the rows themselves.
#  3. Tokens are valid, revoked ones dead; policies, risk rules, row security, privileges and
#     triggers are in force again.
#  4. Inside an open replay window: unused successor, the same one with a new
#     secret, `reissued`; used, replay_ended.  Nonces are in no dump.
#  5. The worker serves the new database without being told: it fills the cache
#     and ends what is due.
#  6. New audit rows have larger numbers than any restored one.
#  7. tr_revoke_before, or not_before from the first start on, ends all that was
#     issued before the restore.
#  8. Restoring into the same cluster beside the original, and again over an
#     installation that is in use (which must fail, not mix).

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

my @tables = qw(policy token pending cutoff blocked_client audit audit_seal consumer risk_rule delivery_key delivery);

# How many rows each table has, and a digest of them all.  What the worker does
# to usage meanwhile is left out.
sub counts
{
	my ($node, $db) = @_;

	return value($node,
		join(' UNION ALL ', map { "SELECT '$_', count(*) FROM token_rotation.$_" } @tables), $db);
}

sub digests
{
	my ($node, $db) = @_;
	my %row = (token => "to_jsonb(x) - 'last_used_at' - 'first_used_at'");

	return value($node,
		join(' UNION ALL ', map {
			my $row = '(' . ($row{$_} // 'to_jsonb(x)') . ')::text';
			"SELECT '$_', md5(string_agg($row, ' ' ORDER BY $row COLLATE \"C\"))"
			  . " FROM token_rotation.$_ x"
		} @tables), $db);
}

my $old = new_node('old', conf => "token_rotation.worker_nap = '500ms'\n");

$old->safe_psql('postgres', q{
	UPDATE token_rotation.policy SET ttl = '30 days', overlap = '1 hour', replay_window = '1 day'
	WHERE name = 'default';
	INSERT INTO token_rotation.policy (name, ttl, overlap_starts) VALUES ('waits', '1 day', 'first_use');
	INSERT INTO token_rotation.policy (name, prefix, ttl, min_ttl, refresh_before, rotation_proof, allowed_scopes, degraded_scopes, delivery)
	VALUES ('custom', 'cst', '1 hour', '10 minutes', '1 hour', 'rotation_key', ARRAY['read', 'write', 'with " and \ '], '{read}', 'sealed');
	INSERT INTO token_rotation.risk_rule VALUES ('custom', 'scope', 'wr*', 40, '7 days', 1),
		('partner', 'history', 'refusals', 100, '1 day', 3);
	CREATE ROLE app; CREATE ROLE auditor;
	SELECT tr_grant('app', 'issuer'), tr_grant('auditor', 'auditor')});
my $custom = issue($old, q{'cust''omer', 'custom', '{read}', '{"a": "b c"}'});
issue($old, "'delivered', 'custom'");
$old->safe_psql('postgres', "UPDATE token_rotation.token SET refresh_at = issued_at WHERE client_id = 'delivered'");
value($old, q{SELECT tr_set_delivery_key('delivered', } . literal(slurp_file("$FindBin::RealBin/../public_key.asc")) . ')');
# (the worker, who fills the cache again, may hold it at first)
$old->poll_query_until('postgres', 'SELECT count(*) = 1 FROM tr_rotate_due()') or die 'nothing was delivered';
my $unused = issue($old, "'unused'");
my $unused_next = rotate($old, $unused->{token});
my $used = issue($old, "'used'");
my $used_next = rotate($old, $used->{token});
my $waits = issue($old, "'waits', 'waits'");
my $pending = rotate($old, $waits->{token});
my $revoked = issue($old, "'revoked'");
value($old, "SELECT tr_revoke('$revoked->{token}', 'because')");
my $cut = issue($old, "'cut'");
value($old, "SELECT tr_revoke_client('cut', 'because')");
my $blocked = issue($old, "'blocked'");
value($old, "SELECT tr_block_client('blocked')");
my $ended = issue($old, "'ended'");
my $heir = rotate($old, $ended->{token}, "overlap => '0'");
my $expired = issue($old, "'expired', ttl => '1 second'");
my $app = row($old, "SELECT * FROM tr_issue('of the app')", undef, 'SET ROLE app');
is($app->{owner}, 'app', 'a token of another realm');
is(verdict($old, $used_next->{token}), 'ok', 'a successor is used');
rotate($old, $revoked->{token});
rotate($old, 'junk');
value($old, "SELECT tr_ack('siem', tr_events_head())");

# the worker has done all that there is to do
poll($old, 'all is recorded', q{
	SELECT (SELECT count(*) = 2 FROM token_rotation.audit WHERE event = 'rotation_refused')
		AND (SELECT count(*) = 2 FROM token_rotation.token WHERE status = 'expired')
		AND (SELECT count(*) = 1 FROM token_rotation.token WHERE first_used_at IS NOT NULL)});

my @verdicts = (
	[ $custom->{token}, 'ok' ],
	[ $unused->{token}, 'ok' ],
	[ $used->{token}, 'ok' ],
	[ $used_next->{token}, 'ok' ],
	[ $heir->{token}, 'ok' ],
	[ $app->{token}, 'ok' ],
	[ $revoked->{token}, 'revoked' ],
	[ $cut->{token}, 'cutoff' ],
	[ $blocked->{token}, 'blocked' ],
	[ $ended->{token}, 'overlap_ended' ],
	[ $expired->{token}, 'expired' ],
	[ $custom->{rotation_key}, 'bad_secret' ]);
verdicts_are($old, 'verdicts before the dump', \@verdicts);
poll($old, 'their use is stored', q{
	SELECT count(*) = 6 FROM token_rotation.token
	WHERE first_used_at IS NOT NULL AND status IN ('active', 'rotating')});

poll($old, 'the trail is sealed', 'SELECT valid AND unsealed = 0 FROM tr_audit_verify()');

my ($counts, $digests) = (counts($old), digests($old));
my $last = value($old, 'SELECT max(seq) FROM token_rotation.audit');
my $dump = $old->basedir . '/dump';
mkdir $dump;
$old->command_ok([ 'pg_dump', '-d', $old->connstr('postgres'), '-Fc', '-f', "$dump/custom" ], 'pg_dump -Fc');
$old->command_ok([ 'pg_dump', '-d', $old->connstr('postgres'), '-f', "$dump/plain" ], 'pg_dump');
$old->command_ok([ 'pg_dumpall', '-d', $old->connstr('postgres'), '--roles-only', '-f', "$dump/roles" ],
	'pg_dumpall --roles-only');
my $plain = slurp_file("$dump/plain");
like($plain, qr/^COPY token_rotation\.$_ /m, "$_ is dumped") for @tables;
unlike($plain, qr/^COPY token_rotation\.token_cache/m, 'the cache is not');
unlike($plain, qr/^COPY token_rotation\.told/m, 'nor what the worker has told of');
unlike($plain, qr/audit_seq.*setval|setval.*audit_seq/, 'nor the sequence');
unlike($plain, qr/\tinternal\t|^internal\t/m, 'nor a shipped policy that is as shipped');

# 1. to 3. Into a new cluster, three times

my $new = new_node('new', extension => 0, conf => "token_rotation.worker_nap = '1h'\n");
my ($status) = $new->psql('postgres', slurp_file("$dump/roles"), on_error_stop => 0);
my %restore = (
	serial => [ 'pg_restore', '--exit-on-error', '-d', $new->connstr('serial'), "$dump/custom" ],
	parallel => [ 'pg_restore', '--exit-on-error', '-j', 2, '-d', $new->connstr('parallel'), "$dump/custom" ],
	script => [ 'psql', '-Xqv', 'ON_ERROR_STOP=1', '-d', $new->connstr('script'), '-f', "$dump/plain" ]);
for my $how (sort keys %restore)
{
	$new->safe_psql('postgres', "CREATE DATABASE $how TEMPLATE template0");
	$new->command_ok($restore{$how}, "$how: restored without an error");
	is(counts($new, $how), $counts, "$how: equal row counts");
	is(digests($new, $how), $digests, "$how: equal rows");
	verdicts_are($new, "$how: tokens are valid, dead ones dead", \@verdicts, $how);
}
my $db = 'serial';
my $policies = q{
	SELECT string_agg(concat_ws(' ', name, prefix, ttl, overlap, rotation_proof, shipped), '; ' ORDER BY name)
	FROM token_rotation.policy};
like(value($new, $policies, $db),
	qr/^custom cst 01:00:00 \S+ rotation_key f; default trk 30 days 01:00:00 token f;(?: \w+ trk [^;]* t;?){4} waits trk 1 day \S+ token f$/,
	'edited and custom policies are back, shipped ones as shipped');
is(issue($new, "'new'", $db)->{expires_at} gt issue($new, "'new', 'partner'", $db)->{expires_at},
	1, 'and in force');
is(sqlstate_of($new, "DELETE FROM token_rotation.policy WHERE name = 'custom'", $db),
	'55006', 'a policy in use cannot be deleted');
is(value($new, q{SELECT expires_at - issued_at FROM tr_issue('new', 'custom', '{write}')}, $db),
	'00:40:00', 'a risk rule shortens a life');
is(sqlstate_of($new, 'TRUNCATE token_rotation.risk_rule', $db), '0A000', 'and is guarded');
is(sqlstate_of($new, 'DELETE FROM token_rotation.audit', $db), '42501', 'the trail is append-only');
is( sqlstate_of($new, q{
		INSERT INTO token_rotation.audit (seq, at, event, actor, role, xid)
		VALUES (1, now(), 'x', 'x', 'x', '1')}, $db),
	'42501', 'and nobody writes it by hand');
is(value($new, 'SET ROLE auditor; SELECT count(*) > 0 FROM token_rotation.audit', $db),
	't', 'an auditor reads it');
is(sqlstate_of($new, 'SET ROLE auditor; SELECT * FROM token_rotation.token', $db), '42501', 'and no hashes');
is(value($new, 'SET ROLE app; SELECT count(*) FROM token_rotation.tokens', $db),
	'1', 'a realm sees its own tokens');
is(value($new, "SET ROLE app; SELECT reason FROM tr_rotate('$unused->{token}')", $db),
	'unknown', 'and no others');

# 6. Numbers of audit rows

cmp_ok(value($new, "SELECT min(seq) FROM token_rotation.audit WHERE client_id = 'new'", $db),
	'>', $last, 'new audit rows have larger numbers');
# the worker may have told of the refusal above
is(audit_count($new, "seq > $last AND client_id IS DISTINCT FROM 'new' AND reason IS DISTINCT FROM 'unknown'", $db),
	'0', 'the restore itself added none');
is(value($new, q{SELECT message FROM tr_deliveries('delivered')}, $db),
	value($old, q{SELECT message FROM tr_deliveries('delivered')}), 'what was to be delivered is');

# a session that restores keeps the worker from sealing; a failed statement lets it, the next COPY does not
my $copied = $new->basedir . '/rows';
my $restoring = $new->background_psql($db, on_error_stop => 0);
my $holds = q{SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND objid = 'token_rotation.audit_seal'::regclass
	AND mode = 'ShareLock' AND granted AND pid = pg_backend_pid()};
$new->safe_psql($db, "COPY (SELECT seq + 1000000, at, event, client_id, owner, token_ref, successor_ref, actor, role, application_name, client_addr,"
	. " origin, reason, detail, xid, segment FROM token_rotation.audit LIMIT 1) TO '$copied'");
$restoring->query_safe("BEGIN; COPY token_rotation.audit FROM '$copied'");
is($restoring->query_safe($holds), '1', 'who restores holds the seals');
$restoring->query('SELECT 1/0');
$restoring->{stderr} = '';
$restoring->query_safe('ROLLBACK');
is($restoring->query_safe($holds), '0', 'a failure gives them up');
$restoring->query_safe("BEGIN; COPY token_rotation.audit FROM '$copied'");
is($restoring->query_safe($holds), '1', 'and going on takes them again');
$restoring->query_safe('ROLLBACK');
$restoring->quit;

# 4. The open replay window

is(nonces($new, $db), '0', 'no nonce was restored');
my $again = rotate($new, $unused->{token}, undef, $db);
ok( $again->{token_id} eq $unused_next->{token_id}
	  && $again->{token} ne $unused_next->{token}
	  && !$again->{replayed},
	'unused successor: the same one, a new secret');
is(audit_count($new, "event = 'reissued' AND client_id = 'unused' AND seq > $last", $db), '1', 'audited');
verdicts_are($new, 'the lost text is dead',
	[ [ $again->{token}, 'ok' ], [ $unused_next->{token}, 'bad_secret' ] ], $db);
is(rotate($new, $used->{token}, undef, $db)->{reason}, 'replay_ended', 'used successor: replay_ended');
my $fresh = rotate($new, $custom->{token}, "'$custom->{rotation_key}'", $db);
is($fresh->{reason}, 'ok', 'a restored token rotates');
like($fresh->{token}, qr/^cst_/, 'by its policy');

# 5. The worker

set_conf($new, 'token_rotation.worker_nap' => '500ms', 'token_rotation.leeway' => '0');
for my $how (sort keys %restore)
{
	poll($new, "$how: the worker fills the cache", q{
		SELECT count(*) FILTER (WHERE status IS NULL) = 1 AND bool_or(client_id = 'used')
		FROM token_rotation.token_cache}, $how);
}
wait_trusted($new, $used->{token}, 'it answers', $db);
rotate($new, $heir->{token}, "overlap => '0'", $db);
is(value($new, "SELECT status FROM token_rotation.tokens WHERE token_id = '$pending->{token_id}'", $db), 'pending', 'who waited waits');
is(verdict($new, $pending->{token}, $db), 'ok', 'its first use');
poll($new, 'opens the window', "SELECT overlap_ends_at < expires_at FROM token_rotation.token WHERE token_id = '$waits->{token_id}'", $db);
poll($new, 'and it ends what is due', q{
	SELECT count(*) = 2 FROM token_rotation.audit WHERE event = 'overlap_ended' AND client_id = 'ended'}, $db);

# 7. After restoring an old backup

value($new, 'SELECT tr_revoke_before(clock_timestamp())', $db);
my $all = join(',', map { literal($_->[0]) } @verdicts);
is(value($new, "SELECT count(*) FROM tr_validate_many(ARRAY[$all]) WHERE valid", $db),
	'0', 'tr_revoke_before ends everything that was restored');
is(value($new, 'SELECT count(*) FROM token_rotation.delivery', $db), '0', 'and delivers nothing of it');
is(verdict($new, issue($new, "'later'", $db)->{token}, $db), 'ok', 'and nothing later');
is(verdict($new, $custom->{token}, 'parallel'), 'ok', 'elsewhere it lives');
my $moment = value($new, q{
	SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC' + '1 second', 'YYYY-MM-DD HH24:MI:SS+00')});
$new->append_conf('postgresql.conf', "token_rotation.not_before = '$moment'\n");
$new->restart;
is(verdict($new, $custom->{token}, 'parallel'), 'cutoff', 'not_before ends it from the first start on');

# 8. Beside the original, and over it

$old->safe_psql('postgres', 'CREATE DATABASE beside TEMPLATE template0');
$old->command_ok([ 'pg_restore', '--exit-on-error', '-d', $old->connstr('beside'), "$dump/custom" ],
	'in the same cluster beside the original: restored without an error');
is(counts($old, 'beside'), $counts, 'equal row counts');
verdicts_are($old, 'and verdicts', \@verdicts, 'beside');
my $rows = counts($old);
$old->command_fails(
	[ 'pg_restore', '--exit-on-error', '--data-only', '-d', $old->connstr('postgres'), "$dump/custom" ],
	'over it: fails');
is(counts($old), $rows, 'and changes nothing');

done_testing();
