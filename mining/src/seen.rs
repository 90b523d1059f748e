//! Shares that were accepted, so that none is paid for twice.

use std::collections::{HashSet, VecDeque};

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;

use crate::limits::{SHARES_SEEN_MAX, SHARES_SEEN_TIPS_MAX};

/// Enough of a hash: nobody finds two shares that have these bytes in common.
pub(crate) type Key = [u8; 16];

/// Accepted shares of a channel, by the block that they build on. Jobs and templates are no part of
/// a header, so all jobs on a block share one set, and a block that comes back finds its own again.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Shares on one tip.
    max: usize,
    /// The current tip's first.
    tips: VecDeque<(BlockHash, HashSet<Key>)>,
}

/// What a share is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Novelty {
    New,
    Duplicate,
    /// There is no room to remember it.
    Full,
}

impl Default for Seen {
    fn default() -> Self {
        Self::with_max(SHARES_SEEN_MAX)
    }
}

impl Seen {
    /// Remembers at most `max` shares on a tip.
    pub(crate) fn with_max(max: usize) -> Self {
        Self { max, tips: VecDeque::new() }
    }

    /// Whether a share on `tip` was accepted before.
    pub(crate) fn look(&self, tip: BlockHash, share: BlockHash) -> Novelty {
        match self.tips.iter().find(|(of, _)| *of == tip) {
            Some((_, keys)) if keys.contains(&key(share)) => Novelty::Duplicate,
            Some((_, keys)) if keys.len() >= self.max => Novelty::Full,
            _ => Novelty::New,
        }
    }

    /// Remembers a share, of which the caller knows that it is new.
    pub(crate) fn insert(&mut self, tip: BlockHash, share: BlockHash) {
        let index = match self.tips.iter().position(|(of, _)| *of == tip) {
            Some(index) => index,
            None => {
                self.tips.push_front((tip, HashSet::new()));
                self.tips.truncate(SHARES_SEEN_TIPS_MAX);
                0
            }
        };
        if let Some((_, keys)) = self.tips.get_mut(index) {
            keys.insert(key(share));
        }
    }

    /// Forgets a share that was not paid for after all.
    pub(crate) fn remove(&mut self, tip: BlockHash, share: BlockHash) {
        if let Some((_, keys)) = self.tips.iter_mut().find(|(of, _)| *of == tip) {
            keys.remove(&key(share));
        }
    }

    /// Forgets all. Only for a channel whose jobs are all gone and whose next ones have another
    /// extranonce.
    pub(crate) fn clear(&mut self) {
        self.tips.clear();
    }
}

/// The front of a hash as it is hashed: the end is all zeros in a good share.
pub(crate) fn key(share: BlockHash) -> Key {
    share.to_byte_array().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u32) -> BlockHash {
        BlockHash::hash(&number.to_le_bytes())
    }

    #[test]
    fn remembers_by_tip_and_only_some_tips() {
        let mut seen = Seen::default();
        seen.insert(hash(1), hash(100));
        assert_eq!(seen.look(hash(1), hash(100)), Novelty::Duplicate);
        assert_eq!(seen.look(hash(2), hash(100)), Novelty::New);
        assert_eq!(seen.look(hash(1), hash(101)), Novelty::New);
        seen.insert(hash(1), hash(102));
        seen.remove(hash(2), hash(102));
        assert_eq!(seen.look(hash(1), hash(102)), Novelty::Duplicate);
        seen.remove(hash(1), hash(102));
        assert_eq!(seen.look(hash(1), hash(102)), Novelty::New);
        // A chain that comes back.
        seen.insert(hash(2), hash(100));
        assert_eq!(seen.look(hash(1), hash(100)), Novelty::Duplicate);
        for tip in 10..10 + SHARES_SEEN_TIPS_MAX as u32 {
            seen.insert(hash(tip), hash(100));
        }
        assert_eq!(seen.look(hash(1), hash(100)), Novelty::New);
        assert_eq!(seen.tips.len(), SHARES_SEEN_TIPS_MAX);
    }

    #[test]
    fn a_full_set_takes_no_more_and_forgets_nothing() {
        let mut seen = Seen::default();
        for share in 0..SHARES_SEEN_MAX as u32 {
            assert_eq!(seen.look(hash(1), hash(share)), Novelty::New);
            seen.insert(hash(1), hash(share));
        }
        assert_eq!(seen.look(hash(1), hash(u32::MAX)), Novelty::Full);
        assert_eq!(seen.look(hash(1), hash(0)), Novelty::Duplicate);
    }
}
