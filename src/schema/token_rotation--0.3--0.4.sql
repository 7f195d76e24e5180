\echo Use "ALTER EXTENSION token_rotation UPDATE" to load this file. \quit

-- The functions below are in the library from 0.4 on, which is loaded when the
-- server starts and tells its version.
DO LANGUAGE plpgsql $$
BEGIN
    IF (pg_catalog.string_to_array(pg_catalog.current_setting('token_rotation.version', true), '.')::pg_catalog.int4[]
        OPERATOR(pg_catalog.>=) '{0,4}'::pg_catalog.int4[]) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = '55000',
            MESSAGE = 'the library of version 0.4 is not loaded',
            DETAIL = 'The server was started with an earlier one, which lacks functions of this version.',
            HINT = 'Restart the server, then update.';
    END IF;
END
$$;

ALTER TABLE token_rotation.policy ADD COLUMN rotate_after interval,
    ADD CONSTRAINT policy_rotate_after_check
        CHECK (rotate_after OPERATOR(pg_catalog.>=) '1 second'::pg_catalog.interval
           AND rotate_after OPERATOR(pg_catalog.<=) '100 years'::pg_catalog.interval);
COMMENT ON COLUMN token_rotation.policy.rotate_after IS 'tr_rotate_due starts the rotation of a token at this age, if refresh_at is not earlier; NULL: at refresh_at';

ALTER TABLE token_rotation.policy ADD COLUMN overlap_starts text COLLATE "C" NOT NULL DEFAULT 'rotation',
    ADD CONSTRAINT policy_overlap_starts_check
        CHECK (overlap_starts IN ('rotation', 'first_use'));
COMMENT ON COLUMN token_rotation.policy.overlap_starts IS 'when the overlap window opens: at the rotation, or at the first_use of the successor, until when the old token lives to its own expiry';

-- A window that the server opens has no rotation yet.
ALTER TABLE token_rotation.token DROP CONSTRAINT token_overlap_check, DROP CONSTRAINT token_rotating_check,
    ADD CONSTRAINT token_overlap_check
        CHECK ((rotated_at IS NULL OR overlap_ends_at IS NOT NULL)
           AND overlap_ends_at BETWEEN coalesce(rotated_at, issued_at) AND expires_at
           AND (replay_ends_at IS NULL
                OR rotated_at IS NOT NULL AND replay_ends_at BETWEEN rotated_at AND expires_at)),
    ADD CONSTRAINT token_rotating_check
        CHECK ((status OPERATOR(pg_catalog.<>) 'active' OR overlap_ends_at IS NULL)
           AND (status OPERATOR(pg_catalog.<>) 'rotating' OR overlap_ends_at IS NOT NULL));
COMMENT ON COLUMN token_rotation.token.overlap_ends_at IS 'when its overlap window ends; without rotated_at the server has opened it, and its holder has not come';
DROP INDEX token_rotation.token_client;
CREATE INDEX token_client ON token_rotation.token (client_id, owner);
COMMENT ON INDEX token_rotation.token_client IS 'a client''s tokens, and those of them in a realm';
CREATE INDEX token_refresh ON token_rotation.token (refresh_at, token_id) WHERE status OPERATOR(pg_catalog.=) 'active';
COMMENT ON INDEX token_rotation.token_refresh IS 'tokens that should be rotated, for tr_rotate_due';
CREATE INDEX token_age ON token_rotation.token (policy, issued_at) WHERE status OPERATOR(pg_catalog.=) 'active';
COMMENT ON INDEX token_rotation.token_age IS 'tokens of a policy by age, for its rotate_after';

-- Successors whose first use opens the window of their predecessor.

CREATE TABLE token_rotation.pending (
    token_id uuid NOT NULL,
    predecessor_id uuid NOT NULL,
    overlap interval NOT NULL,
    CONSTRAINT pending_pkey PRIMARY KEY (token_id),
    CONSTRAINT pending_predecessor_key UNIQUE (predecessor_id),
    CONSTRAINT pending_overlap_check
        CHECK (overlap OPERATOR(pg_catalog.>=) '0'::pg_catalog.interval)
);
COMMENT ON TABLE token_rotation.pending IS
    'successors that were made under overlap_starts = first_use and not used yet; their status is pending';
