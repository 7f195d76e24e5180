-- Statistics and health: what is counted when, who may look, what a probe is told.
SET search_path = tr, public;
INSERT INTO token_rotation.policy (name, overlap, replay_window, rotation_proof)
VALUES ('regress_stat', '1 hour', '1 hour', 'token'), ('regress_keyed', '1 hour', '1 hour', 'rotation_key');

-- What has been counted for policies of this test; zeros are there, too.
CREATE VIEW pg_temp.counted AS
SELECT policy, event, reason, count FROM tr_stat WHERE policy LIKE 'regress%' AND count > 0
ORDER BY policy COLLATE "C", event COLLATE "C", reason COLLATE "C";

-- The whole of it at 0: one row for whatever can be counted for a policy, and
-- for what has none.
SELECT tr_stat_reset();
SELECT coalesce(sum(count), 0) AS counted FROM tr_stat WHERE policy LIKE 'regress%';
BEGIN;
SELECT count(*) AS issued FROM tr_issue('stat', 'regress_stat');
ROLLBACK;
SELECT event, string_agg(coalesce(reason, '-'), ' ' ORDER BY reason COLLATE "C") AS reasons, sum(count) AS count
FROM tr_stat WHERE policy = 'regress_stat' GROUP BY event ORDER BY event COLLATE "C";
SELECT event, string_agg(coalesce(reason, '-'), ' ' ORDER BY reason COLLATE "C") AS reasons
FROM tr_stat WHERE policy IS NULL GROUP BY event ORDER BY event COLLATE "C";
SELECT count(DISTINCT stats_reset) AS one, max(stats_reset) BETWEEN now() - interval '5 minutes' AND clock_timestamp() AS just_now FROM tr_stat;
SELECT count(*) AS twice FROM (SELECT FROM tr_stat GROUP BY policy, event, reason HAVING count(*) > 1) x;

-- What was changed counts with its transaction.
SELECT token, token_id FROM tr_issue('stat', 'regress_stat') \gset
SELECT token AS next FROM tr_rotate(:'token') \gset
SELECT replayed FROM tr_rotate(:'token');
SELECT reason FROM tr_rotate_id(:'token_id');
SELECT i.token_id AS other_id FROM tr_issue('stat', 'regress_stat') i \gset
SELECT reason FROM tr_rotate_id(:'other_id');
SELECT tr_finish_overlap(:'other_id');
SELECT i.token AS third, i.token_id AS third_id FROM tr_issue('stat', 'regress_stat') i, tr_rotate(i.token) r \gset
SELECT tr_cancel_rotation(:'third_id'), tr_revoke(:'third', 'regress');
SELECT * FROM pg_temp.counted;

-- Subtransactions, too.
SELECT tr_stat_reset();
BEGIN;
SELECT count(*) FROM tr_issue('stat', 'regress_stat');
SAVEPOINT a;
SELECT count(*) FROM tr_issue('stat', 'regress_stat') a, tr_issue('stat', 'regress_keyed') b;
SAVEPOINT b;
SELECT count(*) FROM generate_series(1, 5) g, tr_issue('stat' || g, 'regress_stat');
ROLLBACK TO b;
SELECT count(*) FROM generate_series(1, 3) g, tr_issue('stat' || g, 'regress_stat');
RELEASE a;
SELECT * FROM pg_temp.counted;
COMMIT;
SELECT * FROM pg_temp.counted;
DO $$
BEGIN
    FOR i IN 1 .. 20 LOOP
        BEGIN
            PERFORM tr.tr_issue('stat', 'regress_stat');
            IF i % 2 = 0 THEN
                RAISE EXCEPTION 'even';
            END IF;
        EXCEPTION WHEN raise_exception THEN
            NULL;
        END;
    END LOOP;
END $$;
SELECT * FROM pg_temp.counted;

