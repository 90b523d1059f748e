//! The messages of a template distribution connection (SV2 3.6, 7 and extension 0x0001).
#![deny(clippy::indexing_slicing)]

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
    server::code,
};
use crate::{
    codec::{Reader, Writer},
    frame::{Frame, FrameHeader},
};

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

impl CoinbaseOutputConstraints {
    const NAME: &'static str = "CoinbaseOutputConstraints";

    fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            max_additional_size: reader.u32("coinbase_output_max_additional_size")?,
            max_additional_sigops: reader.u16("coinbase_output_max_additional_sigops")?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(Self::NAME, 6);
        writer.u32(self.max_additional_size);
        writer.u16(self.max_additional_sigops);
        writer.into_payload()
    }
}

impl<'a> NewTemplate<'a> {
    const NAME: &'static str = "NewTemplate";

    fn decode(payload: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            template_id: reader.u64("template_id")?,
            future_template: reader.bool("future_template")?,
            version: reader.u32("version")?,
            coinbase_tx_version: reader.u32("coinbase_tx_version")?,
            coinbase_prefix: reader.b0_255("coinbase_prefix")?,
            coinbase_tx_input_sequence: reader.u32("coinbase_tx_input_sequence")?,
            coinbase_tx_value_remaining_sat: reader.u64("coinbase_tx_value_remaining")?,
            coinbase_tx_outputs_count: reader.u32("coinbase_tx_outputs_count")?,
            coinbase_tx_outputs: reader.b0_64k("coinbase_tx_outputs")?,
            coinbase_tx_locktime: reader.u32("coinbase_tx_locktime")?,
            merkle_path: reader.u256_list_255("merkle_path")?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let capacity = 41
            + self.coinbase_prefix.len()
            + self.coinbase_tx_outputs.len()
            + self.merkle_path.as_flattened().len();
        let mut writer = Writer::new(Self::NAME, capacity);
        writer.u64(self.template_id);
        writer.bool(self.future_template);
        writer.u32(self.version);
        writer.u32(self.coinbase_tx_version);
        writer.b0_255("coinbase_prefix", self.coinbase_prefix)?;
        writer.u32(self.coinbase_tx_input_sequence);
        writer.u64(self.coinbase_tx_value_remaining_sat);
        writer.u32(self.coinbase_tx_outputs_count);
        writer.b0_64k("coinbase_tx_outputs", self.coinbase_tx_outputs)?;
        writer.u32(self.coinbase_tx_locktime);
        writer.u256_list_255("merkle_path", self.merkle_path)?;
        Ok(writer.into_payload())
    }
}

impl SetNewPrevHash {
    const NAME: &'static str = "SetNewPrevHash";

    fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            template_id: reader.u64("template_id")?,
            prev_hash: reader.u256("prev_hash")?,
            header_timestamp: reader.u32("header_timestamp")?,
            n_bits: reader.u32("n_bits")?,
            target: reader.u256("target")?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(Self::NAME, 80);
        writer.u64(self.template_id);
        writer.u256(&self.prev_hash);
        writer.u32(self.header_timestamp);
        writer.u32(self.n_bits);
        writer.u256(&self.target);
        writer.into_payload()
    }
}

impl RequestTransactionData {
    const NAME: &'static str = "RequestTransactionData";

    fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self { template_id: reader.u64("template_id")? };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(Self::NAME, 8);
        writer.u64(self.template_id);
        writer.into_payload()
    }
}

impl<'a> RequestTransactionDataSuccess<'a> {
    const NAME: &'static str = "RequestTransactionData.Success";

    fn decode(payload: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            template_id: reader.u64("template_id")?,
            excess_data: reader.b0_64k("excess_data")?,
            transactions: reader.b0_16m_list("transaction_list")?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let transactions = self.transactions.iter().map(|transaction| transaction.len() + 3);
        let capacity = 12 + self.excess_data.len() + transactions.sum::<usize>();
        let mut writer = Writer::new(Self::NAME, capacity);
        writer.u64(self.template_id);
        writer.b0_64k("excess_data", self.excess_data)?;
        writer.b0_16m_list("transaction_list", &self.transactions)?;
        Ok(writer.into_payload())
    }
}

impl RequestTransactionDataError {
    const NAME: &'static str = "RequestTransactionData.Error";

    fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            template_id: reader.u64("template_id")?,
            error_code: code(Self::NAME, "error_code", reader.b0_255("error_code")?)?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new(Self::NAME, 9 + self.error_code.len());
        writer.u64(self.template_id);
        writer.b0_255("error_code", self.error_code.as_bytes())?;
        Ok(writer.into_payload())
    }
}

impl<'a> SubmitSolution<'a> {
    const NAME: &'static str = "SubmitSolution";

    fn decode(payload: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            template_id: reader.u64("template_id")?,
            version: reader.u32("version")?,
            header_timestamp: reader.u32("header_timestamp")?,
            header_nonce: reader.u32("header_nonce")?,
            coinbase_tx: reader.b0_64k("coinbase_tx")?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new(Self::NAME, 22 + self.coinbase_tx.len());
        writer.u64(self.template_id);
        writer.u32(self.version);
        writer.u32(self.header_timestamp);
        writer.u32(self.header_nonce);
        writer.b0_64k("coinbase_tx", self.coinbase_tx)?;
        Ok(writer.into_payload())
    }
}
