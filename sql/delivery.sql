-- Sealed delivery: successors that the server makes wait, encrypted, for holders
-- who cannot come.  That they can be decrypted is shown with GnuPG, in 084_sealed.pl.
SET search_path = tr, public;
-- The worker only looks at a template: here it erases nothing by itself.
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I IS_TEMPLATE true', current_database());
END $$;
SELECT regress.wait_for($$SELECT pg_stat_clear_snapshot() IS NOT NULL AND NOT EXISTS (SELECT FROM pg_stat_activity
    WHERE backend_type = 'token_rotation worker' AND datname = current_database())$$);
-- Public keys that were made for this test; their private halves are gone.
CREATE TABLE regress.pgp (name text, armor text);
INSERT INTO regress.pgp VALUES ('one', '-----BEGIN PGP PUBLIC KEY BLOCK-----

mQENBGsHjMQBCACpee2I9hXVSJeiBuAboSZg549r8eTRBJkrNsmP0b82X2VdQ2Ad
iiuYF+rvSEQLaRaCyR+S4Rx5onrm9JkQagocHunTxGn8ftUGSHKHTdWPGtkKGfk3
cCpNdMW+y2JG4x93wlcRxfhnLIzXKNGqw4/VoFn+/nuVhF53VDOkIhuG/3Ohvu2z
yKlkeepRqdCrTwp/bbmPqvkjgE6YEJTsYkh499dubeIxXBGc2tPk7nlQ7NB2IBmo
dif+ymCDJHRya+YP0g85KibvyoRT1yPk4G2sXxRf7/znYuzn8NLEafDrxWX9M58e
aFdRz/yR3DhS6SnyDwxgxZnA1lu7kUpLkLTdABEBAAG0GnRlc3Qgb25lIDxvbmVA
ZXhhbXBsZS5jb20+iQFOBBMBCgA4FiEEFohhDsfmoOQzdqHuyhfTF4sHcx0FAmsH
jMQCGwMFCwkIBwIGFQoJCAsCBBYCAwECHgECF4AACgkQyhfTF4sHcx1oTgf+L6mh
sSAox6z8i0ua3Af3hui2Qh4B8NMyHpJKlbDdTEId9rklNTc5B/p6r1VsEbg+ZpYN
nbPo3czvqFp2I3WQQFF2UAGpzvtglLMwSzTAKzBSi6+q1zvHJGGf4zlMUqqnzrtd
bT6PTJ8DOD4acSNUxme4VrEt1Ed6beRFUPY/KzYvfn9rMTNtRMgNiiyae+HU0w34
cE+t5pfBs5FYuSZUGgafiAhtmeroyofd4EKOVG+olrbyfRdrmRIc/M3kN7XYXWLw
fkBVp9bxfnZEQhiu/uPmdrVALDv7Z9BPNBFPRyilBHE/bGYNrFAKiCP3aNLLbLk2
3jEsimQDIoXZN0QJnrkBDQRrB4zFAQgAs4P9DCq6OwO2jFx9m+lCQtUjYAzBrwTF
QY04e7p2W91CalXr+9HdiXyCDW/xXc6k1B1vdleI4tR0KFnOS4yDBS8njnBWBsod
otpOPNR4PtUxVBbGpIGVwubGPGkU1TyIMqcaucQ/YXal0C5OYX+1AslpOcLcIrZ1
lrUffa/+i61hTmgGvMTC0kMV4yKZgGIbssP2JXe2Lz4LSkTIGoYrQp9JDI20Cz/r
d4a8JEw6Bf3txUQXGVBpR+vxu56msMkRgbjRumKdNvtVl4PMZEvLWmjVCmjcVZFn
TS9SO7AiD8JeV+tTKjJbM6vf2sUYJSecNHVBsv7K72QawydcjNIBMwARAQABiQE2
BBgBCgAgFiEEFohhDsfmoOQzdqHuyhfTF4sHcx0FAmsHjMUCGwwACgkQyhfTF4sH
cx1cmwf7BmOhSykQ+GT4ceUvCyYlXa7TnomDzfTB2sYIqmZPaNF20WSlp7rZvo7f
Ae0829WmExfLTmzlC3ZRD0zlqZLEl/9vLtGRxdhU4Fgg5Ul0NUIW+ynQgmojL8ny
ih1QMTiM99EuKiJJp+JykoqvISWJYkFjazAG2Gbs0RvH0RAc1QLu398fRwHlxFOi
LEJQdh9KW9twkKYNV/IP52ZBJ9O4ce/n5plmsaigzgEnr0CK9EN99wpvyzF12IFK
5u9nl9WQBl/CFVC6RaoTmBXoCnYfciHdfqxQnhbfeWRyBcp8Smv4BaFOL9FFNlyK
9lGsAlni+J9+F1cNK6BlT5H80hDmpQ==
=re4N
-----END PGP PUBLIC KEY BLOCK-----'), ('two', '-----BEGIN PGP PUBLIC KEY BLOCK-----

mQENBGsHjQwBCAC8vXdbcv0FeKfL7RcBhZYygf4culY1DJ3xTYBbhoee7yKlbWWa
6YDQRqw7YP2e7OJ5a8C5Uoh1vAX94ujFl1mxAFq+ccFGujmZR/7yzKTdqagVLl8G
9Uh2X3TgTazPQpsehW78GMP91vHqWSPSsXL/hdpfaiqA2fMaitg6ldy0+6VUFKCP
PPbHafY4afOJ5edv61BHuF1QOW7Vs3wCn1jzPOiUmEE3SpXuHNmuFLvhkkbZ8XXp
+abBz7raXn/0BnZHiPy9gAwj65CoFJHUO7wv8IgwFOVcOJ3t8j4p2++o0/XlHiST
oFH2WHk7nzhKSorrVXiAx7NzmjLglwvuReYVABEBAAG0GHNlY29uZCA8dHdvQGV4
YW1wbGUuY29tPokBTgQTAQoAOBYhBLp42nrN7yHyDa5WdysPqHcSUNJBBQJrB40M
AhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4BAheAAAoJECsPqHcSUNJBt6gIAKOsa1pF
DciKTDEsjE7J1XQNhQ6H5tk3ep9igdymNG7ewP8S7HRIinBxVrybWJUXPjXq8GwR
c7lq9qugWjFKVxSrdxW6o0C2HO3/pK3ozsDIjB4fNu6RV5phJNK3/UXw4p2/IzJ0
Q+SC1RFPdjmIxtOK6NDH+JP3eSa6Gis2gPWdZ7ezyflMv3uXaVi6xXDlzgtXfaH6
6CV0WiLQ8muD5QPiKjbwEsz7ZIvW0NyRzrlo3MJhr1O9V5RRv+KAS2ObAF+i/gnX
TUetYMLXZt8U8orqNqnm2PbJLytVwbti1nrLsc84Qqzsj4QwJ3adupuLNYgalbUQ
bUv0OeDt9UMrDvG5AQ0EaweNDAEIANhf+sQ80Q5bmsZ+GdZNNslq7P9BKi4kiDuo
EKKO93RlYhtx0MyaHzdLVOFl2VI/j6dEjgIk46OKe9lFe1UPB+yQPx+wBLx9g6e7
BHOW5KbN5/b5Tw162NVI8B8m6rDDzgQlHaR/M3t8siido7leXokPFdXkIrAksIiT
GT62I0JG1boIQMtXfdSP+Sk8B8iFxJ1R0kNoV2MdSXsAfVMQ+u2oCy96eJFomCg0
ywcFe35MRDZ6dx2EwNxUXkw9s5HumDDiqv1+HQehlrLpqKI4ZmXlL1bhLoEo+YPM
igbhuFFRCAZ7mUQF/U6pT8nTnyTyI7/5WZYnETEZK/K9w/c1VV0AEQEAAYkBNgQY
AQoAIBYhBLp42nrN7yHyDa5WdysPqHcSUNJBBQJrB40MAhsMAAoJECsPqHcSUNJB
yB8IAIMZhTmQUaGNlkwHTfwCdyX4O1iPZvEhEXD3Kq0edRWrhGi59WjmqndA6lu9
PZBTkwNIhwJ4zRUMiqprFKsjCV07FFQJ74UqvsnGOBnMBZANGWXKClr+7yjVgl5N
exQa90AynKlkXqMcDHVaYWebyWFgv97aZOTX8hoiqqsmAJVSzdgpxGac0Eepvuz+
2DnP7wl7oVZ1iV0k2IrFfPTn1xnIwfV+hJdic/bLvskpZ7GgUaJktqILJeR8bFF4
B68LVtlM0MscJVqUSSNIu5vsjWVgN92NnWRU7+vOz+xMeq2OYkKsXjM2lgdNX4H6
4uKsx+LJYdLbrvnjU3l649vpD44=
=f4DK
-----END PGP PUBLIC KEY BLOCK-----'), ('curve', '-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEaweMxRYJKwYBBAHaRw8BAQdAUyy638BKdQujW+kuUSaJHuca0duUNCHH1zf2
p9y9Bdu0AmVkiJAEExYIADgWIQQS54qvXQXJHnCKWHuzvJ7pGx71WgUCaweMxQIb
AwULCQgHAgYVCgkICwIEFgIDAQIeAQIXgAAKCRCzvJ7pGx71WgSkAPwMxAHU9Git
77F01Tkn5l7flmufwOD39fZCTGOjC2RYhQEAzC8JdCFa8/gaf8isBIH369u96QTO
6i0tpjaKQAGLkQS4OARrB4zFEgorBgEEAZdVAQUBAQdA9D/NCpLNgvJR5nA1GkAo
HUsL5noBZpm/dD7hyXDIeTsDAQgHiHgEGBYIACAWIQQS54qvXQXJHnCKWHuzvJ7p
Gx71WgUCaweMxQIbDAAKCRCzvJ7pGx71WshlAQDv5S92BtZmg/Muhq0Pe1AYvvap
AqfU9++wf3e+oSK/DwD9Ffx6r4ss05MmB3B1GEIDgHnr0QM+xzNDDLJo1T2ilQ0=
=H/hC
-----END PGP PUBLIC KEY BLOCK-----');
GRANT SELECT ON regress.pgp TO PUBLIC;
CREATE FUNCTION regress.pgp(of text) RETURNS text LANGUAGE sql AS $$ SELECT armor FROM regress.pgp WHERE name = of $$;
INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window, refresh_before, delivery) VALUES
    ('regress_sealed', '1 hour', '5 minutes', '5 minutes', '10 minutes', 'sealed');
