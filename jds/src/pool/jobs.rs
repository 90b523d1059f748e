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

#[cfg(test)]
mod tests {
    use bitcoin::block::Header;
    use mining::work::{Declared, Source};
    use validation::block::FoundBlock;
    use validation::declared::TemplateHash;

    use super::*;
    use crate::jobs::tests::{HEIGHT, coinbase, tip_below};

    /// Transactions of a job that a node found invalid.
    #[derive(Debug)]
    struct Invalid;

    impl Source for Invalid {
        fn block(&self, _: &Header, _: &[u8]) -> Option<FoundBlock> {
            None
        }

        fn withdrawn(&self) -> Option<Arc<str>> {
            Some("bad-blk".into())
        }
    }

    /// With so many hashes in its path, of 32 bytes each.
    fn job(hashes: usize, declared: Option<Declared>) -> Arc<Job> {
        let (prefix, suffix) = coinbase(HEIGHT);
        let custom = CustomJob {
            tip: tip_below(HEIGHT),
            version: 0x2000_0000,
            min_ntime: 1,
            merkle_path: vec![[7; 32]; hashes].into(),
            coinbase_prefix: prefix.into(),
            coinbase_suffix: suffix.into(),
            extranonce_len: 8,
            pool_payout_sat: 0,
            claimable_sat: 0,
            declared,
        };
        Arc::new(Job::of_custom(1, Arc::new(custom)).unwrap())
    }

    fn name(number: usize) -> JobName {
        JobName(number.to_be_bytes().to_vec())
    }

    fn keep(jobs: &PoolJobs, number: usize, job: &Arc<Job>) {
        jobs.keep(PoolJob::new(name(number), Identity::of("alice"), Arc::clone(job)));
    }

    #[test]
    fn so_many_jobs_and_receipts_are_kept_and_the_oldest_job_goes_first() {
        let (jobs, small) = (PoolJobs::new(), job(1, None));
        for number in 0..=POOL_JOBS_MAX {
            keep(&jobs, number, &small);
        }
        assert_eq!(lock(&jobs.kept).by_name.len(), POOL_JOBS_MAX);
        assert!(jobs.get(&name(0)).is_none() && jobs.get(&name(1)).is_some());
        // Receipts are made again of themselves: how many are there never matters.
        for number in 0..5 * POOL_JOBS_MAX {
            jobs.remember(1, number.to_be_bytes().to_vec(), &name(POOL_JOBS_MAX));
            assert!(lock(&jobs.kept).receipts.len() <= 2 * POOL_JOBS_MAX);
        }
        let last = (5 * POOL_JOBS_MAX - 1).to_be_bytes();
        assert!(jobs.of_receipt(1, &last).is_some());
    }

    #[test]
    fn jobs_hold_so_many_bytes_and_the_newest_stays() {
        let (jobs, large) = (PoolJobs::new(), job(100_000, None));
        let most = POOL_JOB_BYTES_MAX / large.bytes();
        for number in 0..most + 5 {
            keep(&jobs, number, &large);
            assert!(lock(&jobs.kept).bytes <= POOL_JOB_BYTES_MAX);
        }
        assert_eq!(lock(&jobs.kept).by_name.len(), most);
        assert!(jobs.get(&name(most + 4)).is_some() && jobs.get(&name(4)).is_none());
        // One that is larger than all may be is kept alone.
        let huge = job(POOL_JOB_BYTES_MAX / 32, None);
        keep(&jobs, 10_000, &huge);
        assert!(jobs.get(&name(10_000)).is_some());
        assert_eq!(lock(&jobs.kept).by_name.len(), 1);
    }

    #[test]
    fn of_so_many_withdrawn_jobs_a_pool_is_told_the_newest() {
        let declared = Declared {
            template_hash: TemplateHash::from_bytes([1; 32]),
            tx_count: 1,
            fees_sat: 0,
            weight_wu: 1_000,
            reward_sat: 0,
            source: Arc::new(Invalid),
        };
        let (jobs, invalid) = (PoolJobs::new(), job(1, Some(declared)));
        let told = POOL_WITHDRAWN_MAX + 10;
        for number in 0..told {
            keep(&jobs, number, &invalid);
        }
        jobs.look();
        jobs.look();
        let withdrawn = jobs.withdrawn_after(0);
        assert_eq!(withdrawn.len(), POOL_WITHDRAWN_MAX);
        assert_eq!(*jobs.watch_withdrawn().borrow(), told as u64, "each is told once");
        let numbers: Vec<u64> = withdrawn.iter().map(|job| job.number).collect();
        let newest = (told - POOL_WITHDRAWN_MAX) as u64 + 1..=told as u64;
        assert!(numbers.iter().copied().eq(newest), "{numbers:?}");
    }
}
