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
