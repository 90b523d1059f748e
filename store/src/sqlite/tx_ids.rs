//! Row ids of transactions by wtxid, all of them in memory.
//!
//! An index in the database would cost a random page for each new transaction, which a memory card
//! feels, and a query for each transaction of a template. Here a transaction takes some thirty
//! bytes of memory; [`crate::Retention::transactions`] bounds how many there are.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

use bitcoin::Wtxid;
use bitcoin::hashes::Hash as _;
use rusqlite::Connection;
use validation::keyed::Keyed;

use super::read::wtxid;

/// The map, and what to undo when a transaction of the database is rolled back.
#[derive(Debug, Default)]
pub(super) struct TxIds {
    ids: HashMap<Key, u32, BuildHasherDefault<KeyHasher>>,
    /// A key of this process.
    hasher: Keyed,
    journal: Vec<Undo>,
    /// Ids of transactions that no node had told of when they were written, nor since.
    untold: HashSet<u32>,
}

/// 128 bits that stand for a wtxid: a keyed hash of all of it, and its last 8 bytes. Whoever makes two
/// wtxids that end alike still meets the hash with a chance of one in 2^64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key([u32; 4]);

#[derive(Debug, Clone, Copy)]
enum Undo {
    Insert(Key),
    Remove(Key, u32),
    Told(u32),
}

impl TxIds {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut all = Self::default();
        let count: usize =
            connection.query_row("SELECT count(*) FROM tx_ids", [], |row| row.get(0))?;
        all.ids.reserve(count);
        let mut rows = connection.prepare("SELECT id, wtxid, sigop_cost IS NULL FROM tx_ids")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let (key, id) = (all.key(&wtxid(row.get(1)?)), row.get(0)?);
            all.ids.insert(key, id);
            if row.get(2)? {
                all.untold.insert(id);
            }
        }
        Ok(all)
    }

    #[cfg(test)]
    fn get(&self, wtxid: &Wtxid) -> Option<u32> {
        self.ids.get(&self.key(wtxid)).copied()
    }

    /// Those of a list, in its order.
    pub(super) fn get_all(&self, wtxids: impl Iterator<Item = Wtxid>) -> Vec<Option<u32>> {
        // First all keys, then all entries: each of the two reads memory that is not at hand, and
        // in short loops the processor has many reads under way at a time.
        let keys: Vec<Key> = wtxids.map(|wtxid| self.key(&wtxid)).collect();
        keys.iter().map(|key| self.ids.get(key).copied()).collect()
    }

    /// `told`: with what a node says of it.
    pub(super) fn insert(&mut self, wtxid: &Wtxid, id: u32, told: bool) {
        let key = self.key(wtxid);
        self.ids.insert(key, id);
        if !told {
            self.untold.insert(id);
        }
        self.journal.push(Undo::Insert(key));
    }

    /// True while nothing that a node says of it is written.
    pub(super) fn is_untold(&self, id: u32) -> bool {
        self.untold.contains(&id)
    }

    /// Notes that what a node says of it was written.
    pub(super) fn tell(&mut self, id: u32) {
        if self.untold.remove(&id) {
            self.journal.push(Undo::Told(id));
        }
    }

    pub(super) fn remove(&mut self, wtxid: &Wtxid) {
        let key = self.key(wtxid);
        if let Some(id) = self.ids.remove(&key) {
            self.journal.push(Undo::Remove(key, id));
            self.tell(id);
        }
    }

    /// A place to come back to.
    pub(super) fn mark(&self) -> usize {
        self.journal.len()
    }

    /// Undoes everything since the mark.
    pub(super) fn undo(&mut self, mark: usize) {
        for undo in self.journal.drain(mark..).rev() {
            match undo {
                Undo::Insert(key) => {
                    if let Some(id) = self.ids.remove(&key) {
                        self.untold.remove(&id);
                    }
                }
                Undo::Remove(key, id) => drop(self.ids.insert(key, id)),
                Undo::Told(id) => drop(self.untold.insert(id)),
            }
        }
    }

    /// What was done so far stays.
    pub(super) fn settle(&mut self) {
        self.journal.clear();
    }

    fn key(&self, wtxid: &Wtxid) -> Key {
        let bytes = wtxid.as_byte_array();
        let hash = self.hasher.hash_one(bytes);
        let end = bytes.last_chunk().map_or(0, |end| u64::from_le_bytes(*end));
        Key([hash as u32, (hash >> 32) as u32, end as u32, (end >> 32) as u32])
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.0[0]) << 32 | u64::from(self.0[1]));
    }
}

/// A key is a hash already.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_undone_is_as_before() {
        let wtxid = |number: u8| wtxid([number; 32]);
        let mut ids = TxIds::default();
        for number in 0..100_u8 {
            ids.insert(&wtxid(number), number.into(), number % 2 == 0);
        }
        ids.settle();
        let before = (ids.ids.clone(), ids.untold.clone());
        ids.insert(&wtxid(100), 100, false);
        let mark = ids.mark();
        ids.remove(&wtxid(5));
        ids.insert(&wtxid(5), 500, true);
        ids.tell(7);
        assert!(!ids.is_untold(7) && !ids.is_untold(5) && ids.is_untold(9));
        ids.remove(&wtxid(100));
        assert_eq!((ids.get(&wtxid(5)), ids.get(&wtxid(100))), (Some(500), None));
        ids.undo(mark);
        assert_eq!((ids.get(&wtxid(5)), ids.get(&wtxid(100))), (Some(5), Some(100)));
        ids.undo(0);
        assert_eq!((ids.ids.clone(), ids.untold.clone()), before);
        assert_eq!(ids.get(&wtxid(100)), None);
    }
}
