-- Reuse: a token that must be dead is used for rotating.  Then two hold what one
-- should, and on_reuse of the policy says what ends.
SET search_path = tr, public;
-- Windows of 0: a token is dead as soon as it is rotated.
INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window, on_reuse) VALUES
    ('regress_audit', '1 hour', '0', '0', DEFAULT),
    ('regress_successor', '1 hour', '0', '0', 'revoke_successor'),
    ('regress_family', '1 hour', '0', '0', 'revoke_family');
INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window, on_reuse, rotation_proof) VALUES
    ('regress_key', '1 hour', '0', '0', 'revoke_family', 'rotation_key');
SELECT state, message FROM regress.try($$UPDATE token_rotation.policy SET on_reuse = 'nothing' WHERE name = 'regress_audit'$$);
SELECT name, on_reuse FROM token_rotation.policy WHERE shipped ORDER BY 1;
-- What the trail says of a client, each thing once: how many rows there are of the
-- revoked depends on whether the worker has recorded the end of a window before.
CREATE FUNCTION regress.trail(client text) RETURNS TABLE (event text, reason text, origin text, ended boolean)
LANGUAGE sql AS $$
    SELECT DISTINCT ON (min(a.seq)) a.event, a.reason, a.origin, (a.detail->>'ended')::int > 0 FROM token_rotation.audit a
    WHERE a.client_id = client AND a.event IN ('reuse', 'revoked') GROUP BY 1, 2, 3, 4 ORDER BY min(a.seq)
$$;

-- A family of three of each policy, the middle one used, the last one live.
CREATE TEMP TABLE line AS
SELECT p AS policy, a.token AS t0, b.token AS t1, c.token AS t2
FROM unnest(ARRAY['audit', 'successor', 'family']) p,
    tr_issue('reuse ' || p, 'regress_' || p) a, tr_rotate(a.token) b, tr_validate(b.token) v, tr_rotate(b.token) c;
-- The thief's turn, with the middle one: its successor was never used, which is a
-- lost answer asked for late.
SELECT policy, (tr_rotate(t1)).reason FROM line ORDER BY 1;
-- Once it was used, two hold what one should.
SELECT policy, (tr_validate(t2)).valid FROM line ORDER BY 1;
SELECT policy, r.reason, r.token, r.token_id FROM line, tr_rotate(t1, origin => '198.51.100.7') r ORDER BY 1;
SELECT policy, (tr_validate(t0)).valid AS first, (tr_validate(t1)).valid AS middle, (tr_validate(t2)).reason AS last
FROM line ORDER BY 1;
SELECT policy, t.* FROM line, regress.trail('reuse ' || policy) t ORDER BY policy, event;
-- Again: what was ended needs no second end, what was not ended is told again.
SELECT policy, (tr_rotate(t1)).reason IN ('revoked', 'overlap_ended') AS dead, (tr_rotate(t1)).reason = 'reuse' AS reuse
FROM line ORDER BY 1;

-- An older generation: a grandparent, whose successor nobody ever used.
CREATE TEMP TABLE old AS
SELECT a.token AS t0, b.token AS t1, c.token AS t2
FROM tr_issue('reuse grandparent', 'regress_family') a, tr_rotate(a.token) b, tr_rotate(b.token) c;
SELECT (tr_rotate(t0)).reason FROM old;
SELECT (tr_validate(t2)).reason FROM old;
SELECT * FROM regress.trail('reuse grandparent');

-- What is no reuse, and ends nothing: a wrong secret, an id alone, the token where
-- a rotation key is asked for, validating, an operator.
CREATE TEMP TABLE keyed AS
SELECT a.token AS t0, a.rotation_key AS k0, a.token_id AS id0, b.token AS t1
FROM tr_issue('reuse keyed', 'regress_key') a, tr_rotate(a.token, a.rotation_key) b;
SELECT (tr_validate(t1)).valid FROM keyed;
SELECT (tr_rotate(regress.guess(t0), k0)).reason AS guessed, (tr_rotate(t0)).reason AS without_key,
    (tr_rotate(t0, regress.guess(k0))).reason AS wrong_key, (tr_validate(t0)).reason AS validated,
    (tr_rotate_id(id0)).reason AS by_id FROM keyed;
SELECT (tr_rotate(regress.token_text('trk', left(regress.id_of(t0), 22) || repeat('0', 43)), k0)).reason AS id_alone FROM keyed;
SELECT (tr_validate(t1)).valid FROM keyed;
SELECT * FROM regress.trail('reuse keyed');
-- The whole proof is.
SELECT (tr_rotate(t0, k0)).reason FROM keyed;
SELECT (tr_validate(t1)).reason FROM keyed;
SELECT * FROM regress.trail('reuse keyed');

-- Too late: when it ended the policy's ttl ago or longer, an old token from a log
-- is no switch.
INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window, on_reuse, max_family_age)
VALUES ('regress_late', '1 second', '0', '0', 'revoke_family', NULL);
SELECT token AS late FROM tr_issue('reuse late', 'regress_late') \gset
SELECT token AS late_next FROM tr_rotate(:'late') \gset
SELECT valid FROM tr_validate(:'late_next');
SELECT regress.wait_until(rotated_at + interval '1.1 seconds') FROM token_rotation.tokens WHERE client_id = 'reuse late' AND generation = 0;
SELECT reason IN ('overlap_ended', 'expired') AS ended FROM tr_rotate(:'late');
SELECT count(*) FROM regress.trail('reuse late') WHERE event = 'reuse';

