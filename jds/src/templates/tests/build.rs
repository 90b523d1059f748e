//! Any template, any constraints: what is sent fits, claims what it may, and makes a block that its
//! own parts prove right.

use bitcoin::consensus::deserialize;
use bitcoin::script::Builder;
use bitcoin::{Block, CompactTarget};
use jds_wire::message::template::{CoinbaseOutputConstraints, TemplateServerMessage};
use jds_wire::{FrameHeader, message::constants as c};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{Room, TemplateSolution};
use super::*;
use crate::client::templates::{OwnedTemplate, parse_template};
use crate::limits::TEMPLATE_BUILDS_MAX;

#[derive(Debug, Clone)]
struct Spec {
    child: bool,
    pad: usize,
    fee_sat: u64,
    sigop_cost: u32,
}

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    let spec = (any::<bool>(), 0_usize..30_000, 0_u64..1_000_000, 0_u32..3_000);
    let spec =
        spec.prop_map(|(child, pad, fee_sat, sigop_cost)| Spec { child, pad, fee_sat, sigop_cost });
    vec(spec, 0..60)
}

fn txs(specs: &[Spec]) -> Vec<Arc<Tx>> {
    let mut txs: Vec<Arc<Tx>> = Vec::new();
    for (salt, spec) in specs.iter().enumerate() {
        let parent = txs.last().filter(|_| spec.child).map(|tx| tx.txid());
        let facts = NodeFacts { fee_sat: spec.fee_sat, sigop_cost: spec.sigop_cost };
        txs.push(tx(salt as u64, parent, spec.pad, Some(facts)));
    }
    txs
}

