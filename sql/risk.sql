-- Risk rules: what shortens a life, by how much, and what does not.
SET search_path = tr, public;
ALTER SYSTEM SET token_rotation.worker_nap = '200ms';
SELECT pg_reload_conf();
SELECT coalesce(max(seq), 0) AS mark FROM token_rotation.audit \gset
-- Between 110 and 10 minutes a point of the score is a minute.
INSERT INTO token_rotation.policy (name, ttl, min_ttl, overlap, replay_window) VALUES
    ('regress_risk', '110 minutes', '10 minutes', '0', '0');
-- Issue a token: its life, what was explained before, and the risk in the trail.
CREATE FUNCTION regress.life(client text, scopes text[] DEFAULT '{}', metadata jsonb DEFAULT '{}', ttl interval DEFAULT NULL,
                             policy text DEFAULT 'regress_risk', OUT life interval, OUT explained interval, OUT risk text)
    LANGUAGE plpgsql AS $$
DECLARE
    issued record;
BEGIN
    SELECT p.ttl - e.effect INTO explained FROM token_rotation.policy p, tr.tr_explain_ttl(client, policy, scopes, metadata) e
    WHERE p.name = life.policy AND e.kind = 'total';
    SELECT * INTO issued FROM tr.tr_issue(client, policy, scopes, metadata, ttl);
    life := issued.expires_at - issued.issued_at;
    SELECT a.detail ->> 'risk' INTO risk FROM token_rotation.audit a
    WHERE a.event = 'issued' AND a.token_ref = sha256(uuid_send(issued.token_id));
END $$;

-- No rule: the whole ttl.
SELECT * FROM regress.life('risk plain', '{admin:write}');
SELECT * FROM tr_explain_ttl('risk plain', 'regress_risk', '{admin:write}');

-- Scopes: whole, or their beginning; several rules add up, one rule counts once.
INSERT INTO token_rotation.risk_rule (policy, kind, pattern, score) VALUES
    ('regress_risk', 'scope', 'admin:*', 40),
    ('regress_risk', 'scope', 'orders:delete', 15);
SELECT s, l.* FROM unnest('{orders:read,admin,admin:,admin:write,ADMIN:write,orders:delete,orders:deleted}'::text[]) s,
    regress.life('risk scope', ARRAY[s]) l;
SELECT * FROM regress.life('risk scope', '{admin:read,admin:write,orders:read,orders:delete}');
SELECT * FROM regress.life('risk scope');
SELECT * FROM tr_explain_ttl('risk scope', 'regress_risk', '{admin:read,orders:delete}');
-- refresh_at goes by the shorter life.
SELECT refresh_at - issued_at AS refresh_after FROM tr_issue('risk scope', 'regress_risk', '{admin:read,orders:delete}');

-- The classification in the metadata: text, and nothing else.
INSERT INTO token_rotation.risk_rule (policy, kind, pattern, score) VALUES
    ('regress_risk', 'classification', 'secret*', 30),
    ('regress_risk', 'classification', 'pii', 5);
SELECT m, l.* FROM unnest(ARRAY['{"classification": "secret"}', '{"classification": "secret/eu"}', '{"classification": "pii"}',
    '{"classification": "public"}', '{"classification": ""}', '{"classification": ["secret"]}', '{"classification": null}',
    '{"classification": {"secret": "secret"}}', '{"class": "secret"}']::jsonb[]) m, regress.life('risk class', '{}', m) l;

-- The sum ends at 100, and the life at min_ttl.
INSERT INTO token_rotation.risk_rule (policy, kind, pattern, score) VALUES ('regress_risk', 'scope', '*', 45);
SELECT * FROM regress.life('risk sum', '{admin:write,orders:delete}', '{"classification": "secret"}');
SELECT * FROM tr_explain_ttl('risk sum', 'regress_risk', '{admin:write,orders:delete}', '{"classification": "secret"}');
DELETE FROM token_rotation.risk_rule WHERE pattern = '*';

-- Shorter only: who asks for less keeps it, also below min_ttl; max_family_age counts as ever.
SELECT ttl, l.life FROM unnest('{1 minute,15 minutes,55 minutes,100 minutes}'::interval[]) ttl,
    regress.life('risk asked', '{admin:write,orders:delete}', '{}', ttl) l;
