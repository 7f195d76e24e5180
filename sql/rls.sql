-- Who sees what, and that a realm is closed to everybody else.
SET search_path = tr, public;
CREATE ROLE regress_realm_a;
CREATE ROLE regress_realm_b;
CREATE ROLE regress_alice;      -- of realm a
CREATE ROLE regress_bob;        -- of realm b
CREATE ROLE regress_carol;      -- of realm a, by a team
CREATE ROLE regress_team;
CREATE ROLE regress_dave NOINHERIT; -- of realm a, after SET ROLE only
CREATE ROLE regress_stranger;   -- of no realm
CREATE ROLE regress_auditor;
CREATE ROLE regress_nobody;
CREATE ROLE regress_reader;
CREATE ROLE regress_writer;
SELECT count(tr_grant(r.role, p.preset, r.realm))
FROM (VALUES ('regress_alice', 'regress_realm_a'), ('regress_bob', 'regress_realm_b'),
             ('regress_carol', NULL), ('regress_stranger', NULL), ('regress_dave', NULL)) r (role, realm),
     (VALUES ('validator'), ('issuer'), ('operator')) p (preset);
SELECT tr_grant('regress_auditor', 'auditor');
GRANT regress_realm_a TO regress_team, regress_dave;
GRANT regress_team TO regress_carol;
GRANT pg_read_all_data TO regress_reader;
GRANT pg_write_all_data TO regress_writer;

-- A token of each realm, rotated once, the second with a key; a cutoff and a
-- block of each realm and of all.
SET token_rotation.realm = 'regress_realm_a';
SELECT token, token_id FROM tr_issue('rls a') \gset a_
SELECT token, token_id FROM tr_rotate(:'a_token') \gset a2_
SELECT token, rotation_key, token_id FROM tr_issue('rls a', 'partner') \gset ak_
SELECT tr_revoke_client('rls cut a') IS NOT NULL AS cut, tr_block_client('rls blocked a');
SET token_rotation.realm = 'regress_realm_b';
SELECT token, token_id FROM tr_issue('rls b') \gset b_
SELECT tr_revoke_client('rls cut b') IS NOT NULL AS cut, tr_block_client('rls blocked b');
RESET token_rotation.realm;
SELECT tr_revoke_client('rls cut') IS NOT NULL AS cut, tr_block_client('rls blocked');

-- What each role sees: a number of rows, or 42501.
CREATE TEMP TABLE role (n serial, name text);
INSERT INTO role (name) VALUES ('regress_alice'), ('regress_bob'), ('regress_carol'), ('regress_dave'),
    ('regress_stranger'), ('regress_auditor'), ('regress_nobody');
SELECT name,
       regress.answer_as(name, $$SELECT count(*) FROM token_rotation.token$$) AS token,
       regress.answer_as(name, $$SELECT count(*) FROM token_rotation.token_cache$$) AS cache,
       regress.answer_as(name, $$SELECT string_agg(DISTINCT client_id, ', ') || ': ' || count(*) FROM token_rotation.tokens WHERE client_id LIKE 'rls%'$$) AS tokens,
       regress.answer_as(name, $$SELECT string_agg(DISTINCT coalesce(owner, 'all'), ', ') FROM token_rotation.audit WHERE client_id LIKE 'rls%'$$) AS audit
FROM role ORDER BY n;
SELECT name,
       regress.answer_as(name, $$SELECT string_agg(subject, ', ' ORDER BY subject) FROM token_rotation.cutoff WHERE subject LIKE 'rls%'$$) AS cutoff,
       regress.answer_as(name, $$SELECT string_agg(client_id, ', ' ORDER BY client_id) FROM token_rotation.blocked_client WHERE client_id LIKE 'rls%'$$) AS blocked,
       regress.answer_as(name, $$SELECT count(*) >= 5 FROM token_rotation.policy$$) AS policy
