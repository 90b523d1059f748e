//! The harness on a real node: each test starts its own, and looks at the node's own answers.

use std::time::{Duration, Instant};

use bitcoincore_rpc::RpcApi;
use serde_json::{Value, json};
use signet::kinds::{COIN_VALUE_SAT_MIN, Kind};
use signet::{Chain, FillSpec, Node, NodeError, NodeOptions, PREMINED_BLOCKS, wait};

const DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn mines_and_counts() {
    let node = Node::regtest().unwrap();
    assert_eq!(node.height().unwrap(), 0);
    let hashes = node.mine(3).unwrap();
    assert_eq!(node.height().unwrap(), 3);
    assert_eq!(node.tip().unwrap(), hashes[2]);
    let block = node.block(&hashes[2]).unwrap();
    assert_eq!(block.txdata[0].output[0].script_pubkey, node.mining_script());
}

#[test]
fn a_block_by_hand_holds_what_it_was_given() {
    let node = Node::regtest().unwrap();
    let coins = node.ensure_funds(3, 50_000).unwrap();
    let txs = vec![coins[1].spend(vec![coins[0].txout()])];
    let hash = node.mine_block(&txs).unwrap();
    assert_eq!(node.tip().unwrap(), hash);
    assert_eq!(node.block(&hash).unwrap().txdata[1..], txs);
    // The same coin again: the node's reason comes through.
    let twice = coins[1].spend(vec![coins[2].txout(), coins[2].txout()]);
    let error = node.mine_block(&[twice]).unwrap_err();
    assert!(matches!(error, NodeError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("bad-txns-inputs-missingorspent"), "{error}");
}

#[test]
fn coins_are_never_given_twice() {
    let node = Node::regtest().unwrap();
    let first = node.ensure_funds(2_500, 20_000).unwrap();
    let height = node.height().unwrap();
    let second = node.ensure_funds(10, 20_000).unwrap();
    assert_eq!(node.height().unwrap(), height + 1, "one block for the second fan-out");
    let mut all: Vec<_> = first.iter().chain(&second).map(|coin| coin.outpoint).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 2_510);
    for coin in [&first[0], &first[2_499], &second[9]] {
        let args = [json!(coin.outpoint.txid), json!(coin.outpoint.vout)];
        let out: Value = node.call("gettxout", &args).unwrap();
        assert_eq!(out["value"], 0.0002, "{out}");
    }
}

#[test]
fn fills_the_mempool_to_nearly_a_block_in_seconds() {
    let node = Node::regtest().unwrap();
    let start = Instant::now();
    let filled = node.fill_mempool(FillSpec::default()).unwrap();
    let took = start.elapsed();
    println!("filled with {} in {took:?}", filled.txs.len());
    assert!((3_880_000..=3_900_000).contains(&filled.weight_wu), "{}", filled.weight_wu);
    assert_eq!(node.mempool().unwrap().len(), 4_000);
    assert!(took < Duration::from_secs(40), "took {took:?}");

    let template: Value = node.call("getblocktemplate", &[json!({"rules": ["segwit"]})]).unwrap();
    let offered = template["transactions"].as_array().unwrap();
    assert_eq!(offered.len(), 4_000, "all fit one block");
    assert!(offered.iter().all(|tx| tx["depends"].as_array().unwrap().is_empty()));
    let fees: u64 = offered.iter().map(|tx| tx["fee"].as_u64().unwrap()).sum();
    assert_eq!(fees, filled.fees_sat.iter().sum::<u64>());

    let hash = node.mine(1).unwrap()[0];
    assert_eq!(node.block(&hash).unwrap().txdata.len(), 4_001);
    assert_eq!(node.mempool().unwrap(), []);
}

#[test]
fn every_kind_is_valid_and_relays_as_it_says() {
    let node = Node::regtest().unwrap();
    let coins = node.ensure_funds(Kind::ALL.len(), COIN_VALUE_SAT_MIN).unwrap();
    let mut all = Vec::new();
    let mut relayed = 0;
    for (kind, coin) in Kind::ALL.into_iter().zip(&coins) {
        let sample = kind.build(coin).unwrap();
        let sent = node.send(&sample.txs);
        assert_eq!(sent.is_ok(), kind.relayed(), "{}: {sent:?}", kind.label());
        if kind.relayed() {
            relayed += sample.txs.len();
            let fees: f64 = sample
                .txs
                .iter()
                .map(|tx| {
                    let entry: Value =
                        node.call("getmempoolentry", &[json!(tx.compute_txid())]).unwrap();
                    entry["fees"]["base"].as_f64().unwrap()
                })
                .sum();
            assert_eq!((fees * 1e8).round() as u64, sample.fee_sat, "{}", kind.label());
        }
        all.extend(sample.txs);
    }
    assert!(node.mempool().unwrap().len() >= relayed);
    assert!(all.iter().any(|tx| tx.input[0].witness.size() > 389_000));
    // Consensus takes every one, whatever policy said. Two blocks: together they weigh too much.
    let mut blocks = vec![Vec::new()];
    let mut weight = 0;
    for tx in all {
        weight += tx.weight().to_wu();
        if weight > 3_900_000 {
            weight = 0;
            blocks.push(Vec::new());
        }
        blocks.last_mut().unwrap().push(tx);
    }
    for txs in blocks {
        let hash = node.mine_block(&txs).unwrap();
        assert_eq!(node.tip().unwrap(), hash);
    }
}

