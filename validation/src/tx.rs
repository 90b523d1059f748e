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
mod tests {
    use bitcoin::consensus::{deserialize, serialize};
    use bitcoin::transaction::Version;
    use bitcoin::{ScriptBuf, TxIn, TxOut, Witness};
    use proptest::prelude::*;

    use super::*;

    fn sample(inputs: u8, outputs: u8, witness: bool) -> Transaction {
        let input = |number: u8| TxIn {
            previous_output: OutPoint { txid: Txid::hash(&[number]), vout: u32::from(number) },
            script_sig: ScriptBuf::from_bytes(vec![0xac; usize::from(number)]),
            sequence: Sequence(u32::from(number)),
            witness: Witness::from_slice(&vec![[number; 3]; if witness { 2 } else { 0 }]),
        };
        let output = |number: u8| TxOut {
            value: Amount::from_sat(u64::from(number) * 1_000),
            script_pubkey: ScriptBuf::from_bytes(vec![0x6a + number; usize::from(number)]),
        };
        Transaction {
            version: Version(7),
            lock_time: LockTime::from_consensus(77),
            input: (0..inputs).map(input).collect(),
            output: (0..outputs).map(output).collect(),
        }
    }

    #[test]
    fn facts_are_those_of_the_bitcoin_crate() {
        for witness in [false, true] {
            let tx = sample(3, 4, witness);
            let raw = serialize(&tx);
            let parsed = Tx::parse(&raw).unwrap();
            assert_eq!(parsed.raw(), raw);
            assert_eq!(parsed.txid(), tx.compute_txid());
            assert_eq!(parsed.wtxid(), tx.compute_wtxid());
            assert_eq!(u64::from(parsed.weight_wu()), tx.weight().to_wu());
            assert_eq!(parsed.base_bytes() as usize, tx.base_size());
            assert_eq!(parsed.has_witness(), witness);
            assert_eq!(parsed.version(), 7);
            assert_eq!(parsed.lock_time(), tx.lock_time);
            assert_eq!(parsed.output_total().to_sat(), 6_000);
            assert_eq!(parsed.inputs()[2].outpoint, tx.input[2].previous_output);
            assert_eq!(parsed.inputs()[2].sequence, Sequence(2));
            assert_eq!(parsed.outputs()[3].value.to_sat(), 3_000);
            // 0 + 1 + 2 OP_CHECKSIG in the inputs, none in the outputs.
            assert_eq!(parsed.legacy_sigop_cost(), 12);
            assert!(parsed.memory_bytes() > raw.len());
        }
    }

    #[test]
    fn relative_locks_apply_to_unsigned_versions_from_2_on() {
        for (version, locks) in [(0, false), (1, false), (2, true), (-1, true), (i32::MIN, true)] {
            let tx = Transaction { version: Version(version), ..sample(1, 1, false) };
            assert_eq!(Tx::parse(&serialize(&tx)).unwrap().has_sequence_locks(), locks);
        }
    }

    #[test]
    fn first_facts_of_the_node_stay() {
        let tx = Tx::parse(&serialize(&sample(1, 1, true))).unwrap();
        assert_eq!(tx.node_facts(), None);
        let facts = NodeFacts { fee_sat: 5, sigop_cost: 6 };
        tx.learn(facts);
        tx.learn(NodeFacts { fee_sat: 7, sigop_cost: 8 });
        assert_eq!(tx.node_facts(), Some(facts));
    }

