//! The reference's pool with its job declaration server, beside ours.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use bitcoin::{Address, Network};
use jds_wire::Secp256k1PublicKey;
use signet::{Node, wait};
use tempfile::TempDir;

use super::{ProcessReader, Target, free_address};

/// How long it may take until it is ready.
const START_WAIT: Duration = Duration::from_secs(60);
/// Bytes of its log that a failure shows.
const LOG_END_BYTES: usize = 2_000;

/// `pool_sv2` with its job declaration server, over IPC. Killed when dropped.
#[derive(Debug)]
pub struct Reference {
    child: Child,
    address: SocketAddr,
    key: Secp256k1PublicKey,
    log: PathBuf,
    _files: TempDir,
}

impl Reference {
    /// Starts it on a node with IPC, and waits until it listens.
    ///
    /// # Errors
    /// It can not be started, or does not listen in time; with the end of its log.
    pub fn start(exe: &Path, node: &Node) -> anyhow::Result<Self> {
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

    /// Where it takes declarations.
    pub fn target(&self) -> Target {
        Target { name: "reference".into(), address: self.address, key: Some(self.key) }
    }

    /// Of its process.
    pub fn process(&self) -> ProcessReader {
        ProcessReader::of(self.child.id())
    }

    /// The last of what it has said.
    pub fn log_end(&self) -> String {
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
