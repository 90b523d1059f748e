//! A share that was acknowledged is in the store, and its block too, whenever the server is killed.
//!
//! `jds run` before a real node, with miners on its mining port, is killed with SIGKILL again and
//! again: at a random moment under load, every other time right after an answer. After each kill the
//! store is compared with what the miners were told; after each restart they mine on. The moments
//! differ in each run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "test code outside of test functions"
)]

#[path = "common/mod.rs"]
#[expect(dead_code, reason = "solutions are for those who declare")]
mod common;

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bitcoin::BlockHash;
use jds::client::mining::{Channel, MiningClient};
use jds::client::{ClientError, SetupOptions};
use jds_wire::Secp256k1PublicKey;
use rand::Rng;
use signet::{Node, NodeOptions, wait};
use store::{
    Accounted, AccountingCursor, Cursor, EventData, EventFilter, EventKind, Settings, SqliteStore,
    Store,
};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use common::Running;

/// Longest wait for anything that should happen at once.
const PATIENCE: Duration = Duration::from_secs(60);
/// Kills under load.
const ROUNDS: usize = 12;
/// Blocks before the miners begin, so that the chain has left its initial download.
const BLOCKS_BEFORE: u32 = 20;
/// Who mines, a connection each.
const USERS: [&str; 3] = ["alice", "bob", "carol"];
/// Shares that are acknowledged before a kill, at most; the moment after them is random.
const SHARES_MAX: usize = 12;
/// A kill that is not right after an answer comes within this time, microseconds.
const MOMENT_MAX_US: u64 = 30_000;
/// What a client says of itself, hashes per second: any share will do.
const HASHRATE: f32 = 0.001;

/// What a kill has left.
#[derive(Default)]
struct Stored {
    /// Accepted shares.
    shares: HashSet<BlockHash>,
    blocks: HashSet<BlockHash>,
    /// Shares that the accounting feed tells of, and blocks.
    credited: (u64, u64),
}

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
        let dir = TempDir::with_prefix("jds-kill-shares-").unwrap();
        let (secret, public) = config::keys::generate().unwrap();
        config::keys::write_new(&dir.path().join("authority.key"), &secret).unwrap();
        let text = format!(
            "network = \"regtest\"\ndata_dir = \"data\"\n[authority]\n\
             secret_key_file = \"authority.key\"\n[payout]\nmode = \"pool\"\n\
             script = \"raw({:x})\"\n[job_declaration]\nlisten = \"127.0.0.1:0\"\n\
             [mining]\nlisten = \"127.0.0.1:0\"\nshares_per_minute = 60.0\n\
             share_batch_size = 1\nmin_hashrate_ths = 0.000000000000001\n\
             [[node]]\nname = \"main\"\nrpc_url = \"{}\"\nrpc_cookie_file = {:?}\n",
            node.mining_script(),
            node.rpc_url(),
            node.cookie_file(),
        );
        fs::write(dir.path().join("jds.toml"), text).unwrap();
        let authority = public.to_string().parse().unwrap();
        Self { node, authority, starts: 0, dir }
    }

    /// A server, and where its miners connect.
    fn start(&mut self) -> (Running, SocketAddr) {
        self.starts += 1;
        let log = self.dir.path().join(format!("log-{}", self.starts));
        let server = Running::start(&self.dir.path().join("jds.toml"), log);
        server.listens_at().unwrap_or_else(|error| panic!("{error}: {}", server.log()));
        // Said before what was waited for.
        let log = server.log();
        let line = log.lines().find(|line| line.contains("mining server listening"));
        let address = line.and_then(|line| line.split_once("local_addr="));
        let address = address.and_then(|(_, rest)| rest.split_whitespace().next());
        (server, address.expect("where miners connect").parse().unwrap())
    }

    async fn miner(
        &self,
        address: SocketAddr,
        user: &str,
    ) -> Result<(MiningClient, Channel), ClientError> {
        let options = SetupOptions::default();
        let mut client = MiningClient::connect(address, Some(self.authority), &options).await?;
        let mut channel = client.open_extended(user, HASHRATE, 8).await?;
        client.work(&mut channel).await?;
        Ok((client, channel))
    }

    /// What a start of the server would find. Its own files stay as the kill left them.
    fn stored(&self) -> Stored {
        let copy = TempDir::with_prefix("jds-kill-shares-copy-").unwrap();
        copy_files(&self.dir.path().join("data"), copy.path());
        let store = SqliteStore::open(Settings::new(copy.path())).unwrap();
        let filter = EventFilter::only(&[EventKind::ShareSubmitted, EventKind::BlockFound]);
        let (mut stored, mut cursor) = (Stored::default(), Cursor::START);
        stored.credited = credited(&store);
        loop {
            let page = store.events_after(cursor, &filter, 500).unwrap();
            for event in &page.events {
                match event.typed().unwrap() {
                    EventData::ShareSubmitted(share) if share.accepted => {
                        let hash = share.share_hash.parse().unwrap();
                        assert!(stored.shares.insert(hash), "the share {hash} is there twice");
                    }
                    EventData::BlockFound(found) => {
                        stored.blocks.insert(found.block_hash.parse().unwrap());
                    }
                    _ => {}
                }
            }
            cursor = page.next;
            if !page.more {
                return stored;
            }
        }
    }

    /// Waits until the node has them all.
    fn wait_in_node(&self, hashes: &HashSet<BlockHash>) {
        for hash in hashes {
            let what = format!("the node to have {hash}, a block that was stored");
            wait::until(&what, PATIENCE, || self.node.block(hash).ok()).unwrap();
        }
    }
}

