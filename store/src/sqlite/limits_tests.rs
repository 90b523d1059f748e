//! Bounds of the store, reached: what is beyond waits, comes with the next page, or is refused.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use super::state::Bases;
use super::{EventLog, EventLogError, SqliteStore, connect};
use crate::fixtures::{KEEP_ALL, NOW_MS, block, commit, job, numbered, template, txs, wait_for};
use crate::limits::{
    AGGREGATES_MAX, EVENT_LOG_WAIT, GROUP_BATCHES_MAX, GROUP_TEMPLATES_MAX, LIST_DELTAS_MAX,
    LISTS_CACHED_MAX, PAGE_EVENT_BYTES_MAX, READER_WAIT, READERS_MAX, SCAN_EVENTS_MAX,
    WAL_CHECKPOINT_BYTES,
};
use crate::{
    Batch, Change, Cursor, EventFilter, EventKind, NodeStatus, Period, ReadError, Settings,
    SharesQuery, Status, Store, UserTag,
};

/// Nothing that is waited for takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

fn open(dir: &Path) -> SqliteStore {
    let stall_after = PATIENCE * 10;
    SqliteStore::open(Settings { retention: KEEP_ALL, stall_after, ..Settings::new(dir) }).unwrap()
}

fn database(dir: &Path) -> Connection {
    let connection = Connection::open(dir.join("jds.sqlite")).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    connection
}

/// How many transactions these batches take, when all of them wait before the first is written.
fn transactions(batches: impl IntoIterator<Item = Batch>) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let lock = database(dir.path());
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let before = store.metrics().commits_total;
    // The writer takes one by itself, and waits for the lock with it.
    let first = store.commit(Batch::of_event(NOW_MS, numbered(0)));
    let waits = || matches!(store.status(), Status::Retrying { .. });
    wait_for("the writer to wait for the lock", waits);
    let commits: Vec<_> = batches.into_iter().map(|batch| store.commit(batch)).collect();
    assert_eq!(store.metrics().queue_depth, commits.len());
    drop(lock);
    first.wait().unwrap();
    commits.into_iter().for_each(|commit| assert!(!commit.wait().unwrap().volatile));
    store.metrics().commits_total - before - 1
}

#[test]
fn so_many_batches_are_written_together_and_the_rest_after_them() {
    let event = |number| Batch::of_event(NOW_MS, numbered(number));
    let count = GROUP_BATCHES_MAX as u64;
    assert_eq!(transactions((0..count).map(event)), 1);
    assert_eq!(transactions((0..3 * count + 1).map(event)), 4);
}

#[test]
fn so_many_templates_are_written_together_and_the_rest_after_them() {
    let accepted = |number: u32| {
        Batch::new(NOW_MS).accept_template(template("alice", job(200, number, txs(0..2))))
    };
    let count = GROUP_TEMPLATES_MAX as u32;
    assert_eq!(transactions((0..count).map(accepted)), 1);
    assert_eq!(transactions((0..3 * count + 1).map(accepted)), 4);
}

#[test]
fn a_page_of_events_ends_after_so_many_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // A bit more than an eighth of what fits.
    let detail = Some("x".repeat(PAGE_EVENT_BYTES_MAX / 8));
    for _ in 0..10 {
        let event = NodeStatus { detail: detail.clone(), ..numbered(0) };
        commit(&store, Batch::of_event(NOW_MS, event));
    }
    let page = store.events_after(Cursor::START, &EventFilter::ALL, 1_000).unwrap();
    assert_eq!((page.events.len(), page.more), (8, true));
    let rest = store.events_after(page.next, &EventFilter::ALL, 1_000).unwrap();
    assert_eq!((rest.events.len(), rest.more), (2, false));
}

#[test]
fn a_reader_of_rare_events_looks_at_so_many_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let event = |batch: Batch, number| batch.event(numbered(number));
    commit(&store, (1..=SCAN_EVENTS_MAX + 5).fold(Batch::new(NOW_MS), event));
    let rare = EventFilter::only(&[EventKind::BlockOrphaned]);
    let page = store.events_after(Cursor::START, &rare, 10).unwrap();
    assert_eq!((page.events.len(), page.next.id, page.more), (0, SCAN_EVENTS_MAX, true));
    let page = store.events_after(page.next, &rare, 10).unwrap();
    assert_eq!((page.next.id, page.more), (SCAN_EVENTS_MAX + 5, false));
    // And so backwards.
    let found =
        store.read(|connection| super::read_events::back(connection, &rare, 1, None)).unwrap();
    assert_eq!((found.wanted, found.id, found.first), (0, 6, false));
}

