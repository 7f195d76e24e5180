-- Tokens to measure with: issued by the extension, their texts left in two
-- files that bench.c reads, line n of both standing for the same token.
--
--   1 to tokens     live tokens, for validating
--   1,000 more      unknown: the transaction that issued them rolled back
--   1,000 more      malformed: one character is another
--   pool more       live tokens, for rotating once each
--
-- psql variables: library (bench.c, compiled), datadir, tokens, pool.

\set ON_ERROR_STOP 1
CREATE SCHEMA tr;
CREATE EXTENSION token_rotation SCHEMA tr CASCADE;
ALTER DATABASE bench SET search_path = tr;
SET search_path = tr;

CREATE ROLE bench LOGIN;
SELECT tr_grant('bench', 'issuer'), tr_grant('bench', 'validator');
CREATE SCHEMA bench AUTHORIZATION bench;

CREATE FUNCTION bench.empty(token text) RETURNS boolean
    LANGUAGE c VOLATILE AS :'library', 'bench_empty';
CREATE FUNCTION bench.token(n integer) RETURNS text
    LANGUAGE c STABLE STRICT AS :'library', 'bench_token';
CREATE FUNCTION bench.written_token(n integer) RETURNS text
    LANGUAGE c STABLE STRICT AS :'library', 'bench_written_token';

SET SESSION AUTHORIZATION bench;

-- The written candidates' text of a token: the id in hexadecimal, no checksum.
CREATE FUNCTION bench.written(token text, token_id uuid) RETURNS text LANGUAGE sql
    AS $$ SELECT 'trk_' || replace(token_id::text, '-', '') || substr(token, 27, 43) $$;
CREATE TABLE bench.issued (
    n integer GENERATED ALWAYS AS IDENTITY,
    token text NOT NULL,
    written text NOT NULL
);

CREATE PROCEDURE bench.issue(count integer) LANGUAGE plpgsql AS $$
BEGIN
    FOR done IN 0 .. count - 1 BY 1000 LOOP
        INSERT INTO bench.issued (token, written)
        SELECT i.token, bench.written(i.token, i.token_id)
        FROM generate_series(done, least(done + 1000, count) - 1) g,
             tr_issue('client-' || g % 10000, scopes => '{orders:read,orders:write}',
                      metadata => '{"plan": "gold"}') i;
        COMMIT;
    END LOOP;
END
$$;

CALL bench.issue(:tokens);
DO $$
DECLARE
    unknown bench.issued[];
BEGIN
    BEGIN
        SELECT array_agg((0, i.token, bench.written(i.token, i.token_id))::bench.issued) INTO unknown
        FROM generate_series(1, 1000) g, tr_issue('client-' || g) i;
        RAISE SQLSTATE 'BENCH';
    EXCEPTION WHEN SQLSTATE 'BENCH' THEN
        NULL;
    END;
    INSERT INTO bench.issued (token, written) SELECT u.token, u.written FROM unnest(unknown) u;
END
$$;
INSERT INTO bench.issued (token, written)
    SELECT overlay(i.token PLACING CASE substr(i.token, 40, 1) WHEN '0' THEN '1' ELSE '0' END FROM 40),
           i.written
    FROM bench.issued i ORDER BY n LIMIT 1000;
CALL bench.issue(:pool);
RESET SESSION AUTHORIZATION;

\set token_file :datadir '/bench_tokens'
\set written_file :datadir '/bench_written_tokens'
COPY (SELECT token FROM bench.issued ORDER BY n) TO :'token_file';
COPY (SELECT written FROM bench.issued ORDER BY n) TO :'written_file';
DROP TABLE bench.issued;
