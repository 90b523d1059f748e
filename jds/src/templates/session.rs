//! One template distribution connection as a state machine: no socket, no clock, no thread.
//!
//! Inputs go in with the time, actions come out in order. Messages are asked for one by one, each
//! time the line is free: so what is sent is the newest there is, and nothing piles up.
#![deny(clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bitcoin::BlockHash;
use jds_wire::Frame;
use jds_wire::message::template::{
    CoinbaseOutputConstraints, RequestTransactionDataError, SubmitSolution, TemplateClientMessage,
    TemplateServerMessage,
};
use jds_wire::message::{self, CORE_EXTENSION_TYPE, MessageError, constants as c};
use tracing::{debug, error, info, warn};
use validation::tip::ChainTip;

pub use super::outgoing::Outgoing;
use super::{Built, Lookup, Room, TemplateSolution, Templates, is_same_work};
use crate::limits::{FIRST_REQUEST_TIMEOUT, SETUP_TIMEOUT, TEMPLATE_REQUESTS_QUEUED_MAX};
use crate::session::{CloseReason, Violation};

/// What a session is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// A frame came.
    Frame(&'a Frame),
    /// There is this to mine, in the client's room.
    Work(Arc<Built>),
    /// Time passed.
    Tick,
}

/// What a session wants done.
#[derive(Debug)]
pub enum Action {
    /// Give it work for this room from now on.
    Constrain(Room),
    /// Make a block of this.
    Solve(Arc<Built>, TemplateSolution),
    /// End the connection, after what is still to be sent.
    Close(CloseReason),
}

/// The state of one connection.
#[derive(Debug)]
pub struct TemplateSession {
    templates: Arc<Templates>,
    phase: Phase,
    flags: u32,
    /// The newest work.
    work: Option<Arc<Built>>,
    sent: Option<Sent>,
    /// To be sent before anything else.
    first: VecDeque<Outgoing>,
    /// Answers to requests, made when they are sent.
    answers: VecDeque<Answer>,
    actions: VecDeque<Action>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    BeforeSetup { deadline: Instant },
    BeforeConstraints { deadline: Instant },
    Open,
    Closed,
}

/// What the client works on, as far as we sent it.
#[derive(Debug)]
struct Sent {
    tip: ChainTip,
    template_id: u64,
}

#[derive(Debug)]
enum Answer {
    Data(Arc<Built>),
    Error { template_id: u64, code: &'static str },
}

impl TemplateSession {
    /// A session right after the handshake.
    pub fn new(templates: Arc<Templates>, now: Instant) -> Self {
        Self {
            templates,
            phase: Phase::BeforeSetup { deadline: now + SETUP_TIMEOUT },
            flags: 0,
            work: None,
            sent: None,
            first: VecDeque::new(),
            answers: VecDeque::new(),
            actions: VecDeque::new(),
        }
    }

    /// Takes one input in.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) {
        if self.phase == Phase::Closed {
            return;
        }
        let result = match input {
            Input::Frame(frame) => self.on_frame(frame, now),
            Input::Work(work) => {
                self.work = Some(work);
                Ok(())
            }
            Input::Tick => self.on_tick(now),
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
        match self.phase {
            Phase::BeforeSetup { deadline } | Phase::BeforeConstraints { deadline } => {
                Some(deadline)
            }
            Phase::Open | Phase::Closed => None,
        }
    }

    /// `SetupConnection` was accepted.
    pub fn is_set_up(&self) -> bool {
        matches!(self.phase, Phase::BeforeConstraints { .. } | Phase::Open)
    }

    /// The flags of `SetupConnection` (SV2 3.6.1).
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// What the client works on, as far as we sent it.
    pub fn tip(&self) -> Option<BlockHash> {
        self.sent.as_ref().map(|sent| sent.tip.hash)
    }

    /// The next message for the client, to be called when the line is free: answers of the
    /// protocol's beginning, then work, then transactions. `now_unix_s`: Unix seconds.
    pub fn next_message(&mut self, now_unix_s: u32) -> Option<Outgoing> {
        self.first.pop_front().or_else(|| self.next_work(now_unix_s)).or_else(|| self.next_answer())
    }

