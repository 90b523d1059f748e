//! Unknown transactions of a declaration, looked up at our nodes before the peer is asked for them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bitcoin::Wtxid;
use tdp_client::Node;
use validation::tx::Tx;
use validation::verdict::missing;

use super::Validator;
use super::declaration::Draft;
use crate::limits::TX_LOOKUP_WAIT;

impl Validator {
    /// Puts in what our nodes have in their mempools, within [`TX_LOOKUP_WAIT`] for all of them. The
    /// rest is for the peer to supply, as all of it is where no node can be asked.
    pub(super) async fn look_up(&self, draft: &mut Draft) {
        let until = Instant::now() + TX_LOOKUP_WAIT;
        let active = self.nodes.active();
        let is_active = |node: &&Node| active.as_ref().is_some_and(|a| a.name() == node.name());
        let others = self.nodes.all().iter().filter(|node| !is_active(node));
        for node in active.iter().chain(others) {
            let wait = until.saturating_duration_since(Instant::now());
            if draft.asked.is_empty() || wait.is_zero() || !node.finds_transactions() {
                continue;
            }
            let asked = draft.open();
            let count = asked.len();
            match node.transactions(asked, wait).await {
                Ok(found) => {
                    let hits = draft.fill(found);
                    self.counts.metrics.cache("mempool", hits as u64, (count - hits) as u64);
                }
                Err(error) => tracing::debug!(%error, "transactions could not be looked up"),
            }
        }
    }
}

impl Draft {
    /// What is not known yet.
    fn open(&self) -> Vec<Wtxid> {
        let wtxids = &self.declaration.wtxids;
        self.asked.iter().filter_map(|at| wtxids.get(usize::from(*at)).copied()).collect()
    }

    /// Puts transactions in their places; how many found one.
    fn fill(&mut self, found: Vec<Arc<Tx>>) -> usize {
        let mut found: HashMap<Wtxid, Arc<Tx>> =
            found.into_iter().map(|tx| (tx.wtxid(), tx)).collect();
        let before = self.asked.len();
        for at in &self.asked {
            let at = usize::from(*at);
            let wtxid = self.declaration.wtxids.get(at);
            if let (Some(slot), Some(wtxid)) = (self.slots.get_mut(at), wtxid) {
                *slot = found.remove(wtxid);
            }
        }
        self.asked = missing(&self.declaration.wtxids, &self.slots);
        let hits = before.saturating_sub(self.asked.len());
        self.looked_up += hits;
        hits
    }
}
