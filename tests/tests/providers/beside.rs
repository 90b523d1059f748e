//! A template provider beside a node: the first to know a block announces it, either covers for the
//! other, and the node has the last word.

use bitcoin::BlockHash;
use jds_tests::{PATIENCE, Work, World, accepted};
use signet::{Node, NodeOptions};

use crate::client::{Client, SIZE, payments};
use crate::worlds::{NAME, following, giving, place, synced, until_ready, wait_source};

/// Gives one node the blocks of another that it lacks.
fn copy_blocks(from: &Node, to: &Node) {
    for height in to.height().unwrap() + 1..=from.height().unwrap() {
        let hash: BlockHash = from.call("getblockhash", &[height.into()]).unwrap();
        to.submit(&from.block(&hash).unwrap()).unwrap();
    }
}

/// A provider with so many coins, and a follower with a node of its own on the same chain, which is
/// told of new blocks by nobody but the test.
async fn worlds(follower: impl FnOnce(jds_tests::Setup) -> jds_tests::Setup) -> (World, World) {
    let provider = giving().start().await;
    provider.coins(4).await;
    let node = Node::start(NodeOptions::regtest()).unwrap();
    copy_blocks(provider.node(), &node);
    let (address, key) = place(&provider);
    let follower = follower(following(address, &key)).start_on(vec![node]).await;
    until_ready(&follower, true).await;
    synced(&follower, provider.node()).await;
    (provider, follower)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_to_know_a_block_announces_it() {
    let (provider, follower) = worlds(|setup| setup).await;
    let mut client = Client::connect(&follower, SIZE).await;
    wait_source(&follower, follower.node().name());
    // The provider first.
    let tip = provider.node().mine(1).unwrap()[0];
    client.until("the provider's block", |client| client.is_on(&tip)).await;
    wait_source(&follower, NAME);
    let told = follower.server.shared().nodes.tip().unwrap();
    assert_eq!((told.hash, told.height), (tip, provider.node().height().unwrap()));
    let work = Work::of(provider.node());
    assert_eq!(told.next_bits.at(work.time), work.bits);

    // A declaration for the next height is not behind, though our node is.
    let mut miner = follower.miner("alice").await;
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);

    copy_blocks(provider.node(), follower.node());
    wait_source(&follower, follower.node().name());
    let known = follower.server.shared().nodes.tip().unwrap();
    assert_eq!(known.hash, tip);
    assert!(known.median_time_past <= told.median_time_past, "{known:?} {told:?}");
    // Then the node.
    let tip = follower.node().mine(1).unwrap()[0];
    client.until("the node's block", |client| client.is_on(&tip)).await;
    wait_source(&follower, follower.node().name());
}

/// A declared block on the provider's tip goes to our node as soon as that knows the parent; one on
/// the provider's own template goes to the provider too.
#[tokio::test(flavor = "multi_thread")]
async fn blocks_on_a_tip_that_only_the_provider_knows_are_not_lost() {
    let (provider, follower) = worlds(|setup| setup).await;
    let txs = payments(&provider, 2).await;
    let work = provider.relay(&txs).await;
    let mut client = Client::connect(&follower, SIZE).await;
    let tip = provider.node().tip().unwrap();
    let value_sat = work.subsidy_sat + work.fees_sat;
    client
        .until("the provider's work", |client| {
            client.is_on(&tip) && client.template.value_sat == value_sat
        })
        .await;
    // Its transactions are known: nothing has to be asked for.
    follower.wait_known(&txs);
    let mut miner = follower.miner("alice").await;
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);

    let coinbase = client.template.coinbase(provider.node().mining_script(), b"found");
    let solved = client.template.solve(&client.on, coinbase).unwrap();
    client.wire.submit(&solved).await.unwrap();
    Work::wait_mined(provider.node(), solved.hash(), PATIENCE);
    copy_blocks(provider.node(), follower.node());
    Work::wait_mined(follower.node(), solved.hash(), PATIENCE);

    // The miner's own, one block late: our node gets it beside the other.
    let hash = miner.solve_and_push(&work, &template).await;
    signet::wait::until("our node to have the miner's block", PATIENCE, || {
        follower.node().block(&hash).ok()
    })
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn either_covers_for_the_other() {
    let (mut provider, mut follower) = worlds(|setup| setup).await;
    let mut client = Client::connect(&follower, SIZE).await;
    // Writes the blocks to disk: a regtest node that dies otherwise starts from nothing.
    follower.node().call::<serde_json::Value>("gettxoutsetinfo", &[]).unwrap();
    follower.nodes[0].kill();
    wait_source(&follower, NAME);
    for _ in 0..2 {
        let tip = provider.node().mine(1).unwrap()[0];
        client.until("the tip while our node is down", |client| client.is_on(&tip)).await;
    }
    // What is found now goes to the provider at once, and to the node when it is back.
    let coinbase = client.template.coinbase(provider.node().mining_script(), b"meanwhile");
    let solved = client.template.solve(&client.on, coinbase).unwrap();
    client.wire.submit(&solved).await.unwrap();
    Work::wait_mined(provider.node(), solved.hash(), PATIENCE);

    follower.nodes[0].restart().unwrap();
    copy_blocks(provider.node(), follower.node());
    Work::wait_mined(follower.node(), solved.hash(), PATIENCE);
    wait_source(&follower, follower.node().name());

    // And the other way round.
    provider.nodes[0].kill();
    drop(provider);
    until_ready(&follower, false).await;
    let tip = follower.node().mine(1).unwrap()[0];
    client.until("the tip without the provider", |client| client.is_on(&tip)).await;
    follower.assert_still_serving().await;
}

/// A provider on a branch of its own with less than our node is not followed; nor is one with the
/// same height.
#[tokio::test(flavor = "multi_thread")]
async fn the_node_wins_at_the_same_height() {
    let (provider, follower) = worlds(|setup| setup).await;
    let own = follower.node().mine(1).unwrap()[0];
    follower.synced_to(own).await;
    let other = provider.node().mine(1).unwrap()[0];
    assert_ne!(own, other);
    let followed = follower.server.shared().nodes.providers()[0].followed().clone();
    let mut tips = followed.tip();
    let reached = tips.wait_for(|tip| tip.as_ref().is_some_and(|state| state.tip.hash == other));
    tokio::time::timeout(PATIENCE, reached).await.expect("the provider's branch").unwrap();
    assert_eq!(follower.server.shared().nodes.tip().unwrap().hash, own);
    wait_source(&follower, follower.node().name());
    follower.assert_still_serving().await;
}
