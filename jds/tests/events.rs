//! `jds events` as an operator and a script meet it: the real binary beside a database that this
//! process writes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what it expected")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use signet::wait;
use store::{
    Batch, Cursor, EventFilter, Keep, NodeStatus, Retention, Settings, SqliteStore, Status, Store,
    TokenAllocated,
};
use tempfile::TempDir;

/// How long a line or an end may take.
const LIMIT: Duration = Duration::from_secs(20);
const NOW_MS: u64 = 1_693_612_345_678;

/// A configuration and a data directory.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (secret, _) = config::keys::generate().unwrap();
        config::keys::write_new(&dir.path().join("authority.key"), &secret).unwrap();
        let text = "network = \"regtest\"\n[authority]\nsecret_key_file = \"authority.key\"\n\
                    [payout]\nmode = \"pool\"\nscript = \"raw(51)\"\n\
                    [[node]]\nname = \"main\"\nrpc_cookie_file = \"cookie\"\n";
        fs::write(dir.path().join("jds.toml"), text).unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        Self { dir }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn store(&self) -> SqliteStore {
        SqliteStore::open(Settings::new(self.data())).unwrap()
    }

    /// `jds events COMMAND --config … ARGS`.
    fn command(&self, command: &str, args: &[&str]) -> Command {
        let mut jds = Command::new(env!("CARGO_BIN_EXE_jds"));
        jds.args(["events", command, "--config"]).arg(self.dir.path().join("jds.toml")).args(args);
        jds.stdin(Stdio::null()).env_remove("RUST_LOG");
        jds
    }

    fn run(&self, command: &str, args: &[&str]) -> Output {
        self.command(command, args).output().unwrap()
    }

    /// Standard output of a command that must succeed and have no more to say.
    #[track_caller]
    fn prints(&self, command: &str, args: &[&str]) -> String {
        let output = self.run(command, args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command} {args:?}: {}\n{stderr}", output.status);
        assert_eq!(stderr, "", "{command} {args:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Exit code and message of a command that must fail and print nothing.
    #[track_caller]
    fn fails(&self, command: &str, args: &[&str], code: i32, parts: &[&str]) {
        let output = self.run(command, args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{command} {args:?}\n{stderr}");
        assert_eq!(output.stdout, b"", "{command} {args:?}\n{stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
        }
    }

    fn tail(&self, args: &[&str]) -> Tail {
        let mut child = self
            .command("tail", args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Tail { child, lines }
    }
}

/// A `jds events tail` whose output is read.
struct Tail {
    child: Child,
    lines: Receiver<String>,
}

impl Tail {
    #[track_caller]
    fn line(&self) -> String {
        self.lines
            .recv_timeout(LIMIT)
            .unwrap_or_else(|error| panic!("waited {LIMIT:?} for a line: {error}"))
    }

    #[track_caller]
    fn assert_ids(&self, ids: impl IntoIterator<Item = u64>) {
        for expected in ids {
            let line = self.line();
            assert_eq!(id(&line), expected, "{line}");
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let kill = ["-c", "kill -s \"$1\" \"$2\"", "kill", name, &pid];
    assert!(Command::new("sh").args(kill).status().unwrap().success(), "kill -s {name}");
}

/// Waits for the end: exit code and standard error.
fn end(child: &mut Child) -> (Option<i32>, String) {
    let status = wait::until("the command to end", LIMIT, || child.try_wait().unwrap()).unwrap();
    let mut stderr = String::new();
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_string(&mut stderr).unwrap();
    }
    (status.code(), stderr)
}

fn id(line: &str) -> u64 {
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    event["id"].as_u64().unwrap()
}

/// Commits `count` events of a node, each followed by one of a token.
fn write(store: &SqliteStore, count: u64) {
    for number in 0..count {
        let status = NodeStatus {
            kind: None,
            node: "main".to_owned(),
            state: "ready".to_owned(),
            height: None,
            detail: Some(format!("line\nbreak ü {number}")),
        };
        let token_id = number.to_string();
        let token = TokenAllocated { user: "alice".to_owned(), token_id, expires_at: NOW_MS };
        let batch = Batch::new(NOW_MS).event(status).event(token);
        assert!(!store.commit(batch).wait().unwrap().volatile);
    }
}

/// What the API gives for all of it: one event a line.
fn lines(store: &SqliteStore) -> String {
    let page = store.events_after(Cursor::START, &EventFilter::ALL, 10_000).unwrap();
    assert!(!page.more);
    page.events.iter().map(|event| format!("{}\n", serde_json::to_string(event).unwrap())).collect()
}

#[test]
fn an_export_is_the_log_with_a_server_and_without() {
    let place = Place::new();
    let store = place.store();
    // More than one page.
    write(&store, 800);
    let expected = lines(&store);
    assert_eq!(expected.lines().count(), 1_600);
    assert_eq!(place.prints("export", &[]), expected);
    // The store is as it was.
    write(&store, 1);
    assert_eq!(store.status(), Status::Healthy);
    let expected = lines(&store);
    store.close();
    let names = || {
        let entries = fs::read_dir(place.data()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = (names(), fs::read(place.data().join("jds.sqlite")).unwrap());
    assert_eq!(place.prints("export", &[]), expected);
    assert_eq!((names(), fs::read(place.data().join("jds.sqlite")).unwrap()), before);
}

#[test]
fn an_export_begins_after_the_cursor_and_takes_the_types_that_are_asked_for() {
    let place = Place::new();
    let store = place.store();
    write(&store, 10);
    let epoch = store.epoch();
    let ids = |args: &[&str]| place.prints("export", args).lines().map(id).collect::<Vec<_>>();
    assert_eq!(ids(&["--after", "18"]), [19, 20]);
    assert_eq!(ids(&["--after", &format!("{epoch}-19")]), [20]);
    assert_eq!(ids(&["--after", "20"]), [0; 0]);
    assert_eq!(ids(&["--after", "14", "--types", "node_*"]), [15, 17, 19]);
    assert_eq!(ids(&["--after", "17", "--types", "block_found,token_allocated"]), [18, 20]);
    assert_eq!(ids(&["--types", "template_*"]), [0; 0]);
    assert_eq!(ids(&["--after", "0"]).len(), 20);
}

#[test]
fn a_tail_begins_with_the_last_events_and_follows() {
    for (signal_name, args, first, then) in [
        ("TERM", &[][..], vec![11, 12, 13, 14, 15, 16, 17, 18, 19, 20], vec![21, 22]),
        ("INT", &["-n", "3"], vec![18, 19, 20], vec![21, 22]),
        ("TERM", &["--after", "19"], vec![20], vec![21, 22]),
        ("INT", &["-n", "2", "--types", "token_*"], vec![18, 20], vec![22]),
    ] {
        let place = Place::new();
        let store = place.store();
        write(&store, 10);
        let mut tail = place.tail(args);
        tail.assert_ids(first);
        write(&store, 1);
        tail.assert_ids(then);
        signal(&tail.child, signal_name);
        assert_eq!(end(&mut tail.child), (Some(0), String::new()), "{args:?}");
    }
}

/// The server starts, stops and starts again while somebody follows.
#[test]
fn a_tail_goes_on_when_the_server_restarts() {
    let place = Place::new();
    place.store().close();
    let mut tail = place.tail(&[]);
    for round in 0..4 {
        let store = place.store();
        write(&store, 5);
        if round % 2 == 0 {
            tail.assert_ids(round * 10 + 1..=round * 10 + 10);
        }
        store.close();
        if round % 2 == 1 {
            tail.assert_ids(round * 10 + 1..=round * 10 + 10);
        }
    }
    signal(&tail.child, "TERM");
    assert_eq!(end(&mut tail.child), (Some(0), String::new()));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let place = Place::new();
    let store = place.store();
    write(&store, 3_000);
    for (command, args) in [
        // Far more than a pipe holds.
        ("export", &[][..]),
        // Nothing to write after the first lines: the end is noticed all the same.
        ("tail", &["-n", "1"]),
    ] {
        let mut jds = place.command(command, args);
        let mut child = jds.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(id(&line) > 0);
        assert_eq!(end(&mut child), (Some(0), String::new()), "{command}");
    }
}

#[test]
fn a_reader_that_stops_reading_does_not_keep_a_tail_from_ending() {
    let place = Place::new();
    let store = place.store();
    write(&store, 3_000);
    let mut jds = place.command("tail", &["--after", "0"]);
    let mut child = jds.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    // It has begun, and can not go on: a pipe holds far less than that.
    stdout.read_exact(&mut [0]).unwrap();
    signal(&child, "TERM");
    assert_eq!(end(&mut child), (Some(0), String::new()));
    drop(stdout);
}

#[test]
fn a_cursor_that_is_gone_has_an_exit_code_of_its_own() {
    let place = Place::new();
    let few = Retention { events: Keep { age_ms: u64::MAX, bytes: 1_000 }, ..Retention::default() };
    let store =
        SqliteStore::open(Settings { retention: few, ..Settings::new(place.data()) }).unwrap();
    write(&store, 100);
    store.retain(NOW_MS).unwrap();
    let epoch = store.epoch();
    let everything = place.prints("export", &[]);
    let earliest = id(everything.lines().next().unwrap());
    assert!(earliest > 100);
    let hint = format!("--after {epoch}-{}", earliest - 1);
    for (cursor, why) in [
        ("5", "events_days"),
        ("0123456789abcdef-200", "another stream"),
        ("201", "no event with that id yet"),
    ] {
        let parts = ["jds.sqlite", cursor, why, &format!("id {earliest}"), &hint];
        place.fails("export", &["--after", cursor], 3, &parts);
        place.fails("tail", &["--after", cursor], 3, &parts);
    }
    let after = hint.split_once(' ').unwrap().1;
    assert_eq!(place.prints("export", &["--after", after]), everything, "the hint works");
}

#[test]
fn what_can_not_be_read_is_named() {
    let place = Place::new();
    for command in ["export", "tail"] {
        place.fails(command, &[], 1, &["data_dir", "jds.toml", "jds.sqlite does not exist"]);
        place.fails(command, &["--after", "x"], 2, &["--after", "not a cursor"]);
        let parts = ["--types", "no event matches \"templat\"", "template_accepted"];
        place.fails(command, &["--types", "templat"], 2, &parts);
    }
    assert_eq!(fs::read_dir(place.data()).unwrap().count(), 0, "nothing is made");
    place.fails("tail", &["--after", "1", "-n", "2"], 2, &["--count", "--after"]);
    let path = place.data().join("jds.sqlite");
    fs::write(&path, "something else".repeat(100)).unwrap();
    place.fails("export", &[], 1, &["jds.sqlite is not a database of this program"]);
    fs::remove_file(&path).unwrap();
    place.store().close();
    fs::remove_file(place.dir.path().join("jds.toml")).unwrap();
    place.fails("export", &[], 1, &["jds.toml"]);
}

#[test]
fn the_help_teaches_with_examples() {
    for command in ["tail", "export"] {
        let help = Place::new().prints(command, &["--help"]);
        for part in ["Examples:", "jds events tail --config", "--types 'template_*", "Exit codes"] {
            assert!(help.contains(part), "{part:?} is not in: {help}");
        }
    }
}
