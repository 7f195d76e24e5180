-- One write that ends any number of tokens: tr_revoke_client, tr_revoke_policy,
-- tr_revoke_before, the setting not_before; and the one that only stops them.
SET search_path = tr, public;
INSERT INTO token_rotation.policy (name) VALUES ('regress_cut'), ('regress_kept');
CREATE ROLE regress_a;
CREATE ROLE regress_b;
CREATE ROLE regress_operator_a;
CREATE ROLE regress_operator_ab;
SELECT tr_grant('regress_operator_a', 'operator', 'regress_a');
SELECT tr_grant('regress_operator_ab', 'operator', 'regress_a');
SELECT tr_grant('regress_operator_ab', 'operator', 'regress_b');
SELECT tr_grant('regress_operator_ab', 'issuer', 'regress_b');
CREATE TEMP TABLE sample (n serial, what text, token text, token_id uuid);
CREATE FUNCTION regress.put(what text, client text, policy text, realm text) RETURNS void LANGUAGE sql BEGIN ATOMIC
    SELECT set_config('token_rotation.realm', realm, true);
    INSERT INTO sample (what, token, token_id) SELECT what, i.token, i.token_id FROM tr.tr_issue(client, policy) i;
    SELECT set_config('token_rotation.realm', '', true);
END;
CREATE TEMP VIEW verdict AS SELECT n, what, (tr.tr_validate(token)).reason FROM sample;

-- By client: what it has, rotated or not, whatever the policy; nobody else's.
SELECT regress.put('client', 'cutoff a', 'default', ''), regress.put('client, other policy', 'cutoff a', 'regress_cut', ''),
       regress.put('client, other realm', 'cutoff a', 'default', 'regress_a'), regress.put('other client', 'cutoff b', 'default', '');
INSERT INTO sample (what, token, token_id) SELECT 'client, successor', r.token, r.token_id FROM sample s, tr_rotate(s.token) r
WHERE s.what = 'client';
SELECT tr_revoke_client('cutoff a', 'contract ended') AS cutoff \gset
SELECT :'cutoff' BETWEEN now() - interval '1 minute' AND clock_timestamp() AS just_now;
SELECT * FROM verdict ORDER BY n;
SELECT s.what, t.status, t.revoked_at, v.status AS status_told, v.valid_until IS NOT NULL AS has_end
FROM sample s JOIN token_rotation.tokens t USING (token_id), tr_validate(s.token) v ORDER BY n;
SELECT s.what, r.reason, num_nonnulls(r.*) AS told FROM sample s, tr_rotate(s.token) r WHERE what LIKE 'client%' ORDER BY n;
SELECT s.what, r.reason, num_nonnulls(r.*) AS told FROM sample s, tr_rotate_id(s.token_id) r WHERE what LIKE 'client%' ORDER BY n;
SELECT kind, subject, owner, before = :'cutoff' AS before_right, at <= before AS at_right, reason FROM token_rotation.cutoff;
-- What is issued afterwards is valid.
SELECT regress.put('client, afterwards', 'cutoff a', 'default', '');
SELECT * FROM verdict WHERE what LIKE 'client%' ORDER BY n;
-- Again: the newest ends that, too, and there is one row.
SELECT tr_revoke_client('cutoff a') > :'cutoff' AS later;
SELECT * FROM verdict WHERE what LIKE 'client%' ORDER BY n;
SELECT count(*), count(reason) AS reasons FROM token_rotation.cutoff;
-- A client that has nothing may have one.
SELECT tr_revoke_client('cutoff nobody') IS NOT NULL AS cut;
SELECT event, client_id, owner, reason, detail - 'before' AS detail, (detail->>'before')::timestamptz <= clock_timestamp() AS has_moment,
       num_nonnulls(token_ref, successor_ref, origin) AS more
FROM token_rotation.audit WHERE event = 'cutoff' AND client_id LIKE 'cutoff%' ORDER BY seq;
DELETE FROM token_rotation.cutoff;
SELECT * FROM verdict WHERE what LIKE 'client%' ORDER BY n;
TRUNCATE sample;

-- By policy.
SELECT regress.put('policy', 'cutoff p', 'regress_cut', ''), regress.put('policy, other client', 'cutoff q', 'regress_cut', ''),
       regress.put('policy, other realm', 'cutoff p', 'regress_cut', 'regress_b'),
       regress.put('other policy', 'cutoff p', 'regress_kept', '');
