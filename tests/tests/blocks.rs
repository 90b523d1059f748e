//! The saga of a found block: what the store says of it from the solution to its burial, whatever
//! happens to nodes, the store and the server in between.
#![expect(clippy::unwrap_used, reason = "a test says what it expected")]

use std::fs;
use std::path::{Path, PathBuf};

use bitcoin::{BlockHash, Witness};
use jds::client::template::Solved;
use jds::limits::BURIED_CONFIRMATIONS;
use jds_tests::{Miner, PATIENCE, Setup, Work, World, accepted, kept};
use rusqlite::Connection;
use signet::kinds::Kind;
use signet::{Node, NodeOptions, wait};
use store::{
    BlockState, BlockSummary, EventData, EventKind, NodeSubmission, Status, Store, SubmissionState,
};

/// The kinds of events that tell of blocks.
const OF_BLOCKS: [EventKind; 4] = [
    EventKind::BlockFound,
    EventKind::BlockSubmitted,
    EventKind::BlockConfirmed,
    EventKind::BlockOrphaned,
];

/// A regtest node that writes each RPC call into its log.
fn logging_node() -> Node {
    Node::start(NodeOptions::regtest().arg("-debug=rpc")).unwrap()
}

/// How often this node was given a block over RPC.
fn submissions(node: &Node) -> usize {
    let log = fs::read_to_string(node.debug_log()).unwrap();
    log.lines().filter(|line| line.contains("method=submitblock")).count()
}

/// A server at so many nodes with the same chain, which do not know of each other.
async fn world_of(nodes: usize) -> World {
    let nodes: Vec<Node> = (0..nodes).map(|_| logging_node()).collect();
    for hash in nodes[0].mine(2).unwrap() {
        for other in &nodes[1..] {
            other.submit(&nodes[0].block(&hash).unwrap()).unwrap();
        }
    }
    let world = Setup::new().start_on(nodes).await;
    world.synced().await;
    world
}

/// A miner whose template was accepted, and the block that it makes.
async fn solved(world: &World) -> (Miner, Solved) {
    let work = world.work();
    let mut miner = world.miner("alice").await;
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);
    (miner, work.solve(&template))
}

/// Waits until the store says this of a block.
#[track_caller]
fn wait_for(
    store: &dyn Store,
    hash: BlockHash,
    what: &str,
    wanted: impl Fn(&BlockSummary) -> bool,
) -> BlockSummary {
    let read = || store.block(&hash.to_string()).unwrap();
    wait::until(what, PATIENCE, || read().filter(|block| wanted(block)))
        .unwrap_or_else(|error| panic!("{error}; the store says {:#?}", read()))
}

/// What the store says of a block at a node.
#[track_caller]
fn at<'a>(block: &'a BlockSummary, node: &Node) -> &'a NodeSubmission {
    block.submissions.iter().find(|of| of.node == node.name()).unwrap()
}

#[track_caller]
fn wait_at(
    store: &dyn Store,
    hash: BlockHash,
    node: &Node,
    state: SubmissionState,
) -> BlockSummary {
    let what = format!("{} to be told as {state}", node.name());
    wait_for(store, hash, &what, |block| {
        block.submissions.iter().any(|of| of.node == node.name() && of.state == state)
    })
}

#[track_caller]
fn wait_state(store: &dyn Store, hash: BlockHash, state: BlockState) -> BlockSummary {
    wait_for(store, hash, &format!("the block to be told as {state}"), |b| b.state == state)
}

/// What was told of a block, in order: found, accepted by ..., confirmed.
#[track_caller]
fn told(store: &dyn Store, hash: BlockHash) -> Vec<String> {
    let hash = hash.to_string();
    let events = kept::events(store);
    let of_blocks = events.iter().filter(|event| OF_BLOCKS.contains(&event.event));
    let line = |data| match data {
        EventData::BlockFound(e) => (e.block_hash, "found".to_owned()),
        EventData::BlockSubmitted(e) => (e.block_hash, format!("{} {}", e.node, e.result)),
        EventData::BlockConfirmed(e) => (e.block_hash, format!("confirmed {}", e.confirmations)),
        EventData::BlockOrphaned(e) => (e.block_hash, "orphaned".to_owned()),
        other => panic!("{other:?}"),
    };
    let lines = of_blocks.map(|event| line(event.typed().unwrap()));
    lines.filter(|(of, _)| *of == hash).map(|(_, line)| line).collect()
}

