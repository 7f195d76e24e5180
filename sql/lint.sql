-- What must hold of everything that the extension has made, asked of the
-- catalogs.  Runs last, on what the other tests leave.  Where a table is empty,
-- nothing is wrong.  The types that come with a relation are left out: whether
-- they are members depends on the version of the server.
CREATE TEMP VIEW member AS
SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS what
FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE d.deptype = 'e' AND e.extname = 'token_rotation'
AND NOT EXISTS (SELECT FROM pg_type t JOIN pg_type rows ON rows.oid IN (t.oid, t.typelem)
    JOIN pg_class c ON c.oid = rows.typrelid
    WHERE d.classid = 'pg_type'::regclass AND t.oid = d.objid AND NOT (c.relkind = 'c' AND t.oid = rows.oid));
CREATE TEMP VIEW ours AS
SELECT p.* FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid;

-- The members, by kind: functions, and the view tr_stat, in the schema that was
-- picked, relations, and a query with a parameter, in token_rotation, nothing
-- anywhere else.
SELECT m.classid::regclass AS kind, n.nspname AS schema, count(*) > 0 AS some
FROM member m LEFT JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
LEFT JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
LEFT JOIN pg_type t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid
LEFT JOIN pg_namespace n ON n.oid = coalesce(p.pronamespace, c.relnamespace, t.typnamespace)
GROUP BY 1, 2 ORDER BY 1::text, 2;
SELECT proname AS not_prefixed FROM ours WHERE proname NOT LIKE 'tr\_%' AND pronamespace <> 'token_rotation'::regnamespace;
SELECT relname AS not_a_member FROM pg_class c WHERE relnamespace = 'token_rotation'::regnamespace AND relkind IN ('r', 'v', 'S', 'm', 'p', 'f')
AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_class'::regclass AND m.objid = c.oid);

-- Everything has a comment: functions, relations, indexes that are not a
-- constraint's, columns of base tables and types, policies, the schema, the extension.
SELECT what AS no_comment FROM member m
WHERE obj_description(objid, classid::regclass::name) IS NULL ORDER BY 1;
SELECT i.indexrelid::regclass AS no_comment FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = 'token_rotation'::regnamespace AND obj_description(i.indexrelid, 'pg_class') IS NULL
AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid) ORDER BY 1::text;
SELECT format('%s.%s', c.relname, a.attname) AS no_comment FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'token_rotation'::regnamespace AND c.relkind IN ('r', 'c') AND a.attnum > 0 AND NOT a.attisdropped
AND col_description(c.oid, a.attnum) IS NULL ORDER BY 1;
SELECT p.polname AS no_comment FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
WHERE c.relnamespace = 'token_rotation'::regnamespace AND obj_description(p.oid, 'pg_policy') IS NULL ORDER BY 1;
SELECT obj_description(oid, 'pg_extension') IS NOT NULL AS extension_has_comment FROM pg_extension WHERE extname = 'token_rotation';

-- Nothing is open to PUBLIC, and no grant of a test is left; pg_monitor has its own.
SELECT m.what AS open, a.privilege_type, pg_get_userbyid(nullif(a.grantee, 0)) AS grantee
FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid,
    aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
WHERE a.grantee <> p.proowner ORDER BY 1, 2, 3;
SELECT m.what AS open, a.privilege_type, pg_get_userbyid(nullif(a.grantee, 0)) AS grantee
FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid,
    aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) a
WHERE a.grantee <> c.relowner ORDER BY 1, 2, 3;
SELECT n.nspname AS open, a.privilege_type, pg_get_userbyid(nullif(a.grantee, 0)) AS grantee
FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
WHERE n.nspname IN ('token_rotation', 'tr') AND a.grantee <> n.nspowner ORDER BY 1, 2, 3;
SELECT c.relname AS open, a.attname, x.privilege_type FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid, aclexplode(a.attacl) x
WHERE c.relnamespace = 'token_rotation'::regnamespace ORDER BY 1, 2, 3;

-- The worker's role owns nothing, is nobody's and has no rights but these.
SELECT rolsuper, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, rolconnlimit, rolvaliduntil, rolconfig
FROM pg_roles WHERE rolname = 'token_rotation_worker';
SELECT count(*) AS memberships FROM pg_auth_members
WHERE 'token_rotation_worker'::regrole IN (roleid, member);
SELECT count(*) AS owned FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass
AND refobjid = 'token_rotation_worker'::regrole AND deptype = 'o';
-- All of it has one owner.
SELECT count(DISTINCT owner) AS owners FROM (
    SELECT proowner FROM ours
    UNION ALL SELECT relowner FROM pg_class WHERE relnamespace = 'token_rotation'::regnamespace OR relname = 'tr_stat'
    UNION ALL SELECT nspowner FROM pg_namespace WHERE nspname = 'token_rotation'
    UNION ALL SELECT extowner FROM pg_extension WHERE extname = 'token_rotation') o (owner);

