-- Each bad input of each verb gets a reason or an error with message, detail
-- and hint, and nothing is half written.
SET search_path = tr, public;
CREATE ROLE regress_nobody;
CREATE ROLE regress_stranger;   -- every preset, but owns nothing
CREATE ROLE regress_gone;
SELECT count(tr_grant('regress_stranger', preset)) FROM unnest(ARRAY['validator', 'issuer', 'operator']) preset;
INSERT INTO token_rotation.policy (name, ttl, allowed_scopes) VALUES ('regress_scopes', '1 hour', '{read,write}');

-- A token, one that is rotating, one with a key, one of a realm whose role is gone.
SELECT token, token_id FROM tr_issue('errors') \gset
SELECT i.token, i.token_id FROM tr_issue('errors') i, tr_rotate(i.token) \gset rotating_
SELECT token, rotation_key, token_id FROM tr_issue('errors', 'partner') \gset key_
SET token_rotation.realm = 'regress_gone';
SELECT i.token, i.token_id, r.token AS new_token FROM tr_issue('errors gone') i, tr_rotate(i.token) r \gset gone_
SELECT tr_revoke_client('errors cut') IS NOT NULL AS cut, tr_block_client('errors blocked');
RESET token_rotation.realm;
SELECT tr_revoke_client('errors cut') IS NOT NULL AS cut, tr_block_client('errors blocked');

-- Everything that a verb can write; what the worker writes by itself is left out.
CREATE FUNCTION regress.state() RETURNS text LANGUAGE sql AS $$
    SELECT md5(concat_ws('|',
        (SELECT string_agg((to_jsonb(t) - 'first_used_at' - 'last_used_at')::text, '' ORDER BY token_id) FROM token_rotation.token t),
        (SELECT string_agg((to_jsonb(c) - 'first_used_at' - 'last_used_at' - 'use_count')::text, '' ORDER BY token_id)
         FROM token_rotation.token_cache c WHERE client_id LIKE 'errors%'),
        (SELECT string_agg(c::text, '' ORDER BY c::text) FROM token_rotation.cutoff c),
        (SELECT string_agg(b::text, '' ORDER BY b::text) FROM token_rotation.blocked_client b),
        (SELECT string_agg(p::text, '' ORDER BY name) FROM token_rotation.policy p),
        (SELECT count(*) FROM token_rotation.audit
         WHERE event NOT IN ('replayed', 'replayed_elsewhere', 'replayed_after_use', 'validated', 'validation_refused', 'rotation_refused', 'revocation_refused', 'leak_refused',
                             'overlap_ended', 'events_lost'))));
$$;
-- The answer of a call, or its SQLSTATE, whether an error says all, and what has changed.
CREATE TABLE regress.told (state text, message text, detail text, hint text);
CREATE FUNCTION regress.bad(call text, OUT answer text, OUT complete text, OUT changed boolean) LANGUAGE plpgsql AS $$
DECLARE
    before text := regress.state();
    t record;
BEGIN
    SELECT * INTO t FROM regress.try('DO ' || quote_literal('BEGIN PERFORM set_config(''regress.answer'', coalesce(('
                                                            || call || ')::text, ''NULL''), true); END'));
    answer := CASE t.state WHEN '00000' THEN current_setting('regress.answer') ELSE t.state END;
    IF t.state <> '00000' THEN
        complete := CASE WHEN t.message ~ '^[a-z"].*[^.]$' AND t.detail ~ '\.$' AND t.hint ~ '\.$' THEN 'yes' ELSE 'no: ' || t.message END;
        INSERT INTO regress.told VALUES (t.state, t.message, t.detail, t.hint);
    END IF;
    changed := regress.state() <> before;
END $$;