BEGIN;
UPDATE token_rotation.policy SET max_family_age = '20 minutes' WHERE name = 'regress_risk';
SELECT life FROM regress.life('risk asked', '{admin:write}');
ROLLBACK;
-- Where the policy lets nothing be shortened, nothing is.
UPDATE token_rotation.policy SET min_ttl = NULL WHERE name = 'regress_risk';
SELECT * FROM regress.life('risk min', '{admin:write}');
SELECT * FROM tr_explain_ttl('risk min', 'regress_risk', '{admin:write}');
UPDATE token_rotation.policy SET min_ttl = '110 minutes' WHERE name = 'regress_risk';
SELECT * FROM regress.life('risk min', '{admin:write}');
UPDATE token_rotation.policy SET min_ttl = '111 minutes' WHERE name = 'regress_risk';
SELECT * FROM regress.life('risk min', '{admin:write}');
UPDATE token_rotation.policy SET min_ttl = '10 minutes' WHERE name = 'regress_risk';

-- A rotation weighs the rules that there are then; a replay hands out what was made.
INSERT INTO token_rotation.policy (name, ttl, min_ttl) VALUES ('regress_replay', '110 minutes', '10 minutes');
SELECT token AS r0, token_id AS r0_id FROM tr_issue('risk rotate', 'regress_replay', '{pay:out}', '{"classification": "pii"}') \gset
INSERT INTO token_rotation.risk_rule (policy, kind, pattern, score) VALUES ('regress_replay', 'scope', 'pay:*', 20);
SELECT token AS r1, expires_at - issued_at AS life, replayed FROM tr_rotate(:'r0') \gset
SELECT :'life' AS life, :'replayed' AS replayed;
UPDATE token_rotation.risk_rule SET score = 50 WHERE policy = 'regress_replay';
SELECT expires_at - issued_at AS life, replayed FROM tr_rotate(:'r0');
SELECT token AS r2, expires_at - issued_at AS life FROM tr_rotate(:'r1') \gset
SELECT :'life' AS life;
INSERT INTO token_rotation.risk_rule (policy, kind, pattern, score) VALUES ('regress_replay', 'classification', 'pii', 10);
SELECT i.expires_at - i.issued_at AS life, reason FROM token_rotation.tokens t, tr_rotate_id(t.token_id) i
WHERE t.client_id = 'risk rotate' AND t.generation = 2;
DELETE FROM token_rotation.risk_rule WHERE policy = 'regress_replay';
SELECT i.expires_at - i.issued_at AS life, reason FROM token_rotation.tokens t, tr_rotate_id(t.token_id) i
WHERE t.client_id = 'risk rotate' AND t.generation = 3;
SELECT event, detail ->> 'policy' AS policy, detail -> 'risk' AS risk FROM token_rotation.audit
WHERE client_id = 'risk rotate' AND event IN ('issued', 'rotated') ORDER BY seq;
-- What a token keeps is what its successor may have now.
UPDATE token_rotation.policy SET allowed_scopes = '{orders:read}' WHERE name = 'regress_replay';
INSERT INTO token_rotation.risk_rule (policy, kind, pattern, score) VALUES ('regress_replay', 'scope', 'pay:*', 20);
SELECT i.expires_at - i.issued_at AS life, i.scopes FROM token_rotation.tokens t, tr_rotate_id(t.token_id) i
WHERE t.client_id = 'risk rotate' AND t.generation = 4;

-- History: refusals whose secret matched.
DELETE FROM token_rotation.risk_rule WHERE policy = 'regress_risk';
INSERT INTO token_rotation.risk_rule (policy, kind, pattern, score, at_least) VALUES
    ('regress_risk', 'history', 'refusals', 30, 3),
    ('regress_risk', 'history', 'reuse', 60, 1);
