//! What a client does that a connection can not go on after. What follows is decided here alone.

use jds_wire::MessageError;

use crate::limits::{FIRST_CHANNEL_TIMEOUT, SETUP_TIMEOUT};

/// A fact about a client. All of these end the connection; what has an answer in the protocol gets
/// that instead.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum Violation {
    #[error("no SetupConnection within {} ms", SETUP_TIMEOUT.as_millis())]
    SetupTimeout,
    #[error("no channel within {} s", FIRST_CHANNEL_TIMEOUT.as_secs())]
    FirstChannelTimeout,
    #[error("message type {0:#04x} before SetupConnection")]
    BeforeSetup(u8),
    #[error("a second SetupConnection")]
    SecondSetup,
    #[error("SetupConnection refused: {0}")]
    SetupRefused(&'static str),
    #[error("{0}")]
    Malformed(#[from] MessageError),
}
