//! What was promised of both protocols beside each other: header-only mining, miners of all kinds on one
//! server while others do not behave, and a round trip of Stratum V2 that costs no more than that of
//! Stratum V1. Bytes and latencies of many are measured by the command `load` of this crate.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jds::client::mining::{Channel, MiningClient};
use jds_tests::sv1::{Sv1Client, is_block, is_share};
use jds_tests::{Setup, World, accepted};
use jds_wire::message::mining::{MiningServerMessage, flags};
use serde_json::json;
use store::{EventKind, Protocol, TemplateSource};

use crate::{HASHRATE, client, events, extended, shares};

/// Each hash is a share, for all kinds of miners.
const EACH_HASH: &str = "shares_per_minute = 600.0\nsv1_start_hashrate_ths = 0.000000000000001\n";
/// Miners of each kind, and shares that each sends: so few that no channel gets another difficulty.
const MINERS: usize = 3;
const SHARES: usize = 12;
/// Connections of strangers to each port at most.
const STRANGERS_MAX: u32 = 600;
/// Miners of each protocol whose round trips are compared.
const PAIRS: usize = 10;

async fn world() -> World {
    Setup::new().mining(EACH_HASH).start().await
}

async fn standard(world: &World, user: &str) -> (MiningClient, Channel) {
    let mut client = client(world, flags::REQUIRES_STANDARD_JOBS).await;
    let mut channel = client.open_standard(user, HASHRATE).await.unwrap();
    client.work(&mut channel).await.unwrap();
    (client, channel)
}

async fn share(client: &mut MiningClient, channel: &mut Channel) {
    let share = channel.mine_share_only().expect("a share");
    assert_eq!(client.submit(channel, &share).await.unwrap(), Ok(()));
}

fn is_no_block(header: &bitcoin::block::Header, difficulty: f64) -> bool {
    is_share(header, difficulty) && !is_block(header, difficulty)
}

async fn share_v1(client: &mut Sv1Client, user: &str, number: u64) {
    let share = client.mine(number, is_no_block);
    let id = client.submit(user, &share).await;
    assert_eq!(client.answer(id).await.unwrap(), Ok(json!(true)));
}

/// A miner that hashes headers and knows no coinbase: what it is told is one merkle root, what it
/// rolls is nonce, time and version, and what it finds is in the chain.
#[tokio::test(flavor = "multi_thread")]
async fn sv2_b_03_a_header_only_miner_finds_a_block() {
    let world = world().await;
    let mut client = client(&world, flags::REQUIRES_STANDARD_JOBS).await;
    let mut channel = client.open_standard("alice.rig1", HASHRATE).await.unwrap();
    assert_eq!(channel.rolled_bytes, 0, "there is no extranonce to roll");
    while !channel.has_work() {
        let message = client.recv().await.unwrap();
        assert!(
            !matches!(message, MiningServerMessage::NewExtendedMiningJob(_)),
            "a job that needs a coinbase: {message:?}"
        );
        channel.hear(&message);
    }
    share(&mut client, &mut channel).await;
    let block = channel.mine_block().expect("a block");
    assert_eq!(client.submit(&channel, &block).await.unwrap(), Ok(()));
    world.assert_mined(block.hash(), &[]);
    let mined = world.node().block(&block.hash()).unwrap();
    assert_eq!(mined.header, block.header, "nothing was left for the server to choose");
    for told in shares(&world) {
        assert_eq!((told.user.as_str(), told.template_source), ("alice", TemplateSource::Pool));
    }
}

/// Connects, says something that no miner says, and goes, again and again.
fn bother(address: SocketAddr, over: &AtomicBool) -> u32 {
    let mut times = 0;
    // Each takes a port of this machine for a while.
    while !over.load(Ordering::Relaxed) && times < STRANGERS_MAX {
        let words: [&[u8]; 3] = [b"GET / HTTP/1.1\r\n\r\n", b"{\"id\":1,\"method\":", &[0xff; 300]];
        for words in words {
            let Ok(mut stream) = TcpStream::connect(address) else { continue };
            // The server may have had enough already.
            let _ = stream.write_all(words);
            times += 1;
        }
    }
    times
}

