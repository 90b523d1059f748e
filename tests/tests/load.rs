//! `load` measures what it says it does, against a real server and a real node: that the figures are
//! there and add up, not how good they are.
#![expect(clippy::unwrap_used, reason = "a test says what it expected")]

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// The server's binary, built like this test.
fn jds() -> PathBuf {
    let exe = PathBuf::from(env!("CARGO_BIN_EXE_load")).with_file_name("jds");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "-p", "jds", "--bin", "jds"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
    assert!(status.success() && exe.is_file(), "no {} was built", exe.display());
    exe
}

fn load(arguments: &str) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("figures.json");
    let output = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(arguments.split_whitespace())
        .arg("--jds")
        .arg(jds())
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "load {arguments}: {errors}");
    serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap()
}

#[track_caller]
fn number(of: &Value, name: &str) -> f64 {
    of[name].as_f64().unwrap_or_else(|| panic!("no {name} in {of:#}"))
}

#[test]
fn a_course_at_a_rate_and_a_found_block_leave_their_figures() {
    let all = load(
        "--self-contained --declaring 3 --templates 4 --constraints 2 --transactions 60 \
         --unknown 10 --rate 10 --for 2 --warm-up 0 --token-rate 10 --solutions 1",
    );
    let run = &all["runs"][0];
    assert_eq!(run["errors"], serde_json::json!({}), "{run:#}");
    let latencies = &run["latencies"];
    // Seven connections; the first declaration of all has one of its own.
    assert_eq!(latencies["handshake"]["count"], 8, "{run:#}");
    assert_eq!(latencies["declaration"]["count"], 20, "{run:#}");
    assert_eq!(run["declarations_accepted"], 20, "{run:#}");
    assert!(number(run, "declarations_per_second") > 0.0);
    // Of each declaration six transactions were new; those of the found block come on top.
    assert!(number(run, "transactions_asked_for") >= 120.0, "{run:#}");
    // 60 ids of 32 bytes, and more for what was asked for.
    assert!(number(run, "bytes_per_declaration") > 2_500.0, "{run:#}");
    for kind in ["token", "declaration", "solution_to_submission", "solution_to_tip"] {
        let of_kind = &latencies[kind];
        assert!(number(of_kind, "count") > 0.0, "{kind} in {run:#}");
        let order =
            ["p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms"].map(|p| number(of_kind, p));
        assert!(order.is_sorted() && order[0] > 0.0, "{kind} in {run:#}");
    }
    let process = &run["process"];
    assert!(number(process, "cpu_s") > 0.0, "{run:#}");
    assert!(number(process, "peak_resident_kb") >= number(process, "pss_before_kb"), "{run:#}");
    assert!(number(process, "descriptors") > 7.0, "{run:#}");
}

#[test]
fn in_a_storm_everybody_declares_and_every_template_client_has_work() {
    let all = load(
        "--self-contained --declaring 5 --templates 6 --transactions 60 --storms 2 --token-rate 0",
    );
    let run = &all["runs"][0];
    assert_eq!(run["errors"], serde_json::json!({}), "{run:#}");
    assert_eq!(run["tips"], 2);
    let latencies = &run["latencies"];
    for (kind, count) in [("declaration", 10), ("tip_to_work", 12), ("tip_to_full_work", 12)] {
        assert_eq!(latencies[kind]["count"], count, "{kind} in {run:#}");
    }
    assert!(latencies["token"].is_null(), "nobody asked for a token: {run:#}");
}

#[test]
fn miners_of_both_protocols_stand_beside_each_other_in_one_run() {
    let all = load(
        "--self-contained --declaring 0 --transactions 60 --mining 6 --share-rate 30 --for 6 \
         --warm-up 0",
    );
    let run = &all["runs"][0];
    assert_eq!(run["errors"], serde_json::json!({}), "{run:#}");
    assert_eq!(run["latencies"]["handshake"]["count"], 4, "of Stratum V2: {run:#}");
    let bytes = |kind: &str| {
        let shares = &run["shares"][kind];
        assert!(number(shares, "sent") >= 40.0, "{kind} in {run:#}");
        assert_eq!(shares["refused"], 0, "{kind} in {run:#}");
        // What is not acknowledged waits for the rest of its batch: nine shares of two miners.
        let missing = number(shares, "sent") - number(shares, "acknowledged");
        let most = if kind == "share_sv1" { 0.0 } else { 18.0 };
        assert!((0.0..=most).contains(&missing), "{kind} in {run:#}");
        let latencies = &run["latencies"][kind];
        let order =
            ["p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms"].map(|p| number(latencies, p));
        assert!(order.is_sorted() && order[0] > 0.0, "{kind} in {run:#}");
        number(shares, "bytes_per_share")
    };
    let v1 = bytes("share_sv1");
    assert!(bytes("share_sv2_standard") < v1 / 2.0, "half of what Stratum V1 takes: {run:#}");
    // Its jobs, which few shares were sent on here, and its extranonce are longer.
    assert!(bytes("share_sv2_extended") < v1 * 0.6, "much less than Stratum V1 takes: {run:#}");
}
