//! What a new start makes of the files that it finds: restored backups, copies, files of others.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::fs;
use std::path::Path;

use common::{NOW_MS, all_events, assert_gap_free, commit, numbered};
use rusqlite::Connection;
use store::{
    Batch, Change, Cursor, EventData, EventFilter, EventKind, OpenError, ReadError, Settings,
    SqliteStore, Store, StreamEpochStarted, Webhook,
};

fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(Settings::new(dir)).unwrap()
}

fn write(store: &SqliteStore, count: u64) {
    for number in 0..count {
        commit(store, Batch::of_event(NOW_MS, numbered(number)));
    }
}

/// The event that tells of the current epoch.
fn epoch_started(store: &SqliteStore) -> (u64, StreamEpochStarted) {
    let events = all_events(store);
    let event = events.iter().rev().find(|event| event.event == EventKind::StreamEpochStarted);
    let event = event.expect("the new epoch is told of");
    match event.typed().unwrap() {
        EventData::StreamEpochStarted(started) => (event.id, started),
        other => panic!("{other:?}"),
    }
}

fn gone(store: &SqliteStore, cursor: Cursor) -> bool {
    let page = store.events_after(cursor, &EventFilter::ALL, 10);
    matches!(page, Err(ReadError::Gone(gone)) if gone.epoch == store.epoch())
}

#[test]
fn a_restored_backup_starts_a_new_epoch() {
    let (dir, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    write(&store, 5);
    store.close();
    fs::copy(dir.path().join("jds.sqlite"), backup.path().join("jds.sqlite")).unwrap();
    let store = open(dir.path());
    write(&store, 5);
    let epoch = store.epoch();
    let cursor = store.events_after(Cursor::START, &EventFilter::ALL, 8).unwrap().next;
    // Not in order: what was seen is known at every moment.
    store.abandon();
    for rest in ["jds.sqlite-wal", "jds.sqlite-shm"] {
        let _ = fs::remove_file(dir.path().join(rest));
    }
    // In place, so that only the ids can tell.
    let old = fs::read(backup.path().join("jds.sqlite")).unwrap();
    fs::write(dir.path().join("jds.sqlite"), old).unwrap();

    let store = open(dir.path());
    assert_ne!(store.epoch(), epoch);
    let (id, started) = epoch_started(&store);
    assert_eq!(id, 11, "above everything that was seen");
    assert_eq!((started.previous_last_id, started.kept_last_id), (10, 5));
    assert_eq!(started.previous_epoch, epoch.to_string());
    assert_eq!(started.epoch, store.epoch().to_string());
    assert!(gone(&store, cursor), "events 6 to 10 would never be missed otherwise");
    let ids: Vec<_> = all_events(&store).iter().map(|event| event.id).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 11]);
    assert_eq!(commit(&store, Batch::of_event(NOW_MS, numbered(0))).first_event_id, Some(12));
    let epoch = store.epoch();
    store.close();
    assert_eq!(open(dir.path()).epoch(), epoch, "once for each restored backup");
}

#[test]
fn a_directory_that_was_copied_back_starts_a_new_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let (live, backup) = (dir.path().join("live"), dir.path().join("backup"));
    fs::create_dir(&live).unwrap();
    let store = open(&live);
    write(&store, 5);
    let epoch = store.epoch();
    store.close();
    fs::create_dir(&backup).unwrap();
    for name in ["jds.sqlite", "jds.stream"] {
        fs::copy(live.join(name), backup.join(name)).unwrap();
    }
    let store = open(&backup);
    assert_ne!(store.epoch(), epoch);
    assert_eq!(epoch_started(&store).0, 6);
    assert_gap_free(&all_events(&store));
}

#[test]
fn lost_files_start_a_new_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    write(&store, 5);
    let first = store.epoch();
    store.close();
    fs::remove_file(dir.path().join("jds.stream")).unwrap();
    let store = open(dir.path());
    let second = store.epoch();
    assert_ne!(second, first);
    assert_eq!(epoch_started(&store).0, 6);
    store.close();
    fs::remove_file(dir.path().join("jds.sqlite")).unwrap();
    let store = open(dir.path());
    assert_ne!(store.epoch(), second);
    let (id, started) = epoch_started(&store);
    assert_eq!((id, started.kept_last_id), (7, 0));
    assert_eq!(started.previous_epoch, second.to_string());
}

