//! A mempool as full as on the real network, in seconds.

use std::thread;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf, Transaction, TxOut, WPubkeyHash};
use serde_json::{Value, json};

use crate::coin::{Coin, PAD_BYTES_MAX, noise, transaction};
use crate::error::NodeError;
use crate::node::Node;

/// Connections that send at the same time.
const SENDERS: usize = 2;
/// Weight units of one P2WPKH output: 31 bytes without witness.
const OUTPUT_WU: u64 = 31 * 4;
/// Weight units of a transaction with one padded input, no padding and no outputs.
const EMPTY_TX_WU: u64 = (4 + 1 + 41 + 1 + 4) * 4 + 2 + 1 + 3 + 5;
/// Smallest value of an output that relays, satoshi (P2WPKH: 294).
const OUTPUT_VALUE_SAT_MIN: u64 = 300;
/// Heaviest transaction that relays, weight units.
const TX_WEIGHT_WU_MAX: u64 = 400_000;

/// What [`Node::fill_mempool`] puts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FillSpec {
    /// Transactions, none of which spends another.
    pub tx_count: usize,
    /// Weight of all together, in weight units; met to within 0.5 %.
    pub target_weight_wu: u64,
    /// Lowest fee rate, satoshi for 1,000 virtual bytes.
    pub fee_rate_min_sat_per_kvb: u64,
    /// Highest fee rate, satoshi for 1,000 virtual bytes; rates spread evenly between the two.
    pub fee_rate_max_sat_per_kvb: u64,
    /// Different seeds give different transactions.
    pub seed: u64,
}

impl Default for FillSpec {
    /// A nearly full block: 4,000 transactions of 3.9 million weight units, 1 to 50 sat/vB.
    fn default() -> Self {
        Self {
            tx_count: 4_000,
            target_weight_wu: 3_900_000,
            fee_rate_min_sat_per_kvb: 1_000,
            fee_rate_max_sat_per_kvb: 50_000,
            seed: 1,
        }
    }
}

impl FillSpec {
    /// `tx_count` transactions of the usual size (975 weight units).
    pub fn of(tx_count: usize) -> Self {
        Self { tx_count, target_weight_wu: tx_count as u64 * 975, ..Self::default() }
    }
}

/// What [`Node::fill_mempool`] has put in.
#[derive(Debug, Clone)]
pub struct Filled {
    /// The transactions, in the order sent.
    pub txs: Vec<Transaction>,
    /// Fee of each, satoshi.
    pub fees_sat: Vec<u64>,
    /// Weight of all together, weight units.
    pub weight_wu: u64,
}

/// Shape of every transaction of a fill.
struct Shape {
    outputs: u64,
    pad_bytes: usize,
    weight_wu: u64,
}

impl Shape {
    fn of_weight(weight_wu: u64) -> Result<Self, NodeError> {
        // Outputs come in steps of 124 weight units, the witness in steps of one up to 240.
        let left = weight_wu.saturating_sub(EMPTY_TX_WU);
        let outputs = left / OUTPUT_WU;
        if outputs == 0 || weight_wu > TX_WEIGHT_WU_MAX {
            return Err(NodeError::Impossible(format!(
                "transactions of {weight_wu} weight units: the smallest have {}, the largest \
                 that relay {TX_WEIGHT_WU_MAX}",
                EMPTY_TX_WU + OUTPUT_WU
            )));
        }
        let rest = left - outputs * OUTPUT_WU;
        // More witness and fewer outputs, as signatures make it in real transactions.
        let (outputs, rest) = if outputs > 1 && rest + OUTPUT_WU <= PAD_BYTES_MAX as u64 {
            (outputs - 1, rest + OUTPUT_WU)
        } else {
            (outputs, rest)
        };
        Ok(Self { outputs, pad_bytes: rest as usize, weight_wu })
    }
}

