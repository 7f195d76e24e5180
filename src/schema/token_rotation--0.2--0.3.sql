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

-- Statistics and health, for monitoring: numbers of this database, no token, no
-- client and no realm.  80_privileges.sql opens them to pg_monitor.

CREATE FUNCTION @extschema@.tr_stat_counters(
    OUT policy text, OUT event text, OUT reason text, OUT count bigint, OUT stats_reset timestamptz)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tr_stat_counters'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_stat_counters() IS
    'what the view tr_stat shows';

CREATE VIEW @extschema@.tr_stat WITH (security_barrier = true) AS
    SELECT c.policy, c.event, c.reason, c.count, c.stats_reset
    FROM @extschema@.tr_stat_counters() c;
COMMENT ON VIEW @extschema@.tr_stat IS
    'cumulative counters of this database, by policy, event and reason; kept in memory and over a clean restart';
COMMENT ON COLUMN @extschema@.tr_stat.policy IS 'name of the policy; NULL: none is known, or it is about the server; (other): policies for which there was no room';
COMMENT ON COLUMN @extschema@.tr_stat.event IS 'what happened';
COMMENT ON COLUMN @extschema@.tr_stat.reason IS 'the verdict''s reason, or which kind of the event; NULL where there is one kind only';
COMMENT ON COLUMN @extschema@.tr_stat.count IS 'how often, since stats_reset';
COMMENT ON COLUMN @extschema@.tr_stat.stats_reset IS 'since when all of this database''s are counted';

CREATE FUNCTION @extschema@.tr_stat_reset() RETURNS void
    AS 'MODULE_PATHNAME', 'tr_stat_reset'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_stat_reset() IS
    'begin the counters of this database again at 0; at once, not when the transaction commits';

CREATE FUNCTION @extschema@.tr_health(
    OUT verdict text, OUT reasons text[], OUT in_recovery boolean, OUT launcher_running boolean,
    OUT last_visit timestamptz, OUT visit_lag interval, OUT failed_visits integer,
    OUT last_error text, OUT last_error_at timestamptz, OUT cache_complete boolean,
    OUT oldest_unrecorded_end timestamptz, OUT ring_size integer, OUT proven_waiting integer,
    OUT junk_waiting integer, OUT usage_waiting integer, OUT usage_room integer,
    OUT proven_lost bigint, OUT junk_lost bigint, OUT usage_lost bigint, OUT clock_behind interval,
    OUT staleness interval, OUT rotation_enabled boolean, OUT overlap_enforcement boolean)
    AS 'MODULE_PATHNAME', 'tr_health'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_health() IS
    'ok, warning or critical, with reasons and what they rest on; for a probe. Waits for no lock, works on standbys and in READ ONLY transactions';

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
        '@extschema@.tr_report_leak(text, text)',
        '@extschema@.tr_stat_counters()', '@extschema@.tr_stat_reset()',
        '@extschema@.tr_health()']::pg_catalog.regprocedure[]
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

    EXECUTE pg_catalog.format('ALTER VIEW %s OWNER TO %s', '@extschema@.tr_stat'::pg_catalog.regclass, owner);
    FOR statement IN
        SELECT pg_catalog.format('REVOKE ALL ON %s FROM %s', c.oid::pg_catalog.regclass,
            CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                 ELSE a.grantee::pg_catalog.regrole::text END)
        FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
        WHERE c.oid OPERATOR(pg_catalog.=) '@extschema@.tr_stat'::pg_catalog.regclass
          AND a.grantee OPERATOR(pg_catalog.<>) c.relowner
    LOOP
        EXECUTE statement;
    END LOOP;
END
$$;
GRANT SELECT ON @extschema@.tr_stat TO pg_monitor;
GRANT EXECUTE ON FUNCTION @extschema@.tr_stat_counters(), @extschema@.tr_health() TO pg_monitor;

-- Server keys.  No row changes: tokens without a key have NULL in all of these.
ALTER TABLE token_rotation.token ADD COLUMN key_id integer;
COMMENT ON COLUMN token_rotation.token.key_id IS 'number of the server key that the hashes are made with; NULL: none';
COMMENT ON COLUMN token_rotation.token.secret_hash IS 'SHA-256 of the secret; with a server key, 16 bytes of a MAC of the row and 16 of a MAC of row and secret';
COMMENT ON COLUMN token_rotation.token.rotation_hash IS 'SHA-256 of the rotation key''s secret, where rotating needs one; with a server key, a MAC of it and the row';
ALTER TABLE token_rotation.token_cache ADD COLUMN key_id integer, ADD COLUMN family_id uuid,
    ADD COLUMN rotation_key boolean;
COMMENT ON COLUMN token_rotation.token_cache.key_id IS 'as in token';
COMMENT ON COLUMN token_rotation.token_cache.family_id IS 'as in token, where there is a key_id: part of what the hash covers';
COMMENT ON COLUMN token_rotation.token_cache.rotation_key IS 'does rotating need a rotation key? Likewise';
