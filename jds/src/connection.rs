//! One job declaration connection: owns the socket, drives the session, and carries out what the
//! session asks for. The one place that decides what a fault of the peer leads to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use api::peer_key;
use jds_wire::message::constants::{
    MESSAGE_TYPE_ALLOCATE_MINING_JOB_TOKEN, MESSAGE_TYPE_PUSH_SOLUTION,
};
use jds_wire::{ClientMessage, Event, Frame, limits};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::{self, JoinSet};
use tokio::time::{sleep, sleep_until};
use tracing::{Instrument, debug, info, info_span};
use validation::rejection::{Reason, Rejection};

use crate::budget::Permit;
use crate::clock;
use crate::jobs::Declarer;
use crate::limits::{AFTER_ANSWER_PAUSE, FRAME_TIMEOUT, REPLIES_QUEUED_PER_CONNECTION_MAX};
use crate::peer::draining::nothing_comes;
use crate::peer::{self, Draining, Ended, Incoming, Outbox, Unread};
use crate::presence::Presence;
use crate::server::Shared;
use crate::session::{Action, Declared, DeclaredResult, Input, Now, Record, Session};
use crate::solve::{SolutionTurns, Solvers};
use crate::user_check::Gate;
use crate::validator::Outcome;

/// Answers that a peer may leave unread.
const UNREAD_MAX: Unread = Unread::Messages(REPLIES_QUEUED_PER_CONNECTION_MAX);

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
        let Some(transport) = peer::handshake(&mut stream, &shared).await else { return };
        let _counted = shared.counts.connections.part(1);
        let peer: Arc<str> = peer_key(remote.ip()).to_string().into();
        let declarer = Declarer::new(number, Arc::clone(&peer));
        let (read, write) = tokio::io::split(stream);
        let mut connection = Connection {
            reader: Incoming::new(read, transport.decoder, shared.peer_bytes.clone()),
            outbox: Outbox::new(write, transport.encoder, UNREAD_MAX),
            session: Session::new(Arc::clone(&shared.session_deps), declarer, Instant::now()),
            presence: Presence::new(Arc::clone(&shared.journal), remote, Arc::clone(&peer), number),
            peer,
            work: JoinSet::new(),
            work_for: HashMap::new(),
            draining: None,
            has_read_all: false,
            solutions: SolutionTurns::default(),
            gate: Gate::new(Arc::clone(&shared.user_check)),
            shared,
        };
        let ended = connection.run(shutdown).await;
        connection.presence.ended(&ended.to_string());
        connection.outbox.finish(&ended).await;
        info!(reason = %ended, "connection ended");
    }
    .instrument(span)
    .await;
}

struct Connection<S> {
    reader: Incoming<tokio::io::ReadHalf<S>>,
    outbox: Outbox<tokio::io::WriteHalf<S>>,
    session: Session,
    presence: Presence,
    /// Address of the peer without the port.
    peer: Arc<str>,
    /// Validations under way, at most as many as the session has pending declarations.
    work: JoinSet<Outcome>,
    /// The declarations that they are for.
    work_for: HashMap<task::Id, u32>,
    /// The server shuts down.
    draining: Option<Draining>,
    /// And nothing more comes.
    has_read_all: bool,
    solutions: SolutionTurns,
    /// Holds back who asks for a token until it is known whether that user may.
    gate: Gate<(Frame, Permit)>,
    shared: Arc<Shared>,
}

