//! Miners who name no user, as the reference's device does where it was told none: in a pool they mine all the
//! same, as one user, over all protocols.

use jds::client::mining::MiningClient;
use jds_tests::reference::mining_device;
use jds_tests::sv1::{Sv1Client, is_block, is_share};
use jds_tests::{PATIENCE, Setup, World};
use serde_json::json;
use signet::wait;
use store::{EventData, EventKind, Protocol};

use crate::custom::{Jdc, TIP_GRACE, work_with_transactions};
use crate::{BLOCKS_BEFORE, HASHRATE, client, events, shares, wait_event};

const ANONYMOUS: &str = "anonymous";
/// Each hash is a share, for all kinds of miners.
const EACH_HASH: &str = "shares_per_minute = 600.0\nsv1_start_hashrate_ths = 0.000000000000001\n";

fn accepted(world: &World, worker: &str, protocol: Protocol) -> bool {
    let told = events(world, EventKind::ShareSubmitted);
    told.iter().any(|event| match event.typed().unwrap() {
        EventData::ShareSubmitted(share) => {
            assert_eq!(share.user, ANONYMOUS, "{share:?}");
            share.accepted && share.worker == worker && event.protocol == protocol
        }
        other => panic!("no share: {other:?}"),
    })
}

async fn share(client: &mut MiningClient, user: &str) {
    let mut channel = client.open_extended(user, HASHRATE, 8).await.unwrap();
    client.work(&mut channel).await.unwrap();
    let share = channel.mine_share_only().expect("a share");
    assert_eq!(client.submit(&channel, &share).await.unwrap(), Ok(()), "{user:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn their_shares_are_those_of_one_user() {
    let world = Setup::new().mining(EACH_HASH).start().await;
    let mut both = client(&world, 0).await;
    let mut old = Sv1Client::connect(world.mining_v1()).await.unwrap();
    old.subscribe().await.unwrap();
    for (number, (user, worker)) in
        [("", ""), (".", ""), (".rig1", "rig1"), ("..rig2", ".rig2")].into_iter().enumerate()
    {
        share(&mut both, user).await;
        assert!(accepted(&world, worker, Protocol::StratumV2), "{user:?}");
        let answer = old.ask("mining.authorize", json!([user, ""])).await.unwrap();
        assert_eq!(answer, Ok(json!(true)), "{user:?}");
        if number == 0 {
            old.next_job().await.unwrap();
        }
        let good =
            |header: &_, difficulty| is_share(header, difficulty) && !is_block(header, difficulty);
        let share = old.mine(number as u64, good);
        let id = old.submit(user, &share).await;
        assert_eq!(old.answer(id).await.unwrap(), Ok(json!(true)), "{user:?}");
        assert!(accepted(&world, worker, Protocol::StratumV1), "{user:?}");
    }
    let known = world.store().miner(ANONYMOUS).unwrap().expect("a user");
    assert_eq!(known.shares_accepted_pool, 8);
    assert!(world.store().miner("").unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn they_declare_and_set_jobs() {
    let world = Setup::new().job_declaration(TIP_GRACE).mining("").start().await;
    let work = work_with_transactions(&world).await;
    // Client and channel name different workers of it.
    let mut jdc = Jdc::connect_as(&world, "").await;
    jdc.channel = jdc.client.open_extended(".farm", HASHRATE, 10).await.unwrap();
    let template = jdc.template(&work);
    let token = jdc.declare(&template).await;
    let job = jdc.job(&token, &template, &work);
    jdc.set(&job, &template).await;
    let block = jdc.mine_block().await;
    world.assert_mined(block, &work.txs);
    let told = wait_event(&world, EventKind::BlockFound, |_| true);
    let EventData::BlockFound(told) = told else { panic!("{told:?}") };
    assert_eq!(told.user, ANONYMOUS);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_references_device_mines_without_a_name() {
    let world = Setup::new().mining("").start().await;
    world.node().mine(BLOCKS_BEFORE).unwrap();
    world.synced().await;
    let device = mining_device(world.mining(), &world.authority.to_string(), "");
    wait::until_true("an accepted share", PATIENCE, || {
        shares(&world).iter().any(|share| share.accepted && share.user == ANONYMOUS)
    })
    .unwrap_or_else(|error| panic!("{error}; {}", device.log_end()));
}