-- NULL.
SELECT call, b.* FROM unnest(ARRAY[
    'SELECT tr.tr_issue(NULL)',
    'SELECT tr.tr_issue(''errors'', NULL)',
    'SELECT tr.tr_issue(''errors'', scopes => NULL)',
    'SELECT tr.tr_issue(''errors'', metadata => NULL)',
    'SELECT (tr.tr_validate(NULL)).reason',
    'SELECT count(*) FROM tr.tr_validate_many(NULL)',
    'SELECT (tr.tr_rotate(NULL)).reason',
    'SELECT (tr.tr_rotate_id(NULL)).reason',
    'SELECT tr.tr_revoke(NULL)',
    'SELECT tr.tr_revoke(NULL, NULL, NULL)',
    'SELECT tr.tr_revoke_id(NULL)',
    'SELECT tr.tr_revoke_id(gen_random_uuid(), NULL, NULL)',
    'SELECT tr.tr_revoke_client(NULL)',
    'SELECT tr.tr_revoke_policy(NULL)',
    'SELECT tr.tr_revoke_before(NULL)',
    'SELECT tr.tr_block_client(NULL)',
    'SELECT tr.tr_block_client(''errors'', NULL)',
    'SELECT tr.tr_extend_overlap(NULL, ''1 second'')',
    'SELECT tr.tr_extend_overlap(gen_random_uuid(), NULL)',
    'SELECT tr.tr_finish_overlap(NULL)',
    'SELECT tr.tr_cancel_rotation(NULL)',
    'SELECT tr.tr_sweep(NULL)',
    'SELECT tr.tr_prune(NULL)',
    'SELECT tr.tr_prune(now(), NULL)',
    'SELECT tr.tr_grant(NULL, ''issuer'')',
    'SELECT tr.tr_grant(''regress_nobody'', NULL)',
    'SELECT tr.tr_ungrant(NULL, ''issuer'')',
    'SELECT tr.tr_ungrant(''regress_nobody'', NULL)',
    'SELECT tr.tr_set_owner(NULL, ''regress_nobody'')',
    'SELECT tr.tr_set_owner(''regress_nobody'', NULL)',
    'SELECT tr.tr_token_display(NULL, gen_random_uuid())',
    'SELECT tr.tr_effective_status(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)']) call, regress.bad(call) b;

-- Client ids: empty, too long, in bytes of course, or a token.
SELECT format(verb, what) AS call, b.*
FROM unnest(ARRAY['SELECT tr.tr_issue(%s)', 'SELECT tr.tr_revoke_client(%s)', 'SELECT tr.tr_block_client(%s)',
                  'SELECT tr.tr_block_client(%s, false)']) verb,
    (VALUES (1, '''''', ''''''), (2, 'repeat(''x'', 256)', 'repeat(''x'', 256)'), (3, 'repeat(''ü'', 128)', 'repeat(''ü'', 128)'),
            (4, 'repeat(''x'', 1000000)', 'repeat(''x'', 1000000)'), (5, 'a token', quote_literal(:'token')),
            (6, 'half a token', quote_literal('of ' || left(:'token', 40)))) c (n, what, client),
    regress.bad(format(verb, client)) b
ORDER BY verb, n;

-- Policies that there are not.
SELECT call, b.* FROM unnest(ARRAY[
    'SELECT tr.tr_issue(''errors'', ''regress_nonsense'')', 'SELECT tr.tr_issue(''errors'', '''')',
    'SELECT tr.tr_issue(''errors'', ''DEFAULT'')', 'SELECT tr.tr_issue(''errors'', repeat(''x'', 64))',
    'SELECT tr.tr_revoke_policy(''regress_nonsense'')', 'SELECT tr.tr_revoke_policy('''')',
    'SELECT tr.tr_revoke_policy(''DEFAULT'')', 'SELECT tr.tr_revoke_policy(repeat(''x'', 100000))']) call, regress.bad(call) b;

-- Lives: none, negative, longer than the policy's.
SELECT ttl, b.* FROM unnest(ARRAY[
    '0', '-1 microsecond', '-1 day', '1 month -30 days', '1 month -31 days', '24 hours 1 microsecond', '1 day 1 microsecond', '1 month',
    '100 years', '178000000 years', '-178000000 years', '2147483647 days', '-2147483648 days 1 hour', '178956970 years 7 months 2147483647 days 2562047788 hours']) ttl,
    regress.bad(format('SELECT tr.tr_issue(''errors'', ttl => %L)', ttl)) b;
-- Overlaps: negative, longer than the policy's, beyond expiry, without end.
SELECT overlap, h.answer AS holder, h.complete, h.changed, o.answer AS operator, o.complete, o.changed,
       e.answer AS extend, e.complete, e.changed
