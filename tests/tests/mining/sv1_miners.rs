//! Stratum V1 miners on the pool's templates, from the line to the chain.

use std::path::Path;

use bitcoin::hashes::Hash;
use jds_tests::reference::{Running, miner, minerd};
use jds_tests::sv1::{Job, Sv1Client, is_block, is_share};
use jds_tests::{PATIENCE, Setup, World};
use serde_json::json;
use signet::wait;
use store::{EventData, EventKind, Protocol, Role, TemplateSource};

use crate::{BLOCKS_BEFORE, events, extended, shares, wait_event};

/// A node that has left its initial download, and a server.
async fn world(mining: &str) -> World {
    let world = Setup::new().mining(mining).start().await;
    world.node().mine(BLOCKS_BEFORE).unwrap();
    world.synced().await;
    world
}

/// A rate at which each hash is a share for who asks for that; half of all hashes are blocks.
const EACH_HASH: &str = "shares_per_minute = 600.0\n";

/// Two blocks of a miner that is a process of its own: the second shows that a new tip reached it.
fn mines_blocks(world: &World, user: &str, device: &Running) {
    let before = world.node().height().unwrap();
    for height in before + 1..=before + 2 {
        let what = format!("a block at height {height}");
        let hash = wait::until(&what, PATIENCE, || world.node().block_hash(height).ok())
            .unwrap_or_else(|error| panic!("{error}; {}", device.log_end()));
        let stored = wait::until("our server to know its block", PATIENCE, || {
            world.store().block(&hash.to_string()).unwrap()
        });
        let stored = stored.unwrap();
        assert_eq!((stored.user.as_str(), stored.template_source), (user, TemplateSource::Pool));
    }
    let share = wait::until("an accepted share in the log", PATIENCE, || {
        shares(world).into_iter().find(|share| share.accepted && share.user == user)
    });
    let share = share.unwrap_or_else(|error| panic!("{error}; {}", device.log_end()));
    assert_eq!((share.worker.as_str(), share.template_source), ("rig1", TemplateSource::Pool));
    assert!(share.difficulty > 0.0);
}

