\echo Use "ALTER EXTENSION token_rotation UPDATE" to load this file. \quit

-- The functions below are in the library from 0.5 on, which is loaded when the
-- server starts and tells its version.
DO LANGUAGE plpgsql $$
BEGIN
    IF (pg_catalog.string_to_array(pg_catalog.current_setting('token_rotation.version', true), '.')::pg_catalog.int4[]
        OPERATOR(pg_catalog.>=) '{0,5}'::pg_catalog.int4[]) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = '55000',
            MESSAGE = 'the library of version 0.5 is not loaded',
            DETAIL = 'The server was started with an earlier one, which lacks functions of this version.',
            HINT = 'Restart the server, then update.';
    END IF;
END
$$;

ALTER TABLE token_rotation.policy ADD COLUMN request_role text COLLATE "C",
    ADD CONSTRAINT policy_request_role_check
        CHECK (pg_catalog.octet_length(request_role) BETWEEN 1 AND 63);
COMMENT ON COLUMN token_rotation.policy.request_role IS 'the role that tr_pre_request takes on for a request with a token of this policy; NULL: it stays PostgREST''s';

-- OFFSET keeps the planner from making one join of it, which would weigh every token.
CREATE OR REPLACE VIEW token_rotation.deliveries WITH (security_barrier = true) AS
    SELECT t.token_ref, t.display, t.client_id, t.policy, t.owner, d.fingerprint, d.made_at, d.ends_at,
           d.fetches, d.fetched_at, t.first_used_at
    FROM token_rotation.delivery d
    CROSS JOIN LATERAL (SELECT v.* FROM token_rotation.tokens v
                        WHERE v.token_id OPERATOR(pg_catalog.=) d.token_id OFFSET 0) t;

CREATE FUNCTION @extschema@.tr_authenticate(
    token text, scope text DEFAULT NULL, origin text DEFAULT NULL,
    OUT client_id text, OUT owner text, OUT token_id uuid, OUT policy text, OUT scopes text[],
    OUT valid_until timestamptz, OUT refresh_at timestamptz)
    AS 'MODULE_PATHNAME', 'tr_authenticate'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_authenticate(text, text, text) IS
    'bind the client of a token to the transaction, and tell who it is; 28000 for a token that is not valid, 42501 for one without the scope: then nobody is bound';

CREATE FUNCTION @extschema@.tr_client() RETURNS text
    AS 'MODULE_PATHNAME', 'tr_client'
    LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tr_client() IS
    'the client that is bound to the transaction; NULL: nobody. In row security write (SELECT tr_client()), which runs once a statement';

CREATE FUNCTION @extschema@.tr_realm() RETURNS text
    AS 'MODULE_PATHNAME', 'tr_realm_sql'
    LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tr_realm() IS
    'the realm of the client that is bound to the transaction, within which its name is one client''s; NULL: nobody is bound';

CREATE FUNCTION @extschema@.tr_token_id() RETURNS uuid
    AS 'MODULE_PATHNAME', 'tr_token_id'
    LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tr_token_id() IS
    'the id of the token that proved the bound client; NULL: nobody is bound';

CREATE FUNCTION @extschema@.tr_scopes() RETURNS text[]
    AS 'MODULE_PATHNAME', 'tr_scopes'
    LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tr_scopes() IS
    'the scopes of the bound client''s token; NULL: nobody is bound';

CREATE FUNCTION @extschema@.tr_has_scope(scope text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tr_has_scope'
    LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tr_has_scope(text) IS
    'whether the bound client''s token has a scope; false where nobody is bound';

CREATE FUNCTION @extschema@.tr_require_scope(scope text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tr_require_scope'
    LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED;
COMMENT ON FUNCTION @extschema@.tr_require_scope(text) IS
    'true, or an error where the bound client''s token has not that scope (42501) or nobody is bound (28000); in a request through PostgREST they are 403 and 401';

CREATE FUNCTION @extschema@.tr_introspect(token text) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'tr_introspect'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_introspect(text) IS
    'a token''s state after RFC 7662; exactly {"active": false} where it is not valid';

CREATE FUNCTION @extschema@.tr_pre_request() RETURNS void
    AS 'MODULE_PATHNAME', 'tr_pre_request'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_pre_request() IS
    'PostgREST''s db-pre-request: binds the client of the token in X-API-Key or Authorization: Token, takes on the role of its policy, and keeps the token from the rest of the request; 401 where it is missing or not valid';

-- What is new gets the owner of what was there, and is closed: to PUBLIC and to
-- those whom ALTER DEFAULT PRIVILEGES names.
DO LANGUAGE plpgsql $$
DECLARE
    functions CONSTANT pg_catalog.regprocedure[] := ARRAY[
        '@extschema@.tr_authenticate(text, text, text)', '@extschema@.tr_client()', '@extschema@.tr_realm()', '@extschema@.tr_token_id()',
        '@extschema@.tr_scopes()', '@extschema@.tr_has_scope(text)', '@extschema@.tr_require_scope(text)',
        '@extschema@.tr_introspect(text)', '@extschema@.tr_pre_request()'];
    owner pg_catalog.regrole;
    statement text;
BEGIN
    SELECT p.proowner INTO owner FROM pg_catalog.pg_proc p
    WHERE p.oid OPERATOR(pg_catalog.=) '@extschema@.tr_validate(text, text)'::pg_catalog.regprocedure;

    FOR statement IN
        WITH member (name, acl) AS (
            SELECT p.oid::pg_catalog.regprocedure::text,
                   coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
            FROM pg_catalog.pg_proc p WHERE p.oid OPERATOR(pg_catalog.=) ANY (functions)
        )
        SELECT pg_catalog.format('ALTER FUNCTION %s OWNER TO %s', m.name, owner) FROM member m
        UNION ALL
        SELECT DISTINCT pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM %s', m.name,
            CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                 ELSE a.grantee::pg_catalog.regrole::text END)
        FROM member m, pg_catalog.aclexplode(m.acl) a
        WHERE a.grantee OPERATOR(pg_catalog.<>) (SELECT r.oid FROM pg_catalog.pg_roles r
                                                 WHERE r.rolname OPERATOR(pg_catalog.=) CURRENT_USER)
          AND a.grantee OPERATOR(pg_catalog.<>) owner
    LOOP
        EXECUTE statement;
    END LOOP;
END
$$;
