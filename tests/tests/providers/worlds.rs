//! A provider over a node, and the server that follows it.

use std::net::SocketAddr;

use jds_tests::{PATIENCE, Setup, World};
use signet::{Node, wait};
use tdp_client::NodeState;

/// Name of the provider in the follower's configuration.
pub(crate) const NAME: &str = "tp";

const DISTRIBUTION: &str = "listen = \"127.0.0.1:0\"\nfee_threshold_sat = 1\nmin_interval_ms = 100";

/// A server that gives out templates.
pub(crate) fn giving() -> Setup {
    Setup::new().table("template_distribution", DISTRIBUTION)
}

/// Where a provider listens, and its key.
pub(crate) fn place(provider: &World) -> (SocketAddr, String) {
    (provider.server.template_addr().unwrap(), provider.authority.to_string())
}

/// A server that follows this provider too, and gives out templates.
pub(crate) fn following(address: SocketAddr, key: &str) -> Setup {
    let lines = format!("name = \"{NAME}\"\naddress = \"{address}\"\npublic_key = \"{key}\"");
    giving().table("[template_provider]", &lines).api("")
}

/// [`following`] without any node, paying to the node under the provider.
pub(crate) fn alone(provider: &World, address: SocketAddr) -> Setup {
    let payout =
        format!("mode = \"pool\"\nscript = \"raw({:x})\"", provider.node().mining_script());
    let key = provider.authority.to_string();
    following(address, &key).payout(&payout).job_declaration("modes = [\"coinbase-only\"]")
}

/// Waits until the follower's tip is that of this node.
pub(crate) async fn synced(follower: &World, node: &Node) {
    follower.synced_to(node.tip().unwrap()).await;
}

/// Waits until the provider is ready, or not any more; what its state says then.
pub(crate) async fn until_ready(follower: &World, ready: bool) -> NodeState {
    let provider = follower.server.shared().nodes.providers()[0].clone();
    let mut state = provider.followed().state();
    let reached = state.wait_for(|state| {
        let failed = matches!(state, NodeState::Connecting { error: Some(_) });
        if ready { state.is_ready() } else { failed }
    });
    let reached = tokio::time::timeout(PATIENCE, reached).await;
    let reached = reached.map(|state| state.unwrap().clone());
    reached.unwrap_or_else(|_| panic!("waited for the provider to be ready: {ready}"))
}

/// Waits until the tip comes from the source with this name.
pub(crate) fn wait_source(follower: &World, name: &str) {
    let source = || follower.server.shared().nodes.tip_source().map(|one| one.name().to_owned());
    wait::until_true("the tip to come from the source", PATIENCE, || {
        source().is_some_and(|source| source == name)
    })
    .unwrap_or_else(|error| panic!("{error}: wanted {name}, it is {:?}", source()));
}
