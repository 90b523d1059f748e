//! What every handler of the pool interface has at hand.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use super::backend::PoolBackend;
use super::idempotency::Answers;
use super::limits;
use crate::app::Reader;
use crate::metrics::Metrics;
use crate::places::Places;
use crate::settings::Token;

/// What every handler has at hand.
pub(crate) struct State {
    /// What is stored.
    pub(crate) reader: Reader,
    pub(crate) backend: Arc<dyn PoolBackend>,
    pub(crate) metrics: Metrics,
    /// Turns of requests that have work done.
    pub(crate) turns: Arc<Semaphore>,
    /// Places for streams of shares.
    pub(crate) share_streams: Arc<Semaphore>,
    /// What was answered to requests with a key.
    pub(crate) answers: Answers,
    /// Names this process to readers of streams.
    pub(crate) run: u64,
    /// For readers of streams.
    pub(crate) streams: Arc<Places>,
    /// True from the moment that the server stops.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl State {
    pub(crate) fn new(
        reader: Reader,
        backend: Arc<dyn PoolBackend>,
        metrics: Metrics,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            reader,
            backend,
            metrics,
            turns: Arc::new(Semaphore::new(limits::REQUESTS_MAX)),
            share_streams: Arc::new(Semaphore::new(limits::SHARE_STREAMS_MAX)),
            answers: Answers::default(),
            run: rand::random(),
            streams: Places::new(limits::STREAM_CLIENTS_MAX, 1),
            stopping,
        }
    }
}

/// Shared by all handlers.
pub(crate) type Pool = Arc<State>;

/// How a request came in.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// Over TCP: it has to show this token.
    Tcp(Token),
    /// Over the socket, which only some may open.
    Socket,
}
