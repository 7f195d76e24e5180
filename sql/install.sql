-- What CREATE EXTENSION refuses, and what it makes.
CREATE SCHEMA tr;

-- Helpers of the tests, usable by every role.
CREATE SCHEMA regress;
GRANT USAGE ON SCHEMA regress TO PUBLIC;
-- Run a statement, tell the error.
CREATE FUNCTION regress.try(sql text, OUT state text, OUT message text, OUT detail text, OUT hint text)
    LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE sql;
    state := '00000';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
END $$;
-- Run a query of one value, tell that or the SQLSTATE.
CREATE FUNCTION regress.answer(sql text) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    value text;
BEGIN
    EXECUTE sql INTO value;
    RETURN coalesce(value, 'NULL');
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;
-- The same as another role.
CREATE FUNCTION regress.answer_as(role text, sql text) RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    value text;
BEGIN
    PERFORM set_config('role', role, true);
    value := regress.answer(sql);
    PERFORM set_config('role', 'none', true);
    RETURN value;
END $$;
-- Wait until a query says true: at most five minutes, mostly for the worker.
CREATE FUNCTION regress.wait_for(sql text) RETURNS boolean
    LANGUAGE plpgsql AS $$
DECLARE
    deadline timestamptz := clock_timestamp() + '5 minutes';
    done boolean;
BEGIN
    LOOP
        EXECUTE sql INTO done;
        EXIT WHEN done OR clock_timestamp() > deadline;
        PERFORM pg_sleep(0.02);
    END LOOP;
    RETURN coalesce(done, false);
END $$;
-- Wait until the clock has passed a moment that lies a few seconds ahead.
CREATE FUNCTION regress.wait_until(moment timestamptz) RETURNS boolean
    LANGUAGE plpgsql AS $$
BEGIN
    IF moment IS NULL OR moment > clock_timestamp() + '30 seconds' THEN
        RETURN false;
    END IF;
    WHILE clock_timestamp() <= moment LOOP
        PERFORM pg_sleep(0.02);
    END LOOP;
    RETURN true;
END $$;
-- Put a token text together, its check computed by other means than C's.
CREATE FUNCTION regress.token_text(prefix text, id_and_secret text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    bytes bytea := convert_to(id_and_secret, 'UTF8');
    crc bigint := 4294967295;
    digits text := '';
BEGIN
    FOR i IN 0 .. length(bytes) - 1 LOOP
        crc := crc # get_byte(bytes, i);
        FOR bit IN 1 .. 8 LOOP
            crc := CASE crc & 1 WHEN 1 THEN (crc >> 1) # 3988292384 ELSE crc >> 1 END;
        END LOOP;
    END LOOP;
    crc := crc # 4294967295;
    FOR digit IN 1 .. 6 LOOP
        digits := substr('0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz',
                         (crc % 62)::int + 1, 1) || digits;
        crc := crc / 62;
    END LOOP;
    RETURN prefix || '_' || id_and_secret || digits;
END $$;
-- The parts of one.
CREATE FUNCTION regress.secret_of(token text) RETURNS text
    LANGUAGE sql IMMUTABLE RETURN substr(split_part(token, '_', 2), 23, 43);
CREATE FUNCTION regress.id_of(token text) RETURNS text
    LANGUAGE sql IMMUTABLE RETURN left(split_part(token, '_', 2), 22);
-- Another secret, the right check: what a guess would look like.
CREATE FUNCTION regress.guess(token text) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN regress.token_text(split_part(token, '_', 1),
                              regress.id_of(token) || reverse(regress.secret_of(token)));

-- Have the worker come at once: the first use of a token asks for it.
CREATE FUNCTION regress.wake() RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tr.tr_validate((tr.tr_issue('wake')).token);
    RAISE SQLSTATE 'ROLLB';
EXCEPTION WHEN SQLSTATE 'ROLLB' THEN
    NULL;
END $$;
-- Validate until the answer is not ok any more.  Every answer must agree with
-- the clock: ok only before the end, leeway included, the other one only after.
CREATE FUNCTION regress.watch(token text, ends timestamptz, OUT last_reason text, OUT agrees boolean)
    LANGUAGE plpgsql AS $$
DECLARE
    before timestamptz;
BEGIN
    agrees := ends < clock_timestamp() + '30 seconds';
    WHILE agrees LOOP
        before := clock_timestamp();
        last_reason := (tr.tr_validate(token)).reason;
        agrees := CASE last_reason WHEN 'ok' THEN before < ends ELSE clock_timestamp() >= ends END;
        EXIT WHEN last_reason <> 'ok';
        PERFORM pg_sleep(0.02);
    END LOOP;
END $$;

-- An object of its own name that somebody has prepared is an error.
CREATE SCHEMA token_rotation;
SELECT state, message FROM regress.try('CREATE EXTENSION token_rotation SCHEMA tr CASCADE');
DROP SCHEMA token_rotation;
CREATE FUNCTION tr.tr_validate(token text, origin text) RETURNS boolean LANGUAGE sql RETURN true;
SELECT state, message FROM regress.try('CREATE EXTENSION token_rotation SCHEMA tr CASCADE');
DROP FUNCTION tr.tr_validate;

-- So is a role of its name that is not bare, whatever makes it so.
CREATE ROLE regress_install;
CREATE FUNCTION regress.install_with(VARIADIC preparations text[],
                                     OUT state text, OUT message text, OUT detail text, OUT hint text)
    LANGUAGE plpgsql AS $$
DECLARE
    preparation text;
BEGIN
    FOREACH preparation IN ARRAY preparations LOOP
        EXECUTE preparation;
    END LOOP;
    SELECT t.* INTO state, message, detail, hint
    FROM regress.try('CREATE EXTENSION token_rotation SCHEMA tr CASCADE') t;
    RAISE SQLSTATE 'ROLLB';
EXCEPTION WHEN SQLSTATE 'ROLLB' THEN
    NULL;
END $$;
\x on
SELECT * FROM regress.install_with('CREATE ROLE token_rotation_worker LOGIN');
\x off
SELECT state, detail FROM unnest(ARRAY[
    'ALTER ROLE token_rotation_worker SUPERUSER',
    'ALTER ROLE token_rotation_worker CREATEROLE CREATEDB',
    'ALTER ROLE token_rotation_worker REPLICATION BYPASSRLS',
    'ALTER ROLE token_rotation_worker PASSWORD ''password'' CONNECTION LIMIT 1',
    'ALTER ROLE token_rotation_worker VALID UNTIL ''2000-01-01''',
    'ALTER ROLE token_rotation_worker SET work_mem = ''64MB''',
    'GRANT token_rotation_worker TO regress_install',
    'GRANT regress_install TO token_rotation_worker',
    'ALTER SCHEMA tr OWNER TO token_rotation_worker']) WITH ORDINALITY AS p (preparation, n),
    regress.install_with('CREATE ROLE token_rotation_worker', p.preparation)
ORDER BY n;
-- A bare one is taken as it is.
SELECT state FROM regress.install_with('CREATE ROLE token_rotation_worker');
-- No refusal left anything.
SELECT (SELECT count(*) FROM pg_extension WHERE extname IN ('token_rotation', 'pgcrypto')) AS extensions,
       (SELECT count(*) FROM pg_roles WHERE rolname = 'token_rotation_worker') AS roles,
       (SELECT count(*) FROM pg_namespace WHERE nspname = 'token_rotation') AS schemas,
       (SELECT count(*) FROM pg_proc WHERE pronamespace = 'tr'::regnamespace) AS functions;

-- Neither does DROP EXTENSION, but for the role and pgcrypto.
CREATE EXTENSION token_rotation SCHEMA tr CASCADE;
SELECT count(*) AS issued FROM tr.tr_issue('install');
SELECT status FROM token_rotation.tokens;
-- (the worker comes at once, leaves the mark of a complete cache, and goes)
SELECT regress.wait_for($$SELECT EXISTS (SELECT FROM token_rotation.token_cache WHERE status IS NULL)$$);
SELECT regress.wait_for($$SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'token_rotation worker')$$);
DROP EXTENSION token_rotation;
SELECT (SELECT count(*) FROM pg_extension WHERE extname = 'token_rotation') AS extensions,
       (SELECT count(*) FROM pg_roles WHERE rolname = 'token_rotation_worker') AS roles,
       (SELECT count(*) FROM pg_namespace WHERE nspname = 'token_rotation') AS schemas,
       (SELECT count(*) FROM pg_proc WHERE proname LIKE 'tr\_%') AS functions;

