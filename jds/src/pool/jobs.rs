//! Jobs that a pool mines on, as work: kept within bounds, and made again of their names.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::pool::{JobName, Withdrawn};
use bitcoin::BlockHash;
use mining::identity::Identity;
use mining::job::Job;
use mining::{CustomJob, JobSource};

use super::withdrawn::Withdrawals;
use crate::limits::{POOL_JOB_BYTES_MAX, POOL_JOBS_MAX};

/// Why nothing may be mined on a job of coinbase-only mode that had no room any more.
const PUSHED_OUT: &str = "newer jobs took its place";

/// A job that a pool mines on.
#[derive(Debug)]
pub(super) struct PoolJob {
    pub(super) name: JobName,
    pub(super) user: Identity,
    pub(super) job: Arc<Job>,
    /// It was checked as a job on the tip. One that was not is good for blocks, and for no share.
    pub(super) checked: bool,
    /// It was told that nothing may be mined on it any more.
    told: AtomicBool,
}

impl PoolJob {
    pub(super) fn new(name: JobName, user: Identity, job: Arc<Job>, checked: bool) -> Self {
        Self { name, user, job, checked, told: AtomicBool::new(false) }
    }

    /// What it is made of.
    pub(super) fn custom(&self) -> Option<&CustomJob> {
        match self.job.source() {
            JobSource::Miner(custom) => Some(custom),
            JobSource::Pool(_) => None,
        }
    }

    /// Its template was declared here; false in coinbase-only mode.
    pub(super) fn is_declared(&self) -> bool {
        self.custom().is_some_and(|custom| custom.declared.is_some())
    }
}

/// The jobs.
#[derive(Debug)]
pub(super) struct PoolJobs {
    kept: Mutex<Kept>,
    withdrawals: Withdrawals,
}

#[derive(Debug, Default)]
struct Kept {
    by_name: HashMap<JobName, Arc<PoolJob>>,
    /// Oldest first.
    order: VecDeque<JobName>,
    bytes: usize,
    /// Receipts, with the number of their connection, and what each stands for.
    receipts: HashMap<(u64, Vec<u8>), Stands>,
}

/// What a receipt stands for.
#[derive(Debug)]
struct Stands {
    on: BlockHash,
    name: JobName,
    /// The job on the block that was the tip at that height before.
    before: Option<JobName>,
}

impl PoolJobs {
    pub(super) fn new() -> Self {
        Self { kept: Mutex::default(), withdrawals: Withdrawals::new() }
    }

    /// The job of that name.
    pub(super) fn get(&self, name: &JobName) -> Option<Arc<PoolJob>> {
        lock(&self.kept).by_name.get(name).cloned()
    }

    /// The job that a receipt stands for on a connection.
    pub(super) fn of_receipt(&self, connection: u64, receipt: &[u8]) -> Option<Arc<PoolJob>> {
        let kept = lock(&self.kept);
        let stands = kept.receipts.get(&(connection, receipt.to_vec()))?;
        kept.by_name.get(&stands.name).cloned()
    }

    /// The job that it stood for before, on another block.
    pub(super) fn before(&self, connection: u64, receipt: &[u8]) -> Option<Arc<PoolJob>> {
        let kept = lock(&self.kept);
        let stands = kept.receipts.get(&(connection, receipt.to_vec()))?;
        kept.by_name.get(stands.before.as_ref()?).cloned()
    }

    /// Keeps a job; the oldest goes when there is no room. One of that name that is kept stays, unless
    /// it was withdrawn and its template declared again, or only the new one is checked.
    pub(super) fn keep(&self, job: PoolJob) -> Arc<PoolJob> {
        let job = Arc::new(job);
        let gone = {
            let mut kept = lock(&self.kept);
            if let Some(known) = kept.by_name.get(&job.name)
                && (known.job.withdrawn().is_none() || job.job.withdrawn().is_some())
                && (known.checked || !job.checked)
            {
                return Arc::clone(known);
            }
            kept.insert(&job)
        };
        // A declared one is made again of its name.
        for job in gone.iter().filter(|job| !job.is_declared()) {
            self.tell(job, PUSHED_OUT);
        }
        job
    }

    /// Remembers what a receipt stands for.
    pub(super) fn remember(&self, connection: u64, receipt: &[u8], job: &PoolJob) {
        let mut kept = lock(&self.kept);
        // They are made again of themselves.
        if kept.receipts.len() >= 2 * POOL_JOBS_MAX {
            kept.receipts.clear();
        }
        let (receipt, on) = ((connection, receipt.to_vec()), job.job.tip().hash);
        let before = match kept.receipts.remove(&receipt) {
            Some(stood) if stood.on == on => stood.before,
            stood => stood.map(|stood| stood.name),
        };
        kept.receipts.insert(receipt, Stands { on, name: job.name.clone(), before });
    }