    fn next_work(&mut self, now_unix_s: u32) -> Option<Outgoing> {
        if self.phase != Phase::Open {
            return None;
        }
        let work = self.work.clone()?;
        let same_tip = self.sent.as_ref().is_some_and(|sent| is_same_work(&sent.tip, work.tip()));
        if same_tip && self.sent.as_ref().is_some_and(|sent| sent.template_id == work.id()) {
            return None;
        }
        if !same_tip {
            // Behind the template that it makes the work of now.
            let prev_hash = work.set_new_prev_hash(now_unix_s);
            self.send(TemplateServerMessage::SetNewPrevHash(prev_hash));
        }
        self.sent = Some(Sent { tip: *work.tip(), template_id: work.id() });
        let payload = work.message(!same_tip);
        debug!(template = work.id(), future = !same_tip, txs = work.txs().len(), "template sent");
        let (extension_type, msg_type) = (CORE_EXTENSION_TYPE, c::MESSAGE_TYPE_NEW_TEMPLATE);
        Some(Outgoing { extension_type, msg_type, payload })
    }

    fn next_answer(&mut self) -> Option<Outgoing> {
        match self.answers.pop_front()? {
            Answer::Error { template_id, code } => {
                encoded(TemplateServerMessage::RequestTransactionDataError(
                    RequestTransactionDataError { template_id, error_code: code.into() },
                ))
            }
            Answer::Data(built) => {
                let payload = built.transaction_data().inspect_err(could_not_encode).ok()?;
                let msg_type = c::MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_SUCCESS;
                Some(Outgoing { extension_type: CORE_EXTENSION_TYPE, msg_type, payload })
            }
        }
    }

    fn close(&mut self, reason: CloseReason) {
        self.phase = Phase::Closed;
        self.answers.clear();
        self.actions.push_back(Action::Close(reason));
    }

    fn send(&mut self, message: TemplateServerMessage<'_>) {
        self.first.extend(encoded(message));
    }

    fn on_tick(&self, now: Instant) -> Result<(), Violation> {
        match self.phase {
            Phase::BeforeSetup { deadline } if now >= deadline => {
                Err(Violation::SetupTimeout(SETUP_TIMEOUT.as_millis()))
            }
            Phase::BeforeConstraints { deadline } if now >= deadline => {
                Err(Violation::FirstRequestTimeout(FIRST_REQUEST_TIMEOUT.as_millis()))
            }
            _ => Ok(()),
        }
    }

    fn on_frame(&mut self, frame: &Frame, now: Instant) -> Result<(), Violation> {
        let before_setup = !self.is_set_up();
        let message = match TemplateClientMessage::from_frame(frame) {
            // An extension that nobody negotiated is not for us (SV2 3.4).
            Err(MessageError::UnknownExtension { .. }) if !before_setup => return Ok(()),
            Err(error) => return Err(Violation::Malformed(error)),
            Ok(TemplateClientMessage::SetupConnection(setup)) if before_setup => {
                self.on_setup(&setup, now);
                return Ok(());
            }
            Ok(_) if before_setup => return Err(Violation::BeforeSetup(frame.header.msg_type)),
            Ok(message) => message,
        };
        let constrained = self.phase == Phase::Open;
        match message {
            TemplateClientMessage::SetupConnection(_) => Err(Violation::SecondSetup),
            TemplateClientMessage::RequestExtensions(request) => {
                self.check_unread(self.first.len())?;
                let none = message::RequestExtensionsError {
                    request_id: request.request_id,
                    unsupported: request.requested,
                    required: Vec::new(),
                };
                self.send(TemplateServerMessage::RequestExtensionsError(none));
                Ok(())
            }
            TemplateClientMessage::CoinbaseOutputConstraints(constraints) => {
                self.on_constraints(&constraints)
            }
            // A block found on a connection before this one is a block all the same.
            TemplateClientMessage::SubmitSolution(solution) => {
                self.on_solution(&solution, now);
                Ok(())
            }
            TemplateClientMessage::RequestTransactionData(_) if !constrained => {
                Err(Violation::BeforeConstraints(frame.header.msg_type))
            }
            TemplateClientMessage::RequestTransactionData(request) => {
                self.on_request(request.template_id, now)
            }
        }
    }

