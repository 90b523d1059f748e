//! The contract of a store.

use tokio::sync::watch;

use crate::accounting::{AccountingCursor, AccountingPage};
use crate::batch::{Batch, Webhook};
use crate::chain::{ChainEnds, SignedHead};
use crate::commit::{Commit, Full};
use crate::event::EventFilter;
use crate::query::{
    Aggregate, BlockSummary, EventPage, MinerSummary, MinersPage, Page, PageRequest, ReadError,
    RecoverQuery, Recovered, SharesQuery, SpentToken, TemplateDetail, TemplateFilter, TemplateRef,
    TemplateSummary,
};
use crate::report::{Metrics, Sizes, Status};
use crate::types::{Cursor, StreamEpoch};

/// A durable store: one writer, many readers. `tests/contract` says in tests what it promises;
/// every backend passes them.
///
/// Reads block the thread for as long as the disk needs: call them from `spawn_blocking`. They
/// never wait for the writer, and the writer never waits for them. A batch that is acknowledged
/// is visible to reads that begin after.
pub trait Store: Send + Sync + 'static {
    /// Hands a batch over. When it is acknowledged (and not volatile), it survives SIGKILL; a
    /// [`Batch::synced`] one survives a loss of power. When the queue is full, the returned future
    /// waits for room.
    fn commit(&self, batch: Batch) -> Commit;

    /// As [`Self::commit`], but never waits for room.
    ///
    /// # Errors
    /// [`Full`] gives the batch back.
    fn try_commit(&self, batch: Batch) -> Result<Commit, Full>;

    /// Writes what is queued, and ends: later batches get [`crate::CommitError::Closed`], reads go
    /// on. A write that fails is tried once more, not longer. Blocks for a moment.
    ///
    /// Returns how many batches that were acknowledged as volatile are lost, because nothing could
    /// be written; 0 when everything is on the disk. So does every later call.
    fn finish(&self) -> usize;

    /// Whether the store writes. Costs nothing.
    fn status(&self) -> Status;

    /// Counters of the writer. Costs nothing.
    fn metrics(&self) -> Metrics;

    /// The current stream epoch. It can change only when the store is opened.
    fn epoch(&self) -> StreamEpoch;

    /// Id of the newest event that readers see; 0 before the first.
    fn last_event_id(&self) -> u64 {
        *self.watch().borrow()
    }

    /// [`Self::last_event_id`] whenever it changes.
    fn watch(&self) -> watch::Receiver<u64>;

    /// Events after a cursor, in order, at most `limit`
    /// ([`crate::limits::PAGE_EVENTS_MAX`] at the most).
    ///
    /// # Errors
    /// [`ReadError::Gone`] when the cursor's epoch is not the current one, when events after it
    /// are not kept any more, or when it is ahead of the last event. [`Cursor::START`] is never
    /// gone.
    fn events_after(
        &self,
        cursor: Cursor,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<EventPage, ReadError>;

    /// Where the hash chain of the events that are kept begins and ends.
    ///
    /// # Errors
    /// [`ReadError`].
    fn chain_ends(&self) -> Result<ChainEnds, ReadError>;

    /// Signed heads of the hash chain, newest first; of each event at most one.
    ///
    /// # Errors
    /// [`ReadError`].
    fn event_heads(&self, page: PageRequest) -> Result<Page<SignedHead>, ReadError>;

    /// Declarations, accepted or not, newest first.
    ///
    /// # Errors
    /// [`ReadError`].
    fn templates(
        &self,
        filter: &TemplateFilter,
        page: PageRequest,
    ) -> Result<Page<TemplateSummary>, ReadError>;

    /// One declaration, whatever the verdict.
    ///
    /// # Errors
    /// [`ReadError`].
    fn template_summary(&self, which: TemplateRef) -> Result<Option<TemplateSummary>, ReadError>;

    /// One accepted template with the ids of its transactions; `None` for one that is not there or
    /// was rejected.
    ///
    /// # Errors
    /// [`ReadError`].
    fn template(&self, which: TemplateRef) -> Result<Option<TemplateDetail>, ReadError>;

    /// The transactions of an accepted template in block order, without the coinbase, in consensus
    /// encoding: megabytes. `None` when they are not kept any more.
    ///
    /// # Errors
    /// [`ReadError`].
    fn template_transactions(&self, which: TemplateRef) -> Result<Option<Vec<Vec<u8>>>, ReadError>;

    /// Tokens that were used up and have not been forgotten, newest first.
    ///
    /// # Errors
    /// [`ReadError`].
    fn spent_tokens(&self, page: PageRequest) -> Result<Page<SpentToken>, ReadError>;

    /// Blocks with what each node made of them, newest first.
    ///
    /// # Errors
    /// [`ReadError`].
    fn blocks(&self, page: PageRequest) -> Result<Page<BlockSummary>, ReadError>;

    /// One block by its hash (64 hex digits as usually printed).
    ///
    /// # Errors
    /// [`ReadError`].
    fn block(&self, block_hash: &str) -> Result<Option<BlockSummary>, ReadError>;

    /// Aggregates by hour or day and by source of the template, oldest first.
    ///
    /// # Errors
    /// [`ReadError`].
    fn shares_summary(&self, query: &SharesQuery) -> Result<Vec<Aggregate>, ReadError>;

    /// Hashes of accepted shares on miners' templates, newest first and `max` at most, from the time
    /// on when the oldest template of the newest `heights` heights was accepted.
    ///
    /// # Errors
    /// [`ReadError`].
    fn accepted_shares(&self, heights: u32, max: usize) -> Result<Vec<String>, ReadError>;

    /// Work and blocks of closed intervals, after a cursor, at most `limit` entries
    /// ([`crate::limits::ACCOUNTING_ENTRIES_MAX`] at the most). What was given out once never
    /// changes, and each accepted share is in exactly one entry.
    ///
    /// # Errors
    /// [`ReadError::AccountingGone`] when entries after the cursor are not kept any more, or when it
    /// was not given out by this history of the store. [`AccountingCursor::START`] is never gone.
    fn accounting_after(
        &self,
        cursor: AccountingCursor,
        limit: usize,
    ) -> Result<AccountingPage, ReadError>;

    /// Totals of a user, with the progress towards badges.
    ///
    /// # Errors
    /// [`ReadError`].
    fn miner(&self, user: &str) -> Result<Option<MinerSummary>, ReadError>;

    /// Users by name, from behind `after` on; at most `limit`, and at most
    /// [`crate::limits::PAGE_ITEMS_MAX`].
    ///
    /// # Errors
    /// [`ReadError`].
    fn miners(&self, after: Option<&str>, limit: usize) -> Result<MinersPage, ReadError>;

    /// Webhooks by id.
    ///
    /// # Errors
    /// [`ReadError`].
    fn webhooks(&self) -> Result<Vec<Webhook>, ReadError>;

    /// One webhook.
    ///
    /// # Errors
    /// [`ReadError`].
    fn webhook(&self, id: &str) -> Result<Option<Webhook>, ReadError> {
        Ok(self.webhooks()?.into_iter().find(|webhook| webhook.id == id))
    }

    /// Rows and bytes.
    ///
    /// # Errors
    /// [`ReadError`].
    fn sizes(&self) -> Result<Sizes, ReadError>;

    /// What a starting server needs to go on where the last one ended.
    ///
    /// # Errors
    /// [`ReadError`]; single rows that can not be read are named in [`Recovered::damaged`].
    fn recover(&self, query: &RecoverQuery) -> Result<Recovered, ReadError>;
}
