//! What became of a block, recorded in order: first the block, then each node's part.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use store::{BlockState, NewBlock, SubmissionState, SubmissionStep};
use tdp_client::BlockBytes;
use tokio::sync::mpsc;
use tracing::{error, warn};
use validation::block::to_hex;

use super::notes::{News, Note};
use super::steps::{self, Steps};
use super::{Open, Submitter, UnderWay, lock};
use crate::found::FoundFacts;
use crate::journal::{Kept, Row};
use crate::limits::{
    FOUND_BLOCKS_OPEN_MAX, FOUND_RECORD_LIMIT, RECORD_AGAIN_INTERVAL, RECORD_AGAIN_MAX,
};

/// What is to be done so that a block survives us.
#[derive(Debug)]
pub(super) enum ToRecord {
    /// The store has to learn of it.
    New(NewBlock),
    /// The store gave it to us.
    Nothing,
    /// The store has a row of it, but could not give it to us: a file holds it.
    FileAndRow,
    /// A file holds it, out of which no row can be made.
    FileAlone,
    /// A file holds it, and it could not be read whether the store has it.
    FileAndUnsure(NewBlock),
}

/// What was done about it.
#[derive(Debug)]
enum Recorded {
    /// The store has it on the disk.
    Durable,
    /// The store holds it in memory, or has lost it.
    Volatile(NewBlock),
    /// The store will not have it.
    NotInStore,
    /// The store has it, and its end: nothing more is to be recorded.
    Ended,
}

/// Records one block from its start to the last node's answer.
pub(super) struct Recorder {
    submitter: Arc<Submitter>,
    open: Arc<Open>,
    steps: Steps,
    notes: mpsc::Receiver<Note>,
    /// Submissions that have not ended.
    ways: usize,
}

impl Recorder {
    pub(super) fn new(
        submitter: Arc<Submitter>,
        open: Arc<Open>,
        steps: Steps,
        notes: mpsc::Receiver<Note>,
        ways: usize,
    ) -> Self {
        Self { submitter, open, steps, notes, ways }
    }

    pub(super) async fn run(mut self, to_record: ToRecord, block: BlockBytes, recording: UnderWay) {
        let mut has_row = !matches!(to_record, ToRecord::FileAlone);
        let told = matches!(to_record, ToRecord::New(_) | ToRecord::Nothing);
        let recorded = self.record(to_record, block, recording).await;
        // Of a row that was there before the store may know more steps than we do.
        let steps_known = told || matches!(recorded, Recorded::Durable | Recorded::Volatile(_));
        let open = &self.open;
        if matches!(recorded, Recorded::Ended) {
            has_row = false;
        } else {
            self.submitter.follower.add(open.hash, open.height, open.confirmations);
        }
        // From the last answer until the file is gone, so that a shutdown in between does not
        // leave it behind.
        let closing = self.take_notes(has_row).await;
        let judged = self.is_judged();
        if has_row && steps_known && self.is_refused_by_all() {
            self.submitter.follower.forget(&self.open.hash);
            self.submitter.journal.progress(self.open.hash, BlockState::Rejected, 0).await;
        }
        self.close(recorded, judged, closing).await;
        lock(&self.submitter.open).retain(|other| other.hash != self.open.hash);
    }