    fn on_setup(&mut self, setup: &message::SetupConnection<'_>, now: Instant) {
        let refusal = if setup.protocol != c::SV2_TEMPLATE_DISTRIBUTION_PROTOCOL_DISCRIMINANT {
            Some((c::ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_PROTOCOL, 0))
        } else if !(setup.min_version..=setup.max_version).contains(&message::PROTOCOL_VERSION) {
            Some((c::ERROR_CODE_SETUP_CONNECTION_PROTOCOL_VERSION_MISMATCH, 0))
        } else if setup.flags != 0 {
            // None are defined for this protocol.
            Some((c::ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_FEATURE_FLAGS, setup.flags))
        } else {
            None
        };
        if let Some((code, flags)) = refusal {
            let error = message::SetupConnectionError { flags, error_code: code.into() };
            self.send(TemplateServerMessage::SetupConnectionError(error));
            self.close(CloseReason::SetupRefused(code));
            return;
        }
        self.flags = setup.flags;
        self.phase = Phase::BeforeConstraints { deadline: now + FIRST_REQUEST_TIMEOUT };
        let used_version = message::PROTOCOL_VERSION;
        let success = message::SetupConnectionSuccess { used_version, flags: 0 };
        self.send(TemplateServerMessage::SetupConnectionSuccess(success));
        let printable = |bytes| String::from_utf8_lossy(bytes).escape_debug().to_string();
        info!(
            vendor = printable(setup.vendor),
            firmware = printable(setup.firmware),
            "set up for templates"
        );
    }

    fn on_constraints(&mut self, constraints: &CoinbaseOutputConstraints) -> Result<(), Violation> {
        let room = Room::beside(constraints)
            .ok_or(Violation::ConstraintsTooLarge(constraints.max_additional_size))?;
        self.phase = Phase::Open;
        // The answer is a template with its SetNewPrevHash, the first time and each time.
        (self.work, self.sent) = (None, None);
        self.actions.push_back(Action::Constrain(room));
        Ok(())
    }

    fn on_request(&mut self, template_id: u64, now: Instant) -> Result<(), Violation> {
        self.check_unread(self.answers.len())?;
        self.answers.push_back(match self.templates.get(template_id, now) {
            Lookup::Kept(built) => Answer::Data(built),
            Lookup::Stale => {
                let code = c::ERROR_CODE_REQUEST_TRANSACTION_DATA_STALE_TEMPLATE_ID;
                Answer::Error { template_id, code }
            }
            Lookup::Unknown => {
                let code = c::ERROR_CODE_REQUEST_TRANSACTION_DATA_TEMPLATE_ID_NOT_FOUND;
                Answer::Error { template_id, code }
            }
        });
        Ok(())
    }

    fn check_unread(&self, waiting: usize) -> Result<(), Violation> {
        match waiting < TEMPLATE_REQUESTS_QUEUED_MAX {
            true => Ok(()),
            false => Err(Violation::RequestsUnread(TEMPLATE_REQUESTS_QUEUED_MAX)),
        }
    }

    fn on_solution(&mut self, solution: &SubmitSolution<'_>, now: Instant) {
        match self.templates.get(solution.template_id, now) {
            Lookup::Kept(built) => {
                let solution = TemplateSolution {
                    version: solution.version,
                    ntime: solution.header_timestamp,
                    nonce: solution.header_nonce,
                    coinbase: solution.coinbase_tx.to_vec(),
                };
                self.actions.push_back(Action::Solve(built, solution));
            }
            // The protocol has no answer.
            lookup => {
                let stale = matches!(lookup, Lookup::Stale);
                warn!(template = solution.template_id, stale, "a solution for no template");
            }
        }
    }
}

fn encoded(message: TemplateServerMessage<'_>) -> Option<Outgoing> {
    let encoded = message.encode().inspect_err(could_not_encode).ok()?;
    let (extension_type, msg_type) = (encoded.extension_type, encoded.msg_type);
    Some(Outgoing { extension_type, msg_type, payload: encoded.payload.into() })
}

/// A message of ours that fits no frame would be a defect of ours.
fn could_not_encode(error: &message::EncodeError) {
    error!(%error, "an answer could not be encoded");
}