-- No function is SECURITY DEFINER (nor needs a search_path of its own), leakproof,
-- or made of anything but C, but for the query with a parameter.
SELECT proname AS wrong FROM ours p JOIN pg_language l ON l.oid = p.prolang
WHERE prosecdef OR proconfig IS NOT NULL OR proleakproof
OR lanname <> CASE pronamespace WHEN 'token_rotation'::regnamespace THEN 'sql' ELSE 'c' END ORDER BY 1;
-- Volatile, unsafe in parallel plans, called on NULL: but for these.
SELECT proname, provolatile, proparallel, proisstrict FROM ours
WHERE provolatile <> 'v' OR proparallel <> 'u' OR proisstrict ORDER BY 1;
-- Each function of C has its own name, but for what SQL calls otherwise.
SELECT proname, prosrc FROM ours WHERE probin IS NOT NULL AND proname <> prosrc ORDER BY 1;
SELECT DISTINCT probin FROM ours WHERE probin IS NOT NULL;
-- No overloads: names say what is meant.
SELECT proname AS overloaded FROM ours GROUP BY 1 HAVING count(*) > 1;

-- Row security: on where tokens, realms and events are; forced for the trail.
SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class
WHERE relnamespace = 'token_rotation'::regnamespace AND relkind = 'r' ORDER BY 1;
SELECT relname AS readable FROM pg_class c WHERE relname IN ('token', 'token_cache', 'delivery') AND relnamespace = 'token_rotation'::regnamespace
AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid);
SELECT p.polname, p.polcmd, p.polpermissive, p.polroles::regrole[] AS roles, c.relname FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
WHERE c.relnamespace = 'token_rotation'::regnamespace AND p.polcmd <> 'r' ORDER BY 1;
SELECT relname AS no_barrier FROM pg_class WHERE oid IN (SELECT objid FROM member WHERE classid = 'pg_class'::regclass) AND relkind = 'v'
AND NOT coalesce('security_barrier=true' = ANY (reloptions), false);
-- No view shows a hash or a nonce.
SELECT c.relname, a.attname AS secret FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'token_rotation'::regnamespace AND c.relkind = 'v' AND a.attname ~ 'hash|nonce|secret|rotation_key';

-- Triggers: always on, also for replicas.
SELECT c.relname, t.tgname, t.tgenabled, t.tgfoid::regproc AS function FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'token_rotation'::regnamespace AND NOT t.tgisinternal ORDER BY 1, 2;
-- Their functions are no use elsewhere, and are triggers of one of these tables.
SELECT proname AS unused FROM ours p WHERE prorettype = 'trigger'::regtype
AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgfoid = p.oid) ORDER BY 1;

-- Dumps: every durable table; not the cache, where nonces are, and not the sequence.
SELECT c.relname, c.relkind, c.relpersistence, e.id IS NOT NULL AS dumped, e.condition
FROM pg_class c LEFT JOIN (SELECT unnest(extconfig) AS id, unnest(extcondition) AS condition FROM pg_extension
                           WHERE extname = 'token_rotation') e ON e.id = c.oid
WHERE c.relnamespace = 'token_rotation'::regnamespace AND c.relkind IN ('r', 'S') ORDER BY 1;

