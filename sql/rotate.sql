-- tr_rotate and tr_rotate_id: the successor, and who may have one.
SET search_path = tr, public;

-- The answer: the successor's columns as tr_issue has them, then its predecessor's.
SELECT * FROM tr_issue('rotate', 'default', '{read,write}', '{"a": 1}') \gset old_
SELECT * FROM tr_rotate(:'old_token') \gset new_
SELECT :'new_token' ~ '^trk_[0-9A-Za-z]{71}$' AS token_shape,
       regress.token_text('trk', regress.id_of(:'new_token') || regress.secret_of(:'new_token')) = :'new_token' AS check_right,
       :'new_token' <> :'old_token' AS other_token, :'new_token_id' <> :'old_token_id' AS other_id,
       :{?new_rotation_key} AS has_rotation_key,
       :'new_family_id' = :'old_token_id' AS same_family, :'new_client_id' AS client_id,
       :'new_owner' = current_user AS own, :'new_status' AS status, :'new_scopes' AS scopes, :'new_metadata' AS metadata,
       :'new_previous_token_id' = :'old_token_id' AS previous, :'new_replayed' AS replayed, :'new_reason' AS reason;
SELECT :'new_expires_at'::timestamptz - :'new_issued_at' AS life,
       :'new_expires_at'::timestamptz - :'new_refresh_at' AS refresh_before,
       :'new_previous_valid_until'::timestamptz - :'new_issued_at' AS overlap;

-- Both are valid; the old one says until when.
SELECT valid, reason, status, valid_until = :'new_previous_valid_until' AS end_right FROM tr_validate(:'old_token');
SELECT valid, reason, status, valid_until = :'new_expires_at' AS end_right, client_id, scopes, metadata
FROM tr_validate(:'new_token');

-- What is stored.
SELECT t.generation, t.predecessor_id = :'old_token_id' AS successor, t.family_id = :'old_token_id' AS same_family,
       t.status, t.secret_hash = sha256(regress.secret_of(CASE generation WHEN 0 THEN :'old_token' ELSE :'new_token' END)::bytea) AS hash_right,
       t.rotated_at = :'new_issued_at' AS rotated, t.overlap_ends_at = :'new_previous_valid_until' AS overlap_right,
       t.replay_ends_at - t.rotated_at AS replay_window
FROM token_rotation.token t WHERE t.family_id = :'old_family_id' ORDER BY t.generation;
SELECT c.status, c.nonce IS NOT NULL AS has_nonce, c.rotated_at = t.rotated_at AND c.overlap_ends_at = t.overlap_ends_at
       AND c.replay_ends_at = t.replay_ends_at AS same_times
FROM token_rotation.token_cache c JOIN token_rotation.token t USING (token_id)
WHERE t.family_id = :'old_family_id' ORDER BY t.generation;
SELECT a.event, a.client_id, a.owner = current_user AS own, a.token_ref = sha256(uuid_send(:'old_token_id')) AS ref_right,
       a.successor_ref = sha256(uuid_send(:'new_token_id')) AS successor_ref_right, a.reason, a.detail - 'expires_at' - 'overlap_ends_at' AS detail,
       a.detail->>'expires_at' IS NOT NULL AS has_end
FROM token_rotation.audit a WHERE a.client_id = 'rotate' ORDER BY a.seq;

-- On and on: each rotation one generation more.
CREATE TEMP TABLE line (generation serial, token text, token_id uuid, family_id uuid);
INSERT INTO line (token, token_id, family_id) SELECT token, token_id, family_id FROM tr_issue('rotate line');
DO $$
BEGIN
    FOR i IN 1 .. 9 LOOP
        INSERT INTO line (token, token_id, family_id)
        SELECT r.token, r.token_id, r.family_id
        FROM tr.tr_rotate((SELECT token FROM line ORDER BY generation DESC LIMIT 1)) r;
    END LOOP;
END $$;
SELECT l.generation, t.generation, t.status, t.family_id = l.family_id AS same_family,
       t.predecessor_id = lag(l.token_id) OVER (ORDER BY l.generation) AS of_the_one_before,
       (tr_validate(l.token)).reason
FROM line l JOIN token_rotation.token t USING (token_id) ORDER BY l.generation;
SELECT count(DISTINCT regress.secret_of(token)) AS secrets FROM line;