    /// Brings the block to the disk: into the store, or if that takes too long into a file.
    async fn record(
        &self,
        to_record: ToRecord,
        block: BlockBytes,
        recording: UnderWay,
    ) -> Recorded {
        let new = match to_record {
            ToRecord::New(new) => new,
            ToRecord::Nothing => return Recorded::Durable,
            ToRecord::FileAndRow | ToRecord::FileAlone => return Recorded::NotInStore,
            ToRecord::FileAndUnsure(new) => return self.record_unless_there(new, recording).await,
        };
        let journal = &self.submitter.journal;
        let hash = self.open.hash;
        // Its bytes are shared.
        let again = new.clone();
        let mut in_store = pin!(journal.found(new, self.open.found_at_ms, self.nodes()));
        let mut recording = Some(recording);
        let kept = match tokio::time::timeout(FOUND_RECORD_LIMIT, in_store.as_mut()).await {
            Ok(kept) => kept,
            Err(_) => {
                warn!(block = %hash, file = %self.open.file.display(),
                    "the store is slow to write a found block: it goes to a file as well");
                if self.keep(&block).await {
                    recording = None;
                    self.open.waiting.end();
                }
                in_store.await
            }
        };
        if kept != Kept::OnDisk {
            self.keep(&block).await;
        }
        let recorded = self.kept(kept, again).await;
        drop(recording);
        self.open.waiting.end();
        // The announcement may be old: what became of that block is told then.
        let ended = self.open.announced
            && matches!(journal.row_of(hash).await, Row::Is(state) if state != BlockState::Found);
        if ended { Recorded::Ended } else { recorded }
    }

    /// Records a block of a file unless the store has it: twice recorded, it would be told twice.
    async fn record_unless_there(&self, new: NewBlock, recording: UnderWay) -> Recorded {
        let journal = &self.submitter.journal;
        while journal.store().is_some() {
            match journal.row_of(self.open.hash).await {
                Row::NotRead => tokio::time::sleep(RECORD_AGAIN_INTERVAL).await,
                Row::Is(BlockState::Found) => return Recorded::NotInStore,
                Row::Is(_) => return Recorded::Ended,
                Row::None => {
                    let again = new.clone();
                    let kept = journal.found(new, self.open.found_at_ms, self.nodes()).await;
                    drop(recording);
                    return self.kept(kept, again).await;
                }
            }
        }
        Recorded::NotInStore
    }

    /// What follows for the file, which stays unless the store has the block.
    async fn kept(&self, kept: Kept, new: NewBlock) -> Recorded {
        match kept {
            Kept::OnDisk => {
                self.open.in_store.store(true, Ordering::Relaxed);
                self.remove_file().await;
                Recorded::Durable
            }
            Kept::InMemory | Kept::Failed => Recorded::Volatile(new),
            Kept::NoStore => Recorded::NotInStore,
        }
    }

    /// Records what the submissions tell, until all of them have ended.
    async fn take_notes(&mut self, has_row: bool) -> Option<UnderWay> {
        let mut closing = None;
        while let Some(note) = self.notes.recv().await {
            let Note { node, news, attempts, latency, recording } = note;
            if news.is_last() {
                self.ways = self.ways.saturating_sub(1);
            }
            let (state, detail) = match news {
                News::Sent => (Some(SubmissionState::Sent), None),
                News::Unknown(reason) => (Some(SubmissionState::Unknown), Some(reason)),
                News::Accepted(how) => (Some(SubmissionState::Accepted), how.map(str::to_owned)),
                News::Rejected(reason) => (Some(SubmissionState::Rejected), Some(reason)),
                News::GaveUp => (None, None),
            };
            if let Some(state) = state {
                let answered = state != SubmissionState::Sent;
                let step = SubmissionStep {
                    block_hash: self.open.hash,
                    node: node.clone(),
                    state,
                    detail,
                    attempts,
                    latency_ms: answered.then_some(latency.as_secs_f64() * 1e3),
                };
                self.steps.insert(node, step.clone());
                if has_row {
                    self.submitter.journal.step(step).await;
                }
            }
            if self.ways == 0 {
                closing = Some(recording);
            }
        }
        closing
    }

    /// Sees to it that what is left of the block is what the next start needs.
    async fn close(&self, recorded: Recorded, judged: bool, closing: Option<UnderWay>) {
        let block = self.open.hash;
        let wanted = !judged && !self.open.taken.load(Ordering::Relaxed);
        // At the end of the server, `finish` says it.
        let ends = *self.submitter.ended.borrow();
        if wanted
            && !ends
            && let Some(kept) = self.open.kept()
        {
            error!(%block, "no node has taken this found block: {kept} holds it, and the next \
                start submits it");
        }
        match recorded {
            Recorded::Durable => {}
            Recorded::Volatile(new) => {
                drop(closing);
                self.record_again(new, RECORD_AGAIN_INTERVAL).await;
            }
            Recorded::NotInStore if wanted => {}
            Recorded::NotInStore | Recorded::Ended => self.remove_file().await,
        }
    }