-- Although the caller rolls back: the transaction, a savepoint, the statement.
CREATE TEMP TABLE undone AS
SELECT how, a.token AS t0, b.token AS t1
FROM unnest(ARRAY['transaction', 'savepoint', 'statement', 'inner savepoint', 'kept savepoint']) u (how),
    tr_issue('reuse ' || how, 'regress_family') a, tr_rotate(a.token) b;
SELECT count(*) FROM undone, tr_validate(t1) v WHERE v.valid;
SELECT t0 AS t0_transaction FROM undone WHERE how = 'transaction' \gset
SELECT t0 AS t0_savepoint FROM undone WHERE how = 'savepoint' \gset
SELECT t0 AS t0_statement FROM undone WHERE how = 'statement' \gset
SELECT t0 AS t0_inner FROM undone WHERE how = 'inner savepoint' \gset
SELECT t0 AS t0_kept FROM undone WHERE how = 'kept savepoint' \gset
BEGIN;
SELECT reason FROM tr_rotate(:'t0_transaction');
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT reason FROM tr_rotate(:'t0_savepoint');
ROLLBACK TO s;
COMMIT;
SELECT state FROM regress.try(format('SELECT 1 / (reason = %L)::int - 1 / (reason <> %L)::int FROM tr.tr_rotate(%L)', 'reuse', 'reuse', :'t0_statement'));
BEGIN;
SAVEPOINT outer_one;
SAVEPOINT inner_one;
SELECT reason FROM tr_rotate(:'t0_inner');
RELEASE inner_one;
ROLLBACK TO outer_one;
COMMIT;
BEGIN;
SAVEPOINT s;
SELECT reason FROM tr_rotate(:'t0_kept');
RELEASE s;
COMMIT;
SELECT regress.wait_for($$SELECT count(*) = 5 FROM token_rotation.audit WHERE event = 'reuse'
    AND client_id IN ('reuse transaction', 'reuse savepoint', 'reuse statement', 'reuse inner savepoint', 'reuse kept savepoint')$$);
SELECT how, (tr_validate(t1)).reason FROM undone ORDER BY 1;
SELECT how, t.* FROM undone, regress.trail('reuse ' || how) t ORDER BY how, event;

-- Where the rotation itself is rolled back there was no reuse.
SELECT token AS whole FROM tr_issue('reuse whole', 'regress_family') \gset
BEGIN;
SELECT token AS whole_next FROM tr_rotate(:'whole') \gset
SELECT valid FROM tr_validate(:'whole_next');
SELECT reason FROM tr_rotate(:'whole');
ROLLBACK;
SELECT regress.wait_for($$SELECT count(*) = 1 FROM token_rotation.audit WHERE client_id = 'reuse whole' AND event = 'reuse'$$);
SELECT * FROM regress.trail('reuse whole');
SELECT valid FROM tr_validate(:'whole');

-- Nor is it one to ask for what an operator has rotated, whose holder knows nothing.
SELECT token AS theirs, token_id AS theirs_id FROM tr_issue('reuse operator', 'regress_family') \gset
SELECT token AS given FROM tr_rotate_id(:'theirs_id') \gset
SELECT valid FROM tr_validate(:'given');
SELECT reason FROM tr_rotate(:'theirs');
SELECT valid FROM tr_validate(:'given');

-- A generation that was revoked on its own hides none; nor does an open replay
-- window whose answer cannot be given any more.
SELECT a.token AS g0, b.token AS g1, c.token AS g2
FROM tr_issue('reuse gap', 'regress_family') a, tr_rotate(a.token) b, tr_rotate(b.token) c \gset
SELECT tr_revoke_id(token_id) FROM token_rotation.tokens WHERE client_id = 'reuse gap' AND generation = 1;
SELECT reason FROM tr_rotate(:'g0');
SELECT reason FROM tr_validate(:'g2');
INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window, on_reuse) VALUES ('regress_open', '1 hour', '0', '1 hour', 'revoke_family');
SELECT a.token AS w0, b.token AS w1, c.token AS w2
FROM tr_issue('reuse window', 'regress_open') a, tr_rotate(a.token) b, tr_rotate(b.token) c \gset
SELECT replayed FROM tr_rotate(:'w1');
SELECT reason FROM tr_rotate(:'w0');
SELECT reason FROM tr_validate(:'w2');

-- Replays are no reuse; from elsewhere, or after the successor was used, they are
-- events of their own.
SELECT token AS r FROM tr_issue('reuse replay') \gset
SELECT token AS next FROM tr_rotate(:'r', origin => '192.0.2.1') \gset
SELECT replayed FROM tr_rotate(:'r', origin => '192.0.2.1');
SELECT replayed FROM tr_rotate(:'r');
SELECT replayed FROM tr_rotate(:'r', origin => '198.51.100.7');
SELECT valid FROM tr_validate(:'next');
SELECT replayed FROM tr_rotate(:'r', origin => '192.0.2.1');
SELECT replayed FROM tr_rotate(:'r', origin => '198.51.100.7');
SELECT regress.wait_for($$SELECT count(*) = 5 FROM token_rotation.audit WHERE client_id = 'reuse replay' AND event LIKE 'replayed%'$$);
SELECT event, reason, origin, detail FROM token_rotation.audit WHERE client_id = 'reuse replay' AND event LIKE 'replayed%' ORDER BY seq;

DROP FUNCTION regress.trail;
DELETE FROM token_rotation.token WHERE client_id LIKE 'reuse%';
DELETE FROM token_rotation.policy WHERE name LIKE 'regress%';
