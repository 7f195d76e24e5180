-- Seals of the audit trail: what they are, who may look at them, what is refused.
SET search_path = tr, public;
ALTER SYSTEM SET token_rotation.worker_nap = '200ms';
SELECT pg_reload_conf();
CREATE ROLE regress_realm;
CREATE ROLE regress_auditor;
CREATE ROLE regress_operator;
CREATE ROLE regress_nobody;
SELECT tr_grant('regress_auditor', 'auditor'), tr_grant('regress_operator', 'operator', 'regress_realm');

-- What happens is sealed a moment later.
SET token_rotation.realm = 'regress_realm';
SELECT token, token_id FROM tr_issue('sealed') \gset a_
RESET token_rotation.realm;
SELECT tr_revoke(:'a_token', 'signed out');
SELECT regress.wait_for($$SELECT unsealed = 0 FROM tr.tr_audit_verify()$$);
SELECT valid, problem, segment, seal, first_bad_seq, seals > 0 AS seals,
       rows = (SELECT count(*) FROM token_rotation.audit) AS rows, pruned, unsealed FROM tr_audit_verify();
SELECT a.event, s.covers = a.segment AS own, s.segment = a.segment AS here, s.complete, s.version, (s.previous IS NULL) = (s.seal = 1) AS linked,
       s.restored, pg_visible_in_snapshot(a.xid, s.snapshot) AS shown, a.seq BETWEEN s.first_seq AND s.last_seq AS within,
       a.at <= s.newest_at AND s.newest_at <= s.at AS older, cardinality(s.seqs) = s.rows AND octet_length(s.row_hashes) = 32 * s.rows AS whole
FROM token_rotation.audit a JOIN token_rotation.audit_seal s ON a.seq = ANY (s.seqs) WHERE a.client_id = 'sealed' ORDER BY a.seq;
SELECT seq = start_value AS installation FROM pg_sequences, LATERAL (SELECT max(segment) AS seq FROM token_rotation.audit) a
WHERE schemaname = 'token_rotation';
-- Each row is in one seal, and no transaction in two.
SELECT count(*) = count(DISTINCT seq) AND count(*) = (SELECT count(*) FROM token_rotation.audit) AS each_in_one
FROM (SELECT unnest(seqs) AS seq FROM token_rotation.audit_seal) x;
-- A row's hash, by the documented format.
CREATE FUNCTION regress.f(bytea) RETURNS bytea LANGUAGE sql AS
    $$ SELECT CASE WHEN $1 IS NULL THEN '\x00' ELSE '\x01' || int4send(octet_length($1)) || $1 END $$;
CREATE FUNCTION regress.t(text) RETURNS bytea LANGUAGE sql AS $$ SELECT regress.f(convert_to($1, 'UTF8')) $$;
SELECT a.event, substr(s.row_hashes, 32 * array_position(s.seqs, a.seq) - 31, 32) = sha256(
    regress.t('token_rotation audit row v1') || regress.f(int8send(seq)) || regress.f(timestamptz_send(a.at)) || regress.t(event)
    || regress.t(client_id) || regress.t(owner) || regress.f(token_ref) || regress.f(successor_ref) || regress.t(actor)
    || regress.t(role) || regress.t(application_name) || regress.t(client_addr::text) || regress.t(origin) || regress.t(reason)
    || regress.t(detail::text) || regress.f(xid8send(xid)) || regress.f(int8send(a.segment))) AS hashed
FROM token_rotation.audit a JOIN token_rotation.audit_seal s ON a.seq = ANY (s.seqs) WHERE a.client_id = 'sealed' ORDER BY a.seq;

-- Heads.
SELECT h.hash = s.hash AS newest, s.seal = (SELECT max(seal) FROM token_rotation.audit_seal) AS last
FROM tr_audit_head() h JOIN token_rotation.audit_seal s USING (segment, seal, at);
SELECT hash AS head FROM tr_audit_head() \gset
SELECT valid, problem FROM tr_audit_verify(:'head');
SELECT valid, problem FROM tr_audit_verify((SELECT hash FROM token_rotation.audit_seal ORDER BY seal LIMIT 1));
SELECT valid, problem, seals > 0 AS seals, unsealed FROM tr_audit_verify(sha256('another trail'));
SELECT * FROM regress.try($$SELECT tr.tr_audit_verify('\x00')$$);
BEGIN READ ONLY;
SELECT valid FROM tr_audit_verify();
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT valid FROM tr_audit_verify();
ROLLBACK;

