//! What transactions of one block may spend of each other, and when.

use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, Sequence};

use crate::coinbase::is_past;
use crate::job::Fees;
use crate::keyed::{Keyed, Positions};
use crate::rejection::{Reason, Rejection};
use crate::tip::ChainTip;
use crate::tx::Tx;

/// Sequence bit that switches a relative lock off (BIP 68).
const SEQUENCE_LOCK_DISABLED: u32 = 1 << 31;
/// Sequence bits that hold the age of a relative lock, in blocks or units of 512 s (BIP 68).
const SEQUENCE_LOCK_AGE: u32 = 0xffff;

/// Finality of one transaction in the next block (BIP 113): Bitcoin Core's `IsFinalTx` with the
/// tip's median time past as cut-off.
pub(crate) fn check_final(index: usize, tx: &Tx, tip: &ChainTip) -> Result<(), Rejection> {
    let next = tip.next_height();
    if is_past(tx.lock_time(), next, tip.median_time_past)
        || tx.inputs().iter().all(|input| input.sequence == Sequence::MAX)
    {
        return Ok(());
    }
    Err(Rejection::new(Reason::TxNotFinal)
        .at(index)
        .expected(format_args!("below-height-{next}-or-time-{}", tip.median_time_past))
        .actual(tx.lock_time().to_consensus_u32()))
}

/// Checks all spending within the block and sums the fees that are known. `inputs` is the number
/// of inputs of all transactions together, `unvouched` the positions of those whose fee no node had told,
/// ascending.
///
/// An outpoint of a transaction that is not in the block is left alone: it may well be unspent.
pub(crate) fn check_spends(
    txs: &[Arc<Tx>],
    inputs: usize,
    unvouched: &[u16],
) -> Result<Fees, Rejection> {
    let mut unvouched = unvouched.iter().map(|at| usize::from(*at)).peekable();
    let keyed = Keyed::default();
    let txid_at = |position: usize| txs.get(position).map(|tx| tx.txid());
    let mut by_txid = Positions::with_capacity(txs.len());
    for (tx, position) in txs.iter().zip(0..) {
        let txid = tx.txid();
        by_txid.find_or_add(keyed.id(txid.as_byte_array()), position, |p| txid_at(p) == Some(txid));
    }
    // All at once: inputs lie apart in memory, and many reads wait for it at the same time here.
    let mut hashes = Vec::with_capacity(inputs);
    for input in txs.iter().flat_map(|tx| tx.inputs()) {
        let hash = keyed.id(input.outpoint.txid.as_byte_array());
        hashes.push((hash, keyed.part(hash, input.outpoint.vout)));
    }
    let mut hashes = hashes.into_iter();
    let mut spenders = Positions::with_capacity(inputs);
    let (mut known_sat, mut all_known) = (0_u64, true);
    for (index, tx) in txs.iter().enumerate() {
        // Null as soon as one input spends an output that we do not see.
        let mut input_sat = Some(0_u64);
        for (input, (hash, hash_of_output)) in tx.inputs().iter().zip(&mut hashes) {
            // No transaction spends an output twice by itself: that is looked at when it is parsed.
            let spends_it = |p: usize| p != index && spends(txs, p, input.outpoint);
            if spenders.find_or_add(hash_of_output, index as u16, spends_it).is_some() {
                return Err(Rejection::new(Reason::DoubleSpend)
                    .at(index)
                    .expected("unspent")
                    .actual(input.outpoint));
            }
            let parent = by_txid.find(hash, |p| txid_at(p) == Some(input.outpoint.txid));
            let value = match parent {
                Some(parent) => Some(in_block_value(txs, parent, index, input.outpoint)?),
                None => None,
            };
            if value.is_some() {
                check_sequence(index, tx, input.sequence)?;
            }
            input_sat =
                input_sat.zip(value).map(|(sum_sat, value)| sum_sat.saturating_add(value.to_sat()));
        }
        let told = unvouched.next_if_eq(&index).is_none().then(|| tx.node_facts()).flatten();
        let fee_sat = match (input_sat, told) {
            (Some(input_sat), _) => Some(seen_fee(index, tx, input_sat)?),
            (None, Some(facts)) => Some(facts.fee_sat),
            (None, None) => None,
        };
        match fee_sat {
            Some(fee_sat) => known_sat = known_sat.saturating_add(fee_sat),
            None => all_known = false,
        }
    }
    Ok(Fees { total_sat: all_known.then_some(known_sat), known_sat })
}

/// Whether the transaction at `position` spends `outpoint`.
fn spends(txs: &[Arc<Tx>], position: usize, outpoint: OutPoint) -> bool {
    let inputs = txs.get(position).map(|tx| tx.inputs()).unwrap_or_default();
    inputs.iter().any(|input| input.outpoint == outpoint)
}

/// The value of an output of the transaction at `position`, which must be earlier than `index`.
fn in_block_value(
    txs: &[Arc<Tx>],
    position: usize,
    index: usize,
    outpoint: OutPoint,
) -> Result<Amount, Rejection> {
    if position >= index {
        return Err(Rejection::new(Reason::ParentAfterChild)
            .at(index)
            .expected("parent-first")
            .actual(format_args!("parent-at-{position}")));
    }
    let outputs = txs.get(position).map(|tx| tx.outputs()).unwrap_or_default();
    let output = usize::try_from(outpoint.vout).ok().and_then(|vout| outputs.get(vout));
    let Some(output) = output else {
        return Err(Rejection::new(Reason::ParentOutputAbsent)
            .at(index)
            .expected(format_args!("vout-below-{}", outputs.len()))
            .actual(outpoint));
    };
    if !output.spendable {
        return Err(Rejection::new(Reason::ParentOutputUnspendable)
            .at(index)
            .expected("spendable-output")
            .actual(outpoint));
    }
    Ok(output.value)
}

/// BIP 68 for an input whose parent is in the same block. Such a coin has the block's own height
/// and the tip's median time past, and both are compared with exactly these: any age of one unit
/// or more is too much, whether it counts blocks or time.
fn check_sequence(index: usize, tx: &Tx, sequence: Sequence) -> Result<(), Rejection> {
    let sequence = sequence.to_consensus_u32();
    let age = sequence & SEQUENCE_LOCK_AGE;
    if !tx.has_sequence_locks() || sequence & SEQUENCE_LOCK_DISABLED != 0 || age == 0 {
        return Ok(());
    }
    Err(Rejection::new(Reason::SequenceLock).at(index).expected("age-0").actual(age))
}

/// The fee of a transaction whose inputs are all known.
fn seen_fee(index: usize, tx: &Tx, input_sat: u64) -> Result<u64, Rejection> {
    let output_sat = tx.output_total().to_sat();
    if input_sat > Amount::MAX_MONEY.to_sat() {
        return Err(Rejection::new(Reason::TxInputValue)
            .at(index)
            .expected(format_args!("at-most-{}", Amount::MAX_MONEY.to_sat()))
            .actual(input_sat));
    }
    input_sat.checked_sub(output_sat).ok_or_else(|| {
        Rejection::new(Reason::TxInputValue)
            .at(index)
            .expected(format_args!("at-least-{output_sat}"))
            .actual(input_sat)
    })
}
