//! The tips of the recent past, so that a late solution is judged by our own `nBits`.

use std::collections::VecDeque;

use bitcoin::BlockHash;
use validation::tip::ChainTip;

use crate::limits::TIPS_KEPT_MAX;

/// The last [`TIPS_KEPT_MAX`] tips, newest last.
#[derive(Debug, Default)]
pub(crate) struct RecentTips(VecDeque<ChainTip>);

impl RecentTips {
    /// Adds a tip, or renews one that came back after a reorganisation.
    pub(crate) fn push(&mut self, tip: ChainTip) {
        self.0.retain(|known| known.hash != tip.hash);
        if self.0.len() == TIPS_KEPT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(tip);
    }

    /// The tip with this hash, if it is recent.
    pub(crate) fn get(&self, hash: &BlockHash) -> Option<ChainTip> {
        self.0.iter().rev().find(|tip| tip.hash == *hash).copied()
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::CompactTarget;
    use bitcoin::hashes::Hash as _;
    use validation::tip::NextBits;

    use super::*;

    fn tip(height: u32) -> ChainTip {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&height.to_le_bytes());
        ChainTip {
            hash: BlockHash::from_byte_array(hash),
            height,
            time: 0,
            median_time_past: 0,
            next_bits: NextBits::fixed(CompactTarget::from_consensus(0x207f_ffff)),
        }
    }

    #[test]
    fn the_oldest_tip_leaves_first() {
        let mut tips = RecentTips::default();
        let count = TIPS_KEPT_MAX as u32 + 1;
        for height in 0..count {
            tips.push(tip(height));
        }
        assert_eq!(tips.get(&tip(0).hash), None);
        assert_eq!(tips.get(&tip(1).hash), Some(tip(1)));
        assert_eq!(tips.get(&tip(count - 1).hash), Some(tip(count - 1)));
    }

    #[test]
    fn a_tip_that_returns_is_held_once_and_renewed() {
        let mut tips = RecentTips::default();
        let returning = tip(u32::MAX);
        tips.push(returning);
        for height in 0..TIPS_KEPT_MAX as u32 - 1 {
            tips.push(tip(height));
        }
        tips.push(returning);
        tips.push(tip(1000));
        assert_eq!(tips.get(&returning.hash), Some(returning));
        assert_eq!(tips.0.len(), TIPS_KEPT_MAX);
    }
}
