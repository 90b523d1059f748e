//! One miner's connection, of either protocol: owns the socket, drives the session, and carries
//! out what the session asks for.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use mining::{Action, Input, PoolWork};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};
use tracing::{Instrument, debug, info, info_span};
use validation::tip::ChainTip;

use super::checks::{Checked, Checks};
use super::custom::CustomJobs;
use super::durable::WhenDurable;
use super::lines::{LineReader, LineWriter};
use super::link::{Leave, Outgoing, Receive, Received, Session};
use super::records::Records;
use super::room::Held;
use super::{Mining, now};
use crate::counts::{Gauge, Part};
use crate::limits::{FRAME_TIMEOUT, MINING_UNREAD_BYTES_MAX, WRITE_TIMEOUT};
use crate::peer::draining::nothing_comes;
use crate::peer::{self, Draining, Ended, Incoming, Outbox, Unread};
use crate::server::Shared;
use crate::solve::{FoundTurns, Solvers};
use crate::user_check::Gate;

/// Serves one accepted socket of a Stratum V2 miner until it ends.
pub(crate) async fn serve_v2<S>(
    mut stream: S,
    remote: SocketAddr,
    number: u64,
    shared: Arc<Shared>,
    mining: Arc<Mining>,
    shutdown: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let span = info_span!("mining", id = number, %remote);
    async move {
        let Some(transport) = peer::handshake(&mut stream, &shared).await else { return };
        let _counted = shared.counts.mining.connections.part(1);
        let (read, write) = tokio::io::split(stream);
        let reader = Incoming::new(read, transport.decoder, shared.peer_bytes.clone());
        let unread_max = Unread::Bytes(MINING_UNREAD_BYTES_MAX);
        let writer = Outbox::new(write, transport.encoder, unread_max);
        let session = mining::sv2::Session::new(Arc::clone(&mining.deps), now());
        let records = Records::v2(Arc::clone(&shared), remote, number);
        Connection::new(reader, writer, session, records, shared, &mining).serve(shutdown).await;
    }
    .instrument(span)
    .await;
}

/// Serves one accepted socket of a Stratum V1 miner until it ends.
pub(crate) async fn serve_v1<S>(
    stream: S,
    remote: SocketAddr,
    number: u64,
    shared: Arc<Shared>,
    mining: Arc<Mining>,
    shutdown: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let span = info_span!("mining_v1", id = number, %remote);
    async move {
        let _counted = shared.counts.mining_v1.connections.part(1);
        let (read, write) = tokio::io::split(stream);
        let (reader, writer) = (LineReader::new(read), LineWriter::new(write));
        let session = mining::sv1::Session::new(Arc::clone(&mining.deps), now());
        let records = Records::v1(Arc::clone(&shared), remote, number);
        Connection::new(reader, writer, session, records, shared, &mining).serve(shutdown).await;
    }
    .instrument(span)
    .await;
}

/// A connection, and what it waits for.
struct Connection<R, W, S> {
    reader: R,
    writer: W,
    session: S,
    records: Records,
    durable: WhenDurable<Outgoing>,
    /// What all connections hold until it is durable, and this one's part of it.
    held: (Gauge, Part),
    tips: watch::Receiver<Option<ChainTip>>,
    work: watch::Receiver<Option<Arc<PoolWork>>>,
    /// Checks of custom jobs under way.
    checks: Checks,
    custom_jobs: Arc<CustomJobs>,
    found: FoundTurns,
    /// Holds back who wants to mine until it is known whether that user may.
    gate: Gate<Received>,
    /// The server ends.
    draining: Option<Draining>,
    shared: Arc<Shared>,
}

enum Wake {
    Received(Received),
    Durable(Option<Outgoing>),
    Checked(Checked),
    /// What was held back, and whether its user may; none if that is not known.
    Passed(Option<(Received, bool)>),
    Tip,
    Work,
    Flushed,
    Tick,
    Shutdown,
    Drained,
}

impl<R: Receive, W: Leave, S: Session> Connection<R, W, S> {
    fn new(
        reader: R,
        writer: W,
        session: S,
        records: Records,
        shared: Arc<Shared>,
        mining: &Mining,
    ) -> Self {
        let (mut tips, mut work) = (shared.nodes.watch_tip(), mining.feed.clone());
        // What there is now counts as news.
        tips.mark_changed();
        work.mark_changed();
        let (durable, checks) = (WhenDurable::default(), Checks::default());
        Self {
            reader,
            writer,
            session,
            records,
            durable,
            held: (mining.held.clone(), mining.held.part(0)),
            tips,
            work,
            checks,
            custom_jobs: Arc::clone(&mining.custom_jobs),
            found: FoundTurns::default(),
            gate: Gate::new(Arc::clone(&shared.user_check)),
            draining: None,
            shared,
        }
    }

