//! One job declaration connection: owns the socket, drives the session, and carries out what the
//! session asks for. The one place that decides what a fault of the peer leads to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::peer_key;
use jds_wire::{Admit, Event, FrameDecoder, FrameHeader, limits};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::{self, JoinSet};
use tokio::time::{sleep, sleep_until, timeout, timeout_at};
use tracing::{Instrument, debug, info, info_span};
use validation::rejection::{Reason, Rejection};

use crate::budget::{ByteBudget, ConnectionBudget, Permit, Taking};
use crate::clock;
use crate::jobs::Declarer;
use crate::limits::{
    AFTER_ANSWER_PAUSE, FRAME_BYTES_PER_SECOND_MIN, FRAME_BYTES_UNCOUNTED_MAX, FRAME_TIMEOUT,
    HANDSHAKE_TIMEOUT, REPLIES_QUEUED_PER_CONNECTION_MAX, WRITE_TIMEOUT,
};
use crate::noise_io::{FrameReader, FrameWriter, IoError, accept_handshake};
use crate::presence::Presence;
use crate::server::Shared;
use crate::session::{Action, CloseReason, Declared, DeclaredResult, Input, Now, Record, Session};
use crate::solve::{SolutionTurns, Solvers};
use crate::validator::Outcome;

/// Why a connection ended. Any of these ends this connection only.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The socket or its frames.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The peer took too long for the handshake.
    #[error("no Noise handshake within {} ms", HANDSHAKE_TIMEOUT.as_millis())]
    HandshakeTimeout,
    /// A frame was begun and not finished.
    #[error("a frame was not complete in time")]
    FrameTimeout,
    /// The peer does not read our answers.
    #[error("the peer did not read its answers for {} ms", WRITE_TIMEOUT.as_millis())]
    WriteTimeout,
    /// The peer asks without reading.
    #[error("the peer left {REPLIES_QUEUED_PER_CONNECTION_MAX} answers unread")]
    RepliesUnread,
    /// The session ended it.
    #[error(transparent)]
    Session(#[from] CloseReason),
    /// An answer of ours could not be encoded: a defect of ours.
    #[error("an answer could not be encoded")]
    Encode,
    /// The server shuts down.
    #[error("the server shuts down")]
    Shutdown,
}

/// Serves one accepted socket until it ends.
pub(crate) async fn serve<S>(
    mut stream: S,
    remote: SocketAddr,
    number: u64,
    shared: Arc<Shared>,
    shutdown: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let span = info_span!("conn", id = number, %remote);
    async move {
        let counted = shared.counts.handshakes.part(1);
        let handshake =
            accept_handshake(&mut stream, &shared.authority, shared.cert_validity, clock::unix_s);
        let transport = match timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(transport)) => transport,
            Ok(Err(error)) => return debug!(reason = %error, "no handshake"),
            Err(_) => return debug!(reason = %Ended::HandshakeTimeout, "no handshake"),
        };
        drop(counted);
        let _counted = shared.counts.connections.part(1);
        let peer: Arc<str> = peer_key(remote.ip()).to_string().into();
        let declarer = Declarer::new(number, Arc::clone(&peer));
        let (read, write) = tokio::io::split(stream);
        let mut connection = Connection {
            reader: Incoming::new(read, transport.decoder, shared.peer_bytes.clone()),
            writer: FrameWriter::new(write, transport.encoder),
            queued: 0,
            write_deadline: None,
            session: Session::new(Arc::clone(&shared.session_deps), declarer, Instant::now()),
            presence: Presence::new(Arc::clone(&shared.journal), remote, Arc::clone(&peer), number),
            peer,
            work: JoinSet::new(),
            work_for: HashMap::new(),
            draining: false,
            solutions: SolutionTurns::default(),
            shared,
        };
        let ended = connection.run(shutdown).await;
        connection.presence.ended(&ended.to_string());
        connection.finish(&ended).await;
        info!(reason = %ended, "connection ended");
    }
    .instrument(span)
    .await;
}

struct Connection<S> {
    reader: Incoming<tokio::io::ReadHalf<S>>,
    writer: FrameWriter<tokio::io::WriteHalf<S>>,
    /// Answers encrypted and not yet written.
    queued: usize,
    /// When the oldest of them must have left.
    write_deadline: Option<tokio::time::Instant>,
    session: Session,
    presence: Presence,
    /// Address of the peer without the port.
    peer: Arc<str>,
    /// Validations under way, at most as many as the session has pending declarations.
    work: JoinSet<Outcome>,
    /// The declarations that they are for.
    work_for: HashMap<task::Id, u32>,
    /// The server shuts down.
    draining: bool,
    solutions: SolutionTurns,
    shared: Arc<Shared>,
}

