-- The seals of the audit trail: a chain of hashes.  doc/audit.md has the format.

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
