# The launcher and the worker.
#
#  1. The launcher is in pg_stat_activity; a worker is there while it works, in
#     its database and with the step that it is at, and leaves when nothing is
#     due.
#  2. It ends overlap windows within two naps of their end (leeway included),
#     not before, each with exactly one audit row, by token_rotation_worker; it
#     records expired tokens, without one.
#  3. It does so when the end comes, not when the nap is over.
#  4. Nonces are erased when the replay window ends, not before: of a token that
#     still overlaps and of one that has ended; then a replay is refused.
#  5. Usage is stored: first_used_at, last_used_at, use_count; also of
#     validations that are rolled back.
#  6. More tokens than fit into a batch.
#  7. overlap_enforcement off: windows stay open; on again: they end.
#  8. A database whose settings would break it (read only, a search_path with
#     traps, timeouts, isolation, row_security, a role) does not.
#  9. A table that is locked holds it up without a word; then it goes on.
# 10. Steps that take a visit's whole time, again and again, leave the others
#     their turn.
# 11. Who owns a function locks the extension, and keeps nobody from anything.
# 12. The server log: no token's secret in normal operation, and not one line
#     in steady state, at default settings.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use TokenRotation;

# as installed: nothing is set but the library
my $node = new_node('worker');
my $start = log_position($node);
my $no_worker = "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'token_rotation worker'";

$node->safe_psql('postgres', q{
	INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window)
	VALUES ('brief', '1 minute', '1 second', '1 second'),
		('long_overlap', '1 hour', '10 minutes', '2 seconds'),
		('long_replay', '1 hour', '0', '2 seconds')});

# 1. pg_stat_activity

is_deeply(
	row($node, q{
		SELECT count(*) AS count, min(state) AS state, min(datname) AS datname
		FROM pg_stat_activity WHERE backend_type = 'token_rotation launcher'}),
	{ count => 1, state => 'idle', datname => undef },
	'the launcher is there, idle and in no database');
poll($node, 'no worker when nothing is due', $no_worker);

my $dead = issue($node, "'dead'");
value($node, "SELECT tr_revoke('$dead->{token}')");
my $offset = log_position($node);
my $held = hold_audit($node);
rotate($node, $dead->{token}, "origin => 'held'");
poll($node, 'a worker shows its database and what it does', q{
	SELECT bool_or(datname = 'postgres' AND state = 'active' AND query <> '')
	FROM pg_stat_activity WHERE backend_type = 'token_rotation worker'});

# 9. The lock holds it up
poll($node, 'it gives up in time', $no_worker);
is(audit_count($node, "origin = 'held'"), '0', 'a locked table: nothing is recorded yet');
release($held);
is_deeply([ logged($node, $offset) ], [], 'nor anything logged');
poll($node, 'unlocked: it is', "SELECT count(*) = 1 FROM token_rotation.audit WHERE origin = 'held'");

# 2. Windows and expired tokens; 4. nonces.  The default nap is 10 seconds.

my $brief = issue($node, "'brief', 'brief'");
my $next = rotate($node, $brief->{token});
my $expiring = issue($node, "'expiring', ttl => '1 second'");
my $overlapping = issue($node, "'overlapping', 'long_overlap'");
my $kept = rotate($node, $overlapping->{token});
my $instant = issue($node, "'instant', 'long_replay'");
my $lost = rotate($node, $instant->{token});
my $cached = "SELECT %s FROM token_rotation.token_cache WHERE token_id = '%s'";

my $patient = issue($node, "'patient'");
my $answer = rotate($node, $patient->{token}, "overlap => '0'");
rotate($node, $dead->{token}, "origin => 'meanwhile'");
poll($node, 'the worker is there', "SELECT count(*) = 1 FROM token_rotation.audit WHERE origin = 'meanwhile'");
is( value($node, q{
		SELECT bool_and(nonce IS NOT NULL OR replay_ends_at <= clock_timestamp())
		FROM token_rotation.token_cache WHERE rotated_at IS NOT NULL}),
	't', 'nonces are there until their replay window ends');
poll($node, 'also of a token that has ended',
	"SELECT status = 'expired' FROM token_rotation.token WHERE token_id = '$patient->{token_id}'");
my $again = rotate($node, $patient->{token});
ok($again->{replayed} && $again->{token} eq $answer->{token}, 'which can be asked for its answer');
poll($node, 'a window ends', q{
	SELECT status = 'expired' FROM token_rotation.token WHERE client_id = 'brief' AND generation = 0});
