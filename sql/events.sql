-- Events: what is sealed, for consumers, in the order of the seals.
SET search_path = tr, public;
ALTER SYSTEM SET token_rotation.worker_nap = '200ms';
SELECT pg_reload_conf();
CREATE ROLE regress_realm;
CREATE ROLE regress_rival;
CREATE ROLE regress_ops;
CREATE ROLE regress_else;
CREATE ROLE regress_auditor;
SELECT tr_grant('regress_ops', 'operator', 'regress_realm'), tr_grant('regress_else', 'operator', 'regress_rival'),
    tr_grant('regress_auditor', 'auditor');

-- Wait until all that was committed before is sealed.
CREATE FUNCTION pg_temp.sealed() RETURNS boolean LANGUAGE sql AS $$
    SELECT regress.wait_for('SELECT unsealed = 0 FROM tr.tr_audit_verify()')
$$;
SELECT pg_temp.sealed();

-- One that begins now, one that begins with all there is.
SELECT tr_ack('regress-now', tr_events_head()) = tr_events_head() AS now;
SELECT count(*) FROM tr_events('regress-now');
SELECT count(*) > 0 AS all_there_is FROM tr_events('regress-all');

SET token_rotation.realm = regress_realm;
SELECT token AS old, encode(sha256(uuid_send(token_id)), 'hex') AS ref FROM tr_issue('regress events') \gset
SELECT token AS new, encode(sha256(uuid_send(token_id)), 'hex') AS next FROM tr_rotate(:'old', origin => 'there') \gset
SELECT tr_revoke(:'new', 'done');
SET token_rotation.realm = regress_rival;
SELECT count(*) FROM generate_series(1, 3) g, LATERAL tr_issue('regress rival ' || g);
RESET token_rotation.realm;
UPDATE token_rotation.policy SET overlap = overlap WHERE name = 'default';
INSERT INTO token_rotation.policy (name) VALUES ('regress-events');
SELECT pg_temp.sealed();

-- All of it, in order; no secret, no raw id.
SELECT event, client_id, owner, encode(token_ref, 'hex') = :'ref' AS old, encode(successor_ref, 'hex') = :'next' AS new,
    actor = session_user AS actor, role = current_user AS role, origin, reason
FROM tr_events('regress-now') WITH ORDINALITY ORDER BY ordinality;
SELECT bool_and(position > before) AS ascending, count(DISTINCT seq) = count(*) AS each_once
FROM (SELECT position, lag(position, 1, 0::bigint) OVER (ORDER BY ordinality) AS before, seq
      FROM tr_events('regress-now') WITH ORDINALITY) e;
-- Nothing moves but by tr_ack; pages join.
SELECT position AS second FROM tr_events('regress-now', 2) OFFSET 1 \gset
SELECT string_agg(event, ' ') FROM tr_events('regress-now', 2);
SELECT tr_ack('regress-now', :second) = :second;
SELECT string_agg(event, ' ') FROM tr_events('regress-now', 2);
-- It never goes back; the same again is nothing.
SELECT acked_at AS acked FROM token_rotation.consumers WHERE name = 'regress-now' \gset
SELECT tr_ack('regress-now', :second) = :second, tr_ack('regress-now', 0) = :second;
SELECT acked_at = :'acked' AS as_it_was FROM token_rotation.consumers WHERE name = 'regress-now';
SELECT tr_ack('regress-now', tr_events_head() + 1);
\echo :LAST_ERROR_SQLSTATE

-- A read-only transaction reads, and cannot acknowledge.
BEGIN READ ONLY;
SELECT count(*) > 0 AS some FROM tr_events('regress-now');
SAVEPOINT s;
SELECT tr_ack('regress-now', 1);
\echo :LAST_ERROR_SQLSTATE
ROLLBACK;

-- A realm sees its own; what it does not see does not keep it.
GRANT USAGE ON SCHEMA regress TO regress_ops;
SET ROLE regress_ops;
SELECT tr_ack('regress-ops', :second - 2) = :second - 2;
SELECT event, client_id FROM tr_events('regress-ops');
SELECT position AS mine FROM tr_events('regress-ops') ORDER BY 1 DESC LIMIT 1 \gset
SELECT tr_ack('regress-ops', :mine) = :mine;
SELECT count(*) FROM tr_events('regress-ops');
SET token_rotation.realm = regress_ops;
SELECT count(*) FROM tr_events('regress-mine') WHERE client_id = 'regress events';
RESET token_rotation.realm;
SET ROLE regress_else;
SELECT DISTINCT event, client_id FROM tr_events('regress-else', 10000) WHERE event <> 'passed' ORDER BY 2;
-- A consumer is its owner's, and of those who are members of that.
SELECT count(*) FROM tr_events('regress-ops');
\echo :LAST_ERROR_SQLSTATE
SELECT tr_ack('regress-ops', 0);
\echo :LAST_ERROR_SQLSTATE
SELECT name FROM token_rotation.consumers ORDER BY 1;
SELECT * FROM token_rotation.consumer;
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
GRANT regress_ops TO regress_else;
SET ROLE regress_else;
SELECT tr_ack('regress-ops', 0) = :mine;
SELECT name, owner FROM token_rotation.consumers ORDER BY 1;
RESET ROLE;
REVOKE regress_ops FROM regress_else;
-- An auditor sees every realm, and rows of none.
SET ROLE regress_auditor;
SELECT tr_ack('regress-auditor', :second) = :second;
SELECT event, client_id, owner FROM tr_events('regress-auditor') WITH ORDINALITY ORDER BY ordinality;
RESET ROLE;
SELECT name, owner, waiting_since IS NOT NULL AS waiting FROM token_rotation.consumers
WHERE name IN ('regress-ops', 'regress-auditor') ORDER BY 1;
SELECT tr_ack('regress-auditor', tr_events_head()) = tr_events_head();
SELECT name, waiting_since FROM token_rotation.consumers WHERE name = 'regress-auditor';

