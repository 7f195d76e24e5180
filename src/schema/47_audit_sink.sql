-- How far the audit file is.

CREATE TABLE token_rotation.audit_sink (
    segment bigint NOT NULL,
    seal bigint NOT NULL,
    CONSTRAINT audit_sink_pkey PRIMARY KEY (segment)
);
COMMENT ON TABLE token_rotation.audit_sink IS
    'the last seal of each segment that token_rotation.audit_file has; without its row all of the segment is written again';
COMMENT ON COLUMN token_rotation.audit_sink.segment IS 'as in audit_seal';
COMMENT ON COLUMN token_rotation.audit_sink.seal IS 'as in audit_seal';

-- No policy: who may write tables at large must not make the file skip rows.
ALTER TABLE token_rotation.audit_sink ENABLE ROW LEVEL SECURITY;
