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
    EXECUTE pg_catalog.format('ALTER FUNCTION @extschema@.tr_validate(text, text) OWNER TO %s', owner);
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
        SELECT pg_catalog.format('GRANT EXECUTE ON FUNCTION @extschema@.tr_validate(text, text) TO %s%s',
            CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                 ELSE a.grantee::pg_catalog.regrole::text END,
            CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
        FROM pg_catalog.aclexplode(acl) a
        WHERE a.grantee OPERATOR(pg_catalog.<>) owner
    LOOP
        EXECUTE statement;
    END LOOP;
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

-- The types were open to PUBLIC.
DO LANGUAGE plpgsql $$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        SELECT pg_catalog.format('REVOKE ALL ON TYPE %s FROM %s', t.oid::pg_catalog.regtype,
            CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                 ELSE a.grantee::pg_catalog.regrole::text END)
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) c.reltype,
             pg_catalog.aclexplode(coalesce(t.typacl, pg_catalog.acldefault('T', t.typowner))) a
        WHERE c.relnamespace OPERATOR(pg_catalog.=) 'token_rotation'::pg_catalog.regnamespace
          AND a.grantee OPERATOR(pg_catalog.<>) t.typowner
    LOOP
        EXECUTE statement;
    END LOOP;
END
$$;
