//! Found blocks: to every node at once, and again until each has an answer.
//!
//! Nothing is in front of this path: no queue, no lock held across an await, no wait for one node
//! on behalf of another.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use tdp_client::{BlockStatus, RpcNode, SubmitOutcome};
use tokio::sync::watch;
use tracing::{error, info, warn};
use validation::block::FoundBlock;

use crate::limits::{
    FOUND_BLOCKS_REMEMBERED_MAX, SUBMIT_GIVE_UP, SUBMIT_RETRY_MAX, SUBMIT_RETRY_MIN,
};
use crate::nodes::Nodes;

/// Submits found blocks to all nodes.
#[derive(Debug)]
pub struct Submitter {
    nodes: Arc<Nodes>,
    seen: Mutex<VecDeque<BlockHash>>,
    solving: watch::Sender<usize>,
    under_way: watch::Sender<usize>,
}

/// Where a found block came from, for the log.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Name of the user who declared the template.
    pub user: String,
    /// Template it was built from, 64 hex digits.
    pub template_hash: String,
    /// Height of the block.
    pub height: u32,
    /// When the solution reached us.
    pub received: Instant,
}

/// What one node finally made of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NodeVerdict {
    Accepted(&'static str),
    Rejected(String),
}

impl Submitter {
    /// For these nodes.
    pub fn new(nodes: Arc<Nodes>) -> Arc<Self> {
        Arc::new(Self {
            nodes,
            seen: Mutex::default(),
            solving: watch::Sender::new(0),
            under_way: watch::Sender::new(0),
        })
    }

    /// Sends the block to every node, each by itself, and returns at once. False when this very
    /// block is known already: the same solution may come twice.
    pub fn submit(self: &Arc<Self>, block: FoundBlock, origin: Origin) -> bool {
        let hash = block.hash;
        if !self.remember(hash) {
            info!(block = %hash, "block found again, it is under way already");
            return false;
        }
        let hex: Arc<str> = block.hex().into();
        info!(
            block = %hash, height = origin.height, user = origin.user, txs = block.tx_count,
            template = origin.template_hash, nodes = self.nodes.all().len(),
            "BLOCK FOUND, submitting to every node"
        );
        for node in self.nodes.all() {
            let (node, hex, origin) = (node.clone(), Arc::clone(&hex), origin.clone());
            let submitter = Arc::clone(self);
            // Counted before the task starts, so that nobody sees an idle moment in between.
            let guard = UnderWay::begin(&self.under_way);
            tokio::spawn(async move { submitter.to_node(node, hash, hex, origin, guard).await });
        }
        true
    }

    /// Announces that a solution is being looked at, for as long as the guard lives. A consensus
    /// check does not wait for it: bad solutions could hold it up for ever.
    pub(crate) fn solving(&self) -> UnderWay {
        UnderWay::begin(&self.solving)
    }

    /// Waits until every solution that came was looked at, and every block found has had its first
    /// answer from every node.
    pub async fn idle(&self) {
        // In this order: a solution that makes a block is counted as one before it is let go. A
        // closed channel means that nobody counts any more.
        let _ = self.solving.subscribe().wait_for(|count| *count == 0).await;
        let _ = self.under_way.subscribe().wait_for(|count| *count == 0).await;
    }

    /// How many first submissions are under way; consensus checks wait while it is not zero.
    pub fn under_way(&self) -> watch::Receiver<usize> {
        self.under_way.subscribe()
    }

    fn remember(&self, hash: BlockHash) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.contains(&hash) {
            return false;
        }
        seen.push_back(hash);
        if seen.len() > FOUND_BLOCKS_REMEMBERED_MAX {
            seen.pop_front();
        }
        true
    }

    async fn to_node(
        &self,
        node: RpcNode,
        hash: BlockHash,
        hex: Arc<str>,
        origin: Origin,
        guard: UnderWay,
    ) {
        let name = node.name().to_owned();
        let mut guard = Some(guard);
        let mut pause = SUBMIT_RETRY_MIN;
        for attempt in 1u32.. {
            let outcome = node.submit_block(Arc::clone(&hex)).await;
            // Only the first attempt holds back consensus checks: retries may go on for hours.
            guard.take();
            let latency_ms = origin.received.elapsed().as_secs_f64() * 1e3;
            match self.settle(&node, hash, outcome).await {
                Ok(NodeVerdict::Accepted(how)) => {
                    info!(block = %hash, node = name, attempt, latency_ms, how, "block accepted");
                    return;
                }
                Ok(NodeVerdict::Rejected(reason)) => {
                    error!(block = %hash, node = name, attempt, latency_ms, reason,
                        user = origin.user, template = origin.template_hash,
                        "block REJECTED by the node");
                    return;
                }
                Err(reason) => {
                    warn!(block = %hash, node = name, attempt, reason, retry_ms = pause.as_millis(),
                        "block not taken yet, trying again");
                }
            }
            if let Some(why) = self.pointless(&node, hash, &origin).await {
                error!(block = %hash, node = name, attempt, why, "giving up on this node");
                return;
            }
            self.pause(&node, pause).await;
            pause = (pause * 2).min(SUBMIT_RETRY_MAX);
        }
    }

    /// A final verdict, or why to try again.
    async fn settle(
        &self,
        node: &RpcNode,
        hash: BlockHash,
        outcome: SubmitOutcome,
    ) -> Result<NodeVerdict, String> {
        match outcome {
            SubmitOutcome::Accepted => Ok(NodeVerdict::Accepted("accepted")),
            SubmitOutcome::Duplicate => Ok(NodeVerdict::Accepted("known already")),
            SubmitOutcome::Inconclusive => match node.block_status(hash).await {
                Ok(BlockStatus::InChain { .. }) => Ok(NodeVerdict::Accepted("accepted")),
                Ok(BlockStatus::Known { .. }) => {
                    Ok(NodeVerdict::Accepted("stored, another branch is ahead"))
                }
                Ok(BlockStatus::Unknown) => Err("the node did not judge it".into()),
                Err(error) => Err(error.to_string()),
            },
            SubmitOutcome::Rejected { reason } => Ok(NodeVerdict::Rejected(reason)),
            // The call may have been cut off after the node took the block.
            SubmitOutcome::Unknown { error } | SubmitOutcome::Transient { error } => {
                match node.block_status(hash).await {
                    Ok(BlockStatus::InChain { .. }) => Ok(NodeVerdict::Accepted("accepted")),
                    Ok(BlockStatus::Known { .. }) => {
                        Ok(NodeVerdict::Accepted("stored, another branch is ahead"))
                    }
                    Ok(BlockStatus::Unknown) | Err(_) => Err(error.to_string()),
                }
            }
        }
    }

    /// Why another attempt can not help any more, if so.
    async fn pointless(
        &self,
        node: &RpcNode,
        hash: BlockHash,
        origin: &Origin,
    ) -> Option<&'static str> {
        if origin.received.elapsed() < SUBMIT_GIVE_UP {
            return None;
        }
        match node.block_status(hash).await {
            Ok(BlockStatus::InChain { .. }) => None,
            _ => Some("no answer for so long that the block can no longer win"),
        }
    }

    /// Waits, but not past the moment at which the node comes back.
    async fn pause(&self, node: &RpcNode, pause: Duration) {
        let mut state = node.state();
        state.mark_unchanged();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = state.changed() => {}
        }
    }
}

/// Counts one solution or submission as under way for as long as it lives.
#[derive(Debug)]
pub(crate) struct UnderWay(watch::Sender<usize>);

impl UnderWay {
    fn begin(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
