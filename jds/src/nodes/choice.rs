//! Which of several tips counts.

use std::time::Instant;

use bitcoin::{BlockHash, Work};
use tdp_client::TipState;
use validation::tip::ChainTip;

/// The tip of a node that is ready.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// Place of the node in the configuration.
    pub(super) index: usize,
    pub(super) tip: ChainTip,
    work: Option<Work>,
    seen_at: Instant,
}

impl Candidate {
    pub(super) fn new(index: usize, state: &TipState) -> Self {
        let TipState { tip, work, seen_at } = *state;
        Self { index, tip, work, seen_at }
    }
}

/// The tip with the most work, which is what consensus asks for and heights are not. Among equals the
/// one that counts already (`current`), or else the one seen first: who mines on stays where he is,
/// as every node does. Of several nodes that have it, the first in the configuration.
///
/// A source that tells no work is believed where its tip is another's too, or is higher.
pub(super) fn best(candidates: &[Candidate], current: Option<BlockHash>) -> Option<Candidate> {
    let most = candidates.iter().filter_map(|one| one.work).max();
    let measured = |one: &&Candidate| match most {
        Some(_) => work_of(one, candidates) == most,
        None => true,
    };
    let height = candidates.iter().filter(measured).map(|one| one.tip.height).max()?;
    let higher = |one: &&Candidate| work_of(one, candidates).is_none() && one.tip.height > height;
    let top = candidates.iter().filter(higher).map(|one| one.tip.height).max();
    let counts = |one: &&Candidate| match (top, most) {
        (Some(top), _) => higher(one) && one.tip.height == top,
        (None, Some(_)) => measured(one),
        (None, None) => one.tip.height == height,
    };
    let equals = || candidates.iter().filter(counts);
    let stays = equals().find(|one| Some(one.tip.hash) == current);
    let hash = stays.or_else(|| equals().min_by_key(|one| one.seen_at))?.tip.hash;
    equals().filter(|one| one.tip.hash == hash).min_by_key(|one| one.index).copied()
}

/// Work of its chain, by its own source or by another that has the same tip.
fn work_of(one: &Candidate, all: &[Candidate]) -> Option<Work> {
    one.work.or_else(|| {
        all.iter().filter(|other| other.tip.hash == one.tip.hash).find_map(|other| other.work)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bitcoin::{CompactTarget, hashes::Hash};
    use validation::tip::NextBits;

    use super::*;

    /// Tips of nodes in their order: name of the block, height, work (0: not told), and the second in
    /// which it was seen.
    fn tips(list: &[(u8, u32, u8, u64)]) -> Vec<Candidate> {
        let start = Instant::now();
        let candidate = |(index, (name, height, work, second)): (usize, &(u8, u32, u8, u64))| {
            let mut be = [0; 32];
            be[31] = *work;
            Candidate {
                index,
                tip: ChainTip {
                    hash: hash(*name),
                    height: *height,
                    time: 0,
                    median_time_past: 0,
                    next_bits: NextBits::fixed(CompactTarget::from_consensus(0x207f_ffff)),
                },
                work: (*work > 0).then(|| Work::from_be_bytes(be)),
                seen_at: start + Duration::from_secs(*second),
            }
        };
        list.iter().enumerate().map(candidate).collect()
    }

    fn hash(name: u8) -> BlockHash {
        BlockHash::from_byte_array([name; 32])
    }

    /// Which node the tip comes from.
    fn chosen(list: &[(u8, u32, u8, u64)], current: Option<u8>) -> Option<usize> {
        best(&tips(list), current.map(hash)).map(|one| one.index)
    }

    #[test]
    fn nobody_ready_is_no_tip() {
        assert_eq!(chosen(&[], Some(1)), None);
    }

    #[test]
    fn work_counts_and_height_does_not() {
        assert_eq!(chosen(&[(1, 100, 10, 0), (2, 99, 11, 1)], Some(1)), Some(1));
        assert_eq!(chosen(&[(1, 100, 10, 0), (2, 100, 11, 1)], Some(1)), Some(1));
        assert_eq!(chosen(&[(1, 101, 10, 0), (2, 100, 10, 1)], Some(2)), Some(1));
        assert_eq!(chosen(&[(1, 100, 11, 0), (2, 100, 10, 1)], Some(2)), Some(0));
    }

    #[test]
    fn among_equals_the_one_that_counts_stays() {
        let fork = [(1, 100, 10, 5), (2, 100, 10, 3), (3, 100, 10, 4)];
        for (node, name) in [1, 2, 3].into_iter().enumerate() {
            assert_eq!(chosen(&fork, Some(name)), Some(node));
        }
    }

    #[test]
    fn among_equals_that_are_new_the_first_seen_wins() {
        let fork = [(1, 100, 10, 5), (2, 100, 10, 3), (3, 100, 10, 4)];
        assert_eq!(chosen(&fork, None), Some(1));
        assert_eq!(chosen(&fork, Some(9)), Some(1));
    }

    #[test]
    fn of_those_with_the_same_tip_the_first_in_the_configuration() {
        let same = [(1, 100, 10, 5), (1, 100, 10, 3)];
        assert_eq!(chosen(&same, None), Some(0));
        assert_eq!(chosen(&same, Some(1)), Some(0));
    }

    #[test]
    fn without_work_the_height_decides() {
        assert_eq!(chosen(&[(1, 100, 0, 0), (2, 101, 0, 1)], Some(1)), Some(1));
        assert_eq!(chosen(&[(1, 100, 0, 1), (2, 100, 0, 0)], Some(1)), Some(0));
    }

    #[test]
    fn a_source_without_work_is_believed_where_it_is_higher() {
        assert_eq!(chosen(&[(1, 100, 10, 0), (2, 101, 0, 1)], Some(1)), Some(1));
        assert_eq!(chosen(&[(1, 100, 10, 0), (2, 100, 0, 1)], Some(2)), Some(0));
        // Of the same block it knows what others know of it.
        assert_eq!(chosen(&[(1, 100, 0, 0), (1, 100, 10, 1), (2, 101, 9, 0)], None), Some(0));
    }
}
