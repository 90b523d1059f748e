//! The declared halves of a coinbase transaction, taken apart without ever putting an
//! extranonce in.
//!
//! The prefix ends inside the scriptSig, where the extranonce begins; the extranonce fills the
//! scriptSig to the length that the prefix declares; the suffix begins with nSequence (SV2 6.4.4).

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{Amount, Script, ScriptBuf, Sequence, TxOut, Txid};

use crate::bytes::{ReadError, Reader};
use crate::height::{self, HeightError};
use crate::rejection::{Reason, Rejection};

/// Fewest bytes of a coinbase's scriptSig (consensus).
pub const SCRIPT_SIG_BYTES_MIN: u64 = 2;
/// Most bytes of a coinbase's scriptSig, extranonce included (consensus).
pub const SCRIPT_SIG_BYTES_MAX: u64 = 100;
/// Most bytes of an extranonce (SV2 5.2.2: full extranonces are at most 32 bytes).
pub const EXTRANONCE_BYTES_MAX: u64 = 32;

/// Bytes of an output with an empty script, the smallest there is.
const OUTPUT_BYTES_MIN: usize = 9;

/// A coinbase transaction with a hole for the extranonce, structurally sound: one input that
/// spends the null outpoint, a scriptSig and extranonce of legal sizes that begins with a height,
/// outputs within the money range, all bytes used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoinbaseParts {
    prefix: Box<[u8]>,
    suffix: Box<[u8]>,
    /// The halves without marker, flag and witness: what the txid covers.
    stripped_prefix: Box<[u8]>,
    stripped_suffix_bytes: StrippedSuffix,
    extranonce_bytes: u8,
    script_sig_bytes: u8,
    version: i32,
    height: u32,
    sequence: Sequence,
    lock_time: LockTime,
    outputs: Box<[TxOut]>,
    output_total: Amount,
    witness: CoinbaseWitness,
}

/// Where in the suffix the parts that the txid covers lie: `[..outputs_end]`, then the last four
/// bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct StrippedSuffix {
    outputs_end: usize,
}

/// The witness of the coinbase's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoinbaseWitness {
    /// None: the transaction is in the legacy encoding.
    Absent,
    /// One item of 32 bytes, as a witness commitment needs it (BIP 141).
    Reserved([u8; 32]),
    /// Any other stack.
    Other {
        /// Items on it.
        items: u64,
    },
}

/// What the prefix says.
struct Head<'a> {
    version: i32,
    segwit: bool,
    script: &'a [u8],
    script_sig_bytes: u8,
    extranonce_bytes: u8,
}

/// What the suffix says.
struct Tail {
    sequence: Sequence,
    outputs: Vec<TxOut>,
    output_total: Amount,
    outputs_end: usize,
    witness: CoinbaseWitness,
    lock_time: LockTime,
}

impl CoinbaseParts {
    /// Takes the halves apart. Any bytes of any length are safe, and memory is used only in
    /// proportion to them.
    ///
    /// # Errors
    /// The first structural rule that is broken, with code `invalid-coinbase-tx` or
    /// `invalid-coinbase-tx-input`.
    pub fn parse(prefix: &[u8], suffix: &[u8]) -> Result<Self, Rejection> {
        let head = parse_head(prefix)?;
        let height = declared_height(head.script)?;
        let tail = parse_tail(suffix, head.segwit)?;
        let mut stripped_prefix = prefix.to_vec();
        if head.segwit {
            // Marker and flag follow the version.
            stripped_prefix.drain(4..6);
        }
        Ok(Self {
            prefix: prefix.into(),
            suffix: suffix.into(),
            stripped_prefix: stripped_prefix.into(),
            stripped_suffix_bytes: StrippedSuffix { outputs_end: tail.outputs_end },
            extranonce_bytes: head.extranonce_bytes,
            script_sig_bytes: head.script_sig_bytes,
            version: head.version,
            height,
            sequence: tail.sequence,
            lock_time: tail.lock_time,
            outputs: tail.outputs.into(),
            output_total: tail.output_total,
            witness: tail.witness,
        })
    }

