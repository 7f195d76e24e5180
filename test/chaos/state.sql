-- What must hold in the tables of tokens and their trail whatever happened: a row for each rule, with how
-- many rows break it.  The trail is complete because an audit row is written in
-- the transaction of its change, so nothing may be on one side only.
-- The planner knows nothing of what a WITH holds, and would look through all of it for each row.
SET enable_nestloop = off;
WITH token AS MATERIALIZED (
    SELECT t.*, sha256(uuid_send(t.token_id)) AS ref FROM token_rotation.token t),
audit AS MATERIALIZED (SELECT a.* FROM token_rotation.audit a),
-- what a change left in token, and what the trail says of it
changed (event, ref, successor) AS (
    SELECT 'issued', t.ref, ''::bytea FROM token t WHERE t.generation = 0
    UNION ALL
    SELECT 'rotated', sha256(uuid_send(t.predecessor_id)), t.ref FROM token t
    WHERE t.predecessor_id IS NOT NULL
    UNION ALL
    SELECT 'revoked', t.ref, '' FROM token t WHERE t.status = 'revoked'
    UNION ALL
    -- a plain expiry writes no row, but where nobody came for what the server had started
    SELECT 'overlap ended', t.ref, '' FROM token t
    WHERE t.status = 'expired' AND (t.overlap_ends_at < t.expires_at OR t.overlap_ends_at IS NOT NULL AND t.rotated_at IS NULL)),
told (event, ref, successor) AS (
    SELECT CASE WHEN a.event LIKE 'overlap%' THEN 'overlap ended' ELSE a.event END,
        a.token_ref, coalesce(a.successor_ref, '')
    FROM audit a
    WHERE a.event IN ('issued', 'rotated', 'revoked', 'overlap_ended', 'overlap_finished')
    AND NOT coalesce(a.detail ? 'replay_window', false)
    -- of one that lived to its own expiry, for nobody used its successor
    AND NOT (a.reason IS NOT DISTINCT FROM 'unused'
             AND EXISTS (SELECT FROM token t WHERE t.ref = a.token_ref AND t.overlap_ends_at = t.expires_at))),
sides AS (
    SELECT coalesce(c.n, 0) AS changes, coalesce(t.n, 0) AS rows
    FROM (SELECT event, ref, successor, count(*) AS n FROM changed GROUP BY 1, 2, 3) c
    FULL JOIN (SELECT event, ref, successor, count(*) AS n FROM told GROUP BY 1, 2, 3) t
    USING (event, ref, successor)),
cutoffs AS (
    SELECT c.kind, c.subject, c.owner, c.before FROM token_rotation.cutoff c),
cutoff_rows AS (
    SELECT a.detail ->> 'kind' AS kind,
        CASE a.detail ->> 'kind' WHEN 'client' THEN a.client_id WHEN 'policy' THEN a.detail ->> 'policy'
                                 ELSE '' END AS subject,
        coalesce(a.owner, '') AS owner, max((a.detail ->> 'before')::timestamptz) AS before
    FROM audit a WHERE a.event = 'cutoff' GROUP BY 1, 2, 3),
block_rows AS (
    SELECT DISTINCT ON (a.client_id, a.owner) a.client_id, coalesce(a.owner, '') AS owner, a.event
    FROM audit a WHERE a.event IN ('blocked', 'unblocked') ORDER BY a.client_id, a.owner, a.seq DESC)
SELECT 'every change has its one audit row', count(*) FROM sides
WHERE rows < changes
UNION ALL
SELECT 'every audit row has its one change', count(*) FROM sides
WHERE changes < rows
UNION ALL
SELECT 'every cutoff has its audit row, and the other way round', count(*)
FROM cutoffs c FULL JOIN cutoff_rows r USING (kind, subject, owner)
WHERE c.before IS DISTINCT FROM r.before
UNION ALL
SELECT 'every block has its audit row, and the other way round', count(*)
FROM token_rotation.blocked_client b FULL JOIN block_rows r USING (client_id, owner)
WHERE (b.client_id IS NULL) <> (r.event IS DISTINCT FROM 'blocked')
UNION ALL
SELECT 'no token has two successors', count(*)
FROM (SELECT FROM token WHERE predecessor_id IS NOT NULL GROUP BY predecessor_id HAVING count(*) > 1) x
UNION ALL
SELECT 'who was rotated has a successor, and nobody else', count(*)
FROM token t LEFT JOIN token s ON s.predecessor_id = t.token_id
WHERE (t.rotated_at IS NULL) <> (s.token_id IS NULL)
UNION ALL
SELECT 'what the server has started is in the trail, and the other way round', count(*)
FROM (SELECT t.ref FROM token t WHERE t.overlap_ends_at IS NOT NULL AND t.rotated_at IS NULL) t
FULL JOIN (SELECT DISTINCT a.token_ref AS ref FROM audit a JOIN token t ON t.ref = a.token_ref
    WHERE a.event = 'rotation_started' AND t.rotated_at IS NULL) a USING (ref)
WHERE t.ref IS NULL OR a.ref IS NULL
UNION ALL
SELECT 'who is pending has been made so, is unused, and lives', count(*)
FROM token_rotation.pending w LEFT JOIN token t USING (token_id)
WHERE t.predecessor_id IS DISTINCT FROM w.predecessor_id OR t.first_used_at IS NOT NULL OR t.status NOT IN ('active', 'rotating')
UNION ALL
SELECT 'a first use is told once, of what is no longer pending', count(*)
FROM (SELECT a.successor_ref, count(*) AS n FROM audit a WHERE a.event = 'first_used' GROUP BY 1) a
LEFT JOIN token t ON t.ref = a.successor_ref
WHERE a.n > 1 OR EXISTS (SELECT FROM token_rotation.pending w WHERE w.token_id = t.token_id)
UNION ALL
SELECT 'what is delivered was made for it', count(*)
FROM token_rotation.delivery d LEFT JOIN token s USING (token_id) LEFT JOIN token p ON p.token_id = d.predecessor_id
WHERE s.predecessor_id IS DISTINCT FROM p.token_id OR s.status = 'revoked' OR NOT EXISTS (
    SELECT FROM audit a WHERE a.event = 'rotated' AND a.reason = 'sealed' AND a.successor_ref = s.ref
    AND a.detail ->> 'fingerprint' = d.fingerprint)
UNION ALL
SELECT 'a rotation that the server delivers has its delivery while its window is open', count(*)
FROM audit a JOIN token s ON s.ref = a.successor_ref JOIN token p ON p.token_id = s.predecessor_id
WHERE a.event = 'rotated' AND a.reason = 'sealed' AND p.status = 'rotating' AND s.status = 'active'
AND NOT EXISTS (SELECT FROM token_rotation.delivery d WHERE d.token_id = s.token_id)
AND NOT EXISTS (SELECT FROM cutoffs c WHERE c.before > s.issued_at)
UNION ALL
SELECT 'no successor is in another family or realm than its predecessor', count(*)
FROM token s JOIN token t ON s.predecessor_id = t.token_id
WHERE (s.family_id, s.generation, s.client_id, s.owner)
    IS DISTINCT FROM (t.family_id, t.generation + 1, t.client_id, t.owner)
UNION ALL
SELECT 'the audit trail is what was sealed', count(*)
FROM tr_audit_verify() v WHERE NOT v.valid;
