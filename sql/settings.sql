-- The settings: which there are, who may change them, and what they do.
SET search_path = tr, public;
SELECT name, context, vartype AS type, unit, min_val, max_val, boot_val, enumvals
FROM pg_settings WHERE name LIKE 'token\_rotation.%' ORDER BY name COLLATE "C";

-- Others under that name there are none.
SET token_rotation.nonsense = 1;
\echo :LAST_ERROR_SQLSTATE
-- Only realm is the session's; nothing else can be weakened by a role for itself.
CREATE ROLE regress_settings;
SELECT name, t.state AS set, r.state AS alter_role, d.state AS alter_database, f.state AS function
FROM pg_settings,
    regress.try(format('SET LOCAL %s = %L', name, boot_val)) t,
    regress.try(format('ALTER ROLE regress_settings SET %s = %L', name, boot_val)) r,
    regress.try(format('ALTER DATABASE %I SET %s = %L', current_database(), name, boot_val)) d,
    regress.try(format('CREATE FUNCTION regress.settings_%s() RETURNS int LANGUAGE sql SET %s = %L RETURN 1',
                       replace(name, '.', '_'), name, boot_val)) f
WHERE name LIKE 'token\_rotation.%' ORDER BY name COLLATE "C";
ALTER ROLE regress_settings RESET ALL;
ALTER DATABASE :"DBNAME" RESET token_rotation.realm;
DROP FUNCTION regress.settings_token_rotation_realm;
DROP ROLE regress_settings;

-- Wrong values are refused.
\set VERBOSITY sqlstate
ALTER SYSTEM SET token_rotation.rotation_enabled = 'perhaps';
ALTER SYSTEM SET token_rotation.overlap_enforcement = '2';
ALTER SYSTEM SET token_rotation.leeway = '-1';
ALTER SYSTEM SET token_rotation.leeway = '3601';
ALTER SYSTEM SET token_rotation.leeway = '1 fortnight';
ALTER SYSTEM SET token_rotation.max_staleness = '-2';
ALTER SYSTEM SET token_rotation.circuit_threshold = '-1';
ALTER SYSTEM SET token_rotation.circuit_threshold = '1001';
ALTER SYSTEM SET token_rotation.circuit_timeout = '0';
ALTER SYSTEM SET token_rotation.circuit_timeout = '3601';
ALTER SYSTEM SET token_rotation.worker_nap = '199';
ALTER SYSTEM SET token_rotation.worker_nap = '3600001';
ALTER SYSTEM SET token_rotation.max_workers = '0';
ALTER SYSTEM SET token_rotation.max_workers = '17';
ALTER SYSTEM SET token_rotation.ring_size = '63';
ALTER SYSTEM SET token_rotation.ring_size = '65537';
ALTER SYSTEM SET token_rotation.usage_size = '511';
ALTER SYSTEM SET token_rotation.usage_size = '16777217';
ALTER SYSTEM SET token_rotation.audit_validations = 'some';
ALTER SYSTEM SET token_rotation.audit_overflow = 'wait';
ALTER SYSTEM SET token_rotation.not_before = 'now';
ALTER SYSTEM SET token_rotation.not_before = 'infinity';
ALTER SYSTEM SET token_rotation.not_before = '2026-01-31';
ALTER SYSTEM SET token_rotation.not_before = '2026-01-31 12:00:00';
ALTER SYSTEM SET token_rotation.not_before = '2026-01-31 12:00:00 ';
ALTER SYSTEM SET token_rotation.not_before = '2026-01-31 12:00:00 UTC';
ALTER SYSTEM SET token_rotation.not_before = '2026-01-31 12:00:00+16';
ALTER SYSTEM SET token_rotation.not_before = '2026-01-31 12:00:00+00x';
ALTER SYSTEM SET token_rotation.not_before = '2026-01-31 12:00:60Z';
ALTER SYSTEM SET token_rotation.not_before = '2026-01-31 24:00:00Z';
ALTER SYSTEM SET token_rotation.not_before = '2026-02-29 12:00:00Z';
ALTER SYSTEM SET token_rotation.not_before = '2026-13-01 12:00:00Z';
ALTER SYSTEM SET token_rotation.accept_unkeyed_until = 'tomorrow';
ALTER SYSTEM SET token_rotation.accept_unkeyed_until = '2026-01-31 12:00:00';
\set VERBOSITY default
ALTER SYSTEM SET token_rotation.not_before = 'yesterday';
ALTER SYSTEM SET token_rotation.audit_validations = 'some';
-- Good ones are not.
ALTER SYSTEM SET token_rotation.not_before = '2024-02-29 23:59:59Z';
ALTER SYSTEM SET token_rotation.not_before = '2026-01-31T12:00:00-05:30';
ALTER SYSTEM SET token_rotation.not_before = '2026-01-31 12:00:00+01';
ALTER SYSTEM SET token_rotation.not_before = '';
ALTER SYSTEM SET token_rotation.worker_nap = '1min';
ALTER SYSTEM SET token_rotation.max_staleness = '-1';
ALTER SYSTEM SET token_rotation.accept_unkeyed_until = '2026-01-31 12:00:00+01';
ALTER SYSTEM RESET token_rotation.accept_unkeyed_until;
ALTER SYSTEM RESET token_rotation.not_before;
ALTER SYSTEM RESET token_rotation.worker_nap;
ALTER SYSTEM RESET token_rotation.max_staleness;