enum Wake {
    Frame(Result<(Event, Permit), Ended>),
    /// A message that was held back, and whether its user may; none if that is not known.
    Passed(Option<((Frame, Permit), bool)>),
    Validated(u32, Outcome),
    Flushed(Result<(), Ended>),
    Tick,
    Shutdown,
    Silence,
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
                    self.on_frame(frame, permit, now);
                }
                Wake::Passed(Some(((frame, permit), true))) => {
                    self.session.handle(Input::Frame(&frame, permit), now);
                }
                Wake::Passed(Some((_, false))) => self.session.handle(Input::Stranger, now),
                Wake::Passed(None) => {}
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
                Wake::Flushed(Ok(())) => {}
                Wake::Tick => {
                    let receiving = !self.reader.is_idle();
                    self.session.handle(Input::Tick { receiving }, now);
                }
                // What was taken in is answered; of what was sent by now only solutions count.
                Wake::Shutdown => self.draining = Some(Draining::begin(Instant::now())),
                Wake::Silence => self.has_read_all = self.reader.is_idle(),
                Wake::Drained => return Ended::Shutdown,
            }
        }
    }

    /// To the session, once it is known that its user may ask for that.
    fn on_frame(&mut self, frame: Frame, permit: Permit, now: Now) {
        if let Some(draining) = &mut self.draining {
            if frame.header.msg_type != MESSAGE_TYPE_PUSH_SOLUTION {
                return;
            }
            draining.received(frame.payload.len());
        }
        let identity = if self.gate.is_open() { None } else { asks_for(&frame) };
        let Some(identity) = identity else {
            return self.session.handle(Input::Frame(&frame, permit), now);
        };
        if let Some(passed) = self.gate.pass(&identity, (frame, permit)) {
            let (frame, permit) = passed.held;
            match passed.allowed {
                true => self.session.handle(Input::Frame(&frame, permit), now),
                false => self.session.handle(Input::Stranger, now),
            }
        }
    }

    async fn wait(&mut self, shutdown: &mut watch::Receiver<bool>) -> Wake {
        let state = self.session.connection_state();
        let deadline = self.session.poll_timeout();
        let deadline = deadline.unwrap_or_else(|| Instant::now() + FRAME_TIMEOUT);
        let is_draining = self.draining.is_some();
        let has_read_all = self.has_read_all
            || self.draining.as_ref().is_some_and(|draining| draining.is_over(Instant::now()));
        if has_read_all && self.work.is_empty() {
            return Wake::Drained;
        }
        let reads = !has_read_all && (is_draining || !self.gate.is_full());
        let deadline = match &self.draining {
            Some(draining) if reads => deadline.min(draining.until()),
            _ => deadline,
        };
        // In order of what must not starve: a peer that never stops sending gets its answers.
        tokio::select! {
            biased;
            _ = shutdown.wait_for(|down| *down), if !is_draining => Wake::Shutdown,
            flushed = self.outbox.flush(), if !self.outbox.is_idle() => Wake::Flushed(flushed),
            Some(done) = self.work.join_next_with_id(), if !self.work.is_empty() => match done {
                Ok((task, outcome)) => self.validated(task, outcome),
                // It panicked, and has said so in the log by itself.
                Err(error) => {
                    let rejection = Rejection::new(Reason::Internal).actual("validation-ended");
                    self.validated(error.id(), Outcome::Rejected(rejection))
                }
            },
            passed = self.gate.next(), if !self.gate.is_empty() => {
                Wake::Passed(passed.map(|passed| (passed.held, passed.allowed)))
            }
            frame = self.reader.next(|header| limits::admit(state, header)), if reads => {
                Wake::Frame(frame)
            }
            () = nothing_comes(), if is_draining && reads => Wake::Silence,
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
                    self.outbox.queue(&encoded)?;
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
}

/// For whom a frame asks for a token, as the client sent it; none for all other frames.
fn asks_for(frame: &Frame) -> Option<String> {
    // A declaration is large, and is not read twice.
    if frame.header.msg_type != MESSAGE_TYPE_ALLOCATE_MINING_JOB_TOKEN {
        return None;
    }
    match ClientMessage::from_frame(frame).ok()? {
        ClientMessage::AllocateMiningJobToken(allocate) => {
            Some(String::from_utf8_lossy(allocate.user_identifier).into_owned())
        }
        _ => None,
    }
}