is( value($node, q{
		SELECT a.at BETWEEN due AND due + 2 * current_setting('token_rotation.worker_nap')::interval
		FROM token_rotation.audit a, token_rotation.token t,
			LATERAL (SELECT t.overlap_ends_at + least('30 seconds', (t.expires_at - t.issued_at) / 10) AS due) d
		WHERE a.event = 'overlap_ended' AND a.client_id = 'brief' AND t.token_id = '} . $brief->{token_id} . q{'}),
	't', 'when it is over, and within two naps');
is_deeply(
	[ rows($node, "SELECT actor, role, owner = current_user AS own FROM token_rotation.audit"
			. " WHERE event = 'overlap_ended' AND client_id = 'brief'") ],
	[ { actor => 'token_rotation_worker', role => 'token_rotation_worker', own => JSON::PP::true } ],
	'one row in the trail, by the worker');
verdicts_are($node, 'the old token is refused, the new one valid',
	[ [ $brief->{token}, 'overlap_ended' ], [ $next->{token}, 'ok' ] ]);
poll($node, 'an expired token is recorded',
	"SELECT status = 'expired' FROM token_rotation.token WHERE client_id = 'expiring'");
is(audit_count($node, "client_id = 'expiring' AND event NOT IN ('issued', 'rotation_due')"), '0', 'without an audit row');
is(value($node, "SELECT count(*) FROM token_rotation.token_cache WHERE client_id = 'expiring'"),
	'0', 'and leaves the cache');
poll($node, 'the nonce of an overlapping token is erased, its row stays',
	sprintf($cached, 'nonce IS NULL', $overlapping->{token_id}));
poll($node, 'that of one that has ended goes with its row',
	sprintf($cached, 'count(*) = 0', $instant->{token_id}));
cmp_ok(value($node, 'SELECT clock_timestamp()'), 'ge', value($node,
		"SELECT max(replay_ends_at) FROM token_rotation.token WHERE client_id IN ('overlapping', 'instant')"),
	'after the replay window');
is(nonces($node), '1', 'no other nonce is left');
is(rotate($node, $overlapping->{token})->{reason}, 'replay_ended', 'then a replay is refused');
is(rotate($node, $instant->{token})->{reason}, 'overlap_ended', 'also of one that has ended');
verdicts_are($node, 'the successors live', [ [ $kept->{token}, 'ok' ], [ $lost->{token}, 'ok' ] ]);

# 5. Usage

my $t0 = value($node, 'SELECT clock_timestamp()');
my $used = issue($node, "'used'");
verdict($node, $used->{token}) for 1 .. 4;
value($node, "BEGIN; SELECT tr_validate('$used->{token}'); ROLLBACK");
poll($node, 'usage is stored, with what was rolled back',
	"SELECT use_count = 5 FROM token_rotation.tokens WHERE client_id = 'used'");
is( value($node, qq{
		SELECT first_used_at BETWEEN '$t0' AND last_used_at AND last_used_at < clock_timestamp()
		FROM token_rotation.tokens WHERE client_id = 'used'}),
	't', 'first and last use are when they were');
# a transaction that makes tokens keeps uses until its end, and those of others' tokens through a rollback
my $making = $node->background_psql('postgres');
$making->query_safe("BEGIN; SELECT count(*) FROM tr_issue('never made')");
my $young = issue($node, "'young'");
is($making->query_safe("SELECT reason FROM tr_validate('$young->{token}')"), 'ok', 'a token that is younger than the transaction');
$making->query_safe('ROLLBACK');
$making->quit;
poll($node, 'its use is stored, too', "SELECT use_count = 1 FROM token_rotation.tokens WHERE client_id = 'young'");
isnt(value($node, "SELECT first_used_at FROM token_rotation.token WHERE client_id = 'used'"),
	'', 'the first use in the durable table');

# 10. The log until here, at default settings, and after an operation of every kind

rotate($node, $used->{token});
rotate($node, $used->{token});
rotate($node, 'trk_junk');
my $partner = issue($node, "'partner', 'partner', '{read,write}', '{\"a\": 1}'");
rotate($node, $partner->{token});
my $partners = rotate($node, $partner->{token}, "'$partner->{rotation_key}'");
my $by_id = row($node, "SELECT * FROM tr_rotate_id('$partners->{token_id}')");
value($node, "SELECT tr_extend_overlap('$partners->{token_id}', '1 minute')");
value($node, "SELECT tr_cancel_rotation('$partners->{token_id}')");
value($node, "SELECT tr_finish_overlap('$partner->{token_id}')");
value($node, "SELECT tr_revoke('$by_id->{token}'), tr_revoke('$partners->{token}', 'leaked', true)");
value($node, "SELECT tr_revoke_client('used'), tr_block_client('used'), tr_block_client('used', false)");
value($node, "SELECT tr_sweep(), tr_prune(now() - interval '1 day')");
verdicts_are($node, 'they say what they should',
	[ [ $used->{token}, 'cutoff' ], [ $partners->{token}, 'revoked' ], [ $by_id->{token}, 'revoked' ] ]);