#[test]
fn an_answer_about_aggregates_has_so_many_periods() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let database = database(dir.path());
    let sql = "INSERT INTO aggregates (period, scope, user_id, start, template_source)
         SELECT 'hour', 0, '', value * ?1, 'miner' FROM (WITH RECURSIVE n (value) AS
             (SELECT 0 UNION ALL SELECT value + 1 FROM n LIMIT ?2) SELECT value FROM n)";
    database.execute(sql, params![Period::Hour.ms(), AGGREGATES_MAX + 1]).unwrap();
    let query =
        |from_ms| SharesQuery { user: None, period: Period::Hour, from_ms, until_ms: u64::MAX };
    let first = store.shares_summary(&query(0)).unwrap();
    assert_eq!(first.len(), AGGREGATES_MAX);
    let last = first.last().unwrap().start;
    assert_eq!(last, Period::Hour.ms() * (AGGREGATES_MAX as u64 - 1), "the oldest");
    assert_eq!(store.shares_summary(&query(last + 1)).unwrap().len(), 1);
}

/// Readers that stay are few; one more is told so after a while, and is served when one of them goes.
#[test]
fn so_many_read_at_a_time_and_one_more_waits_so_long() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    commit(&store, Batch::of_event(NOW_MS, numbered(1)));
    let (open, gate) = channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let reading = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..READERS_MAX {
            scope.spawn(|| {
                let read = store.read(|_| {
                    reading.fetch_add(1, Ordering::SeqCst);
                    let _ = gate.lock().unwrap().recv();
                    Ok(())
                });
                read.unwrap();
            });
        }
        wait_for("the readers to read", || reading.load(Ordering::SeqCst) == READERS_MAX);
        let asked = Instant::now();
        let busy = store.webhooks().unwrap_err();
        assert!(matches!(busy, ReadError::Busy { readers: READERS_MAX }), "{busy}");
        assert!(asked.elapsed() >= READER_WAIT, "{:?}", asked.elapsed());
        // Nobody who writes waits for readers.
        commit(&store, Batch::of_event(NOW_MS, numbered(2)));
        open.send(()).unwrap();
        wait_for("one of them to go", || store.webhooks().is_ok());
        drop(open);
    });
}

/// A database between its first migration and its first epoch, for ever.
#[test]
fn a_log_that_does_not_settle_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).close();
    EventLog::open(dir.path()).unwrap();
    let database = database(dir.path());
    database.execute("DELETE FROM meta WHERE name = ?1", [super::open::EPOCH]).unwrap();
    drop(database);
    let asked = Instant::now();
    let error = EventLog::open(dir.path()).unwrap_err();
    assert!(matches!(error, EventLogError::Unreadable { .. }), "{error}");
    assert!(asked.elapsed() >= EVENT_LOG_WAIT, "{:?}", asked.elapsed());
}

#[test]
fn the_last_lists_of_so_many_users_are_remembered() {
    let mut bases = Bases::default();
    let tag = |number: usize| UserTag((number as u128).to_le_bytes());
    for number in 0..LISTS_CACHED_MAX + 10 {
        bases.insert(tag(number), number as i64, vec![1, 2, 3]);
        assert_eq!(bases.take_turn(&tag(number)).unwrap().list_id, number as i64);
    }
    let known =
        (0..LISTS_CACHED_MAX + 10).filter(|number| bases.take_turn(&tag(*number)).is_some());
    assert_eq!(known.count(), LISTS_CACHED_MAX);
}

/// Whoever reads the last of a chain of changes reads two lists, not the whole chain; and after so
/// many there is a whole one.
#[test]
fn so_many_lists_are_changes_to_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let count = LIST_DELTAS_MAX as usize + 2;
    for number in 0..count as u32 {
        let job = job(200, number, txs(0..60));
        commit(&store, Batch::new(NOW_MS).accept_template(template("alice", job)));
    }
    let database = database(dir.path());
    let mut lists = database.prepare("SELECT base_id FROM tx_lists ORDER BY id").unwrap();
    let bases: Vec<Option<i64>> =
        lists.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut expected = vec![Some(1); count];
    (expected[0], expected[count - 1]) = (None, None);
    assert_eq!(bases, expected);
}

/// What was written moves to the database beside the writer.
#[test]
fn the_write_ahead_log_is_moved_from_some_size_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let file = dir.path().join("jds.sqlite");
    let database_bytes = || std::fs::metadata(&file).unwrap().len();
    for number in 0..3 * (WAL_CHECKPOINT_BYTES >> 20) as u32 {
        let block = block(number, 1 << 20);
        commit(&store, Batch::new(NOW_MS).change(Change::FindBlock(block)));
    }
    wait_for("the blocks to be in the database", || database_bytes() >= 3 * WAL_CHECKPOINT_BYTES);
    commit(&store, Batch::of_event(NOW_MS, numbered(1)));
    let database = connect::reader(&file).unwrap();
    let sound: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}
