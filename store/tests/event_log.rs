//! The event log as another process reads it: beside a writer, after a killed one, without one. No
//! file changes by that.
//!
//! The writer is a child process, because the log is for processes that do not have the store open.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use common::{KEEP_ALL, NOW_MS, assert_gap_free, commit, numbered, wait_for};
use rusqlite::Connection;
use store::{
    Batch, Cursor, Event, EventFilter, EventKind, EventLog, EventLogError, Keep, Retention,
    Settings, SqliteStore, Store, TokenAllocated,
};

/// Directory of the child's store; set in the child only.
const CHILD: &str = "STORE_EVENT_LOG_CHILD";
/// How many events the child writes before it closes; without it goes on until it is killed.
const COUNT: &str = "STORE_EVENT_LOG_COUNT";

/// Not a test by itself: the process that writes.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let count = std::env::var(COUNT).map_or(u64::MAX, |count| count.parse().unwrap());
    let settings = Settings { retention: KEEP_ALL, ..Settings::new(Path::new(&dir)) };
    let store = SqliteStore::open(settings).unwrap();
    for number in 0..count {
        let id = commit(&store, Batch::of_event(NOW_MS, numbered(number))).first_event_id.unwrap();
        std::io::stdout().lock().write_all(format!("\nack {id}\n").as_bytes()).unwrap();
    }
    store.close();
}

struct Writer {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(dir: &Path, count: Option<u64>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--nocapture"]).env(CHILD, dir);
        if let Some(count) = count {
            command.env(COUNT, count.to_string());
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The id of the next acknowledged event; `None` when the writer has ended.
    fn next_id(&mut self) -> Option<u64> {
        loop {
            let line = self.lines.next()?.ok()?;
            if let Some(id) = line.strip_prefix("ack ") {
                return id.parse().ok();
            }
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn read_on(log: &EventLog, cursor: &mut Cursor) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let page = log.after(*cursor, &EventFilter::ALL, 100).unwrap();
        events.extend(page.events);
        *cursor = page.next;
        if !page.more {
            return events;
        }
    }
}

fn read_all(dir: &Path) -> Vec<Event> {
    let mut cursor = Cursor::START;
    read_on(&EventLog::open(dir).unwrap(), &mut cursor)
}

/// Every file of a directory with its content and its time of change.
fn files(dir: &Path) -> BTreeMap<String, (Vec<u8>, std::time::SystemTime)> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let file = |entry: fs::DirEntry| {
        let modified = entry.metadata().unwrap().modified().unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, (fs::read(entry.path()).unwrap(), modified))
    };
    entries.map(file).collect()
}

fn written(dir: &Path, count: u64) {
    let store = SqliteStore::open(Settings { retention: KEEP_ALL, ..Settings::new(dir) }).unwrap();
    let pending: Vec<_> =
        (0..count).map(|number| store.commit(Batch::of_event(NOW_MS, numbered(number)))).collect();
    assert!(pending.into_iter().all(|commit| commit.wait().is_ok()));
    store.close();
}

#[test]
fn beside_a_writer_everything_acknowledged_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::start(dir.path(), None);
    writer.next_id().unwrap();
    let log = EventLog::open(dir.path()).unwrap();
    let (mut cursor, mut events) = (Cursor::START, Vec::new());
    while events.len() < 500 {
        let acknowledged = writer.next_id().unwrap();
        events.extend(read_on(&log, &mut cursor));
        assert!(cursor.id >= acknowledged, "{acknowledged} is missing, read up to {}", cursor.id);
    }
    writer.kill();
    assert_eq!(events[0].id, 1);
    assert_gap_free(&events);
}

