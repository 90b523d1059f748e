//! The messages of a template distribution connection (SV2 3.6, 7 and extension 0x0001).
#![deny(clippy::indexing_slicing)]

mod fields;

use std::{borrow::Cow, fmt};

use super::{
    CORE_EXTENSION_TYPE, EncodeError, EncodedMessage, Length, MessageError, RequestExtensions,
    RequestExtensionsError, SetupConnection, SetupConnectionError, SetupConnectionSuccess,
    constants::{
        EXTENSION_TYPE_EXTENSIONS_NEGOTIATION, MESSAGE_TYPE_COINBASE_OUTPUT_CONSTRAINTS,
        MESSAGE_TYPE_NEW_TEMPLATE, MESSAGE_TYPE_REQUEST_EXTENSIONS,
        MESSAGE_TYPE_REQUEST_EXTENSIONS_ERROR, MESSAGE_TYPE_REQUEST_TRANSACTION_DATA,
        MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_ERROR, MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_SUCCESS,
        MESSAGE_TYPE_SET_NEW_PREV_HASH, MESSAGE_TYPE_SETUP_CONNECTION,
        MESSAGE_TYPE_SETUP_CONNECTION_ERROR, MESSAGE_TYPE_SETUP_CONNECTION_SUCCESS,
        MESSAGE_TYPE_SUBMIT_SOLUTION,
    },
};
use crate::frame::{Frame, FrameHeader};

/// A message from a client to a template distribution server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateClientMessage<'a> {
    /// SV2 3.6.1.
    SetupConnection(SetupConnection<'a>),
    /// Extension 0x0001, section 2.
    RequestExtensions(RequestExtensions),
    /// SV2 7.1.
    CoinbaseOutputConstraints(CoinbaseOutputConstraints),
    /// SV2 7.4.
    RequestTransactionData(RequestTransactionData),
    /// SV2 7.7.
    SubmitSolution(SubmitSolution<'a>),
}

/// A message from a template distribution server to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateServerMessage<'a> {
    /// SV2 3.6.2.
    SetupConnectionSuccess(SetupConnectionSuccess),
    /// SV2 3.6.3.
    SetupConnectionError(SetupConnectionError),
    /// Extension 0x0001, section 2.
    RequestExtensionsError(RequestExtensionsError),
    /// SV2 7.2.
    NewTemplate(NewTemplate<'a>),
    /// SV2 7.3.
    SetNewPrevHash(SetNewPrevHash),
    /// SV2 7.5.
    RequestTransactionDataSuccess(RequestTransactionDataSuccess<'a>),
    /// SV2 7.6.
    RequestTransactionDataError(RequestTransactionDataError),
}

/// What the client will add to the coinbase (SV2 7.1; the specification's text calls it
/// CoinbaseOutputDataSize).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoinbaseOutputConstraints {
    /// Serialised outputs, bytes.
    pub max_additional_size: u32,
    /// Their sigop cost.
    pub max_additional_sigops: u16,
}

/// Something to mine (SV2 7.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTemplate<'a> {
    /// Strictly increasing.
    pub template_id: u64,
    /// It waits for a SetNewPrevHash that names it.
    pub future_template: bool,
    /// nVersion of the header.
    pub version: u32,
    /// nVersion of the coinbase.
    pub coinbase_tx_version: u32,
    /// Beginning of the coinbase's script: the height (BIP 34). At most 8 bytes.
    pub coinbase_prefix: &'a [u8],
    /// nSequence of the coinbase's input.
    pub coinbase_tx_input_sequence: u32,
    /// Subsidy and fees, satoshi.
    pub coinbase_tx_value_remaining_sat: u64,
    /// How many outputs there are in the next field.
    pub coinbase_tx_outputs_count: u32,
    /// The last outputs of the coinbase, in consensus encoding without their count.
    pub coinbase_tx_outputs: &'a [u8],
    /// nLockTime of the coinbase.
    pub coinbase_tx_locktime: u32,
    /// Hashes beside the coinbase's path in the merkle tree, bottom up.
    pub merkle_path: &'a [[u8; 32]],
}

/// The block to build on (SV2 7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetNewPrevHash {
    /// The future template to mine on from now on.
    pub template_id: u64,
    /// Hash of the block, bytes as they are hashed.
    pub prev_hash: [u8; 32],
    /// nTime to begin with, Unix seconds.
    pub header_timestamp: u32,
    /// nBits of the header.
    pub n_bits: u32,
    /// The same as a number, little endian.
    pub target: [u8; 32],
}

