-- The same rotation asked again: the same answer, for a while.
SET search_path = tr, public;
INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window)
VALUES ('regress_no_replay', '1 hour', '1 minute', '0'),
       ('regress_short', '1 hour', '1 minute', '0.5 seconds'),
       ('regress_long', '30 seconds', '0.2 seconds', '30 seconds');

-- Byte for byte the same, however often, whoever has used or validated it.
SELECT token FROM tr_issue('replay', 'default', '{a}', '{"b": 2}') \gset old_
CREATE TEMP TABLE answers AS SELECT 1 AS n, r.* FROM tr_rotate(:'old_token') r;
INSERT INTO answers SELECT 2, r.* FROM tr_rotate(:'old_token') r;
SELECT v.reason FROM answers a, tr_validate(a.token) v WHERE n = 1;
INSERT INTO answers SELECT 3, r.* FROM tr_rotate(:'old_token') r;
INSERT INTO answers SELECT 4, r.* FROM tr_rotate(:'old_token', origin => '192.0.2.1') r;
INSERT INTO answers SELECT 5, r.* FROM tr_rotate(:'old_token', 'no such key', '0 seconds') r;
SELECT count(*), count(DISTINCT token) AS tokens, count(DISTINCT to_jsonb(a) - 'n' - 'replayed') AS answers FROM answers a;
SELECT n, reason, replayed FROM answers ORDER BY n;
SELECT generation, status FROM token_rotation.tokens WHERE client_id = 'replay' ORDER BY 1;
-- In one transaction, too, with savepoints between.
SELECT token FROM tr_issue('replay') \gset old_
BEGIN;
SELECT token FROM tr_rotate(:'old_token') \gset a_
SAVEPOINT s;
SELECT token, replayed FROM tr_rotate(:'old_token') \gset b_
ROLLBACK TO s;
SELECT token, replayed FROM tr_rotate(:'old_token') \gset c_
COMMIT;
SELECT :'a_token' = :'b_token' AND :'a_token' = :'c_token' AS same, :'b_replayed' AS b, :'c_replayed' AS c;

-- Also after the successor has rotated: each token gets its own direct one.
SELECT token, token_id FROM tr_rotate(:'a_token') \gset next_
SELECT token, token_id, replayed, status FROM tr_rotate(:'old_token') \gset d_
SELECT :'d_token' = :'a_token' AS same, :'d_replayed' AS replayed, :'d_status' AS status;
SELECT token, replayed FROM tr_rotate(:'a_token') \gset e_
SELECT :'e_token' = :'next_token' AS same, :'e_replayed' AS replayed;

-- With a rotation key: only with it, and the key is the same again, too.
SELECT token, rotation_key FROM tr_issue('replay key', 'mobile') \gset old_
SELECT token, rotation_key FROM tr_rotate(:'old_token', :'old_rotation_key') \gset a_
SELECT token, rotation_key, replayed FROM tr_rotate(:'old_token', :'old_rotation_key') \gset b_
SELECT :'a_token' = :'b_token' AS same, :'a_rotation_key' = :'b_rotation_key' AS same_key, :'b_replayed' AS replayed;
SELECT reason, num_nonnulls(r.*) AS told FROM tr_rotate(:'old_token') r;
SELECT reason, num_nonnulls(r.*) AS told FROM tr_rotate(:'old_token', :'a_rotation_key') r;
SELECT reason, num_nonnulls(r.*) AS told FROM tr_rotate(regress.guess(:'old_token'), :'old_rotation_key') r;

