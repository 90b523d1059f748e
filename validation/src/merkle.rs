//! Merkle trees of a block: the witness root, and the branch beside the coinbase.

use bitcoin::Wtxid;
use bitcoin::hashes::{Hash, HashEngine, sha256};

/// Root over the wtxids of a block, the coinbase's counted as zero (BIP 141).
pub fn witness_root(wtxids: &[Wtxid]) -> [u8; 32] {
    let mut level = Vec::with_capacity(wtxids.len() + 2);
    level.push([0; 32]);
    level.extend(wtxids.iter().map(|wtxid| wtxid.to_byte_array()));
    while level.len() > 1 {
        fold(&mut level);
    }
    level.first().copied().unwrap_or_default()
}

/// The hashes beside the path of the first leaf, bottom up. `others` are the leaves after it.
pub fn branch_of_first(others: impl ExactSizeIterator<Item = [u8; 32]>) -> Vec<[u8; 32]> {
    // The first leaf is unknown: a zero stands in its place and never reaches the branch.
    let mut level = Vec::with_capacity(others.len() + 2);
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
pub fn root_from_branch(first: [u8; 32], branch: &[[u8; 32]]) -> [u8; 32] {
    branch.iter().fold(first, |left, right| pair(&[left, *right]))
}

/// Replaces a level of the tree by the one above it; an odd last hash is paired with itself.
fn fold(level: &mut Vec<[u8; 32]>) {
    if level.len() % 2 == 1
        && let Some(last) = level.last()
    {
        level.push(*last);
    }
    let above = level.len() / 2;
    for index in 0..above {
        let Some(both) = level.as_chunks().0.get(index) else { break };
        let hash = pair(both);
        if let Some(slot) = level.get_mut(index) {
            *slot = hash;
        }
    }
    level.truncate(above);
}

/// What SHA-256 appends to a message of 64 bytes, a block of its own: a one, zeros, the length in
/// bits.
const PADDING_OF_64: [u8; 64] = {
    let mut block = [0; 64];
    (block[0], block[62]) = (0x80, 2);
    block
};

/// What it appends to a message of 32 bytes, from byte 32 of the block on.
const PADDING_OF_32: [u8; 64] = {
    let mut block = [0; 64];
    (block[32], block[62]) = (0x80, 1);
    block
};

/// Double SHA-256 of two hashes. With the padding these are three whole blocks; hashed as such they
/// cost an eighth less than through the general function.
fn pair(both: &[[u8; 32]; 2]) -> [u8; 32] {
    let mut engine = sha256::HashEngine::default();
    engine.input(both.as_flattened());
    engine.input(&PADDING_OF_64);
    let mut block = PADDING_OF_32;
    if let Some(start) = block.first_chunk_mut() {
        *start = engine.midstate().to_byte_array();
    }
    let mut engine = sha256::HashEngine::default();
    engine.input(&block);
    engine.midstate().to_byte_array()
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::sha256d;
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
