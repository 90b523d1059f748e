//! What an operator is told when the settings are wrong.

use tdp_client::NodeState;

use super::*;

/// The first error that the state gives.
async fn first_error(settings: IpcSettings) -> String {
    let source = follow(settings);
    let state = state(&source, "an error", |s| error_text(s).is_some()).await;
    error_text(&state).expect("checked").to_owned()
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("node.sock");
    let settings =
        IpcSettings { name: "main".into(), socket, network: Network::Regtest, rpc: None };
    let text = first_error(settings.clone()).await;
    assert!(text.contains("node main: no connection to ipc_socket"), "{text}");
    assert!(text.contains(settings.socket.to_str().unwrap()), "{text}");
    assert!(text.contains("-ipcbind=unix"), "{text}");
}

#[tokio::test]
async fn the_wrong_chain_is_named_with_both_names() {
    let node = Node::start(options()).unwrap();
    let text = first_error(IpcSettings { network: Network::Bitcoin, ..settings(&node) }).await;
    assert!(text.contains("\"regtest\"") && text.contains("\"main\""), "{text}");
}

/// A node far behind says how far it is, and nothing of ours waits inside of it.
#[tokio::test]
async fn a_node_that_syncs_tells_its_progress() {
    let options = NodeOptions::signet().ipc().arg("-maxtipage=86400");
    let node = Node::start(options).unwrap();
    let source = follow(settings(&node));
    let syncing = state(&source, "syncing", |s| matches!(s, NodeState::Syncing { .. })).await;
    let NodeState::Syncing { progress, blocks, headers, .. } = syncing else {
        panic!("checked");
    };
    assert!((0.0..=1.0).contains(&progress), "{progress}");
    let height: u32 = node.call("getblockcount", &[]).unwrap();
    assert_eq!((blocks, headers), (height, height));
    assert_eq!(*source.tip().borrow(), None, "no tip is published before the node is synced");
}

/// A node that ends lets nobody in who would keep it from ending: we come back when it is back.
#[tokio::test]
async fn a_node_stops_though_it_is_followed_and_is_followed_again() {
    let mut node = Node::start(options()).unwrap();
    mine(&node, 1);
    let source = follow(settings(&node));
    for _ in 0..6 {
        state(&source, "ready", NodeState::is_ready).await;
        // Fails when the node does not end.
        node.stop().unwrap();
        state(&source, "away", |s| !s.is_ready()).await;
        node.restart().unwrap();
    }
    state(&source, "ready", NodeState::is_ready).await;
}
