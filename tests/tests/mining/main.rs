//! Miners at the mining endpoint, with our own client, the reference implementation's programs and
//! a real node: what is acknowledged is stored and told, blocks are in the chain, and whoever does
//! not hold to the protocol harms only themselves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions"
)]

mod acceptance;
mod announced;
mod beside;
mod bounds;
mod channels;
mod custom;
mod encrypted;
mod ending;
mod ending_busy;
mod jdc;
mod jdc_trouble;
mod jdc_ways;
mod matrix;
mod mixed;
mod nameless;
mod pool_beside;
mod pool_work;
mod ports;
mod recorded;
mod rigs;
mod scenarios;
mod servers;
mod solo;
mod stalled;
mod sv1_miners;
mod sv1_trouble;
mod translator;
mod user_check;

use jds::client::SetupOptions;
use jds::client::mining::{Channel, MiningClient};
use jds_tests::{PATIENCE, World};
use signet::wait;
use store::{Cursor, Event, EventData, EventFilter, EventKind, ShareSubmitted};

/// What a client says of itself, hashes per second: any share will do.
const HASHRATE: f32 = 0.001;
/// Blocks before the miner begins, so that the chain has left its initial download.
const BLOCKS_BEFORE: u32 = 20;

/// A client, set up with these flags.
async fn client(world: &World, flags: u32) -> MiningClient {
    let options = SetupOptions { other_flags: flags, ..SetupOptions::default() };
    MiningClient::connect(world.mining(), Some(world.authority), &options).await.unwrap()
}

/// A client with an extended channel that has work.
async fn extended(world: &World, user: &str) -> (MiningClient, Channel) {
    let mut client = client(world, 0).await;
    let mut channel = client.open_extended(user, HASHRATE, 8).await.unwrap();
    client.work(&mut channel).await.unwrap();
    (client, channel)
}

/// All events of a kind.
fn events(world: &World, kind: EventKind) -> Vec<Event> {
    let filter = EventFilter::only(&[kind]);
    world.store().events_after(Cursor::START, &filter, 1_000).unwrap().events
}

/// All shares that were told.
fn shares(world: &World) -> Vec<ShareSubmitted> {
    let share = |event: &Event| match event.typed().unwrap() {
        EventData::ShareSubmitted(share) => share,
        other => panic!("no share: {other:?}"),
    };
    events(world, EventKind::ShareSubmitted).iter().map(share).collect()
}

/// Waits for an event of a kind that is wanted.
#[track_caller]
fn wait_event(world: &World, kind: EventKind, wanted: impl Fn(&EventData) -> bool) -> EventData {
    wait::until(&format!("an event {kind}"), PATIENCE, || {
        events(world, kind).iter().map(|event| event.typed().unwrap()).find(&wanted)
    })
    .unwrap()
}
