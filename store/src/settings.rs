//! How a store is set up.

use std::path::PathBuf;
use std::time::Duration;

use crate::limits::SPENT_TOKENS_MAX;

/// Default of [`Settings::stall_after`], milliseconds.
pub const STORE_STALL_MS_DEFAULT: u64 = 2_000;

/// Default of [`Settings::accounting_interval`], milliseconds.
pub const ACCOUNTING_INTERVAL_MS_DEFAULT: u64 = 60_000;

/// How a store is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Data directory, which must exist. The store owns `jds.sqlite` and `jds.stream` in it.
    pub dir: PathBuf,
    /// Name of the network, which the database keeps from its first start on: one of another
    /// network is not opened. Empty: not looked at.
    pub network: String,
    /// `source` of the events.
    pub source: String,
    /// How long commits wait for a disk that fails before they are acknowledged as volatile
    /// (`store_stall_ms`).
    pub stall_after: Duration,
    /// What is kept for how long.
    pub retention: Retention,
    /// Longest interval of the accounting feed.
    pub accounting_interval: Duration,
    /// Bound on the database file, bytes; 0 for none. Above it the store behaves as on a full
    /// disk: it is a fuse, while [`Retention`] is what keeps the store small.
    pub database_bytes_max: u64,
}

impl Settings {
    /// The defaults, in that directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            network: String::new(),
            source: "hosted".to_owned(),
            stall_after: Duration::from_millis(STORE_STALL_MS_DEFAULT),
            retention: Retention::default(),
            accounting_interval: Duration::from_millis(ACCOUNTING_INTERVAL_MS_DEFAULT),
            database_bytes_max: 0,
        }
    }
}

/// How much of a table is kept: what is older *or* more than this goes, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Age from which rows go, milliseconds.
    pub age_ms: u64,
    /// Bytes above which rows go, without what the database adds (about a fifth).
    pub bytes: u64,
}

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// A megabyte is 10^6 bytes everywhere.
const MB: u64 = 1_000_000;

/// What is kept for how long, a megabyte (MB) being 10^6 bytes. The defaults add up to less than 1.5 GB with all tables full, which
/// suits the card of a Raspberry Pi; with a handful of miners it stays below 700 MB. Blocks (without
/// their bytes), aggregates of all users by day, and the totals of users are kept for ever: they
/// are small. `[store]` of the configuration has the same defaults; a test of the server compares
/// the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Events: 30 days, 256 MB. Readers that stay away for longer get [`crate::Gone`]. The newest
    /// event is always kept.
    pub events: Keep,
    /// Accepted templates without their transactions: 30 days, 64 MB.
    pub templates: Keep,
    /// Transactions of accepted templates: 2 days, 512 MB. A transaction goes when no template
    /// that keeps its transactions names it any more; each takes some thirty bytes of memory. Those
    /// of Bitcoin's mempool bring about 300 MB a day; templates are of no use for mining after the
    /// next block.
    pub transactions: Keep,
    /// Rejected templates: 7 days, 32 MB.
    pub rejected: Keep,
    /// Shares: 7 days, 256 MB.
    pub shares: Keep,
    /// Entries of the accounting feed: 90 days, 128 MB. A pool that stays away for longer is told.
    pub accounting: Keep,
    /// Age from which aggregates by hour go, milliseconds: 90 days.
    pub hourly_age_ms: u64,
    /// Age from which aggregates by day of single users go, milliseconds: 800 days.
    pub user_daily_age_ms: u64,
    /// Spent tokens of which so many are kept, the newest: a row is made for each, also for those
    /// that were spent on rubbish. A million is what a server remembers anyway.
    pub spent_tokens_max: u64,
    /// Bytes of all aggregates above which those of single users go, by hour before by day: 128 MB,
    /// which is a year of a few hundred users. Those of all users together are not many.
    pub aggregates_bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            events: Keep { age_ms: 30 * DAY_MS, bytes: 256 * MB },
            templates: Keep { age_ms: 30 * DAY_MS, bytes: 64 * MB },
            transactions: Keep { age_ms: 2 * DAY_MS, bytes: 512 * MB },
            rejected: Keep { age_ms: 7 * DAY_MS, bytes: 32 * MB },
            shares: Keep { age_ms: 7 * DAY_MS, bytes: 256 * MB },
            accounting: Keep { age_ms: 90 * DAY_MS, bytes: 128 * MB },
            hourly_age_ms: 90 * DAY_MS,
            user_daily_age_ms: 800 * DAY_MS,
            spent_tokens_max: SPENT_TOKENS_MAX,
            aggregates_bytes: 128 * MB,
        }
    }
}