/// Standard and extended channels and Stratum V1 at the same time, a miner who declares, and strangers
/// on both ports: every share is accepted, stored once, and belongs to its miner and protocol.
#[tokio::test(flavor = "multi_thread")]
async fn sv2_b_04_both_protocols_serve_a_mixed_load() {
    let world = Arc::new(world().await);
    let over = Arc::new(AtomicBool::new(false));
    let strangers: Vec<_> = [world.mining(), world.mining_v1()]
        .into_iter()
        .map(|address| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || bother(address, &over))
        })
        .collect();
    let mut miners = tokio::task::JoinSet::new();
    for number in 0..MINERS {
        let there = Arc::clone(&world);
        miners.spawn(async move {
            let (mut client, mut channel) =
                standard(&there, &format!("standard{number}.rig")).await;
            for _ in 0..SHARES {
                share(&mut client, &mut channel).await;
            }
        });
        let there = Arc::clone(&world);
        miners.spawn(async move {
            let (mut client, mut channel) =
                extended(&there, &format!("extended{number}.rig")).await;
            for _ in 0..SHARES {
                share(&mut client, &mut channel).await;
            }
        });
        let there = Arc::clone(&world);
        miners.spawn(async move {
            let user = format!("old{number}.rig");
            let mut client = Sv1Client::mining(there.mining_v1(), &user).await;
            for share in 0..SHARES {
                share_v1(&mut client, &user, share as u64 + 1).await;
            }
        });
    }
    let mut declaring = world.miner("declaring").await;
    let template = declaring.template(&world.work());
    while let Some(miner) = miners.join_next().await {
        // Meanwhile.
        accepted(&declaring.declare(&template).await);
        miner.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    for stranger in strangers {
        assert!(stranger.join().unwrap() > 0, "nobody bothered the server");
    }

    let told = shares(&world);
    assert!(told.iter().all(|share| share.accepted), "{told:#?}");
    assert_eq!(told.len(), 3 * MINERS * SHARES);
    for (kind, protocol) in [
        ("standard", Protocol::StratumV2),
        ("extended", Protocol::StratumV2),
        ("old", Protocol::StratumV1),
    ] {
        for number in 0..MINERS {
            let user = format!("{kind}{number}");
            let count = told.iter().filter(|share| share.user == user).count();
            assert_eq!(count, SHARES, "shares of {user}");
        }
        let protocols = events(&world, EventKind::ShareSubmitted)
            .into_iter()
            .filter(|event| match event.typed().unwrap() {
                store::EventData::ShareSubmitted(share) => share.user.starts_with(kind),
                _ => false,
            })
            .map(|event| event.protocol);
        assert!(protocols.into_iter().all(|spoken| spoken == protocol), "protocol of {kind}");
    }
}

/// Round trips of one protocol, the fastest first.
struct RoundTrips(Vec<Duration>);

impl RoundTrips {
    fn new(mut all: Vec<Duration>) -> Self {
        all.sort();
        Self(all)
    }

    fn median(&self) -> Duration {
        self.0[self.0.len() / 2]
    }

    /// What the median is between, by nothing but how these times lie: so many of `n` are below the true
    /// median with a deviation of half the root of `n`, and of four deviations chance oversteps one in
    /// thirty thousand times.
    fn median_bounds(&self) -> (Duration, Duration) {
        let n = self.0.len();
        let ranks = 2 * n.isqrt();
        (self.0[n / 2 - ranks], self.0[n / 2 + ranks])
    }
}

impl std::fmt::Display for RoundTrips {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (low, high) = self.median_bounds();
        let (fastest, slowest) = (self.0[0], self.0[self.0.len() - 1]);
        write!(f, "median {:?} ({low:?} to {high:?}), {fastest:?} to {slowest:?}", self.median())
    }
}

/// Share by share in turns and in changing order, so that both see the same machine. The margin is what the
/// medians may be off by chance, taken from the very times; `load` measures with many and without tests
/// beside it.
#[tokio::test(flavor = "multi_thread")]
async fn sv2_b_05_a_share_of_stratum_v2_is_answered_no_later_than_one_of_stratum_v1() {
    let world = world().await;
    let (mut v2, mut v1) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let (mut client, mut channel) = standard(&world, &format!("new{pair}.rig")).await;
        let user = format!("old{pair}.rig");
        let mut old = Sv1Client::mining(world.mining_v1(), &user).await;
        for number in 0..2 * SHARES {
            // Mining is no part of it.
            if (pair + number / 2 + number) % 2 == 0 {
                let mined = channel.mine_share_only().expect("a share");
                let began = Instant::now();
                assert_eq!(client.submit(&channel, &mined).await.unwrap(), Ok(()));
                v2.push(began.elapsed());
            } else {
                let mined = old.mine(number as u64 + 1, is_no_block);
                let began = Instant::now();
                let id = old.submit(&user, &mined).await;
                assert_eq!(old.answer(id).await.unwrap(), Ok(json!(true)));
                v1.push(began.elapsed());
            }
        }
    }
    let (v2, v1) = (RoundTrips::new(v2), RoundTrips::new(v1));
    println!("Stratum V2: {v2}\nStratum V1: {v1}");
    let (fastest_v2, slowest_v1) = (v2.median_bounds().0, v1.median_bounds().1);
    assert!(fastest_v2 <= slowest_v1, "Stratum V2: {v2}; Stratum V1: {v1}");
}
