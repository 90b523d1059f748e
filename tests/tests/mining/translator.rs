//! The reference proxy between miners of Stratum V1 and our port of Stratum V2.

use bitcoin::hashes::Hash;
use jds_tests::reference::translator;
use jds_tests::sv1::{Job, Mined, Sv1Client, is_block, is_share};
use jds_tests::{PATIENCE, Setup, World, kept};
use serde_json::json;
use signet::wait;
use store::{EventKind, Protocol, ShareSubmitted, TemplateSource};

use crate::{BLOCKS_BEFORE, events, shares};

async fn world() -> World {
    let world = Setup::new().mining("").start().await;
    world.node().mine(BLOCKS_BEFORE).unwrap();
    world.synced().await;
    world
}

/// Mines until shares of all these workers are stored.
async fn mine_shares(world: &World, miners: &mut [(Sv1Client, &str)], workers: &[&str]) {
    let stored = |worker: &str| -> Option<ShareSubmitted> {
        shares(world).into_iter().find(|share| share.accepted && share.worker == worker)
    };
    let began = std::time::Instant::now();
    let mut extranonce2 = 0;
    while !workers.iter().all(|worker| stored(worker).is_some()) {
        assert!(began.elapsed() < PATIENCE, "no shares of {workers:?}: {:?}", shares(world));
        extranonce2 += 1;
        for (miner, user) in &mut *miners {
            // Each is a block as well, and the next miner may be late with its own.
            let share = miner.mine(extranonce2, is_share);
            let id = miner.submit(user, &share).await;
            let _ = miner.answer(id).await.unwrap();
        }
    }
    for worker in workers {
        let share = stored(worker).unwrap();
        assert_eq!((&*share.user, share.template_source), ("alice", TemplateSource::Pool));
    }
}

/// Mines a block that is the node's tip. The shares of before were blocks too, and the last of them may still
/// be on their way.
async fn mine_block(world: &World, miner: &mut Sv1Client, user: &str) -> Mined {
    let on_tip = |job: &Job| {
        let parent: &[u8] = job.notify.prev_hash.as_ref();
        parent == world.node().tip().unwrap().as_byte_array()
    };
    for attempt in 0..20 {
        while !miner.job.as_ref().is_some_and(on_tip) {
            miner.next_job().await.unwrap();
        }
        let block = miner.mine((1 << 20) + attempt, |header, difficulty| {
            is_block(header, difficulty) && is_share(header, difficulty)
        });
        let (id, hash) = (miner.submit(user, &block).await, block.header.block_hash());
        if miner.answer(id).await.unwrap() == Ok(json!(true)) {
            kept::wait_block(&*world.store(), hash);
            wait::until("the node to know the block", PATIENCE, || world.node().block(&hash).ok())
                .unwrap();
            if world.node().tip().unwrap() == hash {
                return block;
            }
        }
    }
    panic!("others are always faster");
}

async fn translated(aggregate: bool, workers: &[&str]) {
    let world = world().await;
    let key = world.authority.to_string();
    let (proxy, address) = translator(world.mining(), &key, "alice", aggregate);
    proxy.wait_listening(address);
    let mut miners = Vec::new();
    for user in ["alice.rig1", "alice.rig2"] {
        miners.push((Sv1Client::mining(address, user).await, user));
    }
    mine_shares(&world, &mut miners, workers).await;
    for event in events(&world, EventKind::ShareSubmitted) {
        assert_eq!(event.protocol, Protocol::StratumV2, "{event:?}");
    }
    // A block, and work on the next one.
    let (miner, user) = &mut miners[0];
    let block = mine_block(&world, miner, user).await;
    world.assert_mined(block.header.block_hash(), &[]);
    let hash = block.header.block_hash();
    loop {
        let job = miner.next_job().await.unwrap();
        let parent: &[u8] = job.notify.prev_hash.as_ref();
        if parent == hash.as_byte_array() {
            break;
        }
    }
    let stored = wait::until("our server to know its block", PATIENCE, || {
        world.store().block(&hash.to_string()).unwrap()
    });
    assert_eq!(stored.unwrap().user, "alice");
}

/// All miners on one channel: each share names its worker (extension 0x0002).
#[tokio::test(flavor = "multi_thread")]
async fn miners_of_one_channel_are_told_apart() {
    translated(true, &["rig1", "rig2"]).await;
}

/// A channel for each.
#[tokio::test(flavor = "multi_thread")]
async fn miners_have_channels_of_their_own() {
    translated(false, &["rig1", "rig2"]).await;
}
