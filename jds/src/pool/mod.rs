//! The pool interface: what a pool with a stratum server of its own asks of this one.
//!
//! As the API it has a thread and a runtime of its own. The protocol, which is HTTP, is in
//! [`api::pool`]; here is what it does: [`backend`] over the jobs, shares and blocks that our own
//! mining ports have, too.

mod backend;
mod batches;
mod doors;
mod jobs;
mod name;
mod shares;
mod withdrawn;
mod work;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use mining::limits::OUTSIDE_SHARES_SEEN_MAX;
use mining::outside::Desk;
use store::{ReadError, Store};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::limits::{POOL_SHARES_HEIGHTS, POOL_SHUTDOWN_GRACE, POOL_THREADS};
use crate::server::Shared;
use backend::PoolView;
pub(crate) use doors::Doors;
pub use doors::StartError;

/// Whom bounds and records count for what comes this way.
const POOL_PEER: &str = "pool-interface";

/// Channel in the records of what comes this way: none of our own has this number.
const POOL_CHANNEL: u32 = store::ShareOrigin::POOL_CHANNEL;

/// What the shares are remembered of that an earlier process accepted, and that could come again.
/// Blocks the thread.
///
/// # Errors
/// The store can not be read.
pub(crate) fn desk(store: &dyn Store) -> Result<Desk, ReadError> {
    let mut desk = Desk::default();
    let shares = store.accepted_shares(POOL_SHARES_HEIGHTS, OUTSIDE_SHARES_SEEN_MAX)?;
    desk.restore(shares.iter().filter_map(|hash| hash.parse().ok()));
    Ok(desk)
}

/// The pool interface, as it runs. Dropped, it ends by itself.
#[derive(Debug)]
pub(crate) struct PoolInterface {
    address: Option<SocketAddr>,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
    /// Removes the socket.
    _socket: Option<doors::SocketFile>,
}

impl PoolInterface {
    /// Serves at these doors. `desk`: see [`desk`].
    ///
    /// # Errors
    /// [`StartError`]: there is no store, or no thread.
    pub(crate) fn start(
        doors: Doors,
        desk: Desk,
        shared: &Arc<Shared>,
    ) -> Result<Self, StartError> {
        let store = Arc::clone(shared.journal.store().ok_or(StartError::NoStore)?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(POOL_THREADS)
            .enable_all()
            .thread_name("pool")
            .max_blocking_threads(api::limits::STORE_READS_MAX)
            .build()
            .map_err(StartError::Thread)?;
        let address = doors.address();
        let Doors { tcp, socket } = doors;
        let (socket, file) = socket.map_or((None, None), |(bound, file)| (Some(bound), Some(file)));
        let (tcp, path) = (tcp.map(|(bound, _, token)| (bound, token)), file.as_ref());
        info!(address = ?address, socket = ?path.map(|file| file.path()), "pool interface listening");
        let backend = Arc::new(PoolView::new(Arc::clone(shared), desk));
        let metrics = shared.counts.metrics.clone();
        let (stop, stopped) = oneshot::channel();
        let (alive, ended) = oneshot::channel();
        let serve = async move {
            let listeners = match doors::listeners(tcp, socket) {
                Ok(listeners) => listeners,
                Err(error) => {
                    return tracing::error!(%error, "the pool interface can not be served");
                }
            };
            // Told, or nobody is left who could tell.
            let shutdown = async { drop(stopped.await) };
            let jobs = Arc::clone(&backend);
            let watching = tokio::spawn(async move { jobs.watch_jobs().await });
            api::pool::serve(listeners, store, backend, metrics, shutdown).await;
            watching.abort();
        };
        spawn(runtime, serve, alive)?;
        Ok(Self { address, stop, ended, _socket: file })
    }

    /// Where it listens over TCP; the port is the one chosen by the system if 0 was configured.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Ends it: open requests get a moment to be answered. Returns within `limit`.
    pub(crate) async fn shutdown(self, limit: Duration) {
        let _ = self.stop.send(());
        if tokio::time::timeout(limit, self.ended).await.is_err() {
            warn!("the pool interface did not end in time");
        }
    }
}

/// Runs it on a thread of its own; `alive` is dropped when all of it has ended.
fn spawn(
    runtime: Runtime,
    serve: impl Future<Output = ()> + Send + 'static,
    alive: oneshot::Sender<()>,
) -> Result<(), StartError> {
    let run = move || {
        runtime.block_on(serve);
        // A read of the store that takes long must not hold up the end.
        runtime.shutdown_timeout(POOL_SHUTDOWN_GRACE);
        drop(alive);
    };
    let spawned = thread::Builder::new().name("pool-main".to_owned()).spawn(run);
    spawned.map(drop).map_err(StartError::Thread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_read_that_hangs_does_not_hold_up_the_end() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
        let (alive, ended) = oneshot::channel();
        let (release, hung) = std::sync::mpsc::channel::<()>();
        let (hangs, begun) = oneshot::channel();
        let serve = async move {
            drop(tokio::task::spawn_blocking(move || {
                hangs.send(()).unwrap();
                hung.recv()
            }));
            begun.await.unwrap();
        };
        spawn(runtime.unwrap(), serve, alive).unwrap();
        let end = tokio::time::timeout(Duration::from_secs(30), ended).await;
        assert!(end.is_ok(), "waited for the pool interface to end");
        drop(release);
    }
}
