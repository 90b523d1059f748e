//! Merkle trees of a block: the witness root, and the branch beside the coinbase.

use std::slice::from_ref;

use bitcoin::Wtxid;
use bitcoin::hashes::Hash;
use sha2::block_api::compress256;

/// Root over the wtxids of a block, the coinbase's counted as zero (BIP 141).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WitnessRoot([u8; 32]);

impl WitnessRoot {
    /// Of all transactions but the coinbase, in block order.
    pub fn of(wtxids: &[Wtxid]) -> Self {
        Self(witness_root(wtxids))
    }

    /// The 32 bytes, as they are hashed.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The bytes of [`WitnessRoot::of`].
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
    branch.iter().fold(first, |left, right| {
        let mut pair = [0; 64];
        let (halves, _) = pair.as_chunks_mut();
        halves.iter_mut().zip([left, *right]).for_each(|(half, hash)| *half = hash);
        let [hash] = hash_pairs([&pair]);
        hash
    })
}

/// Replaces a level of the tree by the one above it; an odd last hash is paired with itself.
fn fold(level: &mut Vec<[u8; 32]>) {
    if level.len() % 2 == 1
        && let Some(last) = level.last()
    {
        level.push(*last);
    }
    let above = level.len() / 2;
    for index in (0..above).step_by(2) {
        let pairs = level.as_flattened().as_chunks().0;
        let Some(left) = pairs.get(index) else { break };
        let hashes = hash_pairs([left, pairs.get(index + 1).unwrap_or(left)]);
        // Of an odd last pair there is one hash, and its second slot is cut off or below what is read.
        if let Some(slots) = level.get_mut(index..index + 2) {
            slots.copy_from_slice(&hashes);
        }
    }
    level.truncate(above);
}

/// The state that SHA-256 starts from (FIPS 180-4, 5.3.3).
const START: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

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

/// Double SHA-256 of two hashes, for several pairs. With the padding each takes three whole blocks,
/// one after the other; taken in turns, the blocks of two pairs overlap inside the processor.
fn hash_pairs<const N: usize>(pairs: [&[u8; 64]; N]) -> [[u8; 32]; N] {
    let mut states = [START; N];
    states.iter_mut().zip(pairs).for_each(|(state, pair)| compress256(state, from_ref(pair)));
    states.iter_mut().for_each(|state| compress256(state, &[PADDING_OF_64]));
    let seconds = states.map(|state| {
        let mut block = PADDING_OF_32;
        if let Some(start) = block.first_chunk_mut() {
            *start = to_bytes(state);
        }
        block
    });
    let mut states = [START; N];
    states.iter_mut().zip(&seconds).for_each(|(state, block)| compress256(state, from_ref(block)));
    states.map(to_bytes)
}

fn to_bytes(state: [u32; 8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.as_chunks_mut().0.iter_mut().zip(state).for_each(|(to, word)| *to = word.to_be_bytes());
    bytes
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
