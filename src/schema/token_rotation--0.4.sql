\echo Use "CREATE EXTENSION token_rotation" to load this file. \quit

-- The script declares, C acts.  Nothing here says OR REPLACE or IF NOT EXISTS:
-- an object that somebody else prepared under one of our names is an error.

-- Refuses to install where the library is not preloaded, makes the role
-- token_rotation_worker or refuses one that is not bare, and makes this
-- database known to the launcher when the transaction commits.
CREATE FUNCTION @extschema@.tr_install() RETURNS void
    AS 'MODULE_PATHNAME', 'tr_install'
    LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

SELECT @extschema@.tr_install();

DROP FUNCTION @extschema@.tr_install();

CREATE SCHEMA token_rotation;
COMMENT ON SCHEMA token_rotation IS
    'relations of the extension token_rotation: API tokens, their policies and their audit trail';
GRANT USAGE ON SCHEMA token_rotation TO token_rotation_worker;
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
        CHECK (delivery IN ('direct', 'sealed'))
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
-- Risk rules: what shortens the lives of a policy's tokens, towards its min_ttl.

CREATE TABLE token_rotation.risk_rule (
    policy text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    pattern text COLLATE "C" NOT NULL,
    score integer NOT NULL,
    within interval NOT NULL DEFAULT '30 days',
    at_least integer NOT NULL DEFAULT 1,
    CONSTRAINT risk_rule_pkey PRIMARY KEY (policy, kind, pattern),
    CONSTRAINT risk_rule_kind_check
        CHECK (kind IN ('scope', 'classification', 'history')),
    CONSTRAINT risk_rule_score_check
        CHECK (score BETWEEN 1 AND 100),
    CONSTRAINT risk_rule_within_check
        CHECK (within OPERATOR(pg_catalog.>=) '1 second'::pg_catalog.interval
           AND within OPERATOR(pg_catalog.<=) '100 years'::pg_catalog.interval),
    CONSTRAINT risk_rule_at_least_check
        CHECK (at_least BETWEEN 1 AND 1000)
);
COMMENT ON TABLE token_rotation.risk_rule IS
    'what shortens the lives of a policy''s new tokens, from its ttl towards its min_ttl; edited with plain SQL, each change is audited. The scores of the rules that match add up, to 100 at most';
COMMENT ON COLUMN token_rotation.risk_rule.policy IS 'name of the policy; one that has rules can be neither renamed nor deleted';
COMMENT ON COLUMN token_rotation.risk_rule.kind IS 'what is looked at: a scope of the token, the classification in its metadata, or the history of its client in its realm';
COMMENT ON COLUMN token_rotation.risk_rule.pattern IS 'a scope or classification, or what one begins with and a *; for history refusals, reuse or dormancy';
COMMENT ON COLUMN token_rotation.risk_rule.score IS 'parts of a hundred of the way from ttl to min_ttl';
COMMENT ON COLUMN token_rotation.risk_rule.within IS 'how far history is looked back upon';
COMMENT ON COLUMN token_rotation.risk_rule.at_least IS 'how many refusals or reuses there must be in that time';

-- BEFORE INSERT, UPDATE, per row: an unknown policy is 42704, a pattern that
-- can match nothing 22023.  BEFORE TRUNCATE: refused.
CREATE FUNCTION @extschema@.tr_risk_rule_guard() RETURNS trigger
    AS 'MODULE_PATHNAME', 'tr_risk_rule_guard'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_risk_rule_guard() IS
    'trigger: refuses risk rules of unknown policies and patterns that can match nothing, refuses TRUNCATE';

-- AFTER INSERT, UPDATE, DELETE, per row: writes the audit row.
CREATE FUNCTION @extschema@.tr_risk_rule_audit() RETURNS trigger
    AS 'MODULE_PATHNAME', 'tr_risk_rule_audit'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_risk_rule_audit() IS
    'trigger: writes an audit row for each change of a risk rule';

CREATE TRIGGER risk_rule_guard BEFORE INSERT OR UPDATE ON token_rotation.risk_rule
    FOR EACH ROW EXECUTE FUNCTION @extschema@.tr_risk_rule_guard();
CREATE TRIGGER risk_rule_guard_truncate BEFORE TRUNCATE ON token_rotation.risk_rule
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.tr_risk_rule_guard();
CREATE TRIGGER risk_rule_audit AFTER INSERT OR UPDATE OR DELETE ON token_rotation.risk_rule
    FOR EACH ROW EXECUTE FUNCTION @extschema@.tr_risk_rule_audit();
ALTER TABLE token_rotation.risk_rule ENABLE ALWAYS TRIGGER risk_rule_guard;
ALTER TABLE token_rotation.risk_rule ENABLE ALWAYS TRIGGER risk_rule_guard_truncate;
ALTER TABLE token_rotation.risk_rule ENABLE ALWAYS TRIGGER risk_rule_audit;

CREATE FUNCTION @extschema@.tr_explain_ttl(
    client_id text, policy text DEFAULT 'default', scopes text[] DEFAULT '{}',
    metadata jsonb DEFAULT '{}',
    OUT kind text, OUT pattern text, OUT matched boolean, OUT score integer, OUT effect interval)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tr_explain_ttl'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_explain_ttl(text, text, text[], jsonb) IS
    'what each risk rule of a policy would make of such a token now, and by how much it alone would shorten its ttl; the last row, of kind total, is what all of them do together';
-- Tokens: the durable truth, and beside it the narrow cache of the live ones.
-- Neither has a SELECT policy: nobody but the extension's own code reads
-- hashes and nonces, pg_read_all_data included.  People read the view tokens.

