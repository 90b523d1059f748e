//! The thread that writes: groups what is queued, and goes on without a disk when it must.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::backlog::{Backlog, Bounds, templates_in};
use super::connect;
use super::group::Pen;
use super::retention;
use super::shared::{Closing, Control, Shared, add, now_ms};
use super::state::IdSet;
use crate::batch::{Batch, Change};
use crate::commit::{Committed, Request};
use crate::event::StoreRecovered;
use crate::limits::{
    COMMIT_SPACING, GROUP_BATCHES_MAX, GROUP_TEMPLATES_MAX, RETRY_PAUSE, VOLATILE_BATCHES_MAX,
    VOLATILE_BLOCKS_MAX, VOLATILE_OWN_BYTES_MAX, VOLATILE_PROBE, VOLATILE_TEMPLATES_MAX,
};
use crate::report::Status;
use crate::settings::Retention;

/// The writer.
pub(super) struct Writer {
    pen: Pen,
    queue: mpsc::Receiver<Request>,
    retention: Retention,
    stall_after: Duration,
    /// For waiting with a time limit.
    runtime: Runtime,
    /// When the last transaction was begun.
    begun: Instant,
}

/// Since when and why nothing can be written.
#[derive(Debug, Clone)]
struct Trouble {
    since: Instant,
    since_ms: u64,
    reason: String,
}

/// Nothing can be written, and commits are acknowledged as volatile.
struct Stall {
    trouble: Trouble,
    backlog: Backlog,
    next_probe: Instant,
}

impl Writer {
    pub(super) fn new(
        pen: Pen,
        queue: mpsc::Receiver<Request>,
        retention: Retention,
        stall_after: Duration,
        runtime: Runtime,
    ) -> Self {
        Self { pen, queue, retention, stall_after, runtime, begun: Instant::now() }
    }

    /// Until the store is closed.
    pub(super) fn run(mut self) {
        let _closed = SetClosed(Arc::clone(&self.pen.shared));
        let mut stall = None;
        loop {
            match self.pen.shared.closing() {
                Closing::Abandon => return,
                // What is queued already is still written; nobody can add to it.
                Closing::Orderly => self.queue.close(),
                Closing::No => {}
            }
            self.controls();
            stall = match stall {
                None => {
                    let Some(first) = self.queue.blocking_recv() else { break };
                    let group = self.group(first);
                    self.begun = Instant::now();
                    self.write(group)
                }
                Some(stall) if self.queue.is_closed() => {
                    if let Some(stall) = self.last_attempt(stall) {
                        let batches = stall.backlog.len();
                        self.pen.shared.volatile_batches.store(batches, Ordering::Relaxed);
                        tracing::error!(batches, "the store ends and could not write all");
                        return;
                    }
                    None
                }
                Some(stall) => self.stalled(stall),
            };
        }
        self.pen.finish();
    }

    /// The batches that are there, up to what one transaction takes. Where all of them have time, others
    /// come meanwhile and share it.
    fn group(&mut self, first: Request) -> Vec<Request> {
        let mut templates = templates_in(&first.batch);
        let mut has_time = has_time(&first.batch);
        let mut group = vec![first];
        loop {
            while group.len() < GROUP_BATCHES_MAX && templates < GROUP_TEMPLATES_MAX {
                let Ok(next) = self.queue.try_recv() else { break };
                templates += templates_in(&next.batch);
                has_time &= self::has_time(&next.batch);
                group.push(next);
            }
            let left = COMMIT_SPACING.saturating_sub(self.begun.elapsed());
            if left.is_zero() || !has_time || group.len() >= GROUP_BATCHES_MAX {
                return group;
            }
            std::thread::sleep(left.min(COMMIT_SPACING / 4));
        }
    }

