-- The trail: what each row says, that it is append-only, and that a rollback
-- takes back what was done but not what was refused.
SET search_path = tr, public;
CREATE ROLE regress_realm;
CREATE ROLE regress_login;
CREATE ROLE regress_backend;
GRANT regress_backend TO regress_login;
SELECT count(tr_grant('regress_backend', preset, 'regress_realm'))
FROM unnest(ARRAY['validator', 'issuer', 'operator']) preset;
CREATE TEMP TABLE named (what text, id uuid);
GRANT ALL ON named TO PUBLIC;

-- One of each event.
SET SESSION AUTHORIZATION regress_login;
SET ROLE regress_backend;
SET application_name = 'audit test';
SET token_rotation.realm = 'regress_realm';
SELECT token, token_id FROM tr_issue('audit') \gset a_
SELECT token, token_id FROM tr_rotate(:'a_token', origin => '192.0.2.1') \gset b_
SELECT replayed FROM tr_rotate(:'a_token', origin => '192.0.2.2');
SELECT tr_extend_overlap(:'a_token_id', '1 minute') IS NOT NULL AS extended;
SELECT tr_cancel_rotation(:'a_token_id');
SELECT token, token_id FROM tr_rotate_id(:'a_token_id') \gset c_
SELECT reason FROM tr_rotate(:'a_token', origin => 'refused here');
SELECT tr_finish_overlap(:'a_token_id');
SELECT tr_revoke(:'a_token', 'late');
SELECT tr_revoke(:'c_token', 'signed out');
SELECT token, token_id FROM tr_issue('audit', 'partner') \gset d_
SELECT reason FROM tr_rotate(:'d_token', origin => 'no key');
SELECT tr_revoke_id(:'d_token_id', 'by id');
SELECT i.token_id AS z_token_id, r.token_id AS z2_token_id FROM tr_issue('audit', 'low_latency') i, tr_rotate(i.token) r \gset
SELECT tr_revoke_client('audit', 'moved away') IS NOT NULL AS cut;
SELECT tr_revoke_policy('internal') IS NOT NULL AS cut;
SELECT tr_revoke_before('2000-01-01 00:00:00+00', 'old backup') IS NOT NULL AS cut;
SELECT tr_block_client('audit'), tr_block_client('audit'), tr_block_client('audit', false), tr_block_client('audit', false);
INSERT INTO named VALUES ('a', :'a_token_id'), ('b', :'b_token_id'), ('c', :'c_token_id'), ('d', :'d_token_id'),
    ('z', :'z_token_id'), ('z2', :'z2_token_id');
RESET SESSION AUTHORIZATION;
RESET token_rotation.realm;
SELECT regress.wait_for($$SELECT count(*) = 4 FROM token_rotation.audit WHERE client_id = 'audit'
                          AND event IN ('replayed', 'replayed_elsewhere', 'rotation_refused', 'revocation_refused')$$);
SELECT regress.wait_for($$SELECT count(*) = 1 FROM token_rotation.audit WHERE client_id = 'audit' AND event = 'overlap_ended'$$);
CREATE TEMP VIEW trail AS
SELECT a.seq, a.event, n.what AS token, s.what AS successor, a.reason, a.origin,
       a.detail - ARRAY['before', 'expires_at', 'overlap_ends_at', 'first_at', 'last_at'] AS detail,
       a.client_id, a.owner, a.actor, a.role, a.application_name, a.client_addr