    /// Waits until the store has written what it only held in memory; should it have lost it, the
    /// block is recorded anew. The file stays until then. Looks at it after each `interval`.
    pub(super) async fn record_again(&self, new: NewBlock, interval: Duration) {
        let journal = &self.submitter.journal;
        let mut again = 0;
        while again < RECORD_AGAIN_MAX && !journal.is_closed() {
            tokio::time::sleep(interval).await;
            // In this order: a store that is healthy holds nothing in memory only.
            if !journal.is_healthy() {
                continue;
            }
            let _recording = UnderWay::begin(&self.submitter.keeping);
            match journal.row_of(self.open.hash).await {
                // It may be lost: the file can be all there is of it.
                Row::NotRead => continue,
                // That of an announcement may still be without its bytes.
                Row::Is(state) if !self.open.announced || state != BlockState::Found => {}
                Row::Is(_) | Row::None => {
                    again += 1;
                    let found_at_ms = self.open.found_at_ms;
                    if journal.found(new.clone(), found_at_ms, self.nodes()).await != Kept::OnDisk {
                        continue;
                    }
                    for step in self.steps.values() {
                        journal.step(step.clone()).await;
                    }
                }
            }
            self.open.in_store.store(true, Ordering::Relaxed);
            self.remove_file().await;
            return;
        }
    }

    fn nodes(&self) -> Vec<String> {
        let provider = self.open.provider.as_deref();
        self.submitter.node_names().chain(provider).map(str::to_owned).collect()
    }

    fn is_judged(&self) -> bool {
        steps::judged(&self.steps, self.submitter.node_names())
    }

    fn is_refused_by_all(&self) -> bool {
        steps::refused_by_all(&self.steps, self.submitter.node_names())
    }

    /// Writes the block to its file; whether it is there.
    async fn keep(&self, block: &BlockBytes) -> bool {
        let open = &self.open;
        if open.in_file.load(Ordering::Relaxed) {
            return true;
        }
        if lock(&self.submitter.open).len() > FOUND_BLOCKS_OPEN_MAX {
            error!(block = %open.hash, max = FOUND_BLOCKS_OPEN_MAX,
                "too many found blocks at once: this one is not kept in a file");
            return false;
        }
        let facts = FoundFacts {
            hash: open.hash,
            height: open.height,
            user: open.user.clone(),
            template_hash: open.template_hash.clone(),
            found_at_unix_ms: open.found_at_ms,
            digits: 2 * (**block).as_ref().len(),
        };
        let (submitter, block) = (Arc::clone(&self.submitter), Arc::clone(block));
        let written = tokio::task::spawn_blocking(move || {
            submitter.files.keep(&facts, &to_hex((*block).as_ref()))
        });
        let written = written.await;
        let error = match written {
            Ok(Ok(())) => {
                open.in_file.store(true, Ordering::Relaxed);
                return true;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        error!(block = %open.hash, file = %open.file.display(), error,
            "a found block could not be kept in a file");
        false
    }

    async fn remove_file(&self) {
        let open = &self.open;
        if !open.in_file.load(Ordering::Relaxed) {
            return;
        }
        let (submitter, hash) = (Arc::clone(&self.submitter), open.hash);
        let removed = tokio::task::spawn_blocking(move || submitter.files.remove(&hash)).await;
        match removed {
            Ok(Err(error)) => warn!(file = %open.file.display(), %error,
                "can not be removed; the next start looks at it again"),
            Ok(Ok(())) => open.in_file.store(false, Ordering::Relaxed),
            Err(_) => {}
        }
    }
}
