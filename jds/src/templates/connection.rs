//! One template distribution connection: owns the socket, drives the session, and carries out what
//! the session asks for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jds_wire::Event;
use jds_wire::limits::admit_for_templates;
use jds_wire::message::constants::MESSAGE_TYPE_SUBMIT_SOLUTION;
use store::{MinerConnected, MinerDisconnected, Role};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout, timeout_at};
use tracing::{Instrument, debug, info, info_span};

use super::news::News;
use super::outgoing::SharedFrameWriter;
use super::session::{Action, Input, TemplateSession};
use super::{Built, Room, RoomGuard, Templates, View};
use crate::clock;
use crate::limits::{FRAME_BYTES_PER_SECOND_MIN, FRAME_TIMEOUT, WRITE_TIMEOUT};
use crate::peer::draining::nothing_comes;
use crate::peer::{self, Draining, Ended, Incoming};
use crate::server::Shared;
use crate::session::{CloseReason, Violation};
use crate::solve::{SolutionTurns, Solvers};

/// Serves one accepted socket until it ends.
pub(crate) async fn serve<S>(
    mut stream: S,
    remote: SocketAddr,
    number: u64,
    shared: Arc<Shared>,
    templates: Arc<Templates>,
    mut shutdown: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let span = info_span!("templates", id = number, %remote);
    async move {
        let Some(transport) = peer::handshake(&mut stream, &shared).await else { return };
        let _counted = shared.counts.template_connections.part(1);
        let (read, write) = tokio::io::split(stream);
        let mut connection = Connection {
            reader: Incoming::new(read, transport.decoder, shared.peer_bytes.clone()),
            writer: SharedFrameWriter::new(write, transport.encoder),
            write_deadline: tokio::time::Instant::now(),
            session: TemplateSession::new(Arc::clone(&templates), Instant::now()),
            views: templates.watch(),
            room: None,
            building: None,
            building_in_vain: false,
            solutions: SolutionTurns::default(),
            presence: None,
            news: News::default(),
            draining: None,
            templates,
            shared,
            remote,
            number,
        };
        let ended = connection.run(&mut shutdown).await;
        connection.finish(&ended).await;
        info!(reason = %ended, "connection ended");
    }
    .instrument(span)
    .await;
}

struct Connection<S> {
    reader: Incoming<ReadHalf<S>>,
    writer: SharedFrameWriter<WriteHalf<S>>,
    /// When what is being written must have left.
    write_deadline: tokio::time::Instant,
    session: TemplateSession,
    views: watch::Receiver<Option<Arc<View>>>,
    /// What the client leaves room for; none before it said so.
    room: Option<(Room, RoomGuard)>,
    /// A template that nobody wanted before, being made; one at a time.
    building: Option<JoinHandle<Arc<Built>>>,
    /// It is for a room that the client no longer leaves.
    building_in_vain: bool,
    solutions: SolutionTurns,
    /// The event of its end, once its beginning was told.
    presence: Option<MinerDisconnected>,
    news: News,
    /// The server ends.
    draining: Option<Draining>,
    templates: Arc<Templates>,
    shared: Arc<Shared>,
    remote: SocketAddr,
    number: u64,
}

enum Wake {
    Frame(Event),
    Work(Option<Arc<Built>>),
    View,
    Flushed,
    Tick,
    Shutdown,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    async fn run(&mut self, shutdown: &mut watch::Receiver<bool>) -> Ended {
        loop {
            if let Err(ended) = self.act().await {
                return ended;
            }
            if let Err(ended) = self.write_more() {
                return ended;
            }
            let wake = match self.wait(shutdown).await {
                Ok(wake) => wake,
                Err(ended) => return ended,
            };
            let now = Instant::now();
            match wake {
                Wake::Frame(Event::Frame(frame)) => {
                    let (msg_type, bytes) = (frame.header.msg_type, frame.payload.len());
                    debug!(msg_type, bytes, "received");
                    if let Some(draining) = &mut self.draining {
                        // At the end of the server only solutions count.
                        if msg_type != MESSAGE_TYPE_SUBMIT_SOLUTION {
                            continue;
                        }
                        draining.received(bytes);
                    }
                    self.session.handle(Input::Frame(&frame), now);
                }
                // Read past, or not a whole frame yet.
                Wake::Frame(_) | Wake::Flushed => {}
                Wake::View => self.look_at_view(),
                Wake::Work(work) => {
                    self.building = None;
                    let in_vain = std::mem::take(&mut self.building_in_vain);
                    if let Some(work) = work.filter(|_| !in_vain) {
                        self.session.handle(Input::Work(work), now);
                    }
                    // There may be a newer view by now.
                    if in_vain || self.views.has_changed().unwrap_or(false) {
                        self.look_at_view();
                    }
                }
                Wake::Tick => self.session.handle(Input::Tick, now),
                Wake::Shutdown => self.draining = Some(Draining::begin(now)),
            }
        }
    }

