-- Risk rules: what shortens the lives of a policy's tokens, towards its min_ttl.

CREATE TABLE token_rotation.risk_rule (
    policy text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    pattern text COLLATE "C" NOT NULL,
    score integer NOT NULL,
    within interval NOT NULL DEFAULT '30 days',
    at_least integer NOT NULL DEFAULT 1,
    CONSTRAINT risk_rule_pkey PRIMARY KEY (policy, kind, pattern),
    CONSTRAINT risk_rule_kind_check
        CHECK (kind IN ('scope', 'classification', 'history')),
    CONSTRAINT risk_rule_score_check
        CHECK (score BETWEEN 1 AND 100),
    CONSTRAINT risk_rule_within_check
        CHECK (within OPERATOR(pg_catalog.>=) '1 second'::pg_catalog.interval
           AND within OPERATOR(pg_catalog.<=) '100 years'::pg_catalog.interval),
    CONSTRAINT risk_rule_at_least_check
        CHECK (at_least BETWEEN 1 AND 1000)
);
COMMENT ON TABLE token_rotation.risk_rule IS
    'what shortens the lives of a policy''s new tokens, from its ttl towards its min_ttl; edited with plain SQL, each change is audited. The scores of the rules that match add up, to 100 at most';
COMMENT ON COLUMN token_rotation.risk_rule.policy IS 'name of the policy; one that has rules can be neither renamed nor deleted';
COMMENT ON COLUMN token_rotation.risk_rule.kind IS 'what is looked at: a scope of the token, the classification in its metadata, or the history of its client in its realm';
COMMENT ON COLUMN token_rotation.risk_rule.pattern IS 'a scope or classification, or what one begins with and a *; for history refusals, reuse or dormancy';
COMMENT ON COLUMN token_rotation.risk_rule.score IS 'parts of a hundred of the way from ttl to min_ttl';
COMMENT ON COLUMN token_rotation.risk_rule.within IS 'how far history is looked back upon';
COMMENT ON COLUMN token_rotation.risk_rule.at_least IS 'how many refusals or reuses there must be in that time';

-- BEFORE INSERT, UPDATE, per row: an unknown policy is 42704, a pattern that
-- can match nothing 22023.  BEFORE TRUNCATE: refused.
CREATE FUNCTION @extschema@.tr_risk_rule_guard() RETURNS trigger
    AS 'MODULE_PATHNAME', 'tr_risk_rule_guard'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_risk_rule_guard() IS
    'trigger: refuses risk rules of unknown policies and patterns that can match nothing, refuses TRUNCATE';

-- AFTER INSERT, UPDATE, DELETE, per row: writes the audit row.
CREATE FUNCTION @extschema@.tr_risk_rule_audit() RETURNS trigger
    AS 'MODULE_PATHNAME', 'tr_risk_rule_audit'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_risk_rule_audit() IS
    'trigger: writes an audit row for each change of a risk rule';

CREATE TRIGGER risk_rule_guard BEFORE INSERT OR UPDATE ON token_rotation.risk_rule
    FOR EACH ROW EXECUTE FUNCTION @extschema@.tr_risk_rule_guard();
CREATE TRIGGER risk_rule_guard_truncate BEFORE TRUNCATE ON token_rotation.risk_rule
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.tr_risk_rule_guard();
CREATE TRIGGER risk_rule_audit AFTER INSERT OR UPDATE OR DELETE ON token_rotation.risk_rule
    FOR EACH ROW EXECUTE FUNCTION @extschema@.tr_risk_rule_audit();
ALTER TABLE token_rotation.risk_rule ENABLE ALWAYS TRIGGER risk_rule_guard;
ALTER TABLE token_rotation.risk_rule ENABLE ALWAYS TRIGGER risk_rule_guard_truncate;
ALTER TABLE token_rotation.risk_rule ENABLE ALWAYS TRIGGER risk_rule_audit;

CREATE FUNCTION @extschema@.tr_explain_ttl(
    client_id text, policy text DEFAULT 'default', scopes text[] DEFAULT '{}',
    metadata jsonb DEFAULT '{}',
    OUT kind text, OUT pattern text, OUT matched boolean, OUT score integer, OUT effect interval)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tr_explain_ttl'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_explain_ttl(text, text, text[], jsonb) IS
    'what each risk rule of a policy would make of such a token now, and by how much it alone would shorten its ttl; the last row, of kind total, is what all of them do together';
