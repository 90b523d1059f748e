//! From a prechecked declaration and its transactions to an accepted job.

use std::sync::Arc;

use bitcoin::Wtxid;
use bitcoin::hashes::{Hash, sha256d};

use crate::bytes::compact_size_bytes;
use crate::declared::TemplateHash;
use crate::job::Fees;
use crate::keyed::{Keyed, KeyedMap};
use crate::merkle::WitnessRoot;
use crate::payout::{self, Paid};
use crate::precheck::{Outline, Prechecked, check_tip};
use crate::rejection::{Reason, Rejection};
use crate::rules::Rules;
use crate::spends;
use crate::tip::ChainTip;
use crate::tx::{Tx, TxError};

pub use crate::job::AcceptedJob;

/// Most weight units of a block (BIP 141).
pub const BLOCK_WEIGHT_MAX_WU: u64 = 4_000_000;
/// Most sigop cost of a block (BIP 141).
pub const BLOCK_SIGOP_COST_MAX: u64 = 80_000;
/// Weight of a block header, in weight units.
const HEADER_WEIGHT_WU: u64 = 4 * 80;
/// Most bytes of an answer to ProvideMissingTransactions: more than any block holds.
pub const SUPPLIED_BYTES_MAX: usize = 4_200_000;

/// The transactions of a job as far as they are known, in the order of its wtxids.
pub type TxSlots = Vec<Option<Arc<Tx>>>;

/// Positions of the transactions of a prechecked list that are not known yet, ascending: what
/// ProvideMissingTransactions asks for.
pub fn missing(wtxids: &[Wtxid], txs: &TxSlots) -> Vec<u16> {
    // A prechecked list has at most 16,665 entries.
    (0_u16..)
        .take(wtxids.len())
        .filter(|position| txs.get(usize::from(*position)).is_none_or(Option::is_none))
        .collect()
}

/// Fills the slots that were asked for from the peer's answer. Transactions are told apart by
/// their hash, so their order does not matter; what was not asked for is ignored.
///
/// # Errors
/// `missing-txs` when one did not come (or another in its place), `invalid-job` when one came
/// that is no transaction.
pub fn supplied<'a>(
    pre: &Prechecked,
    slots: &mut TxSlots,
    asked: &[u16],
    answer: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(), Rejection> {
    slots.resize(pre.wtxids().len(), None);
    let mut open: KeyedMap<Wtxid, u16> =
        KeyedMap::with_capacity_and_hasher(asked.len(), Keyed::default());
    for position in asked {
        if let Some(wtxid) = pre.wtxids().get(usize::from(*position)) {
            open.insert(*wtxid, *position);
        }
    }
    let mut bytes = 0_usize;
    let mut malformed = None;
    for (order, raw) in answer.into_iter().enumerate() {
        bytes = bytes.saturating_add(raw.len());
        if bytes > SUPPLIED_BYTES_MAX {
            return Err(Rejection::new(Reason::SuppliedBytes)
                .expected(format_args!("at-most-{SUPPLIED_BYTES_MAX}"))
                .actual(format_args!("at-least-{bytes}")));
        }
        let wtxid = Wtxid::from_raw_hash(sha256d::Hash::hash(raw));
        let Some(position) = open.remove(&wtxid) else {
            // Unasked. If an asked one turns out absent, this may be its broken copy.
            if malformed.is_none()
                && let Err(error) = Tx::parse(raw)
            {
                malformed = Some(tx_rejection(&error, asked.get(order).copied()));
            }
            continue;
        };
        let tx = Tx::parse(raw).map_err(|error| tx_rejection(&error, Some(position)))?;
        if let Some(slot) = slots.get_mut(usize::from(position)) {
            *slot = Some(Arc::new(tx));
        }
    }
    let Some((wtxid, position)) = open.into_iter().min_by_key(|(_, position)| *position) else {
        return Ok(());
    };
    Err(malformed.unwrap_or_else(|| {
        Rejection::new(Reason::TransactionMissing).at(usize::from(position)).expected(wtxid)
    }))
}

