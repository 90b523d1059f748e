//! The rules about the coinbase transaction of a declared job, one test for each: what keeps the
//! rule at its edge is accepted, what breaks it by one is refused with its code and reason.

#![allow(clippy::unwrap_used, reason = "a test ends where an unwrap fails")]

mod common;

use bitcoin::absolute::LockTime;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence};
use common::*;
use validation::{CoinbaseParts, ErrorCode, Precheck, Reason, check_tip, payout};

fn template() -> Template {
    Template::new(100, vec![simple(1), legacy(2)])
}

#[test]
fn plain_template_is_accepted() {
    let job = template().with_fees(500).accepted();
    assert_eq!(job.height(), 101);
    assert_eq!(job.fees().total_sat, Some(1_000));
    assert_eq!(job.claimable_sat(), 5_000_001_000);
    assert_eq!(job.pool_payout_sat(), 5_000_001_000);
    assert_eq!(job.tx_count(), 3);
    assert!(job.fees_verified());
}

#[test]
fn extranonce_is_1_to_32_bytes() {
    for len in [1, 2, 31, 32] {
        let mut template = template();
        template.extranonce_len = len;
        template.set_script(101, b"");
        assert_eq!(template.accepted().coinbase().extranonce_len(), len);
    }
    for (len, said) in [(0, "0"), (33, "33")] {
        let mut template = template();
        template.extranonce_len = len;
        template.set_script(101, b"tag");
        let rejection = template.rejected(Reason::ExtranonceSize);
        assert_eq!(rejection.code, ErrorCode::InvalidCoinbaseTxInput);
        assert_eq!(rejection.actual.as_deref(), Some(said));
    }
}

#[test]
fn prefix_beyond_the_script_leaves_no_extranonce() {
    let mut wire = template().declare();
    wire.prefix.extend([0; 200]);
    let rejection = wire.rejected(Reason::ExtranonceSize);
    assert_eq!(rejection.actual.as_deref(), Some("-192"));
}

#[test]
fn script_sig_is_2_to_100_bytes() {
    // Two bytes: OP_1 and an extranonce of one.
    let mut short = Template::new(0, vec![]);
    short.extranonce_len = 1;
    short.set_script(1, b"");
    assert_eq!(short.accepted().coinbase().script_sig_len(), 2);

    let mut template = template();
    template.extranonce_len = 32;
    // The push of height 101 takes 2 bytes.
    template.set_script(101, &[b'x'; 66]);
    assert_eq!(template.accepted().coinbase().script_sig_len(), 100);
    template.set_script(101, &[b'x'; 67]);
    assert_eq!(template.rejected(Reason::CoinbaseScriptSize).actual.as_deref(), Some("101"));

    let mut wire = short.declare();
    // Declared length 1: below the least.
    wire.prefix[4 + 2 + 1 + 36] = 1;
    wire.rejected(Reason::CoinbaseScriptSize);
}

#[test]
fn absurd_declared_lengths_are_refused() {
    let mut wire = template().declare();
    let at = 4 + 2 + 1 + 36;
    for length in [101, 0x1_0000, 1 << 32, 1 << 60, u64::MAX] {
        wire.prefix.truncate(at);
        wire.prefix.extend(bitcoin::consensus::serialize(&bitcoin::VarInt(length)));
        let rejection = wire.rejected(Reason::CoinbaseScriptSize);
        assert_eq!(rejection.actual, Some(length.to_string()));
    }
}

#[test]
fn every_truncation_of_the_prefix_is_refused() {
    let wire = template().declare();
    for len in 0..wire.prefix.len() {
        let mut short = wire.clone();
        short.prefix.truncate(len);
        let Err(rejection) = short.verdict() else { panic!("{len} bytes of prefix are accepted") };
        let script_begins = 4 + 2 + 1 + 36 + 1;
        if len < script_begins {
            assert_eq!(rejection.reason, Reason::CoinbasePrefix, "{len} bytes: {rejection}");
            assert_eq!(rejection.code, ErrorCode::InvalidCoinbaseTx);
        } else if len < script_begins + 2 {
            // Here the height is cut off.
            assert_eq!(rejection.reason, Reason::CoinbaseHeightEncoding, "{len}: {rejection}");
            assert_eq!(rejection.code, ErrorCode::InvalidCoinbaseTxInput);
        } else {
            panic!("{len} bytes only make the extranonce longer: {rejection}");
        }
        if len == script_begins + 1 {
            break;
        }
    }
}

