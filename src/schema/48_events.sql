-- Events: the sealed rows of the audit trail, for consumers, in the order of the
-- seals.  A position is the segment's number plus 10000 for each seal before plus
-- the place in the seal, which has at most 10000 rows: it goes on in the segment
-- that a restore begins, because that has the clock for its number.

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

-- No policy: who may write tables at large must not make a consumer skip events.
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
COMMENT ON FUNCTION @extschema@.tr_events_head() IS
    'the newest position, for a consumer that is to begin now; 0: there is no event yet';

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

-- No policy, likewise.
ALTER TABLE token_rotation.told ENABLE ROW LEVEL SECURITY;
