//! What the writer and the rest of the store share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::report::{Metrics, Status};
use crate::types::StreamEpoch;

/// Upper bounds of the buckets for the time of a transaction, seconds.
const COMMIT_SECONDS_BOUNDS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// Something that the writer does between transactions.
#[derive(Debug)]
pub(super) enum Control {
    /// The bound on the database file, bytes; 0 for none.
    MaxBytes(u64),
    /// The rest of a checkpoint.
    Checkpoint,
    /// One step of retention, as of a Unix time in milliseconds; with `evict` (row ids) it gives up
    /// the transactions of those templates instead. Answers whether there is more.
    Retain { now_ms: u64, evict: Vec<u64>, more: SyncSender<bool> },
    /// From now on, note which transactions are named.
    SweepBegin { begun: SyncSender<()> },
    /// Delete these transactions, unless they were named since. Answers when that is done.
    Sweep { ids: Vec<u32>, done: SyncSender<()> },
    /// No more notes.
    SweepEnd,
    /// Close the interval of the accounting feed, if it is time for that.
    CloseInterval,
}

/// How the store ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Closing {
    No = 0,
    /// Write what is queued, then end.
    Orderly = 1,
    /// End at once, as if killed.
    Abandon = 2,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) epoch: StreamEpoch,
    pub(super) last: watch::Sender<u64>,
    status: Mutex<Status>,
    controls: Mutex<VecDeque<Control>>,
    /// When the interval of the accounting feed is to be closed, if one is open.
    interval_ends: Mutex<Option<Instant>>,
    closing: AtomicU8,
    pub(super) commits: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) events: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) volatile: AtomicU64,
    pub(super) volatile_batches: AtomicUsize,
    commit_times: [AtomicU64; COMMIT_SECONDS_BOUNDS.len() + 1],
    commit_time_us: AtomicU64,
}

impl Shared {
    pub(super) fn new(epoch: StreamEpoch, last_event_id: u64) -> Self {
        Self {
            epoch,
            last: watch::Sender::new(last_event_id),
            status: Mutex::new(Status::Healthy),
            controls: Mutex::default(),
            interval_ends: Mutex::default(),
            closing: AtomicU8::new(Closing::No as u8),
            commits: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            events: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            volatile: AtomicU64::new(0),
            volatile_batches: AtomicUsize::new(0),
            commit_times: std::array::from_fn(|_| AtomicU64::new(0)),
            commit_time_us: AtomicU64::new(0),
        }
    }

    pub(super) fn status(&self) -> Status {
        lock(&self.status).clone()
    }

    pub(super) fn set_status(&self, status: Status) {
        *lock(&self.status) = status;
    }

    pub(super) fn set_interval_ends(&self, ends: Option<Instant>) {
        *lock(&self.interval_ends) = ends;
    }

    /// It is time to close the interval of the accounting feed.
    pub(super) fn interval_is_due(&self) -> bool {
        lock(&self.interval_ends).is_some_and(|ends| ends <= Instant::now())
    }

    pub(super) fn push_control(&self, control: Control) {
        lock(&self.controls).push_back(control);
    }

    pub(super) fn pop_control(&self) -> Option<Control> {
        lock(&self.controls).pop_front()
    }

    pub(super) fn close(&self, how: Closing) {
        self.closing.fetch_max(how as u8, Ordering::SeqCst);
    }

    pub(super) fn closing(&self) -> Closing {
        match self.closing.load(Ordering::SeqCst) {
            0 => Closing::No,
            1 => Closing::Orderly,
            _ => Closing::Abandon,
        }
    }

    pub(super) fn committed(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = COMMIT_SECONDS_BOUNDS.partition_point(|bound| *bound < seconds);
        add(&self.commit_times[bucket], 1);
        add(&self.commit_time_us, time.as_micros() as u64);
        add(&self.commits, 1);
    }

    pub(super) fn metrics(&self, queue_depth: usize, queue_capacity: usize) -> Metrics {
        Metrics {
            status: self.status(),
            epoch: self.epoch.to_string(),
            queue_depth,
            queue_capacity,
            commits_total: get(&self.commits),
            batches_total: get(&self.batches),
            events_total: get(&self.events),
            refused_total: get(&self.refused),
            failures_total: get(&self.failures),
            volatile_total: get(&self.volatile),
            volatile_batches: self.volatile_batches.load(Ordering::Relaxed),
            commit_seconds_bounds: COMMIT_SECONDS_BOUNDS,
            commit_seconds: self.commit_times.iter().map(get).collect(),
            commit_seconds_sum: get(&self.commit_time_us) as f64 / 1e6,
        }
    }
}

pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A panic while one of these locks was held can only have left a valid value behind.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Unix time in milliseconds.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}
