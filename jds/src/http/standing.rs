//! How a node stands, in one word, and the events that tell of a change.

use std::sync::Arc;
use std::time::Instant;

use store::NodeStatus;
use tdp_client::{Followed, NodeState, SourceKind, TipState};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::journal::Journal;
use crate::limits::{NODE_BEHIND_AFTER, NODE_LOOK_INTERVAL};
use crate::nodes::{Nodes, ready_tip};

/// How a node stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) state: State,
    /// What there is to say about it.
    pub(super) detail: Option<String>,
    pub(super) tip: Option<Arc<TipState>>,
}

/// The same in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It was not asked yet.
    Connecting,
    Unreachable,
    Syncing,
    /// It lacks blocks that another node of ours has had for a while.
    Behind,
    /// Its tip has been on another branch than the one that counts for a while.
    Stale,
    AtTip,
    /// A template provider that told of a block which no node of ours has.
    Unconfirmed,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Unreachable => "unreachable",
            Self::Syncing => "syncing",
            Self::Behind => "behind",
            Self::Stale => "stale",
            Self::AtTip => "at_tip",
            Self::Unconfirmed => "unconfirmed",
        }
    }
}

impl Standing {
    /// How `node` stands beside the others.
    pub(super) fn of(node: &Followed, nodes: &Nodes, now: Instant) -> Self {
        let tip = node.tip().borrow().clone();
        let state = node.state().borrow().clone();
        let (state, detail) = match state {
            NodeState::Connecting { error: None } => (State::Connecting, None),
            NodeState::Connecting { error: Some(error) } => {
                (State::Unreachable, Some(error.to_string()))
            }
            NodeState::Syncing { progress, blocks, headers, left } => {
                let percent = progress * 100.0;
                let left = left.map(|left| format!(", {left} to go")).unwrap_or_default();
                let detail =
                    format!("{percent:.2} % of the chain, block {blocks} of {headers}{left}");
                (State::Syncing, Some(detail))
            }
            NodeState::Ready => Self::of_ready(node, nodes, tip.as_deref(), now),
        };
        Self { state, detail, tip }
    }

    fn of_ready(
        node: &Followed,
        nodes: &Nodes,
        tip: Option<&TipState>,
        now: Instant,
    ) -> (State, Option<String>) {
        let provider = node.kind() == SourceKind::TemplateProvider;
        if provider && nodes.is_left(node.name()) {
            let text = "what it told was confirmed by no node of ours".to_owned();
            return (State::Unconfirmed, Some(text));
        }
        // A provider proves nothing: it is no measure for a node.
        let measures = |other: &&Followed| provider || other.kind() == node.kind();
        let others = || nodes.sources().iter().filter(measures).filter_map(ready_tip);
        let below = others().filter_map(|other| behind(tip, &other, now)).max();
        if tip.is_some_and(|tip| nodes.is_stale(node.name(), &tip.tip.hash)) {
            let text = match below {
                Some(blocks) => format!("on another branch, {blocks} blocks below the best tip"),
                None => "on another branch than the tip that counts".to_owned(),
            };
            return (State::Stale, Some(text));
        }
        if let Some(blocks) = below {
            return (
                State::Behind,
                Some(format!("{blocks} blocks below the best tip of our nodes")),
            );
        }
        let error = node.template_error();
        (State::AtTip, error.map(|error| format!("no template: {error}")))
    }
}

/// How many blocks a tip is below another that has been there for a while and has more work.
fn behind(tip: Option<&TipState>, other: &TipState, now: Instant) -> Option<u32> {
    let own = tip?;
    let settled = now.saturating_duration_since(other.seen_at) >= NODE_BEHIND_AFTER;
    let better = match (own.work, other.work) {
        (Some(own), Some(other)) => other > own,
        // A source that tells no work.
        _ => other.tip.height > own.tip.height,
    };
    (settled && better).then(|| other.tip.height.saturating_sub(own.tip.height))
}

/// Writes an event for each change of a node's state, for as long as `tasks` live.
pub fn journal_states(nodes: &Arc<Nodes>, journal: &Arc<Journal>, tasks: &mut JoinSet<()>) {
    for node in nodes.sources() {
        tasks.spawn(follow(node.clone(), Arc::clone(nodes), Arc::clone(journal)));
    }
}

async fn follow(node: Followed, nodes: Arc<Nodes>, journal: Arc<Journal>) {
    // A node that flaps counts as a peer that floods.
    let source = format!("node {}", node.name());
    let mut changes = node.state();
    let mut told = State::Connecting;
    loop {
        changes.mark_unchanged();
        let Standing { state, detail, tip } = Standing::of(&node, &nodes, Instant::now());
        if state != told {
            told = state;
            let status = NodeStatus {
                kind: Some(node.kind().as_str().to_owned()),
                node: node.name().to_owned(),
                state: state.as_str().to_owned(),
                height: tip.map(|tip| tip.tip.height),
                detail,
            };
            journal.of_peer(&source, status);
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            // That it falls behind is a matter of time.
            () = sleep(NODE_LOOK_INTERVAL) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::{BlockHash, CompactTarget, Work, hashes::Hash};
    use validation::tip::{ChainTip, NextBits};

    use super::*;

    fn tip(height: u32, seen_at: Instant) -> TipState {
        let tip = ChainTip {
            hash: BlockHash::all_zeros(),
            height,
            time: 0,
            median_time_past: 0,
            next_bits: NextBits::fixed(CompactTarget::from_consensus(0x207f_ffff)),
        };
        TipState { tip, work: None, seen_at }
    }

    #[test]
    fn a_node_is_behind_when_another_has_been_ahead_for_a_while() {
        let start = Instant::now();
        let (own, other) = (tip(99, start), tip(101, start));
        let later = start + NODE_BEHIND_AFTER;
        assert_eq!(behind(Some(&own), &other, start), None, "a block is on its way");
        assert_eq!(behind(Some(&own), &other, later), Some(2));
        assert_eq!(behind(Some(&other), &own, later), None, "it is ahead");
        assert_eq!(behind(Some(&other), &other, later), None);
    }

    #[test]
    fn a_higher_tip_with_less_work_is_not_ahead() {
        let start = Instant::now();
        let later = start + NODE_BEHIND_AFTER;
        let with_work = |height, work: u8| {
            let mut be = [0; 32];
            be[31] = work;
            TipState { work: Some(Work::from_be_bytes(be)), ..tip(height, start) }
        };
        let (high, heavy) = (with_work(101, 10), with_work(100, 11));
        assert_eq!(behind(Some(&heavy), &high, later), None);
        assert_eq!(behind(Some(&high), &heavy, later), Some(0));
        assert_eq!(behind(Some(&with_work(98, 9)), &heavy, later), Some(2));
        // Of two branches of equal work neither is ahead.
        assert_eq!(behind(Some(&with_work(101, 11)), &heavy, later), None);
    }
}
