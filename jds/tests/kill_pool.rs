//! Nothing that a pool hands in is lost or counts twice, whenever the server or the pool is killed.
//!
//! `jds run` before a real node, and the guide's example of a pool on its unix socket. Both are killed
//! with SIGKILL again and again, at random moments, together or alone; the pool has nothing but its
//! books and its receipt, the server nothing but its store. In the end the pool's books and the store
//! say the same, and the block that was mined last is in the chain.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "test code outside of test functions"
)]

#[path = "common/mod.rs"]
#[expect(dead_code, reason = "solutions are for those who declare")]
mod common;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bitcoin::hex::DisplayHex;
use jds::client::template::MinerTemplate;
use jds::client::{Declaration, DeclareOutcome, JdClient, SetupOptions};
use jds_wire::Secp256k1PublicKey;
use rand::Rng;
use serde_json::Value;
use signet::{Node, NodeOptions, subsidy_sat, wait};
use store::{Cursor, EventData, EventFilter, EventKind, Settings, SqliteStore, Store};
use tempfile::TempDir;

use common::Running;

/// Longest wait for anything that should happen at once.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rounds, each with a kill of one or both.
const ROUNDS: usize = 9;
/// Shares that are credited between two kills, at least.
const SHARES_PER_ROUND: u64 = 4;
/// A kill comes within this time after that, microseconds.
const MOMENT_MAX_US: u64 = 30_000;
/// Shares before the block: more than the rounds give, so that it comes last.
const SHARES: u64 = 2_000;
/// Blocks before the pool begins, so that the chain has left its initial download.
const BLOCKS_BEFORE: u32 = 20;

struct Site {
    node: Node,
    authority: Secp256k1PublicKey,
    starts: u32,
    dir: TempDir,
}

impl Site {
    fn new() -> Self {
        let node = Node::start(NodeOptions::regtest()).unwrap();
        node.mine(BLOCKS_BEFORE).unwrap();
        let dir = TempDir::with_prefix("jds-kill-pool-").unwrap();
        let (secret, public) = config::keys::generate().unwrap();
        config::keys::write_new(&dir.path().join("authority.key"), &secret).unwrap();
        let text = format!(
            "network = \"regtest\"\ndata_dir = \"data\"\n[authority]\n\
             secret_key_file = \"authority.key\"\n[payout]\nmode = \"pool\"\n\
             script = \"raw({:x})\"\n[job_declaration]\nlisten = \"127.0.0.1:0\"\n\
             [pool_interface]\nsocket = \"pool.sock\"\n\
             [[node]]\nname = \"main\"\nrpc_url = \"{}\"\nrpc_cookie_file = {:?}\n",
            node.mining_script(),
            node.rpc_url(),
            node.cookie_file(),
        );
        fs::write(dir.path().join("jds.toml"), text).unwrap();
        let authority = public.to_string().parse().unwrap();
        Self { node, authority, starts: 0, dir }
    }

    fn start(&mut self) -> Running {
        self.starts += 1;
        let log = self.dir.path().join(format!("log-{}", self.starts));
        let server = Running::start(&self.dir.path().join("jds.toml"), log);
        server.listens_at().unwrap_or_else(|error| panic!("{error}: {}", server.log()));
        server
    }

    /// Declares an empty template; its receipt.
    async fn receipt(&self, server: &Running) -> Vec<u8> {
        let address = server.listens_at().unwrap();
        let options = SetupOptions::default();
        let mut client = JdClient::connect(address, Some(self.authority), &options).await.unwrap();
        let height = BLOCKS_BEFORE + 1;
        let value_sat = subsidy_sat(height, self.node.chain().halving_interval());
        let until = Instant::now() + PATIENCE;
        loop {
            let token = client.allocate_token("alice").await.unwrap();
            let outputs = token.outputs().unwrap();
            let template = MinerTemplate::new(height, value_sat, outputs, Vec::new(), 16);
            let (prefix, suffix) = template.halves();
            let declaration = Declaration {
                token: &token.bytes,
                version: template.version,
                prefix: &prefix,
                suffix: &suffix,
                wtxids: &[],
            };
            match client.declare(declaration, |_| Vec::new()).await.unwrap() {
                DeclareOutcome::Accepted { new_token, .. } => return new_token,
                // The server may not have heard of its node yet.
                DeclareOutcome::Rejected { code, details, .. } => {
                    assert!(Instant::now() < until, "waited for acceptance: {code}: {details}");
                }
            }
        }
    }

