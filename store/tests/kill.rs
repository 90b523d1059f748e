//! A process that is killed at a random moment has lost nothing that it acknowledged.
//!
//! The test starts itself as a child that commits from several threads and prints what was
//! acknowledged, kills it, opens the store and compares. `STORE_KILL_ROUNDS` sets the rounds.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{NOW_MS, all_events, assert_gap_free, block, job, numbered, template, txs};
use rand::Rng;
use store::{Batch, Change, RecoverQuery, Settings, SqliteStore, Store};

/// Directory of the child's store; set in the child only.
const CHILD: &str = "STORE_KILL_CHILD";
const ROUNDS: &str = "STORE_KILL_ROUNDS";
const ROUNDS_DEFAULT: u32 = 8;
const THREADS: u64 = 4;

/// What a number stands for: an event, a token and a template, a block.
fn batch(number: u64) -> Batch {
    let batch = Batch::new(NOW_MS).event(numbered(number));
    match number % 5 {
        0 => {
            let first = number % 50;
            let job = job(200, number as u32, txs(first..first + 40));
            batch
                .spend_token(number, NOW_MS * 2, "alice".into())
                .accept_template(template("alice", job))
        }
        1 if number % 10 == 1 => batch.change(Change::FindBlock(block(number as u32, 5_000))),
        _ => batch,
    }
}

/// Not a test by itself: the process that is killed.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let store = SqliteStore::open(Settings::new(Path::new(&dir))).unwrap();
    let start = store.last_event_id() * 1_000;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = &store;
            scope.spawn(move || {
                for number in (start + thread..).step_by(THREADS as usize) {
                    let committed = store.commit(batch(number)).wait().unwrap();
                    let id = committed.first_event_id.unwrap();
                    // One write, so that lines of threads do not mix.
                    let line = format!("ack {number} {id}\n");
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                }
            });
        }
    });
}

/// Runs the child until it has acknowledged `count` batches and a bit; adds them to `acknowledged`.
fn run_and_kill(dir: &Path, count: usize, acknowledged: &mut BTreeMap<u64, u64>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = 0;
    let mut note = |line: String| {
        let mut words = line.split(' ');
        if words.next() == Some("ack") {
            let mut number = || words.next()?.parse::<u64>().ok();
            // The last line may be cut off; its number is then smaller than it was.
            if let (Some(batch), Some(id)) = (number(), number()) {
                acknowledged.insert(id, batch);
                return true;
            }
        }
        false
    };
    while seen < count {
        let line = lines.next().expect("the child goes on until it is killed").unwrap();
        seen += usize::from(note(line));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it managed to say before the end counts.
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    let whole = rest.len().saturating_sub(1);
    for line in rest.into_iter().take(whole) {
        note(line);
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill() {
    let rounds = std::env::var(ROUNDS).map_or(ROUNDS_DEFAULT, |rounds| rounds.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut epoch = None;
    for round in 0..rounds {
        let count = rand::thread_rng().gen_range(1..400);
        run_and_kill(dir.path(), count, &mut acknowledged);
        let store = SqliteStore::open(Settings::new(dir.path())).unwrap();
        assert_eq!(*epoch.get_or_insert(store.epoch()), store.epoch(), "a kill is no new epoch");
        check(&store, &acknowledged, round);
    }
}

fn check(store: &SqliteStore, acknowledged: &BTreeMap<u64, u64>, round: u32) {
    let events = all_events(store);
    assert_gap_free(&events);
    assert_eq!(events[0].id, 1);
    let query = RecoverQuery { now_ms: NOW_MS, ..RecoverQuery::ALL };
    let recovered = store.recover(&query).unwrap();
    assert_eq!(recovered.damaged, Vec::<String>::new());
    let tokens: Vec<_> = recovered.spent_tokens.iter().rev().copied().collect();
    let templates: std::collections::HashSet<_> =
        recovered.templates.iter().map(|template| template.job.template_hash()).collect();
    let blocks: std::collections::HashSet<_> =
        recovered.blocks.iter().map(|block| block.block.hash).collect();
    for (id, number) in acknowledged {
        let event = events.get(*id as usize - 1);
        let event = event.unwrap_or_else(|| panic!("round {round}: event {id} is lost"));
        assert_eq!(event.data["detail"], number.to_string(), "round {round}: event {id}");
        if number % 5 == 0 {
            assert!(tokens.binary_search(number).is_ok(), "round {round}: token {number} is lost");
            let first = number % 50;
            let hash = job(200, *number as u32, txs(first..first + 40)).template_hash();
            assert!(templates.contains(&hash), "round {round}: template {number} is lost");
        }
        if number % 10 == 1 {
            let hash = block(*number as u32, 5_000).block.hash;
            assert!(blocks.contains(&hash), "round {round}: block {number} is lost");
        }
    }
}