-- Who may.
SELECT role, regress.answer_as(role, 'SELECT valid FROM tr.tr_audit_verify()') AS verify,
       regress.answer_as(role, 'SELECT seal > 0 FROM tr.tr_audit_head()') AS head,
       regress.answer_as(role, 'SELECT tr.tr_audit_prune(''2001-01-01'')') AS prune,
       regress.answer_as(role, 'SELECT count(*) > 0 FROM token_rotation.audit_seal') AS read,
       regress.answer_as(role, 'DELETE FROM token_rotation.audit_seal') AS delete
FROM unnest('{regress_auditor,regress_operator,regress_nobody,pg_read_all_data,token_rotation_worker}'::text[]) role;
-- With EXECUTE it is still the owner's.
GRANT EXECUTE ON FUNCTION tr_audit_prune TO regress_auditor;
SELECT regress.answer_as('regress_auditor', 'SELECT tr.tr_audit_prune(''2001-01-01'')') AS prune;
REVOKE EXECUTE ON FUNCTION tr_audit_prune FROM regress_auditor;

-- Nobody changes them, whatever he may; a restore brings them by COPY.
CREATE TEMP TABLE tried (n serial, sql text);
INSERT INTO tried (sql) VALUES
    ('UPDATE token_rotation.audit_seal SET at = now()'),
    ('UPDATE token_rotation.audit_seal SET seqs = NULL, row_hashes = NULL'),
    ('DELETE FROM token_rotation.audit_seal'),
    ('TRUNCATE token_rotation.audit_seal'),
    ('INSERT INTO token_rotation.audit_seal SELECT * FROM token_rotation.audit_seal'),
    ('SET LOCAL session_replication_role = replica; DELETE FROM token_rotation.audit_seal'),
    ('SELECT tr.tr_seal_guard()');
SELECT t.n, e.state, e.message FROM tried t, regress.try(t.sql) e ORDER BY t.n;
SET ROLE token_rotation_worker;
SELECT * FROM regress.try('INSERT INTO token_rotation.audit_seal (segment, seal, version, at, complete, rows, list_hash, hash)'
                          ' VALUES (1, 1, 1, now(), true, 0, sha256(''''), sha256(''''))');
RESET ROLE;

-- Pruning: arguments, and what it does.
SELECT x.before, e.state, e.message, e.hint FROM unnest('{NULL,infinity,-infinity,2999-01-01}'::text[]) x (before),
    regress.try(format('SELECT tr.tr_audit_prune(%L)', x.before)) e;
BEGIN READ ONLY;
SELECT * FROM regress.try('SELECT tr.tr_audit_prune(''2001-01-01'')');
ROLLBACK;
SELECT tr_audit_prune('2001-01-01');
BEGIN;
SELECT count(*) AS rows FROM token_rotation.audit \gset
SELECT tr_audit_prune(clock_timestamp()) = :rows AS all_of_them;
SELECT event, owner, client_id, detail - ARRAY['before', 'before_us', 'rows', 'seals'] AS rest,
       (detail ->> 'rows')::bigint = :rows AS rows, (detail ->> 'seals')::bigint > 0 AS seals,
       extract(epoch FROM (detail ->> 'before')::timestamptz - '2000-01-01 00:00:00+00') * 1000000 = (detail ->> 'before_us')::bigint AS moment
FROM token_rotation.audit;
SELECT valid, problem, rows, pruned = :rows AS pruned, unsealed FROM tr_audit_verify(:'head');
SELECT count(seqs) AS lists, count(row_hashes) AS hashes, sum(rows) = :rows AS rows FROM token_rotation.audit_seal;
ROLLBACK;
SELECT valid, problem, rows = :rows AS rows, pruned, unsealed FROM tr_audit_verify(:'head');

DROP FUNCTION regress.f, regress.t;
SELECT tr_ungrant('regress_auditor', 'auditor'), tr_ungrant('regress_operator', 'operator', 'regress_realm');
DELETE FROM token_rotation.token WHERE client_id = 'sealed';
DROP ROLE regress_realm, regress_auditor, regress_operator, regress_nobody;
ALTER SYSTEM RESET token_rotation.worker_nap;
SELECT pg_reload_conf();