INSERT INTO token_rotation.policy (name, ttl, refresh_before, rotation_proof, delivery) VALUES
    ('regress_sealed_key', '30 minutes', '1 minute', 'rotation_key', 'sealed');
SELECT regress.answer($$INSERT INTO token_rotation.policy (name, delivery) VALUES ('regress_odd', 'pigeon')$$);
-- A token that should be rotated.
CREATE FUNCTION regress.due_sealed(client text, policy text DEFAULT 'regress_sealed', OUT token text, OUT token_id uuid)
    LANGUAGE plpgsql AS $$
BEGIN
    SELECT i.token, i.token_id INTO token, token_id FROM tr.tr_issue(client, policy) i;
    UPDATE token_rotation.token t SET issued_at = t.issued_at - '100 seconds'::interval,
        refresh_at = t.issued_at - '1 second'::interval WHERE t.token_id = due_sealed.token_id;
END $$;
-- The same, and it is started.
CREATE FUNCTION regress.deliver(client text, OUT token_id uuid) LANGUAGE plpgsql AS $$
BEGIN
    SELECT d.token_id INTO token_id FROM regress.due_sealed(client) d;
    PERFORM FROM tr.tr_rotate_due('regress_sealed');
END $$;

-- Keys: the first takes effect at once.
SELECT tr_set_delivery_key('sealed one', regress.pgp('one')) <= clock_timestamp() AS at_once;
SELECT owner, fingerprint, octet_length(public_key) > 500 AS stored, effective_at = added_at AS at_once, expires_at
FROM token_rotation.delivery_key;
-- Another waits for the longest ttl of a policy that delivers; meanwhile the old one counts.
SELECT date_trunc('minute', tr_set_delivery_key('sealed one', regress.pgp('two')) - clock_timestamp() + '30 seconds') AS waits;
SELECT fingerprint, effective_at > clock_timestamp() AS waits FROM token_rotation.delivery_key ORDER BY 2;
-- The one in use is not a new one: it takes the place of what waits.
SELECT tr_set_delivery_key('sealed one', regress.pgp('one')) <= clock_timestamp() AS at_once;
SELECT fingerprint FROM token_rotation.delivery_key;
-- Dropped, and again: the next one waits all the same.
SELECT tr_drop_delivery_key('sealed one'), tr_drop_delivery_key('sealed one') AS again, tr_drop_delivery_key('sealed none') AS none;
SELECT tr_set_delivery_key('sealed one', regress.pgp('one')) > clock_timestamp() AS waits;
SELECT fingerprint, public_key IS NULL AS dropped FROM token_rotation.delivery_key ORDER BY effective_at;
SELECT event, client_id, reason, detail ->> 'fingerprint' AS fingerprint, (detail ->> 'effective_at')::timestamptz > at AS waits
FROM token_rotation.audit WHERE event = 'delivery_key_changed' ORDER BY seq;
DELETE FROM token_rotation.delivery_key;