FROM unnest(ARRAY['-1 microsecond', '-1 day', '1 month -31 days', '5 minutes 1 microsecond', '24 hours', '2 days', '178000000 years',
                  '-178000000 years', '2147483647 days', '178956970 years 7 months 2147483647 days 2562047788 hours']) overlap,
    regress.bad(format('SELECT (tr.tr_rotate(%L, overlap => %L)).reason', :'token', overlap)) h,
    regress.bad(CASE WHEN overlap LIKE '5%' THEN 'SELECT ''allowed''' ELSE format('SELECT (tr.tr_rotate_id(%L, %L)).reason', :'token_id', overlap) END) o,
    regress.bad(CASE WHEN overlap LIKE '5%' THEN 'SELECT ''allowed''' ELSE format('SELECT tr.tr_extend_overlap(%L, %L)', :'rotating_token_id', overlap) END) e;

-- Scopes and metadata.
SELECT what, b.* FROM (VALUES
    (1, 'NULL in it', 'ARRAY[''a'', NULL]'), (2, 'duplicate', 'ARRAY[''a'', ''b'', ''a'']'), (3, 'empty', 'ARRAY['''']'),
    (4, 'space', 'ARRAY[''a b'']'), (5, 'quote', 'ARRAY[''a"b'']'), (6, 'backslash', 'ARRAY[E''a\\b'']'),
    (7, 'control', 'ARRAY[E''a\nb'']'), (8, 'not ASCII', 'ARRAY[''ü'']'), (9, '256 bytes', 'ARRAY[repeat(''x'', 256)]'),
    (10, 'two dimensions', 'ARRAY[[''a'', ''b''], [''c'', ''d'']]'),
    (11, '4 kB together', 'ARRAY(SELECT repeat(chr(65 + g), 250) FROM generate_series(1, 17) g)'),
    (12, 'a token', 'ARRAY[' || quote_literal(:'token') || ']')) s (n, what, scopes),
    regress.bad(format('SELECT tr.tr_issue(''errors'', scopes => %s)', scopes)) b ORDER BY n;
SELECT scopes, b.* FROM unnest(ARRAY['{admin}', '{read,admin}', '{READ}', '{"read "}']) scopes,
    regress.bad(format('SELECT tr.tr_issue(''errors'', ''regress_scopes'', %L)', scopes)) b;
SELECT what, b.* FROM (VALUES
    (1, 'array', '''[]'''), (2, 'text', '''"text"'''), (3, 'number', '''1'''), (4, 'null', '''null'''), (5, 'true', '''true'''),
    (6, '5 kB', 'jsonb_build_object(''a'', repeat(''x'', 5000))'),
    (7, '5 kB, many', '(SELECT jsonb_object_agg(''key '' || g, g) FROM generate_series(1, 300) g)')) m (n, what, metadata),
    regress.bad(format('SELECT tr.tr_issue(''errors'', metadata => %s)', metadata)) b ORDER BY n;

-- Moments, numbers, reasons.
SELECT call, b.* FROM unnest(ARRAY[
    'SELECT tr.tr_revoke_before(''infinity'')', 'SELECT tr.tr_revoke_before(''-infinity'')',
    'SELECT tr.tr_revoke_before(clock_timestamp() + ''1 hour'')', 'SELECT tr.tr_revoke_before(''294276-01-01'')',
    'SELECT tr.tr_prune(''infinity'')', 'SELECT tr.tr_prune(''-infinity'')',
    'SELECT tr.tr_sweep(0)', 'SELECT tr.tr_sweep(-1)', 'SELECT tr.tr_prune(now(), 0)', 'SELECT tr.tr_prune(now(), -2147483648)',
    'SELECT tr.tr_revoke(''x'', repeat(''x'', 256))', 'SELECT tr.tr_revoke_id(gen_random_uuid(), repeat(''x'', 256))',
    'SELECT tr.tr_revoke_client(''errors'', repeat(''x'', 256))', 'SELECT tr.tr_revoke_policy(''internal'', repeat(''x'', 1000000))',
    'SELECT tr.tr_revoke_before(''2000-01-01'', repeat(''x'', 256))',
    'SELECT tr.tr_token_display(''Upper'', gen_random_uuid())', 'SELECT tr.tr_token_display('''', gen_random_uuid())',
    'SELECT tr.tr_token_display(repeat(''x'', 16), gen_random_uuid())',
    'SELECT tr.tr_effective_status(''nonsense'', ''errors'', '''', '''', now(), now(), NULL, NULL)']) call, regress.bad(call) b;

