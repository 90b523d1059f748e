-- Times are Unix milliseconds, values satoshi, hashes hex as usually printed.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Rows and payload bytes of the other tables, kept by the writer: counting would take seconds.
CREATE TABLE table_sizes (
    name  TEXT PRIMARY KEY,
    rows  INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    id        INTEGER PRIMARY KEY,
    kind      TEXT NOT NULL,
    timestamp INTEGER NOT NULL,
    source    TEXT NOT NULL,
    protocol  TEXT NOT NULL,
    schema    INTEGER NOT NULL,
    data      TEXT NOT NULL
) STRICT;

-- Tokens that were used up. Unused ones prove themselves and need no row.
CREATE TABLE tokens (
    sequence   INTEGER PRIMARY KEY,
    user_id    TEXT NOT NULL,
    spent_at   INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX tokens_expires ON tokens (expires_at);

-- Each transaction once. The id fits four bytes. There is no index by wtxid: the writer, which
-- alone adds rows, knows all of them.
CREATE TABLE tx_ids (
    id    INTEGER PRIMARY KEY CHECK (id BETWEEN 1 AND 4294967295),
    wtxid BLOB NOT NULL
) STRICT;
CREATE TABLE transactions (
    id        INTEGER PRIMARY KEY REFERENCES tx_ids (id),
    txid      BLOB,                       -- NULL: the same as the wtxid
    weight_wu INTEGER NOT NULL,
    fee_sat   INTEGER,
    raw       BLOB NOT NULL
) STRICT;

-- Ids of transactions in block order, packed: whole, or as changes to the list `base_id`, which is
-- whole.
CREATE TABLE tx_lists (
    id       INTEGER PRIMARY KEY,
    base_id  INTEGER REFERENCES tx_lists (id),
    tx_count INTEGER NOT NULL,
    packed   BLOB NOT NULL
) STRICT;
CREATE INDEX tx_lists_base ON tx_lists (base_id) WHERE base_id IS NOT NULL;

-- Every declaration, whatever the verdict.
CREATE TABLE miner_templates (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    template_hash     VARCHAR(64),
    user_id           TEXT NOT NULL,
    user_tag          BLOB NOT NULL,
    submitted_at      INTEGER NOT NULL,
    validation_result TEXT NOT NULL CHECK (validation_result IN ('accepted', 'rejected', 'invalidated')),
    validation_ms     REAL NOT NULL,
    fetch_ms          REAL,
    txs_unknown       INTEGER NOT NULL DEFAULT 0,
    request_bytes     INTEGER NOT NULL,
    tx_count          INTEGER NOT NULL,
    height            INTEGER,
    -- Of rejected ones; the reason of invalidated ones too.
    error_code        TEXT,
    reason            TEXT,
    offender_index    INTEGER,
    expected          TEXT,
    actual            TEXT,
    -- Of accepted ones.
    total_fees_sat    INTEGER NOT NULL DEFAULT 0,
    fees_verified     INTEGER NOT NULL DEFAULT 0,
    block_weight      INTEGER NOT NULL DEFAULT 0,
    sigop_cost_min    INTEGER NOT NULL DEFAULT 0,
    pool_payout_sat   INTEGER NOT NULL DEFAULT 0,
    miner_payout_sat  INTEGER NOT NULL DEFAULT 0,
    claimable_sat     INTEGER NOT NULL DEFAULT 0,
    reward_sat        INTEGER NOT NULL DEFAULT 0,
    volatile          INTEGER NOT NULL DEFAULT 0,
    version           INTEGER,
    prev_hash         VARCHAR(64),
    tip_time          INTEGER,
    tip_median_time   INTEGER,
    tip_bits          INTEGER,
    tip_min_after     INTEGER,
    tip_min_bits      INTEGER,
    extranonce_bytes  INTEGER,
    tx_list_id        INTEGER REFERENCES tx_lists (id), -- NULL: the transactions are not kept any more
    coinbase_prefix   BLOB,
    coinbase_suffix   BLOB
);
CREATE INDEX miner_templates_hash ON miner_templates (template_hash) WHERE template_hash IS NOT NULL;
CREATE INDEX miner_templates_user ON miner_templates (user_id);
CREATE INDEX miner_templates_result ON miner_templates (validation_result);
CREATE INDEX miner_templates_list ON miner_templates (tx_list_id) WHERE tx_list_id IS NOT NULL;
-- Those whose transactions are kept, oldest first.
CREATE INDEX miner_templates_whole ON miner_templates (id) WHERE tx_list_id IS NOT NULL;

CREATE TABLE shares (
    id                      INTEGER PRIMARY KEY,
    submitted_at            INTEGER NOT NULL,
    user_id                 TEXT NOT NULL,
    worker                  TEXT NOT NULL,
    channel_id              INTEGER NOT NULL,
    job_id                  INTEGER NOT NULL,
    accepted                INTEGER NOT NULL,
    error_code              TEXT,
    difficulty              REAL NOT NULL,
    share_hash              VARCHAR(64) NOT NULL,
    template_source         VARCHAR(8) NOT NULL DEFAULT 'pool' CHECK (template_source IN ('miner', 'pool')),
    miner_template_hash     VARCHAR(64),
    miner_tx_count          INTEGER,
    miner_template_fees_sat INTEGER,
    pool_payout_sat         INTEGER,
    claimable_sat           INTEGER
);

-- Kept for ever, but for the bytes of the block itself.
CREATE TABLE blocks (
    id                  INTEGER PRIMARY KEY AUTOINCREMENT,
    block_hash          VARCHAR(64) NOT NULL UNIQUE,
    height              INTEGER NOT NULL,
    user_id             TEXT NOT NULL,
    found_at            INTEGER NOT NULL,
    template_source     VARCHAR(8) NOT NULL CHECK (template_source IN ('miner', 'pool')),
    miner_template_hash VARCHAR(64),
    tx_count            INTEGER NOT NULL,
    reward_sat          INTEGER NOT NULL,
    coinbase_txid       VARCHAR(64) NOT NULL,
    header              BLOB NOT NULL,
    state               TEXT NOT NULL CHECK (state IN ('found', 'confirmed', 'orphaned', 'rejected')),
    confirmations       INTEGER NOT NULL DEFAULT 0,
    volatile            INTEGER NOT NULL DEFAULT 0,
    raw                 BLOB                -- until the end of the block is known
);
CREATE INDEX blocks_open ON blocks (id) WHERE state = 'found';

-- The saga of a block at each node.
CREATE TABLE submissions (
    block_hash VARCHAR(64) NOT NULL REFERENCES blocks (block_hash),
    node       TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('found', 'sent', 'accepted', 'rejected', 'unknown')),
    detail     TEXT,
    attempts   INTEGER NOT NULL,
    latency_ms REAL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (block_hash, node)
) WITHOUT ROWID;