-- What was answered counts at once, whatever becomes of the transaction.
SELECT tr_stat_reset();
SELECT i.token AS dead FROM tr_issue('stat', 'regress_stat') i, tr_revoke(i.token) \gset
SELECT token AS keyed FROM tr_issue('stat', 'regress_keyed') \gset
BEGIN;
SELECT reason FROM tr_validate(:'next');
SELECT reason, count(*) FROM tr_validate_many(ARRAY[:'next', :'dead', :'dead', NULL, 'nonsense', :'token']) GROUP BY 1 ORDER BY 1;
SELECT replayed FROM tr_rotate(:'token');
SELECT reason FROM tr_rotate(:'dead');
SELECT reason FROM tr_rotate(:'keyed');
SELECT tr_revoke(:'dead');
ROLLBACK;
SELECT * FROM pg_temp.counted WHERE event <> 'lookup';
SELECT policy, sum(count) AS looked_up FROM tr_stat WHERE event = 'lookup' AND policy LIKE 'regress%' AND count > 0 GROUP BY 1;
SELECT event, reason, count FROM tr_stat WHERE policy IS NULL AND event = 'validated' AND count > 0 ORDER BY 1, 2;
-- A wrong secret says nothing of the policy.
SELECT i.rotation_key FROM tr_issue('stat', 'regress_keyed') i \gset
SELECT reason FROM tr_validate(:'rotation_key');
SELECT policy, event, reason, count FROM tr_stat WHERE reason = 'bad_secret' AND count > 0;
-- A leak is one more, and ends a family.
SELECT tr_report_leak(:'dead'), tr_report_leak(:'keyed'), tr_report_leak('nonsense');
SELECT policy, event, reason, count FROM tr_stat WHERE event LIKE 'leak%' AND count > 0 ORDER BY 1, 2;
SELECT policy, count FROM tr_stat WHERE event = 'revoked' AND count > 0 ORDER BY 1;
-- In a READ ONLY transaction, too.
BEGIN READ ONLY;
SELECT reason FROM tr_validate(:'dead');
SELECT count FROM tr_stat WHERE policy = 'regress_stat' AND event = 'validated' AND reason = 'revoked';
ROLLBACK;

-- Rejections above 5 %, by policy.
SELECT policy, round(100.0 * sum(count) FILTER (WHERE reason <> 'ok') / sum(count), 1) AS refused
FROM tr_stat WHERE event = 'validated' AND policy LIKE 'regress%' GROUP BY policy
HAVING sum(count) FILTER (WHERE reason <> 'ok') > 0.05 * sum(count);

-- Overlaps end used or unused.
SELECT tr_stat_reset();
INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window) VALUES ('regress_ends', '1 hour', '0', '0');
SELECT count(*) FROM tr_issue('stat unused', 'regress_ends') i, tr_rotate(i.token) r;
SELECT v.reason FROM tr_issue('stat used', 'regress_ends') i, tr_rotate(i.token) r, tr_validate(r.token) v;
SELECT regress.wait_for($$SELECT tr.tr_sweep() >= 0 AND count(*) = 0 FROM token_rotation.token
    WHERE policy = 'regress_ends' AND status = 'rotating'$$);
SELECT regress.wait_for($$SELECT sum(count) = 2 FROM tr.tr_stat WHERE policy = 'regress_ends' AND event = 'overlap_ended'$$);
SELECT * FROM pg_temp.counted WHERE event = 'overlap_ended';

-- The reuse of a dead token.
SELECT i.token AS late FROM tr_issue('stat late', 'regress_ends') i, tr_rotate(i.token) r, tr_validate(r.token) v \gset
BEGIN;
SELECT reason FROM tr_rotate(:'late');
ROLLBACK;
SELECT * FROM pg_temp.counted WHERE event = 'rotation_refused';

-- Who may look: pg_monitor.  Who may reset: the owner.
CREATE ROLE regress_monitor IN ROLE pg_monitor;
CREATE ROLE regress_nobody_stat;
GRANT USAGE ON SCHEMA tr TO regress_monitor, regress_nobody_stat;
SELECT role, what, regress.answer_as(role, what) AS answer
FROM unnest(ARRAY['regress_monitor', 'regress_nobody_stat']) role,
    unnest(ARRAY['SELECT count(*) > 0 FROM tr.tr_stat', 'SELECT count(*) > 0 FROM tr.tr_stat_counters()',
                 'SELECT verdict IS NOT NULL FROM tr.tr_health()', 'SELECT tr.tr_stat_reset()',
                 'SELECT count(*) FROM token_rotation.token']) what
ORDER BY 1, 2;
-- Nothing of a token, a client or a realm is in it.
SELECT count(*) AS told FROM tr_stat s, tr_health() h
WHERE concat(s, h) ~ 'stat used|regress_monitor|trk_' OR concat(s) LIKE '%' || current_user || '%';
REVOKE USAGE ON SCHEMA tr FROM regress_monitor, regress_nobody_stat;
DROP ROLE regress_monitor, regress_nobody_stat;

-- Health.
SELECT regress.wait_for($$SELECT verdict = 'ok' FROM tr.tr_health()$$);
\x on
SELECT verdict, reasons, in_recovery, launcher_running, last_visit > now() - interval '1 hour' AS visited, visit_lag < '1 minute' AS in_time,
       cache_complete, ring_size, usage_room, proven_lost, junk_lost, usage_lost, staleness, seal_lag < '1 minute' AS sealed,
       audit_file_lag, rotation_enabled, overlap_enforcement
FROM tr_health();
BEGIN READ ONLY;
SELECT verdict FROM tr_health();
COMMIT;
\x off

DROP VIEW pg_temp.counted;
DELETE FROM token_rotation.token WHERE policy LIKE 'regress%';
DELETE FROM token_rotation.policy WHERE name LIKE 'regress%';
