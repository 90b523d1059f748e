//! What readers ask for, and what they get.

use bitcoin::{BlockHash, Txid, Wtxid};
use serde::Serialize;
use validation::block::FoundBlock;
use validation::declared::TemplateHash;
use validation::job::AcceptedJob;

use crate::accounting::AccountingCursor;
use crate::event::Event;
use crate::types::{
    BlockState, Cursor, Period, StreamEpoch, SubmissionState, TemplateSource, UserTag,
    ValidationResult,
};

/// Events in order, and where to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPage {
    /// The events that the reader wants, by ascending id.
    pub events: Vec<Event>,
    /// Where to go on. It may have moved although `events` is empty: past events that the reader
    /// does not want.
    pub next: Cursor,
    /// True when there is more to read at once; else wait for [`crate::Store::watch`].
    pub more: bool,
}

/// Which part of a list, newest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// `next` of the page before; `None` for the first.
    pub after: Option<u64>,
    /// Most items; [`crate::limits::PAGE_ITEMS_MAX`] at the most. 0 stands for
    /// [`crate::limits::PAGE_ITEMS_DEFAULT`].
    pub limit: usize,
}

/// Part of a list, newest first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<u64>,
}

/// Which templates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplateFilter {
    /// Of this user.
    pub user: Option<String>,
    /// With this verdict.
    pub result: Option<ValidationResult>,
    /// Declared at or after, Unix milliseconds.
    pub from_ms: Option<u64>,
    /// Declared before, Unix milliseconds.
    pub until_ms: Option<u64>,
    /// With this hash.
    pub template_hash: Option<TemplateHash>,
}

/// One declaration, accepted or not: a row of `miner_templates`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TemplateSummary {
    /// Number of the declaration.
    pub id: u64,
    /// Names the template, 64 hex digits; absent when a rejected one came not so far.
    pub template_hash: Option<String>,
    /// User.
    pub user: String,
    /// The worker that declared it; empty when none was named.
    pub worker: String,
    /// Unix milliseconds.
    pub submitted_at: u64,
    /// The verdict.
    pub result: ValidationResult,
    /// Transactions in the block, the coinbase included.
    pub tx_count: u32,
    /// Fees together, satoshi, as far as they are known.
    pub total_fees_sat: u64,
    /// True when every fee is known.
    pub fees_verified: bool,
    /// Weight of the block, weight units; 0 for a rejected one.
    pub block_weight: u64,
    /// Height of the block, if it came so far.
    pub height: Option<u32>,
    /// Hash of the block before, of an accepted one.
    pub prev_hash: Option<String>,
    /// Time that the verdict took, milliseconds.
    pub validation_ms: f64,
    /// Time from our question for transactions to the answer, milliseconds, if there was one.
    pub fetch_ms: Option<f64>,
    /// Transactions that we had to ask for.
    pub txs_unknown: u32,
    /// Size of the declaration, bytes.
    pub request_bytes: u64,
    /// What the coinbase pays to the pool, satoshi.
    pub pool_payout_sat: u64,
    /// What it pays to the miner's own script in solo mode, satoshi.
    pub miner_payout_sat: u64,
    /// What it could claim, satoshi.
    pub claimable_sat: u64,
    /// What it takes, satoshi.
    pub reward_sat: u64,
    /// Code that the client was told, of a rejected one.
    pub error_code: Option<String>,
    /// Stable name of the rule that it broke; the node's reason of an invalidated one.
    pub reason: Option<String>,
    /// Position of the offender, 0-based.
    pub index: Option<u64>,
    /// What the rule demands.
    pub expected: Option<String>,
    /// What was found.
    pub actual: Option<String>,
    /// True when it was acknowledged while the store could not write.
    pub acknowledged_volatile: bool,
}

/// One accepted template as it was declared.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateDetail {
    /// Its row.
    pub summary: TemplateSummary,
    /// nVersion of the block header.
    pub version: u32,
    /// The coinbase transaction up to the extranonce.
    pub coinbase_prefix: Vec<u8>,
    /// The coinbase transaction after the extranonce.
    pub coinbase_suffix: Vec<u8>,
    /// Length of the extranonce, bytes.
    pub extranonce_bytes: u8,
    /// Least sigop cost of the block.
    pub sigop_cost_min: u64,
    /// All transactions but the coinbase, in block order; `None` when they are not kept any more.
    pub txs: Option<Vec<TemplateTx>>,
}