fn found_files(world: &World) -> Vec<PathBuf> {
    let entries = fs::read_dir(world.data_dir().join("found-blocks")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[track_caller]
fn wait_files(world: &World, count: usize) -> Vec<PathBuf> {
    let what = format!("{count} files of found blocks");
    let is_it = |files: &Vec<PathBuf>| {
        files.len() == count && files.iter().all(|file| file.extension().is_none())
    };
    wait::until(&what, PATIENCE, || Some(found_files(world)).filter(is_it))
        .unwrap_or_else(|error| panic!("{error}: there are {:?}", found_files(world)))
}

/// Holds the write lock of the store until dropped.
fn lock_store(world: &World) -> Connection {
    let connection = Connection::open(world.data_dir().join("jds.sqlite")).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_recorded_and_told_step_by_step_until_it_is_buried() {
    let world = world_of(2).await;
    let (mut miner, solved) = solved(&world).await;
    miner.push(&solved).await;
    let (store, hash) = (world.store(), solved.block.block_hash());
    for node in &world.nodes {
        wait_at(&*store, hash, node, SubmissionState::Accepted);
    }
    let block = wait_for(&*store, hash, "one confirmation", |block| block.confirmations == 1);
    assert_eq!((block.state, &*block.user, block.height), (BlockState::Found, "alice", 3));
    let template = kept::templates(&*store, "alice").remove(0);
    assert_eq!(block.miner_template_hash, template.template_hash);
    assert_eq!(block.reward_sat, template.reward_sat);
    assert_eq!(block.tx_count as usize, solved.block.txdata.len());
    for node in &world.nodes {
        let of = at(&block, node);
        assert_eq!((of.attempts, &of.detail), (1, &None));
        assert!(of.latency_ms.unwrap() > 0.0);
    }
    let [first, second] = [0, 1].map(|node| format!("{} accepted", world.nodes[node].name()));
    let lines = told(&*store, hash);
    assert_eq!(lines[0], "found");
    assert!(lines[1..] == [first.clone(), second.clone()] || lines[1..] == [second, first]);
    assert!(found_files(&world).is_empty(), "the store alone holds it");

    world.node().mine(BURIED_CONFIRMATIONS - 1).unwrap();
    let block = wait_state(&*store, hash, BlockState::Confirmed);
    assert_eq!(block.confirmations, BURIED_CONFIRMATIONS);
    let lines = told(&*store, hash);
    assert_eq!(lines[3..], [format!("confirmed {BURIED_CONFIRMATIONS}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_is_told_as_sent_until_it_answers() {
    let world = world_of(2).await;
    let (mut miner, solved) = solved(&world).await;
    world.nodes[1].pause().unwrap();
    miner.push(&solved).await;
    let (store, hash) = (world.store(), solved.block.block_hash());
    wait_at(&*store, hash, &world.nodes[0], SubmissionState::Accepted);
    let block = wait_at(&*store, hash, &world.nodes[1], SubmissionState::Sent);
    assert_eq!(at(&block, &world.nodes[1]).latency_ms, None);
    assert_eq!(told(&*store, hash).len(), 2, "nobody is told before there is an answer");
    world.nodes[1].resume().unwrap();
    wait_at(&*store, hash, &world.nodes[1], SubmissionState::Accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_down_is_told_as_unknown_once_and_as_accepted_when_it_is_back() {
    let mut world = world_of(2).await;
    let (mut miner, solved) = solved(&world).await;
    world.nodes[1].stop().unwrap();
    miner.push(&solved).await;
    let (store, hash) = (world.store(), solved.block.block_hash());
    wait_at(&*store, hash, &world.nodes[0], SubmissionState::Accepted);
    let block = wait_at(&*store, hash, &world.nodes[1], SubmissionState::Unknown);
    assert!(at(&block, &world.nodes[1]).detail.is_some());
    world.nodes[1].restart().unwrap();
    let block = wait_at(&*store, hash, &world.nodes[1], SubmissionState::Accepted);
    assert!(at(&block, &world.nodes[1]).attempts > 1);
    let name = world.nodes[1].name();
    let lines: Vec<_> =
        told(&*store, hash).into_iter().filter(|line| line.starts_with(name)).collect();
    assert_eq!(lines, [format!("{name} unknown"), format!("{name} accepted")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_every_node_refuses_has_its_end_and_stays_known() {
    let setup = Setup::new().job_declaration("consensus_check = \"off\"");
    let world = setup.start().await;
    let coins = world.coins(1).await;
    let work = world.work();
    let mut miner = world.miner("alice").await;
    let sample = Kind::Payment.build(&coins[0]).unwrap();
    let mut txs = sample.txs;
    // OP_2 instead of the script that the output commits to.
    txs[0].input[0].witness = Witness::from_slice(&[[0x52]]);
    let template = miner.template_of(&work, txs, 0);
    accepted(&miner.declare(&template).await);
    let solved = work.solve(&template);
    miner.push(&solved).await;
    let (store, hash) = (world.store(), solved.block.block_hash());
    let block = wait_state(&*store, hash, BlockState::Rejected);
    let of = at(&block, world.node());
    assert_eq!(of.state, SubmissionState::Rejected);
    assert!(of.detail.as_deref().unwrap().contains("script"), "{of:?}");
    let lines = ["found".to_owned(), format!("{} rejected", world.node().name())];
    assert_eq!(told(&*store, hash), lines);
    drop((store, miner));

    // The same solution is no news after a restart either.
    let world = world.restart(|| ()).await;
    world.synced().await;
    let mut miner = world.miner("alice").await;
    miner.push(&solved).await;
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);
    let next = miner.solve_and_push(&work, &template).await;
    let store = world.store();
    wait_at(&*store, next, world.node(), SubmissionState::Accepted);
    assert_eq!(told(&*store, hash), lines);
    // And the end of a block that nobody took is not another one.
    world.node().mine(BURIED_CONFIRMATIONS).unwrap();
    wait_state(&*store, next, BlockState::Confirmed);
    assert_eq!(told(&*store, hash), lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_leaves_the_chain_and_comes_back_is_confirmed_in_the_end() {
    let world = world_of(1).await;
    let (mut miner, solved) = solved(&world).await;
    miner.push(&solved).await;
    let (store, hash) = (world.store(), solved.block.block_hash());
    wait_for(&*store, hash, "one confirmation", |block| block.confirmations == 1);
    let node = world.node();
    let ours = node.mine(1).unwrap()[0];
    wait_for(&*store, hash, "two confirmations", |block| block.confirmations == 2);
    let rival = node.reorg(2).unwrap();
    assert_eq!(rival.old_tip, ours);
    wait_for(&*store, hash, "no confirmation", |block| block.confirmations == 0);
    let mut tip = ours;
    for _ in 0..2 {
        tip = node.mine_block_on(&tip, &[]).unwrap();
    }
    assert_eq!(node.tip().unwrap(), tip);
    let block = wait_for(&*store, hash, "four confirmations", |block| block.confirmations == 4);
    assert_eq!(block.state, BlockState::Found);
    node.mine(BURIED_CONFIRMATIONS - 4).unwrap();
    wait_state(&*store, hash, BlockState::Confirmed);
    let lines = told(&*store, hash);
    assert_eq!(lines[2..], [format!("confirmed {BURIED_CONFIRMATIONS}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_whose_place_another_took_is_orphaned() {
    let world = world_of(1).await;
    let (mut miner, solved) = solved(&world).await;
    miner.push(&solved).await;
    let (store, hash) = (world.store(), solved.block.block_hash());
    wait_for(&*store, hash, "one confirmation", |block| block.confirmations == 1);
    let rival = world.node().reorg(1).unwrap();
    let block = wait_for(&*store, hash, "no confirmation", |block| block.confirmations == 0);
    assert_eq!(block.state, BlockState::Found, "that is not the end yet");
    world.node().mine(BURIED_CONFIRMATIONS - rival.new_blocks.len() as u32).unwrap();
    wait_state(&*store, hash, BlockState::Orphaned);
    assert_eq!(told(&*store, hash)[2..], ["orphaned"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_with_what_the_store_has() {
    let mut world = world_of(2).await;
    let (mut miner, solved) = solved(&world).await;
    let hash = solved.block.block_hash();
    world.nodes[1].stop().unwrap();
    miner.push(&solved).await;
    wait_at(&*world.store(), hash, &world.nodes[0], SubmissionState::Accepted);
    wait_at(&*world.store(), hash, &world.nodes[1], SubmissionState::Unknown);
    drop(miner);

    // First without the node that is down, then with it again.
    let config = world.config_file();
    let both = fs::read_to_string(&config).unwrap();
    let one = both[..both.rfind("[[node]]").unwrap()].to_owned();
    let mut world = world.restart(|| fs::write(&config, one).unwrap()).await;
    world.synced_to(hash).await;
    let store = world.store();
    world.nodes[1].restart().unwrap();
    let given = submissions(&world.nodes[0]);
    world.nodes[0].mine(1).unwrap();
    let block = wait_for(&*store, hash, "two confirmations", |block| block.confirmations == 2);
    assert_eq!(at(&block, &world.nodes[1]).state, SubmissionState::Unknown, "nobody's business");
    drop(store);

    let world = world.restart(|| fs::write(&config, both).unwrap()).await;
    let store = world.store();
    wait_at(&*store, hash, &world.nodes[1], SubmissionState::Accepted);
    Work::wait_mined(&world.nodes[1], hash, PATIENCE);
    assert_eq!(submissions(&world.nodes[0]), given, "it has answered long ago");
    world.nodes[0].mine(BURIED_CONFIRMATIONS - 2).unwrap();
    wait_state(&*store, hash, BlockState::Confirmed);
    let lines = told(&*store, hash);
    assert_eq!(lines.iter().filter(|line| *line == "found").count(), 1, "{lines:?}");
    assert_eq!(lines.len(), 5, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_can_not_write_delays_no_block_and_a_file_keeps_it_meanwhile() {
    let world = world_of(1).await;
    let (mut miner, solved) = solved(&world).await;
    let hash = solved.block.block_hash();
    let lock = lock_store(&world);
    miner.push(&solved).await;
    Work::wait_mined(world.node(), hash, PATIENCE);
    let [file] = <[PathBuf; 1]>::try_from(wait_files(&world, 1)).unwrap();
    assert_eq!(file.file_name().unwrap().to_str(), Some(&*hash.to_string()));
    let copy = world.data_dir().join("copy");
    fs::copy(&file, &copy).unwrap();
    assert_eq!(world.store().block(&hash.to_string()).unwrap(), None);
    drop(lock);
    wait_at(&*world.store(), hash, world.node(), SubmissionState::Accepted);
    wait_files(&world, 0);
    let lines = ["found".to_owned(), format!("{} accepted", world.node().name())];
    assert_eq!(told(&*world.store(), hash), lines);
    drop(miner);

    // Both places have it: it is one block all the same.
    let put_back = |from: &Path| fs::copy(from, &file).map(drop).unwrap();
    let world = world.restart(|| put_back(&copy)).await;
    wait_files(&world, 0);
    assert_eq!(submissions(world.node()), 1);
    assert_eq!(told(&*world.store(), hash), lines);
    world.node().mine(BURIED_CONFIRMATIONS - 1).unwrap();
    wait_state(&*world.store(), hash, BlockState::Confirmed);

    // A file of a block that has its end, and one of a block that the store never heard of, as a
    // version without a store left it.
    let world = world.restart(|| put_back(&copy)).await;
    wait_files(&world, 0);
    assert_eq!(told(&*world.store(), hash).len(), 3);
    let data_dir = world.data_dir().to_owned();
    let world = world
        .restart(|| {
            for name in ["jds.sqlite", "jds.stream"] {
                fs::remove_file(data_dir.join(name)).unwrap();
            }
            put_back(&copy);
        })
        .await;
    let block = wait_at(&*world.store(), hash, world.node(), SubmissionState::Accepted);
    assert_eq!(&*block.user, "alice");
    assert_eq!(
        block.reward_sat,
        solved.block.txdata[0].output.iter().map(|o| o.value.to_sat()).sum::<u64>()
    );
    assert_eq!(at(&block, world.node()).detail.as_deref(), Some("known already"));
    wait_files(&world, 0);
    wait_state(&*world.store(), hash, BlockState::Confirmed);
}

/// More blocks than a store that can not write holds in memory: all of them are recorded when it
/// can again.
#[tokio::test(flavor = "multi_thread")]
async fn no_block_is_lost_to_a_store_that_was_stalled() {
    let world = world_of(1).await;
    let work = world.work();
    let mut miner = world.miner("alice").await;
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);
    let lock = lock_store(&world);
    let count = store::limits::VOLATILE_BLOCKS_MAX + 2;
    let mut hashes = Vec::new();
    for number in 0..count {
        let extranonce = vec![number as u8; template.extranonce_bytes];
        let solved = template.solve(&extranonce, work.prev_hash, work.time, work.bits).unwrap();
        miner.push(&solved).await;
        hashes.push(solved.block.block_hash());
    }
    wait_files(&world, count);
    let store = world.store();
    let stalled = |status: &Status| matches!(status, Status::Stalled { .. });
    kept::wait_status(&*store, "the store to be stalled", stalled);
    let volatile = || store.metrics().volatile_total;
    wait::until_true("all blocks and answers to be held in memory", PATIENCE, || {
        volatile() >= 3 * count as u64
    })
    .unwrap();
    assert_eq!(found_files(&world).len(), count, "memory is no reason to remove a file");
    drop(lock);
    wait_files(&world, 0);
    for hash in hashes {
        wait_at(&*store, hash, world.node(), SubmissionState::Accepted);
        let lines = told(&*store, hash);
        assert_eq!(lines.iter().filter(|line| *line == "found").count(), 1, "{lines:?}");
    }
}
