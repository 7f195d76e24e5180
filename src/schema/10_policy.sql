-- Policies: named rules for a kind of token, edited with plain SQL.

CREATE TABLE token_rotation.policy (
    name text COLLATE "C" NOT NULL,
    prefix text COLLATE "C" NOT NULL DEFAULT 'trk',
    ttl interval NOT NULL DEFAULT '24 hours',
    overlap interval NOT NULL DEFAULT '5 minutes',
    replay_window interval NOT NULL DEFAULT '5 minutes',
    refresh_before interval NOT NULL DEFAULT '10 minutes',
    max_family_age interval,
    rotation_proof text COLLATE "C" NOT NULL DEFAULT 'token',
    allowed_scopes text[],
    shipped boolean NOT NULL DEFAULT false,
    on_reuse text COLLATE "C" NOT NULL DEFAULT 'audit',
    rotate_after interval,
    overlap_starts text COLLATE "C" NOT NULL DEFAULT 'rotation',
    warn_before interval[] NOT NULL DEFAULT '{}',
    min_ttl interval,
    degraded_scopes text[],
    delivery text COLLATE "C" NOT NULL DEFAULT 'direct',
    request_role text COLLATE "C",
    CONSTRAINT policy_pkey PRIMARY KEY (name),
    CONSTRAINT policy_name_check
        CHECK (name OPERATOR(pg_catalog.~) '^[a-z][a-z0-9_-]{0,62}$'),
    CONSTRAINT policy_prefix_check
        CHECK (prefix OPERATOR(pg_catalog.~) '^[a-z][a-z0-9]{0,14}$'),
    CONSTRAINT policy_ttl_check
        CHECK (ttl OPERATOR(pg_catalog.>=) '1 second'::pg_catalog.interval
           AND ttl OPERATOR(pg_catalog.<=) '100 years'::pg_catalog.interval),
    CONSTRAINT policy_overlap_check
        CHECK (overlap OPERATOR(pg_catalog.>=) '0'::pg_catalog.interval
           AND overlap OPERATOR(pg_catalog.<=) '100 years'::pg_catalog.interval),
    CONSTRAINT policy_replay_window_check
        CHECK (replay_window OPERATOR(pg_catalog.>=) '0'::pg_catalog.interval
           AND replay_window OPERATOR(pg_catalog.<=) '100 years'::pg_catalog.interval),
    CONSTRAINT policy_refresh_before_check
        CHECK (refresh_before OPERATOR(pg_catalog.>=) '0'::pg_catalog.interval
           AND refresh_before OPERATOR(pg_catalog.<=) '100 years'::pg_catalog.interval),
    CONSTRAINT policy_max_family_age_check
        CHECK (max_family_age OPERATOR(pg_catalog.>=) '1 second'::pg_catalog.interval
           AND max_family_age OPERATOR(pg_catalog.<=) '100 years'::pg_catalog.interval),
    CONSTRAINT policy_rotation_proof_check
        CHECK (rotation_proof IN ('token', 'rotation_key')),
    CONSTRAINT policy_allowed_scopes_check
        CHECK (pg_catalog.array_position(allowed_scopes, NULL) IS NULL),
    CONSTRAINT policy_on_reuse_check
        CHECK (on_reuse IN ('audit', 'revoke_successor', 'revoke_family')),
    CONSTRAINT policy_rotate_after_check
        CHECK (rotate_after OPERATOR(pg_catalog.>=) '1 second'::pg_catalog.interval
           AND rotate_after OPERATOR(pg_catalog.<=) '100 years'::pg_catalog.interval),
    CONSTRAINT policy_overlap_starts_check
        CHECK (overlap_starts IN ('rotation', 'first_use')),
    CONSTRAINT policy_warn_before_check
        CHECK (pg_catalog.cardinality(warn_before) OPERATOR(pg_catalog.<=) 8
           AND pg_catalog.array_position(warn_before, NULL) IS NULL
           AND '1 second'::pg_catalog.interval OPERATOR(pg_catalog.<=) ALL (warn_before)
           AND '100 years'::pg_catalog.interval OPERATOR(pg_catalog.>=) ALL (warn_before)),
    CONSTRAINT policy_min_ttl_check
        CHECK (min_ttl OPERATOR(pg_catalog.>=) '1 second'::pg_catalog.interval
           AND min_ttl OPERATOR(pg_catalog.<=) '100 years'::pg_catalog.interval),
    CONSTRAINT policy_degraded_scopes_check
        CHECK (pg_catalog.array_position(degraded_scopes, NULL) IS NULL),
    CONSTRAINT policy_delivery_check
        CHECK (delivery IN ('direct', 'sealed')),
    CONSTRAINT policy_request_role_check
        CHECK (pg_catalog.octet_length(request_role) BETWEEN 1 AND 63)
);
COMMENT ON TABLE token_rotation.policy IS
    'named rules for a kind of token; edited with plain SQL, each change is audited. Intervals count as PostgreSQL compares them: a month is 30 days, a day 24 hours';