#[test]
fn reorganises() {
    let node = Node::regtest().unwrap();
    let mined = node.mine(5).unwrap();
    let reorg = node.reorg(2).unwrap();
    assert_eq!(reorg.old_tip, mined[4]);
    assert_eq!(reorg.fork, mined[2]);
    assert_eq!(node.height().unwrap(), 6);
    assert_eq!(node.tip().unwrap(), reorg.new_blocks[2]);
    assert_ne!(node.block_hash(5).unwrap(), mined[4]);

    node.invalidate(&reorg.new_blocks[0]).unwrap();
    assert_eq!(node.tip().unwrap(), mined[4], "back on the branch that had lost");
    node.reconsider(&reorg.new_blocks[0]).unwrap();
    assert_eq!(node.tip().unwrap(), reorg.new_blocks[2]);
    assert!(matches!(node.reorg(7), Err(NodeError::Impossible(_))));
}

#[test]
fn two_nodes_fork_and_agree() {
    let a = Node::start(NodeOptions::regtest().p2p()).unwrap();
    let b = Node::start(NodeOptions::regtest().p2p()).unwrap();
    a.mine(2).unwrap();
    b.connect(&a).unwrap();
    b.sync_with(&a).unwrap();

    a.disconnect(&b).unwrap();
    a.mine(1).unwrap();
    b.mine(2).unwrap();
    assert_ne!(a.block_hash(3).unwrap(), b.block_hash(3).unwrap());
    a.connect(&b).unwrap();
    a.sync_with(&b).unwrap();
    assert_eq!(a.height().unwrap(), 4);

    let lone = Node::regtest().unwrap();
    let error = a.connect(&lone).unwrap_err().to_string();
    assert!(error.contains("without p2p"), "{error}");
}

#[test]
fn stops_kills_and_restarts_with_its_data() {
    let mut node = Node::regtest().unwrap();
    node.mine(4).unwrap();
    let (url, pid) = (node.rpc_url(), node.pid());
    node.stop().unwrap();
    assert!(!node.is_running());
    assert!(matches!(node.height(), Err(NodeError::Impossible(_))));
    node.restart().unwrap();
    assert_eq!(node.height().unwrap(), 4);
    assert_eq!(node.rpc_url(), url);
    assert_ne!(node.pid(), pid);
    node.kill();
    node.restart().unwrap();
    assert!(node.height().unwrap() <= 4, "what was not yet on disk may be lost, nothing else");
    node.mine(1).unwrap();
}

#[test]
fn a_paused_node_answers_when_resumed() {
    let node = Node::regtest().unwrap();
    let client = node.new_client().unwrap();
    node.pause().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(client.get_block_count()));
    assert!(receiver.recv_timeout(Duration::from_millis(300)).is_err(), "it answered while paused");
    node.resume().unwrap();
    assert_eq!(receiver.recv_timeout(DEADLINE).unwrap().unwrap(), 0);
}

#[test]
fn serves_ipc_under_a_short_path() {
    let node = Node::start(NodeOptions::regtest().ipc()).unwrap();
    let socket = node.ipc_socket();
    wait::until_true("the IPC socket", DEADLINE, || socket.exists()).unwrap();
    assert!(socket.as_os_str().len() < 100, "{}", socket.display());
}

#[test]
fn dropping_a_node_leaves_nothing() {
    let node = Node::regtest().unwrap();
    let (pid, datadir) = (node.pid().unwrap(), node.datadir().to_owned());
    assert!(datadir.exists());
    drop(node);
    assert!(!datadir.exists());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn a_node_that_can_not_start_shows_its_own_words() {
    let error = Node::start(NodeOptions::regtest().arg("-nosuchoption=1")).unwrap_err();
    assert!(matches!(error, NodeError::Start { .. }), "{error}");
    assert!(error.to_string().contains("nosuchoption"), "{error}");
}

#[test]
fn the_private_signet_starts_with_money_and_mines() {
    let node = Node::start(NodeOptions::signet().ipc()).unwrap();
    assert_eq!(node.chain(), Chain::Signet);
    assert_eq!(node.height().unwrap(), PREMINED_BLOCKS);
    let info: Value = node.call("getblockchaininfo", &[]).unwrap();
    assert_eq!(info["initialblockdownload"], false, "{info}");
    assert!(node.ipc_socket().exists());

    let filled = node.fill_mempool(FillSpec::of(20)).unwrap();
    assert_eq!(node.height().unwrap(), PREMINED_BLOCKS + 1, "one block made the coins");
    let hash = node.mine(1).unwrap()[0];
    assert_eq!(node.block(&hash).unwrap().txdata.len(), filled.txs.len() + 1);
}

/// Set for the child process of the test below.
const DIES_ENV: &str = "SIGNET_TEST_DIES";

#[test]
fn a_node_does_not_outlive_the_process_that_started_it() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};

    if std::env::var_os(DIES_ENV).is_some() {
        let node = Node::regtest().unwrap();
        println!("\nnode {} {}", node.pid().unwrap(), node.datadir().display());
        // Until the parent kills us.
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "a_node_does_not_outlive_the_process_that_started_it"])
        .env(DIES_ENV, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.into_iter().find(|line| line.starts_with("node ")).unwrap();
    let words: Vec<_> = line.split(' ').collect();
    let (pid, datadir) = (words[1].to_owned(), std::path::PathBuf::from(words[2]));
    assert!(datadir.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    wait::until_true("the node's data to go with its parent", DEADLINE, || !datadir.exists())
        .unwrap();
    // It may still be a zombie of whoever adopted it.
    let alive = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
    };
    wait::until_true("the node to end with its parent", DEADLINE, || !alive()).unwrap();
}
