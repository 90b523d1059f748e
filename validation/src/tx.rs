//! A transaction as the server holds it: bytes once, facts computed once, shared by every job.

use std::sync::OnceLock;

use bitcoin::consensus::Decodable;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{Amount, OutPoint, Sequence, Transaction, Txid, Wtxid, absolute::LockTime};

/// Largest transaction that fits a block, in bytes (a block has 4,000,000 weight units).
pub const TX_BYTES_MAX: usize = 4_000_000;

/// An output script longer than this can never be spent (Bitcoin Core `MAX_SCRIPT_SIZE`), bytes.
const MAX_SCRIPT_BYTES: usize = 10_000;

/// One parsed transaction with everything a verdict reads from it, computed once at parse.
///
/// Held behind an `Arc` and shared: a job never copies a transaction.
#[derive(Debug)]
pub struct Tx {
    raw: Box<[u8]>,
    txid: Txid,
    wtxid: Wtxid,
    weight_wu: u32,
    base_bytes: u32,
    legacy_sigop_cost: u32,
    output_total: Amount,
    version: i32,
    lock_time: LockTime,
    inputs: Box<[Input]>,
    outputs: Box<[Output]>,
    node: OnceLock<NodeFacts>,
}

/// What a verdict reads of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// The output spent.
    pub outpoint: OutPoint,
    /// nSequence (BIP 68).
    pub sequence: Sequence,
}

/// What a verdict reads of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// Value in satoshi.
    pub value: Amount,
    /// False when no later transaction can spend it (`OP_RETURN` first, or over 10,000 bytes).
    pub spendable: bool,
}

/// What our own node said about a transaction that it knows. Constant for a given wtxid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeFacts {
    /// Inputs minus outputs, in satoshi.
    pub fee_sat: u64,
    /// Sigop cost as BIP 141 counts it (legacy and P2SH times four, plus witness).
    pub sigop_cost: u32,
}

/// Why bytes are not a transaction that a block can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TxError {
    /// The bytes do not decode.
    #[error("does not decode: {0}")]
    Decode(String),
    /// Bytes were left over after the transaction.
    #[error("{extra} bytes after the end of the transaction")]
    TrailingBytes {
        /// How many.
        extra: usize,
    },
    /// More bytes than a block can hold.
    #[error("{actual} bytes, at most {TX_BYTES_MAX} fit a block")]
    TooLarge {
        /// Size of what was supplied, bytes.
        actual: usize,
    },
    /// No inputs (`bad-txns-vin-empty`).
    #[error("has no inputs")]
    NoInputs,
    /// No outputs (`bad-txns-vout-empty`).
    #[error("has no outputs")]
    NoOutputs,
    /// An output, or the sum of the outputs, is outside of 0 to 21 million BTC.
    #[error("output {index} brings the value outside of the money range")]
    ValueOutOfRange {
        /// Position of the output.
        index: usize,
    },
    /// An input spends the null outpoint, as only a coinbase may.
    #[error("input {index} spends the null outpoint")]
    NullOutpoint {
        /// Position of the input.
        index: usize,
    },
    /// Two inputs spend the same output (`bad-txns-inputs-duplicate`).
    #[error("input {index} spends an output that an earlier input spends")]
    DuplicateInput {
        /// Position of the second of the two.
        index: usize,
    },
}

impl Tx {
    /// Parses one transaction in consensus encoding, all bytes used, and checks what can be
    /// checked without context (Bitcoin Core's `CheckTransaction`).
    ///
    /// # Errors
    /// [`TxError`] names the first thing that is wrong.
    pub fn parse(raw: &[u8]) -> Result<Self, TxError> {
        if raw.len() > TX_BYTES_MAX {
            return Err(TxError::TooLarge { actual: raw.len() });
        }
        let mut rest = raw;
        let tx = Transaction::consensus_decode(&mut rest)
            .map_err(|error| TxError::Decode(error.to_string()))?;
        if !rest.is_empty() {
            return Err(TxError::TrailingBytes { extra: rest.len() });
        }
        Self::check(&tx)?;
        // The bytes are kept as they came. That is sound because the decoder accepts one encoding
        // of each transaction only: it refuses CompactSizes that are not in shortest form, a
        // segwit flag other than 1, and a segwit marker without any witness; every other field
        // has a fixed width. The exception, no inputs behind a marker, is refused above. Hashing
        // what is kept, not a new encoding of it, makes the wtxid hold for these bytes whatever
        // the decoder does.
        Ok(Self::from_checked(&tx, raw.into()))
    }