FROM role ORDER BY n;
-- After SET ROLE he is one of them.
SELECT regress.answer_as('regress_realm_a', $$SELECT has_table_privilege('token_rotation.tokens', 'SELECT')$$) AS realm_itself;
GRANT SELECT ON token_rotation.tokens TO regress_realm_a;
GRANT USAGE ON SCHEMA tr, token_rotation TO regress_realm_a;
GRANT EXECUTE ON FUNCTION tr_effective_status, tr_token_display TO regress_realm_a;
SET ROLE regress_dave;
SET ROLE regress_realm_a;
SELECT count(*) FROM token_rotation.tokens WHERE client_id LIKE 'rls%';
RESET ROLE;
REVOKE ALL ON token_rotation.tokens FROM regress_realm_a;
REVOKE ALL ON SCHEMA tr, token_rotation FROM regress_realm_a;
REVOKE ALL ON FUNCTION tr_effective_status, tr_token_display FROM regress_realm_a;

-- Who may read, or write, all data sees no hash and changes nothing.
SELECT regress.answer_as('regress_reader', q) AS reader, q AS query FROM unnest(ARRAY[
    'SELECT count(*) FROM token_rotation.token',
    'SELECT count(*) FROM token_rotation.token_cache',
    'SELECT count(secret_hash) FROM token_rotation.token',
    'SELECT count(*) FROM token_rotation.blocked_client WHERE owner <> ''''',
    'SELECT count(*) FROM token_rotation.cutoff WHERE owner <> ''''',
    'SET LOCAL row_security = off; SELECT count(*) FROM token_rotation.token']) q;
