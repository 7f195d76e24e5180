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