-- Totals since ever.
CREATE TABLE users (
    user_id                  TEXT PRIMARY KEY,
    first_seen               INTEGER NOT NULL,
    last_seen                INTEGER NOT NULL,
    templates_accepted_total INTEGER NOT NULL DEFAULT 0,
    templates_rejected_total INTEGER NOT NULL DEFAULT 0,
    shares_accepted_miner    INTEGER NOT NULL DEFAULT 0,
    shares_accepted_pool     INTEGER NOT NULL DEFAULT 0,
    shares_rejected          INTEGER NOT NULL DEFAULT 0,
    blocks_found             INTEGER NOT NULL DEFAULT 0,
    sovereign_miner_at       INTEGER,
    node_runner_at           INTEGER,
    template_crafter_at      INTEGER
) STRICT;
-- Those who may be forgotten when there are too many.
CREATE INDEX users_idle ON users (last_seen) WHERE shares_accepted_miner + shares_accepted_pool = 0;

-- What happened by hour and day, of one user or (scope 0) of all together.
CREATE TABLE aggregates (
    period             TEXT NOT NULL CHECK (period IN ('hour', 'day')),
    scope              INTEGER NOT NULL,
    user_id            TEXT NOT NULL,
    start              INTEGER NOT NULL,
    template_source    VARCHAR(8) NOT NULL CHECK (template_source IN ('miner', 'pool')),
    shares_accepted    INTEGER NOT NULL DEFAULT 0,
    shares_rejected    INTEGER NOT NULL DEFAULT 0,
    difficulty         REAL NOT NULL DEFAULT 0,
    templates_accepted INTEGER NOT NULL DEFAULT 0,
    templates_rejected INTEGER NOT NULL DEFAULT 0,
    blocks_found       INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (period, scope, user_id, start, template_source)
) WITHOUT ROWID;
CREATE INDEX aggregates_start ON aggregates (period, scope, start);

CREATE TABLE webhooks (
    id           TEXT PRIMARY KEY,
    url          TEXT NOT NULL,
    secret       TEXT NOT NULL,
    types        TEXT NOT NULL,
    cursor       TEXT NOT NULL,
    paused       INTEGER NOT NULL,
    failures     INTEGER NOT NULL,
    last_error   TEXT,
    created_at   INTEGER NOT NULL,
    delivered_at INTEGER
) STRICT, WITHOUT ROWID;