#[test]
fn every_truncation_of_the_suffix_is_refused() {
    let wire = template().declare();
    for len in 0..wire.suffix.len() {
        let mut short = wire.clone();
        short.suffix.truncate(len);
        short.rejected(Reason::CoinbaseSuffix);
    }
}

#[test]
fn trailing_bytes_are_refused() {
    let mut wire = template().declare();
    wire.suffix.push(0);
    let rejection = wire.rejected(Reason::CoinbaseTrailingBytes);
    assert_eq!(rejection.details(), "reason=coinbase-trailing-bytes expected=0 actual=1");
}

#[test]
fn exactly_one_input() {
    let wire = template().declare();
    // Byte 6 counts the inputs of the segwit encoding.
    for count in [0, 2, 3, 0xfc] {
        let mut wire = wire.clone();
        wire.prefix[6] = count;
        let rejection = wire.rejected(Reason::CoinbaseInputs);
        assert_eq!(rejection.code, ErrorCode::InvalidCoinbaseTxInput);
        assert_eq!(rejection.actual, Some(count.to_string()));
    }
    // No inputs in the legacy encoding: zero, then a count of outputs.
    for outputs in [0, 2, 3] {
        let mut wire = wire.clone();
        wire.prefix[5] = outputs;
        wire.rejected(Reason::CoinbaseInputs);
    }
}

#[test]
fn input_spends_the_null_outpoint() {
    let mut template = template();
    template.coinbase.input[0].previous_output = outside(9);
    let rejection = template.rejected(Reason::CoinbaseOutpoint);
    assert_eq!(rejection.code, ErrorCode::InvalidCoinbaseTxInput);
    assert_eq!(rejection.actual, Some(outside(9).to_string()));
    template.coinbase.input[0].previous_output = OutPoint { vout: 0, ..OutPoint::null() };
    template.rejected(Reason::CoinbaseOutpoint);
    template.coinbase.input[0].previous_output = OutPoint { vout: u32::MAX, ..outside(9) };
    template.rejected(Reason::CoinbaseOutpoint);
}

#[test]
fn longer_forms_of_counts_are_refused() {
    let mut wire = template().declare();
    // The count of inputs as fd 01 00.
    wire.prefix.splice(6..7, [0xfd, 1, 0]);
    assert_eq!(wire.rejected(Reason::CoinbaseEncoding).code, ErrorCode::InvalidCoinbaseTx);
    let mut wire = template().declare();
    // The count of outputs as fd 02 00.
    wire.suffix.splice(4..5, [0xfd, 2, 0]);
    wire.rejected(Reason::CoinbaseEncoding);
}

#[test]
fn marker_without_witness_is_refused() {
    let mut wire = template().declare();
    let end = wire.suffix.len() - 4;
    // One item of 32 bytes becomes none.
    wire.suffix.splice(end - 34..end, [0]);
    wire.rejected(Reason::CoinbaseEncoding);
}

#[test]
fn absurd_output_and_witness_counts_are_refused() {
    let mut wire = template().declare();
    wire.suffix.splice(4..5, [0xff, 0, 0, 0, 0, 0, 0, 0, 0x10]);
    wire.rejected(Reason::CoinbaseSuffix);
    let mut wire = template().declare();
    wire.suffix.splice(5.., []);
    wire.suffix.splice(4..5, [0xff, 0, 0, 0, 0, 0, 0, 0, 0x10]);
    wire.rejected(Reason::CoinbaseSuffix);
    let mut wire = template().declare();
    let end = wire.suffix.len() - 4;
    wire.suffix.splice(end - 34..end - 33, [0xff, 0, 0, 0, 0, 0, 0, 0, 0x10]);
    wire.rejected(Reason::CoinbaseSuffix);
}

#[test]
fn at_least_one_output() {
    let mut template = Template::new(100, vec![]).without_commitment();
    template.coinbase.output.clear();
    assert_eq!(template.rejected(Reason::CoinbaseOutputs).code, ErrorCode::InvalidCoinbaseTx);
}

