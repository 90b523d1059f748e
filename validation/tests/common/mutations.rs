//! Valid declarations with one thing changed that breaks one rule.

#![allow(unreachable_pub, missing_docs, reason = "several tests use it")]

use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, Witness, Wtxid};
use validation::{Payout, Reason};

use crate::common::*;
use crate::random::{Spec, build};

/// What is done to a template, to its bytes, or to the world around it.
pub enum Mutation {
    /// Before the witness commitment is computed.
    Template(fn(&mut Template)),
    /// After it.
    Bytes(fn(&mut Wire)),
}
use Mutation::{Bytes, Template as Shape};

/// Position of the count of inputs in the prefix.
fn inputs_at(wire: &Wire) -> usize {
    if wire.prefix[4] == 0 { 6 } else { 4 }
}

fn pool_output(template: &mut Template) -> &mut bitcoin::TxOut {
    let script = pool_script();
    template.coinbase.output.iter_mut().find(|out| out.script_pubkey == script).unwrap()
}

/// Every template under mutation ends with these three: a parent, its child, and a stranger.
fn last_three(template: &mut Template) -> &mut [Transaction] {
    let from = template.txs.len() - 3;
    &mut template.txs[from..]
}

/// Every way in which a declaration can break a rule.
pub fn mutations() -> Vec<(&'static str, Reason, Mutation)> {
    vec![
        ("height behind", Reason::CoinbaseHeight, Bytes(|w| w.tip.height += 1)),
        ("height far ahead", Reason::CoinbaseHeight, Bytes(|w| w.tip.height -= 2)),
        (
            "height not pushed",
            Reason::CoinbaseHeightEncoding,
            Shape(|t| {
                let mut script = t.coinbase.input[0].script_sig.to_bytes();
                script[0] = 0x61;
                t.coinbase.input[0].script_sig = ScriptBuf::from_bytes(script);
            }),
        ),
        ("prefix cut", Reason::CoinbasePrefix, Bytes(|w| w.prefix.truncate(30))),
        ("prefix empty", Reason::CoinbasePrefix, Bytes(|w| w.prefix.clear())),
        (
            "suffix cut",
            Reason::CoinbaseSuffix,
            Bytes(|w| {
                w.suffix.pop();
            }),
        ),
        ("suffix empty", Reason::CoinbaseSuffix, Bytes(|w| w.suffix.clear())),
        ("trailing byte", Reason::CoinbaseTrailingBytes, Bytes(|w| w.suffix.push(0))),
        (
            "two inputs",
            Reason::CoinbaseInputs,
            Bytes(|w| {
                let at = inputs_at(w);
                w.prefix[at] = 2;
            }),
        ),
        (
            "count of inputs too long",
            Reason::CoinbaseEncoding,
            Bytes(|w| {
                let at = inputs_at(w);
                w.prefix.splice(at..=at, [0xfd, 1, 0]);
            }),
        ),
        (
            "input not null",
            Reason::CoinbaseOutpoint,
            Bytes(|w| {
                let at = inputs_at(w) + 7;
                w.prefix[at] ^= 1;
            }),
        ),
        (
            "script of 2^60",
            Reason::CoinbaseScriptSize,
            Bytes(|w| {
                let at = inputs_at(w) + 37;
                w.prefix.splice(at..=at, [0xff, 0, 0, 0, 0, 0, 0, 0, 0x10]);
            }),
        ),
        (
            "script of 1",
            Reason::CoinbaseScriptSize,
            Bytes(|w| {
                let at = inputs_at(w) + 37;
                w.prefix[at] = 1;
            }),
        ),
        ("no extranonce", Reason::ExtranonceSize, Shape(|t| t.extranonce_len = 0)),
        (
            "extranonce of 33",
            Reason::ExtranonceSize,
            Shape(|t| {
                t.extranonce_len = 33;
                t.set_script(t.tip.height + 1, b"");
            }),
        ),
        ("prefix too long", Reason::ExtranonceSize, Bytes(|w| w.prefix.extend([0; 32]))),
        (
            "no outputs",
            Reason::CoinbaseOutputs,
            Shape(|t| {
                t.coinbase.output.clear();
            }),
        ),
        (
            "output of 21 million and one",
            Reason::CoinbaseValueRange,
            Shape(|t| {
                pool_output(t).value = Amount::MAX_MONEY + Amount::ONE_SAT;
            }),
        ),
        (
            "lock time ahead",
            Reason::CoinbaseNotFinal,
            Shape(|t| {
                t.coinbase.input[0].sequence = Sequence::ZERO;
                t.coinbase.lock_time = LockTime::from_consensus(t.tip.height + 1);
            }),
        ),
        (
            "pool gets nothing",
            Reason::PoolUnderpaid,
            Shape(|t| {
                pool_output(t).value = Amount::ZERO;
            }),
        ),
        (
            "pool's output is another's",
            Reason::ImposedOutput,
            Shape(|t| {
                pool_output(t).script_pubkey = script(0x12);
            }),
        ),
        (
            "pool one satoshi short",
            Reason::PoolUnderpaid,
            Shape(|t| {
                // To somebody else: of unknown fees only what the coinbase takes can count.
                pool_output(t).value -= Amount::ONE_SAT;
                t.coinbase.output.push(output(1, script(0x15)));
            }),
        ),
        (
            "miner asks more than agreed",
            Reason::MinerUnderpaid,
            Bytes(|w| {
                w.rules.payout = Payout::Solo { script: script(0x13), operator: None };
            }),
        ),
        (
            "imposed output absent",
            Reason::ImposedOutput,
            Bytes(|w| {
                w.rules.imposed_outputs.push(output(0, script(0x14)));
            }),
        ),
        (
            "order changed after commitment",
            Reason::WitnessCommitment,
            Bytes(|w| {
                let last = w.wtxids.len() - 1;
                w.wtxids.swap(last, last - 1);
                w.raw.swap(last, last - 1);
            }),
        ),
        (
            "one wtxid changed",
            Reason::WitnessCommitment,
            Bytes(|w| {
                w.wtxids[0] = Wtxid::all_zeros();
            }),
        ),
        (
            "one wtxid more",
            Reason::WitnessCommitment,
            Bytes(|w| {
                w.wtxids.push(Wtxid::all_zeros());
            }),
        ),
        (
            "one wtxid less",
            Reason::WitnessCommitment,
            Bytes(|w| {
                w.wtxids.pop();
            }),
        ),
        (
            "reserved value changed",
            Reason::WitnessCommitment,
            Bytes(|w| {
                let at = w.suffix.len() - 5;
                w.suffix[at] ^= 1;
            }),
        ),
        (
            "reserved value of 31",
            Reason::CoinbaseWitness,
            Bytes(|w| {
                let end = w.suffix.len() - 4;
                w.suffix.splice(end - 33..end - 31, [31]);
            }),
        ),
        ("no coinbase witness", Reason::CoinbaseWitness, Shape(|t| t.reserved = None)),
        (
            "witness without commitment",
            Reason::WitnessWithoutCommitment,
            Shape(|t| {
                let plain = t.clone().without_commitment();
                t.coinbase = plain.coinbase;
                t.commit = false;
                t.reserved = None;
            }),
        ),
        (
            "wtxid twice",
            Reason::DuplicateWtxid,
            Bytes(|w| {
                let last = *w.wtxids.last().unwrap();
                w.wtxids.push(last);
            }),
        ),
        (
            "too many wtxids",
            Reason::TooManyTransactions,
            Bytes(|w| {
                w.wtxids = vec![Wtxid::all_zeros(); 16_666];
            }),
        ),
        (
            "transaction not supplied",
            Reason::TransactionMissing,
            Bytes(|w| {
                w.raw.pop();
            }),
        ),
        (
            "wrong transaction supplied",
            Reason::TransactionMissing,
            Bytes(|w| {
                *w.raw.last_mut().unwrap() = serialize(&simple(123_456));
            }),
        ),
        (
            "transaction with a trailing byte",
            Reason::TxTrailingBytes,
            Bytes(|w| {
                w.raw.last_mut().unwrap().push(0);
            }),
        ),
        (
            "transaction cut",
            Reason::TxDecode,
            Bytes(|w| {
                w.raw.last_mut().unwrap().pop();
            }),
        ),
        (
            "transaction without outputs",
            Reason::TxNoOutputs,
            Shape(|t| {
                last_three(t)[2].output.clear();
            }),
        ),
        (
            "transaction with too much value",
            Reason::TxValueRange,
            Shape(|t| {
                last_three(t)[2].output[0].value = Amount::MAX_MONEY + Amount::ONE_SAT;
            }),
        ),
        (
            "transaction that spends the null outpoint",
            Reason::TxNullOutpoint,
            Shape(|t| {
                last_three(t)[2].input[0].previous_output = OutPoint::null();
            }),
        ),
        (
            "one input twice",
            Reason::TxDuplicateInput,
            Shape(|t| {
                let tx = &mut last_three(t)[2];
                tx.input.push(tx.input[0].clone());
            }),
        ),
        (
            "double spend",
            Reason::DoubleSpend,
            Shape(|t| {
                let [parent, _, stranger] = last_three(t) else { unreachable!() };
                stranger.input[0].previous_output = parent.input[0].previous_output;
                stranger.output[0].value += Amount::ONE_SAT;
            }),
        ),
        ("child first", Reason::ParentAfterChild, Shape(|t| last_three(t).swap(0, 1))),
        (
            "no such output",
            Reason::ParentOutputAbsent,
            Shape(|t| {
                last_three(t)[1].input[0].previous_output.vout = 1;
            }),
        ),
        (
            "output that nobody can spend",
            Reason::ParentOutputUnspendable,
            Shape(|t| {
                let [parent, child, _] = last_three(t) else { unreachable!() };
                parent.output[0].script_pubkey = ScriptBuf::from_bytes(vec![0x6a]);
                child.input[0].previous_output.txid = parent.compute_txid();
            }),
        ),
        (
            "lock time of a transaction ahead",
            Reason::TxNotFinal,
            Shape(|t| {
                let next = t.tip.height + 1;
                let tx = &mut last_three(t)[2];
                tx.input[0].sequence = Sequence::ZERO;
                tx.lock_time = LockTime::from_consensus(next);
            }),
        ),
        (
            "relative lock on a parent of the block",
            Reason::SequenceLock,
            Shape(|t| {
                last_three(t)[1].input[0].sequence = Sequence(1);
            }),
        ),
        (
            "money from nothing",
            Reason::TxInputValue,
            Shape(|t| {
                last_three(t)[1].output[0].value = Amount::from_sat(10_001);
            }),
        ),
        (
            "a unit too heavy",
            Reason::Weight,
            Shape(|t| {
                let weight = |t: &Template| {
                    let txs: u64 = t.txs.iter().map(|tx| tx.weight().to_wu()).sum();
                    // All templates here have fewer than 253 transactions.
                    320 + 4 + t.sealed_coinbase().weight().to_wu() + txs
                };
                let set = |t: &mut Template, bytes: u64| {
                    last_three(t)[2].input[0].witness =
                        Witness::from_slice(&[vec![0; bytes as usize]]);
                };
                set(t, 100_000);
                let more = 4_000_001 - weight(t);
                set(t, 100_000 + more);
            }),
        ),
        (
            "too many sigops",
            Reason::Sigops,
            Shape(|t| {
                t.coinbase.output.push(output(0, ScriptBuf::from_bytes(vec![0xac; 20_001])));
            }),
        ),
        ("version 3", Reason::Version, Bytes(|w| w.version = 3)),
        ("negative version", Reason::Version, Bytes(|w| w.version |= 1 << 31)),
    ]
}

/// A declaration after that, of a template that is accepted before.
pub fn mutated(spec: &Spec, mutation: &Mutation) -> Wire {
    let mut template = build(&Spec {
        commit: true,
        share_bp: 10_000,
        tip_height: spec.tip_height.min(3_000),
        ..spec.clone()
    });
    let parent = simple(1_000_000);
    let child = child(&parent, 0);
    template.txs.extend([parent, child, simple(1_000_001)]);
    // The node knows none of these; the parent's and stranger's fees stay unknown.
    template.facts.resize(template.txs.len(), None);
    assert!(template.verdict().is_ok(), "sound before: {:?}", template.verdict());
    match mutation {
        Shape(change) => {
            change(&mut template);
            template.declare()
        }
        Bytes(change) => {
            let mut wire = template.declare();
            change(&mut wire);
            wire
        }
    }
}