fn tx_rejection(error: &TxError, position: Option<u16>) -> Rejection {
    let reason = match error {
        TxError::Decode(_) => Reason::TxDecode,
        TxError::TrailingBytes { .. } => Reason::TxTrailingBytes,
        TxError::TooLarge { .. } => Reason::TxSize,
        TxError::NoInputs => Reason::TxNoInputs,
        TxError::NoOutputs => Reason::TxNoOutputs,
        TxError::ValueOutOfRange { .. } => Reason::TxValueRange,
        TxError::NullOutpoint { .. } => Reason::TxNullOutpoint,
        TxError::DuplicateInput { .. } => Reason::TxDuplicateInput,
    };
    let rejection = Rejection::new(reason).expected("a-transaction").actual(error);
    match position {
        Some(position) => rejection.at(usize::from(position)),
        None => rejection,
    }
}

/// The verdict. `tip` may be newer than that of the precheck: what depends on it is checked again.
///
/// # Errors
/// The first rule that is broken, with its index, what it demands and what was found.
pub fn judge(
    pre: Prechecked,
    txs: TxSlots,
    tip: &ChainTip,
    rules: &Rules,
) -> Result<AcceptedJob, Rejection> {
    judge_keeping(pre, txs, tip, rules).map_err(|refused| refused.rejection)
}

/// A refusal with what it was given on: whoever keeps that can have the verdict again
/// ([`crate::replay`]).
#[derive(Debug)]
pub struct Refused {
    /// The rule that is broken.
    pub rejection: Rejection,
    /// The transactions, in the order of the wtxids.
    pub txs: TxSlots,
    /// Positions of those that no node had told of, ascending; as far as the rules came.
    pub unvouched: Vec<u16>,
}

/// [`judge`], with the transactions back where they are refused.
///
/// # Errors
/// As [`judge`].
pub fn judge_keeping(
    pre: Prechecked,
    txs: TxSlots,
    tip: &ChainTip,
    rules: &Rules,
) -> Result<AcceptedJob, Box<Refused>> {
    judge_outline(&pre.outline, txs, tip, rules).map(|judged| judged.accept(pre))
}

/// [`Outline::seal`] and [`judge_keeping`] with all that [`judge`] does before the root is asked for, so that
/// it can be computed beside that. The verdict is the same, and comes with the template's name.
///
/// # Errors
/// That of [`Outline::seal`], whatever the transactions are.
pub fn seal_and_judge(
    outline: Outline,
    txs: TxSlots,
    tip: &ChainTip,
    rules: &Rules,
    root: impl FnOnce() -> WitnessRoot,
) -> Result<(TemplateHash, Result<AcceptedJob, Box<Refused>>), Rejection> {
    let judged = judge_outline(&outline, txs, tip, rules);
    let pre = outline.seal(root())?;
    Ok((pre.template_hash(), judged.map(|judged| judged.accept(pre))))
}

/// What the transactions of an outline come to; they kept every rule.
struct Judged {
    txs: Box<[Arc<Tx>]>,
    tip: ChainTip,
    totals: Totals,
    unvouched: Vec<u16>,
    fees: Fees,
    paid: Paid,
}

impl Judged {
    /// `pre` is what became of the same outline.
    fn accept(self, pre: Prechecked) -> AcceptedJob {
        AcceptedJob {
            template_hash: pre.template_hash(),
            witness_root: Some(pre.witness_root()),
            version: pre.outline.version,
            coinbase: pre.outline.coinbase,
            txs: self.txs,
            tip: self.tip,
            weight_wu: self.totals.weight_wu,
            sigop_cost_min: self.totals.sigop_cost_min,
            unvouched: self.unvouched.into(),
            fees: self.fees,
            pool_payout_sat: self.paid.pool_sat,
            miner_payout_sat: self.paid.miner_sat,
            claimable_sat: self.paid.claimable_sat,
        }
    }
}

