//! What a source of tips and templates gives out, whatever it speaks with the node.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::{BlockHash, CompactTarget, ScriptBuf, Work};
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
        /// How long the rest takes at the pace of the last minutes; `None` before one is known.
        left: Option<TimeLeft>,
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

/// How long a download will go on. Displayed as `about 3 hours`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLeft(Duration);

impl TimeLeft {
    /// By the progress (0 to 1) before and after this time. `None` where there was none, or so little
    /// that nothing follows from it.
    pub fn by_pace(before: f64, after: f64, between: Duration) -> Option<Self> {
        let pace = (after - before) / between.as_secs_f64();
        let rest_s = (1.0 - after).max(0.0) / pace;
        let known = pace > 0.0 && rest_s <= TIME_LEFT_MAX_S;
        known.then(|| Self(Duration::from_secs_f64(rest_s)))
    }

    /// The time itself.
    pub fn as_duration(self) -> Duration {
        self.0
    }
}

/// Longest estimate that is given, seconds: ten years.
const TIME_LEFT_MAX_S: f64 = 3.2e8;

impl fmt::Display for TimeLeft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.0.as_secs().div_ceil(60).max(1);
        match minutes {
            1 => f.write_str("about a minute"),
            2..60 => write!(f, "about {minutes} minutes"),
            60..90 => f.write_str("about an hour"),
            90..4_320 => write!(f, "about {} hours", (minutes + 30) / 60),
            _ => write!(f, "about {} days", (minutes + 720) / 1_440),
        }
    }
}

/// The tip, and when we saw it. Of a template provider its `time`, `median_time_past` and
/// `next_bits` are bounds that follow from what the provider tells, see [`crate::Provider`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TipState {
    /// The tip.
    pub tip: ChainTip,
    /// Work of the chain that ends in it; `None` where the source does not tell.
    pub work: Option<Work>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_estimated_from_the_pace() {
        let left = |before, after, seconds| {
            let left = TimeLeft::by_pace(before, after, Duration::from_secs(seconds));
            left.map(|left| left.to_string())
        };
        assert_eq!(left(0.5, 0.5, 2), None);
        assert_eq!(left(0.6, 0.5, 2), None);
        assert_eq!(left(0.5, 0.6, 0).as_deref(), Some("about a minute"));
        assert_eq!(left(0.98, 0.99, 2).as_deref(), Some("about a minute"));
        assert_eq!(left(0.98, 0.99, 60).as_deref(), Some("about a minute"));
        assert_eq!(left(0.5, 0.75, 600).as_deref(), Some("about 10 minutes"));
        assert_eq!(left(0.4999, 0.5, 2).as_deref(), Some("about 3 hours"));
        assert_eq!(left(0.0999999, 0.1, 2).as_deref(), Some("about 208 days"));
        assert_eq!(left(0.1, 0.1 + 1e-15, 2), None, "longer than anybody waits");
        assert_eq!(left(0.0, 1.0, 2).as_deref(), Some("about a minute"));
    }
}
