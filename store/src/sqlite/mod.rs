//! The store in one SQLite file.

mod accounts;
mod apply;
mod backlog;
mod before_users;
mod carry;
mod clock;
mod connect;
mod event_log;
mod facts_json;
mod fault;
mod group;
mod housekeeping;
#[cfg(test)]
mod limits_tests;
mod migrate;
mod open;
mod packed;
mod read;
mod read_chain;
mod read_events;
mod read_rest;
mod read_templates;
mod read_verdict;
mod readers;
mod recover;
mod retention;
mod shared;
mod sizes;
mod state;
mod stream;
mod tally;
mod tx_ids;
mod write_block;
mod write_inputs;
mod write_template;
mod writer;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};

pub use event_log::{EventLog, EventLogError};
pub use migrate::STORE_VERSION;
pub use open::OpenError;

use crate::accounting::{AccountingCursor, AccountingPage};
use crate::batch::{Batch, Webhook};
use crate::chain::{ChainEnds, SignedHead};
use crate::commit::{Commit, Full, Request};
use crate::contract::Store;
use crate::event::EventFilter;
use crate::query::{
    Aggregate, BlockSummary, EventPage, MinerSummary, MinersPage, Page, PageRequest, ReadError,
    RecoverQuery, Recovered, SharesQuery, SpentToken, TemplateDetail, TemplateFilter, TemplateRef,
    TemplateSummary,
};
use crate::report::{Metrics, Sizes, Status};
use crate::settings::Settings;
use crate::types::{Cursor, StreamEpoch};
use housekeeping::Housekeeper;
use readers::Readers;
use shared::{Closing, Control, Shared, lock};

/// A [`Store`] in one SQLite file.
///
/// Dropping it does what [`Store::finish`] does.
#[derive(Debug)]
pub struct SqliteStore {
    queue: mpsc::Sender<Request>,
    shared: Arc<Shared>,
    readers: Arc<Readers>,
    housekeeper: Arc<Housekeeper>,
    /// `None` when they have ended.
    threads: Mutex<Option<Threads>>,
}

#[derive(Debug)]
struct Threads {
    /// Dropping it ends the housekeeper.
    stop_housekeeper: std::sync::mpsc::Sender<()>,
    housekeeper: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl SqliteStore {
    /// Opens the store, creating or migrating the database when needed. Blocks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(settings: Settings) -> Result<Self, OpenError> {
        open::open(settings)
    }

    /// As dropping it.
    pub fn close(self) {}

    /// Ends at once as if the process were killed: what is not acknowledged may be lost. For tests.
    #[doc(hidden)]
    pub fn abandon(self) {
        self.shared.close(Closing::Abandon);
    }

    /// Changes [`Settings::database_bytes_max`] while the store runs; 0 for no bound.
    pub fn set_database_bytes_max(&self, bytes: u64) {
        self.shared.push_control(Control::MaxBytes(bytes));
        wake(&self.queue);
    }

