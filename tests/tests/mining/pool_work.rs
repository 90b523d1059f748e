//! On the pool's own templates, which need no job declaration.

use bitcoin::{Amount, TxOut};
use jds::client::mining::{Channel, MiningClient};
use jds_tests::reference::mining_device;
use jds_tests::{PATIENCE, Setup, World};
use jds_wire::message::mining::{MiningServerMessage, flags};
use signet::wait;
use store::{EventData, EventKind, Role, TemplateSource};

use crate::{BLOCKS_BEFORE, HASHRATE, client, events, extended, shares, wait_event};

/// The first slice: a device that needs no proxy.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_a_device_on_the_pools_template_is_in_the_chain() {
    let world = Setup::new().mining("").start().await;
    world.node().mine(BLOCKS_BEFORE).unwrap();
    world.synced().await;
    let before = world.node().height().unwrap();
    let device = mining_device(world.mining(), &world.authority.to_string(), "alice.rig1");
    // Two: the second shows that a new tip reached the miner.
    for height in before + 1..=before + 2 {
        let what = format!("a block at height {height}");
        let hash = wait::until(&what, PATIENCE, || world.node().block_hash(height).ok())
            .unwrap_or_else(|error| panic!("{error}; {}", device.log_end()));
        let stored = wait::until("our server to know its block", PATIENCE, || {
            world.store().block(&hash.to_string()).unwrap()
        });
        let stored = stored.unwrap();
        assert_eq!((stored.user.as_str(), stored.template_source), ("alice", TemplateSource::Pool));
    }
    let share = wait::until("an accepted share in the log", PATIENCE, || {
        shares(&world).into_iter().find(|share| share.accepted)
    });
    let share = share.unwrap_or_else(|error| panic!("{error}; {}", device.log_end()));
    assert_eq!((share.user.as_str(), share.worker.as_str()), ("alice", "rig1"));
    assert_eq!(share.template_source, TemplateSource::Pool);
    assert_eq!(share.miner_template_hash, None);
}

