//! Why there is no Bitcoin Core, and what to do about it.

use std::path::PathBuf;

/// A step of provisioning failed. Every message ends with what to do.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// Nothing found, and nothing may be downloaded or built here.
    #[error(
        "no Bitcoin Core found: looked at $BITCOIN_NODE_EXE, for bitcoin-node and bitcoind on \
         PATH, and in {cache}; `jds node install` gets one",
        cache = cache.display()
    )]
    NotFound {
        /// The cache folder.
        cache: PathBuf,
    },
    /// A binary is there, and does not run.
    #[error("{path} does not run: {reason}{hint}", path = path.display())]
    DoesNotRun {
        /// The binary.
        path: PathBuf,
        /// What it, or the system, said.
        reason: String,
        /// What to install; starts with a separator, may be empty.
        hint: String,
    },
    /// Neither `$XDG_CACHE_HOME` nor `$HOME` is set.
    #[error("no folder for the cache: set XDG_CACHE_HOME or HOME")]
    NoCache,
}