/// A webhook of the current epoch that has got everything up to `id`.
fn put_hook(store: &SqliteStore, name: &str, id: u64) {
    let hook = Webhook {
        id: name.to_owned(),
        url: "https://example.org/".to_owned(),
        secret: "0123456789abcdef".to_owned(),
        types: String::new(),
        cursor: Cursor { epoch: Some(store.epoch()), id },
        paused: false,
        failures: 0,
        last_error: None,
        created_at: NOW_MS,
        delivered_at: None,
    };
    commit(store, Batch::new(NOW_MS).change(Change::PutWebhook(hook)));
}

/// Ids that a webhook gets next.
fn next_ids(store: &SqliteStore, name: &str) -> Vec<u64> {
    let hook = store.webhook(name).unwrap().unwrap();
    let page = store.events_after(hook.cursor, &EventFilter::ALL, 1_000).unwrap();
    page.events.iter().map(|event| event.id).collect()
}

#[test]
fn webhooks_go_on_in_a_new_epoch() {
    let (dir, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (database, copy) = (dir.path().join("jds.sqlite"), backup.path().join("jds.sqlite"));
    let store = open(dir.path());
    write(&store, 5);
    for (name, id) in [("none", 0), ("some", 3), ("all", 5)] {
        put_hook(&store, name, id);
    }
    store.close();
    fs::copy(&database, &copy).unwrap();
    let store = open(dir.path());
    write(&store, 5);
    put_hook(&store, "all", 10);
    store.close();
    let restore = || fs::write(&database, fs::read(&copy).unwrap()).unwrap();
    restore();
    let store = open(dir.path());
    assert_eq!(epoch_started(&store).0, 11);
    for (name, ids) in
        [("none", [1, 2, 3, 4, 5, 11].as_slice()), ("some", &[4, 5, 11]), ("all", &[11])]
    {
        assert_eq!(next_ids(&store, name), ids, "{name}");
    }
    write(&store, 2);
    store.close();

    // Two epochs behind, and none of it delivered.
    fs::remove_file(dir.path().join("jds.stream")).unwrap();
    let store = open(dir.path());
    assert_eq!(epoch_started(&store).0, 14);
    for (name, ids) in [("some", [4, 5, 11, 12, 13, 14].as_slice()), ("all", &[11, 12, 13, 14])] {
        assert_eq!(next_ids(&store, name), ids, "{name}");
    }
    store.close();

    // A backup of an epoch before the last.
    restore();
    let store = open(dir.path());
    assert_eq!(epoch_started(&store).0, 15);
    assert_eq!(next_ids(&store, "some"), [4, 5, 15]);
    assert_eq!(next_ids(&store, "all"), [15]);
    let last = store.last_event_id();
    let all = store.webhook("all").unwrap().unwrap().cursor;
    assert_eq!(last - all.id, 1, "a gap in the ids is no lag");
}

#[test]
fn a_webhook_that_had_everything_outlives_what_retention_deletes_before_a_new_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("jds.sqlite");
    let store = open(dir.path());
    write(&store, 5);
    for (name, id) in [("some", 3), ("all", 5)] {
        put_hook(&store, name, id);
    }
    store.close();
    let backup = fs::read(&database).unwrap();
    let store = open(dir.path());
    write(&store, 5);
    store.close();
    fs::write(&database, backup).unwrap();
    let store = open(dir.path());
    // All that is left is what the new epoch began with.
    store.retain(NOW_MS + 31 * 86_400_000).unwrap();
    assert_eq!(all_events(&store)[0].id, 11);
    assert_eq!(next_ids(&store, "all"), [11]);
    assert!(gone(&store, store.webhook("some").unwrap().unwrap().cursor), "retention took 4 and 5");
    // Nor is a reader gone who had come so far: 6 to 10 were never in this epoch.
    let reader = |id| Cursor { epoch: Some(store.epoch()), id };
    let page = store.events_after(reader(5), &EventFilter::ALL, 10).unwrap();
    assert_eq!(page.events[0].id, 11);
    assert!(gone(&store, reader(4)) && gone(&store, reader(u64::MAX)));
    write(&store, 1);
    store.retain(u64::MAX >> 1).unwrap();
    assert_eq!(all_events(&store)[0].id, 12);
    assert!(gone(&store, reader(5)) && gone(&store, reader(10)), "retention took 11");
}