-- With no overlap: the old token is dead at once, a lost answer can be fetched.
SELECT token FROM tr_issue('replay no overlap', 'low_latency') \gset old_
SELECT token FROM tr_rotate(:'old_token') \gset a_
SELECT reason, status FROM tr_validate(:'old_token');
SELECT token, replayed FROM tr_rotate(:'old_token') \gset b_
SELECT :'a_token' = :'b_token' AS same, :'b_replayed' AS replayed;
-- Likewise when the window has ended by itself, recorded or not, or was finished.
SELECT token, token_id FROM tr_issue('replay long', 'regress_long') \gset old_
SELECT token, previous_valid_until FROM tr_rotate(:'old_token') \gset a_
SELECT * FROM regress.watch(:'old_token', :'a_previous_valid_until'::timestamptz + interval '3 seconds');
SELECT token, replayed FROM tr_rotate(:'old_token') \gset b_
SELECT :'a_token' = :'b_token' AS same, :'b_replayed' AS replayed;
SELECT regress.wait_for(format($$SELECT status = 'expired' FROM token_rotation.token WHERE token_id = %L$$, :'old_token_id'));
SELECT token, replayed FROM tr_rotate(:'old_token') \gset b_
SELECT :'a_token' = :'b_token' AS same, :'b_replayed' AS replayed;
SELECT token, token_id FROM tr_issue('replay finished') \gset old_
SELECT token FROM tr_rotate(:'old_token') \gset a_
SELECT tr_finish_overlap(:'old_token_id');
SELECT token, replayed FROM tr_rotate(:'old_token') \gset b_
SELECT :'a_token' = :'b_token' AS same, :'b_replayed' AS replayed;

-- Until the replay window ends: then replay_ended while the old token is valid.
SELECT token, token_id FROM tr_issue('replay short', 'regress_short') \gset old_
SELECT token FROM tr_rotate(:'old_token') \gset a_
SELECT replay_ends_at FROM token_rotation.tokens WHERE token_id = :'old_token_id' \gset
SELECT regress.wait_until(:'replay_ends_at');
SELECT reason, num_nonnulls(r.*) AS told FROM tr_rotate(:'old_token') r;
SELECT reason FROM tr_validate(:'old_token');
SELECT reason FROM tr_validate(:'a_token');
-- The worker erases the nonce.
SELECT regress.wake();
SELECT regress.wait_for(format('SELECT nonce IS NULL FROM token_rotation.token_cache WHERE token_id = %L', :'old_token_id'));
SELECT reason FROM tr_rotate(:'old_token');
-- No window at all.
SELECT token, token_id FROM tr_issue('replay none', 'regress_no_replay') \gset old_
SELECT token, reason, replayed FROM tr_rotate(:'old_token') \gset a_
SELECT reason FROM tr_rotate(:'old_token');
SELECT count(*) AS nonces FROM token_rotation.token_cache WHERE token_id = :'old_token_id' AND nonce IS NOT NULL;
SELECT reason FROM tr_validate(:'a_token');

-- Nothing comes again of what was ended: successor or predecessor revoked,
-- client blocked, cut off.
CREATE TEMP TABLE sample AS
SELECT n, what, i.token AS old, i.token_id AS old_id, r.token AS new
FROM unnest(ARRAY['successor revoked', 'predecessor revoked', 'family revoked', 'blocked', 'cutoff'])
     WITH ORDINALITY AS w (what, n), tr_issue('replay ' || what) i, tr_rotate(i.token) r;
SELECT what, tr_revoke(CASE what WHEN 'successor revoked' THEN new ELSE old END, family => what = 'family revoked')
FROM sample WHERE what LIKE '%revoked' ORDER BY n;
SELECT tr_block_client('replay blocked');
SELECT tr_revoke_client('replay cutoff') IS NOT NULL AS cut;
SELECT what, r.reason, num_nonnulls(r.*) AS told, o.reason AS old, w.reason AS new
FROM sample, tr_rotate(old) r, tr_validate(old) o, tr_validate(new) w ORDER BY n;
SELECT tr_block_client('replay blocked', false);
SELECT r.replayed, r.token = s.new AS same FROM sample s, tr_rotate(s.old) r WHERE what = 'blocked';
-- An operator closes the window of one that has ended by itself.
SELECT token, token_id FROM tr_issue('replay closed', 'low_latency') \gset old_
SELECT token FROM tr_rotate(:'old_token') \gset a_
SELECT regress.wait_for(format($$SELECT tr.tr_sweep() >= 0 AND status = 'expired' FROM token_rotation.token WHERE token_id = %L$$, :'old_token_id'));
SELECT replayed FROM tr_rotate(:'old_token');
SELECT tr_revoke_id(:'old_token_id', 'leaked');
SELECT reason, num_nonnulls(r.*) AS told FROM tr_rotate(:'old_token') r;
SELECT reason FROM tr_validate(:'a_token');
SELECT count(*) FROM token_rotation.token_cache WHERE token_id = :'old_token_id';
SELECT event, reason, detail FROM token_rotation.audit WHERE client_id = 'replay closed' AND event = 'revoked';
SELECT tr_revoke_id(:'old_token_id', 'leaked again');