enum Wake {
    Frame(Result<(Event, Permit), Ended>),
    Validated(u32, Outcome),
    Flushed(Result<(), Ended>),
    Tick,
    Shutdown,
    Drained,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    async fn run(&mut self, mut shutdown: watch::Receiver<bool>) -> Ended {
        loop {
            if let Err(ended) = self.act().await {
                return ended;
            }
            let wake = self.wait(&mut shutdown).await;
            let now = Now { instant: Instant::now(), unix_us: clock::unix_us() };
            match wake {
                Wake::Frame(Ok((Event::Frame(frame), permit))) => {
                    debug!(
                        msg_type = frame.header.msg_type,
                        bytes = frame.payload.len(),
                        "received"
                    );
                    self.session.handle(Input::Frame(&frame, permit), now);
                }
                Wake::Frame(Ok((Event::Oversized { header, head }, _))) => {
                    debug!(msg_type = header.msg_type, bytes = header.payload_bytes, "read past");
                    self.session.handle(Input::Oversized(header, &head), now);
                }
                Wake::Frame(Ok((Event::Header(_), _))) => {}
                Wake::Frame(Err(ended)) | Wake::Flushed(Err(ended)) => return ended,
                Wake::Validated(request_id, outcome) => {
                    let outcome = Box::new(outcome);
                    self.session.handle(Input::Validated { request_id, outcome }, now);
                }
                Wake::Flushed(Ok(())) => {
                    self.queued = 0;
                    self.write_deadline = None;
                }
                Wake::Tick => {
                    let receiving = !self.reader.frames.is_idle();
                    self.session.handle(Input::Tick { receiving }, now);
                }
                // What was taken in is answered, nothing more is read.
                Wake::Shutdown => self.draining = true,
                Wake::Drained => return Ended::Shutdown,
            }
        }
    }

    async fn wait(&mut self, shutdown: &mut watch::Receiver<bool>) -> Wake {
        let state = self.session.connection_state();
        let write_by = self.write_deadline.unwrap_or_else(in_write_timeout);
        let deadline = self.session.poll_timeout();
        let deadline = deadline.unwrap_or_else(|| Instant::now() + FRAME_TIMEOUT);
        if self.draining && self.work.is_empty() {
            return Wake::Drained;
        }
        // In order of what must not starve: a peer that never stops sending gets its answers.
        tokio::select! {
            biased;
            _ = shutdown.wait_for(|down| *down), if !self.draining => Wake::Shutdown,
            flushed = flush(&mut self.writer, write_by), if self.writer.pending_bytes() > 0 => {
                Wake::Flushed(flushed)
            }
            Some(done) = self.work.join_next_with_id(), if !self.work.is_empty() => match done {
                Ok((task, outcome)) => self.validated(task, outcome),
                // It panicked, and has said so in the log by itself.
                Err(error) => {
                    let rejection = Rejection::new(Reason::Internal).actual("validation-ended");
                    self.validated(error.id(), Outcome::Rejected(rejection))
                }
            },
            frame = self.reader.next(|header| limits::admit(state, header)), if !self.draining => {
                Wake::Frame(frame)
            }
            () = sleep_until(deadline.into()) => Wake::Tick,
        }
    }