CREATE TABLE token_rotation.token (
    token_id uuid NOT NULL,
    prefix text COLLATE "C" NOT NULL,
    family_id uuid NOT NULL,
    generation integer NOT NULL,
    predecessor_id uuid,
    client_id text COLLATE "C" NOT NULL,
    policy text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    secret_hash bytea NOT NULL,
    rotation_hash bytea,
    scopes text[] NOT NULL,
    metadata jsonb NOT NULL,
    ttl interval,
    issued_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    refresh_at timestamptz NOT NULL,
    rotated_at timestamptz,
    overlap_ends_at timestamptz,
    replay_ends_at timestamptz,
    first_used_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz,
    revoked_reason text,
    key_id integer,
    CONSTRAINT token_pkey PRIMARY KEY (token_id),
    CONSTRAINT token_status_check
        CHECK (status IN ('active', 'rotating', 'revoked', 'expired')),
    CONSTRAINT token_secret_hash_check
        CHECK (pg_catalog.octet_length(secret_hash) OPERATOR(pg_catalog.=) 32),
    CONSTRAINT token_rotation_hash_check
        CHECK (pg_catalog.octet_length(rotation_hash) OPERATOR(pg_catalog.=) 32),
    CONSTRAINT token_prefix_check
        CHECK (prefix OPERATOR(pg_catalog.~) '^[a-z][a-z0-9]{0,14}$'),
    CONSTRAINT token_client_id_check
        CHECK (pg_catalog.octet_length(client_id) BETWEEN 1 AND 255),
    CONSTRAINT token_metadata_check
        CHECK (pg_catalog.jsonb_typeof(metadata) OPERATOR(pg_catalog.=) 'object'
           AND pg_catalog.pg_column_size(metadata) OPERATOR(pg_catalog.<=) 4096),
    CONSTRAINT token_family_check
        CHECK (generation OPERATOR(pg_catalog.>=) 0
           AND (generation OPERATOR(pg_catalog.=) 0)
               OPERATOR(pg_catalog.=) (family_id OPERATOR(pg_catalog.=) token_id)
           AND (generation OPERATOR(pg_catalog.>) 0 OR predecessor_id IS NULL)),
    CONSTRAINT token_life_check
        CHECK (pg_catalog.isfinite(issued_at) AND pg_catalog.isfinite(expires_at)
           AND expires_at OPERATOR(pg_catalog.>) issued_at
           AND refresh_at BETWEEN issued_at AND expires_at),
    CONSTRAINT token_overlap_check
        CHECK ((rotated_at IS NULL OR overlap_ends_at IS NOT NULL)
           AND overlap_ends_at BETWEEN coalesce(rotated_at, issued_at) AND expires_at
           AND (replay_ends_at IS NULL
                OR rotated_at IS NOT NULL AND replay_ends_at BETWEEN rotated_at AND expires_at)),
    CONSTRAINT token_rotating_check
        CHECK ((status OPERATOR(pg_catalog.<>) 'active' OR overlap_ends_at IS NULL)
           AND (status OPERATOR(pg_catalog.<>) 'rotating' OR overlap_ends_at IS NOT NULL)),
    CONSTRAINT token_revoked_check
        CHECK ((status OPERATOR(pg_catalog.=) 'revoked')
               OPERATOR(pg_catalog.=) (revoked_at IS NOT NULL))
) WITH (fillfactor = 85);
COMMENT ON TABLE token_rotation.token IS
    'every token that was issued and not pruned; read it through the view token_rotation.tokens';
COMMENT ON COLUMN token_rotation.token.token_id IS 'public half of the token, 128 random bits';
COMMENT ON COLUMN token_rotation.token.prefix IS 'what the token text begins with';
COMMENT ON COLUMN token_rotation.token.family_id IS 'token_id of the first token of the family';
COMMENT ON COLUMN token_rotation.token.generation IS 'rotations since the first token';
COMMENT ON COLUMN token_rotation.token.predecessor_id IS 'the token that this one succeeds; cleared when its rotation is cancelled';
COMMENT ON COLUMN token_rotation.token.client_id IS 'whom the token was issued to, 1 to 255 bytes';
COMMENT ON COLUMN token_rotation.token.policy IS 'name of its policy';
COMMENT ON COLUMN token_rotation.token.owner IS 'its realm: the name of the role that owns it';
COMMENT ON COLUMN token_rotation.token.status IS 'active, rotating, revoked or expired, as recorded; the verdict also weighs time, cutoffs and blocks';
COMMENT ON COLUMN token_rotation.token.secret_hash IS 'SHA-256 of the secret; with a server key, 16 bytes of a MAC of the row and 16 of a MAC of row and secret';
COMMENT ON COLUMN token_rotation.token.rotation_hash IS 'SHA-256 of the rotation key''s secret, where rotating needs one; with a server key, a MAC of it and the row';
COMMENT ON COLUMN token_rotation.token.scopes IS 'what the token may be used for';
COMMENT ON COLUMN token_rotation.token.metadata IS 'the issuer''s own data, an object of at most 4 kB';
COMMENT ON COLUMN token_rotation.token.ttl IS 'the shorter life that the issuer asked for; successors keep it';
COMMENT ON COLUMN token_rotation.token.issued_at IS 'when it was issued, by the wall clock';
COMMENT ON COLUMN token_rotation.token.expires_at IS 'when it ends by itself';
COMMENT ON COLUMN token_rotation.token.refresh_at IS 'when its client should rotate';
COMMENT ON COLUMN token_rotation.token.rotated_at IS 'when its successor was made';
COMMENT ON COLUMN token_rotation.token.overlap_ends_at IS 'when its overlap window ends; without rotated_at the server has opened it, and its holder has not come';
COMMENT ON COLUMN token_rotation.token.replay_ends_at IS 'until when the same rotation gets the same answer; NULL: a rotation by id, which is never replayed';
COMMENT ON COLUMN token_rotation.token.first_used_at IS 'when it was first accepted';
COMMENT ON COLUMN token_rotation.token.last_used_at IS 'when it was last accepted, copied from the cache at most hourly and at its end';
COMMENT ON COLUMN token_rotation.token.revoked_at IS 'when it was revoked';
COMMENT ON COLUMN token_rotation.token.revoked_reason IS 'why, as the caller said';
COMMENT ON COLUMN token_rotation.token.key_id IS 'number of the server key that the hashes are made with; NULL: none';

CREATE UNIQUE INDEX token_predecessor ON token_rotation.token (predecessor_id)
    WHERE predecessor_id IS NOT NULL;
COMMENT ON INDEX token_rotation.token_predecessor IS 'makes a second successor impossible';
CREATE INDEX token_family ON token_rotation.token (family_id, generation);
COMMENT ON INDEX token_rotation.token_family IS 'a family in generation order, the order of its locks';
CREATE INDEX token_client ON token_rotation.token (client_id, owner);
COMMENT ON INDEX token_rotation.token_client IS 'a client''s tokens, and those of them in a realm';
CREATE INDEX token_ends ON token_rotation.token ((coalesce(overlap_ends_at, expires_at)))
    WHERE status IN ('active', 'rotating');
COMMENT ON INDEX token_rotation.token_ends IS 'live tokens by their next end, for the sweep';
CREATE INDEX token_dead ON token_rotation.token ((coalesce(revoked_at, expires_at)))
    WHERE rotated_at IS NULL AND status IN ('revoked', 'expired');
