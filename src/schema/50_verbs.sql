-- The verbs.  Their names, arguments and answers are the extension's contract.
-- A verdict is returned, misuse is raised.  None is open to PUBLIC (see
-- 80_privileges.sql); none is SECURITY DEFINER: C works on the extension's own
-- tables as their owner and asks for itself who called.

CREATE FUNCTION @extschema@.tr_issue(
    client_id text, policy text DEFAULT 'default', scopes text[] DEFAULT '{}',
    metadata jsonb DEFAULT '{}', ttl interval DEFAULT NULL,
    OUT token text, OUT rotation_key text, OUT token_id uuid, OUT family_id uuid,
    OUT client_id text, OUT owner text, OUT status text, OUT scopes text[],
    OUT metadata jsonb, OUT issued_at timestamptz, OUT expires_at timestamptz,
    OUT refresh_at timestamptz)
    AS 'MODULE_PATHNAME', 'tr_issue'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_issue(text, text, text[], jsonb, interval) IS
    'issue a token; its text, and its rotation key where the policy asks for one, are shown this once';

-- The answer of tr_validate has a type of its own, because the executor describes
-- the columns of OUT parameters anew for each statement, which costs half as
-- much as the validation.
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

CREATE FUNCTION @extschema@.tr_validate(token text, origin text DEFAULT NULL)
    RETURNS token_rotation.validation
    AS 'MODULE_PATHNAME', 'tr_validate'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_validate(text, text) IS
    'is this token valid now, and whose is it? Writes nothing: works in READ ONLY transactions and on hot standbys';

CREATE FUNCTION @extschema@.tr_validate_many(
    tokens text[],
    OUT ord integer, OUT valid boolean, OUT reason text, OUT token_id uuid, OUT client_id text,
    OUT owner text, OUT policy text, OUT scopes text[], OUT metadata jsonb,
    OUT status text, OUT valid_until timestamptz, OUT refresh_at timestamptz)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tr_validate_many'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_validate_many(text[]) IS
    'tr_validate for each element, one row an element, in order';

CREATE FUNCTION @extschema@.tr_rotate(
    token text, rotation_key text DEFAULT NULL, overlap interval DEFAULT NULL,
    origin text DEFAULT NULL,
    OUT token text, OUT rotation_key text, OUT token_id uuid, OUT family_id uuid,
    OUT client_id text, OUT owner text, OUT status text, OUT scopes text[],
    OUT metadata jsonb, OUT issued_at timestamptz, OUT expires_at timestamptz,
    OUT refresh_at timestamptz, OUT previous_token_id uuid,
    OUT previous_valid_until timestamptz, OUT replayed boolean, OUT reason text)
    AS 'MODULE_PATHNAME', 'tr_rotate'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_rotate(text, text, interval, text) IS
    'make the successor of a token for its holder; asked again inside the replay window it gives the same successor. reason is ok, or token is NULL';

CREATE FUNCTION @extschema@.tr_rotate_id(
    token_id uuid, overlap interval DEFAULT NULL,
    OUT token text, OUT rotation_key text, OUT token_id uuid, OUT family_id uuid,
    OUT client_id text, OUT owner text, OUT status text, OUT scopes text[],
    OUT metadata jsonb, OUT issued_at timestamptz, OUT expires_at timestamptz,
    OUT refresh_at timestamptz, OUT previous_token_id uuid,
    OUT previous_valid_until timestamptz, OUT replayed boolean, OUT reason text)
    AS 'MODULE_PATHNAME', 'tr_rotate_id'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_rotate_id(uuid, interval) IS
    'make the successor of a token for an operator; its random secret is shown this once and never given to the holder of the old token';

CREATE FUNCTION @extschema@.tr_revoke(token text, reason text DEFAULT NULL, family boolean DEFAULT false)
    RETURNS boolean
    AS 'MODULE_PATHNAME', 'tr_revoke'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_revoke(text, text, boolean) IS
    'end the token that the caller holds, or its family, after RFC 7009; true when this call ended something, an unknown token is no error';

