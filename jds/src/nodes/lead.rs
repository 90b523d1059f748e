//! How long a template provider is believed that knows a block which our nodes do not.
//!
//! It may well be the first to hear of it, and miners should not wait for our node then. But it
//! proves nothing: the nodes have the last word, and a provider that they did not confirm is left
//! for a while.

use std::time::Instant;

use bitcoin::BlockHash;
use validation::tip::ChainTip;

use crate::limits::{PROVIDER_LEAD_MAX, PROVIDER_LEFT_FOR};

/// Blocks of a difficulty period.
const PERIOD: u32 = 2_016;

/// What one provider's word is worth beside our nodes'.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lead {
    /// The first block that it told and our nodes have not confirmed, and when.
    unconfirmed: Option<(BlockHash, Instant)>,
    left_until: Option<Instant>,
}

impl Lead {
    /// Whether its tip counts, given the highest tip of our nodes; and when that ends by itself.
    /// `known` tells whether a node of ours knows a block as a tip.
    pub(super) fn is_believed(
        &mut self,
        tip: &ChainTip,
        node: &ChainTip,
        known: impl Fn(&BlockHash) -> bool,
        now: Instant,
    ) -> (bool, Option<Instant>) {
        let confirmed = self.unconfirmed.is_none_or(|(hash, _)| known(&hash));
        if tip.height <= node.height || known(&tip.hash) {
            if !confirmed {
                self.leave(now);
            }
            self.unconfirmed = None;
            return (false, None);
        }
        if let Some(until) = self.left_until.filter(|until| now < *until) {
            return (false, Some(until));
        }
        if confirmed {
            self.unconfirmed = Some((tip.hash, now));
        }
        let since = self.unconfirmed.map_or(now, |(_, since)| since);
        let end = since + PROVIDER_LEAD_MAX;
        if now >= end || !fits(tip, node) {
            self.leave(now);
            return (false, self.left_until);
        }
        (true, Some(end))
    }

    /// Without a node there is nothing to compare with.
    pub(super) fn forget(&mut self) {
        self.unconfirmed = None;
    }

    /// Our nodes do not confirm what it says.
    pub(super) fn is_left(&self, now: Instant) -> bool {
        self.left_until.is_some_and(|until| now < until)
    }

    fn leave(&mut self, now: Instant) {
        self.unconfirmed = None;
        self.left_until = Some(now + PROVIDER_LEFT_FOR);
    }
}

/// Within a difficulty period the block after a block has its nBits, which our node knows. (Not on
/// testnets, where they depend on times.)
fn fits(tip: &ChainTip, node: &ChainTip) -> bool {
    let follows = tip.height == node.height + 1;
    let border = tip.next_height().is_multiple_of(PERIOD);
    let plain = node.next_bits.min_difficulty.is_none();
    !follows || border || !plain || tip.next_bits.regular == node.next_bits.regular
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bitcoin::CompactTarget;
    use bitcoin::hashes::Hash;
    use validation::tip::NextBits;

    use super::*;

    const BITS: u32 = 0x1d00_ffff;

    fn tip(height: u32, branch: u8) -> ChainTip {
        let mut hash = [branch; 32];
        hash[..4].copy_from_slice(&height.to_le_bytes());
        ChainTip {
            hash: BlockHash::from_byte_array(hash),
            height,
            time: 0,
            median_time_past: 0,
            next_bits: NextBits::fixed(CompactTarget::from_consensus(BITS)),
        }
    }

    fn known_to(height: u32) -> impl Fn(&BlockHash) -> bool {
        move |hash| (0..=height).any(|height| tip(height, 0).hash == *hash)
    }

    #[test]
    fn a_block_ahead_counts_at_once_until_the_nodes_have_it() {
        let (mut lead, start) = (Lead::default(), Instant::now());
        for height in 100..110 {
            let now = start + Duration::from_secs(u64::from(height));
            let end = Some(now + PROVIDER_LEAD_MAX);
            let (node, ahead) = (tip(height, 0), tip(height + 1, 0));
            assert_eq!(lead.is_believed(&ahead, &node, known_to(height), now), (true, end));
            let same = lead.is_believed(&ahead, &ahead, known_to(height + 1), now);
            assert_eq!(same, (false, None), "the node's word is as good");
        }
        assert!(!lead.is_left(start + Duration::from_secs(200)));
    }

    /// Two blocks at once: the nodes confirm the first while the provider has the second.
    #[test]
    fn each_confirmed_block_starts_the_time_anew() {
        let (mut lead, start) = (Lead::default(), Instant::now());
        let later = start + PROVIDER_LEAD_MAX - Duration::from_secs(1);
        let after = start + PROVIDER_LEAD_MAX + Duration::from_secs(1);
        assert!(lead.is_believed(&tip(101, 0), &tip(100, 0), known_to(100), start).0);
        assert!(lead.is_believed(&tip(102, 0), &tip(101, 0), known_to(101), later).0);
        assert!(lead.is_believed(&tip(102, 0), &tip(101, 0), known_to(101), after).0);
    }

    #[test]
    fn what_nobody_confirms_is_left_whatever_else_is_told_meanwhile() {
        let (mut lead, start) = (Lead::default(), Instant::now());
        for second in 0..PROVIDER_LEAD_MAX.as_secs() {
            let now = start + Duration::from_secs(second);
            let fresh = tip(101 + second as u32, 7);
            assert!(lead.is_believed(&fresh, &tip(100, 0), known_to(100), now).0, "{second} s");
        }
        let now = start + PROVIDER_LEAD_MAX;
        let until = now + PROVIDER_LEFT_FOR;
        let told = tip(500, 9);
        let left = lead.is_believed(&told, &tip(100, 0), known_to(100), now);
        assert_eq!(left, (false, Some(until)));
        assert!(lead.is_left(now));
        let (node, before) = (tip(101, 0), until - Duration::from_secs(1));
        assert!(!lead.is_believed(&told, &node, known_to(101), before).0);
        assert!(lead.is_believed(&told, &node, known_to(101), until).0, "another chance");
    }

    #[test]
    fn a_lead_that_the_nodes_overtake_otherwise_was_none() {
        let (mut lead, now) = (Lead::default(), Instant::now());
        assert!(lead.is_believed(&tip(101, 7), &tip(100, 0), known_to(100), now).0);
        assert!(!lead.is_believed(&tip(101, 7), &tip(101, 0), known_to(101), now).0);
        assert!(lead.is_left(now));
        assert!(!lead.is_believed(&tip(103, 7), &tip(101, 0), known_to(101), now).0);
    }

    #[test]
    fn other_bits_than_our_nodes_know_are_a_lie_except_at_a_border() {
        let now = Instant::now();
        for (height, believed) in [(2_013, false), (2_014, true), (2_015, false)] {
            let mut ahead = tip(height + 1, 0);
            ahead.next_bits = NextBits::fixed(CompactTarget::from_consensus(0x1c00_ffff));
            let mut lead = Lead::default();
            let word = lead.is_believed(&ahead, &tip(height, 0), known_to(height), now).0;
            assert_eq!(word, believed, "a tip of {height} + 1");
        }
    }
}
