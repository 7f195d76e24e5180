-- Privileges.  Presets give EXECUTE on their functions and membership in a realm.

CREATE FUNCTION @extschema@.tr_grant(role text, preset text, realm text DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'tr_grant'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_grant(text, text, text) IS
    'give a role the preset validator, issuer, operator or auditor, and membership in a realm; for the extension''s owner';

CREATE FUNCTION @extschema@.tr_ungrant(role text, preset text, realm text DEFAULT NULL) RETURNS void
    AS 'MODULE_PATHNAME', 'tr_ungrant'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_ungrant(text, text, text) IS
    'take back what tr_grant gave: the preset''s functions, and membership where a realm is named';

CREATE FUNCTION @extschema@.tr_set_owner("from" text, "to" text) RETURNS bigint
    AS 'MODULE_PATHNAME', 'tr_set_owner'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_set_owner(text, text) IS
    'move every token of a realm, which may have been dropped, to another, and let its cutoffs and blocks speak there too; for superusers; returns how many tokens';

-- New functions are open to PUBLIC until somebody revokes that.
DO LANGUAGE plpgsql $$
DECLARE
    f pg_catalog.regprocedure;
BEGIN
    FOR f IN
        SELECT d.objid::pg_catalog.regprocedure
        FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
        WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
          AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
          AND e.extname OPERATOR(pg_catalog.=) 'token_rotation'
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    END LOOP;
END
$$;