#[test]
fn after_a_killed_writer_everything_is_there_and_no_file_changes() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::start(dir.path(), None);
    let acknowledged = (0..300).map(|_| writer.next_id().unwrap()).last().unwrap();
    writer.kill();
    let before = files(dir.path());
    assert!(before["jds.sqlite-wal"].0.len() > 10_000, "the write-ahead log is left over");
    let events = read_all(dir.path());
    assert!(events.last().unwrap().id >= acknowledged);
    assert_eq!(events[0].id, 1);
    assert_gap_free(&events);
    assert!(files(dir.path()) == before, "a file changed");

    // The server starts again on what it left.
    let mut writer = Writer::start(dir.path(), Some(1));
    let next = writer.next_id().unwrap();
    assert_eq!(next, events.last().unwrap().id + 1);
    assert_eq!(writer.next_id(), None);
    writer.child.wait().unwrap();
    assert_eq!(read_all(dir.path()).len() as u64, next);
}

#[test]
fn without_a_writer_no_file_is_made_or_changed() {
    let dir = tempfile::tempdir().unwrap();
    // What a path may hold and an address in it may not.
    let dir = dir.path().join("a b?c#d%41ü");
    fs::create_dir(&dir).unwrap();
    written(&dir, 250);
    let before = files(&dir);
    assert_eq!(before.keys().collect::<Vec<_>>(), ["jds.sqlite", "jds.stream"]);
    let events = read_all(&dir);
    assert_eq!(events.len(), 250);
    assert_gap_free(&events);
    assert!(files(&dir) == before, "a file changed");
    assert_eq!(fs::read_dir(dir.parent().unwrap()).unwrap().count(), 1, "nothing beside it");
}

#[test]
fn a_copy_without_shm_is_read_with_its_write_ahead_log() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut writer = Writer::start(dir.path(), None);
    let acknowledged = (0..300).map(|_| writer.next_id().unwrap()).last().unwrap();
    writer.kill();
    for name in ["jds.sqlite", "jds.sqlite-wal"] {
        fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let before = files(copy.path());
    let events = read_all(copy.path());
    assert!(events.last().unwrap().id >= acknowledged);
    assert_gap_free(&events);
    let after = files(copy.path());
    for name in ["jds.sqlite", "jds.sqlite-wal"] {
        assert!(after[name] == before[name], "{name} changed");
    }
}

/// Servers come and go while somebody reads: nothing is read twice or missed, no read fails, and
/// each server closes with everything on the disk.
#[test]
fn servers_come_and_go_beside_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 1);
    let log = EventLog::open(dir.path()).unwrap();
    let (mut cursor, mut events) = (Cursor::START, Vec::new());
    for _ in 0..10 {
        let mut writer = Writer::start(dir.path(), Some(40));
        let ended = std::thread::scope(|scope| {
            let ended = scope.spawn(|| {
                while writer.next_id().is_some() {}
                writer.child.wait().unwrap()
            });
            while !ended.is_finished() {
                events.extend(read_on(&log, &mut cursor));
            }
            ended.join().unwrap()
        });
        assert!(ended.success());
        let stream = fs::read_to_string(dir.path().join("jds.stream")).unwrap();
        assert!(stream.contains("clean=1"), "not closed in order: {stream}");
    }
    events.extend(read_on(&log, &mut cursor));
    assert_eq!(events.len(), 401);
    assert_eq!(events[0].id, 1);
    assert_gap_free(&events);
}