-- The nonce is lost, as in a crash: an unused successor gets another secret,
-- and that is told and audited; a used one is in somebody's hands.
SELECT token, token_id FROM tr_issue('replay lost') \gset old_
SELECT token, token_id, expires_at FROM tr_rotate(:'old_token') \gset a_
DELETE FROM token_rotation.token_cache WHERE token_id IN (:'old_token_id', :'a_token_id');
SELECT token, token_id, expires_at, replayed, reason FROM tr_rotate(:'old_token') \gset b_
SELECT :'b_reason' AS reason, :'b_replayed' AS replayed, :'b_token_id' = :'a_token_id' AS same_id,
       :'b_expires_at' = :'a_expires_at' AS same_end, :'b_token' <> :'a_token' AS other_token;
SELECT reason FROM tr_validate(:'a_token');
SELECT token, replayed FROM tr_rotate(:'old_token') \gset c_
SELECT :'c_token' = :'b_token' AS same, :'c_replayed' AS replayed;
SELECT event, reason, successor_ref = sha256(uuid_send(:'a_token_id')) AS successor_right
FROM token_rotation.audit WHERE client_id = 'replay lost' AND event = 'reissued';
SELECT reason FROM tr_validate(:'b_token');
DELETE FROM token_rotation.token_cache WHERE token_id = :'old_token_id';
SELECT reason, num_nonnulls(r.*) AS told FROM tr_rotate(:'old_token') r;
SELECT reason FROM tr_validate(:'b_token');
SELECT count(*) AS tokens FROM token_rotation.token WHERE client_id = 'replay lost';
-- With a rotation key, both secrets are new.
SELECT token, token_id, rotation_key FROM tr_issue('replay lost', 'partner') \gset old_
SELECT token, rotation_key FROM tr_rotate(:'old_token', :'old_rotation_key') \gset a_
DELETE FROM token_rotation.token_cache WHERE token_id = :'old_token_id';
SELECT reason FROM tr_rotate(:'old_token');
SELECT token, rotation_key FROM tr_rotate(:'old_token', :'old_rotation_key') \gset b_
SELECT :'b_token' <> :'a_token' AS other_token, :'b_rotation_key' <> :'a_rotation_key' AS other_key;
SELECT reason FROM tr_rotate(:'b_token', :'a_rotation_key');
SELECT reason FROM tr_rotate(:'a_token', :'a_rotation_key');
SELECT reason FROM tr_rotate(:'b_token', :'b_rotation_key');

-- Where nonces are, no WAL and no dump comes.
SELECT relpersistence FROM pg_class WHERE oid = 'token_rotation.token_cache'::regclass;
SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'nonce'
WHERE c.relnamespace = 'token_rotation'::regnamespace;

-- Each replay is in the trail, also those of transactions that were rolled back.
SELECT regress.wait_for($$SELECT count(*) >= 8 FROM token_rotation.audit WHERE client_id = 'replay' AND event LIKE 'replayed%'
                          AND reason = 'ok'$$);
SELECT count(*), count(origin) AS with_origin, count(DISTINCT successor_ref) AS successors
FROM token_rotation.audit WHERE client_id = 'replay' AND event LIKE 'replayed%';

DELETE FROM token_rotation.cutoff WHERE subject LIKE 'replay%';
DELETE FROM token_rotation.token WHERE client_id LIKE 'replay%';
DELETE FROM token_rotation.policy WHERE name LIKE 'regress%';
