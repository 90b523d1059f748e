-- What each verdict was given on, so that it can be had again (`jds verdict replay`).

-- What a node told of a transaction beside its fee; NULL: none has yet.
ALTER TABLE tx_ids ADD COLUMN sigop_cost INTEGER;

-- Of accepted ones: the terms of the user as JSON, and positions of transactions that no node had
-- told of when they were judged, 2 bytes each, little endian. NULL: from before this migration.
ALTER TABLE miner_templates ADD COLUMN rules TEXT;
ALTER TABLE miner_templates ADD COLUMN unvouched BLOB;
-- Of rejected ones: whether their inputs were kept, or why not. NULL: from before this migration.
ALTER TABLE miner_templates ADD COLUMN inputs TEXT
    CHECK (inputs IN ('kept', 'none', 'too_many', 'too_large', 'stalled'));

-- Inputs of rejected declarations.
CREATE TABLE verdict_inputs (
    template_id     INTEGER PRIMARY KEY REFERENCES miner_templates (id),
    user_tag        BLOB NOT NULL,
    bytes           INTEGER NOT NULL, -- of the columns below together
    facts           TEXT NOT NULL,    -- version, terms, tips, what was asked for, word of a node: JSON
    coinbase_prefix BLOB NOT NULL,
    coinbase_suffix BLOB NOT NULL,
    wtxids          BLOB,             -- 32 bytes each; NULL: the rules did not come to read them
    answer          BLOB,             -- what the peer supplied: length (4, little endian) and bytes of each
    txs             BLOB              -- the transactions as they were judged, see the code
) STRICT;
-- Who holds how much.
CREATE INDEX verdict_inputs_user ON verdict_inputs (user_tag, template_id, bytes);
