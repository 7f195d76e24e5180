-- The overlap window: how long it is, how it is managed, how it ends.
SET search_path = tr, public;
INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window)
VALUES ('regress_all', '1 hour', '1 hour', '1 minute'),
       ('regress_window', '20 seconds', '0.5 seconds', '0'),
       ('regress_tiny', '1 second', '1 second', '1 second');

-- Its length: the policy's, at most the token's own expiry.
SELECT p.name, r.previous_valid_until - r.issued_at = p.overlap AS as_in_policy,
       r.previous_valid_until = i.expires_at AS to_expiry,
       (tr_validate(i.token)).reason AS old, (tr_validate(r.token)).reason AS new
FROM token_rotation.policy p, tr_issue('overlap length', p.name) i, tr_rotate(i.token, i.rotation_key) r
WHERE p.name IN ('default', 'partner', 'low_latency', 'regress_all') ORDER BY p.name;
SELECT t.policy, t.status, t.overlap_ends_at - t.rotated_at AS overlap, t.overlap_ends_at = t.expires_at AS to_expiry
FROM token_rotation.token t WHERE client_id = 'overlap length' AND generation = 0 AND policy <> 'regress_all' ORDER BY 1;
-- A token with little life left: clamped.
SELECT i.expires_at - i.issued_at AS life, r.reason, r.previous_valid_until = i.expires_at AS to_expiry
FROM tr_issue('overlap clamped', ttl => '2 minutes') i, tr_rotate(i.token) r;
-- A holder may shorten it, to nothing.
SELECT asked.overlap, r.reason, r.previous_valid_until - r.issued_at AS got, v.reason AS old
FROM unnest(ARRAY['5 minutes', '4 minutes 59 seconds', '0']::interval[]) AS asked (overlap),
    tr_issue('overlap shorter ' || asked.overlap) i, tr_rotate(i.token, NULL, asked.overlap) r, tr_validate(i.token) v
ORDER BY 1 DESC;
-- But not lengthen it, which an operator may, also not past the expiry.
SELECT token, token_id FROM tr_issue('overlap longer') \gset
\x on
SELECT * FROM regress.try(format('SELECT tr.tr_rotate(%L, overlap => %L)', :'token', '5 minutes 1 microsecond'));
SELECT * FROM regress.try(format('SELECT tr.tr_rotate_id(%L, %L)', :'token_id', '24 hours'));
\x off
SELECT valid, status FROM tr_validate(:'token');
SELECT r.reason, r.previous_valid_until - r.issued_at AS got FROM tr_rotate_id(:'token_id', '23 hours') r;
SELECT r.reason, r.previous_valid_until - r.issued_at AS got
FROM tr_issue('overlap longer') i, tr_rotate_id(i.token_id, '0') r;
SELECT r.reason, r.previous_valid_until - r.issued_at AS got
FROM tr_issue('overlap longer') i, tr_rotate_id(i.token_id) r;
-- A holder's explicit one past the expiry is an error, too; the policy's own is not.
SELECT token FROM tr_issue('overlap expiry', ttl => '1 minute') \gset
SELECT state, message, detail FROM regress.try(format('SELECT tr.tr_rotate(%L, overlap => %L)', :'token', '2 minutes'));
SELECT reason FROM tr_rotate(:'token');