SELECT token AS late, token_id AS late_id FROM tr_issue('risk late', 'regress_risk') \gset
SELECT tr_revoke_id(:'late_id');
-- A flood of guesses, junk, an operator's own tries and what a wrong rotation key gets count nothing.
SELECT count(r), min(r.reason) FROM generate_series(1, 100) g, tr_rotate(regress.guess(:'late'), origin => g::text) r;
SELECT count(r), min(r.reason) FROM generate_series(1, 100) g, tr_validate(regress.guess(:'late'), g::text) r;
SELECT count(r), min(r.reason) FROM generate_series(1, 5) g, tr_rotate_id(:'late_id', g * '1 second'::interval) r;
INSERT INTO token_rotation.policy (name, rotation_proof) VALUES ('regress_risk_key', 'rotation_key');
SELECT token AS keyed, rotation_key AS key FROM tr_issue('risk late', 'regress_risk_key') \gset
SELECT count(r), min(r.reason) FROM generate_series(1, 5) g, tr_rotate(:'keyed', regress.guess(:'key'), origin => g::text) r;
SELECT regress.wait_for($$SELECT count(*) = 10 FROM token_rotation.audit WHERE client_id = 'risk late' AND event = 'rotation_refused'$$);
SELECT * FROM tr_explain_ttl('risk late', 'regress_risk');
-- What the holder got does: three times, not two.
SELECT count(r), min(r.reason) FROM generate_series(1, 2) g, tr_rotate(:'late', origin => g::text) r;
SELECT regress.wait_for($$SELECT count(*) = 12 FROM token_rotation.audit WHERE client_id = 'risk late' AND event = 'rotation_refused'$$);
SELECT * FROM regress.life('risk late');
SELECT reason FROM tr_rotate(:'keyed');
SELECT regress.wait_for($$SELECT count(*) = 13 FROM token_rotation.audit WHERE client_id = 'risk late' AND event = 'rotation_refused'$$);
SELECT * FROM regress.life('risk late');
-- Of others nothing.
SELECT * FROM regress.life('risk other');
-- Within the time that the rule looks back only.
UPDATE token_rotation.risk_rule SET within = '1 second' WHERE pattern = 'refusals';
SELECT regress.wait_until(max(at) + '1.1 seconds') FROM token_rotation.audit WHERE client_id = 'risk late' AND event = 'rotation_refused';
SELECT * FROM regress.life('risk late');
UPDATE token_rotation.risk_rule SET within = '100 years' WHERE pattern = 'refusals';
SELECT * FROM regress.life('risk late');

-- History: reuse, and leaks that were reported.
SELECT a.token AS u0, b.token AS u1 FROM tr_issue('risk reuse', 'regress_risk') a, tr_rotate(a.token) b \gset
SELECT valid FROM tr_validate(:'u1');
SELECT * FROM regress.life('risk reuse');
SELECT reason FROM tr_rotate(:'u0');
SELECT * FROM regress.life('risk reuse');
SELECT token AS leaked FROM tr_issue('risk leak', 'regress_risk') \gset
SELECT tr_report_leak(regress.guess(:'leaked'));
SELECT * FROM regress.life('risk leak');
SELECT tr_report_leak(:'leaked');
SELECT * FROM regress.life('risk leak');
-- One of a rotation that was rolled back is none.
SELECT token AS undone FROM tr_issue('risk undone', 'regress_risk') \gset
BEGIN;
SELECT token AS undone_next FROM tr_rotate(:'undone') \gset
SELECT valid FROM tr_validate(:'undone_next');
SELECT reason FROM tr_rotate(:'undone');
ROLLBACK;
SELECT regress.wait_for($$SELECT count(*) = 1 FROM token_rotation.audit WHERE client_id = 'risk undone' AND event = 'reuse'$$);
SELECT reason FROM token_rotation.audit WHERE client_id = 'risk undone' AND event = 'reuse';
SELECT * FROM regress.life('risk undone');

-- History: dormancy, of who had a token before and has used none since.
DELETE FROM token_rotation.risk_rule WHERE policy = 'regress_risk';
INSERT INTO token_rotation.risk_rule (policy, kind, pattern, score, within) VALUES
    ('regress_risk', 'history', 'dormancy', 25, '1 day');
SELECT * FROM regress.life('risk sleeper');
SELECT * FROM regress.life('risk sleeper');
UPDATE token_rotation.token SET issued_at = issued_at - '2 days'::interval WHERE client_id = 'risk sleeper';
SELECT * FROM regress.life('risk sleeper');
UPDATE token_rotation.token SET last_used_at = clock_timestamp() - '25 hours'::interval WHERE client_id = 'risk sleeper';
SELECT * FROM regress.life('risk sleeper');
UPDATE token_rotation.token SET last_used_at = clock_timestamp() - '23 hours'::interval
WHERE token_id = (SELECT token_id FROM token_rotation.token WHERE client_id = 'risk sleeper' ORDER BY issued_at LIMIT 1);
SELECT * FROM regress.life('risk sleeper');
-- A use counts at once, before the worker has stored it, and where only the cache has
-- it: the durable row is brought up to date once an hour.
UPDATE token_rotation.risk_rule SET within = '30 minutes' WHERE pattern = 'dormancy';
SELECT token AS awake, token_id AS awake_id FROM tr_issue('risk waker', 'regress_risk') \gset
UPDATE token_rotation.token SET issued_at = issued_at - '2 days'::interval, first_used_at = clock_timestamp() - '45 minutes'::interval,
    last_used_at = clock_timestamp() - '45 minutes'::interval WHERE token_id = :'awake_id';
