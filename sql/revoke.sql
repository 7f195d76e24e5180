-- tr_revoke and tr_revoke_id: one token or its family; and forgetting what has ended.
SET search_path = tr, public;
INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window) VALUES ('regress_second', '1 second', '0', '1 second');

-- The holder's: true when this call ended something, and it has ended at once.
SELECT token, token_id FROM tr_issue('revoke') \gset
SELECT tr_revoke(:'token', 'signed out');
SELECT valid, reason, status FROM tr_validate(:'token');
SELECT status, revoked_at BETWEEN issued_at AND clock_timestamp() AS revoked_now, revoked_reason
FROM token_rotation.tokens WHERE token_id = :'token_id';
SELECT revoked_at FROM token_rotation.tokens WHERE token_id = :'token_id' \gset
SELECT count(*) AS cached FROM token_rotation.token_cache WHERE token_id = :'token_id';
-- Again: nothing, and the first time and reason stand.
SELECT tr_revoke(:'token', 'again'), tr_revoke(:'token', 'again', true), tr_revoke_id(:'token_id', 'again'),
       tr_revoke_id(:'token_id', 'again', true);
SELECT revoked_at = :'revoked_at' AS first_stands, revoked_reason FROM token_rotation.tokens WHERE token_id = :'token_id';
SELECT event, reason, detail - 'expires_at' AS detail, num_nonnulls(successor_ref, origin) AS more FROM token_rotation.audit
WHERE client_id = 'revoke' AND event NOT LIKE '%refused' ORDER BY seq;

-- What is no such token is no error (RFC 7009), and ends nothing.
SELECT token, rotation_key FROM tr_issue('revoke none', 'partner') \gset
SELECT tr_revoke(NULL), tr_revoke(''), tr_revoke('x'), tr_revoke(left(:'token', -1)), tr_revoke(regress.guess(:'token')),
       tr_revoke(regress.token_text('trk', repeat('0', 21) || '1' || regress.secret_of(:'token'))),
       tr_revoke(:'rotation_key'), tr_revoke(regress.guess(:'token'), family => true);
SELECT tr_revoke_id('00000000-0000-0000-0000-000000000000'), tr_revoke_id(gen_random_uuid(), NULL, true);
SELECT reason FROM tr_validate(:'token');

-- A reason may be missing; one that holds a token is masked; one that is too long is refused.
SELECT i.token, i.token_id, tr_revoke(i.token) FROM tr_issue('revoke reason') i \gset
SELECT revoked_reason IS NULL AS none FROM token_rotation.tokens WHERE token_id = :'token_id';
SELECT token, token_id FROM tr_issue('revoke reason') \gset
SELECT state, message, detail, hint FROM regress.try(format('SELECT tr.tr_revoke(%L, repeat(%L, 128))', :'token', 'ü'));
SELECT reason FROM tr_validate(:'token');
SELECT tr_revoke(:'token', 'found ' || :'token' || ' in a log');
SELECT revoked_reason = 'found ' || left(:'token', 26) || '_[redacted] in a log' AS masked
FROM token_rotation.tokens WHERE token_id = :'token_id';
SELECT reason = 'found ' || left(:'token', 26) || '_[redacted] in a log' AS masked
FROM token_rotation.audit WHERE token_ref = sha256(uuid_send(:'token_id')) AND event = 'revoked';

-- Families of three generations: one token, or all of them, from any.
CREATE TEMP TABLE line AS
SELECT n, what, a.token AS t0, b.token AS t1, c.token AS t2, a.token_id AS id0, b.token_id AS id1, c.token_id AS id2
FROM unnest(ARRAY['first', 'middle', 'last', 'family by first', 'family by middle', 'family by last',
                  'id', 'family by id', 'half dead']) WITH ORDINALITY AS w (what, n),
    tr_issue('revoke line ' || n) a, tr_rotate(a.token) b, tr_rotate(b.token) c;
SELECT what, CASE what
    WHEN 'first' THEN tr_revoke(t0)::text
    WHEN 'middle' THEN tr_revoke(t1)::text
    WHEN 'last' THEN tr_revoke(t2)::text
    WHEN 'family by first' THEN tr_revoke(t0, 'all', true)::text
    WHEN 'family by middle' THEN tr_revoke(t1, 'all', true)::text
    WHEN 'family by last' THEN tr_revoke(t2, 'all', true)::text
    WHEN 'id' THEN tr_revoke_id(id1)::text
    WHEN 'family by id' THEN tr_revoke_id(id1, 'all', true)::text
    WHEN 'half dead' THEN tr_revoke_id(id0)::text || tr_finish_overlap(id1)::text || tr_revoke_id(id0, 'all', true)::text
    END AS answer
FROM line ORDER BY n;
SELECT what, (tr_validate(t0)).reason AS first, (tr_validate(t1)).reason AS middle, (tr_validate(t2)).reason AS last
FROM line ORDER BY n;
SELECT what, (SELECT string_agg(a.event, ' ' ORDER BY a.seq) FROM token_rotation.audit a
              WHERE a.client_id = 'revoke line ' || n AND a.event NOT IN ('issued', 'rotated')) AS events,
       (SELECT count(DISTINCT a.token_ref) FROM token_rotation.audit a
        WHERE a.client_id = 'revoke line ' || n AND a.event = 'revoked') AS tokens
FROM line ORDER BY n;

