//! Scenarios that any pool and any Job Declaration Server has to go through, with our own client.
//! Those of the reference implementation's integration suite, and where ours are:
//!
//! | Scenario | Test |
//! |---|---|
//! | a pool and its templates | `pool_work`, `templates/reference.rs` |
//! | timestamp of the header in a new extended job | [`a_second_job_on_a_tip_is_no_earlier_than_the_tip_and_no_later_than_now`] |
//! | a share on a standard channel | `pool_work::a_standard_channel_mines_the_pools_template` |
//! | no jobs for a client that chooses its work | [`who_chooses_its_work_gets_no_jobs_of_the_pool`] |
//! | set-up with another protocol, or version | [`set_up_for_something_else_is_refused`] |
//! | custom jobs where they are not served | `custom::without_work_selection_there_are_no_custom_jobs` |
//! | groups of extended, and of standard channels | [`channels_of_a_group_get_one_job_together`] |
//! | header-only: no group, no extended channel | [`header_only_channels_get_a_job_each`] |
//! | a custom job's token used again | `custom::a_token_is_worth_nothing_on_another_connection` |
//! | a token that was never given | `declare/tokens.rs` |
//! | coinbase-only mode | `custom::in_coinbase_only_mode_a_token_makes_one_miners_jobs` |
//! | transactions nobody asked for | `declare/supply.rs` |
//! | clients that come and go | `jdc`, `declare/supply.rs` |
//! | a solution becomes a block through our node | `declare/main.rs`, `jdc` |
//! | solo: no address, an address, a fee | `solo` |
//! | workers of shares (extension 0x0002) | [`a_share_that_names_its_worker_is_that_workers`] |
//! | a peer that never ends its handshake | [`who_does_not_end_the_handshake_delays_nobody`] |

use std::io::Write;
use std::net::TcpStream;

use jds::client::mining::{Channel, MiningClient};
use jds::client::{ClientError, SetupOptions};
use jds_tests::{Setup, World};
use jds_wire::message::RequestExtensions;
use jds_wire::message::mining::{MiningClientMessage, MiningServerMessage, flags};

use crate::custom::work_selection;
use crate::{HASHRATE, client, extended, shares};

/// Number of the extension by which shares name their workers.
const WORKER_EXTENSION: u16 = 2;

async fn world() -> World {
    Setup::new().mining("").start().await
}

/// Channel that a job is for, whether it is an extended one, and whether it may be mined at once.
type NewJob = (u32, bool, bool);

fn new_job(message: &MiningServerMessage) -> Option<NewJob> {
    match message {
        MiningServerMessage::NewMiningJob(job) => {
            Some((job.channel_id, false, job.min_ntime.clone().into_inner().is_some()))
        }
        MiningServerMessage::NewExtendedMiningJob(job) => {
            Some((job.channel_id, true, job.min_ntime.clone().into_inner().is_some()))
        }
        _ => None,
    }
}