/// A transaction of a template, without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateTx {
    /// Hash without witness.
    pub txid: Txid,
    /// Hash with witness.
    pub wtxid: Wtxid,
    /// Size, bytes.
    pub bytes: u32,
    /// Weight, weight units.
    pub weight_wu: u32,
    /// Fee, satoshi, if our node told.
    pub fee_sat: Option<u64>,
}

/// Which template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateRef {
    /// The declaration with that number.
    Id(u64),
    /// The newest declaration of that template, an accepted one if there is one.
    Hash(TemplateHash),
}

/// A token that was used up and has not expired yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpentToken {
    /// Unique number of the token.
    pub sequence: u64,
    /// User.
    pub user: String,
    /// When it was used, Unix milliseconds.
    pub spent_at: u64,
    /// When it would have expired, Unix milliseconds.
    pub expires_at: u64,
}

/// A block of ours.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BlockSummary {
    /// Number of the block in the store.
    pub id: u64,
    /// Its hash, 64 hex digits as usually printed.
    pub block_hash: String,
    /// Its height.
    pub height: u32,
    /// User.
    pub user: String,
    /// Unix milliseconds.
    pub found_at: u64,
    /// Whose template it was mined on.
    pub template_source: TemplateSource,
    /// The miner's template, 64 hex digits.
    pub miner_template_hash: Option<String>,
    /// Transactions in it, the coinbase included.
    pub tx_count: u32,
    /// What its coinbase takes, satoshi.
    pub reward_sat: u64,
    /// Where it stands in the chain.
    pub state: BlockState,
    /// Blocks from it to the tip, itself included.
    pub confirmations: u32,
    /// True when it was acknowledged while the store could not write.
    pub acknowledged_volatile: bool,
    /// What each node made of it, by the name of the node.
    pub submissions: Vec<NodeSubmission>,
}

/// A block's saga at one node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeSubmission {
    /// Name of the node.
    pub node: String,
    /// Where the saga stands.
    pub state: SubmissionState,
    /// The node's words, where it has any.
    pub detail: Option<String>,
    /// Attempts made.
    pub attempts: u32,
    /// From the solution to the answer, milliseconds.
    pub latency_ms: Option<f64>,
    /// When this last changed, Unix milliseconds.
    pub updated_at: u64,
}

/// Which aggregates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharesQuery {
    /// Of this user; `None` stands for all users together.
    pub user: Option<String>,
    /// By hour or by day.
    pub period: Period,
    /// Periods that start at or after, Unix milliseconds.
    pub from_ms: u64,
    /// Periods that start before, Unix milliseconds.
    pub until_ms: u64,
}

/// What happened in one hour or day, on templates of one source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Aggregate {
    /// Start of the period, Unix milliseconds.
    pub start: u64,
    /// Whose templates.
    pub template_source: TemplateSource,
    /// Shares that count.
    pub shares_accepted: u64,
    /// Shares that do not.
    pub shares_rejected: u64,
    /// Difficulty of those that count, added up.
    pub difficulty: f64,
    /// Templates accepted; 0 for [`TemplateSource::Pool`].
    pub templates_accepted: u64,
    /// Templates rejected; 0 for [`TemplateSource::Pool`].
    pub templates_rejected: u64,
    /// Blocks found.
    pub blocks_found: u64,
}

/// What is known of a user for as long as totals of the user are kept, with the progress towards badges.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MinerSummary {
    /// User.
    pub user: String,
    /// Unix milliseconds.
    pub first_seen: u64,
    /// Unix milliseconds.
    pub last_seen: u64,
    /// Templates accepted. "Template Crafter" at [`TEMPLATE_CRAFTER_TEMPLATES`].
    pub templates_accepted_total: u64,
    /// Templates rejected.
    pub templates_rejected_total: u64,
    /// Accepted shares on templates of the miner.
    pub shares_accepted_miner: u64,
    /// Accepted shares on templates of the pool.
    pub shares_accepted_pool: u64,
    /// Shares that did not count.
    pub shares_rejected: u64,
    /// Blocks found.
    pub blocks_found: u64,
    /// "Sovereign Miner": first accepted share on a template of the miner, Unix milliseconds.
    pub sovereign_miner_at: Option<u64>,
    /// "Node Runner": first connection with job negotiation, Unix milliseconds.
    pub node_runner_at: Option<u64>,
    /// "Template Crafter": when the count was reached, Unix milliseconds.
    pub template_crafter_at: Option<u64>,
}