    /// Carries out everything that the session wants done.
    async fn act(&mut self) -> Result<(), Ended> {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Send(message) => {
                    debug!(?message, "answer");
                    // A message of ours that fits no frame would be a defect of ours.
                    let encoded = message.encode().map_err(|error| {
                        tracing::error!(%error, "an answer could not be encoded");
                        Ended::Encode
                    })?;
                    if self.queued >= REPLIES_QUEUED_PER_CONNECTION_MAX {
                        return Err(Ended::RepliesUnread);
                    }
                    self.writer.queue(&encoded).map_err(IoError::from)?;
                    self.queued += 1;
                    self.write_deadline.get_or_insert_with(in_write_timeout);
                }
                Action::Validate(declaration) => {
                    let (id, shared) = (declaration.request_id, Arc::clone(&self.shared));
                    self.work_on(id, async move { shared.validator.validate(*declaration).await });
                }
                Action::Complete(draft, answer) => {
                    let (id, shared) = (draft.request_id(), Arc::clone(&self.shared));
                    self.work_on(id, async move { shared.validator.complete(draft, answer).await });
                }
                Action::GiveUp(draft, rejection) => {
                    let (id, shared) = (draft.request_id(), Arc::clone(&self.shared));
                    self.work_on(
                        id,
                        async move { shared.validator.give_up(draft, rejection).await },
                    );
                }
                Action::Solve(request) => {
                    let received = Instant::now();
                    // A found block outlives its connection.
                    Solvers::take_in(&self.shared, &self.solutions, request, received).await;
                }
                Action::Record(record) => self.on_record(record),
                Action::Close(reason) => return Err(reason.into()),
            }
        }
        Ok(())
    }

    fn work_on(&mut self, request_id: u32, work: impl Future<Output = Outcome> + Send + 'static) {
        let task = self.work.spawn(work.in_current_span());
        self.work_for.insert(task.id(), request_id);
    }

    fn validated(&mut self, task: task::Id, outcome: Outcome) -> Wake {
        match self.work_for.remove(&task) {
            Some(request_id) => Wake::Validated(request_id, outcome),
            None => Wake::Tick,
        }
    }

    fn on_record(&mut self, record: Record) {
        match &record {
            Record::SetUp { flags, .. } => self.presence.set_up(*flags),
            Record::TokenAllocated { user, first, sequence } => {
                self.presence.token_allocated(user, *first, *sequence);
            }
            Record::Declared(declared) => self.on_declared(declared),
            Record::TxsAsked { .. } | Record::Ignored(_) => {}
        }
        crate::report::log(record);
    }

    fn on_declared(&self, declared: &Declared) {
        match &declared.result {
            DeclaredResult::Accepted { job, .. } => {
                // After this answer and those that others wait for, and before a solution can come.
                let (shared, job) = (Arc::clone(&self.shared), Arc::downgrade(job));
                tokio::spawn(async move {
                    sleep(AFTER_ANSWER_PAUSE).await;
                    let Some(job) = job.upgrade() else { return };
                    shared.validator.answered(&job);
                    shared.jobs.make_ready(job).await;
                });
            }
            // With a user there is a token too, and the verdict is recorded with it.
            DeclaredResult::Rejected(rejection) if declared.user.is_none() => {
                self.shared.counts.observe_refused(rejection);
                self.shared.journal.refused(&self.peer, None, rejection);
            }
            DeclaredResult::Rejected(_) => {}
        }
    }

    /// Lets what was answered reach the peer before the socket closes.
    async fn finish(&mut self, ended: &Ended) {
        // A peer that has shown that it does not read keeps its place no longer for it.
        let peer_may_read =
            !matches!(ended, Ended::Io(_) | Ended::WriteTimeout | Ended::RepliesUnread);
        if peer_may_read && flush(&mut self.writer, in_write_timeout()).await.is_ok() {
            let _ = timeout(WRITE_TIMEOUT, self.writer.shutdown()).await;
        }
    }
}

fn in_write_timeout() -> tokio::time::Instant {
    tokio::time::Instant::now() + WRITE_TIMEOUT
}

/// Writes what is queued, by a moment that does not move when this is cancelled and called again.
async fn flush<W: AsyncWrite + Unpin>(
    writer: &mut FrameWriter<W>,
    deadline: tokio::time::Instant,
) -> Result<(), Ended> {
    timeout_at(deadline, writer.flush()).await.map_err(|_| Ended::WriteTimeout)?.map_err(Into::into)
}

/// The receiving side with its share of the byte budget.
pub(crate) struct Incoming<R> {
    frames: FrameReader<R>,
    budget: ConnectionBudget,
    frame: Option<Arriving>,
}

/// A frame whose header is here.
struct Arriving {
    admit: Admit,
    permit: Permit,
    /// Set while we wait for our own budget: since when, and the place in the line.
    taking: Option<(Instant, Taking)>,
    deadline: Instant,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    pub(crate) fn new(stream: R, decoder: FrameDecoder, peer_bytes: ByteBudget) -> Self {
        let budget = ConnectionBudget::new(peer_bytes);
        Self { frames: FrameReader::new(stream, decoder), budget, frame: None }
    }

    /// The next frame with its share of the budget, which is taken in step with the bytes that
    /// arrive: a header that announces megabytes takes nothing from others. Cancellation-safe.
    pub(crate) async fn next(
        &mut self,
        admit: impl FnOnce(&FrameHeader) -> Admit,
    ) -> Result<(Event, Permit), Ended> {
        let header = self.frames.header().await?;
        let arriving = self.frame.get_or_insert_with(|| Arriving {
            admit: admit(&header),
            permit: Permit::default(),
            taking: None,
            deadline: Instant::now() + frame_time(header.payload_bytes),
        });
        let event = loop {
            if let Some((since, taking)) = &mut arriving.taking {
                arriving.permit.add(taking.await);
                arriving.deadline += since.elapsed();
                arriving.taking = None;
            }
            let held_max = arriving.permit.bytes() + FRAME_BYTES_UNCOUNTED_MAX;
            let body = self.frames.body_within(arriving.admit, held_max);
            match timeout_at(arriving.deadline.into(), body).await {
                Err(_) => return Err(Ended::FrameTimeout),
                Ok(event) => match event? {
                    Some(event) => break event,
                    None => {
                        let held = self.frames.held_bytes();
                        let missing = held.saturating_sub(arriving.permit.bytes());
                        arriving.taking = Some((Instant::now(), self.budget.take(missing)));
                    }
                },
            }
        };
        let permit = self.frame.take().map(|arriving| arriving.permit).unwrap_or_default();
        Ok((event, permit))
    }
}

/// How long a frame of that size may take.
fn frame_time(payload_bytes: usize) -> Duration {
    FRAME_TIMEOUT + Duration::from_secs(payload_bytes as u64 / FRAME_BYTES_PER_SECOND_MIN)
}