-- Lengthen an open one.
SELECT token, token_id, expires_at FROM tr_issue('overlap extend') \gset
SELECT tr_extend_overlap(:'token_id', '1 hour');
SELECT previous_valid_until AS old_end FROM tr_rotate(:'token') \gset
SELECT tr_extend_overlap(:'token_id', '1 hour') - :'old_end'::timestamptz AS longer;
SELECT tr_extend_overlap(:'token_id', '0') - :'old_end'::timestamptz AS longer;
SELECT valid_until - :'old_end'::timestamptz AS longer FROM tr_validate(:'token');
SELECT overlap_ends_at - :'old_end'::timestamptz AS longer FROM token_rotation.tokens WHERE token_id = :'token_id';
SELECT overlap_ends_at - :'old_end'::timestamptz AS longer FROM token_rotation.token_cache WHERE token_id = :'token_id';
\x on
SELECT * FROM regress.try(format('SELECT tr.tr_extend_overlap(%L, %L)', :'token_id', '23 hours'));
\x off
SELECT tr_extend_overlap(:'token_id', :'expires_at'::timestamptz - :'old_end' - interval '1 hour') = :'expires_at' AS to_expiry;
SELECT tr_extend_overlap(:'token_id', '0') = :'expires_at' AS to_expiry;
SELECT state FROM regress.try(format('SELECT tr.tr_extend_overlap(%L, %L)', :'token_id', '1 microsecond'));
-- It is no way to make a token live again, nor one that has no window.
SELECT i.token, i.token_id FROM tr_issue('overlap zero', 'low_latency') i, tr_rotate(i.token) r \gset
SELECT tr_extend_overlap(:'token_id', '1 minute'), tr_finish_overlap(:'token_id'), tr_cancel_rotation(:'token_id');
SELECT reason FROM tr_validate(:'token');
SELECT i.token, i.token_id FROM tr_issue('overlap revoked') i, tr_rotate(i.token) r, tr_revoke(i.token) \gset
SELECT tr_extend_overlap(:'token_id', '1 minute'), tr_finish_overlap(:'token_id'), tr_cancel_rotation(:'token_id');
SELECT i.token, i.token_id FROM tr_issue('overlap cut') i, tr_rotate(i.token) r \gset
SELECT tr_revoke_client('overlap cut') IS NOT NULL AS cut;
SELECT tr_extend_overlap(:'token_id', '1 minute'), tr_finish_overlap(:'token_id'), tr_cancel_rotation(:'token_id');
SELECT token_id FROM tr_issue('overlap active') \gset
SELECT tr_extend_overlap(:'token_id', '1 minute'), tr_finish_overlap(:'token_id'), tr_cancel_rotation(:'token_id');
SELECT tr_extend_overlap(gen_random_uuid(), '1 minute'), tr_finish_overlap(gen_random_uuid()),
       tr_cancel_rotation(gen_random_uuid());

-- End an open one now.
SELECT token, token_id FROM tr_issue('overlap finish') \gset
SELECT token AS new_token, previous_valid_until AS old_end FROM tr_rotate(:'token') \gset
SELECT tr_finish_overlap(:'token_id');
SELECT reason, status, valid_until < :'old_end' AS earlier FROM tr_validate(:'token');
SELECT reason FROM tr_validate(:'new_token');
SELECT status, overlap_ends_at < :'old_end' AND overlap_ends_at >= rotated_at AS earlier
FROM token_rotation.tokens WHERE token_id = :'token_id';
SELECT tr_finish_overlap(:'token_id');
SELECT tr_extend_overlap(:'token_id', '1 minute'), tr_cancel_rotation(:'token_id');

