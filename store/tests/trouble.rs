//! A full disk and a locked database: commits go on, are marked as volatile, and are written when
//! the trouble is over. A bound on the file stands for the full disk (the same error of SQLite), a
//! second connection holds the lock.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{
    NOW_MS, all_events, assert_gap_free, block, commit, job, numbered, share, template, txs,
    wait_for,
};
use rusqlite::Connection;
use store::limits::{VOLATILE_BATCHES_MAX, VOLATILE_TEMPLATES_MAX};
use store::{
    Batch, Change, CommitError, EventData, EventKind, RecoverQuery, Settings, SqliteStore, Status,
    Store, StoreRecovered, TemplateFilter, TemplateSource,
};

const STALL: Duration = Duration::from_millis(200);

fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(Settings { stall_after: STALL, ..Settings::new(dir) }).unwrap()
}

/// Holds the write lock until dropped.
fn locked(dir: &Path) -> Connection {
    let connection = Connection::open(dir.join("jds.sqlite")).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

fn is_stalled(store: &SqliteStore) -> bool {
    matches!(store.status(), Status::Stalled { .. })
}

fn recovered(store: &SqliteStore) -> StoreRecovered {
    let events = all_events(store);
    assert_gap_free(&events);
    let last = events.iter().rev().find(|event| event.event == EventKind::StoreRecovered);
    match last.expect("the store tells that it recovered").typed().unwrap() {
        EventData::StoreRecovered(recovered) => recovered,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_disk_degrades_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    commit(&store, Batch::of_event(NOW_MS, numbered(0)));
    // Less than the file has: SQLite takes it as "no more than now".
    store.set_database_bytes_max(1);
    let mut number = 0;
    wait_for("the file to be full", || {
        number += 1;
        // More than fits any free page.
        let template = template(
            "alice",
            job(200, number, txs(u64::from(number) * 50..u64::from(number) * 50 + 50)),
        );
        let batch = Batch::new(NOW_MS).accept_template(template);
        commit(&store, batch).volatile
    });
    let Status::Stalled { reason, since } = store.status() else { panic!("{:?}", store.status()) };
    assert!(reason.contains("full"), "{reason}");
    assert!(since > NOW_MS);
    let started = Instant::now();
    let found = block(1, 1_000);
    let batch = Batch::new(NOW_MS).change(Change::FindBlock(found.clone())).event(numbered(1));
    assert!(commit(&store, batch).volatile);
    for number in 0..500 {
        assert!(commit(&store, Batch::of_event(NOW_MS, numbered(number))).volatile);
    }
    assert!(started.elapsed() < Duration::from_secs(5), "commits wait for nobody");
    let kept = store.metrics().volatile_batches;
    assert_eq!(kept, 502);
    assert_eq!(store.metrics().volatile_total, 502);
    // Readers are not disturbed.
    assert_gap_free(&all_events(&store));
    assert!(all_events(&store).iter().all(|event| event.event != EventKind::StoreRecovered));

    store.set_database_bytes_max(0);
    wait_for("the store to heal", || store.status() == Status::Healthy);
    let report = recovered(&store);
    assert_eq!(report.acknowledged_volatile, 502);
    assert_eq!((report.batches_kept, report.batches_lost), (502, 0));
    assert_eq!(store.metrics().volatile_batches, 0);
    let block = store.block(&found.block.hash.to_string()).unwrap().unwrap();
    assert!(block.acknowledged_volatile);
    let templates = store.templates(&TemplateFilter::default(), Default::default()).unwrap();
    let marks: Vec<_> = templates.items.iter().map(|item| item.acknowledged_volatile).collect();
    assert_eq!(
        marks.iter().filter(|mark| **mark).count(),
        1,
        "only the one that met the full disk"
    );
    assert!(marks[0]);
    assert!(!commit(&store, Batch::of_event(NOW_MS, numbered(9))).volatile);
}

#[test]
fn a_short_lock_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { stall_after: Duration::from_secs(60), ..Settings::new(dir.path()) };
    let store = SqliteStore::open(settings).unwrap();
    let lock = locked(dir.path());
    let pending = store.commit(Batch::of_event(NOW_MS, numbered(1)));
    wait_for("the store to say that it tries again", || {
        matches!(store.status(), Status::Retrying { .. })
    });
    assert_eq!(store.last_event_id(), 0);
    drop(lock);
    let committed = pending.wait().unwrap();
    assert_eq!((committed.first_event_id, committed.volatile), (Some(1), false));
    wait_for("the store to be healthy", || store.status() == Status::Healthy);
    assert!(all_events(&store).iter().all(|event| event.event != EventKind::StoreRecovered));
}

#[test]
fn a_long_lock_makes_commits_volatile_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let before = commit(&store, Batch::of_event(NOW_MS, numbered(0)));
    assert_eq!(before.first_event_id, Some(1));
    let lock = locked(dir.path());
    let first = commit(&store, Batch::of_event(NOW_MS, numbered(1)));
    assert_eq!((first.volatile, first.first_event_id, first.events), (true, None, 1));
    assert!(is_stalled(&store));
    for number in 2..100 {
        let batch = Batch::new(NOW_MS).spend_token(number, NOW_MS * 2, "alice".into());
        let share = share("alice", number, TemplateSource::Miner);
        assert!(commit(&store, batch.event(numbered(number)).share(share)).volatile);
    }
    assert_eq!(all_events(&store).len(), 1, "readers see what is written");
    drop(lock);
    wait_for("the store to heal", || store.status() == Status::Healthy);
    let report = recovered(&store);
    assert_eq!((report.acknowledged_volatile, report.batches_kept), (99, 99));
    assert!(report.stalled_ms >= STALL.as_millis() as u64);
    let numbers: Vec<u64> = all_events(&store)
        .iter()
        .filter(|event| event.event == EventKind::NodeStatus)
        .map(|event| event.data["detail"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>(), "in the order of their acknowledgement");
    let query = RecoverQuery { now_ms: NOW_MS, templates_max: 1, ..RecoverQuery::ALL };
    assert_eq!(store.recover(&query).unwrap().spent_tokens.len(), 98);
    let miner = store.miner("alice").unwrap().unwrap();
    assert_eq!(miner.shares_accepted_miner, 98);
    drop(store);
    let store = open(dir.path());
    assert_gap_free(&all_events(&store));
}

#[test]
fn a_full_queue_gives_the_batch_back_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { stall_after: Duration::from_secs(600), ..Settings::new(dir.path()) };
    let store = SqliteStore::open(settings).unwrap();
    let lock = locked(dir.path());
    let mut commits = Vec::new();
    let full = loop {
        match store.try_commit(Batch::of_event(NOW_MS, numbered(commits.len() as u64))) {
            Ok(commit) => commits.push(commit),
            Err(full) => break full,
        }
    };
    assert!(commits.len() >= store::limits::QUEUE_BATCHES_MAX);
    // The writer holds one group beside the queue.
    assert!(commits.len() < 2 * store::limits::QUEUE_BATCHES_MAX);
    assert!(full.to_string().contains("full"));
    let waiting = std::thread::spawn({
        let commit = store.commit(full.0);
        move || commit.wait()
    });
    drop(lock);
    for (number, commit) in (1..).zip(commits) {
        assert_eq!(commit.wait().unwrap().first_event_id, Some(number));
    }
    waiting.join().unwrap().unwrap();
    assert_gap_free(&all_events(&store));
}