    async fn serve(mut self, mut shutdown: watch::Receiver<bool>) {
        let ended = self.run(&mut shutdown).await;
        self.finish(&ended).await;
        info!(reason = %ended, "connection ended");
    }

    async fn run(&mut self, shutdown: &mut watch::Receiver<bool>) -> Ended {
        loop {
            if let Err(ended) = self.act().await {
                return ended;
            }
            let wake = match self.wait(shutdown).await {
                Ok(wake) => wake,
                Err(ended) => return ended,
            };
            match wake {
                Wake::Received(received) => self.on_received(received),
                Wake::Passed(Some((received, allowed))) => self.hand_in(&received, allowed),
                Wake::Durable(None) | Wake::Flushed | Wake::Passed(None) => {}
                Wake::Durable(Some(message)) => {
                    if let Err(ended) = self.writer.queue(&message) {
                        return ended;
                    }
                }
                Wake::Checked(Checked { request_id, channel_id, verdict }) => {
                    let input = Input::CustomJob { request_id, channel_id, verdict };
                    self.session.handle(input, now());
                }
                Wake::Tip => {
                    let tip = *self.tips.borrow_and_update();
                    if let Some(tip) = tip {
                        self.session.handle(Input::Tip(tip), now());
                    }
                }
                Wake::Work => {
                    let work = self.work.borrow_and_update().clone();
                    if let Some(work) = work {
                        self.session.handle(Input::Work(work), now());
                    }
                }
                Wake::Tick => self.session.handle(Input::Tick, now()),
                // What the miner has sent by now is judged first.
                Wake::Shutdown => self.draining = Some(Draining::begin(Instant::now())),
                Wake::Drained => {
                    self.session.handle(Input::Shutdown, now());
                    return self.act().await.err().unwrap_or(Ended::Shutdown);
                }
            }
        }
    }

    /// To the session, once it is known that its user may mine here.
    fn on_received(&mut self, received: Received) {
        if let Some(draining) = &mut self.draining {
            draining.received(received.bytes());
            // Nothing begins any more that would have to be waited for, and bounded.
            if received.is_custom_job() {
                return;
            }
        }
        let identity = if self.gate.is_open() { None } else { received.asks_for() };
        let Some(identity) = identity else { return self.hand_in(&received, true) };
        let passed = match &self.draining {
            None => self.gate.pass(&identity, received),
            Some(_) => self.gate.pass_if_known(&identity, received).ok(),
        };
        if let Some(passed) = passed {
            self.hand_in(&passed.held, passed.allowed);
        }
    }

    fn hand_in(&mut self, received: &Received, allowed: bool) {
        let input = match (received, allowed) {
            (Received::Frame(frame), true) => {
                let (msg_type, bytes) = (frame.header.msg_type, frame.payload.len());
                debug!(msg_type, bytes, "received");
                Input::Frame(frame)
            }
            (Received::Frame(frame), false) => Input::StrangerFrame(frame),
            (Received::Line(line), true) => Input::Line(line),
            (Received::Line(line), false) => Input::StrangerLine(line),
            (Received::Nothing, _) => return,
        };
        self.session.handle(input, now());
    }

    async fn wait(&mut self, shutdown: &mut watch::Receiver<bool>) -> Result<Wake, Ended> {
        let is_set_up = self.session.is_set_up();
        let deadline = self.session.poll_timeout();
        let deadline = deadline.unwrap_or_else(|| Instant::now() + FRAME_TIMEOUT);
        // A peer that we can not keep up with is not read. At the end it is, within its bounds of time
        // and bytes: a block may be behind what it waits for.
        let keeps_up = self.holds().leave_room() && !self.gate.is_full();
        let reads = keeps_up || self.draining.is_some();
        // One that reads slowly skips work that is not the newest any more.
        let idle = self.writer.is_idle();
        let is_draining = self.draining.is_some();
        let deadline = match &self.draining {
            Some(draining) if draining.is_over(Instant::now()) => return Ok(Wake::Drained),
            Some(draining) => deadline.min(draining.until()),
            None => deadline,
        };
        tokio::select! {
            biased;
            _ = shutdown.wait_for(|down| *down), if !is_draining => Ok(Wake::Shutdown),
            changed = self.tips.changed() => {
                changed.map_err(|_| Ended::Shutdown).map(|()| Wake::Tip)
            }
            flushed = self.writer.flush(), if !idle => flushed.map(|()| Wake::Flushed),
            changed = self.work.changed(), if idle => {
                changed.map_err(|_| Ended::Shutdown).map(|()| Wake::Work)
            }
            // Answers that waited are many: each has its time to leave.
            message = self.durable.next(),
                if !self.durable.is_empty() && (idle || !self.durable.has_message()) =>
            {
                Ok(Wake::Durable(message?))
            }
            Some(checked) = self.checks.next(), if !self.checks.is_empty() => {
                Ok(Wake::Checked(checked))
            }
            passed = self.gate.next(), if !self.gate.is_empty() => {
                Ok(Wake::Passed(passed.map(|passed| (passed.held, passed.allowed))))
            }
            received = self.reader.next(is_set_up), if reads => received.map(Wake::Received),
            () = nothing_comes(), if is_draining && reads => match self.reader.is_idle() {
                true => Ok(Wake::Drained),
                false => Ok(Wake::Tick),
            },
            () = sleep_until(deadline.into()) => Ok(Wake::Tick),
        }
    }