COMMENT ON COLUMN token_rotation.pending.token_id IS 'the successor';
COMMENT ON COLUMN token_rotation.pending.predecessor_id IS 'whose window opens when the successor is first used';
COMMENT ON COLUMN token_rotation.pending.overlap IS 'how long that window will be';
ALTER TABLE token_rotation.pending ENABLE ROW LEVEL SECURITY;

CREATE FUNCTION @extschema@.tr_rotate_due(
    policy text DEFAULT NULL, max_tokens integer DEFAULT 1000,
    OUT policy_name text, OUT started integer)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tr_rotate_due'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_rotate_due(text, integer) IS
    'open the overlap windows of tokens past refresh_at or their policy''s rotate_after, oldest first, in the caller''s realms, for their holders to claim successors with tr_rotate; where the policy says sealed, make and encrypt them at once; counts by policy';

CREATE OR REPLACE VIEW token_rotation.tokens WITH (security_barrier = true) AS
    SELECT t.token_id,
           @extschema@.tr_token_display(t.prefix, t.token_id) AS display,
           pg_catalog.sha256(pg_catalog.uuid_send(t.token_id)) AS token_ref,
           t.family_id,
           t.generation,
           t.predecessor_id,
           t.client_id,
           t.policy,
           t.owner,
           CASE s.effective WHEN 'active' THEN
               CASE WHEN EXISTS (SELECT FROM token_rotation.pending w
                                 WHERE w.token_id OPERATOR(pg_catalog.=) t.token_id)
                    THEN 'pending' ELSE 'active' END
               ELSE s.effective END AS status,
           t.scopes,
           t.metadata,
           t.issued_at,
           t.expires_at,
           t.refresh_at,
           t.rotated_at,
           t.overlap_ends_at,
           t.replay_ends_at,
           coalesce(t.first_used_at, c.first_used_at) AS first_used_at,
           greatest(t.last_used_at, c.last_used_at) AS last_used_at,
           c.use_count,
           t.revoked_at,
           t.revoked_reason,
           t.key_id
    FROM token_rotation.token t
    LEFT JOIN token_rotation.token_cache c ON c.token_id OPERATOR(pg_catalog.=) t.token_id
    CROSS JOIN LATERAL @extschema@.tr_effective_status(
        t.status, t.owner, t.client_id, t.policy, t.issued_at, t.expires_at, t.rotated_at,
        t.overlap_ends_at) s (effective)
    WHERE t.owner IN (SELECT r.rolname FROM pg_catalog.pg_roles r
                      WHERE pg_catalog.pg_has_role(r.oid, 'USAGE'))
       OR (SELECT s.rolsuper FROM pg_catalog.pg_roles s
           WHERE s.rolname OPERATOR(pg_catalog.=) CURRENT_USER);
COMMENT ON COLUMN token_rotation.tokens.status IS 'effective status: time, cutoffs and settings weighed; pending: a successor that waits for its first use';

CREATE VIEW token_rotation.unclaimed WITH (security_barrier = true) AS
    SELECT t.token_id, t.display, t.token_ref, t.client_id, t.policy, t.owner, t.refresh_at, t.expires_at,
           t.overlap_ends_at, t.last_used_at
    FROM token_rotation.tokens t
    WHERE t.status OPERATOR(pg_catalog.=) 'rotating' AND t.rotated_at IS NULL;
COMMENT ON VIEW token_rotation.unclaimed IS
    'tokens whose rotation the server has started and whose holder has not come for the successor; they end at overlap_ends_at';

ALTER TABLE token_rotation.policy ADD COLUMN warn_before interval[] NOT NULL DEFAULT '{}',
    ADD CONSTRAINT policy_warn_before_check
        CHECK (pg_catalog.cardinality(warn_before) OPERATOR(pg_catalog.<=) 8
           AND pg_catalog.array_position(warn_before, NULL) IS NULL
           AND '1 second'::pg_catalog.interval OPERATOR(pg_catalog.<=) ALL (warn_before)
           AND '100 years'::pg_catalog.interval OPERATOR(pg_catalog.>=) ALL (warn_before));