-- Tokens: every text below is malformed to every verb, or the same token as
-- before, where only the prefix differs.
CREATE TEMP TABLE text_of (what text, token text, key text);
INSERT INTO text_of
SELECT 'truncated', left(:'token', n), left(:'key_rotation_key', n) FROM generate_series(0, 74) n
UNION ALL SELECT 'without its beginning', right(:'token', n), right(:'key_rotation_key', n) FROM generate_series(1, 72) n
UNION ALL SELECT 'one character flipped', overlay(:'token' PLACING translate(substr(:'token', n, 1), '0123456789', '1234567890') FROM n),
                 overlay(:'key_rotation_key' PLACING translate(substr(:'key_rotation_key', n + 1, 1), '0123456789', '1234567890') FROM n + 1)
          FROM generate_series(5, 75) n WHERE substr(:'token', n, 1) ~ '\d' AND substr(:'key_rotation_key', n + 1, 1) ~ '\d'
UNION ALL SELECT 'one character flipped', overlay(:'token' PLACING CASE substr(:'token', n, 1) WHEN c THEN 'x' ELSE c END FROM n),
                 overlay(:'key_rotation_key' PLACING CASE substr(:'key_rotation_key', n + 1, 1) WHEN c THEN 'x' ELSE c END FROM n + 1)
          FROM generate_series(5, 75) n, unnest(ARRAY['0', 'a', 'Z', '-', '_', ' ', 'ü', '+']) c
UNION ALL SELECT 'two characters exchanged',
                 overlay(:'token' PLACING reverse(substr(:'token', n, 2)) FROM n),
                 overlay(:'key_rotation_key' PLACING reverse(substr(:'key_rotation_key', n + 1, 2)) FROM n + 1)
          FROM generate_series(5, 74) n WHERE substr(:'token', n, 1) <> substr(:'token', n + 1, 1)
          AND substr(:'key_rotation_key', n + 1, 1) <> substr(:'key_rotation_key', n + 2, 1)
UNION ALL SELECT 'something added', format(f, :'token'), format(f, :'key_rotation_key')
          FROM unnest(ARRAY['%s ', ' %s', E'%s\n', E'\t%s', '"%s"', 'Bearer %s', '%s0', '0%s', 'x_%s', '%1$s%1$s', '%s=', E'\ufeff%s']) f
UNION ALL SELECT 'prefix that is none', p || substr(:'token', 4), p || substr(:'key_rotation_key', 5)
          FROM unnest(ARRAY['', 'TRK', '1trk', 'tr-k', 'tr k', 'trkü', 'x2345678901234567', 'trk_', '_']) p
UNION ALL SELECT 'other case', upper(:'token'), upper(:'key_rotation_key')
UNION ALL SELECT 'other case', lower(:'token'), lower(:'key_rotation_key')
UNION ALL SELECT '1 MB', repeat('x', 1000000), repeat('x', 1000000)
UNION ALL SELECT '1 MB', repeat(:'token', 14000), repeat(:'key_rotation_key', 14000)
UNION ALL SELECT '1 MB', 'trk_' || repeat('0', 1000000), 'trkr_' || repeat('0', 1000000)
UNION ALL SELECT 'id of 2^128 or more', regress.token_text('trk', '7n42DGM5Tflk9n8mt7Fhc8' || regress.secret_of(:'token')),
                 regress.token_text('trkr', repeat('z', 22) || regress.secret_of(:'key_rotation_key'))
UNION ALL SELECT 'letters that base62 has not', regress.token_text('trk', overlay(substr(:'token', 5, 65) PLACING c FROM 30)),
                 regress.token_text('trkr', overlay(substr(:'key_rotation_key', 6, 65) PLACING c FROM 30))
          FROM unnest(ARRAY['-', '_', '+', '/', ' ']) c;