FROM token_rotation.audit a LEFT JOIN named n ON a.token_ref = sha256(uuid_send(n.id))
LEFT JOIN named s ON a.successor_ref = sha256(uuid_send(s.id));
SELECT event, token, successor, reason, origin, detail FROM trail
WHERE client_id = 'audit' AND actor = 'regress_login' AND event NOT IN ('replayed', 'replayed_elsewhere', 'rotation_refused', 'revocation_refused')
ORDER BY seq;
SELECT event, detail, owner, reason, origin FROM trail
WHERE client_id IS NULL AND event = 'cutoff' AND role = 'regress_backend' ORDER BY seq, owner;
-- (these come by the worker, in the order in which they happened)
SELECT event, token, successor, reason, origin, detail FROM trail
WHERE client_id = 'audit' AND event IN ('replayed', 'replayed_elsewhere', 'rotation_refused', 'revocation_refused') ORDER BY seq;
SELECT event, token, successor, owner, actor = 'token_rotation_worker' AND role = actor AS by_the_worker FROM trail
WHERE client_id = 'audit' AND event = 'overlap_ended' ORDER BY seq;
-- Who it was: session user, current user, application, realm, peer.
SELECT actor, role, application_name, owner, client_addr, count(*) FROM trail
WHERE client_id = 'audit' AND event NOT IN ('overlap_ended', 'cutoff', 'blocked', 'unblocked') GROUP BY 1, 2, 3, 4, 5;
SELECT bool_and(at BETWEEN now() - interval '10 minutes' AND clock_timestamp()) AS clock_right,
       bool_and(seq > extract(epoch FROM now() - interval '1 day') * 1000000) AS seq_right,
       bool_and(xid < pg_current_xact_id()) AS xid_right
FROM token_rotation.audit WHERE client_id = 'audit';
-- Of privileged changes.
SELECT tr_grant('regress_login', 'validator', 'regress_realm'), tr_ungrant('regress_login', 'validator', 'regress_realm'),
       tr_set_owner('regress_backend', 'regress_login');
SELECT event, owner, detail FROM trail
WHERE event IN ('granted', 'ungranted', 'owner_changed') AND detail::text LIKE '%regress_login%' ORDER BY seq;

-- It is written in the transaction of the change, with its number.
BEGIN;
SELECT count(*) FROM tr_issue('audit xid') i, tr_rotate(i.token);
SAVEPOINT s;
SELECT count(*) FROM tr_issue('audit xid');
RELEASE s;
SELECT event, xid = pg_current_xact_id() AS xid_right FROM token_rotation.audit WHERE client_id = 'audit xid' ORDER BY seq;
COMMIT;
SELECT count(*), count(DISTINCT xid) AS transactions FROM token_rotation.audit WHERE client_id = 'audit xid';

-- A rollback takes back what was done, not what was refused or handed out again.
SELECT token, token_id FROM tr_issue('audit rollback') \gset
SELECT count(*) FROM tr_rotate(:'token');
BEGIN;
SELECT count(*) FROM tr_issue('audit rollback');
SELECT tr_extend_overlap(:'token_id', '1 minute') IS NOT NULL AS extended;
SELECT replayed FROM tr_rotate(:'token', origin => 'rolled back');
SELECT tr_revoke(:'token');
SELECT reason FROM tr_rotate(:'token', origin => 'rolled back');
ROLLBACK;
SELECT regress.wait_for($$SELECT count(*) = 2 FROM token_rotation.audit WHERE client_id = 'audit rollback' AND origin = 'rolled back'$$);
SELECT event, reason, origin FROM token_rotation.audit WHERE client_id = 'audit rollback' ORDER BY seq;
SELECT reason, status FROM tr_validate(:'token');
-- Refusals that prove nothing are counted: per reason, role and round.
SET ROLE regress_backend;
SELECT count(*) FROM generate_series(1, 20) n, tr_rotate('audit junk ' || n);
SELECT count(*) FROM generate_series(1, 10) n, tr_rotate(left(regress.guess(:'token'), 100 + n), origin => 'nobody proved this');
SELECT count(*) FROM generate_series(1, 5) n, tr_revoke('audit junk ' || n);
SELECT reason FROM tr_rotate_id(gen_random_uuid());
RESET ROLE;
SELECT regress.wake();
SELECT regress.wait_for($$SELECT sum((detail->>'count')::int) >= 36 FROM token_rotation.audit WHERE role = 'regress_backend' AND actor = 'token_rotation_worker'$$);
SELECT event, reason, sum((detail->>'count')::int) AS count, count(DISTINCT role) AS roles, min(actor) AS actor,
       count(token_ref) + count(client_id) + count(owner) + count(origin) AS proven,
       bool_and((detail->>'first_at')::timestamptz <= (detail->>'last_at')::timestamptz AND (detail->>'last_at')::timestamptz <= at) AS times_right
