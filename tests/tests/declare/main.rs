//! Declarations over the wire, against a real node: what is accepted is mined, what is rejected
//! is told why.

#![expect(clippy::unwrap_used, reason = "a test that can not go on says where")]

mod coinbase;
mod receipts;
mod supply;
mod tokens;
mod transactions;
mod verdicts;
mod weight;

use jds_tests::{World, accepted, rejected};
use signet::kinds::Kind;

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_template_becomes_a_block_of_exactly_its_transactions() {
    let world = World::start().await;
    let coins = world.coins(Kind::ALL.len()).await;
    let samples = Kind::ALL.iter().zip(&coins).map(|(kind, coin)| kind.build(coin).unwrap());
    let (relayed, unseen): (Vec<_>, Vec<_>) = samples.partition(|sample| sample.kind.relayed());
    let relayed: Vec<_> = relayed.into_iter().flat_map(|sample| sample.txs).collect();
    let mut work = world.relay(&relayed).await;
    // Behind the node's own choice come transactions that only the miner has.
    work.fees_sat += unseen.iter().map(|sample| sample.fee_sat).sum::<u64>();
    let unseen: Vec<_> = unseen.into_iter().flat_map(|sample| sample.txs).collect();
    work.txs.extend(unseen.iter().cloned());

    let mut miner = world.miner("alice").await;
    let template = miner.template(&work);
    assert_eq!(accepted(&miner.declare(&template).await), unseen.len(), "transactions asked for");
    assert_eq!(accepted(&miner.declare(&template).await), 0, "known from the accepted job");
    let hash = miner.solve_and_push(&work, &template).await;
    world.assert_mined(hash, &template.txs);
    let job = &world.server.shared().jobs.of_user(&jds::token::UserTag::of(b"alice"))[0];
    let paid = world.node().block(&hash).unwrap().txdata[0].output[0].value.to_sat();
    assert_eq!(paid, work.subsidy_sat + work.fees_sat);
    assert_eq!((job.accepted.pool_payout_sat(), job.accepted.reward_sat()), (paid, paid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_for_another_height_is_stale() {
    let world = World::start().await;
    world.node().mine(3).unwrap();
    world.synced().await;
    let mut miner = world.miner("alice").await;
    let work = world.work();
    let next = work.height;
    // One block ahead waits for our node: that is tested where tips race.
    for height in [1, next - 2, next - 1, next + 2, next + 1_000] {
        let mut other = work.clone();
        other.height = height;
        let template = miner.template(&other);
        let outcome = miner.declare(&template).await;
        let details = rejected(&outcome, "stale-chain-tip", "coinbase-height");
        let facts = format!("reason=coinbase-height expected={next} actual={height}");
        assert_eq!(details, facts);
    }
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_a_block_overtook_is_stale() {
    let world = World::start().await;
    let mut miner = world.miner("alice").await;
    let template = miner.template(&world.work());
    accepted(&miner.declare(&template).await);
    world.node().mine(1).unwrap();
    world.synced().await;
    rejected(&miner.declare(&template).await, "stale-chain-tip", "coinbase-height");
    let template = miner.template(&world.work());
    accepted(&miner.declare(&template).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tip_moving_while_transactions_are_asked_for_makes_a_template_stale() {
    let world = World::start().await;
    let coins = world.coins(1).await;
    let mut miner = world.miner("alice").await;
    let sample = Kind::Payment.build(&coins[0]).unwrap();
    let template = miner.template_of(&world.work(), sample.txs.clone(), sample.fee_sat);
    let request_id = miner.send_declaration(&template).await;
    assert_eq!(miner.asked().await, (request_id, vec![0]));
    world.node().mine(1).unwrap();
    world.synced().await;
    miner.supply(request_id, &[template.raw_tx(0)]).await;
    let (answered, outcome) = miner.verdict().await;
    assert_eq!(answered, request_id);
    rejected(&outcome, "stale-chain-tip", "coinbase-height");
    // The same on the new tip: nothing of the stale one is in the way.
    let work = world.work();
    let template = miner.template_of(&work, sample.txs, sample.fee_sat);
    assert_eq!(accepted(&miner.declare(&template).await), 1);
    let hash = miner.solve_and_push(&work, &template).await;
    world.assert_mined(hash, &template.txs);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_template_has_the_same_hash_and_another_one_another() {
    let world = World::start().await;
    let (mut alice, mut bob) = (world.miner("alice").await, world.miner("bob").await);
    let work = world.work();
    let template = alice.template(&work);
    let mut other = template.clone();
    other.version += 1 << 13;
    for template in [&template, &template, &other] {
        accepted(&alice.declare(template).await);
    }
    accepted(&bob.declare(&template).await);
    let hashes = |user: &str| -> Vec<String> {
        let jobs = world.server.shared().jobs.of_user(&jds::token::UserTag::of(user.as_bytes()));
        // Newest first.
        jobs.iter().rev().map(|job| job.accepted.template_hash().to_string()).collect()
    };
    let [first, second, third] = &hashes("alice")[..] else { panic!("{:?}", hashes("alice")) };
    assert_eq!(first, second);
    assert_ne!(first, third);
    assert_eq!(
        hashes("bob"),
        std::slice::from_ref(first),
        "a template is the same whoever declares it"
    );
}
