-- Rotation on schedule: jobs of pg_cron, which is looked for when these are called.

CREATE FUNCTION @extschema@.tr_schedule(policy text, cron text) RETURNS bigint
    AS 'MODULE_PATHNAME', 'tr_schedule'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_schedule(text, text) IS
    'have pg_cron call tr_rotate_due for a policy (NULL: for all of them) as the caller, or give the job another schedule; returns its id';

CREATE FUNCTION @extschema@.tr_unschedule(policy text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tr_unschedule'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_unschedule(text) IS
    'remove the job that the caller made with tr_schedule; false when there was none';

CREATE FUNCTION @extschema@.tr_schedules(
    OUT policy text, OUT schedule text, OUT active boolean, OUT job_id bigint, OUT database text,
    OUT username text, OUT last_run_at timestamptz, OUT last_status text, OUT last_message text)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tr_schedules'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_schedules() IS
    'what the view token_rotation.schedules shows';

CREATE VIEW token_rotation.schedules WITH (security_barrier = true) AS
    SELECT s.policy, s.schedule, s.active, s.job_id, s.database, s.username, s.last_run_at,
           s.last_status, s.last_message
    FROM @extschema@.tr_schedules() s;
COMMENT ON VIEW token_rotation.schedules IS
    'jobs of pg_cron that tr_schedule made, as far as pg_cron shows them to the reader: his own, a superuser''s are all; none where pg_cron does not work on this database';
COMMENT ON COLUMN token_rotation.schedules.policy IS 'whose tokens it rotates; NULL: every policy''s';
COMMENT ON COLUMN token_rotation.schedules.schedule IS 'when it runs, as pg_cron reads it';
COMMENT ON COLUMN token_rotation.schedules.active IS 'false: switched off with cron.alter_job';
COMMENT ON COLUMN token_rotation.schedules.job_id IS 'its number in cron.job';
COMMENT ON COLUMN token_rotation.schedules.database IS 'where it runs';
COMMENT ON COLUMN token_rotation.schedules.username IS 'as whom it runs';
COMMENT ON COLUMN token_rotation.schedules.last_run_at IS 'when its newest run began; this and the next two are NULL where pg_cron''s history has none';
COMMENT ON COLUMN token_rotation.schedules.last_status IS 'succeeded, failed, or what pg_cron is doing with it';
COMMENT ON COLUMN token_rotation.schedules.last_message IS 'SELECT n or n rows: n rotations were started; or the error';
