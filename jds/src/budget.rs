//! What all peers together may make us hold, in bytes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{FRAME_BYTES_UNCOUNTED_MAX, PEER_BYTES_UNIT};

/// A budget of bytes shared by all connections.
#[derive(Debug, Clone)]
pub struct ByteBudget {
    units: Arc<Semaphore>,
    capacity_units: usize,
}

/// A share of the budget, given back on drop.
#[derive(Debug, Default)]
pub struct Permit(Option<OwnedSemaphorePermit>);

impl Permit {
    /// Bytes that this stands for.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |permit| permit.num_permits() * PEER_BYTES_UNIT)
    }

    /// Joins two shares of one budget.
    pub fn add(&mut self, other: Self) {
        match (&mut self.0, other.0) {
            (Some(own), Some(other)) => own.merge(other),
            (own @ None, other) => *own = other,
            (Some(_), None) => {}
        }
    }
}

impl ByteBudget {
    /// A budget of this many bytes.
    pub fn new(bytes: usize) -> Self {
        let capacity_units = bytes.div_ceil(PEER_BYTES_UNIT);
        Self { units: Arc::new(Semaphore::new(capacity_units)), capacity_units }
    }

    /// Waits until `bytes` are free, in order of asking. Small frames are free: a connection may
    /// always speak.
    pub async fn take(&self, bytes: usize) -> Permit {
        if bytes <= FRAME_BYTES_UNCOUNTED_MAX {
            return Permit(None);
        }
        let units = bytes.div_ceil(PEER_BYTES_UNIT).min(self.capacity_units);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        // The semaphore is never closed; were it, a frame would pass uncounted.
        Permit(Arc::clone(&self.units).acquire_many_owned(units).await.ok())
    }

    /// Bytes that are free now.
    pub fn free_bytes(&self) -> usize {
        self.units.available_permits() * PEER_BYTES_UNIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_budget_makes_the_next_wait_and_small_frames_pass() {
        let budget = ByteBudget::new(1024 * 1024);
        let all = budget.take(1024 * 1024).await;
        assert_eq!(budget.free_bytes(), 0);
        drop(budget.take(FRAME_BYTES_UNCOUNTED_MAX).await);
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(4096).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(all);
        drop(waiting.await.unwrap());
        assert_eq!(budget.free_bytes(), 1024 * 1024);
    }

    #[tokio::test]
    async fn more_than_the_whole_budget_takes_the_whole_budget() {
        let budget = ByteBudget::new(10 * 1024);
        let _all = budget.take(usize::MAX).await;
        assert_eq!(budget.free_bytes(), 0);
    }
}