COMMENT ON INDEX token_rotation.token_dead IS 'dead tokens without a successor: the last of their families, for tr_prune';
CREATE INDEX token_refresh ON token_rotation.token (refresh_at, token_id) WHERE status OPERATOR(pg_catalog.=) 'active';
COMMENT ON INDEX token_rotation.token_refresh IS 'tokens that should be rotated, for tr_rotate_due';
CREATE INDEX token_age ON token_rotation.token (policy, issued_at) WHERE status OPERATOR(pg_catalog.=) 'active';
COMMENT ON INDEX token_rotation.token_age IS 'tokens of a policy by age, for its rotate_after';

ALTER TABLE token_rotation.token ENABLE ROW LEVEL SECURITY;

-- Statistics hold samples of a column's values, and members of pg_read_all_data
-- read pg_statistic, where there is no row security.
ALTER TABLE token_rotation.token ALTER secret_hash SET STATISTICS 0,
    ALTER rotation_hash SET STATISTICS 0;

CREATE UNLOGGED TABLE token_rotation.token_cache (
    token_id uuid NOT NULL,
    status text COLLATE "C",
    secret_hash bytea,
    client_id text COLLATE "C",
    policy text COLLATE "C",
    owner text COLLATE "C",
    scopes text[],
    metadata jsonb,
    issued_at timestamptz,
    expires_at timestamptz,
    refresh_at timestamptz,
    rotated_at timestamptz,
    overlap_ends_at timestamptz,
    replay_ends_at timestamptz,
    nonce bytea,
    first_used_at timestamptz,
    last_used_at timestamptz,
    use_count bigint NOT NULL DEFAULT 0,
    key_id integer,
    family_id uuid,
    rotation_key boolean,
    CONSTRAINT token_cache_pkey PRIMARY KEY (token_id),
    CONSTRAINT token_cache_nonce_check
        CHECK (pg_catalog.octet_length(nonce) OPERATOR(pg_catalog.=) 32),
    CONSTRAINT token_cache_row_check
        CHECK (token_id OPERATOR(pg_catalog.=) '00000000-0000-0000-0000-000000000000'::pg_catalog.uuid
            OR (status IS NOT NULL AND secret_hash IS NOT NULL AND client_id IS NOT NULL
                AND policy IS NOT NULL AND owner IS NOT NULL AND scopes IS NOT NULL
                AND metadata IS NOT NULL AND issued_at IS NOT NULL AND expires_at IS NOT NULL
                AND refresh_at IS NOT NULL))
) WITH (fillfactor = 70);
COMMENT ON TABLE token_rotation.token_cache IS
    'what validation needs of each live token, its usage, and the rotation nonces; UNLOGGED so that a nonce reaches no WAL, no standby and no backup. It may vanish at any moment; the row with the all-zero id says that it is complete';
COMMENT ON COLUMN token_rotation.token_cache.token_id IS 'as in token; all zero: the mark of a complete cache';
COMMENT ON COLUMN token_rotation.token_cache.status IS 'as in token';
COMMENT ON COLUMN token_rotation.token_cache.secret_hash IS 'as in token';
COMMENT ON COLUMN token_rotation.token_cache.client_id IS 'as in token';
COMMENT ON COLUMN token_rotation.token_cache.policy IS 'as in token';
COMMENT ON COLUMN token_rotation.token_cache.owner IS 'as in token';
COMMENT ON COLUMN token_rotation.token_cache.scopes IS 'as in token';
COMMENT ON COLUMN token_rotation.token_cache.metadata IS 'as in token';
COMMENT ON COLUMN token_rotation.token_cache.issued_at IS 'as in token';
COMMENT ON COLUMN token_rotation.token_cache.expires_at IS 'as in token';
COMMENT ON COLUMN token_rotation.token_cache.refresh_at IS 'as in token';
COMMENT ON COLUMN token_rotation.token_cache.rotated_at IS 'as in token';
COMMENT ON COLUMN token_rotation.token_cache.overlap_ends_at IS 'as in token';
COMMENT ON COLUMN token_rotation.token_cache.replay_ends_at IS 'as in token';
COMMENT ON COLUMN token_rotation.token_cache.nonce IS 'the missing half of the successor''s secret, erased when the replay window ends';
COMMENT ON COLUMN token_rotation.token_cache.first_used_at IS 'when it was first accepted';
COMMENT ON COLUMN token_rotation.token_cache.last_used_at IS 'when it was last accepted, as flushed by the worker';
COMMENT ON COLUMN token_rotation.token_cache.use_count IS 'how often it was accepted since the cache was filled';
COMMENT ON COLUMN token_rotation.token_cache.key_id IS 'as in token';
COMMENT ON COLUMN token_rotation.token_cache.family_id IS 'as in token, where there is a key_id: part of what the hash covers';
COMMENT ON COLUMN token_rotation.token_cache.rotation_key IS 'does rotating need a rotation key? Likewise';

CREATE INDEX token_cache_replay ON token_rotation.token_cache (replay_ends_at)
    WHERE nonce IS NOT NULL;
COMMENT ON INDEX token_rotation.token_cache_replay IS 'nonces by the end of their replay window, for erasing them';

ALTER TABLE token_rotation.token_cache ENABLE ROW LEVEL SECURITY;
ALTER TABLE token_rotation.token_cache ALTER secret_hash SET STATISTICS 0,
    ALTER nonce SET STATISTICS 0;

-- Whoever changes token by other means than the extension's functions (a
-- superuser's UPDATE in an emergency, a restore) must not be contradicted by
-- the cache: its rows go, and the worker fills it again.
CREATE FUNCTION @extschema@.tr_token_guard() RETURNS trigger
    AS 'MODULE_PATHNAME', 'tr_token_guard'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_token_guard() IS
    'trigger: drops what the cache says of tokens that were changed by other means than the extension''s functions';

CREATE TRIGGER token_guard AFTER UPDATE OR DELETE ON token_rotation.token
    FOR EACH ROW EXECUTE FUNCTION @extschema@.tr_token_guard();
CREATE TRIGGER token_guard_statement AFTER INSERT OR TRUNCATE ON token_rotation.token
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.tr_token_guard();
ALTER TABLE token_rotation.token ENABLE ALWAYS TRIGGER token_guard;
ALTER TABLE token_rotation.token ENABLE ALWAYS TRIGGER token_guard_statement;
-- Successors whose first use opens the window of their predecessor.

CREATE TABLE token_rotation.pending (
    token_id uuid NOT NULL,
    predecessor_id uuid NOT NULL,
    overlap interval NOT NULL,
    CONSTRAINT pending_pkey PRIMARY KEY (token_id),
    CONSTRAINT pending_predecessor_key UNIQUE (predecessor_id),
    CONSTRAINT pending_overlap_check
        CHECK (overlap OPERATOR(pg_catalog.>=) '0'::pg_catalog.interval)
);
COMMENT ON TABLE token_rotation.pending IS
    'successors that were made under overlap_starts = first_use and not used yet; their status is pending';
