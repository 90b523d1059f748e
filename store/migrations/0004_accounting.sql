-- What a pool credits: work by user and interval, each row given out once its interval is closed
-- and never changed after. Numbers are given once, without a gap.
CREATE TABLE accounting_intervals (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    opened_at   INTEGER NOT NULL,
    closed_at   INTEGER,             -- NULL: it may still change
    after_event INTEGER NOT NULL,    -- its shares are told by events above this one
    last_event  INTEGER,             -- up to this one
    tag         BLOB CHECK (tag IS NULL OR length(tag) = 8) -- of the event log at its end
) STRICT;
CREATE INDEX accounting_open ON accounting_intervals (id) WHERE closed_at IS NULL;

CREATE TABLE accounting (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    interval_id     INTEGER NOT NULL REFERENCES accounting_intervals (id),
    user_id         TEXT NOT NULL,
    template_source VARCHAR(8) NOT NULL CHECK (template_source IN ('miner', 'pool')),
    template_hash   VARCHAR(64) NOT NULL DEFAULT '', -- '': not of a declared template
    pool_payout_sat INTEGER NOT NULL DEFAULT -1,     -- -1: not known
    claimable_sat   INTEGER NOT NULL DEFAULT -1,     -- -1: not known
    shares          INTEGER NOT NULL DEFAULT 0,
    difficulty      REAL NOT NULL DEFAULT 0,
    first_at        INTEGER NOT NULL,
    last_at         INTEGER NOT NULL,
    block_hash      VARCHAR(64)                      -- of a row that tells of a found block
);
CREATE UNIQUE INDEX accounting_work ON accounting
    (interval_id, user_id, template_source, template_hash, pool_payout_sat, claimable_sat)
    WHERE block_hash IS NULL;