SELECT tr_revoke_policy('regress_cut', 'leaked') IS NOT NULL AS cut;
SELECT regress.put('policy, afterwards', 'cutoff p', 'regress_cut', '');
SELECT * FROM verdict ORDER BY n;
SELECT kind, subject, owner, reason FROM token_rotation.cutoff;
SELECT event, client_id, owner, reason, detail - 'before' AS detail
FROM token_rotation.audit WHERE event = 'cutoff' AND detail->>'policy' = 'regress_cut';
DELETE FROM token_rotation.cutoff;
TRUNCATE sample;

-- By time.
SELECT regress.put('before', 'cutoff t', 'default', ''), regress.put('before, other realm', 'cutoff t', 'default', 'regress_a');
SELECT clock_timestamp() AS moment \gset
SELECT regress.put('after', 'cutoff t', 'default', '');
SELECT tr_revoke_before(:'moment', 'restored') = :'moment' AS as_asked;
SELECT * FROM verdict ORDER BY n;
-- An earlier one changes nothing, a later one more; the one in force is told.
SELECT tr_revoke_before(:'moment'::timestamptz - interval '1 day', 'earlier') = :'moment' AS stands;
SELECT kind, subject, owner, before = :'moment' AS before_right, reason FROM token_rotation.cutoff;
SELECT * FROM verdict ORDER BY n;
SELECT tr_revoke_before(clock_timestamp()) > :'moment' AS later;
SELECT * FROM verdict ORDER BY n;
SELECT regress.put('afterwards', 'cutoff t', 'default', '');
SELECT reason FROM verdict WHERE what = 'afterwards';
DELETE FROM token_rotation.cutoff;
TRUNCATE sample;

-- By the setting not_before, of which a reload is enough.  (A session looks for it
-- between its commands, so it is many commands that wait, each a
-- little longer, five minutes in all.)
SELECT regress.put('before', 'cutoff s', 'default', '');
SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC' + interval '2 seconds', 'YYYY-MM-DD HH24:MI:SS"+00"') AS moment \gset
ALTER SYSTEM SET token_rotation.not_before = :'moment';
SELECT pg_reload_conf();
\set ECHO none
\o /dev/null
SELECT format('SELECT pg_sleep(%s) WHERE current_setting(''token_rotation.not_before'') NOT LIKE %L', 0.01 * i, :'moment')
FROM generate_series(1, 240) i \gexec
\o
\set ECHO all
SELECT current_setting('token_rotation.not_before') = :'moment' AS set;
SELECT * FROM verdict;
SELECT status FROM token_rotation.tokens WHERE client_id = 'cutoff s';
SELECT regress.wait_until(:'moment');
SELECT regress.put('after', 'cutoff s', 'default', '');
SELECT * FROM verdict ORDER BY n;
-- While it lies ahead nothing is issued that it would end at once.
ALTER SYSTEM SET token_rotation.not_before = '2099-12-31 23:59:59Z';
SELECT pg_reload_conf();
\set ECHO none
\o /dev/null
SELECT format('SELECT pg_sleep(%s) WHERE current_setting(''token_rotation.not_before'') NOT LIKE %L', 0.01 * i, '2099%')
FROM generate_series(1, 240) i \gexec
\o
\set ECHO all
SHOW token_rotation.not_before;
\x on
SELECT * FROM regress.try($$SELECT tr.tr_issue('cutoff s')$$);
\x off
SELECT * FROM verdict ORDER BY n;
ALTER SYSTEM RESET token_rotation.not_before;
SELECT pg_reload_conf();
\set ECHO none
\o /dev/null
SELECT format('SELECT pg_sleep(%s) WHERE current_setting(''token_rotation.not_before'') NOT LIKE %L', 0.01 * i, '')
FROM generate_series(1, 240) i \gexec
\o
\set ECHO all
SHOW token_rotation.not_before;
SELECT * FROM verdict ORDER BY n;
TRUNCATE sample;

-- Of a realm: members end what is the realm's, whoever issued it, and no more.
SELECT regress.put('a', 'cutoff r', 'regress_cut', 'regress_a'), regress.put('b', 'cutoff r', 'regress_cut', 'regress_b'),
       regress.put('mine', 'cutoff r', 'regress_cut', '');