COMMENT ON COLUMN token_rotation.policy.warn_before IS 'how long before a token without a successor ends the event expiring tells of it: up to 8 lead times, each told once';

CREATE TABLE token_rotation.consumer (
    name text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    "position" bigint NOT NULL,
    acked_at timestamptz NOT NULL,
    CONSTRAINT consumer_pkey PRIMARY KEY (name),
    CONSTRAINT consumer_name_check
        CHECK (name OPERATOR(pg_catalog.~) '^[a-z][a-z0-9_-]{0,62}$'),
    CONSTRAINT consumer_position_check CHECK ("position" OPERATOR(pg_catalog.>=) 0)
);
COMMENT ON TABLE token_rotation.consumer IS
    'how far each consumer of events is; written by tr_ack, read through the view token_rotation.consumers';
COMMENT ON COLUMN token_rotation.consumer.name IS 'the consumer';
COMMENT ON COLUMN token_rotation.consumer.owner IS 'the role that acknowledged first: only its members may go on';
COMMENT ON COLUMN token_rotation.consumer."position" IS 'the last event that it has acknowledged';
COMMENT ON COLUMN token_rotation.consumer.acked_at IS 'when that was';
ALTER TABLE token_rotation.consumer ENABLE ROW LEVEL SECURITY;

CREATE FUNCTION @extschema@.tr_events(
    consumer text, max_events integer DEFAULT 100,
    OUT "position" bigint, OUT seq bigint, OUT at timestamptz, OUT event text, OUT client_id text,
    OUT owner text, OUT token_ref bytea, OUT successor_ref bytea, OUT actor text, OUT role text,
    OUT origin text, OUT reason text, OUT detail jsonb)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tr_events'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_events(text, integer) IS
    'the next events after what the consumer has acknowledged, of the caller''s realms, in the order of their commits; changes nothing, works in READ ONLY transactions and on standbys';

CREATE FUNCTION @extschema@.tr_ack(consumer text, "position" bigint) RETURNS bigint
    AS 'MODULE_PATHNAME', 'tr_ack'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_ack(text, bigint) IS
    'acknowledge all events up to a position, which never goes back; makes the consumer where there is none; returns how far it is';

CREATE FUNCTION @extschema@.tr_events_head() RETURNS bigint
    AS 'MODULE_PATHNAME', 'tr_events_head'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_events_head() IS 'the newest position, for a consumer that is to begin now; 0: there is no event yet';

CREATE VIEW token_rotation.consumers WITH (security_barrier = true) AS
    SELECT c.name, c.owner, c."position", c.acked_at, w.at AS waiting_since
    FROM token_rotation.consumer c
    LEFT JOIN LATERAL (
        SELECT pg_catalog.max(b.segment) AS segment FROM token_rotation.audit_seal b
        WHERE b.segment OPERATOR(pg_catalog.<=) c."position") b ON true
    LEFT JOIN LATERAL (
        SELECT s.at FROM token_rotation.audit_seal s
        WHERE (b.segment IS NULL
               OR ROW(s.segment, s.seal) OPERATOR(pg_catalog.>=)
                  ROW(b.segment, (c."position" OPERATOR(pg_catalog.-) b.segment)
                                 OPERATOR(pg_catalog./) 10000 OPERATOR(pg_catalog.+) 1))
          AND s.segment OPERATOR(pg_catalog.<=) (
              SELECT q.seqstart FROM pg_catalog.pg_sequence q
              WHERE q.seqrelid OPERATOR(pg_catalog.=) 'token_rotation.audit_seq'::pg_catalog.regclass)
          AND s.rows OPERATOR(pg_catalog.>) 0
          AND (s.segment OPERATOR(pg_catalog.+)
               ((s.seal OPERATOR(pg_catalog.-) 1) OPERATOR(pg_catalog.*) 10000)
               OPERATOR(pg_catalog.+) s.rows) OPERATOR(pg_catalog.>) c."position"
        ORDER BY s.segment, s.seal LIMIT 1) w ON true
    WHERE c.owner IN (SELECT r.rolname FROM pg_catalog.pg_roles r
                      WHERE pg_catalog.pg_has_role(r.oid, 'USAGE'))
       OR (SELECT s.rolsuper FROM pg_catalog.pg_roles s
           WHERE s.rolname OPERATOR(pg_catalog.=) CURRENT_USER);
