//! What holds of every source, whatever way it reaches its node.

mod blocks;
mod follow;
mod full_block;
mod templates;

use std::sync::Arc;
use std::time::Duration;

use bitcoin::BlockHash;
use serde_json::json;
use signet::Node;
use tdp_client::{Node as Source, NodeState, Template, TipState};
use tokio::sync::watch;

use super::{WAIT_METHOD, options, proposal_of_known, spawn};

/// Longest that any of these tests waits for one thing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A new regtest node.
fn regtest() -> Node {
    Node::start(options()).unwrap()
}

/// Follows a node without knowing any transaction beforehand.
fn follow_unknown(node: &Node) -> Source {
    spawn(node, Arc::new(|_| None))
}

/// A regtest node with a few blocks, followed and ready.
pub(crate) async fn ready() -> (Node, Source) {
    let node = regtest();
    mine(&node, 1);
    let source = follow_unknown(&node);
    state(&source, "ready", NodeState::is_ready).await;
    (node, source)
}

/// Mines `count` blocks; their hashes.
pub(crate) fn mine(node: &Node, count: u32) -> Vec<BlockHash> {
    node.call("generatetodescriptor", &[json!(count), json!("raw(51)")]).unwrap()
}

/// Waits until a published value is as wanted.
pub(crate) async fn wait_for<T: Clone + std::fmt::Debug>(
    mut receiver: watch::Receiver<T>,
    what: &str,
    is_wanted: impl FnMut(&T) -> bool,
) -> T {
    let found = tokio::time::timeout(PATIENCE, receiver.wait_for(is_wanted)).await;
    let found = found.map(|value| value.map(|value| value.clone()));
    match found {
        Ok(Ok(value)) => value,
        Ok(Err(_)) => panic!("waited for {what}: the source has ended"),
        Err(_) => {
            panic!("waited {PATIENCE:?} for {what}; it is {:?}", receiver.borrow());
        }
    }
}

/// Waits for a state.
pub(crate) async fn state(
    source: &Source,
    what: &str,
    is_wanted: impl FnMut(&NodeState) -> bool,
) -> NodeState {
    wait_for(source.state(), what, is_wanted).await
}

/// Waits for the tip with this hash.
pub(crate) async fn tip(source: &Source, hash: BlockHash) -> Arc<TipState> {
    let is_it = |tip: &Option<Arc<TipState>>| tip.as_ref().is_some_and(|t| t.tip.hash == hash);
    wait_for(source.tip(), &format!("the tip {hash}"), is_it).await.expect("checked")
}

/// Waits for a template that is as wanted.
pub(crate) async fn template(
    source: &Source,
    what: &str,
    mut is_wanted: impl FnMut(&Template) -> bool,
) -> Arc<Template> {
    let is_it = |t: &Option<Arc<Template>>| t.as_ref().is_some_and(|t| is_wanted(t));
    wait_for(source.template(), what, is_it).await.expect("checked")
}

/// The error of a state that has one.
pub(crate) fn error_text(state: &NodeState) -> Option<&str> {
    match state {
        NodeState::Connecting { error } => error.as_deref(),
        _ => None,
    }
}
