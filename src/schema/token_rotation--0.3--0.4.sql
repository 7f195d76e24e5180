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

CREATE FUNCTION @extschema@.tr_rotate_due(
    policy text DEFAULT NULL, max_tokens integer DEFAULT 1000,
    OUT policy_name text, OUT started integer)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tr_rotate_due'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_rotate_due(text, integer) IS
    'open the overlap windows of tokens past refresh_at or their policy''s rotate_after, oldest first, in the caller''s realms, for their holders to claim successors with tr_rotate; counts by policy';

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
    FOR statement IN
        WITH member (kind, name, owner, acl) AS (
            SELECT 'FUNCTION', p.oid::pg_catalog.regprocedure::text, p.proowner,
                   coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
            FROM pg_catalog.pg_proc p
            WHERE p.oid OPERATOR(pg_catalog.=) '@extschema@.tr_rotate_due(text, integer)'::pg_catalog.regprocedure
            UNION ALL
            SELECT 'TABLE', c.oid::pg_catalog.regclass::text, c.relowner, c.relacl
            FROM pg_catalog.pg_class c
            WHERE c.oid OPERATOR(pg_catalog.=) 'token_rotation.unclaimed'::pg_catalog.regclass
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
