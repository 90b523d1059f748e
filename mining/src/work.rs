//! What there is to mine on: the pool's own templates, and the miners' jobs.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bitcoin::block::Header;
use template_distribution_sv2::NewTemplateOwned;
use validation::block::FoundBlock;
use validation::declared::TemplateHash;
use validation::tip::ChainTip;

/// Holds the transactions of some work. The server has one for each of its templates and for each
/// accepted job.
pub trait Source: Any + fmt::Debug + Send + Sync {
    /// The block of a header and a whole coinbase, with its witness if it has one. Cheap enough to
    /// be done while a found block waits: the transactions are only copied.
    ///
    /// None when the transactions are not kept any more. What peers declare is kept within bounds
    /// that channels know nothing of, and a channel that holds on to a job must not break them;
    /// [`Self::withdrawn`] says so then, too.
    fn block(&self, header: &Header, coinbase: &[u8]) -> Option<FoundBlock>;

    /// Why nothing may be mined on it any more, though the tip is the same: a node found it
    /// invalid, or its transactions are not kept any more.
    fn withdrawn(&self) -> Option<Arc<str>> {
        None
    }
}

/// A template of the pool's.
#[derive(Debug, Clone)]
pub struct PoolWork {
    /// Rises: work with a higher number replaces what came before.
    pub number: u64,
    /// The block that it builds on, with what consensus demands of the next one.
    pub tip: ChainTip,
    /// nTime to begin with, Unix seconds: later than the median time past.
    pub min_ntime: u32,
    /// As SV2 7.2 has it; `future_template` is not looked at.
    pub template: NewTemplateOwned,
    /// Transactions, the coinbase included.
    pub tx_count: u32,
    /// Its transactions.
    pub source: Arc<dyn Source>,
}

/// A job that a miner chose (SV2 5.3.18), checked.
#[derive(Debug, Clone)]
pub struct CustomJob {
    /// The block that it builds on, by our own nodes.
    pub tip: ChainTip,
    /// nVersion.
    pub version: u32,
    /// nTime to begin with, Unix seconds; nBits is what consensus demands then.
    pub min_ntime: u32,
    /// Hashes beside the coinbase's path in the merkle tree of txids, bottom up, as hashed.
    pub merkle_path: Arc<[[u8; 32]]>,
    /// All of the coinbase before the full extranonce, as it is in the block.
    pub coinbase_prefix: Arc<[u8]>,
    /// All of the coinbase after the full extranonce, as it is in the block.
    pub coinbase_suffix: Arc<[u8]>,
    /// Bytes between the two: the channel's prefix and what the miner rolls.
    pub extranonce_len: usize,
    /// What its coinbase pays to the pool, satoshi.
    pub pool_payout_sat: u64,
    /// What its coinbase could have claimed, satoshi: subsidy and fees. In coinbase-only mode nobody
    /// knows the fees, and it is what the coinbase takes, unverified, at least the subsidy.
    pub claimable_sat: u64,
    /// The accepted template; absent in coinbase-only mode, where nobody told us the transactions.
    pub declared: Option<Declared>,
}

impl CustomJob {
    /// True when both are the same to mine on. The reference client sets each of its jobs once for
    /// every miner behind it.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let template = |job: &Self| job.declared.as_ref().map(|declared| declared.template_hash);
        (self.tip, self.version, self.min_ntime) == (other.tip, other.version, other.min_ntime)
            && self.merkle_path == other.merkle_path
            && self.coinbase_prefix == other.coinbase_prefix
            && self.coinbase_suffix == other.coinbase_suffix
            && self.extranonce_len == other.extranonce_len
            && template(self) == template(other)
    }
}

/// What is known of the template of a custom job in full-template mode.
#[derive(Debug, Clone)]
pub struct Declared {
    /// Names the template.
    pub template_hash: TemplateHash,
    /// Transactions, the coinbase included.
    pub tx_count: u32,
    /// Its fees, satoshi; the known ones where not all are.
    pub fees_sat: u64,
    /// Weight of the block, weight units.
    pub weight_wu: u64,
    /// What the coinbase takes, satoshi.
    pub reward_sat: u64,
    /// Its transactions.
    pub source: Arc<dyn Source>,
}

/// Whose template a job is made of.
#[derive(Debug, Clone)]
pub enum JobSource {
    /// The pool's.
    Pool(Arc<PoolWork>),
    /// The miner's.
    Miner(Arc<CustomJob>),
}
