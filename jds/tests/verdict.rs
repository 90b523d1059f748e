//! `jds verdict replay` as an operator and a script meet it: beside whoever writes the database, on a
//! copy of it, and where there is nothing to replay.
#![expect(clippy::unwrap_used, reason = "a test says what it expected")]

#[path = "../../validation/tests/common/mod.rs"]
mod wires;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use store::{
    AcceptedTemplate, Batch, Change, RejectedInputs, RejectedTemplate, Settings, SqliteStore,
    Store, TemplateRejected, UserTag,
};
use validation::{NodeFacts, Rejection};
use wires::{Template, Wire, child, simple};

const NOW_MS: u64 = 1_693_612_345_678;

fn replay(id: &str, dir: &Path) -> Output {
    let mut jds = Command::new(env!("CARGO_BIN_EXE_jds"));
    jds.args(["verdict", "replay", id, "--data-dir"]).arg(dir);
    jds.stdin(Stdio::null()).env_remove("RUST_LOG").output().unwrap()
}

/// What it prints, when the verdict is the same.
#[track_caller]
fn same(id: &str, dir: &Path) -> String {
    let output = replay(id, dir);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{id}: {stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.ends_with("ok: the replayed verdict is the stored one\n"), "{stdout}");
    stdout
}

#[track_caller]
fn ends(id: &str, dir: &Path, code: i32, part: &str) {
    let output = replay(id, dir);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{id}: {stderr}");
    assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("ok: "));
}

fn template() -> Template {
    let parent = simple(1);
    let child = child(&parent, 0);
    let mut template = Template::new(1_000, vec![parent, child, simple(2)]);
    template.facts = vec![Some(NodeFacts { fee_sat: 0, sigop_cost: 4 }); 2];
    template
}

fn rejected(rejection: &Rejection, inputs: RejectedInputs) -> (RejectedTemplate, TemplateRejected) {
    let (code, reason) = (rejection.code.to_string(), rejection.reason.to_string());
    let (expected, actual) = (rejection.expected.clone(), rejection.actual.clone());
    let index = rejection.index.map(u64::from);
    let row = RejectedTemplate {
        user: "bob".into(),
        worker: "".into(),
        user_tag: UserTag([2; 16]),
        template_hash: None,
        tx_count: 4,
        height: None,
        error_code: code.clone(),
        reason: reason.clone(),
        index,
        expected: expected.clone(),
        actual: actual.clone(),
        validation_ms: 0.25,
        request_bytes: 600,
        inputs,
    };
    let event = TemplateRejected {
        user: "bob".to_owned(),
        worker: None,
        template_hash: None,
        error_code: code,
        reason,
        index,
        expected,
        actual,
        validation_ms: 0.25,
        proof: None,
    };
    (row, event)
}

fn batch(wire: &Wire, number: u64) -> Batch {
    let (verdict, inputs) = wire.judged();
    let batch = Batch::new(NOW_MS + number);
    match verdict {
        Ok(job) => batch.accept_template(AcceptedTemplate {
            user: "alice".into(),
            worker: "".into(),
            user_tag: UserTag([1; 16]),
            job: Arc::new(job),
            validation_ms: 1.5,
            fetch_ms: None,
            txs_unknown: 1,
            request_bytes: 700,
            rules: Arc::clone(&inputs.rules),
        }),
        Err(rejection) => {
            let (row, event) = rejected(&rejection, RejectedInputs::Kept(Arc::new(inputs)));
            batch.change(Change::RejectTemplate(row)).event(event)
        }
    }
}

