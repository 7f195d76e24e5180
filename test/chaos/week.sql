-- What test/chaos/week runs in the server: clients, and what they do in a step of
-- the clock.  A client knows what a client knows: the tokens that it was given, and
-- the times that came with them.
CREATE SCHEMA week;
CREATE TABLE week.client (
    id integer PRIMARY KEY,
    kind text NOT NULL,
    policy text NOT NULL,
    token text,              -- what it shows
    refresh_at timestamptz,
    valid_until timestamptz,
    old text,                -- shown beside it, by machines that have not got the new one yet
    old_until timestamptz,   -- where a first use opens the window: not earlier
    asked text,              -- a rotation whose answer it has to check or has lost
    act_at timestamptz,      -- when it will do something about its token
    dead_since timestamptz); -- it was refused, as it had to be
CREATE TABLE week.count (what text PRIMARY KEY, n bigint NOT NULL DEFAULT 0);
CREATE TABLE week.wrong (at timestamptz, client integer, kind text, what text);

INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window, refresh_before, rotate_after, overlap_starts) VALUES
    ('week', '24 hours', '1 hour', '1 hour', '4 hours', NULL, 'rotation'),
    ('week_use', '24 hours', '1 hour', '1 hour', '4 hours', NULL, 'first_use'),
    ('week_age', '48 hours', '1 hour', '1 hour', '4 hours', '12 hours', 'rotation');

