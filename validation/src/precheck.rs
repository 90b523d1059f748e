//! Everything about a declaration that needs no transaction data.

use std::fmt;
use std::sync::Arc;

use bitcoin::Wtxid;
use bitcoin::hashes::{Hash, sha256d};

use crate::coinbase::{CoinbaseParts, CoinbaseWitness};
use crate::declared::{Declared, TemplateHash};
use crate::merkle::WitnessRoot;
use crate::payout;
use crate::rejection::{Reason, Rejection};
use crate::rules::Rules;
use crate::tip::ChainTip;

/// Most transactions beside the coinbase: a block has 4,000,000 weight units and the smallest
/// transaction 240, so 16,666 with the coinbase.
pub const TRANSACTIONS_MAX: usize = 16_665;

/// Least nVersion of a block header, as a signed number (BIP 34, 66 and 65 in turn).
pub const BLOCK_VERSION_MIN: i32 = 4;

/// What can be said before any transaction is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precheck<T = Prechecked> {
    /// So far every rule is kept; [`crate::judge`] needs the transactions.
    Ok(Box<T>),
    /// The job is for the block after the next: our node may be behind the peer's. Ask again
    /// with a newer tip, for as long as the peer's patience is worth; then it is stale.
    WaitForTip {
        /// Height that the job declares.
        height: u32,
    },
    /// A rule is broken.
    Reject(Rejection),
}

/// A declaration that kept every rule that needs neither transaction data nor its witness root.
/// Owns what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    pub(crate) version: u32,
    pub(crate) coinbase: CoinbaseParts,
    pub(crate) wtxids: Arc<[Wtxid]>,
    commitment: Option<Commitment>,
}

/// A declaration that kept every rule that needs no transaction data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prechecked {
    pub(crate) outline: Outline,
    template_hash: TemplateHash,
    root: WitnessRoot,
}

impl Outline {
    /// Height of the block that the job is for.
    pub fn height(&self) -> u32 {
        self.coinbase.height()
    }

    /// All transactions but the coinbase, in block order.
    pub fn wtxids(&self) -> &Arc<[Wtxid]> {
        &self.wtxids
    }

    /// True when the coinbase commits to the witnesses of the block.
    pub fn commits_to_witness(&self) -> bool {
        self.commitment.is_some()
    }

    /// The last rule that needs no transaction data: a commitment is to this root, which must be
    /// that of [`Self::wtxids`].
    ///
    /// # Errors
    /// `invalid-coinbase-tx` when it is to another.
    pub fn seal(self, root: WitnessRoot) -> Result<Prechecked, Rejection> {
        if let Some(commitment) = &self.commitment {
            commitment.check(&root)?;
        }
        let declared = Declared {
            version: self.version,
            coinbase_prefix: self.coinbase.prefix(),
            coinbase_suffix: self.coinbase.suffix(),
            wtxids: &self.wtxids,
        };
        let template_hash = TemplateHash::with_root(&declared, &root);
        Ok(Prechecked { outline: self, template_hash, root })
    }
}

impl Prechecked {
    /// Height of the block that the job is for.
    pub fn height(&self) -> u32 {
        self.outline.coinbase.height()
    }

    /// Root over its wtxids, the coinbase's counted as zero.
    pub fn witness_root(&self) -> WitnessRoot {
        self.root
    }

    /// nVersion of the block header, as declared.
    pub fn version(&self) -> u32 {
        self.outline.version
    }

    /// Names the template.
    pub fn template_hash(&self) -> TemplateHash {
        self.template_hash
    }

    /// All transactions but the coinbase, in block order.
    pub fn wtxids(&self) -> &Arc<[Wtxid]> {
        &self.outline.wtxids
    }

    /// The coinbase transaction.
    pub fn coinbase(&self) -> &CoinbaseParts {
        &self.outline.coinbase
    }

    /// True when the coinbase commits to the witnesses of the block.
    pub fn commits_to_witness(&self) -> bool {
        self.outline.commits_to_witness()
    }
}

