//! What a pool is told of jobs that ended: the newest of them, by number.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::pool::{Untold, Withdrawn};
use tokio::sync::watch;

use crate::limits::POOL_WITHDRAWN_MAX;

/// The newest withdrawn jobs, at most [`POOL_WITHDRAWN_MAX`].
#[derive(Debug)]
pub(super) struct Withdrawals {
    /// Oldest first, with numbers that follow each other.
    kept: Mutex<VecDeque<Arc<Withdrawn>>>,
    /// Number of the newest, 0 before the first. Changes under the lock alone.
    newest: watch::Sender<u64>,
}

impl Withdrawals {
    pub(super) fn new() -> Self {
        Self { kept: Mutex::default(), newest: watch::Sender::new(0) }
    }

    /// Adds one, made with its number.
    pub(super) fn add(&self, withdrawn: impl FnOnce(u64) -> Withdrawn) {
        let mut kept = self.lock();
        let number = *self.newest.borrow() + 1;
        kept.push_back(Arc::new(withdrawn(number)));
        if kept.len() > POOL_WITHDRAWN_MAX {
            kept.pop_front();
        }
        self.newest.send_replace(number);
    }

    /// What somebody was not told of who knows those up to this number.
    pub(super) fn after(&self, known: u64) -> Untold {
        let kept = self.lock();
        let newest = *self.newest.borrow();
        let oldest = kept.front().map_or(newest + 1, |job| job.number);
        // A number that was never given out is not of this process.
        let lost = known.saturating_add(1) < oldest || known > newest;
        let jobs = kept.iter().filter(|job| lost || job.number > known).cloned().collect();
        Untold { lost, newest, jobs }
    }

    /// The number of the newest.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Withdrawn>>> {
        // It is valid after every statement.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use api::pool::JobName;

    use super::*;

    fn job(number: u64) -> Withdrawn {
        let name = JobName(number.to_be_bytes().to_vec());
        Withdrawn { number, name, user: "alice".into(), template: None, reason: "bad".into() }
    }

    fn numbers(untold: &Untold) -> Vec<u64> {
        untold.jobs.iter().map(|job| job.number).collect()
    }

    #[test]
    fn each_reader_is_told_what_it_does_not_know() {
        let withdrawals = Withdrawals::new();
        let mut newest = withdrawals.watch();
        let none = withdrawals.after(0);
        assert!(!none.lost && none.jobs.is_empty() && none.newest == 0);
        (0..3).for_each(|_| withdrawals.add(job));
        assert!(newest.has_changed().unwrap() && *newest.borrow_and_update() == 3);
        assert_eq!(numbers(&withdrawals.after(0)), [1, 2, 3]);
        let rest = withdrawals.after(2);
        assert_eq!((rest.lost, rest.newest, numbers(&rest)), (false, 3, vec![3]));
        assert!(withdrawals.after(3).jobs.is_empty());
    }

    #[test]
    fn a_reader_that_missed_too_much_is_told_so() {
        let withdrawals = Withdrawals::new();
        (0..POOL_WITHDRAWN_MAX + 2).for_each(|_| withdrawals.add(job));
        let newest = POOL_WITHDRAWN_MAX as u64 + 2;
        assert!(!withdrawals.after(2).lost);
        for known in [0, 1, newest + 1, u64::MAX] {
            let untold = withdrawals.after(known);
            assert!(untold.lost && untold.newest == newest, "{known}");
            assert_eq!(numbers(&untold), (3..=newest).collect::<Vec<_>>());
        }
    }
}