    /// Jobs have ended, or there is another tip: tells of those on the tip that were withdrawn, of each
    /// once while it is kept. Those on any other are stale, which the tip says itself.
    pub(super) fn look(&self, tip: Option<BlockHash>) {
        let on_tip = |job: &&Arc<PoolJob>| Some(job.job.tip().hash) == tip;
        let jobs: Vec<_> = lock(&self.kept).by_name.values().filter(on_tip).cloned().collect();
        jobs.iter().for_each(|job| self.tell_if_withdrawn(job));
    }

    /// Tells of it where it was withdrawn, once while it is kept.
    pub(super) fn tell_if_withdrawn(&self, job: &PoolJob) {
        if let Some(reason) = job.job.withdrawn() {
            self.tell(job, &reason);
        }
    }

    fn tell(&self, job: &PoolJob, reason: &str) {
        if job.told.swap(true, Ordering::Relaxed) {
            return;
        }
        let declared = job.custom().and_then(|custom| custom.declared.as_ref());
        self.withdrawals.add(|number| Withdrawn {
            number,
            name: job.name.clone(),
            user: job.user.user.to_string(),
            template: declared.map(|declared| declared.template_hash),
            reason: reason.to_owned(),
        });
    }

    /// What readers are told of.
    pub(super) fn withdrawals(&self) -> &Withdrawals {
        &self.withdrawals
    }
}

impl Kept {
    /// Puts a job in, in place of one of that name; gives those that have no room any more.
    fn insert(&mut self, job: &Arc<PoolJob>) -> Vec<Arc<PoolJob>> {
        self.bytes += job.job.bytes();
        match self.by_name.insert(job.name.clone(), Arc::clone(job)) {
            Some(before) => self.bytes -= before.job.bytes(),
            None => self.order.push_back(job.name.clone()),
        }
        let mut gone = Vec::new();
        while self.order.len() > POOL_JOBS_MAX
            || self.bytes > POOL_JOB_BYTES_MAX && self.order.len() > 1
        {
            let Some(name) = self.order.pop_front() else { break };
            if let Some(oldest) = self.by_name.remove(&name) {
                self.bytes -= oldest.job.bytes();
                gone.push(oldest);
            }
        }
        gone
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
        jobs.keep(PoolJob::new(name(number), Identity::of("alice"), Arc::clone(job), true));
    }

    #[test]
    fn so_many_jobs_and_receipts_are_kept_and_the_oldest_job_goes_first() {
        let (jobs, small) = (PoolJobs::new(), job(1, None));
        for number in 0..=POOL_JOBS_MAX {
            keep(&jobs, number, &small);
        }
        assert_eq!(lock(&jobs.kept).by_name.len(), POOL_JOBS_MAX);
        assert!(jobs.get(&name(0)).is_none() && jobs.get(&name(1)).is_some());
        let last = jobs.get(&name(POOL_JOBS_MAX)).unwrap();
        // Receipts are made again of themselves: how many are there never matters.
        for number in 0..5 * POOL_JOBS_MAX {
            jobs.remember(1, &number.to_be_bytes(), &last);
            assert!(lock(&jobs.kept).receipts.len() <= 2 * POOL_JOBS_MAX);
        }
        let newest = (5 * POOL_JOBS_MAX - 1).to_be_bytes();
        assert!(jobs.of_receipt(1, &newest).is_some());
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
    fn each_job_that_ended_is_told_once() {
        let declared = Declared {
            template_hash: TemplateHash::from_bytes([1; 32]),
            tx_count: 1,
            fees_sat: 0,
            weight_wu: 1_000,
            reward_sat: 0,
            source: Arc::new(Invalid),
        };
        let (jobs, invalid) = (PoolJobs::new(), job(1, Some(declared)));
        for number in 0..3 {
            keep(&jobs, number, &invalid);
        }
        let tip = Some(invalid.tip().hash);
        jobs.look(tip);
        jobs.look(tip);
        let told = jobs.withdrawals().after(0);
        assert_eq!((told.newest, told.jobs.len(), told.lost), (3, 3, false), "each once");
        assert!(told.jobs.iter().all(|job| job.reason == "bad-blk" && job.template.is_some()));
        // Jobs that nobody can make again end when they are pushed out.
        let small = job(1, None);
        for number in 10..10 + POOL_JOBS_MAX + 1 {
            keep(&jobs, number, &small);
        }
        let told = jobs.withdrawals().after(3);
        let names: Vec<_> = told.jobs.iter().map(|job| (&job.name, job.reason.as_str())).collect();
        assert_eq!(names, [(&name(10), PUSHED_OUT)]);
    }
}
