//! One job declaration connection as a state machine: no socket, no clock, no thread.
//!
//! Inputs go in with the time, actions come out in order. Everything that takes time happens
//! outside and comes back as an input.

#![deny(clippy::indexing_slicing)]

mod action;
mod declare;
mod setup;
mod solution;
#[cfg(test)]
mod tests;
mod users;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jds_wire::limits::{
    ConnectionState, DECLARE_MINING_JOB_BYTES_MAX, PROVIDE_MISSING_TRANSACTIONS_SUCCESS_BYTES_MAX,
};
use jds_wire::message::{MessageError, constants as c};
use jds_wire::{ClientMessage, Frame, FrameHeader, ServerMessage};
use validation::rejection::{Reason, Rejection};

pub use action::{
    Action, CloseReason, Declared, DeclaredResult, Input, OwnedSolution, Record, Solve, Violation,
};
use users::Users;

use crate::budget::Permit;
use crate::jobs::{Declarer, Jobs, User};
use crate::limits::{
    FIRST_REQUEST_TIMEOUT, FRAME_BYTES_PER_SECOND_MIN, FRAME_TIMEOUT, MISSING_TXS_EXTENSION,
    MISSING_TXS_TIMEOUT, SETUP_TIMEOUT,
};
use crate::payout::PayoutTerms;
use crate::spent::SpentTokens;
use crate::token::TokenMint;
use crate::validator::Draft;

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
    /// A session right after the handshake.
    pub fn new(deps: Arc<SessionDeps>, declarer: Declarer, now: Instant) -> Self {
        Self {
            deps,
            phase: Phase::BeforeSetup { deadline: now + SETUP_TIMEOUT },
            users: Users::default(),
            pending: HashMap::new(),
            declarer,
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
            // The protocol has no answer to a refused allocation, and silence would keep the client.
            Input::Stranger => Err(Violation::Stranger),
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
            self.give_up(request_id, rejection);
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
                let bytes = frame.payload.len() as u64;
                self.on_declare(&declare, full_template, (bytes, permit), now);
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
                let rejection = Rejection::new(Reason::AnswerTooLarge)
                    .expected(format_args!("at-most-{max}"))
                    .actual(actual);
                self.give_up(request_id, rejection);
            }
            _ => self.record(Record::Ignored("message too large to read")),
        }
    }
}

/// Longest time that the largest answer may take to arrive.
fn answer_time_max() -> Duration {
    let bytes = PROVIDE_MISSING_TRANSACTIONS_SUCCESS_BYTES_MAX as u64;
    FRAME_TIMEOUT + Duration::from_secs(bytes / FRAME_BYTES_PER_SECOND_MIN)
}