CREATE FUNCTION @extschema@.tr_revoke_id(token_id uuid, reason text DEFAULT NULL, family boolean DEFAULT false)
    RETURNS integer
    AS 'MODULE_PATHNAME', 'tr_revoke_id'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_revoke_id(uuid, text, boolean) IS
    'end a token, or its family; returns how many tokens this call ended';

CREATE FUNCTION @extschema@.tr_revoke_client(client_id text, reason text DEFAULT NULL)
    RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'tr_revoke_client'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_revoke_client(text, text) IS
    'end every token of a client that was issued until now, in the caller''s realms; returns the cutoff';

CREATE FUNCTION @extschema@.tr_revoke_policy(policy text, reason text DEFAULT NULL)
    RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'tr_revoke_policy'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_revoke_policy(text, text) IS
    'end every token of a policy that was issued until now, in the caller''s realms; returns the cutoff';

CREATE FUNCTION @extschema@.tr_revoke_before(before timestamptz, reason text DEFAULT NULL)
    RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'tr_revoke_before'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_revoke_before(timestamptz, text) IS
    'end every token that was issued before a moment, in the caller''s realms; returns the cutoff in force';

CREATE FUNCTION @extschema@.tr_block_client(client_id text, blocked boolean DEFAULT true)
    RETURNS boolean
    AS 'MODULE_PATHNAME', 'tr_block_client'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_block_client(text, boolean) IS
    'block or unblock a client in the caller''s realms; true when this call changed something';

CREATE FUNCTION @extschema@.tr_report_leak(token text, source text DEFAULT NULL)
    RETURNS void
    AS 'MODULE_PATHNAME', 'tr_report_leak'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_report_leak(text, text) IS
    'end the family of a token, or of a rotation key, that was found where it should not be, also when it is dead already; answers the same whether or not it is one';

CREATE FUNCTION @extschema@.tr_extend_overlap(token_id uuid, by interval)
    RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'tr_extend_overlap'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_extend_overlap(uuid, interval) IS
    'lengthen the open overlap window of a rotated token, at most to its own expiry; returns the new end';

CREATE FUNCTION @extschema@.tr_finish_overlap(token_id uuid)
    RETURNS boolean
    AS 'MODULE_PATHNAME', 'tr_finish_overlap'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_finish_overlap(uuid) IS
    'end the open overlap window of a rotated token now; false when none was open';

CREATE FUNCTION @extschema@.tr_cancel_rotation(token_id uuid)
    RETURNS boolean
    AS 'MODULE_PATHNAME', 'tr_cancel_rotation'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_cancel_rotation(uuid) IS
    'undo the rotation of a token: its unused successor is revoked and it is active again; 55000 once the successor was used; false when it was not rotating';

CREATE FUNCTION @extschema@.tr_rotate_due(
    policy text DEFAULT NULL, max_tokens integer DEFAULT 1000,
    OUT policy_name text, OUT started integer)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tr_rotate_due'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_rotate_due(text, integer) IS
    'open the overlap windows of tokens past refresh_at or their policy''s rotate_after, oldest first, in the caller''s realms, for their holders to claim successors with tr_rotate; where the policy says sealed, make and encrypt them at once; counts by policy';

CREATE FUNCTION @extschema@.tr_sweep(max_tokens integer DEFAULT 10000)
    RETURNS integer
    AS 'MODULE_PATHNAME', 'tr_sweep'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_sweep(integer) IS
    'record the ends of overlap windows and expired tokens, oldest first, in the caller''s realms; returns how many. The worker does this by itself';

CREATE FUNCTION @extschema@.tr_prune(before timestamptz, max_tokens integer DEFAULT 10000)
    RETURNS integer
    AS 'MODULE_PATHNAME', 'tr_prune'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_prune(timestamptz, integer) IS
    'delete families whose tokens all ended before a moment, oldest first, in the caller''s realms; returns how many tokens. The audit trail stays';