SET ROLE regress_reader;
COPY token_rotation.token TO STDOUT;
RESET ROLE;
SELECT regress.answer_as('regress_writer', q) AS writer, q AS query FROM unnest(ARRAY[
    'WITH w AS (UPDATE token_rotation.token SET owner = ''regress_writer'' RETURNING 1) SELECT count(*) FROM w',
    'WITH w AS (DELETE FROM token_rotation.token RETURNING 1) SELECT count(*) FROM w',
    'WITH w AS (UPDATE token_rotation.token_cache SET secret_hash = NULL RETURNING 1) SELECT count(*) FROM w',
    'WITH w AS (DELETE FROM token_rotation.token_cache RETURNING 1) SELECT count(*) FROM w',
    'WITH w AS (UPDATE token_rotation.cutoff SET before = now() RETURNING 1) SELECT count(*) FROM w',
    'WITH w AS (DELETE FROM token_rotation.cutoff RETURNING 1) SELECT count(*) FROM w',
    'WITH w AS (DELETE FROM token_rotation.blocked_client RETURNING 1) SELECT count(*) FROM w',
    'WITH w AS (UPDATE token_rotation.audit SET actor = ''x'' RETURNING 1) SELECT count(*) FROM w',
    'WITH w AS (DELETE FROM token_rotation.audit RETURNING 1) SELECT count(*) FROM w',
    'TRUNCATE token_rotation.token',
    'INSERT INTO token_rotation.token SELECT * FROM token_rotation.token',
    'INSERT INTO token_rotation.token_cache (token_id) VALUES (gen_random_uuid())',
    'INSERT INTO token_rotation.cutoff VALUES (''all'', '''', '''', now(), now())',
    'INSERT INTO token_rotation.blocked_client VALUES (''rls a'', '''', now())',
    'INSERT INTO token_rotation.audit (seq, at, event, actor, role, xid) VALUES (1, now(), ''x'', ''x'', ''x'', ''1'')']) q;
SELECT count(*) FROM token_rotation.token WHERE client_id LIKE 'rls%';
SELECT (tr_validate(:'a_token')).reason, (tr_validate(:'b_token')).reason;

-- Every verb: what belongs to another realm is unknown, and stays as it is.
CREATE TEMP VIEW state AS
SELECT 'token' AS what, t.token_id::text AS key, (to_jsonb(t) - 'first_used_at' - 'last_used_at')::text AS value
FROM token_rotation.token t WHERE owner = 'regress_realm_a'
UNION ALL SELECT 'cutoff', subject, c::text FROM token_rotation.cutoff c WHERE owner IN ('', 'regress_realm_a')
UNION ALL SELECT 'blocked', client_id, b::text FROM token_rotation.blocked_client b WHERE owner IN ('', 'regress_realm_a');
CREATE TEMP TABLE before AS TABLE state;
CREATE TEMP TABLE call (n serial, sql text);
INSERT INTO call (sql) SELECT format(c.sql, :'a_token', :'a_token_id', :'ak_token', :'ak_rotation_key') FROM (VALUES
    (1, 'SELECT (tr.tr_validate(%1$L)).reason'),
    (2, 'SELECT string_agg(reason, '' '') FROM tr.tr_validate_many(ARRAY[%1$L, %3$L, %4$L])'),
    (3, 'SELECT (tr.tr_rotate(%1$L)).reason'),
    (4, 'SELECT (tr.tr_rotate(%3$L, %4$L)).reason'),
    (5, 'SELECT (tr.tr_rotate(%3$L)).reason'),
    (6, 'SELECT (tr.tr_rotate(%1$L, overlap => ''0'')).reason'),
    (7, 'SELECT tr.tr_revoke(%1$L)'),
    (8, 'SELECT tr.tr_revoke(%1$L, NULL, true)'),
    (9, 'SELECT (tr.tr_rotate_id(%2$L)).reason'),
    (10, 'SELECT tr.tr_revoke_id(%2$L)'),
    (11, 'SELECT tr.tr_revoke_id(%2$L, NULL, true)'),
    (12, 'SELECT tr.tr_extend_overlap(%2$L, ''1 minute'')'),
    (13, 'SELECT tr.tr_finish_overlap(%2$L)'),
    (14, 'SELECT tr.tr_cancel_rotation(%2$L)'),
    (15, 'SELECT tr.tr_revoke_client(''rls a'') IS NOT NULL'),
    (16, 'SELECT tr.tr_revoke_policy(''default'') IS NOT NULL'),
    (17, 'SELECT tr.tr_revoke_before(clock_timestamp()) IS NOT NULL'),
    (18, 'SELECT tr.tr_block_client(''rls a'')'),
    (19, 'SELECT tr.tr_block_client(''rls blocked a'', false)'),
    (20, 'SELECT tr.tr_block_client(''rls blocked'', false)'),
    (21, 'SELECT tr.tr_prune(now())'),
    (22, 'SELECT tr.tr_set_owner(''regress_realm_a'', ''regress_realm_b'')'),
    (23, 'SELECT tr.tr_grant(''regress_bob'', ''issuer'', ''regress_realm_a'')'),
    (24, 'SET LOCAL token_rotation.realm = ''regress_realm_a''; SELECT (tr.tr_issue(''rls a'')).owner'),
    (25, 'SET LOCAL token_rotation.realm = ''regress_realm_a''; SELECT tr.tr_revoke_client(''rls a'')')) c (n, sql) ORDER BY c.n;
SELECT regexp_replace(sql, '''trkr?_\w+''|''[0-9a-f]{8}-[-0-9a-f]{27}''', '...', 'g') AS call,
       regress.answer_as('regress_bob', sql) AS bob, regress.answer_as('regress_stranger', sql) AS stranger
FROM call ORDER BY n;
SELECT (SELECT count(*) FROM before) AS rows,
       (SELECT count(*) FROM ((TABLE before EXCEPT TABLE state) UNION ALL (TABLE state EXCEPT TABLE before)) c) AS changed;
-- A member, of course, may.
SELECT regress.answer_as('regress_carol', sql) AS validate FROM call WHERE n = 1;
SELECT regress.answer_as('regress_carol', sql) AS rotate FROM call WHERE n = 4;
SELECT regress.answer_as('regress_carol', sql) AS cancel FROM call WHERE n = 14;
SELECT regress.answer_as('regress_carol', sql) AS revoke FROM call WHERE n = 11;
SELECT regress.answer_as('regress_carol', sql) AS issue FROM call WHERE n = 24;
SELECT regress.answer_as('regress_dave', sql) AS dave FROM call WHERE n = 1;

-- A leaky condition on the view is asked about the realm's own rows only.
CREATE FUNCTION regress.leak(client text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
    RAISE NOTICE 'seen: %', client;
    RETURN true;
END $$;
SET ROLE regress_bob;
SELECT client_id FROM token_rotation.tokens WHERE regress.leak(client_id) AND client_id = 'rls b';
RESET ROLE;

-- The caller's row_security = off changes nothing for the verbs.
SET ROLE regress_bob;
SET row_security = off;
SELECT i.owner, reason FROM tr_issue('rls off') i, tr_validate(i.token);
SELECT count(*) FROM token_rotation.cutoff;
\echo :LAST_ERROR_SQLSTATE
SHOW row_security;
RESET row_security;
RESET ROLE;
SELECT event, owner, role FROM token_rotation.audit WHERE client_id = 'rls off';

-- Neither does anything that a caller puts into his own search_path: each of
-- these would raise an error if it was used.
CREATE SCHEMA regress_shadow;
GRANT USAGE ON SCHEMA regress_shadow TO PUBLIC;
CREATE FUNCTION regress_shadow.trap() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'a shadow was used'; END $$;
DO $$
DECLARE
    op text;
    type text;
BEGIN
    FOREACH type IN ARRAY ARRAY['text', 'name', 'uuid', 'timestamptz', 'interval', 'bytea', 'oid', 'int8', 'int4'] LOOP
        EXECUTE format('CREATE FUNCTION regress_shadow.trap(%1$s, %1$s) RETURNS boolean LANGUAGE sql'
                       ' AS $f$ SELECT regress_shadow.trap(); SELECT true $f$', type);
        FOREACH op IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>=', '+', '-', '||'] LOOP
            EXECUTE format('CREATE OPERATOR regress_shadow.%1$s (LEFTARG = %2$s, RIGHTARG = %2$s,'
                           ' FUNCTION = regress_shadow.trap)', op, type);
        END LOOP;
    END LOOP;
END $$;
DO $$
DECLARE
    f text;
BEGIN
    FOREACH f IN ARRAY ARRAY['sha256(bytea)', 'uuid_send(uuid)', 'pg_has_role(oid, text)', 'has_sequence_privilege(regclass, text)',
                             'clock_timestamp()', 'octet_length(text)', 'octet_length(bytea)', 'isfinite(timestamptz)',
                             'jsonb_typeof(jsonb)', 'min(timestamptz)', 'unnest(text[])', 'tr_token_display(text, uuid)',
                             'tr_validate(text, text)', 'array_position(text[], text)'] LOOP
        EXECUTE format('CREATE FUNCTION regress_shadow.%s RETURNS text LANGUAGE sql'
                       ' AS $f$ SELECT regress_shadow.trap(); SELECT NULL::text $f$', f);
    END LOOP;
END $$;
CREATE DOMAIN regress_shadow.uuid AS text CHECK (value = 'a shadow was used');
CREATE DOMAIN regress_shadow.interval AS text CHECK (value = 'a shadow was used');
CREATE TEMP TABLE token (a int);
CREATE TEMP TABLE audit (a int);
CREATE TEMP TABLE cutoff (a int);
CREATE TEMP TABLE pg_roles (oid oid, rolname name, rolsuper boolean);
CREATE TEMP TABLE pg_auth_members (roleid oid, member oid);
CREATE TEMP VIEW pg_authid AS SELECT 1 / 0 AS oid;
GRANT ALL ON pg_roles TO PUBLIC;
CREATE FUNCTION regress.life(role text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    i record;
    r record;
BEGIN
    PERFORM pg_catalog.set_config('role', role, true);
    PERFORM pg_catalog.set_config('search_path', 'pg_temp, regress_shadow, public, pg_catalog', true);
    SELECT * INTO i FROM tr.tr_issue('rls shadow');
    RETURN NEXT (SELECT reason FROM tr.tr_validate(i.token));
    SELECT * INTO r FROM tr.tr_rotate(i.token);
    RETURN NEXT r.reason;
    RETURN NEXT (SELECT replayed::pg_catalog.text FROM tr.tr_rotate(i.token));
    RETURN NEXT tr.tr_cancel_rotation(i.token_id)::pg_catalog.text;
    SELECT * INTO r FROM tr.tr_rotate_id(i.token_id);
    RETURN NEXT r.reason;
    RETURN NEXT tr.tr_extend_overlap(i.token_id, '1 minute') IS NOT NULL;
    RETURN NEXT tr.tr_finish_overlap(i.token_id)::pg_catalog.text;
    RETURN NEXT (SELECT reason FROM tr.tr_validate(i.token));
    RETURN NEXT tr.tr_revoke(r.token)::pg_catalog.text;
    RETURN NEXT tr.tr_revoke_id(i.token_id, NULL, true)::pg_catalog.text;
    RETURN NEXT tr.tr_revoke_client('rls shadow') IS NOT NULL;
    RETURN NEXT tr.tr_revoke_policy('internal') IS NOT NULL;
    RETURN NEXT tr.tr_revoke_before('2000-01-01') IS NOT NULL;
    RETURN NEXT tr.tr_block_client('rls shadow')::pg_catalog.text;
    RETURN NEXT tr.tr_block_client('rls shadow', false)::pg_catalog.text;
    RETURN NEXT (SELECT pg_catalog.string_agg(status, ' ' ORDER BY generation) FROM token_rotation.tokens
                 WHERE client_id OPERATOR(pg_catalog.=) 'rls shadow');
    -- (something is due, and something has ended, so that all conditions are asked)
    SELECT * INTO i FROM tr.tr_issue('rls shadow', 'low_latency');
    SELECT * INTO r FROM tr.tr_rotate(i.token);
    RETURN NEXT tr.tr_sweep() OPERATOR(pg_catalog.>) 0;
    RETURN NEXT tr.tr_revoke_id(i.token_id, NULL, true)::pg_catalog.text;
    RETURN NEXT tr.tr_prune(pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.>) 0;
    RETURN NEXT (SELECT pg_catalog.count(*)::pg_catalog.text FROM token_rotation.audit
                 WHERE client_id OPERATOR(pg_catalog.=) 'rls shadow' AND event OPERATOR(pg_catalog.<>) 'replayed');
    PERFORM pg_catalog.set_config('search_path', 'tr, public', true);
    PERFORM pg_catalog.set_config('role', 'none', true);
    RAISE SQLSTATE 'ROLLB';
EXCEPTION WHEN SQLSTATE 'ROLLB' THEN
    NULL;
END $$;
SELECT string_agg(life, ', ') AS bob FROM regress.life('regress_bob');
SELECT string_agg(life, ', ') AS superuser FROM regress.life('none');
-- A policy edited and a privilege given with that path, too.
SELECT set_config('search_path', 'pg_temp, regress_shadow, public, pg_catalog', false) IS NOT NULL AS set;
INSERT INTO token_rotation.policy (name) VALUES ('regress_shadow');
SELECT token_id FROM tr.tr_issue('rls shadow', 'regress_shadow') \gset shadow_
UPDATE token_rotation.policy SET ttl = '2 hours' WHERE name OPERATOR(pg_catalog.=) 'regress_shadow';
SELECT tr.tr_set_owner('regress_nobody', 'regress_bob');
SELECT tr.tr_grant('regress_nobody', 'issuer', 'regress_realm_b');
SELECT tr.tr_ungrant('regress_nobody', 'issuer', 'regress_realm_b');
DELETE FROM token_rotation.policy WHERE name OPERATOR(pg_catalog.=) 'regress_shadow';
\echo :LAST_ERROR_SQLSTATE
SELECT tr.tr_revoke_id(:'shadow_token_id');
DELETE FROM token_rotation.policy WHERE name OPERATOR(pg_catalog.=) 'regress_shadow';
\set VERBOSITY terse
SELECT 1 = 1;
\set VERBOSITY default
SET search_path = '';
SELECT v.reason FROM tr.tr_issue('rls empty path') i, tr.tr_rotate(i.token) r, tr.tr_validate(r.token) v;
SET search_path = tr, public;
SET client_min_messages = warning;
DROP SCHEMA regress_shadow CASCADE;
RESET client_min_messages;

DROP FUNCTION regress.leak, regress.life;
SELECT tr_block_client(c, false) FROM unnest(ARRAY['rls a', 'rls blocked a', 'rls blocked b', 'rls blocked']) c;
DELETE FROM token_rotation.cutoff;
DELETE FROM token_rotation.blocked_client;
DELETE FROM token_rotation.token WHERE client_id LIKE 'rls%';
SELECT count(tr_ungrant(r.role, p.preset, r.realm))
FROM (VALUES ('regress_alice', 'regress_realm_a'), ('regress_bob', 'regress_realm_b'),
             ('regress_carol', NULL), ('regress_stranger', NULL), ('regress_dave', NULL)) r (role, realm),
     (VALUES ('validator'), ('issuer'), ('operator')) p (preset);
SELECT tr_ungrant('regress_auditor', 'auditor');
DROP ROLE regress_alice, regress_bob, regress_carol, regress_team, regress_dave, regress_stranger, regress_auditor,
    regress_nobody, regress_reader, regress_writer, regress_realm_a, regress_realm_b;
