\echo Use "ALTER EXTENSION token_rotation UPDATE" to load this file. \quit

-- The functions below are in the library from 0.5 on, which is loaded when the
-- server starts and tells its version.
DO LANGUAGE plpgsql $$
BEGIN
    IF (pg_catalog.string_to_array(pg_catalog.current_setting('token_rotation.version', true), '.')::pg_catalog.int4[]
        OPERATOR(pg_catalog.>=) '{0,5}'::pg_catalog.int4[]) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = '55000',
            MESSAGE = 'the library of version 0.5 is not loaded',
            DETAIL = 'The server was started with an earlier one, which lacks functions of this version.',
            HINT = 'Restart the server, then update.';
    END IF;
END
$$;