/// Asks for the transactions of a template (SV2 7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestTransactionData {
    /// Of the template.
    pub template_id: u64,
}

/// The transactions of a template (SV2 7.5).
#[derive(Clone, PartialEq, Eq)]
pub struct RequestTransactionDataSuccess<'a> {
    /// Of the template.
    pub template_id: u64,
    /// Whatever is needed besides; nothing is known to.
    pub excess_data: &'a [u8],
    /// In block order without the coinbase, consensus encoding with witness.
    pub transactions: Vec<&'a [u8]>,
}

/// There are no transactions for that id (SV2 7.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestTransactionDataError {
    /// As asked for.
    pub template_id: u64,
    /// One of the `ERROR_CODE_REQUEST_TRANSACTION_DATA_…` [`constants`](super::constants).
    pub error_code: Cow<'static, str>,
}

/// A found block (SV2 7.7).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SubmitSolution<'a> {
    /// Of the template.
    pub template_id: u64,
    /// nVersion of the header.
    pub version: u32,
    /// nTime of the header.
    pub header_timestamp: u32,
    /// nNonce of the header.
    pub header_nonce: u32,
    /// The whole coinbase transaction.
    pub coinbase_tx: &'a [u8],
}

impl fmt::Debug for RequestTransactionDataSuccess<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.transactions.iter().map(|transaction| transaction.len()).sum();
        f.debug_struct("RequestTransactionDataSuccess")
            .field("template_id", &self.template_id)
            .field("excess_data", &Length(self.excess_data.len(), "bytes"))
            .field("transactions", &Length(self.transactions.len(), "transactions"))
            .field("size", &Length(bytes, "bytes"))
            .finish()
    }
}

impl fmt::Debug for SubmitSolution<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmitSolution")
            .field("template_id", &self.template_id)
            .field("version", &format_args!("{:#010x}", self.version))
            .field("header_timestamp", &self.header_timestamp)
            .field("header_nonce", &self.header_nonce)
            .field("coinbase_tx", &Length(self.coinbase_tx.len(), "bytes"))
            .finish()
    }
}

impl<'a> TemplateClientMessage<'a> {
    /// The message that a frame holds.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn from_frame(frame: &'a Frame) -> Result<Self, MessageError> {
        Self::decode(&frame.header, &frame.payload)
    }

    /// The message that a payload holds, of the type that its header says. The channel bit is
    /// ignored (SV2 3.2).
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn decode(header: &FrameHeader, payload: &'a [u8]) -> Result<Self, MessageError> {
        let (extension_type, msg_type) = (header.extension_type, header.msg_type);
        match (extension_type, msg_type) {
            (CORE_EXTENSION_TYPE, MESSAGE_TYPE_SETUP_CONNECTION) => {
                SetupConnection::decode(payload).map(Self::SetupConnection)
            }
            (CORE_EXTENSION_TYPE, MESSAGE_TYPE_COINBASE_OUTPUT_CONSTRAINTS) => {
                CoinbaseOutputConstraints::decode(payload).map(Self::CoinbaseOutputConstraints)
            }
            (CORE_EXTENSION_TYPE, MESSAGE_TYPE_REQUEST_TRANSACTION_DATA) => {
                RequestTransactionData::decode(payload).map(Self::RequestTransactionData)
            }
            (CORE_EXTENSION_TYPE, MESSAGE_TYPE_SUBMIT_SOLUTION) => {
                SubmitSolution::decode(payload).map(Self::SubmitSolution)
            }
            (CORE_EXTENSION_TYPE, _) => Err(MessageError::UnknownType { msg_type }),
            (EXTENSION_TYPE_EXTENSIONS_NEGOTIATION, MESSAGE_TYPE_REQUEST_EXTENSIONS) => {
                RequestExtensions::decode(payload).map(Self::RequestExtensions)
            }
            _ => Err(MessageError::UnknownExtension { extension_type, msg_type }),
        }
    }

    /// Ready to be sent.
    ///
    /// # Errors
    /// [`EncodeError`] when a field is longer than its type.
    pub fn encode(&self) -> Result<EncodedMessage, EncodeError> {
        let mut extension_type = CORE_EXTENSION_TYPE;
        let (msg_type, payload) = match self {
            Self::SetupConnection(message) => (MESSAGE_TYPE_SETUP_CONNECTION, message.encode()?),
            Self::RequestExtensions(message) => {
                extension_type = EXTENSION_TYPE_EXTENSIONS_NEGOTIATION;
                (MESSAGE_TYPE_REQUEST_EXTENSIONS, message.encode()?)
            }
            Self::CoinbaseOutputConstraints(message) => {
                (MESSAGE_TYPE_COINBASE_OUTPUT_CONSTRAINTS, message.encode())
            }
            Self::RequestTransactionData(message) => {
                (MESSAGE_TYPE_REQUEST_TRANSACTION_DATA, message.encode())
            }
            Self::SubmitSolution(message) => (MESSAGE_TYPE_SUBMIT_SOLUTION, message.encode()?),
        };
        Ok(EncodedMessage { extension_type, msg_type, payload })
    }
}

