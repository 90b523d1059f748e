//! Why there is no Bitcoin Core, and what to do about it.

use std::path::PathBuf;

/// A step of provisioning failed. Every message says what to do where there is something.
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
    /// A file or folder of the cache.
    #[error("{what} {path}: {source}", path = path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The release could not be had; [`install`](super::install) builds from source then, unless
    /// its signature is bad.
    #[error("download of Bitcoin Core: {0}")]
    Download(#[from] DownloadError),
    /// Programs or libraries are missing and could not be installed.
    #[error("{needed}: {reason}; run `{command}` and try again")]
    Packages {
        /// What needs them.
        needed: &'static str,
        /// Why they were not installed.
        reason: String,
        /// The command that installs them.
        command: String,
    },
    /// The source was not to be had through cargo.
    #[error(
        "the Bitcoin Core source comes with the crate libbitcoinkernel-sys {version}, which cargo \
         could not get: {reason}; it needs cargo (https://rustup.rs) and a network or a filled \
         cargo cache"
    )]
    Source {
        /// Version of the crate.
        version: &'static str,
        /// What cargo said.
        reason: String,
    },
    /// The disk is too full to build.
    #[error(
        "building Bitcoin Core needs {needed_mb} MB in {folder}, and {free_mb} MB are free there: \
         make room, or let XDG_CACHE_HOME name a folder on another disk",
        folder = folder.display()
    )]
    Space {
        /// Where the build would be.
        folder: PathBuf,
        /// What it takes, MB.
        needed_mb: u64,
        /// What there is, MB.
        free_mb: u64,
    },
    /// A step of the build failed.
    #[error("{step} failed ({status}):\n{tail}")]
    Build {
        /// Which step.
        step: &'static str,
        /// How it ended.
        status: String,
        /// The end of what it wrote.
        tail: String,
    },
    /// Download and build both failed.
    #[error("no Bitcoin Core: {download}; and then the build from source: {build}")]
    Both {
        /// Why not by download.
        download: DownloadError,
        /// Why not by build.
        build: Box<Self>,
    },
}

/// The release archive could not be had, or must not be trusted.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// No release for this machine.
    #[error("there is no release for {os} on {arch}")]
    NoRelease {
        /// Operating system.
        os: &'static str,
        /// Processor.
        arch: &'static str,
    },
    /// The server did not give a file.
    #[error("{url}: {reason}; $JDS_NODE_DOWNLOAD_URL may name a mirror")]
    Http {
        /// What was asked for.
        url: String,
        /// What happened.
        reason: String,
    },
    /// A file is larger than it can be.
    #[error("{url} is larger than {limit_bytes} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The bound, bytes.
        limit_bytes: u64,
    },
    /// The file with the checksums does not have the archive.
    #[error("{url} has no line for {archive}")]
    NotListed {
        /// The file with the checksums.
        url: String,
        /// The archive.
        archive: String,
    },
    /// The archive is not the one that the release lists.
    #[error(
        "{url} has SHA-256 {actual}, the release lists {expected}: the file was damaged on its \
         way, or is not the release"
    )]
    WrongChecksum {
        /// The archive.
        url: String,
        /// As listed.
        expected: String,
        /// As computed.
        actual: String,
    },
    /// A signature does not fit the checksums. Nothing is installed.
    #[error(
        "{url} has a BAD signature, by {signer}: someone changed the checksums; nothing was \
         installed"
    )]
    BadSignature {
        /// The file with the checksums.
        url: String,
        /// Whose signature it claims to be.
        signer: String,
    },
    /// The archive is broken, or has what no release has.
    #[error("{archive}: {reason}")]
    Archive {
        /// The archive.
        archive: String,
        /// What is wrong.
        reason: String,
    },
    /// A file or folder of the cache.
    #[error("{what} {path}: {source}", path = path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl DownloadError {
    /// True when trying another way would hide an attack.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::BadSignature { .. })
    }
}
