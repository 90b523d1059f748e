//! Transactions of a node's mempool by their wtxids, where the node can be asked for them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::Wtxid;
use validation::tx::Tx;

use super::caller::Caller;
use super::lane::Worth;
use super::{Node, shared::Shared};
use crate::error::{Fault, NodeError};
use crate::limits::{LOOKUP_BATCH_TXS, LOOKUP_BYTES_MAX, LOOKUP_TXS_MAX};

/// Method of the IPC (Bitcoin Core 32).
const METHOD: &str = "getTransactionsByWitnessID";

impl Node {
    /// True unless it is known that [`Self::transactions`] would find nothing: over JSON-RPC, which
    /// has no such question, and where the IPC was found to have none.
    pub fn finds_transactions(&self) -> bool {
        let shared = &self.inner.shared;
        self.inner.lookups.is_some() && shared.is_ready() && !shared.lacks_lookup()
    }

    /// Those of these transactions that are in the node's mempool, in no order. At most the first
    /// [`LOOKUP_TXS_MAX`] are asked for, one question of this kind at a time, and what was found in
    /// `wait` is the answer.
    ///
    /// # Errors
    /// [`NodeError`] when the node can not be asked.
    pub async fn transactions(
        &self,
        wtxids: Vec<Wtxid>,
        wait: Duration,
    ) -> Result<Vec<Arc<Tx>>, NodeError> {
        let unimplemented = || self.error(Fault::Unimplemented { method: METHOD });
        let lane = self.inner.lookups.as_ref().ok_or_else(unimplemented)?;
        let (shared, until) = (self.inner.shared.clone(), Instant::now() + wait);
        let ask = move |caller: &Caller| find(&shared, caller, wtxids, until);
        let answer = tokio::time::timeout(wait, lane.run(METHOD, Worth::Answer, ask)).await;
        match answer {
            Ok(Ok(found)) => found,
            Ok(Err(fault)) => Err(self.error(fault)),
            Err(_) => Err(self.error(Fault::TimedOut { method: METHOD })),
        }
    }
}

fn find(
    shared: &Shared,
    caller: &Caller,
    mut wtxids: Vec<Wtxid>,
    until: Instant,
) -> Result<Vec<Arc<Tx>>, NodeError> {
    let Caller::Ipc(client) = caller else { return Ok(Vec::new()) };
    wtxids.truncate(LOOKUP_TXS_MAX);
    let mut open: HashSet<Wtxid> = wtxids.iter().copied().collect();
    let (mut found, mut bytes) = (Vec::new(), 0_usize);
    for batch in wtxids.chunks(LOOKUP_BATCH_TXS) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || bytes > LOOKUP_BYTES_MAX {
            break;
        }
        let answer = match client.transactions(batch.to_vec(), left) {
            Ok(answer) => answer,
            Err(error) => {
                if matches!(error.fault(), Fault::Unimplemented { .. }) {
                    shared.set_lacks_lookup();
                }
                // What came before is worth something.
                return if found.is_empty() { Err(error) } else { Ok(found) };
            }
        };
        for raw in answer {
            bytes = bytes.saturating_add(raw.len());
            // Empty where the node does not have it.
            let Ok(tx) = Tx::parse(&raw) else { continue };
            if open.remove(&tx.wtxid()) {
                found.push(Arc::new(tx));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
