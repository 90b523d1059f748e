//! What an operator is told when the settings are wrong.

use signet::{Node, NodeOptions};
use tdp_client::{Auth, Fault, NodeState};

use super::*;

/// The first error that the state gives.
async fn first_error(settings: NodeSettings) -> String {
    let source = follow(settings);
    let state = state(&source, "an error", |s| error_text(s).is_some()).await;
    error_text(&state).expect("checked").to_owned()
}

#[tokio::test]
async fn a_wrong_password_names_the_settings_and_hides_itself() {
    let node = Node::regtest().unwrap();
    let mut settings = settings(&node);
    settings.auth = Auth::UserPass { user: "alice".into(), password: "hunter2".into() };
    let text = first_error(settings).await;
    assert!(text.contains("node main"), "{text}");
    assert!(text.contains("401") && text.contains("rpc_user and rpc_password"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_stale_cookie_names_the_setting() {
    let node = Node::regtest().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let cookie = directory.path().join("cookie");
    std::fs::write(&cookie, "__cookie__:of an earlier start").unwrap();
    let mut settings = settings(&node);
    settings.auth = Auth::CookieFile(cookie.clone());
    let source = follow(settings);
    let refused = state(&source, "an error", |s| error_text(s).is_some()).await;
    assert!(error_text(&refused).unwrap().contains("rpc_cookie_file"), "{refused:?}");
    // The file is read anew each time, so that putting it right is enough.
    std::fs::copy(node.cookie_file(), &cookie).unwrap();
    state(&source, "ready with the right cookie", NodeState::is_ready).await;
}

#[tokio::test]
async fn a_missing_cookie_file_is_named() {
    let node = Node::regtest().unwrap();
    let mut settings = settings(&node);
    settings.auth = Auth::CookieFile("/nonexistent/.cookie".into());
    let text = first_error(settings).await;
    assert!(text.contains("rpc_cookie_file /nonexistent/.cookie does not exist"), "{text}");
}

#[tokio::test]
async fn the_wrong_chain_is_named_with_both_names() {
    let node = Node::regtest().unwrap();
    let mut settings = settings(&node);
    settings.network = Network::Bitcoin;
    let text = first_error(settings).await;
    assert!(text.contains("\"regtest\"") && text.contains("\"main\""), "{text}");
}

#[tokio::test]
async fn nobody_at_the_url_is_named() {
    let mut node = Node::regtest().unwrap();
    let mut settings = settings(&node);
    settings.auth = Auth::UserPass { user: "a".into(), password: "b".into() };
    node.stop().unwrap();
    let text = first_error(settings.clone()).await;
    assert!(text.contains(&format!("rpc_url {}", settings.rpc_url)), "{text}");
}

#[tokio::test]
async fn an_unusable_url_is_refused_at_once() {
    let settings = NodeSettings {
        name: "main".into(),
        rpc_url: "https://127.0.0.1:8332".into(),
        auth: Auth::UserPass { user: "a".into(), password: "b".into() },
        network: REGTEST,
    };
    let error = Source::spawn(settings, Arc::new(|_| None)).unwrap_err();
    assert!(error.is_persistent());
    assert!(matches!(error.fault(), Fault::BadUrl { .. }), "{error}");
}

/// A node far behind says how far it is. (Its tip, the first block, is from 2020.)
#[tokio::test]
async fn a_node_that_syncs_tells_its_progress() {
    let options = NodeOptions::signet().arg("-maxtipage=86400");
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
