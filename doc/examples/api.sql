-- A schema to put behind PostgREST: /rpc/issue, /rpc/rotate, /rpc/introspect,
-- /rpc/revoke, /rpc/authorize, and a table under row security.  Copy it and change it.
--
-- Run it with psql as a superuser, in a database that has the extension in the schema
-- tr.  doc/http.md has the rest: PostgREST's settings, and what each request answers.
-- test/t/090_http.pl runs this file and asks for all of it over HTTP.

\set ON_ERROR_STOP on
BEGIN;

-- The roles.  PostgREST logs in as authenticator, which by itself may do nothing, and
-- runs each request as anon, until the hook takes on the role of the token's policy.
CREATE ROLE authenticator LOGIN NOINHERIT;
CREATE ROLE anon NOLOGIN;
CREATE ROLE customer NOLOGIN;     -- works with orders
CREATE ROLE clerk NOLOGIN;        -- issues tokens
CREATE ROLE gateway NOLOGIN;      -- asks whether tokens of others are valid
CREATE ROLE shop NOLOGIN;         -- the realm: it owns the tokens, and nothing else
CREATE ROLE api_owner NOLOGIN;    -- owns the functions below, which have its rights
GRANT anon, customer, clerk, gateway TO authenticator;

-- The hook runs as anon, so it sees the tokens that anon may see.
SELECT tr.tr_grant('anon', 'validator', 'shop');
SELECT tr.tr_grant('api_owner', 'validator', 'shop'), tr.tr_grant('api_owner', 'issuer', 'shop');

-- Whose token may do what.
INSERT INTO token_rotation.policy (name, request_role, allowed_scopes) VALUES
    ('customers', 'customer', '{orders:read,orders:write}'),
    ('clerks', 'clerk', '{tokens:issue}'),
    ('gateways', 'gateway', '{tokens:introspect}');

-- What the functions below share.  Nobody else may see it: not in the exposed schema.
CREATE SCHEMA api_private;
GRANT USAGE ON SCHEMA api_private TO api_owner;

-- Add headers to the answer: an array of objects with one member each.
CREATE FUNCTION api_private.add_headers(headers jsonb) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT set_config('response.headers',
        (coalesce(nullif(current_setting('response.headers', true), ''), '[]')::jsonb || headers)::text, true)
$$;

-- An error in PostgREST's own form, which can set headers.
CREATE FUNCTION api_private.refuse(
    status integer, code text, message text, details text, headers jsonb DEFAULT '{}')
    RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE SQLSTATE 'PGRST' USING
        MESSAGE = jsonb_build_object('code', code, 'message', message, 'details', details, 'hint', NULL),
        DETAIL = jsonb_build_object('status', status, 'headers', headers);
END $$;

-- A moment as HTTP writes it (RFC 9110, section 5.6.7).
CREATE FUNCTION api_private.http_date(moment timestamptz) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT to_char(moment AT TIME ZONE 'UTC', 'Dy, DD Mon YYYY HH24:MI:SS "GMT"')
$$;

-- The exposed schema: what is in it is what there is.
CREATE SCHEMA api;
GRANT USAGE ON SCHEMA api TO anon, customer, clerk, gateway, api_owner;

CREATE TYPE api.issued AS (
    token text, rotation_key text, token_id uuid, client_id text, scopes text[],
    expires_at timestamptz, refresh_at timestamptz);
CREATE TYPE api.rotated AS (
    token text, rotation_key text, token_id uuid, client_id text, scopes text[],
    expires_at timestamptz, refresh_at timestamptz, previous_valid_until timestamptz, replayed boolean);

-- A customer's first token, for a clerk whose token has the scope.
CREATE FUNCTION api.issue(client_id text, scopes text[] DEFAULT '{}', metadata jsonb DEFAULT '{}')
    RETURNS api.issued
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET token_rotation.realm = 'shop' AS $$
DECLARE
    issued api.issued;
BEGIN
    PERFORM tr.tr_require_scope('tokens:issue');
    SELECT i.token, i.rotation_key, i.token_id, i.client_id, i.scopes, i.expires_at, i.refresh_at INTO issued
    FROM tr.tr_issue(issue.client_id, 'customers', issue.scopes, issue.metadata) i;
    PERFORM api_private.add_headers('[{"Cache-Control": "no-store"}]');
    RETURN issued;
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    PERFORM api_private.refuse(409, 'not_issued', 'this client gets no token now', SQLERRM);
END $$;

-- A token's successor.  The token is the credential, so the path is open to everybody:
-- a holder whose answer got lost may ask again also when the token's own time is over.
CREATE FUNCTION api.rotate(token text, rotation_key text DEFAULT NULL)
    RETURNS api.rotated
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET token_rotation.realm = 'shop' AS $$
DECLARE
    r record;
