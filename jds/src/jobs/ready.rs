//! Serialised block bodies that are kept ready.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::Job;
use crate::limits::{READY_BODIES_BYTES_MAX, READY_BODIES_MAX};

/// Which jobs have a body ready, oldest first, bounded by bytes and count.
#[derive(Debug, Default)]
pub(super) struct ReadyBodies {
    order: VecDeque<(Weak<Job>, usize)>,
    bytes: usize,
}

impl ReadyBodies {
    /// Notes that the body of a job is ready; returns the jobs whose bodies have to go for it.
    pub(super) fn push(&mut self, job: &Arc<Job>, bytes: usize) -> Vec<Arc<Job>> {
        self.order.push_back((Arc::downgrade(job), bytes));
        self.bytes += bytes;
        if self.is_full() {
            // Jobs that are gone took their bodies along.
            self.order.retain(|(job, _)| job.strong_count() > 0);
            self.bytes = self.order.iter().map(|(_, bytes)| bytes).sum();
        }
        let mut shrunk = Vec::new();
        while self.is_full() {
            let Some((oldest, bytes)) = self.order.pop_front() else { break };
            self.bytes -= bytes;
            shrunk.extend(oldest.upgrade());
        }
        shrunk
    }

    fn is_full(&self) -> bool {
        self.bytes > READY_BODIES_BYTES_MAX || self.order.len() > READY_BODIES_MAX
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}
