//! The thread that owns the connection, and how other threads have it make their calls.
//!
//! A call that was sent is never taken back, and its caller sends no other before it has ended:
//! so a node that hangs has a bounded number of calls waiting, whatever we go through meanwhile.
//! A caller stops waiting at its deadline all the same.

use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;
use std::{io, thread};

use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};

use super::connection::{Hub, Session};
use crate::error::Fault;
use crate::limits::IPC_CALLS_MAX;

type Job = Box<dyn FnOnce(Rc<Hub>) + Send>;

/// The connection to one node. It is made when it is needed, and its thread ends when the last
/// [`Line`] is dropped.
pub(crate) struct Link {
    node: Arc<str>,
    jobs: mpsc::Sender<Job>,
    lines: AtomicUsize,
}

impl Link {
    /// Starts the thread. Connects to nothing yet.
    pub(crate) fn start(node: Arc<str>, socket: Arc<Path>) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel(IPC_CALLS_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let hub = (node.clone(), socket);
        thread::Builder::new()
            .name("node-ipc".into())
            .spawn(move || LocalSet::new().block_on(&runtime, serve(queue, hub)))?;
        Ok(Self { node, jobs, lines: AtomicUsize::new(0) })
    }

    /// A caller's share of the connection; the node calls its thread for it by this name.
    pub(crate) fn line(&self, name: &'static str) -> Line {
        Line {
            node: self.node.clone(),
            jobs: self.jobs.clone(),
            id: LineId { number: self.lines.fetch_add(1, Ordering::Relaxed), name },
            busy: Arc::default(),
        }
    }
}

async fn serve(mut queue: mpsc::Receiver<Job>, (node, socket): (Arc<str>, Arc<Path>)) {
    let hub = Rc::new(Hub::new(node, socket));
    while let Some(job) = queue.recv().await {
        job(hub.clone());
    }
}

/// Which of the lines it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LineId {
    number: usize,
    /// What the node calls its thread.
    pub(super) name: &'static str,
}

/// One caller's share of a connection. One call at a time.
#[derive(Debug)]
pub(crate) struct Line {
    pub(super) node: Arc<str>,
    jobs: mpsc::Sender<Job>,
    id: LineId,
    busy: Arc<AtomicBool>,
}

/// Set while a call has not ended.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Line {
    /// Connects if need be, makes `call`, and waits for its end for at most `timeout`. Not for
    /// threads of an asynchronous runtime.
    pub(super) fn run<T, F>(
        &self,
        method: &'static str,
        timeout: Duration,
        call: impl FnOnce(Session) -> F + Send + 'static,
    ) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>>,
    {
        if self.busy.swap(true, Ordering::AcqRel) {
            return Err(Fault::Busy { method });
        }
        let busy = Busy(self.busy.clone());
        let (answer, answered) = sync_channel(1);
        let id = self.id;
        let job = move |hub: Rc<Hub>| {
            spawn_local(async move {
                let result = match hub.session(id).await {
                    Ok(session) => call(session).await,
                    Err(fault) => Err(fault),
                };
                drop(busy);
                // The caller may have left meanwhile.
                let _ = answer.send(result);
            });
        };
        let gone = || Fault::Worker { reason: "the thread of its IPC has ended".into() };
        self.jobs.try_send(Box::new(job)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Fault::Overloaded { method, waiting: IPC_CALLS_MAX }
            }
            mpsc::error::TrySendError::Closed(_) => gone(),
        })?;
        answered.recv_timeout(timeout).unwrap_or_else(|error| match error {
            RecvTimeoutError::Timeout => Err(Fault::TimedOut { method }),
            RecvTimeoutError::Disconnected => Err(gone()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Instant;

    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    /// As many calls wait for the thread of the connection as is said, however long it is busy; one
    /// more is told so at once, and those that waited end.
    #[test]
    fn calls_beyond_the_queue_are_turned_away() {
        let socket = Path::new("/nonexistent/node.sock").into();
        let link = Link::start("main".into(), socket).unwrap();
        let (open, gate) = channel::<()>();
        let (taken, is_taken) = channel();
        let busy = link.jobs.try_send(Box::new(move |_| {
            taken.send(()).unwrap();
            let _ = gate.recv();
        }));
        assert!(busy.is_ok());
        is_taken.recv_timeout(SOON).unwrap();
        let call = |line: Line| line.run("checkBlock", SOON, |_| async { Ok(()) });
        thread::scope(|scope| {
            let calls: Vec<_> = (0..IPC_CALLS_MAX)
                .map(|_| {
                    let line = link.line("test");
                    scope.spawn(move || call(line))
                })
                .collect();
            let deadline = Instant::now() + SOON;
            while link.jobs.capacity() > 0 {
                assert!(Instant::now() < deadline, "waited for the calls to wait");
                thread::yield_now();
            }
            let waiting = IPC_CALLS_MAX;
            let method = "checkBlock";
            assert_eq!(call(link.line("test")), Err(Fault::Overloaded { method, waiting }));
            drop(open);
            for call in calls {
                let ended = call.join().unwrap();
                assert!(matches!(ended, Err(Fault::NoSocket { .. })), "{ended:?}");
            }
        });
    }
}
