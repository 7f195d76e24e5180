-- What must hold during and after test/fuzz/sql, whatever was called: a row a
-- rule, with what breaks it.  All of it under one snapshot, because the worker
-- goes on.

WITH t AS MATERIALIZED (
    SELECT *, sha256(uuid_send(token_id)) AS ref FROM token_rotation.token),
made AS MATERIALIZED (
    SELECT CASE event WHEN 'issued' THEN token_ref ELSE successor_ref END AS ref, min(event) AS event, count(*) AS n
    FROM token_rotation.audit WHERE event IN ('issued', 'rotated') GROUP BY 1),
ended AS MATERIALIZED (
    SELECT CASE event WHEN 'revoked' THEN token_ref ELSE successor_ref END AS ref
    FROM token_rotation.audit WHERE event = 'rotation_cancelled' OR event = 'revoked' AND detail IS NULL)
SELECT rule, coalesce(broken, 0)
FROM (VALUES
    ('a token has one successor at most', (
        SELECT sum(n - 1) FROM (SELECT count(*) AS n FROM t
            WHERE predecessor_id IS NOT NULL GROUP BY predecessor_id HAVING count(*) > 1) x)),
    ('a successor follows its predecessor', (
        SELECT count(*) FROM t s JOIN t p ON p.token_id = s.predecessor_id
        WHERE (s.family_id, s.generation, s.client_id, s.policy, s.owner)
            IS DISTINCT FROM (p.family_id, p.generation + 1, p.client_id, p.policy, p.owner)
            OR p.rotated_at IS NULL)),
    ('a token that was rotated has its successor', (
        SELECT count(*) FROM t p LEFT JOIN t s ON s.predecessor_id = p.token_id
        WHERE p.rotated_at IS NOT NULL AND s.token_id IS NULL)),
    ('a token has the audit row of its making', (
        SELECT count(*) FROM t LEFT JOIN made m ON m.ref = t.ref
        WHERE m.n IS DISTINCT FROM 1 OR m.event <> CASE t.generation WHEN 0 THEN 'issued' ELSE 'rotated' END)),
    ('an audit row of a making has its token, or it was pruned', (
        SELECT abs((SELECT count(*) FROM made) - (SELECT count(*) FROM t)
            - (SELECT coalesce(sum((detail ->> 'tokens')::bigint), 0) FROM token_rotation.audit WHERE event = 'pruned')))),
    ('a revoked token has the audit row of its end', (
        SELECT count(*) FROM t WHERE status = 'revoked' AND ref NOT IN (SELECT e.ref FROM ended e))),
    ('an audit row of a revocation has its revoked token, or it was pruned', (
        SELECT count(*) FROM ended e JOIN t ON t.ref = e.ref WHERE t.status <> 'revoked')),
    ('a window that was finished stays finished', (
        SELECT count(*) FROM token_rotation.audit a JOIN t ON t.ref = a.token_ref
        WHERE a.event IN ('overlap_finished', 'overlap_ended') AND t.status NOT IN ('expired', 'revoked'))),
    ('a row of the cache is its live token', (
        SELECT count(*) FROM token_rotation.token_cache c LEFT JOIN t USING (token_id)
        WHERE c.token_id <> '00000000-0000-0000-0000-000000000000'
        AND (t.token_id IS NULL OR t.status = 'revoked'
            OR (c.status, c.secret_hash, c.client_id, c.policy, c.owner, c.scopes, c.metadata, c.issued_at, c.expires_at,
                c.rotated_at, c.overlap_ends_at, c.replay_ends_at)
            IS DISTINCT FROM (t.status, t.secret_hash, t.client_id, t.policy, t.owner, t.scopes, t.metadata, t.issued_at,
                t.expires_at, t.rotated_at, t.overlap_ends_at, t.replay_ends_at)))),
    ('a life is as short as the risk in its audit row', (
        SELECT count(*) FROM t JOIN token_rotation.audit a ON a.event IN ('issued', 'rotated')
            AND CASE a.event WHEN 'issued' THEN a.token_ref ELSE a.successor_ref END = t.ref
        WHERE t.policy = 'fuzz_risk' AND t.expires_at - t.issued_at <> least(t.ttl,
            interval '1 hour' - interval '40 minutes' * coalesce((a.detail ->> 'risk')::int, 0) / 100))),
    ('the audit trail is what was sealed', (
        SELECT count(*) FROM tr.tr_audit_verify() v WHERE NOT v.valid)),
    ('what is delivered is the successor of a live token', (
        SELECT count(*) FROM token_rotation.delivery d LEFT JOIN t s ON s.token_id = d.token_id
        WHERE s.predecessor_id IS DISTINCT FROM d.predecessor_id OR s.status = 'revoked'
        OR s.owner IS DISTINCT FROM d.owner)),
    ('no function is open to who was granted nothing', (
        SELECT count(*) FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
        JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
        WHERE e.extname = 'token_rotation' AND has_function_privilege('fuzz_nothing', p.oid, 'EXECUTE')))
) AS x (rule, broken);
