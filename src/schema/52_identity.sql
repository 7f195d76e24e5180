-- Who the transaction acts for: the identity that a token has proven, kept in the
-- backend's memory until the transaction ends.

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
