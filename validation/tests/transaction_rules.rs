//! The rules about the transactions of a declared job and about the block as a whole, one test for
//! each: what keeps the rule at its edge is accepted, what breaks it by one is refused.

#![allow(clippy::unwrap_used, reason = "a test ends where an unwrap fails")]

mod common;

use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, Witness, Wtxid};
use common::*;
use validation::verdict::{BLOCK_WEIGHT_MAX_WU, SUPPLIED_BYTES_MAX};
use validation::{
    ErrorCode, NodeFacts, Precheck, Prechecked, Reason, Rejection, Tx, TxSlots, judge, missing,
    supplied,
};

fn prechecked(wire: &Wire) -> Box<Prechecked> {
    match wire.precheck() {
        Precheck::Ok(pre) => pre,
        other => panic!("{other:?}"),
    }
}

#[test]
fn empty_block_is_accepted() {
    let job = Template::new(100, vec![]).accepted();
    assert_eq!(job.fees().total_sat, Some(0));
    assert_eq!(job.tx_count(), 1);
}

#[test]
fn version_is_at_least_4_as_a_signed_number() {
    for (version, accepted) in [
        (4, true),
        (0x2000_0000, true),
        (0x3fff_e000, true),
        (0x7fff_ffff, true),
        (3, false),
        (0, false),
        (0x8000_0000, false),
        (0xffff_ffff, false),
    ] {
        let mut template = Template::new(100, vec![simple(1)]);
        template.version = version;
        if accepted {
            assert_eq!(template.accepted().version(), version);
        } else {
            let rejection = template.rejected(Reason::Version);
            assert_eq!(rejection.code, ErrorCode::InvalidJob);
            assert_eq!(rejection.actual, Some((version as i32).to_string()));
        }
    }
}

#[test]
fn wtxids_are_unique() {
    let mut wire = Template::new(100, (0..50).map(simple).collect()).declare();
    wire.wtxids[40] = wire.wtxids[7];
    wire.wtxids[33] = wire.wtxids[12];
    let rejection = wire.rejected(Reason::DuplicateWtxid);
    assert_eq!((rejection.code, rejection.index), (ErrorCode::InvalidJob, Some(33)));
    assert_eq!(rejection.actual, Some(wire.wtxids[12].to_string()));
}

#[test]
fn ids_that_begin_alike_are_no_duplicates() {
    let mut wire = Template::new(100, vec![]).declare();
    wire.wtxids = (0..1_000_u32)
        .map(|number| {
            let mut id = [7; 32];
            id[28..].copy_from_slice(&number.to_le_bytes());
            Wtxid::from_byte_array(id)
        })
        .collect();
    wire.rejected(Reason::WitnessCommitment);
    wire.wtxids[999] = wire.wtxids[0];
    assert_eq!(wire.rejected(Reason::DuplicateWtxid).index, Some(999));
}

#[test]
fn at_most_16_665_transactions() {
    let mut wire = Template::new(100, vec![]).declare();
    let ids = |count: u32| (0..count).map(|n| Wtxid::hash(&n.to_le_bytes())).collect();
    wire.wtxids = ids(16_665);
    wire.rejected(Reason::WitnessCommitment);
    wire.wtxids = ids(16_666);
    assert_eq!(wire.rejected(Reason::TooManyTransactions).code, ErrorCode::InvalidJob);
    wire.wtxids = vec![Wtxid::all_zeros(); 65_535];
    wire.rejected(Reason::TooManyTransactions);
    wire.wtxids = vec![Wtxid::all_zeros(); 16_665];
    assert_eq!(wire.rejected(Reason::DuplicateWtxid).index, Some(1));
}

#[test]
fn missing_names_the_unknown_positions() {
    let wire = Template::new(100, (0..5).map(simple).collect()).declare();
    let pre = prechecked(&wire);
    let known = |at: usize| Some(Arc::new(Tx::parse(&wire.raw[at]).unwrap()));
    let slots: TxSlots = vec![known(0), None, known(2), None, None];
    assert_eq!(missing(pre.wtxids(), &slots), [1, 3, 4]);
    assert_eq!(missing(pre.wtxids(), &Vec::new()), [0, 1, 2, 3, 4]);
}

