//! What can go wrong at the client's end.

use std::{io, time::Duration};

use jds_wire::{MessageError, ServerMessage, message::EncodeError};
use tdp_client::LinkError;

use super::INBOX_MESSAGES_MAX;
use crate::noise_io::IoError;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("connecting to {address} failed: {source}")]
    Connect {
        /// As it was given.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The time is up.
    #[error("no {waiting_for} within {} ms", after.as_millis())]
    Timeout {
        /// What should have come.
        waiting_for: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// SetupConnection.Error.
    #[error("the server refused the connection: {error_code} (flags {flags:#x})")]
    SetupRefused {
        /// The error code.
        error_code: String,
        /// The flags that it does not support.
        flags: u32,
    },
    /// The connection ended or was never encrypted.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A frame that holds no message of a job declaration server.
    #[error("the server's message can not be read: {0}")]
    Message(#[from] MessageError),
    /// A field that does not fit its type.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A message that makes no sense here.
    #[error("waited for {waiting_for}, got {got:?}")]
    Unexpected {
        /// What should have come.
        waiting_for: &'static str,
        /// What came.
        got: Box<ServerMessage>,
    },
    /// The same on a template distribution connection.
    #[error("waited for {waiting_for}, got a message of type {msg_type:#04x}")]
    UnexpectedType {
        /// What should have come.
        waiting_for: &'static str,
        /// Type of what came.
        msg_type: u8,
    },
    /// OpenMiningChannel.Error.
    #[error("the server refused a channel: {0}")]
    ChannelRefused(String),
    /// A template that no job can be made of.
    #[error("the template makes no job: {0}")]
    Template(String),
    /// A text that does not fit its field.
    #[error("{0} is too long")]
    TooLong(&'static str),
    /// More messages than anybody asked for.
    #[error("{INBOX_MESSAGES_MAX} messages came that nobody waits for")]
    InboxFull,
}

impl From<LinkError> for ClientError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Connect { address, source } => Self::Connect { address, source },
            LinkError::Timeout { waiting_for, after } => Self::Timeout { waiting_for, after },
            LinkError::SetupRefused { error_code, flags } => {
                Self::SetupRefused { error_code, flags }
            }
            LinkError::Unexpected { waiting_for, msg_type } => {
                Self::UnexpectedType { waiting_for, msg_type }
            }
            LinkError::Io(error) => Self::Io(error),
            LinkError::Message(error) => Self::Message(error),
            LinkError::Encode(error) => Self::Encode(error),
        }
    }
}

impl ClientError {
    /// True when the server has ended the connection, in whatever way a socket shows that.
    pub fn is_disconnect(&self) -> bool {
        match self {
            Self::Io(IoError::Closed | IoError::ClosedEarly) => true,
            Self::Io(IoError::Read(error) | IoError::Write(error)) => matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
            ),
            _ => false,
        }
    }
}
