-- overlap_starts = 'first_use': the successor is pending, and its first use opens the window.
SET search_path = tr, public;
ALTER SYSTEM SET token_rotation.worker_nap = '200ms';
SELECT pg_reload_conf();
INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window, overlap_starts) VALUES
    ('regress_use', '1 hour', '5 minutes', '10 minutes', 'first_use'),
    ('regress_use_zero', '1 hour', '0', '10 minutes', 'first_use');
SELECT state, message FROM regress.try($$INSERT INTO token_rotation.policy (name, overlap_starts) VALUES ('regress_bad', 'never')$$);
CREATE FUNCTION regress.use_line(client text, OUT generation integer, OUT status text, OUT window_left interval, OUT used boolean)
    RETURNS SETOF record
    LANGUAGE sql AS $$
    SELECT generation, status, date_trunc('minute', overlap_ends_at - clock_timestamp() + '30 seconds'), first_used_at IS NOT NULL
    FROM token_rotation.tokens WHERE client_id = client ORDER BY generation
$$;
CREATE FUNCTION regress.use_trail(client text, OUT event text, OUT reason text, OUT has_successor boolean, OUT ends interval)
    RETURNS SETOF record
    LANGUAGE sql AS $$
    SELECT event, reason, successor_ref IS NOT NULL, date_trunc('minute', (detail ->> 'overlap_ends_at')::timestamptz - at + '30 seconds')
    FROM token_rotation.audit WHERE client_id = client ORDER BY seq
$$;
CREATE FUNCTION regress.is_used(client text) RETURNS boolean LANGUAGE sql AS $$
    SELECT regress.wait_for(format($w$SELECT count(*) = 1 FROM token_rotation.audit
        WHERE client_id = %L AND event = 'first_used'$w$, client))
$$;

-- The old token lives on to its own expiry, whoever uses it.
SELECT token AS one, token_id AS one_id FROM tr_issue('use one', 'regress_use') \gset
SELECT token AS next, token_id AS next_id, status, previous_valid_until - issued_at > '59 minutes' AS to_expiry
FROM tr_rotate(:'one') \gset use_
SELECT :'use_status' AS status, :'use_to_expiry' AS to_expiry;
SELECT valid, status, valid_until - clock_timestamp() > '59 minutes' AS to_expiry FROM tr_validate(:'one');
SELECT token = :'use_next' AS same, replayed, status FROM tr_rotate(:'one');
SELECT * FROM regress.use_line('use one');
SELECT predecessor_id = :'one_id' AS of_one, overlap FROM token_rotation.pending WHERE token_id = :'use_next_id';
-- Nobody else's use opens the window.
SELECT valid FROM tr_validate('trk_' || substr(:'use_next', 5, 22) || substr(:'one', 27));
SELECT valid FROM tr_issue('use two', 'regress_use') i, tr_validate(i.token);
-- The successor's does, and the worker stores it.
SELECT valid, status FROM tr_validate(:'use_next');
SELECT regress.is_used('use one');
SELECT * FROM regress.use_line('use one');
SELECT * FROM regress.use_trail('use one');
SELECT count(*) FROM token_rotation.pending;
SELECT valid, status, valid_until - clock_timestamp() <= '5 minutes' AS in_window FROM tr_validate(:'one');
-- Only the first use counts.
SELECT overlap_ends_at AS was FROM token_rotation.tokens WHERE token_id = :'one_id' \gset
SELECT valid FROM tr_validate(:'use_next');
SELECT regress.wait_for($$SELECT use_count = 2 FROM token_rotation.tokens WHERE client_id = 'use one' AND generation = 1$$);
SELECT overlap_ends_at = :'was' AS same FROM token_rotation.tokens WHERE token_id = :'one_id';
SELECT status FROM tr_rotate(:'one');

-- No overlap: the first use ends the old token, without any leeway.
SELECT i.token AS zero, r.token AS zero_next FROM tr_issue('use zero', 'regress_use_zero') i, tr_rotate(i.token) r \gset
SELECT valid, status FROM tr_validate(:'zero');
SELECT valid, status FROM tr_validate(:'zero_next');
SELECT regress.is_used('use zero');
SELECT valid, reason, status FROM tr_validate(:'zero');
SELECT generation, status, overlap_ends_at >= rotated_at AS ended FROM token_rotation.tokens WHERE client_id = 'use zero' ORDER BY 1;
SELECT * FROM regress.use_trail('use zero');

-- An overlap that is asked for begins at once, as an answer to a leak has to.
SELECT i.token AS asked, r.token AS asked_next, r.status FROM tr_issue('use asked', 'regress_use') i, tr_rotate(i.token, overlap => '1 minute') r \gset
SELECT :'status' AS status;
SELECT * FROM regress.use_line('use asked');
SELECT r.status, v.valid, v.reason FROM tr_issue('use leaked', 'regress_use') i, tr_rotate_id(i.token_id, '0') r, tr_validate(i.token) v;
SELECT r.status, v.valid FROM tr_issue('use by id', 'regress_use') i, tr_rotate_id(i.token_id) r, tr_validate(i.token) v;
-- His own rotation of it opens the window, too: nobody wants the one before any longer.
SELECT r.status, r.reason FROM token_rotation.tokens t, tr_rotate_id(t.token_id) r WHERE t.client_id = 'use by id' AND t.generation = 1;
SELECT generation, status, overlap_ends_at = expires_at AS to_expiry FROM token_rotation.tokens WHERE client_id = 'use by id' ORDER BY 1;

-- A holder who rotates a pending token has used it.
SELECT i.token AS chain, r.token AS chain_next FROM tr_issue('use chain', 'regress_use') i, tr_rotate(i.token) r \gset
SELECT status, reason FROM tr_rotate(:'chain_next');
SELECT * FROM regress.use_line('use chain');
SELECT event, reason FROM regress.use_trail('use chain');