#[cfg(unix)]
#[test]
fn nobody_else_can_read_a_new_database() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
    let store = open(dir.path());
    write(&store, 1);
    for name in ["jds.sqlite", "jds.sqlite-wal", "jds.sqlite-shm"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    store.close();
    // An operator who lets a group read it knows why.
    fs::set_permissions(path("jds.sqlite"), fs::Permissions::from_mode(0o640)).unwrap();
    let store = open(dir.path());
    write(&store, 1);
    assert_eq!((mode("jds.sqlite"), mode("jds.sqlite-wal")), (0o640, 0o640));
}

#[test]
fn a_store_is_opened_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let error = SqliteStore::open(Settings::new(dir.path())).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("jds.stream"), "{error}");
    drop(store);
    open(dir.path());
}

#[test]
fn a_newer_database_is_refused_unharmed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    write(&store, 2);
    let epoch = store.epoch();
    store.close();
    let path = dir.path().join("jds.sqlite");
    let version = |version: u32| {
        let database = Connection::open(&path).unwrap();
        let before: u32 =
            database.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        database.pragma_update(None, "user_version", version).unwrap();
        before
    };
    let ours = version(999);
    let error = SqliteStore::open(Settings::new(dir.path())).unwrap_err();
    assert!(matches!(error, OpenError::TooNew { found: 999, .. }), "{error}");
    assert!(error.to_string().contains("newer program"), "{error}");
    version(ours);
    let store = open(dir.path());
    assert_eq!(all_events(&store).len(), 2);
    assert_eq!(store.epoch(), epoch);
}

#[test]
fn files_of_others_are_refused_unharmed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jds.sqlite");
    let theirs = Connection::open(&path).unwrap();
    theirs.execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)").unwrap();
    let before = fs::read(&path).unwrap();
    let error = SqliteStore::open(Settings::new(dir.path())).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    assert!(fs::read(&path).unwrap() == before, "not even its journal mode changes");
    let rows: u32 = theirs.query_row("SELECT count(*) FROM theirs", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);
    drop(theirs);
    fs::write(&path, "no database at all, but long enough to be looked at".repeat(100)).unwrap();
    let error = SqliteStore::open(Settings::new(dir.path())).unwrap_err();
    assert!(matches!(error, OpenError::Database { .. }), "{error}");
    let missing = SqliteStore::open(Settings::new(dir.path().join("missing"))).unwrap_err();
    assert!(matches!(missing, OpenError::File { .. }), "{missing}");
}

#[test]
fn a_database_of_another_network_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let on = |network: &str| {
        SqliteStore::open(Settings { network: network.to_owned(), ..Settings::new(dir.path()) })
    };
    // One from before networks were noted belongs to the first that comes.
    write(&open(dir.path()), 3);
    write(&on("regtest").unwrap(), 1);
    let before = fs::read(dir.path().join("jds.sqlite")).unwrap();
    let error = on("mainnet").unwrap_err();
    assert!(matches!(error, OpenError::OtherNetwork { .. }), "{error}");
    let (text, dir_text) = (error.to_string(), dir.path().display().to_string());
    for name in ["regtest", "mainnet", "data_dir", &dir_text] {
        assert!(text.contains(name), "{name} is not in: {text}");
    }
    assert_eq!(fs::read(dir.path().join("jds.sqlite")).unwrap(), before, "it stays as it is");
    assert_eq!(all_events(&on("regtest").unwrap()).len(), 4);
    assert_eq!(all_events(&open(dir.path())).len(), 4);
}
