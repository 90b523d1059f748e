//! Transactions known to the server, each once by wtxid, bounded by bytes.
//!
//! What enters: the node's own template transactions and those of accepted jobs, never what a peer
//! merely sent. What leaves: the least recently useful. An accepted job holds its transactions by
//! itself, so leaving here never makes a block unbuildable.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bitcoin::Wtxid;
use bitcoin::hashes::Hash;
use validation::keyed::{Keyed, ShortId, ShortIdMap};
use validation::tx::Tx;

/// Shared cache of transactions.
#[derive(Debug)]
pub struct TxCache {
    inner: RwLock<Inner>,
    bytes_max: usize,
    metrics: api::Metrics,
}

#[derive(Debug, Default)]
struct Inner {
    /// Keyed, because an accepted job may bring in ids that its miner has searched for. Of two
    /// transactions with the same short id the second stays out.
    entries: ShortIdMap<Entry>,
    keyed: Keyed,
    /// Arrival order, for eviction with a second chance.
    order: VecDeque<ShortId>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    tx: Arc<Tx>,
    /// Set by a look-up, cleared when eviction passes the entry over once (the clock algorithm).
    used: AtomicBool,
}

/// Size of the cache, for logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSize {
    /// Transactions held.
    pub count: usize,
    /// Bytes they take in memory.
    pub bytes: usize,
}

impl TxCache {
    /// A cache that holds at most `bytes_max` bytes of memory.
    pub fn new(bytes_max: usize) -> Self {
        Self::counted(bytes_max, api::Metrics::new())
    }

    /// As [`Self::new`], with the look-ups of lists counted.
    pub fn counted(bytes_max: usize, metrics: api::Metrics) -> Self {
        Self { inner: RwLock::default(), bytes_max, metrics }
    }

    /// The transaction with this wtxid, if known.
    pub fn get(&self, wtxid: &Wtxid) -> Option<Arc<Tx>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let entry = inner.entries.get(&inner.keyed.short(wtxid.as_byte_array()));
        entry.filter(|entry| entry.tx.wtxid() == *wtxid).map(Entry::touch)
    }

    /// All of a list at once, in its order, under one lock.
    pub fn get_all(&self, wtxids: &[Wtxid]) -> Vec<Option<Arc<Tx>>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        // Each step reads memory that is not at hand. In short loops the processor has many such reads
        // under way at a time; looked up one by one, each transaction would wait for its own.
        let keys = wtxids.iter().map(|wtxid| inner.keyed.short(wtxid.as_byte_array()));
        let keys: Vec<ShortId> = keys.collect();
        let found: Vec<_> = keys.iter().map(|key| inner.entries.get(key)).collect();
        // Counting an owner up would wait, too: the counters are read first.
        black_box(found.iter().flatten().map(|entry| Arc::strong_count(&entry.tx)).max());
        let found = found.into_iter().zip(wtxids).map(|(entry, wtxid)| {
            entry.filter(|entry| entry.tx.wtxid() == *wtxid).map(Entry::touch)
        });
        let found: Vec<_> = found.collect();
        drop(inner);
        let hits = found.iter().flatten().count();
        self.metrics.cache("transactions", hits as u64, (found.len() - hits) as u64);
        found
    }

    /// Adds transactions that the node knows or that an accepted job holds.
    pub fn insert_all(&self, txs: impl IntoIterator<Item = Arc<Tx>>) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        for tx in txs {
            let key = inner.keyed.short(tx.wtxid().as_byte_array());
            if inner.entries.contains_key(&key) {
                continue;
            }
            inner.bytes += tx.memory_bytes();
            inner.order.push_back(key);
            inner.entries.insert(key, Entry { tx, used: AtomicBool::new(false) });
        }
        self.evict(&mut inner);
    }

    /// How much is held.
    pub fn size(&self) -> CacheSize {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        CacheSize { count: inner.entries.len(), bytes: inner.bytes }
    }

    /// Drops entries in order of arrival; one used since it was last looked at is passed over.
    fn evict(&self, inner: &mut Inner) {
        while inner.bytes > self.bytes_max {
            let Some(key) = inner.order.pop_front() else { return };
            let Some(entry) = inner.entries.get(&key) else { continue };
            if entry.used.swap(false, Ordering::Relaxed) {
                inner.order.push_back(key);
                continue;
            }
            inner.bytes = inner.bytes.saturating_sub(entry.tx.memory_bytes());
            inner.entries.remove(&key);
        }
    }
}

impl Entry {
    fn touch(&self) -> Arc<Tx> {
        // Reading before writing keeps the cache line shared between readers.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        Arc::clone(&self.tx)
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::{
        Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
        absolute::LockTime, transaction::Version,
    };

    use super::*;

    fn tx(n: u8) -> Arc<Tx> {
        let tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::new(Txid::from_byte_array([n.max(1); 32]), 0),
                script_sig: ScriptBuf::new(),
                sequence: Sequence::MAX,
                witness: Witness::from_slice(&[[n; 100]]),
            }],
            output: vec![TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::new() }],
        };
        Arc::new(Tx::parse(&bitcoin::consensus::serialize(&tx)).unwrap())
    }

    #[test]
    fn stays_within_its_bytes_and_keeps_what_is_used() {
        let one = tx(1).memory_bytes();
        let cache = TxCache::new(one * 10);
        cache.insert_all((1..=10).map(tx));
        assert_eq!(cache.size().count, 10);
        let used: Vec<Wtxid> = [1, 2, 3].map(|n| tx(n).wtxid()).into();
        assert!(cache.get_all(&used).iter().all(Option::is_some));
        cache.insert_all((11..=15).map(tx));
        assert!(cache.size().bytes <= one * 10, "{:?}", cache.size());
        assert!(cache.get_all(&used).iter().all(Option::is_some), "used ones stay");
        assert!(cache.get(&tx(4).wtxid()).is_none(), "the oldest unused one left");
    }

    #[test]
    fn a_flood_is_bounded() {
        let one = tx(1).memory_bytes();
        let cache = TxCache::new(one * 4);
        cache.insert_all((1..=200).map(tx));
        assert!(cache.size().bytes <= one * 4);
        let inner = cache.inner.read().unwrap();
        assert_eq!(inner.order.len(), inner.entries.len());
    }
}
