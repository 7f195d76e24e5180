-- Cutoffs and blocks: one row ends any number of tokens.  owner is the realm
-- that the row speaks for; the empty name means all of them.

CREATE TABLE token_rotation.cutoff (
    kind text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    before timestamptz NOT NULL,
    at timestamptz NOT NULL,
    reason text,
    CONSTRAINT cutoff_pkey PRIMARY KEY (kind, subject, owner),
    CONSTRAINT cutoff_kind_check CHECK (kind IN ('client', 'policy', 'all')),
    CONSTRAINT cutoff_subject_check
        CHECK ((kind OPERATOR(pg_catalog.=) 'all')
               OPERATOR(pg_catalog.=) (subject OPERATOR(pg_catalog.=) '')),
    CONSTRAINT cutoff_before_check CHECK (pg_catalog.isfinite(before))
);
COMMENT ON TABLE token_rotation.cutoff IS
    'nothing that was issued before such a moment is valid: of a client, of a policy, or at all';
COMMENT ON COLUMN token_rotation.cutoff.kind IS 'client, policy or all';
COMMENT ON COLUMN token_rotation.cutoff.subject IS 'the client id or the policy''s name; empty for all';
COMMENT ON COLUMN token_rotation.cutoff.owner IS 'the realm that it applies to; empty: every realm';
COMMENT ON COLUMN token_rotation.cutoff.before IS 'tokens issued before this moment are refused';
COMMENT ON COLUMN token_rotation.cutoff.at IS 'when it was made or last raised';
COMMENT ON COLUMN token_rotation.cutoff.reason IS 'why, as the caller said';

CREATE TABLE token_rotation.blocked_client (
    client_id text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    at timestamptz NOT NULL,
    CONSTRAINT blocked_client_pkey PRIMARY KEY (client_id, owner)
);
COMMENT ON TABLE token_rotation.blocked_client IS
    'clients whose tokens answer blocked and who are issued none, until they are unblocked';
COMMENT ON COLUMN token_rotation.blocked_client.client_id IS 'the client';
COMMENT ON COLUMN token_rotation.blocked_client.owner IS 'the realm that the block applies to; empty: every realm';
COMMENT ON COLUMN token_rotation.blocked_client.at IS 'since when';

-- Tells every backend's copy of the rows that they change, whoever changes them.
CREATE FUNCTION @extschema@.tr_cutoff_guard() RETURNS trigger
    AS 'MODULE_PATHNAME', 'tr_cutoff_guard'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_cutoff_guard() IS
    'trigger: makes sure that a committed cutoff or block counts in every session at once';

CREATE TRIGGER cutoff_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON token_rotation.cutoff
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.tr_cutoff_guard();
CREATE TRIGGER blocked_client_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON token_rotation.blocked_client
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.tr_cutoff_guard();
ALTER TABLE token_rotation.cutoff ENABLE ALWAYS TRIGGER cutoff_guard;
ALTER TABLE token_rotation.blocked_client ENABLE ALWAYS TRIGGER blocked_client_guard;

ALTER TABLE token_rotation.cutoff ENABLE ROW LEVEL SECURITY;
ALTER TABLE token_rotation.blocked_client ENABLE ROW LEVEL SECURITY;

CREATE POLICY cutoff_realm ON token_rotation.cutoff FOR SELECT
    USING (owner OPERATOR(pg_catalog.=) ''
           OR owner IN (SELECT r.rolname FROM pg_catalog.pg_roles r
                        WHERE pg_catalog.pg_has_role(r.oid, 'USAGE')));
COMMENT ON POLICY cutoff_realm ON token_rotation.cutoff IS
    'readers see what applies to every realm and to the realms that they are a member of';
CREATE POLICY blocked_client_realm ON token_rotation.blocked_client FOR SELECT
    USING (owner OPERATOR(pg_catalog.=) ''
           OR owner IN (SELECT r.rolname FROM pg_catalog.pg_roles r
                        WHERE pg_catalog.pg_has_role(r.oid, 'USAGE')));
COMMENT ON POLICY blocked_client_realm ON token_rotation.blocked_client IS
    'readers see what applies to every realm and to the realms that they are a member of';
