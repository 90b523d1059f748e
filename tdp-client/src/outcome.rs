//! What a node says of a block (BIP 22 and BIP 23), sorted by what follows from it.

use std::sync::Arc;

use crate::error::{Fault, NodeError};

/// What became of a submitted block at one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitOutcome {
    /// The node took it, and it is valid.
    Accepted,
    /// The node had it already, and it is valid.
    Duplicate,
    /// The node stored it without judging it in full: another block at this height came first.
    Inconclusive,
    /// The node found it invalid.
    Rejected {
        /// The node's reason, such as `bad-cb-amount`.
        reason: String,
    },
    /// The node did not process it, or can not take it yet; worth another try.
    Transient {
        /// What happened.
        error: NodeError,
    },
    /// The block was, or may have been, sent and no answer came: it may be in the chain. Ask again.
    Unknown {
        /// What happened.
        error: NodeError,
    },
}

/// A node's judgement of a block without proof of work (BIP 23): consensus only, never policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposal {
    /// It would be a valid block.
    Valid,
    /// It would not.
    Invalid {
        /// The node's reason, such as `bad-txns-inputs-missingorspent`.
        reason: String,
    },
    /// The node could not judge it, as when it builds on another block than the node's tip.
    NotJudged {
        /// The node's reason, such as `inconclusive-not-best-prevblk`.
        reason: String,
    },
    /// The node did not answer the question.
    Transient {
        /// What happened.
        error: NodeError,
    },
}

/// Where a block stands at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockStatus {
    /// In the node's best chain.
    InChain {
        /// Its height.
        height: u32,
        /// 1 for the tip.
        confirmations: u32,
    },
    /// The node has the header, but the block is not in its best chain.
    Known {
        /// Its height.
        height: u32,
    },
    /// The node has never heard of it.
    Unknown,
}

/// Bitcoin Core's `RPC_DESERIALIZATION_ERROR`: the block does not decode.
const RPC_DESERIALIZATION_ERROR: i32 = -22;

/// Reasons that say something about the node at this moment, not about the block: it has not (or,
/// after a crash, no longer) the block before, or its clock is behind.
fn may_pass_later(reason: &str) -> bool {
    matches!(reason, "prev-blk-not-found" | "time-too-new")
}

/// Sorts an answer of `submitblock`: `null`, or a reason.
pub(crate) fn submit_answer(node: &Arc<str>, reason: Option<String>) -> SubmitOutcome {
    match reason.as_deref() {
        None => SubmitOutcome::Accepted,
        Some("duplicate") => SubmitOutcome::Duplicate,
        Some("inconclusive" | "duplicate-inconclusive") => SubmitOutcome::Inconclusive,
        Some(reason) if may_pass_later(reason) => {
            let fault = Fault::NotYet { reason: reason.to_owned() };
            SubmitOutcome::Transient { error: NodeError::new(node, fault) }
        }
        Some(reason) => SubmitOutcome::Rejected { reason: reason.to_owned() },
    }
}

/// Sorts a failed `submitblock`. How much of the request had left is not known: whatever may have
/// happened after the connection stood leaves the outcome open.
pub(crate) fn submit_failure(error: NodeError) -> SubmitOutcome {
    match error.fault() {
        Fault::Rpc { code: RPC_DESERIALIZATION_ERROR, message, .. } => {
            SubmitOutcome::Rejected { reason: message.clone() }
        }
        Fault::TimedOut { .. } | Fault::ConnectionLost { .. } | Fault::Malformed { .. } => {
            SubmitOutcome::Unknown { error }
        }
        _ => SubmitOutcome::Transient { error },
    }
}

/// Sorts an answer to a proposal: `null`, or a reason.
pub(crate) fn proposal_answer(reason: Option<String>) -> Proposal {
    match reason {
        None => Proposal::Valid,
        Some(reason) if reason == "duplicate" => Proposal::Valid,
        Some(reason) if reason.contains("inconclusive") || may_pass_later(&reason) => {
            Proposal::NotJudged { reason }
        }
        Some(reason) => Proposal::Invalid { reason },
    }
}

