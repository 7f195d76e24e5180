\echo Use "ALTER EXTENSION token_rotation UPDATE" to load this file. \quit

-- The functions below are in the library from 0.4 on, which is loaded when the
-- server starts and tells its version.
DO LANGUAGE plpgsql $$
BEGIN
    IF (pg_catalog.string_to_array(pg_catalog.current_setting('token_rotation.version', true), '.')::pg_catalog.int4[]
        OPERATOR(pg_catalog.>=) '{0,4}'::pg_catalog.int4[]) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = '55000',
            MESSAGE = 'the library of version 0.4 is not loaded',
            DETAIL = 'The server was started with an earlier one, which lacks functions of this version.',
            HINT = 'Restart the server, then update.';
    END IF;
END
$$;

ALTER TABLE token_rotation.policy ADD COLUMN rotate_after interval,
    ADD CONSTRAINT policy_rotate_after_check
        CHECK (rotate_after OPERATOR(pg_catalog.>=) '1 second'::pg_catalog.interval
           AND rotate_after OPERATOR(pg_catalog.<=) '100 years'::pg_catalog.interval);
COMMENT ON COLUMN token_rotation.policy.rotate_after IS 'tr_rotate_due starts the rotation of a token at this age, if refresh_at is not earlier; NULL: at refresh_at';

ALTER TABLE token_rotation.policy ADD COLUMN overlap_starts text COLLATE "C" NOT NULL DEFAULT 'rotation',
    ADD CONSTRAINT policy_overlap_starts_check
        CHECK (overlap_starts IN ('rotation', 'first_use'));
COMMENT ON COLUMN token_rotation.policy.overlap_starts IS 'when the overlap window opens: at the rotation, or at the first_use of the successor, until when the old token lives to its own expiry';

-- A window that the server opens has no rotation yet.
ALTER TABLE token_rotation.token DROP CONSTRAINT token_overlap_check, DROP CONSTRAINT token_rotating_check,
    ADD CONSTRAINT token_overlap_check
        CHECK ((rotated_at IS NULL OR overlap_ends_at IS NOT NULL)
           AND overlap_ends_at BETWEEN coalesce(rotated_at, issued_at) AND expires_at
           AND (replay_ends_at IS NULL
                OR rotated_at IS NOT NULL AND replay_ends_at BETWEEN rotated_at AND expires_at)),
    ADD CONSTRAINT token_rotating_check
        CHECK ((status OPERATOR(pg_catalog.<>) 'active' OR overlap_ends_at IS NULL)
           AND (status OPERATOR(pg_catalog.<>) 'rotating' OR overlap_ends_at IS NOT NULL));
COMMENT ON COLUMN token_rotation.token.overlap_ends_at IS 'when its overlap window ends; without rotated_at the server has opened it, and its holder has not come';
CREATE INDEX token_refresh ON token_rotation.token (refresh_at, token_id) WHERE status OPERATOR(pg_catalog.=) 'active';
COMMENT ON INDEX token_rotation.token_refresh IS 'tokens that should be rotated, for tr_rotate_due';
CREATE INDEX token_age ON token_rotation.token (policy, issued_at) WHERE status OPERATOR(pg_catalog.=) 'active';
COMMENT ON INDEX token_rotation.token_age IS 'tokens of a policy by age, for its rotate_after';

-- Successors whose first use opens the window of their predecessor.

CREATE TABLE token_rotation.pending (
    token_id uuid NOT NULL,
    predecessor_id uuid NOT NULL,
    overlap interval NOT NULL,
    CONSTRAINT pending_pkey PRIMARY KEY (token_id),
    CONSTRAINT pending_predecessor_key UNIQUE (predecessor_id),
    CONSTRAINT pending_overlap_check
        CHECK (overlap OPERATOR(pg_catalog.>=) '0'::pg_catalog.interval)
);
COMMENT ON TABLE token_rotation.pending IS
    'successors that were made under overlap_starts = first_use and not used yet; their status is pending';
COMMENT ON COLUMN token_rotation.pending.token_id IS 'the successor';
COMMENT ON COLUMN token_rotation.pending.predecessor_id IS 'whose window opens when the successor is first used';
COMMENT ON COLUMN token_rotation.pending.overlap IS 'how long that window will be';

ALTER TABLE token_rotation.pending ENABLE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('token_rotation.pending', '');

CREATE FUNCTION @extschema@.tr_rotate_due(
    policy text DEFAULT NULL, max_tokens integer DEFAULT 1000,
    OUT policy_name text, OUT started integer)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tr_rotate_due'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_rotate_due(text, integer) IS
    'open the overlap windows of tokens past refresh_at or their policy''s rotate_after, oldest first, in the caller''s realms, for their holders to claim successors with tr_rotate; counts by policy';

CREATE OR REPLACE VIEW token_rotation.tokens WITH (security_barrier = true) AS
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
COMMENT ON COLUMN token_rotation.tokens.status IS 'effective status: time, cutoffs and settings weighed; pending: a successor that waits for its first use';

CREATE VIEW token_rotation.unclaimed WITH (security_barrier = true) AS
    SELECT t.token_id, t.display, t.token_ref, t.client_id, t.policy, t.owner, t.refresh_at, t.expires_at,
           t.overlap_ends_at, t.last_used_at
    FROM token_rotation.tokens t
    WHERE t.status OPERATOR(pg_catalog.=) 'rotating' AND t.rotated_at IS NULL;
COMMENT ON VIEW token_rotation.unclaimed IS
    'tokens whose rotation the server has started and whose holder has not come for the successor; they end at overlap_ends_at';

-- What is new gets the owner of what was there, and is closed: to PUBLIC and to
-- those whom ALTER DEFAULT PRIVILEGES names.
DO LANGUAGE plpgsql $$
DECLARE
    owner pg_catalog.regrole;
    statement text;
BEGIN
    SELECT p.proowner INTO owner FROM pg_catalog.pg_proc p
    WHERE p.oid OPERATOR(pg_catalog.=) '@extschema@.tr_validate(text, text)'::pg_catalog.regprocedure;

    EXECUTE pg_catalog.format('ALTER FUNCTION @extschema@.tr_rotate_due(text, integer) OWNER TO %s', owner);
    EXECUTE pg_catalog.format('ALTER VIEW token_rotation.unclaimed OWNER TO %s', owner);
    EXECUTE pg_catalog.format('ALTER TABLE token_rotation.pending OWNER TO %s', owner);
    FOR statement IN
        WITH member (kind, name, owner, acl) AS (
            SELECT 'FUNCTION', p.oid::pg_catalog.regprocedure::text, p.proowner,
                   coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
            FROM pg_catalog.pg_proc p
            WHERE p.oid OPERATOR(pg_catalog.=) '@extschema@.tr_rotate_due(text, integer)'::pg_catalog.regprocedure
            UNION ALL
            SELECT 'TABLE', c.oid::pg_catalog.regclass::text, c.relowner, c.relacl
            FROM pg_catalog.pg_class c
            WHERE c.oid IN ('token_rotation.unclaimed'::pg_catalog.regclass,
                            'token_rotation.pending'::pg_catalog.regclass)
        )
        SELECT DISTINCT pg_catalog.format('REVOKE ALL ON %s %s FROM %s', m.kind, m.name,
            CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                 ELSE a.grantee::pg_catalog.regrole::text END)
        FROM member m, pg_catalog.aclexplode(m.acl) a
        WHERE a.grantee OPERATOR(pg_catalog.<>) m.owner
    LOOP
        EXECUTE statement;
    END LOOP;
END
$$;
