-- Tokens for test/bench/redis, and one row for each that its holder may read.
--
--   1 to tokens     may read orders
--   tokens + 1      may only write them
--   tokens + 2      revoked
--
-- A client has about ten of them.  bench.token keeps their texts, and what the
-- design with Redis stores of each.
--
-- psql variable: tokens.

\set ON_ERROR_STOP 1
CREATE SCHEMA tr;
CREATE EXTENSION token_rotation SCHEMA tr CASCADE;
ALTER DATABASE bench SET search_path = bench, tr;
SET search_path = bench, tr;

CREATE ROLE bench LOGIN;
SELECT tr_grant('bench', 'issuer'), tr_grant('bench', 'validator');
CREATE SCHEMA bench;
GRANT USAGE ON SCHEMA bench TO bench;

CREATE TABLE token (n integer PRIMARY KEY, token text NOT NULL, record json NOT NULL);
CREATE PROCEDURE issue(first integer, last integer, scopes text[]) LANGUAGE plpgsql AS $$
BEGIN
    FOR done IN first .. last BY 1000 LOOP
        INSERT INTO bench.token (n, token, record)
        SELECT g, i.token,
               json_build_object('client_id', i.client_id, 'scopes', i.scopes, 'status', i.status,
                                 'expires_at', floor(extract(epoch FROM i.expires_at) * 1000))
        FROM generate_series(done, least(done + 999, last)) g,
             tr_issue('client-' || g % greatest(last / 10, 1), scopes => issue.scopes) i;
        COMMIT;
    END LOOP;
END
$$;
SET token_rotation.realm = bench;
CALL issue(1, :tokens, '{orders:read,orders:write}');
CALL issue(:tokens + 1, :tokens + 1, '{orders:write}');
CALL issue(:tokens + 2, :tokens + 2, '{orders:read}');
SELECT tr_revoke(token) FROM token WHERE n = :tokens + 2;
UPDATE token SET record = json_build_object('status', 'revoked') WHERE n = :tokens + 2;

-- Each has been used before, which the worker has stored, as in an application that
-- has run for a while.
SELECT count(*) FROM token t, tr_validate(t.token) v;
DO $$
BEGIN
    WHILE EXISTS (SELECT FROM token_rotation.token WHERE first_used_at IS NULL AND status = 'active') LOOP
        COMMIT;
        PERFORM pg_sleep(0.1);
    END LOOP;
END
$$;

CREATE TABLE orders (id integer PRIMARY KEY, client_id text NOT NULL, item text NOT NULL, total integer NOT NULL);
INSERT INTO orders
SELECT n, coalesce(record->>'client_id', 'client-0'), 'item ' || n, n % 1000 FROM token;

-- The same rows behind row security.
CREATE TABLE own_orders (LIKE orders INCLUDING ALL);
INSERT INTO own_orders TABLE orders;
ALTER TABLE own_orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON own_orders FOR SELECT
    USING (client_id = (SELECT tr_client()) AND (SELECT tr_has_scope('orders:read')));

GRANT SELECT ON token, orders, own_orders TO bench;
VACUUM ANALYZE;
CHECKPOINT;
