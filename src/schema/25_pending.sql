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
