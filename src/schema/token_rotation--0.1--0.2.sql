\echo Use "ALTER EXTENSION token_rotation UPDATE" to load this file. \quit

-- tr_validate answers with a type of its own.  A function cannot be given
-- another type, so it is made anew: with the owner of the old one and the
-- grants that it had.  A view on it has to be dropped before, and made again.
CREATE TYPE token_rotation.validation AS (
    valid boolean, reason text, token_id uuid, client_id text, owner text, policy text,
    scopes text[], metadata jsonb, status text, valid_until timestamptz, refresh_at timestamptz);
COMMENT ON TYPE token_rotation.validation IS 'what tr_validate answers';
COMMENT ON COLUMN token_rotation.validation.valid IS 'may the token be used now?';
COMMENT ON COLUMN token_rotation.validation.reason IS 'ok, or why not';
COMMENT ON COLUMN token_rotation.validation.token_id IS 'its public half; NULL where the text is malformed';
COMMENT ON COLUMN token_rotation.validation.client_id IS 'whose it is; this and the next four are NULL unless valid';
COMMENT ON COLUMN token_rotation.validation.owner IS 'its realm';
COMMENT ON COLUMN token_rotation.validation.policy IS 'name of its policy';
COMMENT ON COLUMN token_rotation.validation.scopes IS 'what it may be used for';
COMMENT ON COLUMN token_rotation.validation.metadata IS 'the issuer''s own data';
COMMENT ON COLUMN token_rotation.validation.status IS 'active, rotating, revoked or expired; this and the times are NULL unless the secret matches';
COMMENT ON COLUMN token_rotation.validation.valid_until IS 'when it ends by itself, without leeway';
COMMENT ON COLUMN token_rotation.validation.refresh_at IS 'when its client should rotate';

DO LANGUAGE plpgsql $$
DECLARE
    owner pg_catalog.regrole;
    acl pg_catalog.aclitem[];
    statement text;
