//! A real node, a real server in front of it, and the files between them.

use std::fmt::Write;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitcoin::{BlockHash, Transaction};
use jds::server::Server;
use jds_wire::Secp256k1PublicKey;
use signet::kinds::COIN_VALUE_SAT_MIN;
use signet::{Coin, Node, NodeOptions, wait};
use store::Store;
use tempfile::TempDir;

use crate::{Miner, PATIENCE, Work, accepted};

/// Configuration of the server.
const CONFIG: &str = "jds.toml";
/// The file with its authority key.
const AUTHORITY_KEY: &str = "authority.key";
/// Data directory of the server.
const DATA_DIR: &str = "data";

/// How a [`World`] is set up.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    job_declaration: String,
    payout: Option<String>,
    node: Vec<(usize, String)>,
    tables: String,
    data_dir: Option<PathBuf>,
    ipc: bool,
    rpc_beside: bool,
    rpc_urls: Vec<(usize, String)>,
}

/// Nodes and a server. Dropped, all of it ends.
#[derive(Debug)]
pub struct World {
    /// The server, in this process.
    pub server: Server,
    /// The nodes, in the order of the configuration.
    pub nodes: Vec<Node>,
    /// What miners pin.
    pub authority: Secp256k1PublicKey,
    data_dir: PathBuf,
    /// Configuration and key.
    files: TempDir,
}

impl Setup {
    /// One regtest node, the pool's payout to that node's own script, defaults for the rest.
    pub fn new() -> Self {
        Self::default()
    }

    /// With another line in the table `job_declaration`.
    #[must_use]
    pub fn job_declaration(mut self, line: &str) -> Self {
        self.job_declaration.push_str(line);
        self.job_declaration.push('\n');
        self
    }

    /// With these lines as the table `payout`.
    #[must_use]
    pub fn payout(mut self, lines: &str) -> Self {
        self.payout = Some(lines.to_owned());
        self
    }

    /// With another line in the table of node number `index`.
    #[must_use]
    pub fn node(mut self, index: usize, line: &str) -> Self {
        self.node.push((index, line.to_owned()));
        self
    }

    /// With these lines as another table of the configuration, such as `store`.
    #[must_use]
    pub fn table(mut self, name: &str, lines: &str) -> Self {
        // Writing to a string does not fail.
        let _ = writeln!(self.tables, "[{name}]\n{lines}\n");
        self
    }

    /// With `source = "ipc"` for each node, and no login to its RPC.
    #[must_use]
    pub fn ipc(mut self) -> Self {
        self.ipc = true;
        self
    }

    /// With `source = "ipc"` for the first node, RPC beside it, and every other in turn; the rest over
    /// RPC alone.
    #[must_use]
    pub fn both(mut self) -> Self {
        self.rpc_beside = true;
        self
    }

    /// With another address for the RPC of node number `index`, such as a proxy's.
    #[must_use]
    pub fn rpc_at(mut self, index: usize, address: SocketAddr) -> Self {
        self.rpc_urls.push((index, format!("http://{address}")));
        self
    }

    /// With the HTTP API, on a port of its own, and these lines in its table.
    #[must_use]
    pub fn api(self, lines: &str) -> Self {
        self.table("api", &format!("listen = \"127.0.0.1:0\"\n{lines}"))
    }

    /// With miners' ports of their own, shares for a miner on a processor, and these lines in the
    /// table. Which of the defaults they replace is found by the key before ` =`.
    #[must_use]
    pub fn mining(self, lines: &str) -> Self {
        let defaults = [
            ("listen", "\"127.0.0.1:0\""),
            ("sv1_listen", "\"127.0.0.1:0\""),
            ("shares_per_minute", "60.0"),
            ("share_batch_size", "1"),
            ("min_hashrate_ths", "0.000000000000001"),
            ("sv1_start_hashrate_ths", "0.000001"),
            ("min_interval_ms", "1000"),
        ];
        let own = |key: &str| lines.lines().any(|line| line.split(" =").next() == Some(key));
        let kept = defaults.iter().filter(|(key, _)| !own(key));
        let kept: String = kept.map(|(key, value)| format!("{key} = {value}\n")).collect();
        self.table("mining", &format!("{kept}{lines}"))
    }

    /// With the data directory there, instead of beside the configuration.
    #[must_use]
    pub fn data_dir(mut self, dir: &Path) -> Self {
        self.data_dir = Some(dir.to_owned());
        self
    }

    /// Starts a regtest node and the server, and waits until the server knows the node's tip.
    pub async fn start(self) -> World {
        let options = NodeOptions { ipc: self.ipc || self.rpc_beside, ..NodeOptions::regtest() };
        let node = Node::start(options).expect("a node");
        let world = self.start_on(vec![node]).await;
        world.synced().await;
        world
    }