-- A token that has ended is no switch that ends its family; one that is only
-- blocked is good for that.
SELECT i.token AS old, i.token_id, r.token AS new FROM tr_issue('revoke ended', 'low_latency') i, tr_rotate(i.token) r \gset
SELECT tr_revoke(:'old', 'from a log', true), (tr_validate(:'new')).reason;
SELECT tr_sweep() >= 0 AS swept;
SELECT tr_revoke(:'old', 'from a log', true), (tr_validate(:'new')).reason;
SELECT i.token, i.expires_at FROM tr_issue('revoke ended', 'regress_second') i \gset
SELECT * FROM regress.watch(:'token', :'expires_at'::timestamptz + interval '0.1 seconds');
SELECT tr_revoke(:'token');
SELECT token FROM tr_issue('revoke cut') \gset
SELECT tr_revoke_client('revoke cut') IS NOT NULL AS cut;
SELECT tr_revoke(:'token');
SELECT token FROM tr_issue('revoke blocked') \gset
SELECT tr_block_client('revoke blocked');
SELECT tr_revoke(:'token'), (tr_validate(:'token')).reason;
SELECT tr_block_client('revoke blocked', false);
SELECT reason FROM tr_validate(:'token');
-- An operator may end what is blocked or cut off, for good.
SELECT token, token_id FROM tr_issue('revoke for good') \gset
SELECT tr_revoke_client('revoke for good') IS NOT NULL AS cut;
SELECT tr_revoke_id(:'token_id'), (tr_validate(:'token')).reason;

-- A rollback takes it back, also that of a savepoint.
SELECT token FROM tr_issue('revoke rollback') \gset
BEGIN;
SAVEPOINT s;
SELECT tr_revoke(:'token'), (tr_validate(:'token')).reason;
ROLLBACK TO s;
SELECT reason FROM tr_validate(:'token');
SELECT tr_revoke(:'token');
ROLLBACK;
SELECT reason FROM tr_validate(:'token');
BEGIN READ ONLY;
SELECT tr_revoke(:'token');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT tr_revoke(:'token'), tr_revoke(:'token'), (tr_validate(:'token')).reason;
COMMIT;

-- tr_prune forgets families that have wholly ended, oldest first, as many
-- tokens as asked, of the caller's realms; the trail stays.
CREATE ROLE regress_pruner;
CREATE ROLE regress_other;
SELECT tr_grant('regress_pruner', 'operator');
BEGIN;
SET LOCAL token_rotation.realm = 'regress_pruner';
CREATE TEMP TABLE pruned ON COMMIT DROP AS
SELECT n, i.token_id, r.token_id AS next_id FROM generate_series(1, 5) n, tr_issue('revoke prune ' || n) i, tr_rotate(i.token) r;
SET LOCAL token_rotation.realm = 'regress_other';
INSERT INTO pruned SELECT 6, i.token_id, r.token_id FROM tr_issue('revoke prune 6') i, tr_rotate(i.token) r;
SET LOCAL token_rotation.realm = '';
SELECT n, CASE n WHEN 4 THEN tr_revoke_id(token_id) ELSE tr_revoke_id(token_id, NULL, true) END AS ended FROM pruned ORDER BY n;
-- (these ended n days ago, but of the fifth a token only just now)
UPDATE token_rotation.token SET issued_at = issued_at - n * interval '1 day', revoked_at = revoked_at - n * interval '1 day',
    rotated_at = rotated_at - n * interval '1 day', overlap_ends_at = overlap_ends_at - n * interval '1 day',
    replay_ends_at = replay_ends_at - n * interval '1 day'
FROM pruned p WHERE token.token_id IN (p.token_id, p.next_id) AND NOT (n = 5 AND token.token_id = p.token_id);
SET LOCAL ROLE regress_pruner;
SELECT tr_prune(now() - interval '10 days');
SELECT tr_prune(now() - interval '36 hours', 1);
SELECT client_id, count(*) FROM token_rotation.tokens WHERE client_id LIKE 'revoke prune%' GROUP BY 1 ORDER BY 1;
SELECT tr_prune(now() - interval '36 hours');
SELECT tr_prune(now() - interval '36 hours');
SELECT tr_prune(now() - interval '1 hour');
SELECT tr_prune(now() + interval '1 hour');
RESET ROLE;
SELECT client_id, owner, string_agg(status, ' ' ORDER BY generation) AS status
FROM token_rotation.token WHERE client_id LIKE 'revoke prune%' GROUP BY 1, 2 ORDER BY 1;
SELECT client_id, count(*) FROM token_rotation.audit WHERE client_id LIKE 'revoke prune%' GROUP BY 1 ORDER BY 1;
SELECT event, role, detail->'tokens' AS tokens, (detail->>'before')::timestamptz < at AS past
FROM token_rotation.audit WHERE event = 'pruned' AND role = 'regress_pruner' ORDER BY seq;
ROLLBACK;
-- What is pruned while its replay window is open leaves nothing in the cache.
BEGIN;
SET LOCAL token_rotation.realm = 'regress_other';
SELECT token, token_id FROM tr_issue('revoke prune early') \gset
SELECT token_id AS next_id FROM tr_rotate(:'token', overlap => '0') \gset
SELECT tr_sweep(), tr_revoke_id(:'next_id');
SELECT count(*), (tr_validate(:'token')).reason FROM token_rotation.token_cache WHERE token_id = :'token_id';
SELECT tr_prune(clock_timestamp() + interval '1 minute');
SELECT count(*), (tr_validate(:'token')).reason FROM token_rotation.token_cache WHERE token_id = :'token_id';
ROLLBACK;
SELECT tr_ungrant('regress_pruner', 'operator');
DROP ROLE regress_pruner, regress_other;

DELETE FROM token_rotation.cutoff WHERE subject LIKE 'revoke%';
DELETE FROM token_rotation.token WHERE client_id LIKE 'revoke%';
DELETE FROM token_rotation.policy WHERE name LIKE 'regress%';
