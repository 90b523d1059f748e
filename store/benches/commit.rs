//! What the store adds to an event, and to an accepted template of 4,000 transactions.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark ends where an unwrap fails")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::cell::Cell;
use std::sync::Arc;

use common::{NOW_MS, job, numbered, share, template, tx};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use store::{Batch, Settings, SqliteStore, Store, TemplateSource};
use validation::tx::Tx;

const TRANSACTIONS: u64 = 4_000;

/// Events in flight at once where many tasks commit.
const TOGETHER: u64 = 256;

fn benches(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(Settings::new(dir.path())).unwrap();
    let number = Cell::new(0_u64);
    let next = || {
        number.set(number.get() + 1);
        number.get()
    };
    criterion.bench_function("one event", |bencher| {
        bencher.iter(|| {
            store.commit(Batch::of_event(NOW_MS, numbered(next()))).wait().unwrap();
        });
    });
    criterion.bench_function("256 events in flight", |bencher| {
        bencher.iter(|| {
            let commits: Vec<_> = (0..TOGETHER)
                .map(|_| store.commit(Batch::of_event(NOW_MS, numbered(next()))))
                .collect();
            for commit in commits {
                commit.wait().unwrap();
            }
        });
    });
    criterion.bench_function("256 shares in flight, rows only", |bencher| {
        bencher.iter(|| {
            let commits: Vec<_> = (0..TOGETHER)
                .map(|_| share("alice", next(), TemplateSource::Miner))
                .map(|share| store.commit(Batch::new(NOW_MS).share(share)))
                .collect();
            for commit in commits {
                commit.wait().unwrap();
            }
        });
    });
    criterion.bench_function("one synced event", |bencher| {
        bencher.iter(|| {
            let batch = Batch::of_event(NOW_MS, numbered(next())).synced();
            store.commit(batch).wait().unwrap();
        });
    });
    templates(criterion, &store, &next);
}

fn templates(criterion: &mut Criterion, store: &SqliteStore, next: &dyn Fn() -> u64) {
    let known: Vec<Arc<Tx>> = (0..TRANSACTIONS).map(|number| tx(number, 600)).collect();
    let batch = |txs: Vec<Arc<Tx>>| {
        let template = template("alice", job(1_000, next() as u32, txs));
        let token = next();
        Batch::new(NOW_MS).spend_token(token, NOW_MS, "alice".into()).accept_template(template)
    };
    store.commit(batch(known.clone())).wait().unwrap();
    criterion.bench_function("template of 4,000 known transactions", |bencher| {
        bencher.iter_batched(
            || {
                // As templates change: some go, some come, some move.
                let mut txs = known.clone();
                let turn = next() as usize;
                txs.rotate_left(turn % 4_000);
                txs.swap(turn % 1_000, turn % 3_000);
                batch(txs)
            },
            |batch| store.commit(batch).wait().unwrap(),
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("template of 4,000, 5 % of them new", |bencher| {
        bencher.iter_batched(
            || {
                let mut txs = known.clone();
                for place in (0..txs.len()).step_by(20) {
                    txs[place] = tx(10_000 + next(), 600);
                }
                batch(txs)
            },
            |batch| store.commit(batch).wait().unwrap(),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(commit, benches);
criterion_main!(commit);
