//! How long a node is waited for: one that takes every call and answers none, and one that answers all
//! but the call for a template. Each time is waited for as it is, all of them side by side.
#![expect(clippy::unwrap_used, reason = "a test says what it expected")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bitcoin::Network;
use bitcoin::constants::genesis_block;
use serde_json::{Value, json};
use tdp_client::limits::{
    CALL_TIMEOUT_MS, PROBE_TEMPLATE_TIMEOUT_MS, PROBE_TIMEOUT_MS, PROPOSAL_TIMEOUT_MS,
    SUBMIT_TIMEOUT_MS, TEMPLATE_TIMEOUT_MS,
};
use tdp_client::{
    Auth, Fault, Node, NodeError, NodeSettings, NodeState, Probe, Proposal, SubmitOutcome,
};

/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(30);

/// Answers calls with what `result` gives for their method, and none for which it gives nothing.
fn node(result: fn(&str) -> Option<Value>) -> NodeSettings {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let rpc_url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            thread::spawn(move || serve(stream, result));
        }
    });
    let auth = Auth::UserPass { user: "u".into(), password: "p".into() };
    NodeSettings { name: "main".into(), rpc_url, auth, network: Network::Regtest }
}

fn serve(mut stream: TcpStream, result: fn(&str) -> Option<Value>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut length, mut line) = (0, String::new());
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let call: Value = serde_json::from_slice(&body).unwrap();
    if let Some(result) = result(call["method"].as_str().unwrap()) {
        let body = json!({"result": result, "error": null, "id": call["id"]}).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        // Whoever asked may have gone.
        let _ = stream.write_all(format!("{head}{body}").as_bytes());
    }
    // Until the other side has had enough.
    let _ = reader.read(&mut [0]);
}

/// All but templates.
fn all_but_templates(method: &str) -> Option<Value> {
    let genesis = genesis_block(Network::Regtest);
    let hash = genesis.block_hash();
    match method {
        "getblockchaininfo" => Some(json!({
            "chain": "regtest", "blocks": 0, "headers": 0, "verificationprogress": 1.0,
            "initialblockdownload": false,
        })),
        "getbestblockhash" => Some(json!(hash)),
        "waitfornewblock" => {
            // As a node does that is told how long to wait.
            thread::sleep(Duration::from_secs(1));
            Some(json!({"hash": hash, "height": 0}))
        }
        "getblockheader" => Some(json!({
            "hash": hash, "height": 0, "time": genesis.header.time,
            "mediantime": genesis.header.time, "bits": "207fffff", "chainwork": "02",
            "confirmations": 1,
        })),
        "getmempoolinfo" => Some(json!({"size": 0, "bytes": 0, "total_fee": 0})),
        _ => None,
    }
}

/// That it took as long as is said, and not much longer.
#[track_caller]
fn took(what: &str, since: Instant, limit_ms: u64) {
    let (took, limit) = (since.elapsed(), Duration::from_millis(limit_ms));
    // Clocks may be read in another order than they are set.
    assert!(took + Duration::from_millis(50) >= limit, "{what}: given up after {took:?}");
    assert!(took < limit + SLACK, "{what}: given up after {took:?}, {limit:?} are allowed");
}

#[track_caller]
fn timed_out(error: &NodeError, method: &str) {
    assert!(matches!(error.fault(), Fault::TimedOut { method: of } if *of == method), "{error}");
}

async fn state(node: &Node, wanted: fn(&NodeState) -> bool) {
    let mut state = node.state();
    let limit = Duration::from_millis(CALL_TIMEOUT_MS) + SLACK;
    let reached = tokio::time::timeout(limit, state.wait_for(wanted)).await.is_ok();
    assert!(reached, "waited {limit:?} for another state: {:?}", node.state().borrow());
}

#[tokio::test]
async fn a_node_that_answers_nothing_is_waited_for_as_long_as_is_said() {
    let settings = node(|_| None);
    let probed = settings.clone();
    let probes = thread::spawn(move || {
        let limit = Duration::from_millis(PROBE_TEMPLATE_TIMEOUT_MS * 4);
        let probe = Probe::new(&probed, limit).unwrap();
        let since = Instant::now();
        timed_out(&probe.chain().unwrap_err(), "getblockchaininfo");
        took("a question", since, PROBE_TIMEOUT_MS);
        let since = Instant::now();
        timed_out(&probe.template().unwrap_err(), "getblocktemplate");
        took("a question for a template", since, PROBE_TEMPLATE_TIMEOUT_MS);
    });
    let since = Instant::now();
    let node = Node::spawn(settings, Arc::new(|_| None)).unwrap();
    let hash = genesis_block(Network::Regtest).block_hash();
    let following = async {
        let is_told = |state: &NodeState| matches!(state, NodeState::Connecting { error: Some(_) });
        state(&node, is_told).await;
        took("the state", since, CALL_TIMEOUT_MS);
    };
    let asking = async {
        timed_out(&node.block_status(hash).await.unwrap_err(), "getblockheader");
        took("a question about a block", since, CALL_TIMEOUT_MS);
    };
    let proposing = async {
        let outcome = node.propose_block("00".into()).await;
        let Proposal::Transient { error } = outcome else { panic!("{outcome:?}") };
        timed_out(&error, "getblocktemplate");
        took("a proposal", since, PROPOSAL_TIMEOUT_MS);
    };
    let submitting = async {
        let outcome = node.submit_block(Arc::new([0]), None).await;
        // It may have come.
        let SubmitOutcome::Unknown { error } = outcome else { panic!("{outcome:?}") };
        timed_out(&error, "submitblock");
        took("a submission", since, SUBMIT_TIMEOUT_MS);
    };
    tokio::join!(following, asking, proposing, submitting);
    probes.join().unwrap();
}

#[tokio::test]
async fn templates_that_do_not_come_hold_up_nothing_else() {
    let since = Instant::now();
    let node = Node::spawn(node(all_but_templates), Arc::new(|_| None)).unwrap();
    state(&node, NodeState::is_ready).await;
    // The first failure may be that of a node that goes away; the second is told.
    let limit = Duration::from_millis(2 * TEMPLATE_TIMEOUT_MS) + SLACK;
    let error = loop {
        assert!(since.elapsed() < limit, "waited {limit:?} to be told that there are no templates");
        if let Some(error) = node.template_error() {
            break error;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    timed_out(&error, "getblocktemplate");
    took("two templates", since, 2 * TEMPLATE_TIMEOUT_MS);
    assert!(node.state().borrow().is_ready(), "{:?}", node.state().borrow());
    let hash = genesis_block(Network::Regtest).block_hash();
    let status = node.block_status(hash).await.unwrap();
    assert!(matches!(status, tdp_client::BlockStatus::InChain { height: 0, .. }), "{status:?}");
}