COMMENT ON VIEW token_rotation.consumers IS
    'how far the consumers are whose owner the reader is a member of';
COMMENT ON COLUMN token_rotation.consumers.waiting_since IS
    'when the oldest seal was made that has something after the position, of whatever realm; NULL: there is none';

-- What the worker tells of, though nobody does it: moments that pass, the key.
CREATE TABLE token_rotation.told (
    event text COLLATE "C" NOT NULL,
    lead interval NOT NULL,
    until timestamptz NOT NULL,
    key_id integer,
    CONSTRAINT told_pkey PRIMARY KEY (event, lead)
);
COMMENT ON TABLE token_rotation.told IS
    'how far the worker has told of moments that pass, so that each is told once; without its row an event begins now';
COMMENT ON COLUMN token_rotation.told.event IS 'rotation_due, unclaimed, expiring or key_changed';
COMMENT ON COLUMN token_rotation.told.lead IS 'how long before the end that moment is; 0: there is none';
COMMENT ON COLUMN token_rotation.told.until IS 'moments up to this one are told of';
COMMENT ON COLUMN token_rotation.told.key_id IS 'number of the server key then; 0: there was none';
ALTER TABLE token_rotation.told ENABLE ROW LEVEL SECURITY;

CREATE FUNCTION token_rotation.expiring(
    within interval,
    OUT client_id text, OUT owner text, OUT policy text, OUT tokens bigint,
    OUT first_ends_at timestamptz, OUT last_ends_at timestamptz, OUT last_used_at timestamptz)
    RETURNS SETOF record
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE
    AS $$
    SELECT e.client_id, e.owner, e.policy, pg_catalog.count(*), pg_catalog.min(e.ends_at),
           pg_catalog.max(e.ends_at), pg_catalog.max(e.last_used_at)
    FROM (SELECT t.client_id, t.owner, t.policy, coalesce(t.overlap_ends_at, t.expires_at) AS ends_at,
                 t.last_used_at
          FROM token_rotation.tokens t
          WHERE t.rotated_at IS NULL AND t.status OPERATOR(pg_catalog.=) ANY (ARRAY['pending', 'active', 'rotating'])) e
    WHERE e.ends_at OPERATOR(pg_catalog.<=) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $1)
    GROUP BY e.client_id, e.owner, e.policy
    ORDER BY 5, 1, 2, 3
    $$;
COMMENT ON FUNCTION token_rotation.expiring(interval) IS
    'live tokens without a successor whose validity ends within this time, of the realms that the caller is a member of: a row for each client, realm and policy, soonest first; NULL: none';

ALTER TABLE token_rotation.policy ADD COLUMN min_ttl interval,
    ADD CONSTRAINT policy_min_ttl_check
        CHECK (min_ttl OPERATOR(pg_catalog.>=) '1 second'::pg_catalog.interval
           AND min_ttl OPERATOR(pg_catalog.<=) '100 years'::pg_catalog.interval);
COMMENT ON COLUMN token_rotation.policy.min_ttl IS 'what risk rules shorten the ttl to at most; NULL, or as long as the ttl: they shorten nothing';
ALTER TABLE token_rotation.policy ADD COLUMN degraded_scopes text[],
    ADD CONSTRAINT policy_degraded_scopes_check
        CHECK (pg_catalog.array_position(degraded_scopes, NULL) IS NULL);
