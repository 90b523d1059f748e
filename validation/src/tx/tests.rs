//! One transaction by itself: its facts, what is none, and that only one encoding is.

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