    /// Writes a group, again and again until the patience ends.
    fn write(&mut self, group: Vec<Request>) -> Option<Stall> {
        if group.iter().all(|request| request.batch.is_empty()) {
            let committed = Committed { first_event_id: None, events: 0, volatile: false };
            group.into_iter().for_each(|request| drop(request.reply.send(Ok(committed))));
            return None;
        }
        let mut trouble: Option<Trouble> = None;
        loop {
            match self.pen.write(group.iter().map(|request| &request.batch), false) {
                Ok(outcomes) => {
                    for (request, outcome) in group.into_iter().zip(outcomes) {
                        // Whoever asked may have gone.
                        let _ = request.reply.send(outcome);
                    }
                    if trouble.is_some() {
                        self.pen.shared.set_status(Status::Healthy);
                    }
                    return None;
                }
                Err(error) => {
                    let reason = error.to_string();
                    let trouble = trouble.get_or_insert_with(|| Trouble::begin(&reason));
                    trouble.reason = reason;
                    let closing = self.pen.shared.closing();
                    if trouble.since.elapsed() >= self.stall_after || closing != Closing::No {
                        return Some(self.stall(trouble.clone(), group));
                    }
                    self.pen.shared.set_status(trouble.retrying());
                    self.controls();
                    std::thread::sleep(RETRY_PAUSE.min(self.stall_after));
                }
            }
        }
    }

    fn stall(&self, trouble: Trouble, group: Vec<Request>) -> Stall {
        tracing::error!(reason = trouble.reason, "the store can not write; it goes on in memory");
        self.pen.shared.set_status(trouble.stalled());
        let bounds = Bounds {
            batches: VOLATILE_BATCHES_MAX,
            templates: VOLATILE_TEMPLATES_MAX,
            own_bytes: VOLATILE_OWN_BYTES_MAX,
            blocks: VOLATILE_BLOCKS_MAX,
        };
        let backlog = Backlog::new(bounds);
        let mut stall = Stall { trouble, backlog, next_probe: Instant::now() + VOLATILE_PROBE };
        group.into_iter().for_each(|request| self.keep(&mut stall, request));
        stall
    }

    /// Acknowledges a batch without having written it.
    fn keep(&self, stall: &mut Stall, request: Request) {
        let events = request.batch.events.len() as u32;
        // An empty one only wakes the writer.
        if !request.batch.is_empty() {
            stall.backlog.push(request.batch);
            add(&self.pen.shared.volatile, 1);
            self.pen.shared.volatile_batches.store(stall.backlog.len(), Ordering::Relaxed);
        }
        let committed = Committed { first_event_id: None, events, volatile: true };
        let _ = request.reply.send(Ok(committed));
    }

    /// Takes batches until the next attempt is due, then makes it.
    fn stalled(&mut self, mut stall: Stall) -> Option<Stall> {
        let wait = stall.next_probe.saturating_duration_since(Instant::now());
        let next =
            self.runtime.block_on(async { tokio::time::timeout(wait, self.queue.recv()).await });
        if let Ok(Some(request)) = next {
            self.keep(&mut stall, request);
            self.keep_queued(&mut stall);
        }
        if Instant::now() < stall.next_probe {
            return Some(stall);
        }
        self.heal(stall)
    }

    fn keep_queued(&mut self, stall: &mut Stall) {
        for _ in 0..GROUP_BATCHES_MAX {
            let Ok(request) = self.queue.try_recv() else { return };
            self.keep(stall, request);
        }
    }

    /// Writes what was kept, oldest first, while commits go on. `None` when all of it is written.
    fn heal(&mut self, mut stall: Stall) -> Option<Stall> {
        while stall.backlog.len() > 0 {
            let mut templates = 0;
            let count = stall
                .backlog
                .oldest(GROUP_BATCHES_MAX)
                .take_while(|batch| {
                    let before = templates;
                    templates += templates_in(batch);
                    before < GROUP_TEMPLATES_MAX
                })
                .count();
            let oldest: Vec<_> = stall.backlog.oldest(count).collect();
            match self.pen.write(oldest.into_iter(), true) {
                Ok(outcomes) => {
                    let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
                    stall.backlog.written(count, refused as u64);
                }
                Err(error) => return Some(self.still(stall, &error)),
            }
            self.keep_queued(&mut stall);
        }
        let recovered = Batch::of_event(now_ms(), stall.recovered()).synced();
        if let Err(error) = self.pen.write([&recovered].into_iter(), false) {
            return Some(self.still(stall, &error));
        }
        let shared = &self.pen.shared;
        shared.volatile_batches.store(0, Ordering::Relaxed);
        shared.set_status(Status::Healthy);
        tracing::info!(account = ?stall.backlog.account, "the store writes again");
        None
    }

