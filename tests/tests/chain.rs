//! The event log of a running server, checked by a program that shares no code with it.

#![expect(clippy::unwrap_used, reason = "a test that can not go on says where")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jds_tests::{Setup, World, accepted, http, rejected};
use store::{Cursor, EventFilter};

const EXAMPLE: &str = "../guides/examples/verify_events.py";

/// Runs the example over what is in this directory.
fn example(dir: &Path, authority: &str) -> Output {
    let at = |name: &str| dir.join(name);
    let mut python = Command::new("python3");
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(EXAMPLE));
    python.args(["--authority", authority, "--keys"]).arg(at("keys.json"));
    python.arg(at("heads.json")).arg(at("events.ndjson")).output().unwrap()
}

/// The log as `jds events export` prints it, and what it is checked with, in files.
fn save(world: &World, dir: &Path) -> PathBuf {
    let store = world.store();
    let (mut lines, mut cursor) = (String::new(), Cursor::START);
    loop {
        let page = store.events_after(cursor, &EventFilter::ALL, 1_000).unwrap();
        for event in &page.events {
            lines.push_str(&serde_json::to_string(event).unwrap());
            lines.push('\n');
        }
        cursor = page.next;
        if !page.more {
            break;
        }
    }
    let events = dir.join("events.ndjson");
    fs::write(&events, lines).unwrap();
    for (name, path) in [("heads.json", "/v1/events/heads"), ("keys.json", "/v1/receipts/keys")] {
        fs::write(dir.join(name), http::read(world.api(), path).to_string()).unwrap();
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_finds_the_log_whole_and_every_change_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("receipts.key");
    let (secret, _) = config::keys::generate().unwrap();
    config::keys::write_new(&key_file, &secret).unwrap();
    let lines = format!("key_file = {key_file:?}");
    let world = Setup::new().api("").table("receipts", &lines).start().await;
    let mut alice = world.miner("alice").await;
    let mut template = alice.template(&world.work());
    accepted(&alice.declare(&template).await);
    template.version = 0;
    rejected(&alice.declare(&template).await, "invalid-job", "version");
    drop(alice);
    // A server signs what happened before it ends.
    let world = world.restart(|| {}).await;
    let heads = http::read(world.api(), "/v1/events/heads");
    let head = &heads["items"][0];
    assert!(head["event_id"].as_u64().unwrap() >= 5, "{heads}");
    assert_eq!(heads["anchor"]["id"], 0);

    let authority = world.authority.to_string();
    let events = save(&world, dir.path());
    let output = example(dir.path(), &authority);
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.starts_with("ok: "), "{said}{wrong}");
    let signed_for = format!("up to {}", head["event_id"]);
    assert!(said.trim_end().ends_with(&signed_for), "{said}");

    let whole = fs::read_to_string(&events).unwrap();
    assert!(whole.contains("template_rejected") && whole.contains("\"proof\":\"0152"));
    let removed: Vec<_> = whole.lines().enumerate().filter(|(at, _)| *at != 2).collect();
    let removed: String = removed.into_iter().map(|(_, line)| format!("{line}\n")).collect();
    for (changed, part) in [
        (removed, "is missing"),
        (whole.replacen("alice", "mallory", 1), "is not what its head was signed for"),
        (whole.lines().take(2).map(|line| format!("{line}\n")).collect(), "is not there"),
    ] {
        fs::write(&events, changed).unwrap();
        let output = example(dir.path(), &authority);
        let wrong = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && wrong.contains(part), "{part}: {wrong}");
    }
    let other = config::keys::generate().unwrap().1.to_string();
    fs::write(&events, whole).unwrap();
    let output = example(dir.path(), &other);
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not vouch"));
}
