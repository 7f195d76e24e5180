-- tr_validate and tr_validate_many: every reason, and what is told beside it.
SET search_path = tr, public;
INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window, refresh_before)
VALUES ('regress_second', '1 second', '0.5 seconds', '1 second', '0'),
       ('regress_window', '20 seconds', '0.5 seconds', '1 second', '0');

-- Good: everything about it is told.
SELECT token, token_id, expires_at, refresh_at
FROM tr_issue('validate', 'internal', '{read,write}', '{"a": 1}') \gset
SELECT valid, reason, token_id = :'token_id' AS id_right, client_id, owner = current_user AS own, policy, scopes,
       metadata, status, valid_until = :'expires_at' AS end_right, refresh_at = :'refresh_at' AS refresh_right
FROM tr_validate(:'token');
SELECT valid, reason FROM tr_validate(token => :'token', origin => '192.0.2.1');

-- What is told, by reason: the holder's data with a valid token only, state and
-- times only when the secret matched.
CREATE FUNCTION regress.told(token text, OUT valid boolean, OUT reason text, OUT has_id boolean,
                             OUT holder_nulls int, OUT status text, OUT has_times boolean)
    LANGUAGE sql BEGIN ATOMIC
    SELECT v.valid, v.reason, v.token_id IS NOT NULL,
           num_nulls(v.client_id, v.owner, v.policy, v.scopes, v.metadata), v.status,
           v.valid_until IS NOT NULL AND v.refresh_at IS NOT NULL
    FROM tr.tr_validate(token) v;
END;
CREATE TEMP TABLE sample (n serial, what text, token text);
INSERT INTO sample (what, token)
SELECT w.what, i.token
FROM unnest(ARRAY['good', 'rotating', 'revoked', 'blocked', 'cutoff', 'expired', 'overlap ended', 'finished'])
     WITH ORDINALITY AS w (what, n),
     tr_issue('validate ' || w.what,
              CASE w.what WHEN 'expired' THEN 'regress_second' WHEN 'overlap ended' THEN 'regress_window'
                          ELSE 'default' END) i
ORDER BY w.n;
INSERT INTO sample (what, token) SELECT 'rotation key', rotation_key FROM tr_issue('validate key', 'partner');
INSERT INTO sample (what, token) VALUES
    ('malformed', left(:'token', -1)),
    ('NULL', NULL),
    ('unknown', regress.token_text('trk', repeat('0', 21) || '1' || regress.secret_of(:'token'))),
    ('unknown: id of the mark', regress.token_text('trk', repeat('0', 22) || regress.secret_of(:'token'))),
    ('wrong secret', regress.guess(:'token')),
    ('wrong secret, revoked', (SELECT regress.guess(token) FROM sample WHERE what = 'revoked')),
    ('wrong secret, expired', (SELECT regress.guess(token) FROM sample WHERE what = 'expired')),
    ('other prefix', regress.token_text('other0', regress.id_of(:'token') || regress.secret_of(:'token'))),
    ('longest prefix', regress.token_text('a234567890123456', regress.id_of(:'token') || regress.secret_of(:'token')));