/// Mines a block behind the miners' back; the jobs that come until all channels build on it.
async fn jobs_of_next_tip(
    world: &World,
    client: &mut MiningClient,
    channels: &mut [Channel],
) -> Vec<NewJob> {
    for channel in &mut *channels {
        client.work(channel).await.unwrap();
    }
    world.node().mine_block(&[]).unwrap();
    let tip = world.node().tip().unwrap();
    let mut jobs = Vec::new();
    let on_tip = |channel: &Channel| channel.parent().is_some_and(|(hash, _)| hash == tip);
    while !channels.iter().all(on_tip) {
        let message = client.recv().await.unwrap();
        channels.iter_mut().for_each(|channel| channel.hear(&message));
        // A job for a new tip comes ahead of it; one to mine at once is another template of the same tip.
        jobs.extend(new_job(&message).filter(|(.., at_once)| !at_once));
    }
    jobs
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_of_a_group_get_one_job_together() {
    let world = world().await;
    for standard in [false, true] {
        let mut client = client(&world, 0).await;
        let mut channels = Vec::new();
        for user in ["alice.rig1", "alice.rig2", "alice.rig3"] {
            channels.push(if standard {
                client.open_standard(user, HASHRATE).await.unwrap()
            } else {
                client.open_extended(user, HASHRATE, 8).await.unwrap()
            });
        }
        let group = channels[0].group_id;
        assert!(channels.iter().all(|channel| channel.group_id == group && channel.id != group));
        let jobs = jobs_of_next_tip(&world, &mut client, &mut channels).await;
        let of_group = jobs.iter().filter(|job| **job == (group, true, false)).count();
        assert_eq!(of_group, 1, "standard: {standard}, {jobs:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn header_only_channels_get_a_job_each() {
    let world = world().await;
    let mut client = client(&world, flags::REQUIRES_STANDARD_JOBS).await;
    let refused = client.open_extended("alice", HASHRATE, 8).await;
    let Err(ClientError::ChannelRefused(code)) = refused else { panic!("{refused:?}") };
    assert_eq!(code, "extended-channels-not-supported-for-standard-jobs");
    let mut channels = Vec::new();
    for user in ["alice.rig1", "alice.rig2"] {
        channels.push(client.open_standard(user, HASHRATE).await.unwrap());
    }
    let jobs = jobs_of_next_tip(&world, &mut client, &mut channels).await;
    assert!(jobs.iter().all(|(_, extended, _)| !extended), "{jobs:?}");
    for channel in &mut channels {
        assert!(jobs.contains(&(channel.id, false, false)), "{jobs:?}");
    }
    let block = channels[1].mine_block().expect("a block");
    assert_eq!(client.submit(&channels[1], &block).await.unwrap(), Ok(()));
    world.assert_mined(block.hash(), &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_chooses_its_work_gets_no_jobs_of_the_pool() {
    let world = world().await;
    let mut chooser = work_selection(&world).await;
    let own = chooser.open_extended("carol", HASHRATE, 8).await.unwrap();
    // Others get theirs, on two tips.
    let mut other = client(&world, 0).await;
    let mut channels = [other.open_extended("alice", HASHRATE, 8).await.unwrap()];
    jobs_of_next_tip(&world, &mut other, &mut channels).await;
    // What comes to the chooser before the answer to its next question is all that came.
    let next = chooser.open_extended("carol", HASHRATE, 8).await.unwrap();
    assert_ne!(own.id, next.id);
    let mut end = chooser.open_extended("carol", HASHRATE, 8).await.unwrap();
    let unknown = chooser.submit(&end, &channels[0].mine_block().unwrap()).await.unwrap();
    assert_eq!(unknown, Err("invalid-job-id".to_owned()));
    drop(world);
    while let Ok(message) = chooser.recv().await {
        assert!(new_job(&message).is_none(), "{message:?}");
        end.hear(&message);
    }
    assert!(!end.has_work());
}

#[tokio::test(flavor = "multi_thread")]
async fn set_up_for_something_else_is_refused() {
    let world = world().await;
    let options = SetupOptions { min_version: 3, max_version: 4, ..SetupOptions::default() };
    let refused = MiningClient::connect(world.mining(), Some(world.authority), &options).await;
    let Err(ClientError::SetupRefused { error_code, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(error_code, "protocol-version-mismatch");
    let options = SetupOptions::default();
    // A client of job declaration at the port of miners.
    let refused =
        jds::client::JdClient::connect(world.mining(), Some(world.authority), &options).await;
    let Err(ClientError::SetupRefused { error_code, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(error_code, "unsupported-protocol");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_names_its_worker_is_that_workers() {
    let world = world().await;
    for negotiated in [true, false] {
        let mut client = client(&world, 0).await;
        if negotiated {
            let requested = vec![WORKER_EXTENSION];
            let request = RequestExtensions { request_id: 1, requested };
            client.send(&MiningClientMessage::RequestExtensions(request)).await.unwrap();
            let answer = |message: &MiningServerMessage| match message {
                MiningServerMessage::RequestExtensionsSuccess(answer) => {
                    Some(answer.supported.clone())
                }
                _ => None,
            };
            let supported = client.wait("RequestExtensions.Success", answer).await.unwrap();
            assert_eq!(supported, [WORKER_EXTENSION]);
        }
        let mut channel = client.open_extended("alice.proxy", HASHRATE, 8).await.unwrap();
        client.work(&mut channel).await.unwrap();
        let block = channel.mine_block().expect("a share");
        let mut message = channel.message(&block).unwrap();
        let MiningClientMessage::SubmitSharesExtended(share) = &mut message else { panic!() };
        share.worker = Some(b"rig7".to_vec());
        client.send(&message).await.unwrap();
        world.assert_mined(block.hash(), &[]);
        world.synced_to(block.hash()).await;
        client
            .wait("an answer to the share", |message| {
                matches!(message, MiningServerMessage::SubmitSharesSuccess(_)).then_some(())
            })
            .await
            .unwrap();
        let told = shares(&world);
        let told = told.iter().find(|told| told.share_hash == block.hash().to_string()).unwrap();
        assert_eq!(told.user, "alice");
        assert_eq!(told.worker, if negotiated { "rig7" } else { "proxy" });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_end_the_handshake_delays_nobody() {
    let world = world().await;
    let silent: Vec<_> = (0..8_usize)
        .map(|bytes| {
            let mut stream = TcpStream::connect(world.mining()).unwrap();
            stream.write_all(&vec![0x02; bytes]).unwrap();
            stream
        })
        .collect();
    let (mut client, mut channel) = extended(&world, "alice").await;
    let block = channel.mine_block().expect("a block");
    assert_eq!(client.submit(&channel, &block).await.unwrap(), Ok(()));
    world.assert_mined(block.hash(), &[]);
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_job_on_a_tip_is_no_earlier_than_the_tip_and_no_later_than_now() {
    let world = Setup::new().mining("min_interval_ms = 100\nfee_threshold_sat = 1").start().await;
    let coins = world.coins(1).await;
    let mut client = client(&world, 0).await;
    client.open_extended("alice", HASHRATE, 8).await.unwrap();
    let first = client
        .wait("SetNewPrevHash", |message| match message {
            MiningServerMessage::SetNewPrevHash(new) => Some(new.min_ntime),
            _ => None,
        })
        .await
        .unwrap();
    let sample = signet::kinds::Kind::Payment.build(&coins[0]).unwrap();
    world.node().send(&sample.txs).unwrap();
    let second = client
        .wait("a job to mine at once", |message| match message {
            MiningServerMessage::NewExtendedMiningJob(job) => job.min_ntime.clone().into_inner(),
            _ => None,
        })
        .await
        .unwrap();
    assert!(second >= first, "{second} < {first}: earlier than the tip's own time");
    let now = world.work().time;
    assert!(second <= now, "{second} > {now}");
}