fn supply(wire: &Wire, asked: &[u16], answer: &[&[u8]]) -> Result<TxSlots, Rejection> {
    let mut slots = vec![None; wire.wtxids.len()];
    supplied(&prechecked(wire), &mut slots, asked, answer.iter().copied())?;
    Ok(slots)
}

#[test]
fn asked_transactions_fill_their_slots_in_any_order() {
    let wire = Template::new(100, (0..4).map(simple).collect()).declare();
    let slots = supply(&wire, &[1, 3], &[&wire.raw[3], &wire.raw[1]]).unwrap();
    for at in [1, 3] {
        assert_eq!(slots[at].as_ref().unwrap().raw(), wire.raw[at]);
    }
    assert!(slots[0].is_none() && slots[2].is_none());
}

#[test]
fn unasked_transactions_are_ignored() {
    let wire = Template::new(100, (0..4).map(simple).collect()).declare();
    let stranger = serialize(&simple(99));
    let slots = supply(&wire, &[2], &[&stranger, &wire.raw[0], &wire.raw[2], b"junk"]).unwrap();
    assert!(slots[0].is_none(), "known to be declared, but not asked for");
    assert!(slots[2].is_some());
}

#[test]
fn absent_and_wrong_transactions_are_missing() {
    let wire = Template::new(100, (0..4).map(simple).collect()).declare();
    let stranger = serialize(&simple(99));
    for answer in [&[][..], &[&wire.raw[1][..]], &[&wire.raw[1], &stranger]] {
        let rejection = supply(&wire, &[1, 3], answer).unwrap_err();
        let expected = if answer.is_empty() { 1 } else { 3 };
        assert_eq!(rejection.reason, Reason::TransactionMissing);
        assert_eq!((rejection.code, rejection.index), (ErrorCode::MissingTxs, Some(expected)));
    }
    // The right transaction without its witness is another one.
    let mut stripped = simple(1);
    stripped.input[0].witness = Witness::new();
    let rejection = supply(&wire, &[1], &[&serialize(&stripped)]).unwrap_err();
    assert_eq!(rejection.reason, Reason::TransactionMissing);
    // Judging with a hole says so too.
    let mut slots: TxSlots = vec![None; 4];
    slots[0] = Some(Arc::new(Tx::parse(&wire.raw[0]).unwrap()));
    let rejection = judge(*prechecked(&wire), slots, &wire.tip, &wire.rules).unwrap_err();
    assert_eq!((rejection.code, rejection.index), (ErrorCode::MissingTxs, Some(1)));
}

#[test]
fn malformed_copies_of_asked_transactions_are_invalid() {
    let wire = Template::new(100, (0..4).map(simple).collect()).declare();
    let mut trailing = wire.raw[2].clone();
    trailing.push(0);
    let cut = &wire.raw[2][..wire.raw[2].len() - 1];
    for (answer, reason) in [
        (&trailing[..], Reason::TxTrailingBytes),
        (cut, Reason::TxDecode),
        (b"", Reason::TxDecode),
        (&[0xff; 1000], Reason::TxDecode),
    ] {
        let rejection = supply(&wire, &[2], &[answer]).unwrap_err();
        assert_eq!(rejection.reason, reason);
        assert_eq!((rejection.code, rejection.index), (ErrorCode::InvalidJob, Some(2)));
    }
}

/// A job that lists the hash of bytes which are no transaction.
fn with_bytes(raw: Vec<u8>) -> Wire {
    let mut wire = Template::new(100, vec![]).without_commitment().declare();
    wire.wtxids.push(Wtxid::hash(&raw));
    wire.raw.push(raw);
    wire
}