COMMENT ON COLUMN token_rotation.pending.token_id IS 'the successor';
COMMENT ON COLUMN token_rotation.pending.predecessor_id IS 'whose window opens when the successor is first used';
COMMENT ON COLUMN token_rotation.pending.overlap IS 'how long that window will be';

ALTER TABLE token_rotation.pending ENABLE ROW LEVEL SECURITY;
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
-- Events: the sealed rows of the audit trail, for consumers, in the order of the
-- seals.  A position is the segment's number plus 10000 for each seal before plus
-- the place in the seal, which has at most 10000 rows: it goes on in the segment
-- that a restore begins, because that has the clock for its number.

CREATE TABLE token_rotation.consumer (
    name text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    "position" bigint NOT NULL,
    acked_at timestamptz NOT NULL,
    CONSTRAINT consumer_pkey PRIMARY KEY (name),
    CONSTRAINT consumer_name_check
        CHECK (name OPERATOR(pg_catalog.~) '^[a-z][a-z0-9_-]{0,62}$'),
    CONSTRAINT consumer_position_check CHECK ("position" OPERATOR(pg_catalog.>=) 0)
);
COMMENT ON TABLE token_rotation.consumer IS
    'how far each consumer of events is; written by tr_ack, read through the view token_rotation.consumers';
COMMENT ON COLUMN token_rotation.consumer.name IS 'the consumer';
COMMENT ON COLUMN token_rotation.consumer.owner IS 'the role that acknowledged first: only its members may go on';
COMMENT ON COLUMN token_rotation.consumer."position" IS 'the last event that it has acknowledged';
COMMENT ON COLUMN token_rotation.consumer.acked_at IS 'when that was';

-- No policy: who may write tables at large must not make a consumer skip events.
ALTER TABLE token_rotation.consumer ENABLE ROW LEVEL SECURITY;

CREATE FUNCTION @extschema@.tr_events(
    consumer text, max_events integer DEFAULT 100,
    OUT "position" bigint, OUT seq bigint, OUT at timestamptz, OUT event text, OUT client_id text,
    OUT owner text, OUT token_ref bytea, OUT successor_ref bytea, OUT actor text, OUT role text,
    OUT origin text, OUT reason text, OUT detail jsonb)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tr_events'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_events(text, integer) IS
    'the next events after what the consumer has acknowledged, of the caller''s realms, in the order of their commits; changes nothing, works in READ ONLY transactions and on standbys';

CREATE FUNCTION @extschema@.tr_ack(consumer text, "position" bigint) RETURNS bigint
    AS 'MODULE_PATHNAME', 'tr_ack'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_ack(text, bigint) IS
    'acknowledge all events up to a position, which never goes back; makes the consumer where there is none; returns how far it is';

CREATE FUNCTION @extschema@.tr_events_head() RETURNS bigint
    AS 'MODULE_PATHNAME', 'tr_events_head'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_events_head() IS
    'the newest position, for a consumer that is to begin now; 0: there is no event yet';

CREATE VIEW token_rotation.consumers WITH (security_barrier = true) AS
    SELECT c.name, c.owner, c."position", c.acked_at, w.at AS waiting_since
    FROM token_rotation.consumer c
    LEFT JOIN LATERAL (
        SELECT pg_catalog.max(b.segment) AS segment FROM token_rotation.audit_seal b
        WHERE b.segment OPERATOR(pg_catalog.<=) c."position") b ON true
    LEFT JOIN LATERAL (
        SELECT s.at FROM token_rotation.audit_seal s
        WHERE (b.segment IS NULL
               OR ROW(s.segment, s.seal) OPERATOR(pg_catalog.>=)
                  ROW(b.segment, (c."position" OPERATOR(pg_catalog.-) b.segment)
                                 OPERATOR(pg_catalog./) 10000 OPERATOR(pg_catalog.+) 1))
          AND s.segment OPERATOR(pg_catalog.<=) (
              SELECT q.seqstart FROM pg_catalog.pg_sequence q
              WHERE q.seqrelid OPERATOR(pg_catalog.=) 'token_rotation.audit_seq'::pg_catalog.regclass)
          AND s.rows OPERATOR(pg_catalog.>) 0
          AND (s.segment OPERATOR(pg_catalog.+)
               ((s.seal OPERATOR(pg_catalog.-) 1) OPERATOR(pg_catalog.*) 10000)
               OPERATOR(pg_catalog.+) s.rows) OPERATOR(pg_catalog.>) c."position"
        ORDER BY s.segment, s.seal LIMIT 1) w ON true
    WHERE c.owner IN (SELECT r.rolname FROM pg_catalog.pg_roles r
                      WHERE pg_catalog.pg_has_role(r.oid, 'USAGE'))
       OR (SELECT s.rolsuper FROM pg_catalog.pg_roles s
           WHERE s.rolname OPERATOR(pg_catalog.=) CURRENT_USER);
COMMENT ON VIEW token_rotation.consumers IS
    'how far the consumers are whose owner the reader is a member of';
COMMENT ON COLUMN token_rotation.consumers.waiting_since IS
    'when the oldest seal was made that has something after the position, of whatever realm; NULL: there is none';

-- What the worker tells of, though nobody does it: moments that pass, the key.
CREATE TABLE token_rotation.told (
    event text COLLATE "C" NOT NULL,
    lead interval NOT NULL,
    until timestamptz NOT NULL,
    key_id integer,
    CONSTRAINT told_pkey PRIMARY KEY (event, lead)
);
COMMENT ON TABLE token_rotation.told IS
    'how far the worker has told of moments that pass, so that each is told once; without its row an event begins now';
COMMENT ON COLUMN token_rotation.told.event IS 'rotation_due, unclaimed, expiring or key_changed';
COMMENT ON COLUMN token_rotation.told.lead IS 'how long before the end that moment is; 0: there is none';
COMMENT ON COLUMN token_rotation.told.until IS 'moments up to this one are told of';
COMMENT ON COLUMN token_rotation.told.key_id IS 'number of the server key then; 0: there was none';

-- No policy, likewise.
ALTER TABLE token_rotation.told ENABLE ROW LEVEL SECURITY;
-- The verbs.  Their names, arguments and answers are the extension's contract.
-- A verdict is returned, misuse is raised.  None is open to PUBLIC (see
-- 80_privileges.sql); none is SECURITY DEFINER: C works on the extension's own
-- tables as their owner and asks for itself who called.

