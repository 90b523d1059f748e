//! The way of one block to one node.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bitcoin::BlockHash;
use store::SubmissionState;
use tdp_client::{BlockBytes, BlockStatus, Node, SubmitOutcome};
use tracing::{error, info, warn};

use super::notes::{News, Notes};
use super::steps::Steps;
use super::{Call, FirstAnswer, Open, Submitter};
use crate::limits::{SUBMIT_GIVE_UP, SUBMIT_RETRY_MAX, SUBMIT_RETRY_MIN};

/// What one node finally made of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NodeVerdict {
    Accepted(&'static str),
    Rejected(String),
}

/// What a node says that has just taken a block.
const TAKEN: &str = "accepted";

/// A node that a block has to go to.
pub(super) struct Way {
    node: Node,
    /// Attempts of an earlier process.
    attempts: u32,
    /// It is recorded that the block was sent.
    sent: bool,
    /// It is recorded that this came to nothing.
    unknown: bool,
}

impl Way {
    /// `None` for a node that has judged the block.
    pub(super) fn new(node: &Node, steps: &Steps) -> Option<Self> {
        let step = steps.get(node.name());
        let state = step.map(|step| step.state);
        if matches!(state, Some(SubmissionState::Accepted | SubmissionState::Rejected)) {
            return None;
        }
        let unknown = state == Some(SubmissionState::Unknown);
        Some(Self {
            node: node.clone(),
            attempts: step.map_or(0, |step| step.attempts),
            sent: unknown || state == Some(SubmissionState::Sent),
            unknown,
        })
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }
}

impl Submitter {
    /// Submits the block until the node has judged it, or that is of no use any more. `call` is the
    /// first attempt.
    pub(super) async fn to_node(
        &self,
        mut way: Way,
        open: &Arc<Open>,
        block: &BlockBytes,
        mut call: Call,
        notes: &Notes,
        first: &mut FirstAnswer,
    ) {
        let node = way.node.clone();
        let (name, hash) = (node.name(), open.hash);
        let mut pause = SUBMIT_RETRY_MIN;
        loop {
            way.attempts = way.attempts.saturating_add(1);
            let attempt = way.attempts;
            // Told after the call has begun.
            let (outcome, ()) = tokio::join!(call, async {
                if !std::mem::replace(&mut way.sent, true) {
                    notes.tell(name, News::Sent, attempt, open.latency());
                }
            });
            // Only the first attempt holds anything back: retries may go on for hours.
            first.holds_checks.take();
            let settled = self.settle(&node, hash, outcome).await;
            let latency = open.latency();
            let latency_ms = latency.as_secs_f64() * 1e3;
            match settled {
                Ok(NodeVerdict::Accepted(how)) => {
                    open.taken.store(true, Ordering::Relaxed);
                    info!(block = %hash, node = name, attempt, latency_ms, how, "block accepted");
                    self.metrics.submission(name, "accepted", latency);
                    let how = Some(how).filter(|how| *how != TAKEN);
                    notes.tell(name, News::Accepted(how), attempt, latency);
                    return;
                }
                Ok(NodeVerdict::Rejected(reason)) => {
                    error!(block = %hash, node = name, attempt, latency_ms, reason,
                        user = open.user, template = open.template_hash,
                        "block REJECTED by the node");
                    self.metrics.submission(name, "rejected", latency);
                    notes.tell(name, News::Rejected(reason), attempt, latency);
                    return;
                }
                Err(reason) => {
                    warn!(block = %hash, node = name, attempt, reason, retry_ms = pause.as_millis(),
                        "block not taken yet, trying again");
                    if !std::mem::replace(&mut way.unknown, true) {
                        self.metrics.submission(name, "unknown", latency);
                        notes.tell(name, News::Unknown(reason), attempt, latency);
                    }
                }
            }
            first.under_way.take();
            if let Some(why) = self.pointless(&node, open).await {
                error!(block = %hash, node = name, attempt, why, "giving up on this node");
                notes.tell(name, News::GaveUp, attempt, open.latency());
                return;
            }
            self.pause(&node, pause).await;
            pause = after(pause);
            call = self.call(&node, open, block);
        }
    }

    /// A final verdict, or why to try again.
    async fn settle(
        &self,
        node: &Node,
        hash: BlockHash,
        outcome: SubmitOutcome,
    ) -> Result<NodeVerdict, String> {
        match outcome {
            SubmitOutcome::Accepted => Ok(NodeVerdict::Accepted(TAKEN)),
            SubmitOutcome::Duplicate => Ok(NodeVerdict::Accepted("known already")),
            SubmitOutcome::Inconclusive => match node.block_status(hash).await {
                Ok(BlockStatus::InChain { .. }) => Ok(NodeVerdict::Accepted(TAKEN)),
                Ok(BlockStatus::Known { .. }) => {
                    Ok(NodeVerdict::Accepted("stored, another branch is ahead"))
                }
                Ok(BlockStatus::Unknown) => Err("the node did not judge it".into()),
                Err(error) => Err(error.to_string()),
            },
            SubmitOutcome::Rejected { reason } => Ok(NodeVerdict::Rejected(reason)),
            // The call may have been cut off after the node took the block. One that is not in the
            // chain may be there because the node refused it: the next attempt tells.
            SubmitOutcome::Unknown { error } | SubmitOutcome::Transient { error } => {
                match node.block_status(hash).await {
                    Ok(BlockStatus::InChain { .. }) => Ok(NodeVerdict::Accepted(TAKEN)),
                    Ok(BlockStatus::Known { .. } | BlockStatus::Unknown) | Err(_) => {
                        Err(error.to_string())
                    }
                }
            }
        }
    }

    /// Why another attempt can not help any more, if so.
    pub(super) async fn pointless(&self, node: &Node, open: &Open) -> Option<&'static str> {
        if open.received.elapsed() < SUBMIT_GIVE_UP {
            return None;
        }
        match node.block_status(open.hash).await {
            Ok(BlockStatus::InChain { .. }) => None,
            _ => Some("no answer for so long that the block can no longer win"),
        }
    }

    /// Waits, but not past the moment at which the node comes back.
    async fn pause(&self, node: &Node, pause: Duration) {
        let mut state = node.state();
        state.mark_unchanged();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = state.changed() => {}
        }
    }
}

/// The pause after one that was not enough.
fn after(pause: Duration) -> Duration {
    (pause * 2).min(SUBMIT_RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that is back is asked within seconds, however long it was away.
    #[test]
    fn pauses_get_longer_up_to_a_bound() {
        let pauses = std::iter::successors(Some(SUBMIT_RETRY_MIN), |pause| Some(after(*pause)));
        let pauses: Vec<Duration> = pauses.take(20).collect();
        assert!(pauses.windows(2).all(|two| two[1] == (two[0] * 2).min(SUBMIT_RETRY_MAX)));
        assert_eq!(pauses.last(), Some(&SUBMIT_RETRY_MAX));
    }
}