-- The realm of the session, also of a transaction; wrong ones show in use.
CREATE ROLE regress_realm;
SET token_rotation.realm = 'regress_realm';
SELECT owner FROM tr_issue('settings realm');
BEGIN;
SET LOCAL token_rotation.realm = '';
SELECT owner = current_user AS own FROM tr_issue('settings realm');
COMMIT;
SELECT owner FROM tr_issue('settings realm');
SET token_rotation.realm = 'regress_nonsense';
SELECT message FROM regress.try($$SELECT tr.tr_issue('settings realm')$$);
SELECT message FROM regress.try($$SELECT tr.tr_revoke_client('settings realm')$$);
SELECT message FROM regress.try($$SELECT tr.tr_sweep()$$);
SELECT reason FROM tr_validate('x');
-- Successors stay in their realm, whatever the setting says then.
SET token_rotation.realm = 'regress_realm';
SELECT token FROM tr_issue('settings realm') \gset
RESET token_rotation.realm;
SELECT owner FROM tr_rotate(:'token');

-- (From here on a session must see what a reload brings, which it looks for
-- between its commands: many of them wait, each a little longer, five minutes in all.)
\set wait 'SELECT format(''SELECT pg_sleep(%s) WHERE current_setting(%L) IS DISTINCT FROM %L'', 0.01 * i, :''name'', :''value'') FROM generate_series(1, 240) i'
INSERT INTO token_rotation.policy (name, ttl, overlap, replay_window) VALUES ('regress_window', '1 hour', '0.5 seconds', '1 hour');
SELECT token, token_id FROM tr_issue('settings', 'regress_window') \gset ended_
SELECT reason FROM tr_rotate(:'ended_token');
SELECT tr_finish_overlap(:'ended_token_id');

-- leeway: none, so that an end is an end.
ALTER SYSTEM SET token_rotation.leeway = 0;
SELECT pg_reload_conf();
\set name token_rotation.leeway
\set value 0
\set ECHO none
\o /dev/null
:wait \gexec
\o
\set ECHO all
SHOW token_rotation.leeway;
SELECT token FROM tr_issue('settings', 'regress_window') \gset
SELECT previous_valid_until FROM tr_rotate(:'token') \gset
SELECT * FROM regress.watch(:'token', :'previous_valid_until');

-- overlap_enforcement: off, windows that are open last to the token's expiry;
-- what has ended, recorded or finished, stays ended.
SELECT token, token_id, expires_at FROM tr_issue('settings', 'regress_window') \gset
ALTER SYSTEM SET token_rotation.overlap_enforcement = off;
SELECT pg_reload_conf();
\set name token_rotation.overlap_enforcement
\set value off
\set ECHO none
\o /dev/null
:wait \gexec
\o
\set ECHO all
SHOW token_rotation.overlap_enforcement;
SELECT reason FROM tr_rotate(:'token');
SELECT overlap_ends_at FROM token_rotation.tokens t WHERE t.token_id = :'token_id' \gset
SELECT regress.wait_until(:'overlap_ends_at');
SELECT tr_sweep() >= 0 AS swept;
SELECT reason, status, valid_until = :'expires_at' AS to_expiry FROM tr_validate(:'token');
SELECT status FROM token_rotation.tokens t WHERE t.token_id = :'token_id';
SELECT reason, status FROM tr_validate(:'ended_token');
ALTER SYSTEM RESET token_rotation.overlap_enforcement;
SELECT pg_reload_conf();
\set value on
\set ECHO none
\o /dev/null
:wait \gexec
\o
\set ECHO all
SELECT reason, status, valid_until = :'overlap_ends_at' AS to_end_of_window FROM tr_validate(:'token');
ALTER SYSTEM RESET token_rotation.leeway;
SELECT pg_reload_conf();
\set name token_rotation.leeway
\set value 30s
\set ECHO none
\o /dev/null
:wait \gexec
\o
\set ECHO all
SHOW token_rotation.leeway;