-- Take the rotation back, as long as nobody has used the successor.
SELECT token, token_id FROM tr_issue('overlap cancel') \gset
SELECT token AS new_token, token_id AS new_token_id FROM tr_rotate(:'token') \gset
SELECT tr_cancel_rotation(:'token_id');
SELECT reason, status, valid_until - (SELECT issued_at FROM token_rotation.tokens WHERE token_id = :'token_id') AS life
FROM tr_validate(:'token');
SELECT reason FROM tr_validate(:'new_token');
SELECT generation, status, predecessor_id, num_nonnulls(rotated_at, overlap_ends_at, replay_ends_at) AS times, revoked_reason
FROM token_rotation.tokens WHERE client_id = 'overlap cancel' ORDER BY 1;
SELECT nonce IS NULL AS no_nonce FROM token_rotation.token_cache WHERE token_id = :'token_id';
SELECT tr_cancel_rotation(:'token_id');
-- Then it rotates again, to another successor of the same generation.
SELECT token AS newer_token, token_id AS newer_token_id, replayed, reason FROM tr_rotate(:'token') \gset
SELECT :'reason' AS reason, :'replayed' AS replayed, :'newer_token' <> :'new_token' AS other, :'newer_token_id' <> :'new_token_id' AS other_id;
SELECT generation, status, predecessor_id = :'token_id' AS successor
FROM token_rotation.tokens WHERE client_id = 'overlap cancel' ORDER BY 1, 2;
SELECT reason FROM tr_validate(:'newer_token');
\x on
SELECT * FROM regress.try(format('SELECT tr.tr_cancel_rotation(%L)', :'token_id'));
\x off
SELECT (tr_validate(:'token')).reason AS old, (tr_validate(:'newer_token')).reason AS new;
-- Used is also what has rotated on, or was revoked, or what the worker has noted.
SELECT i.token_id FROM tr_issue('overlap used') i, tr_rotate(i.token) r, tr_rotate(r.token) \gset
SELECT state FROM regress.try(format('SELECT tr.tr_cancel_rotation(%L)', :'token_id'));
SELECT i.token_id FROM tr_issue('overlap used') i, tr_rotate(i.token) r, tr_revoke(r.token) \gset
SELECT state FROM regress.try(format('SELECT tr.tr_cancel_rotation(%L)', :'token_id'));
SELECT i.token_id, r.token_id AS new_token_id FROM tr_issue('overlap used') i, tr_rotate(i.token) r, tr_validate(r.token) \gset
SELECT regress.wait_for(format('SELECT first_used_at IS NOT NULL FROM token_rotation.tokens WHERE token_id = %L', :'new_token_id'));
SELECT state FROM regress.try(format('SELECT tr.tr_cancel_rotation(%L)', :'token_id'));
-- Lost the answer of a rotation by id: cancel, again.
SELECT i.token, i.token_id FROM tr_issue('overlap by id') i, tr_rotate_id(i.token_id) r \gset
SELECT reason FROM tr_rotate_id(:'token_id');
SELECT tr_cancel_rotation(:'token_id');
SELECT reason, replayed FROM tr_rotate_id(:'token_id');

-- It ends by itself, the leeway of a tenth of the life included, and that is
-- recorded once, by whoever comes first: the worker or a sweep.
SELECT token, token_id FROM tr_issue('overlap end', 'regress_window') \gset
SELECT token AS new_token, previous_valid_until AS end FROM tr_rotate(:'token') \gset
SELECT * FROM regress.watch(:'token', :'end'::timestamptz + interval '2 seconds');
SELECT tr_sweep() >= 0 AS swept;
SELECT regress.wait_for(format($$SELECT status = 'expired' FROM token_rotation.token WHERE token_id = %L$$, :'token_id'));
SELECT count(*) FROM token_rotation.audit WHERE client_id = 'overlap end' AND event = 'overlap_ended';
SELECT status, overlap_ends_at = :'end' AS end_kept FROM token_rotation.tokens WHERE token_id = :'token_id';
SELECT count(*) AS cached FROM token_rotation.token_cache WHERE token_id = :'token_id';
SELECT reason, status, valid_until = :'end' AS end_right FROM tr_validate(:'token');
SELECT reason FROM tr_rotate(:'token');
SELECT tr_extend_overlap(:'token_id', '1 second'), tr_finish_overlap(:'token_id'), tr_cancel_rotation(:'token_id');
-- Expiry by itself leaves no row in the trail; nothing rotates any more.
SELECT token, token_id, expires_at FROM tr_issue('overlap expiry', 'regress_tiny') \gset
SELECT * FROM regress.watch(:'token', :'expires_at'::timestamptz + interval '0.1 seconds');
SELECT reason FROM tr_rotate(:'token');
SELECT reason FROM tr_rotate_id(:'token_id');
SELECT tr_sweep() >= 0 AS swept;
SELECT regress.wait_for(format($$SELECT status = 'expired' FROM token_rotation.token WHERE token_id = %L$$, :'token_id'));
SELECT reason, status FROM tr_validate(:'token');
SELECT reason FROM tr_rotate(:'token');
SELECT event FROM token_rotation.audit WHERE token_ref = sha256(uuid_send(:'token_id')) AND event NOT LIKE '%refused';

