-- What must hold of the counters, whatever happened: a row for each rule, with
-- how many break it.  The counters are read first, so that the trail is never
-- older.
SELECT json_object_agg(event, n) AS counted FROM (
    SELECT event, sum(count) AS n FROM tr_stat
    WHERE event IN ('issued', 'rotated', 'revoked', 'overlap_ended', 'overlap_finished') GROUP BY event) x \gset
SELECT 'tr_stat counts no change that was not committed', count(*)
FROM json_each_text(:'counted') c (event, n)
WHERE c.n::bigint > (SELECT count(*) FROM token_rotation.audit a WHERE a.event = c.event)
UNION ALL
SELECT 'tr_health() answers', count(*) FROM tr_health() h
WHERE h.verdict IS NULL OR h.launcher_running IS NULL OR (h.verdict = 'ok') <> (h.reasons = '{}');
