//! Finds, downloads or builds Bitcoin Core. First hit wins:
//!
//! 1. `$BITCOIN_NODE_EXE`
//! 2. `bitcoin-node` or `bitcoind` on `PATH`
//! 3. the cache: `$XDG_CACHE_HOME` or `~/.cache`, in `sovereign-jds/bitcoin-core/VERSION`
//! 4. a release download, checked against the release's own checksums ([`install`] only)
//! 5. a build from the source that a crate carries ([`install`] only)

mod error;
mod locate;

use std::path::PathBuf;

pub use error::ProvisionError;
pub use locate::{has_ipc, locate};

/// Names the binary to use.
pub const EXE_ENV: &str = "BITCOIN_NODE_EXE";

/// Where a binary came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `$BITCOIN_NODE_EXE`.
    Environment,
    /// A folder of `PATH`.
    Path,
    /// An earlier download or build.
    Cache,
    /// Downloaded just now.
    Download,
    /// Built just now.
    Build,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Environment => "$BITCOIN_NODE_EXE",
            Self::Path => "PATH",
            Self::Cache => "cache",
            Self::Download => "download",
            Self::Build => "build",
        })
    }
}

/// A Bitcoin Core binary that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeExe {
    /// The binary.
    pub path: PathBuf,
    /// Where it came from.
    pub origin: Origin,
    /// What it says of itself, such as `v31.0.0`.
    pub version: String,
    /// True when it serves IPC (`-ipcbind`).
    pub has_ipc: bool,
}
