//! What goes into a session and what comes out of it.

use std::sync::Arc;
use std::time::Instant;

use jds_wire::ServerMessage;
use jds_wire::message::MessageError;
use validation::rejection::Rejection;

use crate::jobs::{Job, User};
use crate::payout::TermsError;
use crate::validator::{Declaration, Draft, Outcome};

/// Something that happened to the session.
#[derive(Debug)]
pub enum Input<'a> {
    /// A whole frame of the peer.
    Frame(&'a jds_wire::Frame, crate::budget::Permit),
    /// A frame that was too large to take in, and its first bytes.
    Oversized(jds_wire::FrameHeader, &'a [u8]),
    /// A token was asked for by a user who may not declare here.
    Stranger,
    /// Validation went on.
    Validated {
        /// Of the declaration.
        request_id: u32,
        /// How.
        outcome: Box<Outcome>,
    },
    /// Time passed; see [`super::Session::poll_timeout`].
    Tick {
        /// A frame of the peer is partly here.
        receiving: bool,
    },
}

/// Something to be done for the session, in order.
#[derive(Debug)]
pub enum Action {
    /// To the peer.
    Send(ServerMessage),
    /// Run the rules; the answer comes as [`Input::Validated`].
    Validate(Box<Declaration>),
    /// Run the rules with the transactions supplied; the answer comes as [`Input::Validated`].
    Complete(Box<Draft>, Vec<Vec<u8>>),
    /// End a declaration whose transactions did not come as they should; the answer comes as
    /// [`Input::Validated`].
    GiveUp(Box<Draft>, Rejection),
    /// Make a block of it. Nothing may wait in front of this.
    Solve(Solve),
    /// Tell the operator.
    Record(Record),
    /// End the connection once everything before this is sent.
    Close(CloseReason),
}

/// A solution and where to look for its job.
#[derive(Debug)]
pub struct Solve {
    /// As sent.
    pub solution: OwnedSolution,
    /// Jobs of this connection, newest first, then those of its users on other connections. For
    /// a solution that came before its declaration was accepted: that job alone.
    pub jobs: Vec<Arc<Job>>,
    /// Users of this connection whose jobs count; none where `jobs` is all there is to try.
    pub users: Vec<Arc<User>>,
}

/// `PushSolution` (SV2 6.4.9), off the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedSolution {
    /// The full extranonce.
    pub extranonce: Vec<u8>,
    /// Hash of the parent, bytes as they are hashed.
    pub prev_hash: [u8; 32],
    /// Header nonce.
    pub nonce: u32,
    /// Header time, Unix seconds.
    pub ntime: u32,
    /// Header version.
    pub version: u32,
}

/// What an operator wants to know.
#[derive(Debug)]
pub enum Record {
    /// The connection is set up.
    SetUp {
        /// Flags of the message.
        flags: u32,
        /// The peer will reveal its transactions (full-template mode).
        full_template: bool,
        /// What it calls itself, escaped.
        vendor: String,
        /// And its version.
        firmware: String,
    },
    /// A token was given out.
    TokenAllocated {
        /// To whom.
        user: Arc<User>,
        /// It is the first one of that user on this connection.
        first: bool,
        /// Number of the token.
        sequence: u64,
    },
    /// A declaration has its answer.
    Declared(Declared),
    /// Transactions were asked of the peer.
    TxsAsked {
        /// Of the declaration.
        request_id: u32,
        /// How many.
        count: usize,
    },
    /// A message that is of no use here was passed over.
    Ignored(&'static str),
}

/// A declaration with its answer, for one line of log.
#[derive(Debug)]
pub struct Declared {
    /// Of the message.
    pub request_id: u32,
    /// Whose, where the token told.
    pub user: Option<Arc<User>>,
    /// When its last byte came.
    pub received: Instant,
    /// The answer.
    pub result: DeclaredResult,
}

/// See [`Declared`].
#[derive(Debug)]
pub enum DeclaredResult {
    /// Accepted.
    Accepted {
        /// The job.
        job: Arc<Job>,
        /// Transactions that the peer had to supply.
        missing: usize,
        /// What the consensus check said, where the answer waited for it.
        checked: Option<crate::check::Checked>,
    },
    /// Rejected.
    Rejected(Rejection),
}

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// `SetupConnection` was answered with an error.
    #[error("set-up refused: {0}")]
    SetupRefused(&'static str),
    /// The peer broke the protocol.
    #[error("{0}")]
    Violation(#[from] Violation),
}

/// What a peer did that the protocol does not allow. States the fact; what follows is decided in
/// one place, where the connection is driven.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// No `SetupConnection` in time.
    #[error("no SetupConnection within {0} ms of the handshake")]
    SetupTimeout(u128),
    /// Set up, then silent.
    #[error("no request within {0} ms of SetupConnection")]
    FirstRequestTimeout(u128),
    /// Another message came first.
    #[error("message type {0:#04x} before SetupConnection")]
    BeforeSetup(u8),
    /// A second `SetupConnection`.
    #[error("a second SetupConnection")]
    SecondSetup,
    /// In template distribution: another message came before its constraints.
    #[error("message type {0:#04x} before CoinbaseOutputConstraints")]
    BeforeConstraints(u8),
    /// In template distribution: no block could hold so large outputs.
    #[error("no block has room for {0} bytes of coinbase outputs")]
    ConstraintsTooLarge(u32),
    /// In template distribution: it asks without reading.
    #[error("{0} requests are unanswered, as the answers are not read")]
    RequestsUnread(usize),
    /// Not a message.
    #[error("malformed message: {0}")]
    Malformed(MessageError),
    /// The operator does not know the user.
    #[error("its user may not declare here")]
    Stranger,
    /// In solo mode: the user named nobody who could be paid.
    #[error("{0}")]
    Terms(String),
}

impl From<TermsError> for Violation {
    fn from(error: TermsError) -> Self {
        Self::Terms(error.to_string())
    }
}
