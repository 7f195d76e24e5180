-- tr_issue: what it answers, what it stores, what limits it.
SET search_path = tr, public;

-- The answer, with every default.
SELECT * FROM tr_issue('issue default') \gset
SELECT :'token' ~ '^trk_[0-9A-Za-z]{71}$' AS token_shape,
       regress.token_text('trk', regress.id_of(:'token') || regress.secret_of(:'token')) = :'token' AS check_right,
       :{?rotation_key} AS has_rotation_key,
       :'family_id' = :'token_id' AS is_first,
       :'client_id' AS client_id,
       :'owner' = current_user AS own,
       :'status' AS status, :'scopes' AS scopes, :'metadata' AS metadata;
SELECT :'expires_at'::timestamptz - :'issued_at' AS life,
       :'expires_at'::timestamptz - :'refresh_at' AS refresh_before,
       :'issued_at'::timestamptz BETWEEN now() - interval '1 minute' AND clock_timestamp() AS issued_now;

-- What is stored: the answer without the secret, of which there is a hash.
SELECT t.prefix, t.family_id = t.token_id AS first, t.generation, t.predecessor_id, t.client_id,
       t.policy, t.owner = current_user AS own, t.status,
       t.secret_hash = sha256(regress.secret_of(:'token')::bytea) AS hash_right,
       t.rotation_hash, t.scopes, t.metadata, t.ttl,
       t.issued_at = :'issued_at' AND t.expires_at = :'expires_at' AND t.refresh_at = :'refresh_at' AS times_right,
       num_nulls(t.rotated_at, t.overlap_ends_at, t.replay_ends_at, t.first_used_at, t.last_used_at,
                 t.revoked_at, t.revoked_reason) AS nulls
FROM token_rotation.token t WHERE t.token_id = :'token_id';
SELECT c.status, c.secret_hash = t.secret_hash AS same_hash, c.client_id, c.policy, c.owner = t.owner AS same_owner,
       c.scopes, c.metadata, c.issued_at = t.issued_at AND c.expires_at = t.expires_at
       AND c.refresh_at = t.refresh_at AS same_times, c.nonce, c.use_count
FROM token_rotation.token_cache c JOIN token_rotation.token t USING (token_id)
WHERE c.token_id = :'token_id';
SELECT v.display = left(:'token', 26) AS display_right, v.token_ref = sha256(uuid_send(:'token_id')) AS ref_right,
       v.status, v.client_id, v.use_count
FROM token_rotation.tokens v WHERE v.token_id = :'token_id';
SELECT count(*) AS rows_with_the_secret FROM (
    SELECT t::text FROM token_rotation.token t UNION ALL SELECT c::text FROM token_rotation.token_cache c
    UNION ALL SELECT v::text FROM token_rotation.tokens v UNION ALL SELECT a::text FROM token_rotation.audit a) r (line)
WHERE line LIKE '%' || regress.secret_of(:'token') || '%'
OR line LIKE '%' || encode(regress.secret_of(:'token')::bytea, 'hex') || '%';
SELECT a.event, a.client_id, a.owner = current_user AS own, a.token_ref = sha256(uuid_send(:'token_id')) AS ref_right,
       num_nulls(a.successor_ref, a.origin, a.reason) AS nulls,
       a.detail - 'expires_at' AS detail, (a.detail->>'expires_at')::timestamptz = :'expires_at' AS end_right
FROM token_rotation.audit a WHERE a.client_id = 'issue default' ORDER BY a.seq;
SELECT valid, reason FROM tr_validate(:'token');

-- With every argument.
SELECT * FROM tr_issue(client_id => 'issue äöü', policy => 'partner', scopes => '{write,read,"a:b/c"}',
                       metadata => '{"team": "billing", "n": [1, null]}', ttl => '90 minutes') \gset
SELECT :'token' ~ '^trk_[0-9A-Za-z]{71}$' AS token_shape, :'rotation_key' ~ '^trkr_[0-9A-Za-z]{71}$' AS key_shape,
       regress.id_of(:'token') = regress.id_of(:'rotation_key') AS same_id,
       regress.secret_of(:'token') <> regress.secret_of(:'rotation_key') AS other_secret,
       regress.token_text('trkr', regress.id_of(:'rotation_key') || regress.secret_of(:'rotation_key'))
           = :'rotation_key' AS check_right,
       :'client_id' AS client_id, :'scopes' AS scopes, :'metadata' AS metadata,
       :'expires_at'::timestamptz - :'issued_at' AS life,
       :'expires_at'::timestamptz - :'refresh_at' AS refresh_before;
SELECT t.policy, t.secret_hash = sha256(regress.secret_of(:'token')::bytea) AS hash_right,
       t.rotation_hash = sha256(regress.secret_of(:'rotation_key')::bytea) AS rotation_hash_right, t.ttl
FROM token_rotation.token t WHERE t.token_id = :'token_id';
SELECT valid, reason, client_id, policy, scopes, metadata FROM tr_validate(:'token');

-- Each shipped policy.
SELECT p.name, left(i.token, 4) AS prefix, i.rotation_key IS NOT NULL AS has_key,
       i.expires_at - i.issued_at = p.ttl AS life_right,
       i.expires_at - i.refresh_at AS refresh_before
