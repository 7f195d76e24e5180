-- What nobody does is told by the worker: moments that pass, each once.
SET search_path = tr, public;
ALTER SYSTEM SET token_rotation.worker_nap = '200ms';
SELECT pg_reload_conf();
CREATE ROLE regress_due;
CREATE FUNCTION pg_temp.told(client text) RETURNS TABLE (event text, reason text) LANGUAGE sql AS $$
    SELECT a.event, a.reason FROM token_rotation.audit a
    WHERE a.client_id = client AND a.event IN ('rotation_due', 'unclaimed', 'expiring') ORDER BY a.at, a.reason DESC
$$;
-- Have the worker come once more, by what it comes for at once, and wait for it.
SELECT token AS asking FROM tr_issue('regress asking') \gset
SELECT tr_revoke(:'asking');
CREATE TEMP TABLE asking AS SELECT :'asking'::text AS token;
CREATE FUNCTION pg_temp.visited() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    visit timestamptz;
BEGIN
    -- one may be going on: the second one has begun later than this
    FOR i IN 1..2 LOOP
        visit := coalesce((SELECT last_visit FROM tr.tr_health()), '-infinity');
        PERFORM tr.tr_rotate(token) FROM pg_temp.asking;
        IF NOT regress.wait_for(format('SELECT last_visit > %L FROM tr.tr_health()', visit)) THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN true;