    /// The declared prefix, marker and flag included.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// The declared suffix, witness included.
    pub fn suffix(&self) -> &[u8] {
        &self.suffix
    }

    /// The prefix as the txid covers it: without marker and flag.
    pub fn stripped_prefix(&self) -> &[u8] {
        &self.stripped_prefix
    }

    /// The suffix as the txid covers it, in two pieces: nSequence and outputs, nLockTime.
    pub fn stripped_suffix(&self) -> [&[u8]; 2] {
        let suffix: &[u8] = &self.suffix;
        let outputs = suffix.get(..self.stripped_suffix_bytes.outputs_end).unwrap_or_default();
        let lock_time = suffix.len().checked_sub(4).and_then(|at| suffix.get(at..));
        [outputs, lock_time.unwrap_or_default()]
    }

    /// Length of the extranonce, 1 to 32 bytes.
    pub fn extranonce_len(&self) -> usize {
        usize::from(self.extranonce_bytes)
    }

    /// nVersion of the coinbase transaction.
    pub fn tx_version(&self) -> i32 {
        self.version
    }

    /// The part of the scriptSig before the extranonce: the height and the client's tags.
    pub fn script_sig_prefix(&self) -> &[u8] {
        let script_bytes = usize::from(self.script_sig_bytes.saturating_sub(self.extranonce_bytes));
        let start = self.prefix.len().saturating_sub(script_bytes);
        self.prefix.get(start..).unwrap_or_default()
    }

    /// Length of the whole scriptSig, extranonce included, 2 to 100 bytes.
    pub fn script_sig_len(&self) -> usize {
        usize::from(self.script_sig_bytes)
    }

    /// The height that the scriptSig begins with (BIP 34).
    pub fn height(&self) -> u32 {
        self.height
    }

    /// nSequence of the input.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// nLockTime.
    pub fn lock_time(&self) -> LockTime {
        self.lock_time
    }

    /// The outputs in order, at least one.
    pub fn outputs(&self) -> &[TxOut] {
        &self.outputs
    }

    /// The outputs in consensus encoding, without their count.
    pub fn outputs_bytes(&self) -> &[u8] {
        let count_bytes = crate::bytes::compact_size_bytes(self.outputs.len() as u64) as usize;
        self.counted_outputs_bytes().get(count_bytes..).unwrap_or_default()
    }

    /// The outputs in consensus encoding, their count in front.
    pub fn counted_outputs_bytes(&self) -> &[u8] {
        let [outputs, _] = self.stripped_suffix();
        outputs.get(4..).unwrap_or_default()
    }

    /// Sum of the outputs.
    pub fn output_total(&self) -> Amount {
        self.output_total
    }

    /// The witness of the input.
    pub fn witness(&self) -> CoinbaseWitness {
        self.witness
    }

    /// Sum of the outputs to `script`.
    pub fn paid_to(&self, script: &Script) -> Amount {
        let to_script = self.outputs.iter().filter(|output| output.script_pubkey == *script);
        // The total is in the money range, so no part of it overflows.
        Amount::from_sat(to_script.map(|output| output.value.to_sat()).sum())
    }

    /// Weight of the transaction with its extranonce, in weight units.
    pub fn weight_wu(&self) -> u64 {
        let [outputs, lock_time] = self.stripped_suffix();
        let extranonce = self.extranonce_len();
        let base = self.stripped_prefix.len() + extranonce + outputs.len() + lock_time.len();
        let total = self.prefix.len() + extranonce + self.suffix.len();
        (3 * base + total) as u64
    }

    /// Least sigop cost: outputs, and the scriptSig as far as it does not depend on the extranonce.
    pub fn sigop_cost_min(&self) -> u64 {
        let outputs = self.outputs.iter().map(|output| output.script_pubkey.count_sigops_legacy());
        let input = Script::from_bytes(self.script_sig_prefix()).count_sigops_legacy();
        4 * (outputs.sum::<usize>() + input) as u64
    }

