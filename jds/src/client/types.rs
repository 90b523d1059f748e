//! What a caller gives to the client and gets from it.

use std::time::Duration;

use bitcoin::TxOut;
use jds_wire::message::{PROTOCOL_VERSION, constants::SV2_JOB_DECLARATION_PROTOCOL_DISCRIMINANT};

use super::ANSWER_TIMEOUT;

/// What SetupConnection says, and how patient the client is.
#[derive(Debug, Clone)]
pub struct SetupOptions {
    /// Full-template mode: the flag `DECLARE_TX_DATA` (SV2 6.4.1). Without it, coinbase-only.
    pub full_template: bool,
    /// Flags besides, for servers that know them or should not.
    pub other_flags: u32,
    /// Number of the protocol; job declaration.
    pub protocol: u8,
    /// The oldest version spoken.
    pub min_version: u16,
    /// The newest version spoken.
    pub max_version: u16,
    /// Name of the program.
    pub vendor: String,
    /// Name of this device.
    pub device_id: String,
    /// For connecting, for set-up, and for each answer from then on.
    pub timeout: Duration,
}

impl Default for SetupOptions {
    fn default() -> Self {
        Self {
            full_template: true,
            other_flags: 0,
            protocol: SV2_JOB_DECLARATION_PROTOCOL_DISCRIMINANT,
            min_version: PROTOCOL_VERSION,
            max_version: PROTOCOL_VERSION,
            vendor: env!("CARGO_PKG_NAME").to_owned(),
            device_id: String::new(),
            timeout: ANSWER_TIMEOUT,
        }
    }
}

/// A right to declare one job (SV2 6.4.3).
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// What only the server reads.
    pub bytes: Vec<u8>,
    /// The outputs that the coinbase has to have, a CompactSize count and their consensus encoding.
    pub coinbase_outputs: Vec<u8>,
}

impl Token {
    /// The outputs, values 0 as they come; the first is the pool's payout.
    ///
    /// # Errors
    /// When the server's bytes are not a list of outputs.
    pub fn outputs(&self) -> Result<Vec<TxOut>, bitcoin::consensus::encode::Error> {
        bitcoin::consensus::deserialize(&self.coinbase_outputs)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token(<{} bytes>, outputs: {:?})", self.bytes.len(), self.outputs())
    }
}

/// A template to declare (SV2 6.4.4).
#[derive(Debug, Clone, Copy)]
pub struct Declaration<'a> {
    /// [`Token::bytes`].
    pub token: &'a [u8],
    /// nVersion of the block.
    pub version: u32,
    /// The coinbase transaction up to the extranonce, BIP 141 bytes included.
    pub prefix: &'a [u8],
    /// The coinbase transaction behind the extranonce.
    pub suffix: &'a [u8],
    /// Wtxids in block order without the coinbase, as they are hashed.
    pub wtxids: &'a [[u8; 32]],
}

/// How a declaration ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeclareOutcome {
    /// DeclareMiningJob.Success.
    Accepted {
        /// For SetCustomMiningJob; ours carries a receipt.
        new_token: Vec<u8>,
        /// How many transactions the server asked for.
        missing: usize,
        /// From sending the declaration to the answer.
        elapsed: Duration,
    },
    /// DeclareMiningJob.Error.
    Rejected {
        /// The error code.
        code: String,
        /// `key=value` pairs, from our server.
        details: String,
        /// How many transactions the server asked for.
        missing: usize,
        /// From sending the declaration to the answer.
        elapsed: Duration,
    },
}
