//! `jds receipt verify` and `jds events verify` as an operator, a miner and a script meet them: what
//! is good passes with the public key alone, and whatever was changed is named.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what it expected")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bitcoin::hex::FromHex;
use serde_json::json;
use store::chain::{HEAD_TAG, SignedHead, head_bytes};
use store::{Batch, Change, NodeStatus, Settings, SqliteStore, Store};
use tempfile::TempDir;
use validation::receipt::{ServerId, SigningKey};

const VECTORS: &str = include_str!("../../validation/tests/vectors/receipts.txt");
const NOW_MS: u64 = 1_693_612_345_678;

fn vector(name: &str) -> &'static str {
    let mut lines = VECTORS.lines().filter_map(|line| line.split_once(" = "));
    lines.find(|(key, _)| *key == name).unwrap_or_else(|| panic!("no vector {name}")).1
}

fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(&FromHex::from_hex(vector(name)).unwrap()).unwrap()
}

fn authority() -> String {
    key("authority_secret").public().to_string()
}

fn jds(args: &[&str]) -> Output {
    let mut jds = Command::new(env!("CARGO_BIN_EXE_jds"));
    jds.args(args).stdin(Stdio::null()).env_remove("RUST_LOG").output().unwrap()
}

/// Standard output of a command that must succeed.
#[track_caller]
fn passes(args: &[&str]) -> String {
    let output = jds(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.lines().last().is_some_and(|line| line.starts_with("ok: ")), "{stdout}");
    stdout
}

#[track_caller]
fn fails(args: &[&str], part: &str) {
    let output = jds(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
    assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(!stdout.contains("ok: "), "{stdout}");
}

fn file(dir: &TempDir, name: &str, content: &str) -> String {
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A template as the API describes one.
fn template(version: u32) -> String {
    let printed = |hex: &str| {
        let mut bytes = Vec::from_hex(hex).unwrap();
        bytes.reverse();
        json!({ "wtxid": bitcoin::hex::DisplayHex::to_lower_hex_string(&bytes[..]) })
    };
    let transactions: Vec<_> = vector("template_wtxids").split(' ').map(printed).collect();
    let (prefix, suffix) = (vector("template_prefix"), vector("template_suffix"));
    let coinbase = json!({ "prefix_hex": prefix, "suffix_hex": suffix, "decoded": null });
    let content = json!({ "version": version, "coinbase": coinbase, "transactions": transactions });
    json!({ "template": {}, "content": content }).to_string()
}

#[test]
fn a_receipt_is_checked_with_the_public_key_its_user_and_its_template() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, token) = (authority(), vector("authority_receipt"));
    let version = u32::from_str_radix(vector("template_version"), 16).unwrap();
    let right = file(&dir, "right.json", &template(version));
    let wrong = file(&dir, "wrong.json", &template(version + 1));
    let verify = ["receipt", "verify", token, "--authority", &authority];
    let with = |more: &[&'static str], path: &str| {
        let mut args: Vec<String> = verify.iter().map(|arg| (*arg).to_owned()).collect();
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        args.extend((!path.is_empty()).then(|| path.to_owned()));
        args
    };
    let said = passes(&verify);
    for name in ["template_hash", "wtxid_root", "height", "user_hash"] {
        assert!(said.contains(vector(name)), "{name} is not in {said}");
    }
    let args = with(&["--user", "alice.rig1", "--template"], &right);
    passes(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let args = with(&["--template"], &wrong);
    fails(&args.iter().map(String::as_str).collect::<Vec<_>>(), "is about the template");
    let args = with(&["--user", "bob"], "");
    fails(&args.iter().map(String::as_str).collect::<Vec<_>>(), "not about the user");

    let forged = token.replacen("0d", "0e", 1);
    assert_ne!(forged, token);
    fails(&["receipt", "verify", &forged, "--authority", &authority], "receipt");
    fails(&["receipt", "verify", &token[2..], "--authority", &authority], "receipt");
    fails(&["receipt", "verify", "xyz", "--authority", &authority], "not hex");
}

#[test]
fn a_key_counts_when_the_authority_key_vouches_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, token) = (authority(), vector("subkey_receipt"));
    let subkey = key("subkey_secret").public().to_string();
    fails(&["receipt", "verify", token, "--authority", &authority], "was not offered");
    let keys = |endorsement: &str| {
        let subkey = json!({ "public_key": subkey, "endorsement": endorsement });
        let own = json!({ "public_key": authority, "endorsement": null });
        json!({ "server_id": "00", "keys": [subkey, own] }).to_string()
    };
    let good = file(&dir, "keys.json", &keys(vector("subkey_endorsement")));
    passes(&["receipt", "verify", token, "--authority", &authority, "--keys", &good]);
    let bad = file(&dir, "bad.json", &keys(&"00".repeat(64)));
    fails(
        &["receipt", "verify", token, "--authority", &authority, "--keys", &bad],
        "is not endorsed",
    );
}