-- Keys: every table has a primary one; no foreign keys; no constraint that was
-- left unchecked.
SELECT relname AS no_key FROM pg_class c WHERE relnamespace = 'token_rotation'::regnamespace AND relkind = 'r'
AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p');
SELECT conrelid::regclass AS wrong, conname FROM pg_constraint
WHERE connamespace = 'token_rotation'::regnamespace AND (contype = 'f' OR NOT convalidated OR condeferrable);
-- Constraints refuse rows that cannot be.
CREATE TEMP TABLE refused (n serial, what text, sql text);
INSERT INTO refused (what, sql) VALUES
    ('status', 'UPDATE token_rotation.token SET status = ''pending'' WHERE client_id = ''lint'''),
    ('short hash', 'UPDATE token_rotation.token SET secret_hash = ''\x00'' WHERE client_id = ''lint'''),
    ('long rotation hash', 'UPDATE token_rotation.token SET rotation_hash = secret_hash || ''\x00'' WHERE client_id = ''lint'''),
    ('prefix', 'UPDATE token_rotation.token SET prefix = ''a_b'' WHERE client_id = ''lint'''),
    ('empty client', 'UPDATE token_rotation.token SET client_id = '''' WHERE client_id = ''lint'''),
    ('long client', 'UPDATE token_rotation.token SET client_id = repeat(''ü'', 128) WHERE client_id = ''lint'''),
    ('metadata', 'UPDATE token_rotation.token SET metadata = ''[]'' WHERE client_id = ''lint'''),
    ('no life', 'UPDATE token_rotation.token SET expires_at = issued_at WHERE client_id = ''lint'''),
    ('infinite life', 'UPDATE token_rotation.token SET expires_at = ''infinity'' WHERE client_id = ''lint'''),
    ('refresh after the end', 'UPDATE token_rotation.token SET refresh_at = expires_at + interval ''1 second'' WHERE client_id = ''lint'''),
    ('overlap beyond expiry', 'UPDATE token_rotation.token SET overlap_ends_at = expires_at + interval ''1 second'' WHERE client_id = ''lint'' AND generation = 0'),
    ('overlap before rotation', 'UPDATE token_rotation.token SET overlap_ends_at = rotated_at - interval ''1 second'' WHERE client_id = ''lint'' AND generation = 0'),
    ('overlap without rotation', 'UPDATE token_rotation.token SET overlap_ends_at = expires_at WHERE client_id = ''lint'' AND generation = 1'),
    ('replay beyond expiry', 'UPDATE token_rotation.token SET replay_ends_at = expires_at + interval ''1 second'' WHERE client_id = ''lint'' AND generation = 0'),
    ('active and rotated', 'UPDATE token_rotation.token SET status = ''active'' WHERE client_id = ''lint'' AND generation = 0'),
    ('rotating, not rotated', 'UPDATE token_rotation.token SET status = ''rotating'' WHERE client_id = ''lint'' AND generation = 1'),
    ('revoked, no time', 'UPDATE token_rotation.token SET status = ''revoked'' WHERE client_id = ''lint'' AND generation = 1'),
    ('time, not revoked', 'UPDATE token_rotation.token SET revoked_at = now() WHERE client_id = ''lint'' AND generation = 1'),
    ('first of another family', 'UPDATE token_rotation.token SET family_id = gen_random_uuid() WHERE client_id = ''lint'' AND generation = 0'),
    ('later and its own family', 'UPDATE token_rotation.token SET family_id = token_id WHERE client_id = ''lint'' AND generation = 1'),
    ('first with predecessor', 'UPDATE token_rotation.token SET predecessor_id = gen_random_uuid() WHERE client_id = ''lint'' AND generation = 0'),
    ('negative generation', 'UPDATE token_rotation.token SET generation = -1 WHERE client_id = ''lint'' AND generation = 1'),
    ('second successor', 'INSERT INTO token_rotation.token SELECT (jsonb_populate_record(t, jsonb_build_object(''token_id'', gen_random_uuid()))).* FROM token_rotation.token t WHERE client_id = ''lint'' AND generation = 1'),
    ('same id', 'INSERT INTO token_rotation.token SELECT * FROM token_rotation.token WHERE client_id = ''lint'' AND generation = 0'),
    ('short nonce', 'UPDATE token_rotation.token_cache SET nonce = ''\x00'' WHERE client_id = ''lint'''),
    ('cached without hash', 'UPDATE token_rotation.token_cache SET secret_hash = NULL WHERE client_id = ''lint'''),
    ('cutoff of what', 'INSERT INTO token_rotation.cutoff VALUES (''family'', ''x'', '''', now(), now())'),
    ('cutoff of all, but', 'INSERT INTO token_rotation.cutoff VALUES (''all'', ''x'', '''', now(), now())'),
    ('cutoff of nobody', 'INSERT INTO token_rotation.cutoff VALUES (''client'', '''', '''', now(), now())'),
    ('cutoff for ever', 'INSERT INTO token_rotation.cutoff VALUES (''all'', '''', '''', ''infinity'', now())');
BEGIN;
SELECT r.reason FROM tr.tr_issue('lint') i, tr.tr_rotate(i.token) r;
SELECT r.what, t.state, regexp_replace(t.message, '.*"(\w+)"$', '\1') AS constraint FROM refused r, regress.try(r.sql) t ORDER BY r.n;
ROLLBACK;

-- The tests have cleaned up.
SELECT (SELECT count(*) FROM token_rotation.token) AS tokens, (SELECT count(*) FROM token_rotation.cutoff) AS cutoffs,
       (SELECT count(*) FROM token_rotation.blocked_client) AS blocks,
       (SELECT count(*) FROM token_rotation.policy WHERE NOT shipped) AS policies,
       (SELECT count(*) FROM pg_roles WHERE rolname LIKE 'regress%') AS roles;
-- And whatever they did, no secret of anybody is in the trail.
SELECT count(*) AS token_shaped FROM token_rotation.audit a WHERE a::text ~ '_[0-9A-Za-z]{23}';
