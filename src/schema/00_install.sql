\echo Use "CREATE EXTENSION token_rotation" to load this file. \quit

-- The script declares, C acts.  Nothing here says OR REPLACE or IF NOT EXISTS:
-- an object that somebody else prepared under one of our names is an error.

-- Refuses to install where the library is not preloaded, makes the role
-- token_rotation_worker or refuses one that is not bare, and makes this
-- database known to the launcher when the transaction commits.
CREATE FUNCTION @extschema@.tr_install() RETURNS void
    AS 'MODULE_PATHNAME', 'tr_install'
    LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

SELECT @extschema@.tr_install();

DROP FUNCTION @extschema@.tr_install();

CREATE SCHEMA token_rotation;
COMMENT ON SCHEMA token_rotation IS
    'relations of the extension token_rotation: API tokens, their policies and their audit trail';
GRANT USAGE ON SCHEMA token_rotation TO token_rotation_worker;
