\echo Use "ALTER EXTENSION token_rotation UPDATE" to load this file. \quit

-- The functions below are in the library of 0.3, which is loaded when the server
-- starts.  It is there where its settings are.
DO LANGUAGE plpgsql $$
BEGIN
    IF pg_catalog.current_setting('token_rotation.log_redaction', true) IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '55000',
            MESSAGE = 'the library of version 0.3 is not loaded',
            DETAIL = 'The server was started with an earlier one, which lacks functions of this version.',
            HINT = 'Restart the server, then update.';
    END IF;
END
$$;

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
    OUT staleness interval, OUT seal_lag interval, OUT audit_file_lag interval,
    OUT rotation_enabled boolean, OUT overlap_enforcement boolean)
    AS 'MODULE_PATHNAME', 'tr_health'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_health() IS
    'ok, warning or critical, with reasons and what they rest on; for a probe. Waits for no lock, works on standbys and in READ ONLY transactions';

-- The sealed audit trail.  Rows name the installation that wrote them; those that
-- are there already have no name for it.
ALTER TABLE token_rotation.audit ADD segment bigint;
COMMENT ON COLUMN token_rotation.audit.segment IS 'the installation that wrote the row; NULL: one of before 0.3';
CREATE INDEX audit_segment ON token_rotation.audit (segment, xid);
COMMENT ON INDEX token_rotation.audit_segment IS 'what a seal''s snapshot does not show';
CREATE INDEX audit_rotated ON token_rotation.audit (token_ref) WHERE event OPERATOR(pg_catalog.=) 'rotated';
COMMENT ON INDEX token_rotation.audit_rotated IS 'who rotated a token, and from where';
DO LANGUAGE plpgsql $$
BEGIN
    EXECUTE pg_catalog.format('ALTER SEQUENCE token_rotation.audit_seq START WITH %s',
                              (extract(epoch FROM pg_catalog.clock_timestamp())
                               OPERATOR(pg_catalog.*) 1000000)::bigint);
END
$$;

CREATE TABLE token_rotation.audit_seal (
    segment bigint NOT NULL,
    seal bigint NOT NULL,
    version smallint NOT NULL,
    at timestamptz NOT NULL,
    previous bytea,
    restored bytea,
    covers bigint,
    snapshot pg_snapshot,
    complete boolean NOT NULL,
    rows integer NOT NULL,
    first_seq bigint,
    last_seq bigint,
    newest_at timestamptz,
    list_hash bytea NOT NULL,
    hash bytea NOT NULL,
    seqs bigint[],
    row_hashes bytea,
    CONSTRAINT audit_seal_pkey PRIMARY KEY (segment, seal),
    CONSTRAINT audit_seal_previous_check
        CHECK (pg_catalog.octet_length(previous) OPERATOR(pg_catalog.=) 32),
    CONSTRAINT audit_seal_restored_check
        CHECK (pg_catalog.octet_length(restored) OPERATOR(pg_catalog.=) 32),
    CONSTRAINT audit_seal_list_hash_check
        CHECK (pg_catalog.octet_length(list_hash) OPERATOR(pg_catalog.=) 32),
    CONSTRAINT audit_seal_hash_check
        CHECK (pg_catalog.octet_length(hash) OPERATOR(pg_catalog.=) 32)
);
-- hashes cannot be compressed, and of lists nobody wants statistics
ALTER TABLE token_rotation.audit_seal ALTER row_hashes SET STORAGE EXTERNAL,
    ALTER row_hashes SET STATISTICS 0, ALTER seqs SET STATISTICS 0;
COMMENT ON TABLE token_rotation.audit_seal IS
    'the seals of the audit trail, each over the one before and the rows that it lists; for auditors';
COMMENT ON COLUMN token_rotation.audit_seal.segment IS 'the installation that made it';
COMMENT ON COLUMN token_rotation.audit_seal.seal IS 'its number in the segment: from 1 on, without gaps';
COMMENT ON COLUMN token_rotation.audit_seal.version IS 'of the format';
COMMENT ON COLUMN token_rotation.audit_seal.at IS 'when it was made';
COMMENT ON COLUMN token_rotation.audit_seal.previous IS 'hash of the seal before; NULL: the first of its segment';
COMMENT ON COLUMN token_rotation.audit_seal.restored IS 'hash of the last seal of another segment, which was restored here';
COMMENT ON COLUMN token_rotation.audit_seal.covers IS 'the segment of its rows; NULL: rows of before 0.3';
COMMENT ON COLUMN token_rotation.audit_seal.snapshot IS 'it covers what this shows and the seal before does not; NULL: rows of another segment';
COMMENT ON COLUMN token_rotation.audit_seal.complete IS 'is all that its snapshot shows sealed, here or before?';
COMMENT ON COLUMN token_rotation.audit_seal.rows IS 'number of its rows';
COMMENT ON COLUMN token_rotation.audit_seal.first_seq IS 'lowest seq of its rows';
COMMENT ON COLUMN token_rotation.audit_seal.last_seq IS 'highest seq of its rows';
COMMENT ON COLUMN token_rotation.audit_seal.newest_at IS 'latest time of its rows';
COMMENT ON COLUMN token_rotation.audit_seal.list_hash IS 'hash of its list: seqs and row_hashes';
COMMENT ON COLUMN token_rotation.audit_seal.hash IS 'hash of all columns before this one';
COMMENT ON COLUMN token_rotation.audit_seal.seqs IS 'its rows in order; NULL: they were pruned';
COMMENT ON COLUMN token_rotation.audit_seal.row_hashes IS 'their hashes, 32 bytes each; NULL: they were pruned';

