//! The weight limit, to the unit.

use bitcoin::consensus::serialize;
use bitcoin::opcodes::all::OP_RETURN;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::{Amount, Transaction, TxOut};
use jds::client::template::MinerTemplate;
use jds_tests::{World, accepted, rejected};
use signet::Coin;

/// Consensus limit (BIP 141), weight units.
const BLOCK_WEIGHT_MAX_WU: u64 = 4_000_000;

/// A transaction of exactly that weight: data for multiples of four, witness bytes for the rest.
fn of_weight(coin: &Coin, weight_wu: u64) -> Transaction {
    let build = |data_bytes: usize, pad_bytes: usize| {
        let data = PushBytesBuf::try_from(vec![0x6a; data_bytes]).unwrap();
        let script = Builder::new().push_opcode(OP_RETURN).push_slice(data).into_script();
        let mut tx = coin.spend(vec![TxOut { value: Amount::ZERO, script_pubkey: script }]);
        tx.input = vec![coin.input_padded(pad_bytes, 1)];
        tx
    };
    // Lengths take as many bytes in any transaction of this size.
    let spare_wu = weight_wu - build(100_000, 0).weight().to_wu();
    let tx = build(100_000 + spare_wu as usize / 4, spare_wu as usize % 4);
    assert_eq!(tx.weight().to_wu(), weight_wu);
    tx
}

/// Weight of the whole block, as anybody can count it.
fn block_weight_wu(template: &MinerTemplate) -> u64 {
    let txs = template.txs.iter().map(|tx| tx.weight().to_wu()).sum::<u64>();
    let count_bytes = serialize(&bitcoin::VarInt(template.txs.len() as u64 + 1)).len() as u64;
    4 * (80 + count_bytes) + template.coinbase.weight().to_wu() + txs
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_four_million_weight_units_are_accepted_and_mined_and_one_more_is_not() {
    let world = World::start().await;
    let coins = world.coins(1).await;
    let mut miner = world.miner("alice").await;
    let work = world.work();
    let fee_sat = coins[0].value_sat;
    let empty_wu = block_weight_wu(&miner.template_of(&work, vec![], fee_sat));
    let full = |weight_wu: u64| {
        let tx = of_weight(&coins[0], weight_wu - empty_wu);
        let template = miner.template_of(&work, vec![tx], fee_sat);
        assert_eq!(block_weight_wu(&template), weight_wu);
        template
    };
    let (fits, too_heavy) = (full(BLOCK_WEIGHT_MAX_WU), full(BLOCK_WEIGHT_MAX_WU + 1));

    let outcome = miner.declare(&too_heavy).await;
    let details = rejected(&outcome, "invalid-job", "weight");
    assert_eq!(details, "reason=weight expected=at-most-4000000 actual=4000001");

    accepted(&miner.declare(&fits).await);
    let hash = miner.solve_and_push(&work, &fits).await;
    world.assert_mined(hash, &fits.txs);
    assert_eq!(world.node().block(&hash).unwrap().weight().to_wu(), BLOCK_WEIGHT_MAX_WU);
}