/// One accepted template, one that was refused for its version, one for a broken coinbase, one whose
/// inputs were too many, and a token. In this order; events have the same numbers.
fn write(store: &SqliteStore) -> String {
    let good = template().declare();
    let hash = good.judged().0.unwrap().template_hash().to_string();
    let mut old = template();
    old.version = 3;
    let mut cut = good.clone();
    cut.suffix.pop();
    for (number, wire) in [good, old.declare(), cut].iter().enumerate() {
        store.commit(batch(wire, number as u64)).wait().unwrap();
    }
    let too_late = Rejection::new(validation::Reason::NoAnswerInTime);
    let weight = Rejection::new(validation::Reason::Weight);
    for (rejection, inputs) in [(weight, RejectedInputs::TooMany), (too_late, RejectedInputs::None)]
    {
        let (row, event) = rejected(&rejection, inputs);
        let batch = Batch::new(NOW_MS + 9).change(Change::RejectTemplate(row)).event(event);
        store.commit(batch).wait().unwrap();
    }
    let (_, spent) =
        rejected(&Rejection::new(validation::Reason::TokenSpent), RejectedInputs::None);
    store.commit(Batch::of_event(NOW_MS + 10, spent)).wait().unwrap();
    hash
}

fn check(dir: &Path, hash: &str) {
    let printed = same("1", dir);
    for part in ["stored         accepted", "replayed       accepted", hash, "step 1", "alice"] {
        assert!(printed.contains(part), "{part:?} is not in {printed}");
    }
    same(hash, dir);
    same("event:1", dir);
    let printed = same("2", dir);
    let words = "rejected: invalid-job reason=version expected=at-least-4 actual=3";
    assert!(printed.contains(&format!("stored         {words}")), "{printed}");
    assert!(printed.contains(&format!("replayed       {words}")), "{printed}");
    assert!(same("event:3", dir).contains("reason=coinbase-suffix"));
    ends("4", dir, 5, "more was refused to that address");
    ends("5", dir, 5, "no-answer-in-time is a verdict on the conversation");
    ends("event:6", dir, 5, "token-spent is a verdict on the token");
    ends("6", dir, 5, "no such declaration");
    ends("event:7", dir, 5, "no such event");
    ends(&"ab".repeat(32), dir, 5, "no such declaration");
    ends("0123456789abcdef-1", dir, 5, "no such event");
    ends("x", dir, 2, "expected 64 hex digits");
    ends("-1", dir, 2, "");
}

#[test]
fn a_verdict_is_replayed_beside_its_writer_without_it_and_from_a_copy() {
    let place = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(Settings::new(place.path())).unwrap();
    let hash = write(&store);
    check(place.path(), &hash);
    let epoch = store.epoch().to_string();
    store.close();
    check(place.path(), &hash);
    same(&format!("{epoch}-1"), place.path());
    let copy = tempfile::tempdir().unwrap();
    fs::copy(place.path().join("jds.sqlite"), copy.path().join("jds.sqlite")).unwrap();
    drop(place);
    let before = fs::read(copy.path().join("jds.sqlite")).unwrap();
    check(copy.path(), &hash);
    assert_eq!(before, fs::read(copy.path().join("jds.sqlite")).unwrap());
    assert_eq!(fs::read_dir(copy.path()).unwrap().count(), 1, "no file was made");
    ends("1", copy.path().join("none").as_path(), 1, "does not exist");
}

#[test]
fn a_verdict_that_somebody_changed_differs() {
    let place = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(Settings::new(place.path())).unwrap();
    write(&store);
    store.close();
    let meddle = |sql: &str| {
        let database = rusqlite::Connection::open(place.path().join("jds.sqlite")).unwrap();
        database.execute_batch(sql).unwrap();
    };
    for (id, change, back, part) in [
        ("1", "total_fees_sat = 5", "total_fees_sat = 0", "total_fees_sat was 5, is 0"),
        ("2", "actual = '2'", "actual = '3'", "actual was Some(\"2\"), is Some(\"3\")"),
        ("2", "reason = 'weight'", "reason = 'version'", "reason was Some(\"weight\")"),
        (
            "1",
            "validation_result = 'rejected', inputs = 'none'",
            "validation_result = 'accepted', inputs = NULL",
            "",
        ),
    ] {
        let set = |what| format!("UPDATE miner_templates SET {what} WHERE id = {id}");
        meddle(&set(change));
        let code = if part.is_empty() { 5 } else { 4 };
        ends(id, place.path(), code, part);
        meddle(&set(back));
    }
    meddle("UPDATE miner_templates SET tx_list_id = NULL");
    ends("1", place.path(), 5, "3 of 3 transactions that it needs are not kept any more");
}