-- Refused, by reason; nothing but the reason is told and nothing is changed.
CREATE TEMP TABLE sample (n serial, what text, token text, key text);
INSERT INTO sample (what, token) SELECT w.what, i.token
FROM unnest(ARRAY['revoked', 'blocked', 'cutoff']) WITH ORDINALITY AS w (what, n), tr_issue('rotate ' || w.what) i
ORDER BY w.n;
SELECT token FROM tr_issue('rotate refused') \gset
SELECT token, rotation_key FROM tr_issue('rotate key', 'partner') \gset key_
SELECT token, rotation_key FROM tr_issue('rotate key', 'partner') \gset key2_
INSERT INTO sample (what, token, key) VALUES
    ('malformed', left(:'token', -1), NULL),
    ('NULL', NULL, NULL),
    ('unknown', regress.token_text('trk', repeat('0', 21) || '1' || regress.secret_of(:'token')), NULL),
    ('wrong secret', regress.guess(:'token'), NULL),
    ('no key', :'key_token', NULL),
    ('key malformed', :'key_token', 'trkr_x'),
    ('key empty', :'key_token', ''),
    ('wrong key', :'key_token', regress.guess(:'key_rotation_key')),
    ('key of another token', :'key_token', :'key2_rotation_key'),
    ('the token as key', :'key_token', :'key_token'),
    ('the key as token', :'key_rotation_key', :'key_rotation_key'),
    ('key and token exchanged', :'key_rotation_key', :'key_token'),
    ('wrong secret, right key', regress.guess(:'key_token'), :'key_rotation_key');
SELECT tr_revoke(token) FROM sample WHERE what = 'revoked';
SELECT tr_block_client('rotate blocked');
SELECT tr_revoke_client('rotate cutoff') IS NOT NULL AS cut;
CREATE TEMP VIEW state AS SELECT token_id, t::text FROM token_rotation.token t
WHERE client_id IN ('rotate revoked', 'rotate blocked', 'rotate cutoff', 'rotate refused', 'rotate key');
CREATE TEMP TABLE before AS TABLE state;
SELECT s.what, r.reason, num_nonnulls(r.*) AS told FROM sample s, tr_rotate(s.token, s.key) r ORDER BY s.n;
SELECT (SELECT count(*) FROM before) AS tokens,
       (SELECT count(*) FROM ((TABLE before EXCEPT TABLE state) UNION ALL (TABLE state EXCEPT TABLE before)) c) AS changed;

-- With a rotation key: the successor has one, too, and only its own serves it.
SELECT token, rotation_key, reason, rotation_key ~ '^trkr_[0-9A-Za-z]{71}$' AS key_shape,
       regress.id_of(token) = regress.id_of(rotation_key) AS same_id,
       regress.secret_of(token) <> regress.secret_of(rotation_key) AS other_secret
FROM tr_rotate(:'key_token', :'key_rotation_key') \gset key3_
SELECT :'key3_reason' AS reason, :'key3_key_shape' AS key_shape, :'key3_same_id' AS same_id,
       :'key3_other_secret' AS other_secret, :'key3_rotation_key' <> :'key_rotation_key' AS other_key;
SELECT reason FROM tr_validate(:'key3_token');
SELECT reason FROM tr_validate(:'key3_rotation_key');
SELECT reason FROM tr_rotate(:'key3_token');
SELECT reason FROM tr_rotate(:'key3_token', :'key_rotation_key');
SELECT reason FROM tr_rotate(:'key3_token', :'key3_rotation_key');
-- A key that nobody asked for does no harm.
SELECT token FROM tr_issue('rotate key') \gset
SELECT reason, rotation_key FROM tr_rotate(:'token', :'key2_rotation_key');

-- The token, not today's policy, says whether a key is needed; the successor is
-- made by today's policy, with no more scopes than before and the shorter life.
INSERT INTO token_rotation.policy (name, prefix, ttl, overlap, replay_window, allowed_scopes)
VALUES ('regress_rotate', 'old', '1 hour', '1 minute', '1 minute', '{a,b,c}');
SELECT token FROM tr_issue('rotate policy', 'regress_rotate', '{c,b,a}', ttl => '30 minutes') \gset old_
UPDATE token_rotation.policy SET prefix = 'new', rotation_proof = 'rotation_key', allowed_scopes = '{a,c,d}', ttl = '2 hours'
WHERE name = 'regress_rotate';
SELECT token, rotation_key, reason, scopes, expires_at - issued_at AS life FROM tr_rotate(:'old_token') \gset new_
SELECT left(:'new_token', 4) AS prefix, left(:'new_rotation_key', 5) AS key_prefix, :'new_reason' AS reason,
       :'new_scopes' AS scopes, :'new_life' AS life;
SELECT reason, scopes FROM tr_validate(:'old_token');
UPDATE token_rotation.policy SET rotation_proof = 'token', allowed_scopes = NULL, ttl = '10 minutes'
WHERE name = 'regress_rotate';
SELECT reason FROM tr_rotate(:'new_token');
SELECT reason, rotation_key, scopes, expires_at - issued_at AS life FROM tr_rotate(:'new_token', :'new_rotation_key');

