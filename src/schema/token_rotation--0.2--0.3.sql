\echo Use "ALTER EXTENSION token_rotation UPDATE" to load this file. \quit

ALTER TABLE token_rotation.policy ADD COLUMN on_reuse text COLLATE "C" NOT NULL DEFAULT 'audit',
    ADD CONSTRAINT policy_on_reuse_check CHECK (on_reuse IN ('audit', 'revoke_successor', 'revoke_family'));
COMMENT ON COLUMN token_rotation.policy.on_reuse IS 'what happens when a token that must be dead is used for rotating: audit records it, revoke_successor ends everything that was made from it, revoke_family ends its whole family';

CREATE FUNCTION @extschema@.tr_report_leak(token text, source text DEFAULT NULL)
    RETURNS void
    AS 'MODULE_PATHNAME', 'tr_report_leak'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_report_leak(text, text) IS
    'end the family of a token, or of a rotation key, that was found where it should not be, also when it is dead already; answers the same whether or not it is one';

-- What is new gets the owner of what was there, and is closed: to PUBLIC and to
-- those whom ALTER DEFAULT PRIVILEGES names.
DO LANGUAGE plpgsql $$
DECLARE
    fresh pg_catalog.regprocedure;
    owner pg_catalog.regrole;
    statement text;
BEGIN
    SELECT p.proowner INTO owner FROM pg_catalog.pg_proc p
    WHERE p.oid OPERATOR(pg_catalog.=) '@extschema@.tr_validate(text, text)'::pg_catalog.regprocedure;

    FOREACH fresh IN ARRAY ARRAY[
        '@extschema@.tr_report_leak(text, text)']::pg_catalog.regprocedure[]
    LOOP
        EXECUTE pg_catalog.format('ALTER FUNCTION %s OWNER TO %s', fresh, owner);
        FOR statement IN
            SELECT pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM %s', fresh,
                CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                     ELSE a.grantee::pg_catalog.regrole::text END)
            FROM pg_catalog.pg_proc p,
                 pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) a
            WHERE p.oid OPERATOR(pg_catalog.=) fresh AND a.grantee OPERATOR(pg_catalog.<>) p.proowner
        LOOP
            EXECUTE statement;
        END LOOP;
    END LOOP;
END
$$;