/// Checks everything that needs no transaction data: counts and duplicates first, before any work
/// per entry, then the coinbase, and the witness root last.
pub fn precheck(declared: &Declared<'_>, tip: &ChainTip, rules: &Rules) -> Precheck {
    match outline(declared, tip, rules) {
        Precheck::Ok(outline) => match outline.seal(WitnessRoot::of(declared.wtxids)) {
            Ok(prechecked) => Precheck::Ok(Box::new(prechecked)),
            Err(rejection) => Precheck::Reject(rejection),
        },
        Precheck::WaitForTip { height } => Precheck::WaitForTip { height },
        Precheck::Reject(rejection) => Precheck::Reject(rejection),
    }
}

/// [`precheck`] up to the witness root, which takes longer than all the rest: for a caller who has
/// it computed beside what follows. [`Outline::seal`] is the rest, and its rejection comes before any
/// that needs transaction data.
pub fn outline(declared: &Declared<'_>, tip: &ChainTip, rules: &Rules) -> Precheck<Outline> {
    match check(declared, tip, rules) {
        Ok(outcome) => outcome,
        Err(rejection) => Precheck::Reject(rejection),
    }
}

fn check(
    declared: &Declared<'_>,
    tip: &ChainTip,
    rules: &Rules,
) -> Result<Precheck<Outline>, Rejection> {
    let count = declared.wtxids.len();
    if count > TRANSACTIONS_MAX {
        return Err(Rejection::new(Reason::TooManyTransactions)
            .expected(format_args!("at-most-{TRANSACTIONS_MAX}"))
            .actual(count));
    }
    let version = declared.version as i32;
    if version < BLOCK_VERSION_MIN {
        return Err(Rejection::new(Reason::Version)
            .expected(format_args!("at-least-{BLOCK_VERSION_MIN}"))
            .actual(version));
    }
    let coinbase = CoinbaseParts::parse(declared.coinbase_prefix, declared.coinbase_suffix)?;
    if Some(coinbase.height()) == tip.next_height().checked_add(1) {
        return Ok(Precheck::WaitForTip { height: coinbase.height() });
    }
    check_tip(&coinbase, tip)?;
    check_duplicates(declared.wtxids)?;
    payout::check_outputs(&coinbase, rules)?;
    let commitment = Commitment::of(&coinbase)?;
    Ok(Precheck::Ok(Box::new(Outline {
        version: declared.version,
        coinbase,
        wtxids: declared.wtxids.into(),
        commitment,
    })))
}

/// The rules that tie a coinbase to a tip: it is for the next block, and final there. To be
/// checked again whenever the tip may have moved.
///
/// # Errors
/// `stale-chain-tip` for any other height, `invalid-coinbase-tx` for a lock time in the future.
pub fn check_tip(coinbase: &CoinbaseParts, tip: &ChainTip) -> Result<(), Rejection> {
    check_height(coinbase.height(), tip)?;
    let next = tip.next_height();
    if !coinbase.is_final(next, tip.median_time_past) {
        return Err(Rejection::new(Reason::CoinbaseNotFinal)
            .expected(format_args!("below-height-{next}-or-time-{}", tip.median_time_past))
            .actual(coinbase.lock_time().to_consensus_u32()));
    }
    Ok(())
}

/// The first of them, for a job whose transactions are not at hand yet.
///
/// # Errors
/// `stale-chain-tip` for any other height than the next.
pub fn check_height(height: u32, tip: &ChainTip) -> Result<(), Rejection> {
    let next = tip.next_height();
    if height == next {
        return Ok(());
    }
    Err(Rejection::new(Reason::CoinbaseHeight).expected(next).actual(height))
}

