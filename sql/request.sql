-- tr_pre_request, called as PostgREST calls it: its settings, its roles, READ ONLY.
SET search_path = tr, public;
CREATE ROLE regress_request_realm;
SET token_rotation.realm = regress_request_realm;
CREATE ROLE regress_request_authenticator NOINHERIT LOGIN;
CREATE ROLE regress_request_anon;
CREATE ROLE regress_request_shop;
CREATE ROLE regress_request_other;
CREATE ROLE regress_request_boss SUPERUSER;
GRANT regress_request_anon, regress_request_shop, regress_request_boss TO regress_request_authenticator;
SELECT tr_grant('regress_request_anon', 'validator', 'regress_request_realm'),
       tr_grant('regress_request_shop', 'validator', 'regress_request_realm');
INSERT INTO token_rotation.policy (name, request_role, overlap) VALUES
    ('regress_request', 'regress_request_shop', '5 minutes'), ('regress_request_not', 'regress_request_other', '0'), ('regress_request_super', 'regress_request_boss', '0'),
    ('regress_request_gone', 'regress_request_nowhere', '0');
SELECT token AS plain, token_id AS plain_id FROM tr_issue('request plain', 'default', '{orders:read}') \gset
SELECT token AS shop FROM tr_issue('request shop', 'regress_request') \gset
SELECT token AS not_mine FROM tr_issue('request not', 'regress_request_not') \gset
SELECT token AS boss FROM tr_issue('request boss', 'regress_request_super') \gset
SELECT token AS gone FROM tr_issue('request gone', 'regress_request_gone') \gset
SELECT token AS dead FROM tr_issue('request dead') \gset
SELECT tr_revoke(:'dead');

-- What PostgREST does before the main query, and what the hook answers.
CREATE FUNCTION regress.request(headers text, path text DEFAULT '/orders', method text DEFAULT 'GET',
                                OUT status text, OUT challenge text, OUT body jsonb, OUT client text, OUT role text,
                                OUT headers_left text, OUT response text)
    LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    detail text;
    state text;
BEGIN
    PERFORM set_config('role', 'regress_request_anon', true), set_config('request.method', method, true),
            set_config('request.path', path, true), set_config('request.headers', headers, true),
            set_config('response.headers', '', true);
    PERFORM tr.tr_pre_request();
    status := 'ok';
    client := tr.tr_client();
    role := current_user;
    headers_left := current_setting('request.headers');
    response := nullif(current_setting('response.headers'), '');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL;
    status := state;
    IF state = 'PGRST' THEN
        status := detail::jsonb ->> 'status';
        challenge := detail::jsonb #>> '{headers,WWW-Authenticate}';
        body := SQLERRM::jsonb;
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION regress.request(text, text, text) TO PUBLIC;
SET SESSION AUTHORIZATION regress_request_authenticator;

-- The key in its own header, or under the scheme Token; it is gone afterwards.
SELECT status, client, role, headers_left, response LIKE '[{"X-Token-Refresh-At": "2%' AS tells_refresh
FROM regress.request(format('{"accept": "*/*", "x-api-key": %s}', to_jsonb(:'plain'::text)));
SELECT status, client, headers_left FROM unnest(ARRAY['Token ', 'token   ', 'TOKEN ']) scheme,
    regress.request(format('{"authorization": %s, "host": "h"}', to_jsonb(scheme || :'plain')));
-- One under another scheme beside it is gone, too; what is no token stays.
SELECT status, client, headers_left FROM unnest(ARRAY['Bearer ' || :'dead', 'Basic abc']) a,
    regress.request(jsonb_build_object('authorization', a, 'x-api-key', :'plain'::text)::text);
BEGIN READ ONLY;
SELECT client, role FROM regress.request(format('{"x-api-key": "%s", "authorization": "Token %s"}', :'plain', :'dead'));
SELECT tr_client(), tr_scopes(), tr_token_id() = :'plain_id' AS id_right, current_setting('request.headers');
COMMIT;

-- None, and one that is not valid.  What is not proven is not told.
SELECT status, challenge, body FROM regress.request(NULL);
SELECT status, challenge FROM unnest(ARRAY['', '{}', '[]', '"x"', '{"x-api-key": null}', '{"x-api-key": 5}',
    '{"authorization": "Basic abc"}', '{"X-API-Key": "a"}']) h, regress.request(h);
SELECT status, challenge, body FROM regress.request(format('{"x-api-key": "%s"}', :'dead'));
-- A block may be lifted: its token is good.
RESET SESSION AUTHORIZATION;
SELECT tr_block_client('request shop');
SET SESSION AUTHORIZATION regress_request_authenticator;
SELECT status, challenge, body FROM regress.request(format('{"x-api-key": "%s"}', :'shop'));
RESET SESSION AUTHORIZATION;
SELECT tr_block_client('request shop', false);
SET SESSION AUTHORIZATION regress_request_authenticator;
SELECT status, challenge, body -> 'details' AS details
FROM unnest(ARRAY['', 'nonsense', regress.guess(:'plain'), 'a b']) t,
     regress.request(jsonb_build_object('x-api-key', t)::text);
