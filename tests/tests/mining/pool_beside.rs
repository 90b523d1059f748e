//! A pool beside this server, as in the guide: its accounting process says who may mine and credits
//! what the feed tells, killed in between; the miner is the reference implementation's client.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bitcoin::BlockHash;
use jds::client::ClientError;
use jds_tests::reference::free_address;
use jds_tests::{PATIENCE, Setup, World};
use rusqlite::Connection;
use signet::wait;
use store::PageRequest;
use tempfile::TempDir;

use crate::{BLOCKS_BEFORE, HASHRATE, client, jdc};

/// The accounting process of the pool.
struct Example {
    dir: TempDir,
    check: SocketAddr,
    child: Option<Child>,
}

/// Shares and work by user and source of the template.
type Totals = BTreeMap<(String, String), (u64, f64)>;

impl Example {
    fn new() -> Self {
        let dir = TempDir::with_prefix("jds-beside-").unwrap();
        Self { dir, check: free_address(), child: None }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("pool.sock")
    }

    fn ledger(&self) -> PathBuf {
        self.dir.path().join("ledger.sqlite")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Starts it, and waits until it answers.
    fn start(&mut self) {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../guides/examples/pool_beside.py");
        let log = self.dir.path().join("log");
        let log = OpenOptions::new().create(true).append(true).open(log).unwrap();
        let child = Command::new("python3")
            .arg(script)
            .arg("--socket")
            .arg(self.socket())
            .arg("--ledger")
            .arg(self.ledger())
            // Small pages: there is more than one of them to be killed between.
            .args(["--user", "carol", "--limit", "2", "--check", &self.check.to_string()])
            .stdin(Stdio::null())
            .stdout(File::from(std::os::fd::OwnedFd::from(log.try_clone().unwrap())))
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("python3 on the PATH, version 3.9 or newer"));
        wait::until_true("the user check to listen", PATIENCE, || {
            std::net::TcpStream::connect(self.check).is_ok()
        })
        .unwrap_or_else(|error| panic!("{error}: {}", self.log()));
    }

    /// SIGKILL.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended by itself, {ended:?}: {}", self.log());
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn totals(&self) -> Totals {
        let sql = "SELECT user, template_source, shares, work FROM credits";
        totals(&self.ledger(), sql)
    }

    fn blocks(&self) -> Vec<String> {
        let ledger = Connection::open(self.ledger()).unwrap();
        let mut rows = ledger.prepare("SELECT block_hash FROM blocks ORDER BY 1").unwrap();
        let rows = rows.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn totals(database: &Path, sql: &str) -> Totals {
    let database = Connection::open(database).unwrap();
    database.busy_timeout(PATIENCE).unwrap();
    let mut rows = database.prepare(sql).unwrap();
    let rows =
        rows.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), (row.get(2)?, row.get(3)?))));
    rows.unwrap().map(Result::unwrap).collect()
}

/// What our table of shares says.
fn shares(world: &World) -> Totals {
    let sql = "SELECT user_id, template_source, count(*), sum(difficulty) FROM shares
               WHERE accepted GROUP BY 1, 2";
    totals(&world.data_dir().join("jds.sqlite"), sql)
}

/// The same counts, and the same work but for the order in which it was added up.
fn same(left: &Totals, right: &Totals) -> bool {
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs());
    left.len() == right.len()
        && left.iter().zip(right).all(|((left_key, left), (right_key, right))| {
            left_key == right_key && left.0 == right.0 && close(left.1, right.1)
        })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_beside_us_credits_every_share_once() {
    let mut example = Example::new();
    example.start();
    let user_check = format!("mode = \"callback\"\nurl = \"http://{}/may-mine\"", example.check);
    let setup = jdc::with_templates(Setup::new())
        .mining("")
        .table("pool_interface", &format!("socket = {:?}", example.socket()))
        .table("store", "accounting_interval_seconds = 1")
        .table("user_check", &user_check);
    let world = setup.start().await;
    world.node().mine(BLOCKS_BEFORE).unwrap();
    world.synced().await;
    let mut stranger = client(&world, 0).await;
    let refused = stranger.open_extended("mallory", HASHRATE, 8).await;
    assert!(
        matches!(&refused, Err(ClientError::ChannelRefused(code)) if code == "unknown-user"),
        "{refused:?}"
    );

    let peer = jdc::run(&world, "carol.rig1");
    jdc::wait_share(&world, &peer, |_| true);
    let credited = |more_than: u64, example: &Example| {
        wait::until("more shares to be credited", PATIENCE, || {
            let shares = example.totals().values().map(|(shares, _)| shares).sum::<u64>();
            (shares > more_than).then_some(shares)
        })
        .unwrap_or_else(|error| panic!("{error}: {}", example.log()))
    };
    // Killed again and again while there is something to credit, and not there for a while.
    let mut known = credited(0, &example);
    let mut blocks: Vec<BlockHash> = Vec::new();
    for _ in 0..3 {
        example.kill();
        blocks.push(jdc::wait_block(&world, &peer, &blocks));
        example.start();
        known = credited(known, &example);
    }
    for hash in &blocks {
        wait::until("the block in the chain", PATIENCE, || world.node().block(hash).ok()).unwrap();
    }

    drop(peer);
    let all = wait::until_true("the ledger to have all shares and blocks", PATIENCE, || {
        let stored = world.store().blocks(PageRequest { after: None, limit: 1_000 }).unwrap();
        let mut stored: Vec<String> =
            stored.items.into_iter().map(|block| block.block_hash).collect();
        stored.sort();
        same(&example.totals(), &shares(&world)) && example.blocks() == stored
    });
    let (ledger, table) = (example.totals(), shares(&world));
    all.unwrap_or_else(|error| panic!("{error}: {ledger:?}, {table:?}, {}", example.log()));
    assert!(ledger.contains_key(&("carol".to_owned(), "miner".to_owned())), "{ledger:?}");
    assert!(ledger.keys().all(|(user, _)| user == "carol"), "{ledger:?}");
}
