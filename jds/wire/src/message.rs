//! The messages of a job declaration connection (SV2 3.6, 6.4 and extension 0x0001), of a template
//! distribution connection ([`template`], SV2 7) and of a mining connection ([`mining`], SV2 5).
#![deny(clippy::indexing_slicing)]

mod client;
mod kind;
pub mod mining;
mod server;
pub mod template;

pub use client::{
    AllocateMiningJobToken, ClientMessage, DeclareMiningJob, ProvideMissingTransactionsSuccess,
    PushSolution, RequestExtensions, SetupConnection,
};
pub use server::{
    AllocateMiningJobTokenSuccess, DeclareMiningJobError, DeclareMiningJobSuccess,
    ProvideMissingTransactions, RequestExtensionsError, RequestExtensionsSuccess, ServerMessage,
    SetupConnectionError, SetupConnectionSuccess,
};

/// Error codes and numbers of the protocol, as the protocol crates have them.
pub mod constants {
    pub use common_messages_sv2::{
        ERROR_CODE_SETUP_CONNECTION_MISSING_DECLARE_TX_DATA_FLAG,
        ERROR_CODE_SETUP_CONNECTION_PROTOCOL_VERSION_MISMATCH,
        ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_FEATURE_FLAGS,
        ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_PROTOCOL, MESSAGE_TYPE_CHANNEL_ENDPOINT_CHANGED,
        MESSAGE_TYPE_SETUP_CONNECTION, MESSAGE_TYPE_SETUP_CONNECTION_ERROR,
        MESSAGE_TYPE_SETUP_CONNECTION_SUCCESS, SV2_JOB_DECLARATION_PROTOCOL_DISCRIMINANT,
        SV2_MINING_PROTOCOL_DISCRIMINANT, SV2_TEMPLATE_DISTRIBUTION_PROTOCOL_DISCRIMINANT,
    };
    pub use extensions_sv2::{
        EXTENSION_TYPE_EXTENSIONS_NEGOTIATION, MESSAGE_TYPE_REQUEST_EXTENSIONS,
        MESSAGE_TYPE_REQUEST_EXTENSIONS_ERROR, MESSAGE_TYPE_REQUEST_EXTENSIONS_SUCCESS,
    };
    pub use job_declaration_sv2::{
        ERROR_CODE_DECLARE_MINING_JOB_INTERNAL_ERROR,
        ERROR_CODE_DECLARE_MINING_JOB_INVALID_COINBASE_TX,
        ERROR_CODE_DECLARE_MINING_JOB_INVALID_COINBASE_TX_INPUT,
        ERROR_CODE_DECLARE_MINING_JOB_INVALID_JOB,
        ERROR_CODE_DECLARE_MINING_JOB_INVALID_MINING_JOB_TOKEN,
        ERROR_CODE_DECLARE_MINING_JOB_MISSING_TXS, ERROR_CODE_DECLARE_MINING_JOB_STALE_CHAIN_TIP,
        MESSAGE_TYPE_ALLOCATE_MINING_JOB_TOKEN, MESSAGE_TYPE_ALLOCATE_MINING_JOB_TOKEN_SUCCESS,
        MESSAGE_TYPE_DECLARE_MINING_JOB, MESSAGE_TYPE_DECLARE_MINING_JOB_ERROR,
        MESSAGE_TYPE_DECLARE_MINING_JOB_SUCCESS, MESSAGE_TYPE_PROVIDE_MISSING_TRANSACTIONS,
        MESSAGE_TYPE_PROVIDE_MISSING_TRANSACTIONS_SUCCESS, MESSAGE_TYPE_PUSH_SOLUTION,
    };
    pub use template_distribution_sv2::{
        ERROR_CODE_REQUEST_TRANSACTION_DATA_STALE_TEMPLATE_ID,
        ERROR_CODE_REQUEST_TRANSACTION_DATA_TEMPLATE_ID_NOT_FOUND,
        MESSAGE_TYPE_COINBASE_OUTPUT_CONSTRAINTS, MESSAGE_TYPE_NEW_TEMPLATE,
        MESSAGE_TYPE_REQUEST_TRANSACTION_DATA, MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_ERROR,
        MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_SUCCESS, MESSAGE_TYPE_SET_NEW_PREV_HASH,
        MESSAGE_TYPE_SUBMIT_SOLUTION,
    };
}