CREATE FUNCTION @extschema@.tr_issue(
    client_id text, policy text DEFAULT 'default', scopes text[] DEFAULT '{}',
    metadata jsonb DEFAULT '{}', ttl interval DEFAULT NULL,
    OUT token text, OUT rotation_key text, OUT token_id uuid, OUT family_id uuid,
    OUT client_id text, OUT owner text, OUT status text, OUT scopes text[],
    OUT metadata jsonb, OUT issued_at timestamptz, OUT expires_at timestamptz,
    OUT refresh_at timestamptz)
    AS 'MODULE_PATHNAME', 'tr_issue'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_issue(text, text, text[], jsonb, interval) IS
    'issue a token; its text, and its rotation key where the policy asks for one, are shown this once';

-- The answer of tr_validate has a type of its own, because the executor describes
-- the columns of OUT parameters anew for each statement, which costs half as
-- much as the validation.
CREATE TYPE token_rotation.validation AS (
    valid boolean, reason text, token_id uuid, client_id text, owner text, policy text,
    scopes text[], metadata jsonb, status text, valid_until timestamptz, refresh_at timestamptz);
COMMENT ON TYPE token_rotation.validation IS 'what tr_validate answers';
COMMENT ON COLUMN token_rotation.validation.valid IS 'may the token be used now?';
COMMENT ON COLUMN token_rotation.validation.reason IS 'ok, or why not';
COMMENT ON COLUMN token_rotation.validation.token_id IS 'its public half; NULL where the text is malformed';
COMMENT ON COLUMN token_rotation.validation.client_id IS 'whose it is; this and the next four are NULL unless valid';
COMMENT ON COLUMN token_rotation.validation.owner IS 'its realm';
COMMENT ON COLUMN token_rotation.validation.policy IS 'name of its policy';
COMMENT ON COLUMN token_rotation.validation.scopes IS 'what it may be used for';
COMMENT ON COLUMN token_rotation.validation.metadata IS 'the issuer''s own data';
COMMENT ON COLUMN token_rotation.validation.status IS 'active, rotating, revoked or expired; this and the times are NULL unless the secret matches';
COMMENT ON COLUMN token_rotation.validation.valid_until IS 'when it ends by itself, without leeway';
COMMENT ON COLUMN token_rotation.validation.refresh_at IS 'when its client should rotate';

CREATE FUNCTION @extschema@.tr_validate(token text, origin text DEFAULT NULL)
    RETURNS token_rotation.validation
    AS 'MODULE_PATHNAME', 'tr_validate'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_validate(text, text) IS
    'is this token valid now, and whose is it? Writes nothing: works in READ ONLY transactions and on hot standbys';

CREATE FUNCTION @extschema@.tr_validate_many(
    tokens text[],
    OUT ord integer, OUT valid boolean, OUT reason text, OUT token_id uuid, OUT client_id text,
    OUT owner text, OUT policy text, OUT scopes text[], OUT metadata jsonb,
    OUT status text, OUT valid_until timestamptz, OUT refresh_at timestamptz)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tr_validate_many'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_validate_many(text[]) IS
    'tr_validate for each element, one row an element, in order';

CREATE FUNCTION @extschema@.tr_rotate(
    token text, rotation_key text DEFAULT NULL, overlap interval DEFAULT NULL,
    origin text DEFAULT NULL,
    OUT token text, OUT rotation_key text, OUT token_id uuid, OUT family_id uuid,
    OUT client_id text, OUT owner text, OUT status text, OUT scopes text[],
    OUT metadata jsonb, OUT issued_at timestamptz, OUT expires_at timestamptz,
    OUT refresh_at timestamptz, OUT previous_token_id uuid,
    OUT previous_valid_until timestamptz, OUT replayed boolean, OUT reason text)
    AS 'MODULE_PATHNAME', 'tr_rotate'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_rotate(text, text, interval, text) IS
    'make the successor of a token for its holder; asked again inside the replay window it gives the same successor. reason is ok, or token is NULL';

CREATE FUNCTION @extschema@.tr_rotate_id(
    token_id uuid, overlap interval DEFAULT NULL,
    OUT token text, OUT rotation_key text, OUT token_id uuid, OUT family_id uuid,
    OUT client_id text, OUT owner text, OUT status text, OUT scopes text[],
    OUT metadata jsonb, OUT issued_at timestamptz, OUT expires_at timestamptz,
    OUT refresh_at timestamptz, OUT previous_token_id uuid,
    OUT previous_valid_until timestamptz, OUT replayed boolean, OUT reason text)
    AS 'MODULE_PATHNAME', 'tr_rotate_id'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_rotate_id(uuid, interval) IS
    'make the successor of a token for an operator; its random secret is shown this once and never given to the holder of the old token';

CREATE FUNCTION @extschema@.tr_revoke(token text, reason text DEFAULT NULL, family boolean DEFAULT false)
    RETURNS boolean
    AS 'MODULE_PATHNAME', 'tr_revoke'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_revoke(text, text, boolean) IS
    'end the token that the caller holds, or its family, after RFC 7009; true when this call ended something, an unknown token is no error';

CREATE FUNCTION @extschema@.tr_revoke_id(token_id uuid, reason text DEFAULT NULL, family boolean DEFAULT false)
    RETURNS integer
    AS 'MODULE_PATHNAME', 'tr_revoke_id'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_revoke_id(uuid, text, boolean) IS
    'end a token, or its family; returns how many tokens this call ended';

CREATE FUNCTION @extschema@.tr_revoke_client(client_id text, reason text DEFAULT NULL)
    RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'tr_revoke_client'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_revoke_client(text, text) IS
    'end every token of a client that was issued until now, in the caller''s realms; returns the cutoff';

CREATE FUNCTION @extschema@.tr_revoke_policy(policy text, reason text DEFAULT NULL)
    RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'tr_revoke_policy'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_revoke_policy(text, text) IS
    'end every token of a policy that was issued until now, in the caller''s realms; returns the cutoff';

CREATE FUNCTION @extschema@.tr_revoke_before(before timestamptz, reason text DEFAULT NULL)
    RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'tr_revoke_before'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_revoke_before(timestamptz, text) IS
    'end every token that was issued before a moment, in the caller''s realms; returns the cutoff in force';

CREATE FUNCTION @extschema@.tr_block_client(client_id text, blocked boolean DEFAULT true)
    RETURNS boolean
    AS 'MODULE_PATHNAME', 'tr_block_client'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_block_client(text, boolean) IS
    'block or unblock a client in the caller''s realms; true when this call changed something';