COMMENT ON COLUMN token_rotation.policy.name IS 'lower-case name; a policy that live tokens use can be neither renamed nor deleted';
COMMENT ON COLUMN token_rotation.policy.prefix IS 'what new token texts begin with; for people and secret scanners';
COMMENT ON COLUMN token_rotation.policy.ttl IS 'life of a token, from 1 second';
COMMENT ON COLUMN token_rotation.policy.overlap IS 'how long a rotated token stays valid beside its successor, at most to its own expiry; 0: not at all';
COMMENT ON COLUMN token_rotation.policy.replay_window IS 'how long the same rotation asked again gets the same answer, at most to the old token''s expiry; 0: not at all';
COMMENT ON COLUMN token_rotation.policy.refresh_before IS 'refresh_at lies this long before expires_at, but at most a quarter of the life';
COMMENT ON COLUMN token_rotation.policy.max_family_age IS 'bound on the life of a token and all its successors together; NULL: none';
COMMENT ON COLUMN token_rotation.policy.rotation_proof IS 'what proves the right to rotate: token, or a rotation_key that never travels with requests';
COMMENT ON COLUMN token_rotation.policy.allowed_scopes IS 'the scopes that tokens of this policy may have; NULL: any';
COMMENT ON COLUMN token_rotation.policy.shipped IS 'still as the extension ships it; any edit clears the mark, and a restored row may replace a marked one';
COMMENT ON COLUMN token_rotation.policy.on_reuse IS 'what happens when a token that must be dead is used for rotating: audit records it, revoke_successor ends everything that was made from it, revoke_family ends its whole family';
COMMENT ON COLUMN token_rotation.policy.rotate_after IS 'tr_rotate_due starts the rotation of a token at this age, if refresh_at is not earlier; NULL: at refresh_at';
COMMENT ON COLUMN token_rotation.policy.overlap_starts IS 'when the overlap window opens: at the rotation, or at the first_use of the successor, until when the old token lives to its own expiry';
COMMENT ON COLUMN token_rotation.policy.warn_before IS 'how long before a token without a successor ends the event expiring tells of it: up to 8 lead times, each told once';
COMMENT ON COLUMN token_rotation.policy.min_ttl IS 'what risk rules shorten the ttl to at most; NULL, or as long as the ttl: they shorten nothing';
COMMENT ON COLUMN token_rotation.policy.degraded_scopes IS 'the scopes that tokens of this policy keep on a standby, and while the circuit is open; a standby older than max_staleness accepts them for these; NULL: all, and none when it is that old';
COMMENT ON COLUMN token_rotation.policy.delivery IS 'how the successors of rotations that the server starts get to their holders: direct, they come for them; sealed, they are made at once and wait encrypted to the client''s key';
COMMENT ON COLUMN token_rotation.policy.request_role IS 'the role that tr_pre_request takes on for a request with a token of this policy; NULL: it stays PostgREST''s';

INSERT INTO token_rotation.policy (name, ttl, shipped) VALUES
    ('default', '24 hours', true),
    ('internal', '1 hour', true);
INSERT INTO token_rotation.policy (name, ttl, rotation_proof, shipped) VALUES
    ('partner', '24 hours', 'rotation_key', true),
    ('mobile', '12 hours', 'rotation_key', true);
INSERT INTO token_rotation.policy (name, ttl, overlap, shipped) VALUES
    ('low_latency', '5 minutes', '0', true);

-- BEFORE INSERT, UPDATE, DELETE, per row: keeps the mark, refuses the loss of a
-- policy in use (55006), lets a restored row replace a shipped one.
CREATE FUNCTION @extschema@.tr_policy_guard() RETURNS trigger
    AS 'MODULE_PATHNAME', 'tr_policy_guard'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_policy_guard() IS
    'trigger: clears the mark of an edited shipped policy, refuses to rename or delete a policy in use, refuses TRUNCATE';

-- AFTER INSERT, UPDATE, DELETE, per row: writes the audit row.
CREATE FUNCTION @extschema@.tr_policy_audit() RETURNS trigger
    AS 'MODULE_PATHNAME', 'tr_policy_audit'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_policy_audit() IS
    'trigger: writes an audit row for each change of a policy';

CREATE TRIGGER policy_guard BEFORE INSERT OR UPDATE OR DELETE ON token_rotation.policy
    FOR EACH ROW EXECUTE FUNCTION @extschema@.tr_policy_guard();
CREATE TRIGGER policy_guard_truncate BEFORE TRUNCATE ON token_rotation.policy
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.tr_policy_guard();
CREATE TRIGGER policy_audit AFTER INSERT OR UPDATE OR DELETE ON token_rotation.policy
    FOR EACH ROW EXECUTE FUNCTION @extschema@.tr_policy_audit();
ALTER TABLE token_rotation.policy ENABLE ALWAYS TRIGGER policy_guard;
ALTER TABLE token_rotation.policy ENABLE ALWAYS TRIGGER policy_guard_truncate;
ALTER TABLE token_rotation.policy ENABLE ALWAYS TRIGGER policy_audit;