    fn check(tx: &Transaction) -> Result<(), TxError> {
        if tx.input.is_empty() {
            return Err(TxError::NoInputs);
        }
        if tx.output.is_empty() {
            return Err(TxError::NoOutputs);
        }
        let mut sum = Amount::ZERO;
        for (index, output) in tx.output.iter().enumerate() {
            sum = match sum.checked_add(output.value) {
                Some(sum) if output.value <= Amount::MAX_MONEY && sum <= Amount::MAX_MONEY => sum,
                _ => return Err(TxError::ValueOutOfRange { index }),
            };
        }
        let mut spent = std::collections::HashSet::with_capacity(tx.input.len());
        for (index, input) in tx.input.iter().enumerate() {
            if input.previous_output.is_null() {
                return Err(TxError::NullOutpoint { index });
            }
            if !spent.insert(input.previous_output) {
                return Err(TxError::DuplicateInput { index });
            }
        }
        Ok(())
    }

    fn from_checked(tx: &Transaction, raw: Box<[u8]>) -> Self {
        let legacy_sigops: usize = tx
            .input
            .iter()
            .map(|input| input.script_sig.count_sigops_legacy())
            .chain(tx.output.iter().map(|output| output.script_pubkey.count_sigops_legacy()))
            .sum();
        let inputs = tx
            .input
            .iter()
            .map(|input| Input { outpoint: input.previous_output, sequence: input.sequence })
            .collect();
        let outputs = tx
            .output
            .iter()
            .map(|output| Output {
                value: output.value,
                spendable: !(output.script_pubkey.is_op_return()
                    || output.script_pubkey.len() > MAX_SCRIPT_BYTES),
            })
            .collect();
        let wtxid = Wtxid::from_raw_hash(sha256d::Hash::hash(&raw));
        let base_bytes = tx.base_size();
        // Without a witness both ids cover the same bytes.
        let same = base_bytes == raw.len();
        let txid = if same { Txid::from_raw_hash(wtxid.to_raw_hash()) } else { tx.compute_txid() };
        Self {
            txid,
            wtxid,
            weight_wu: (3 * base_bytes + raw.len()) as u32,
            base_bytes: base_bytes as u32,
            output_total: Amount::from_sat(tx.output.iter().map(|out| out.value.to_sat()).sum()),
            legacy_sigop_cost: (legacy_sigops * 4) as u32,
            version: tx.version.0,
            lock_time: tx.lock_time,
            inputs,
            outputs,
            raw,
            node: OnceLock::new(),
        }
    }

    /// The consensus encoding, witness included.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Hash without witness.
    pub fn txid(&self) -> Txid {
        self.txid
    }

    /// Hash with witness (BIP 141).
    pub fn wtxid(&self) -> Wtxid {
        self.wtxid
    }

    /// Weight in weight units (BIP 141).
    pub fn weight_wu(&self) -> u32 {
        self.weight_wu
    }

    /// Size without witness, bytes.
    pub fn base_bytes(&self) -> u32 {
        self.base_bytes
    }

    /// True when any input carries a witness.
    pub fn has_witness(&self) -> bool {
        self.raw.len() > self.base_bytes as usize
    }

    /// Sigop cost of the scripts in the transaction itself: a lower bound of the true cost, which
    /// also needs the outputs spent (P2SH and witness programs).
    pub fn legacy_sigop_cost(&self) -> u32 {
        self.legacy_sigop_cost
    }

    /// Sum of the outputs, at most 21 million BTC.
    pub fn output_total(&self) -> Amount {
        self.output_total
    }

    /// nVersion as a signed number.
    pub fn version(&self) -> i32 {
        self.version
    }

    /// Whether relative lock times apply (BIP 68): from version 2 on as an *unsigned* number, as
    /// Bitcoin Core compares it, so negative versions opt in as well.
    pub fn has_sequence_locks(&self) -> bool {
        self.version as u32 >= 2
    }

    /// nLockTime.
    pub fn lock_time(&self) -> LockTime {
        self.lock_time
    }

    /// Inputs in order.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// Outputs in order.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// What our node said of it, if it ever did.
    pub fn node_facts(&self) -> Option<NodeFacts> {
        self.node.get().copied()
    }

    /// Records what our node says of it. The facts are constant, so the first report stays.
    pub fn learn(&self, facts: NodeFacts) {
        let _ = self.node.set(facts);
    }

    /// Bytes of memory this transaction holds, for cache budgets.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.raw.len()
            + size_of_val(self.inputs.as_ref())
            + size_of_val(self.outputs.as_ref())
    }
}

#[cfg(test)]
mod tests;
