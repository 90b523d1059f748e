//! Where a block stands at each node, and what follows from all of them together.

use std::collections::BTreeMap;

use bitcoin::BlockHash;
use store::{BlockSummary, SubmissionState, SubmissionStep};

/// Where a block stands at each node, by the name of the node. Nodes that left the configuration
/// may be among them.
pub(super) type Steps = BTreeMap<String, SubmissionStep>;

/// As the store has them.
pub(super) fn recorded(block_hash: BlockHash, summary: &BlockSummary) -> Steps {
    let step = |of: &store::NodeSubmission| SubmissionStep {
        block_hash,
        node: of.node.clone(),
        state: of.state,
        detail: of.detail.clone(),
        attempts: of.attempts,
        latency_ms: of.latency_ms,
    };
    summary.submissions.iter().map(|of| (of.node.clone(), step(of))).collect()
}

/// Every one of these nodes has said whether it takes the block.
pub(super) fn judged<'a>(steps: &Steps, mut nodes: impl Iterator<Item = &'a str>) -> bool {
    use SubmissionState::{Accepted, Rejected};
    nodes.all(|node| matches!(state(steps, node), Some(Accepted | Rejected)))
}

/// Every one of these nodes has refused the block, and so has every other that was ever to get it.
/// One that is ours no more and never answered may have passed it on: the block may be in the
/// chain.
pub(super) fn refused_by_all<'a>(steps: &Steps, mut nodes: impl Iterator<Item = &'a str>) -> bool {
    !steps.is_empty()
        && steps.values().all(|step| step.state == SubmissionState::Rejected)
        && nodes.all(|node| steps.contains_key(node))
}

fn state(steps: &Steps, node: &str) -> Option<SubmissionState> {
    steps.get(node).map(|step| step.state)
}

#[cfg(test)]
mod tests {
    use SubmissionState::{Accepted, Found, Rejected, Sent, Unknown};
    use bitcoin::hashes::Hash;

    use super::*;

    fn at(nodes: &[(&str, SubmissionState)]) -> Steps {
        let step = |(node, state): &(&str, SubmissionState)| SubmissionStep {
            block_hash: BlockHash::all_zeros(),
            node: (*node).to_owned(),
            state: *state,
            detail: None,
            attempts: 1,
            latency_ms: None,
        };
        nodes.iter().map(|of| (of.0.to_owned(), step(of))).collect()
    }

    #[test]
    fn a_block_is_judged_when_every_node_of_ours_has_answered() {
        let steps = at(&[("a", Accepted), ("b", Rejected), ("left", Sent)]);
        assert!(judged(&steps, ["a", "b"].into_iter()));
        assert!(!judged(&steps, ["a", "new"].into_iter()));
        assert!(!judged(&steps, ["a", "left"].into_iter()));
    }

    #[test]
    fn only_refusals_of_everybody_are_the_end_of_a_block() {
        let ours = || ["a", "b"].into_iter();
        assert!(refused_by_all(&at(&[("a", Rejected), ("b", Rejected)]), ours()));
        assert!(refused_by_all(
            &at(&[("a", Rejected), ("b", Rejected), ("left", Rejected)]),
            ours()
        ));
        for left in [Found, Sent, Unknown, Accepted] {
            let steps = at(&[("a", Rejected), ("b", Rejected), ("left", left)]);
            assert!(!refused_by_all(&steps, ours()), "{left:?}");
        }
        assert!(!refused_by_all(&at(&[("a", Rejected)]), ours()), "b was never asked");
        assert!(!refused_by_all(&Steps::new(), ours()));
    }
}
