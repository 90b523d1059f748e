//! What a client sends, borrowed from the frame it came in.
#![deny(clippy::indexing_slicing)]

use std::fmt;

use super::{
    EncodeError, Length, MessageError,
    constants::{
        EXTENSION_TYPE_EXTENSIONS_NEGOTIATION, MESSAGE_TYPE_ALLOCATE_MINING_JOB_TOKEN,
        MESSAGE_TYPE_DECLARE_MINING_JOB, MESSAGE_TYPE_PROVIDE_MISSING_TRANSACTIONS_SUCCESS,
        MESSAGE_TYPE_PUSH_SOLUTION, MESSAGE_TYPE_REQUEST_EXTENSIONS, MESSAGE_TYPE_SETUP_CONNECTION,
    },
    kind::{Kind, messages},
};
use crate::codec::{Reader, Writer};

messages! {
    /// A message from a client to a job declaration server.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum ClientMessage<'a> {
        /// SV2 3.6.1.
        SetupConnection(SetupConnection<'a>),
        /// Extension 0x0001, section 2.
        RequestExtensions(RequestExtensions),
        /// SV2 6.4.2.
        AllocateMiningJobToken(AllocateMiningJobToken<'a>),
        /// SV2 6.4.4.
        DeclareMiningJob(DeclareMiningJob<'a>),
        /// SV2 6.4.8.
        ProvideMissingTransactionsSuccess(ProvideMissingTransactionsSuccess<'a>),
        /// SV2 6.4.9.
        PushSolution(PushSolution<'a>),
    }
}

/// Opens a connection (SV2 3.6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetupConnection<'a> {
    /// Number of the protocol, also one that nobody knows: it is to be answered by name.
    pub protocol: u8,
    /// The oldest version that the client speaks.
    pub min_version: u16,
    /// The newest version that the client speaks.
    pub max_version: u16,
    /// Optional features, by protocol.
    pub flags: u32,
    /// The host that the client believes to talk to. Like all five strings: of any bytes.
    pub endpoint_host: &'a [u8],
    /// The port that the client believes to talk to.
    pub endpoint_port: u16,
    /// E.g. the name of the program.
    pub vendor: &'a [u8],
    /// E.g. a model.
    pub hardware_version: &'a [u8],
    /// E.g. the version of the program.
    pub firmware: &'a [u8],
    /// Identifies the device to the pool.
    pub device_id: &'a [u8],
}

/// Asks for extensions (extension 0x0001).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestExtensions {
    /// Pairs the answer. Sixteen bits, unlike other request ids.
    pub request_id: u16,
    /// Numbers of the extensions.
    pub requested: Vec<u16>,
}

/// Asks for a token (SV2 6.4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllocateMiningJobToken<'a> {
    /// Whoever the pool takes this for, of any bytes.
    pub user_identifier: &'a [u8],
    /// Pairs the answer.
    pub request_id: u32,
}

/// Declares a template (SV2 6.4.4).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DeclareMiningJob<'a> {
    /// Pairs the answer.
    pub request_id: u32,
    /// From AllocateMiningJobToken.Success.
    pub mining_job_token: &'a [u8],
    /// nVersion of the block header.
    pub version: u32,
    /// The coinbase transaction up to the full extranonce, BIP 141 bytes included.
    pub coinbase_tx_prefix: &'a [u8],
    /// The coinbase transaction behind the extranonce.
    pub coinbase_tx_suffix: &'a [u8],
    /// Wtxids of the transactions in order, without the coinbase, bytes as they are hashed (not
    /// reversed as they are displayed).
    pub wtxids: &'a [[u8; 32]],
    /// Whatever the pool may need besides; nothing is known to.
    pub excess_data: &'a [u8],
}

/// Supplies transactions that the server asked for (SV2 6.4.8).
#[derive(Clone, PartialEq, Eq)]
pub struct ProvideMissingTransactionsSuccess<'a> {
    /// Of the declaration.
    pub request_id: u32,
    /// In the order asked for, consensus encoding with witness.
    pub transactions: Vec<&'a [u8]>,
}