impl Node {
    /// Fills the mempool with independent transactions of equal weight and different fees, and
    /// waits until the node has taken all. Funds itself (which mines blocks).
    ///
    /// # Errors
    /// The node refused a transaction, or the sizes are out of range.
    pub fn fill_mempool(&self, spec: FillSpec) -> Result<Filled, NodeError> {
        if spec.tx_count == 0 {
            return Ok(Filled { txs: Vec::new(), fees_sat: Vec::new(), weight_wu: 0 });
        }
        let shape = Shape::of_weight(spec.target_weight_wu / spec.tx_count as u64)?;
        let vbytes = shape.weight_wu.div_ceil(4);
        let highest = spec.fee_rate_max_sat_per_kvb.max(spec.fee_rate_min_sat_per_kvb);
        let value =
            shape.outputs * OUTPUT_VALUE_SAT_MIN + vbytes * highest.div_ceil(1_000) + 10_000;
        let coins = self.ensure_funds(spec.tx_count, value)?;

        let spread = highest - spec.fee_rate_min_sat_per_kvb;
        let mut filled = Filled { txs: Vec::new(), fees_sat: Vec::new(), weight_wu: 0 };
        for (index, coin) in coins.iter().enumerate() {
            // Neighbours differ: the order of sending is not the order of fees.
            let step = (index * 7_919 % spec.tx_count) as u64;
            let rate = spec.fee_rate_min_sat_per_kvb + spread * step / spec.tx_count as u64;
            let fee_sat = (vbytes * rate).div_ceil(1_000);
            let salt = spec.seed.wrapping_mul(1 << 32).wrapping_add(index as u64);
            let tx = pay(coin, &shape, fee_sat, salt);
            filled.weight_wu += tx.weight().to_wu();
            filled.fees_sat.push(fee_sat);
            filled.txs.push(tx);
        }
        self.send_many(&filled.txs)?;
        Ok(filled)
    }

    /// Sends independent transactions to the mempool over several connections, in batches.
    ///
    /// # Errors
    /// The node's reason for refusing one.
    pub fn send_many(&self, txs: &[Transaction]) -> Result<(), NodeError> {
        let share = txs.len().div_ceil(SENDERS).max(1);
        thread::scope(|scope| {
            let senders: Vec<_> = txs
                .chunks(share)
                .map(|txs| {
                    scope.spawn(move || {
                        let calls: Vec<Value> = txs
                            .iter()
                            .map(|tx| json!([serialize_hex(tx), 0, 21_000_000]))
                            .collect();
                        self.call_batch::<String>("sendrawtransaction", &calls).map(|_| ())
                    })
                })
                .collect();
            senders.into_iter().try_for_each(|sender| {
                sender.join().unwrap_or_else(|_| {
                    Err(NodeError::Impossible("a sending thread panicked".to_owned()))
                })
            })
        })
    }

    /// Ids of what is in the mempool, in no order.
    ///
    /// # Errors
    /// The node does not answer.
    pub fn mempool(&self) -> Result<Vec<bitcoin::Txid>, NodeError> {
        self.call("getrawmempool", &[])
    }
}

fn pay(coin: &Coin, shape: &Shape, fee_sat: u64, salt: u64) -> Transaction {
    let total = coin.value_sat.saturating_sub(fee_sat);
    let each = total / shape.outputs;
    let output = (0..shape.outputs)
        .map(|index| TxOut {
            // The first takes what does not divide, so that the fee is exact.
            value: Amount::from_sat(if index == 0 {
                total - each * (shape.outputs - 1)
            } else {
                each
            }),
            script_pubkey: p2wpkh(salt.wrapping_mul(1 << 16).wrapping_add(index)),
        })
        .collect();
    transaction(vec![coin.input_padded(shape.pad_bytes, salt)], output)
}

/// A P2WPKH output script whose key nobody has.
pub(crate) fn p2wpkh(seed: u64) -> ScriptBuf {
    let mut hash = [0; 20];
    hash.copy_from_slice(&noise(seed, 20));
    ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coin::padded_script;

    #[test]
    fn transactions_have_exactly_the_weight_asked_for() {
        let coin = Coin {
            outpoint: bitcoin::OutPoint::null(),
            value_sat: 1_000_000_000,
            witness_script: padded_script(),
        };
        for weight_wu in (EMPTY_TX_WU + OUTPUT_WU..2_000).chain([50_001]) {
            let shape = Shape::of_weight(weight_wu).unwrap();
            let tx = pay(&coin, &shape, 500, 7);
            // From 253 outputs on their count takes three bytes.
            let count_wu = if shape.outputs > 252 { 8 } else { 0 };
            assert_eq!(tx.weight().to_wu(), weight_wu + count_wu);
            let paid: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
            assert_eq!(paid, coin.value_sat - 500);
        }
        assert!(Shape::of_weight(EMPTY_TX_WU).is_err());
        assert!(Shape::of_weight(TX_WEIGHT_WU_MAX + 1).is_err());
    }
}
