//! The planned end of the server: a block that was sent is judged whatever the server still has to do for
//! its miner, which would not be read any further otherwise.

use jds::limits::{CUSTOM_JOBS_CHECKED_PER_CONNECTION_MAX, USER_CHECKS_PER_CONNECTION_MAX};
use jds_tests::sv1::{Sv1Client, is_block};
use jds_tests::user_check::{SLOW, Users};
use jds_tests::{PATIENCE, Setup, World, accepted};
use jds_wire::ClientMessage;
use jds_wire::message::AllocateMiningJobToken;
use jds_wire::message::mining::{
    MiningClientMessage, OpenExtendedMiningChannelOwned, SetCustomMiningJobOwned,
};
use serde_json::json;
use signet::wait;

use crate::custom::{Jdc, work_with_transactions};
use crate::{HASHRATE, extended};

#[tokio::test(flavor = "multi_thread")]
async fn behind_custom_jobs_that_wait_for_our_node() {
    // Longer than anything is read at the end.
    let world = Setup::new().job_declaration("tip_grace_ms = 10000").mining("").start().await;
    let work = work_with_transactions(&world).await;
    let mut jdc = Jdc::connect(&world).await;
    let template = jdc.template(&work);
    let token = jdc.declare(&template).await;
    let job = jdc.job(&token, &template, &work);
    jdc.set(&job, &template).await;
    for request_id in 0..2 * CUSTOM_JOBS_CHECKED_PER_CONNECTION_MAX as u32 {
        let (request_id, prev_hash) = (1_000 + request_id, [9; 32].into());
        let unknown = SetCustomMiningJobOwned { request_id, prev_hash, ..job.clone() };
        jdc.client.queue(&MiningClientMessage::SetCustomMiningJob(unknown)).unwrap();
    }
    let block = jdc.channel.mine_block().expect("a block");
    jdc.client.queue(&jdc.channel.message(&block).unwrap()).unwrap();
    jdc.client.flush().await.unwrap();
    let world = world.restart(|| {}).await;
    world.assert_mined(block.hash(), &work.txs);
}

/// Of whom nothing is said either.
const LAST: &str = "slow-last";

/// A server that asks about its users, and who knows them.
async fn world_of_users() -> (World, Users) {
    let users = Users::start(&["alice"]);
    let lines = format!("mode = \"callback\"\nurl = \"{}\"\ntimeout_ms = 5000", users.url());
    let world = Setup::new().table("user_check", &lines).mining("").start().await;
    (world, users)
}

/// As many as a connection may wait for: then nothing more is read of it. The last is the sign that all
/// of them wait.
fn users_of_a_full_gate() -> impl Iterator<Item = &'static str> {
    std::iter::repeat_n(SLOW, USER_CHECKS_PER_CONNECTION_MAX - 1).chain([LAST])
}

fn wait_full(users: &Users) {
    wait::until_true("all of them to wait", PATIENCE, || users.asked(LAST) == 1).unwrap();
}

fn opens(user: &str, request_id: u32) -> MiningClientMessage<'static> {
    MiningClientMessage::OpenExtendedMiningChannel(OpenExtendedMiningChannelOwned {
        request_id,
        user_identity: user.try_into().unwrap(),
        nominal_hash_rate: HASHRATE,
        max_target: [0xff; 32].into(),
        min_extranonce_size: 8,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_users_of_whom_nobody_says_whether_they_may() {
    let (world, _users) = world_of_users().await;
    let (mut client, mut channel) = extended(&world, "alice").await;
    for request_id in 0..2 * USER_CHECKS_PER_CONNECTION_MAX as u32 {
        client.queue(&opens(SLOW, 1_000 + request_id)).unwrap();
    }
    let block = channel.mine_block().expect("a block");
    client.queue(&channel.message(&block).unwrap()).unwrap();
    client.flush().await.unwrap();
    let world = world.restart(|| {}).await;
    world.assert_mined(block.hash(), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_server_had_ceased_to_read_because_of_them() {
    let (world, users) = world_of_users().await;
    let (mut client, mut channel) = extended(&world, "alice").await;
    for (request_id, user) in (1_000..).zip(users_of_a_full_gate()) {
        client.queue(&opens(user, request_id)).unwrap();
    }
    client.flush().await.unwrap();
    wait_full(&users);
    let block = channel.mine_block().expect("a block");
    client.send(&channel.message(&block).unwrap()).await.unwrap();
    let world = world.restart(|| {}).await;
    world.assert_mined(block.hash(), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn and_of_stratum_v1_as_well() {
    let (world, users) = world_of_users().await;
    let mut miner = Sv1Client::mining(world.mining_v1(), "alice").await;
    for user in users_of_a_full_gate() {
        miner.request("mining.authorize", json!([user, ""])).await;
    }
    wait_full(&users);
    let block = miner.mine(1, is_block);
    miner.submit("alice", &block).await;
    let world = world.restart(|| {}).await;
    world.assert_mined(block.header.block_hash(), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn and_a_solution_for_a_declared_job() {
    let (world, users) = world_of_users().await;
    let work = world.work();
    let mut miner = world.miner("alice").await;
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);
    for (request_id, user) in (1_000..).zip(users_of_a_full_gate()) {
        let user_identifier = user.as_bytes();
        let ask = AllocateMiningJobToken { user_identifier, request_id };
        miner.client.send(&ClientMessage::AllocateMiningJobToken(ask)).await.unwrap();
    }
    wait_full(&users);
    let block = miner.solve_and_push(&work, &template).await;
    let world = world.restart(|| {}).await;
    world.assert_mined(block, &work.txs);
}