    #[test]
    fn what_is_no_transaction_is_refused() {
        let good = serialize(&sample(1, 1, true));
        let mut trailing = good.clone();
        trailing.extend([1, 2]);
        assert_eq!(Tx::parse(&trailing).unwrap_err(), TxError::TrailingBytes { extra: 2 });
        for len in 0..good.len() {
            assert!(matches!(Tx::parse(&good[..len]), Err(TxError::Decode(_))), "{len} bytes");
        }
        let huge = vec![0; TX_BYTES_MAX + 1];
        assert_eq!(Tx::parse(&huge).unwrap_err(), TxError::TooLarge { actual: TX_BYTES_MAX + 1 });
        for witness in [false, true] {
            let none = sample(0, 1, witness);
            assert_eq!(Tx::parse(&serialize(&none)).unwrap_err(), TxError::NoInputs);
        }
        assert_eq!(Tx::parse(&serialize(&sample(1, 0, true))).unwrap_err(), TxError::NoOutputs);
        let mut twice = sample(2, 1, true);
        twice.input[1].previous_output = twice.input[0].previous_output;
        let error = Tx::parse(&serialize(&twice)).unwrap_err();
        assert_eq!(error, TxError::DuplicateInput { index: 1 });
        twice.input[1].previous_output = OutPoint::null();
        let error = Tx::parse(&serialize(&twice)).unwrap_err();
        assert_eq!(error, TxError::NullOutpoint { index: 1 });
        let mut rich = sample(1, 3, true);
        rich.output[2].value = Amount::MAX_MONEY;
        let error = Tx::parse(&serialize(&rich)).unwrap_err();
        assert_eq!(error, TxError::ValueOutOfRange { index: 2 });
    }

    /// Encodings of sound transactions that are not *the* encoding.
    #[test]
    fn other_encodings_do_not_decode() {
        let legacy = serialize(&sample(1, 1, false));
        let segwit = serialize(&sample(1, 1, true));
        let edit = |raw: &[u8], at: usize, count: usize, with: &[u8]| {
            let mut raw = raw.to_vec();
            raw.splice(at..at + count, with.iter().copied());
            raw
        };
        let end = segwit.len() - 4;
        for (raw, what) in [
            (edit(&legacy, 4, 1, &[0xfd, 1, 0]), "count of inputs in three bytes"),
            (edit(&legacy, 4, 1, &[0xfe, 1, 0, 0, 0]), "count of inputs in five bytes"),
            (edit(&legacy, 4, 1, &[0xff, 1, 0, 0, 0, 0, 0, 0, 0]), "count of inputs in nine"),
            (edit(&legacy, 4 + 1 + 36, 1, &[0xfd, 0, 0]), "script length in three bytes"),
            (edit(&segwit, 5, 1, &[2]), "another segwit flag"),
            (edit(&segwit, 5, 1, &[0]), "no segwit flag"),
            // The witness is a count of 2 and two items of 3 bytes with their length.
            (edit(&segwit, end - 9, 9, &[0]), "marker without witness"),
            (edit(&segwit, end - 9, 1, &[0xfd, 2, 0]), "count of witness items in three bytes"),
            (edit(&segwit, end - 8, 1, &[0xfd, 3, 0]), "length of a witness item in three bytes"),
        ] {
            assert!(matches!(Tx::parse(&raw), Err(TxError::Decode(_))), "{what} is accepted");
        }
    }

    proptest! {
        /// Whatever is accepted re-encodes to the same bytes, however it was damaged before.
        #[test]
        fn what_is_accepted_is_canonical(
            inputs in 0_u8..3, outputs in 0_u8..3, witness: bool,
            edits in prop::collection::vec((0_usize..200, 0_usize..3, prop::collection::vec(any::<u8>(), 0..3)), 0..4),
        ) {
            let mut raw = serialize(&sample(inputs, outputs, witness));
            for (at, remove, insert) in edits {
                let at = at.min(raw.len());
                let end = (at + remove).min(raw.len());
                raw.splice(at..end, insert);
            }
            if let Ok(parsed) = Tx::parse(&raw) {
                let tx: Transaction = deserialize(&raw).unwrap();
                prop_assert_eq!(serialize(&tx), raw);
                prop_assert_eq!(parsed.wtxid(), tx.compute_wtxid());
                prop_assert_eq!(parsed.txid(), tx.compute_txid());
                prop_assert_eq!(u64::from(parsed.weight_wu()), tx.weight().to_wu());
            }
        }

        #[test]
        fn any_bytes_are_safe(raw in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Tx::parse(&raw);
        }
    }
}
