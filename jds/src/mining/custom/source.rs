//! The transactions of an accepted job, for as long as it is kept.

use std::sync::{Arc, Weak};

use bitcoin::block::Header;
use validation::block::{FoundBlock, with_coinbase};

use crate::jobs::{Job, LET_GO};

/// What a channel holds of an accepted job: not the job, which is kept within bounds of its own.
#[derive(Debug)]
pub(super) struct DeclaredSource(Weak<Job>);

impl DeclaredSource {
    pub(super) fn of(job: &Arc<Job>) -> Self {
        Self(Arc::downgrade(job))
    }
}

impl mining::Source for DeclaredSource {
    fn block(&self, header: &Header, coinbase: &[u8]) -> Option<FoundBlock> {
        let job = self.0.upgrade()?;
        Some(with_coinbase(&job.accepted, &job.body(), header, coinbase))
    }

    fn withdrawn(&self) -> Option<Arc<str>> {
        match self.0.upgrade() {
            Some(job) => job.ended().map(Arc::from),
            None => Some(LET_GO.into()),
        }
    }
}