    fn pool(&self, receipt: &[u8]) -> Pool {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../guides/examples/pool_inside.py");
        let child = Command::new("python3")
            .arg(script)
            .arg("--socket")
            .arg(self.dir.path().join("pool.sock"))
            .args(["--receipt", &receipt.to_lower_hex_string()])
            .arg("--state")
            .arg(self.books())
            .args(["--shares", &SHARES.to_string(), "--batch", "3"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Pool(child)
    }

    fn books(&self) -> PathBuf {
        self.dir.path().join("pool.json")
    }

    /// What the pool has credited.
    fn credited(&self) -> u64 {
        let Ok(text) = fs::read_to_string(self.books()) else { return 0 };
        let books: Value = serde_json::from_str(&text).unwrap();
        books["credited"].as_u64().unwrap()
    }

    /// Hashes of accepted shares in the store of a server that is gone.
    fn stored(&self) -> Vec<String> {
        let store = SqliteStore::open(Settings::new(self.dir.path().join("data"))).unwrap();
        let filter = EventFilter::only(&[EventKind::ShareSubmitted]);
        let (mut hashes, mut cursor) = (Vec::new(), Cursor::START);
        loop {
            let page = store.events_after(cursor, &filter, 500).unwrap();
            for event in &page.events {
                if let EventData::ShareSubmitted(share) = event.typed().unwrap()
                    && share.accepted
                {
                    hashes.push(share.share_hash);
                }
            }
            cursor = page.next;
            if !page.more {
                return hashes;
            }
        }
    }
}

/// The example; ended for certain when dropped.
struct Pool(Child);

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// SIGKILL, of a server that did not end by itself.
fn kill(mut server: Running) {
    let ended = server.child.try_wait().unwrap();
    assert!(ended.is_none(), "the server ended by itself: {ended:?}: {}", server.log());
    server.child.kill().unwrap();
    server.child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pool_hands_in_counts_once_whoever_is_killed() {
    let mut site = Site::new();
    let mut server = site.start();
    let receipt = site.receipt(&server).await;
    let mut pool = Some(site.pool(&receipt));
    for round in 0..ROUNDS {
        let before = site.credited();
        wait::until_true("the pool to credit shares", PATIENCE, || {
            site.credited() >= before + SHARES_PER_ROUND
        })
        .unwrap_or_else(|error| panic!("round {round}: {error}: {}", server.log()));
        // Not to wait for something: this is what makes the moment a random one.
        let moment = rand::thread_rng().gen_range(0..MOMENT_MAX_US);
        tokio::time::sleep(Duration::from_micros(moment)).await;
        let (of_server, of_pool) = (round % 3 != 1, round % 3 != 0);
        if of_pool {
            pool = None;
        }
        if of_server {
            kill(server);
            server = site.start();
        }
        pool.get_or_insert_with(|| site.pool(&receipt));
    }
    let mut pool = pool.unwrap();
    wait::until("the pool to end after its block", PATIENCE * 3, || pool.0.try_wait().unwrap())
        .unwrap_or_else(|error| panic!("{error}: {} credited", site.credited()));
    wait::until_true("the block in the chain", PATIENCE, || {
        site.node
            .tip()
            .is_ok_and(|tip| site.node.block(&tip).unwrap().bip34_block_height() == Ok(21))
    })
    .unwrap();
    kill(server);
    let stored = site.stored();
    let different: HashSet<_> = stored.iter().collect();
    assert_eq!(different.len(), stored.len(), "a share is there twice");
    assert_eq!(site.credited(), stored.len() as u64, "credited, and stored");
    eprintln!("{} shares, each once", stored.len());
}
