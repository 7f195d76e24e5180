-- What must hold after test/fuzz/sql, whatever was called: a row a rule, with
-- what breaks it.  All of it under one snapshot, because the worker goes on.

SELECT rule, coalesce(broken, 0)
FROM (VALUES
    ('a token has one successor at most', (
        SELECT sum(n - 1) FROM (SELECT count(*) AS n FROM token_rotation.token
            WHERE predecessor_id IS NOT NULL GROUP BY predecessor_id HAVING count(*) > 1) x)),
    ('a successor follows its predecessor', (
        SELECT count(*) FROM token_rotation.token s JOIN token_rotation.token p ON p.token_id = s.predecessor_id
        WHERE (s.family_id, s.generation, s.client_id, s.policy, s.owner)
            IS DISTINCT FROM (p.family_id, p.generation + 1, p.client_id, p.policy, p.owner)
            OR p.rotated_at IS NULL)),
    ('a token that was rotated has its successor', (
        SELECT count(*) FROM token_rotation.token p WHERE p.rotated_at IS NOT NULL
        AND NOT EXISTS (SELECT FROM token_rotation.token s WHERE s.predecessor_id = p.token_id))),
    ('a token has the audit row of its making', (
        SELECT count(*) FROM token_rotation.token t WHERE 1 <> (
            SELECT count(*) FROM token_rotation.audit a
            WHERE (t.generation = 0 AND a.event = 'issued' AND a.token_ref = sha256(uuid_send(t.token_id)))
                OR (t.generation > 0 AND a.event = 'rotated' AND a.successor_ref = sha256(uuid_send(t.token_id)))))),
    ('an audit row of a making has its token, or it was pruned', (
        SELECT (SELECT count(*) FROM token_rotation.audit WHERE event IN ('issued', 'rotated'))
            - (SELECT count(*) FROM token_rotation.token)
            - (SELECT coalesce(sum((detail ->> 'tokens')::bigint), 0) FROM token_rotation.audit WHERE event = 'pruned'))),
    ('a revoked token has the audit row of its end', (
        SELECT count(*) FROM token_rotation.token t WHERE t.status = 'revoked'
        AND NOT EXISTS (SELECT FROM token_rotation.audit a
            WHERE (a.event = 'revoked' AND a.token_ref = sha256(uuid_send(t.token_id)))
                OR (a.event = 'rotation_cancelled' AND a.successor_ref = sha256(uuid_send(t.token_id)))))),
    ('an audit row of a revocation has its revoked token, or it was pruned', (
        SELECT count(*) FROM token_rotation.audit a
        JOIN token_rotation.token t ON a.token_ref = sha256(uuid_send(t.token_id))
        WHERE a.event = 'revoked' AND NOT a.detail ? 'replay_window' AND t.status <> 'revoked')),
    ('a window that was finished stays finished', (
        SELECT count(*) FROM token_rotation.audit a
        JOIN token_rotation.token t ON a.token_ref = sha256(uuid_send(t.token_id))
        WHERE a.event IN ('overlap_finished', 'overlap_ended') AND t.status NOT IN ('expired', 'revoked'))),
    ('a row of the cache is its live token', (
        SELECT count(*) FROM token_rotation.token_cache c LEFT JOIN token_rotation.token t USING (token_id)
        WHERE c.token_id <> '00000000-0000-0000-0000-000000000000'
        AND (t.token_id IS NULL OR t.status = 'revoked'
            OR (c.status, c.secret_hash, c.client_id, c.policy, c.owner, c.scopes, c.metadata, c.issued_at, c.expires_at,
                c.rotated_at, c.overlap_ends_at, c.replay_ends_at)
            IS DISTINCT FROM (t.status, t.secret_hash, t.client_id, t.policy, t.owner, t.scopes, t.metadata, t.issued_at,
                t.expires_at, t.rotated_at, t.overlap_ends_at, t.replay_ends_at)))),
    ('no function is open to who was granted nothing', (
        SELECT count(*) FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
        JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
        WHERE e.extname = 'token_rotation' AND has_function_privilege('fuzz_nothing', p.oid, 'EXECUTE')))
) AS x (rule, broken);
