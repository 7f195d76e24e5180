-- A wide row: the server compresses its long values within the row.  What the
-- verbs compare must be the values, not what they are stored as.
SELECT token AS old, token_id
FROM tr.tr_issue(repeat('a', 255), 'default',
                 (SELECT array_agg(md5(g::text)) FROM generate_series(1, 30) g),
                 (SELECT jsonb_object_agg(g, md5(g::text)) FROM generate_series(1, 35) g)) \gset
SELECT pg_column_compression(client_id) IS NOT NULL AS compressed
FROM token_rotation.token WHERE token_id = :'token_id';
SELECT pg_column_compression(client_id) IS NOT NULL AS compressed
FROM token_rotation.token_cache WHERE token_id = :'token_id';
SELECT reason, client_id = repeat('a', 255) AS client, cardinality(scopes) FROM tr.tr_validate(:'old');
SELECT token AS new FROM tr.tr_rotate(:'old') \gset
SELECT reason, client_id = repeat('a', 255) AS client, cardinality(scopes) FROM tr.tr_validate(:'new');
-- A cutoff and a block find it.
SELECT tr.tr_block_client(repeat('a', 255));
SELECT reason FROM tr.tr_validate(:'new');
SELECT reason FROM tr.tr_rotate(:'new');
SELECT tr.tr_block_client(repeat('a', 255), false);
SELECT tr.tr_revoke_client(repeat('a', 255)) IS NOT NULL AS cut;
SELECT reason FROM tr.tr_validate(:'old');
SELECT reason FROM tr.tr_validate(:'new');
SELECT reason FROM tr.tr_rotate(:'new');
-- The trail has its text.
SELECT event, client_id = repeat('a', 255) AS client FROM token_rotation.audit
WHERE token_ref = sha256(uuid_send(:'token_id')) AND event IN ('issued', 'rotated') ORDER BY seq;
SELECT tr.tr_revoke_id(:'token_id', family => true) AS ended;
DELETE FROM token_rotation.cutoff;
DELETE FROM token_rotation.token WHERE client_id = repeat('a', 255);

-- What somebody has written into a token by hand gets into the trail whole: a name
-- that is cut off amid a character no restore would accept.
SELECT token_id AS hand FROM tr.tr_issue('wide owner') \gset
UPDATE token_rotation.token SET owner = repeat('é', 40) WHERE token_id = :'hand';
SELECT tr.tr_revoke_id(:'hand') AS ended;
SELECT owner = repeat('é', 31) AS clipped, convert_from(textsend(owner), 'UTF8') = owner AS whole
FROM token_rotation.audit WHERE client_id = 'wide owner' AND event = 'revoked';
DELETE FROM token_rotation.token WHERE token_id = :'hand';
