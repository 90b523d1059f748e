//! Random templates that keep every rule: chains within the block, any mix of encodings, known and
//! unknown fees, any sizes.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, Witness};
use proptest::collection::vec;
use proptest::prelude::*;
use validation::NodeFacts;

use super::common::*;

/// One random transaction, before it knows its place in the block.
#[derive(Debug, Clone)]
pub(crate) struct TxSpec {
    pub(crate) witness: bool,
    /// For each input: which unspent output of the block to spend, if any is to be.
    pub(crate) inputs: Vec<Option<prop::sample::Index>>,
    /// Values and script lengths.
    pub(crate) outputs: Vec<(u64, usize)>,
    pub(crate) version: i32,
    pub(crate) lock_time: u32,
    pub(crate) fee_sat: Option<u64>,
    pub(crate) content: u8,
}

fn tx_spec() -> impl Strategy<Value = TxSpec> {
    let lock_time = prop_oneof![Just(0), 1_u32..17, 500_000_000..TIP_MTP];
    (
        any::<bool>(),
        vec(prop::option::weighted(0.4, any::<prop::sample::Index>()), 1..4),
        vec((0_u64..1_000_000_000, 0_usize..300), 1..4),
        prop_oneof![Just(1), Just(2), any::<i32>()],
        lock_time,
        prop::option::weighted(0.8, 0_u64..100_000),
        any::<u8>(),
    )
        .prop_map(|(witness, inputs, outputs, version, lock_time, fee_sat, content)| TxSpec {
            witness,
            inputs,
            outputs,
            version,
            lock_time,
            fee_sat,
            content,
        })
}

#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) tip_height: u32,
    pub(crate) extranonce_len: usize,
    pub(crate) tag: Vec<u8>,
    pub(crate) commit: bool,
    pub(crate) reserved: [u8; 32],
    pub(crate) version: u32,
    pub(crate) txs: Vec<TxSpec>,
    pub(crate) share_bp: u16,
    pub(crate) reverse_outputs: bool,
}

pub(crate) fn spec() -> impl Strategy<Value = Spec> {
    (
        prop_oneof![17_u32..200, 17_u32..3_000],
        1_usize..=32,
        vec(any::<u8>(), 0..60),
        any::<bool>(),
        any::<[u8; 32]>(),
        4_u32..0x8000_0000,
        vec(tx_spec(), 0..25),
        prop_oneof![Just(10_000_u16), 0_u16..=10_000],
        any::<bool>(),
    )
        .prop_map(
            |(
                tip_height,
                extranonce_len,
                tag,
                commit,
                reserved,
                version,
                txs,
                share_bp,
                reverse,
            )| {
                Spec {
                    tip_height,
                    extranonce_len,
                    tag,
                    commit,
                    reserved,
                    version,
                    txs,
                    share_bp,
                    reverse_outputs: reverse,
                }
            },
        )
}

/// Outputs of the block that nothing spends yet.
type Unspent = Vec<(OutPoint, u64)>;

fn build_tx(
    spec: &TxSpec,
    number: u64,
    commit: bool,
    unspent: &mut Unspent,
) -> (Transaction, Option<u64>) {
    let mut seen_sat = Some(0);
    let inputs = spec.inputs.iter().zip(0..).map(|(from, at)| {
        let previous = match from {
            Some(index) if !unspent.is_empty() => {
                let (outpoint, sat) = unspent.swap_remove(index.index(unspent.len()));
                seen_sat = seen_sat.map(|sum: u64| sum + sat);
                outpoint
            }
            _ => {
                seen_sat = None;
                outside(number * 10 + at)
            }
        };
        let mut input = input(previous, &[]);
        if spec.witness && commit {
            input.witness = Witness::from_slice(&[vec![spec.content; 72], vec![2; 33]]);
        } else {
            input.script_sig = ScriptBuf::from_bytes(vec![spec.content; 20]);
        }
        // Without a relative lock, and not final where a lock time is to count.
        input.sequence = Sequence::ENABLE_LOCKTIME_NO_RBF;
        input
    });
    let mut tx = tx(inputs.collect(), vec![]);
    let mut left_sat = seen_sat;
    for (sat, length) in &spec.outputs {
        let sat = left_sat.map_or(*sat, |left| left.min(*sat));
        left_sat = left_sat.map(|left| left - sat);
        // No sigops: counting them is another test's matter.
        let mut bytes = vec![0x51; *length];
        bytes.truncate(length.saturating_sub(1));
        tx.output.push(output(sat, ScriptBuf::from_bytes(bytes)));
    }
    tx.version = Version(spec.version);
    tx.lock_time = LockTime::from_consensus(spec.lock_time);
    (tx, left_sat)
}

/// A valid template of that shape.
pub(crate) fn build(spec: &Spec) -> Template {
    let mut template = Template::new(spec.tip_height, vec![]);
    let mut unspent: Unspent = Vec::new();
    let mut fees = Some(0);
    for (tx_spec, number) in spec.txs.iter().zip(0..) {
        let (tx, seen_fee) = build_tx(tx_spec, number, spec.commit, &mut unspent);
        let txid = tx.compute_txid();
        for (output, vout) in tx.output.iter().zip(0..) {
            unspent.push((OutPoint { txid, vout }, output.value.to_sat()));
        }
        let fee_sat = seen_fee.or(tx_spec.fee_sat);
        template.facts.push(
            tx_spec
                .fee_sat
                .map(|known| NodeFacts { fee_sat: seen_fee.unwrap_or(known), sigop_cost: 100 }),
        );
        fees = fees.zip(fee_sat).map(|(sum, fee): (u64, u64)| sum + fee);
        template.txs.push(tx);
    }
    template.version = spec.version;
    template.extranonce_len = spec.extranonce_len;
    template.set_script(spec.tip_height + 1, &spec.tag);
    template.rules = pool_rules(spec.share_bp);
    let claimable = template.coinbase.output[0].value.to_sat() + fees.unwrap_or(54_321);
    let due = (u128::from(claimable) * u128::from(spec.share_bp)).div_ceil(10_000) as u64;
    let due = due.max(1);
    template.coinbase.output[0].value = Amount::from_sat(due);
    template.coinbase.output.push(output(claimable - due, script(0x77)));
    if spec.commit {
        template.reserved = Some(spec.reserved);
    } else {
        template = template.without_commitment();
    }
    if spec.reverse_outputs {
        template.coinbase.output.reverse();
    }
    template
}