/// The extension type of messages that no extension defines (SV2 3.4.1).
pub const CORE_EXTENSION_TYPE: u16 = 0;
/// The version of the protocol spoken here (SV2 3.6.1).
pub const PROTOCOL_VERSION: u16 = 2;
/// Bit 0 of the flags of SetupConnection for job declaration: the client will show its transactions
/// (SV2 6.4.1).
pub const FLAG_DECLARE_TX_DATA: u32 = 1;

/// Why a payload is not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// No message of this protocol in this direction has the number.
    #[error("unknown message type {msg_type:#04x}")]
    UnknownType {
        /// Type from the header.
        msg_type: u8,
    },
    /// The extension is not known here, or does not define the type in this direction. Such a message
    /// is to be ignored (SV2 3.4.1).
    #[error("message type {msg_type:#04x} of unknown extension {extension_type:#06x}")]
    UnknownExtension {
        /// Extension from the header, without the channel bit.
        extension_type: u16,
        /// Type from the header.
        msg_type: u8,
    },
    /// The payload ends inside a field.
    #[error("{message}.{field} needs {needed} bytes, {left} are left")]
    Truncated {
        /// Name of the message, as the specification has it.
        message: &'static str,
        /// Name of the field.
        field: &'static str,
        /// Bytes that this part of the field takes.
        needed: usize,
        /// Bytes that there are.
        left: usize,
    },
    /// A length is above what the type of the field allows.
    #[error("{message}.{field} has {actual} bytes, at most {max} are allowed")]
    TooLong {
        /// Name of the message.
        message: &'static str,
        /// Name of the field.
        field: &'static str,
        /// Its length, bytes.
        actual: usize,
        /// The largest allowed, bytes.
        max: usize,
    },
    /// A string is not UTF-8 where it has to be.
    #[error("{message}.{field} is not UTF-8")]
    NotUtf8 {
        /// Name of the message.
        message: &'static str,
        /// Name of the field.
        field: &'static str,
    },
    /// The fields of a mining message do not fit its bytes.
    #[error("{message} can not be decoded: {detail}")]
    Malformed {
        /// Name of the message.
        message: &'static str,
        /// What its decoder says.
        detail: String,
    },
    /// Bytes follow the last field that are no fields of extensions (SV2 3.4.3) either.
    #[error("{extra} bytes follow the end of {message}")]
    TrailingBytes {
        /// Name of the message.
        message: &'static str,
        /// How many.
        extra: usize,
    },
}

/// A field that does not fit its type on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{message}.{field} has {actual} bytes or elements, at most {max} can be encoded")]
pub struct EncodeError {
    /// Name of the message, as the specification has it.
    pub message: &'static str,
    /// Name of the field.
    pub field: &'static str,
    /// Bytes of a byte string, elements of a list.
    pub actual: usize,
    /// The largest that can be encoded.
    pub max: usize,
}

/// A message ready for [`FrameEncoder::encode`](crate::FrameEncoder::encode).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedMessage {
    /// Extension that defines the type.
    pub extension_type: u16,
    /// It is for one channel (SV2 3.2).
    pub channel_msg: bool,
    /// Type within the extension.
    pub msg_type: u8,
    /// The fields.
    pub payload: Vec<u8>,
}

/// Shows how long something is: for what is too large for a log, or none of its business.
struct Length(usize, &'static str);

impl std::fmt::Debug for Length {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{} {}>", self.0, self.1)
    }
}
