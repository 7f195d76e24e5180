-- Policies as a DBA edits them: constraints, the mark "shipped", policies in
-- use, the audit of each change, restore by COPY.
SET search_path = tr, public;
SET intervalstyle = 'sql_standard'; -- the trail must not care
SELECT coalesce(max(seq), 0) AS mark FROM token_rotation.audit \gset
CREATE ROLE regress_policy_dba;
GRANT USAGE ON SCHEMA tr, token_rotation TO regress_policy_dba;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON token_rotation.policy TO regress_policy_dba;

-- What is shipped.
SELECT name, prefix, ttl::text, overlap::text, rotation_proof, shipped
FROM token_rotation.policy ORDER BY name;

-- What a policy cannot be.
\set VERBOSITY terse
INSERT INTO token_rotation.policy (name) VALUES (NULL);
INSERT INTO token_rotation.policy (name) VALUES ('Upper');
INSERT INTO token_rotation.policy (name, prefix) VALUES ('regress_p', 'a_b');
INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window)
VALUES ('regress_p', '999 milliseconds', '0', '0');
INSERT INTO token_rotation.policy (name, ttl) VALUES ('regress_p', '101 years');
INSERT INTO token_rotation.policy (name, ttl, overlap) VALUES ('regress_p', '1 minute', '101 years');
INSERT INTO token_rotation.policy (name, ttl, overlap) VALUES ('regress_p', '1 minute', '-1 second');
INSERT INTO token_rotation.policy (name, rotation_proof) VALUES ('regress_p', 'none');
INSERT INTO token_rotation.policy (name, allowed_scopes) VALUES ('regress_p', '{a,NULL}');
INSERT INTO token_rotation.policy (name, degraded_scopes) VALUES ('regress_p', '{a,NULL}');
\set VERBOSITY default

-- The DBA's edits.  He cannot set the mark; an edit clears it, an update that
-- changes nothing does not.
SET ROLE regress_policy_dba;
INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window, allowed_scopes, shipped)
VALUES ('regress_p', '1 hour', '1 minute', '1 minute', '{read,"say \"hi\""}', true)
RETURNING name, shipped;
UPDATE token_rotation.policy SET shipped = true WHERE name = 'regress_p' RETURNING name, shipped;
UPDATE token_rotation.policy SET ttl = '2 hours', allowed_scopes = NULL, degraded_scopes = '{}' WHERE name = 'regress_p';
UPDATE token_rotation.policy SET name = 'regress_q' WHERE name = 'regress_p' RETURNING name;
BEGIN;
UPDATE token_rotation.policy SET ttl = ttl, prefix = 'trk' WHERE name = 'internal' RETURNING shipped;
UPDATE token_rotation.policy SET prefix = 'int' WHERE name = 'internal' RETURNING shipped;
UPDATE token_rotation.policy SET prefix = 'trk' WHERE name = 'internal' RETURNING shipped;
UPDATE token_rotation.policy SET shipped = false WHERE name = 'partner' RETURNING shipped;
ROLLBACK;
DELETE FROM token_rotation.policy WHERE name = 'regress_q';

-- A scope that looks like a token is masked in the trail, a long list clipped.
INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window, allowed_scopes)
VALUES ('regress_p', '1 second', '0', '0', ARRAY['trk_' || repeat('Ab1', 20)]);
UPDATE token_rotation.policy SET allowed_scopes = array_fill('scope'::text, ARRAY[1000])
WHERE name = 'regress_p';
DELETE FROM token_rotation.policy WHERE name = 'regress_p';
RESET ROLE;
SELECT event, role, client_id, owner, reason,
       CASE WHEN length(detail::text) < 500 THEN detail::text
            ELSE (detail->>'operation') || ': ' || (length(detail::text) < 2500)
       END AS detail
FROM token_rotation.audit WHERE seq > :mark AND event = 'policy_changed' ORDER BY seq;