-- Cancelled, finished, revoked, cut off: nothing waits any more.
SELECT i.token_id AS cancel FROM tr_issue('use cancel', 'regress_use') i, tr_rotate(i.token) r \gset
SELECT tr_cancel_rotation(:'cancel');
SELECT generation, status FROM regress.use_line('use cancel');
SELECT i.token_id AS finish, r.token AS finish_next FROM tr_issue('use finish', 'regress_use') i, tr_rotate(i.token) r \gset
SELECT tr_finish_overlap(:'finish');
SELECT generation, status FROM regress.use_line('use finish');
SELECT valid FROM tr_validate(:'finish_next');
SELECT regress.is_used('use finish');
SELECT generation, status FROM regress.use_line('use finish');
SELECT event, reason, ends FROM regress.use_trail('use finish');
SELECT i.token_id AS revoke, r.token_id AS revoke_next FROM tr_issue('use revoke', 'regress_use') i, tr_rotate(i.token) r \gset
SELECT tr_revoke_id(:'revoke_next');
SELECT generation, status FROM regress.use_line('use revoke');
SELECT tr_revoke_id(:'revoke', family => true);
SELECT count(*) FROM token_rotation.pending WHERE token_id = :'revoke_next';
SELECT i.token_id AS cut FROM tr_issue('use cut', 'regress_use') i, tr_rotate(i.token) r \gset
SELECT tr_revoke_client('use cut') IS NOT NULL AS cut;
SELECT generation, status FROM regress.use_line('use cut');

-- Nobody came: the old token ends with its own life, and so does the successor.
SELECT i.token_id AS unused FROM tr_issue('use unused', 'regress_use', ttl => '1 second') i, tr_rotate(i.token) r \gset
SELECT regress.wait_for($$SELECT count(*) = 2 FROM token_rotation.tokens WHERE client_id = 'use unused' AND status = 'expired'$$);
SELECT regress.wait_for($$SELECT count(*) = 2 FROM token_rotation.token WHERE client_id = 'use unused' AND status = 'expired'$$);
SELECT event, reason, has_successor FROM regress.use_trail('use unused') WHERE event <> 'rotation_due' ORDER BY event, reason;

-- What the server starts: the window that it has opened bounds the wait.
SELECT token AS due, token_id AS due_id FROM tr_issue('use due', 'regress_use') \gset
UPDATE token_rotation.token SET issued_at = issued_at - '100 seconds'::interval, refresh_at = issued_at - '1 second'::interval
WHERE token_id = :'due_id';
SELECT * FROM tr_rotate_due('regress_use');
SELECT token AS due_next, status, reason FROM tr_rotate(:'due') \gset claimed_
SELECT :'claimed_status' AS status;
SELECT * FROM regress.use_line('use due');
SELECT valid FROM tr_validate(:'claimed_due_next');
SELECT regress.is_used('use due');
SELECT * FROM regress.use_line('use due');

-- It may start the rotation of one that waits; that finished, nothing waits any more.
SELECT r.token_id AS waiting FROM tr_issue('use waiting', 'regress_use') i, tr_rotate(i.token) r \gset
UPDATE token_rotation.token SET issued_at = issued_at - '100 seconds'::interval, refresh_at = issued_at - '1 second'::interval
WHERE token_id = :'waiting';
SELECT * FROM tr_rotate_due('regress_use');
SELECT tr_finish_overlap(:'waiting');
SELECT generation, status FROM regress.use_line('use waiting');
SELECT count(*) FROM token_rotation.pending WHERE token_id = :'waiting';

-- The policy can be changed meanwhile: what waits goes on as it was made.
SELECT i.token AS edited, r.token AS edited_next FROM tr_issue('use edited', 'regress_use') i, tr_rotate(i.token) r \gset
UPDATE token_rotation.policy SET overlap_starts = 'rotation', overlap = '1 minute' WHERE name = 'regress_use';
SELECT detail #>> '{old,overlap_starts}' AS old, detail #>> '{new,overlap_starts}' AS new FROM token_rotation.audit
WHERE event = 'policy_changed' AND detail ->> 'policy' = 'regress_use' ORDER BY seq DESC LIMIT 1;
SELECT valid FROM tr_validate(:'edited_next');
SELECT regress.is_used('use edited');
SELECT * FROM regress.use_line('use edited');

-- A transaction that was rolled back has changed nothing.
UPDATE token_rotation.policy SET overlap_starts = 'first_use', overlap = '5 minutes' WHERE name = 'regress_use';
SELECT token AS back FROM tr_issue('use back', 'regress_use') \gset
BEGIN;
SELECT status FROM tr_rotate(:'back');
ROLLBACK;
SELECT * FROM regress.use_line('use back');
SELECT count(*) FROM token_rotation.pending w WHERE NOT EXISTS (SELECT FROM token_rotation.token t WHERE t.token_id = w.token_id);

-- An old snapshot sees the window that it did not see open.
SELECT i.token AS old, r.token AS old_next FROM tr_issue('use old', 'regress_use_zero') i, tr_rotate(i.token) r \gset
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT valid FROM tr_validate(:'old');
SELECT valid FROM tr_validate(:'old_next');
SELECT regress.wait_for(format('SELECT NOT valid FROM tr.tr_validate(%L)', :'old'));
COMMIT;

DELETE FROM token_rotation.cutoff WHERE subject LIKE 'use %';
DELETE FROM token_rotation.token WHERE client_id LIKE 'use %';
DELETE FROM token_rotation.pending;
DELETE FROM token_rotation.policy WHERE name LIKE 'regress%';

ALTER SYSTEM RESET token_rotation.worker_nap;
SELECT pg_reload_conf();
