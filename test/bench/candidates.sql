-- What a careful developer would write without the extension, over tables of
-- the same shape and with the same rows.
--
-- Why this is fair: the tables are LIKE the extension's, with all their
-- indexes and constraints.  Both sides find a token by the same key, compare
-- the same SHA-256, weigh status, times, leeway, cutoffs and blocks, and
-- return the same columns; a rotation writes the same rows.  Where they
-- differ, it favours what is written here: token texts carry the id in
-- hexadecimal, which a cast reads, and no checksum; no realm is asked for, no
-- usage counted, nothing compared in constant time or wiped; a rotation reads
-- no cutoffs and takes no lock on the family; and the functions trust their
-- caller with the tables, where SECURITY DEFINER with a pinned search_path
-- would cost more.  No cutoff and no block is set, as in ordinary times.
--
-- psql variable: tokens.

\set ON_ERROR_STOP 1
SET search_path = tr;

CREATE TABLE bench.policy (LIKE token_rotation.policy INCLUDING ALL);
CREATE TABLE bench.token (LIKE token_rotation.token INCLUDING ALL) WITH (fillfactor = 85);
CREATE UNLOGGED TABLE bench.token_cache (LIKE token_rotation.token_cache INCLUDING ALL) WITH (fillfactor = 70);
CREATE TABLE bench.cutoff (LIKE token_rotation.cutoff INCLUDING ALL);
CREATE TABLE bench.blocked_client (LIKE token_rotation.blocked_client INCLUDING ALL);
CREATE TABLE bench.audit (LIKE token_rotation.audit INCLUDING ALL);
INSERT INTO bench.policy TABLE token_rotation.policy;
INSERT INTO bench.token TABLE token_rotation.token;
INSERT INTO bench.token_cache SELECT * FROM token_rotation.token_cache WHERE status IS NOT NULL;
INSERT INTO bench.cutoff TABLE token_rotation.cutoff;
INSERT INTO bench.blocked_client TABLE token_rotation.blocked_client;
INSERT INTO bench.audit TABLE token_rotation.audit;
CREATE TABLE bench.client (n integer PRIMARY KEY, client_id text NOT NULL);
INSERT INTO bench.client SELECT n, 'client-' || n FROM generate_series(1, :tokens) n;
CREATE SEQUENCE bench.audit_seq;
SELECT setval('bench.audit_seq', max(seq)) FROM bench.audit;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA bench TO bench;
GRANT USAGE ON SEQUENCE bench.audit_seq TO bench;

-- PL/pgSQL and pgcrypto.  One statement brings all that the verdict needs
-- straight into the answer: of several ways to write it, the fastest found.
CREATE FUNCTION bench.plpgsql_validate(
    text_of_token text, origin text DEFAULT NULL,
    OUT valid boolean, OUT reason text, OUT token_id uuid, OUT client_id text,
    OUT owner text, OUT policy text, OUT scopes text[], OUT metadata jsonb,
    OUT status text, OUT valid_until timestamptz, OUT refresh_at timestamptz)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    hash bytea;
    issued timestamptz;
    expires timestamptz;
    overlap_ends timestamptz;
    cut boolean;
    blocked boolean;
    moment timestamptz;
    leeway interval;
