//! From `PushSolution` to the chain: which job a solution belongs to, which solutions are none,
//! and every node gets the block.

use std::fs;
use std::time::Instant;

use bitcoin::{Block, BlockHash, Target, hashes::Hash};
use jds::client::template::{MinerTemplate, Solved};
use jds::client::{JdClient, SetupOptions};
use jds::limits::{SOLUTIONS_WITHOUT_BLOCK_BURST, SOLUTIONS_WITHOUT_BLOCK_INTERVAL};
use jds_tests::{Miner, PATIENCE, Work, World, accepted, http, kept};
use jds_wire::message::PushSolution;
use serde_json::{Value, json};
use signet::{Node, wait};

/// A node that writes each RPC call into its log.
fn logging_node() -> Node {
    Node::start(crate::options().arg("-debug=rpc").arg("-debug=ipc")).unwrap()
}

/// How often this node was given a block by the server.
fn submissions(node: &Node) -> usize {
    let log = fs::read_to_string(node.debug_log()).unwrap();
    log.lines().filter(|line| line.contains(crate::SUBMISSION)).count()
}

/// A world with one node that logs its calls, coins mature.
async fn logging_world() -> World {
    let node = logging_node();
    node.mine(1).unwrap();
    let world = crate::setup().start_on(vec![node]).await;
    world.synced().await;
    world
}

/// Two templates of the same work that differ, declared by the same miner.
async fn declare_two(miner: &mut Miner, work: &Work) -> (MinerTemplate, MinerTemplate) {
    let first = miner.template(work);
    let mut second = first.clone();
    second.coinbase.input[0].sequence = bitcoin::Sequence::from_consensus(7);
    accepted(&miner.declare(&first).await);
    accepted(&miner.declare(&second).await);
    (first, second)
}

/// Solves the template with its extranonce set to `fill`, so that each solution is another block.
#[track_caller]
fn solve_with(work: &Work, template: &MinerTemplate, fill: u8) -> Solved {
    let extranonce = vec![fill; template.extranonce_bytes];
    template.solve(&extranonce, work.prev_hash, work.time, work.bits).unwrap()
}

fn solution<'a>(solved: &'a Solved) -> PushSolution<'a> {
    let header = &solved.block.header;
    PushSolution {
        extranonce: &solved.extranonce,
        prev_hash: header.prev_blockhash.to_byte_array(),
        nonce: header.nonce,
        ntime: header.time,
        nbits: header.bits.to_consensus(),
        version: header.version.to_consensus() as u32,
    }
}

/// Waits until the node has the whole block, in its chain or beside it.
#[track_caller]
fn wait_stored(node: &Node, block: &Block) {
    let hash = block.block_hash();
    let what = format!("{} to have block {hash}", node.name());
    let stored = wait::until(&what, PATIENCE, || node.block(&hash).ok()).unwrap();
    assert_eq!(&stored, block);
}

