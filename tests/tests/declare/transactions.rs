//! Sets of transactions that are no block.

use bitcoin::absolute::LockTime;
use bitcoin::{Amount, OutPoint, Sequence, Transaction};
use jds_tests::{World, accepted, rejected};
use signet::Coin;
use signet::kinds::Kind;

const JOB: &str = "invalid-job";

/// Pays the coin on to `outputs` coins like it; no fee.
fn split(coin: &Coin, outputs: u64) -> Transaction {
    let mut output = coin.txout();
    output.value = Amount::from_sat(coin.value_sat / outputs);
    coin.spend(vec![output; outputs as usize])
}

/// The coin at an output of [`split`].
fn made(tx: &Transaction, vout: u32, coin: &Coin) -> Coin {
    let outpoint = OutPoint { txid: tx.compute_txid(), vout };
    let value_sat = tx.output.first().map_or(0, |output| output.value.to_sat());
    Coin { outpoint, value_sat, witness_script: coin.witness_script.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_is_no_block_is_told_which_transaction_is_why() {
    let world = World::start().await;
    let coins = world.coins(4).await;
    let work = world.work();
    let mut miner = world.miner("alice").await;
    let [plain, other] = [0, 1].map(|n| split(&coins[n], 1));
    let rival = split(&coins[0], 2);
    let parent = split(&coins[2], 2);
    let spend = |vout| split(&made(&parent, vout, &coins[2]), 1);
    let (child, astray) = (spend(0), spend(2));
    let next = work.height;
    let edited = |edit: fn(&mut Transaction, u32)| {
        let mut tx = child.clone();
        edit(&mut tx, next);
        tx
    };
    let greedy = edited(|tx, _| tx.output[0].value += Amount::ONE_SAT);
    let locked = edited(|tx, next| {
        tx.lock_time = LockTime::from_consensus(next);
        tx.input[0].sequence = Sequence::ENABLE_LOCKTIME_NO_RBF;
    });
    let aged = edited(|tx, _| tx.input[0].sequence = Sequence::from_height(1));
    let cases = [
        ("twice", vec![&plain, &other, &plain], "duplicate-wtxid", 2),
        ("one coin, two spenders", vec![&plain, &rival], "double-spend", 1),
        ("child first", vec![&plain, &child, &parent], "parent-after-child", 1),
        ("an output that is not there", vec![&parent, &astray], "parent-output-absent", 1),
        ("out of nothing", vec![&parent, &greedy], "tx-input-value", 1),
        ("locked until after this block", vec![&parent, &locked], "tx-not-final", 1),
        ("too young an input", vec![&parent, &aged], "sequence-lock", 1),
    ];
    for (what, txs, reason, index) in cases {
        println!("case: {what}");
        let txs: Vec<_> = txs.into_iter().cloned().collect();
        let template = miner.template_of(&work, txs, 0);
        let outcome = miner.declare(&template).await;
        let details = rejected(&outcome, JOB, reason);
        assert!(details.starts_with(&format!("reason={reason} index={index} ")), "{details}");
    }
    let txs = vec![plain, parent, other, child];
    let template = miner.template_of(&work, txs, 0);
    // Nothing of a rejected job is kept.
    assert_eq!(accepted(&miner.declare(&template).await), 4);
    let hash = miner.solve_and_push(&work, &template).await;
    world.assert_mined(hash, &template.txs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_double_spend_among_transactions_that_the_node_told_is_found_as_well() {
    let world = World::start().await;
    let coins = world.coins(1).await;
    let first = Kind::Payment.build(&coins[0]).unwrap().txs;
    let work = world.relay(&first).await;
    let mut miner = world.miner("alice").await;
    let txs = vec![split(&coins[0], 1), first[0].clone()];
    let template = miner.template_of(&work, txs, 2_000);
    let outcome = miner.declare(&template).await;
    let details = rejected(&outcome, JOB, "double-spend");
    let facts = format!("index=1 expected=unspent actual={}", coins[0].outpoint);
    assert_eq!(details, format!("reason=double-spend {facts}"));
}
