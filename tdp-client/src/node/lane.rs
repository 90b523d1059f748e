//! Threads for calls that someone awaits: a lane of its own for each kind, so that nothing queues
//! in front of a block.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

use tokio::sync::oneshot;

use super::caller::Caller;
use crate::error::Fault;

type Job = Box<dyn FnOnce(&Caller) + Send>;

/// What a job is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// It acts, whoever waits for the answer.
    Doing,
    /// Only somebody who waits needs it.
    Answer,
}

/// A bounded queue and the threads that serve it. They end when the lane is dropped.
pub(super) struct Lane {
    queue: SyncSender<Job>,
    queue_max: usize,
}

impl Lane {
    /// Starts `threads` threads, each with a caller of its own.
    pub(super) fn start(
        name: &'static str,
        caller: impl Fn() -> Caller,
        threads: usize,
        queue_max: usize,
    ) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(queue_max);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..threads {
            let (jobs, caller) = (jobs.clone(), caller());
            thread::Builder::new().name(name.into()).spawn(move || serve(&jobs, caller))?;
        }
        Ok(Self { queue, queue_max })
    }

    /// Has `job` run on one of the threads: it is in line when this returns, and the future is its
    /// answer. When its turn comes and its caller has left, a job that is only worth its answer is
    /// skipped.
    pub(super) fn run<R: Send + 'static, F: FnOnce(&Caller) -> R + Send + 'static>(
        &self,
        method: &'static str,
        worth: Worth,
        job: F,
    ) -> impl Future<Output = Result<R, Fault>> + Send + use<R, F> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move |caller: &Caller| {
            if worth == Worth::Doing || !answer.is_closed() {
                // The caller may have left meanwhile.
                let _ = answer.send(job(caller));
            }
        });
        let in_line = self.queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Fault::Overloaded { method, waiting: self.queue_max },
            TrySendError::Disconnected(_) => gone(),
        });
        async move {
            in_line?;
            answered.await.map_err(|_| gone())
        }
    }
}

fn gone() -> Fault {
    Fault::Worker { reason: "its thread has ended".into() }
}

fn serve(jobs: &Mutex<Receiver<Job>>, caller: Caller) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(&caller),
            Err(_) => return,
        }
    }
}
