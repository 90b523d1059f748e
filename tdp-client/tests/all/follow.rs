//! The tip is followed through mining, reorganisation and restarts of the node.

use std::time::{Duration, Instant};

use bitcoin::CompactTarget;
use serde_json::{Value, json};
use tdp_client::NodeState;
use validation::tip::NextBits;

use super::*;

#[tokio::test]
async fn the_tip_follows_mining_and_a_reorganisation() {
    let (node, source) = ready().await;
    let mined = mine(&node, 2);
    let old = tip(&source, mined[1]).await.tip;
    let header: Value = node.call("getblockheader", &[json!(mined[1])]).unwrap();
    assert_eq!(old.height, 3);
    assert_eq!(json!(old.time), header["time"]);
    assert_eq!(json!(old.median_time_past), header["mediantime"]);
    let work = tip(&source, mined[1]).await.work.map(|work| work.to_be_bytes());
    let told = header["chainwork"].as_str().unwrap();
    assert_eq!(work.map(|work| hex(&work)).as_deref(), Some(told));
    assert_eq!(old.next_bits, NextBits::fixed(CompactTarget::from_consensus(0x207f_ffff)));

    let _: Value = node.call("invalidateblock", &[json!(mined[1])]).unwrap();
    assert_eq!(tip(&source, mined[0]).await.tip.height, 2);
    // To another script, or it would be the very same block again.
    let fork: Vec<BlockHash> =
        node.call("generatetodescriptor", &[json!(2), json!("raw(52)")]).unwrap();
    assert_eq!(tip(&source, fork[1]).await.tip.height, 4);
    assert_eq!(source.tip_by_hash(&mined[1]), Some(old), "a former tip is still known");
    assert_eq!(source.tip_by_hash(&fork[1]).map(|tip| tip.height), Some(4));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A block is news at once, not at the end of a poll interval.
#[tokio::test]
async fn a_new_tip_is_known_at_once() {
    let (node, source) = ready().await;
    let mut fastest = Duration::MAX;
    for _ in 0..10 {
        let hash = mine(&node, 1)[0];
        let mined_at = Instant::now();
        let seen_at = tip(&source, hash).await.seen_at;
        fastest = fastest.min(seen_at.saturating_duration_since(mined_at));
    }
    assert!(fastest < Duration::from_millis(100), "the fastest of ten took {fastest:?}");
}

#[tokio::test]
async fn a_node_that_is_killed_and_comes_back_is_followed_again() {
    let (mut node, source) = ready().await;
    node.kill();
    let away = state(&source, "the state after a kill", |s| !s.is_ready()).await;
    let text = error_text(&away).expect("a reason is given").to_owned();
    assert!(text.contains("node main"), "{text}");
    node.restart().unwrap();
    let hash = mine(&node, 1)[0];
    state(&source, "ready after the restart", NodeState::is_ready).await;
    tip(&source, hash).await;
    template(&source, "a template on the new tip", |t| t.prev_hash == hash).await;
}

#[tokio::test]
async fn a_node_that_is_down_at_the_start_is_found_when_it_comes() {
    let mut node = regtest();
    node.stop().unwrap();
    let source = follow_unknown(&node);
    state(&source, "an error", |s| error_text(s).is_some()).await;
    node.restart().unwrap();
    state(&source, "ready", NodeState::is_ready).await;
}

#[tokio::test]
async fn a_frozen_node_is_noticed_and_found_again() {
    let (node, source) = ready().await;
    node.pause().unwrap();
    let away = state(&source, "the state of a frozen node", |s| !s.is_ready()).await;
    node.resume().unwrap();
    let text = error_text(&away).unwrap_or_default();
    assert!(text.contains(&format!("no answer to {WAIT_METHOD} in time")), "{away:?}");
    state(&source, "ready", NodeState::is_ready).await;
}

/// Everything that was learned ends when nobody holds the source any more.
#[tokio::test]
async fn the_last_handle_ends_the_source() {
    let (_node, source) = ready().await;
    let (clone, mut tip, mut state) = (source.clone(), source.tip(), source.state());
    drop(source);
    assert!(clone.state().borrow().is_ready(), "a clone keeps it going");
    drop(clone);
    let ended = async {
        while tip.changed().await.is_ok() {}
        while state.changed().await.is_ok() {}
    };
    let bound = Duration::from_millis(tdp_client::limits::TIP_LONG_POLL_MS) + PATIENCE / 4;
    tokio::time::timeout(bound, ended).await.expect("waited for the threads to end");
}