COMMENT ON COLUMN token_rotation.policy.degraded_scopes IS 'the scopes that tokens of this policy keep on a standby, and while the circuit is open; a standby older than max_staleness accepts them for these; NULL: all, and none when it is that old';
ALTER TABLE token_rotation.policy ADD COLUMN delivery text COLLATE "C" NOT NULL DEFAULT 'direct',
    ADD CONSTRAINT policy_delivery_check
        CHECK (delivery IN ('direct', 'sealed'));
COMMENT ON COLUMN token_rotation.policy.delivery IS 'how the successors of rotations that the server starts get to their holders: direct, they come for them; sealed, they are made at once and wait encrypted to the client''s key';

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

CREATE FUNCTION @extschema@.tr_risk_rule_guard() RETURNS trigger
    AS 'MODULE_PATHNAME', 'tr_risk_rule_guard'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_risk_rule_guard() IS
    'trigger: refuses risk rules of unknown policies and patterns that can match nothing, refuses TRUNCATE';

CREATE FUNCTION @extschema@.tr_risk_rule_audit() RETURNS trigger
    AS 'MODULE_PATHNAME', 'tr_risk_rule_audit'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_risk_rule_audit() IS
    'trigger: writes an audit row for each change of a risk rule';

CREATE TRIGGER risk_rule_guard BEFORE INSERT OR UPDATE ON token_rotation.risk_rule FOR EACH ROW EXECUTE FUNCTION @extschema@.tr_risk_rule_guard();
CREATE TRIGGER risk_rule_guard_truncate BEFORE TRUNCATE ON token_rotation.risk_rule FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.tr_risk_rule_guard();
CREATE TRIGGER risk_rule_audit AFTER INSERT OR UPDATE OR DELETE ON token_rotation.risk_rule FOR EACH ROW EXECUTE FUNCTION @extschema@.tr_risk_rule_audit();
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

CREATE INDEX audit_history ON token_rotation.audit (client_id, owner, event, at)
    WHERE event IN ('reuse', 'leak') AND coalesce(reason, '') OPERATOR(pg_catalog.<>) 'rolled back'
       OR event IN ('validation_refused', 'rotation_refused') AND detail IS NULL
          AND reason IN ('expired', 'overlap_ended', 'replay_ended', 'revoked', 'cutoff', 'blocked', 'proof_required');
COMMENT ON INDEX token_rotation.audit_history IS
    'what counts as history for risk rules: reuses, leaks, and refusals that a holder of the secret got for what his token was';

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
COMMENT ON FUNCTION @extschema@.tr_schedules() IS 'what the view token_rotation.schedules shows';

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
-- Deliveries: successors on their way to holders who cannot come, and the keys
-- that they are encrypted to.

CREATE TABLE token_rotation.delivery_key (
    client_id text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    public_key bytea,
    fingerprint text COLLATE "C",
    added_at timestamptz NOT NULL,
    effective_at timestamptz NOT NULL,
    expires_at timestamptz,
    CONSTRAINT delivery_key_pkey PRIMARY KEY (client_id, owner, effective_at),
    CONSTRAINT delivery_key_client_id_check
        CHECK (pg_catalog.octet_length(client_id) BETWEEN 1 AND 255),
    CONSTRAINT delivery_key_fingerprint_check
        CHECK (fingerprint OPERATOR(pg_catalog.~) '^[0-9A-F]{40}$'
           AND (fingerprint IS NULL) OPERATOR(pg_catalog.=) (public_key IS NULL))
);
COMMENT ON TABLE token_rotation.delivery_key IS
    'the PGP public keys that successors are encrypted to; of a client''s the newest that has taken effect counts';
COMMENT ON COLUMN token_rotation.delivery_key.client_id IS 'the client whose key it is';
COMMENT ON COLUMN token_rotation.delivery_key.owner IS 'the realm that it is for; empty: every realm';
COMMENT ON COLUMN token_rotation.delivery_key.public_key IS 'primary key and encryption subkey in binary form, without names and signatures; NULL: the key was dropped';
COMMENT ON COLUMN token_rotation.delivery_key.fingerprint IS 'of the encryption subkey, as gpg --with-subkey-fingerprint shows it';
COMMENT ON COLUMN token_rotation.delivery_key.added_at IS 'when it was stored';
COMMENT ON COLUMN token_rotation.delivery_key.effective_at IS 'from when on it is used: at once if it was the client''s first, else after the longest ttl of the policies that deliver';
COMMENT ON COLUMN token_rotation.delivery_key.expires_at IS 'from when on it is not used, as its owner has said; NULL: none';

