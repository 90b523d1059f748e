//! What a server sends. All of it is small, so it owns its bytes.
#![deny(clippy::indexing_slicing)]

use std::{borrow::Cow, fmt};

use super::{
    EncodeError, Length, MessageError,
    constants::{
        EXTENSION_TYPE_EXTENSIONS_NEGOTIATION, MESSAGE_TYPE_ALLOCATE_MINING_JOB_TOKEN_SUCCESS,
        MESSAGE_TYPE_DECLARE_MINING_JOB_ERROR, MESSAGE_TYPE_DECLARE_MINING_JOB_SUCCESS,
        MESSAGE_TYPE_PROVIDE_MISSING_TRANSACTIONS, MESSAGE_TYPE_REQUEST_EXTENSIONS_ERROR,
        MESSAGE_TYPE_REQUEST_EXTENSIONS_SUCCESS, MESSAGE_TYPE_SETUP_CONNECTION_ERROR,
        MESSAGE_TYPE_SETUP_CONNECTION_SUCCESS,
    },
    kind::{Kind, messages},
};
use crate::codec::{Reader, Writer};

messages! {
    /// A message from a job declaration server to a client.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum ServerMessage {
        /// SV2 3.6.2.
        SetupConnectionSuccess(SetupConnectionSuccess),
        /// SV2 3.6.3.
        SetupConnectionError(SetupConnectionError),
        /// Extension 0x0001, section 2.
        RequestExtensionsSuccess(RequestExtensionsSuccess),
        /// Extension 0x0001, section 2.
        RequestExtensionsError(RequestExtensionsError),
        /// SV2 6.4.3.
        AllocateMiningJobTokenSuccess(AllocateMiningJobTokenSuccess),
        /// SV2 6.4.5.
        DeclareMiningJobSuccess(DeclareMiningJobSuccess),
        /// SV2 6.4.6.
        DeclareMiningJobError(DeclareMiningJobError),
        /// SV2 6.4.7.
        ProvideMissingTransactions(ProvideMissingTransactions),
    }
}

/// The connection is set up (SV2 3.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetupConnectionSuccess {
    /// The version spoken from here on.
    pub used_version: u16,
    /// Features of the server; none are defined for job declaration.
    pub flags: u32,
}

/// The connection is not set up (SV2 3.6.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupConnectionError {
    /// The client's flags that are not supported.
    pub flags: u32,
    /// One of the `ERROR_CODE_SETUP_CONNECTION_…` [`constants`](super::constants).
    pub error_code: Cow<'static, str>,
}

/// Which of the asked extensions there are (extension 0x0001).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestExtensionsSuccess {
    /// Of the request.
    pub request_id: u16,
    /// Numbers of the extensions.
    pub supported: Vec<u16>,
}

/// None of the asked extensions is there, or one that is needed was not asked for (extension 0x0001).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestExtensionsError {
    /// Of the request.
    pub request_id: u16,
    /// Those asked for in vain.
    pub unsupported: Vec<u16>,
    /// Those that the server needs and the client did not ask for.
    pub required: Vec<u16>,
}

/// A token (SV2 6.4.3).
#[derive(Clone, PartialEq, Eq)]
pub struct AllocateMiningJobTokenSuccess {
    /// Of the request.
    pub request_id: u32,
    /// At most 255 bytes that only the server reads. Not shown in logs.
    pub mining_job_token: Vec<u8>,
    /// CompactSize count and consensus encoding of the outputs that the coinbase has to have; the
    /// first is the pool's payout. At most 65,535 bytes.
    pub coinbase_outputs: Vec<u8>,
}

/// A declaration is accepted (SV2 6.4.5).
#[derive(Clone, PartialEq, Eq)]
pub struct DeclareMiningJobSuccess {
    /// Of the declaration.
    pub request_id: u32,
    /// For SetCustomMiningJob, at most 255 bytes. Not shown in logs.
    pub new_mining_job_token: Vec<u8>,
}

/// A declaration is rejected (SV2 6.4.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclareMiningJobError {
    /// Of the declaration.
    pub request_id: u32,
    /// One of the `ERROR_CODE_DECLARE_MINING_JOB_…` [`constants`](super::constants).
    pub error_code: Cow<'static, str>,
    /// What exactly, text of at most 65,535 bytes; bytes that are not UTF-8 are replaced on input.
    pub error_details: String,
}

/// Asks for transactions of a declaration (SV2 6.4.7).
#[derive(Clone, PartialEq, Eq)]
pub struct ProvideMissingTransactions {
    /// Of the declaration.
    pub request_id: u32,
    /// Positions in the declared list, which does not have the coinbase, from 0.
    pub unknown_tx_positions: Vec<u16>,
}

impl fmt::Debug for AllocateMiningJobTokenSuccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllocateMiningJobTokenSuccess")
            .field("request_id", &self.request_id)
            .field("mining_job_token", &Length(self.mining_job_token.len(), "bytes"))
            .field("coinbase_outputs", &Length(self.coinbase_outputs.len(), "bytes"))
            .finish()
    }
}

impl fmt::Debug for DeclareMiningJobSuccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeclareMiningJobSuccess")
            .field("request_id", &self.request_id)
            .field("new_mining_job_token", &Length(self.new_mining_job_token.len(), "bytes"))
            .finish()
    }
}

impl fmt::Debug for ProvideMissingTransactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProvideMissingTransactions")
            .field("request_id", &self.request_id)
            .field("unknown_tx_positions", &Length(self.unknown_tx_positions.len(), "positions"))
            .finish()
    }
}

/// An error code as text.
pub(super) fn code(
    message: &'static str,
    field: &'static str,
    bytes: &[u8],
) -> Result<Cow<'static, str>, MessageError> {
    let text = str::from_utf8(bytes).map_err(|_| MessageError::NotUtf8 { message, field })?;
    Ok(Cow::Owned(text.to_owned()))
}

