//! Finds, downloads or builds Bitcoin Core. First hit wins:
//!
//! 1. `$BITCOIN_NODE_EXE`
//! 2. `bitcoin-node` or `bitcoind` on `PATH`
//! 3. the cache: `$XDG_CACHE_HOME` or `~/.cache`, in `sovereign-jds/bitcoin-core/VERSION`
//! 4. a release download, checked against the release's own checksums and, where gpg has a
//!    known key for it, their signatures ([`install`] only)
//! 5. a build from the Bitcoin Core source that the crate `libbitcoinkernel-sys` carries
//!    ([`install`] only)

mod archive;
mod child;
mod compile;
mod download;
mod error;
mod http;
mod install;
mod locate;
mod packages;
mod progress;
mod release;
mod signature;
mod source;
mod space;

use std::path::PathBuf;

pub use download::download;
pub use error::{DownloadError, ProvisionError};
pub use install::install;
pub use locate::{cache_dir, has_ipc, locate};
pub use progress::{Lines, Progress, Silent};
pub use release::{RELEASE, host_triple};
pub use signature::Signatures;

/// Names the binary to use.
pub const EXE_ENV: &str = "BITCOIN_NODE_EXE";
/// Names a mirror of the release folder: a URL that ends where `SHA256SUMS` begins.
pub const DOWNLOAD_URL_ENV: &str = "JDS_NODE_DOWNLOAD_URL";

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
