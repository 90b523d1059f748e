//! Who is paid: what a token states to the miner, and what the verdict then demands.

use std::str::FromStr;
use std::sync::Arc;

use bitcoin::consensus::Encodable;
use bitcoin::{Address, Amount, Network, ScriptBuf, TxOut, VarInt};
use validation::identity::user_of;
use validation::rules::{Payout, Rules};

/// The operator's terms, the same for all users in pool mode, per user in solo mode.
#[derive(Debug)]
pub struct PayoutTerms {
    network: Network,
    payout: config::Payout,
}

/// Terms for one user.
#[derive(Debug)]
pub struct Terms {
    /// What the verdict demands.
    pub rules: Arc<Rules>,
    /// `AllocateMiningJobToken.Success.coinbase_outputs`: CompactSize count, then outputs in
    /// consensus encoding, values 0 (SV2 6.4.3).
    pub coinbase_outputs: Vec<u8>,
}

/// Why there are no terms for a user: only in solo mode, where the user names who is paid.
#[derive(Debug, thiserror::Error)]
pub enum TermsError {
    /// Not UTF-8, or no address before the first dot.
    #[error("user identifier {identifier:?} is not ADDRESS or ADDRESS.WORKER: {reason}")]
    NotAnAddress {
        /// As sent, escaped.
        identifier: String,
        /// The address parser's words.
        reason: String,
    },
    /// The address is of another network.
    #[error("address in user identifier {identifier:?} is not of network {network}")]
    OtherNetwork {
        /// As sent, escaped.
        identifier: String,
        /// The server's.
        network: Network,
    },
}

impl PayoutTerms {
    /// From the checked configuration.
    pub fn new(network: Network, payout: config::Payout) -> Self {
        Self { network, payout }
    }

    /// The terms for the user with this identifier.
    ///
    /// # Errors
    /// In solo mode, when the identifier is not `ADDRESS[.worker]` of our network.
    pub fn for_user(&self, identifier: &[u8]) -> Result<Terms, TermsError> {
        let payout = match &self.payout {
            config::Payout::Pool { script, min_share_bp } => {
                Payout::Pool { script: script.clone(), min_share_bp: *min_share_bp }
            }
            config::Payout::Solo { operator } => {
                Payout::Solo { script: self.own_script(identifier)?, operator: operator.clone() }
            }
        };
        let imposed_outputs: Vec<TxOut> = match &payout {
            Payout::Pool { script, .. } => vec![zero_valued(script)],
            Payout::Solo { script, operator } => std::iter::once(script)
                .chain(operator.iter().map(|(script, _)| script))
                .map(zero_valued)
                .collect(),
        };
        let coinbase_outputs = encode_outputs(&imposed_outputs);
        let rules = Arc::new(Rules { network: self.network, payout, imposed_outputs });
        Ok(Terms { rules, coinbase_outputs })
    }

    fn own_script(&self, identifier: &[u8]) -> Result<ScriptBuf, TermsError> {
        let printable = || String::from_utf8_lossy(identifier).escape_debug().to_string();
        let not_an_address =
            |reason: String| TermsError::NotAnAddress { identifier: printable(), reason };
        let text =
            std::str::from_utf8(identifier).map_err(|error| not_an_address(error.to_string()))?;
        let address =
            Address::from_str(user_of(text)).map_err(|error| not_an_address(error.to_string()))?;
        address.require_network(self.network).map(|address| address.script_pubkey()).map_err(|_| {
            TermsError::OtherNetwork { identifier: printable(), network: self.network }
        })
    }
}

fn zero_valued(script: &ScriptBuf) -> TxOut {
    TxOut { value: Amount::ZERO, script_pubkey: script.clone() }
}

#[expect(clippy::expect_used, reason = "writing to a Vec can not fail")]
fn encode_outputs(outputs: &[TxOut]) -> Vec<u8> {
    let mut bytes = Vec::new();
    VarInt::from(outputs.len()).consensus_encode(&mut bytes).expect("a Vec takes all bytes");
    for output in outputs {
        output.consensus_encode(&mut bytes).expect("a Vec takes all bytes");
    }
    bytes
}

#[cfg(test)]
mod tests {
    use bitcoin::consensus::deserialize;

    use super::*;

    const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

    fn script() -> ScriptBuf {
        Address::from_str(ADDRESS).unwrap().assume_checked().script_pubkey()
    }

    #[test]
    fn pool_mode_states_the_pool_script_first_with_value_zero() {
        let payout = config::Payout::Pool { script: script(), min_share_bp: 10_000 };
        let terms = PayoutTerms::new(Network::Regtest, payout).for_user(b"\xffany").unwrap();
        let outputs: Vec<TxOut> = deserialize(&terms.coinbase_outputs).unwrap();
        assert_eq!(outputs, vec![zero_valued(&script())]);
    }

    #[test]
    fn solo_mode_pays_the_address_in_the_identifier_and_states_the_operator() {
        let operator = ScriptBuf::from_bytes(vec![0x51]);
        let payout = config::Payout::Solo { operator: Some((operator.clone(), 100)) };
        let terms = PayoutTerms::new(Network::Regtest, payout);
        let of_user = terms.for_user(format!("{ADDRESS}.rig1").as_bytes()).unwrap();
        let outputs: Vec<TxOut> = deserialize(&of_user.coinbase_outputs).unwrap();
        assert_eq!(outputs, vec![zero_valued(&script()), zero_valued(&operator)]);
    }

    #[test]
    fn solo_mode_names_what_is_wrong_with_an_identifier() {
        let solo = || config::Payout::Solo { operator: None };
        let regtest = PayoutTerms::new(Network::Regtest, solo());
        for identifier in [&b"alice"[..], b"", b"\xff\xfe", b"."] {
            let error = regtest.for_user(identifier).unwrap_err();
            assert!(matches!(error, TermsError::NotAnAddress { .. }), "{error}");
        }
        let error = PayoutTerms::new(Network::Bitcoin, solo()).for_user(ADDRESS.as_bytes());
        assert!(matches!(error, Err(TermsError::OtherNetwork { .. })));
    }

    /// Room for it is left in every template of the mining ports.
    #[test]
    fn no_address_has_a_longer_script_than_there_is_room_for() {
        use bitcoin::{WitnessProgram, WitnessVersion};

        use crate::limits::PAYOUT_SCRIPT_BYTES_MAX;

        let terms = PayoutTerms::new(Network::Regtest, config::Payout::Solo { operator: None });
        let longest = WitnessProgram::new(WitnessVersion::V16, &[7; 40]).unwrap();
        let address = Address::from_witness_program(longest, bitcoin::KnownHrp::Regtest);
        let of_user = terms.for_user(address.to_string().as_bytes()).unwrap();
        let outputs: Vec<TxOut> = deserialize(&of_user.coinbase_outputs).unwrap();
        assert_eq!(outputs[0].script_pubkey.len(), PAYOUT_SCRIPT_BYTES_MAX);
        assert!(WitnessProgram::new(WitnessVersion::V16, &[7; 41]).is_err(), "none is longer");
    }
}
