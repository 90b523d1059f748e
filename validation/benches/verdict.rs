//! The cost of a verdict on a nearly full block of 4,000 transactions that are all known, and its
//! parts: what a warm declaration costs beyond the wire and the store.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark ends where an unwrap fails")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::sync::Arc;

use bitcoin::consensus::serialize;
use bitcoin::{CompactTarget, Witness};
use common::{Template, child, input, output, outside, script, tx};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use validation::{
    AcceptedJob, NodeFacts, Precheck, Prechecked, Solution, TemplateHash, Tx, TxSlots, assemble,
    judge, precheck,
};

const TRANSACTIONS: u64 = 4_000;

/// Two inputs and two outputs each, about 430 bytes; every tenth spends its predecessor.
fn template() -> Template {
    let mut txs: Vec<bitcoin::Transaction> = Vec::new();
    for number in 0..TRANSACTIONS {
        if number % 10 == 9 {
            let parent = txs.last().unwrap();
            txs.push(child(parent, 500));
            continue;
        }
        let witness = [&[7; 72][..], &[2; 33]];
        let mut next = tx(
            vec![input(outside(2 * number), &witness), input(outside(2 * number + 1), &witness)],
            vec![output(50_000, script(1)), output(70_000, script(2))],
        );
        next.input[1].witness = Witness::from_slice(&[vec![3; 120]]);
        txs.push(next);
    }
    Template::new(100, txs)
}

fn known(template: &Template) -> TxSlots {
    template
        .txs
        .iter()
        .map(|tx| {
            let tx = Tx::parse(&serialize(tx)).unwrap();
            tx.learn(NodeFacts { fee_sat: 0, sigop_cost: 2 });
            Some(Arc::new(tx))
        })
        .collect()
}

fn prechecked(wire: &common::Wire) -> Box<Prechecked> {
    match precheck(&wire.declared(), &wire.tip, &wire.rules) {
        Precheck::Ok(pre) => pre,
        other => panic!("{other:?}"),
    }
}

fn benches(criterion: &mut Criterion) {
    let template = template();
    let mut wire = template.declare();
    // The children's fees are seen: 500 each.
    let fees = TRANSACTIONS / 10 * 500;
    let mut paid = template.clone();
    paid.coinbase.output[0].value += bitcoin::Amount::from_sat(fees);
    wire.suffix = paid.declare().suffix;
    let slots = known(&template);
    let pre = prechecked(&wire);
    let job = judge((*pre).clone(), slots.clone(), &wire.tip, &wire.rules).unwrap();
    assert_eq!(job.fees().total_sat, Some(fees));

    criterion.bench_function("precheck and judge, 4,000 known transactions", |bench| {
        bench.iter_batched(
            || slots.clone(),
            |slots| {
                let pre = prechecked(black_box(&wire));
                judge(*pre, slots, &wire.tip, &wire.rules).unwrap()
            },
            BatchSize::LargeInput,
        );
    });
    criterion.bench_function("precheck, 4,000 wtxids", |bench| {
        bench.iter(|| prechecked(black_box(&wire)));
    });
    criterion.bench_function("judge, 4,000 known transactions", |bench| {
        bench.iter_batched(
            || ((*pre).clone(), slots.clone()),
            |(pre, slots)| judge(pre, slots, &wire.tip, &wire.rules).unwrap(),
            BatchSize::LargeInput,
        );
    });
    criterion.bench_function("witness root and template hash, 4,000 wtxids", |bench| {
        bench.iter(|| TemplateHash::of(black_box(&wire.declared())));
    });
    criterion.bench_function("parse and hash, 4,000 transactions", |bench| {
        bench.iter(|| wire.raw.iter().map(|raw| Tx::parse(raw).unwrap().weight_wu()).sum::<u32>());
    });
    criterion.bench_function("block body, 4,000 transactions", |bench| {
        bench.iter(|| black_box(&job).prepare_body());
    });
    let body = job.prepare_body();
    assembly(criterion, &job);
    criterion.bench_function("block as hex from a ready body", |bench| {
        bench.iter(|| validation::proposal_block_hex(&job, black_box(&body), 1));
    });
}

/// From a solution to the bytes of the block.
fn assembly(criterion: &mut Criterion, job: &AcceptedJob) {
    let extranonce = vec![7; job.coinbase().extranonce_len()];
    let bits = CompactTarget::from_consensus(common::EASY_BITS);
    let solution = |nonce| Solution {
        extranonce: &extranonce,
        prev_hash: job.prev_hash(),
        ntime: common::TIP_MTP + 7_200,
        nonce,
        version: job.version(),
    };
    // Every other hash is good for a block.
    let branch = job.prepare_branch();
    let good = |nonce: &u32| assemble(job, &branch, &solution(*nonce), bits).is_ok();
    let nonce = (0..u32::MAX).find(good).unwrap();
    for (name, body) in [("a ready body", job.prepare_body()), ("a ready branch", branch)] {
        criterion.bench_function(&format!("block of a solution from {name}"), |bench| {
            bench.iter(|| assemble(job, black_box(&body), &solution(nonce), bits).unwrap());
        });
    }
    criterion.bench_function("coinbase and merkle root of a solution", |bench| {
        let body = job.prepare_branch();
        bench.iter(|| body.merkle_root(job.coinbase().txid_with(black_box(&extranonce))));
    });
}

criterion_group! {
    name = verdict;
    config = Criterion::default().sample_size(50);
    targets = benches
}
criterion_main!(verdict);
