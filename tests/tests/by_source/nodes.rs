//! The node under the server: its tip moves in the middle of a declaration, comes late, is
//! reorganised away; it is down at the start, is killed, hangs, or has a brother.
//!
//! In each case the miner gets the answer of the real cause, the connection lives, and nothing has
//! to be restarted by hand.

use std::time::{Duration, Instant};

use bitcoin::{OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use bitcoin::{absolute::LockTime, hashes::Hash, transaction::Version};
use jds::client::ClientError;
use jds_tests::{Miner, PATIENCE, Work, World, accepted, rejected};
use signet::{Node, subsidy_sat, wait};

const STALE: &str = "stale-chain-tip";

/// The server answers other requests of the connection, and nothing else has come from it.
async fn assert_no_answer_yet(miner: &mut Miner) {
    miner.token().await;
    let come = miner.client.recv_within(Duration::ZERO).await;
    assert!(matches!(come, Err(ClientError::Timeout { .. })), "{come:?}");
}

/// A transaction that no node has, nor could have: the server does not look at what it spends
/// before the node does.
fn unseen() -> Transaction {
    let previous_output = OutPoint { txid: Txid::from_byte_array([7; 32]), vout: 0 };
    let script_sig = ScriptBuf::new();
    let (sequence, witness) = (Sequence::MAX, Witness::from_slice(&[[1; 8]]));
    let input = vec![TxIn { previous_output, script_sig, sequence, witness }];
    let output = vec![TxOut { value: bitcoin::Amount::ZERO, script_pubkey: ScriptBuf::new() }];
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output }
}

/// Work for an empty block, so many blocks above the one that the node works on.
fn ahead(work: &Work, node: &Node, blocks: u32) -> Work {
    let height = work.height + blocks;
    let subsidy_sat = subsidy_sat(height, node.chain().halving_interval());
    Work { height, subsidy_sat, fees_sat: 0, txs: Vec::new(), ..work.clone() }
}

/// The details of a rejection name both heights.
#[track_caller]
fn assert_heights(details: &str, expected: u32, actual: u32) {
    let heights = format!("expected={expected} actual={actual}");
    assert!(details.contains(&heights), "{heights:?} is not in: {details}");
}

/// Waits until a node of the server is ready, or is not any more.
async fn wait_ready(world: &World, index: usize, ready: bool) {
    let mut state = world.server.shared().nodes.all()[index].state();
    let reached = state.wait_for(|state| state.is_ready() == ready);
    let reached = tokio::time::timeout(PATIENCE, reached).await.map(|state| state.is_ok());
    assert_eq!(reached, Ok(true), "waited for node {index} to be ready: {ready}");
}

