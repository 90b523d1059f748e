//! Every bound of the store, with its unit.

use std::time::Duration;

/// Batches that wait for the writer.
pub const QUEUE_BATCHES_MAX: usize = 4_096;

/// Batches in one transaction.
pub(crate) const GROUP_BATCHES_MAX: usize = 512;

/// Templates in one transaction: they are the batches that take long.
pub(crate) const GROUP_TEMPLATES_MAX: usize = 16;

/// From the beginning of one transaction to that of the next, where only shares and events wait; what has
/// less time ends the wait within a quarter of it. A
/// transaction costs as much as ten shares in it: thousands of miners whose shares come one by one would
/// keep a core busy with transactions of one or two.
pub(crate) const COMMIT_SPACING: Duration = Duration::from_millis(1);

/// Most items in a page of a list.
pub const PAGE_ITEMS_MAX: usize = 1_000;

/// Most entries in a page of the accounting feed.
pub const ACCOUNTING_ENTRIES_MAX: usize = 10_000;

/// Items in a page when nobody says how many.
pub const PAGE_ITEMS_DEFAULT: usize = 100;

/// Most events in a page.
pub const PAGE_EVENTS_MAX: usize = 10_000;

/// Bytes of payload after which a page of events ends.
pub(crate) const PAGE_EVENT_BYTES_MAX: usize = 8 << 20;

/// Events that one call looks at when most of them are not wanted.
pub(crate) const SCAN_EVENTS_MAX: u64 = 20_000;

/// Most periods in one answer about aggregates.
pub const AGGREGATES_MAX: usize = 10_000;

/// Most patterns in one [`crate::EventFilter`].
pub const PATTERNS_MAX: usize = 32;

/// Peers and kinds that a [`crate::FloodGate`] tells apart at the same time; the rest is counted
/// together.
pub const FLOOD_PEERS_MAX: usize = 10_000;

/// Most webhooks.
pub const WEBHOOKS_MAX: usize = 100;

/// Connections for readers.
pub(crate) const READERS_MAX: usize = 4;

/// Users of whom the log says that several identities become one, one a line; the others are counted.
pub(crate) const USERS_TOLD_MAX: usize = 20;

/// How long a reader waits for a connection.
pub(crate) const READER_WAIT: Duration = Duration::from_secs(2);

/// How long a reader of another process tries again while the files of the database change.
pub(crate) const EVENT_LOG_WAIT: Duration = Duration::from_secs(2);

/// How long one attempt waits for a lock that another process holds.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_millis(50);

/// Pause between attempts to write while commits wait.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Pause between attempts to write in volatile mode.
pub(crate) const VOLATILE_PROBE: Duration = Duration::from_millis(250);

/// How long closing waits for readers, so that everything is in the database file.
pub(crate) const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Batches kept in memory in volatile mode.
pub const VOLATILE_BATCHES_MAX: usize = 20_000;

/// Accepted templates among them.
pub const VOLATILE_TEMPLATES_MAX: usize = 256;

/// Bytes of transactions among them that no node had when they were declared: those are whose
/// memory nobody else may hold. The newest template is kept whatever its size.
pub const VOLATILE_OWN_BYTES_MAX: usize = 128 << 20;

/// Found blocks among them: up to 4 MB each.
pub const VOLATILE_BLOCKS_MAX: usize = 16;

/// Users whose last complete list of transactions the writer remembers.
pub(crate) const LISTS_CACHED_MAX: usize = 1_024;

/// Lists that are written as changes to one complete list, before the next complete one.
pub(crate) const LIST_DELTAS_MAX: u32 = 64;

/// Newest templates of each user that others do not displace, as long as a block may still come of
/// them.
pub const USER_TEMPLATES_SAFE: usize = 64;

/// Blocks below the newest accepted template's that a block may still come of.
pub(crate) const LIVE_DEPTH_BLOCKS: u32 = 2;

/// Spent tokens that are kept when nobody says how many.
pub const SPENT_TOKENS_MAX: u64 = 1_000_000;

/// Bytes that the inputs of rejected declarations may take, of all users together. Above, the oldest of
/// who has most go.
pub const VERDICT_INPUTS_BYTES_MAX: u64 = 32_000_000;

/// So much is deleted at a time, so that it is not looked for with each declaration, bytes.
pub(crate) const VERDICT_INPUTS_EVICTED_BYTES: u64 = 500_000;

/// Most bytes of the inputs of one declaration: all transactions of a full block, twice.
pub const VERDICT_INPUTS_ROW_BYTES_MAX: u64 = 8_000_000;

/// Users of whom totals are kept although they never had an accepted share and never found a block;
/// those with accepted templates before those without. At this many users a connection alone makes
/// no row.
pub const USERS_MAX: usize = 100_000;

/// Rows that one step of retention deletes, so that commits wait for a few milliseconds at most.
pub(crate) const RETENTION_STEP_ROWS: usize = 500;

/// Pause between looks at what retention has to delete.
pub(crate) const RETENTION_PAUSE: Duration = Duration::from_secs(60);

/// Pause between checkpoints.
pub(crate) const CHECKPOINT_PAUSE: Duration = Duration::from_secs(1);

/// Size of the write-ahead log's file from which it is checkpointed beside the writer, bytes.
pub(crate) const WAL_CHECKPOINT_BYTES: u64 = 4 << 20;

/// What is in the write-ahead log when the writer stops for the rest of a checkpoint, bytes: under load
/// without a pause it would otherwise grow for ever.
pub(crate) const WAL_FORCE_BYTES: u64 = 64 << 20;

/// What the file of the write-ahead log may keep when it begins anew, bytes. To cut it back each time
/// would hold up the writer for tens of milliseconds.
pub(crate) const WAL_KEPT_BYTES: u64 = 2 * WAL_FORCE_BYTES;

/// Rounds of a checkpoint beside the writer before the writer stops for the rest.
pub(crate) const CHECKPOINT_ROUNDS_MAX: usize = 6;

/// As few pages are left to the writer if those rounds get so far.
pub(crate) const CHECKPOINT_REST_PAGES: u64 = 64;

/// By how much the thread that checkpoints steps back behind the others (`nice`).
#[cfg(target_os = "linux")]
pub(crate) const HOUSEKEEPER_NICE: i32 = 5;
