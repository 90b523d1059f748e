//! What can go wrong between us and a node.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A node could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// Time may heal it: the node is down, starts, is busy.
    #[error("node {node}: {fault}")]
    Transient {
        /// The operator's name for the node.
        node: Arc<str>,
        /// What happened.
        fault: Fault,
    },
    /// A person has to change something. We keep trying all the same.
    #[error("node {node}: {fault}")]
    Persistent {
        /// The operator's name for the node.
        node: Arc<str>,
        /// What happened.
        fault: Fault,
    },
}

impl NodeError {
    pub(crate) fn new(node: &Arc<str>, fault: Fault) -> Self {
        let node = node.clone();
        if fault.is_persistent() {
            Self::Persistent { node, fault }
        } else {
            Self::Transient { node, fault }
        }
    }

    /// What happened.
    pub fn fault(&self) -> &Fault {
        match self {
            Self::Transient { fault, .. } | Self::Persistent { fault, .. } => fault,
        }
    }

    /// True when a person has to change something.
    pub fn is_persistent(&self) -> bool {
        matches!(self, Self::Persistent { .. })
    }
}

/// What happened. The text names the setting to look at where there is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// `rpc_url` can not be used.
    #[error("rpc_url {reason}")]
    BadUrl {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No connection to the node.
    #[error("no connection to rpc_url {url}: {reason}; is the node running there?")]
    Unreachable {
        /// The setting's value.
        url: Arc<str>,
        /// What the operating system said.
        reason: String,
    },
    /// Nobody listens on the IPC socket (yet).
    #[error("no connection to ipc_socket {}: {reason}; is the node running with -ipcbind=unix?", path.display())]
    NoSocket {
        /// The setting's value.
        path: Arc<Path>,
        /// What the operating system said.
        reason: String,
    },
    /// The node has ended our connection, or said that it shuts down, and its process still runs.
    #[error("the node shuts down; ipc_socket {} is used again when it is back", path.display())]
    ShuttingDown {
        /// The setting's value.
        path: Arc<Path>,
    },
    /// The IPC socket is there and closed to us.
    #[error(
        "ipc_socket {} may not be opened: {reason}; this process needs permission to read and write it",
        path.display()
    )]
    SocketForbidden {
        /// The setting's value.
        path: Arc<Path>,
        /// What the operating system said.
        reason: String,
    },
    /// The node's IPC is of a version that we do not speak.
    #[error(
        "the node's IPC is older than Bitcoin Core 30's and can not be used; set source = \"rpc\" or update the node"
    )]
    IpcTooOld,
    /// The node's IPC does not tell enough about the chain, and no RPC is configured beside it.
    #[error(
        "the node's IPC tells nothing of block headers (that of Bitcoin Core 30 and 31 does not); set rpc_url and \
         rpc_cookie_file of this node too, so that RPC can be asked for them"
    )]
    IpcNeedsRpc,
    /// The node's IPC has no such method.
    #[error("the node's IPC has no {method}")]
    Unimplemented {
        /// The method.
        method: &'static str,
    },
    /// The node answered an IPC call with an exception.
    #[error("the node fails {method}: {reason}")]
    Remote {
        /// The method.
        method: &'static str,
        /// What the node said.
        reason: String,
    },
    /// The node has not answered an earlier IPC call yet, and so gets no other of the same kind.
    #[error("the node does not answer; {method} was not sent")]
    Busy {
        /// The method that was not sent.
        method: &'static str,
    },
    /// The connection ended in the middle of a call.
    #[error("connection lost during {method}: {reason}")]
    ConnectionLost {
        /// The RPC.
        method: &'static str,
        /// What the operating system said.
        reason: String,
    },
    /// No answer in time.
    #[error("no answer to {method} in time")]
    TimedOut {
        /// The RPC.
        method: &'static str,
    },
    /// The cookie file could not be read, because it is not there (yet).
    #[error("rpc_cookie_file {} does not exist; is the node running?", path.display())]
    CookieMissing {
        /// The setting's value.
        path: PathBuf,
    },
    /// The cookie file is there and could not be read.
    #[error("rpc_cookie_file {} can not be read: {reason}", path.display())]
    CookieUnreadable {
        /// The setting's value.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// HTTP 401.
    #[error("the node refuses our credentials (HTTP 401); check {setting}")]
    CredentialsRefused {
        /// The settings to look at.
        setting: &'static str,
    },
    /// HTTP 403, or an RPC that the node does not have.
    #[error("the node does not allow us the RPC {method}; check its rpcwhitelist and rpcallowip")]
    Forbidden {
        /// The RPC.
        method: &'static str,
    },
    /// The node is on another chain.
    #[error(
        "the node is on the chain \"{actual}\", but network needs \"{expected}\"; check rpc_url and network"
    )]
    WrongChain {
        /// Core's name of the chain that we want.
        expected: &'static str,
        /// Core's name of the chain that the node is on.
        actual: String,
    },
    /// The node starts up.
    #[error("the node is starting: {message}")]
    WarmingUp {
        /// What the node said.
        message: String,
    },
    /// HTTP 503 or another status without an explanation.
    #[error("the node answers {method} with HTTP {status}: {body}")]
    Http {
        /// The RPC.
        method: &'static str,
        /// HTTP status.
        status: u16,
        /// Start of the body.
        body: String,
    },
    /// The node answered with an error.
    #[error("the node answers {method} with error {code}: {message}")]
    Rpc {
        /// The RPC.
        method: &'static str,
        /// Bitcoin Core's `RPCErrorCode`.
        code: i32,
        /// What the node said.
        message: String,
    },
    /// The node can not take a block now and may later: it lacks the block before, or its clock is
    /// hours behind.
    #[error("the node can not take the block yet: {reason}")]
    NotYet {
        /// The node's reason.
        reason: String,
    },
    /// The answer is not what this RPC returns.
    #[error("the node's answer to {method} makes no sense: {reason}")]
    Malformed {
        /// The RPC.
        method: &'static str,
        /// What was expected.
        reason: String,
    },
    /// Too much waits for the node already.
    #[error("{waiting} calls of {method} wait for the node already")]
    Overloaded {
        /// The RPC.
        method: &'static str,
        /// The bound that was reached, count.
        waiting: usize,
    },
    /// No connection to a template provider.
    #[error(
        "no connection to address {address}: {reason}; is the template provider running there?"
    )]
    ProviderUnreachable {
        /// The setting's value.
        address: Arc<str>,
        /// What the operating system said.
        reason: String,
    },
    /// Whoever answers is not who the configuration names, or a clock is wrong.
    #[error("the template provider is not the one that public_key names: {reason}")]
    ProviderUntrusted {
        /// What was wrong with its certificate.
        reason: String,
    },
    /// The template provider will not speak with us.
    #[error("the template provider refuses us: {code}")]
    ProviderRefused {
        /// Its error code.
        code: String,
    },
    /// The template provider breaks the protocol, or says what can not be.
    #[error("the template provider breaks the protocol: {reason}")]
    ProviderProtocol {
        /// What it did, and what was expected.
        reason: String,
    },
    /// The template provider takes our messages and has nothing to mine.
    #[error("the template provider gives no template (yet)")]
    ProviderWithoutTemplate,
    /// Our own threads could not be started, or have ended.
    #[error("our own worker is gone: {reason}")]
    Worker {
        /// Why.
        reason: String,
    },
}

impl Fault {
    fn is_persistent(&self) -> bool {
        match self {
            Self::BadUrl { .. }
            | Self::CookieUnreadable { .. }
            | Self::CredentialsRefused { .. }
            | Self::Forbidden { .. }
            | Self::SocketForbidden { .. }
            | Self::IpcTooOld
            | Self::IpcNeedsRpc
            | Self::ProviderUntrusted { .. }
            | Self::ProviderRefused { .. }
            | Self::WrongChain { .. } => true,
            Self::Unreachable { .. }
            | Self::NoSocket { .. }
            | Self::ShuttingDown { .. }
            | Self::Unimplemented { .. }
            | Self::Remote { .. }
            | Self::Busy { .. }
            | Self::ConnectionLost { .. }
            | Self::TimedOut { .. }
            | Self::CookieMissing { .. }
            | Self::WarmingUp { .. }
            | Self::Http { .. }
            | Self::Rpc { .. }
            | Self::NotYet { .. }
            | Self::Malformed { .. }
            | Self::Overloaded { .. }
            | Self::ProviderUnreachable { .. }
            | Self::ProviderProtocol { .. }
            | Self::ProviderWithoutTemplate
            | Self::Worker { .. } => false,
        }
    }
}