/// Waits until the tip comes from this node.
fn wait_active(world: &World, name: &str) {
    let active = || world.server.shared().nodes.active().map(|node| node.name().to_owned());
    wait::until_true("the tip to come from the node", PATIENCE, || {
        active().is_some_and(|a| a == name)
    })
    .unwrap_or_else(|error| panic!("{error}: wanted {name}, it is {:?}", active()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_between_question_and_answer_makes_the_declaration_stale() {
    let world = crate::setup().start().await;
    world.coins(1).await;
    let mut miner = world.miner("alice").await;
    let work = world.work();
    let template = miner.template_of(&work, vec![unseen()], 0);
    let request_id = miner.send_declaration(&template).await;
    assert_eq!(miner.asked().await, (request_id, vec![0]));

    world.node().mine(1).unwrap();
    world.synced().await;
    miner.supply(request_id, &[template.raw_tx(0)]).await;
    let (answered, outcome) = miner.verdict().await;
    assert_eq!(answered, request_id);
    assert_heights(rejected(&outcome, STALE, "coinbase-height"), work.height + 1, work.height);

    // The same connection goes on.
    let template = miner.template(&world.work());
    accepted(&miner.declare(&template).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declaration_one_block_ahead_is_accepted_when_our_node_follows_in_time() {
    let world = crate::setup().job_declaration("tip_grace_ms = 30000").start().await;
    world.coins(1).await;
    let mut miner = world.miner("alice").await;
    let next = ahead(&world.work(), world.node(), 1);
    let template = miner.template(&next);
    let request_id = miner.send_declaration(&template).await;
    assert_no_answer_yet(&mut miner).await;

    let mined = world.node().mine(1).unwrap();
    let (answered, outcome) = miner.verdict().await;
    assert_eq!(answered, request_id);
    accepted(&outcome);

    // And it is worth something.
    let work = Work { prev_hash: mined[0], ..world.work() };
    let hash = miner.solve_and_push(&work, &template).await;
    world.assert_mined(hash, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declaration_one_block_ahead_is_stale_when_the_grace_is_over() {
    const GRACE: Duration = Duration::from_millis(700);
    let line = format!("tip_grace_ms = {}", GRACE.as_millis());
    let world = crate::setup().job_declaration(&line).start().await;
    world.coins(1).await;
    let mut miner = world.miner("alice").await;
    let work = world.work();
    let template = miner.template(&ahead(&work, world.node(), 1));
    let start = Instant::now();
    let outcome = miner.declare(&template).await;
    let elapsed = start.elapsed();
    assert_heights(rejected(&outcome, STALE, "coinbase-height"), work.height, work.height + 1);
    assert!(elapsed >= GRACE, "the answer came after {elapsed:?}");

    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_height_is_waited_for() {
    // Longer than a client waits for an answer.
    let world = crate::setup().job_declaration("tip_grace_ms = 60000").start().await;
    world.coins(1).await;
    let mut miner = world.miner("alice").await;
    let work = world.work();
    let mut behind = work.clone();
    behind.height -= 1;
    for other in [behind, ahead(&work, world.node(), 2), ahead(&work, world.node(), 1_000_000)] {
        let template = miner.template(&other);
        let outcome = miner.declare(&template).await;
        assert_heights(rejected(&outcome, STALE, "coinbase-height"), work.height, other.height);
    }
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tip_follows_a_reorganisation() {
    let world = crate::setup().start().await;
    world.coins(1).await;
    let mut miner = world.miner("alice").await;
    let old = world.work();
    let template = miner.template(&old);
    accepted(&miner.declare(&template).await);

    let reorg = world.node().reorg(2).unwrap();
    world.synced_to(*reorg.new_blocks.last().unwrap()).await;
    let outcome = miner.declare(&template).await;
    assert_heights(rejected(&outcome, STALE, "coinbase-height"), old.height + 1, old.height);

    let work = world.work();
    assert_eq!(work.height, old.height + 1);
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);
    let hash = miner.solve_and_push(&work, &template).await;
    world.assert_mined(hash, &template.txs);
}

/// A declaration names a height and no block: after a reorganisation to a branch of equal height
/// it is as good as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_the_old_branch_makes_a_block_on_a_new_one_of_the_same_height() {
    let world = crate::setup().start().await;
    world.coins(1).await;
    let mut miner = world.miner("alice").await;
    let old = world.work();
    let template = miner.template(&old);
    accepted(&miner.declare(&template).await);

    let node = world.node();
    node.invalidate(&old.prev_hash).unwrap();
    let rival = node.mine(1).unwrap()[0];
    assert_ne!(rival, old.prev_hash);
    world.synced_to(rival).await;
    let work = world.work();
    assert_eq!((work.prev_hash, work.height), (rival, old.height));

    accepted(&miner.declare(&template).await);
    let hash = miner.solve_and_push(&work, &template).await;
    world.assert_mined(hash, &template.txs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_down_at_the_start_is_taken_up_when_it_comes() {
    let mut node = Node::start(crate::options()).unwrap();
    node.mine(3).unwrap();
    let work = Work::of(&node);
    node.stop().unwrap();
    let mut world = crate::setup().job_declaration("tip_grace_ms = 200").start_on(vec![node]).await;

    let mut miner = world.miner("alice").await;
    let template = miner.template(&work);
    rejected(&miner.declare(&template).await, STALE, "no-tip");

    world.nodes[0].restart().unwrap();
    world.synced().await;
    // The same connection, the same server.
    accepted(&miner.declare(&template).await);
    let hash = miner.solve_and_push(&world.work(), &template).await;
    world.assert_mined(hash, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declaration_waits_for_a_node_that_is_just_starting() {
    let mut node = Node::start(crate::options()).unwrap();
    node.mine(3).unwrap();
    let work = Work::of(&node);
    node.stop().unwrap();
    let mut world =
        crate::setup().job_declaration("tip_grace_ms = 60000").start_on(vec![node]).await;
    let mut miner = world.miner("alice").await;
    let template = miner.template(&work);
    let request_id = miner.send_declaration(&template).await;
    assert_no_answer_yet(&mut miner).await;
    world.nodes[0].restart().unwrap();
    let (answered, outcome) = miner.verdict().await;
    assert_eq!(answered, request_id);
    accepted(&outcome);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_is_lived_without_and_taken_up_again() {
    let mut world = crate::setup().start().await;
    world.coins(1).await;
    let mut miner = world.miner("alice").await;
    let work = world.work();
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);

    // Writes the blocks to disk: a regtest node that dies otherwise starts from nothing.
    world.node().call::<serde_json::Value>("gettxoutsetinfo", &[]).unwrap();
    world.nodes[0].kill();
    wait_ready(&world, 0, false).await;
    // The last known tip is still the best guess: work on it can become a block.
    accepted(&miner.declare(&template).await);
    let mut other = world.miner("bob").await;
    accepted(&other.declare(&template).await);

    // A solution that finds no node waits for it.
    let hash = miner.solve_and_push(&work, &template).await;
    miner.token().await;
    world.nodes[0].restart().unwrap();
    world.assert_mined(hash, &template.txs);
    world.assert_still_serving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_holds_nobody_up() {
    let world = crate::setup().start().await;
    world.coins(1).await;
    let mut miner = world.miner("alice").await;
    let work = world.work();
    let template = miner.template(&work);
    world.node().pause().unwrap();
    let start = Instant::now();
    // More than once: a first one may find an answer of before.
    for user in ["bob", "carol", "dave"] {
        let mut other = world.miner(user).await;
        accepted(&other.declare(&template).await);
    }
    accepted(&miner.declare(&template).await);
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(5), "four declarations took {elapsed:?}");

    let hash = miner.solve_and_push(&work, &template).await;
    miner.token().await;
    world.node().resume().unwrap();
    world.assert_mined(hash, &template.txs);
    world.assert_still_serving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_node_serves_while_the_first_is_down() {
    let (mut first, second) =
        (Node::start(crate::options()).unwrap(), Node::start(crate::options()).unwrap());
    for hash in second.mine(3).unwrap() {
        first.submit(&second.block(&hash).unwrap()).unwrap();
    }
    first.stop().unwrap();
    let mut world = crate::setup().start_on(vec![first, second]).await;
    let work = Work::of(&world.nodes[1]);
    world.synced_to(work.prev_hash).await;
    wait_active(&world, world.nodes[1].name());
    let mut miner = world.miner("alice").await;
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);

    // Equally high, the first configured one is preferred.
    world.nodes[0].restart().unwrap();
    wait_active(&world, world.nodes[0].name());
    accepted(&miner.declare(&template).await);

    // The higher one is believed, whatever the order.
    let tip = world.nodes[1].mine(1).unwrap()[0];
    world.synced_to(tip).await;
    wait_active(&world, world.nodes[1].name());
    let work = Work::of(&world.nodes[1]);
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);

    // When it goes away, the one that is left counts.
    world.nodes[1].kill();
    wait_active(&world, world.nodes[0].name());
    let left = Work::of(&world.nodes[0]);
    world.synced_to(left.prev_hash).await;
    let template = miner.template(&left);
    accepted(&miner.declare(&template).await);
}