#[test]
fn output_values_are_in_the_money_range() {
    for sat in [Amount::MAX_MONEY.to_sat() + 1, 1 << 63, u64::MAX] {
        let mut template = template();
        template.coinbase.output[0].value = Amount::from_sat(sat);
        let rejection = template.rejected(Reason::CoinbaseValueRange);
        assert_eq!((rejection.code, rejection.index), (ErrorCode::InvalidCoinbaseTx, Some(0)));
    }
    // Each in range, the sum not.
    let mut template = template();
    template.coinbase.output.insert(1, output(Amount::MAX_MONEY.to_sat(), script(3)));
    assert_eq!(template.rejected(Reason::CoinbaseValueRange).index, Some(1));
}

#[test]
fn height_is_that_of_the_next_block() {
    for (height, expected) in
        [(100, "101"), (99, "101"), (17, "101"), (103, "101"), (90_000, "101")]
    {
        let mut template = template();
        template.set_script(height, b"");
        let rejection = template.rejected(Reason::CoinbaseHeight);
        assert_eq!(rejection.code, ErrorCode::StaleChainTip);
        assert_eq!(rejection.expected.as_deref(), Some(expected));
        assert_eq!(rejection.actual, Some(height.to_string()));
    }
}

#[test]
fn one_block_ahead_waits() {
    let mut template = template();
    template.set_script(102, b"");
    assert_eq!(template.declare().precheck(), Precheck::WaitForTip { height: 102 });
    // Once our node is there the same bytes are judged.
    template.tip = tip(101);
    assert_eq!(template.accepted().height(), 102);
}

#[test]
fn first_heights_of_a_chain() {
    for tip_height in (0..=20).chain([126, 127, 254, 255, 32_766, 32_767, 65_535, 8_388_607]) {
        let job = Template::new(tip_height, vec![simple(1)]);
        let mut job = job;
        if validation::subsidy(job.rules.network, tip_height + 1) == Amount::ZERO {
            // Nothing to claim: the node must say so of the fees as well.
            job = job.with_fees(1);
        }
        assert_eq!(job.accepted().height(), tip_height + 1);
    }
}

#[test]
fn height_push_is_minimal() {
    for bytes in [&[0x01, 0x05][..], &[0x02, 0x65, 0x00], &[0x00], &[0x4c, 0x01, 0x65], b"tag"] {
        let mut template = template();
        let mut script = bytes.to_vec();
        script.extend([0; 8]);
        template.coinbase.input[0].script_sig = ScriptBuf::from_bytes(script);
        let rejection = template.rejected(Reason::CoinbaseHeightEncoding);
        assert_eq!(rejection.code, ErrorCode::InvalidCoinbaseTxInput, "{bytes:02x?}");
    }
}

#[test]
fn coinbase_is_final() {
    let mut template = template();
    template.coinbase.input[0].sequence = Sequence::ENABLE_LOCKTIME_NO_RBF;
    for lock_time in [0, 100, 500_000_000, TIP_MTP - 1] {
        template.coinbase.lock_time = LockTime::from_consensus(lock_time);
        template.accepted();
    }
    for lock_time in [101, 499_999_999, TIP_MTP, u32::MAX] {
        template.coinbase.lock_time = LockTime::from_consensus(lock_time);
        let rejection = template.rejected(Reason::CoinbaseNotFinal);
        assert_eq!(rejection.code, ErrorCode::InvalidCoinbaseTx);
    }
    template.coinbase.input[0].sequence = Sequence::MAX;
    template.accepted();
}

#[test]
fn commitment_is_that_of_the_declared_wtxids() {
    let mut wire = template().declare();
    wire.wtxids.swap(0, 1);
    wire.raw.swap(0, 1);
    let rejection = wire.rejected(Reason::WitnessCommitment);
    assert_eq!((rejection.code, rejection.index), (ErrorCode::InvalidCoinbaseTx, Some(1)));
    assert_ne!(rejection.expected, rejection.actual);
}

#[test]
fn reserved_value_may_be_anything() {
    let mut template = template();
    template.reserved = Some([0x5a; 32]);
    template.accepted();
}

