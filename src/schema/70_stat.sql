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
    OUT staleness interval, OUT seal_lag interval, OUT audit_file_lag interval,
    OUT rotation_enabled boolean, OUT overlap_enforcement boolean)
    AS 'MODULE_PATHNAME', 'tr_health'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_health() IS
    'ok, warning or critical, with reasons and what they rest on; for a probe. Waits for no lock, works on standbys and in READ ONLY transactions';
