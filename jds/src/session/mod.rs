//! One job declaration connection as a state machine: no socket, no clock, no thread.
//!
//! Inputs go in with the time, actions come out in order. Everything that takes time happens
//! outside and comes back as an input.

#![deny(clippy::indexing_slicing)]

mod action;
#[cfg(test)]
mod tests;
mod users;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::Wtxid;
use bitcoin::hashes::Hash;
use jds_wire::limits::{
    ConnectionState, DECLARE_MINING_JOB_BYTES_MAX, PROVIDE_MISSING_TRANSACTIONS_SUCCESS_BYTES_MAX,
};
use jds_wire::message::{self, MessageError, constants as c};
use jds_wire::{ClientMessage, Frame, FrameHeader, ServerMessage};
use validation::rejection::{Reason, Rejection};

pub use action::{
    Action, CloseReason, Declared, DeclaredResult, Input, OwnedSolution, Record, Solve, Violation,
};
use users::Users;

use crate::budget::Permit;
use crate::jobs::{Declarer, Job, Jobs, User};
use crate::limits::{
    DECLARATIONS_PENDING_PER_CONNECTION_MAX, FIRST_REQUEST_TIMEOUT, FRAME_BYTES_PER_SECOND_MIN,
    FRAME_TIMEOUT, MISSING_TXS_EXTENSION, MISSING_TXS_TIMEOUT, SETUP_TIMEOUT, SOLUTION_JOBS_MAX,
    SOLUTION_KEPT, SOLUTIONS_KEPT_PER_CONNECTION_MAX,
};
use crate::payout::PayoutTerms;
use crate::spent::SpentTokens;
use crate::token::TokenMint;
use crate::validator::{Declaration, Draft, Outcome};

/// What all sessions share.
#[derive(Debug)]
pub struct SessionDeps {
    /// Makes and checks tokens.
    pub mint: TokenMint,
    /// Tokens used up.
    pub spent: SpentTokens,
    /// Who is paid.
    pub payout: PayoutTerms,
    /// Accepted jobs.
    pub jobs: Arc<Jobs>,
    /// Full-template mode is offered.
    pub full_template: bool,
    /// Coinbase-only mode is offered.
    pub coinbase_only: bool,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    deps: Arc<SessionDeps>,
    phase: Phase,
    users: Users,
    pending: HashMap<u32, Pending>,
    declarer: Declarer,
    /// Solutions that came while declarations had no answer, and when.
    early: VecDeque<(Instant, OwnedSolution)>,
    actions: VecDeque<Action>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    BeforeSetup { deadline: Instant },
    Idle { deadline: Instant, full_template: bool },
    Open { full_template: bool },
    Closed,
}

#[derive(Debug)]
struct Pending {
    user: Arc<User>,
    received: Instant,
    awaiting: Option<Awaiting>,
}

#[derive(Debug)]
struct Awaiting {
    draft: Box<Draft>,
    deadline: Instant,
    /// How far the deadline may be moved while the peer is sending.
    deadline_last: Instant,
}

/// A moment in both of the clocks that a session needs.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For time-outs.
    pub instant: Instant,
    /// For tokens: microseconds of Unix time.
    pub unix_us: u64,
}

impl Session {
    /// A session right after the handshake. `connection` is a number of its own in this process.
    pub fn new(deps: Arc<SessionDeps>, connection: u64, now: Instant) -> Self {
        Self {
            deps,
            phase: Phase::BeforeSetup { deadline: now + SETUP_TIMEOUT },
            users: Users::default(),
            pending: HashMap::new(),
            declarer: Declarer::new(connection),
            early: VecDeque::new(),
            actions: VecDeque::new(),
        }
    }

    /// Takes one input in. Whatever follows comes out of [`Self::poll_action`].
    pub fn handle(&mut self, input: Input<'_>, now: Now) {
        if self.phase == Phase::Closed {
            return;
        }
        let result = match input {
            Input::Frame(frame, permit) => self.on_frame(frame, permit, now),
            Input::Oversized(header, head) => {
                self.on_oversized(header, head, now);
                Ok(())
            }
            Input::Validated { request_id, outcome } => {
                self.on_outcome(request_id, *outcome, now);
                Ok(())
            }
            Input::Tick { receiving } => self.on_tick(receiving, now.instant),
        };
        if let Err(violation) = result {
            self.close(violation.into());
        }
    }