-- Many rows of others are one row, to be acknowledged.
SELECT tr_ack('regress-auditor', tr_events_head()) AS head \gset
SET ROLE regress_ops;
SELECT tr_ack('regress-passed', :head) = :head;
RESET ROLE;
SET token_rotation.realm = regress_rival;
SELECT count(*) FROM generate_series(1, 1100) g, LATERAL tr_issue('regress rival ' || g);
SET token_rotation.realm = regress_realm;
SELECT count(*) FROM generate_series(1, 3) g, LATERAL tr_issue('regress last ' || g);
SET token_rotation.realm = regress_rival;
SELECT count(*) FROM generate_series(1, 1100) g, LATERAL tr_issue('regress rival ' || g);
RESET token_rotation.realm;
SELECT pg_temp.sealed();
SET ROLE regress_ops;
SELECT count(*) FILTER (WHERE event = 'issued') AS issued, count(*) FILTER (WHERE event = 'passed') AS passed,
    sum((detail ->> 'rows')::int) FILTER (WHERE event = 'passed') AS rows FROM tr_events('regress-passed');
SELECT tr_ack('regress-passed', max(position)) = max(position) FROM tr_events('regress-passed');
SELECT count(*) FROM tr_events('regress-passed');
RESET ROLE;
-- Page by page is the same as at once.
CREATE FUNCTION pg_temp.pages(name text, size int) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    seqs bigint[] := '{}';
    page bigint[];
    upto bigint;
BEGIN
    LOOP
        SELECT array_agg(e.seq), max(e.position) INTO page, upto FROM tr.tr_events(name, size) e;
        EXIT WHEN page IS NULL;
        seqs := seqs || page;
        PERFORM tr.tr_ack(name, upto);
    END LOOP;
    RETURN array_remove(seqs, NULL);
END $$;
SELECT tr_ack('regress-a', :head) = tr_ack('regress-b', :head);
SELECT pg_temp.pages('regress-a', 7) = pg_temp.pages('regress-b', 10000) AS same;

-- Misuse.
SELECT name, regress.answer(format('SELECT count(*) FROM tr.tr_events(%L)', name)),
    regress.answer(format('SELECT tr.tr_ack(%L, 1)', name))
FROM (VALUES (NULL), (''), ('Regress'), ('1regress'), ('regress events'), (repeat('r', 64)), (E'regress\n')) v (name);
SELECT n, regress.answer(format('SELECT count(*) > 0 FROM tr.tr_events(%L, %s)', 'regress-x', n))
FROM (VALUES ('NULL'), ('0'), ('-1'), ('10001'), ('10000')) v (n);
SELECT n, regress.answer(format('SELECT tr.tr_ack(%L, %s)', 'regress-x', n))
FROM (VALUES ('NULL'), ('-1'), ('9223372036854775807'), ('0')) v (n);
SELECT * FROM regress.try($$SELECT tr.tr_ack('Regress', 1)$$);
SELECT * FROM regress.try($$SELECT tr.tr_ack('regress-x', -1)$$);
SELECT * FROM regress.try($$SELECT tr.tr_events('regress-x', 0)$$);
-- one that comes from elsewhere
UPDATE token_rotation.consumer SET position = 9223372036854775807 WHERE name = 'regress-x';
SELECT * FROM regress.try($$SELECT count(*) FROM tr.tr_events('regress-x')$$);

DELETE FROM token_rotation.consumer;
DELETE FROM token_rotation.token WHERE client_id LIKE 'regress%';
DELETE FROM token_rotation.policy WHERE name = 'regress-events';
REVOKE USAGE ON SCHEMA regress FROM regress_ops;
SELECT tr_ungrant('regress_ops', 'operator', 'regress_realm'), tr_ungrant('regress_else', 'operator', 'regress_rival'),
    tr_ungrant('regress_auditor', 'auditor');
DROP ROLE regress_realm, regress_rival, regress_ops, regress_else, regress_auditor;

ALTER SYSTEM RESET token_rotation.worker_nap;
SELECT pg_reload_conf();