    /// The whole transaction in consensus encoding, witness included, appended to `bytes`.
    /// `extranonce` must have [`Self::extranonce_len`] bytes, or it is not the declared one.
    pub fn write_with(&self, extranonce: &[u8], bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.prefix);
        bytes.extend_from_slice(extranonce);
        bytes.extend_from_slice(&self.suffix);
    }

    /// The txid with that extranonce.
    pub fn txid_with(&self, extranonce: &[u8]) -> Txid {
        let [outputs, lock_time] = self.stripped_suffix();
        let bytes = [&self.stripped_prefix, extranonce, outputs, lock_time].concat();
        Txid::from_raw_hash(sha256d::Hash::hash(&bytes))
    }

    /// Whether a block at `height` on a tip of that median time past may hold it (BIP 113).
    pub(crate) fn is_final(&self, height: u32, median_time_past: u32) -> bool {
        self.sequence == Sequence::MAX || is_past(self.lock_time, height, median_time_past)
    }
}

/// Bitcoin Core's `IsFinalTx` without its look at the sequences.
pub(crate) fn is_past(lock_time: LockTime, height: u32, median_time_past: u32) -> bool {
    match lock_time {
        LockTime::Blocks(at) => at.to_consensus_u32() == 0 || at.to_consensus_u32() < height,
        LockTime::Seconds(at) => at.to_consensus_u32() < median_time_past,
    }
}

fn parse_head(prefix: &[u8]) -> Result<Head<'_>, Rejection> {
    let unreadable = |error| unreadable(error, Reason::CoinbasePrefix, prefix.len());
    let mut reader = Reader::new(prefix);
    let version = reader.u32().map_err(unreadable)? as i32;
    let mut inputs = reader.compact_size().map_err(unreadable)?;
    let mut segwit = false;
    if inputs == 0 {
        // No inputs in the legacy encoding, or the marker of the other one; only its flag tells.
        segwit = reader.u8().map_err(unreadable)? == 1;
        if segwit {
            inputs = reader.compact_size().map_err(unreadable)?;
        }
    }
    if inputs != 1 {
        return Err(Rejection::new(Reason::CoinbaseInputs).expected(1).actual(inputs));
    }
    let (txid, vout) =
        reader.take(32).and_then(|txid| Ok((txid, reader.u32()?))).map_err(unreadable)?;
    if txid.iter().any(|byte| *byte != 0) || vout != u32::MAX {
        return Err(Rejection::new(Reason::CoinbaseOutpoint)
            .expected("null")
            .actual(format_args!("{}:{vout}", txid_hex(txid))));
    }
    let script_sig_bytes = reader.compact_size().map_err(unreadable)?;
    if !(SCRIPT_SIG_BYTES_MIN..=SCRIPT_SIG_BYTES_MAX).contains(&script_sig_bytes) {
        return Err(Rejection::new(Reason::CoinbaseScriptSize)
            .expected(format_args!("{SCRIPT_SIG_BYTES_MIN}..{SCRIPT_SIG_BYTES_MAX}"))
            .actual(script_sig_bytes));
    }
    let script = reader.rest();
    let extranonce = i128::from(script_sig_bytes) - script.len() as i128;
    if !(1..=i128::from(EXTRANONCE_BYTES_MAX)).contains(&extranonce) {
        return Err(Rejection::new(Reason::ExtranonceSize)
            .expected(format_args!("1..{EXTRANONCE_BYTES_MAX}"))
            .actual(extranonce));
    }
    Ok(Head {
        version,
        segwit,
        script,
        script_sig_bytes: script_sig_bytes as u8,
        extranonce_bytes: extranonce as u8,
    })
}

/// The txid as it is usually printed: last byte first.
fn txid_hex(txid: &[u8]) -> String {
    txid.iter().rev().map(|byte| format!("{byte:02x}")).collect()
}

fn declared_height(script: &[u8]) -> Result<u32, Rejection> {
    height::decode(script).map_err(|error: HeightError| {
        Rejection::new(Reason::CoinbaseHeightEncoding)
            .expected("minimal-push-of-a-height")
            .actual(error)
    })
}

