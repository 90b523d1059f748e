//! Coinbases of the pool's own jobs, with a hole for the extranonce.

use bitcoin::TxOut;
use bitcoin::consensus::Encodable;
use template_distribution_sv2::NewTemplateOwned;
use validation::CoinbaseParts;
use validation::coinbase::SCRIPT_SIG_BYTES_MAX;
use validation::rejection::Rejection;

/// Why there is no coinbase.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CoinbaseError {
    /// Height, tag and extranonce do not fit.
    #[error("a scriptSig of {0} bytes, at most {SCRIPT_SIG_BYTES_MAX} are allowed")]
    ScriptSig(usize),
    /// What came of it is no coinbase.
    #[error("no coinbase: {0:?}")]
    Malformed(Rejection),
    /// The outputs do not take what the template leaves.
    #[error("outputs of {actual} sat where the template leaves {expected} sat")]
    Value {
        /// `coinbase_tx_value_remaining`.
        expected: u64,
        /// Sum of the outputs.
        actual: u64,
    },
}

/// Marker and flag (BIP 144), and one input that spends the null outpoint.
const AFTER_VERSION: [u8; 3] = [0, 1, 1];
/// One witness item of 32 zeros: the reserved value that templates commit to (BIP 141).
const WITNESS: [u8; 34] = {
    let mut witness = [0; 34];
    witness[0] = 1;
    witness[1] = 32;
    witness
};

/// The coinbase of a template that pays `outputs`, which take all of its value. The scriptSig is
/// what the template demands, a push of `Sv2/TAG//`, and a push of the extranonce, the layout of
/// the reference pool.
///
/// # Errors
/// [`CoinbaseError`]: the template or the outputs are unusable.
pub fn pool_coinbase(
    template: &NewTemplateOwned,
    outputs: &[TxOut],
    tag: &str,
    extranonce_len: usize,
) -> Result<CoinbaseParts, CoinbaseError> {
    let expected = template.coinbase_tx_value_remaining;
    let actual = outputs.iter().map(|output| output.value.to_sat()).fold(0, u64::saturating_add);
    if actual != expected {
        return Err(CoinbaseError::Value { expected, actual });
    }
    let height = template.coinbase_prefix.as_bytes();
    let tag = [b"Sv2/", tag.as_bytes(), b"//"].concat();
    let script_len = height.len() + 1 + tag.len() + 1 + extranonce_len;
    let script_len_byte = u8::try_from(script_len)
        .ok()
        .filter(|len| u64::from(*len) <= SCRIPT_SIG_BYTES_MAX)
        .ok_or(CoinbaseError::ScriptSig(script_len))?;

    let mut prefix = Vec::with_capacity(48 + script_len);
    prefix.extend(template.coinbase_tx_version.to_le_bytes());
    prefix.extend(AFTER_VERSION);
    prefix.extend([0; 32]);
    prefix.extend([0xff; 4]);
    prefix.push(script_len_byte);
    prefix.extend(height);
    // The script's length bounds both.
    prefix.push(tag.len() as u8);
    prefix.extend(&tag);
    prefix.push(extranonce_len as u8);

    let mut suffix = template.coinbase_tx_input_sequence.to_le_bytes().to_vec();
    let count = outputs.len() as u64 + u64::from(template.coinbase_tx_outputs_count);
    // Writing to memory does not fail.
    let _ = bitcoin::VarInt(count).consensus_encode(&mut suffix);
    for output in outputs {
        let _ = output.consensus_encode(&mut suffix);
    }
    suffix.extend(template.coinbase_tx_outputs.as_bytes());
    suffix.extend(WITNESS);
    suffix.extend(template.coinbase_tx_locktime.to_le_bytes());
    CoinbaseParts::parse(&prefix, &suffix).map_err(CoinbaseError::Malformed)
}
