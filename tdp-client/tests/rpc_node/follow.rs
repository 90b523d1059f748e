//! What is special to RPC in following a node.

use signet::{Node, NodeOptions};
use tdp_client::{Auth, NodeState};

use super::*;

/// With a whitelist that leaves `waitfornewblock` out, the tip is polled for.
#[tokio::test]
async fn a_node_that_refuses_the_long_poll_is_followed_all_the_same() {
    let options = NodeOptions::regtest()
        .arg("-rpcauth=poor:00$ad04846ee8f698eea9a572c08423c3553806d8c494068d200ad3dd6519757b16")
        .arg("-rpcwhitelistdefault=0")
        .arg(
            "-rpcwhitelist=poor:getblockchaininfo,getbestblockhash,getblockheader,\
             getblocktemplate,getmempoolinfo",
        );
    let node = Node::start(options).unwrap();
    let mut settings = settings(&node);
    settings.auth = Auth::UserPass { user: "poor".into(), password: "password".into() };
    let source = follow(settings);
    state(&source, "ready", NodeState::is_ready).await;
    let hash = mine(&node, 1)[0];
    tip(&source, hash).await;
    template(&source, "a template on the new tip", |t| t.prev_hash == hash).await;
}
