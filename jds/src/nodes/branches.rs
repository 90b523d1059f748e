//! Nodes that follow another branch of the chain than the one that counts: found by asking the node
//! that the tip comes from whether it has the other's tip in its chain.

use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::BlockHash;
use tdp_client::{BlockStatus, Node};
use tokio::time::{Instant, sleep_until};

use super::{Nodes, ready_tip};
use crate::limits::{NODE_BEHIND_AFTER, NODE_LOOK_INTERVAL};

/// For each node the tip that was found to be on another branch.
#[derive(Debug)]
pub(super) struct Branches(Vec<Mutex<Option<BlockHash>>>);

impl Branches {
    pub(super) fn new(nodes: usize) -> Self {
        Self((0..nodes).map(|_| Mutex::new(None)).collect())
    }

    pub(super) fn is_stale(&self, index: usize, tip: &BlockHash) -> bool {
        let found =
            self.0.get(index).map(|tip| *tip.lock().unwrap_or_else(PoisonError::into_inner));
        found.flatten().as_ref() == Some(tip)
    }

    fn set(&self, index: usize, tip: Option<BlockHash>) {
        if let Some(found) = self.0.get(index) {
            *found.lock().unwrap_or_else(PoisonError::into_inner) = tip;
        }
    }
}

/// Looks at one node for as long as it is polled, at every change of a tip and now and then.
pub(super) async fn follow(nodes: Arc<Nodes>, index: usize) {
    let Some(node) = nodes.all.get(index) else { return };
    let (mut own, mut counts) = (node.tip(), nodes.watch_tip());
    loop {
        own.mark_unchanged();
        let best = *counts.borrow_and_update();
        let own_tip = ready_tip(&node.followed());
        let differs = own_tip.zip(best).filter(|(own, best)| own.tip.hash != best.hash);
        let mut look_at = Instant::now() + NODE_LOOK_INTERVAL;
        if let Some((own, _)) = differs {
            let active = nodes.active().filter(|active| active.name() != node.name());
            let seen_at = active.as_ref().and_then(|active| ready_tip(&active.followed()));
            let seen_at = seen_at.map(|tip| tip.seen_at);
            // A tip that has just come is on its way to the other nodes.
            let settled_at = seen_at.map_or(own.seen_at, |at| at.max(own.seen_at));
            let settled_at = Instant::from_std(settled_at) + NODE_BEHIND_AFTER;
            if Instant::now() < settled_at {
                look_at = look_at.min(settled_at);
            } else if let Some(stale) = is_elsewhere(active, own.tip.hash).await {
                nodes.branches.set(index, stale.then_some(own.tip.hash));
            }
        } else {
            nodes.branches.set(index, None);
        }
        tokio::select! {
            changed = own.changed() => if changed.is_err() { return },
            changed = counts.changed() => if changed.is_err() { return },
            () = sleep_until(look_at) => {}
        }
    }
}

/// Whether a block is not in the chain of the node that counts. None if that can not be asked.
async fn is_elsewhere(active: Option<Node>, block: BlockHash) -> Option<bool> {
    match active?.block_status(block).await.ok()? {
        BlockStatus::InChain { .. } => Some(false),
        BlockStatus::Known { .. } | BlockStatus::Unknown => Some(true),
    }
}