#[test]
fn each_transaction_stands_by_itself() {
    let good = legacy(1);
    let change = |change: &dyn Fn(&mut Transaction)| {
        let mut tx = good.clone();
        change(&mut tx);
        serialize(&tx)
    };
    let mut trailing = serialize(&good);
    trailing.push(0);
    let max = Amount::MAX_MONEY;
    for (raw, reason) in [
        (change(&|tx| tx.input.clear()), Reason::TxNoInputs),
        (change(&|tx| tx.output.clear()), Reason::TxNoOutputs),
        (change(&|tx| tx.output[0].value = max + Amount::ONE_SAT), Reason::TxValueRange),
        (change(&|tx| tx.output = vec![output(max.to_sat(), script(1)); 2]), Reason::TxValueRange),
        (change(&|tx| tx.output[0].value = Amount::MAX), Reason::TxValueRange),
        (change(&|tx| tx.input[0].previous_output = OutPoint::null()), Reason::TxNullOutpoint),
        (change(&|tx| tx.input.push(tx.input[0].clone())), Reason::TxDuplicateInput),
        (trailing, Reason::TxTrailingBytes),
        (Vec::new(), Reason::TxDecode),
        (vec![0; 60], Reason::TxDecode),
    ] {
        let rejection = with_bytes(raw).rejected(reason);
        assert_eq!((rejection.code, rejection.index), (ErrorCode::InvalidJob, Some(0)));
    }
    with_bytes(serialize(&good)).verdict().unwrap();
}

#[test]
fn answers_beyond_any_block_are_refused() {
    let wire = Template::new(100, vec![simple(1)]).declare();
    let half = vec![0; SUPPLIED_BYTES_MAX / 2];
    let rejection = supply(&wire, &[0], &[&half, &half, b"x", &wire.raw[0]]).unwrap_err();
    assert_eq!(rejection.reason, Reason::SuppliedBytes);
    supply(&wire, &[0], &[&half, &wire.raw[0]]).unwrap();
}

#[test]
fn slots_that_are_not_the_declared_ones_are_our_fault() {
    let wire = Template::new(100, vec![simple(1), simple(2)]).declare();
    let parse = |raw: &[u8]| Some(Arc::new(Tx::parse(raw).unwrap()));
    let swapped = vec![parse(&wire.raw[1]), parse(&wire.raw[0])];
    for slots in [swapped, vec![parse(&wire.raw[0])]] {
        let rejection = judge(*prechecked(&wire), slots, &wire.tip, &wire.rules).unwrap_err();
        assert_eq!(rejection.code, ErrorCode::InternalError);
    }
}

#[test]
fn tip_that_moved_meanwhile_makes_the_job_stale() {
    let wire = Template::new(100, vec![simple(1)]).declare();
    let slots = || vec![Some(Arc::new(Tx::parse(&wire.raw[0]).unwrap()))];
    let pre = prechecked(&wire);
    let rejection = judge((*pre).clone(), slots(), &tip(101), &wire.rules).unwrap_err();
    assert_eq!(rejection.code, ErrorCode::StaleChainTip);
    assert_eq!(rejection.details(), "reason=coinbase-height expected=102 actual=101");
    // Another block of the same height is as good: the declaration names none.
    let sibling = validation::ChainTip { hash: bitcoin::BlockHash::hash(b"other"), ..tip(100) };
    let job = judge(*pre, slots(), &sibling, &wire.rules).unwrap();
    assert_eq!(job.prev_hash(), sibling.hash);
}

#[test]
fn no_output_is_spent_twice() {
    let mut second = simple(3);
    second.input.push(input(outside(1), &[]));
    let template = Template::new(100, vec![simple(1), simple(2), second]);
    let rejection = template.rejected(Reason::DoubleSpend);
    assert_eq!((rejection.code, rejection.index), (ErrorCode::InvalidJob, Some(2)));
    assert_eq!(rejection.actual, Some(outside(1).to_string()));
    // The same transaction with another witness has another wtxid.
    let mut twin = simple(1);
    twin.input[0].witness = Witness::from_slice(&[[9; 64]]);
    assert_eq!(
        Template::new(100, vec![simple(1), twin]).rejected(Reason::DoubleSpend).index,
        Some(1)
    );
    // Nor is an output of the block itself.
    let parent = simple(1);
    let (first, mut other) = (child(&parent, 10), child(&parent, 10));
    other.output[0].script_pubkey = script(9);
    let template = Template::new(100, vec![parent, first, other]);
    assert_eq!(template.rejected(Reason::DoubleSpend).index, Some(2));
}