/// A found block (SV2 6.4.9). Names no job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushSolution<'a> {
    /// All of the extranonce, at most 32 bytes.
    pub extranonce: &'a [u8],
    /// Hash of the previous block, bytes as they are hashed.
    pub prev_hash: [u8; 32],
    /// nNonce of the header.
    pub nonce: u32,
    /// nTime of the header.
    pub ntime: u32,
    /// nBits of the header, as the client has it.
    pub nbits: u32,
    /// nVersion of the header.
    pub version: u32,
}

impl fmt::Debug for DeclareMiningJob<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeclareMiningJob")
            .field("request_id", &self.request_id)
            .field("mining_job_token", &Length(self.mining_job_token.len(), "bytes"))
            .field("version", &format_args!("{:#010x}", self.version))
            .field("coinbase_tx_prefix", &Length(self.coinbase_tx_prefix.len(), "bytes"))
            .field("coinbase_tx_suffix", &Length(self.coinbase_tx_suffix.len(), "bytes"))
            .field("wtxids", &Length(self.wtxids.len(), "ids"))
            .field("excess_data", &Length(self.excess_data.len(), "bytes"))
            .finish()
    }
}

impl fmt::Debug for ProvideMissingTransactionsSuccess<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.transactions.iter().map(|transaction| transaction.len()).sum();
        f.debug_struct("ProvideMissingTransactionsSuccess")
            .field("request_id", &self.request_id)
            .field("transactions", &Length(self.transactions.len(), "transactions"))
            .field("size", &Length(bytes, "bytes"))
            .finish()
    }
}

impl SetupConnection<'_> {
    /// True when the client will show its transactions: full-template mode (SV2 6.4.1). Means
    /// something for job declaration only.
    pub fn declares_tx_data(&self) -> bool {
        common_messages_sv2::has_declare_tx_data(self.flags)
    }
}

impl<'a> Kind<'a> for SetupConnection<'a> {
    const NAME: &'static str = "SetupConnection";
    const MSG_TYPE: u8 = MESSAGE_TYPE_SETUP_CONNECTION;

    fn decode(payload: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            protocol: reader.u8("protocol")?,
            min_version: reader.u16("min_version")?,
            max_version: reader.u16("max_version")?,
            flags: reader.u32("flags")?,
            endpoint_host: reader.b0_255("endpoint_host")?,
            endpoint_port: reader.u16("endpoint_port")?,
            vendor: reader.b0_255("vendor")?,
            hardware_version: reader.b0_255("hardware_version")?,
            firmware: reader.b0_255("firmware")?,
            device_id: reader.b0_255("device_id")?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new(Self::NAME, 256);
        writer.u8(self.protocol);
        writer.u16(self.min_version);
        writer.u16(self.max_version);
        writer.u32(self.flags);
        writer.b0_255("endpoint_host", self.endpoint_host)?;
        writer.u16(self.endpoint_port);
        writer.b0_255("vendor", self.vendor)?;
        writer.b0_255("hardware_version", self.hardware_version)?;
        writer.b0_255("firmware", self.firmware)?;
        writer.b0_255("device_id", self.device_id)?;
        Ok(writer.into_payload())
    }
}

impl Kind<'_> for RequestExtensions {
    const NAME: &'static str = "RequestExtensions";
    const EXTENSION_TYPE: u16 = EXTENSION_TYPE_EXTENSIONS_NEGOTIATION;
    const MSG_TYPE: u8 = MESSAGE_TYPE_REQUEST_EXTENSIONS;

    fn decode(payload: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            request_id: reader.u16("request_id")?,
            requested: reader.u16_list("requested_extensions")?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new(Self::NAME, 4 + 2 * self.requested.len());
        writer.u16(self.request_id);
        writer.u16_list("requested_extensions", &self.requested)?;
        Ok(writer.into_payload())
    }
}

impl<'a> Kind<'a> for AllocateMiningJobToken<'a> {
    const NAME: &'static str = "AllocateMiningJobToken";
    const MSG_TYPE: u8 = MESSAGE_TYPE_ALLOCATE_MINING_JOB_TOKEN;

    fn decode(payload: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            user_identifier: reader.b0_255("user_identifier")?,
            request_id: reader.u32("request_id")?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new(Self::NAME, 5 + self.user_identifier.len());
        writer.b0_255("user_identifier", self.user_identifier)?;
        writer.u32(self.request_id);
        Ok(writer.into_payload())
    }
}

