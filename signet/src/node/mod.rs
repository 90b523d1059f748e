//! A Bitcoin Core node of our own: started, asked, stopped, restarted, thrown away.

mod options;
mod peers;
mod process;
mod rpc;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64};

use bitcoin::OutPoint;
use bitcoincore_rpc::Client;
use tempfile::TempDir;

use crate::error::NodeError;
use crate::{premined, provision, wait};
use process::Process;

pub use options::{Chain, NodeOptions};
pub(crate) use options::{START_TIMEOUT, STOP_TIMEOUT};

/// Starts tried with new ports when another program took one of them in between.
const PORT_ATTEMPTS_MAX: usize = 5;
/// What the node says of a port that is taken.
const PORT_CLASH: [&str; 2] = ["Unable to bind", "Unable to start HTTP server"];

/// Numbers the nodes of this process, for their names.
static NODES_STARTED: AtomicU32 = AtomicU32::new(0);

/// A running Bitcoin Core node with a data directory of its own under the temporary directory.
///
/// Dropped, the node is killed and its directory removed; the same happens when this process
/// ends without dropping it.
#[derive(Debug)]
pub struct Node {
    // Before `root`: the process goes first.
    process: Option<Process>,
    name: String,
    options: NodeOptions,
    exe: PathBuf,
    rpc_port: u16,
    p2p_port: u16,
    client: Option<Client>,
    /// Coins handed out already, so that nobody is given the same one again.
    pub(crate) handed_out: Mutex<HashSet<OutPoint>>,
    /// Makes every coinbase of this node differ.
    pub(crate) coinbases: AtomicU64,
    root: TempDir,
}

impl Node {
    /// Starts a node and waits until it answers; on [`Chain::Signet`] loads the premined blocks.
    ///
    /// # Errors
    /// No binary, or the node ended or did not answer: then with the end of its log.
    pub fn start(options: NodeOptions) -> Result<Self, NodeError> {
        let exe = match &options.exe {
            Some(exe) => exe.clone(),
            None => provision::locate()?.path,
        };
        if options.ipc && !provision::has_ipc(&exe) {
            return Err(NodeError::NoIpc { exe });
        }
        let number = NODES_STARTED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut node = Self {
            process: None,
            name: format!("node{number}"),
            exe,
            rpc_port: 0,
            p2p_port: 0,
            client: None,
            handed_out: Mutex::default(),
            coinbases: AtomicU64::new(0),
            root: process::short_temp_dir()?,
            options,
        };
        for attempt in 1.. {
            node.rpc_port = process::free_port()?;
            node.p2p_port = process::free_port()?;
            match node.launch() {
                Err(NodeError::Start { log, .. })
                    if attempt < PORT_ATTEMPTS_MAX
                        && PORT_CLASH.iter().any(|t| log.contains(t)) => {}
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        if node.chain() == Chain::Signet {
            premined::load(&node)?;
        }
        Ok(node)
    }

    /// Starts a regtest node without options.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn regtest() -> Result<Self, NodeError> {
        Self::start(NodeOptions::regtest())
    }

    fn launch(&mut self) -> Result<(), NodeError> {
        let datadir = self.datadir().display().to_string();
        let args = self.options.command_line(&datadir, self.rpc_port, self.p2p_port);
        // A cookie of an earlier run must not be taken for this one's.
        let _ = std::fs::remove_file(self.cookie_file());
        let mut process = Process::spawn(&self.exe, &args, self.root.path())?;
        let mut ended = None;
        let answer = wait::until("the node to answer its first RPC call", START_TIMEOUT, || {
            ended = process.ended();
            match &ended {
                Some(_) => Some(None),
                None => rpc::try_connect(&self.rpc_url(), &self.cookie_file()).map(Some),
            }
        });
        let reason = match answer {
            Ok(Some(client)) => {
                self.client = Some(client);
                self.process = Some(process);
                return Ok(());
            }
            Ok(None) => format!("it ended ({})", ended.unwrap_or_default()),
            Err(error) => error.to_string(),
        };
        drop(process);
        let logs = [self.root.path().join("stderr"), self.debug_log()];
        let log = logs.map(|path| process::tail(&path)).join("\n");
        let _ = std::fs::remove_file(self.debug_log());
        Err(NodeError::Start { exe: self.exe.clone(), reason, log })
    }

    /// Stops the node in good order and waits until it has ended. Its data stay.
    ///
    /// # Errors
    /// It did not end in time; it is killed then.
    pub fn stop(&mut self) -> Result<(), NodeError> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.signal("TERM")?;
        self.client = None;
        wait::until("the node to shut down", STOP_TIMEOUT, || process.ended())?;
        Ok(())
    }

    /// Kills the node as a power cut would (SIGKILL). Its data stay.
    pub fn kill(&mut self) {
        self.client = None;
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Stops the node if it runs, and starts it again with the same data and ports. Its RPC
    /// cookie is a new one.
    ///
    /// # Errors
    /// As [`Self::start`] and [`Self::stop`].
    pub fn restart(&mut self) -> Result<(), NodeError> {
        self.stop()?;
        self.launch()
    }

    /// Freezes the process (SIGSTOP): connections are taken, and nothing answers.
    ///
    /// # Errors
    /// The node does not run.
    pub fn pause(&self) -> Result<(), NodeError> {
        self.running()?.signal("STOP")
    }

    /// Undoes [`Self::pause`] (SIGCONT).
    ///
    /// # Errors
    /// The node does not run.
    pub fn resume(&self) -> Result<(), NodeError> {
        self.running()?.signal("CONT")
    }

    fn running(&self) -> Result<&Process, NodeError> {
        self.process
            .as_ref()
            .ok_or_else(|| NodeError::Impossible(format!("{} is stopped", self.name)))
    }

    /// True until [`Self::stop`] or [`Self::kill`], and again after [`Self::restart`].
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// A name that no other node of this process has.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which chain it is on.
    pub fn chain(&self) -> Chain {
        self.options.chain
    }

    /// The binary that runs.
    pub fn exe(&self) -> &Path {
        &self.exe
    }

    /// Process id; `None` when stopped.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// The data directory (`-datadir`).
    pub fn datadir(&self) -> &Path {
        self.root.path()
    }

    /// The network's folder in the data directory.
    pub fn network_dir(&self) -> PathBuf {
        self.datadir().join(self.chain().name())
    }

    /// `http://127.0.0.1:PORT`, the same after a restart.
    pub fn rpc_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.rpc_port)
    }

    /// The RPC cookie, new at each start.
    pub fn cookie_file(&self) -> PathBuf {
        self.network_dir().join(".cookie")
    }

    /// The IPC socket, there while the node runs with [`NodeOptions::ipc`].
    pub fn ipc_socket(&self) -> PathBuf {
        self.network_dir().join("node.sock")
    }

    /// The node's log.
    pub fn debug_log(&self) -> PathBuf {
        self.network_dir().join("debug.log")
    }

    /// Where other nodes reach it; `None` without [`NodeOptions::p2p`].
    pub fn p2p_address(&self) -> Option<String> {
        self.options.p2p.then(|| format!("127.0.0.1:{}", self.p2p_port))
    }
}