SELECT regress.wait_for(format($$SELECT last_used_at IS NOT NULL FROM token_rotation.token_cache WHERE token_id = %L$$, :'awake_id'));
SELECT * FROM regress.life('risk waker');
SELECT valid FROM tr_validate(:'awake');
SELECT * FROM regress.life('risk waker');
SELECT regress.wait_for(format($$SELECT last_used_at > clock_timestamp() - '30 minutes'::interval FROM token_rotation.token_cache WHERE token_id = %L$$, :'awake_id'));
SELECT last_used_at < clock_timestamp() - '40 minutes'::interval AS older FROM token_rotation.token WHERE token_id = :'awake_id';
SELECT * FROM regress.life('risk waker');

-- Realms: what a client of this name has done elsewhere counts nothing here.
CREATE ROLE regress_risk_realm;
CREATE ROLE regress_risk_issuer;
SELECT tr_grant('regress_risk_issuer', 'issuer', 'regress_risk_realm');
INSERT INTO token_rotation.risk_rule (policy, kind, pattern, score) VALUES
    ('regress_risk', 'history', 'refusals', 30), ('regress_risk', 'history', 'reuse', 40);
SET ROLE regress_risk_issuer;
SET token_rotation.realm = regress_risk_realm;
SELECT c, e.matched, e.score, e.effect FROM unnest('{risk late,risk reuse,risk leak,risk undone,risk sleeper}'::text[]) c,
    tr_explain_ttl(c, 'regress_risk') e WHERE e.kind = 'total';
SELECT client_id, expires_at - issued_at AS life FROM tr_issue('risk late', 'regress_risk');
RESET token_rotation.realm;
RESET ROLE;
SELECT c, e.matched, e.score, e.effect FROM unnest('{risk late,risk reuse,risk leak,risk undone,risk sleeper}'::text[]) c,
    tr_explain_ttl(c, 'regress_risk') e WHERE e.kind = 'total';

-- Switched off nothing is shortened, and the explanation says so; on again it is.
SELECT * FROM regress.life('risk reuse');
ALTER SYSTEM SET token_rotation.risk_enabled = off;
SELECT pg_reload_conf();
\set wait 'SELECT format(''SELECT pg_sleep(%s) WHERE current_setting(%L) IS DISTINCT FROM %L'', 0.01 * i, ''token_rotation.risk_enabled'', :''value'') FROM generate_series(1, 240) i'
\set value off
\set ECHO none
\o /dev/null
:wait \gexec
\o
\set ECHO all
SELECT * FROM regress.life('risk reuse');
SELECT * FROM tr_explain_ttl('risk reuse', 'regress_risk');
ALTER SYSTEM RESET token_rotation.risk_enabled;
SELECT pg_reload_conf();
\set value on
\set ECHO none
\o /dev/null
:wait \gexec
\o
\set ECHO all
SELECT * FROM regress.life('risk reuse');

-- What a rule cannot be.
CREATE FUNCTION regress.rule(policy text, kind text, pattern text, rest text DEFAULT '1', columns text DEFAULT 'score',
                             OUT state text, OUT message text)
    LANGUAGE sql AS $$
    SELECT t.state, t.message FROM regress.try(format('INSERT INTO token_rotation.risk_rule (policy, kind, pattern, %s) VALUES (%L, %L, %L, %s)',
        columns, policy, kind, pattern, rest)) t