/// The message as a client reads it.
fn sent(payload: &[u8]) -> OwnedTemplate {
    let header = FrameHeader {
        extension_type: 0,
        channel_msg: false,
        msg_type: c::MESSAGE_TYPE_NEW_TEMPLATE,
        payload_bytes: payload.len(),
    };
    match TemplateServerMessage::decode(&header, payload).unwrap() {
        TemplateServerMessage::NewTemplate(template) => parse_template(&template),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sent_fits_and_is_the_beginning_of_what_the_node_has(
        specs in specs(),
        reserved in prop_oneof![Just(0_u32), 0_u32..1_000, 700_000_u32..999_706],
        sigops: u16,
        height in 0_u32..1_000,
    ) {
        let txs = txs(&specs);
        let (tip, all) = (tip(height, 1), txs.len());
        let view = view(1, tip, txs.clone());
        let constraints = CoinbaseOutputConstraints {
            max_additional_size: reserved,
            max_additional_sigops: sigops,
        };
        let room = Room::beside(&constraints).unwrap();
        let (built, _) = view.build(&room, || 42);
        let taken = built.txs();
        let count = taken.len();
        prop_assert!(taken.iter().zip(&txs).all(|(a, b)| Arc::ptr_eq(a, b)), "a beginning of it");

        // It fits, with as large a coinbase as was asked for; one more would not.
        let weight = |count: usize| -> u64 {
            txs.iter().take(count).map(|tx| u64::from(tx.weight_wu())).sum()
        };
        let cost = |count: usize| -> u64 {
            specs.iter().take(count).map(|spec| u64::from(spec.sigop_cost)).sum()
        };
        let fits = |count: usize| weight(count) <= room.weight_wu && cost(count) <= room.sigop_cost;
        prop_assert!(fits(count));
        prop_assert!(count == all || !fits(count + 1), "{count} of {all}");

        // It claims the subsidy and the fees of what is in it.
        let fees: u64 = specs.iter().take(count).map(|spec| spec.fee_sat).sum();
        let subsidy = subsidy(Network::Regtest, tip.next_height()).to_sat();
        prop_assert_eq!(built.value_sat(), subsidy + fees);

        // And its message makes a block whose roots are those of its transactions.
        let template = sent(&built.message(true));
        prop_assert!(template.future && !sent(&built.message(false)).future);
        prop_assert_eq!((template.id, template.value_sat), (42, subsidy + fees));
        // The coinbase of a client that fills all that it asked for, but for what a block's
        // coinbase may not have in one message.
        let script = ScriptBuf::from_bytes(vec![0x6a; (reserved as usize).saturating_sub(11).min(9_000)]);
        let extra = vec![0xee; 100 - template.coinbase_prefix.len()];
        let coinbase = template.coinbase(script, &extra);
        let on = built.set_new_prev_hash(tip.time);
        let solved = template.solve(&on, coinbase).unwrap();
        let solution = TemplateSolution {
            version: solved.header.version.to_consensus() as u32,
            ntime: solved.header.time,
            nonce: solved.header.nonce,
            coinbase: serialize(&solved.coinbase),
        };
        let bits = CompactTarget::from_consensus(EASY);
        let (header, coinbase) = built.header(&solution, bits).unwrap();
        prop_assert_eq!(header, solved.header);
        let found = built.block(header, &coinbase).unwrap();
        let block: Block = deserialize(&found.raw).unwrap();
        prop_assert!(block.check_merkle_root() && block.check_witness_commitment());
        let prefix = Builder::new().push_int(i64::from(height) + 1).into_bytes();
        prop_assert!(coinbase.input[0].script_sig.as_bytes().starts_with(&prefix), "BIP 34");
        prop_assert!(block.weight().to_wu() <= 4_000_000, "{}", block.weight());
        prop_assert_eq!((found.tx_count, block.txdata.len()), (count + 1, count + 1));
        prop_assert_eq!(found.coinbase_txid, solved.coinbase.compute_txid());
    }
}

#[test]
fn a_block_filled_to_the_brim_is_not_a_unit_too_heavy() {
    // The weight left over for one transaction, with the largest script and a maximal output.
    let size = 900_000;
    let constraints =
        CoinbaseOutputConstraints { max_additional_size: size, max_additional_sigops: 0 };
    let room = Room::beside(&constraints).unwrap();
    let probe = u64::from(tx(1, None, 300, None).weight_wu());
    let pad = 300 + (room.weight_wu - probe) as usize;
    let facts = Some(NodeFacts { fee_sat: 1, sigop_cost: 0 });
    let fits = |pad: usize| {
        // The length of a witness element of that size takes two bytes more.
        let tx = tx(1, None, pad - 2, facts);
        (view(1, tip(100, 1), vec![Arc::clone(&tx)]).fitting(&room), u64::from(tx.weight_wu()))
    };
    assert_eq!(fits(pad), (1, room.weight_wu));
    assert_eq!(fits(pad + 1), (0, room.weight_wu + 1));
    // All of the output's bytes are used: 8 of value, 5 of length.
    let view = view(1, tip(100, 1), vec![tx(1, None, pad - 2, facts)]);
    let (built, _) = view.build(&room, || 1);
    let template = sent(&built.message(true));
    let script = ScriptBuf::from_bytes(vec![0x6a; size as usize - 13]);
    let coinbase = template.coinbase(script, &[0; 100][template.coinbase_prefix.len()..]);
    let on = built.set_new_prev_hash(0);
    let solved = template.solve(&on, coinbase.clone()).unwrap();
    let block = built.block(solved.header, &coinbase).unwrap();
    let weight = deserialize::<Block>(&block.raw).unwrap().weight().to_wu();
    // Counts that the reserve allows three and five bytes take one here: 4 x (2 + 2), and the
    // 8 units for five bytes of outputs' count.
    assert_eq!(4_000_000 - weight, 16 + 8);
}

#[test]
fn what_is_not_known_to_be_paid_is_not_claimed() {
    let known = Some(NodeFacts { fee_sat: 700, sigop_cost: 0 });
    let txs = vec![tx(1, None, 10, known), tx(2, None, 10, None), tx(3, None, 10, known)];
    let two = u64::from(txs[0].weight_wu() + txs[1].weight_wu());
    let view = view(1, tip(100, 1), txs);
    let subsidy = subsidy(Network::Regtest, 101).to_sat();
    let value = |weight_wu| view.build(&Room { weight_wu, sigop_cost: 80_000 }, || 1).0.value_sat();
    assert_eq!(value(two), subsidy + 700);
    assert_eq!(value(two - 1), subsidy + 700);
    assert_eq!(value(1_000_000), view.value_sat());
}

#[test]
fn templates_are_made_once_for_all_that_take_the_same() {
    let known = Some(NodeFacts { fee_sat: 700, sigop_cost: 4 });
    let count = TEMPLATE_BUILDS_MAX as u64 + 10;
    let txs: Vec<_> = (0..count).map(|salt| tx(salt, None, 10, known)).collect();
    let each = u64::from(txs[0].weight_wu());
    let view = view(1, tip(100, 1), txs);
    let mut ids = 0;
    let mut build = |weight_wu| {
        let room = Room { weight_wu, sigop_cost: 80_000 };
        view.build(&room, || {
            ids += 1;
            ids
        })
    };
    let (one, is_new) = build(each);
    let (same, is_new_again) = build(2 * each - 1);
    assert!(is_new && !is_new_again && Arc::ptr_eq(&one, &same));
    for fitting in 1..=count {
        let (built, _) = build(fitting * each);
        assert_eq!(built.txs().len() as u64, fitting.min(TEMPLATE_BUILDS_MAX as u64));
    }
    assert_eq!(build(0).0.txs().len(), 0, "an empty one there always is");
    assert_eq!(ids, TEMPLATE_BUILDS_MAX as u64 + 1);
}

#[test]
fn the_time_to_begin_with_is_one_that_consensus_allows() {
    let tip = tip(100, 1);
    let view = view(1, tip, Vec::new());
    let (built, _) = view.build(&Room { weight_wu: 0, sigop_cost: 0 }, || 1);
    let at = |now| built.set_new_prev_hash(now).header_timestamp;
    assert_eq!(at(tip.time + 50), tip.time + 50);
    // A clock that is behind.
    assert_eq!(at(0), (tip.median_time_past + 1).max(tip.time - 600));
    let on = built.set_new_prev_hash(0);
    assert_eq!(on.n_bits, EASY);
    assert_eq!(on.target[31], 0x7f);
    assert_eq!(on.prev_hash, [1; 32]);
}

#[test]
fn transactions_are_encoded_once_for_all_who_wait_for_them() {
    let txs = vec![tx(1, None, 10, None), tx(2, None, 2_000, None)];
    let view = view(1, tip(100, 1), txs);
    let (built, _) = view.build(&Room { weight_wu: 4_000_000, sigop_cost: 80_000 }, || 9);
    let (one, two) = (built.transaction_data().unwrap(), built.transaction_data().unwrap());
    assert!(Arc::ptr_eq(&one, &two));
    assert_eq!(
        one.len(),
        8 + 2 + 2 + built.txs().iter().map(|tx| 3 + tx.raw().len()).sum::<usize>()
    );
}