/// Sorts a failed proposal.
pub(crate) fn proposal_failure(error: NodeError) -> Proposal {
    match error.fault() {
        Fault::Rpc { code: RPC_DESERIALIZATION_ERROR, message, .. } => {
            Proposal::Invalid { reason: message.clone() }
        }
        _ => Proposal::Transient { error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(fault: Fault) -> NodeError {
        NodeError::new(&"main".into(), fault)
    }

    fn rpc(code: i32) -> NodeError {
        error(Fault::Rpc { method: "submitblock", code, message: "text".into() })
    }

    #[test]
    fn submission_answers() {
        let rejected = |reason: &str| SubmitOutcome::Rejected { reason: reason.into() };
        for (answer, outcome) in [
            (None, SubmitOutcome::Accepted),
            (Some("duplicate"), SubmitOutcome::Duplicate),
            (Some("inconclusive"), SubmitOutcome::Inconclusive),
            (Some("duplicate-inconclusive"), SubmitOutcome::Inconclusive),
            (Some("duplicate-invalid"), rejected("duplicate-invalid")),
            (Some("bad-cb-amount"), rejected("bad-cb-amount")),
            (Some("high-hash"), rejected("high-hash")),
        ] {
            let found = submit_answer(&"main".into(), answer.map(str::to_owned));
            assert_eq!(found, outcome, "{answer:?}");
        }
    }

    #[test]
    fn a_block_that_the_node_can_not_take_yet_is_kept_for_another_try() {
        for reason in ["prev-blk-not-found", "time-too-new"] {
            let expected = error(Fault::NotYet { reason: reason.into() });
            assert!(!expected.is_persistent());
            let found = submit_answer(&"main".into(), Some(reason.into()));
            assert_eq!(found, SubmitOutcome::Transient { error: expected });
            let expected = Proposal::NotJudged { reason: reason.into() };
            assert_eq!(proposal_answer(Some(reason.into())), expected);
        }
    }

    #[test]
    fn a_silence_leaves_the_outcome_open_and_a_missing_connection_does_not() {
        for fault in [
            Fault::TimedOut { method: "submitblock" },
            Fault::ConnectionLost { method: "submitblock", reason: String::new() },
            Fault::Malformed { method: "submitblock", reason: String::new() },
        ] {
            assert!(matches!(submit_failure(error(fault)), SubmitOutcome::Unknown { .. }));
        }
        let url = "http://127.0.0.1:1".into();
        for fault in [
            Fault::Unreachable { url, reason: String::new() },
            Fault::CookieMissing { path: "cookie".into() },
            Fault::Http { method: "submitblock", status: 503, body: String::new() },
        ] {
            assert!(matches!(submit_failure(error(fault)), SubmitOutcome::Transient { .. }));
        }
    }

    #[test]
    fn a_nodes_own_trouble_is_no_rejection() {
        for code in [-25, -28, -1] {
            assert!(matches!(submit_failure(rpc(code)), SubmitOutcome::Transient { .. }));
            assert!(matches!(proposal_failure(rpc(code)), Proposal::Transient { .. }));
        }
    }

    #[test]
    fn bytes_that_do_not_decode_are_a_rejection() {
        let reason = "text".to_owned();
        assert_eq!(submit_failure(rpc(-22)), SubmitOutcome::Rejected { reason: reason.clone() });
        assert_eq!(proposal_failure(rpc(-22)), Proposal::Invalid { reason });
    }

    #[test]
    fn proposal_answers() {
        let invalid = |reason: &str| Proposal::Invalid { reason: reason.into() };
        let not_judged = |reason: &str| Proposal::NotJudged { reason: reason.into() };
        for (answer, outcome) in [
            (None, Proposal::Valid),
            (Some("duplicate"), Proposal::Valid),
            (Some("duplicate-invalid"), invalid("duplicate-invalid")),
            (Some("duplicate-inconclusive"), not_judged("duplicate-inconclusive")),
            (Some("inconclusive-not-best-prevblk"), not_judged("inconclusive-not-best-prevblk")),
            (Some("bad-txns-inputs-missingorspent"), invalid("bad-txns-inputs-missingorspent")),
        ] {
            assert_eq!(proposal_answer(answer.map(str::to_owned)), outcome, "{answer:?}");
        }
    }
}
