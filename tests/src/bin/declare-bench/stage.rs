//! What `--self-contained` plays on: a node with a full mempool, our server, and the reference.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use bitcoin::{Address, Network};
use jds::server::Server;
use jds_wire::Secp256k1PublicKey;
use signet::{FillSpec, Node, NodeOptions, wait};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::player::Target;

/// How long a server may take until it is ready.
const START_WAIT: Duration = Duration::from_secs(60);
/// Bytes of the reference's log that a failure shows.
const LOG_END_BYTES: usize = 2_000;

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

/// `pool_sv2` with its job declaration server, over IPC. Killed when dropped.
pub(crate) struct Reference {
    child: Child,
    address: SocketAddr,
    key: Secp256k1PublicKey,
    log: PathBuf,
    _files: TempDir,
}

impl Reference {
    /// Starts it on the same node, and waits until it listens.
    pub(crate) fn start(exe: &Path, node: &Node) -> anyhow::Result<Self> {
        let files = TempDir::with_prefix("jds-bench-")?;
        let (secret, public) = config::keys::generate()?;
        let (pool, address) = (free_address()?, free_address()?);
        let reward = Address::from_script(node.mining_script().as_script(), Network::Regtest)?;
        let text = format!(
            "authority_public_key = \"{public}\"\n\
             authority_secret_key = \"{secret}\"\n\
             cert_validity_sec = 3600\n\
             listen_address = \"{pool}\"\n\
             coinbase_reward_script = \"addr({reward})\"\n\
             server_id = 1\n\
             pool_signature = \"bench\"\n\
             shares_per_minute = 6.0\n\
             share_batch_size = 10\n\
             supported_extensions = []\n\
             required_extensions = []\n\
             [template_provider_type.BitcoinCoreIpc]\n\
             version = 31\n\
             network = \"regtest\"\n\
             data_dir = \"{datadir}\"\n\
             fee_threshold = 100\n\
             min_interval = 5\n\
             [jds]\n\
             listen_address = \"{address}\"\n",
            secret = secret.expose_text().as_str(),
            datadir = node.datadir().display(),
        );
        let (file, log) = (files.path().join("pool.toml"), files.path().join("pool.log"));
        std::fs::write(&file, text)?;
        let output = File::create(&log)?;
        let child = Command::new(exe)
            .arg("-c")
            .arg(&file)
            .current_dir(files.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("can not start {}", exe.display()))?;
        let key = public.to_string().parse().map_err(|e| anyhow::anyhow!("{e}"))?;
        let reference = Self { child, address, key, log, _files: files };
        wait::until_true("the reference to listen", START_WAIT, || {
            TcpStream::connect(address).is_ok()
        })
        .with_context(|| format!("end of its log: {}", reference.log_end()))?;
        Ok(reference)
    }

    pub(crate) fn target(&self) -> Target {
        Target { name: "reference".into(), address: self.address, key: Some(self.key) }
    }

    /// The last of what it has said.
    pub(crate) fn log_end(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let end = log.get(log.len().saturating_sub(LOG_END_BYTES)..).unwrap_or_default();
        String::from_utf8_lossy(end).into_owned()
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