    /// Deletes what [`crate::Retention`] says, as of `now_ms` (Unix milliseconds), and waits for
    /// it. The store does the same by itself every minute.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn retain(&self, now_ms: u64) -> Result<(), ReadError> {
        self.housekeeper.retain(now_ms, true)
    }

    fn read<T>(
        &self,
        query: impl FnOnce(&rusqlite::Connection) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        self.readers.read(query)
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Has the writer look at what it is to do beside batches. A full queue does that as well.
fn wake(queue: &mpsc::Sender<Request>) {
    let (reply, _) = oneshot::channel();
    let _ = queue.try_send(Request { batch: Batch::new(0), reply });
}

impl Store for SqliteStore {
    fn commit(&self, batch: Batch) -> Commit {
        Commit::send(&self.queue, batch)
    }

    fn try_commit(&self, batch: Batch) -> Result<Commit, Full> {
        Commit::try_send(&self.queue, batch)
    }

    fn finish(&self) -> usize {
        // Held until they have ended, so that nobody returns before.
        let mut threads = lock(&self.threads);
        if let Some(Threads { stop_housekeeper, housekeeper, writer }) = threads.take() {
            drop(stop_housekeeper);
            self.shared.close(Closing::Orderly);
            wake(&self.queue);
            // Panics were reported when they happened.
            let _ = housekeeper.join();
            if writer.join().is_err() {
                self.shared.volatile_batches.fetch_max(1, Ordering::Relaxed);
            }
        }
        self.shared.volatile_batches.load(Ordering::Relaxed)
    }

    fn status(&self) -> Status {
        self.shared.status()
    }

    fn metrics(&self) -> Metrics {
        let capacity = self.queue.max_capacity();
        self.shared.metrics(capacity - self.queue.capacity(), capacity)
    }

    fn epoch(&self) -> StreamEpoch {
        self.shared.epoch
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.shared.last.subscribe()
    }

    fn events_after(
        &self,
        cursor: Cursor,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<EventPage, ReadError> {
        self.read(|connection| {
            read_events::after(connection, self.shared.epoch, cursor, filter, limit)
        })
    }

    fn chain_ends(&self) -> Result<ChainEnds, ReadError> {
        self.read(read_chain::ends)
    }

    fn event_heads(&self, page: PageRequest) -> Result<Page<SignedHead>, ReadError> {
        self.read(|connection| read_chain::heads(connection, page))
    }

    fn templates(
        &self,
        filter: &TemplateFilter,
        page: PageRequest,
    ) -> Result<Page<TemplateSummary>, ReadError> {
        self.read(|connection| read_templates::list(connection, filter, page))
    }

    fn template_summary(&self, which: TemplateRef) -> Result<Option<TemplateSummary>, ReadError> {
        self.read(|connection| read_templates::one(connection, which))
    }

    fn template(&self, which: TemplateRef) -> Result<Option<TemplateDetail>, ReadError> {
        self.read(|connection| read_templates::detail(connection, which))
    }

    fn template_transactions(&self, which: TemplateRef) -> Result<Option<Vec<Vec<u8>>>, ReadError> {
        self.read(|connection| read_templates::raw(connection, which))
    }

    fn spent_tokens(&self, page: PageRequest) -> Result<Page<SpentToken>, ReadError> {
        self.read(|connection| read_rest::tokens(connection, page))
    }

    fn blocks(&self, page: PageRequest) -> Result<Page<BlockSummary>, ReadError> {
        self.read(|connection| read_rest::blocks(connection, page))
    }

    fn block(&self, block_hash: &str) -> Result<Option<BlockSummary>, ReadError> {
        self.read(|connection| read_rest::block(connection, block_hash))
    }

    fn shares_summary(&self, query: &SharesQuery) -> Result<Vec<Aggregate>, ReadError> {
        self.read(|connection| read_rest::aggregates(connection, query))
    }

    fn accepted_shares(&self, heights: u32, max: usize) -> Result<Vec<String>, ReadError> {
        self.read(|connection| read_rest::accepted_shares(connection, heights, max))
    }

    fn accounting_after(
        &self,
        cursor: AccountingCursor,
        limit: usize,
    ) -> Result<AccountingPage, ReadError> {
        self.read(|connection| accounts::after(connection, cursor, limit))
    }

    fn miner(&self, user: &str) -> Result<Option<MinerSummary>, ReadError> {
        self.read(|connection| read_rest::miner(connection, user))
    }

    fn miners(&self, after: Option<&str>, limit: usize) -> Result<MinersPage, ReadError> {
        self.read(|connection| read_rest::miners(connection, after, limit))
    }

    fn webhooks(&self) -> Result<Vec<Webhook>, ReadError> {
        self.read(read_rest::webhooks)
    }

    fn sizes(&self) -> Result<Sizes, ReadError> {
        let wal_bytes = self.housekeeper.wal_bytes();
        self.read(|connection| read_rest::sizes(connection, wal_bytes))
    }

    fn recover(&self, query: &RecoverQuery) -> Result<Recovered, ReadError> {
        self.read(|connection| recover::recover(connection, query))
    }
}
