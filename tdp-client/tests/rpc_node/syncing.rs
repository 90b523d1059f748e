//! A node that downloads the chain, made up: it answers what it is asked, gets on with every question,
//! and is done in the end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use bitcoin::Network;
use serde_json::{Value, json};
use tdp_client::{Auth, NodeSettings, NodeState};

use super::*;

/// Blocks of the chain; the node has one more at each question, and begins close to the end.
const BLOCKS: u32 = 1_000;
const BLOCKS_FIRST: u32 = 970;

/// The body of one request.
fn request(stream: &TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

/// What the node says.
fn answer(method: &str, blocks: &mut u32) -> Value {
    let hash = "11".repeat(32);
    match method {
        "getblockchaininfo" => {
            *blocks = (*blocks + 1).min(BLOCKS);
            json!({
                "chain": "signet",
                "blocks": *blocks,
                "headers": BLOCKS,
                "verificationprogress": f64::from(*blocks) / f64::from(BLOCKS),
                "initialblockdownload": *blocks < BLOCKS,
            })
        }
        "getbestblockhash" => json!(hash),
        "waitfornewblock" => {
            thread::sleep(Duration::from_millis(100));
            json!({ "hash": hash, "height": BLOCKS })
        }
        "getblockheader" => json!({
            "hash": hash,
            "height": BLOCKS,
            "time": 1_700_000_000,
            "mediantime": 1_699_999_000,
            "bits": "1e0377ae",
            "chainwork": format!("{:064x}", 77),
        }),
        _ => Value::Null,
    }
}

/// Serves for as long as the test lives.
fn made_up() -> NodeSettings {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let rpc_url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut blocks = BLOCKS_FIRST;
        while let Ok((mut stream, _)) = listener.accept() {
            let Some(request) = request(&stream) else { continue };
            let result = answer(request["method"].as_str().unwrap(), &mut blocks);
            let body = json!({ "result": result, "error": null, "id": request["id"] }).to_string();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            // Whoever asked may have gone.
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    NodeSettings {
        name: "main".into(),
        rpc_url,
        auth: Auth::UserPass { user: "u".into(), password: "p".into() },
        network: Network::Signet,
    }
}

#[tokio::test]
async fn the_rest_of_a_download_is_estimated_and_its_end_is_noticed() {
    let source = follow(made_up());
    let first = state(&source, "syncing", |s| matches!(s, NodeState::Syncing { .. })).await;
    let NodeState::Syncing { progress, blocks, headers, left } = first else { panic!("checked") };
    assert!((0.97..1.0).contains(&progress) && blocks > BLOCKS_FIRST, "{progress} {blocks}");
    assert_eq!((headers, left), (BLOCKS, None), "nothing is known of its pace yet");

    let known = |s: &NodeState| matches!(s, NodeState::Syncing { left: Some(_), .. });
    let later = state(&source, "an estimate", known).await;
    let NodeState::Syncing { blocks, left: Some(left), .. } = later else { panic!("checked") };
    // A block for each question, which come every second, or later on a busy machine.
    let (rest, left_s) = (u64::from(BLOCKS - blocks), left.as_duration().as_secs());
    assert!((rest.saturating_sub(2)..=rest * 3).contains(&left_s), "{rest} blocks: {left_s} s");
    assert_eq!(*source.tip().borrow(), None);

    state(&source, "ready", NodeState::is_ready).await;
    let tip = source.tip().borrow().clone().unwrap();
    assert_eq!(tip.tip.height, BLOCKS);
    let mut work = [0; 32];
    work[31] = 77;
    assert_eq!(tip.work.map(bitcoin::Work::to_be_bytes), Some(work));
}
