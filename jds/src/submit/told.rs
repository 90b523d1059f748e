//! Who waits until a block is on the disk.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::lock;

/// Dropped as soon as a block is on the disk, or known not to get there.
pub(crate) type Told = oneshot::Sender<Infallible>;

/// Those that wait for one block.
#[derive(Debug, Clone)]
pub(super) struct Waiting(Arc<Mutex<Option<Vec<Told>>>>);

/// Ends the waiting when it is dropped.
#[derive(Debug)]
pub(super) struct Ends(Waiting);

impl Waiting {
    /// For a block that is not on the disk.
    pub(super) fn begin() -> Self {
        Self(Arc::new(Mutex::new(Some(Vec::new()))))
    }

    /// For one that is: nobody waits.
    pub(super) fn over() -> Self {
        Self(Arc::default())
    }

    /// Keeps `told` until the block is on the disk.
    pub(super) fn add(&self, told: Option<Told>) {
        if let (Some(waiting), Some(told)) = (&mut *lock(&self.0), told) {
            waiting.push(told);
        }
    }

    /// The block is on the disk, or as near to it as it gets for now.
    pub(super) fn end(&self) {
        lock(&self.0).take();
    }

    /// Ends it when that is dropped.
    pub(super) fn ends(&self) -> Ends {
        Ends(self.clone())
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.end();
    }
}
