//! The way of one block to one node.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bitcoin::BlockHash;
use tdp_client::{BlockStatus, RpcNode, SubmitOutcome};
use tracing::{error, info, warn};

use super::{End, FirstAnswer, Found, Open, Origin, Submitter};
use crate::limits::{SUBMIT_GIVE_UP, SUBMIT_RETRY_MAX, SUBMIT_RETRY_MIN};

/// What one node finally made of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NodeVerdict {
    Accepted(&'static str),
    Rejected(String),
}

impl Submitter {
    /// Submits the block until the node has judged it.
    pub(super) async fn to_node(
        &self,
        node: &RpcNode,
        found: &Found,
        origin: &Origin,
        open: &Open,
        first: &mut FirstAnswer,
    ) -> End {
        let (name, hash) = (node.name(), found.hash);
        let mut pause = SUBMIT_RETRY_MIN;
        for attempt in 1u32.. {
            let outcome = node.submit_block(Arc::clone(&found.hex)).await;
            // Only the first attempt holds anything back: retries may go on for hours.
            first.holds_checks.take();
            let latency_ms = origin.received.elapsed().as_secs_f64() * 1e3;
            match self.settle(node, hash, outcome).await {
                Ok(NodeVerdict::Accepted(how)) => {
                    open.taken.store(true, Ordering::Relaxed);
                    info!(block = %hash, node = name, attempt, latency_ms, how, "block accepted");
                    return End::Judged;
                }
                Ok(NodeVerdict::Rejected(reason)) => {
                    error!(block = %hash, node = name, attempt, latency_ms, reason,
                        user = origin.user, template = origin.template_hash,
                        "block REJECTED by the node");
                    return End::Judged;
                }
                Err(reason) => {
                    warn!(block = %hash, node = name, attempt, reason, retry_ms = pause.as_millis(),
                        "block not taken yet, trying again");
                }
            }
            first.under_way.take();
            if let Some(why) = self.pointless(node, hash, origin).await {
                error!(block = %hash, node = name, attempt, why, "giving up on this node");
                return End::GaveUp;
            }
            self.pause(node, pause).await;
            pause = (pause * 2).min(SUBMIT_RETRY_MAX);
        }
        End::GaveUp
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
