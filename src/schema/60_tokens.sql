-- What people read.

CREATE FUNCTION @extschema@.tr_token_display(prefix text, token_id uuid) RETURNS text
    AS 'MODULE_PATHNAME', 'tr_token_display_sql'
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tr_token_display(text, uuid) IS
    'the public part of a token''s text, <prefix>_<id>';

CREATE FUNCTION @extschema@.tr_effective_status(
    status text, owner text, client_id text, policy text, issued_at timestamptz,
    expires_at timestamptz, rotated_at timestamptz, overlap_ends_at timestamptz) RETURNS text
    AS 'MODULE_PATHNAME', 'tr_effective_status'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_effective_status(text, text, text, text, timestamptz, timestamptz, timestamptz, timestamptz) IS
    'the status of a token now, time, cutoffs and settings weighed: what validation goes by, whether or not it is recorded yet';

CREATE VIEW token_rotation.tokens WITH (security_barrier = true) AS
    SELECT t.token_id,
           @extschema@.tr_token_display(t.prefix, t.token_id) AS display,
           pg_catalog.sha256(pg_catalog.uuid_send(t.token_id)) AS token_ref,
           t.family_id,
           t.generation,
           t.predecessor_id,
           t.client_id,
           t.policy,
           t.owner,
           CASE s.effective WHEN 'active' THEN
               CASE WHEN EXISTS (SELECT FROM token_rotation.pending w
                                 WHERE w.token_id OPERATOR(pg_catalog.=) t.token_id)
                    THEN 'pending' ELSE 'active' END
               ELSE s.effective END AS status,
           t.scopes,
           t.metadata,
           t.issued_at,
           t.expires_at,
           t.refresh_at,
           t.rotated_at,
           t.overlap_ends_at,
           t.replay_ends_at,
           coalesce(t.first_used_at, c.first_used_at) AS first_used_at,
           greatest(t.last_used_at, c.last_used_at) AS last_used_at,
           c.use_count,
           t.revoked_at,
           t.revoked_reason,
           t.key_id
    FROM token_rotation.token t
    LEFT JOIN token_rotation.token_cache c ON c.token_id OPERATOR(pg_catalog.=) t.token_id
    CROSS JOIN LATERAL @extschema@.tr_effective_status(
        t.status, t.owner, t.client_id, t.policy, t.issued_at, t.expires_at, t.rotated_at,
        t.overlap_ends_at) s (effective)
    WHERE t.owner IN (SELECT r.rolname FROM pg_catalog.pg_roles r
                      WHERE pg_catalog.pg_has_role(r.oid, 'USAGE'))
       OR (SELECT s.rolsuper FROM pg_catalog.pg_roles s
           WHERE s.rolname OPERATOR(pg_catalog.=) CURRENT_USER);
COMMENT ON VIEW token_rotation.tokens IS
    'tokens of the realms that the reader is a member of; no hash, no nonce';
COMMENT ON COLUMN token_rotation.tokens.display IS 'the public part of the token''s text';
COMMENT ON COLUMN token_rotation.tokens.token_ref IS 'SHA-256 of the token id, as in the audit trail';
COMMENT ON COLUMN token_rotation.tokens.status IS 'effective status: time, cutoffs and settings weighed; pending: a successor that waits for its first use';
COMMENT ON COLUMN token_rotation.tokens.use_count IS 'acceptances since the cache was filled; NULL: not in the cache';
COMMENT ON COLUMN token_rotation.tokens.key_id IS 'number of the server key that it was made with; NULL: none';

CREATE VIEW token_rotation.unclaimed WITH (security_barrier = true) AS
    SELECT t.token_id, t.display, t.token_ref, t.client_id, t.policy, t.owner, t.refresh_at, t.expires_at,
           t.overlap_ends_at, t.last_used_at
    FROM token_rotation.tokens t
    WHERE t.status OPERATOR(pg_catalog.=) 'rotating' AND t.rotated_at IS NULL;
COMMENT ON VIEW token_rotation.unclaimed IS
    'tokens whose rotation the server has started and whose holder has not come for the successor; they end at overlap_ends_at';

CREATE FUNCTION token_rotation.expiring(
    within interval,
    OUT client_id text, OUT owner text, OUT policy text, OUT tokens bigint,
    OUT first_ends_at timestamptz, OUT last_ends_at timestamptz, OUT last_used_at timestamptz)
    RETURNS SETOF record
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
    AS $$
    SELECT e.client_id, e.owner, e.policy, pg_catalog.count(*), pg_catalog.min(e.ends_at),
           pg_catalog.max(e.ends_at), pg_catalog.max(e.last_used_at)
    FROM (SELECT t.client_id, t.owner, t.policy, coalesce(t.overlap_ends_at, t.expires_at) AS ends_at,
                 t.last_used_at
          FROM token_rotation.tokens t
          WHERE t.rotated_at IS NULL AND t.status OPERATOR(pg_catalog.=) ANY (ARRAY['pending', 'active', 'rotating'])) e
    WHERE e.ends_at OPERATOR(pg_catalog.<=) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $1)
    GROUP BY e.client_id, e.owner, e.policy
    ORDER BY 5, 1, 2, 3
    $$;
COMMENT ON FUNCTION token_rotation.expiring(interval) IS
    'live tokens without a successor whose validity ends within this time, of the realms that the caller is a member of: a row for each client, realm and policy, soonest first; NULL: none';
-- OFFSET keeps the planner from making one join of it, which would weigh every token.
CREATE VIEW token_rotation.deliveries WITH (security_barrier = true) AS
    SELECT t.token_ref, t.display, t.client_id, t.policy, t.owner, d.fingerprint, d.made_at, d.ends_at,
           d.fetches, d.fetched_at, t.first_used_at
    FROM token_rotation.delivery d
    CROSS JOIN LATERAL (SELECT v.* FROM token_rotation.tokens v
                        WHERE v.token_id OPERATOR(pg_catalog.=) d.token_id OFFSET 0) t;
COMMENT ON VIEW token_rotation.deliveries IS
    'deliveries that wait in the realms that the reader is a member of, without their messages; the tokens are the successors';
