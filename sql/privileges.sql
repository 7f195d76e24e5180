-- Privileges: presets, realms, and moving a realm's tokens.
SET search_path = tr, public;
SELECT coalesce(max(seq), 0) AS mark FROM token_rotation.audit \gset
CREATE ROLE regress_app LOGIN;
CREATE ROLE regress_ops;
CREATE ROLE regress_realm;
CREATE ROLE regress_other;
CREATE ROLE regress_boss SUPERUSER;
CREATE ROLE "regress_""odd"" role";

-- What a role has been given itself, in this extension's objects and in realms.
CREATE FUNCTION pg_temp.given(role text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT k FROM (
        SELECT 'function ' || p.proname AS k, p.proacl AS acl FROM pg_proc p
        WHERE p.pronamespace IN ('tr'::regnamespace, 'token_rotation'::regnamespace)
        UNION ALL
        SELECT CASE c.relkind WHEN 'S' THEN 'sequence ' ELSE 'relation ' END || c.relname, c.relacl
        FROM pg_class c WHERE c.relnamespace = 'token_rotation'::regnamespace
        UNION ALL
        SELECT 'schema ' || n.nspname, n.nspacl FROM pg_namespace n
    ) o, aclexplode(o.acl) a WHERE a.grantee = role::regrole
    UNION ALL
    SELECT 'realm ' || m.roleid::regrole FROM pg_auth_members m WHERE m.member = role::regrole
    ORDER BY 1
$$;

-- Nobody has anything to begin with.
SELECT * FROM pg_temp.given('regress_app');
SELECT p.proname FROM pg_proc p
WHERE p.proname LIKE 'tr\_%' AND p.pronamespace = 'tr'::regnamespace
  AND has_function_privilege('regress_app', p.oid, 'EXECUTE');
SET ROLE regress_app;
SELECT tr.tr_issue('regress');
RESET ROLE;

-- Each preset, given and taken back.
SELECT tr_grant('regress_app', 'validator');
SELECT * FROM pg_temp.given('regress_app');
SELECT tr_ungrant('regress_app', 'validator');
SELECT * FROM pg_temp.given('regress_app');
SELECT tr_grant('regress_app', 'issuer', 'regress_realm');
SELECT * FROM pg_temp.given('regress_app');
SELECT tr_ungrant('regress_app', 'issuer', 'regress_realm');
SELECT * FROM pg_temp.given('regress_app');
SELECT tr_grant('regress_app', 'operator');
SELECT * FROM pg_temp.given('regress_app');
SELECT tr_ungrant('regress_app', 'operator');
SELECT * FROM pg_temp.given('regress_app');
SELECT tr_grant('regress_app', 'auditor');
SELECT * FROM pg_temp.given('regress_app');
SELECT tr_ungrant('regress_app', 'auditor');
SELECT * FROM pg_temp.given('regress_app');

-- Presets are disjoint: taking one back leaves what the others need.  Calls can
-- be repeated.
SELECT tr_grant('regress_app', p) FROM unnest('{validator,issuer,operator,auditor}'::text[]) p;
SELECT count(*) FROM pg_temp.given('regress_app');
SELECT tr_grant('regress_app', 'issuer', 'regress_realm'), tr_grant('regress_app', 'issuer', 'regress_realm');
SELECT tr_ungrant('regress_app', 'operator'), tr_ungrant('regress_app', 'operator');
SELECT tr_ungrant('regress_app', 'auditor');
SELECT * FROM pg_temp.given('regress_app');
SELECT tr_ungrant('regress_app', 'issuer');
SELECT * FROM pg_temp.given('regress_app');
SELECT tr_ungrant('regress_app', 'issuer', 'regress_realm'), tr_ungrant('regress_app', 'issuer', 'regress_realm');
SELECT tr_ungrant('regress_app', 'validator');
SELECT * FROM pg_temp.given('regress_app');

-- A role is its own realm; names are quoted.
SELECT tr_grant('regress_realm', 'validator', 'regress_realm');
SELECT tr_grant('regress_"odd" role', 'validator', 'regress_other');
SELECT * FROM pg_temp.given('"regress_""odd"" role"');
SELECT tr_ungrant('regress_"odd" role', 'validator', 'regress_other');
SELECT * FROM pg_temp.given('"regress_""odd"" role"');
SELECT tr_ungrant('regress_realm', 'validator', 'regress_realm');

-- Where the functions' schema holds other things, a role may need USAGE for
-- those, and keeps it.
BEGIN;
SELECT tr_grant('regress_app', 'validator');
CREATE TABLE tr.regress_table ();
SELECT tr_ungrant('regress_app', 'validator');
SELECT * FROM pg_temp.given('regress_app');
ROLLBACK;

-- Somebody else's function of the same name gets nothing.
BEGIN;
CREATE FUNCTION tr.tr_validate(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
REVOKE ALL ON FUNCTION tr.tr_validate(int) FROM PUBLIC;
SELECT tr_grant('regress_app', 'validator');
SELECT has_function_privilege('regress_app', 'tr.tr_validate(int)', 'EXECUTE') AS other,
       has_function_privilege('regress_app', 'tr.tr_validate(text, text)', 'EXECUTE') AS ours;
ROLLBACK;

-- The owner has everything already, and loses nothing.
SELECT tr_grant(current_user, 'validator');
SELECT tr_ungrant(current_user, 'validator');
SELECT has_function_privilege('tr_validate(text, text)', 'EXECUTE');

-- Misuse.
SELECT tr_grant(NULL, 'issuer');
\echo :LAST_ERROR_SQLSTATE
SELECT tr_grant('regress_app', NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT tr_grant('regress_app', 'admin');
\echo :LAST_ERROR_SQLSTATE
SELECT tr_grant('regress_nobody', 'issuer');
\echo :LAST_ERROR_SQLSTATE
SELECT tr_grant('public', 'issuer');
\echo :LAST_ERROR_SQLSTATE
SELECT tr_grant(repeat('x', 64), 'issuer');
\echo :LAST_ERROR_SQLSTATE
SELECT tr_grant('regress_app', 'issuer', 'regress_nowhere');
\echo :LAST_ERROR_SQLSTATE
SELECT tr_grant('token_rotation_worker', 'issuer');
\echo :LAST_ERROR_SQLSTATE
SELECT tr_grant('regress_app', 'issuer', 'token_rotation_worker');
\echo :LAST_ERROR_SQLSTATE
SELECT tr_grant('regress_app', 'issuer', 'pg_read_all_data');
\echo :LAST_ERROR_SQLSTATE
SELECT tr_grant('regress_app', 'issuer', 'regress_boss');
\echo :LAST_ERROR_SQLSTATE
BEGIN;
GRANT regress_boss TO regress_other;
SELECT tr_grant('regress_app', 'issuer', 'regress_other');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;
SELECT tr_ungrant('regress_app', 'admin');
\echo :LAST_ERROR_SQLSTATE
SELECT tr_ungrant('regress_nobody', 'issuer');
\echo :LAST_ERROR_SQLSTATE
BEGIN READ ONLY;
SELECT tr_grant('regress_app', 'issuer');
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;

-- Being allowed to call it is not enough.
GRANT USAGE ON SCHEMA tr TO regress_ops;
GRANT EXECUTE ON FUNCTION tr_grant(text, text, text), tr_ungrant(text, text, text),
    tr_set_owner(text, text) TO regress_ops;
SET ROLE regress_ops;
SELECT tr_grant('regress_ops', 'operator');
\echo :LAST_ERROR_SQLSTATE
SELECT tr_ungrant('regress_app', 'issuer');
\echo :LAST_ERROR_SQLSTATE
SELECT tr_set_owner('regress_realm', 'regress_ops');
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
REVOKE ALL ON FUNCTION tr_grant(text, text, text), tr_ungrant(text, text, text),
    tr_set_owner(text, text) FROM regress_ops;
REVOKE ALL ON SCHEMA tr FROM regress_ops;

-- A failed call leaves nothing behind.
SELECT * FROM pg_temp.given('regress_app');

-- What the presets are good for: the issuer sees his realm, the auditor every
-- realm's trail but no token, others nothing.
SELECT tr_grant('regress_app', 'issuer', 'regress_realm');
SELECT tr_grant('regress_ops', 'auditor');
SET ROLE regress_app;
SET token_rotation.realm = 'regress_realm';
SELECT owner FROM tr_issue('regress privileges');
SELECT client_id, owner, status FROM token_rotation.tokens;
SELECT count(*) FROM token_rotation.audit;
SELECT tr_validate('x');
RESET token_rotation.realm;
SET ROLE regress_ops;
SELECT client_id, owner, status FROM token_rotation.tokens;
SELECT event, client_id, owner FROM token_rotation.audit
WHERE seq > :mark AND client_id = 'regress privileges';
SELECT count(*) FROM token_rotation.policy WHERE name = 'default';
SELECT count(*) FROM token_rotation.token;
RESET ROLE;

-- A dropped realm: its tokens are moved to another.
SELECT tr_ungrant('regress_app', 'issuer', 'regress_realm');
DROP ROLE regress_realm;
SELECT tr_set_owner('regress_realm', 'regress_other');
SELECT tr_set_owner('regress_realm', 'regress_other');
SELECT client_id, owner FROM token_rotation.tokens WHERE client_id = 'regress privileges';
SELECT tr_set_owner(NULL, 'regress_other');
\echo :LAST_ERROR_SQLSTATE
SELECT tr_set_owner('regress_other', NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT tr_set_owner('', 'regress_other');
\echo :LAST_ERROR_SQLSTATE
SELECT tr_set_owner('regress_other', 'regress_other');
\echo :LAST_ERROR_SQLSTATE
SELECT tr_set_owner('regress_other', 'regress_realm');
\echo :LAST_ERROR_SQLSTATE
SELECT tr_set_owner('regress_other', 'token_rotation_worker');
\echo :LAST_ERROR_SQLSTATE
SELECT tr_set_owner('regress_other', 'pg_monitor');
\echo :LAST_ERROR_SQLSTATE

-- The trail: only what was committed.
SELECT event, owner, detail FROM token_rotation.audit
WHERE seq > :mark AND event IN ('granted', 'ungranted', 'owner_changed')
  AND detail->>'role' IS DISTINCT FROM current_user
ORDER BY seq;

SELECT tr_ungrant('regress_ops', 'auditor');
DELETE FROM token_rotation.token WHERE client_id LIKE 'regress%';
DROP ROLE regress_app, regress_ops, regress_other, regress_boss, "regress_""odd"" role";
