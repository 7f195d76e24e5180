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

-- Nobody has anything to begin with.  New functions are open to PUBLIC, and
-- ALTER DEFAULT PRIVILEGES may have opened whatever was made here to anybody:
-- all that is taken back, but for what the worker's role needs.  Types stay open,
-- to those who may use the schema: a type tells nothing.
DO LANGUAGE plpgsql $$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        WITH member (kind, name, owner, acl) AS (
            SELECT 'FUNCTION', p.oid::pg_catalog.regprocedure::text, p.proowner,
                   coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
            FROM pg_catalog.pg_depend d
            JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
            JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) d.objid
            WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
              AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
              AND e.extname OPERATOR(pg_catalog.=) 'token_rotation'
            UNION ALL
            SELECT 'SCHEMA', 'token_rotation', n.nspowner, n.nspacl
            FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.=) 'token_rotation'
            UNION ALL
            SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
                   c.oid::pg_catalog.regclass::text, c.relowner, c.relacl
            FROM pg_catalog.pg_class c
            WHERE (c.relnamespace OPERATOR(pg_catalog.=) 'token_rotation'::pg_catalog.regnamespace
                   OR c.oid OPERATOR(pg_catalog.=) '@extschema@.tr_stat'::pg_catalog.regclass)
              AND c.relkind IN ('r', 'v', 'S')
        )
        SELECT DISTINCT pg_catalog.format('REVOKE ALL ON %s %s FROM %s', m.kind, m.name,
            CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                 ELSE a.grantee::pg_catalog.regrole::text END)
        FROM member m, pg_catalog.aclexplode(m.acl) a
        WHERE a.grantee OPERATOR(pg_catalog.<>) m.owner
          AND a.grantee OPERATOR(pg_catalog.<>) 'token_rotation_worker'::pg_catalog.regrole
    LOOP
        EXECUTE statement;
    END LOOP;
END
$$;

-- Whoever may monitor the server may monitor this.
GRANT SELECT ON @extschema@.tr_stat TO pg_monitor;
GRANT EXECUTE ON FUNCTION @extschema@.tr_stat_counters(), @extschema@.tr_health() TO pg_monitor;
