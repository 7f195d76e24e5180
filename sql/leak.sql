-- tr_report_leak: a token or rotation key that was found where it should not be.
SET search_path = tr, public;

-- A family of three, and what is reported of it: one that lives or one that has
-- ended, the token itself or a rotation key.  The whole family ends.
CREATE TEMP TABLE line AS
SELECT n, what, policy, a.token AS t0, b.token AS t1, c.token AS t2, a.rotation_key AS k0, c.rotation_key AS k2,
    a.token_id AS id0, c.token_id AS id2
FROM (VALUES (1, 'the first', 'default'), (2, 'the last', 'default'), (3, 'a revoked one', 'default'),
             (4, 'one whose window ended', 'default'), (5, 'the first''s rotation key', 'partner'),
             (6, 'the last one''s rotation key', 'partner'), (7, 'nothing', 'default')) AS w (n, what, policy),
    tr_issue('leak ' || n, policy) a, tr_rotate(a.token, a.rotation_key) b, tr_rotate(b.token, b.rotation_key) c;
SELECT tr_revoke(t0) FROM line WHERE n = 3;
SELECT tr_finish_overlap(id0) FROM line WHERE n = 4;
SELECT what, tr_report_leak(CASE n WHEN 1 THEN t0 WHEN 2 THEN t2 WHEN 3 THEN t0 WHEN 4 THEN t0 WHEN 5 THEN k0 WHEN 6 THEN k2 END,
                            'scanner of ' || what) AS answer
FROM line ORDER BY n;
SELECT what, (tr_validate(t0)).reason AS first, (tr_validate(t1)).reason AS middle, (tr_validate(t2)).reason AS last
FROM line ORDER BY n;
-- Each ended token has its row, and the report has its own, which says where it was found.
SELECT n, event, reason, origin, detail - 'expires_at' - 'policy' AS detail,
    token_ref = sha256(uuid_send(CASE WHEN n IN (2, 6) THEN id2 ELSE id0 END)) AS of_the_reported
FROM token_rotation.audit a JOIN line ON a.client_id = 'leak ' || n
WHERE event IN ('leak', 'revoked') AND n IN (2, 3, 5) ORDER BY seq;

-- Neither can be rotated, nor replayed.
SELECT (tr_rotate(t0)).reason AS first, (tr_rotate(t1)).reason AS middle, (tr_rotate(t2)).reason AS last FROM line WHERE n = 2;

-- Reported again: one more row, and nothing to end.
SELECT tr_report_leak(t0) FROM line WHERE n = 2;
SELECT event, reason, origin, detail FROM token_rotation.audit WHERE client_id = 'leak 2' AND event = 'leak' ORDER BY seq;

-- What is no token of ours gets the same answer, and ends nothing; it is counted.
SELECT tr_report_leak(NULL), tr_report_leak(''), tr_report_leak('x'), tr_report_leak(left(t2, -1)), tr_report_leak(regress.guess(t2)),
    tr_report_leak(regress.token_text('trk', repeat('0', 21) || '1' || regress.secret_of(t2)))
FROM line WHERE n = 7;
SELECT (tr_validate(t0)).reason AS first, (tr_validate(t2)).reason AS last FROM line WHERE n = 7;

-- Another realm's is none of ours.
CREATE ROLE regress_leak_realm NOLOGIN;
CREATE ROLE regress_leak_operator;
SELECT tr_grant('regress_leak_operator', 'operator', 'regress_leak_realm');
SELECT t0 AS foreign FROM line WHERE n = 7 \gset
SET ROLE regress_leak_operator;
SELECT tr_report_leak(:'foreign', 'somewhere');
RESET ROLE;
SELECT (tr_validate(t0)).reason AS first, (tr_validate(t2)).reason AS last FROM line WHERE n = 7;
-- Issuers and validators may not end what they cannot show to be theirs.
CREATE ROLE regress_leak_issuer;
SELECT tr_grant('regress_leak_issuer', 'issuer'), tr_grant('regress_leak_issuer', 'validator');
SET ROLE regress_leak_issuer;
SELECT tr_report_leak('x');
RESET ROLE;

-- The source is masked, and no longer than 255 bytes; where it is refused nothing ends.
SELECT state, message, detail, hint FROM regress.try(format('SELECT tr.tr_report_leak(%L, repeat(%L, 256))',
    (SELECT t0 FROM line WHERE n = 7), 'x'));
SELECT (tr_validate(t0)).reason AS first FROM line WHERE n = 7;
SELECT tr_report_leak(t0, 'commit message ' || t2) FROM line WHERE n = 7;
SELECT origin = 'commit message ' || left(t2, 26) || '_[redacted]' AS masked FROM token_rotation.audit, line
WHERE n = 7 AND client_id = 'leak 7' AND event = 'leak';

-- It is a change like any other: rolled back it was none, and it writes.
SELECT token FROM tr_issue('leak rolled back') \gset
BEGIN;
SELECT tr_report_leak(:'token');
SELECT valid FROM tr_validate(:'token');
ROLLBACK;
SELECT valid FROM tr_validate(:'token');
BEGIN READ ONLY;
SELECT tr_report_leak(:'token');
ROLLBACK;

-- What was counted.
SELECT regress.wait_for($$SELECT count(DISTINCT reason) = 3 FROM token_rotation.audit WHERE event = 'leak_refused'$$);
SELECT DISTINCT reason, client_id, token_ref FROM token_rotation.audit WHERE event = 'leak_refused' ORDER BY 1;
SELECT tr_ungrant('regress_leak_operator', 'operator', 'regress_leak_realm'), tr_ungrant('regress_leak_issuer', 'issuer'),
    tr_ungrant('regress_leak_issuer', 'validator');
DROP ROLE regress_leak_operator, regress_leak_realm, regress_leak_issuer;
DELETE FROM token_rotation.token WHERE client_id LIKE 'leak%';
