//! The planned end of the server: what miners had sent by then is judged.

use std::collections::BTreeSet;

use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use jds::limits::{SHUTDOWN_READ_LIMIT, SHUTDOWN_READ_QUIET};
use jds_tests::sv1::{Job, Sv1Client, is_block};
use jds_tests::{Setup, World, accepted, kept};
use serde_json::json;
use store::{EventData, EventKind};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::{BLOCKS_BEFORE, extended};

/// More than is read before the server hears that it is to end.
const SHARES: usize = 200;

async fn world() -> World {
    let world = Setup::new().mining("").start().await;
    world.node().mine(BLOCKS_BEFORE).unwrap();
    world.synced().await;
    world
}

/// A miner with a job on the tip: work may follow a new tip a moment later than the server.
async fn miner_of_v1(world: &World, user: &str) -> Sv1Client {
    let mut miner = Sv1Client::mining(world.mining_v1(), user).await;
    let tip = world.node().tip().unwrap();
    let on_tip = |job: &Job| job.notify.prev_hash.as_ref() == tip.to_byte_array();
    while !miner.job.as_ref().is_some_and(on_tip) {
        miner.next_job().await.unwrap();
    }
    miner
}

/// Each of these shares counted, and the last is the node's tip.
fn assert_judged(world: &World, shares: &[BlockHash]) {
    let all = kept::events(&*world.store());
    let accepted: BTreeSet<String> = kept::payloads(&all, EventKind::ShareSubmitted)
        .into_iter()
        .map(|data| match data {
            EventData::ShareSubmitted(share) => {
                assert!(share.accepted, "{share:?}");
                share.share_hash
            }
            other => panic!("no share: {other:?}"),
        })
        .collect();
    let sent: BTreeSet<String> = shares.iter().map(BlockHash::to_string).collect();
    assert_eq!(sent.difference(&accepted).count(), 0, "of {} sent", sent.len());
    assert_eq!(Some(&world.node().tip().unwrap()), shares.last());
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_and_a_block_that_were_sent_before_it_are_judged() {
    let world = world().await;
    let (mut miner, mut channel) = extended(&world, "alice.v2").await;
    let tip = world.node().tip().unwrap();
    while channel.parent().map(|(hash, _)| hash) != Some(tip) {
        channel.hear(&miner.recv().await.unwrap());
    }
    let mut shares: Vec<_> =
        (0..SHARES).map(|_| channel.mine_share_only().expect("a share")).collect();
    shares.push(channel.mine_block().expect("a block"));
    for share in &shares {
        miner.queue(&channel.message(share).unwrap()).unwrap();
    }
    miner.flush().await.unwrap();
    let world = world.restart(|| {}).await;
    let shares: Vec<_> = shares.iter().map(|share| share.hash()).collect();
    assert_judged(&world, &shares);
}

#[tokio::test(flavor = "multi_thread")]
async fn and_a_block_of_stratum_v1_as_well() {
    let world = world().await;
    let mut miner = miner_of_v1(&world, "alice.v1").await;
    // Each share is a block here: so many other lines in front of one.
    let block = miner.mine(1, is_block);
    for _ in 0..SHARES {
        miner.request("mining.extranonce.subscribe", json!([])).await;
    }
    miner.submit("alice.v1", &block).await;
    let world = world.restart(|| {}).await;
    assert_judged(&world, &[block.header.block_hash()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_that_was_sent_before_it_is_a_block() {
    let world = world().await;
    let work = world.work();
    let mut miner = world.miner("alice").await;
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);
    let block = miner.solve_and_push(&work, &template).await;
    let world = world.restart(|| {}).await;
    world.assert_mined(block, &work.txs);
}

/// A line is half there when the server ends, and nothing comes for longer than it takes for silence. False
/// where this machine was too slow for the end of the line to be in time.
async fn half_a_line_and_then_the_rest() -> bool {
    let world = world().await;
    let mut miner = miner_of_v1(&world, "alice.v1").await;
    let block = miner.mine(1, is_block);
    let params = Sv1Client::submission("alice.v1", &block);
    let line = json!({"id": 77, "method": "mining.submit", "params": params}).to_string() + "\n";
    let (half, rest) = line.split_at(line.len() / 2);
    miner.send_raw(half.as_bytes()).await;
    let (address, rest) = (world.mining_v1(), rest.to_owned());
    let sending = tokio::spawn(async move {
        // Who ends does not listen any more.
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        sleep(3 * SHUTDOWN_READ_QUIET).await;
        miner.send_raw(rest.as_bytes()).await;
    });
    let begun = Instant::now();
    let world = world.restart(|| {}).await;
    sending.await.unwrap();
    let tip = world.node().tip().unwrap();
    let is_slow = begun.elapsed() > SHUTDOWN_READ_LIMIT - Duration::from_millis(500);
    if tip != block.header.block_hash() && is_slow {
        return false;
    }
    assert_judged(&world, &[block.header.block_hash()]);
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_which_only_half_has_come_is_waited_for() {
    const TRIES: usize = 5;
    for _ in 0..TRIES {
        if half_a_line_and_then_the_rest().await {
            return;
        }
    }
    panic!("this machine never sent the end of a line within {SHUTDOWN_READ_LIMIT:?}");
}