-- Refused: what is no key, and what nothing can be encrypted to.
SELECT n.what, e.* FROM (VALUES
    (1, 'NULL', 'NULL'), (2, 'empty', $$''$$), (3, 'no key', $$'no key'$$),
    (4, 'cut off', $$left(regress.pgp('one'), 800)$$),
    (5, 'broken', $$overlay(regress.pgp('one') placing 'AAAA' from 200)$$),
    (6, 'two', $$regress.pgp('one') || E'\n' || regress.pgp('two')$$),
    (7, 'another block', $$replace(regress.pgp('one'), 'PUBLIC KEY BLOCK', 'MESSAGE')$$),
    (8, 'private', $$replace(regress.pgp('one'), 'PUBLIC', 'PRIVATE')$$),
    (9, 'elliptic', $$regress.pgp('curve')$$),
    (10, 'long', $$repeat('x', 1000000)$$)) n (ord, what, value),
    regress.try(format('SELECT tr.tr_set_delivery_key(''sealed bad'', %s)', n.value)) e ORDER BY n.ord;
SELECT n.value, e.state, e.message FROM unnest(ARRAY['NULL', '''''', 'repeat(''x'', 256)']) WITH ORDINALITY n (value, ord),
    regress.try(format('SELECT tr.tr_set_delivery_key(%s, regress.pgp(''one''))', n.value)) e ORDER BY n.ord;