fn judge_outline(
    outline: &Outline,
    txs: TxSlots,
    tip: &ChainTip,
    rules: &Rules,
) -> Result<Judged, Box<Refused>> {
    let given = match check_tip(&outline.coinbase, tip).and_then(|()| check_slots(outline, &txs)) {
        Ok(()) => txs,
        Err(rejection) => return Err(Box::new(Refused { rejection, txs, unvouched: Vec::new() })),
    };
    let mut txs = Vec::with_capacity(given.len());
    txs.extend(given.into_iter().flatten());
    let txs: Box<[Arc<Tx>]> = txs.into();
    let mut unvouched = Vec::new();
    match judge_all(outline, &txs, tip, rules, &mut unvouched) {
        Ok((totals, fees, paid)) => Ok(Judged { txs, tip: *tip, totals, unvouched, fees, paid }),
        Err(rejection) => {
            let txs = txs.into_iter().map(Some).collect();
            Err(Box::new(Refused { rejection, txs, unvouched }))
        }
    }
}

/// The rules about transactions. `unvouched`: positions of those that no node has told of. That is
/// asked once for each, so that a verdict is one on what was known at one moment, and can be had
/// again.
fn judge_all(
    outline: &Outline,
    txs: &[Arc<Tx>],
    tip: &ChainTip,
    rules: &Rules,
    unvouched: &mut Vec<u16>,
) -> Result<(Totals, Fees, Paid), Rejection> {
    let totals = check_each(outline, txs, tip, unvouched)?;
    let fees = spends::check_spends(txs, totals.inputs, unvouched)?;
    let paid = payout::check_values(&outline.coinbase, rules, fees)?;
    Ok((totals, fees, paid))
}

/// Every slot filled, and with the transaction that was declared there.
fn check_slots(outline: &Outline, txs: &TxSlots) -> Result<(), Rejection> {
    if txs.len() != outline.wtxids.len() {
        return Err(Rejection::new(Reason::Internal)
            .expected(format_args!("{}-transactions", outline.wtxids.len()))
            .actual(txs.len()));
    }
    for (index, (slot, wtxid)) in txs.iter().zip(outline.wtxids.iter()).enumerate() {
        let Some(tx) = slot else {
            return Err(Rejection::new(Reason::TransactionMissing).at(index).expected(wtxid));
        };
        if tx.wtxid() != *wtxid {
            // Only a fault of ours can put another transaction there.
            return Err(Rejection::new(Reason::Internal)
                .at(index)
                .expected(wtxid)
                .actual(tx.wtxid()));
        }
    }
    Ok(())
}

struct Totals {
    weight_wu: u64,
    sigop_cost_min: u64,
    inputs: usize,
}

/// The rules about each transaction by itself and about the sums, before any table is built:
/// within the weight limit a block has at most 24,390 inputs, so the tables are bounded too.
fn check_each(
    outline: &Outline,
    txs: &[Arc<Tx>],
    tip: &ChainTip,
    unvouched: &mut Vec<u16>,
) -> Result<Totals, Rejection> {
    let commits_to_witness = outline.commits_to_witness();
    let count = txs.len() as u64 + 1;
    let mut totals = Totals {
        weight_wu: HEADER_WEIGHT_WU + 4 * compact_size_bytes(count) + outline.coinbase.weight_wu(),
        sigop_cost_min: outline.coinbase.sigop_cost_min(),
        inputs: 0,
    };
    for (index, tx) in txs.iter().enumerate() {
        totals.weight_wu += u64::from(tx.weight_wu());
        totals.inputs += tx.inputs().len();
        totals.sigop_cost_min += match tx.node_facts() {
            Some(facts) => u64::from(facts.sigop_cost),
            None => {
                // A prechecked list has at most 16,665 entries.
                unvouched.push(index as u16);
                u64::from(tx.legacy_sigop_cost())
            }
        };
        if !commits_to_witness && tx.has_witness() {
            return Err(Rejection::new(Reason::WitnessWithoutCommitment)
                .at(index)
                .expected("no-witness")
                .actual("witness"));
        }
        spends::check_final(index, tx, tip)?;
    }
    if totals.weight_wu > BLOCK_WEIGHT_MAX_WU {
        return Err(Rejection::new(Reason::Weight)
            .expected(format_args!("at-most-{BLOCK_WEIGHT_MAX_WU}"))
            .actual(totals.weight_wu));
    }
    if totals.sigop_cost_min > BLOCK_SIGOP_COST_MAX {
        return Err(Rejection::new(Reason::Sigops)
            .expected(format_args!("at-most-{BLOCK_SIGOP_COST_MAX}"))
            .actual(totals.sigop_cost_min));
    }
    Ok(totals)
}
