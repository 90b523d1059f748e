//! Merkle trees of a block: the witness root, and the branch beside the coinbase.

use bitcoin::Wtxid;
use bitcoin::hashes::{Hash, sha256d};

/// Root over the wtxids of a block, the coinbase's counted as zero (BIP 141).
pub(crate) fn witness_root(wtxids: &[Wtxid]) -> [u8; 32] {
    let mut level = Vec::with_capacity(wtxids.len() + 1);
    level.push([0; 32]);
    level.extend(wtxids.iter().map(|wtxid| wtxid.to_byte_array()));
    while level.len() > 1 {
        fold(&mut level);
    }
    level.first().copied().unwrap_or_default()
}

/// The hashes beside the path of the first leaf, bottom up. `others` are the leaves after it.
pub(crate) fn branch_of_first(others: impl ExactSizeIterator<Item = [u8; 32]>) -> Vec<[u8; 32]> {
    // The first leaf is unknown: a zero stands in its place and never reaches the branch.
    let mut level = Vec::with_capacity(others.len() + 1);
    level.push([0; 32]);
    level.extend(others);
    let mut branch = Vec::new();
    while let Some(sibling) = level.get(1) {
        branch.push(*sibling);
        fold(&mut level);
    }
    branch
}

/// Root from the first leaf and [`branch_of_first`].
pub(crate) fn root_from_branch(first: [u8; 32], branch: &[[u8; 32]]) -> [u8; 32] {
    branch.iter().fold(first, |left, right| pair(&left, right))
}

/// Replaces a level of the tree by the one above it; an odd last hash is paired with itself.
fn fold(level: &mut Vec<[u8; 32]>) {
    let above = level.len().div_ceil(2);
    for index in 0..above {
        let Some(left) = level.get(2 * index) else { break };
        let hash = pair(left, level.get(2 * index + 1).unwrap_or(left));
        if let Some(slot) = level.get_mut(index) {
            *slot = hash;
        }
    }
    level.truncate(above);
}

fn pair(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut both = [0; 64];
    let (low, high) = both.split_at_mut(32);
    low.copy_from_slice(left);
    high.copy_from_slice(right);
    sha256d::Hash::hash(&both).to_byte_array()
}

#[cfg(test)]
mod tests {
    use bitcoin::merkle_tree;

    use super::*;

    fn leaf(index: usize) -> [u8; 32] {
        sha256d::Hash::hash(&index.to_le_bytes()).to_byte_array()
    }

    #[test]
    fn roots_are_those_of_the_bitcoin_crate() {
        for count in (0..40).chain([127, 128, 129, 1000]) {
            let wtxids: Vec<_> = (0..count).map(|i| Wtxid::from_byte_array(leaf(i))).collect();
            let leaves = std::iter::once([0; 32]).chain((0..count).map(leaf));
            let expected = merkle_tree::calculate_root(leaves.map(sha256d::Hash::from_byte_array));
            assert_eq!(witness_root(&wtxids), expected.unwrap().to_byte_array(), "{count} wtxids");

            let coinbase = [9; 32];
            let leaves = std::iter::once(coinbase).chain((0..count).map(leaf));
            let expected = merkle_tree::calculate_root(leaves.map(sha256d::Hash::from_byte_array));
            let branch = branch_of_first((0..count).map(leaf));
            let root = root_from_branch(coinbase, &branch);
            assert_eq!(root, expected.unwrap().to_byte_array(), "{count} transactions");
        }
    }
}