FROM token_rotation.audit WHERE role = 'regress_backend' AND actor = 'token_rotation_worker' GROUP BY 1, 2 ORDER BY 1, 2;

-- Token-shaped text that a caller supplies is masked, long text clipped.
SELECT token FROM tr_issue('audit masked') \gset
SELECT set_config('application_name', left(:'token', 63), false) IS NOT NULL AS set;
SELECT reason FROM tr_rotate(:'token', origin => 'proxy of ' || :'token');
SELECT tr_revoke(:'token', 'seen: ' || :'token');
SET application_name = 'audit test';
SELECT reason FROM tr_issue('audit clipped') i, tr_rotate(i.token, origin => repeat('ü', 1000));
SELECT event, replace(application_name, left(:'token', 26), '...') AS application_name,
       replace(origin, left(:'token', 26), '...') AS origin, replace(reason, left(:'token', 26), '...') AS reason
FROM token_rotation.audit WHERE client_id = 'audit masked' AND event IN ('rotated', 'revoked') ORDER BY seq;
SELECT event, length(origin), origin = repeat('ü', 127) AS whole_characters
FROM token_rotation.audit WHERE client_id = 'audit clipped' AND event = 'rotated';
SELECT count(*) AS rows_with_the_secret FROM token_rotation.audit a WHERE a::text LIKE '%' || regress.secret_of(:'token') || '%';

-- Moments in a detail are in UTC and ISO 8601, whatever the session has set.
SET TimeZone = 'Asia/Kolkata';
SET DateStyle = 'German';
SELECT token, token_id FROM tr_issue('audit moments') \gset
SELECT reason FROM tr_rotate(:'token');
SELECT tr_extend_overlap(:'token_id', '1 minute') IS NOT NULL AS extended;
SELECT tr_revoke_client('audit moments') IS NOT NULL AS cut;
RESET TimeZone;
RESET DateStyle;
SELECT a.event, d.key, d.value ~ '^\d{4}-\d\d-\d\dT[0-9:.]+\+00:00$' AS utc
FROM token_rotation.audit a, jsonb_each_text(a.detail) d
WHERE a.client_id = 'audit moments' AND d.key ~ '(_at|before)$' ORDER BY a.seq, 2;

-- Nobody changes or removes a row: not a superuser, not a replica, not even none.
CREATE FUNCTION regress.attempts() RETURNS TABLE (statement text, state text, message text) LANGUAGE sql AS $$
    SELECT q, t.state, t.message FROM unnest(ARRAY[
        'UPDATE token_rotation.audit SET actor = ''x''',
        'UPDATE token_rotation.audit SET actor = ''x'' WHERE false',
        'DELETE FROM token_rotation.audit',
        'DELETE FROM token_rotation.audit WHERE seq < 0',
        'TRUNCATE token_rotation.audit',
        'TRUNCATE token_rotation.token, token_rotation.audit',
        'INSERT INTO token_rotation.audit (seq, at, event, actor, role, xid) VALUES (1, now(), ''issued'', ''x'', ''x'', ''1'')',
        'INSERT INTO token_rotation.audit (seq, at, event, actor, role, xid) VALUES (1, now(), ''issued'', ''x'', ''x'', ''1'') ON CONFLICT DO NOTHING',
        'INSERT INTO token_rotation.audit (seq, at, event, actor, role, xid) VALUES (1, now(), ''issued'', ''x'', ''x'', ''1'') ON CONFLICT (seq) DO UPDATE SET actor = ''x''',
        'MERGE INTO token_rotation.audit a USING (SELECT 1) s ON false WHEN NOT MATCHED THEN INSERT (seq, at, event, actor, role, xid) VALUES (1, now(), ''x'', ''x'', ''x'', ''1'')',
        'MERGE INTO token_rotation.audit a USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE',
        'MERGE INTO token_rotation.audit a USING (SELECT 1) s ON true WHEN MATCHED THEN UPDATE SET actor = ''x''']) q,
        regress.try(q) t
