//! When a job needs no consensus check, because our node has already checked every part of it.

use std::cell::LazyCell;

use bitcoin::{BlockHash, Txid, Wtxid};

use crate::job::AcceptedJob;
use crate::keyed::KeyedMap;
use crate::tx::Tx;

/// The unconfirmed transactions that our node holds valid for a block on one tip: its mempool, or
/// a block template of its. With a transaction it holds all unconfirmed parents of it.
#[derive(Debug, Clone)]
pub struct TemplateView {
    prev_hash: BlockHash,
    wtxids: KeyedMap<Txid, Wtxid>,
}

impl TemplateView {
    /// What the node held at the tip `prev_hash`, all at one moment: transactions of several
    /// moments may conflict with each other.
    pub fn new<'a>(prev_hash: BlockHash, txs: impl IntoIterator<Item = &'a Tx>) -> Self {
        let wtxids = txs.into_iter().map(|tx| (tx.txid(), tx.wtxid())).collect();
        Self { prev_hash, wtxids }
    }

    /// The tip that it is for.
    pub fn prev_hash(&self) -> BlockHash {
        self.prev_hash
    }

    /// Transactions in it.
    pub fn len(&self) -> usize {
        self.wtxids.len()
    }

    /// True when it has no transaction.
    pub fn is_empty(&self) -> bool {
        self.wtxids.is_empty()
    }
}

/// False only when the node has already vetted all there is to vet: the view is of the job's tip,
/// every transaction of the job is in it, and so is every unconfirmed parent, earlier in the job.
///
/// A transaction that we merely hold in a cache proves nothing: it may be confirmed or replaced by
/// now, or its parent may be left out.
pub fn needs_consensus_check(job: &AcceptedJob, view: &TemplateView) -> bool {
    if view.prev_hash != job.prev_hash() || !job.fees_verified() {
        return true;
    }
    // Most jobs have no unconfirmed parent, and so no use for this.
    let places = LazyCell::new(|| -> KeyedMap<Txid, usize> {
        job.txs().iter().enumerate().map(|(place, tx)| (tx.txid(), place)).collect()
    });
    for (place, tx) in job.txs().iter().enumerate() {
        if view.wtxids.get(&tx.txid()) != Some(&tx.wtxid()) {
            return true;
        }
        let orphaned = tx.inputs().iter().any(|input| {
            let parent = input.outpoint.txid;
            let earlier = || places.get(&parent).is_some_and(|parents| *parents < place);
            view.wtxids.contains_key(&parent) && !earlier()
        });
        if orphaned {
            return true;
        }
    }
    false
}