/// Our own miner always; cpuminer, which shares no line of code with us, where it is installed.
#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_miners_on_a_processor_are_in_the_chain() {
    // Both find a share in a second.
    let world = world("").await;
    let args = [world.mining_v1().to_string(), "alice.rig1".to_owned()];
    let own = miner("sv1-miner", Path::new(env!("CARGO_BIN_EXE_sv1-miner")), &args);
    mines_blocks(&world, "alice", &own);
    drop(own);
    if let Some(minerd) = minerd(world.mining_v1(), "bob.rig1") {
        mines_blocks(&world, "bob", &minerd);
        let said = wait::until_true("cpuminer to say that a share was accepted", PATIENCE, || {
            minerd.has_said("(yay!!!)")
        });
        said.unwrap_or_else(|error| panic!("{error}; {}", minerd.log_end()));
    }
    for kind in [EventKind::ShareSubmitted, EventKind::MinerConnected] {
        for event in events(&world, kind) {
            assert_eq!(event.protocol, Protocol::StratumV1, "{event:?}");
        }
    }
    wait_event(&world, EventKind::MinerDisconnected, |event| {
        matches!(event, EventData::MinerDisconnected(gone)
            if gone.user.as_deref() == Some("alice") && gone.role == Role::Mining)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_in_the_store_already() {
    let world = world(EACH_HASH).await;
    let mut client = Sv1Client::mining(world.mining_v1(), "alice.rig1").await;
    let answer = client.ask("mining.authorize", json!(["bob.rig2", ""])).await.unwrap();
    assert_eq!(answer, Ok(json!(true)), "several users of a pool on one connection");
    client.ask("mining.suggest_difficulty", json!([1e-10])).await.unwrap().unwrap();
    client.next_job().await.unwrap();
    for (number, user) in ["alice.rig1", "bob.rig2"].into_iter().enumerate() {
        let share = client.mine(number as u64, |header, difficulty| {
            is_share(header, difficulty) && !is_block(header, difficulty)
        });
        let id = client.submit(user, &share).await;
        assert_eq!(client.answer(id).await.unwrap(), Ok(json!(true)));
        let hash = share.header.block_hash().to_string();
        let stored = shares(&world)
            .into_iter()
            .find(|stored| stored.share_hash == hash)
            .expect("a share that was acknowledged");
        assert!(stored.accepted);
        assert_eq!(format!("{}.{}", stored.user, stored.worker), user);
        let again = client.submit(user, &share).await;
        assert_eq!(client.answer(again).await.unwrap().unwrap_err().0, 22);
    }
}

/// A block whose version bits were rolled within the mask is one for the node as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_with_rolled_version_bits_is_in_the_chain() {
    let world = world("").await;
    let mut client = Sv1Client::connect(world.mining_v1()).await.unwrap();
    let asked = json!([["version-rolling"], {"version-rolling.mask": "1fffe000"}]);
    let granted = client.ask("mining.configure", asked).await.unwrap().unwrap();
    assert_eq!(granted["version-rolling.mask"], "1fffe000");
    client.subscribe().await.unwrap();
    client.ask("mining.authorize", json!(["alice", ""])).await.unwrap().unwrap();
    let job = client.next_job().await.unwrap();
    let rolled = Some((0x0abc_c000, 0x1fff_e000));
    let block = job.mine(7, client.extranonce2_bytes, rolled, u32::MAX, is_block).unwrap();
    let id = client.submit("alice", &block).await;
    assert_eq!(client.answer(id).await.unwrap(), Ok(json!(true)));
    world.assert_mined(block.header.block_hash(), &[]);
    assert_eq!(world.node().block(&block.header.block_hash()).unwrap().header, block.header);
}

/// Twice what is found on one tip would be an orphan; on the next it is a block.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_tip_drops_the_old_work() {
    let world = world(EACH_HASH).await;
    let mut client = Sv1Client::mining(world.mining_v1(), "alice").await;
    client.ask("mining.suggest_difficulty", json!([1e-10])).await.unwrap().unwrap();
    let old = client.next_job().await.unwrap();
    world.node().mine(1).unwrap();
    let tip = world.node().block_hash(world.node().height().unwrap()).unwrap();
    let new = loop {
        let job = client.next_job().await.unwrap();
        if job.notify.prev_hash != old.notify.prev_hash {
            break job;
        }
    };
    assert!(new.notify.clean_jobs);
    let share = client.mine(1, is_block);
    assert_eq!(share.header.prev_blockhash, tip);
    let late = old.mine(1, client.extranonce2_bytes, None, u32::MAX, |header, difficulty| {
        is_share(header, difficulty) && !is_block(header, difficulty)
    });
    let id = client.submit("alice", &late.unwrap()).await;
    let refused = client.answer(id).await.unwrap();
    assert_eq!(refused, Err((21, "Stale share".to_owned())));
    let id = client.submit("alice", &share).await;
    assert_eq!(client.answer(id).await.unwrap(), Ok(json!(true)));
    world.assert_mined(share.header.block_hash(), &[]);
}

/// Both protocols at once, and neither knows of the other.
#[tokio::test(flavor = "multi_thread")]
async fn miners_of_both_protocols_mine_one_chain_in_turns() {
    let world = world(EACH_HASH).await;
    let mut old = Sv1Client::mining(world.mining_v1(), "alice.rig1").await;
    let (mut new, mut channel) = extended(&world, "bob.rig2").await;
    for turn in 0..3 {
        let tip = world.node().tip().unwrap();
        let on_tip = |job: &Job| job.notify.prev_hash.as_ref() == tip.to_byte_array();
        while !old.job.as_ref().is_some_and(on_tip) {
            old.next_job().await.unwrap();
        }
        let share = old.mine(turn, is_block);
        let id = old.submit("alice.rig1", &share).await;
        assert_eq!(old.answer(id).await.unwrap(), Ok(json!(true)));
        let hash = share.header.block_hash();
        world.assert_mined(hash, &[]);
        while channel.parent().map(|(hash, _)| hash) != Some(hash) {
            channel.hear(&new.recv().await.unwrap());
        }
        let block = channel.mine_block().expect("a block");
        assert_eq!(new.submit(&channel, &block).await.unwrap(), Ok(()));
        world.assert_mined(block.hash(), &[]);
    }
    for event in events(&world, EventKind::ShareSubmitted) {
        let v1 = event.data["user"] == "alice";
        let expected = if v1 { Protocol::StratumV1 } else { Protocol::StratumV2 };
        assert_eq!(event.protocol, expected, "{event:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_told_and_the_miner_comes_back() {
    let world = world("").await;
    let mut client = Sv1Client::mining(world.mining_v1(), "alice").await;
    let world = world.restart(|| {}).await;
    let mut told = false;
    while let Ok(line) = client.line().await {
        told |= line["method"] == "client.reconnect";
    }
    assert!(told, "closed without client.reconnect");
    Sv1Client::mining(world.mining_v1(), "alice").await;
}
