//! What every handler has at hand.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use store::{Batch, CommitError, Committed, ReadError, Store};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use crate::backend::Backend;
use crate::limits;
use crate::metrics::Metrics;
use crate::places::Places;
use crate::problem::{Kind, Problem};
use crate::settings::Settings;
use crate::webhook::{Deliverer, Reach};

/// The store, read off the runtime's threads and within bounds.
#[derive(Clone)]
pub(crate) struct Reader {
    pub(crate) store: Arc<dyn Store>,
    turns: Arc<Semaphore>,
}

impl Reader {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, turns: Arc::new(Semaphore::new(limits::STORE_READS_MAX)) }
    }

    /// Runs a read on a thread that may block.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Store) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = timeout(limits::STORE_READ_WAIT, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Problem::new(Kind::Busy, "too many reads of the store at the same time"));
        };
        let store = Arc::clone(&self.store);
        let done = tokio::task::spawn_blocking(move || {
            // The turn ends with the read, not with whoever waits for it.
            let _turn: OwnedSemaphorePermit = turn;
            read(&*store)
        });
        match done.await {
            Ok(result) => Ok(result?),
            Err(error) => {
                tracing::error!(%error, "a read of the store ended badly");
                Err(Problem::new(Kind::Internal, "the read ended badly"))
            }
        }
    }

    /// Writes a batch and waits until it is there.
    pub(crate) async fn commit(&self, batch: Batch) -> Result<Committed, Problem> {
        match timeout(limits::STORE_WRITE_WAIT, self.store.commit(batch)).await {
            Ok(Ok(committed)) => Ok(committed),
            Ok(Err(error @ CommitError::Refused(_))) => {
                Err(Problem::new(Kind::Conflict, error.to_string()))
            }
            Ok(Err(error @ CommitError::Closed)) => {
                Err(Problem::new(Kind::StoreUnavailable, error.to_string()))
            }
            Err(_) => Err(Problem::new(
                Kind::StoreUnavailable,
                "the store did not acknowledge in time; look whether it was done before trying again",
            )),
        }
    }
}

/// What every handler has at hand.
pub(crate) struct State {
    pub(crate) settings: Settings,
    /// True when only this machine can connect.
    pub(crate) local: bool,
    pub(crate) reader: Reader,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) metrics: Metrics,
    pub(crate) deliverer: Deliverer,
    /// What webhooks may reach.
    pub(crate) reach: Reach,
    /// For readers of the stream and long polls.
    pub(crate) streams: Arc<Places>,
    /// True from the moment that the server stops.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// What a request may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trusted {
    /// What is for everybody.
    No,
    /// What readers may: on loopback, everybody on this machine.
    ToRead,
    /// Everything: it has shown the token that may write.
    ToWrite,
}

/// Shared by all handlers.
pub(crate) type App = Arc<State>;

/// Unix time in milliseconds.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;
    use std::time::{Duration, Instant};

    use super::*;

    /// Reads that stay take all turns; one more is told so after a while, and served when one ends.
    #[tokio::test]
    async fn so_many_reads_at_a_time_and_one_more_waits_so_long() {
        let dir = tempfile::tempdir().unwrap();
        let store = store::SqliteStore::open(store::Settings::new(dir.path())).unwrap();
        let reader = Reader::new(Arc::new(store));
        let (open, gate) = channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let mut held = Vec::new();
        for _ in 0..limits::STORE_READS_MAX {
            let (reader, gate) = (reader.clone(), Arc::clone(&gate));
            let (begun, is_begun) = tokio::sync::oneshot::channel();
            held.push(tokio::spawn(async move {
                let read = reader.read(move |_| {
                    begun.send(()).unwrap();
                    let _ = gate.lock().unwrap().recv();
                    Ok(())
                });
                read.await
            }));
            is_begun.await.unwrap();
        }
        let asked = Instant::now();
        let problem = reader.read(|store| store.webhooks()).await.unwrap_err();
        assert_eq!(problem.kind, Kind::Busy);
        assert!(asked.elapsed() >= limits::STORE_READ_WAIT, "{:?}", asked.elapsed());
        open.send(()).unwrap();
        while reader.read(|store| store.webhooks()).await.is_err() {
            assert!(asked.elapsed() < Duration::from_secs(60), "waited for one of them to end");
        }
        drop(open);
        for read in held {
            read.await.unwrap().unwrap();
        }
    }
}
