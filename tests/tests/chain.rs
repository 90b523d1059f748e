//! The event log of a running server and its verdicts, checked by programs that share no code with it;
//! and the test vectors of receipts, made once more by one.

#![expect(clippy::unwrap_used, reason = "a test that can not go on says where")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bitcoin::hex::DisplayHex;
use jds::client::DeclareOutcome;
use jds_tests::{Setup, World, accepted, http, rejected};
use store::{Cursor, EventFilter};
use validation::receipt::Receipt;

const EXAMPLES: &str = "../guides/examples";
const VECTORS: &str = "../validation/tests/vectors/receipts.txt";

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What a program says that must end well.
#[track_caller]
fn well(python: &mut Command) -> String {
    let output = python.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    let (said, wrong) = (output.stdout, String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{python:?}: {wrong}");
    String::from_utf8(said).unwrap()
}

#[test]
fn the_vectors_of_receipts_are_what_another_program_makes() {
    let mut python = Command::new("python3");
    python.arg(here("vectors/receipts.py")).args([here(EXAMPLES), here(VECTORS)]);
    let said = well(&mut python);
    assert!(said.starts_with("ok: 12 vectors"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_checks_what_a_server_said_of_templates() {
    let dir = tempfile::tempdir().unwrap();
    let (key_file, keys) = (dir.path().join("receipts.key"), dir.path().join("keys.json"));
    let (secret, _) = config::keys::generate().unwrap();
    config::keys::write_new(&key_file, &secret).unwrap();
    let lines = format!("key_file = {key_file:?}");
    let world = Setup::new().api("").table("receipts", &lines).start().await;
    let mut alice = world.miner("alice.rig1").await;
    let mut template = alice.template(&world.work());
    let outcome = alice.declare(&template).await;
    accepted(&outcome);
    let DeclareOutcome::Accepted { new_token, .. } = outcome else { unreachable!() };
    let hash = Receipt::decode(&new_token).unwrap().facts().template_hash.to_string();
    template.version = 0;
    let outcome = alice.declare(&template).await;
    rejected(&outcome, "invalid-job", "version");
    let DeclareOutcome::Rejected { details, .. } = outcome else { unreachable!() };
    fs::write(&keys, http::read(world.api(), "/v1/receipts/keys").to_string()).unwrap();
    let described = dir.path().join("template.json");
    let path = format!("/v1/templates/{hash}");
    fs::write(&described, http::read(world.api(), &path).to_string()).unwrap();

    let verify = |more: &[&str]| {
        let mut python = Command::new("python3");
        python.arg(here(EXAMPLES).join("verify_receipt.py"));
        python.args(["--authority", &world.authority.to_string(), "--keys"]).arg(&keys);
        python.args(more).env("PYTHONDONTWRITEBYTECODE", "1");
        python
    };
    let (token, file) = (new_token.to_lower_hex_string(), described.to_str().unwrap());
    let said = well(&mut verify(&["--user", "alice.rig1", "--template", file, &token]));
    assert!(said.ends_with("ok: accepted\n") && said.contains(&hash), "{said}");
    let said = well(&mut verify(&["--user", "alice.rig1", &details]));
    assert!(said.ends_with("ok: rejected\n") && said.contains("reason=version"), "{said}");
    let forged = details.replace("reason=version", "reason=weight");
    for (more, part) in [
        (&["--user", "bob", &token][..], "not about the user"),
        (&[&forged], "does not fit"),
        (&[&token[2..]], "no receipt"),
    ] {
        let output = verify(more).output().unwrap();
        let wrong = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && wrong.contains(part), "{part}: {wrong}");
    }
}

/// Runs the example over what is in this directory.
fn example(dir: &Path, authority: &str) -> Output {
    let at = |name: &str| dir.join(name);
    let mut python = Command::new("python3");
    python.arg(here(EXAMPLES).join("verify_events.py"));
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
