//! What `--self-contained` plays on: a node with a full mempool, and our server.

use std::time::Duration;

use jds::server::Server;
use jds_tests::bench::Target;
use jds_wire::Secp256k1PublicKey;
use signet::{FillSpec, Node, NodeOptions, wait};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// How long a server may take until it is ready.
const START_WAIT: Duration = Duration::from_secs(60);

/// A regtest node with a full mempool.
pub(crate) fn node(tx_count: usize, ipc: bool) -> anyhow::Result<Node> {
    let options = NodeOptions::regtest();
    let node = Node::start(if ipc { options.ipc() } else { options })?;
    node.fill_mempool(FillSpec::of(tx_count))?;
    Ok(node)
}

/// Our server, in this process, on threads of its own.
pub(crate) struct Ours {
    server: Server,
    key: Secp256k1PublicKey,
    // Fields drop in order: what the server runs on comes after it.
    _runtime: Runtime,
    _files: TempDir,
}

impl Ours {
    /// Starts it with default settings, with or without a store, and waits until it knows the node's transactions.
    pub(crate) fn start(node: &Node, tx_count: usize, keeps: bool) -> anyhow::Result<Self> {
        let files = TempDir::with_prefix("jds-bench-")?;
        let (secret, public) = config::keys::generate()?;
        config::keys::write_new(&files.path().join("authority.key"), &secret)?;
        let file = files.path().join("jds.toml");
        let text = format!(
            "network = \"regtest\"\n\
             data_dir = \"data\"\n\
             [authority]\n\
             public_key = \"{public}\"\n\
             secret_key_file = \"authority.key\"\n\
             [payout]\n\
             mode = \"pool\"\n\
             script = \"raw({script:x})\"\n\
             [[node]]\n\
             name = \"bench\"\n\
             rpc_url = \"{url}\"\n\
             rpc_cookie_file = \"{cookie}\"\n\
             [job_declaration]\n\
             listen = \"127.0.0.1:0\"\n",
            script = node.mining_script(),
            url = node.rpc_url(),
            cookie = node.cookie_file().display(),
        );
        std::fs::write(&file, text)?;
        let checked = config::load(&file, std::iter::empty())?;
        let runtime = Builder::new_multi_thread().enable_all().thread_name("server").build()?;
        let server = runtime.block_on(async {
            match keeps {
                true => Server::start(&checked).await,
                false => Server::start_without_store(&checked).await,
            }
        })?;
        wait::until_true("our server to know the node's transactions", START_WAIT, || {
            server.shared().validator.cache.size().count >= tx_count
        })?;
        let key = public.to_string().parse().map_err(|e| anyhow::anyhow!("{e}"))?;
        Ok(Self { server, key, _runtime: runtime, _files: files })
    }

    pub(crate) fn target(&self) -> Target {
        let address = self.server.local_addr();
        Target { name: "ours".into(), address, key: Some(self.key) }
    }
}