CREATE FUNCTION @extschema@.tr_report_leak(token text, source text DEFAULT NULL)
    RETURNS void
    AS 'MODULE_PATHNAME', 'tr_report_leak'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_report_leak(text, text) IS
    'end the family of a token, or of a rotation key, that was found where it should not be, also when it is dead already; answers the same whether or not it is one';

CREATE FUNCTION @extschema@.tr_extend_overlap(token_id uuid, by interval)
    RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'tr_extend_overlap'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_extend_overlap(uuid, interval) IS
    'lengthen the open overlap window of a rotated token, at most to its own expiry; returns the new end';

CREATE FUNCTION @extschema@.tr_finish_overlap(token_id uuid)
    RETURNS boolean
    AS 'MODULE_PATHNAME', 'tr_finish_overlap'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_finish_overlap(uuid) IS
    'end the open overlap window of a rotated token now; false when none was open';

CREATE FUNCTION @extschema@.tr_cancel_rotation(token_id uuid)
    RETURNS boolean
    AS 'MODULE_PATHNAME', 'tr_cancel_rotation'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_cancel_rotation(uuid) IS
    'undo the rotation of a token: its unused successor is revoked and it is active again; 55000 once the successor was used; false when it was not rotating';

CREATE FUNCTION @extschema@.tr_rotate_due(
    policy text DEFAULT NULL, max_tokens integer DEFAULT 1000,
    OUT policy_name text, OUT started integer)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tr_rotate_due'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_rotate_due(text, integer) IS
    'open the overlap windows of tokens past refresh_at or their policy''s rotate_after, oldest first, in the caller''s realms, for their holders to claim successors with tr_rotate; where the policy says sealed, make and encrypt them at once; counts by policy';

CREATE FUNCTION @extschema@.tr_sweep(max_tokens integer DEFAULT 10000)
    RETURNS integer
    AS 'MODULE_PATHNAME', 'tr_sweep'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_sweep(integer) IS
    'record the ends of overlap windows and expired tokens, oldest first, in the caller''s realms; returns how many. The worker does this by itself';

CREATE FUNCTION @extschema@.tr_prune(before timestamptz, max_tokens integer DEFAULT 10000)
    RETURNS integer
    AS 'MODULE_PATHNAME', 'tr_prune'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_prune(timestamptz, integer) IS
    'delete families whose tokens all ended before a moment, oldest first, in the caller''s realms; returns how many tokens. The audit trail stays';
-- Deliveries: successors on their way to holders who cannot come, and the keys
-- that they are encrypted to.

CREATE TABLE token_rotation.delivery_key (
    client_id text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    public_key bytea,
    fingerprint text COLLATE "C",
    added_at timestamptz NOT NULL,
    effective_at timestamptz NOT NULL,
    expires_at timestamptz,
    CONSTRAINT delivery_key_pkey PRIMARY KEY (client_id, owner, effective_at),
    CONSTRAINT delivery_key_client_id_check
        CHECK (pg_catalog.octet_length(client_id) BETWEEN 1 AND 255),
    CONSTRAINT delivery_key_fingerprint_check
        CHECK (fingerprint OPERATOR(pg_catalog.~) '^[0-9A-F]{40}$'
           AND (fingerprint IS NULL) OPERATOR(pg_catalog.=) (public_key IS NULL))
);
COMMENT ON TABLE token_rotation.delivery_key IS
    'the PGP public keys that successors are encrypted to; of a client''s the newest that has taken effect counts';
COMMENT ON COLUMN token_rotation.delivery_key.client_id IS 'the client whose key it is';
COMMENT ON COLUMN token_rotation.delivery_key.owner IS 'the realm that it is for; empty: every realm';
COMMENT ON COLUMN token_rotation.delivery_key.public_key IS 'primary key and encryption subkey in binary form, without names and signatures; NULL: the key was dropped';
COMMENT ON COLUMN token_rotation.delivery_key.fingerprint IS 'of the encryption subkey, as gpg --with-subkey-fingerprint shows it';
COMMENT ON COLUMN token_rotation.delivery_key.added_at IS 'when it was stored';
COMMENT ON COLUMN token_rotation.delivery_key.effective_at IS 'from when on it is used: at once if it was the client''s first, else after the longest ttl of the policies that deliver';
COMMENT ON COLUMN token_rotation.delivery_key.expires_at IS 'from when on it is not used, as its owner has said; NULL: none';

CREATE TABLE token_rotation.delivery (
    token_id uuid NOT NULL,
    predecessor_id uuid NOT NULL,
    client_id text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    message text NOT NULL,
    made_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    fetches integer NOT NULL DEFAULT 0,
    fetched_at timestamptz,
    CONSTRAINT delivery_pkey PRIMARY KEY (token_id)
);
COMMENT ON TABLE token_rotation.delivery IS
    'successors that wait to be fetched, encrypted; erased when the window ends, or either token is revoked. Fetch them with tr_deliveries, see them in token_rotation.deliveries';
COMMENT ON COLUMN token_rotation.delivery.token_id IS 'the successor';
COMMENT ON COLUMN token_rotation.delivery.predecessor_id IS 'the token that it succeeds';
COMMENT ON COLUMN token_rotation.delivery.client_id IS 'whose it is';
COMMENT ON COLUMN token_rotation.delivery.owner IS 'its realm';
COMMENT ON COLUMN token_rotation.delivery.fingerprint IS 'of the key that it is encrypted to';
COMMENT ON COLUMN token_rotation.delivery.message IS 'the armored PGP message: a JSON object with token, rotation_key, expires_at, refresh_at, previous_valid_until';
COMMENT ON COLUMN token_rotation.delivery.made_at IS 'when it was made';
COMMENT ON COLUMN token_rotation.delivery.ends_at IS 'when the old token''s overlap window ends, and this with it';
COMMENT ON COLUMN token_rotation.delivery.fetches IS 'how often it was fetched';
COMMENT ON COLUMN token_rotation.delivery.fetched_at IS 'when it was last fetched';

CREATE INDEX delivery_predecessor ON token_rotation.delivery (predecessor_id);
COMMENT ON INDEX token_rotation.delivery_predecessor IS 'the deliveries of a token''s successors';
CREATE INDEX delivery_ends ON token_rotation.delivery (ends_at);
COMMENT ON INDEX token_rotation.delivery_ends IS 'deliveries by their end, for erasing them';

-- A message is fetched with tr_deliveries, which counts; there is no SELECT policy.
ALTER TABLE token_rotation.delivery ENABLE ROW LEVEL SECURITY;
ALTER TABLE token_rotation.delivery_key ENABLE ROW LEVEL SECURITY;

