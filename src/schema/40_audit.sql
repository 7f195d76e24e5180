-- The audit trail: append-only.  Written through row-level security as
-- token_rotation_worker, so that not even the extension's own code writes it
-- as a superuser.

CREATE TABLE token_rotation.audit (
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    event text COLLATE "C" NOT NULL,
    client_id text COLLATE "C",
    owner text COLLATE "C",
    token_ref bytea,
    successor_ref bytea,
    actor text COLLATE "C" NOT NULL,
    role text COLLATE "C" NOT NULL,
    application_name text,
    client_addr inet,
    origin text,
    reason text,
    detail jsonb,
    xid xid8 NOT NULL,
    segment bigint,
    CONSTRAINT audit_pkey PRIMARY KEY (seq),
    CONSTRAINT audit_token_ref_check
        CHECK (pg_catalog.octet_length(token_ref) OPERATOR(pg_catalog.=) 32),
    CONSTRAINT audit_successor_ref_check
        CHECK (pg_catalog.octet_length(successor_ref) OPERATOR(pg_catalog.=) 32)
);
COMMENT ON TABLE token_rotation.audit IS
    'what happened to tokens, policies, cutoffs and blocks; append-only, for auditors and for members of the row''s realm';
COMMENT ON COLUMN token_rotation.audit.seq IS 'order of the rows of one token; drawn under its row lock, with gaps';
COMMENT ON COLUMN token_rotation.audit.at IS 'wall clock time of the event';
COMMENT ON COLUMN token_rotation.audit.event IS 'what happened; doc/audit.md lists the events';
COMMENT ON COLUMN token_rotation.audit.client_id IS 'the client concerned, token-shaped text masked';
COMMENT ON COLUMN token_rotation.audit.owner IS 'the realm concerned; NULL: every realm';
COMMENT ON COLUMN token_rotation.audit.token_ref IS 'SHA-256 of the token id (its 16 bytes); the view tokens has it too';
COMMENT ON COLUMN token_rotation.audit.successor_ref IS 'likewise of the successor';
COMMENT ON COLUMN token_rotation.audit.actor IS 'session user';
COMMENT ON COLUMN token_rotation.audit.role IS 'current user, which called the function';
COMMENT ON COLUMN token_rotation.audit.application_name IS 'as the session said, token-shaped text masked';
COMMENT ON COLUMN token_rotation.audit.client_addr IS 'address of the session''s peer; NULL: a Unix socket or the worker';
COMMENT ON COLUMN token_rotation.audit.origin IS 'where the request came from, as the back end said, token-shaped text masked';
COMMENT ON COLUMN token_rotation.audit.reason IS 'the verdict''s reason, or why the caller did it';
COMMENT ON COLUMN token_rotation.audit.detail IS 'more, by event';
COMMENT ON COLUMN token_rotation.audit.xid IS 'the top-level transaction that wrote the row';
COMMENT ON COLUMN token_rotation.audit.segment IS 'the installation that wrote the row; NULL: one of before 0.3';

CREATE INDEX audit_client ON token_rotation.audit (client_id, seq);
COMMENT ON INDEX token_rotation.audit_client IS 'the trail of one client';
CREATE INDEX audit_segment ON token_rotation.audit (segment, xid);
COMMENT ON INDEX token_rotation.audit_segment IS 'what a seal''s snapshot does not show';
CREATE INDEX audit_rotated ON token_rotation.audit (token_ref) WHERE event OPERATOR(pg_catalog.=) 'rotated';
COMMENT ON INDEX token_rotation.audit_rotated IS 'who rotated a token, and from where';
CREATE INDEX audit_history ON token_rotation.audit (client_id, owner, event, at)
    WHERE event IN ('reuse', 'leak') AND coalesce(reason, '') OPERATOR(pg_catalog.<>) 'rolled back'
       OR event IN ('validation_refused', 'rotation_refused') AND detail IS NULL
          AND reason IN ('expired', 'overlap_ended', 'replay_ended', 'revoked', 'cutoff', 'blocked', 'proof_required');
COMMENT ON INDEX token_rotation.audit_history IS
    'what counts as history for risk rules: reuses, leaks, and refusals that a holder of the secret got for what his token was';

-- Starts at the installation's clock in microseconds and is not dumped, so
-- that no row restored from another installation collides with a new one.  The
-- number that it starts with is the installation's own: rows have it as segment.
DO LANGUAGE plpgsql $$
BEGIN
    EXECUTE pg_catalog.format('CREATE SEQUENCE token_rotation.audit_seq AS bigint START WITH %s',
                              (extract(epoch FROM pg_catalog.clock_timestamp())
                               OPERATOR(pg_catalog.*) 1000000)::bigint);
END
$$;
COMMENT ON SEQUENCE token_rotation.audit_seq IS
    'numbers audit rows; SELECT on it marks a role as auditor, who sees every realm''s rows';

CREATE FUNCTION @extschema@.tr_audit_guard() RETURNS trigger
    AS 'MODULE_PATHNAME', 'tr_audit_guard'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_audit_guard() IS
    'trigger: refuses UPDATE, DELETE and TRUNCATE of the audit trail to everybody, and INSERT of rows that the extension did not write (a superuser''s restore with COPY excepted)';

CREATE TRIGGER audit_guard BEFORE INSERT ON token_rotation.audit
    FOR EACH ROW EXECUTE FUNCTION @extschema@.tr_audit_guard();
CREATE TRIGGER audit_guard_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON token_rotation.audit
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.tr_audit_guard();
ALTER TABLE token_rotation.audit ENABLE ALWAYS TRIGGER audit_guard;
ALTER TABLE token_rotation.audit ENABLE ALWAYS TRIGGER audit_guard_statement;

ALTER TABLE token_rotation.audit ENABLE ROW LEVEL SECURITY;
ALTER TABLE token_rotation.audit FORCE ROW LEVEL SECURITY;
CREATE POLICY audit_insert ON token_rotation.audit FOR INSERT TO token_rotation_worker
    WITH CHECK (true);
COMMENT ON POLICY audit_insert ON token_rotation.audit IS 'only the worker''s role writes, through the extension''s code';
CREATE POLICY audit_realm ON token_rotation.audit FOR SELECT
    USING (owner IN (SELECT r.rolname FROM pg_catalog.pg_roles r
                     WHERE pg_catalog.pg_has_role(r.oid, 'USAGE')));
COMMENT ON POLICY audit_realm ON token_rotation.audit IS 'members of a realm read its rows';
-- (has_sequence_privilege() would make auditors of all members of pg_read_all_data)
CREATE POLICY audit_auditor ON token_rotation.audit FOR SELECT
    USING ((SELECT pg_catalog.bool_or(a.grantee OPERATOR(pg_catalog.=) 0
                                      OR pg_catalog.pg_has_role(a.grantee, 'USAGE'))
            FROM pg_catalog.pg_class c,
                 pg_catalog.aclexplode(coalesce(c.relacl, pg_catalog.acldefault('s', c.relowner))) a
            WHERE c.oid OPERATOR(pg_catalog.=) 'token_rotation.audit_seq'::pg_catalog.regclass
              AND a.privilege_type OPERATOR(pg_catalog.=) 'SELECT'));
COMMENT ON POLICY audit_auditor ON token_rotation.audit IS 'auditors read every row';
GRANT INSERT ON token_rotation.audit TO token_rotation_worker;