-- A sweep records what is due, oldest first, as many as asked, of the caller's realms.
CREATE ROLE regress_sweeper;
CREATE ROLE regress_other;
SELECT tr_grant('regress_sweeper', 'operator');
BEGIN;
SET LOCAL token_rotation.realm = 'regress_sweeper';
SELECT count(*) FROM generate_series(1, 3) g, tr_issue('overlap sweep ' || g);
SELECT count(*) FROM generate_series(4, 6) g, tr_issue('overlap sweep ' || g) i, tr_rotate(i.token);
SET LOCAL token_rotation.realm = 'regress_other';
SELECT count(*) FROM tr_issue('overlap sweep other');
SET LOCAL token_rotation.realm = '';
-- (a day passes: nobody sees it before the rollback)
UPDATE token_rotation.token SET issued_at = issued_at - interval '1 day', expires_at = expires_at - interval '1 day' - g * interval '1 minute',
    refresh_at = refresh_at - interval '1 day' - g * interval '1 minute'
FROM generate_series(1, 3) g WHERE client_id = 'overlap sweep ' || g OR client_id = 'overlap sweep other';
UPDATE token_rotation.token SET issued_at = issued_at - interval '1 hour', rotated_at = rotated_at - interval '1 hour',
    overlap_ends_at = overlap_ends_at - interval '1 hour', replay_ends_at = replay_ends_at - interval '1 hour'
WHERE client_id LIKE 'overlap sweep%' AND status = 'rotating';
SET LOCAL ROLE regress_sweeper;
SELECT tr_sweep(2);
SELECT client_id, generation, status FROM token_rotation.tokens WHERE client_id LIKE 'overlap sweep%' ORDER BY 1, 2;
RESET ROLE;
SELECT client_id, generation, status FROM token_rotation.token WHERE client_id LIKE 'overlap sweep%' ORDER BY 1, 2;
SET LOCAL ROLE regress_sweeper;
SELECT tr_sweep();
SELECT tr_sweep();
RESET ROLE;
SELECT client_id, generation, status FROM token_rotation.token WHERE client_id LIKE 'overlap sweep%' ORDER BY 1, 2;
SELECT client_id, event, owner, role FROM token_rotation.audit WHERE client_id LIKE 'overlap sweep%' AND role = 'regress_sweeper' ORDER BY seq;
ROLLBACK;
SELECT tr_ungrant('regress_sweeper', 'operator');
DROP ROLE regress_sweeper, regress_other;

-- The trail of all this.
SELECT regress.wait_for($$SELECT count(*) = 5 FROM token_rotation.audit
                          WHERE client_id LIKE 'overlap%' AND event = 'overlap_ended'$$);
SELECT client_id, event, count(*), count(successor_ref) AS with_successor
FROM token_rotation.audit
WHERE client_id LIKE 'overlap%' AND event NOT IN ('issued', 'rotated', 'revoked', 'cutoff') AND event NOT LIKE 'replayed%' AND event NOT LIKE '%refused'
GROUP BY 1, 2 ORDER BY 1, 2;
SELECT detail->>'overlap_ends_at' IS NOT NULL AS has_end, (detail->>'overlap_ends_at')::timestamptz > at AS later
FROM token_rotation.audit WHERE client_id = 'overlap extend' AND event = 'overlap_extended' ORDER BY seq;

DELETE FROM token_rotation.cutoff WHERE subject LIKE 'overlap%';
DELETE FROM token_rotation.token WHERE client_id LIKE 'overlap%';
DELETE FROM token_rotation.policy WHERE name LIKE 'regress%';
