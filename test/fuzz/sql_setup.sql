-- The stage of test/fuzz/sql: roles with one preset each and with nothing, two
-- realms, policies whose windows end while the fuzzer runs, and traps.

CREATE EXTENSION pg_stat_statements;
CREATE SCHEMA tr;
CREATE EXTENSION token_rotation SCHEMA tr CASCADE;

-- The callers, and the realm that they share.  fuzz_foreign is nobody's: what
-- it owns must come out of the run as it went in.
CREATE ROLE fuzz_realm NOLOGIN;
CREATE ROLE fuzz_foreign NOLOGIN;
CREATE ROLE fuzz_nothing LOGIN;
CREATE ROLE fuzz_validator LOGIN;
CREATE ROLE fuzz_issuer LOGIN;
CREATE ROLE fuzz_operator LOGIN;
CREATE ROLE fuzz_auditor LOGIN;
CREATE ROLE fuzz_all LOGIN;
CREATE ROLE fuzz_owner LOGIN SUPERUSER;
SELECT tr.tr_grant('fuzz_' || p, p, 'fuzz_realm'), tr.tr_grant('fuzz_all', p, 'fuzz_realm')
FROM unnest('{validator,issuer,operator,auditor}'::text[]) p;
GRANT USAGE ON SCHEMA tr, token_rotation TO fuzz_nothing;
DO $$
DECLARE
    r text;
BEGIN
    FOREACH r IN ARRAY '{validator,issuer,operator,auditor,all}'::text[] LOOP
        EXECUTE format('ALTER ROLE fuzz_%s SET token_rotation.realm = fuzz_realm', r);
    END LOOP;
END $$;

-- What fuzz_owner may grant, take back and move around.
CREATE ROLE fuzz_spare_1 NOLOGIN;
CREATE ROLE fuzz_spare_2 NOLOGIN;
CREATE ROLE "fuzz spare ""3""" NOLOGIN;

INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window, rotation_proof, max_family_age, allowed_scopes)
VALUES ('fuzz_short', '3 seconds', '1 second', '1 second', 'token', NULL, NULL),
       ('fuzz_key', '1 hour', '10 seconds', '20 seconds', 'rotation_key', NULL, NULL),
       ('fuzz_aged', '1 minute', '0', '30 seconds', 'token', '90 seconds', NULL),
       ('fuzz_scoped', '1 hour', '1 minute', '0', 'token', NULL, '{orders:read,orders:write}'),
       ('fuzz_risk', '1 hour', '10 seconds', '20 seconds', 'token', NULL, NULL);
UPDATE token_rotation.policy SET min_ttl = '20 minutes' WHERE name = 'fuzz_risk';
INSERT INTO token_rotation.risk_rule (policy, kind, pattern, score, within, at_least)
VALUES ('fuzz_risk', 'scope', 'orders:*', 30, '1 day', 1), ('fuzz_risk', 'scope', 'users:read', 20, '1 day', 1),
       ('fuzz_risk', 'classification', 'secret', 60, '1 day', 1), ('fuzz_risk', 'history', 'refusals', 25, '1 minute', 3),
       ('fuzz_risk', 'history', 'reuse', 40, '1 day', 1), ('fuzz_risk', 'history', 'dormancy', 10, '2 seconds', 1);
INSERT INTO token_rotation.policy (name, ttl, overlap, rotate_after, delivery)
VALUES ('fuzz_sealed', '20 seconds', '5 seconds', '1 second', 'sealed');

-- Whoever puts this schema first must change nothing: each of its objects
-- raises P0666 when it is used instead of the server's own.
CREATE SCHEMA fuzz_hostile;
GRANT USAGE ON SCHEMA fuzz_hostile TO PUBLIC;
CREATE FUNCTION fuzz_hostile.trap() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN RAISE 'the trap was used' USING ERRCODE = 'P0666'; END $$;
DO $$
DECLARE
    f text;
    t text;
BEGIN
    FOREACH f IN ARRAY '{sha256(bytea),uuid_send(uuid),pg_has_role(oid\,text),pg_has_role(oid\,oid\,text),now(),clock_timestamp(),array_position(text[]\,text)}'::text[] LOOP
        EXECUTE format('CREATE FUNCTION fuzz_hostile.%s RETURNS bytea LANGUAGE plpgsql AS
            $f$ BEGIN PERFORM fuzz_hostile.trap(); RETURN NULL; END $f$', f);
    END LOOP;
    FOREACH t IN ARRAY '{text,uuid,oid,integer,bigint,interval,timestamptz,boolean,name}'::text[] LOOP
        EXECUTE format('CREATE FUNCTION fuzz_hostile.compare(a %1$s, b %1$s) RETURNS boolean LANGUAGE plpgsql AS
            $f$ BEGIN PERFORM fuzz_hostile.trap(); RETURN true; END $f$', t);
        FOREACH f IN ARRAY '{=,<>,<,>,<=,>=}'::text[] LOOP
            EXECUTE format('CREATE OPERATOR fuzz_hostile.%1$s
                (LEFTARG = %2$s, RIGHTARG = %2$s, FUNCTION = fuzz_hostile.compare)', f, t);
        END LOOP;
    END LOOP;
END $$;
CREATE TABLE fuzz_hostile.token (LIKE token_rotation.token);
CREATE TABLE fuzz_hostile.policy (LIKE token_rotation.policy);
CREATE TABLE fuzz_hostile.audit (LIKE token_rotation.audit);
CREATE TABLE fuzz_hostile.pg_roles (LIKE pg_catalog.pg_roles);

-- Runs a statement in a subtransaction and gives back its rows, or its error.
CREATE SCHEMA fuzz;
GRANT USAGE ON SCHEMA fuzz TO PUBLIC;
CREATE FUNCTION fuzz.caught(statement text, args text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
    r record;
BEGIN
    FOR r IN EXECUTE statement USING args LOOP
        RETURN NEXT r::pg_catalog.text;
    END LOOP;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN NEXT pg_catalog.concat('caught ', SQLSTATE, ': ', SQLERRM, ' ', detail, ' ', hint);
END $$;