BEGIN
    SELECT * INTO r FROM tr.tr_rotate(rotate.token, rotate.rotation_key);
    IF r.reason = 'disabled' THEN
        PERFORM api_private.refuse(503, 'unavailable', 'the token cannot be rotated now', r.reason);
    ELSIF r.reason <> 'ok' THEN
        -- the reason is for who has proven that he holds the token
        PERFORM api_private.refuse(401, 'invalid_token', 'the token is not valid',
            CASE WHEN r.reason NOT IN ('malformed', 'unknown', 'bad_secret') THEN r.reason END,
            '{"WWW-Authenticate": "Bearer realm=\"api\", error=\"invalid_token\""}');
    END IF;
    -- in place of what the hook said of a token in the header
    PERFORM set_config('response.headers', '', true);
    PERFORM api_private.add_headers(jsonb_build_array(
        '{"Cache-Control": "no-store"}'::jsonb,
        jsonb_build_object('X-Token-Refresh-At', (to_jsonb(r.refresh_at AT TIME ZONE 'UTC') #>> '{}') || '+00:00'),
        jsonb_build_object('Deprecation', '@' || floor(extract(epoch FROM r.issued_at))),
        jsonb_build_object('Sunset', api_private.http_date(r.previous_valid_until))));
    RETURN (r.token, r.rotation_key, r.token_id, r.client_id, r.scopes, r.expires_at, r.refresh_at,
        r.previous_valid_until, r.replayed)::api.rotated;
END $$;

-- A token's state (RFC 7662), for a gateway whose own token has the scope.  With GET
-- the token would be in the URL, and so in logs.
CREATE FUNCTION api.introspect(token text, token_type_hint text DEFAULT NULL)
    RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('request.method', true) IS DISTINCT FROM 'POST' THEN
        PERFORM api_private.refuse(405, 'method_not_allowed', 'introspection is asked for with POST', NULL,
            '{"Allow": "POST"}');
    END IF;
    PERFORM tr.tr_require_scope('tokens:introspect');
    PERFORM api_private.add_headers('[{"Cache-Control": "no-store"}]');
    RETURN tr.tr_introspect(introspect.token);
END $$;

-- The end of a token (RFC 7009).  The token is the credential.  Whether there was one
-- is not told: the answer is 200 in any case.
CREATE FUNCTION api.revoke(token text, token_type_hint text DEFAULT NULL)
    RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET token_rotation.realm = 'shop' AS $$
BEGIN
    PERFORM tr.tr_revoke(revoke.token, 'by its holder');
    PERFORM set_config('response.status', '200', true);
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    PERFORM api_private.refuse(503, 'unavailable', 'the token cannot be revoked now', NULL);
END $$;

-- May this request pass?  For a proxy that asks before it lets one through to another
-- service: 204 with the client in headers, 401, or 403 where the scope is missing.  A
-- client id may be any text, so all but letters, digits, ".", "_" and "-" is
-- percent-encoded.
CREATE FUNCTION api.authorize(scope text DEFAULT NULL)
    RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    client text;
BEGIN
    IF authorize.scope IS NOT NULL THEN
        PERFORM tr.tr_require_scope(authorize.scope);
    END IF;
    SELECT string_agg(CASE WHEN c ~ '^[A-Za-z0-9._-]$' COLLATE "C" THEN c
        ELSE regexp_replace(upper(encode(convert_to(c, 'UTF8'), 'hex')), '..', '%\&', 'g') END, '' ORDER BY n) INTO client
    FROM string_to_table(tr.tr_client(), NULL) WITH ORDINALITY t (c, n);
    PERFORM api_private.add_headers(jsonb_build_array(
        jsonb_build_object('X-Client-Id', client), jsonb_build_object('X-Token-Id', tr.tr_token_id())));
END $$;

-- Open to PUBLIC is what PostgreSQL makes of a new function.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA api, api_private FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA api_private TO api_owner;
ALTER FUNCTION api.issue(text, text[], jsonb) OWNER TO api_owner;
ALTER FUNCTION api.rotate(text, text) OWNER TO api_owner;
ALTER FUNCTION api.introspect(text, text) OWNER TO api_owner;
ALTER FUNCTION api.revoke(text, text) OWNER TO api_owner;
ALTER FUNCTION api.authorize(text) OWNER TO api_owner;
GRANT EXECUTE ON FUNCTION api.issue(text, text[], jsonb) TO clerk;
GRANT EXECUTE ON FUNCTION api.introspect(text, text) TO gateway;
GRANT EXECUTE ON FUNCTION api.rotate(text, text), api.revoke(text, text)
    TO anon, customer, clerk, gateway;
GRANT EXECUTE ON FUNCTION api.authorize(text) TO customer, clerk, gateway;

-- What it is all for.  A customer sees his own orders, if his token has the scope, and
-- cannot say whose an order is.  A scope that is missing is 403, not an empty answer: it
-- is asked for in the subquery that the rows are looked up by, which runs first, and once.
CREATE TABLE api.orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id text NOT NULL DEFAULT tr.tr_client(),
    item text NOT NULL);
CREATE INDEX ON api.orders (client_id);
ALTER TABLE api.orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_orders ON api.orders FOR SELECT TO customer
    USING (client_id = (SELECT CASE WHEN tr.tr_require_scope('orders:read') THEN tr.tr_client() END));
CREATE POLICY new_orders ON api.orders FOR INSERT TO customer
    WITH CHECK (client_id = (SELECT CASE WHEN tr.tr_require_scope('orders:write') THEN tr.tr_client() END));
GRANT SELECT, INSERT (item) ON api.orders TO customer;
GRANT EXECUTE ON FUNCTION tr.tr_client(), tr.tr_require_scope(text) TO customer;

COMMIT;

-- Where the token in the body is the credential no other is asked for.
ALTER SYSTEM SET token_rotation.anonymous_paths = '/rpc/rotate,/rpc/revoke';
SELECT pg_reload_conf();

-- PostgREST reads the schema again.
NOTIFY pgrst, 'reload schema';