BEGIN;
SET LOCAL ROLE regress_operator_a;
SELECT tr_revoke_client('cutoff r') IS NOT NULL AS cut;
RESET ROLE;
SELECT * FROM verdict ORDER BY n;
SELECT kind, subject, owner FROM token_rotation.cutoff ORDER BY owner;
SELECT owner, role FROM token_rotation.audit WHERE event = 'cutoff' AND client_id = 'cutoff r' ORDER BY owner;
ROLLBACK;
BEGIN;
SET LOCAL ROLE regress_operator_a;
SELECT tr_revoke_policy('regress_cut') IS NOT NULL AS cut;
RESET ROLE;
SELECT * FROM verdict ORDER BY n;
ROLLBACK;
BEGIN;
SET LOCAL ROLE regress_operator_a;
SELECT tr_revoke_before(clock_timestamp()) IS NOT NULL AS cut;
RESET ROLE;
SELECT * FROM verdict ORDER BY n;
ROLLBACK;
-- With the setting realm of that one only; a superuser's, too.
BEGIN;
SET LOCAL token_rotation.realm = 'regress_b';
SET LOCAL ROLE regress_operator_ab;
SELECT tr_revoke_client('cutoff r') IS NOT NULL AS cut;
RESET ROLE;
SELECT * FROM verdict ORDER BY n;
ROLLBACK;
BEGIN;
SET LOCAL token_rotation.realm = 'regress_a';
SELECT tr_revoke_before(clock_timestamp()) IS NOT NULL AS cut;
SELECT * FROM verdict ORDER BY n;
ROLLBACK;
BEGIN;
SET LOCAL token_rotation.realm = 'regress_b';
SET LOCAL ROLE regress_operator_a;
SELECT tr_revoke_client('cutoff r');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
SELECT * FROM verdict ORDER BY n;
TRUNCATE sample;

-- A block stops a client, and can be taken back.
SELECT regress.put('client', 'cutoff x', 'default', ''), regress.put('other client', 'cutoff y', 'default', '');
SELECT tr_block_client('cutoff x'), tr_block_client('cutoff x'), tr_block_client('cutoff x', true);
SELECT * FROM verdict ORDER BY n;
SELECT s.what, r.reason FROM sample s, tr_rotate(s.token) r ORDER BY n;
SELECT s.what, r.reason FROM sample s, tr_rotate_id(s.token_id) r WHERE what = 'client';
\x on
SELECT * FROM regress.try($$SELECT tr.tr_issue('cutoff x')$$);
\x off
SELECT status FROM token_rotation.tokens WHERE client_id = 'cutoff x';
SELECT client_id, owner, at <= clock_timestamp() AS has_moment FROM token_rotation.blocked_client;
SELECT tr_block_client('cutoff x', false), tr_block_client('cutoff x', false), tr_block_client('cutoff never', false);
SELECT * FROM verdict WHERE what = 'client';
SELECT reason FROM sample s, tr_rotate(s.token) r WHERE what = 'client';
SELECT event, client_id, owner, num_nonnulls(token_ref, successor_ref, origin, reason, detail) AS more
FROM token_rotation.audit WHERE event IN ('blocked', 'unblocked') AND client_id LIKE 'cutoff%' ORDER BY seq;
TRUNCATE sample;
-- Of a realm likewise; a superuser takes all of them back.
SELECT regress.put('a', 'cutoff z', 'default', 'regress_a'), regress.put('b', 'cutoff z', 'default', 'regress_b');
SET ROLE regress_operator_a;
SELECT tr_block_client('cutoff z');
RESET ROLE;
SELECT * FROM verdict ORDER BY n;
SELECT client_id, owner FROM token_rotation.blocked_client ORDER BY owner;
SET token_rotation.realm = 'regress_b';
SET ROLE regress_operator_ab;
SELECT tr_block_client('cutoff z', false);
SELECT owner FROM tr_issue('cutoff z');
RESET ROLE;
SET token_rotation.realm = 'regress_a';
SELECT state FROM regress.try($$SELECT tr.tr_issue('cutoff z')$$);
RESET token_rotation.realm;
SELECT * FROM verdict ORDER BY n;
SELECT tr_block_client('cutoff z', false);
SELECT * FROM verdict ORDER BY n;
-- All realms: who is a member of one cannot take that back.
SELECT tr_block_client('cutoff z');
SET ROLE regress_operator_a;
SELECT tr_block_client('cutoff z', false);
RESET ROLE;
SELECT * FROM verdict ORDER BY n;
SELECT tr_block_client('cutoff z', false);
TRUNCATE sample;

