//! What a session wants done, in this order.

use jds_wire::message::EncodedMessage;
use mining_sv2::SetCustomMiningJobOwned;

use crate::record::{
    ChannelClosed, ChannelOpened, ChannelTarget, FoundShare, NegotiatedJob, ShareRecord,
};

/// Something to do.
#[derive(Debug)]
pub enum Action {
    /// Send a message (SV2).
    Send(EncodedMessage),
    /// Send a message (SV2) once everything recorded before it is durable: an acknowledged share
    /// survives the process.
    SendWhenDurable(EncodedMessage),
    /// Send a line, its end included (SV1).
    Line(String),
    /// As [`Action::SendWhenDurable`], for SV1.
    LineWhenDurable(String),
    /// Check a custom job, and give [`crate::Input::CustomJob`] back.
    CheckCustomJob(Box<CustomJobRequest>),
    /// A block: to every node at once, before anything else on this list.
    Found(Box<FoundShare>),
    /// Record a share, good or bad.
    Share(Box<ShareRecord>),
    /// Record a negotiated job.
    Negotiated(Box<NegotiatedJob>),
    /// A channel was opened.
    Opened(ChannelOpened),
    /// The target of a channel changed.
    Target(ChannelTarget),
    /// A channel was closed.
    Closed(ChannelClosed),
    /// End the connection, after what is to be sent. The reason is for the log.
    Close(String),
}

/// A custom job to be checked (SV2 5.3.18).
#[derive(Debug, Clone)]
pub struct CustomJobRequest {
    /// Of the channel, as the client sent it: whose token it must be.
    pub user_identity: String,
    /// True when the channel exists, is extended and on this connection. The token is looked at
    /// before it: a wrong token is told as such even with a wrong channel.
    pub channel_ok: bool,
    /// Length of the channel's full extranonce, bytes.
    pub extranonce_len: usize,
    /// The message.
    pub job: SetCustomMiningJobOwned,
}