SELECT status, challenge FROM unnest(ARRAY['Token', 'Token ', 'Token  x y']) t,
    regress.request(jsonb_build_object('authorization', t)::text);
SELECT status, challenge, body FROM regress.request(format('{"x-api-key": "%s"', :'plain'));

-- The role of the policy; it needs the authenticator's membership.
SELECT status, client, role FROM regress.request(format('{"x-api-key": "%s"}', :'shop'));
SELECT status, body FROM unnest(ARRAY[:'not_mine', :'gone', :'boss']) t, regress.request(format('{"x-api-key": "%s"}', t));
SELECT current_user;

-- A scope that is missing: 403, and 401 for nobody.
CREATE FUNCTION pg_temp.guarded(headers text, scope text, OUT status text, OUT challenge text, OUT body jsonb)
    LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    PERFORM regress.request(headers, '/public/open');
    status := (tr.tr_require_scope(scope))::text;
EXCEPTION WHEN SQLSTATE 'PGRST' THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    status := detail::jsonb ->> 'status';
    challenge := detail::jsonb #>> '{headers,WWW-Authenticate}';
    body := SQLERRM::jsonb;
END $$;
SELECT * FROM pg_temp.guarded(format('{"x-api-key": "%s"}', :'plain'), 'orders:read');
SELECT * FROM pg_temp.guarded(format('{"x-api-key": "%s"}', :'plain'), 'orders:write');

-- Paths that are open to everybody.  A token that is presented there must be valid.
RESET SESSION AUTHORIZATION;
ALTER SYSTEM SET token_rotation.anonymous_paths = '/, /rpc/rotate,/public/*';
SELECT pg_reload_conf();
\set ECHO none
\o /dev/null
SELECT format('SELECT pg_sleep(%s) WHERE current_setting(''token_rotation.anonymous_paths'') = ''''', 0.01 * i)
FROM generate_series(1, 240) i \gexec
\o
\set ECHO all
SET SESSION AUTHORIZATION regress_request_authenticator;
SELECT path, status, client, role
FROM unnest(ARRAY['/', '/rpc/rotate', '/public/a', '/public/', '/public', '/rpc/rotate2', '/rpc', '', '/orders']) path,
     regress.request('{"accept": "*/*"}', path);
SELECT status, client FROM unnest(ARRAY[:'plain', :'dead']) t,
    regress.request(format('{"x-api-key": "%s"}', t), '/public/a');
SELECT * FROM pg_temp.guarded('{}', 'orders:read');
RESET SESSION AUTHORIZATION;
DROP FUNCTION pg_temp.guarded;
ALTER SYSTEM SET token_rotation.anonymous_paths = 'rpc';
ALTER SYSTEM SET token_rotation.anonymous_paths = '/a*b';
ALTER SYSTEM SET token_rotation.anonymous_paths = '/a, b';
ALTER SYSTEM SET token_rotation.anonymous_paths = '*';
ALTER SYSTEM RESET token_rotation.anonymous_paths;
SELECT pg_reload_conf();

-- While it rotates, the client is told that it ends.
SELECT token AS next FROM tr_rotate(:'shop') \gset
SET SESSION AUTHORIZATION regress_request_authenticator;
SELECT status, h ?& ARRAY['X-Token-Refresh-At', 'Deprecation', 'Sunset'] AS all_three, h ->> 'Deprecation' ~ '^@\d{10}$' AS deprecation,
       to_timestamp(h ->> 'Sunset', 'Dy, DD Mon YYYY HH24:MI:SS')::timestamp AT TIME ZONE 'UTC' - now() BETWEEN '4 minutes' AND '6 minutes' AS sunset
FROM regress.request(format('{"x-api-key": "%s"}', :'shop')) r,
     LATERAL (SELECT jsonb_object_agg(k.key, k.value) h FROM jsonb_array_elements(r.response::jsonb) e, jsonb_each(e) k) h;
SELECT response LIKE '%Sunset%' AS still FROM regress.request(format('{"x-api-key": "%s"}', :'next'));
RESET SESSION AUTHORIZATION;

-- In a function that is not the caller's the role cannot be taken on.
CREATE FUNCTION regress.definer() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'SELECT tr.tr_pre_request()';
BEGIN;
SELECT set_config('request.headers', format('{"x-api-key": "%s"}', :'shop'), true) IS NOT NULL AS set;
SELECT state, message FROM regress.try('SELECT regress.definer()');
ROLLBACK;
DROP FUNCTION regress.definer, regress.request;
DELETE FROM token_rotation.token WHERE owner = 'regress_request_realm';
DELETE FROM token_rotation.policy WHERE name LIKE 'regress_request%';
RESET token_rotation.realm;
REVOKE regress_request_anon, regress_request_shop, regress_request_boss FROM regress_request_authenticator;
SELECT tr_ungrant('regress_request_anon', 'validator', 'regress_request_realm'),
       tr_ungrant('regress_request_shop', 'validator', 'regress_request_realm');
DROP ROLE regress_request_authenticator, regress_request_anon, regress_request_shop, regress_request_other, regress_request_boss, regress_request_realm;