-- Whatever changes the tables counts at once: DELETE, TRUNCATE, also as a replica.
SELECT regress.put('client', 'cutoff v', 'default', '');
SELECT tr_revoke_client('cutoff v') IS NOT NULL AS cut;
SELECT * FROM verdict ORDER BY n;
BEGIN;
TRUNCATE token_rotation.cutoff;
SELECT * FROM verdict ORDER BY n;
ROLLBACK;
SELECT * FROM verdict ORDER BY n;
SET session_replication_role = replica;
UPDATE token_rotation.cutoff SET before = before - interval '1 day';
RESET session_replication_role;
SELECT * FROM verdict ORDER BY n;
UPDATE token_rotation.cutoff SET before = before + interval '1 day';
SELECT * FROM verdict ORDER BY n;
TRUNCATE token_rotation.cutoff;
SELECT * FROM verdict ORDER BY n;
INSERT INTO token_rotation.blocked_client VALUES ('cutoff v', '', now());
SELECT * FROM verdict ORDER BY n;
TRUNCATE token_rotation.blocked_client;
SELECT * FROM verdict ORDER BY n;
TRUNCATE sample;

-- What was made before one in the same transaction does not commit, nor a
-- successor of what was ended; what was taken back meanwhile does no harm.
BEGIN;
SELECT count(*) FROM tr_issue('cutoff c');
SELECT tr_revoke_client('cutoff c') IS NOT NULL AS cut;
COMMIT;
SELECT count(*) FROM token_rotation.tokens WHERE client_id = 'cutoff c';
SELECT token, token_id FROM tr_issue('cutoff c') \gset
BEGIN;
SELECT reason FROM tr_rotate(:'token');
SELECT tr_revoke_client('cutoff c') IS NOT NULL AS cut;
COMMIT;
BEGIN;
SELECT reason FROM tr_rotate_id(:'token_id');
SELECT tr_block_client('cutoff c');
COMMIT;
SELECT status FROM token_rotation.tokens WHERE client_id = 'cutoff c';
BEGIN;
SAVEPOINT s;
SELECT count(*) FROM tr_issue('cutoff c');
ROLLBACK TO s;
SELECT tr_revoke_client('cutoff c') IS NOT NULL AS cut;
SELECT count(*) FROM tr_issue('cutoff c');
COMMIT;
SELECT status FROM token_rotation.tokens WHERE client_id = 'cutoff c' ORDER BY status;
BEGIN;
SELECT reason FROM tr_issue('cutoff d') i, tr_rotate(i.token);
SAVEPOINT s;
SELECT tr_revoke_client('cutoff d') IS NOT NULL AS cut;
ROLLBACK TO s;
COMMIT;
SELECT generation, status FROM token_rotation.tokens WHERE client_id = 'cutoff d' ORDER BY 1;

-- A rollback takes it back.
SELECT regress.put('rollback', 'cutoff e', 'default', '');
BEGIN;
SELECT tr_revoke_client('cutoff e') IS NOT NULL AS cut;
SELECT * FROM verdict;
ROLLBACK;
SELECT * FROM verdict;
BEGIN READ ONLY;
SELECT tr_revoke_client('cutoff e');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT tr_block_client('cutoff e', false);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;

DROP FUNCTION regress.put;
DELETE FROM token_rotation.cutoff;
DELETE FROM token_rotation.token WHERE client_id LIKE 'cutoff%';
DELETE FROM token_rotation.policy WHERE name LIKE 'regress%';
SELECT tr_ungrant(role, preset, realm) FROM (VALUES ('regress_operator_a', 'operator', 'regress_a'),
    ('regress_operator_ab', 'operator', 'regress_a'), ('regress_operator_ab', 'operator', 'regress_b'),
    ('regress_operator_ab', 'issuer', 'regress_b')) g (role, preset, realm);
DROP ROLE regress_operator_a, regress_operator_ab, regress_a, regress_b;