END $$;
-- Likewise until the trail has this.
CREATE FUNCTION pg_temp.comes(rows bigint, condition text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    deadline timestamptz := clock_timestamp() + '5 minutes';
    found bigint;
BEGIN
    LOOP
        EXECUTE 'SELECT count(*) FROM token_rotation.audit WHERE ' || condition INTO found;
        IF found >= rows OR clock_timestamp() > deadline THEN
            RETURN found = rows;
        END IF;
        PERFORM pg_temp.visited();
    END LOOP;
END $$;

-- A policy's lead times, checked.
INSERT INTO token_rotation.policy (name) VALUES ('regress-check');
SELECT w, regress.answer(format('UPDATE token_rotation.policy SET warn_before = %s WHERE name = ''regress-check'' RETURNING warn_before', w))
FROM (VALUES ('NULL'), ('''{NULL}'''), ('''{0}'''), ('''{-1 day}'''), ('''{101 years}'''), ('''{1 s,2 s,3 s,4 s,5 s,6 s,7 s,8 s,9 s}'''),
    ('''{1 day,24 hours}'''), ('''{}''')) v (w);
INSERT INTO token_rotation.policy (name, ttl, overlap, refresh_before, warn_before) VALUES
    ('regress-due', '24 hours', '10 minutes', '1 second', '{7 days,1 hour,90 minutes,5 minutes}'),
    ('regress-none', '24 hours', '10 minutes', '1 second', '{}');
SELECT pg_temp.visited();
SELECT count(*) FROM token_rotation.told WHERE event = 'expiring';

-- Lives as they would be later: tokens whose moments lie just ahead.
CREATE FUNCTION pg_temp.age(client text, ends interval, refresh interval) RETURNS void LANGUAGE sql AS $$
    UPDATE token_rotation.token t SET issued_at = clock_timestamp() - interval '1 day',
        expires_at = clock_timestamp() + ends, refresh_at = clock_timestamp() + refresh
    WHERE t.client_id = client AND t.rotated_at IS NULL AND t.status = 'active'
$$;
SELECT token AS due FROM tr_issue('regress due', 'regress-due') \gset
SELECT token AS none FROM tr_issue('regress none', 'regress-none') \gset
SELECT token AS early FROM tr_issue('regress early', 'regress-due') \gset
SELECT token AS rotated FROM tr_issue('regress rotated', 'regress-due') \gset
SELECT token AS revoked FROM tr_issue('regress revoked', 'regress-due') \gset
SELECT token AS cut FROM tr_issue('regress cut', 'regress-due') \gset
SELECT token AS past FROM tr_issue('regress past', 'regress-due') \gset
SELECT reason FROM tr_rotate(:'rotated');
SELECT tr_revoke(:'revoked');
SELECT tr_revoke_client('regress cut') IS NOT NULL;
SELECT pg_temp.age(c, '1 hour 1 second', '1 second') FROM unnest('{regress due,regress none,regress cut}'::text[]) c;
SELECT pg_temp.age('regress early', '2 hours', '1 hour');
SELECT pg_temp.age('regress past', '3 minutes', '-1 hour');
UPDATE token_rotation.token SET refresh_at = clock_timestamp() + interval '1 second'
WHERE client_id = 'regress rotated' AND rotated_at IS NOT NULL;
SELECT pg_temp.comes(3, $$client_id IN ('regress due', 'regress none') AND event IN ('rotation_due', 'expiring')$$);
SELECT pg_temp.visited();
SELECT * FROM pg_temp.told('regress due') ORDER BY 1;
SELECT * FROM pg_temp.told('regress none');
SELECT c, t.* FROM unnest('{regress early,regress rotated,regress revoked,regress cut,regress past}'::text[]) c, pg_temp.told(c) t;
SELECT event, owner = current_user AS owner, actor, role, detail - 'ends_at' - 'refresh_at' AS rest,
    coalesce(detail ->> 'ends_at', detail ->> 'refresh_at')::timestamptz < clock_timestamp() + interval '61 minutes' AS moment
FROM token_rotation.audit WHERE client_id = 'regress due' AND event IN ('rotation_due', 'expiring') ORDER BY 1;

-- A window that the server opened, half of which has passed; one that was claimed.
SELECT token AS window FROM tr_issue('regress window', 'regress-due') \gset
SELECT token AS claimed FROM tr_issue('regress claimed', 'regress-due') \gset
SELECT pg_temp.age(c, '1 hour', '-1 second') FROM unnest('{regress window,regress claimed}'::text[]) c;
SELECT sum(started) >= 2 AS started FROM tr_rotate_due('regress-due');
SELECT reason FROM tr_rotate(:'claimed');
SELECT overlap_ends_at > clock_timestamp() + interval '9 minutes' AS long FROM token_rotation.unclaimed WHERE client_id = 'regress window';
SELECT pg_temp.visited();
SELECT * FROM pg_temp.told('regress window') WHERE event <> 'rotation_due';
UPDATE token_rotation.token SET overlap_ends_at = clock_timestamp() + interval '5 minutes 1 second'
WHERE client_id IN ('regress window', 'regress claimed') AND status = 'rotating';
SELECT pg_temp.comes(2, $$client_id = 'regress window' AND event IN ('unclaimed', 'expiring')$$);
SELECT pg_temp.visited();
SELECT * FROM pg_temp.told('regress window') ORDER BY 1;
SELECT * FROM pg_temp.told('regress claimed');

-- A lead time that comes later begins then; one that is taken back is forgotten.
UPDATE token_rotation.policy SET warn_before = '{30 minutes}' WHERE name = 'regress-due';
SELECT regress.wait_for($$SELECT count(*) = 1 AND min(lead) = '30 minutes' FROM token_rotation.told WHERE event = 'expiring'$$);
SELECT pg_temp.age('regress early', '10 minutes', '1 minute');
SELECT pg_temp.visited();
SELECT * FROM pg_temp.told('regress early');
SELECT pg_temp.age('regress early', '30 minutes 1 second', '10 minutes');
SELECT pg_temp.comes(1, $$client_id = 'regress early' AND event = 'expiring'$$);
-- more of one moment than one batch
SELECT count(*) FROM generate_series(1, 450) g, LATERAL tr_issue('regress many ' || g, 'regress-none');
UPDATE token_rotation.token SET refresh_at = m.moment FROM (SELECT clock_timestamp() + interval '1 second' AS moment) m
WHERE client_id LIKE 'regress many%';
SELECT pg_temp.comes(450, $$client_id LIKE 'regress many%' AND event = 'rotation_due'$$);
SELECT pg_temp.visited();
SELECT count(*), count(DISTINCT client_id) FROM token_rotation.audit WHERE client_id LIKE 'regress many%' AND event = 'rotation_due';
-- a mark that lies ahead, because the clock was set back, stays
UPDATE token_rotation.told SET until = clock_timestamp() + interval '1 hour' WHERE event = 'rotation_due';
SELECT pg_temp.age('regress none', '1 hour', '1 millisecond');
SELECT pg_temp.visited();
SELECT until > clock_timestamp() + interval '30 minutes' AS ahead FROM token_rotation.told WHERE event = 'rotation_due';
SELECT * FROM pg_temp.told('regress none');
DELETE FROM token_rotation.told WHERE event = 'rotation_due';
SELECT pg_temp.visited();
SELECT * FROM pg_temp.told('regress none');

-- The list of what expires.
SET token_rotation.realm = regress_due;
SELECT count(*) FROM tr_issue('regress list', 'regress-none') a, tr_issue('regress list', 'default') b;
SELECT r.reason FROM tr_issue('regress list', 'default') i, tr_rotate(i.token) r;
RESET token_rotation.realm;
UPDATE token_rotation.token SET expires_at = clock_timestamp() + interval '30 minutes', refresh_at = issued_at
WHERE owner = 'regress_due' AND policy = 'default' AND rotated_at IS NULL;
SELECT client_id, owner, policy, tokens, first_ends_at <= last_ends_at AS ends FROM token_rotation.expiring('1 hour') WHERE owner = 'regress_due';
SELECT client_id, owner, policy, tokens FROM token_rotation.expiring('100 years') WHERE owner = 'regress_due';
SELECT count(*) FROM token_rotation.expiring(NULL);
SELECT count(*) FROM token_rotation.expiring('-1 hour');
SELECT * FROM regress.try($$SELECT count(*) FROM token_rotation.expiring('178000000 years')$$);
CREATE ROLE regress_looker;
SELECT tr_grant('regress_looker', 'issuer');
SET ROLE regress_looker;
SELECT count(*) FROM token_rotation.expiring('100 years');
RESET ROLE;
SELECT tr_ungrant('regress_looker', 'issuer');
DROP ROLE regress_looker;

DELETE FROM token_rotation.cutoff;
DELETE FROM token_rotation.token WHERE client_id LIKE 'regress%';
DELETE FROM token_rotation.policy WHERE name LIKE 'regress-%';
DROP ROLE regress_due;

ALTER SYSTEM RESET token_rotation.worker_nap;
SELECT pg_reload_conf();