    /// Starts the server on these nodes, some of which may be down, and waits for nothing. At
    /// least one node.
    pub async fn start_on(self, nodes: Vec<Node>) -> World {
        let files = TempDir::with_prefix("jds-test-").expect("a temporary directory");
        let (secret, public) = config::keys::generate().expect("a key");
        config::keys::write_new(&files.path().join(AUTHORITY_KEY), &secret).expect("a key file");
        let file = files.path().join(CONFIG);
        let text = self.toml(&public.to_string(), &nodes);
        std::fs::write(&file, &text).expect("a configuration file");
        let server = serve(&file).await;
        let authority = public.to_string().parse().expect("the key that was just made");
        // Joined to an absolute path, the result is that path.
        let data_dir = files.path().join(self.data_dir.as_deref().unwrap_or(Path::new(DATA_DIR)));
        World { server, nodes, authority, data_dir, files }
    }

    fn toml(&self, public_key: &str, nodes: &[Node]) -> String {
        let payout = match (&self.payout, nodes) {
            (Some(payout), _) => payout.clone(),
            (None, [node, ..]) => {
                format!("mode = \"pool\"\nscript = \"raw({:x})\"", node.mining_script())
            }
            (None, []) => panic!("a world without a node"),
        };
        let network = nodes.first().map_or("regtest", |node| node.chain().name());
        let data_dir = self.data_dir.as_deref().unwrap_or(Path::new(DATA_DIR));
        let own_listen = self.job_declaration.lines().any(|line| line.starts_with("listen ="));
        let listen = if own_listen { "" } else { "listen = \"127.0.0.1:0\"\n" };
        let mut text = format!(
            "network = \"{network}\"\ndata_dir = {data_dir:?}\n\n\
             [authority]\npublic_key = \"{public_key}\"\nsecret_key_file = \"{AUTHORITY_KEY}\"\n\n\
             [payout]\n{payout}\n\n\
             [job_declaration]\n{listen}{}\n{}",
            self.job_declaration, self.tables
        );
        for (index, node) in nodes.iter().enumerate() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "[[node]]\nname = \"{}\"", node.name());
            if self.ipc || self.rpc_beside && index.is_multiple_of(2) {
                let _ = writeln!(text, "source = \"ipc\"\nipc_socket = {:?}", node.ipc_socket());
            }
            if !self.ipc {
                let other = self.rpc_urls.iter().find(|(of, _)| *of == index);
                let url = other.map_or_else(|| node.rpc_url(), |(_, url)| url.clone());
                let cookie = node.cookie_file();
                let _ = writeln!(text, "rpc_url = \"{url}\"\nrpc_cookie_file = {cookie:?}");
            }
            for (_, line) in self.node.iter().filter(|(of, _)| *of == index) {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }
}

/// Starts the server of this configuration.
async fn serve(file: &Path) -> Server {
    let checked = config::load(file, std::iter::empty()).unwrap_or_else(|error| {
        panic!("{error}\n{}", std::fs::read_to_string(file).unwrap_or_default())
    });
    Server::start(&checked).await.expect("a server")
}

/// Waits until the server that was here has let go of its store: what is left of its tasks may hold
/// it for a moment.
fn wait_closed(data_dir: &Path) {
    let lock = File::open(data_dir.join("jds.stream")).expect("the lock of the store");
    wait::until_true("the store to be closed", PATIENCE, || lock.try_lock().is_ok())
        .expect("the end of the server");
}

impl World {
    /// [`Setup::start`] without anything special.
    pub async fn start() -> Self {
        Setup::new().start().await
    }

    /// The first node.
    #[track_caller]
    pub fn node(&self) -> &Node {
        self.nodes.first().expect("a node")
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Where its HTTP API listens.
    #[track_caller]
    pub fn api(&self) -> SocketAddr {
        self.server.api_addr().expect("a server that was set up with an API")
    }

    /// Where its Stratum V2 miners connect.
    #[track_caller]
    pub fn mining(&self) -> SocketAddr {
        self.server.mining_addr().expect("a server that was set up for miners")
    }

    /// Where its Stratum V1 miners connect.
    #[track_caller]
    pub fn mining_v1(&self) -> SocketAddr {
        self.server.mining_v1_addr().expect("a server that was set up for Stratum V1 miners")
    }

    /// The server's configuration file, its key file beside it.
    pub fn config_file(&self) -> PathBuf {
        self.files.path().join(CONFIG)
    }

    /// The file with its authority key.
    pub fn authority_file(&self) -> PathBuf {
        self.files.path().join(AUTHORITY_KEY)
    }

    /// The server's data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The server's store.
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(self.server.shared().journal.store().expect("a server with a store"))
    }