/// A share that makes no block, one that does, and one that is late: answered, stored and told.
async fn mines(world: &World, client: &mut MiningClient, channel: &mut Channel) {
    client.work(channel).await.unwrap();
    let share = channel.mine_share_only().expect("a share");
    assert_eq!(client.submit(channel, &share).await.unwrap(), Ok(()));
    // It was acknowledged: it is there at this moment, not some time later.
    let told = shares(world);
    let stored = told.iter().find(|told| told.share_hash == share.hash().to_string());
    let stored = stored.expect("the share in the log");
    assert!(stored.accepted && stored.error_code.is_none());
    assert_eq!((stored.channel_id, stored.job_id), (channel.id, share.job_id));
    assert_eq!(stored.template_source, TemplateSource::Pool);

    // The same once more does not count twice.
    let again = client.submit(channel, &share).await.unwrap();
    assert_eq!(again, Err("duplicate-share".to_owned()));

    let late = channel.mine_share_only().expect("a share");
    let block = channel.mine_block().expect("a block");
    assert_eq!(client.submit(channel, &block).await.unwrap(), Ok(()));
    world.assert_mined(block.hash(), &[]);
    world.synced_to(block.hash()).await;
    let parent = |channel: &Channel| channel.parent().map(|(hash, _)| hash);
    while parent(channel) != Some(block.hash()) {
        channel.hear(&client.recv().await.unwrap());
    }
    assert_eq!(client.submit(channel, &late).await.unwrap(), Err("stale-share".to_owned()));
    wait_event(world, EventKind::ShareSubmitted, |event| match event {
        EventData::ShareSubmitted(told) => {
            told.share_hash == late.hash().to_string()
                && told.error_code.as_deref() == Some("stale-share")
        }
        _ => false,
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extended_channel_mines_the_pools_template() {
    let world = Setup::new().mining("").start().await;
    let (mut client, mut channel) = extended(&world, "alice.rig1").await;
    mines(&world, &mut client, &mut channel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standard_channel_mines_the_pools_template() {
    let world = Setup::new().mining("").start().await;
    let mut client = client(&world, flags::REQUIRES_STANDARD_JOBS).await;
    let mut channel = client.open_standard("alice.rig1", HASHRATE).await.unwrap();
    mines(&world, &mut client, &mut channel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_on_the_same_tip_reaches_the_miner() {
    let world = Setup::new().mining("min_interval_ms = 100\nfee_threshold_sat = 1").start().await;
    let coins = world.coins(1).await;
    let (mut client, mut channel) = extended(&world, "alice").await;
    let script = world.node().mining_script();
    let pay = |coin: &signet::Coin| {
        let value = Amount::from_sat(coin.value_sat - 5_000);
        coin.spend(vec![TxOut { value, script_pubkey: script.clone() }])
    };
    let txs: Vec<_> = coins.iter().take(1).map(pay).collect();
    world.node().send(&txs).unwrap();
    // Whichever job has them: a node looks for new transactions every few seconds on an old tip.
    let first = channel.job_id();
    while channel.job_id() == first {
        channel.hear(&client.recv().await.unwrap());
    }
    let block = channel.mine_block().expect("a block");
    assert_eq!(client.submit(&channel, &block).await.unwrap(), Ok(()));
    let stored = wait::until("our server to know its block", PATIENCE, || {
        world.store().block(&block.hash().to_string()).unwrap()
    });
    assert_eq!(stored.unwrap().tx_count, 2);
    // The record is written beside the submission, and may be there first.
    world.assert_mined(block.hash(), &txs);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_mines_is_told_with_the_first_channel_and_with_the_last() {
    let world = Setup::new().mining("").start().await;
    let flags = flags::REQUIRES_VERSION_ROLLING;
    let mut client = client(&world, flags).await;
    for user in ["alice.rig1", "alice.rig2", "bob"] {
        client.open_extended(user, HASHRATE, 8).await.unwrap();
    }
    let of_alice = |event: &EventData| match event {
        EventData::MinerConnected(event) => event.user.as_deref() == Some("alice"),
        EventData::MinerDisconnected(event) => event.user.as_deref() == Some("alice"),
        _ => false,
    };
    let came = wait_event(&world, EventKind::MinerConnected, of_alice);
    let EventData::MinerConnected(came) = came else { panic!("{came:?}") };
    assert_eq!((came.role, came.flags, came.job_negotiation), (Role::Mining, flags, false));
    drop(client);
    let went = wait_event(&world, EventKind::MinerDisconnected, of_alice);
    let EventData::MinerDisconnected(went) = went else { panic!("{went:?}") };
    assert_eq!((went.connection_id, went.flags), (came.connection_id, flags));
    // Closed, or reset where it left something unread.
    assert_ne!(went.reason.as_deref(), Some("its last channel was closed"));
    wait::until_true("two users to be gone", PATIENCE, || {
        events(&world, EventKind::MinerDisconnected).len() == 2
    })
    .unwrap();
    assert_eq!(events(&world, EventKind::MinerConnected).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_asks_miners_to_come_again_and_they_mine_on() {
    let world = Setup::new().mining("").start().await;
    let (mut client, mut channel) = extended(&world, "alice").await;
    let share = channel.mine_share_only().expect("a share");
    assert_eq!(client.submit(&channel, &share).await.unwrap(), Ok(()));
    let world = world.restart(|| {}).await;
    let reconnect = |message: &MiningServerMessage| {
        matches!(message, MiningServerMessage::Reconnect(_)).then_some(())
    };
    client.wait("Reconnect", reconnect).await.unwrap();
    client.wait_closed().await.unwrap();
    world.synced().await;
    let told = shares(&world);
    assert!(told.iter().any(|told| told.share_hash == share.hash().to_string()), "{told:?}");
    let (mut client, mut channel) = extended(&world, "alice").await;
    let share = channel.mine_share_only().expect("a share");
    assert_eq!(client.submit(&channel, &share).await.unwrap(), Ok(()));
}