SELECT regress.state() AS before \gset
SELECT t.what, count(*) > 100 AS many, string_agg(DISTINCT v.reason, ' ') AS validate, string_agg(DISTINCT r.reason, ' ') AS rotate,
       bool_or(tr_revoke(t.token)) AS revoke, bool_or(tr_revoke(t.token, NULL, true)) AS family,
       count(tr_report_leak(t.token)) + count(tr_report_leak(t.key)) > 0 AS leak,
       string_agg(DISTINCT k.reason, ' ') AS with_key
FROM text_of t, tr_validate(t.token) v, tr_rotate(t.token) r, tr_rotate(:'key_token', t.key) k GROUP BY 1 ORDER BY 1;
SELECT string_agg(DISTINCT m.reason, ' ') AS many, count(*) = (SELECT count(*) FROM text_of) AS all
FROM tr_validate_many((SELECT array_agg(token) FROM text_of)) m;
SELECT regress.state() <> :'before' AS changed;
-- The largest id there is is none of ours, but well-formed.
SELECT reason FROM tr_validate(regress.token_text('trk', '7n42DGM5Tflk9n8mt7Fhc7' || regress.secret_of(:'token')));
-- A prefix is for people: another one is the same token.
SELECT p, v.reason, (v.token_id = :'token_id') AS same FROM unnest(ARRAY['x', 'abc', 'a1234567890123', 'a12345678901234', 'a123456789012345']) p,
    tr_validate(p || substr(:'token', 4)) v;
-- Bytes that are no text never get that far.
SELECT state FROM regress.try($$SELECT tr.tr_validate(E'trk_\xff')$$);
SELECT state FROM regress.try($$SELECT tr.tr_validate(convert_from('\x74726b5fc0', 'UTF8'))$$);
SELECT state FROM regress.try($$SELECT tr.tr_validate(E'trk_\000')$$);

-- Unknown ids.
SELECT call, b.* FROM unnest(ARRAY[
    'SELECT (tr.tr_rotate_id(%L)).reason', 'SELECT tr.tr_revoke_id(%L)', 'SELECT tr.tr_revoke_id(%L, NULL, true)',
    'SELECT tr.tr_extend_overlap(%L, ''1 second'')', 'SELECT tr.tr_finish_overlap(%L)', 'SELECT tr.tr_cancel_rotation(%L)']) call,
    regress.bad(format(call, '00000000-0000-0000-0000-000000000001')) b;
SELECT call, b.answer, b.changed FROM unnest(ARRAY[
    'SELECT (tr.tr_rotate_id(%L)).reason', 'SELECT tr.tr_revoke_id(%L)', 'SELECT tr.tr_finish_overlap(%L)']) call,
    regress.bad(format(call, '00000000-0000-0000-0000-000000000000')) b;

-- Who has no privilege; who has them all and owns nothing.
CREATE TEMP TABLE call (n serial, sql text);
INSERT INTO call (sql) SELECT format(sql, :'token', :'token_id', :'rotating_token_id') FROM unnest(ARRAY[
    'SELECT (tr.tr_issue(''errors stranger'')).owner', 'SELECT (tr.tr_validate(%1$L)).reason',
    'SELECT reason FROM tr.tr_validate_many(ARRAY[%1$L])', 'SELECT (tr.tr_rotate(%1$L)).reason',
    'SELECT (tr.tr_rotate_id(%2$L)).reason', 'SELECT tr.tr_revoke(%1$L)', 'SELECT tr.tr_revoke_id(%2$L, NULL, true)',
    'SELECT tr.tr_report_leak(%1$L)', 'SELECT tr.tr_revoke_client(''errors'') < clock_timestamp()', 'SELECT tr.tr_revoke_policy(''default'') < clock_timestamp()',
    'SELECT tr.tr_revoke_before(now()) < clock_timestamp()', 'SELECT tr.tr_block_client(''errors'')',
    'SELECT tr.tr_extend_overlap(%3$L, ''1 second'')', 'SELECT tr.tr_finish_overlap(%3$L)', 'SELECT tr.tr_cancel_rotation(%3$L)',
    'SELECT tr.tr_sweep()', 'SELECT tr.tr_prune(now())', 'SELECT tr.tr_grant(''regress_nobody'', ''issuer'')',
    'SELECT tr.tr_ungrant(''regress_nobody'', ''issuer'')', 'SELECT tr.tr_set_owner(''regress_gone'', ''regress_nobody'')',
    'SELECT tr.tr_token_display(''trk'', %2$L) IS NOT NULL',
    'SELECT count(*) FROM token_rotation.tokens WHERE client_id <> ''errors stranger''']) sql;
