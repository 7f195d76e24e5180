-- tr_rotate_due: rotations that the server starts, and their holders claim.
SET search_path = tr, public;
-- The worker only looks at a template: here it holds no row that a start would leave out.
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I IS_TEMPLATE true', current_database());
END $$;
SELECT regress.wait_for($$SELECT pg_stat_clear_snapshot() IS NOT NULL AND NOT EXISTS (SELECT FROM pg_stat_activity
    WHERE backend_type = 'token_rotation worker' AND datname = current_database())$$);
INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window, refresh_before) VALUES
    ('regress_due', '1 hour', '5 minutes', '5 minutes', '10 minutes'),
    ('regress_long_overlap', '1 hour', '20 minutes', '5 minutes', '10 minutes');
INSERT INTO token_rotation.policy (name, ttl, rotation_proof) VALUES ('regress_due_key', '1 hour', 'rotation_key');
-- A token that should be rotated since so many seconds.
CREATE FUNCTION regress.due(client text, policy text DEFAULT 'regress_due', since integer DEFAULT 1,
                            OUT token text, OUT rotation_key text, OUT token_id uuid)
    LANGUAGE plpgsql AS $$
BEGIN
    SELECT i.token, i.rotation_key, i.token_id INTO token, rotation_key, token_id FROM tr.tr_issue(client, policy) i;
    UPDATE token_rotation.token t SET issued_at = t.issued_at - '100 seconds'::interval,
        refresh_at = t.issued_at - make_interval(secs => since) WHERE t.token_id = due.token_id;
END $$;
CREATE FUNCTION regress.state(client text, OUT generation integer, OUT status text, OUT claimed boolean, OUT ends interval)
    RETURNS SETOF record
    LANGUAGE sql AS $$
    SELECT generation, status, rotated_at IS NOT NULL, date_trunc('minute', overlap_ends_at - clock_timestamp() + '30 seconds')
    FROM token_rotation.tokens WHERE client_id = client ORDER BY generation
$$;

-- Nothing is due.
SELECT * FROM tr_rotate_due();
SELECT count(*) FROM tr_issue('due fresh', 'regress_due');
SELECT * FROM tr_rotate_due();

-- Due: the window opens, for the longer of overlap and refresh_before, and nothing else changes.
SELECT token AS one, token_id AS one_id FROM regress.due('due one') \gset
SELECT token AS two FROM regress.due('due two', 'regress_long_overlap') \gset
SELECT token AS keyed, rotation_key AS key FROM regress.due('due keyed', 'regress_due_key') \gset
SELECT * FROM tr_rotate_due() ORDER BY 1;
SELECT * FROM regress.state('due one');
SELECT * FROM regress.state('due two');
SELECT client_id, policy, overlap_ends_at <= expires_at AS within FROM token_rotation.unclaimed WHERE client_id LIKE 'due%' ORDER BY 1;
SELECT valid, reason, status FROM tr_validate(:'one');
SELECT event, reason, actor = current_user AS mine, (detail ->> 'overlap_ends_at')::timestamptz > at AS ahead
FROM token_rotation.audit WHERE client_id = 'due one' ORDER BY seq;
-- Again: nothing.
SELECT * FROM tr_rotate_due();

-- The holder claims: the window stays, the answer can be asked for again.
SELECT token AS next, reason, replayed FROM tr_rotate(:'one') \gset claim_
SELECT :'claim_reason' AS reason, :'claim_replayed' AS replayed;
SELECT token = :'claim_next' AS same, replayed FROM tr_rotate(:'one');
SELECT * FROM regress.state('due one');
SELECT u.n, v.reason FROM unnest(ARRAY[:'one', :'claim_next']) WITH ORDINALITY u (token, n), tr_validate(u.token) v ORDER BY 1;
SELECT count(*) FROM token_rotation.unclaimed WHERE client_id = 'due one';
SELECT tr_finish_overlap(:'one_id');
SELECT valid FROM tr_validate(:'claim_next');
-- He may shorten it, and needs the whole proof.
SELECT reason FROM tr_rotate(:'two', overlap => '1 minute');
SELECT * FROM regress.state('due two');
SELECT reason FROM tr_rotate(:'keyed');
SELECT count(*) AS still FROM token_rotation.unclaimed WHERE client_id = 'due keyed';
SELECT reason FROM tr_rotate(:'keyed', :'key');

-- By age; the oldest first, no more than asked for.
UPDATE token_rotation.policy SET rotate_after = '90 seconds' WHERE name = 'regress_due';
SELECT count(*) FROM regress.due('due by age', since => -1800);
UPDATE token_rotation.policy SET rotate_after = '200 seconds' WHERE name = 'regress_due';
SELECT * FROM tr_rotate_due('regress_due');
UPDATE token_rotation.policy SET rotate_after = '90 seconds' WHERE name = 'regress_due';
SELECT count(d) FROM generate_series(1, 5) g, regress.due('due ' || g, since => 11 * g) d;
SELECT * FROM tr_rotate_due('regress_due', 2);
SELECT client_id FROM token_rotation.unclaimed WHERE client_id ~ '^due (\d|by)' ORDER BY 1;
SELECT * FROM tr_rotate_due('regress_due', 2);
SELECT * FROM tr_rotate_due('regress_long_overlap');
SELECT * FROM tr_rotate_due('regress_due');
SELECT client_id FROM token_rotation.unclaimed WHERE client_id ~ '^due (\d|by)' ORDER BY 1;
-- refresh_at tells: at that age at the latest, and where the server has started, since then.
SELECT refresh_at - issued_at AS age FROM tr_issue('due told', 'regress_due');
SELECT bool_and(refresh_at < clock_timestamp()) AS past FROM token_rotation.unclaimed WHERE client_id = 'due by age';
UPDATE token_rotation.policy SET rotate_after = NULL WHERE name = 'regress_due';
SELECT refresh_at - issued_at AS age FROM tr_issue('due told', 'regress_due');

