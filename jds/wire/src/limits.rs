//! How large a frame may be, by what the connection has shown so far and by type of message.
//!
//! All in bytes of payload, before encryption.
#![deny(clippy::indexing_slicing)]

use extensions_sv2::{EXTENSION_TYPE_EXTENSIONS_NEGOTIATION, MESSAGE_TYPE_REQUEST_EXTENSIONS};
use job_declaration_sv2::{
    MESSAGE_TYPE_DECLARE_MINING_JOB, MESSAGE_TYPE_PROVIDE_MISSING_TRANSACTIONS_SUCCESS,
};
use mining_sv2::MESSAGE_TYPE_SET_CUSTOM_MINING_JOB;
use template_distribution_sv2::{
    MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_SUCCESS, MESSAGE_TYPE_SUBMIT_SOLUTION,
};

use crate::{frame::FrameHeader, message::CORE_EXTENSION_TYPE};

/// Any frame before the connection is set up. SetupConnection has five strings of at most 255
/// bytes: 1,291 bytes in all.
pub const BEFORE_SETUP_BYTES_MAX: usize = 2_000;
/// Any frame after set-up that is not one of the two below.
pub const SMALL_MESSAGE_BYTES_MAX: usize = 2_000;
/// DeclareMiningJob. A block has room for 16,665 transactions (4,000,000 WU / 240), whose ids are
/// 533,280 bytes; the coinbase halves and the excess data are 65,535 each at most, the token 255.
pub const DECLARE_MINING_JOB_BYTES_MAX: usize = 750_000;
/// ProvideMissingTransactions.Success. A block's transactions are at most 4,000,000 bytes, and each
/// of the 16,665 has a length field of three bytes.
pub const PROVIDE_MISSING_TRANSACTIONS_SUCCESS_BYTES_MAX: usize = 4_200_000;
/// Any message of a server to a client: three fields of 65,535 elements of at most two bytes are
/// more than any of them has.
pub const FROM_SERVER_BYTES_MAX: usize = 200_000;
/// SubmitSolution: its coinbase has at most 65,535 bytes.
pub const SUBMIT_SOLUTION_BYTES_MAX: usize = 67_000;
/// SetCustomMiningJob: 65,535 bytes of outputs, 255 hashes, two strings of at most 255 bytes and 32
/// bytes of numbers beside the hash of the tip: 74,274 in all.
pub const SET_CUSTOM_MINING_JOB_BYTES_MAX: usize = 75_000;
/// Any message of a mining server to a client: a group of 65,535 channels, or a job with both halves
/// of its coinbase.
pub const FROM_MINING_SERVER_BYTES_MAX: usize = 270_000;
/// Any message of a template distribution server to a client: the transactions of a block, see
/// [`PROVIDE_MISSING_TRANSACTIONS_SUCCESS_BYTES_MAX`], and excess data.
pub const FROM_TEMPLATE_SERVER_BYTES_MAX: usize =
    PROVIDE_MISSING_TRANSACTIONS_SUCCESS_BYTES_MAX + 66_000;
/// What is kept of a message that is too large but deserves an answer: its request id, a U32.
pub const REQUEST_ID_BYTES: usize = 4;
/// The most that [`Admit::DiscardKeeping`] keeps.
pub const DISCARD_KEEP_BYTES_MAX: usize = 64;

/// What is to be done with the payload that a header announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// Take it in whole.
    Buffer,
    /// Read past it, at most one chunk in memory, and keep this many of its first bytes (at most
    /// [`DISCARD_KEEP_BYTES_MAX`]), so that it can be answered.
    DiscardKeeping(usize),
    /// Not worth reading: the connection ends.
    Refuse {
        /// What would have been admitted, bytes.
        limit_bytes: usize,
    },
}

/// What a server's connection has shown so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// Handshake done, SetupConnection not yet accepted.
    BeforeSetup,
    /// Set up.
    Ready {
        /// True while a ProvideMissingTransactions of ours is unanswered. Nobody else gets to send
        /// megabytes of transactions.
        transactions_asked: bool,
    },
}

