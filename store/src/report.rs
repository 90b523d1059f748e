//! What the store says about itself.

use serde::Serialize;

/// Rows and bytes of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableSize {
    /// Name of the table.
    pub table: &'static str,
    /// Rows.
    pub rows: u64,
    /// Payload, bytes, without what the database adds.
    pub bytes: u64,
}

/// How large the store is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// By table.
    pub tables: Vec<TableSize>,
    /// The database file, bytes.
    pub database_bytes: u64,
    /// The write-ahead log, bytes.
    pub wal_bytes: u64,
    /// Smallest event id that is kept.
    pub first_event_id: Option<u64>,
}

/// Whether the store writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Status {
    /// It does.
    Healthy,
    /// It has failed for less than the stall time and tries again; commits wait.
    Retrying {
        /// Unix milliseconds.
        since: u64,
        /// Why.
        reason: String,
    },
    /// It has failed for longer: commits are acknowledged as volatile.
    Stalled {
        /// Unix milliseconds.
        since: u64,
        /// Why.
        reason: String,
    },
    /// It was closed, or its writer ended.
    Closed,
}

/// Counters of the writer, since it was opened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metrics {
    /// Whether the store writes.
    pub status: Status,
    /// The current stream epoch.
    pub epoch: String,
    /// Batches in the queue.
    pub queue_depth: usize,
    /// Batches that fit the queue.
    pub queue_capacity: usize,
    /// Transactions that were committed.
    pub commits_total: u64,
    /// Batches in them.
    pub batches_total: u64,
    /// Events in them.
    pub events_total: u64,
    /// Batches that were refused.
    pub refused_total: u64,
    /// Attempts to write that failed for want of space, a lock, or by a fault.
    pub failures_total: u64,
    /// Batches acknowledged as volatile.
    pub volatile_total: u64,
    /// Batches kept in memory at the moment.
    pub volatile_batches: usize,
    /// Upper bounds of the buckets of `commit_seconds`, seconds.
    pub commit_seconds_bounds: &'static [f64],
    /// Transactions by the time that they took, not cumulative; the last bucket has no bound.
    pub commit_seconds: Vec<u64>,
    /// Time of all transactions together, seconds.
    pub commit_seconds_sum: f64,
}