/// The node's word on a branch that ends with this block.
fn branch_status(node: &Node, tip: BlockHash) -> Option<String> {
    let tips: Vec<Value> = node.call("getchaintips", &[]).unwrap();
    let branch = tips.iter().find(|branch| branch["hash"] == json!(tip))?;
    branch["status"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_of_the_newest_job_makes_its_block() {
    let world = logging_world().await;
    let mut miner = world.miner("alice").await;
    let work = world.work();
    let (_, newest) = declare_two(&mut miner, &work).await;
    let solved = work.solve(&newest);
    miner.push(&solved).await;
    world.assert_mined(solved.block.block_hash(), &newest.txs);
    wait_stored(world.node(), &solved.block);
}

/// How long it took until the block had left us, once for each.
#[tokio::test(flavor = "multi_thread")]
async fn the_time_until_a_block_has_left_is_told() {
    let world = crate::setup().api("").start().await;
    let value = |end: &str| {
        let metrics = http::get(world.api(), "/metrics").body;
        let name = format!("jds_block_sent_seconds_{end} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse::<f64>().ok())
    };
    assert_eq!((value("count"), value("sum")), (Some(0.0), Some(0.0)));
    let mut miner = world.miner("alice").await;
    let work = world.work();
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);
    let solved = work.solve(&template);
    let began = Instant::now();
    miner.push(&solved).await;
    world.assert_mined(solved.block.block_hash(), &template.txs);
    let told = || value("count").filter(|count| *count > 0.0);
    assert_eq!(wait::until("the time to be told", PATIENCE, told).unwrap(), 1.0);
    let (seconds, most) = (value("sum").unwrap(), began.elapsed().as_secs_f64());
    assert!(seconds > 0.0 && seconds < most, "{seconds} of {most}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_of_an_older_job_makes_its_block() {
    let world = logging_world().await;
    let mut miner = world.miner("alice").await;
    let work = world.work();
    let (older, newer) = declare_two(&mut miner, &work).await;
    // Another length of the extranonce in between must not be in the way either.
    let mut other = older.clone();
    other.extranonce_bytes = 8;
    let script = older.coinbase.input[0].script_sig.as_bytes();
    let shorter = script[..script.len() - 8].to_vec();
    other.coinbase.input[0].script_sig = shorter.into();
    accepted(&miner.declare(&other).await);

    // On regtest every second hash meets the target: one that does with this job alone.
    let target = Target::from_compact(work.bits);
    let solved = (1..=u8::MAX).map(|fill| solve_with(&work, &older, fill)).find(|solved| {
        let header = &solved.block.header;
        let mut block = newer.block(&solved.extranonce, work.prev_hash, header.time, work.bits);
        block.header.nonce = header.nonce;
        !target.is_met_by(block.block_hash())
    });
    let solved = solved.unwrap();
    miner.push(&solved).await;
    world.assert_mined(solved.block.block_hash(), &older.txs);
    wait_stored(world.node(), &solved.block);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_outlives_the_connection_that_declared_it() {
    let world = logging_world().await;
    let work = world.work();
    let template = {
        let mut before = world.miner("alice").await;
        let template = before.template(&work);
        accepted(&before.declare(&template).await);
        before.client.finish().await.unwrap();
        before.client.wait_closed(PATIENCE).await.unwrap();
        template
    };
    // A token ties the new connection to the user; nothing is declared on it.
    let mut again = world.miner("alice").await;
    let hash = again.solve_and_push(&work, &template).await;
    world.assert_mined(hash, &template.txs);
}

/// A solution is worth the same whoever brings it, also before they have said who they are.
#[tokio::test(flavor = "multi_thread")]
async fn anybodys_solution_makes_the_block_of_its_job() {
    let world = logging_world().await;
    let mut alice = world.miner("alice").await;
    let mut mallory = world.miner("mallory").await;
    let options = SetupOptions::default();
    let authority = Some(world.authority);
    let mut nobody = JdClient::connect(world.address(), authority, &options).await.unwrap();
    for named in [true, false] {
        let work = world.work();
        let template = alice.template(&work);
        accepted(&alice.declare(&template).await);
        // Newer, but of another parent or another length: not in the way.
        let mut other = template.clone();
        other.extranonce_bytes = 8;
        let script = template.coinbase.input[0].script_sig.as_bytes();
        other.coinbase.input[0].script_sig = script[..script.len() - 8].to_vec().into();
        accepted(&mallory.declare(&other).await);

        let solved = solve_with(&work, &template, 1);
        if named {
            mallory.push(&solved).await;
        } else {
            nobody.push_solution(solution(&solved)).await.unwrap();
        }
        let hash = solved.block.block_hash();
        world.assert_mined(hash, &template.txs);
        let block = kept::wait_block(&*world.store(), hash);
        assert_eq!(block.user, "alice", "the block is hers who declared it");
        world.synced_to(hash).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_for_the_tip_before_reaches_the_node_as_a_fork() {
    let world = logging_world().await;
    let work = world.work();
    let mut miner = world.miner("alice").await;
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);
    let solved = work.solve(&template);

    let rival = world.node().mine(1).unwrap()[0];
    world.synced_to(rival).await;
    miner.push(&solved).await;
    wait_stored(world.node(), &solved.block);
    let hash = solved.block.block_hash();
    assert_eq!(branch_status(world.node(), hash).as_deref(), Some("valid-headers"));
    assert_eq!(world.node().tip().unwrap(), rival, "the first block at a height stays");

    // The fork can still win: the next block may come on top of it.
    let next = world.node().mine_block_on(&hash, &[]).unwrap();
    world.synced_to(next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_solution_twice_is_one_submission() {
    let world = logging_world().await;
    let work = world.work();
    let mut miner = world.miner("alice").await;
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);
    let solved = work.solve(&template);
    let mut second = world.miner("alice").await;
    miner.push(&solved).await;
    miner.push(&solved).await;
    second.push(&solved).await;
    let hash = solved.block.block_hash();
    world.assert_mined(hash, &template.txs);

    // Once the next block is in the chain, the last of the three has long been looked at.
    world.synced_to(hash).await;
    let work = world.work();
    let template = second.template(&work);
    accepted(&second.declare(&template).await);
    let hash = second.solve_and_push(&work, &template).await;
    world.assert_mined(hash, &template.txs);
    assert_eq!(submissions(world.node()), 2, "one for each block");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_meets_no_target_is_not_submitted_and_the_connection_lives() {
    let world = logging_world().await;
    let work = world.work();
    let mut miner = world.miner("alice").await;
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);
    let good = solve_with(&work, &template, 1);
    let target = Target::from_compact(work.bits);

    // A hash above the target, whatever target the message claims.
    let mut header = good.block.header;
    while target.is_met_by(header.block_hash()) {
        header.nonce = header.nonce.wrapping_add(1);
    }
    for nbits in [work.bits.to_consensus(), 0x2100_ffff, 0x2200_ffff, u32::MAX] {
        let bad = PushSolution { nonce: header.nonce, nbits, ..solution(&good) };
        miner.client.push_solution(bad).await.unwrap();
    }
    // No job has such an extranonce, nor builds on a block that nobody knows.
    for extranonce in [&[][..], &[1; 15], &[1; 17], &[1; 32]] {
        let other = PushSolution { extranonce, ..solution(&good) };
        miner.client.push_solution(other).await.unwrap();
    }
    miner.token().await;

    let hash = good.block.block_hash();
    miner.push(&good).await;
    world.assert_mined(hash, &template.txs);
    assert_eq!(submissions(world.node()), 1, "the good one only");
    world.assert_still_serving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_is_held_to_our_target_and_not_to_its_message() {
    let world = logging_world().await;
    let mut miner = world.miner("alice").await;
    // Harder than the chain's, of no meaning, negative, and zero.
    for nbits in [0x1d00_ffff, u32::MAX, 0x2080_0001, 0] {
        let work = world.work();
        let template = miner.template(&work);
        accepted(&miner.declare(&template).await);
        let solved = work.solve(&template);
        miner.client.push_solution(PushSolution { nbits, ..solution(&solved) }).await.unwrap();
        let hash = solved.block.block_hash();
        world.assert_mined(hash, &template.txs);
        assert_eq!(world.node().block(&hash).unwrap().header.bits, work.bits);
        world.synced_to(hash).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn version_bits_that_nobody_may_roll_make_a_block_all_the_same() {
    let world = logging_world().await;
    let mut miner = world.miner("alice").await;
    // Inside of the mask of BIP 323, beside it below and above, and the sign bit.
    for version in [0x3fff_e000, 0x2000_0001, 0x6000_0000, 0x7fff_ffff] {
        let work = world.work();
        let template = miner.template(&work);
        accepted(&miner.declare(&template).await);
        let rolled = MinerTemplate { version, ..template.clone() };
        let solved = work.solve(&rolled);
        assert_eq!(solved.block.header.version.to_consensus() as u32, version);
        miner.push(&solved).await;
        let hash = solved.block.block_hash();
        world.assert_mined(hash, &template.txs);
        world.synced_to(hash).await;
    }
}

/// Two nodes with the same chain that do not know of each other, and a server for both.
async fn world_of_two() -> World {
    let (first, second) = (logging_node(), logging_node());
    for hash in first.mine(2).unwrap() {
        second.submit(&first.block(&hash).unwrap()).unwrap();
    }
    let world = crate::setup().start_on(vec![first, second]).await;
    world.synced().await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_gets_the_block() {
    let world = world_of_two().await;
    let before = submissions(&world.nodes[1]);
    let work = world.work();
    let mut miner = world.miner("alice").await;
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);
    let hash = miner.solve_and_push(&work, &template).await;
    for node in &world.nodes {
        Work::wait_mined(node, hash, PATIENCE);
    }
    assert_eq!(submissions(&world.nodes[0]), 1);
    assert_eq!(submissions(&world.nodes[1]) - before, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_delays_no_other_and_gets_the_block_when_it_is_back() {
    for down in [0, 1] {
        let mut world = world_of_two().await;
        let work = world.work();
        let mut miner = world.miner("alice").await;
        let template = miner.template(&work);
        accepted(&miner.declare(&template).await);

        world.nodes[down].stop().unwrap();
        let hash = miner.solve_and_push(&work, &template).await;
        Work::wait_mined(&world.nodes[1 - down], hash, PATIENCE);

        world.nodes[down].restart().unwrap();
        Work::wait_mined(&world.nodes[down], hash, PATIENCE);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_delays_no_other() {
    let world = world_of_two().await;
    let work = world.work();
    let mut miner = world.miner("alice").await;
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);
    world.nodes[0].pause().unwrap();
    let hash = miner.solve_and_push(&work, &template).await;
    Work::wait_mined(&world.nodes[1], hash, PATIENCE);
    world.nodes[0].resume().unwrap();
    Work::wait_mined(&world.nodes[0], hash, PATIENCE);
}

/// Work that fills every thread for such work, and whatever else waits for one, is not in front of
/// a found block.
#[test]
fn a_found_block_waits_for_no_other_work() {
    const BLOCKING_THREADS: usize = 4;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = logging_world().await;
        let work = world.work();
        let mut miner = world.miner("alice").await;
        let template = miner.template(&work);
        accepted(&miner.declare(&template).await);
        let (busy, end) = std::sync::mpsc::channel::<()>();
        let end = std::sync::Arc::new(std::sync::Mutex::new(end));
        for _ in 0..BLOCKING_THREADS * 4 {
            let end = std::sync::Arc::clone(&end);
            tokio::task::spawn_blocking(move || end.lock().unwrap().recv().unwrap_err());
        }
        let hash = miner.solve_and_push(&work, &template).await;
        world.assert_mined(hash, &template.txs);
        drop(busy);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_solutions_slows_down_its_own_connection_alone_and_none_is_dropped() {
    let world = logging_world().await;
    let work = world.work();
    let mut flood = world.miner("mallory").await;
    let own = flood.template(&work);
    accepted(&flood.declare(&own).await);
    let mut miner = world.miner("alice").await;
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);

    let good = solve_with(&work, &own, 1);
    let start = Instant::now();
    // The burst, and three more: each of the last two waits for the one before.
    let interval = SOLUTIONS_WITHOUT_BLOCK_INTERVAL;
    let burst = SOLUTIONS_WITHOUT_BLOCK_BURST;
    for nonce in 0..burst + 3 {
        let bad = PushSolution { extranonce: &[1; 15], nonce, ..solution(&good) };
        flood.client.push_solution(bad).await.unwrap();
    }
    // Others are looked at meanwhile.
    let hash = miner.solve_and_push(&work, &template).await;
    world.assert_mined(hash, &template.txs);
    // Answered once all that came before it was taken in.
    flood.token().await;
    let elapsed = start.elapsed();
    assert!(elapsed >= 2 * interval, "{elapsed:?} for {burst} solutions and three more");
    // On the tip before now, so that it becomes no tip, but the node has it.
    flood.push(&good).await;
    wait_stored(world.node(), &good.block);
}
