//! What a private node is started with.

use std::path::PathBuf;
use std::time::Duration;

/// How long a node may take to answer its first RPC call.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a node may take to shut down in good order.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest that one RPC call may take.
pub(crate) const RPC_TIMEOUT: Duration = Duration::from_secs(120);
/// A tip older than this keeps a node in initial block download, and IPC templates waiting;
/// premined blocks are from 2020. A hundred years, in seconds.
const MAX_TIP_AGE_SECS: u64 = 3_153_600_000;

/// Which private chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Chain {
    /// Blocks cost two hashes.
    #[default]
    Regtest,
    /// A signet of our own whose challenge is `OP_TRUE`: blocks need no signature, and about five
    /// million hashes each, so that jobs and shares behave as on a real network.
    Signet,
}

impl Chain {
    /// The network as the `bitcoin` crate names it.
    pub fn network(self) -> bitcoin::Network {
        match self {
            Self::Regtest => bitcoin::Network::Regtest,
            Self::Signet => bitcoin::Network::Signet,
        }
    }

    /// Name of the network's folder under the data directory, and in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Regtest => "regtest",
            Self::Signet => "signet",
        }
    }

    /// Blocks from one halving of the subsidy to the next.
    pub fn halving_interval(self) -> u32 {
        match self {
            Self::Regtest => 150,
            Self::Signet => 210_000,
        }
    }
}

/// How [`Node::start`](super::Node::start) starts a node. The default is a regtest node without
/// IPC and without connections.
#[derive(Debug, Clone, Default)]
pub struct NodeOptions {
    /// Which chain.
    pub chain: Chain,
    /// Serve IPC (needs a `bitcoin-node` binary); see [`Node::ipc_socket`](super::Node::ipc_socket).
    pub ipc: bool,
    /// Listen for other nodes on loopback, for [`Node::connect`](super::Node::connect).
    pub p2p: bool,
    /// Appended to the command line, and so may override what is there.
    pub args: Vec<String>,
    /// The binary; `None` is what [`provision::locate`](crate::provision::locate) finds.
    pub exe: Option<PathBuf>,
}

impl NodeOptions {
    /// A regtest node.
    pub fn regtest() -> Self {
        Self::default()
    }

    /// A node on the private signet.
    pub fn signet() -> Self {
        Self { chain: Chain::Signet, ..Self::default() }
    }

    /// With IPC.
    #[must_use]
    pub fn ipc(mut self) -> Self {
        self.ipc = true;
        self
    }

    /// Listening for other nodes on loopback.
    #[must_use]
    pub fn p2p(mut self) -> Self {
        self.p2p = true;
        self
    }

    /// With one more argument, such as `-maxmempool=50`.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// The command line for these options.
    pub(crate) fn command_line(&self, datadir: &str, rpc_port: u16, p2p_port: u16) -> Vec<String> {
        let mut args: Vec<String> = [
            "-server=1",
            "-rpcbind=127.0.0.1",
            "-rpcallowip=127.0.0.1",
            "-rpcworkqueue=256",
            "-rpcthreads=8",
            // Nothing outside this machine.
            "-connect=0",
            "-dnsseed=0",
            "-fixedseeds=0",
            "-discover=0",
            "-natpmp=0",
            "-listenonion=0",
            "-printtoconsole=0",
            "-debug=validation",
            // Small and quick: tests run several at once.
            "-dbcache=32",
            "-par=1",
        ]
        .map(str::to_owned)
        .into();
        args.push(format!("-datadir={datadir}"));
        args.push(format!("-rpcport={rpc_port}"));
        if self.p2p {
            args.push("-listen=1".to_owned());
            args.push(format!("-bind=127.0.0.1:{p2p_port}"));
        } else {
            args.push("-listen=0".to_owned());
        }
        match self.chain {
            // The default self-checks of regtest take 16 ms per transaction with a full mempool.
            Chain::Regtest => args
                .extend(["-regtest", "-checkmempool=0", "-checkblockindex=0"].map(str::to_owned)),
            Chain::Signet => args.extend(["-signet", "-signetchallenge=51"].map(str::to_owned)),
        }
        args.push(format!("-maxtipage={MAX_TIP_AGE_SECS}"));
        if self.ipc {
            args.push("-ipcbind=unix".to_owned());
        }
        args.extend(self.args.iter().cloned());
        args
    }
}