CREATE TABLE token_rotation.delivery (
    token_id uuid NOT NULL,
    predecessor_id uuid NOT NULL,
    client_id text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    message text NOT NULL,
    made_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    fetches integer NOT NULL DEFAULT 0,
    fetched_at timestamptz,
    CONSTRAINT delivery_pkey PRIMARY KEY (token_id)
);
COMMENT ON TABLE token_rotation.delivery IS
    'successors that wait to be fetched, encrypted; erased when the window ends, or either token is revoked. Fetch them with tr_deliveries, see them in token_rotation.deliveries';
COMMENT ON COLUMN token_rotation.delivery.token_id IS 'the successor';
COMMENT ON COLUMN token_rotation.delivery.predecessor_id IS 'the token that it succeeds';
COMMENT ON COLUMN token_rotation.delivery.client_id IS 'whose it is';
COMMENT ON COLUMN token_rotation.delivery.owner IS 'its realm';
COMMENT ON COLUMN token_rotation.delivery.fingerprint IS 'of the key that it is encrypted to';
COMMENT ON COLUMN token_rotation.delivery.message IS 'the armored PGP message: a JSON object with token, rotation_key, expires_at, refresh_at, previous_valid_until';
COMMENT ON COLUMN token_rotation.delivery.made_at IS 'when it was made';
COMMENT ON COLUMN token_rotation.delivery.ends_at IS 'when the old token''s overlap window ends, and this with it';
COMMENT ON COLUMN token_rotation.delivery.fetches IS 'how often it was fetched';
COMMENT ON COLUMN token_rotation.delivery.fetched_at IS 'when it was last fetched';

CREATE INDEX delivery_predecessor ON token_rotation.delivery (predecessor_id);
COMMENT ON INDEX token_rotation.delivery_predecessor IS 'the deliveries of a token''s successors';
CREATE INDEX delivery_ends ON token_rotation.delivery (ends_at);
COMMENT ON INDEX token_rotation.delivery_ends IS 'deliveries by their end, for erasing them';
ALTER TABLE token_rotation.delivery ENABLE ROW LEVEL SECURITY;
ALTER TABLE token_rotation.delivery_key ENABLE ROW LEVEL SECURITY;

CREATE POLICY delivery_key_realm ON token_rotation.delivery_key FOR SELECT
    USING (owner OPERATOR(pg_catalog.=) ''
           OR owner IN (SELECT r.rolname FROM pg_catalog.pg_roles r
                        WHERE pg_catalog.pg_has_role(r.oid, 'USAGE')));
COMMENT ON POLICY delivery_key_realm ON token_rotation.delivery_key IS
    'readers see keys for every realm and for the realms that they are a member of';

CREATE VIEW token_rotation.deliveries WITH (security_barrier = true) AS
    SELECT t.token_ref, t.display, t.client_id, t.policy, t.owner, d.fingerprint, d.made_at, d.ends_at,
           d.fetches, d.fetched_at, t.first_used_at
    FROM token_rotation.delivery d
    JOIN token_rotation.tokens t ON t.token_id OPERATOR(pg_catalog.=) d.token_id;
COMMENT ON VIEW token_rotation.deliveries IS
    'deliveries that wait in the realms that the reader is a member of, without their messages; the tokens are the successors';

CREATE FUNCTION @extschema@.tr_set_delivery_key(client_id text, public_key text) RETURNS timestamptz
    AS 'MODULE_PATHNAME', 'tr_set_delivery_key'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_set_delivery_key(text, text) IS
    'store the armored PGP public key that a client''s successors are encrypted to, in the caller''s realms; returns when it takes effect: the first at once, one that replaces another after the ttl';

