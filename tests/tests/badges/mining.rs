//! Badges that are earned at the mining port, from the events of the real server.

use jds::client::mining::MiningClient;
use jds::client::template::MinerTemplate;
use jds::client::{DeclareOutcome, SetupOptions};
use jds_tests::{Setup, World};
use jds_wire::message::mining::flags;

use crate::live::first;
use crate::reader::Reader;

/// What a client says of itself, hashes per second: any share will do.
const HASHRATE: f32 = 0.001;

async fn client(world: &World, other_flags: u32) -> MiningClient {
    let options = SetupOptions { other_flags, ..SetupOptions::default() };
    MiningClient::connect(world.mining(), Some(world.authority), &options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_on_a_miners_own_template_earns_what_one_on_the_pools_does_not() {
    let world = Setup::new().api("").mining("").start().await;
    let mut reader = Reader::new(format!("http://{}", world.api()));
    reader.start();

    let mut pooled = client(&world, 0).await;
    let mut channel = pooled.open_extended("bob", HASHRATE, 8).await.unwrap();
    pooled.work(&mut channel).await.unwrap();
    let block = channel.mine_block().expect("a block");
    assert_eq!(pooled.submit(&channel, &block).await.unwrap(), Ok(()));
    world.synced_to(block.hash()).await;

    let asked = flags::REQUIRES_WORK_SELECTION | flags::REQUIRES_VERSION_ROLLING;
    let mut own = client(&world, asked).await;
    let mut channel = own.open_extended("alice", HASHRATE, 10).await.unwrap();
    // Before she has declared anything.
    reader.wait_told(1);
    let mut alice = world.miner("alice").await;
    let (work, outputs) = (world.work(), alice.outputs.clone());
    let value_sat = work.subsidy_sat + work.fees_sat;
    let bytes = channel.extranonce_bytes();
    let template = MinerTemplate::new(work.height, value_sat, outputs, work.txs.clone(), bytes);
    let DeclareOutcome::Accepted { new_token, .. } = alice.declare(&template).await else {
        panic!("a good template was refused")
    };
    let job = channel.custom_job(&new_token, &template, work.prev_hash, work.time, work.bits);
    let job = job.unwrap();
    let job_id = own.set_custom_job(job.clone()).await.unwrap().expect("a good job");
    channel.work_on(job_id, &job, &template).unwrap();
    let block = channel.mine_block().expect("a block");
    assert_eq!(own.submit(&channel, &block).await.unwrap(), Ok(()));
    reader.wait_told(2);
    reader.kill();

    let runner = first(&world, "miner_connected", |data| {
        data["user"] == "alice" && data["role"] == "mining"
    });
    let sovereign = first(&world, "share_submitted", |data| data["user"] == "alice");
    // Told after all that bob did: he has nothing.
    let expected = [("Node Runner", runner), ("Sovereign Miner", sovereign)]
        .map(|(badge, at)| (("alice".to_owned(), badge.to_owned()), at));
    assert_eq!(reader.awards(), expected.into_iter().collect(), "{}", reader.log());
}
