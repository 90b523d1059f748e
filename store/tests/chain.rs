//! The event log is a hash chain: what was changed, removed or put in is noticed, and nothing else
//! is: not retention, not a restored backup, not a refused batch.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::fs;
use std::path::Path;

use common::{KEEP_ALL, NOW_MS, commit, numbered};
use rusqlite::Connection;
use store::chain::{ChainError, ChainReport, GENESIS, HEAD_TAG, Link, SignedHead, head_bytes};
use store::{Batch, Change, EventLog, Keep, PageRequest, Retention, Settings, SqliteStore, Store};
use validation::receipt::{ServerId, SigningKey};

fn key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32]).unwrap()
}

fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(Settings { retention: KEEP_ALL, ..Settings::new(dir) }).unwrap()
}

fn write(store: &SqliteStore, count: u64) {
    for number in 0..count {
        commit(store, Batch::of_event(NOW_MS, numbered(number)));
    }
}

fn sign(store: &SqliteStore) -> Link {
    let (server, epoch, link) = (ServerId([1; 8]), store.epoch(), store.chain_ends().unwrap().last);
    let signature = key().sign_tagged(HEAD_TAG, &[&head_bytes(server, epoch, link, 5)], &[0; 32]);
    let key_id = key().public().id();
    let head = SignedHead { link, epoch, signed_at_ms: 5, server, key_id, signature };
    commit(store, Batch::new(NOW_MS).change(Change::SignHead(head)));
    link
}

fn verify(dir: &Path) -> Result<ChainReport, ChainError> {
    EventLog::open(dir).unwrap().verify(&[*key().public()]).unwrap()
}

/// Changes the database behind the back of the server.
fn meddle(dir: &Path, sql: &str) {
    let database = Connection::open(dir.join("jds.sqlite")).unwrap();
    database.execute_batch(sql).unwrap();
    assert!(database.changes() > 0, "{sql} changed nothing");
}

/// A closed database of 20 events, signed for after 10 and after 18.
fn written() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for count in [10, 8] {
        write(&store, count);
        sign(&store);
    }
    write(&store, 2);
    store.close();
    dir
}

#[test]
fn what_was_written_is_whole_beside_the_server_and_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let ends = store.chain_ends().unwrap();
    assert_eq!((ends.anchor, ends.last), (Link { id: 0, hash: GENESIS }, ends.anchor));
    write(&store, 10);
    assert_eq!(sign(&store).id, 10);
    store.close();
    assert_eq!(verify(dir.path()).unwrap().events, 10);

    let store = open(dir.path());
    write(&store, 5);
    let heads = store.event_heads(PageRequest::default()).unwrap();
    assert_eq!(heads.items.len(), 1);
    assert_eq!(heads.items[0].verify(&[*key().public()]), Ok(()));
    store.close();
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.events, report.heads, report.signed_to), (15, 1, Some(10)));
    assert_eq!((report.unchained, report.last_id), (0, 15));
}

#[test]
fn whoever_meddles_is_noticed() {
    for (sql, error) in [
        ("UPDATE events SET data = '{}' WHERE id = 7", ChainError::Changed { id: 7 }),
        ("UPDATE events SET timestamp = 1 WHERE id = 7", ChainError::Changed { id: 7 }),
        ("UPDATE events SET kind = 'node' WHERE id = 20", ChainError::Changed { id: 20 }),
        ("UPDATE events SET hash = NULL WHERE id = 7", ChainError::Unchained { id: 7 }),
        ("DELETE FROM events WHERE id = 7", ChainError::Missing { id: 8, before: 6 }),
        ("DELETE FROM events WHERE id < 7", ChainError::Missing { id: 7, before: 0 }),
        ("DELETE FROM events WHERE id > 17", ChainError::OtherHead { id: 18 }),
        ("DELETE FROM events", ChainError::OtherHead { id: 10 }),
        (
            "UPDATE event_heads SET signed_at = 6 WHERE event_id = 10",
            ChainError::HeadSignature { id: 10 },
        ),
        (
            "INSERT INTO meta VALUES ('events_anchor', '6 ' || printf('%064d', 1));
             DELETE FROM events WHERE id < 7",
            ChainError::Changed { id: 7 },
        ),
    ] {
        let dir = written();
        assert_eq!(verify(dir.path()).unwrap().signed_to, Some(18));
        meddle(dir.path(), sql);
        assert_eq!(verify(dir.path()), Err(error), "{sql}");
    }
}

#[test]
fn retention_moves_the_anchor_and_what_is_kept_stays_whole() {
    let dir = tempfile::tempdir().unwrap();
    let keep = Keep { age_ms: u64::MAX, bytes: 2_000 };
    let retention = Retention { events: keep, ..KEEP_ALL };
    let store = SqliteStore::open(Settings { retention, ..Settings::new(dir.path()) }).unwrap();
    for _ in 0..3 {
        write(&store, 100);
        sign(&store);
        store.retain(NOW_MS).unwrap();
    }
    let ends = store.chain_ends().unwrap();
    assert!(ends.anchor.id > 200 && ends.anchor.hash != GENESIS, "{ends:?}");
    let heads = store.event_heads(PageRequest::default()).unwrap().items;
    assert_eq!(heads.iter().map(|head| head.link.id).collect::<Vec<_>>(), [300]);
    write(&store, 3);
    store.close();
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.events, report.signed_to), (303 - ends.anchor.id, Some(300)));
    // The anchor itself is under the head.
    meddle(
        dir.path(),
        "UPDATE meta SET value = '1 ' || substr(value, 5) WHERE name = 'events_anchor'",
    );
    assert!(verify(dir.path()).is_err());
}

#[test]
fn a_restored_backup_goes_on_where_its_chain_ended() {
    let (dir, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    write(&store, 5);
    sign(&store);
    store.close();
    fs::copy(dir.path().join("jds.sqlite"), backup.path().join("jds.sqlite")).unwrap();
    let store = open(dir.path());
    write(&store, 5);
    store.close();
    fs::copy(backup.path().join("jds.sqlite"), dir.path().join("jds.sqlite")).unwrap();
    let store = open(dir.path());
    write(&store, 3);
    sign(&store);
    store.close();
    // 5, the event that tells of the epoch, 3.
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.events, report.heads, report.last_id), (9, 2, 14));

    // The database is lost: the stream goes on above what was seen, with nothing before.
    fs::remove_file(dir.path().join("jds.sqlite")).unwrap();
    let store = open(dir.path());
    write(&store, 3);
    sign(&store);
    store.close();
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.events, report.last_id), (4, 18));
}

#[test]
fn a_refused_batch_leaves_no_trace_in_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let spend = || Batch::new(NOW_MS).spend_token(1, NOW_MS * 2, "alice".into());
    commit(&store, spend().event(numbered(1)));
    store.commit(spend().event(numbered(2))).wait().unwrap_err();
    commit(&store, Batch::of_event(NOW_MS, numbered(3)));
    store.close();
    assert_eq!(verify(dir.path()).unwrap().events, 2);
}