    /// Ends the server in order, does something while it is down, and starts it again with the same
    /// files, on another port.
    pub async fn restart(self, meanwhile: impl FnOnce()) -> Self {
        let Self { server, nodes, authority, data_dir, files } = self;
        server.shutdown().await;
        wait_closed(&data_dir);
        meanwhile();
        let server = serve(&files.path().join(CONFIG)).await;
        Self { server, nodes, authority, data_dir, files }
    }

    /// Another server with the same authority key in front of the same nodes, with a data directory of its
    /// own; `change` is applied to its configuration. The nodes stay with this world.
    pub async fn sibling(&self, change: impl FnOnce(String) -> String) -> Self {
        let files = TempDir::with_prefix("jds-test-").expect("a temporary directory");
        let key = "authority.key";
        std::fs::copy(self.files.path().join(key), files.path().join(key)).expect("the key");
        let file = files.path().join(CONFIG);
        let text = std::fs::read_to_string(self.config_file()).expect("a configuration");
        std::fs::write(&file, change(text)).expect("a configuration file");
        let server = serve(&file).await;
        let data_dir = files.path().join(DATA_DIR);
        let world = Self { server, nodes: Vec::new(), authority: self.authority, data_dir, files };
        world.synced_to(self.node().tip().expect("the node's tip")).await;
        world
    }

    /// What the first node would mine.
    #[track_caller]
    pub fn work(&self) -> Work {
        Work::of(self.node())
    }

    /// A miner, connected.
    pub async fn miner(&self, user: &str) -> Miner {
        Miner::connect(self, user).await.expect("a connection and a token")
    }

    /// `n` coins that every kind of transaction can be made of. Mines, and waits until the server
    /// has followed.
    pub async fn coins(&self, n: usize) -> Vec<Coin> {
        let coins = self.node().ensure_funds(n, COIN_VALUE_SAT_MIN).expect("coins");
        self.synced().await;
        coins
    }

    /// Sends transactions to the first node's mempool, and waits until the node offers them and the
    /// server knows them, fees included.
    ///
    /// Mines an empty block: on an old tip a node and the server look only every few seconds.
    pub async fn relay(&self, txs: &[Transaction]) -> Work {
        let node = self.node();
        node.send(txs).expect("transactions that the node relays");
        node.mine_block(&[]).expect("an empty block");
        self.synced().await;
        let work = Work::with_txs(node, txs.len());
        self.wait_known(&work.txs);
        work
    }

    /// Waits until the server's tip is the first node's.
    pub async fn synced(&self) {
        let tip = self.node().tip().expect("the node's tip");
        self.synced_to(tip).await;
    }

    /// Waits until the server's tip is `hash`.
    pub async fn synced_to(&self, hash: BlockHash) {
        let mut tips = self.server.shared().nodes.watch_tip();
        let reached = tips.wait_for(|tip| tip.is_some_and(|tip| tip.hash == hash));
        let reached = tokio::time::timeout(PATIENCE, reached).await.map(|tip| tip.is_ok());
        let now = self.server.shared().nodes.tip();
        assert_eq!(reached, Ok(true), "waited for the server's tip to be {hash}, it is {now:?}");
    }

    /// Waits until the server holds all of these transactions.
    #[track_caller]
    pub fn wait_known<'a>(&self, txs: impl IntoIterator<Item = &'a Transaction>) {
        let wtxids: Vec<_> = txs.into_iter().map(Transaction::compute_wtxid).collect();
        let what = format!("the server to know {} transactions of the node", wtxids.len());
        let cache = &self.server.shared().validator.cache;
        wait::until_true(&what, PATIENCE, || wtxids.iter().all(|wtxid| cache.get(wtxid).is_some()))
            .expect("transactions in the server's cache");
    }

    /// Waits until the block is the tip of the first node, and checks that it holds exactly these
    /// transactions in this order, coinbase aside.
    #[track_caller]
    pub fn assert_mined(&self, hash: BlockHash, txs: &[Transaction]) {
        Work::wait_mined(self.node(), hash, PATIENCE);
        let block = self.node().block(&hash).expect("the block");
        let ids = |txs: &[Transaction]| -> Vec<_> {
            txs.iter().map(|tx| (tx.compute_txid(), tx.compute_wtxid())).collect()
        };
        assert_eq!(
            ids(block.txdata.get(1..).unwrap_or_default()),
            ids(txs),
            "the block's transactions are not those of the template"
        );
    }

    /// Another miner connects, declares the node's template, and it is accepted.
    pub async fn assert_still_serving(&self) {
        self.synced().await;
        let mut miner = self.miner("somebody-else").await;
        let template = miner.template(&self.work());
        accepted(&miner.declare(&template).await);
    }
}