$$;
SELECT md5(string_agg(a::text, '' ORDER BY seq)) AS trail FROM token_rotation.audit a WHERE client_id = 'audit' \gset
SELECT * FROM regress.attempts();
SET session_replication_role = replica;
SELECT state, message, count(*) FROM regress.attempts() GROUP BY 1, 2 ORDER BY 1, 2;
RESET session_replication_role;
-- Not the role that rows are written as, nor a role that was made its member.
CREATE ROLE regress_mole;
GRANT token_rotation_worker TO regress_mole;
GRANT ALL ON token_rotation.audit TO regress_mole;
SET ROLE regress_mole;
SELECT state, count(*) FROM regress.attempts() GROUP BY 1;
\copy token_rotation.audit (seq, at, event, actor, role, xid) FROM /dev/null
\echo :LAST_ERROR_SQLSTATE
SET ROLE token_rotation_worker;
INSERT INTO token_rotation.audit (seq, at, event, actor, role, xid) VALUES (1, now(), 'issued', 'x', 'x', '1');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM token_rotation.audit;
\echo :LAST_ERROR_SQLSTATE
SELECT tr.tr_validate('x');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
REVOKE token_rotation_worker FROM regress_mole;
REVOKE ALL ON token_rotation.audit FROM regress_mole;
DROP ROLE regress_mole;
SELECT md5(string_agg(a::text, '' ORDER BY seq)) = :'trail' AS unchanged FROM token_rotation.audit a WHERE client_id = 'audit';
-- A superuser's restore brings rows with COPY.
BEGIN;
COPY token_rotation.audit (seq, at, event, actor, role, xid) FROM STDIN;
1	2000-01-01	issued	regress_restored	x	1
\.
SELECT event, actor FROM token_rotation.audit WHERE seq = 1;
ROLLBACK;

-- Change and row commit together or not at all: what cannot be recorded is not
-- done; and the writing stops with its statement.
BEGIN;
ALTER TABLE token_rotation.audit ADD CONSTRAINT regress_fails CHECK (client_id <> 'audit fails') NOT VALID;
SELECT state FROM regress.try($$SELECT tr.tr_issue('audit fails')$$);
SELECT state FROM regress.try($$SELECT tr.tr_revoke_client('audit fails')$$);
SELECT state FROM regress.try($$SELECT tr.tr_block_client('audit fails')$$);
SELECT (SELECT count(*) FROM token_rotation.token WHERE client_id = 'audit fails') AS tokens,
       (SELECT count(*) FROM token_rotation.cutoff WHERE subject = 'audit fails') AS cutoffs,
       (SELECT count(*) FROM token_rotation.blocked_client WHERE client_id = 'audit fails') AS blocks,
       current_user = session_user AS same_user, current_setting('search_path') AS search_path;
SELECT state FROM regress.try($$INSERT INTO token_rotation.audit (seq, at, event, actor, role, xid) VALUES (1, now(), 'issued', 'x', 'x', '1')$$);
SELECT count(*) FROM tr_issue('audit goes on');
ROLLBACK;

-- The trigger's function is good for nothing else.
SELECT state, message FROM regress.try('SELECT tr.tr_audit_guard()');
-- No row outlives its token, or is lost with it.
SELECT count(*) AS before FROM token_rotation.audit WHERE client_id LIKE 'audit%' \gset
DELETE FROM token_rotation.token WHERE client_id LIKE 'audit%';
SELECT count(*) - :before AS lost FROM token_rotation.audit WHERE client_id LIKE 'audit%';

RESET application_name;
DROP FUNCTION regress.attempts;
DELETE FROM token_rotation.cutoff;
SELECT count(tr_ungrant('regress_backend', preset, 'regress_realm'))
FROM unnest(ARRAY['validator', 'issuer', 'operator']) preset;
DROP ROLE regress_login, regress_backend, regress_realm;