impl Kind<'_> for SetupConnectionSuccess {
    const NAME: &'static str = "SetupConnection.Success";
    const MSG_TYPE: u8 = MESSAGE_TYPE_SETUP_CONNECTION_SUCCESS;

    fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message =
            Self { used_version: reader.u16("used_version")?, flags: reader.u32("flags")? };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new(Self::NAME, 6);
        writer.u16(self.used_version);
        writer.u32(self.flags);
        Ok(writer.into_payload())
    }
}

impl Kind<'_> for SetupConnectionError {
    const NAME: &'static str = "SetupConnection.Error";
    const MSG_TYPE: u8 = MESSAGE_TYPE_SETUP_CONNECTION_ERROR;

    fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            flags: reader.u32("flags")?,
            error_code: code(Self::NAME, "error_code", reader.b0_255("error_code")?)?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new(Self::NAME, 5 + self.error_code.len());
        writer.u32(self.flags);
        writer.b0_255("error_code", self.error_code.as_bytes())?;
        Ok(writer.into_payload())
    }
}

impl Kind<'_> for RequestExtensionsSuccess {
    const NAME: &'static str = "RequestExtensions.Success";
    const EXTENSION_TYPE: u16 = EXTENSION_TYPE_EXTENSIONS_NEGOTIATION;
    const MSG_TYPE: u8 = MESSAGE_TYPE_REQUEST_EXTENSIONS_SUCCESS;

    fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            request_id: reader.u16("request_id")?,
            supported: reader.u16_list("supported_extensions")?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new(Self::NAME, 4 + 2 * self.supported.len());
        writer.u16(self.request_id);
        writer.u16_list("supported_extensions", &self.supported)?;
        Ok(writer.into_payload())
    }
}

impl Kind<'_> for RequestExtensionsError {
    const NAME: &'static str = "RequestExtensions.Error";
    const EXTENSION_TYPE: u16 = EXTENSION_TYPE_EXTENSIONS_NEGOTIATION;
    const MSG_TYPE: u8 = MESSAGE_TYPE_REQUEST_EXTENSIONS_ERROR;

    fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            request_id: reader.u16("request_id")?,
            unsupported: reader.u16_list("unsupported_extensions")?,
            required: reader.u16_list("required_extensions")?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let count = self.unsupported.len() + self.required.len();
        let mut writer = Writer::new(Self::NAME, 6 + 2 * count);
        writer.u16(self.request_id);
        writer.u16_list("unsupported_extensions", &self.unsupported)?;
        writer.u16_list("required_extensions", &self.required)?;
        Ok(writer.into_payload())
    }
}

impl Kind<'_> for AllocateMiningJobTokenSuccess {
    const NAME: &'static str = "AllocateMiningJobToken.Success";
    const MSG_TYPE: u8 = MESSAGE_TYPE_ALLOCATE_MINING_JOB_TOKEN_SUCCESS;

    fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            request_id: reader.u32("request_id")?,
            mining_job_token: reader.b0_255("mining_job_token")?.to_vec(),
            coinbase_outputs: reader.b0_64k("coinbase_tx_outputs")?.to_vec(),
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let capacity = 7 + self.mining_job_token.len() + self.coinbase_outputs.len();
        let mut writer = Writer::new(Self::NAME, capacity);
        writer.u32(self.request_id);
        writer.b0_255("mining_job_token", &self.mining_job_token)?;
        writer.b0_64k("coinbase_tx_outputs", &self.coinbase_outputs)?;
        Ok(writer.into_payload())
    }
}

impl Kind<'_> for DeclareMiningJobSuccess {
    const NAME: &'static str = "DeclareMiningJob.Success";
    const MSG_TYPE: u8 = MESSAGE_TYPE_DECLARE_MINING_JOB_SUCCESS;

    fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            request_id: reader.u32("request_id")?,
            new_mining_job_token: reader.b0_255("new_mining_job_token")?.to_vec(),
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new(Self::NAME, 5 + self.new_mining_job_token.len());
        writer.u32(self.request_id);
        writer.b0_255("new_mining_job_token", &self.new_mining_job_token)?;
        Ok(writer.into_payload())
    }
}

impl Kind<'_> for DeclareMiningJobError {
    const NAME: &'static str = "DeclareMiningJob.Error";
    const MSG_TYPE: u8 = MESSAGE_TYPE_DECLARE_MINING_JOB_ERROR;

    fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            request_id: reader.u32("request_id")?,
            error_code: code(Self::NAME, "error_code", reader.b0_255("error_code")?)?,
            error_details: String::from_utf8_lossy(reader.b0_64k("error_details")?).into_owned(),
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let capacity = 7 + self.error_code.len() + self.error_details.len();
        let mut writer = Writer::new(Self::NAME, capacity);
        writer.u32(self.request_id);
        writer.b0_255("error_code", self.error_code.as_bytes())?;
        writer.b0_64k("error_details", self.error_details.as_bytes())?;
        Ok(writer.into_payload())
    }
}

impl Kind<'_> for ProvideMissingTransactions {
    const NAME: &'static str = "ProvideMissingTransactions";
    const MSG_TYPE: u8 = MESSAGE_TYPE_PROVIDE_MISSING_TRANSACTIONS;

    fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            request_id: reader.u32("request_id")?,
            unknown_tx_positions: reader.u16_list("unknown_tx_position_list")?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new(Self::NAME, 6 + 2 * self.unknown_tx_positions.len());
        writer.u32(self.request_id);
        writer.u16_list("unknown_tx_position_list", &self.unknown_tx_positions)?;
        Ok(writer.into_payload())
    }
}
