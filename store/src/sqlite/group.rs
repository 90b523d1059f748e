//! Batches into the database, many in one transaction.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::accounts::{self, OpenInterval};
use super::apply::apply;
use super::fault::Fault;
use super::shared::{Shared, add};
use super::state::State;
use super::stream::{Seen, StreamFile};
use super::tally::Tally;
use crate::batch::Batch;
use crate::commit::{CommitError, Committed};
use crate::limits::{CLOSE_WAIT, RETRY_PAUSE};

/// Outcome of each batch of a transaction that was committed.
pub(super) type Outcomes = Vec<Result<Committed, CommitError>>;

/// The only one who writes to the database.
#[derive(Debug)]
pub(super) struct Pen {
    pub(super) connection: Connection,
    pub(super) state: State,
    pub(super) shared: Arc<Shared>,
    stream: StreamFile,
    seen: Seen,
    full_sync: bool,
    accounting_interval: Duration,
}

impl Pen {
    pub(super) fn new(
        connection: Connection,
        state: State,
        shared: Arc<Shared>,
        stream: StreamFile,
        seen: Seen,
        accounting_interval: Duration,
    ) -> Self {
        let full_sync = false;
        Self { connection, state, shared, stream, seen, full_sync, accounting_interval }
    }

    /// Writes all batches in one transaction. A batch that is refused leaves no trace.
    ///
    /// # Errors
    /// Nothing was written: the disk is full, locked or failing.
    pub(super) fn write<'a>(
        &mut self,
        batches: impl Iterator<Item = &'a Batch> + Clone,
        volatile: bool,
    ) -> Result<Outcomes, rusqlite::Error> {
        self.close_interval(false)?;
        let started = Instant::now();
        let sync = batches.clone().any(|batch| batch.sync);
        let outcomes = self.transaction(sync, |pen| {
            let before = pen.state.next_event_id - 1;
            let mut tally = Tally::default();
            let mut outcomes = Vec::new();
            for batch in batches {
                outcomes.push(pen.one(batch, volatile, &mut tally)?);
            }
            tally.store(&pen.connection, &mut pen.state, before)?;
            Ok(outcomes)
        })?;
        self.shared.committed(started.elapsed());
        for outcome in &outcomes {
            match outcome {
                Ok(committed) => {
                    add(&self.shared.batches, 1);
                    add(&self.shared.events, u64::from(committed.events));
                }
                Err(_) => add(&self.shared.refused, 1),
            }
        }
        Ok(outcomes)
    }

    /// Closes the interval of the accounting feed, if it is time for that. It is on the disk itself
    /// before anybody reads it: what a pool has credited is never counted again.
    pub(super) fn close_interval(&mut self, now: bool) -> Result<(), rusqlite::Error> {
        let length = self.accounting_interval;
        let due = |interval: OpenInterval| interval.ends(length) <= Instant::now();
        if now || self.state.interval.is_some_and(due) {
            self.transaction(true, |pen| accounts::close(&pen.connection, &mut pen.state))?;
        }
        Ok(())
    }

    /// Runs `work` in a transaction, whole or not at all, and tells of new events.
    pub(super) fn transaction<T>(
        &mut self,
        sync: bool,
        work: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> Result<T, rusqlite::Error> {
        let mark = self.state.mark();
        let result = self.begin(sync).and_then(|()| {
            let value = work(self)?;
            self.state.sizes.store(&self.connection)?;
            self.connection.execute_batch("COMMIT")?;
            Ok(value)
        });
        match &result {
            Ok(_) => {
                self.state.tx_ids.settle();
                let ends = self.state.interval.map(|open| open.ends(self.accounting_interval));
                self.shared.set_interval_ends(ends);
                self.tell();
            }
            Err(_) => {
                // SQLite has rolled back already after some errors.
                if !self.connection.is_autocommit() {
                    let _ = self.connection.execute_batch("ROLLBACK");
                }
                self.state.reset(mark);
                self.shared.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
        result
    }

    fn begin(&mut self, sync: bool) -> rusqlite::Result<()> {
        if sync != self.full_sync {
            // NORMAL leaves the write-ahead log with the operating system until a checkpoint;
            // FULL brings all of it to the disk with each commit.
            let level = if sync { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.full_sync = sync;
        }
        self.connection.execute_batch("BEGIN IMMEDIATE")
    }

    fn one(
        &mut self,
        batch: &Batch,
        volatile: bool,
        tally: &mut Tally,
    ) -> rusqlite::Result<Result<Committed, CommitError>> {
        if batch.is_empty() {
            return Ok(Ok(Committed { first_event_id: None, events: 0, volatile }));
        }
        let mark = self.state.mark();
        self.connection.prepare_cached("SAVEPOINT batch")?.execute([])?;
        let outcome = match apply(&self.connection, &mut self.state, batch, volatile) {
            Ok((committed, counted)) => {
                tally.merge(counted);
                Ok(committed)
            }
            Err(Fault::Disk(error)) => return Err(error),
            Err(Fault::Batch(error)) => {
                self.connection.execute_batch("ROLLBACK TO batch")?;
                self.state.reset(mark);
                Err(error)
            }
        };
        self.connection.prepare_cached("RELEASE batch")?.execute([])?;
        Ok(outcome)
    }

    /// Notes the last id beside the database, then tells readers.
    fn tell(&mut self) {
        let last_id = self.state.next_event_id - 1;
        if last_id > self.seen.last_id {
            self.seen.last_id = last_id;
            self.stream.write(&self.seen, false);
            self.shared.last.send_replace(last_id);
        }
    }

    /// Brings everything to the disk and says so beside the database.
    pub(super) fn finish(mut self) {
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        let deadline = Instant::now() + CLOSE_WAIT;
        // A reader, perhaps of another process, may be in the middle of a page.
        loop {
            let busy = self.connection.query_row(checkpoint, [], |row| row.get::<_, i64>(0));
            self.seen.clean = matches!(busy, Ok(0));
            if self.seen.clean || Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(RETRY_PAUSE);
        }
        self.stream.write(&self.seen, true);
    }
}