$$;
SELECT n, r.* FROM (VALUES
    (1, 'regress_no_policy', 'scope', 'a', '1', 'score'), (2, '', 'scope', 'a', '1', 'score'), (3, NULL, 'scope', 'a', '1', 'score'),
    (4, 'regress_risk', 'risk', 'a', '1', 'score'), (5, 'regress_risk', NULL, 'a', '1', 'score'),
    (6, 'regress_risk', 'scope', NULL, '1', 'score'), (7, 'regress_risk', 'scope', '', '1', 'score'),
    (8, 'regress_risk', 'scope', 'a*b', '1', 'score'), (9, 'regress_risk', 'scope', '**', '1', 'score'),
    (10, 'regress_risk', 'classification', '*a', '1', 'score'), (11, 'regress_risk', 'scope', repeat('a', 256), '1', 'score'),
    (12, 'regress_risk', 'classification', repeat('ü', 500000), '1', 'score'),
    (13, 'regress_risk', 'scope', 'trk_' || repeat('Ab1', 20), '1', 'score'),
    (14, 'regress_risk', 'history', 'refusal', '1', 'score'), (15, 'regress_risk', 'history', '*', '1', 'score'),
    (16, 'regress_risk', 'scope', 'a', '0', 'score'), (17, 'regress_risk', 'scope', 'a', '101', 'score'),
    (18, 'regress_risk', 'scope', 'a', 'NULL', 'score'), (19, 'regress_risk', 'history', 'dormancy', $$1, '0'$$, 'score, within'),
    (20, 'regress_risk', 'history', 'dormancy', $$1, '101 years'$$, 'score, within'),
    (21, 'regress_risk', 'history', 'dormancy', '1, 0', 'score, at_least'),
    (22, 'regress_risk', 'history', 'dormancy', '1, 1001', 'score, at_least'),
    (23, 'regress_risk', 'history', 'refusals', '1', 'score'), (24, 'regress_risk', 'scope', 'a b', '1', 'score'),
    (25, 'regress_risk', 'scope', 'ü*', '1', 'score'), (26, 'regress_risk', 'classification', 'für uns *', '1', 'score')) v (n, policy, kind, pattern, rest, columns),
    regress.rule(policy, kind, pattern, rest, columns) r ORDER BY n;
\x on
SELECT * FROM regress.try($$INSERT INTO token_rotation.risk_rule VALUES ('regress_no_policy', 'scope', 'a', 1)$$);
SELECT * FROM regress.try($$UPDATE token_rotation.risk_rule SET policy = 'regress_no_policy'$$);
SELECT * FROM regress.try($$UPDATE token_rotation.risk_rule SET pattern = 'a*b*', kind = 'scope'$$);
SELECT * FROM regress.try($$INSERT INTO token_rotation.risk_rule VALUES ('regress_risk', 'history', 'leaks', 1)$$);
SELECT * FROM regress.try($$TRUNCATE token_rotation.risk_rule$$);
SELECT state, message FROM regress.try($$UPDATE token_rotation.policy SET min_ttl = '0' WHERE name = 'regress_risk'$$);
SELECT state, message FROM regress.try($$UPDATE token_rotation.policy SET min_ttl = '101 years' WHERE name = 'regress_risk'$$);
SELECT state, message FROM regress.try($$SELECT tr.tr_risk_rule_guard()$$);
\x off
SET session_replication_role = replica;
SELECT state, message FROM regress.try($$TRUNCATE token_rotation.risk_rule$$);
SELECT r.* FROM regress.rule('regress_no_policy', 'scope', 'a') r;
RESET session_replication_role;

-- What cannot be explained cannot be issued either.
SELECT n, i.state = e.state AND i.message = e.message AS same, e.state, e.message FROM (VALUES
    (1, $$NULL$$), (2, $$''$$), (3, $$repeat('a', 256)$$), (4, $$'trk_' || repeat('Ab1', 20)$$), (5, $$'risk', NULL$$),
    (6, $$'risk', 'regress_none'$$), (7, $$'risk', ''$$), (8, $$'risk', 'default', NULL$$), (9, $$'risk', 'default', '{NULL}'$$),
    (10, $$'risk', 'default', '{a,a}'$$), (11, $$'risk', 'default', '{"a b"}'$$), (12, $$'risk', 'default', '{}', NULL$$),
    (13, $$'risk', 'default', '{}', '[]'$$), (14, $$'risk', 'default', '{}', jsonb_build_object('a', repeat('a', 5000))$$),
    (15, $$'risk', 'regress_replay', '{pay:out}'$$)) v (n, args),
    regress.try('SELECT * FROM tr.tr_issue(' || args || ')') i, regress.try('SELECT * FROM tr.tr_explain_ttl(' || args || ')') e ORDER BY n;