#[test]
fn a_rejection_is_checked_by_its_details() {
    let (authority, details) = (authority(), vector("rejection_details"));
    let said = passes(&["receipt", "verify", details, "--authority", &authority]);
    assert!(said.contains(vector("rejection_words")) && said.contains(vector("template_hash")));
    let forged = details.replace("4000001", "4000002");
    fails(&["receipt", "verify", &forged, "--authority", &authority], "signature");
}

/// A configuration with the authority key of the vectors, and a log of 20 events, signed for once.
fn written() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let key = key("authority_secret");
    let secret: [u8; 32] = FromHex::from_hex(vector("authority_secret")).unwrap();
    let text = bitcoin::base58::encode_check(&secret);
    let secret = config::SecretKey::parse(&text).unwrap();
    config::keys::write_new(&dir.path().join("authority.key"), &secret).unwrap();
    let text = "network = \"regtest\"\n[authority]\nsecret_key_file = \"authority.key\"\n\
                [payout]\nmode = \"pool\"\nscript = \"raw(51)\"\n\
                [[node]]\nname = \"main\"\nrpc_cookie_file = \"cookie\"\n";
    let config = dir.path().join("jds.toml");
    fs::write(&config, text).unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let store = SqliteStore::open(Settings::new(&data)).unwrap();
    for number in 0..20 {
        let event = NodeStatus {
            node: "main".to_owned(),
            state: "at_tip".to_owned(),
            kind: None,
            height: Some(number),
            detail: None,
        };
        store.commit(Batch::of_event(NOW_MS, event)).wait().unwrap();
    }
    let (server, epoch, link) = (ServerId([1; 8]), store.epoch(), store.chain_ends().unwrap().last);
    let signature = key.sign_tagged(HEAD_TAG, &[&head_bytes(server, epoch, link, 5)], &[0; 32]);
    let key_id = key.public().id();
    let head = SignedHead { link, epoch, signed_at_ms: 5, server, key_id, signature };
    store.commit(Batch::new(NOW_MS).change(Change::SignHead(head))).wait().unwrap();
    store.close();
    (dir, config)
}

fn meddle(config: &Path, sql: &str) {
    let path = config.with_file_name("data").join("jds.sqlite");
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn a_log_is_whole_until_somebody_changes_it() {
    let (_dir, config) = written();
    let verify = ["events", "verify", "--config", config.to_str().unwrap()];
    let said = passes(&verify);
    assert!(said.contains("20 chained") && said.contains("up to event 20"), "{said}");
    let authority = authority();
    let with_key = [&verify[..], &["--authority", &authority]].concat();
    passes(&with_key);
    let other = key("subkey_secret").public().to_string();
    fails(&[&verify[..], &["--authority", &other]].concat(), "was not offered");
    meddle(&config, "UPDATE events SET data = replace(data, 'at_tip', 'behind') WHERE id = 7");
    fails(&verify, "event 7 is not what was written");
    meddle(&config, "DELETE FROM events WHERE id = 3");
    fails(&verify, "event 4 comes after 2");
}