#[test]
fn parents_come_first() {
    let parent = simple(1);
    let child = child(&parent, 10);
    Template::new(100, vec![simple(2), parent.clone(), simple(3), child.clone()]).accepted();
    let rejection =
        Template::new(100, vec![simple(2), child, parent]).rejected(Reason::ParentAfterChild);
    assert_eq!((rejection.code, rejection.index), (ErrorCode::InvalidJob, Some(1)));
}

#[test]
fn parents_have_the_output_spent() {
    let parent = simple(1);
    for (vout, ok) in [(0, true), (1, false), (u32::MAX, false)] {
        let mut child = child(&parent, 10);
        child.input[0].previous_output.vout = vout;
        let template = Template::new(100, vec![parent.clone(), child]);
        if ok {
            template.accepted();
        } else {
            assert_eq!(template.rejected(Reason::ParentOutputAbsent).index, Some(1));
        }
    }
}

#[test]
fn unspendable_outputs_stay_unspent() {
    for (bytes, ok) in [
        (vec![0x6a], false),
        (vec![0x6a, 0x01, 0x07], false),
        (vec![0x51; 10_000], true),
        (vec![0x51; 10_001], false),
        (vec![], true),
        (vec![0x50], true),
    ] {
        let mut parent = simple(1);
        parent.output[0].script_pubkey = ScriptBuf::from_bytes(bytes);
        let child = child(&parent, 0);
        let template = Template::new(100, vec![parent, child]);
        if ok {
            template.accepted();
        } else {
            assert_eq!(template.rejected(Reason::ParentOutputUnspendable).index, Some(1));
        }
    }
}

#[test]
fn transactions_are_final() {
    let with = |lock_time: u32, sequence| {
        let mut tx = simple(1);
        tx.lock_time = LockTime::from_consensus(lock_time);
        tx.input[0].sequence = sequence;
        Template::new(100, vec![simple(2), tx])
    };
    for lock_time in [0, 1, 100, 500_000_000, TIP_MTP - 1] {
        with(lock_time, Sequence::ZERO).accepted();
    }
    for lock_time in [101, 499_999_999, TIP_MTP, u32::MAX] {
        let rejection = with(lock_time, Sequence::ZERO).rejected(Reason::TxNotFinal);
        assert_eq!((rejection.code, rejection.index), (ErrorCode::InvalidJob, Some(1)));
        with(lock_time, Sequence::MAX).accepted();
    }
    // One final input of two is not enough.
    let mut two = simple(1);
    two.lock_time = LockTime::from_consensus(101);
    two.input.push(input(outside(7), &[]));
    two.input[0].sequence = Sequence::ZERO;
    Template::new(100, vec![two]).rejected(Reason::TxNotFinal);
}

#[test]
fn sequence_locks_on_parents_in_the_block() {
    let verdict = |version: i32, sequence: u32, in_block: bool| {
        let parent = simple(1);
        let mut child = child(&parent, 10);
        if !in_block {
            child.input[0].previous_output = outside(5);
        }
        child.version = Version(version);
        child.input[0].sequence = Sequence(sequence);
        Template::new(100, vec![parent, child]).verdict()
    };
    let (time, disabled, beyond) = (1 << 22, 1 << 31, 1 << 16);
    for sequence in [0, time, beyond, time | beyond, disabled | 1, disabled | time | 7, u32::MAX] {
        verdict(2, sequence, true).unwrap_or_else(|no| panic!("{sequence:x}: {no}"));
    }
    for sequence in [1, 0xffff, time | 1, time | 0xffff, beyond | 1] {
        for version in [2, 3, i32::MAX, -1, i32::MIN] {
            let rejection = verdict(version, sequence, true).unwrap_err();
            assert_eq!(rejection.reason, Reason::SequenceLock, "{sequence:x} {version}");
            assert_eq!((rejection.code, rejection.index), (ErrorCode::InvalidJob, Some(1)));
            // Of other coins we do not know the age.
            verdict(version, sequence, false).unwrap();
        }
        verdict(0, sequence, true).unwrap();
        verdict(1, sequence, true).unwrap();
    }
}

