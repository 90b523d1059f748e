//! What can go wrong while running a private node.

use std::path::PathBuf;

use crate::provision::ProvisionError;
use crate::wait::WaitError;

/// A node did not start, answer or do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No Bitcoin Core binary.
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    /// The data directory or a process could not be made.
    #[error("{what} {path}: {source}", path = path.display())]
    Io {
        /// What was attempted, as a phrase.
        what: &'static str,
        /// The file, directory or program.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The node ended, or never answered, during start-up.
    #[error("{exe} did not start: {reason}\n{log}", exe = exe.display())]
    Start {
        /// The binary.
        exe: PathBuf,
        /// What happened.
        reason: String,
        /// The end of what the node wrote to its log and to standard error.
        log: String,
    },
    /// IPC was asked for, and the binary has none.
    #[error(
        "{exe} has no IPC (-ipcbind): use the bitcoin-node binary of Bitcoin Core 30 or later",
        exe = exe.display()
    )]
    NoIpc {
        /// The binary.
        exe: PathBuf,
    },
    /// An RPC call failed.
    #[error("{method}: {source}")]
    Rpc {
        /// The RPC method.
        method: String,
        /// The client's reason.
        source: bitcoincore_rpc::Error,
    },
    /// The node refused something that it was expected to take.
    #[error("{what}: expected {expected}, the node said {actual}")]
    Refused {
        /// What was sent.
        what: String,
        /// The answer hoped for.
        expected: &'static str,
        /// The answer received.
        actual: String,
    },
    /// An answer had another shape than documented.
    #[error("{method} answered without {expected}")]
    Unexpected {
        /// The RPC method.
        method: &'static str,
        /// The field, and the type that it should have.
        expected: &'static str,
    },
    /// Something did not come true in time.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// The request can not be met.
    #[error("{0}")]
    Impossible(String),
}