/// Sorted, because it costs the same whatever ids the peer chooses.
fn check_duplicates(wtxids: &[Wtxid]) -> Result<(), Rejection> {
    let first = |id: &Wtxid| id.as_byte_array().first_chunk().copied().map(u64::from_ne_bytes);
    let mut starts: Vec<u64> = wtxids.iter().filter_map(first).collect();
    starts.sort_unstable();
    if !starts.array_windows().any(|[a, b]| a == b) {
        return Ok(());
    }
    // Equal first bytes are no accident, so what follows is for hostile lists only.
    let mut sorted: Vec<(&Wtxid, usize)> = wtxids.iter().zip(0..).collect();
    sorted.sort_unstable();
    let twice = sorted.array_windows().filter(|[a, b]| a.0 == b.0).map(|[_, b]| b);
    match twice.min_by_key(|(_, index)| index) {
        Some((wtxid, index)) => Err(Rejection::new(Reason::DuplicateWtxid)
            .at(*index)
            .expected("each-once")
            .actual(wtxid)),
        None => Ok(()),
    }
}

/// First bytes of an output script that commits to witnesses: `OP_RETURN`, a push of 36 bytes and
/// the header of BIP 141.
const COMMITMENT_HEADER: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// Position and hash of the last output that looks like a commitment: the one that counts.
fn committed(coinbase: &CoinbaseParts) -> Option<(usize, [u8; 32])> {
    coinbase.outputs().iter().enumerate().rev().find_map(|(index, output)| {
        let rest = output.script_pubkey.as_bytes().strip_prefix(&COMMITMENT_HEADER)?;
        rest.first_chunk::<32>().map(|hash| (index, *hash))
    })
}

/// True when the coinbase has an output that commits to witnesses.
pub(crate) fn has_commitment(coinbase: &CoinbaseParts) -> bool {
    committed(coinbase).is_some()
}

/// What a coinbase commits to: Bitcoin Core's `CheckWitnessMalleation`, as far as the coinbase alone
/// decides it. Nothing here depends on the extranonce, because the coinbase counts as zero in the
/// witness root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Commitment {
    /// Position of the output.
    index: usize,
    hash: [u8; 32],
    /// The coinbase's only witness item.
    reserved: [u8; 32],
}

impl Commitment {
    /// None means that nothing in the block may have a witness.
    fn of(coinbase: &CoinbaseParts) -> Result<Option<Self>, Rejection> {
        let Some((index, hash)) = committed(coinbase) else {
            return match coinbase.witness() {
                CoinbaseWitness::Absent => Ok(None),
                _ => Err(Rejection::new(Reason::WitnessWithoutCommitment)
                    .expected("no-witness")
                    .actual("coinbase-witness")),
            };
        };
        let refused = |actual: &dyn fmt::Display| {
            Err(Rejection::new(Reason::CoinbaseWitness)
                .at(index)
                .expected("one-item-of-32-bytes")
                .actual(actual))
        };
        match coinbase.witness() {
            CoinbaseWitness::Reserved(reserved) => Ok(Some(Self { index, hash, reserved })),
            CoinbaseWitness::Absent => refused(&"no-witness"),
            CoinbaseWitness::Other { items } => {
                refused(&format_args!("{items}-items-or-another-size"))
            }
        }
    }

    fn check(&self, root: &WitnessRoot) -> Result<(), Rejection> {
        let both = [*root.as_bytes(), self.reserved];
        let due = sha256d::Hash::hash(both.as_flattened()).to_byte_array();
        if due == self.hash {
            return Ok(());
        }
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        Err(Rejection::new(Reason::WitnessCommitment)
            .at(self.index)
            .expected(hex(&due))
            .actual(hex(&self.hash)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_begin_alike_are_no_duplicates() {
        let id = |first: u8, last: u8| {
            let mut bytes = [first; 32];
            bytes[31] = last;
            Wtxid::from_byte_array(bytes)
        };
        let mut wtxids = vec![id(9, 1), id(3, 2), id(9, 3), id(9, 2), id(3, 1)];
        assert_eq!(check_duplicates(&wtxids), Ok(()));
        wtxids.extend([id(3, 2), id(9, 3)]);
        let twice = check_duplicates(&wtxids).unwrap_err();
        assert_eq!((twice.reason, twice.index), (Reason::DuplicateWtxid, Some(5)));
    }
}