/// The server's decision on a frame from a client.
pub fn admit(state: ConnectionState, header: &FrameHeader) -> Admit {
    let ConnectionState::Ready { transactions_asked } = state else {
        return within(header, BEFORE_SETUP_BYTES_MAX);
    };
    let (limit_bytes, wanted) = match (header.extension_type, header.msg_type) {
        (CORE_EXTENSION_TYPE, MESSAGE_TYPE_DECLARE_MINING_JOB) => {
            (DECLARE_MINING_JOB_BYTES_MAX, true)
        }
        (CORE_EXTENSION_TYPE, MESSAGE_TYPE_PROVIDE_MISSING_TRANSACTIONS_SUCCESS) => {
            (PROVIDE_MISSING_TRANSACTIONS_SUCCESS_BYTES_MAX, transactions_asked)
        }
        // A list of thousands of extensions is read past and gets no answer: to refuse them, it would
        // have to be named back whole (SV2 extension 0x0001).
        (EXTENSION_TYPE_EXTENSIONS_NEGOTIATION, MESSAGE_TYPE_REQUEST_EXTENSIONS) => {
            (SMALL_MESSAGE_BYTES_MAX, true)
        }
        (CORE_EXTENSION_TYPE, _) => return within(header, SMALL_MESSAGE_BYTES_MAX),
        // Messages of unknown extensions are ignored, whatever their size (SV2 3.4.1).
        _ if header.payload_bytes <= SMALL_MESSAGE_BYTES_MAX => return Admit::Buffer,
        _ => return Admit::DiscardKeeping(0),
    };
    if wanted && header.payload_bytes <= limit_bytes {
        Admit::Buffer
    } else {
        Admit::DiscardKeeping(REQUEST_ID_BYTES)
    }
}

/// The template distribution server's decision on a frame from a client.
pub fn admit_for_templates(is_set_up: bool, header: &FrameHeader) -> Admit {
    let large = (MESSAGE_TYPE_SUBMIT_SOLUTION, SUBMIT_SOLUTION_BYTES_MAX);
    admit_small_or(large, is_set_up, header)
}

/// The mining server's decision on a frame from a client.
pub fn admit_for_mining(is_set_up: bool, header: &FrameHeader) -> Admit {
    let large = (MESSAGE_TYPE_SET_CUSTOM_MINING_JOB, SET_CUSTOM_MINING_JOB_BYTES_MAX);
    admit_small_or(large, is_set_up, header)
}

/// For protocols with one message of clients that is large: its type, and how large it may be.
fn admit_small_or(
    (large_type, large_bytes_max): (u8, usize),
    is_set_up: bool,
    header: &FrameHeader,
) -> Admit {
    if !is_set_up {
        return within(header, BEFORE_SETUP_BYTES_MAX);
    }
    match (header.extension_type, header.msg_type) {
        (CORE_EXTENSION_TYPE, msg_type) if msg_type == large_type => {
            within(header, large_bytes_max)
        }
        (CORE_EXTENSION_TYPE, _) => within(header, SMALL_MESSAGE_BYTES_MAX),
        // Messages of unknown extensions are ignored, whatever their size (SV2 3.4.1).
        _ if header.payload_bytes <= SMALL_MESSAGE_BYTES_MAX => Admit::Buffer,
        _ => Admit::DiscardKeeping(0),
    }
}

/// The client's decision on a frame from a mining server.
pub fn admit_from_mining_server(header: &FrameHeader) -> Admit {
    within(header, FROM_MINING_SERVER_BYTES_MAX)
}

/// The client's decision on a frame from a template distribution server.
pub fn admit_from_template_server(header: &FrameHeader) -> Admit {
    within(header, FROM_TEMPLATE_SERVER_BYTES_MAX)
}

/// The decision of a client that follows a template distribution server for years, and does not
/// trust it with more memory than it asked for. `data_asked`: a RequestTransactionData is open.
pub fn admit_from_template_provider(data_asked: bool, header: &FrameHeader) -> Admit {
    match (header.extension_type, header.msg_type) {
        (CORE_EXTENSION_TYPE, MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_SUCCESS) if data_asked => {
            within(header, FROM_TEMPLATE_SERVER_BYTES_MAX)
        }
        (CORE_EXTENSION_TYPE, MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_SUCCESS) => {
            within(header, SMALL_MESSAGE_BYTES_MAX)
        }
        (CORE_EXTENSION_TYPE, _) => within(header, FROM_SERVER_BYTES_MAX),
        // Messages of unknown extensions are ignored, whatever their size (SV2 3.4.1).
        _ if header.payload_bytes <= SMALL_MESSAGE_BYTES_MAX => Admit::Buffer,
        _ => Admit::DiscardKeeping(0),
    }
}

/// The client's decision on a frame from a server.
pub fn admit_from_server(header: &FrameHeader) -> Admit {
    within(header, FROM_SERVER_BYTES_MAX)
}

fn within(header: &FrameHeader, limit_bytes: usize) -> Admit {
    if header.payload_bytes <= limit_bytes { Admit::Buffer } else { Admit::Refuse { limit_bytes } }
}