    async fn wait(&mut self, shutdown: &mut watch::Receiver<bool>) -> Result<Wake, Ended> {
        let is_set_up = self.session.is_set_up();
        let deadline = self.session.poll_timeout();
        let deadline = deadline.unwrap_or_else(|| Instant::now() + FRAME_TIMEOUT);
        let wants_view = self.room.is_some() && self.building.is_none();
        let is_draining = self.draining.is_some();
        let deadline = match &self.draining {
            Some(draining) if draining.is_over(Instant::now()) => return Err(Ended::Shutdown),
            Some(draining) => deadline.min(draining.until()),
            None => deadline,
        };
        tokio::select! {
            biased;
            _ = shutdown.wait_for(|down| *down), if !is_draining => Ok(Wake::Shutdown),
            flushed = timeout_at(self.write_deadline, self.writer.flush()),
                if !self.writer.is_idle() =>
            {
                flushed.map_err(|_| Ended::WriteTimeout)??;
                self.news.left(&self.shared.counts.metrics);
                Ok(Wake::Flushed)
            }
            changed = self.views.changed(), if wants_view => {
                changed.map_err(|_| Ended::Shutdown)?;
                Ok(Wake::View)
            }
            work = built(&mut self.building) => Ok(Wake::Work(work)),
            frame = self.reader.next(|header| admit_for_templates(is_set_up, header)) => {
                // What a frame may hold is let go with it: nothing of it stays but a solution.
                frame.map(|(event, _permit)| Wake::Frame(event))
            }
            () = nothing_comes(), if is_draining => match self.reader.is_idle() {
                true => Err(Ended::Shutdown),
                false => Ok(Wake::Tick),
            },
            () = sleep_until(deadline.into()) => Ok(Wake::Tick),
        }
    }

    /// Carries out everything that the session wants done.
    async fn act(&mut self) -> Result<(), Ended> {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Constrain(room) => {
                    self.came();
                    self.news = News::default();
                    self.room = Some((room, self.templates.register(room)));
                    self.building_in_vain = self.building.is_some();
                    if !self.building_in_vain {
                        self.look_at_view();
                    }
                }
                Action::Solve(template, solution) => {
                    let received = Instant::now();
                    // A found block outlives its connection.
                    let request = (template, solution);
                    Solvers::take_in(&self.shared, &self.solutions, request, received).await;
                }
                Action::Close(reason) => return Err(reason.into()),
            }
        }
        Ok(())
    }

    /// Takes what is to be sent now, if the line is free.
    fn write_more(&mut self) -> Result<(), Ended> {
        if !self.writer.is_idle() {
            return Ok(());
        }
        let now_unix_s = u32::try_from(clock::unix_s()).unwrap_or(u32::MAX);
        let mut bytes = 0;
        while self.writer.has_room() {
            let Some(message) = self.session.next_message(now_unix_s) else { break };
            bytes += message.payload.len();
            let (tip, told) = (self.session.tip(), self.templates.told());
            self.news.count(message.msg_type, tip, told, &self.shared);
            self.writer.queue(message)?;
        }
        if bytes > 0 {
            self.write_deadline = tokio::time::Instant::now() + write_time(bytes);
        }
        Ok(())
    }

    /// Gives the session its work of the newest view, making it on the side if nobody has yet.
    fn look_at_view(&mut self) {
        let Some((room, _)) = self.room else { return };
        let Some(view) = self.views.borrow_and_update().clone() else { return };
        if !view.serves(&room) {
            return;
        }
        match view.ready(&room) {
            Some(work) => self.session.handle(Input::Work(work), Instant::now()),
            None => {
                let templates = Arc::clone(&self.templates);
                let build = move || templates.build(&view, &room);
                self.building = Some(tokio::task::spawn_blocking(build));
            }
        }
    }

    /// Tells that a client is there, when it is.
    fn came(&mut self) {
        if self.presence.is_some() {
            return;
        }
        let came = MinerConnected {
            user: None,
            connection_id: self.number,
            remote: self.remote.to_string(),
            role: Role::TemplateDistribution,
            flags: self.session.flags(),
            job_negotiation: false,
            reason: None,
        };
        self.presence = Some(MinerDisconnected {
            user: None,
            connection_id: came.connection_id,
            remote: came.remote.clone(),
            role: came.role,
            flags: came.flags,
            job_negotiation: false,
            reason: None,
        });
        self.shared.journal.of_peer(&self.peer(), came);
    }

    fn peer(&self) -> String {
        api::peer_key(self.remote.ip()).to_string()
    }

    /// Lets what was answered reach the peer before the socket closes.
    async fn finish(&mut self, ended: &Ended) {
        if let Some(mut went) = self.presence.take() {
            went.reason = Some(ended.to_string());
            self.shared.journal.of_peer(&self.peer(), went);
        }
        self.room = None;
        let unread = |reason: &CloseReason| {
            matches!(reason, CloseReason::Violation(Violation::RequestsUnread(_)))
        };
        // A peer that has shown that it does not read keeps its place no longer for it.
        if !ended.peer_may_read() || matches!(ended, Ended::Session(reason) if unread(reason)) {
            return;
        }
        let last = async {
            self.writer.flush().await?;
            // The answer to a set-up that is refused.
            if let Some(message) = self.session.next_message(0) {
                self.writer.queue(message)?;
                self.writer.flush().await?;
            }
            self.writer.shutdown().await
        };
        let _ = timeout(WRITE_TIMEOUT, last).await;
    }
}

/// The template being made, when it is; none if its making failed. Cancellation-safe.
async fn built(building: &mut Option<JoinHandle<Arc<Built>>>) -> Option<Arc<Built>> {
    match building {
        Some(task) => task.await.ok(),
        None => std::future::pending().await,
    }
}

/// How long so many bytes may take to leave.
fn write_time(bytes: usize) -> Duration {
    WRITE_TIMEOUT + Duration::from_secs(bytes as u64 / FRAME_BYTES_PER_SECOND_MIN)
}