CREATE FUNCTION week.tally(what text, n bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO week.count AS c VALUES (tally.what, tally.n) ON CONFLICT ON CONSTRAINT count_pkey DO UPDATE SET n = c.n + tally.n
$$;

-- Of a thousand: 400 come when they should, 100 early, 200 late (within the window
-- that the server has opened), 100 ask twice, 100 crash after asking, 100 never come.
CREATE FUNCTION week.kind(id integer) RETURNS text LANGUAGE sql AS $$
    SELECT (ARRAY['prompt', 'prompt', 'prompt', 'prompt', 'early', 'late', 'late', 'twice', 'crash', 'never'])[id % 10 + 1]
$$;

-- When a client will act, given when its token was made and should be refreshed.
CREATE FUNCTION week.plan(kind text, made timestamptz, refresh_at timestamptz, salt integer) RETURNS timestamptz LANGUAGE sql AS $$
    SELECT CASE kind
        WHEN 'early' THEN made + (refresh_at - made) / 2
        WHEN 'late' THEN refresh_at + make_interval(mins => 60 + salt % 120)
        WHEN 'never' THEN 'infinity'
        ELSE refresh_at END
$$;

-- Get a first token.
CREATE FUNCTION week.enrol(from_id integer, to_id integer) RETURNS void LANGUAGE sql AS $$
    INSERT INTO week.client (id, kind, policy, token, refresh_at, valid_until, act_at)
    SELECT c.id, week.kind(c.id), c.policy, t.token, t.refresh_at, t.expires_at,
           week.plan(week.kind(c.id), t.issued_at, t.refresh_at, c.id)
    FROM (SELECT g AS id, (ARRAY['week', 'week_use', 'week_age'])[g / 10 % 3 + 1] AS policy
          FROM generate_series(from_id, to_id) g) c, LATERAL tr_issue('client ' || c.id, c.policy) t
$$;

-- Everything that clients show: what may be refused, and what may not.  What the
-- server has started may have taken a token's time, which its client then learns.
CREATE FUNCTION week.show(part integer, parts integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    n bigint;
    dead bigint;
BEGIN
    WITH shown AS MATERIALIZED (
        SELECT c.id, c.kind, c.token, v.valid, v.reason, v.valid_until
        FROM week.client c, LATERAL tr_validate(c.token) v WHERE c.id % parts = part AND c.dead_since IS NULL),
    learnt AS (
        UPDATE week.client c SET valid_until = s.valid_until, dead_since = CASE WHEN NOT s.valid THEN moment END
        FROM shown s WHERE s.id = c.id),
    refused AS (
        INSERT INTO week.wrong SELECT moment, s.id, s.kind, 'current token: ' || s.reason FROM shown s
        WHERE NOT s.valid AND s.kind <> 'never'),
    outlived AS (
        INSERT INTO week.wrong SELECT moment, s.id, s.kind, 'accepted after its end' FROM shown s
        WHERE s.valid AND s.valid_until <= moment)
    SELECT count(*), count(*) FILTER (WHERE NOT s.valid) INTO n, dead FROM shown s;
    PERFORM week.tally('validations', n), week.tally('clients that ended', dead);

    -- the clock runs: refused is wrong if the end still lies ahead, accepted if it lay behind
    WITH shown AS MATERIALIZED (
        SELECT c.id, c.kind, c.policy, v.valid, v.reason, c.old_until FROM week.client c, LATERAL tr_validate(c.old) v
        WHERE c.id % parts = part AND c.old IS NOT NULL AND c.dead_since IS NULL),
    refused AS (
        INSERT INTO week.wrong SELECT moment, s.id, s.kind, 'old token in its window: ' || s.reason FROM shown s
        WHERE NOT s.valid AND s.old_until > clock_timestamp()),
    outlived AS (
        INSERT INTO week.wrong SELECT moment, s.id, s.kind, 'old token after its window' FROM shown s
        WHERE s.valid AND s.old_until <= moment AND s.policy <> 'week_use'),
    put_away AS (
        UPDATE week.client c SET old = NULL FROM shown s WHERE s.id = c.id AND s.old_until <= moment)
    SELECT count(*) INTO n FROM shown;
    PERFORM week.tally('validations of old tokens', n);
END $$;

-- Who is due rotates.  first_use: the new token is rolled out some time later, and
-- only then the old one has an end that is known.
CREATE FUNCTION week.rotate() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    c record;
    r record;
    again record;
BEGIN
    FOR c IN SELECT * FROM week.client WHERE act_at <= moment AND dead_since IS NULL ORDER BY id LOOP
        SELECT * INTO r FROM tr_rotate(c.token);
        PERFORM week.tally('rotations asked for', 1);
        IF r.token IS NULL THEN
            INSERT INTO week.wrong VALUES (moment, c.id, c.kind, 'rotation: ' || r.reason);
            UPDATE week.client SET act_at = 'infinity' WHERE id = c.id;
        ELSIF c.kind = 'crash' AND c.asked IS NULL THEN
            -- it goes on with what it has, and asks again when it is back
            UPDATE week.client SET asked = r.token, act_at = moment + '40 minutes' WHERE id = c.id;
        ELSE
            IF c.kind = 'crash' AND (r.token <> c.asked OR NOT r.replayed) THEN
                INSERT INTO week.wrong VALUES (moment, c.id, c.kind, 'another answer after a crash');
            END IF;
            IF c.kind = 'twice' THEN
                SELECT * INTO again FROM tr_rotate(c.token);
                PERFORM week.tally('rotations asked for', 1);
                IF again.token IS DISTINCT FROM r.token OR NOT again.replayed THEN
                    INSERT INTO week.wrong VALUES (moment, c.id, c.kind, 'another answer to the same question');
                END IF;
            END IF;
            UPDATE week.client SET token = r.token, refresh_at = r.refresh_at, valid_until = r.expires_at, asked = NULL,
                   old = c.token, old_until = CASE WHEN r.status = 'pending' THEN least(r.previous_valid_until, moment + '1 hour')
                                                   ELSE r.previous_valid_until END,
                   act_at = week.plan(c.kind, r.issued_at, r.refresh_at, c.id + extract(day FROM moment)::integer * 37)
            WHERE id = c.id;
        END IF;
    END LOOP;
END $$;

-- Those who never came are told to enrol anew a day later.
CREATE FUNCTION week.return() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    n bigint;
BEGIN
    WITH back AS (
        UPDATE week.client c SET token = t.token, refresh_at = t.refresh_at, valid_until = t.expires_at, dead_since = NULL, old = NULL
        FROM week.client d, LATERAL tr_issue('client ' || d.id, d.policy) t
        WHERE d.id = c.id AND d.dead_since < moment - '1 day'::interval RETURNING 1)
    SELECT count(*) INTO n FROM back;
    PERFORM week.tally('clients enrolled anew', n);
END $$;

-- Ends that nobody has recorded.
CREATE FUNCTION week.unrecorded() RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM token_rotation.token
    WHERE status IN ('active', 'rotating') AND coalesce(overlap_ends_at, expires_at) <= clock_timestamp()
$$;

-- What the events say of each token.
CREATE TABLE week.told (
    ref bytea PRIMARY KEY,
    status text NOT NULL,
    expires_at timestamptz NOT NULL,
    rotated boolean NOT NULL DEFAULT false,
    overlap_ends_at timestamptz);

CREATE FUNCTION week.replay(e record) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ends timestamptz := e.detail ->> 'overlap_ends_at';
BEGIN
    CASE e.event
        WHEN 'issued' THEN
            INSERT INTO week.told VALUES (e.token_ref, 'active', (e.detail ->> 'expires_at')::timestamptz);
        WHEN 'rotated' THEN
            INSERT INTO week.told VALUES (e.successor_ref, 'active', (e.detail ->> 'expires_at')::timestamptz);
            UPDATE week.told SET status = 'rotating', rotated = true, overlap_ends_at = ends WHERE ref = e.token_ref;
        WHEN 'rotation_started' THEN
            UPDATE week.told SET status = 'rotating', overlap_ends_at = ends WHERE ref = e.token_ref;
        WHEN 'first_used' THEN
            UPDATE week.told SET overlap_ends_at = coalesce(ends, overlap_ends_at) WHERE ref = e.token_ref;
        WHEN 'overlap_ended', 'expired' THEN
            UPDATE week.told SET status = 'expired' WHERE ref = e.token_ref;
        ELSE
            NULL;
    END CASE;
END $$;

CREATE PROCEDURE week.consume() LANGUAGE plpgsql AS $$
DECLARE
    e record;
    last bigint;
BEGIN
    LOOP
        last := NULL;
        FOR e IN SELECT * FROM tr_events('week', 1000) LOOP
            PERFORM week.replay(e);
            PERFORM week.tally('events', 1);
            PERFORM week.tally('event ' || e.event, 1);
            last := e."position";
        END LOOP;
        EXIT WHEN last IS NULL;
        PERFORM tr_ack('week', last);
        COMMIT;
    END LOOP;
END $$;

-- A life that is over is no event: it was told when the token was made.
CREATE FUNCTION week.differences() RETURNS bigint LANGUAGE sql AS $$
    UPDATE week.told SET status = 'expired' WHERE status IN ('active', 'rotating') AND expires_at <= clock_timestamp();
    SELECT count(*) FROM week.told w FULL JOIN (
        SELECT sha256(uuid_send(t.token_id)) AS ref, t.status, t.expires_at, t.rotated_at IS NOT NULL AS rotated, t.overlap_ends_at
        FROM token_rotation.token t) t USING (ref)
    WHERE (w.status, w.expires_at, w.rotated, w.overlap_ends_at) IS DISTINCT FROM (t.status, t.expires_at, t.rotated, t.overlap_ends_at)
$$;
