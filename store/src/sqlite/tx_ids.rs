//! Row ids of transactions by wtxid, so that a template of known transactions needs no query for
//! each.

use std::collections::HashMap;

use bitcoin::Wtxid;

/// A bounded map. What was not looked up for long is forgotten: there are two generations, a hit
/// moves an entry to the younger one, and when that is full, the older one goes.
#[derive(Debug)]
pub(super) struct TxIds {
    young: HashMap<Wtxid, u32>,
    old: HashMap<Wtxid, u32>,
    generation_max: usize,
}

impl TxIds {
    /// Remembers up to `capacity` transactions.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            generation_max: capacity.div_ceil(2).max(1),
        }
    }

    pub(super) fn get(&mut self, wtxid: &Wtxid) -> Option<u32> {
        if let Some(id) = self.young.get(wtxid) {
            return Some(*id);
        }
        let id = self.old.remove(wtxid)?;
        self.insert(*wtxid, id);
        Some(id)
    }

    pub(super) fn insert(&mut self, wtxid: Wtxid, id: u32) {
        if self.young.len() >= self.generation_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(wtxid, id);
    }

    pub(super) fn remove(&mut self, wtxid: &Wtxid) {
        self.young.remove(wtxid);
        self.old.remove(wtxid);
    }

    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;

    use super::*;

    #[test]
    fn what_is_used_stays_within_the_bound() {
        let wtxid = |number: u32| Wtxid::hash(&number.to_le_bytes());
        let mut ids = TxIds::new(100);
        for number in 1..1_000 {
            ids.insert(wtxid(number), number);
            assert_eq!(ids.get(&wtxid(1)), Some(1), "used all the time, at {number}");
            assert!(ids.young.len() + ids.old.len() <= 100);
        }
        assert_eq!(ids.get(&wtxid(2)), None);
        assert_eq!(ids.get(&wtxid(999)), Some(999));
        ids.remove(&wtxid(1));
        assert_eq!(ids.get(&wtxid(1)), None);
        ids.clear();
        assert_eq!(ids.get(&wtxid(999)), None);
    }
}