-- It is for superusers.
GRANT CREATE ON SCHEMA tr TO regress_install;
SET ROLE regress_install;
CREATE EXTENSION token_rotation SCHEMA tr;
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
REVOKE CREATE ON SCHEMA tr FROM regress_install;
DROP ROLE regress_install;

-- Made again it starts anew.
CREATE EXTENSION token_rotation SCHEMA tr;
SELECT (SELECT count(*) FROM token_rotation.tokens) AS tokens,
       (SELECT count(*) FROM token_rotation.audit) AS audit;
CREATE EXTENSION token_rotation SCHEMA tr;
\echo :LAST_ERROR_SQLSTATE
ALTER EXTENSION token_rotation SET SCHEMA public;
\echo :LAST_ERROR_SQLSTATE

-- What is there now.
SELECT e.extnamespace::regnamespace AS schema, e.extrelocatable, v.requires,
       e.extversion = a.default_version AS newest
FROM pg_extension e JOIN pg_available_extensions a ON a.name = e.extname
JOIN pg_available_extension_versions v ON v.name = e.extname AND v.installed
WHERE e.extname = 'token_rotation';
\pset format unaligned
SELECT format(E'%s(%s)\n\treturns %s', p.proname, pg_get_function_arguments(p.oid),
              pg_get_function_result(p.oid)) AS functions
FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid
WHERE e.extname = 'token_rotation'
ORDER BY p.proname COLLATE "C", 1;
\pset format aligned
SELECT c.relname AS relation, c.relkind AS kind, c.relpersistence AS persistence,
       c.relrowsecurity AS rls, c.relforcerowsecurity AS forced, c.reloptions
FROM pg_class c WHERE c.relnamespace = 'token_rotation'::regnamespace
AND c.relkind NOT IN ('i', 't') ORDER BY 1;
SELECT c.relname AS relation, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type,
       a.attnotnull AS required
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'token_rotation'::regnamespace AND c.relkind IN ('r', 'v', 'c')
ORDER BY c.relname, a.attnum;
SELECT tablename, policyname, permissive, roles, cmd FROM pg_policies
WHERE schemaname = 'token_rotation' ORDER BY 1, 2;
SELECT rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls
FROM pg_roles WHERE rolname = 'token_rotation_worker';

-- Policies that are shipped.
SELECT name, prefix, ttl, overlap, replay_window, refresh_before FROM token_rotation.policy ORDER BY 1;
SELECT name, max_family_age, rotation_proof, allowed_scopes, shipped FROM token_rotation.policy ORDER BY 1;

-- The whole path once.
SELECT token FROM tr.tr_issue('install') \gset
SELECT valid, reason, client_id FROM tr.tr_validate(:'token');
SELECT tr.tr_revoke(:'token');
SELECT valid, reason, client_id FROM tr.tr_validate(:'token');
DELETE FROM token_rotation.token;
