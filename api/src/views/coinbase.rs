//! A declared coinbase, taken apart for people.

use bitcoin::hex::DisplayHex;
use bitcoin::{Address, Network, TxOut};
use serde::Serialize;
use utoipa::ToSchema;
use validation::CoinbaseParts;

/// A coinbase transaction with a hole for the extranonce.
#[derive(Serialize, ToSchema)]
#[schema(as = Coinbase)]
pub(crate) struct CoinbaseView {
    /// The transaction up to the extranonce, hex.
    pub(crate) prefix_hex: String,
    /// The transaction after the extranonce, hex.
    pub(crate) suffix_hex: String,
    /// What is in it; null when the halves do not make a coinbase.
    pub(crate) decoded: Option<DecodedView>,
}

/// What is in a coinbase.
#[derive(Serialize, ToSchema)]
#[schema(as = DecodedCoinbase)]
pub(crate) struct DecodedView {
    /// nVersion.
    pub(crate) version: i32,
    /// Height that the scriptSig begins with (BIP 34).
    pub(crate) height: u32,
    /// The scriptSig before the extranonce, hex.
    pub(crate) script_sig_prefix_hex: String,
    /// The same as text, with a dot for what can not be printed: tags of miners and pools.
    pub(crate) script_sig_prefix_text: String,
    /// Length of the extranonce, bytes.
    pub(crate) extranonce_bytes: usize,
    /// nSequence.
    pub(crate) sequence: u32,
    /// nLockTime.
    pub(crate) lock_time: u32,
    /// Sum of the outputs, satoshi.
    pub(crate) output_total_sat: u64,
    /// Weight with the extranonce, weight units.
    pub(crate) weight_wu: u64,
    /// The outputs in order.
    pub(crate) outputs: Vec<OutputView>,
}

/// An output of a coinbase.
#[derive(Serialize, ToSchema)]
#[schema(as = CoinbaseOutput)]
pub(crate) struct OutputView {
    /// Value, satoshi.
    pub(crate) value_sat: u64,
    /// Its script, hex.
    pub(crate) script_hex: String,
    /// `witness_commitment`, `op_return`, or the kind of address (`p2wpkh`, `p2tr` …); `other`
    /// when it is none of them.
    pub(crate) kind: String,
    /// The address, where the script has one.
    pub(crate) address: Option<String>,
}

/// Start of the script of a witness commitment (BIP 141).
const WITNESS_COMMITMENT: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

impl CoinbaseView {
    pub(crate) fn new(prefix: &[u8], suffix: &[u8], network: Network) -> Self {
        Self {
            prefix_hex: prefix.to_lower_hex_string(),
            suffix_hex: suffix.to_lower_hex_string(),
            decoded: CoinbaseParts::parse(prefix, suffix)
                .ok()
                .map(|parts| DecodedView::new(&parts, network)),
        }
    }
}

impl DecodedView {
    fn new(parts: &CoinbaseParts, network: Network) -> Self {
        let script_sig = parts.script_sig_prefix();
        let printable = |byte: &u8| match byte {
            0x20..=0x7e => char::from(*byte),
            _ => '.',
        };
        Self {
            version: parts.tx_version(),
            height: parts.height(),
            script_sig_prefix_hex: script_sig.to_lower_hex_string(),
            script_sig_prefix_text: script_sig.iter().map(printable).collect(),
            extranonce_bytes: parts.extranonce_len(),
            sequence: parts.sequence().to_consensus_u32(),
            lock_time: parts.lock_time().to_consensus_u32(),
            output_total_sat: parts.output_total().to_sat(),
            weight_wu: parts.weight_wu(),
            outputs: parts
                .outputs()
                .iter()
                .map(|output| OutputView::new(output, network))
                .collect(),
        }
    }
}

impl OutputView {
    fn new(output: &TxOut, network: Network) -> Self {
        let script = &output.script_pubkey;
        let address = Address::from_script(script, network).ok();
        let kind = match &address {
            _ if script.as_bytes().starts_with(&WITNESS_COMMITMENT) => {
                "witness_commitment".to_owned()
            }
            _ if script.is_op_return() => "op_return".to_owned(),
            Some(address) => {
                address.address_type().map_or_else(|| "other".to_owned(), |kind| kind.to_string())
            }
            None => "other".to_owned(),
        };
        Self {
            value_sat: output.value.to_sat(),
            script_hex: script.to_hex_string(),
            kind,
            address: address.map(|address| address.to_string()),
        }
    }
}