    /// Carries out everything that the session wants done.
    async fn act(&mut self) -> Result<(), Ended> {
        // A block is on its way before anything else is done.
        let mut actions = VecDeque::new();
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Found(share) => {
                    let (shared, turns) = (&self.shared, &self.found);
                    let kept = Solvers::found(shared, turns, share, Instant::now()).await;
                    self.durable.after_block(kept);
                }
                other => actions.push_back(other),
            }
        }
        // The channels close for it.
        if let Some(reason) = actions.iter().find_map(reason_to_close) {
            self.records.ends(reason);
        }
        let mut close = None;
        for action in actions {
            match action {
                Action::Found(_) => {}
                Action::Send(message) => self.writer.queue(&Outgoing::Frame(message))?,
                Action::Line(line) => self.writer.queue(&Outgoing::Line(line))?,
                Action::SendWhenDurable(message) => self.when_durable(Outgoing::Frame(message))?,
                Action::LineWhenDurable(line) => self.when_durable(Outgoing::Line(line))?,
                Action::Share(share) => self.records.share(*share),
                Action::Negotiated(job) => self.records.negotiated(&job),
                Action::Opened(channel) => self.records.opened(&channel),
                Action::Target(target) => self.records.target(&target),
                Action::Closed(channel) => self.records.closed(&channel),
                Action::CheckCustomJob(request) => self.check(*request),
                Action::Close(reason) => close = Some(reason),
            }
        }
        self.commit();
        close.map_or(Ok(()), |reason| Err(Ended::Mining(reason)))
    }

    /// What is held of this connection now, and of all.
    fn holds(&mut self) -> Held {
        let shares = self.durable.held() + self.records.uncommitted();
        let (all, own) = &mut self.held;
        own.set(shares as u64);
        Held {
            shares,
            shares_of_all: all.get(),
            blocks: self.durable.blocks(),
            custom_jobs: self.checks.len(),
        }
    }

    /// Begins to make durable what is recorded so far, or collects it while a commit is under way.
    fn commit(&mut self) {
        if self.records.uncommitted() == 0 {
            return;
        }
        if self.durable.is_committing() {
            self.durable.after_collected();
        } else {
            self.commit_now();
        }
    }

    fn commit_now(&mut self) {
        let shares = self.records.uncommitted();
        if shares > 0 {
            self.durable.after(self.records.commit(), shares);
        }
    }

    fn when_durable(&mut self, message: Outgoing) -> Result<(), Ended> {
        self.commit();
        if self.durable.is_empty() {
            return self.writer.queue(&message);
        }
        self.durable.message(message);
        Ok(())
    }

    fn check(&mut self, request: mining::CustomJobRequest) {
        let (request_id, channel_id) = (request.job.request_id, request.job.channel_id);
        let (custom_jobs, number) = (Arc::clone(&self.custom_jobs), self.records.connection_id());
        let check = async move { custom_jobs.check(number, request).await };
        self.checks.begin((request_id, channel_id), check);
    }

    /// Lets what was answered become durable and reach the peer before the socket closes.
    async fn finish(&mut self, ended: &Ended) {
        self.records.ends(&ended.to_string());
        self.session.handle(Input::Disconnected, now());
        // What it still says is for the records alone.
        let _ = self.act().await;
        self.commit_now();
        let rest = async {
            while !self.durable.is_empty() {
                if let Some(message) = self.durable.next().await?
                    && ended.peer_may_read()
                {
                    self.writer.queue(&message)?;
                    self.writer.flush().await?;
                }
            }
            Ok::<_, Ended>(())
        };
        if !matches!(timeout(WRITE_TIMEOUT, rest).await, Ok(Ok(()))) {
            debug!("not everything that was done became durable in time");
        }
        self.records.ended();
        self.writer.finish(ended).await;
    }
}

fn reason_to_close(action: &Action) -> Option<&str> {
    match action {
        Action::Close(reason) => Some(reason),
        _ => None,
    }
}
