-- What must hold in the cache whatever happened: a row for each rule, with how
-- many rows break it.  It may be empty, or in the course of being filled.
WITH cache AS (
    SELECT * FROM token_rotation.token_cache c
    WHERE c.token_id <> '00000000-0000-0000-0000-000000000000')
-- (a row may outlive its token for its nonce, but then says that it ended)
SELECT 'no row of the cache contradicts its token', count(*)
FROM cache c LEFT JOIN token_rotation.token t USING (token_id)
WHERE (c.status, c.secret_hash, c.client_id, c.policy, c.owner, c.issued_at, c.expires_at, c.rotated_at,
       c.overlap_ends_at, c.replay_ends_at)
    IS DISTINCT FROM (t.status, t.secret_hash, t.client_id, t.policy, t.owner, t.issued_at, t.expires_at,
       t.rotated_at, t.overlap_ends_at, t.replay_ends_at)
UNION ALL
SELECT 'a cache that says that it is complete misses no live token', count(*)
FROM token_rotation.token t LEFT JOIN cache c USING (token_id)
WHERE t.status IN ('active', 'rotating') AND c.token_id IS NULL
AND EXISTS (SELECT FROM token_rotation.token_cache m
            WHERE m.token_id = '00000000-0000-0000-0000-000000000000');