/// However long the trouble lasts: what is kept is bounded, and what was given up is told.
#[test]
fn what_is_kept_in_memory_is_bounded_and_told() {
    const EXTRA: usize = 50;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let lock = locked(dir.path());
    for number in 0..(VOLATILE_TEMPLATES_MAX + EXTRA) as u32 {
        let template = template("alice", job(200, number, txs(0..2)));
        let batch = Batch::new(NOW_MS).spend_token(number.into(), NOW_MS * 2, "alice".into());
        assert!(commit(&store, batch.accept_template(template)).volatile);
    }
    for number in 0..VOLATILE_BATCHES_MAX as u64 {
        assert!(commit(&store, Batch::of_event(NOW_MS, numbered(number))).volatile);
        assert!(store.metrics().volatile_batches <= VOLATILE_BATCHES_MAX);
    }
    assert_eq!(store.metrics().volatile_batches, VOLATILE_BATCHES_MAX);
    drop(lock);
    wait_for("the store to heal", || store.status() == Status::Healthy);
    let report = recovered(&store);
    let all = VOLATILE_TEMPLATES_MAX + EXTRA + VOLATILE_BATCHES_MAX;
    assert_eq!(report.acknowledged_volatile, all as u64);
    assert_eq!(report.batches_kept, VOLATILE_BATCHES_MAX as u64);
    assert_eq!(report.batches_lost, (all - VOLATILE_BATCHES_MAX) as u64);
    // The oldest lost their place to newer ones, the rest with their batches.
    assert_eq!(report.templates_lost, (VOLATILE_TEMPLATES_MAX + EXTRA) as u64);
    let last = all_events(&store).into_iter().rev().find(|event| event.data["detail"].is_string());
    let last_number = (VOLATILE_BATCHES_MAX - 1).to_string();
    assert_eq!(last.unwrap().data["detail"], last_number, "the newest are kept");
}

#[test]
fn closing_does_not_wait_for_a_lock() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let lock = locked(dir.path());
    for number in 1..=3 {
        assert!(commit(&store, Batch::of_event(NOW_MS, numbered(number))).volatile);
    }
    // Acknowledged only while the store ends.
    let last = store.commit(Batch::of_event(NOW_MS, numbered(4)));
    let started = Instant::now();
    assert_eq!(store.finish(), 4);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(last.wait().unwrap().volatile);
    assert_eq!((store.finish(), store.status()), (4, Status::Closed));
    drop(store);
    drop(lock);
    let store = open(dir.path());
    assert_eq!(all_events(&store), [], "it was marked as volatile");
}

#[test]
fn what_was_volatile_is_written_when_the_store_closes_after_the_trouble() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let lock = locked(dir.path());
    assert!(commit(&store, Batch::of_event(NOW_MS, numbered(1))).volatile);
    drop(lock);
    assert_eq!(store.finish(), 0);
    assert_eq!(recovered(&store).batches_kept, 1);
}

#[test]
fn what_was_queued_is_written_when_the_store_closes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let commits: Vec<_> =
        (0..1_000).map(|n| store.commit(Batch::of_event(NOW_MS, numbered(n)))).collect();
    store.close();
    assert!(commits.into_iter().all(|commit| commit.wait().is_ok()));
    let store = open(dir.path());
    assert_eq!(all_events(&store).len(), 1_000);
    let shared = store.commit(Batch::new(NOW_MS));
    store.abandon();
    // Acknowledged or not, but not left without an answer.
    assert!(matches!(shared.wait(), Ok(_) | Err(CommitError::Closed)));
}
