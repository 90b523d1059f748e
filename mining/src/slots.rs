//! The jobs of one channel, within their bounds.
#![deny(clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bitcoin::BlockHash;

use crate::held::{Held, JobBytes};
use crate::job::Job;
use crate::limits::{
    CUSTOM_JOBS_PER_CHANNEL_MAX, JOB_BYTES_PER_CHANNEL_MAX, POOL_JOBS_PER_CHANNEL_MAX,
    STALE_JOB_KEPT,
};
use crate::share::Slot;
use crate::work::JobSource;

/// Jobs with rising numbers.
#[derive(Debug)]
pub(crate) struct Slots {
    /// Newest last; stale ones are first.
    list: VecDeque<Slot>,
    /// Of all of them.
    bytes: usize,
    /// Of the miner's own among them.
    held: Held,
}

impl Slots {
    /// None yet; the miner's own will count with those of other channels.
    pub(crate) fn new(all: &JobBytes) -> Self {
        Self { list: VecDeque::new(), bytes: 0, held: all.part() }
    }

    /// The newest job, if it counts.
    pub(crate) fn current(&self) -> Option<&Arc<Job>> {
        self.list.back().filter(|slot| slot.stale.is_none()).map(|slot| &slot.job)
    }

    /// A job by its number, stale or not.
    pub(crate) fn find(&self, job_id: u32) -> Option<&Slot> {
        let index = self.list.binary_search_by_key(&job_id, |slot| slot.job.id()).ok()?;
        self.list.get(index)
    }

    /// Bytes that a job would take here, about. `beside`: bytes that others are about to take.
    ///
    /// # Errors
    /// These, when there is no room for so many.
    pub(crate) fn room_for(&self, job: &Job, beside: usize) -> Result<usize, usize> {
        let own = match self.list.back() {
            Some(last) if last.job.shares_with(job) => size_of::<Job>(),
            _ => job.bytes(),
        };
        let bytes = size_of::<Slot>() + own;
        let full = is_miners(job) && self.held.has_no_room_for(bytes, beside);
        if full { Err(bytes) } else { Ok(bytes) }
    }

    /// Takes one on, and lets go of others where they are too many. Its number is above those of all
    /// before: two of one number could not be told apart.
    pub(crate) fn push(&mut self, slot: Slot) {
        debug_assert!(self.list.back().is_none_or(|last| last.job.id() < slot.job.id()));
        self.bytes += slot.bytes;
        if is_miners(&slot.job) {
            self.held.add(slot.bytes);
        }
        self.list.push_back(slot);
        self.trim();
    }

    /// There is a new tip: jobs on any other are stale, and go when they have been for long enough.
    pub(crate) fn on_tip(&mut self, tip: BlockHash, now: Instant) {
        for slot in self.list.iter_mut().rev().take_while(|slot| slot.stale.is_none()) {
            if slot.job.tip().hash != tip {
                slot.stale = Some(now);
            }
        }
        let old = |slot: &Slot| {
            slot.stale.is_some_and(|since| now.saturating_duration_since(since) >= STALE_JOB_KEPT)
        };
        while self.list.front().is_some_and(old) {
            self.drop_oldest();
        }
    }

    /// None of them counts any more.
    pub(crate) fn make_stale(&mut self, now: Instant) {
        for slot in &mut self.list {
            slot.stale.get_or_insert(now);
        }
    }

    /// Oldest jobs go first, stale ones before all others, and the newest never.
    pub(crate) fn trim(&mut self) {
        let jobs_max = match self.list.back() {
            Some(newest) if is_miners(&newest.job) => CUSTOM_JOBS_PER_CHANNEL_MAX,
            _ => POOL_JOBS_PER_CHANNEL_MAX,
        };
        while self.list.len() > 1
            && (self.list.len() > jobs_max
                || self.bytes > JOB_BYTES_PER_CHANNEL_MAX
                || self.held.is_too_much())
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(mut slot) = self.list.pop_front() else { return };
        // What both hold goes with the last of them.
        if let Some(next) = self.list.front_mut().filter(|next| next.job.shares_with(&slot.job)) {
            std::mem::swap(&mut next.bytes, &mut slot.bytes);
        }
        self.bytes -= slot.bytes;
        if is_miners(&slot.job) {
            self.held.remove(slot.bytes);
        }
    }
}

fn is_miners(job: &Job) -> bool {
    matches!(job.source(), JobSource::Miner(_))
}