    /// The next thing to do, if any.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Input::Tick`] has to come at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::BeforeSetup { deadline } | Phase::Idle { deadline, .. } => Some(deadline),
            Phase::Open { .. } | Phase::Closed => None,
        };
        let awaiting =
            self.pending.values().filter_map(|p| p.awaiting.as_ref()).map(|a| a.deadline);
        awaiting.chain(phase).min()
    }

    /// What the size of the next frame is judged by.
    pub fn connection_state(&self) -> ConnectionState {
        match self.phase {
            Phase::BeforeSetup { .. } | Phase::Closed => ConnectionState::BeforeSetup,
            Phase::Idle { .. } | Phase::Open { .. } => ConnectionState::Ready {
                transactions_asked: self.pending.values().any(|p| p.awaiting.is_some()),
            },
        }
    }

    fn close(&mut self, reason: CloseReason) {
        self.phase = Phase::Closed;
        self.pending.clear();
        self.actions.push_back(Action::Close(reason));
    }

    fn send(&mut self, message: ServerMessage) {
        self.actions.push_back(Action::Send(message));
    }

    fn record(&mut self, record: Record) {
        self.actions.push_back(Action::Record(record));
    }

    fn on_tick(&mut self, receiving: bool, now: Instant) -> Result<(), Violation> {
        match self.phase {
            Phase::BeforeSetup { deadline } if now >= deadline => {
                return Err(Violation::SetupTimeout(SETUP_TIMEOUT.as_millis()));
            }
            Phase::Idle { deadline, .. } if now >= deadline => {
                return Err(Violation::FirstRequestTimeout(FIRST_REQUEST_TIMEOUT.as_millis()));
            }
            _ => {}
        }
        let mut late = Vec::new();
        for (request_id, pending) in &mut self.pending {
            match &mut pending.awaiting {
                Some(awaiting) if now < awaiting.deadline => {}
                // What is arriving may be this very answer.
                Some(awaiting) if receiving && now < awaiting.deadline_last => {
                    awaiting.deadline = (now + MISSING_TXS_EXTENSION).min(awaiting.deadline_last);
                }
                Some(_) => late.push(*request_id),
                None => {}
            }
        }
        for request_id in late {
            let rejection = Rejection::new(Reason::NoAnswerInTime)
                .expected(format_args!("within-{}-ms", MISSING_TXS_TIMEOUT.as_millis()));
            self.refuse_pending(request_id, rejection);
        }
        Ok(())
    }

    fn on_frame(&mut self, frame: &Frame, permit: Permit, now: Now) -> Result<(), Violation> {
        let message = match ClientMessage::from_frame(frame) {
            Ok(message) => message,
            Err(error) => return self.on_malformed(frame, error, now),
        };
        let full_template = match (self.phase, &message) {
            (Phase::BeforeSetup { .. }, ClientMessage::SetupConnection(setup)) => {
                self.on_setup(setup, now.instant);
                return Ok(());
            }
            (Phase::BeforeSetup { .. } | Phase::Closed, _) => {
                return Err(Violation::BeforeSetup(frame.header.msg_type));
            }
            (Phase::Idle { full_template, .. } | Phase::Open { full_template }, _) => full_template,
        };
        match message {
            ClientMessage::SetupConnection(_) => return Err(Violation::SecondSetup),
            ClientMessage::RequestExtensions(request) => self.on_request_extensions(request),
            ClientMessage::AllocateMiningJobToken(allocate) => {
                self.phase = Phase::Open { full_template };
                self.on_allocate(&allocate, now)?;
            }
            ClientMessage::DeclareMiningJob(declare) => {
                self.phase = Phase::Open { full_template };
                self.on_declare(&declare, full_template, permit, now);
            }
            ClientMessage::ProvideMissingTransactionsSuccess(supplied) => {
                self.on_supplied(&supplied, permit);
            }
            ClientMessage::PushSolution(solution) => self.on_solution(&solution, now.instant),
        }
        Ok(())
    }

    /// A frame that is not a message: answered where the protocol has an answer.
    fn on_malformed(
        &mut self,
        frame: &Frame,
        error: MessageError,
        now: Now,
    ) -> Result<(), Violation> {
        if matches!(self.phase, Phase::BeforeSetup { .. }) {
            return Err(Violation::Malformed(error));
        }
        match error {
            // An extension that nobody negotiated is not for us (SV2 3.4).
            MessageError::UnknownExtension { .. } => {
                self.record(Record::Ignored("message of an extension that was not negotiated"));
                Ok(())
            }
            _ if frame.header.msg_type == c::MESSAGE_TYPE_DECLARE_MINING_JOB => {
                let Some(request_id) = frame.payload.first_chunk() else {
                    return Err(Violation::Malformed(error));
                };
                let rejection = Rejection::new(Reason::MalformedMessage).actual(error);
                self.refuse(u32::from_le_bytes(*request_id), None, now.instant, rejection);
                Ok(())
            }
            _ => Err(Violation::Malformed(error)),
        }
    }

    fn on_oversized(&mut self, header: FrameHeader, head: &[u8], now: Now) {
        let Some(request_id) = head.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)) else {
            return;
        };
        let actual = header.payload_bytes;
        match header.msg_type {
            c::MESSAGE_TYPE_DECLARE_MINING_JOB => {
                let rejection = Rejection::new(Reason::DeclarationTooLarge)
                    .expected(format_args!("at-most-{DECLARE_MINING_JOB_BYTES_MAX}"))
                    .actual(actual);
                self.refuse(request_id, None, now.instant, rejection);
            }
            c::MESSAGE_TYPE_PROVIDE_MISSING_TRANSACTIONS_SUCCESS => {
                let max = PROVIDE_MISSING_TRANSACTIONS_SUCCESS_BYTES_MAX;
                if self.pending.get(&request_id).is_some_and(|p| p.awaiting.is_some()) {
                    let rejection = Rejection::new(Reason::AnswerTooLarge)
                        .expected(format_args!("at-most-{max}"))
                        .actual(actual);
                    self.refuse_pending(request_id, rejection);
                }
            }
            _ => self.record(Record::Ignored("message too large to read")),
        }
    }

    fn on_setup(&mut self, setup: &message::SetupConnection<'_>, now: Instant) {
        let full_template = setup.declares_tx_data();
        let unknown_flags = setup.flags & !message::FLAG_DECLARE_TX_DATA;
        let refusal = if setup.protocol != c::SV2_JOB_DECLARATION_PROTOCOL_DISCRIMINANT {
            Some((c::ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_PROTOCOL, 0))
        } else if !(setup.min_version..=setup.max_version).contains(&message::PROTOCOL_VERSION) {
            Some((c::ERROR_CODE_SETUP_CONNECTION_PROTOCOL_VERSION_MISMATCH, 0))
        } else if unknown_flags != 0 {
            Some((c::ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_FEATURE_FLAGS, unknown_flags))
        } else if full_template && !self.deps.full_template {
            let flags = message::FLAG_DECLARE_TX_DATA;
            Some((c::ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_FEATURE_FLAGS, flags))
        } else if !full_template && !self.deps.coinbase_only {
            Some((c::ERROR_CODE_SETUP_CONNECTION_MISSING_DECLARE_TX_DATA_FLAG, 0))
        } else {
            None
        };
        if let Some((code, flags)) = refusal {
            let error = message::SetupConnectionError { flags, error_code: code.into() };
            self.send(ServerMessage::SetupConnectionError(error));
            self.close(CloseReason::SetupRefused(code));
            return;
        }
        self.phase = Phase::Idle { deadline: now + FIRST_REQUEST_TIMEOUT, full_template };
        let used_version = message::PROTOCOL_VERSION;
        let success = message::SetupConnectionSuccess { used_version, flags: 0 };
        self.send(ServerMessage::SetupConnectionSuccess(success));
        let printable = |bytes| String::from_utf8_lossy(bytes).escape_debug().to_string();
        self.record(Record::SetUp {
            full_template,
            vendor: printable(setup.vendor),
            firmware: printable(setup.firmware),
        });
    }

    fn on_request_extensions(&mut self, request: message::RequestExtensions) {
        // None is needed here and none is offered; the peer decides what that means to it.
        self.send(ServerMessage::RequestExtensionsError(message::RequestExtensionsError {
            request_id: request.request_id,
            unsupported: request.requested,
            required: Vec::new(),
        }));
    }

    fn on_allocate(
        &mut self,
        allocate: &message::AllocateMiningJobToken<'_>,
        now: Now,
    ) -> Result<(), Violation> {
        let holder = self.users.hold(allocate.user_identifier, &self.deps.payout)?;
        let (sequence, token) = self.deps.mint.allocate(holder.user.tag, now.unix_us);
        holder.gave(sequence);
        let user = Arc::clone(&holder.user);
        let success = message::AllocateMiningJobTokenSuccess {
            request_id: allocate.request_id,
            mining_job_token: token,
            coinbase_outputs: holder.terms.coinbase_outputs.clone(),
        };
        self.send(ServerMessage::AllocateMiningJobTokenSuccess(success));
        self.record(Record::TokenAllocated { user });
        Ok(())
    }

    fn on_declare(
        &mut self,
        declare: &message::DeclareMiningJob<'_>,
        full_template: bool,
        permit: Permit,
        now: Now,
    ) {
        let request_id = declare.request_id;
        let refusal = if !full_template {
            Some(Rejection::new(Reason::CoinbaseOnlyConnection))
        } else if self.pending.contains_key(&request_id) {
            Some(Rejection::new(Reason::RequestIdInUse))
        } else if self.pending.len() >= DECLARATIONS_PENDING_PER_CONNECTION_MAX {
            let max = DECLARATIONS_PENDING_PER_CONNECTION_MAX;
            Some(Rejection::new(Reason::TooManyPending).expected(format_args!("at-most-{max}")))
        } else {
            None
        };
        if let Some(rejection) = refusal {
            self.refuse(request_id, None, now.instant, rejection);
            return;
        }
        let opened = self.deps.mint.open(declare.mining_job_token).and_then(|token| {
            let holder = self.users.owner(token)?;
            if holder.take_unused(token.sequence) {
                // However old: a client may keep the tokens of its start for days.
                self.deps.spent.spend_own(token.sequence, now.unix_us)?;
            } else {
                self.deps.mint.check_age(token, now.unix_us)?;
                self.deps.spent.spend(token.sequence, now.unix_us)?;
            }
            Ok((Arc::clone(&holder.user), Arc::clone(&holder.terms.rules)))
        });
        let (user, rules) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let rejection = Rejection::new(Reason::from(error));
                self.refuse(request_id, None, now.instant, rejection);
                return;
            }
        };
        let pending = Pending { user: Arc::clone(&user), received: now.instant, awaiting: None };
        self.pending.insert(request_id, pending);
        self.actions.push_back(Action::Validate(Box::new(Declaration {
            request_id,
            user,
            declarer: self.declarer.clone(),
            rules,
            version: declare.version,
            coinbase_prefix: declare.coinbase_tx_prefix.to_vec(),
            coinbase_suffix: declare.coinbase_tx_suffix.to_vec(),
            wtxids: declare.wtxids.iter().map(|id| Wtxid::from_byte_array(*id)).collect(),
            received: now.instant,
            permit,
        })));
    }

    fn on_supplied(
        &mut self,
        supplied: &message::ProvideMissingTransactionsSuccess<'_>,
        permit: Permit,
    ) {
        let pending = self.pending.get_mut(&supplied.request_id);
        match pending.and_then(|pending| pending.awaiting.take()) {
            None => self.record(Record::Ignored("transactions that were not asked for")),
            Some(Awaiting { mut draft, .. }) => {
                // The transactions are held until they are judged, and so is their permit.
                draft.hold(permit);
                let answer = supplied.transactions.iter().map(|tx| tx.to_vec());
                self.actions.push_back(Action::Complete(draft, answer.collect()));
            }
        }
    }

    fn on_solution(&mut self, solution: &message::PushSolution<'_>, now: Instant) {
        let solution = OwnedSolution {
            extranonce: solution.extranonce.to_vec(),
            prev_hash: solution.prev_hash,
            nonce: solution.nonce,
            ntime: solution.ntime,
            version: solution.version,
        };
        // A miner need not wait for our answer to begin.
        if !self.pending.is_empty() {
            if self.early.len() >= SOLUTIONS_KEPT_PER_CONNECTION_MAX {
                self.early.pop_front();
            }
            self.early.push_back((now, solution.clone()));
        }
        self.actions.push_back(Action::Solve(Solve {
            solution,
            jobs: self.deps.jobs.candidates(
                &self.declarer,
                self.users.all().map(|user| &user.tag),
                SOLUTION_JOBS_MAX,
            ),
            users: self.users.all().cloned().collect(),
        }));
    }

    /// Tries the solutions on a job that was declared before they came and accepted after.
    fn solve_early(&mut self, job: &Arc<Job>, declared: Instant, now: Instant) {
        self.early.retain(|(came, _)| now.saturating_duration_since(*came) <= SOLUTION_KEPT);
        for (_, solution) in self.early.iter().filter(|(came, _)| *came >= declared) {
            self.actions.push_back(Action::Solve(Solve {
                solution: solution.clone(),
                jobs: vec![Arc::clone(job)],
                users: Vec::new(),
            }));
        }
        if self.pending.is_empty() {
            self.early.clear();
        }
    }

    fn on_outcome(&mut self, request_id: u32, outcome: Outcome, now: Now) {
        match outcome {
            Outcome::NeedTxs(draft) => self.ask(request_id, draft, now.instant),
            Outcome::Accepted { job, missing, checked } => {
                self.on_accepted(request_id, job, missing, checked, now);
            }
            Outcome::Rejected(rejection) => self.refuse_pending(request_id, rejection),
        }
    }

    fn ask(&mut self, request_id: u32, draft: Box<Draft>, now: Instant) {
        let Some(pending) = self.pending.get_mut(&request_id) else { return };
        let unknown_tx_positions = draft.asked.clone();
        let count = unknown_tx_positions.len();
        let deadline = now + MISSING_TXS_TIMEOUT;
        let deadline_last = deadline + answer_time_max();
        pending.awaiting = Some(Awaiting { draft, deadline, deadline_last });
        let ask = message::ProvideMissingTransactions { request_id, unknown_tx_positions };
        self.send(ServerMessage::ProvideMissingTransactions(ask));
        self.record(Record::TxsAsked { request_id, count });
    }

    fn on_accepted(
        &mut self,
        request_id: u32,
        job: Arc<Job>,
        missing: usize,
        checked: Option<crate::check::Checked>,
        now: Now,
    ) {
        let Some(pending) = self.pending.remove(&request_id) else { return };
        self.solve_early(&job, pending.received, now.instant);
        let template = job.accepted.template_hash();
        let new_mining_job_token = self.deps.mint.job(job.user.tag, &template, now.unix_us);
        let success = message::DeclareMiningJobSuccess { request_id, new_mining_job_token };
        self.send(ServerMessage::DeclareMiningJobSuccess(success));
        self.record(Record::Declared(Declared {
            request_id,
            user: Some(pending.user),
            received: pending.received,
            result: DeclaredResult::Accepted { job, missing, checked },
        }));
    }

    fn refuse_pending(&mut self, request_id: u32, rejection: Rejection) {
        let Some(pending) = self.pending.remove(&request_id) else { return };
        if self.pending.is_empty() {
            self.early.clear();
        }
        self.refuse(request_id, Some(pending.user), pending.received, rejection);
    }

    /// The one place where a declaration is answered with an error.
    fn refuse(
        &mut self,
        request_id: u32,
        user: Option<Arc<User>>,
        received: Instant,
        rejection: Rejection,
    ) {
        let error = message::DeclareMiningJobError {
            request_id,
            error_code: rejection.code.as_str().into(),
            error_details: rejection.details(),
        };
        self.send(ServerMessage::DeclareMiningJobError(error));
        let result = DeclaredResult::Rejected(rejection);
        self.record(Record::Declared(Declared { request_id, user, received, result }));
    }
}

/// Longest time that the largest answer may take to arrive.
fn answer_time_max() -> Duration {
    let bytes = PROVIDE_MISSING_TRANSACTIONS_SUCCESS_BYTES_MAX as u64;
    FRAME_TIMEOUT + Duration::from_secs(bytes / FRAME_BYTES_PER_SECOND_MIN)
}