-- A policy in use can be edited, neither deleted nor renamed.
INSERT INTO token_rotation.policy (name) VALUES ('regress_used'), ('regress_unused');
SELECT token_id FROM tr_issue('regress policy', 'regress_used') \gset
SET ROLE regress_policy_dba;
DELETE FROM token_rotation.policy WHERE name = 'regress_used';
\echo :LAST_ERROR_SQLSTATE
UPDATE token_rotation.policy SET name = 'regress_other' WHERE name = 'regress_used';
\echo :LAST_ERROR_SQLSTATE
DELETE FROM token_rotation.policy WHERE name IN ('regress_unused', 'regress_used');
\echo :LAST_ERROR_SQLSTATE
UPDATE token_rotation.policy SET prefix = 'used' WHERE name = 'regress_used' RETURNING name, prefix;
DELETE FROM token_rotation.policy WHERE name = 'regress_unused' RETURNING name;
TRUNCATE token_rotation.policy;
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;

-- Not even for a replica.
SET session_replication_role = replica;
\set VERBOSITY terse
DELETE FROM token_rotation.policy WHERE name = 'regress_used';
TRUNCATE token_rotation.policy;
\set VERBOSITY default
RESET session_replication_role;

-- Its tokens ended one by one, or all at once by a cutoff.
BEGIN;
SELECT tr_revoke_id(:'token_id');
DELETE FROM token_rotation.policy WHERE name = 'regress_used' RETURNING name;
ROLLBACK;
BEGIN;
SELECT tr_revoke_policy('regress_used') IS NOT NULL AS ended;
DELETE FROM token_rotation.policy WHERE name = 'regress_used' RETURNING name;
ROLLBACK;

-- A block is no end: it can be lifted.
BEGIN;
SELECT tr_block_client('regress policy');
DELETE FROM token_rotation.policy WHERE name = 'regress_used' RETURNING name;
ROLLBACK;

-- Restore: a superuser's COPY brings a row in place of one that is still
-- shipped, with live tokens or without, and leaves no trace in the trail.
SELECT coalesce(max(seq), 0) AS mark FROM token_rotation.audit \gset
BEGIN;
SELECT count(*) FROM tr_issue('regress policy', 'internal');
COPY token_rotation.policy (name, ttl, shipped) FROM stdin;
internal	02:00:00	f
regress_restored	03:00:00	f
\.
SELECT name, ttl::text, shipped FROM token_rotation.policy
WHERE name IN ('internal', 'regress_restored') ORDER BY name;
SELECT event, detail FROM token_rotation.audit WHERE seq > :mark AND event = 'policy_changed';
COPY token_rotation.policy (name, ttl, shipped) FROM stdin;
internal	02:00:00	f
\.
ROLLBACK;
SELECT name, ttl::text, shipped FROM token_rotation.policy WHERE name = 'internal';
-- Not for others, and not by INSERT.
SET ROLE regress_policy_dba;
COPY token_rotation.policy (name, ttl, shipped) FROM stdin;
internal	02:00:00	f
\.
RESET ROLE;
INSERT INTO token_rotation.policy (name) VALUES ('internal');

-- The functions are triggers, and of one table.
CREATE TABLE regress_policy_table ();
CREATE TRIGGER t BEFORE INSERT ON regress_policy_table
    FOR EACH ROW EXECUTE FUNCTION tr_policy_guard();
INSERT INTO regress_policy_table DEFAULT VALUES;
\echo :LAST_ERROR_SQLSTATE
DROP TABLE regress_policy_table;

DELETE FROM token_rotation.token WHERE policy LIKE 'regress%';
DELETE FROM token_rotation.policy WHERE name LIKE 'regress%';
REVOKE ALL ON SCHEMA tr, token_rotation FROM regress_policy_dba;
REVOKE ALL ON token_rotation.policy FROM regress_policy_dba;
DROP ROLE regress_policy_dba;