-- rotation_enabled: off, nobody rotates or gets a successor again, and every
-- token that is valid stays valid.
SELECT token, token_id FROM tr_issue('settings') \gset
SELECT i.token AS old_token, r.token AS new_token FROM tr_issue('settings') i, tr_rotate(i.token) r \gset
ALTER SYSTEM SET token_rotation.rotation_enabled = off;
SELECT pg_reload_conf();
\set name token_rotation.rotation_enabled
\set value off
\set ECHO none
\o /dev/null
:wait \gexec
\o
\set ECHO all
SELECT reason, num_nonnulls(r.*) AS told FROM tr_rotate(:'token') r;
SELECT reason, num_nonnulls(r.*) AS told FROM tr_rotate_id(:'token_id') r;
SELECT reason, num_nonnulls(r.*) AS told FROM tr_rotate(:'old_token') r;
SELECT reason, num_nonnulls(r.*) AS told FROM tr_rotate(regress.guess(:'token')) r;
SELECT m.reason FROM tr_validate_many(ARRAY[:'token', :'old_token', :'new_token']) m;
SELECT reason FROM tr_issue('settings') i, tr_validate(i.token);
SELECT tr_revoke(:'new_token'), (tr_validate(:'new_token')).reason;
-- Nor does the server start anything.
UPDATE token_rotation.token SET refresh_at = issued_at WHERE token_id = :'token_id';
SELECT count(*) FROM tr_rotate_due();
ALTER SYSTEM RESET token_rotation.rotation_enabled;
SELECT pg_reload_conf();
\set value on
\set ECHO none
\o /dev/null
:wait \gexec
\o
\set ECHO all
SELECT reason FROM tr_rotate(:'token');
SELECT regress.wait_for($$SELECT count(*) = 3 FROM token_rotation.audit WHERE client_id = 'settings' AND event = 'rotation_refused' AND reason = 'disabled'$$);

-- audit_validations: none, failures, all.
SELECT token FROM tr_issue('settings none') \gset none_
SELECT tr_revoke(:'none_token'), (tr_validate(:'none_token')).reason;
ALTER SYSTEM SET token_rotation.audit_validations = failures;
SELECT pg_reload_conf();
\set name token_rotation.audit_validations
\set value failures
\set ECHO none
\o /dev/null
:wait \gexec
\o
\set ECHO all
SELECT token FROM tr_issue('settings failures') \gset good_
SELECT token FROM tr_issue('settings failures') \gset bad_
SELECT tr_revoke(:'bad_token');
CREATE ROLE regress_validator;
SELECT tr_grant('regress_validator', 'validator');
SET ROLE regress_validator;
SELECT m.reason FROM tr_validate_many(ARRAY['junk', 'more junk', regress.guess(:'good_token'), NULL]) m;
RESET ROLE;
SELECT reason FROM tr_validate(:'good_token', 'good place');
SELECT reason FROM tr_validate(:'bad_token', 'bad place');
SELECT regress.wait_for($$SELECT count(*) = 1 FROM token_rotation.audit WHERE client_id = 'settings failures' AND event = 'validation_refused'$$);
SELECT regress.wait_for($$SELECT sum((detail->>'count')::int) = 4 FROM token_rotation.audit WHERE role = 'regress_validator'$$);
SELECT client_id, event, reason, origin FROM token_rotation.audit
WHERE client_id IN ('settings none', 'settings failures') AND event LIKE 'valid%' ORDER BY seq;
SELECT event, reason, sum((detail->>'count')::int) FROM token_rotation.audit WHERE role = 'regress_validator'
GROUP BY 1, 2 ORDER BY 1, 2;
ALTER SYSTEM SET token_rotation.audit_validations = 'all';
SELECT pg_reload_conf();
\set value all
\set ECHO none
\o /dev/null
:wait \gexec
\o
\set ECHO all
SELECT token FROM tr_issue('settings all') \gset
SELECT count(*) FROM generate_series(1, 3) g, tr_validate(left(:'token', 100 + g)) v WHERE v.valid;
SELECT regress.wait_for($$SELECT sum((detail->>'count')::int) = 3 FROM token_rotation.audit WHERE client_id = 'settings all' AND event = 'validated'$$);
SELECT DISTINCT event, reason, token_ref IS NOT NULL AS named, actor, role FROM token_rotation.audit
WHERE client_id = 'settings all' AND event LIKE 'valid%';
ALTER SYSTEM RESET token_rotation.audit_validations;
SELECT pg_reload_conf();
\set value none
\set ECHO none
\o /dev/null
:wait \gexec
\o
\set ECHO all
SHOW token_rotation.audit_validations;

-- Nothing is left set.
SELECT name, setting FROM pg_settings WHERE name LIKE 'token\_rotation.%' AND setting IS DISTINCT FROM boot_val;
SELECT tr_ungrant('regress_validator', 'validator');
DROP ROLE regress_validator, regress_realm;
DELETE FROM token_rotation.token WHERE client_id LIKE 'settings%';
DELETE FROM token_rotation.policy WHERE name LIKE 'regress%';
