//! The RPC source against a real Bitcoin Core: state, tip, templates, and blocks handed in.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a test's answer")]

mod blocks;
mod follow;
mod full_block;
mod templates;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use bitcoin::{BlockHash, Network};
use serde_json::json;
use signet::Node;
use tdp_client::{Auth, NodeSettings, NodeState, RpcNode, Template, TipState};
use tokio::sync::watch;

/// Longest that any of these tests waits for one thing.
const PATIENCE: Duration = Duration::from_secs(60);

/// How we reach a node of the harness.
fn settings(node: &Node) -> NodeSettings {
    NodeSettings {
        name: "main".into(),
        rpc_url: node.rpc_url(),
        auth: Auth::CookieFile(node.cookie_file()),
        network: node.chain().network(),
    }
}

/// Follows a node without knowing any transaction beforehand.
fn follow(settings: NodeSettings) -> RpcNode {
    RpcNode::spawn(settings, Arc::new(|_| None)).expect("these settings can be used")
}

/// A regtest node with a few blocks, followed and ready.
async fn ready() -> (Node, RpcNode) {
    let node = Node::regtest().unwrap();
    mine(&node, 1);
    let source = follow(settings(&node));
    state(&source, "ready", NodeState::is_ready).await;
    (node, source)
}

/// Mines `count` blocks; their hashes.
fn mine(node: &Node, count: u32) -> Vec<BlockHash> {
    node.call("generatetodescriptor", &[json!(count), json!("raw(51)")]).unwrap()
}

/// Waits until a published value is as wanted.
async fn wait_for<T: Clone + std::fmt::Debug>(
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
async fn state(
    source: &RpcNode,
    what: &str,
    is_wanted: impl FnMut(&NodeState) -> bool,
) -> NodeState {
    wait_for(source.state(), what, is_wanted).await
}

/// Waits for the tip with this hash.
async fn tip(source: &RpcNode, hash: BlockHash) -> Arc<TipState> {
    let is_it = |tip: &Option<Arc<TipState>>| tip.as_ref().is_some_and(|t| t.tip.hash == hash);
    wait_for(source.tip(), &format!("the tip {hash}"), is_it).await.expect("checked")
}

/// Waits for a template that is as wanted.
async fn template(
    source: &RpcNode,
    what: &str,
    mut is_wanted: impl FnMut(&Template) -> bool,
) -> Arc<Template> {
    let is_it = |t: &Option<Arc<Template>>| t.as_ref().is_some_and(|t| is_wanted(t));
    wait_for(source.template(), what, is_it).await.expect("checked")
}

/// The error of a state that has one.
fn error_text(state: &NodeState) -> Option<&str> {
    match state {
        NodeState::Connecting { error } => error.as_deref(),
        _ => None,
    }
}

const REGTEST: Network = Network::Regtest;