SELECT state, message FROM regress.try('SELECT tr.tr_drop_delivery_key(NULL)');
SELECT state, message FROM regress.try('SELECT * FROM tr.tr_deliveries('''')');
SELECT count(*) FROM token_rotation.delivery_key;

-- Without a key the window is opened, as for direct, and it shows.
SELECT token AS bare FROM regress.due_sealed('sealed bare') \gset
SELECT * FROM tr_rotate_due('regress_sealed');
SELECT generation, status FROM token_rotation.tokens WHERE client_id = 'sealed bare';
SELECT event, reason FROM token_rotation.audit WHERE client_id = 'sealed bare' ORDER BY seq;
SELECT count(*) FROM token_rotation.unclaimed WHERE client_id = 'sealed bare';
SELECT reason FROM tr_rotate(:'bare');

-- With one the successor is made, and its delivery waits; the old token stays valid until its window ends.
SELECT count(*) FROM tr_set_delivery_key('sealed one', regress.pgp('one'));
SELECT token AS one, token_id AS one_id FROM regress.due_sealed('sealed one') \gset
SELECT token_id AS keyed_id FROM regress.due_sealed('sealed one', 'regress_sealed_key') \gset
SELECT * FROM tr_rotate_due() ORDER BY 1;
SELECT policy, generation, status, rotated_at IS NOT NULL AS rotated, replay_ends_at,
    date_trunc('minute', overlap_ends_at - clock_timestamp() + '30 seconds') AS ends
FROM token_rotation.tokens WHERE client_id = 'sealed one' ORDER BY 1, 2;
SELECT count(*) FROM token_rotation.unclaimed WHERE client_id = 'sealed one';
SELECT client_id, policy, fingerprint, fetches, fetched_at, ends_at > made_at AS open, first_used_at FROM token_rotation.deliveries ORDER BY policy;
SELECT valid, reason FROM tr_validate(:'one');
-- The old token's holder is not told: a rotation that he did not make is never replayed.
SELECT reason, token FROM tr_rotate(:'one');
SELECT event, reason, detail ? 'fingerprint' AS names_key FROM token_rotation.audit
WHERE client_id = 'sealed one' AND event IN ('issued', 'rotated') ORDER BY seq;
-- Fetched, once and again; the first time is an event.
SELECT d.client_id, d.fingerprint, d.fetches, d.message LIKE E'-----BEGIN PGP MESSAGE-----\n%' AS armored
FROM tr_deliveries('sealed one') d JOIN token_rotation.tokens t ON t.token_ref = d.token_ref AND t.generation = 1;
SELECT DISTINCT fetches FROM tr_deliveries();
-- Page by page: what was not fetched for longest comes first.
SELECT count(DISTINCT token_ref) FROM (SELECT token_ref FROM tr_deliveries(max_tokens => 1) UNION ALL SELECT token_ref FROM tr_deliveries(max_tokens => 1)) d;
SELECT state, message FROM regress.try('SELECT * FROM tr.tr_deliveries(max_tokens => 0)');
SELECT count(*) FROM tr_deliveries('sealed bare');
SELECT client_id, fetches, fetched_at IS NOT NULL AS fetched FROM token_rotation.deliveries ORDER BY policy;
SELECT count(*) FROM token_rotation.audit WHERE event = 'delivery_fetched' AND client_id = 'sealed one';
-- The message is to the subkey of the key that was in effect.
SELECT DISTINCT pgp_key_id(dearmor(d.message)) = pgp_key_id(k.public_key) AS to_the_key
FROM tr_deliveries('sealed one') d, token_rotation.delivery_key k;

-- It goes with its window: extended, finished, cancelled.
SELECT d.ends_at AS end FROM token_rotation.deliveries d JOIN token_rotation.tokens t USING (token_ref) WHERE t.predecessor_id = :'one_id' \gset
SELECT tr_extend_overlap(:'one_id', '1 minute') - :'end'::timestamptz AS longer;
SELECT count(*) FROM token_rotation.deliveries WHERE ends_at = :'end'::timestamptz + '1 minute';
SELECT tr_finish_overlap(:'keyed_id');
SELECT count(*) FROM tr_deliveries('sealed one');
SELECT tr_cancel_rotation(:'one_id');
SELECT count(*) FROM token_rotation.delivery;
-- Cancelled, it is due again, and delivered again.
SELECT * FROM tr_rotate_due('regress_sealed');
SELECT count(*) FROM tr_deliveries();
-- With the tokens: revoked, either of them, cut off; not blocked, which can be undone.
SELECT tr_revoke_id(:'one_id');
SELECT count(*) FROM token_rotation.delivery;
SELECT token_id AS id FROM regress.deliver('sealed one') \gset
SELECT count(*) FROM token_rotation.delivery;
SELECT tr_revoke_id(token_id) FROM token_rotation.tokens WHERE predecessor_id = :'id';
SELECT count(*) FROM token_rotation.delivery;
SELECT token_id AS id FROM regress.deliver('sealed one') \gset
SELECT tr_block_client('sealed one');
SELECT (SELECT count(*) FROM tr_deliveries()) AS fetched, (SELECT count(*) FROM token_rotation.delivery) AS kept;
SELECT tr_block_client('sealed one', false);
SELECT count(*) FROM tr_deliveries();
SELECT tr_revoke_client('sealed other') IS NULL, tr_revoke_policy('default') IS NULL, tr_revoke_before(clock_timestamp() - '1 day'::interval) IS NULL;
SELECT count(*) FROM token_rotation.delivery;
SELECT tr_revoke_client('sealed one') IS NULL;
SELECT count(*) FROM token_rotation.delivery;
DELETE FROM token_rotation.cutoff WHERE kind = 'client';
SELECT token_id AS id FROM regress.deliver('sealed one') \gset
SELECT count(*), tr_revoke_policy('regress_sealed') IS NULL FROM token_rotation.delivery;
SELECT count(*) FROM token_rotation.delivery;
DELETE FROM token_rotation.cutoff WHERE kind <> 'client';
SELECT token_id AS id FROM regress.deliver('sealed one') \gset
SELECT count(*), tr_revoke_before(clock_timestamp()) IS NULL FROM token_rotation.delivery;
SELECT count(*) FROM token_rotation.delivery;
DELETE FROM token_rotation.cutoff;
-- When the window has ended, with the next sweep.
SELECT token_id AS id FROM regress.deliver('sealed one') \gset
UPDATE token_rotation.delivery SET ends_at = clock_timestamp();
SELECT count(*) FROM tr_deliveries();
SELECT tr_sweep() >= 0;
SELECT count(*) FROM token_rotation.delivery;

-- Where the overlap starts at first use it waits for that, and then for the window.
UPDATE token_rotation.policy SET overlap_starts = 'first_use' WHERE name = 'regress_sealed';
SELECT token_id AS id FROM regress.deliver('sealed one') \gset
SELECT d.ends_at = t.expires_at AS to_the_end FROM token_rotation.delivery d JOIN token_rotation.token t ON t.token_id = d.predecessor_id;
SELECT reason FROM token_rotation.tokens t, tr_rotate_id(t.token_id) WHERE t.predecessor_id = :'id';
SELECT count(*) FROM tr_deliveries();
SELECT tr_cancel_rotation(token_id) FROM token_rotation.tokens WHERE predecessor_id = :'id';
SELECT tr_cancel_rotation(:'id');
SELECT count(*) FROM token_rotation.delivery;
SELECT tr_revoke_id(:'id');
UPDATE token_rotation.policy SET overlap_starts = 'rotation' WHERE name = 'regress_sealed';

-- A key that has expired is none.
UPDATE token_rotation.delivery_key SET expires_at = clock_timestamp();
SELECT token_id AS id FROM regress.deliver('sealed one') \gset
SELECT (SELECT count(*) FROM token_rotation.delivery) AS delivered, (SELECT count(*) FROM token_rotation.unclaimed WHERE token_id = :'id') AS opened;
UPDATE token_rotation.delivery_key SET expires_at = NULL;

-- Issuing and rotating by id show their secrets to whoever calls, as ever.
SELECT token IS NOT NULL AS shown FROM tr_issue('sealed one', 'regress_sealed');
SELECT r.token IS NOT NULL AS shown FROM regress.due_sealed('sealed one') d, tr_rotate_id(d.token_id) r;
SELECT count(*) FROM token_rotation.delivery;

-- Realms: a key speaks for those of whoever sets it, and deliveries are theirs.
CREATE ROLE regress_sealed_a;
CREATE ROLE regress_sealed_b;
CREATE ROLE regress_sealed_operator;
CREATE ROLE regress_sealed_rival;
CREATE ROLE regress_sealed_issuer;
SELECT tr_grant('regress_sealed_operator', 'operator', 'regress_sealed_a'), tr_grant('regress_sealed_rival', 'operator', 'regress_sealed_b'),
    tr_grant('regress_sealed_issuer', 'issuer', 'regress_sealed_a');
SET token_rotation.realm = 'regress_sealed_a';
SELECT token_id AS id FROM regress.due_sealed('sealed realm') \gset
RESET token_rotation.realm;
SELECT regress.answer_as('regress_sealed_rival', $$SELECT tr.tr_set_delivery_key('sealed realm', (SELECT armor FROM regress.pgp WHERE name = 'two')) IS NULL$$);
SELECT regress.answer_as('regress_sealed_operator', $$SELECT tr.tr_set_delivery_key('sealed realm', (SELECT armor FROM regress.pgp WHERE name = 'one')) IS NULL$$);
SELECT owner, fingerprint FROM token_rotation.delivery_key WHERE client_id = 'sealed realm' ORDER BY 1;
SELECT regress.answer_as('regress_sealed_operator', 'SELECT sum(started) FROM tr.tr_rotate_due()') AS started;
SELECT owner, fingerprint FROM token_rotation.deliveries;
SELECT r.role, regress.answer_as(r.role, 'SELECT count(*) FROM tr.tr_deliveries()') AS fetched,
    regress.answer_as(r.role, 'SELECT count(*) FROM token_rotation.deliveries') AS seen,
    regress.answer_as(r.role, 'SELECT count(*) FROM token_rotation.delivery') AS direct,
    regress.answer_as(r.role, $$SELECT string_agg(owner, ' ' ORDER BY owner COLLATE "C") FROM token_rotation.delivery_key WHERE owner <> ''$$) AS keys
FROM unnest(ARRAY['regress_sealed_operator', 'regress_sealed_issuer', 'regress_sealed_rival']) r (role);
-- Keys and deliveries move with their realm.
SELECT tr_set_owner('regress_sealed_a', 'regress_sealed_b');
SELECT owner FROM token_rotation.delivery;
SELECT owner, count(*) FROM token_rotation.delivery_key WHERE owner ~ '_[ab]$' GROUP BY 1;
-- One row of the trail for each realm, and who speaks for every realm drops the key of each.
SELECT owner, reason, count(*) FROM token_rotation.audit WHERE client_id = 'sealed realm' AND event = 'delivery_key_changed' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT tr_drop_delivery_key('sealed realm'), tr_drop_delivery_key('sealed realm') AS again;
SELECT owner, public_key IS NULL AS dropped FROM token_rotation.delivery_key WHERE client_id = 'sealed realm' ORDER BY 1;

-- Nothing is written where nothing may be.
BEGIN READ ONLY;
SELECT state, message FROM regress.try('SELECT * FROM tr.tr_deliveries()');
SELECT state, message FROM regress.try($$SELECT tr.tr_set_delivery_key('sealed one', regress.pgp('one'))$$);
SELECT state, message FROM regress.try($$SELECT tr.tr_drop_delivery_key('sealed one')$$);
ROLLBACK;
-- A delivery whose window somebody made longer goes with its family.
UPDATE token_rotation.token SET status = 'expired', issued_at = issued_at - '2 hours'::interval, refresh_at = refresh_at - '2 hours'::interval,
    expires_at = clock_timestamp() - '1 hour'::interval, rotated_at = rotated_at - '1 hour'::interval, overlap_ends_at = rotated_at - '1 hour'::interval
WHERE client_id = 'sealed realm';
SELECT tr_prune(clock_timestamp() - '1 minute'::interval) >= 2 AS pruned;
SELECT count(*) FROM token_rotation.delivery;

DELETE FROM token_rotation.delivery_key;
DELETE FROM token_rotation.token WHERE client_id LIKE 'sealed%';
DELETE FROM token_rotation.policy WHERE name LIKE 'regress_sealed%';
DROP OWNED BY regress_sealed_operator, regress_sealed_rival, regress_sealed_issuer;
DROP ROLE regress_sealed_operator, regress_sealed_rival, regress_sealed_issuer, regress_sealed_a, regress_sealed_b;
DROP FUNCTION regress.pgp, regress.due_sealed, regress.deliver;
DROP TABLE regress.pgp;
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I IS_TEMPLATE false', current_database());
END $$;
