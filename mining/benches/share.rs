//! The cost of judging one share, found good and remembered, on one core: header-only, with a
//! coinbase and a merkle path as of a full block, and through the SV2 session, from frame to
//! acknowledgement.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark ends where an unwrap fails")]

#[allow(clippy::expect_used, reason = "as above")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bitcoin::Target;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use jds_wire::Frame;
use mining::channel::{Channel, Open, Reply};
use mining::identity::Identity;
use mining::job::Job;
use mining::share::Submission;
use mining::{Input, Now, PoolWork, Settings};
use support::{HARD, Miner, Rig, STANDARD_JOBS, START_S, deps, tip, work_of};

/// Of a block of 4,000 transactions.
const MERKLE_PATH: usize = 12;
/// Shares judged in one go.
const SHARES: u32 = 4_096;

/// Every hash is a share.
fn settings() -> Settings {
    Settings { min_hashrate: 1e-3, share_batch_size: 10, ..support::settings() }
}

fn work() -> Arc<PoolWork> {
    let mut work = work_of(1, tip(1, HARD));
    let path: Vec<_> = (0..MERKLE_PATH).map(|level| [level as u8; 32].into()).collect();
    work.template.merkle_path = path.try_into().unwrap();
    work.into()
}

fn channel(rolled_bytes: usize) -> Channel {
    let now = Now { instant: Instant::now(), unix_s: START_S };
    let settings = settings();
    let open = Open {
        channel_id: 1,
        identity: Identity::of("alice.rig"),
        nominal_hashrate: 0.0,
        max_target: Target::from_le_bytes([0xff; 32]),
        extranonce_prefix: [1; 8],
        padding_bytes: 16 - rolled_bytes,
        rolled_bytes,
        settings: &settings,
    };
    let mut channel = Channel::open(open, now).unwrap();
    let rules = (deps(settings.clone()).terms)("alice").unwrap();
    let job = Job::for_user(1, work(), &rules, &settings, 24, START_S).unwrap();
    channel.set_job(Arc::new(job), now).unwrap();
    channel
}

fn judge(channel: &mut Channel, extranonce: &[u8], now: Now) {
    for nonce in 0..SHARES {
        let share = Submission {
            sequence_number: nonce,
            job_id: 1,
            extranonce,
            ntime: START_S,
            nonce,
            version: 0x2000_0000,
            worker: None,
        };
        let outcome = black_box(channel.submit(&share, now));
        assert!(matches!(outcome.reply, Reply::Accepted(_)));
    }
}

fn channels(c: &mut Criterion) {
    let now = Now { instant: Instant::now(), unix_s: START_S };
    let mut group = c.benchmark_group("share");
    group.throughput(Throughput::Elements(u64::from(SHARES)));
    for (name, rolled_bytes) in [("standard", 0), ("extended", 16)] {
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || channel(rolled_bytes),
                |channel| judge(channel, &[7; 16][..rolled_bytes], now),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// A session with one channel, and frames of shares for it.
fn session(standard: bool) -> (Rig, Vec<Frame>) {
    let mut rig = Rig::set_up(settings(), if standard { STANDARD_JOBS } else { 0 });
    rig.input(Input::Work(work()));
    let open = if standard {
        support::open_standard(1, "alice.rig")
    } else {
        support::open_extended(1, "alice.rig", 16)
    };
    let mut miner = Miner::opened(&rig.send(&open));
    let frames = (0..SHARES)
        .map(|nonce| {
            let share = mining_sv2::SubmitSharesExtendedOwned { nonce, ..miner.draft() };
            support::frame(miner.message(share).encode().unwrap())
        })
        .collect();
    (rig, frames)
}

fn sessions(c: &mut Criterion) {
    let mut group = c.benchmark_group("session");
    group.throughput(Throughput::Elements(u64::from(SHARES)));
    for (name, standard) in [("standard", true), ("extended", false)] {
        group.bench_function(name, |b| {
            b.iter_batched_ref(
                || session(standard),
                |(rig, frames)| {
                    for frame in frames {
                        rig.session.handle(Input::Frame(frame), rig.now);
                        while let Some(action) = rig.session.poll_action() {
                            black_box(action);
                        }
                    }
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, channels, sessions);
criterion_main!(benches);