#[test]
fn last_commitment_counts() {
    let mut template = template();
    template.coinbase.output.insert(0, output(0, commitment_script([1; 32])));
    template.accepted();
    template.commit = false;
    let sealed = Template::new(100, template.txs.clone()).sealed_coinbase();
    template.coinbase.output[0] = sealed.output[1].clone();
    let rejection = template.rejected(Reason::WitnessCommitment);
    assert_eq!(rejection.index, Some(2));
}

#[test]
fn commitment_may_be_followed_by_anything() {
    let template = template();
    let sealed = template.sealed_coinbase();
    let mut longer = template.clone();
    longer.commit = false;
    let mut bytes = sealed.output[1].script_pubkey.to_bytes();
    bytes.extend(b"more");
    longer.coinbase.output[1].script_pubkey = ScriptBuf::from_bytes(bytes.clone());
    longer.accepted();
    // One byte short of a commitment is none at all.
    bytes.truncate(37);
    longer.coinbase.output[1].script_pubkey = ScriptBuf::from_bytes(bytes);
    longer.rejected(Reason::WitnessWithoutCommitment);
}

#[test]
fn commitment_needs_one_item_of_32_bytes() {
    for items in [&[&[0; 31][..]][..], &[&[0; 33]], &[&[0; 32], &[0; 32]], &[&[], &[0; 32]]] {
        let mut template = template();
        template.reserved = None;
        template.coinbase.input[0].witness = bitcoin::Witness::from_slice(items);
        let rejection = template.rejected(Reason::CoinbaseWitness);
        assert_eq!(rejection.code, ErrorCode::InvalidCoinbaseTx);
    }
    let mut template = template();
    template.reserved = None;
    assert_eq!(template.rejected(Reason::CoinbaseWitness).actual.as_deref(), Some("no-witness"));
}

#[test]
fn without_commitment_nothing_has_a_witness() {
    let plain = Template::new(100, vec![legacy(1), legacy(2)]).without_commitment();
    assert!(!plain.accepted().coinbase().prefix().starts_with(&[2, 0, 0, 0, 0, 1]));
    let with_witness = Template::new(100, vec![legacy(1), simple(2)]).without_commitment();
    let rejection = with_witness.rejected(Reason::WitnessWithoutCommitment);
    assert_eq!((rejection.code, rejection.index), (ErrorCode::InvalidCoinbaseTx, Some(1)));
    let mut own_witness = plain.clone();
    own_witness.reserved = Some([0; 32]);
    let rejection = own_witness.rejected(Reason::WitnessWithoutCommitment);
    assert_eq!(rejection.index, None);
    // A commitment in a block without witnesses is fine.
    Template::new(100, vec![legacy(1)]).accepted();
}

#[test]
fn parts_are_those_of_the_transaction() {
    for template in [template(), Template::new(100, vec![legacy(1)]).without_commitment()] {
        let mut coinbase = template.sealed_coinbase();
        let (prefix, suffix) = split(&coinbase, 8);
        let parts = CoinbaseParts::parse(&prefix, &suffix).unwrap();
        assert_eq!(parts.tx_version(), 2);
        assert_eq!(parts.script_sig_prefix(), b"\x01\x65/tag/");
        assert_eq!(parts.script_sig_len(), 15);
        assert_eq!(parts.outputs(), coinbase.output);
        let outputs: Vec<u8> =
            coinbase.output.iter().flat_map(bitcoin::consensus::serialize).collect();
        assert_eq!(parts.outputs_bytes(), outputs);
        assert_eq!(parts.weight_wu(), coinbase.weight().to_wu());
        let extranonce = [1, 2, 3, 4, 5, 6, 7, 8];
        let mut script = coinbase.input[0].script_sig.to_bytes();
        script.truncate(7);
        script.extend(extranonce);
        coinbase.input[0].script_sig = ScriptBuf::from_bytes(script);
        assert_eq!(parts.txid_with(&extranonce), coinbase.compute_txid());
        let mut bytes = Vec::new();
        parts.write_with(&extranonce, &mut bytes);
        assert_eq!(bytes, bitcoin::consensus::serialize(&coinbase));
        check_tip(&parts, &template.tip).unwrap();
        payout::check_outputs(&parts, &template.rules).unwrap();
    }
}