BEGIN
    valid := false;
    IF length(text_of_token) <> 79 THEN
        reason := 'malformed';
        RETURN;
    END IF;

    SELECT c.token_id, c.secret_hash, c.client_id, c.owner, c.policy, c.scopes, c.metadata, c.status,
           c.issued_at, c.expires_at, c.overlap_ends_at, c.refresh_at,
           EXISTS (SELECT FROM bench.cutoff x
                   WHERE (x.kind = 'all' OR x.kind = 'client' AND x.subject = c.client_id
                          OR x.kind = 'policy' AND x.subject = c.policy)
                     AND x.owner IN ('', c.owner) AND x.before > c.issued_at),
           EXISTS (SELECT FROM bench.blocked_client b
                   WHERE b.client_id = c.client_id AND b.owner IN ('', c.owner))
    INTO token_id, hash, client_id, owner, policy, scopes, metadata, status,
         issued, expires, overlap_ends, refresh_at, cut, blocked
    FROM bench.token_cache c
    WHERE c.token_id = substr(text_of_token, 5, 32)::uuid;
    IF NOT FOUND THEN
        reason := 'unknown';
        RETURN;
    END IF;

    moment := clock_timestamp();
    leeway := least(interval '30 seconds', (expires - issued) / 10);
    valid_until := least(overlap_ends, expires);
    reason := CASE
        WHEN hash <> digest(substr(text_of_token, 37), 'sha256') THEN 'bad_secret'
        WHEN status NOT IN ('active', 'rotating') THEN status
        WHEN cut THEN 'cutoff'
        WHEN blocked THEN 'blocked'
        WHEN issued > moment + leeway THEN 'not_yet_valid'
        WHEN expires + leeway <= moment THEN 'expired'
        WHEN overlap_ends + leeway <= moment THEN 'overlap_ended'
        ELSE 'ok'
    END;
    valid := reason = 'ok';
    IF NOT valid THEN
        client_id := NULL;
        owner := NULL;
        policy := NULL;
        scopes := NULL;
        metadata := NULL;
        refresh_at := NULL;
    END IF;
END
$$;

-- The same as one SQL statement, with the server's own sha256.
CREATE FUNCTION bench.sql_validate(
    text_of_token text, origin text DEFAULT NULL,
    OUT valid boolean, OUT reason text, OUT token_id uuid, OUT client_id text,
    OUT owner text, OUT policy text, OUT scopes text[], OUT metadata jsonb,
    OUT status text, OUT valid_until timestamptz, OUT refresh_at timestamptz)
LANGUAGE sql VOLATILE AS $$
    SELECT v.reason = 'ok', v.reason, v.token_id,
           CASE v.reason WHEN 'ok' THEN v.client_id END,
           CASE v.reason WHEN 'ok' THEN v.owner END,
           CASE v.reason WHEN 'ok' THEN v.policy END,
           CASE v.reason WHEN 'ok' THEN v.scopes END,
           CASE v.reason WHEN 'ok' THEN v.metadata END,
           v.status, least(v.overlap_ends_at, v.expires_at),
           CASE v.reason WHEN 'ok' THEN v.refresh_at END
    FROM (
        SELECT t.*,
               CASE
                   WHEN t.id IS NULL THEN 'malformed'
                   WHEN t.token_id IS NULL THEN 'unknown'
                   WHEN t.secret_hash <> sha256(substr($1, 37)::bytea) THEN 'bad_secret'
                   WHEN t.status NOT IN ('active', 'rotating') THEN t.status
                   WHEN EXISTS (SELECT FROM bench.cutoff x
                                WHERE (x.kind = 'all' OR x.kind = 'client' AND x.subject = t.client_id
                                       OR x.kind = 'policy' AND x.subject = t.policy)
                                  AND x.owner IN ('', t.owner) AND x.before > t.issued_at) THEN 'cutoff'
                   WHEN EXISTS (SELECT FROM bench.blocked_client b
                                WHERE b.client_id = t.client_id AND b.owner IN ('', t.owner)) THEN 'blocked'
                   WHEN t.issued_at > t.moment + t.leeway THEN 'not_yet_valid'
                   WHEN t.expires_at + t.leeway <= t.moment THEN 'expired'
                   WHEN t.overlap_ends_at + t.leeway <= t.moment THEN 'overlap_ended'
                   ELSE 'ok'
               END AS reason
        FROM (SELECT c.*, p.*, least(interval '30 seconds', (c.expires_at - c.issued_at) / 10) AS leeway
              FROM (SELECT CASE WHEN length($1) = 79 THEN substr($1, 5, 32)::uuid END AS id,
                           clock_timestamp() AS moment) p
              LEFT JOIN bench.token_cache c ON c.token_id = p.id) t
        OFFSET 0 -- or the planner repeats the verdict for each column
    ) v
$$;