SELECT regexp_replace(sql, '''trkr?_\w+''|''[0-9a-f]{8}-[-0-9a-f]{27}''', '...', 'g') AS call,
       regress.answer_as('regress_nobody', sql) AS nobody FROM call ORDER BY n;
GRANT USAGE ON SCHEMA tr, token_rotation TO regress_nobody;
SELECT DISTINCT regress.answer_as('regress_nobody', sql) AS nobody FROM call;
REVOKE USAGE ON SCHEMA tr, token_rotation FROM regress_nobody;
SELECT regexp_replace(sql, '''trkr?_\w+''|''[0-9a-f]{8}-[-0-9a-f]{27}''', '...', 'g') AS call,
       regress.answer_as('regress_stranger', sql) AS stranger FROM call WHERE n > 1 ORDER BY n;
SELECT regress.answer_as('regress_stranger', sql) AS stranger FROM call WHERE n = 1;
SELECT status, count(*) FROM token_rotation.tokens WHERE client_id = 'errors' GROUP BY 1 ORDER BY 1;

-- A READ ONLY transaction.
BEGIN READ ONLY;
SELECT regexp_replace(sql, '''trkr?_\w+''|''[0-9a-f]{8}-[-0-9a-f]{27}''', '...', 'g') AS call, regress.answer(sql) FROM call ORDER BY n;
ROLLBACK;

-- The realm's role is gone: its tokens are unknown but to superusers, who give
-- them to somebody; nobody can issue for it.
DROP ROLE regress_gone;
SELECT (tr_validate(:'gone_token')).reason, (tr_validate(:'gone_new_token')).reason;
SELECT regress.answer_as('regress_stranger', format('SELECT (tr.tr_validate(%L)).reason', :'gone_token')) AS validate,
       regress.answer_as('regress_stranger', format('SELECT (tr.tr_rotate(%L)).reason', :'gone_new_token')) AS rotate,
       regress.answer_as('regress_stranger', format('SELECT tr.tr_revoke_id(%L)', :'gone_token_id')) AS revoke,
       regress.answer_as('regress_stranger', $$SELECT count(*) FROM token_rotation.tokens WHERE client_id = 'errors gone'$$) AS tokens;
SELECT count(*), count(DISTINCT owner) AS owners FROM token_rotation.tokens WHERE client_id = 'errors gone';
SET token_rotation.realm = 'regress_gone';
SELECT call, b.* FROM unnest(ARRAY['SELECT tr.tr_issue(''errors'')', 'SELECT tr.tr_revoke_client(''errors'')',
                                   'SELECT tr.tr_block_client(''errors'')', 'SELECT tr.tr_sweep()', 'SELECT tr.tr_prune(now())']) call,
    regress.bad(call) b;
RESET token_rotation.realm;
SELECT call, b.* FROM unnest(ARRAY['SELECT tr.tr_set_owner(''regress_gone'', ''regress_gone'')', 'SELECT tr.tr_set_owner(''regress_gone'', ''regress_nonsense'')',
    'SELECT tr.tr_set_owner(''regress_gone'', '''')', 'SELECT tr.tr_set_owner(''regress_gone'', ''pg_read_all_data'')',
    'SELECT tr.tr_set_owner(''regress_gone'', ''token_rotation_worker'')', 'SELECT tr.tr_set_owner('''', ''regress_stranger'')',
    'SELECT tr.tr_set_owner(''regress_stranger'', ''regress_stranger'')',
    'SELECT tr.tr_grant(''regress_nonsense'', ''issuer'')', 'SELECT tr.tr_grant(''regress_stranger'', ''nonsense'')',
    'SELECT tr.tr_grant(''regress_stranger'', ''issuer'', ''regress_nonsense'')', 'SELECT tr.tr_grant(''regress_stranger'', ''issuer'', ''pg_monitor'')',
    'SELECT tr.tr_grant(''token_rotation_worker'', ''issuer'')', 'SELECT tr.tr_ungrant(''regress_stranger'', ''nonsense'')']) call,
    regress.bad(call) b;