#[test]
fn the_last_events_of_some_types_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let store =
        SqliteStore::open(Settings { retention: KEEP_ALL, ..Settings::new(dir.path()) }).unwrap();
    // More than one look back: 45,000 events, one in 15,000 of another type.
    for thousand in 0..45 {
        let mut batch = Batch::new(NOW_MS);
        for number in thousand * 1_000 + 1..=(thousand + 1) * 1_000 {
            batch = if number % 15_000 == 1 {
                let token_id = number.to_string();
                batch.event(TokenAllocated { user: "a".into(), token_id, expires_at: 1 })
            } else {
                batch.event(numbered(number))
            };
        }
        commit(&store, batch);
    }
    let epoch = Some(store.epoch());
    store.close();
    let log = EventLog::open(dir.path()).unwrap();
    let tokens = EventFilter::only(&[EventKind::TokenAllocated]);
    let blocks = EventFilter::only(&[EventKind::BlockFound]);
    for (filter, count, id) in [
        (EventFilter::ALL, 0, 45_000),
        (EventFilter::ALL, 10, 44_990),
        (EventFilter::ALL, 44_999, 1),
        (EventFilter::ALL, 45_000, 0),
        (EventFilter::ALL, 90_000, 0),
        (tokens, 1, 30_000),
        (tokens, 2, 15_000),
        (tokens, 3, 0),
        (tokens, 4, 0),
        (blocks, 1, 0),
        (blocks, 0, 45_000),
    ] {
        let found = log.last(&filter, count).unwrap();
        assert_eq!(found, Cursor { epoch, id }, "{filter} {count}");
    }
    let page = log.after(log.last(&tokens, 2).unwrap(), &tokens, 10).unwrap();
    assert_eq!(page.events.iter().map(|event| event.id).collect::<Vec<_>>(), [15_001, 30_001]);
}

#[test]
fn an_empty_log_has_a_start_and_an_end() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 0);
    let log = EventLog::open(dir.path()).unwrap();
    assert_eq!(log.last(&EventFilter::ALL, 10).unwrap().id, 0);
    assert_eq!(read_all(dir.path()), []);
}

#[test]
fn cursors_that_are_gone_say_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let retention =
        Retention { events: Keep { age_ms: u64::MAX, bytes: 1_000 }, ..Retention::default() };
    let store = SqliteStore::open(Settings { retention, ..Settings::new(dir.path()) }).unwrap();
    for number in 0..100 {
        commit(&store, Batch::of_event(NOW_MS, numbered(number)));
    }
    store.retain(NOW_MS).unwrap();
    let epoch = store.epoch();
    store.close();
    let log = EventLog::open(dir.path()).unwrap();
    let earliest = read_all(dir.path())[0].id;
    assert!(earliest > 50, "{earliest}");
    let other = "0123456789abcdef".parse().unwrap();
    for cursor in [
        Cursor { epoch: None, id: earliest - 2 },
        Cursor { epoch: Some(epoch), id: 1 },
        Cursor { epoch: Some(other), id: 100 },
        Cursor { epoch: Some(epoch), id: 101 },
    ] {
        let error = log.after(cursor, &EventFilter::ALL, 10).unwrap_err();
        let EventLogError::Gone { gone, .. } = &error else { panic!("{error}") };
        assert_eq!((gone.epoch, gone.earliest), (epoch, earliest));
        let message = error.to_string();
        let parts = [cursor.to_string(), earliest.to_string(), "jds.sqlite".to_owned()];
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    let last = log.after(Cursor { epoch: None, id: earliest - 1 }, &EventFilter::ALL, 1_000);
    assert_eq!(last.unwrap().events[0].id, earliest);
}

#[test]
fn what_is_no_database_of_this_version_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jds.sqlite");
    let fails = |part: &str| {
        let message = EventLog::open(dir.path()).unwrap_err().to_string();
        assert!(message.contains(&path.display().to_string()), "{message}");
        assert!(message.contains(part), "{part:?} is not in: {message}");
    };
    fails("does not exist");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is made");
    fs::write(&path, "").unwrap();
    fails("not set up yet");
    fs::write(&path, "something else".repeat(100)).unwrap();
    fails("not a database of this program");
    fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    fails("not a database of this program");
    fs::remove_file(&path).unwrap();
    written(dir.path(), 1);
    let set_version = |version: u32| {
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", version).unwrap();
    };
    let known: u32 = {
        let connection = Connection::open(&path).unwrap();
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    };
    set_version(known + 1);
    fails(&format!("has version {}, this program knows versions up to {known}", known + 1));
    set_version(known - 1);
    fails(&format!("has version {}, this program reads version {known}", known - 1));
    set_version(known);
    assert_eq!(read_all(dir.path()).len(), 1);
    fs::remove_file(&path).unwrap();
    wait_for("the file to be gone", || !path.exists());
    fails("does not exist");
}
