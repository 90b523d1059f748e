//! ProvideMissingTransactions and what comes back.

use bitcoin::Transaction;
use bitcoin::consensus::serialize;
use jds::client::template::MinerTemplate;
use jds_tests::{Miner, Work, World, accepted, rejected};
use signet::kinds::Kind;

const MISSING: &str = "missing-txs";

fn known(world: &World, tx: &Transaction) -> bool {
    world.server.shared().validator.cache.get(&tx.compute_wtxid()).is_some()
}

/// Templates of `n` transactions each that nobody but the miner has.
async fn templates(world: &World, count: usize, n: usize) -> (Work, Vec<Vec<Transaction>>) {
    let coins = world.coins(count * n).await;
    let tx = |coin| Kind::Payment.build(coin).unwrap().txs.remove(0);
    (world.work(), coins.chunks(n).map(|coins| coins.iter().map(tx).collect()).collect())
}

/// Declares and waits until all of it was asked for.
async fn declare(miner: &mut Miner, template: &MinerTemplate) -> u32 {
    let request_id = miner.send_declaration(template).await;
    let all: Vec<u16> = (0..template.txs.len() as u16).collect();
    assert_eq!(miner.asked().await, (request_id, all));
    request_id
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_all_that_was_asked_for_is_told_what_is_missing() {
    let world = World::start().await;
    let (work, mut sets) = templates(&world, 2, 3).await;
    let (others, txs) = (sets.pop().unwrap(), sets.pop().unwrap());
    let mut miner = world.miner("alice").await;
    let template = miner.template_of(&work, txs.clone(), 0);
    let [a, b, c] = [0, 1, 2].map(|n| serialize(&txs[n]));
    let [x, y, z] = [0, 1, 2].map(|n| serialize(&others[n]));
    let cases = [
        ("nothing", vec![], 0),
        ("too few", vec![a.clone(), b.clone()], 2),
        ("another in its place", vec![a.clone(), x.clone(), c.clone()], 1),
        ("one of them twice", vec![a.clone(), a.clone(), b.clone()], 2),
        ("only others", vec![x.clone(), y, z], 0),
    ];
    for (what, answer, absent) in cases {
        println!("case: {what}");
        let request_id = declare(&mut miner, &template).await;
        miner.supply(request_id, &answer).await;
        let (answered, outcome) = miner.verdict().await;
        assert_eq!(answered, request_id);
        let details = rejected(&outcome, MISSING, "transaction-missing");
        let wtxid = txs[absent].compute_wtxid();
        assert_eq!(details, format!("reason=transaction-missing index={absent} expected={wtxid}"));
    }
    for tx in txs.iter().chain(&others) {
        assert!(!known(&world, tx), "a transaction of a rejected job is kept");
    }

    // In any order, and with one that nobody asked for.
    let request_id = declare(&mut miner, &template).await;
    miner.supply(request_id, &[c, x, a, b]).await;
    let (answered, outcome) = miner.verdict().await;
    assert_eq!(answered, request_id);
    accepted(&outcome);
    assert!(txs.iter().all(|tx| known(&world, tx)), "those of an accepted job are kept");
    assert!(!known(&world, &others[0]), "an unasked transaction is kept");
    assert_eq!(accepted(&miner.declare(&template).await), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_unknown_is_asked_for() {
    let world = World::start().await;
    let (work, mut sets) = templates(&world, 1, 5).await;
    let txs = sets.pop().unwrap();
    let mut miner = world.miner("alice").await;
    let first = miner.template_of(&work, vec![txs[1].clone(), txs[3].clone()], 0);
    assert_eq!(accepted(&miner.declare(&first).await), 2);
    let all = miner.template_of(&work, txs, 0);
    let request_id = miner.send_declaration(&all).await;
    assert_eq!(miner.asked().await, (request_id, vec![0, 2, 4]));
    miner.supply(request_id, &[0, 2, 4].map(|position| all.raw_tx(position))).await;
    let (answered, outcome) = miner.verdict().await;
    assert_eq!(answered, request_id);
    accepted(&outcome);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_for_no_declaration_are_passed_over() {
    let world = World::start().await;
    let (work, mut sets) = templates(&world, 1, 2).await;
    let txs = sets.pop().unwrap();
    let mut miner = world.miner("alice").await;
    let template = miner.template_of(&work, txs.clone(), 0);
    miner.supply(4_242, &[serialize(&txs[0])]).await;
    let request_id = declare(&mut miner, &template).await;
    miner.supply(request_id.wrapping_add(1), &[serialize(&txs[0]), serialize(&txs[1])]).await;
    miner.supply(request_id, &[serialize(&txs[0]), serialize(&txs[1])]).await;
    let (answered, outcome) = miner.verdict().await;
    assert_eq!(answered, request_id);
    accepted(&outcome);
    // Late, and a second time.
    miner.supply(request_id, &[serialize(&txs[0])]).await;
    assert_eq!(accepted(&miner.declare(&template).await), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_with_the_same_request_ids_get_their_own_answers() {
    let world = World::start().await;
    let (work, mut sets) = templates(&world, 2, 2).await;
    let (mut alice, mut bob) = (world.miner("alice").await, world.miner("bob").await);
    let of_bob = bob.template_of(&work, sets.pop().unwrap(), 0);
    let of_alice = alice.template_of(&work, sets.pop().unwrap(), 0);
    let raw = |template: &MinerTemplate| [template.raw_tx(0), template.raw_tx(1)];
    const SAME: u32 = 7;

    // Both are asked before either answers.
    for (miner, template) in [(&mut alice, &of_alice), (&mut bob, &of_bob)] {
        let token = miner.token().await;
        miner.send_declaration_as(SAME, &token.bytes, template).await;
        assert_eq!(miner.asked().await, (SAME, vec![0, 1]));
    }
    // Bob sends what Alice was asked for: his fault alone.
    bob.supply(SAME, &raw(&of_alice)).await;
    let (answered, outcome) = bob.verdict().await;
    assert_eq!(answered, SAME);
    rejected(&outcome, MISSING, "transaction-missing");
    alice.supply(SAME, &raw(&of_alice)).await;
    let (answered, outcome) = alice.verdict().await;
    assert_eq!(answered, SAME);
    accepted(&outcome);

    // Answered in the other order than asked.
    for (miner, template) in [(&mut alice, &of_bob), (&mut bob, &of_bob)] {
        let token = miner.token().await;
        miner.send_declaration_as(SAME, &token.bytes, template).await;
        assert_eq!(miner.asked().await, (SAME, vec![0, 1]));
    }
    for miner in [&mut bob, &mut alice] {
        miner.supply(SAME, &raw(&of_bob)).await;
        let (answered, outcome) = miner.verdict().await;
        assert_eq!(answered, SAME);
        accepted(&outcome);
    }
    let hash = bob.solve_and_push(&work, &of_bob).await;
    world.assert_mined(hash, &of_bob.txs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_can_not_be_used_twice_at_a_time() {
    let world = World::start().await;
    let (work, mut sets) = templates(&world, 1, 1).await;
    let mut miner = world.miner("alice").await;
    let template = miner.template_of(&work, sets.pop().unwrap(), 0);
    let request_id = declare(&mut miner, &template).await;
    let token = miner.token().await;
    miner.send_declaration_as(request_id, &token.bytes, &template).await;
    let (answered, outcome) = miner.verdict().await;
    assert_eq!(answered, request_id);
    rejected(&outcome, "invalid-job", "request-id-in-use");
    // The first one is not disturbed, and the token is not used up.
    miner.supply(request_id, &[template.raw_tx(0)]).await;
    let (answered, outcome) = miner.verdict().await;
    assert_eq!(answered, request_id);
    accepted(&outcome);
    miner.send_declaration_as(request_id, &token.bytes, &template).await;
    let (answered, outcome) = miner.verdict().await;
    assert_eq!(answered, request_id);
    accepted(&outcome);
}

/// A client whose own tip moved may no longer have what it was asked for: that is no fault of its.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_after_a_new_tip_is_stale_whatever_it_holds() {
    let world = World::start().await;
    let (work, sets) = templates(&world, 1, 2).await;
    let mut miner = world.miner("alice").await;
    let template = miner.template_of(&work, sets[0].clone(), 0);
    let request_id = declare(&mut miner, &template).await;
    world.node().mine_block(&[]).unwrap();
    world.synced().await;
    miner.supply(request_id, &[]).await;
    let (answered, outcome) = miner.verdict().await;
    assert_eq!(answered, request_id);
    rejected(&outcome, "stale-chain-tip", "coinbase-height");
}
