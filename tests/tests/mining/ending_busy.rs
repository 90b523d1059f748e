//! The planned end of the server: a block that was sent is judged whatever the server still has to do for
//! its miner, which would not be read any further otherwise.

use jds::limits::{CUSTOM_JOBS_CHECKED_PER_CONNECTION_MAX, USER_CHECKS_PER_CONNECTION_MAX};
use jds_tests::Setup;
use jds_tests::user_check::{SLOW, Users};
use jds_wire::message::mining::{
    MiningClientMessage, OpenExtendedMiningChannelOwned, SetCustomMiningJobOwned,
};

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

#[tokio::test(flavor = "multi_thread")]
async fn behind_users_of_whom_nobody_says_whether_they_may() {
    let users = Users::start(&["alice"]);
    let lines = format!("mode = \"callback\"\nurl = \"{}\"\ntimeout_ms = 5000", users.url());
    let world = Setup::new().table("user_check", &lines).mining("").start().await;
    let (mut client, mut channel) = extended(&world, "alice").await;
    for request_id in 0..2 * USER_CHECKS_PER_CONNECTION_MAX as u32 {
        let open = OpenExtendedMiningChannelOwned {
            request_id: 1_000 + request_id,
            user_identity: SLOW.try_into().unwrap(),
            nominal_hash_rate: HASHRATE,
            max_target: [0xff; 32].into(),
            min_extranonce_size: 8,
        };
        client.queue(&MiningClientMessage::OpenExtendedMiningChannel(open)).unwrap();
    }
    let block = channel.mine_block().expect("a block");
    client.queue(&channel.message(&block).unwrap()).unwrap();
    client.flush().await.unwrap();
    let world = world.restart(|| {}).await;
    world.assert_mined(block.hash(), &[]);
}
