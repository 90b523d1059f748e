//! Hash tables over ids that a peer may choose: fast, and keyed so that it can not aim.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};

/// A map from ids.
pub type KeyedMap<K, V> = HashMap<K, V, Keyed>;

/// Two secret numbers, drawn anew for every table: without them a peer can not find ids that
/// collide, and nothing it is told depends on them.
#[derive(Clone)]
pub struct Keyed {
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
#[derive(Debug)]
pub struct KeyedHasher {
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

impl Keyed {
    /// Hash of an id.
    pub(crate) fn id(&self, id: &[u8; 32]) -> u64 {
        let mut hasher = self.build_hasher();
        hasher.write(id);
        hasher.state
    }

    /// What stands for an id in a [`ShortIdMap`].
    pub fn short(&self, id: &[u8; 32]) -> ShortId {
        let end = id.last_chunk().map_or(0, |end| u64::from_le_bytes(*end));
        ShortId { hash: self.id(id), end }
    }

    /// Hash of a numbered part of something with this hash.
    pub(crate) fn part(&self, hash: u64, number: u32) -> u64 {
        let mut hasher = KeyedHasher { state: hash, factor: self.factor };
        hasher.write_u32(number);
        hasher.state
    }
}

/// 128 bits that stand for an id: its keyed hash, and its end. Whoever makes two ids that end alike
/// still meets the hash with a chance of one in 2^64 or so; who looks up must compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShortId {
    hash: u64,
    end: u64,
}

/// A map by short ids, all made with the same key.
pub type ShortIdMap<V> = HashMap<ShortId, V, BuildHasherDefault<Hashed>>;

impl Hash for ShortId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// The hasher of what is a hash already.
#[derive(Debug, Default)]
pub struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Positions in a list by the hash of what is there: four bytes for each, and thinly filled, so that
/// the table for a whole block stays close to the processor and a search mostly ends where it begins.
/// What is at a position only the caller knows, who compares.
pub(crate) struct Positions {
    /// Zero for none; else the high half is of the hash, and the low half a position plus one.
    slots: Vec<u32>,
}

/// The half of a slot that tells most others apart.
const HASH_BITS: u32 = 0xffff_0000;

impl Positions {
    /// Room for `count` of them, each below 65,535.
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self { slots: vec![0; (8 * count).next_power_of_two().max(2)] }
    }

    /// The position with this hash that `is_it`, if there is one.
    pub(crate) fn find(&self, hash: u64, is_it: impl FnMut(usize) -> bool) -> Option<usize> {
        self.search(hash, is_it).ok()
    }

    /// [`Self::find`]; adds `position` where there is none. Never more than there is room for.
    pub(crate) fn find_or_add(
        &mut self,
        hash: u64,
        position: u16,
        is_it: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        match self.search(hash, is_it) {
            Ok(found) => Some(found),
            Err(free) => {
                if let Some(slot) = self.slots.get_mut(free) {
                    *slot = high(hash) | (u32::from(position) + 1);
                }
                None
            }
        }
    }

    /// The position, or the free slot for it.
    fn search(&self, hash: u64, mut is_it: impl FnMut(usize) -> bool) -> Result<usize, usize> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        for _ in 0..self.slots.len() {
            let slot = self.slots.get(at).copied().unwrap_or_default();
            if slot == 0 {
                return Err(at);
            }
            let position = (slot & !HASH_BITS) as usize - 1;
            if slot & HASH_BITS == high(hash) && is_it(position) {
                return Ok(position);
            }
            at = (at + 1) & mask;
        }
        Err(self.slots.len())
    }
}

/// The bits of a hash that a slot keeps; others than those that choose the slot.
fn high(hash: u64) -> u32 {
    (hash >> 32) as u32 & HASH_BITS
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

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
        let short: HashSet<ShortId> = (0..32)
            .map(|position| {
                let mut id = [0; 32];
                id[position] = 1;
                keyed.short(&id)
            })
            .collect();
        assert_eq!(short.len(), 32);
        let mut seen = HashSet::new();
        for position in 0..32 {
            let mut id = [0; 32];
            id[position] = 1;
            seen.insert(keyed.hash_one(Txid::from_byte_array(id)));
        }
        assert_eq!(seen.len(), 32);
    }

    #[test]
    fn positions_are_told_apart_by_what_is_there_even_where_all_hashes_are_the_same() {
        let ids: Vec<u32> = (0..1000).map(|n| n * 7).collect();
        for hash in [|_| 0, |_| u64::MAX, |id| Keyed::default().hash_one(id)] as [fn(u32) -> u64; 3]
        {
            let mut positions = Positions::with_capacity(ids.len());
            // A hash with a new key each time is none: kept from here on.
            let hashes: Vec<u64> = ids.iter().map(|id| hash(*id)).collect();
            let mut add = |position: usize| {
                let is_it = |other: usize| ids[other] == ids[position];
                positions.find_or_add(hashes[position], position as u16, is_it)
            };
            assert!((0..ids.len()).all(|position| add(position).is_none()));
            assert!((0..ids.len()).all(|position| add(position) == Some(position)));
            let find = |position: usize, id| positions.find(hashes[position], |p| ids[p] == id);
            assert!((0..ids.len()).all(|position| find(position, ids[position]) == Some(position)));
            assert!((0..ids.len()).all(|position| find(position, 1).is_none()), "1 is not there");
        }
        assert_eq!(Positions::with_capacity(0).find(5, |_| true), None);
    }

    #[test]
    fn parts_of_one_id_spread() {
        let keyed = Keyed::default();
        let id = keyed.id(&[0; 32]);
        let low: HashSet<u64> = (0..4096).map(|vout| keyed.part(id, vout) & 0xfff).collect();
        assert!(low.len() > 1_500, "{} of 4096 buckets", low.len());
    }
}