    fn still(&self, mut stall: Stall, error: &rusqlite::Error) -> Stall {
        stall.trouble.reason = error.to_string();
        stall.next_probe = Instant::now() + VOLATILE_PROBE;
        self.pen.shared.set_status(stall.trouble.stalled());
        stall
    }

    /// The store is being closed while nothing can be written.
    fn last_attempt(&mut self, mut stall: Stall) -> Option<Stall> {
        while let Ok(request) = self.queue.try_recv() {
            self.keep(&mut stall, request);
        }
        self.heal(stall)
    }

    fn controls(&mut self) {
        while let Some(control) = self.pen.shared.pop_control() {
            self.control(control);
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::MaxBytes(bytes) => {
                if let Err(error) = connect::set_max_bytes(&self.pen.connection, bytes) {
                    tracing::warn!(%error, "cannot bound the size of the database");
                }
            }
            Control::Checkpoint => {
                if let Err(error) = connect::checkpoint(&self.pen.connection) {
                    tracing::warn!(%error, "checkpoint failed");
                }
            }
            Control::Retain { now_ms, evict, more } => {
                let step = retention::step(&mut self.pen, &self.retention, now_ms, &evict);
                let step = step.unwrap_or_else(|error| {
                    tracing::warn!(%error, "retention failed");
                    false
                });
                let _ = more.send(step);
            }
            Control::SweepBegin { begun } => {
                self.pen.state.named = Some(IdSet::default());
                let _ = begun.send(());
            }
            Control::Sweep { ids, done } => {
                if let Err(error) = retention::delete_transactions(&mut self.pen, &ids) {
                    tracing::warn!(%error, "cannot delete transactions");
                }
                let _ = done.send(());
            }
            Control::SweepEnd => self.pen.state.named = None,
            Control::CloseInterval => {
                if let Err(error) = self.pen.close_interval(false) {
                    tracing::debug!(%error, "the interval of the accounting feed stays open");
                }
            }
        }
    }
}

/// It may wait for others: shares and events alone may.
fn has_time(batch: &Batch) -> bool {
    !batch.sync && batch.changes.iter().all(|change| matches!(change, Change::Share(_)))
}

/// Says so when the writer has ended, whatever the reason.
struct SetClosed(Arc<Shared>);

impl Drop for SetClosed {
    fn drop(&mut self) {
        self.0.set_status(Status::Closed);
    }
}

impl Trouble {
    fn begin(reason: &str) -> Self {
        Self { since: Instant::now(), since_ms: now_ms(), reason: reason.to_owned() }
    }

    fn retrying(&self) -> Status {
        Status::Retrying { since: self.since_ms, reason: self.reason.clone() }
    }

    fn stalled(&self) -> Status {
        Status::Stalled { since: self.since_ms, reason: self.reason.clone() }
    }
}

impl Stall {
    fn recovered(&self) -> StoreRecovered {
        let account = self.backlog.account;
        StoreRecovered {
            stalled_since: self.trouble.since_ms,
            stalled_ms: self.trouble.since.elapsed().as_millis() as u64,
            reason: self.trouble.reason.clone(),
            acknowledged_volatile: account.acknowledged,
            batches_kept: account.kept,
            batches_lost: account.batches_lost,
            events_lost: account.events_lost,
            shares_lost: account.shares_lost,
            templates_lost: account.templates_lost,
            blocks_lost: account.blocks_lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TemplateSource;
    use crate::fixtures::{NOW_MS, block, job, numbered, share, template};

    #[test]
    fn shares_and_events_have_time_to_share_a_transaction_and_nothing_else_has() {
        let shares = Batch::new(NOW_MS).share(share("alice", 1, TemplateSource::Pool));
        for batch in [&shares, &Batch::of_event(NOW_MS, numbered(1)), &Batch::new(NOW_MS)] {
            assert!(has_time(batch), "{batch:?}");
        }
        let verdict = shares.clone().accept_template(template("alice", job(200, 1, Vec::new())));
        let found = shares.clone().change(Change::FindBlock(block(1, 100)));
        let token = shares.clone().spend_token(1, NOW_MS, "alice".into());
        for urgent in [verdict, found, token, shares.synced()] {
            assert!(!has_time(&urgent), "{urgent:?}");
        }
    }
}
