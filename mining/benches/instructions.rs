//! What the hot functions cost, counted instead of timed: each is run once, under `callgrind`, which
//! counts the instructions of [`measured`] and of all that it calls. See `tests/instructions/run`. What it
//! runs on has no instructions for SHA-256, so hashing stands for more here than on most machines.
//!
//! Run without arguments it lists the names of what there is to count.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::panic,
    missing_docs,
    reason = "a benchmark ends where an unwrap fails"
)]

#[path = "../../jds/wire/tests/common/mod.rs"]
mod connection;
#[path = "../tests/support/mod.rs"]
mod support;
#[path = "../../validation/tests/common/mod.rs"]
mod templates;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bitcoin::consensus::serialize;
use bitcoin::{CompactTarget, Target};
use jds_wire::{Admit, Event, FrameDecoder, FrameEncoder};
use mining::Now;
use mining::channel::{Channel, Open, Reply};
use mining::identity::Identity;
use mining::job::Job;
use mining::share::Submission;
use support::{HARD, START_S, deps, tip, work_of};
use templates::{Template, Wire, simple};
use validation::{AcceptedJob, NodeFacts, Solution, Tx, TxSlots, WitnessRoot, assemble, judge};

/// Transactions of the template: enough to be all of what counts, few enough to be set up quickly.
const TRANSACTIONS: u64 = 1_000;
/// Of the merkle path of a block of 4,000 transactions.
const MERKLE_PATH: usize = 12;
/// Shares that are judged.
const SHARES: u32 = 100;
/// Payload of the frame: about a declaration of 4,000 transactions.
const FRAME_BYTES: usize = 128_000;

/// Name, and what makes it ready and then runs it within [`measured`].
const ALL: [(&str, fn()); 10] = [
    ("validate", validate),
    ("judge", judge_known),
    ("merkle_root", merkle_root),
    ("parse_transactions", parse_transactions),
    ("coinbase_splice", coinbase_splice),
    ("frame_decode", frame_decode),
    ("share_standard", || shares(0)),
    ("share_extended", || shares(16)),
    ("block_assembly", || blocks(false)),
    ("block_from_body", || blocks(true)),
];

/// What is counted. It has to be there by this name.
#[inline(never)]
fn measured<R>(work: impl FnOnce() -> R) -> R {
    black_box(work())
}

fn main() {
    let wanted = std::env::args().nth(1);
    match ALL.iter().find(|(name, _)| Some(*name) == wanted.as_deref()) {
        Some((_, run)) => run(),
        // `cargo bench` says `--bench`.
        None => ALL.iter().for_each(|(name, _)| println!("{name}")),
    }
}

fn template() -> Template {
    Template::new(100, (0..TRANSACTIONS).map(simple).collect())
}

fn known(template: &Template) -> TxSlots {
    let known = |tx: &bitcoin::Transaction| {
        let tx = Tx::parse(&serialize(tx)).unwrap();
        tx.learn(NodeFacts { fee_sat: 0, sigop_cost: 2 });
        Some(Arc::new(tx))
    };
    template.txs.iter().map(known).collect()
}

fn verdict(wire: &Wire, slots: TxSlots) -> AcceptedJob {
    let validation::Precheck::Ok(checked) = wire.precheck() else { panic!("a good declaration") };
    judge(*checked, slots, &wire.tip, &wire.rules).unwrap()
}

/// A warm declaration: all transactions are known.
fn validate() {
    let template = template();
    let (wire, slots) = (template.declare(), known(&template));
    measured(|| verdict(&wire, slots));
}

/// The same without the witness root, which takes nearly all of it.
fn judge_known() {
    let template = template();
    let (wire, slots) = (template.declare(), known(&template));
    let validation::Precheck::Ok(checked) = wire.precheck() else { panic!("a good declaration") };
    measured(|| judge(*checked, slots, &wire.tip, &wire.rules).unwrap());
}

fn merkle_root() {
    let wtxids: Vec<_> = template().txs.iter().map(bitcoin::Transaction::compute_wtxid).collect();
    measured(|| WitnessRoot::of(black_box(&wtxids)));
}

fn parse_transactions() {
    let raw: Vec<_> = template().txs.iter().map(serialize).collect();
    measured(|| raw.iter().map(|raw| Tx::parse(raw).unwrap().weight_wu()).sum::<u32>());
}

/// The coinbase of a solution, and the root that follows from it.
fn coinbase_splice() {
    let template = template();
    let job = verdict(&template.declare(), known(&template));
    let extranonce = vec![7; job.coinbase().extranonce_len()];
    let body = job.prepare_branch();
    measured(|| body.merkle_root(job.coinbase().txid_with(black_box(&extranonce))));
}

fn frame_decode() {
    let (client, server) = connection::pair(1);
    let mut encoder: FrameEncoder = client.encoder;
    let mut decoder: FrameDecoder = server.decoder;
    let sealed = encoder.encode_parts(0, false, 0x57, &vec![5; FRAME_BYTES]).unwrap();
    let payload = measured(|| {
        let mut rest = &sealed[..];
        loop {
            match decoder.poll().unwrap() {
                Some(Event::Header(_)) => decoder.admit(Admit::Buffer).unwrap(),
                Some(Event::Frame(frame)) => break frame,
                Some(other) => panic!("a part of a frame: {other:?}"),
                None => rest = &rest[decoder.push(rest)..],
            }
        }
    });
    assert_eq!(payload.payload.len(), FRAME_BYTES);
}

/// Shares of one channel, each accepted and remembered.
fn shares(rolled_bytes: usize) {
    let now = Now { instant: Instant::now(), unix_s: START_S };
    let settings =
        mining::Settings { min_hashrate: 1e-3, share_batch_size: 10, ..support::settings() };
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
    let mut work = work_of(1, tip(1, HARD));
    let path: Vec<_> = (0..MERKLE_PATH).map(|level| [level as u8; 32].into()).collect();
    work.template.merkle_path = path.try_into().unwrap();
    let rules = (deps(settings.clone()).terms)("alice").unwrap();
    let job = Job::for_user(1, work.into(), &rules, &settings, 24, START_S).unwrap();
    channel.set_job(Arc::new(job), now).unwrap();
    let extranonce = &[7; 16][..rolled_bytes];
    measured(|| {
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
            assert!(matches!(black_box(channel.submit(&share, now)).reply, Reply::Accepted(_)));
        }
    });
}

/// From a solution to the block's bytes, when the body was ready or was not.
fn blocks(ready: bool) {
    let template = template();
    let job = verdict(&template.declare(), known(&template));
    let extranonce = vec![7; job.coinbase().extranonce_len()];
    let bits = CompactTarget::from_consensus(templates::EASY_BITS);
    let solution = |nonce| Solution {
        extranonce: &extranonce,
        prev_hash: job.prev_hash(),
        ntime: START_S,
        nonce,
        version: job.version(),
    };
    // Every other hash is good for a block.
    let body = job.prepare_body();
    let good = |nonce: &u32| assemble(&job, &body, &solution(*nonce), bits).is_ok();
    let nonce = (0..u32::MAX).find(good).expect("a nonce");
    if ready {
        measured(|| assemble(&job, &body, &solution(nonce), bits).unwrap());
    } else {
        measured(|| assemble(&job, &job.prepare_body(), &solution(nonce), bits).unwrap());
    }
}
