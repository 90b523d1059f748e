//! Jobs that a pool mines on, as work: kept within bounds, and made again of their names.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::pool::{JobName, Withdrawn};
use mining::identity::Identity;
use mining::job::Job;
use mining::{CustomJob, JobSource};
use tokio::sync::watch;

use crate::limits::{POOL_JOB_BYTES_MAX, POOL_JOBS_MAX, POOL_WITHDRAWN_MAX};

/// A job that a pool mines on.
#[derive(Debug)]
pub(super) struct PoolJob {
    pub(super) name: JobName,
    pub(super) user: Identity,
    pub(super) job: Arc<Job>,
    /// It was told that nothing may be mined on it any more.
    told: AtomicBool,
}

impl PoolJob {
    pub(super) fn new(name: JobName, user: Identity, job: Arc<Job>) -> Self {
        Self { name, user, job, told: AtomicBool::new(false) }
    }

    /// What it is made of.
    pub(super) fn custom(&self) -> Option<&CustomJob> {
        match self.job.source() {
            JobSource::Miner(custom) => Some(custom),
            JobSource::Pool(_) => None,
        }
    }
}

/// The jobs.
#[derive(Debug)]
pub(super) struct PoolJobs {
    kept: Mutex<Kept>,
    withdrawn: Mutex<VecDeque<Arc<Withdrawn>>>,
    newest_withdrawn: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    by_name: HashMap<JobName, Arc<PoolJob>>,
    /// Oldest first.
    order: VecDeque<JobName>,
    bytes: usize,
    /// Receipts, with the number of their connection, and the name of the job each stands for.
    receipts: HashMap<(u64, Vec<u8>), JobName>,
}

impl PoolJobs {
    pub(super) fn new() -> Self {
        Self {
            kept: Mutex::default(),
            withdrawn: Mutex::default(),
            newest_withdrawn: watch::Sender::new(0),
        }
    }

    /// The job of that name.
    pub(super) fn get(&self, name: &JobName) -> Option<Arc<PoolJob>> {
        lock(&self.kept).by_name.get(name).cloned()
    }

    /// The job that a receipt stands for on a connection.
    pub(super) fn of_receipt(&self, connection: u64, receipt: &[u8]) -> Option<Arc<PoolJob>> {
        let kept = lock(&self.kept);
        let name = kept.receipts.get(&(connection, receipt.to_vec()))?;
        kept.by_name.get(name).cloned()
    }

    /// Keeps a job; the oldest goes when there is no room. One of that name that is kept stays.
    pub(super) fn keep(&self, job: PoolJob) -> Arc<PoolJob> {
        let mut kept = lock(&self.kept);
        if let Some(known) = kept.by_name.get(&job.name) {
            return Arc::clone(known);
        }
        let job = Arc::new(job);
        kept.bytes += job.job.bytes();
        kept.order.push_back(job.name.clone());
        kept.by_name.insert(job.name.clone(), Arc::clone(&job));
        while kept.order.len() > POOL_JOBS_MAX
            || kept.bytes > POOL_JOB_BYTES_MAX && kept.order.len() > 1
        {
            let Some(name) = kept.order.pop_front() else { break };
            if let Some(oldest) = kept.by_name.remove(&name) {
                kept.bytes -= oldest.job.bytes();
            }
        }
        job
    }

    /// Remembers what a receipt stands for.
    pub(super) fn remember(&self, connection: u64, receipt: Vec<u8>, name: &JobName) {
        let mut kept = lock(&self.kept);
        // They are made again of themselves.
        if kept.receipts.len() >= 2 * POOL_JOBS_MAX {
            kept.receipts.clear();
        }
        kept.receipts.insert((connection, receipt), name.clone());
    }

    /// Looks for jobs that were withdrawn, and tells of each once.
    pub(super) fn look(&self) {
        let jobs: Vec<_> = lock(&self.kept).by_name.values().cloned().collect();
        for job in jobs {
            let Some(reason) = job.job.withdrawn() else { continue };
            if job.told.swap(true, Ordering::Relaxed) {
                continue;
            }
            let mut withdrawn = lock(&self.withdrawn);
            let number = *self.newest_withdrawn.borrow() + 1;
            let declared = job.custom().and_then(|custom| custom.declared.as_ref());
            withdrawn.push_back(Arc::new(Withdrawn {
                number,
                name: job.name.clone(),
                user: job.user.user.to_string(),
                template: declared.map(|declared| declared.template_hash),
                reason: reason.to_string(),
            }));
            if withdrawn.len() > POOL_WITHDRAWN_MAX {
                withdrawn.pop_front();
            }
            drop(withdrawn);
            self.newest_withdrawn.send_replace(number);
        }
    }

    /// Those with a higher number, oldest first.
    pub(super) fn withdrawn_after(&self, after: u64) -> Vec<Arc<Withdrawn>> {
        let withdrawn = lock(&self.withdrawn);
        withdrawn.iter().filter(|job| job.number > after).cloned().collect()
    }

    /// The newest number.
    pub(super) fn watch_withdrawn(&self) -> watch::Receiver<u64> {
        self.newest_withdrawn.subscribe()
    }
}

/// What is behind these locks is valid after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
