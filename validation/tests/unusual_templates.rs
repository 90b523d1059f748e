//! Templates that a policy would not make and consensus allows: every one is accepted, and what
//! transactions contain changes no verdict.

#![allow(clippy::unwrap_used, reason = "a test ends where an unwrap fails")]

mod common;

use bitcoin::transaction::Version;
use bitcoin::{Amount, ScriptBuf, Transaction, Witness};
use common::*;
use validation::NodeFacts;

fn data(bytes: &[u8]) -> ScriptBuf {
    let mut script = vec![0x6a, 0x4d];
    script.extend((bytes.len() as u16).to_le_bytes());
    script.extend(bytes);
    ScriptBuf::from_bytes(script)
}

/// 1-of-3 with three keys that are no keys.
fn bare_multisig(byte: u8) -> ScriptBuf {
    let mut script = vec![0x51];
    for _ in 0..3 {
        script.push(33);
        script.extend([byte; 33]);
    }
    script.extend([0x53, 0xae]);
    ScriptBuf::from_bytes(script)
}

fn with_output(number: u64, sat: u64, script: ScriptBuf) -> Transaction {
    let mut tx = simple(number);
    tx.output = vec![output(sat, script)];
    tx
}

#[test]
fn zero_fees() {
    let job = Template::new(100, (0..20).map(simple).collect()).with_fees(0).accepted();
    assert_eq!(job.fees().total_sat, Some(0));
}

#[test]
fn only_data() {
    let txs = (0..20).map(|n| with_output(n, 0, data(&[n as u8; 40_000])));
    Template::new(100, txs.collect()).accepted();
}

#[test]
fn dust() {
    let mut txs: Vec<_> = (0..20).map(|n| with_output(n, n % 2, script(1))).collect();
    txs.push(with_output(21, 0, ScriptBuf::new()));
    Template::new(100, txs).accepted();
}

#[test]
fn bare_multisig_and_odd_scripts() {
    let odd =
        [vec![], vec![0xff; 400], vec![0x4e, 0xff], vec![0x51], vec![0x00; 5_000], vec![0x50]];
    let mut txs: Vec<_> = (0..200).map(|n| with_output(n, 1, bare_multisig(n as u8))).collect();
    txs.extend((200..).zip(odd).map(|(n, bytes)| with_output(n, 1, ScriptBuf::from_bytes(bytes))));
    Template::new(100, txs).accepted();
}

#[test]
fn witness_of_390_kb() {
    let mut tx = simple(1);
    tx.input[0].witness = Witness::from_slice(&[vec![0x42; 390_000], vec![], vec![0; 3_600_000]]);
    Template::new(100, vec![tx]).accepted();
}

#[test]
fn odd_versions_and_many_witness_items() {
    let mut txs: Vec<_> = (0..4).map(simple).collect();
    for (tx, version) in txs.iter_mut().zip([0, -1, i32::MIN, 99]) {
        tx.version = Version(version);
        tx.input[0].witness = Witness::from_slice(&[[0_u8; 0]; 50_000]);
    }
    Template::new(100, txs).accepted();
}

#[test]
fn reversed_fee_order() {
    let mut template = Template::new(100, (0..20).map(simple).collect());
    template.facts =
        (0..20).map(|n| Some(NodeFacts { fee_sat: n * 1_000, sigop_cost: 1 })).collect();
    template.coinbase.output[0].value += Amount::from_sat(190_000);
    template.accepted();
    template.txs.reverse();
    template.facts.reverse();
    template.accepted();
}

#[test]
fn long_chain_within_the_block() {
    let mut txs = vec![simple(1)];
    for _ in 0..500 {
        txs.push(child(txs.last().unwrap(), 1));
    }
    let job = Template::new(100, txs).accepted();
    assert_eq!(job.fees().known_sat, 500);
}

#[test]
fn smallest_transactions_fill_a_block() {
    // 60 bytes each: the sizes behind the limit on their number.
    let smallest = |number| {
        let mut tx = legacy(number);
        tx.output = vec![output(0, ScriptBuf::new())];
        tx
    };
    assert_eq!(smallest(0).weight().to_wu(), 240);
    let mut template = Template::new(100, (0..16_663).map(smallest).collect());
    template.coinbase.output.truncate(1);
    let template = template.without_commitment();
    assert_eq!(template.accepted().tx_count(), 16_664);
}

/// One template, its content drawn from `seed`, its structure always the same.
fn same_structure(seed: u8, break_it: bool) -> Template {
    let content = [0x6a, 0xac, 0x51, 0x00, 0x20, 0xff, 0x76, 0xa9];
    let byte = content[usize::from(seed) % content.len()];
    let txs = (0..30).map(|n| {
        let mut tx = with_output(n + u64::from(seed) * 1_000, u64::from(seed), data(&[byte; 300]));
        tx.input[0].witness = Witness::from_slice(&[vec![seed; 500], vec![byte; 33]]);
        tx
    });
    let mut template = Template::new(100, txs.collect()).with_fees(u64::from(seed) * 10);
    if break_it {
        template.txs[20].input[0].previous_output = template.txs[3].input[0].previous_output;
    }
    template
}

#[test]
fn content_changes_no_verdict() {
    let (good, bad) = (same_structure(0, false).accepted(), same_structure(0, true));
    let refusal = bad.verdict().unwrap_err();
    for seed in 1..40 {
        let job = same_structure(seed, false).accepted();
        assert_eq!(job.weight_wu(), good.weight_wu());
        let again = same_structure(seed, true).verdict().unwrap_err();
        assert_eq!((again.reason, again.index), (refusal.reason, refusal.index));
    }
}
