//! Who may mine and declare: refused on each protocol in its own words, and nobody else waits.

use jds::client::ClientError;
use jds::client::mining::MiningClient;
use jds_tests::sv1::Sv1Client;
use jds_tests::user_check::{SLOW, Users};
use jds_tests::{Miner, PATIENCE, Setup, World, accepted};
use jds_wire::message::mining::{MiningClientMessage, OpenExtendedMiningChannelOwned};
use serde_json::json;
use signet::wait;

use crate::{HASHRATE, client, extended};

async fn refused_channel(client: &mut MiningClient, user: &str) -> String {
    match client.open_extended(user, HASHRATE, 8).await {
        Err(ClientError::ChannelRefused(code)) => code,
        other => panic!("a channel for {user}: {other:?}"),
    }
}

/// Bob may not, Alice may, over all three protocols.
async fn alice_and_not_bob(world: &World) {
    let mut both = client(world, 0).await;
    assert_eq!(refused_channel(&mut both, "bob.rig1").await, "unknown-user");
    both.open_extended("alice.rig1", HASHRATE, 8).await.unwrap();
    assert_eq!(refused_channel(&mut both, "alicea").await, "unknown-user");

    let mut miner = Sv1Client::connect(world.mining_v1()).await.unwrap();
    miner.subscribe().await.unwrap();
    // However the method is spelled.
    let line = b"{\"id\":7,\"method\":\"mining.\\u0061uthorize\",\"params\":[\"bob\",\"x\"]}\n";
    miner.send_raw(line).await;
    let refused = miner.line().await.unwrap();
    assert_eq!((&refused["id"], &refused["error"][0]), (&json!(7), &json!(24)), "{refused}");
    let (code, text) =
        miner.ask("mining.authorize", json!(["bob", "x"])).await.unwrap().unwrap_err();
    assert_eq!(code, 24, "{text}");
    let answer = miner.ask("mining.authorize", json!(["alice.rig2", "x"])).await.unwrap();
    assert_eq!(answer, Ok(json!(true)));
    miner.next_job().await.unwrap();

    let closed = Miner::connect(world, "bob").await;
    assert!(closed.is_err(), "a token for bob");
    let mut miner = world.miner("alice").await;
    let template = miner.template(&world.work());
    accepted(&miner.declare(&template).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_on_the_list_mine_and_declare() {
    let table = "mode = \"list\"\nusers = [\"alice\"]";
    let world = Setup::new().table("user_check", table).mining("").start().await;
    alice_and_not_bob(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_whom_the_pool_knows_mine_and_declare() {
    let users = Users::start(&["alice"]);
    let table = format!("mode = \"callback\"\nurl = \"{}\"", users.url());
    let world = Setup::new().table("user_check", &table).mining("").start().await;
    alice_and_not_bob(&world).await;
    assert_eq!((users.asked("alice"), users.asked("bob")), (1, 1), "of many times each");
}

/// On one connection: a block of one user while the pool says nothing of another.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_hangs_on_one_user_delays_no_block_of_another() {
    let users = Users::start(&["alice"]);
    let lines = format!("mode = \"callback\"\nurl = \"{}\"\ntimeout_ms = 5000", users.url());
    let world = Setup::new().table("user_check", &lines).mining("").start().await;
    let (mut client, mut channel) = extended(&world, "alice").await;
    let open = OpenExtendedMiningChannelOwned {
        request_id: 4_000,
        user_identity: SLOW.try_into().unwrap(),
        nominal_hash_rate: HASHRATE,
        max_target: [0xff; 32].into(),
        min_extranonce_size: 8,
    };
    client.send(&MiningClientMessage::OpenExtendedMiningChannel(open)).await.unwrap();
    wait::until_true("the question about the slow one", PATIENCE, || users.asked(SLOW) == 1)
        .unwrap();
    let block = channel.mine_block().expect("a block");
    assert_eq!(client.submit(&channel, &block).await.unwrap(), Ok(()));
    world.assert_mined(block.hash(), &[]);
    // Others too, on other connections.
    extended(&world, "alice").await;
    // In the end the slow one is told that nobody knows.
    assert_eq!(refused_channel(&mut client, SLOW).await, "unknown-user");
}