/// Shares and blocks of the accounting feed. The interval that the kill left open is closed by now.
fn credited(store: &SqliteStore) -> (u64, u64) {
    let (mut credited, mut last) = ((0, 0), 0);
    let page = store.accounting_after(AccountingCursor::START, 10_000).unwrap();
    assert!(!page.more, "more entries than this test makes");
    for entry in page.entries {
        assert_eq!(entry.number, last + 1, "a gap in the accounting feed");
        last = entry.number;
        match entry.what {
            Accounted::Work { shares, .. } => credited.0 += shares,
            Accounted::Block { .. } => credited.1 += 1,
        }
    }
    credited
}

/// Files of a folder, but for what is shared memory.
fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if entry.file_type().unwrap().is_file() && !name.to_string_lossy().ends_with("-shm") {
            fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

/// Mines a block on each tip it hears of and notes which of them were acknowledged, until the
/// connection breaks.
async fn mine_on(
    mut client: MiningClient,
    mut channel: Channel,
    acknowledged: UnboundedSender<BlockHash>,
) -> Result<(), ClientError> {
    loop {
        let parent = channel.parent();
        let block = channel.mine_block().unwrap();
        // Refused is what came late: another miner was first.
        if client.submit(&channel, &block).await?.is_ok() {
            acknowledged.send(block.hash()).unwrap();
        }
        while channel.parent() == parent {
            channel.hear(&client.recv().await?);
        }
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
async fn an_acknowledged_share_is_in_the_store_after_a_kill() {
    let mut site = Site::new();
    let (acknowledged, mut heard) = unbounded_channel();
    let (mut told, mut counts) = (HashSet::new(), BTreeSet::new());
    let mut stored = Stored::default();
    for round in 0..ROUNDS {
        let (server, address) = site.start();
        let before = told.len();
        let mut miners = Vec::new();
        for user in USERS {
            let (client, channel) = site.miner(address, user).await.unwrap();
            miners.push(tokio::spawn(mine_on(client, channel, acknowledged.clone())));
        }
        for _ in 0..rand::thread_rng().gen_range(1..=SHARES_MAX) {
            let hash = timeout(PATIENCE, heard.recv()).await;
            told.insert(hash.unwrap_or_else(|_| panic!("no share: {}", server.log())).unwrap());
        }
        if round % 2 == 0 {
            // Not to wait for something: this is what makes the moment a random one.
            let moment = rand::thread_rng().gen_range(0..MOMENT_MAX_US);
            tokio::time::sleep(Duration::from_micros(moment)).await;
        }
        kill(server);
        for miner in miners {
            let ended = timeout(PATIENCE, miner).await;
            let ended = ended.expect("a miner to notice the kill").unwrap();
            assert!(ended.is_err_and(|error| !matches!(error, ClientError::Timeout { .. })));
        }
        while let Ok(hash) = heard.try_recv() {
            told.insert(hash);
        }

        stored = site.stored();
        let lost: Vec<_> = told.difference(&stored.shares).collect();
        assert_eq!(lost, Vec::<&BlockHash>::new(), "of {} acknowledged, round {round}", told.len());
        // Each of them is a block: a miner that was answered does not send it again.
        let lost: Vec<_> = told.difference(&stored.blocks).collect();
        assert_eq!(lost, Vec::<&BlockHash>::new(), "blocks acknowledged, round {round}");
        // What a pool would credit is what is stored: nothing twice and nothing left out.
        let all = (stored.shares.len() as u64, stored.blocks.len() as u64);
        assert_eq!(stored.credited, all, "credited, round {round}");
        counts.insert(told.len() - before);
    }

    // Who comes back mines on, and blocks that were stored reach the node.
    let (server, address) = site.start();
    let (mut client, mut channel) = site.miner(address, USERS[0]).await.unwrap();
    site.wait_in_node(&stored.blocks);
    let tip = site.node.tip().unwrap();
    while channel.parent().map(|(hash, _)| hash) != Some(tip) {
        channel.hear(&client.recv().await.unwrap());
    }
    let block = channel.mine_block().unwrap();
    assert_eq!(client.submit(&channel, &block).await.unwrap(), Ok(()), "{}", server.log());
    let hash = block.hash();
    wait::until_true("the block after all kills to be the tip", PATIENCE, || {
        site.node.tip().is_ok_and(|tip| tip == hash)
    })
    .unwrap();
    kill(server);
    assert!(site.stored().shares.contains(&hash), "the last share is not in the store");
    eprintln!("{} acknowledged; per round: {counts:?}", told.len());
}
