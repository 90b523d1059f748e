//! A job that kept every rule, with everything needed to build its block.

use std::sync::Arc;

use bitcoin::BlockHash;

use crate::coinbase::CoinbaseParts;
use crate::declared::TemplateHash;
use crate::merkle::WitnessRoot;
use crate::tip::ChainTip;
use crate::tx::Tx;

/// Fees of a job's transactions, as far as they are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fees {
    /// All fees together, in satoshi; `None` when that of some transaction is not known.
    pub total_sat: Option<u64>,
    /// The known ones together, in satoshi.
    pub known_sat: u64,
}

/// An accepted job. It shares the ownership of its transactions, so no cache can make its block
/// unbuildable.
#[derive(Debug, Clone)]
pub struct AcceptedJob {
    pub(crate) template_hash: TemplateHash,
    /// Unless it comes out of a store.
    pub(crate) witness_root: Option<WitnessRoot>,
    pub(crate) version: u32,
    pub(crate) coinbase: CoinbaseParts,
    pub(crate) txs: Box<[Arc<Tx>]>,
    pub(crate) tip: ChainTip,
    pub(crate) weight_wu: u64,
    pub(crate) sigop_cost_min: u64,
    pub(crate) unvouched: Box<[u16]>,
    pub(crate) fees: Fees,
    pub(crate) pool_payout_sat: u64,
    pub(crate) miner_payout_sat: u64,
    pub(crate) claimable_sat: u64,
}

/// What an accepted job is made of, for [`AcceptedJob::restore`].
#[derive(Debug, Clone)]
pub struct JobParts {
    /// See [`AcceptedJob::template_hash`].
    pub template_hash: TemplateHash,
    /// See [`AcceptedJob::version`].
    pub version: u32,
    /// See [`AcceptedJob::coinbase`].
    pub coinbase: CoinbaseParts,
    /// See [`AcceptedJob::txs`].
    pub txs: Vec<Arc<Tx>>,
    /// See [`AcceptedJob::tip`].
    pub tip: ChainTip,
    /// See [`AcceptedJob::weight_wu`].
    pub weight_wu: u64,
    /// See [`AcceptedJob::sigop_cost_min`].
    pub sigop_cost_min: u64,
    /// See [`AcceptedJob::fees`].
    pub fees: Fees,
    /// See [`AcceptedJob::pool_payout_sat`].
    pub pool_payout_sat: u64,
    /// See [`AcceptedJob::miner_payout_sat`].
    pub miner_payout_sat: u64,
    /// See [`AcceptedJob::claimable_sat`].
    pub claimable_sat: u64,
}

impl AcceptedJob {
    /// A job that [`crate::judge`] accepted before, out of a store. Nothing is judged again: the
    /// parts must be those that the accepted job had.
    pub fn restore(parts: JobParts) -> Self {
        Self {
            template_hash: parts.template_hash,
            witness_root: None,
            version: parts.version,
            coinbase: parts.coinbase,
            txs: parts.txs.into(),
            tip: parts.tip,
            weight_wu: parts.weight_wu,
            sigop_cost_min: parts.sigop_cost_min,
            unvouched: Box::default(),
            fees: parts.fees,
            pool_payout_sat: parts.pool_payout_sat,
            miner_payout_sat: parts.miner_payout_sat,
            claimable_sat: parts.claimable_sat,
        }
    }

    /// Names the template.
    pub fn template_hash(&self) -> TemplateHash {
        self.template_hash
    }

    /// Root over its wtxids. Known from the verdict; of a job out of a store it is computed here.
    pub fn witness_root(&self) -> WitnessRoot {
        self.witness_root.unwrap_or_else(|| {
            let wtxids: Vec<_> = self.txs.iter().map(|tx| tx.wtxid()).collect();
            WitnessRoot::of(&wtxids)
        })
    }

    /// nVersion of the block header, as declared; miners may roll its BIP 323 bits.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The coinbase transaction, with a hole for the extranonce.
    pub fn coinbase(&self) -> &CoinbaseParts {
        &self.coinbase
    }

    /// All transactions but the coinbase, in block order.
    pub fn txs(&self) -> &[Arc<Tx>] {
        &self.txs
    }

    /// Transactions in the block, the coinbase included.
    pub fn tx_count(&self) -> usize {
        self.txs.len() + 1
    }

    /// The tip that the verdict was given for.
    pub fn tip(&self) -> &ChainTip {
        &self.tip
    }

    /// Hash of that tip. The declaration itself names no block, only a height: after a
    /// reorganisation the job may also be good on another block of the same height.
    pub fn prev_hash(&self) -> BlockHash {
        self.tip.hash
    }

    /// Height of the block that the job is for.
    pub fn height(&self) -> u32 {
        self.coinbase.height()
    }

    /// Weight of the block in weight units (BIP 141), at most 4,000,000.
    pub fn weight_wu(&self) -> u64 {
        self.weight_wu
    }

    /// Least sigop cost of the block: exact where our node knows the transaction.
    pub fn sigop_cost_min(&self) -> u64 {
        self.sigop_cost_min
    }

    /// Positions of the transactions that no node had told of when it was judged, ascending. Empty for
    /// a job out of a store.
    pub fn unvouched(&self) -> &[u16] {
        &self.unvouched
    }

    /// Fees, as far as they are known.
    pub fn fees(&self) -> Fees {
        self.fees
    }

    /// True when every fee is known, and with them what the coinbase may take.
    pub fn fees_verified(&self) -> bool {
        self.fees.total_sat.is_some()
    }

    /// What the coinbase pays to the pool's script, in satoshi; in solo mode to the operator's.
    pub fn pool_payout_sat(&self) -> u64 {
        self.pool_payout_sat
    }

    /// What the coinbase pays to the miner's own script in solo mode, in satoshi; 0 in pool mode,
    /// where nobody told us which script that is.
    pub fn miner_payout_sat(&self) -> u64 {
        self.miner_payout_sat
    }

    /// Subsidy and fees when all fees are known, else the greater of the subsidy and what the
    /// coinbase takes, in satoshi.
    pub fn claimable_sat(&self) -> u64 {
        self.claimable_sat
    }

    /// What the coinbase takes in all, in satoshi.
    pub fn reward_sat(&self) -> u64 {
        self.coinbase.output_total().to_sat()
    }
}