BEGIN
    SELECT p.proowner, coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)) INTO owner, acl
    FROM pg_catalog.pg_proc p
    WHERE p.oid OPERATOR(pg_catalog.=) '@extschema@.tr_validate(text, text)'::pg_catalog.regprocedure;

    DROP FUNCTION @extschema@.tr_validate(text, text);
    CREATE FUNCTION @extschema@.tr_validate(token text, origin text DEFAULT NULL)
        RETURNS token_rotation.validation
        AS 'MODULE_PATHNAME', 'tr_validate'
        LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
    EXECUTE pg_catalog.format('ALTER FUNCTION %s OWNER TO %s',
        '@extschema@.tr_validate(text, text)'::pg_catalog.regprocedure, owner);
    EXECUTE pg_catalog.format('ALTER TYPE token_rotation.validation OWNER TO %s', owner);

    -- what default privileges gave, then what the old one had
    FOR statement IN
        SELECT pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM %s', p.oid::pg_catalog.regprocedure,
            CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                 ELSE a.grantee::pg_catalog.regrole::text END)
        FROM pg_catalog.pg_proc p,
             pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) a
        WHERE p.oid OPERATOR(pg_catalog.=) '@extschema@.tr_validate(text, text)'::pg_catalog.regprocedure
          AND a.grantee OPERATOR(pg_catalog.<>) p.proowner
        UNION ALL
        SELECT pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %s%s',
            '@extschema@.tr_validate(text, text)'::pg_catalog.regprocedure,
            CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                 ELSE a.grantee::pg_catalog.regrole::text END,
            CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
        FROM pg_catalog.aclexplode(acl) a
        WHERE a.grantee OPERATOR(pg_catalog.<>) owner
    LOOP
        EXECUTE statement;
    END LOOP;

    -- Grants of a script count as the extension's own, which pg_dump leaves out;
    -- these are the DBA's.
    UPDATE pg_catalog.pg_init_privs i
    SET initprivs = ARRAY[pg_catalog.makeaclitem(owner, owner, 'EXECUTE', false)]
    WHERE i.classoid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
      AND i.objoid OPERATOR(pg_catalog.=) '@extschema@.tr_validate(text, text)'::pg_catalog.regprocedure;
    -- and from 17 on the roles in them are depended on
    DELETE FROM pg_catalog.pg_shdepend d
    WHERE d.dbid OPERATOR(pg_catalog.=) (SELECT b.oid FROM pg_catalog.pg_database b
              WHERE b.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
      AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
      AND d.objid OPERATOR(pg_catalog.=) '@extschema@.tr_validate(text, text)'::pg_catalog.regprocedure
      AND d.deptype OPERATOR(pg_catalog.=) 'i';
END
$$;
COMMENT ON FUNCTION @extschema@.tr_validate(text, text) IS
    'is this token valid now, and whose is it? Writes nothing: works in READ ONLY transactions and on hot standbys';

-- has_sequence_privilege() made auditors of all members of pg_read_all_data.
DROP POLICY audit_auditor ON token_rotation.audit;
CREATE POLICY audit_auditor ON token_rotation.audit FOR SELECT
    USING ((SELECT pg_catalog.bool_or(a.grantee OPERATOR(pg_catalog.=) 0
                                      OR pg_catalog.pg_has_role(a.grantee, 'USAGE'))
            FROM pg_catalog.pg_class c,
                 pg_catalog.aclexplode(coalesce(c.relacl, pg_catalog.acldefault('s', c.relowner))) a
            WHERE c.oid OPERATOR(pg_catalog.=) 'token_rotation.audit_seq'::pg_catalog.regclass
              AND a.privilege_type OPERATOR(pg_catalog.=) 'SELECT'));
COMMENT ON POLICY audit_auditor ON token_rotation.audit IS 'auditors read every row';

-- Statistics hold samples of a column's values, and members of pg_read_all_data
-- read pg_statistic, where there is no row security.  What ANALYZE has put there
-- goes, for it would not look at these columns again.
ALTER TABLE token_rotation.token ALTER secret_hash SET STATISTICS 0,
    ALTER rotation_hash SET STATISTICS 0;
ALTER TABLE token_rotation.token_cache ALTER secret_hash SET STATISTICS 0,
    ALTER nonce SET STATISTICS 0;
DELETE FROM pg_catalog.pg_statistic s USING pg_catalog.pg_attribute a
WHERE a.attrelid IN ('token_rotation.token'::pg_catalog.regclass, 'token_rotation.token_cache'::pg_catalog.regclass)
  AND a.attname IN ('secret_hash', 'rotation_hash', 'nonce')
  AND s.starelid OPERATOR(pg_catalog.=) a.attrelid AND s.staattnum OPERATOR(pg_catalog.=) a.attnum;

-- What ALTER DEFAULT PRIVILEGES had opened when 0.1 was installed stayed open.
-- What no preset gives is taken back here.  Grants on functions and on policy
-- cannot be told from those that were meant: look through them.
DO LANGUAGE plpgsql $$
DECLARE
    statement text;
    stranger text;
BEGIN
    -- it may be there because TRIGGER was open, and would run in our name
    SELECT pg_catalog.format('%s on %s', t.tgname, t.tgrelid::pg_catalog.regclass) INTO stranger
    FROM pg_catalog.pg_trigger t
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid
    WHERE c.relnamespace OPERATOR(pg_catalog.=) 'token_rotation'::pg_catalog.regnamespace
      AND NOT t.tgisinternal
      AND NOT EXISTS (
          SELECT FROM pg_catalog.pg_depend d
          JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
          WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
            AND d.objid OPERATOR(pg_catalog.=) t.tgfoid
            AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
            AND e.extname OPERATOR(pg_catalog.=) 'token_rotation')
    LIMIT 1;
    IF stranger IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '55000',
            MESSAGE = pg_catalog.format('trigger %s is not the extension''s', stranger),
            DETAIL = 'It runs with the rights of the owner of the tables, and 0.1 may have let anybody make it.',
            HINT = 'Look at its function, drop the trigger, update, and make it again if it is yours.';
    END IF;

    FOR statement IN
        SELECT pg_catalog.format('REVOKE CREATE ON SCHEMA token_rotation FROM %s CASCADE',
            CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                 ELSE a.grantee::pg_catalog.regrole::text END)
        FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a
        WHERE n.nspname OPERATOR(pg_catalog.=) 'token_rotation'
          AND a.grantee OPERATOR(pg_catalog.<>) n.nspowner
          AND a.privilege_type OPERATOR(pg_catalog.=) 'CREATE'
        UNION ALL
        SELECT pg_catalog.format('REVOKE %s ON %s FROM %s CASCADE', a.privilege_type, c.oid::pg_catalog.regclass,
            CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                 ELSE a.grantee::pg_catalog.regrole::text END)
        FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
        WHERE c.relnamespace OPERATOR(pg_catalog.=) 'token_rotation'::pg_catalog.regnamespace
          AND c.relkind IN ('r', 'v', 'S')
          AND a.grantee OPERATOR(pg_catalog.<>) c.relowner
          AND a.grantee OPERATOR(pg_catalog.<>) 'token_rotation_worker'::pg_catalog.regrole
          AND (c.relname IN ('token', 'token_cache')
               OR a.privilege_type OPERATOR(pg_catalog.<>) 'SELECT' AND c.relname OPERATOR(pg_catalog.<>) 'policy'
               OR a.privilege_type IN ('TRIGGER', 'TRUNCATE', 'REFERENCES', 'MAINTAIN'))
    LOOP
        EXECUTE statement;
    END LOOP;
END
$$;