FROM token_rotation.policy p, tr_issue('issue shipped', p.name) i WHERE p.shipped ORDER BY p.name;

-- A policy of one's own: prefix, life, refresh at a quarter of it, scopes, age.
INSERT INTO token_rotation.policy (name, prefix, ttl, overlap, replay_window, allowed_scopes, rotation_proof)
VALUES ('regress_issue', 'abcdefghijklmn9', '1 second', '0', '0', '{read,write}', 'rotation_key');
SELECT left(i.token, 16) AS prefix, left(i.rotation_key, 17) AS key_prefix, i.scopes,
       i.expires_at - i.issued_at AS life, i.expires_at - i.refresh_at AS refresh_before
FROM tr_issue('issue own', 'regress_issue', '{write}') i;
SELECT state, message, detail, hint
FROM regress.try($$SELECT tr.tr_issue('issue own', 'regress_issue', '{write,admin}')$$);
UPDATE token_rotation.policy SET max_family_age = '90 seconds', ttl = '1 hour', allowed_scopes = '{}'
WHERE name = 'regress_issue';
SELECT i.scopes, i.expires_at - i.issued_at AS life, i.expires_at - i.refresh_at AS refresh_before
FROM tr_issue('issue own', 'regress_issue') i;
SELECT i.expires_at - i.issued_at AS life FROM tr_issue('issue own', 'regress_issue', ttl => '80 seconds') i;
SELECT i.expires_at - i.issued_at AS life FROM tr_issue('issue own', 'regress_issue', ttl => '100 seconds') i;
SELECT state FROM regress.try($$SELECT tr.tr_issue('issue own', 'regress_issue', '{read}')$$);

-- Bounds that are still good.
SELECT length(convert_to(client_id, 'UTF8')) AS bytes FROM tr_issue(repeat('ü', 127) || 'x');
SELECT client_id = E'issue \t\n"\'' AS kept FROM tr_issue(E'issue \t\n"\'');
SELECT expires_at - issued_at AS life FROM tr_issue('issue bounds', ttl => '24 hours');
SELECT expires_at - issued_at AS life FROM tr_issue('issue bounds', ttl => '1 day');
SELECT scopes[1] = repeat('~', 255) AS kept FROM tr_issue('issue bounds', scopes => ARRAY[repeat('~', 255)]);
SELECT cardinality(scopes) FROM tr_issue('issue bounds', scopes => ARRAY(SELECT 's' || g FROM generate_series(1, 300) g));

-- Many at once: no id, no secret twice.
SELECT count(*) AS issued, count(DISTINCT i.token_id) AS ids, count(DISTINCT regress.secret_of(i.token)) AS secrets,
       bool_and(v.valid AND v.client_id = 'issue many ' || n) AS all_valid
FROM generate_series(1, 200) n, tr_issue('issue many ' || n) i, tr_validate(i.token) v;

-- A rollback takes it back, also that of a savepoint.
BEGIN;
SELECT token AS gone FROM tr_issue('issue rollback') \gset
SAVEPOINT s;
SELECT token AS gone_too FROM tr_issue('issue rollback') \gset
SELECT reason FROM tr_validate(:'gone_too');
ROLLBACK TO s;
SELECT reason FROM tr_validate(:'gone_too');
SELECT reason FROM tr_validate(:'gone');
ROLLBACK;
SELECT reason FROM tr_validate(:'gone');
SELECT count(*) FROM token_rotation.audit WHERE client_id = 'issue rollback';

-- It writes, so not in a READ ONLY transaction.
BEGIN READ ONLY;
SELECT tr_issue('issue read only');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;

-- The realm: the setting, else the current user.
CREATE ROLE regress_issuer;
CREATE ROLE regress_realm;
CREATE ROLE regress_other_realm;
SELECT tr_grant('regress_issuer', 'issuer', 'regress_realm');
SET ROLE regress_issuer;
SELECT owner FROM tr_issue('issue realm');
SET token_rotation.realm = 'regress_realm';
SELECT owner FROM tr_issue('issue realm');
SET token_rotation.realm = 'regress_other_realm';
SELECT tr_issue('issue realm');
\echo :LAST_ERROR_SQLSTATE
SET token_rotation.realm = 'regress_no_such_role';
SELECT tr_issue('issue realm');
\echo :LAST_ERROR_SQLSTATE
RESET token_rotation.realm;
RESET ROLE;
SELECT event, owner, role FROM token_rotation.audit WHERE client_id = 'issue realm' ORDER BY seq;
SELECT count(*) AS tokens, count(DISTINCT owner) AS owners FROM token_rotation.tokens WHERE client_id = 'issue realm';

SELECT tr_ungrant('regress_issuer', 'issuer', 'regress_realm');
DELETE FROM token_rotation.token WHERE policy = 'regress_issue' OR client_id LIKE 'issue%' OR client_id LIKE 'ü%';
DELETE FROM token_rotation.policy WHERE name = 'regress_issue';
DROP ROLE regress_issuer, regress_realm, regress_other_realm;