-- A family has an age.
UPDATE token_rotation.policy SET max_family_age = '20 minutes', ttl = '15 minutes' WHERE name = 'regress_rotate';
SELECT token, issued_at FROM tr_issue('rotate age', 'regress_rotate') \gset
SELECT r.reason, r.expires_at - :'issued_at' < interval '20 minutes' AS shorter FROM tr_rotate(:'token') r \gset
SELECT :'reason' AS reason, :'shorter' AS shorter;
UPDATE token_rotation.policy SET max_family_age = '10 minutes' WHERE name = 'regress_rotate';
SELECT token, issued_at, expires_at - issued_at AS life FROM tr_issue('rotate age', 'regress_rotate') \gset
SELECT r.token, r.reason, r.expires_at = :'issued_at'::timestamptz + interval '10 minutes' AS bounded FROM tr_rotate(:'token') r \gset
SELECT :'life' AS life, :'reason' AS reason, :'bounded' AS bounded;
SELECT r.reason, r.expires_at = :'issued_at'::timestamptz + interval '10 minutes' AS bounded FROM tr_rotate(:'token') r;

-- By id: for operators; the holder gets nothing, and there is one successor.
SELECT token, token_id FROM tr_issue('rotate id') \gset old_
SELECT token, token_id, reason, replayed, previous_token_id, previous_valid_until
FROM tr_rotate_id(:'old_token_id') \gset new_
SELECT :'new_reason' AS reason, :'new_replayed' AS replayed, :'new_previous_token_id' = :'old_token_id' AS previous;
SELECT reason, status FROM tr_validate(:'old_token');
SELECT reason, status FROM tr_validate(:'new_token');
SELECT reason, num_nonnulls(r.*) AS told FROM tr_rotate(:'old_token') r;
SELECT reason, num_nonnulls(r.*) AS told FROM tr_rotate_id(:'old_token_id') r;
SELECT replay_ends_at, nonce IS NULL AS no_nonce FROM token_rotation.token_cache WHERE token_id = :'old_token_id';
SELECT reason, num_nonnulls(r.*) AS told FROM tr_rotate_id('00000000-0000-0000-0000-000000000000') r;
SELECT reason, num_nonnulls(r.*) AS told FROM tr_rotate_id(gen_random_uuid()) r;
SELECT tr_revoke_id(:'new_token_id');
SELECT reason, num_nonnulls(r.*) AS told FROM tr_rotate_id(:'new_token_id') r;
SELECT event, reason FROM token_rotation.audit WHERE client_id = 'rotate id' AND event NOT LIKE '%refused' ORDER BY seq;
-- A successor made by id rotates like any other, by its holder.
SELECT token, token_id FROM tr_issue('rotate id', 'partner') \gset old_
SELECT token, rotation_key FROM tr_rotate_id(:'old_token_id') \gset new_
SELECT reason FROM tr_rotate(:'new_token', :'new_rotation_key');

-- A rollback takes it back, also that of a savepoint; then it can be done again.
SELECT token, token_id FROM tr_issue('rotate rollback') \gset old_
BEGIN;
SAVEPOINT s;
SELECT token FROM tr_rotate(:'old_token') \gset gone_
SELECT reason FROM tr_validate(:'gone_token');
ROLLBACK TO s;
SELECT reason FROM tr_validate(:'gone_token');
SELECT reason, status FROM tr_validate(:'old_token');
SELECT token FROM tr_rotate(:'old_token') \gset gone2_
ROLLBACK;
SELECT reason FROM tr_validate(:'gone2_token');
SELECT reason, status FROM tr_validate(:'old_token');
SELECT nonce IS NULL AS no_nonce FROM token_rotation.token_cache WHERE token_id = :'old_token_id';
SELECT token, replayed FROM tr_rotate(:'old_token') \gset new_
SELECT :'new_replayed' AS replayed, :'new_token' NOT IN (:'gone_token', :'gone2_token') AS another_one;
SELECT generation, status FROM token_rotation.tokens WHERE client_id = 'rotate rollback' ORDER BY 1;

-- Two savepoints deep, committed: as if there were none.
SELECT token FROM tr_issue('rotate savepoints') \gset old_
BEGIN;
SAVEPOINT a;
SAVEPOINT b;
SELECT token FROM tr_rotate(:'old_token') \gset new_
RELEASE a;
COMMIT;
SELECT reason FROM tr_validate(:'new_token');

-- It writes, so not in a READ ONLY transaction.
BEGIN READ ONLY;
SELECT tr_rotate(:'new_token');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT tr_rotate_id(:'old_token_id');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;

-- Under one snapshot: the second call sees what the first has made.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT reason, replayed FROM tr_rotate(:'new_token');
SELECT reason, replayed FROM tr_rotate(:'new_token');
COMMIT;

SELECT tr_block_client('rotate blocked', false);
DELETE FROM token_rotation.cutoff WHERE subject LIKE 'rotate%';
DELETE FROM token_rotation.token WHERE client_id LIKE 'rotate%';
DELETE FROM token_rotation.policy WHERE name LIKE 'regress%';