fn parse_tail(suffix: &[u8], segwit: bool) -> Result<Tail, Rejection> {
    let unreadable = |error| unreadable(error, Reason::CoinbaseSuffix, suffix.len());
    let mut reader = Reader::new(suffix);
    let sequence = Sequence(reader.u32().map_err(unreadable)?);
    let (outputs, output_total) = parse_outputs(&mut reader, suffix.len())?;
    let outputs_end = suffix.len() - reader.rest().len();
    let witness =
        if segwit { parse_witness(&mut reader, suffix.len())? } else { CoinbaseWitness::Absent };
    let lock_time = LockTime::from_consensus(reader.u32().map_err(unreadable)?);
    let extra = reader.rest().len();
    if extra != 0 {
        return Err(Rejection::new(Reason::CoinbaseTrailingBytes).expected(0).actual(extra));
    }
    Ok(Tail { sequence, outputs, output_total, outputs_end, witness, lock_time })
}

fn parse_outputs(
    reader: &mut Reader<'_>,
    suffix_bytes: usize,
) -> Result<(Vec<TxOut>, Amount), Rejection> {
    let unreadable = |error| unreadable(error, Reason::CoinbaseSuffix, suffix_bytes);
    let count = reader.compact_size().map_err(unreadable)?;
    if count == 0 {
        return Err(Rejection::new(Reason::CoinbaseOutputs).expected("at-least-1").actual(0));
    }
    // The count is the peer's word; what follows it bounds how much of it can be true.
    let possible = reader.rest().len() / OUTPUT_BYTES_MIN;
    let mut outputs = Vec::with_capacity(possible.min(usize::try_from(count).unwrap_or(possible)));
    let mut total = Amount::ZERO;
    for index in 0..count {
        let value = Amount::from_sat(reader.u64().map_err(unreadable)?);
        let script_bytes = reader.compact_size().map_err(unreadable)?;
        let script = reader.take(script_bytes).map_err(unreadable)?;
        total = match total.checked_add(value) {
            Some(sum) if value <= Amount::MAX_MONEY && sum <= Amount::MAX_MONEY => sum,
            _ => {
                return Err(Rejection::new(Reason::CoinbaseValueRange)
                    .at(index as usize)
                    .expected(format_args!("at-most-{}-in-sum", Amount::MAX_MONEY.to_sat()))
                    .actual(value.to_sat()));
            }
        };
        outputs.push(TxOut { value, script_pubkey: ScriptBuf::from_bytes(script.to_vec()) });
    }
    Ok((outputs, total))
}

fn parse_witness(
    reader: &mut Reader<'_>,
    suffix_bytes: usize,
) -> Result<CoinbaseWitness, Rejection> {
    let unreadable = |error| unreadable(error, Reason::CoinbaseSuffix, suffix_bytes);
    let items = reader.compact_size().map_err(unreadable)?;
    if items == 0 {
        // Bitcoin Core does not decode a marker without a witness ("superfluous witness record").
        return Err(Rejection::new(Reason::CoinbaseEncoding)
            .expected("a-witness-after-the-segwit-marker")
            .actual("empty-witness"));
    }
    let mut first: &[u8] = &[];
    for index in 0..items {
        let bytes = reader.compact_size().map_err(unreadable)?;
        let item = reader.take(bytes).map_err(unreadable)?;
        if index == 0 {
            first = item;
        }
    }
    Ok(match <[u8; 32]>::try_from(first) {
        Ok(reserved) if items == 1 => CoinbaseWitness::Reserved(reserved),
        _ => CoinbaseWitness::Other { items },
    })
}

fn unreadable(error: ReadError, ends: Reason, bytes: usize) -> Rejection {
    match error {
        ReadError::Ends => Rejection::new(ends).expected("more-bytes").actual(bytes),
        ReadError::NotMinimal => Rejection::new(Reason::CoinbaseEncoding)
            .expected("shortest-compact-size")
            .actual("longer-form"),
    }
}
