-- Do all candidates answer alike, and right?  Timing means nothing otherwise.
--
-- psql variable: tokens.

\set ON_ERROR_STOP 1
SELECT set_config('bench.tokens', :'tokens', false);
DO $$
DECLARE
    tokens CONSTANT integer := current_setting('bench.tokens');
    bad record;
BEGIN
    SELECT * INTO bad
    FROM generate_series(1, tokens + 2000, greatest(tokens / 5000, 1)) n,
         tr_validate(bench.token(n)) t,
         bench.plpgsql_validate(bench.written_token(n)) p,
         bench.sql_validate(bench.written_token(n)) s
    WHERE t.reason <> CASE WHEN n <= tokens THEN 'ok' WHEN n <= tokens + 1000 THEN 'unknown' ELSE 'malformed' END
       OR n <= tokens + 1000 AND (t.reason IS DISTINCT FROM p.reason OR t.reason IS DISTINCT FROM s.reason)
       OR n <= tokens AND (t::text IS DISTINCT FROM p::text OR t::text IS DISTINCT FROM s::text)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the candidates differ' USING DETAIL = bad::text;
    END IF;
END
$$;