-- A rotation: one UPDATE and two INSERTs into WAL-logged tables, one UPDATE
-- and one INSERT into the UNLOGGED one, in one call.
CREATE FUNCTION bench.plpgsql_rotate(
    text_of_token text,
    OUT token text, OUT rotation_key text, OUT token_id uuid, OUT family_id uuid,
    OUT client_id text, OUT owner text, OUT status text, OUT scopes text[],
    OUT metadata jsonb, OUT issued_at timestamptz, OUT expires_at timestamptz,
    OUT refresh_at timestamptz, OUT previous_token_id uuid,
    OUT previous_valid_until timestamptz, OUT replayed boolean, OUT reason text)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    moment CONSTANT timestamptz := clock_timestamp();
    secret CONSTANT text := substr(text_of_token, 37);
    new_nonce CONSTANT bytea := gen_random_bytes(32);
    new_secret text;
    new_hash bytea;
    t record;
BEGIN
    UPDATE bench.token o
    SET status = 'rotating', rotated_at = moment,
        overlap_ends_at = least(moment + p.overlap, o.expires_at),
        replay_ends_at = least(moment + p.replay_window, o.expires_at)
    FROM bench.policy p
    WHERE o.token_id = substr(text_of_token, 5, 32)::uuid AND o.secret_hash = digest(secret, 'sha256')
      AND o.status = 'active' AND o.expires_at > moment AND p.name = o.policy
    RETURNING o.*, p.prefix AS new_prefix, p.ttl AS new_ttl, p.refresh_before INTO t;
    IF NOT FOUND THEN
        reason := 'refused';
        RETURN;
    END IF;

    token_id := gen_random_uuid();
    new_secret := encode(hmac(new_nonce || uuid_send(t.token_id) || uuid_send(token_id), secret::bytea, 'sha256'), 'hex');
    new_hash := digest(new_secret, 'sha256');
    token := t.new_prefix || '_' || replace(token_id::text, '-', '') || new_secret;
    family_id := t.family_id;
    client_id := t.client_id;
    owner := t.owner;
    status := 'active';
    scopes := t.scopes;
    metadata := t.metadata;
    issued_at := moment;
    expires_at := moment + t.new_ttl;
    refresh_at := expires_at - least(t.refresh_before, t.new_ttl / 4);
    previous_token_id := t.token_id;
    previous_valid_until := t.overlap_ends_at;
    replayed := false;
    reason := 'ok';

    INSERT INTO bench.token (token_id, prefix, family_id, generation, predecessor_id, client_id, policy, owner,
                             status, secret_hash, scopes, metadata, issued_at, expires_at, refresh_at)
    VALUES (plpgsql_rotate.token_id, t.new_prefix, t.family_id, t.generation + 1, t.token_id, t.client_id, t.policy, t.owner,
            'active', new_hash, t.scopes, t.metadata, moment, plpgsql_rotate.expires_at, plpgsql_rotate.refresh_at);
    UPDATE bench.token_cache c
    SET status = 'rotating', rotated_at = moment, overlap_ends_at = t.overlap_ends_at,
        replay_ends_at = t.replay_ends_at, nonce = new_nonce
    WHERE c.token_id = t.token_id;
    INSERT INTO bench.token_cache (token_id, status, secret_hash, client_id, policy, owner, scopes, metadata,
                                   issued_at, expires_at, refresh_at)
    VALUES (plpgsql_rotate.token_id, 'active', new_hash, t.client_id, t.policy, t.owner, t.scopes, t.metadata,
            moment, plpgsql_rotate.expires_at, plpgsql_rotate.refresh_at);
    INSERT INTO bench.audit (seq, at, event, client_id, owner, token_ref, successor_ref, actor, role,
                             application_name, client_addr, xid)
    VALUES (nextval('bench.audit_seq'), moment, 'rotated', t.client_id, t.owner,
            sha256(uuid_send(t.token_id)), sha256(uuid_send(plpgsql_rotate.token_id)), session_user, current_user,
            current_setting('application_name'), inet_client_addr(), pg_current_xact_id());
END
$$;

VACUUM ANALYZE;
