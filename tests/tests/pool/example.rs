//! The guide's example of a pool, `guides/examples/pool_inside.py`, to the block in the chain.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bitcoin::BlockHash;
use bitcoin::hex::DisplayHex;
use jds_tests::Setup;
use serde_json::Value;

use crate::worlds::Site;

/// The example, and its lines.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Running {
    fn start(site: &Site, receipt: &[u8], shares: usize) -> Self {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../guides/examples/pool_inside.py");
        let mut child = Command::new("python3")
            .arg(script)
            .arg("--socket")
            .arg(&site.socket)
            .args(["--receipt", &receipt.to_lower_hex_string(), "--connection", "miner 7"])
            .arg("--state")
            .arg(site.socket.with_file_name("pool.json"))
            .args(["--shares", &shares.to_string(), "--batch", "3"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line that has this field; none when it has ended.
    fn next_with(&mut self, field: &str) -> Option<Value> {
        self.lines.by_ref().find_map(|line| {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            line.get(field).is_some().then_some(line)
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_mines_a_block_of_the_miners_transactions() {
    let site = Site::start(Setup::new()).await;
    let receipt = site.receipt("alice.rig1").await;
    let work = site.world.work();
    let mut pool = Running::start(&site, &receipt, 10);
    assert_eq!(pool.next_with("user").unwrap()["user"], "alice");
    let block = pool.next_with("block").expect("a block");
    let hash: BlockHash = block["block"].as_str().unwrap().parse().unwrap();
    assert!(pool.child.wait().unwrap().success());
    site.world.assert_mined(hash, &work.txs);
    assert_eq!(site.shares().len(), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_midst_of_it_and_the_server_restarted_it_credits_what_counted() {
    const SHARES: usize = 60;
    let site = Site::start(Setup::new()).await;
    let receipt = site.receipt("alice").await;
    let mut pool = Running::start(&site, &receipt, SHARES);
    pool.next_with("credited").expect("shares");
    drop(pool);
    let site = site.restart().await;
    let work = site.world.work();
    let mut pool = Running::start(&site, &receipt, SHARES);
    let block = pool.next_with("block").expect("a block");
    assert!(pool.child.wait().unwrap().success());
    let hash: BlockHash = block["block"].as_str().unwrap().parse().unwrap();
    site.world.assert_mined(hash, &work.txs);
    let books = std::fs::read_to_string(site.socket.with_file_name("pool.json")).unwrap();
    let books: Value = serde_json::from_str(&books).unwrap();
    let stored = site.shares();
    assert_eq!(books["credited"], stored.len(), "{books}");
    let mut hashes: Vec<_> = stored.iter().map(|share| &share.share_hash).collect();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), stored.len(), "a share counted twice");
}
