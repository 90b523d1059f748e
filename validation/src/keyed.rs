//! Hash tables over ids that a peer may choose: fast, and keyed so that it can not aim.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

pub(crate) type KeyedMap<K, V> = HashMap<K, V, Keyed>;
pub(crate) type KeyedSet<K> = HashSet<K, Keyed>;

/// Two secret numbers, drawn anew for every verdict: without them a peer can not find ids that
/// collide, and nothing it sees depends on them.
#[derive(Clone)]
pub(crate) struct Keyed {
    start: u64,
    factor: u64,
}

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyed")
    }
}

impl Default for Keyed {
    fn default() -> Self {
        let random = RandomState::new();
        Self { start: random.hash_one(0), factor: random.hash_one(1) | 1 }
    }
}

impl BuildHasher for Keyed {
    type Hasher = KeyedHasher;

    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher { state: self.start, factor: self.factor }
    }
}

/// Multiply and fold, a word at a time.
pub(crate) struct KeyedHasher {
    state: u64,
    factor: u64,
}

impl KeyedHasher {
    fn word(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.factor);
        // The low half depends on the low bits only and the high half hardly on them: both count.
        self.state = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for KeyedHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        if !tail.is_empty() {
            let mut last = [0; 8];
            last.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
            self.word(u64::from_le_bytes(last));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.word(u64::from(number));
    }

    /// Lengths of fixed-size ids tell nothing apart.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;
    use bitcoin::{OutPoint, Txid};

    use super::*;

    #[test]
    fn near_ids_spread() {
        let keyed = Keyed::default();
        let mut low = HashSet::new();
        for vout in 0..4096 {
            low.insert(keyed.hash_one(OutPoint { txid: Txid::all_zeros(), vout }) & 0xfff);
        }
        // Random values fill 63 % of the buckets.
        assert!(low.len() > 1_500, "{} of 4096 buckets", low.len());
    }

    #[test]
    fn every_byte_counts() {
        let keyed = Keyed::default();
        let mut seen = HashSet::new();
        for position in 0..32 {
            let mut id = [0; 32];
            id[position] = 1;
            seen.insert(keyed.hash_one(Txid::from_byte_array(id)));
        }
        assert_eq!(seen.len(), 32);
    }
}
