//! Memory of transactions that our node has not told us of. Whoever declares them makes us hold
//! them: they may be made up, and there is no end to those.

use std::collections::HashMap;
use std::sync::Arc;

use super::Job;

/// What the kept jobs hold of them, each once however many jobs share it.
#[derive(Debug, Default)]
pub(super) struct MadeUp {
    /// How many kept jobs hold a transaction, by its address: while a job is counted here, it owns
    /// the transaction, so the address is no other's.
    holders: HashMap<usize, u32>,
    bytes: usize,
}

impl MadeUp {
    /// Memory for the book-keeping of one transaction: an entry here, and its position in the job.
    pub(super) const BYTES_PER_TX: usize = 2 * (size_of::<usize>() + size_of::<u32>() + 4);

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn add(&mut self, job: &Job) {
        self.bytes += job.base_bytes;
        for tx in job.made_up_txs() {
            let holders = self.holders.entry(Arc::as_ptr(tx).addr()).or_default();
            *holders += 1;
            if *holders == 1 {
                self.bytes += tx.memory_bytes();
            }
        }
    }

    /// Undoes [`Self::add`], once.
    pub(super) fn remove(&mut self, job: &Job) {
        self.bytes = self.bytes.saturating_sub(job.base_bytes);
        for tx in job.made_up_txs() {
            let address = Arc::as_ptr(tx).addr();
            let Some(holders) = self.holders.get_mut(&address) else { continue };
            *holders -= 1;
            if *holders == 0 {
                self.holders.remove(&address);
                self.bytes = self.bytes.saturating_sub(tx.memory_bytes());
            }
        }
        if self.holders.capacity() > 64 * 1024 && self.holders.len() < self.holders.capacity() / 8 {
            self.holders.shrink_to(self.holders.len() * 2);
        }
    }
}