SELECT tr_revoke(token) FROM sample WHERE what = 'revoked';
SELECT tr_block_client('validate blocked');
SELECT tr_revoke_client('validate cutoff') IS NOT NULL AS cut;
SELECT reason, what = 'finished' AND tr_finish_overlap(previous_token_id) AS finished
FROM sample, tr_rotate(token) WHERE what IN ('rotating', 'overlap ended', 'finished') ORDER BY n;
-- (these two watch the end come: expiry after a tenth of the life as leeway, then a window's)
SELECT w.* FROM sample s JOIN token_rotation.tokens t ON s.what = 'expired' AND t.client_id = 'validate expired',
    regress.watch(s.token, t.expires_at + interval '0.1 seconds') w;
SELECT w.* FROM sample s JOIN token_rotation.tokens t ON s.what = 'overlap ended'
    AND t.client_id = 'validate overlap ended' AND t.generation = 0,
    regress.watch(s.token, t.overlap_ends_at + interval '2 seconds') w;
SELECT s.what, v.* FROM sample s, regress.told(s.token) v ORDER BY s.n;

-- Where the window ends first, valid_until is its end; leeway is not in it.
SELECT t.what, v.valid_until = CASE t.what WHEN 'good' THEN s.expires_at ELSE s.overlap_ends_at END AS right_end
FROM sample t JOIN token_rotation.tokens s ON s.client_id = 'validate ' || t.what AND s.generation = 0,
    tr_validate(t.token) v
WHERE t.what IN ('good', 'rotating', 'overlap ended', 'finished') ORDER BY t.n;

-- Leeway: 30 seconds, at most a tenth of the life; for the future, too.  (Times
-- are changed by hand here, as a clock that was set would, and taken back.)
BEGIN;
CREATE TEMP TABLE shifted ON COMMIT DROP AS
SELECT n, life, born, i.token
FROM (VALUES (1, '1 day', '-1 day -20 seconds'), (2, '1 day', '-1 day -40 seconds'),
             (3, '100 seconds', '-105 seconds'), (4, '100 seconds', '-115 seconds'),
             (5, '1 day', '20 seconds'), (6, '1 day', '40 seconds'),
             (7, '100 seconds', '5 seconds'), (8, '100 seconds', '15 seconds')) w (n, life, born),
    tr_issue('validate shifted ' || n) i;
UPDATE token_rotation.token SET issued_at = now() + born::interval, expires_at = now() + born::interval + life::interval,
    refresh_at = now() + born::interval + life::interval
FROM shifted WHERE client_id = 'validate shifted ' || n;
SELECT life, born, reason, valid_until < clock_timestamp() AS end_passed FROM shifted, tr_validate(token) ORDER BY n;
SELECT life, born, t.status FROM shifted JOIN token_rotation.tokens t ON client_id = 'validate shifted ' || n ORDER BY n;
-- (rotating: one way or the other, but not an error)
SELECT life, born, t.state FROM shifted, regress.try(format('SELECT tr.tr_rotate(%L)', token)) t ORDER BY n;
ROLLBACK;

-- Many: in order, each element on its own, duplicates and NULLs too.
SELECT m.ord, m.valid, m.reason, m.client_id, num_nulls(m.*) AS nulls
FROM tr_validate_many(ARRAY[:'token', NULL, '', :'token', (SELECT token FROM sample WHERE what = 'revoked'),
                            regress.guess(:'token')]) m;
SELECT count(*) FROM tr_validate_many('{}');
SELECT m.ord, m.reason FROM tr_validate_many(ARRAY[[:'token', NULL], ['x', :'token']]) m;
SELECT count(*), bool_and(a = (m.valid, m.reason, m.token_id, m.client_id, m.owner, m.policy, m.scopes, m.metadata,
                               m.status, m.valid_until, m.refresh_at)) AS same_as_one_by_one
FROM sample s, tr_validate_many((SELECT array_agg(token ORDER BY n) FROM sample)) m, tr_validate(s.token) a
WHERE s.n = m.ord AND a.valid;
SELECT state, message, detail, hint FROM regress.try('SELECT tr.tr_validate_many(NULL)');

-- It writes nothing: READ ONLY transactions may, at every isolation level.
BEGIN READ ONLY;
SELECT reason FROM tr_validate(:'token');
SELECT reason FROM tr_validate(regress.guess(:'token'));
SELECT reason FROM tr_validate_many(ARRAY[:'token']);
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SELECT reason FROM tr_validate(:'token');
ROLLBACK;

-- In one statement with the work that it is for.
CREATE TEMP TABLE orders (client text, what text);
INSERT INTO orders SELECT v.client_id, 'paid' FROM tr_validate(:'token') v WHERE v.valid RETURNING *;
INSERT INTO orders SELECT v.client_id, 'stolen' FROM tr_validate(regress.guess(:'token')) v WHERE v.valid RETURNING *;
PREPARE hot (text) AS SELECT (tr_validate($1)).reason;
SELECT count(*) FROM generate_series(1, 10) g, tr_validate(left(:'token', 100 + g)) v WHERE v.valid;
EXECUTE hot(:'token');
EXECUTE hot(left(:'token', 10));
DEALLOCATE hot;

-- Usage arrives by the worker: counted per acceptance, the first one noted.
SELECT token, token_id FROM tr_issue('validate usage') \gset used_
SELECT count(*) FROM generate_series(1, 7) g, tr_validate(left(:'used_token', 100 + g)) v WHERE v.valid;
SELECT reason FROM tr_validate(regress.guess(:'used_token'));
SELECT regress.wait_for(format('SELECT use_count >= 7 FROM token_rotation.tokens WHERE token_id = %L', :'used_token_id'));
SELECT use_count, first_used_at >= issued_at AS first_noted, last_used_at >= first_used_at AS last_noted
FROM token_rotation.tokens WHERE token_id = :'used_token_id';

-- That of a token whose transaction is open waits until the worker can see the token.
-- The first uses of other tokens ask for visits at once.
CREATE TEMP TABLE unused AS SELECT i.token FROM generate_series(1, 2) g, tr_issue('validate unused ' || g) i;
CREATE PROCEDURE pg_temp.be_visited() LANGUAGE plpgsql AS $$
DECLARE
    unused text;
    since timestamptz;
BEGIN
    FOR unused IN SELECT u.token FROM pg_temp.unused u LOOP
        since := clock_timestamp();
        PERFORM tr.tr_validate(unused), regress.wait_for(format('SELECT last_visit > %L FROM tr.tr_health()', since));
    END LOOP;
END $$;
BEGIN;
SELECT token, token_id FROM tr_issue('validate own usage') \gset own_
SELECT reason FROM tr_validate(:'own_token');
SAVEPOINT s;
SELECT reason FROM tr_validate(:'own_token');
CALL pg_temp.be_visited();
ROLLBACK TO s;
SELECT reason FROM tr_validate(:'own_token');
COMMIT;
SELECT regress.wait_for(format('SELECT use_count >= 3 FROM token_rotation.tokens WHERE token_id = %L', :'own_token_id'));
SELECT use_count, first_used_at >= issued_at AS first_noted FROM token_rotation.tokens WHERE token_id = :'own_token_id';
-- A rotation knows of it at once.
BEGIN;
SELECT token AS next FROM tr_rotate(:'own_token') \gset own_
SELECT reason FROM tr_validate(:'own_next');
SELECT tr_cancel_rotation(:'own_token_id');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;

-- The cache may vanish: no verdict changes, and it comes back.
CREATE TEMP TABLE verdict AS SELECT s.n, v.* FROM sample s, tr_validate(s.token) v WHERE s.what <> 'overlap ended';
DELETE FROM token_rotation.token_cache;
SELECT regress.wake();
SELECT count(*) AS changed FROM (
    (SELECT * FROM verdict EXCEPT SELECT s.n, v.* FROM sample s, tr_validate(s.token) v)) c;
SELECT regress.wait_for(format('SELECT count(*) = 2 FROM token_rotation.token_cache WHERE token_id IN (%L, %L)',
                               :'token_id', '00000000-0000-0000-0000-000000000000'));
SELECT count(*) AS changed FROM (
    (SELECT * FROM verdict EXCEPT SELECT s.n, v.* FROM sample s, tr_validate(s.token) v)) c;

-- Degraded scopes mean nothing on a primary that can write.
INSERT INTO token_rotation.policy (name, degraded_scopes) VALUES ('regress_degraded', '{}');
SELECT v.reason, v.scopes FROM tr_issue('validate degraded', 'regress_degraded', '{read}') i, tr_validate(i.token) v;

SELECT tr_block_client('validate blocked', false);
DELETE FROM token_rotation.cutoff WHERE subject LIKE 'validate%';
DELETE FROM token_rotation.token WHERE client_id LIKE 'validate%';
DELETE FROM token_rotation.policy WHERE name LIKE 'regress%';
DROP FUNCTION regress.told;
