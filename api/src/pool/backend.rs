//! What the pool interface needs from the server.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bitcoin::{BlockHash, Network, Target};
use tokio::sync::watch;
use validation::declared::TemplateHash;
use validation::tip::ChainTip;

/// What a call that takes its time gives.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The server, as the pool interface sees it.
pub trait PoolBackend: Send + Sync + 'static {
    /// The chain that is mined on.
    fn network(&self) -> Network;

    /// The block that work is to build on, as our nodes have it.
    fn watch_tip(&self) -> watch::Receiver<Option<ChainTip>>;

    /// Checks a job that a miner chose.
    fn verify(&self, job: CustomJob) -> Answer<'_, Result<Arc<JobData>, Refused>>;

    /// Judges shares. What is given back is recorded: in the order of the shares, one for each.
    ///
    /// # Errors
    /// [`NotJudged`]: of all of them.
    fn shares(&self, shares: Vec<Share>) -> Answer<'_, Result<Vec<Judged>, NotJudged>>;

    /// Submits the block of a solution, which counts as no share. It is on the disk then.
    ///
    /// # Errors
    /// [`NotFound`]: it makes no block, or nobody knows yet.
    fn block(&self, solution: Share) -> Answer<'_, Result<FoundBlock, NotFound>>;

    /// The withdrawn jobs that somebody was not told of who knows those up to the number `known`.
    fn withdrawn_after(&self, known: u64) -> Untold;

    /// The number of the newest withdrawn job; 0 before the first.
    fn watch_withdrawn(&self) -> watch::Receiver<u64>;
}

/// A job to be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomJob {
    /// Bytes of the token: a receipt, or one of coinbase-only mode.
    pub token: Vec<u8>,
    /// Whose token it must be; absent: whoever's the receipt is.
    pub user: Option<String>,
    /// What the pool calls the miner's connection: a token belongs to one.
    pub connection: String,
    /// What the miner said of the job; absent: as it was declared.
    pub fields: Option<JobFields>,
}

/// The fields of SetCustomMiningJob (SV2 5.3.18).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFields {
    /// nVersion of the header.
    pub version: u32,
    /// The block that it builds on.
    pub prev_hash: BlockHash,
    /// nTime to begin with, Unix seconds.
    pub min_ntime: u32,
    /// nBits of the header.
    pub nbits: u32,
    /// nVersion of the coinbase.
    pub coinbase_tx_version: u32,
    /// The scriptSig up to the full extranonce.
    pub coinbase_prefix: Vec<u8>,
    /// nSequence of the coinbase's input.
    pub coinbase_sequence: u32,
    /// Count and consensus encoding of the outputs.
    pub coinbase_outputs: Vec<u8>,
    /// nLockTime of the coinbase.
    pub coinbase_lock_time: u32,
    /// Hashes beside the coinbase's path, bottom up, as hashed.
    pub merkle_path: Vec<[u8; 32]>,
    /// Bytes of the full extranonce.
    pub extranonce_bytes: usize,
}

/// An accepted job: all that work is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct JobData {
    /// Names it in shares and solutions.
    pub name: JobName,
    /// User, printable.
    pub user: String,
    /// The accepted template; absent in coinbase-only mode.
    pub template: Option<TemplateData>,
    /// Height of the block.
    pub height: u32,
    /// nVersion of the header.
    pub version: u32,
    /// Bits of it that miners may change.
    pub version_mask: u32,
    /// The block that it builds on.
    pub prev_hash: BlockHash,
    /// nTime to begin with, Unix seconds.
    pub min_ntime: u32,
    /// nBits then.
    pub nbits: u32,
    /// The coinbase before the full extranonce, without what only its witness hash is over.
    pub coinbase_prefix: Vec<u8>,
    /// The coinbase after the full extranonce, likewise.
    pub coinbase_suffix: Vec<u8>,
    /// Bytes of the full extranonce.
    pub extranonce_bytes: usize,
    /// Hashes beside the coinbase's path, bottom up, as hashed.
    pub merkle_path: Vec<[u8; 32]>,
}

/// What is known of an accepted template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateData {
    /// Names it.
    pub hash: TemplateHash,
    /// Transactions, the coinbase included.
    pub tx_count: u32,
    /// Fees, satoshi.
    pub fees_sat: u64,
    /// What its coinbase pays to the pool, satoshi.
    pub pool_payout_sat: u64,
    /// What it could have claimed, satoshi.
    pub claimable_sat: u64,
}

/// Bytes that name a job; the backend knows what is in them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JobName(pub Vec<u8>);

/// What a share is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnJob {
    /// The job of that name.
    Named(JobName),
    /// The declared job of this receipt, on the miner's connection of that name.
    Receipt {
        /// Its bytes.
        token: Vec<u8>,
        /// What the pool calls the miner's connection.
        connection: String,
    },
}

/// A share, or a solution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The job.
    pub on: OnJob,
    /// Who of the user's workers mined it; absent: nobody says.
    pub worker: Option<String>,
    /// The full extranonce.
    pub extranonce: Vec<u8>,
    /// nTime, Unix seconds.
    pub ntime: u32,
    /// nNonce.
    pub nonce: u32,
    /// nVersion, all of it.
    pub version: u32,
    /// What its miner was asked for; above zero.
    pub target: Target,
}

/// What a share is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Hash of its header; absent when none can be made.
    pub hash: Option<BlockHash>,
    /// It makes a block, which is on its way to the nodes.
    pub is_block: bool,
    /// The difficulty that it counts for, or why it does not count.
    pub worth: Result<f64, Refused>,
}

/// A block of a solution, on its way to the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundBlock {
    /// Its hash.
    pub hash: BlockHash,
    /// Its height.
    pub height: u32,
    /// It was not known before.
    pub new: bool,
}

/// Why something is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// A code of the protocol (SV2 5.3.20, 5.3.14), or one of ours where it has none.
    pub code: &'static str,
    /// What was expected and what came; empty where the code says all.
    pub detail: String,
}

/// Why nothing is said of shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotJudged {
    /// No node has told a tip yet: what is stale is not known.
    NoTip,
    /// What was accepted could not be recorded, for this reason.
    NotRecorded(String),
}

/// Why no block is submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotFound {
    /// It makes none.
    Refused(Refused),
    /// Nothing can be said of it now; send it again.
    NotJudged(NotJudged),
}

impl From<Refused> for NotFound {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<NotJudged> for NotFound {
    fn from(not_judged: NotJudged) -> Self {
        Self::NotJudged(not_judged)
    }
}

/// Withdrawn jobs that somebody was not told of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Untold {
    /// There were more, which are forgotten.
    pub lost: bool,
    /// The number of the newest one; 0 before the first.
    pub newest: u64,
    /// Oldest first.
    pub jobs: Vec<Arc<Withdrawn>>,
}

/// A job that nothing may be mined on any more, though the tip is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawn {
    /// Rises by one from 1.
    pub number: u64,
    /// The job.
    pub name: JobName,
    /// User, printable.
    pub user: String,
    /// Its template; absent in coinbase-only mode.
    pub template: Option<TemplateHash>,
    /// Why.
    pub reason: String,
}
