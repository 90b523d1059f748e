//! Turns at what takes a reactor thread for long: reading large frames.
//!
//! A thousand declarations that come at the same moment are a thousand tasks that can run, each for as
//! long as it takes to decrypt its frame. Whoever asks for a token then would stand behind all of them.
//! So they go on one after the other, on all reactor threads but one.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Who may go on, shared by all connections.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Semaphore>);

/// A turn that is being waited for. Dropped, it loses its place in the line.
pub(crate) struct TakingTurn(Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>);

impl Default for Turns {
    /// For a runtime with as many threads as there are cores.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self::at_once(threads.saturating_sub(1).max(1))
    }
}

impl Turns {
    /// So many at the same time.
    pub(crate) fn at_once(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count)))
    }

    /// The next free turn, first come first served.
    pub(crate) fn take(&self) -> TakingTurn {
        let turns = Arc::clone(&self.0);
        // The semaphore is never closed.
        TakingTurn(Box::pin(async move { turns.acquire_owned().await.ok() }))
    }
}

impl Future for TakingTurn {
    type Output = Option<OwnedSemaphorePermit>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl std::fmt::Debug for TakingTurn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TakingTurn")
    }
}
