-- tr_schedule, tr_unschedule and the view where there is no pg_cron: test/t/080_cron.pl has one.
SET search_path = tr, public;
CREATE FUNCTION regress.told(call text, OUT state text, OUT message text, OUT detail text, OUT hint text) LANGUAGE sql AS $$
    SELECT t.state, t.message, t.detail, replace(t.hint, quote_literal(current_database()), '<here>') FROM regress.try(call) t
$$;

-- None: an error says what to do, and the view has no row.
\x on
SELECT t.* FROM regress.told($$SELECT tr.tr_schedule('default', '* * * * *')$$) t;
SELECT t.* FROM regress.told($$SELECT tr.tr_schedule(NULL, '* * * * *')$$) t;
SELECT t.* FROM regress.told($$SELECT tr.tr_unschedule('default')$$) t;
\x off
SELECT * FROM token_rotation.schedules;

-- Others' functions of these names are no pg_cron, nor does a setting of its name make one.
CREATE SCHEMA cron;
CREATE FUNCTION cron.schedule(text, text, text) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$;
CREATE FUNCTION cron.unschedule(bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$;
CREATE VIEW cron.job AS SELECT 1::bigint AS jobid, '* * * * *'::text AS schedule, 'x'::text AS command,
    current_database()::text AS database, current_user::text AS username, true AS active,
    'token_rotation: default in ' || current_database() AS jobname;
SELECT set_config('cron.database_name', current_database(), false) = current_database() AS set;
SELECT c.call, t.state, t.message FROM unnest(ARRAY['SELECT tr.tr_schedule(''default'', ''* * * * *'')', 'SELECT tr.tr_unschedule(''default'')']) c (call),
    regress.told(c.call) t;
SELECT * FROM token_rotation.schedules;
RESET cron.database_name;
SET client_min_messages = warning;
DROP SCHEMA cron CASCADE;
RESET client_min_messages;

-- Misuse comes first.
SELECT c.call, t.state, t.message, t.detail FROM unnest(ARRAY[
    'SELECT tr.tr_schedule(''default'', NULL)',
    'SELECT tr.tr_schedule(''default'', repeat(''*'', 256))',
    'SELECT tr.tr_schedule(''nothing'', ''* * * * *'')',
    'SELECT tr.tr_schedule('''', ''* * * * *'')',
    'SELECT tr.tr_schedule(repeat(''x'', 1000000), ''* * * * *'')']) c (call), regress.told(c.call) t;
SELECT t.state, t.message, t.detail FROM regress.told('SELECT tr.tr_schedule(''default'', repeat(''*'', 1000000))') t;
SELECT t.state, t.message FROM regress.told('SELECT tr.tr_schedule(''default'', repeat(''ü'', 127))') t;
SELECT t.state, t.message FROM regress.told('SELECT tr.tr_unschedule(repeat(''x'', 1000000))') t;
BEGIN READ ONLY;
SELECT t.state, t.message FROM regress.told('SELECT tr.tr_schedule(''default'', ''* * * * *'')') t;
SELECT t.state, t.message FROM regress.told('SELECT tr.tr_unschedule(''default'')') t;
SELECT * FROM token_rotation.schedules;
ROLLBACK;

-- For operators, who have to be able to log in: pg_cron does it for them.
CREATE ROLE regress_schedule;
SELECT c.call, regress.answer_as('regress_schedule', c.call) AS without, tr_grant('regress_schedule', 'operator') AS granted,
    regress.answer_as('regress_schedule', c.call) AS with, tr_ungrant('regress_schedule', 'operator') AS taken
FROM unnest(ARRAY['SELECT tr.tr_schedule(''default'', ''* * * * *'')', 'SELECT tr.tr_unschedule(''default'')', 'SELECT count(*) FROM token_rotation.schedules']) c (call);
SELECT tr_grant('regress_schedule', p) FROM unnest('{validator,issuer,auditor}'::text[]) p;
SELECT c.call, regress.answer_as('regress_schedule', c.call) AS answer
FROM unnest(ARRAY['SELECT tr.tr_schedule(''default'', ''* * * * *'')', 'SELECT tr.tr_unschedule(''default'')', 'SELECT count(*) FROM token_rotation.schedules']) c (call);
SELECT tr_grant('regress_schedule', 'operator');
SET ROLE regress_schedule;
SELECT tr_schedule('default', '* * * * *');
RESET ROLE;
SELECT tr_ungrant('regress_schedule', p) FROM unnest('{validator,issuer,operator,auditor}'::text[]) p;
-- Nothing of all this is in the trail.
SELECT count(*) FROM token_rotation.audit WHERE event = 'schedule_changed';
DROP ROLE regress_schedule;
DROP FUNCTION regress.told;