DELETE FROM token_rotation.cutoff WHERE owner = 'regress_stranger';
SELECT tr_set_owner('regress_gone', 'regress_stranger');
SELECT regress.answer_as('regress_stranger', format('SELECT (tr.tr_validate(%L)).reason', :'gone_token')) AS validate,
       regress.answer_as('regress_stranger', format('SELECT (tr.tr_rotate(%L)).reason', :'gone_new_token')) AS rotate;
SELECT subject, owner <> '' AS of_realm, owner = 'regress_stranger' AS moved FROM token_rotation.cutoff
WHERE subject = 'errors cut' AND owner <> 'regress_gone' ORDER BY 2;
-- Names that are a token, cut off to the length of a name: messages repeat them masked.
SELECT 'trk_0123456789abcdefghijkl' || repeat('S', 30) AS cut_off, 'pg_0123456789abcdefghijkl' || repeat('S', 30) AS reserved \gset
SELECT call, b.* FROM unnest(ARRAY['SELECT tr.tr_issue(''errors'', %L)', 'SELECT tr.tr_revoke_policy(%L)', 'SELECT tr.tr_grant(%L, ''issuer'')',
    'SELECT tr.tr_grant(''regress_stranger'', %L)', 'SELECT tr.tr_grant(''regress_stranger'', ''issuer'', %L)',
    'SELECT tr.tr_set_owner(''regress_gone'', %L)']) call,
    regress.bad(format(call, :'cut_off')) b;
SELECT call, b.* FROM unnest(ARRAY['SELECT tr.tr_grant(''regress_stranger'', ''issuer'', %L)', 'SELECT tr.tr_set_owner(''regress_gone'', %L)']) call,
    regress.bad(format(call, :'reserved')) b;
SELECT set_config('token_rotation.realm', :'cut_off' || repeat('S', 100), false) IS NOT NULL AS set;
SELECT b.* FROM regress.bad('SELECT tr.tr_issue(''errors'')') b;
RESET token_rotation.realm;

-- What the extension itself says in all this; no text holds a token.
SELECT DISTINCT state, message, detail, hint FROM regress.told ORDER BY state, message, detail, hint;
SELECT count(*) FROM regress.told t WHERE t::text ~ '[0-9A-Za-z]{23}' AND t::text !~ 'x{23}';

DROP FUNCTION regress.bad, regress.state;
DROP TABLE regress.told;
SELECT tr_block_client(c, false) FROM unnest(ARRAY['errors', 'errors blocked']) c;
DELETE FROM token_rotation.cutoff;
DELETE FROM token_rotation.token WHERE client_id LIKE 'errors%';
DELETE FROM token_rotation.policy WHERE name LIKE 'regress%';
SELECT count(tr_ungrant('regress_stranger', preset)) FROM unnest(ARRAY['validator', 'issuer', 'operator']) preset;
DROP ROLE regress_nobody, regress_stranger;

-- The answer's type, altered by its owner: an error, and no wrong memory, in a
-- session that has not called the function yet.
\c -
BEGIN;
ALTER TYPE token_rotation.validation ADD ATTRIBUTE more text;
SELECT state, message FROM regress.try($$SELECT * FROM tr.tr_validate('x')$$);
ROLLBACK;
\c -
BEGIN;
ALTER TYPE token_rotation.validation ALTER ATTRIBUTE reason TYPE bigint;
SELECT state, message FROM regress.try($$SELECT * FROM tr.tr_validate('x')$$);
ROLLBACK;
\c -
BEGIN;
ALTER TYPE token_rotation.validation DROP ATTRIBUTE refresh_at;
SELECT state, message FROM regress.try($$SELECT (tr.tr_validate('x')).valid$$);
ROLLBACK;
SELECT valid, reason FROM tr.tr_validate('x');