CREATE INDEX audit_seal_closing ON token_rotation.audit_seal (covers)
    WHERE complete AND covers IS DISTINCT FROM segment;
COMMENT ON INDEX token_rotation.audit_seal_closing IS 'segments whose restored rows are sealed';
CREATE INDEX audit_seal_naming ON token_rotation.audit_seal (restored) WHERE restored IS NOT NULL;
COMMENT ON INDEX token_rotation.audit_seal_naming IS 'restored heads that are named';

CREATE FUNCTION @extschema@.tr_seal_guard() RETURNS trigger
    AS 'MODULE_PATHNAME', 'tr_seal_guard'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_seal_guard() IS
    'trigger: refuses to everybody what the extension does not do itself to the seals of the audit trail (a superuser''s restore with COPY excepted)';

CREATE TRIGGER audit_seal_guard BEFORE INSERT ON token_rotation.audit_seal
    FOR EACH ROW EXECUTE FUNCTION @extschema@.tr_seal_guard();
CREATE TRIGGER audit_seal_guard_statement BEFORE UPDATE OR DELETE OR TRUNCATE
    ON token_rotation.audit_seal
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.tr_seal_guard();
ALTER TABLE token_rotation.audit_seal ENABLE ALWAYS TRIGGER audit_seal_guard;
ALTER TABLE token_rotation.audit_seal ENABLE ALWAYS TRIGGER audit_seal_guard_statement;

ALTER TABLE token_rotation.audit_seal ENABLE ROW LEVEL SECURITY;
CREATE POLICY audit_seal_insert ON token_rotation.audit_seal FOR INSERT TO token_rotation_worker
    WITH CHECK (true);
COMMENT ON POLICY audit_seal_insert ON token_rotation.audit_seal IS
    'only the worker''s role writes, through the extension''s code';
CREATE POLICY audit_seal_auditor ON token_rotation.audit_seal FOR SELECT
    USING ((SELECT pg_catalog.bool_or(a.grantee OPERATOR(pg_catalog.=) 0
                                      OR pg_catalog.pg_has_role(a.grantee, 'USAGE'))
            FROM pg_catalog.pg_class c,
                 pg_catalog.aclexplode(coalesce(c.relacl, pg_catalog.acldefault('s', c.relowner))) a
            WHERE c.oid OPERATOR(pg_catalog.=) 'token_rotation.audit_seq'::pg_catalog.regclass
              AND a.privilege_type OPERATOR(pg_catalog.=) 'SELECT'));
COMMENT ON POLICY audit_seal_auditor ON token_rotation.audit_seal IS 'auditors read every seal';
GRANT INSERT ON token_rotation.audit_seal TO token_rotation_worker;

CREATE FUNCTION @extschema@.tr_audit_verify(
    saved_head bytea DEFAULT NULL,
    OUT valid boolean, OUT problem text, OUT segment bigint, OUT seal bigint,
    OUT first_bad_seq bigint, OUT seals bigint, OUT rows bigint, OUT pruned bigint,
    OUT unsealed bigint)
    AS 'MODULE_PATHNAME', 'tr_audit_verify'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_audit_verify(bytea) IS
    'check every seal and every sealed row of the audit trail, and that it begins with what a saved head saw; names the first that is wrong, and how many were checked';

CREATE FUNCTION @extschema@.tr_audit_head(
    OUT segment bigint, OUT seal bigint, OUT at timestamptz, OUT hash bytea)
    AS 'MODULE_PATHNAME', 'tr_audit_head'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_audit_head() IS
    'the newest seal of the audit trail; its hash is to be kept elsewhere, for tr_audit_verify';

CREATE FUNCTION @extschema@.tr_audit_prune(before timestamptz) RETURNS bigint
    AS 'MODULE_PATHNAME', 'tr_audit_prune'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_audit_prune(timestamptz) IS
    'remove the rows of seals whose rows are all older than a moment; the seals stay, and the rest still verifies; for the extension''s owner; returns how many rows';

-- How far the audit file is.

