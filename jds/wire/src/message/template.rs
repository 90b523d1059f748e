//! The messages of a template distribution connection (SV2 3.6, 7 and extension 0x0001).
#![deny(clippy::indexing_slicing)]

mod fields;

use std::{borrow::Cow, fmt};

use super::{
    Length, RequestExtensions, RequestExtensionsError, SetupConnection, SetupConnectionError,
    SetupConnectionSuccess, kind::messages,
};

messages! {
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
}

messages! {
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