/// A part of the users, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MinersPage {
    /// In the order of the bytes of their names.
    pub miners: Vec<MinerSummary>,
    /// The last of them, when there are more.
    pub next: Option<String>,
}

/// Accepted templates that make a "Template Crafter".
pub const TEMPLATE_CRAFTER_TEMPLATES: u64 = 1_000;

/// What a starting server wants back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoverQuery {
    /// Tokens that expire later than this, Unix milliseconds.
    pub now_ms: u64,
    /// Templates for blocks at or above this height.
    pub min_height: u32,
    /// The newest so many of them.
    pub templates_max: usize,
    /// The newest so many of each user: whoever declares much displaces only what is his. Below
    /// `templates_max` all users' newest come first, then all users' second newest, and so on.
    pub user_templates_max: usize,
    /// The newest so many spent tokens; see [`Recovered::spent_floor`] for the others.
    pub spent_tokens_max: usize,
}

impl RecoverQuery {
    /// Everything, as of the beginning of time. To be narrowed: all of a store may be more than
    /// the memory holds.
    pub const ALL: Self = Self {
        now_ms: 0,
        min_height: 0,
        templates_max: usize::MAX >> 1,
        user_templates_max: usize::MAX >> 1,
        spent_tokens_max: (usize::MAX >> 1) - 1,
    };
}

/// What a starting server gets back.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Sequences of tokens that were used up and have not expired, newest (highest) first.
    pub spent_tokens: Vec<u64>,
    /// The highest sequence that may have been forgotten, be it expired, above what is kept or
    /// beyond [`RecoverQuery::spent_tokens_max`]; 0 for none. Whoever brings a token at or below it
    /// that is not in [`Self::spent_tokens`] may have used it before.
    pub spent_floor: u64,
    /// Accepted templates, oldest first. Transactions are shared among them.
    pub templates: Vec<RecoveredTemplate>,
    /// Blocks whose end is not known, oldest first.
    pub blocks: Vec<RecoveredBlock>,
    /// What could not be read back, in words; the rest is unharmed.
    pub damaged: Vec<String>,
}

/// An accepted template, ready for solutions.
#[derive(Debug)]
pub struct RecoveredTemplate {
    /// Number of the declaration.
    pub id: u64,
    /// User.
    pub user: String,
    /// The worker that declared it; empty when none was named.
    pub worker: String,
    /// What stands for the user in tokens.
    pub user_tag: UserTag,
    /// Unix milliseconds.
    pub submitted_at: u64,
    /// The job, as it was accepted.
    pub job: AcceptedJob,
    /// Why it was withdrawn, if it was.
    pub withdrawn: Option<String>,
}

/// A block whose end is not known: to be submitted where it was not accepted, and to be followed.
#[derive(Debug, Clone)]
pub struct RecoveredBlock {
    /// Hash of the block.
    pub block_hash: BlockHash,
    /// Its row.
    pub summary: BlockSummary,
    /// The block itself.
    pub block: FoundBlock,
}

/// Why a page of events can not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// The current epoch.
    pub epoch: StreamEpoch,
    /// Smallest id that is kept; one above the last when none is.
    pub earliest: u64,
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What the cursor points at is not there any more: older than retention, or of another epoch.
    #[error("the cursor is gone; the earliest event that is kept is {} of epoch {}", .0.earliest, .0.epoch)]
    Gone(Gone),
    /// What a cursor of the accounting feed points at is not there any more: older than retention, or
    /// of a history that a backup has replaced.
    #[error("the cursor is gone; the feed goes on after {earliest}")]
    AccountingGone {
        /// The entries that are kept come after it.
        earliest: AccountingCursor,
    },
    /// All readers are busy.
    #[error("all {readers} readers of the store are busy")]
    Busy {
        /// How many there are.
        readers: usize,
    },
    /// The database could not be read.
    #[error("the store can not be read: {0}")]
    Database(String),
    /// A row does not hold what it should.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}
