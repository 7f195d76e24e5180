-- What must hold of events, of which test/chaos/crash keeps what a consumer got in the
-- transaction that acknowledged it: a row for each rule, with how many rows break it.
WITH sealed AS (
    SELECT s.segment + (s.seal - 1) * 10000 + u.n AS position, u.seq
    FROM token_rotation.audit_seal s, unnest(s.seqs) WITH ORDINALITY u (seq, n)),
consumer AS (SELECT coalesce(max(c.position), 0) AS position FROM token_rotation.consumer c)
SELECT 'every sealed row is one event, as far as they are acknowledged', count(*)
FROM (SELECT s.* FROM sealed s, consumer c WHERE s.position <= c.position) s
FULL JOIN consumed g USING (position, seq) WHERE s.position IS NULL OR g.position IS NULL
UNION ALL
SELECT 'no event comes twice', count(*) - count(DISTINCT seq) FROM consumed
UNION ALL
SELECT 'nothing is acknowledged that is not sealed', count(*) FROM consumer WHERE position > tr_events_head()
UNION ALL
SELECT 'no moment of a token is told of twice', count(*)
FROM (SELECT FROM token_rotation.audit WHERE event IN ('rotation_due', 'unclaimed', 'expiring')
    GROUP BY token_ref, event, reason, detail HAVING count(*) > 1) x;