CREATE FUNCTION @extschema@.tr_drop_delivery_key(client_id text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tr_drop_delivery_key'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_drop_delivery_key(text) IS
    'deliver nothing more to a client, in the caller''s realms, from now on; false when it had no key. The next key waits like one that replaces another';

CREATE FUNCTION @extschema@.tr_deliveries(
    client_id text DEFAULT NULL, max_tokens integer DEFAULT 1000,
    OUT token_ref bytea, OUT client_id text, OUT owner text, OUT fingerprint text,
    OUT message text, OUT made_at timestamptz, OUT ends_at timestamptz, OUT fetches integer)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tr_deliveries'
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.tr_deliveries(text, integer) IS
    'fetch the deliveries that wait for a client, or for all, in the caller''s realms: PGP messages that only the client can open, those first that were not fetched for longest; they can be fetched again until the window ends';

SELECT pg_catalog.pg_extension_config_dump('token_rotation.pending', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.consumer', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.risk_rule', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.delivery_key', '');
SELECT pg_catalog.pg_extension_config_dump('token_rotation.delivery', '');

-- What is new gets the owner of what was there, and is closed: to PUBLIC and to
-- those whom ALTER DEFAULT PRIVILEGES names.
DO LANGUAGE plpgsql $$
DECLARE
    functions CONSTANT pg_catalog.regprocedure[] := ARRAY[
        '@extschema@.tr_rotate_due(text, integer)', 'token_rotation.expiring(interval)',
        '@extschema@.tr_events(text, integer)', '@extschema@.tr_ack(text, bigint)', '@extschema@.tr_events_head()',
        '@extschema@.tr_explain_ttl(text, text, text[], jsonb)', '@extschema@.tr_risk_rule_guard()', '@extschema@.tr_risk_rule_audit()',
        '@extschema@.tr_schedule(text, text)', '@extschema@.tr_unschedule(text)', '@extschema@.tr_schedules()',
        '@extschema@.tr_set_delivery_key(text, text)', '@extschema@.tr_drop_delivery_key(text)',
        '@extschema@.tr_deliveries(text, integer)'];
    relations CONSTANT pg_catalog.regclass[] := ARRAY[
        'token_rotation.unclaimed', 'token_rotation.pending', 'token_rotation.consumer',
        'token_rotation.consumers', 'token_rotation.told', 'token_rotation.risk_rule', 'token_rotation.schedules',
        'token_rotation.delivery', 'token_rotation.delivery_key', 'token_rotation.deliveries'];
    owner pg_catalog.regrole;
    statement text;
BEGIN
    SELECT p.proowner INTO owner FROM pg_catalog.pg_proc p
    WHERE p.oid OPERATOR(pg_catalog.=) '@extschema@.tr_validate(text, text)'::pg_catalog.regprocedure;

    FOR statement IN
        WITH member (kind, name, acl) AS (
            SELECT 'FUNCTION', p.oid::pg_catalog.regprocedure::text,
                   coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
            FROM pg_catalog.pg_proc p WHERE p.oid OPERATOR(pg_catalog.=) ANY (functions)
            UNION ALL
            SELECT 'TABLE', c.oid::pg_catalog.regclass::text, c.relacl
            FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) ANY (relations)
        )
        SELECT pg_catalog.format('ALTER %s %s OWNER TO %s', m.kind, m.name, owner) FROM member m
        UNION ALL
        SELECT DISTINCT pg_catalog.format('REVOKE ALL ON %s %s FROM %s', m.kind, m.name,
            CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                 ELSE a.grantee::pg_catalog.regrole::text END)
        FROM member m, pg_catalog.aclexplode(m.acl) a
        WHERE a.grantee OPERATOR(pg_catalog.<>) (SELECT r.oid FROM pg_catalog.pg_roles r
                                                 WHERE r.rolname OPERATOR(pg_catalog.=) CURRENT_USER)
          AND a.grantee OPERATOR(pg_catalog.<>) owner
    LOOP
        EXECUTE statement;
    END LOOP;
END
$$;