CREATE POLICY delivery_key_realm ON token_rotation.delivery_key FOR SELECT
    USING (owner OPERATOR(pg_catalog.=) ''
           OR owner IN (SELECT r.rolname FROM pg_catalog.pg_roles r
                        WHERE pg_catalog.pg_has_role(r.oid, 'USAGE')));
COMMENT ON POLICY delivery_key_realm ON token_rotation.delivery_key IS
    'readers see keys for every realm and for the realms that they are a member of';

CREATE FUNCTION @extschema@.tr_set_delivery_key(client_id text, public_key text)
    RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'tr_set_delivery_key'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_set_delivery_key(text, text) IS
    'store the armored PGP public key that a client''s successors are encrypted to, in the caller''s realms; returns when it takes effect: the first at once, one that replaces another after the ttl';

CREATE FUNCTION @extschema@.tr_drop_delivery_key(client_id text)
    RETURNS boolean
    AS 'MODULE_PATHNAME', 'tr_drop_delivery_key'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_drop_delivery_key(text) IS
    'deliver nothing more to a client, in the caller''s realms, from now on; false when it had no key. The next key waits like one that replaces another';

CREATE FUNCTION @extschema@.tr_deliveries(
    client_id text DEFAULT NULL, max_tokens integer DEFAULT 1000,
    OUT token_ref bytea, OUT client_id text, OUT owner text, OUT fingerprint text,
    OUT message text, OUT made_at timestamptz, OUT ends_at timestamptz, OUT fetches integer)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tr_deliveries'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_deliveries(text, integer) IS
    'fetch the deliveries that wait for a client, or for all, in the caller''s realms: PGP messages that only the client can open, those first that were not fetched for longest; they can be fetched again until the window ends';
-- Rotation on schedule: jobs of pg_cron, which is looked for when these are called.

CREATE FUNCTION @extschema@.tr_schedule(policy text, cron text) RETURNS bigint
    AS 'MODULE_PATHNAME', 'tr_schedule'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_schedule(text, text) IS
    'have pg_cron call tr_rotate_due for a policy (NULL: for all of them) as the caller, or give the job another schedule; returns its id';