CREATE TABLE token_rotation.audit_sink (
    segment bigint NOT NULL,
    seal bigint NOT NULL,
    CONSTRAINT audit_sink_pkey PRIMARY KEY (segment)
);
COMMENT ON TABLE token_rotation.audit_sink IS
    'the last seal of each segment that token_rotation.audit_file has; without its row all of the segment is written again';
COMMENT ON COLUMN token_rotation.audit_sink.segment IS 'as in audit_seal';
COMMENT ON COLUMN token_rotation.audit_sink.seal IS 'as in audit_seal';

-- No policy: who may write tables at large must not make the file skip rows.
ALTER TABLE token_rotation.audit_sink ENABLE ROW LEVEL SECURITY;

SELECT pg_catalog.pg_extension_config_dump('token_rotation.audit_seal', '');

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
        '@extschema@.tr_health()',
        '@extschema@.tr_seal_guard()',
        '@extschema@.tr_audit_verify(bytea)',
        '@extschema@.tr_audit_head()',
        '@extschema@.tr_audit_prune(timestamptz)']::pg_catalog.regprocedure[]
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
CREATE OR REPLACE VIEW token_rotation.tokens WITH (security_barrier = true) AS
    SELECT t.token_id,
           @extschema@.tr_token_display(t.prefix, t.token_id) AS display,
           pg_catalog.sha256(pg_catalog.uuid_send(t.token_id)) AS token_ref,
           t.family_id,
           t.generation,
           t.predecessor_id,
           t.client_id,
           t.policy,
           t.owner,
           @extschema@.tr_effective_status(t.status, t.owner, t.client_id, t.policy, t.issued_at,
                                           t.expires_at, t.rotated_at, t.overlap_ends_at) AS status,
           t.scopes,
           t.metadata,
           t.issued_at,
           t.expires_at,
           t.refresh_at,
           t.rotated_at,
           t.overlap_ends_at,
           t.replay_ends_at,
           coalesce(t.first_used_at, c.first_used_at) AS first_used_at,
           greatest(t.last_used_at, c.last_used_at) AS last_used_at,
           c.use_count,
           t.revoked_at,
           t.revoked_reason,
           t.key_id
    FROM token_rotation.token t
    LEFT JOIN token_rotation.token_cache c ON c.token_id OPERATOR(pg_catalog.=) t.token_id
    WHERE t.owner IN (SELECT r.rolname FROM pg_catalog.pg_roles r
                      WHERE pg_catalog.pg_has_role(r.oid, 'USAGE'))
       OR (SELECT s.rolsuper FROM pg_catalog.pg_roles s
           WHERE s.rolname OPERATOR(pg_catalog.=) CURRENT_USER);
COMMENT ON COLUMN token_rotation.tokens.key_id IS 'number of the server key that it was made with; NULL: none';
COMMENT ON COLUMN token_rotation.token.secret_hash IS 'SHA-256 of the secret; with a server key, 16 bytes of a MAC of the row and 16 of a MAC of row and secret';
COMMENT ON COLUMN token_rotation.token.rotation_hash IS 'SHA-256 of the rotation key''s secret, where rotating needs one; with a server key, a MAC of it and the row';
ALTER TABLE token_rotation.token_cache ADD COLUMN key_id integer, ADD COLUMN family_id uuid,
    ADD COLUMN rotation_key boolean;
COMMENT ON COLUMN token_rotation.token_cache.key_id IS 'as in token';
COMMENT ON COLUMN token_rotation.token_cache.family_id IS 'as in token, where there is a key_id: part of what the hash covers';
COMMENT ON COLUMN token_rotation.token_cache.rotation_key IS 'does rotating need a rotation key? Likewise';
-- The same for what is no function.
DO LANGUAGE plpgsql $$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        SELECT pg_catalog.format('ALTER TABLE %s OWNER TO %s', f.oid::pg_catalog.regclass,
                                 c.relowner::pg_catalog.regrole)
        FROM pg_catalog.pg_class c, pg_catalog.pg_class f
        WHERE c.oid OPERATOR(pg_catalog.=) 'token_rotation.audit'::pg_catalog.regclass
          AND f.relnamespace OPERATOR(pg_catalog.=) c.relnamespace
          AND f.relname IN ('audit_seal', 'audit_sink')
        UNION ALL
        SELECT DISTINCT pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s', f.oid::pg_catalog.regclass,
            CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                 ELSE a.grantee::pg_catalog.regrole::text END)
        FROM pg_catalog.pg_class f, pg_catalog.aclexplode(f.relacl) a
        WHERE f.oid IN ('token_rotation.audit_seal'::pg_catalog.regclass,
                        'token_rotation.audit_sink'::pg_catalog.regclass)
          AND a.grantee OPERATOR(pg_catalog.<>) f.relowner
          AND a.grantee OPERATOR(pg_catalog.<>) 'token_rotation_worker'::pg_catalog.regrole
    LOOP
        EXECUTE statement;
    END LOOP;
END
$$;