poll($node, 'the worker has recorded the refusals', q{
	SELECT count(*) = 1 FROM token_rotation.audit
	WHERE event = 'rotation_refused' AND reason = 'proof_required'});
is_deeply([ logged($node, $start) ], [], 'normal operation leaves not one line in the log');
is(value($node, q{SELECT coalesce(sum(count), 0) FROM tr_stat WHERE event = 'visit' AND reason = 'failed'}), '0',
	'nor does a visit count as failed');

# 3. From here on the nap is an hour: only what is due makes the worker come

set_conf($node, 'token_rotation.worker_nap' => '1h', 'token_rotation.leeway' => '1s');
my $due = issue($node, "'due'");
rotate($node, $due->{token}, "overlap => '1 second'");
poll($node, 'a window ends when it is over, and its leeway, nap or not', q{
	SELECT count(*) = 1 FROM token_rotation.audit WHERE event = 'overlap_ended' AND client_id = 'due'});
set_conf($node, 'token_rotation.leeway' => '0');
issue($node, "'due too', ttl => '1 second'");
poll($node, 'an expired token likewise', q{
	SELECT status = 'expired' FROM token_rotation.token WHERE client_id = 'due too'});

# 6. Batches

value($node, q{
	SELECT count(r.token) FROM generate_series(1, 1200) g, LATERAL tr_issue('many' || g % 1) i,
		LATERAL tr_rotate(i.token, overlap => '0') r});
poll($node, 'many windows end', q{
	SELECT count(*) = 1200 FROM token_rotation.token WHERE status = 'expired' AND client_id = 'many0'});
is_deeply(
	row($node, q{
		SELECT count(*) AS rows, count(DISTINCT token_ref) AS tokens FROM token_rotation.audit
		WHERE event = 'overlap_ended' AND client_id = 'many0'}),
	{ rows => 1200, tokens => 1200 },
	'each with one row');

# 7. overlap_enforcement

set_conf($node, 'token_rotation.overlap_enforcement' => 'off', 'token_rotation.worker_nap' => '200ms');
my $open = issue($node, "'open'");
rotate($node, $open->{token}, "overlap => '0'");
issue($node, "'afterwards', ttl => '1 second'");
poll($node, 'the worker has been there after the end of a window', q{
	SELECT status = 'expired' FROM token_rotation.token WHERE client_id = 'afterwards'});
is(value($node, "SELECT status FROM token_rotation.token WHERE token_id = '$open->{token_id}'"),
	'rotating', 'not enforced: it stays open');
is(verdict($node, $open->{token}), 'ok', 'and the token valid');
set_conf($node, 'token_rotation.overlap_enforcement' => 'on');
is(verdict($node, $open->{token}), 'overlap_ended', 'enforced: it is over at once');
poll($node, 'and recorded',
	"SELECT count(*) = 1 FROM token_rotation.audit WHERE event = 'overlap_ended' AND client_id = 'open'");

# 8. A database with hostile settings

$node->safe_psql('postgres', 'CREATE DATABASE hostile');
install($node, 'hostile');
my $there = issue($node, "'there'", 'hostile');
rotate($node, $there->{token}, "overlap => '2 seconds'", 'hostile');
my $refused = issue($node, "'there'", 'hostile');
value($node, "SELECT tr_revoke('$refused->{token}')", 'hostile');
$node->safe_psql('hostile', q{
	CREATE SCHEMA trap;
	CREATE FUNCTION trap.count("any") RETURNS bigint LANGUAGE internal IMMUTABLE AS 'int8inc_any';
	CREATE TABLE trap.token (); CREATE TABLE trap.audit ();
	CREATE FUNCTION trap.lt(timestamptz, timestamptz) RETURNS bool LANGUAGE sql AS 'SELECT 1 / 0 = 1';
	CREATE OPERATOR trap.<= (FUNCTION = trap.lt, LEFTARG = timestamptz, RIGHTARG = timestamptz);
	CREATE ROLE nobody;
	ALTER DATABASE hostile SET search_path = trap, token_rotation, pg_catalog;
	ALTER DATABASE hostile SET default_transaction_read_only = on;
	ALTER DATABASE hostile SET default_transaction_isolation = serializable;
	ALTER DATABASE hostile SET statement_timeout = '1ms';
	ALTER DATABASE hostile SET row_security = off;
	ALTER DATABASE hostile SET session_replication_role = replica;
	ALTER DATABASE hostile SET synchronous_commit = off;
	ALTER DATABASE hostile SET role = nobody});
{
	local $ENV{PGOPTIONS} = '-c statement_timeout=0 -c search_path= -c role=none'
	  . ' -c default_transaction_read_only=off -c row_security=on';

	value($node, "SELECT reason FROM public.tr_rotate('$refused->{token}')", 'hostile');
	poll($node, 'hostile settings: windows end', q{
		SELECT count(*) = 1 FROM token_rotation.audit WHERE event = 'overlap_ended'}, 'hostile');
	poll($node, 'hostile settings: refusals are recorded', q{
		SELECT count(*) = 1 FROM token_rotation.audit WHERE event = 'rotation_refused'}, 'hostile');
	poll($node, 'hostile settings: the cache is complete', q{
		SELECT count(*) = 1 FROM token_rotation.token_cache WHERE status IS NULL}, 'hostile');
}