CREATE FUNCTION @extschema@.tr_unschedule(policy text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tr_unschedule'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_unschedule(text) IS
    'remove the job that the caller made with tr_schedule; false when there was none';

CREATE FUNCTION @extschema@.tr_schedules(
    OUT policy text, OUT schedule text, OUT active boolean, OUT job_id bigint, OUT database text,
    OUT username text, OUT last_run_at timestamptz, OUT last_status text, OUT last_message text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tr_schedules'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_schedules() IS
    'what the view token_rotation.schedules shows';

CREATE VIEW token_rotation.schedules WITH (security_barrier = true) AS
    SELECT s.policy, s.schedule, s.active, s.job_id, s.database, s.username, s.last_run_at,
           s.last_status, s.last_message
    FROM @extschema@.tr_schedules() s;
COMMENT ON VIEW token_rotation.schedules IS
    'jobs of pg_cron that tr_schedule made, as far as pg_cron shows them to the reader: his own, a superuser''s are all; none where pg_cron does not work on this database';
COMMENT ON COLUMN token_rotation.schedules.policy IS 'whose tokens it rotates; NULL: every policy''s';
COMMENT ON COLUMN token_rotation.schedules.schedule IS 'when it runs, as pg_cron reads it';
COMMENT ON COLUMN token_rotation.schedules.active IS 'false: switched off with cron.alter_job';
COMMENT ON COLUMN token_rotation.schedules.job_id IS 'its number in cron.job';
COMMENT ON COLUMN token_rotation.schedules.database IS 'where it runs';
COMMENT ON COLUMN token_rotation.schedules.username IS 'as whom it runs';
COMMENT ON COLUMN token_rotation.schedules.last_run_at IS 'when its newest run began; this and the next two are NULL where pg_cron''s history has none';
COMMENT ON COLUMN token_rotation.schedules.last_status IS 'succeeded, failed, or what pg_cron is doing with it';
COMMENT ON COLUMN token_rotation.schedules.last_message IS 'SELECT n or n rows: n rotations were started; or the error';
-- What people read.

CREATE FUNCTION @extschema@.tr_token_display(prefix text, token_id uuid) RETURNS text
    AS 'MODULE_PATHNAME', 'tr_token_display_sql'
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.tr_token_display(text, uuid) IS
    'the public part of a token''s text, <prefix>_<id>';

CREATE FUNCTION @extschema@.tr_effective_status(
    status text, owner text, client_id text, policy text, issued_at timestamptz,
    expires_at timestamptz, rotated_at timestamptz, overlap_ends_at timestamptz) RETURNS text
    AS 'MODULE_PATHNAME', 'tr_effective_status'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_effective_status(text, text, text, text, timestamptz, timestamptz, timestamptz, timestamptz) IS
    'the status of a token now, time, cutoffs and settings weighed: what validation goes by, whether or not it is recorded yet';

CREATE VIEW token_rotation.tokens WITH (security_barrier = true) AS
    SELECT t.token_id,
           @extschema@.tr_token_display(t.prefix, t.token_id) AS display,
           pg_catalog.sha256(pg_catalog.uuid_send(t.token_id)) AS token_ref,
           t.family_id,
           t.generation,
           t.predecessor_id,
           t.client_id,
           t.policy,
           t.owner,
           CASE s.effective WHEN 'active' THEN
               CASE WHEN EXISTS (SELECT FROM token_rotation.pending w
                                 WHERE w.token_id OPERATOR(pg_catalog.=) t.token_id)
                    THEN 'pending' ELSE 'active' END
               ELSE s.effective END AS status,
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
    CROSS JOIN LATERAL @extschema@.tr_effective_status(
        t.status, t.owner, t.client_id, t.policy, t.issued_at, t.expires_at, t.rotated_at,
        t.overlap_ends_at) s (effective)
    WHERE t.owner IN (SELECT r.rolname FROM pg_catalog.pg_roles r
                      WHERE pg_catalog.pg_has_role(r.oid, 'USAGE'))
       OR (SELECT s.rolsuper FROM pg_catalog.pg_roles s
           WHERE s.rolname OPERATOR(pg_catalog.=) CURRENT_USER);
COMMENT ON VIEW token_rotation.tokens IS
    'tokens of the realms that the reader is a member of; no hash, no nonce';
COMMENT ON COLUMN token_rotation.tokens.display IS 'the public part of the token''s text';
COMMENT ON COLUMN token_rotation.tokens.token_ref IS 'SHA-256 of the token id, as in the audit trail';
COMMENT ON COLUMN token_rotation.tokens.status IS 'effective status: time, cutoffs and settings weighed; pending: a successor that waits for its first use';
COMMENT ON COLUMN token_rotation.tokens.use_count IS 'acceptances since the cache was filled; NULL: not in the cache';
COMMENT ON COLUMN token_rotation.tokens.key_id IS 'number of the server key that it was made with; NULL: none';

CREATE VIEW token_rotation.unclaimed WITH (security_barrier = true) AS
    SELECT t.token_id, t.display, t.token_ref, t.client_id, t.policy, t.owner, t.refresh_at, t.expires_at,
           t.overlap_ends_at, t.last_used_at
    FROM token_rotation.tokens t
    WHERE t.status OPERATOR(pg_catalog.=) 'rotating' AND t.rotated_at IS NULL;
COMMENT ON VIEW token_rotation.unclaimed IS
    'tokens whose rotation the server has started and whose holder has not come for the successor; they end at overlap_ends_at';

CREATE FUNCTION token_rotation.expiring(
    within interval,
    OUT client_id text, OUT owner text, OUT policy text, OUT tokens bigint,
    OUT first_ends_at timestamptz, OUT last_ends_at timestamptz, OUT last_used_at timestamptz)
    RETURNS SETOF record
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
    AS $$
    SELECT e.client_id, e.owner, e.policy, pg_catalog.count(*), pg_catalog.min(e.ends_at),
           pg_catalog.max(e.ends_at), pg_catalog.max(e.last_used_at)
    FROM (SELECT t.client_id, t.owner, t.policy, coalesce(t.overlap_ends_at, t.expires_at) AS ends_at,
                 t.last_used_at
          FROM token_rotation.tokens t
          WHERE t.rotated_at IS NULL AND t.status OPERATOR(pg_catalog.=) ANY (ARRAY['pending', 'active', 'rotating'])) e
    WHERE e.ends_at OPERATOR(pg_catalog.<=) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $1)
    GROUP BY e.client_id, e.owner, e.policy
    ORDER BY 5, 1, 2, 3
    $$;
COMMENT ON FUNCTION token_rotation.expiring(interval) IS
    'live tokens without a successor whose validity ends within this time, of the realms that the caller is a member of: a row for each client, realm and policy, soonest first; NULL: none';
CREATE VIEW token_rotation.deliveries WITH (security_barrier = true) AS
    SELECT t.token_ref, t.display, t.client_id, t.policy, t.owner, d.fingerprint, d.made_at, d.ends_at,
           d.fetches, d.fetched_at, t.first_used_at
    FROM token_rotation.delivery d
    JOIN token_rotation.tokens t ON t.token_id OPERATOR(pg_catalog.=) d.token_id;
COMMENT ON VIEW token_rotation.deliveries IS
    'deliveries that wait in the realms that the reader is a member of, without their messages; the tokens are the successors';
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
-- Privileges.  Presets give EXECUTE on their functions and membership in a realm.

CREATE FUNCTION @extschema@.tr_grant(role text, preset text, realm text DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'tr_grant'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_grant(text, text, text) IS
    'give a role the preset validator, issuer, operator or auditor, and membership in a realm; for the extension''s owner';

CREATE FUNCTION @extschema@.tr_ungrant(role text, preset text, realm text DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'tr_ungrant'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_ungrant(text, text, text) IS
    'take back what tr_grant gave: the preset''s functions, and membership where a realm is named';

CREATE FUNCTION @extschema@.tr_set_owner("from" text, "to" text) RETURNS bigint
    AS 'MODULE_PATHNAME', 'tr_set_owner'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_set_owner(text, text) IS
    'move every token of a realm, which may have been dropped, to another, and let its cutoffs and blocks speak there too; for superusers; returns how many tokens';

-- Nobody has anything to begin with.  New functions are open to PUBLIC, and
-- ALTER DEFAULT PRIVILEGES may have opened whatever was made here to anybody:
-- all that is taken back, but for what the worker's role needs.  Types stay open,
-- to those who may use the schema: a type tells nothing.
DO LANGUAGE plpgsql $$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        WITH member (kind, name, owner, acl) AS (
            SELECT 'FUNCTION', p.oid::pg_catalog.regprocedure::text, p.proowner,
                   coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
            FROM pg_catalog.pg_depend d
            JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
            JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) d.objid
            WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
              AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
              AND e.extname OPERATOR(pg_catalog.=) 'token_rotation'
            UNION ALL
            SELECT 'SCHEMA', 'token_rotation', n.nspowner, n.nspacl
            FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.=) 'token_rotation'
            UNION ALL
            SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
                   c.oid::pg_catalog.regclass::text, c.relowner, c.relacl
            FROM pg_catalog.pg_class c
            WHERE (c.relnamespace OPERATOR(pg_catalog.=) 'token_rotation'::pg_catalog.regnamespace
                   OR c.oid OPERATOR(pg_catalog.=) '@extschema@.tr_stat'::pg_catalog.regclass)
              AND c.relkind IN ('r', 'v', 'S')
        )
        SELECT DISTINCT pg_catalog.format('REVOKE ALL ON %s %s FROM %s', m.kind, m.name,
            CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                 ELSE a.grantee::pg_catalog.regrole::text END)
        FROM member m, pg_catalog.aclexplode(m.acl) a
        WHERE a.grantee OPERATOR(pg_catalog.<>) m.owner
          AND a.grantee OPERATOR(pg_catalog.<>) 'token_rotation_worker'::pg_catalog.regrole
    LOOP
        EXECUTE statement;
    END LOOP;
END
$$;

-- Whoever may monitor the server may monitor this.
GRANT SELECT ON @extschema@.tr_stat TO pg_monitor;
GRANT EXECUTE ON FUNCTION @extschema@.tr_stat_counters(), @extschema@.tr_health() TO pg_monitor;
-- What pg_dump takes along.  Never the cache, which would put nonces into a
-- dump, not the sequence, which starts at the new installation's clock, and not how
-- far the audit file is, which is another one there, nor what the worker has told of,
-- which it writes as soon as there is an installation.
-- Shipped policies come with the extension; edited ones are dumped.

SELECT pg_catalog.pg_extension_config_dump('token_rotation.policy', 'WHERE NOT shipped');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.risk_rule', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.token', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.pending', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.cutoff', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.blocked_client', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.delivery_key', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.delivery', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.audit', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.audit_seal', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.consumer', '');