impl<'a> DeclareMiningJob<'a> {
    /// Takes one apart without its frame, for what keeps only the payload.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn decode(payload: &'a [u8]) -> Result<Self, MessageError> {
        <Self as Kind>::decode(payload)
    }
}

impl<'a> Kind<'a> for DeclareMiningJob<'a> {
    const NAME: &'static str = "DeclareMiningJob";
    const MSG_TYPE: u8 = MESSAGE_TYPE_DECLARE_MINING_JOB;

    fn decode(payload: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            request_id: reader.u32("request_id")?,
            mining_job_token: reader.b0_255("mining_job_token")?,
            version: reader.u32("version")?,
            coinbase_tx_prefix: reader.b0_64k("coinbase_tx_prefix")?,
            coinbase_tx_suffix: reader.b0_64k("coinbase_tx_suffix")?,
            wtxids: reader.u256_list("wtxid_list")?,
            excess_data: reader.b0_64k("excess_data")?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let byte_strings = [
            self.mining_job_token,
            self.coinbase_tx_prefix,
            self.coinbase_tx_suffix,
            self.wtxids.as_flattened(),
            self.excess_data,
        ];
        let capacity = 17 + byte_strings.iter().map(|bytes| bytes.len()).sum::<usize>();
        let mut writer = Writer::new(Self::NAME, capacity);
        writer.u32(self.request_id);
        writer.b0_255("mining_job_token", self.mining_job_token)?;
        writer.u32(self.version);
        writer.b0_64k("coinbase_tx_prefix", self.coinbase_tx_prefix)?;
        writer.b0_64k("coinbase_tx_suffix", self.coinbase_tx_suffix)?;
        writer.u256_list("wtxid_list", self.wtxids)?;
        writer.b0_64k("excess_data", self.excess_data)?;
        Ok(writer.into_payload())
    }
}

impl<'a> ProvideMissingTransactionsSuccess<'a> {
    /// Takes one apart without its frame, for what keeps only the payload.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn decode(payload: &'a [u8]) -> Result<Self, MessageError> {
        <Self as Kind>::decode(payload)
    }
}

impl<'a> Kind<'a> for ProvideMissingTransactionsSuccess<'a> {
    const NAME: &'static str = "ProvideMissingTransactions.Success";
    const MSG_TYPE: u8 = MESSAGE_TYPE_PROVIDE_MISSING_TRANSACTIONS_SUCCESS;

    fn decode(payload: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            request_id: reader.u32("request_id")?,
            transactions: reader.b0_16m_list("transaction_list")?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let transactions = self.transactions.iter().map(|transaction| transaction.len() + 3);
        let mut writer = Writer::new(Self::NAME, 6 + transactions.sum::<usize>());
        writer.u32(self.request_id);
        writer.b0_16m_list("transaction_list", &self.transactions)?;
        Ok(writer.into_payload())
    }
}

impl<'a> Kind<'a> for PushSolution<'a> {
    const NAME: &'static str = "PushSolution";
    const MSG_TYPE: u8 = MESSAGE_TYPE_PUSH_SOLUTION;

    fn decode(payload: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(Self::NAME, payload);
        let message = Self {
            extranonce: reader.b0_32("extranonce")?,
            prev_hash: reader.u256("prev_hash")?,
            nonce: reader.u32("nonce")?,
            ntime: reader.u32("ntime")?,
            nbits: reader.u32("nbits")?,
            version: reader.u32("version")?,
        };
        reader.finish().map(|()| message)
    }

    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut writer = Writer::new(Self::NAME, 49 + self.extranonce.len());
        writer.b0_32("extranonce", self.extranonce)?;
        writer.u256(&self.prev_hash);
        writer.u32(self.nonce);
        writer.u32(self.ntime);
        writer.u32(self.nbits);
        writer.u32(self.version);
        Ok(writer.into_payload())
    }
}