# 10. No time left

# every event takes longer than a visit may; there is always a new one until the
# cache, which comes last, is complete
$node->safe_psql('postgres', 'CREATE DATABASE slow');
install($node, 'slow');
$dead = issue($node, "'dead'", 'slow');
value($node, "SELECT tr_revoke('$dead->{token}')", 'slow');
poll($node, 'the cache is complete', q{
	SELECT count(*) = 1 FROM token_rotation.token_cache WHERE status IS NULL}, 'slow');
$node->safe_psql('slow', q{
	CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_sleep(2.1) WHERE coalesce(current_setting('linger.done', true), '') = '';
		PERFORM set_config('linger.done', 'in this transaction', true);
		RETURN NEW;
	END $$;
	CREATE TRIGGER linger BEFORE INSERT ON token_rotation.audit
		FOR EACH ROW EXECUTE FUNCTION linger();
	CREATE FUNCTION rotate_until_complete(token text, seconds int) RETURNS boolean
		LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. 10 * seconds LOOP
			IF EXISTS (SELECT FROM token_rotation.token_cache WHERE status IS NULL) THEN
				RETURN true;
			END IF;
			PERFORM public.tr_rotate(token), pg_sleep(0.1);
		END LOOP;
		RETURN false;
	END $$});
is( value($node, qq{
		SELECT reason FROM tr_rotate('$dead->{token}');
		TRUNCATE token_rotation.token_cache;
		SELECT rotate_until_complete('$dead->{token}', $PostgreSQL::Test::Utils::timeout_default)},
		'slow'),
	"revoked\nt", 'slow steps: the cache is filled nevertheless');
$node->safe_psql('postgres', 'DROP DATABASE slow WITH (FORCE)');

# 11. Anybody may lock the extension, as the owner of a function

my $stranger = $node->background_psql('postgres');
$node->safe_psql('postgres', 'CREATE ROLE stranger');
$stranger->query_safe('SET ROLE stranger; CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql RETURN 1; BEGIN;'
	. ' ALTER FUNCTION pg_temp.mine() DEPENDS ON EXTENSION token_rotation');
is( value($node, q{SELECT count(*) > 0 FROM pg_locks WHERE classid = 'pg_extension'::regclass AND mode = 'AccessExclusiveLock' AND granted}),
	't', 'a stranger has the extension locked');
my $meanwhile = issue($node, "'meanwhile'");
value($node, "SELECT tr_revoke('$meanwhile->{token}')");
rotate($node, $meanwhile->{token});
poll($node, 'the worker records, and seals',
	q{SELECT count(*) = 1 FROM token_rotation.audit a JOIN token_rotation.audit_seal s ON a.seq = ANY (s.seqs)
		WHERE client_id = 'meanwhile' AND event = 'rotation_refused'});
$stranger->query_safe('ROLLBACK');
$stranger->quit;

# 12. Steady state, seen from what the worker reads of the cache

$offset = log_position($node);
my $reads = q{
	SELECT coalesce(seq_scan, 0) + coalesce(idx_scan, 0) FROM pg_stat_all_tables
	WHERE schemaname = 'token_rotation' AND relname = 'token_cache'};
my $seen = value($node, $reads);
poll($node, 'the worker comes and goes', "SELECT ($reads) > $seen + 8");
is_deeply([ grep { !/reloading configuration|parameter / } logged($node, $offset) ],
	[], 'steady state: nothing is logged');

# whole run: no secret
my $log = slurp_file($node->logfile);
for my $token ($brief, $next, $used, $partner, $partners, $by_id, $there)
{
	my ($secret) = $token->{token} =~ /^trk_.{22}(.{43})/;
	unlike($log, qr/$secret/, "no secret of '$token->{client_id}' in the log");
}

done_testing();