-- Who would get no successor is passed over, however many come first.
SELECT count(d) FROM unnest(ARRAY['due blocked', 'due cut', 'due revoked']) c, regress.due(c, since => 50) d;
SELECT tr_revoke_id(token_id) FROM token_rotation.tokens WHERE client_id = 'due revoked';
SELECT tr_block_client('due blocked'), tr_revoke_client('due cut') IS NOT NULL AS cut;
SELECT count(*) FROM regress.due('due last');
SELECT * FROM tr_rotate_due(max_tokens => 1);
SELECT client_id, status FROM token_rotation.tokens WHERE client_id IN ('due blocked', 'due cut', 'due revoked', 'due last') ORDER BY 1;

-- Nobody comes: listed before, over with the window, and no reuse.
SELECT token AS lazy, token_id AS lazy_id FROM regress.due('due lazy') \gset
UPDATE token_rotation.token SET issued_at = clock_timestamp() - '2 seconds'::interval, refresh_at = clock_timestamp(),
    expires_at = clock_timestamp() + '1 second' WHERE token_id = :'lazy_id';
SELECT * FROM tr_rotate_due('regress_due');
SELECT overlap_ends_at = expires_at AS to_the_end FROM token_rotation.unclaimed WHERE client_id = 'due lazy';
SELECT regress.wait_for(format($$SELECT tr.tr_sweep() >= 0 AND status = 'expired' FROM token_rotation.token WHERE token_id = %L$$, :'lazy_id'));
SELECT reason FROM tr_rotate(:'lazy');
SELECT event, reason FROM token_rotation.audit WHERE client_id = 'due lazy' AND event <> 'rotation_refused' ORDER BY seq;
SELECT count(*) FROM token_rotation.unclaimed WHERE client_id = 'due lazy';

-- What operators do with windows.
SELECT token AS held, token_id AS held_id FROM regress.due('due held') \gset
SELECT * FROM tr_rotate_due('regress_due');
SELECT tr_extend_overlap(:'held_id', '10 minutes') IS NOT NULL AS extended;
SELECT * FROM regress.state('due held');
SELECT tr_cancel_rotation(:'held_id');
SELECT * FROM regress.state('due held');
SELECT event, successor_ref IS NULL AS none FROM token_rotation.audit WHERE client_id = 'due held' AND event = 'rotation_cancelled';
SELECT * FROM tr_rotate_due('regress_due');
SELECT reason FROM tr_rotate_id(:'held_id', '30 minutes');
SELECT * FROM regress.state('due held');
SELECT token_id AS done_id FROM regress.due('due done') \gset
SELECT * FROM tr_rotate_due('regress_due');
SELECT tr_finish_overlap(:'done_id');
SELECT * FROM regress.state('due done');
SELECT tr_revoke_id(token_id) FROM regress.due('due ended') d, tr_rotate_due('regress_due') r;

-- Realms: what an operator's roles may see.
CREATE ROLE regress_due_realm;
CREATE ROLE regress_due_operator;
SELECT tr_grant('regress_due_operator', 'operator', 'regress_due_realm');
SELECT count(*) FROM regress.due('due other realm');
SET ROLE regress_due_operator;
SELECT * FROM tr_rotate_due();
SELECT count(*) FROM token_rotation.unclaimed;
RESET ROLE;
UPDATE token_rotation.token SET owner = 'regress_due_realm' WHERE client_id = 'due other realm';
SET ROLE regress_due_operator;
SELECT * FROM tr_rotate_due();
SELECT client_id FROM token_rotation.unclaimed;
RESET ROLE;
SELECT tr_ungrant('regress_due_operator', 'operator', 'regress_due_realm');
SELECT regress.answer_as('regress_due_operator', 'SELECT count(*) FROM tr.tr_rotate_due()') AS answer;

-- Misuse.
SELECT c.call, e.state, e.message FROM unnest(ARRAY['''nothing''', '''default'', 0', '''default'', NULL', '''''']) c (call),
    regress.try(format('SELECT * FROM tr.tr_rotate_due(%s)', c.call)) e;
BEGIN READ ONLY;
SELECT * FROM regress.try('SELECT * FROM tr.tr_rotate_due()');
ROLLBACK;
SELECT tr_block_client('due blocked', false);
DELETE FROM token_rotation.cutoff WHERE subject LIKE 'due%';
DELETE FROM token_rotation.token WHERE client_id LIKE 'due%';
DELETE FROM token_rotation.policy WHERE name LIKE 'regress%';
DROP FUNCTION regress.due, regress.state;
DROP ROLE regress_due_realm, regress_due_operator;
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I IS_TEMPLATE false', current_database());
END $$;
