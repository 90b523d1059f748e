//! The store in one SQLite file.

use std::path::PathBuf;
use crate::*;
use tokio::sync::{mpsc, watch};

/// Why a store can not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{path} is in use by another process")]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// A file can not be used.
    #[error("cannot use {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is a database of another program.
    #[error("{path} is not a database of this program")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The database was written by a newer version of the program.
    #[error("{path} has version {found}, this program knows versions up to {known}: use the newer program, or a backup from before")]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// The database fails.
    #[error("cannot open {path}: {error}")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        error: rusqlite::Error,
    },
}

/// A [`Store`] in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    queue: mpsc::Sender<Request>,
    last: watch::Receiver<u64>,
}

impl SqliteStore {
    /// Opens the store, creating or migrating the database when needed. Blocks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(_settings: Settings) -> Result<Self, OpenError> {
        todo_open()
    }

    /// Writes what is queued and ends the writer. Blocks. Dropping the store does the same without
    /// waiting.
    pub fn close(self) {}

    /// Changes [`Settings::database_bytes_max`] while the store runs; 0 for no bound.
    pub fn set_database_bytes_max(&self, _bytes: u64) {}
}

fn todo_open() -> Result<SqliteStore, OpenError> {
    Err(OpenError::InUse { path: PathBuf::new() })
}

impl Store for SqliteStore {
    fn commit(&self, batch: Batch) -> Commit { Commit::send(&self.queue, batch) }
    fn try_commit(&self, batch: Batch) -> Result<Commit, Full> { Commit::try_send(&self.queue, batch) }
    fn status(&self) -> Status { Status::Closed }
    fn metrics(&self) -> Metrics { unreachable!() }
    fn epoch(&self) -> StreamEpoch { StreamEpoch(0) }
    fn watch(&self) -> watch::Receiver<u64> { self.last.clone() }
    fn events_after(&self, _: Cursor, _: &EventFilter, _: usize) -> Result<EventPage, ReadError> { unreachable!() }
    fn templates(&self, _: &TemplateFilter, _: PageRequest) -> Result<Page<TemplateSummary>, ReadError> { unreachable!() }
    fn template_summary(&self, _: TemplateRef) -> Result<Option<TemplateSummary>, ReadError> { unreachable!() }
    fn template(&self, _: TemplateRef) -> Result<Option<TemplateDetail>, ReadError> { unreachable!() }
    fn template_transactions(&self, _: TemplateRef) -> Result<Option<Vec<Vec<u8>>>, ReadError> { unreachable!() }
    fn spent_tokens(&self, _: PageRequest) -> Result<Page<SpentToken>, ReadError> { unreachable!() }
    fn blocks(&self, _: PageRequest) -> Result<Page<BlockSummary>, ReadError> { unreachable!() }
    fn block(&self, _: &str) -> Result<Option<BlockSummary>, ReadError> { unreachable!() }
    fn shares_summary(&self, _: &SharesQuery) -> Result<Vec<Aggregate>, ReadError> { unreachable!() }
    fn miner(&self, _: &str) -> Result<Option<MinerSummary>, ReadError> { unreachable!() }
    fn webhooks(&self) -> Result<Vec<Webhook>, ReadError> { unreachable!() }
    fn sizes(&self) -> Result<Sizes, ReadError> { unreachable!() }
    fn recover(&self, _: &RecoverQuery) -> Result<Recovered, ReadError> { unreachable!() }
}