impl<'a> TemplateServerMessage<'a> {
    /// The message that a frame holds.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn from_frame(frame: &'a Frame) -> Result<Self, MessageError> {
        Self::decode(&frame.header, &frame.payload)
    }

    /// The message that a payload holds, of the type that its header says. The channel bit is
    /// ignored (SV2 3.2).
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn decode(header: &FrameHeader, payload: &'a [u8]) -> Result<Self, MessageError> {
        let (extension_type, msg_type) = (header.extension_type, header.msg_type);
        match (extension_type, msg_type) {
            (CORE_EXTENSION_TYPE, MESSAGE_TYPE_SETUP_CONNECTION_SUCCESS) => {
                SetupConnectionSuccess::decode(payload).map(Self::SetupConnectionSuccess)
            }
            (CORE_EXTENSION_TYPE, MESSAGE_TYPE_SETUP_CONNECTION_ERROR) => {
                SetupConnectionError::decode(payload).map(Self::SetupConnectionError)
            }
            (CORE_EXTENSION_TYPE, MESSAGE_TYPE_NEW_TEMPLATE) => {
                NewTemplate::decode(payload).map(Self::NewTemplate)
            }
            (CORE_EXTENSION_TYPE, MESSAGE_TYPE_SET_NEW_PREV_HASH) => {
                SetNewPrevHash::decode(payload).map(Self::SetNewPrevHash)
            }
            (CORE_EXTENSION_TYPE, MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_SUCCESS) => {
                RequestTransactionDataSuccess::decode(payload)
                    .map(Self::RequestTransactionDataSuccess)
            }
            (CORE_EXTENSION_TYPE, MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_ERROR) => {
                RequestTransactionDataError::decode(payload).map(Self::RequestTransactionDataError)
            }
            (CORE_EXTENSION_TYPE, _) => Err(MessageError::UnknownType { msg_type }),
            (EXTENSION_TYPE_EXTENSIONS_NEGOTIATION, MESSAGE_TYPE_REQUEST_EXTENSIONS_ERROR) => {
                RequestExtensionsError::decode(payload).map(Self::RequestExtensionsError)
            }
            _ => Err(MessageError::UnknownExtension { extension_type, msg_type }),
        }
    }

    /// Ready to be sent.
    ///
    /// # Errors
    /// [`EncodeError`] when a field is longer than its type.
    pub fn encode(&self) -> Result<EncodedMessage, EncodeError> {
        let mut extension_type = CORE_EXTENSION_TYPE;
        let (msg_type, payload) = match self {
            Self::SetupConnectionSuccess(message) => {
                (MESSAGE_TYPE_SETUP_CONNECTION_SUCCESS, message.encode())
            }
            Self::SetupConnectionError(message) => {
                (MESSAGE_TYPE_SETUP_CONNECTION_ERROR, message.encode()?)
            }
            Self::RequestExtensionsError(message) => {
                extension_type = EXTENSION_TYPE_EXTENSIONS_NEGOTIATION;
                (MESSAGE_TYPE_REQUEST_EXTENSIONS_ERROR, message.encode()?)
            }
            Self::NewTemplate(message) => (MESSAGE_TYPE_NEW_TEMPLATE, message.encode()?),
            Self::SetNewPrevHash(message) => (MESSAGE_TYPE_SET_NEW_PREV_HASH, message.encode()),
            Self::RequestTransactionDataSuccess(message) => {
                (MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_SUCCESS, message.encode()?)
            }
            Self::RequestTransactionDataError(message) => {
                (MESSAGE_TYPE_REQUEST_TRANSACTION_DATA_ERROR, message.encode()?)
            }
        };
        Ok(EncodedMessage { extension_type, msg_type, payload })
    }
}
