//! The two kinds of line that miners come over, as one: what comes in, what goes out.

use std::time::Instant;

use jds_wire::limits::admit_for_mining;
use jds_wire::{EncodedMessage, Event, Frame};
use mining::{Action, Input, Now};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::peer::{Ended, Incoming, Outbox};

/// A protocol as a state machine.
pub(super) trait Session: Send {
    /// Takes one input in.
    fn handle(&mut self, input: Input<'_>, now: Now);
    /// The next thing to do, if any.
    fn poll_action(&mut self) -> Option<Action>;
    /// When [`Input::Tick`] has to come at the latest.
    fn poll_timeout(&self) -> Option<Instant>;
    /// Whether the peer has shown that it speaks the protocol: more is read of it then.
    fn is_set_up(&self) -> bool;
}

macro_rules! session {
    ($session:ty) => {
        impl Session for $session {
            fn handle(&mut self, input: Input<'_>, now: Now) {
                Self::handle(self, input, now);
            }

            fn poll_action(&mut self) -> Option<Action> {
                Self::poll_action(self)
            }

            fn poll_timeout(&self) -> Option<Instant> {
                Self::poll_timeout(self)
            }

            fn is_set_up(&self) -> bool {
                Self::is_set_up(self)
            }
        }
    };
}

session!(mining::sv1::Session);
session!(mining::sv2::Session);

/// Something that came.
#[derive(Debug)]
pub(super) enum Received {
    /// A frame.
    Frame(Frame),
    /// A line, without its end.
    Line(Vec<u8>),
    /// What was read past.
    Nothing,
}

impl Received {
    /// How much it is.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.payload.len(),
            Self::Line(line) => line.len(),
            Self::Nothing => 0,
        }
    }

    /// Whether it is a job that the miner chose, which has to be checked.
    pub(super) fn is_custom_job(&self) -> bool {
        match self {
            Self::Frame(frame) => {
                frame.header.msg_type == mining_sv2::MESSAGE_TYPE_SET_CUSTOM_MINING_JOB
            }
            Self::Line(_) | Self::Nothing => false,
        }
    }

    /// Who wants to mine with it, as the client sent it; none where nobody does.
    pub(super) fn asks_for(&self) -> Option<String> {
        match self {
            Self::Frame(frame) => mining::sv2::asks_for(frame),
            Self::Line(line) => mining::sv1::asks_for(line),
            Self::Nothing => None,
        }
    }
}

/// Something that is to leave.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// A message of Stratum V2.
    Frame(EncodedMessage),
    /// A line with its end.
    Line(String),
}

/// Where messages come from.
pub(super) trait Receive: Send {
    /// The next one. Cancellation-safe.
    fn next(&mut self, is_set_up: bool) -> impl Future<Output = Result<Received, Ended>> + Send;
    /// Nothing of the next one is here.
    fn is_idle(&self) -> bool;
}

/// Where messages go.
pub(super) trait Leave: Send {
    /// Takes one for the next [`Self::flush`].
    fn queue(&mut self, message: &Outgoing) -> Result<(), Ended>;
    /// Nothing is under way.
    fn is_idle(&self) -> bool;
    /// Writes what is queued, in time. Cancellation-safe.
    fn flush(&mut self) -> impl Future<Output = Result<(), Ended>> + Send;
    /// Lets what was answered reach the peer, and ends this direction.
    fn finish(&mut self, ended: &Ended) -> impl Future<Output = ()> + Send;
}

impl<R: AsyncRead + Unpin + Send> Receive for Incoming<R> {
    async fn next(&mut self, is_set_up: bool) -> Result<Received, Ended> {
        // What a frame may hold is let go with it: nothing of it stays.
        let (event, _permit) = self.next(|header| admit_for_mining(is_set_up, header)).await?;
        Ok(match event {
            Event::Frame(frame) => Received::Frame(frame),
            Event::Oversized { .. } | Event::Header(_) => Received::Nothing,
        })
    }

    fn is_idle(&self) -> bool {
        self.is_idle()
    }
}

impl<W: AsyncWrite + Unpin + Send> Leave for Outbox<W> {
    fn queue(&mut self, message: &Outgoing) -> Result<(), Ended> {
        match message {
            Outgoing::Frame(message) => self.queue(message),
            // A session of the other protocol has no line of this one.
            Outgoing::Line(_) => Err(Ended::Encode),
        }
    }

    fn is_idle(&self) -> bool {
        self.is_idle()
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        self.flush().await
    }

    async fn finish(&mut self, ended: &Ended) {
        self.finish(ended).await;
    }
}
