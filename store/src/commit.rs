//! What a caller holds while its batch is written.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::{mpsc, oneshot};

use crate::batch::Batch;

/// A batch that was taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Id of the batch's first event. `None` when it has no events, and when it is volatile: ids
    /// are given at the disk.
    pub first_event_id: Option<u64>,
    /// How many events it has.
    pub events: u32,
    /// True when the store can not write at the moment and keeps the batch in memory: a crash
    /// before the store heals would lose it.
    pub volatile: bool,
}

/// Why a batch was not written. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The batch contradicts what is stored.
    #[error("the store refuses the batch: {0}")]
    Refused(Refusal),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// What a batch that was refused contradicts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The token was used up before.
    #[error("token {sequence} was used up before")]
    TokenSpent {
        /// Its sequence.
        sequence: u64,
    },
    /// Something else, in words: a block that is not known, a webhook too many, a value that no
    /// column takes.
    #[error("{0}")]
    Other(String),
}

/// The queue of the writer is full. The batch comes back.
#[derive(Debug)]
pub struct Full(pub Batch);

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the queue of the store is full ({} batches)", crate::limits::QUEUE_BATCHES_MAX)
    }
}

impl std::error::Error for Full {}

/// How the outcome of a batch comes back.
pub(crate) type Reply = oneshot::Sender<Result<Committed, CommitError>>;

/// A batch on its way to a writer.
#[derive(Debug)]
pub struct Request {
    pub(crate) batch: Batch,
    pub(crate) reply: Reply,
}

type Permit = Pin<Box<dyn Future<Output = Result<mpsc::OwnedPermit<Request>, CommitError>> + Send>>;

/// The outcome of a batch, to be awaited, or waited for with [`Self::wait`].
///
/// When the queue was full, the batch is handed over only while this is polled: do not drop it.
/// Otherwise dropping it changes nothing: the batch is written.
#[must_use = "a batch that met a full queue is lost when this is dropped"]
pub struct Commit {
    waiting: Option<(Permit, Request, mpsc::Sender<Request>)>,
    outcome: oneshot::Receiver<Result<Committed, CommitError>>,
}

impl Commit {
    /// Hands a batch to a writer behind `queue`; for backends.
    pub fn send(queue: &mpsc::Sender<Request>, batch: Batch) -> Self {
        let (reply, outcome) = oneshot::channel();
        let waiting = match queue.try_send(Request { batch, reply }) {
            // A closed queue drops the reply with the request: the outcome says so.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
            Err(mpsc::error::TrySendError::Full(request)) => {
                let reserve = queue.clone().reserve_owned();
                let permit = async move { reserve.await.map_err(|_| CommitError::Closed) };
                Some((Box::pin(permit) as Permit, request, queue.clone()))
            }
        };
        Self { waiting, outcome }
    }

    /// As [`Self::send`], without waiting for room.
    ///
    /// # Errors
    /// [`Full`] gives the batch back.
    pub fn try_send(queue: &mpsc::Sender<Request>, batch: Batch) -> Result<Self, Full> {
        let (reply, outcome) = oneshot::channel();
        match queue.try_send(Request { batch, reply }) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {
                Ok(Self { waiting: None, outcome })
            }
            Err(mpsc::error::TrySendError::Full(request)) => Err(Full(request.batch)),
        }
    }

    /// Blocks the thread until the batch is written. Not for tasks of a tokio runtime.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn wait(self) -> Result<Committed, CommitError> {
        if let Some((_, request, queue)) = self.waiting {
            queue.blocking_send(request).map_err(|_| CommitError::Closed)?;
        }
        self.outcome.blocking_recv().unwrap_or(Err(CommitError::Closed))
    }
}

impl Future for Commit {
    type Output = Result<Committed, CommitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some((permit, _, _)) = &mut self.waiting {
            let permit = ready!(permit.as_mut().poll(context))?;
            if let Some((_, request, _)) = self.waiting.take() {
                permit.send(request);
            }
        }
        let outcome = ready!(Pin::new(&mut self.outcome).poll(context));
        Poll::Ready(outcome.unwrap_or(Err(CommitError::Closed)))
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit").field("queued", &self.waiting.is_none()).finish_non_exhaustive()
    }
}
