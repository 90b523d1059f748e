//! What a source of tips and templates gives out, whatever it speaks with the node.

use std::sync::Arc;
use std::time::Instant;

use bitcoin::{BlockHash, CompactTarget, ScriptBuf};
use validation::tip::ChainTip;
use validation::tx::Tx;

/// How things stand between us and a node.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeState {
    /// No working connection; we keep trying.
    Connecting {
        /// Why the last attempt failed; `None` before the first one ended.
        error: Option<String>,
    },
    /// The node downloads the chain; it has no work to offer yet.
    Syncing {
        /// The node's own estimate, 0 to 1.
        progress: f64,
        /// Blocks that it has.
        blocks: u32,
        /// Headers that it has.
        headers: u32,
    },
    /// The tip is known and followed. (The first template may still be on its way.)
    Ready,
}

impl NodeState {
    /// True for [`Self::Ready`].
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }
}

/// The tip, and when we saw it. Of a template provider its `time`, `median_time_past` and
/// `next_bits` are bounds that follow from what the provider tells, see [`crate::Provider`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TipState {
    /// The tip.
    pub tip: ChainTip,
    /// When our process learned of it.
    pub seen_at: Instant,
}

/// What the node would mine next.
#[derive(Debug, Clone)]
pub struct Template {
    /// Counts up with each template of this source, from 1.
    pub generation: u64,
    /// The block that it builds on.
    pub prev_hash: BlockHash,
    /// Height of the block to be mined.
    pub height: u32,
    /// Transactions without the coinbase, in block order, each with the node's facts learned.
    pub txs: Vec<Arc<Tx>>,
    /// Subsidy and fees, satoshi: what the coinbase may claim.
    pub coinbase_value_sat: u64,
    /// Block version that the node proposes.
    pub version: i32,
    /// The node's time for the block, Unix seconds.
    pub curtime: u32,
    /// Least time of the block, Unix seconds. The node applies BIP 94 to it on every network, so
    /// it is no floor for what consensus allows. A template provider tells only where to begin.
    pub mintime: u32,
    /// `nBits` at `curtime`.
    pub bits: CompactTarget,
    /// The commitment output's script over `txs` with a zero reserved value, if the node gave it
    /// (BIP 141).
    pub witness_commitment: Option<ScriptBuf>,
    /// When our process got it.
    pub fetched_at: Instant,
    /// What the template provider that gave it knows it by; `None` from a node.
    pub provider: Option<ProviderTemplate>,
}

/// A template as its provider knows it. The block that it makes can be handed in there as a
/// solution, as long as none of its transactions is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderTemplate {
    /// Its id at the provider.
    pub id: u64,
    /// Sigop cost that the provider left for the outputs of the coinbase. That of its transactions
    /// it does not tell.
    pub sigops_left: u16,
}