SET token_rotation.realm = 'regress_no_realm';
SELECT state, message FROM regress.try($$SELECT * FROM tr.tr_explain_ttl('risk')$$);
RESET token_rotation.realm;
-- Explaining writes nothing.
BEGIN READ ONLY;
SELECT count(*) FROM tr_explain_ttl('risk late', 'regress_risk');
ROLLBACK;
SET ROLE regress_risk_issuer;
SELECT state, message FROM regress.try('TABLE token_rotation.risk_rule');
RESET ROLE;

-- A policy with rules keeps its name; those of another one are nothing to it.
INSERT INTO token_rotation.policy (name) VALUES ('regress_ruled'), ('regress_unruled');
INSERT INTO token_rotation.risk_rule (policy, kind, pattern, score) VALUES ('regress_ruled', 'scope', 'a', 1);
\x on
SELECT * FROM regress.try($$DELETE FROM token_rotation.policy WHERE name = 'regress_ruled'$$);
SELECT * FROM regress.try($$UPDATE token_rotation.policy SET name = 'regress_renamed' WHERE name = 'regress_ruled'$$);
\x off
UPDATE token_rotation.policy SET ttl = '1 hour' WHERE name = 'regress_ruled';
DELETE FROM token_rotation.policy WHERE name = 'regress_unruled';
UPDATE token_rotation.risk_rule SET policy = 'regress_risk_key' WHERE policy = 'regress_ruled';
DELETE FROM token_rotation.policy WHERE name = 'regress_ruled';

-- A restore brings rules and policies in either order, and writes nothing of its own.
BEGIN;
SELECT count(*) AS before FROM token_rotation.audit \gset
COPY token_rotation.risk_rule (policy, kind, pattern, score, within, at_least) FROM stdin;
regress_later	scope	a	10	30 days	1
internal	history	refusals	50	7 days	10
\.
COPY token_rotation.policy (name, ttl, min_ttl) FROM stdin;
regress_later	01:00:00	00:10:00
internal	02:00:00	\N
\.
SELECT p.name, p.ttl, p.min_ttl, r.pattern, r.score, r.within, r.at_least FROM token_rotation.policy p
JOIN token_rotation.risk_rule r ON r.policy = p.name WHERE p.name IN ('regress_later', 'internal') ORDER BY 1;
SELECT count(*) = :before AS silent FROM token_rotation.audit;
SELECT effect FROM tr_explain_ttl('risk', 'regress_later', '{a}') WHERE kind = 'total';
ROLLBACK;
COPY token_rotation.risk_rule (policy, kind, pattern, score) FROM stdin;
regress_later	scope	a*b	10
\.

-- Who edits is in the trail, with what was before; a style of intervals is not.
CREATE ROLE regress_risk_dba;
GRANT USAGE ON SCHEMA token_rotation TO regress_risk_dba;
GRANT SELECT, INSERT, UPDATE, DELETE ON token_rotation.risk_rule TO regress_risk_dba;
SET intervalstyle = 'sql_standard';
SET ROLE regress_risk_dba;
INSERT INTO token_rotation.risk_rule (policy, kind, pattern, score) VALUES ('default', 'classification', 'say "hi"', 7);
UPDATE token_rotation.risk_rule SET score = 8, within = '90 minutes' WHERE policy = 'default';
UPDATE token_rotation.risk_rule SET score = 8 WHERE policy = 'default';
DELETE FROM token_rotation.risk_rule WHERE policy = 'default';
RESET ROLE;
RESET intervalstyle;
SELECT role, owner, client_id, detail FROM token_rotation.audit WHERE seq > :mark AND event = 'risk_rule_changed' AND role = 'regress_risk_dba' ORDER BY seq;
SELECT detail ->> 'operation' AS operation, count(*) FROM token_rotation.audit WHERE seq > :mark AND event = 'risk_rule_changed' GROUP BY 1 ORDER BY 1;

DELETE FROM token_rotation.risk_rule;
DELETE FROM token_rotation.token WHERE client_id LIKE 'risk%';
DELETE FROM token_rotation.policy WHERE name LIKE 'regress%';
SELECT tr_ungrant('regress_risk_issuer', 'issuer', 'regress_risk_realm');
DROP OWNED BY regress_risk_dba;
DROP ROLE regress_risk_realm, regress_risk_issuer, regress_risk_dba;
DROP FUNCTION regress.life, regress.rule;
ALTER SYSTEM RESET token_rotation.worker_nap;
SELECT pg_reload_conf();