#[test]
fn fees_that_can_be_seen_are_counted() {
    let parent = simple(1);
    let child = child(&parent, 1_234);
    let mut template = Template::new(100, vec![parent, child]);
    template.facts = vec![Some(NodeFacts { fee_sat: 100, sigop_cost: 0 })];
    template.coinbase.output[0].value += Amount::from_sat(1_334);
    assert_eq!(template.accepted().fees().total_sat, Some(1_334));
    template.facts.clear();
    let fees = template.accepted().fees();
    assert_eq!((fees.total_sat, fees.known_sat), (None, 1_234));
}

#[test]
fn no_transaction_makes_money() {
    let parent = simple(1);
    let mut greedy = child(&parent, 0);
    Template::new(100, vec![parent.clone(), greedy.clone()]).accepted();
    greedy.output[0].value += Amount::ONE_SAT;
    let rejection =
        Template::new(100, vec![parent.clone(), greedy.clone()]).rejected(Reason::TxInputValue);
    assert_eq!((rejection.code, rejection.index), (ErrorCode::InvalidJob, Some(1)));
    // An input from outside may bring anything.
    greedy.input.push(input(outside(9), &[]));
    Template::new(100, vec![parent, greedy]).accepted();
}

/// A template of exactly this weight: a byte of witness weighs one unit.
fn of_weight(weight_wu: u64) -> Template {
    let padded = |bytes: u64| {
        let mut template = Template::new(100, (0..600).map(simple).collect());
        template.txs[300].input[0].witness = Witness::from_slice(&[vec![0; bytes as usize]]);
        template
    };
    // Sizes whose length takes five bytes.
    let at_least = padded(100_000).accepted().weight_wu();
    padded(100_000 + weight_wu - at_least)
}

#[test]
fn weight_is_at_most_4_000_000() {
    let full = of_weight(BLOCK_WEIGHT_MAX_WU);
    assert_eq!(full.accepted().weight_wu(), 4_000_000);
    let over = of_weight(BLOCK_WEIGHT_MAX_WU + 1);
    let rejection = over.rejected(Reason::Weight);
    assert_eq!(rejection.code, ErrorCode::InvalidJob);
    assert_eq!(rejection.details(), "reason=weight expected=at-most-4000000 actual=4000001");
}

#[test]
fn sigop_cost_is_at_most_80_000() {
    // Known: the node's own count.
    let mut template = Template::new(100, vec![simple(1), simple(2)]).with_fees(0);
    let facts = |sigop_cost| Some(NodeFacts { fee_sat: 0, sigop_cost });
    template.facts = vec![facts(40_000), facts(40_000)];
    assert_eq!(template.accepted().sigop_cost_min(), 80_000);
    template.facts[1] = facts(40_001);
    let rejection = template.rejected(Reason::Sigops);
    assert_eq!(rejection.code, ErrorCode::InvalidJob);

    // Unknown: what the scripts themselves show, times four. OP_CHECKSIG is 1, OP_CHECKMULTISIG 20.
    let mut heavy = legacy(1);
    heavy.output = vec![output(1, ScriptBuf::from_bytes(vec![0xac; 10_000])); 2];
    let mut template = Template::new(100, vec![heavy.clone()]);
    assert_eq!(template.accepted().sigop_cost_min(), 80_000);
    heavy.input[0].script_sig = ScriptBuf::from_bytes(vec![0xae]);
    template.txs = vec![heavy.clone()];
    assert_eq!(template.rejected(Reason::Sigops).actual.as_deref(), Some("80080"));
    // The node knows better than the scripts' look.
    template.facts = vec![facts(80_000)];
    template.accepted();

    // The coinbase counts as well.
    let mut template = Template::new(100, vec![]);
    template.coinbase.output.push(output(0, ScriptBuf::from_bytes(vec![0xac; 20_000])));
    assert_eq!(template.accepted().sigop_cost_min(), 80_000);
    template.set_script(101, &[0xac]);
    assert_eq!(template.rejected(Reason::Sigops).actual.as_deref(), Some("80004"));
}

#[test]
fn extranonce_counts_for_no_sigops() {
    // Read as a script the extranonce may be anything, so nothing in it counts.
    let mut template = Template::new(100, vec![]);
    template.coinbase.output.push(output(0, ScriptBuf::from_bytes(vec![0xac; 20_000])));
    // A push of 8 bytes in front of the extranonce: cut off where the prefix ends.
    template.set_script(101, &[0x08]);
    template.accepted();
}
