//! Every verdict can be had again from the disk alone, and is the same.

use bitcoin::{Amount, Transaction};
use jds::client::DeclareOutcome;
use jds::client::template::MinerTemplate;
use jds_tests::{Miner, PATIENCE, Setup, Work, World, accepted, rejected};
use signet::kinds::Kind;
use signet::{Coin, wait};
use store::{
    EventFilter, EventLog, PageRequest, StoredVerdict, TemplateFilter, TemplateRef,
    ValidationResult, VerdictLookup, VerdictRef,
};
use validation::replay::replay;

use crate::coinbase::CASES;

/// All declarations that the store has, oldest first, and what events tell of.
fn rows(world: &World) -> (Vec<u64>, Vec<u64>) {
    let (store, page) = (world.store(), PageRequest { after: None, limit: 1_000 });
    let rows = store.templates(&TemplateFilter::default(), page).unwrap().items;
    let types = EventFilter::parse("template_accepted,template_rejected").unwrap();
    let events = store.events_after(store::Cursor::START, &types, 1_000).unwrap().events;
    (rows.iter().rev().map(|row| row.id).collect(), events.iter().map(|event| event.id).collect())
}

/// Ends the server, and looks at what it left.
async fn after_the_end(world: World, look: impl FnOnce(&EventLog)) -> World {
    let dir = world.data_dir().to_owned();
    world.restart(|| look(&EventLog::open(&dir).unwrap())).await
}

#[track_caller]
fn found(log: &EventLog, which: VerdictRef) -> StoredVerdict {
    match log.verdict(which, None).unwrap() {
        VerdictLookup::Found(verdict) => *verdict,
        other => panic!("{which:?}: {other:?}"),
    }
}

/// The verdict given again is the one that was given.
#[track_caller]
fn check(verdict: &StoredVerdict) {
    let inputs = verdict.inputs.as_ref().unwrap_or_else(|why| panic!("{}: {why}", verdict.words()));
    let replayed = replay(inputs);
    let differences = verdict.differences(&replayed);
    assert!(differences.is_empty(), "{}: {differences:?}\n{:#?}", verdict.words(), replayed.steps);
}

/// Declares what the server has to ask for, and answers with these.
async fn answer(miner: &mut Miner, template: &MinerTemplate, answer: &[Vec<u8>]) -> DeclareOutcome {
    let request_id = miner.send_declaration(template).await;
    let (asked, _) = miner.asked().await;
    assert_eq!(asked, request_id);
    miner.supply(request_id, answer).await;
    miner.verdict().await.1
}

fn spend(coin: &Coin, sat: u64) -> Transaction {
    let mut output = coin.txout();
    output.value = Amount::from_sat(sat);
    coin.spend(vec![output])
}

/// Refusals before, at and after the transactions; what the node refuses; what came too late.
async fn refuse_all(world: &World, miner: &mut Miner, coins: &[Coin]) -> usize {
    let sample = |coin| Kind::Payment.build(coin).unwrap().txs;
    let relayed: Vec<_> = coins[..3].iter().flat_map(sample).collect();
    let work = world.relay(&relayed).await;
    let sound = miner.template(&work);
    for (_, break_it, code, reason) in CASES {
        let mut template = sound.clone();
        break_it(&mut template);
        rejected(&miner.declare(&template).await, code, reason);
    }
    let (plain, rival) = (spend(&coins[3], 1_000), spend(&coins[3], 2_000));
    let twice = miner.template_of(&work, vec![plain.clone(), rival.clone()], 0);
    rejected(&miner.declare(&twice).await, "invalid-job", "double-spend");
    let listed_twice = miner.template_of(&work, vec![plain.clone(), plain.clone()], 0);
    rejected(&miner.declare(&listed_twice).await, "invalid-job", "duplicate-wtxid");
    // With what the node has told of the others.
    let txs = [relayed.clone(), vec![plain.clone(), rival]].concat();
    let mixed = miner.template_of(&work, txs, 0);
    rejected(&miner.declare(&mixed).await, "invalid-job", "double-spend");
    let one = miner.template_of(&work, vec![plain.clone()], 0);
    let outcome = answer(miner, &one, &[]).await;
    rejected(&outcome, "missing-txs", "transaction-missing");
    let outcome = answer(miner, &one, &[vec![1, 2, 3]]).await;
    rejected(&outcome, "invalid-job", "tx-decode");
    let mut forged = plain;
    forged.input[0].witness.push([7; 40]);
    let forged = miner.template_of(&work, vec![forged], 0);
    rejected(&miner.declare(&forged).await, "invalid-job", "consensus-check");
    for height in [1, work.height + 1, work.height + 9] {
        let other = Work { height, ..work.clone() };
        let template = miner.template(&other);
        rejected(&miner.declare(&template).await, "stale-chain-tip", "coinbase-height");
    }
    CASES.len() + 9
}

/// Accepted ones, of known, unknown and no transactions; one of them twice.
async fn accept_all(world: &World, miner: &mut Miner, coins: &[Coin]) -> usize {
    let sample = |coin| Kind::Payment.build(coin).unwrap().txs;
    let work = world.work();
    let known = miner.template(&work);
    accepted(&miner.declare(&known).await);
    accepted(&miner.declare(&known).await);
    let own: Vec<_> = coins.iter().flat_map(sample).collect();
    let unknown = miner.template_of(&work, own.clone(), 0);
    assert_eq!(accepted(&miner.declare(&unknown).await), own.len());
    let both = miner.template_of(&work, [work.txs.clone(), own].concat(), work.fees_sat);
    accepted(&miner.declare(&both).await);
    let none = miner.template_of(&work, Vec::new(), 0);
    accepted(&miner.declare(&none).await);
    5
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verdict_comes_out_the_same_from_what_is_on_the_disk() {
    let world = Setup::new()
        .job_declaration("consensus_check = \"before-accept\"")
        .job_declaration("tip_grace_ms = 100")
        .start()
        .await;
    let coins = world.coins(8).await;
    let mut miner = world.miner("alice").await;
    let refused = refuse_all(&world, &mut miner, &coins[..4]).await;
    let good = accept_all(&world, &mut miner, &coins[4..]).await;
    // The tip moves between the two looks.
    let late = miner.template_of(&world.work(), vec![spend(&coins[3], 3_000)], 0);
    let request_id = miner.send_declaration(&late).await;
    miner.asked().await;
    world.node().mine(1).unwrap();
    world.synced().await;
    miner.supply(request_id, &[late.raw_tx(0)]).await;
    rejected(&miner.verdict().await.1, "stale-chain-tip", "coinbase-height");
    // No verdict on a declaration: nothing to be had again.
    let outcome = miner.declare_with(b"made up", &late).await;
    rejected(&outcome, "invalid-mining-job-token", "token-unknown");

    // Nobody waits for the event of a token alone.
    let all = good + refused + 2;
    wait::until_true("all events", PATIENCE, || rows(&world).1.len() == all).unwrap();
    let (rows, events) = rows(&world);
    assert_eq!(rows.len(), all - 1);
    let mut world = world;
    // Once more after a restart, which takes the jobs back.
    for _ in 0..2 {
        world = after_the_end(world, |log| {
            let mut told = events.iter();
            for id in &rows {
                let verdict = found(log, VerdictRef::Template(TemplateRef::Id(*id)));
                check(&verdict);
                let event = *told.next().unwrap();
                let of_event = found(log, VerdictRef::Event(event));
                assert_eq!(of_event.words(), verdict.words(), "event {event}");
                check(&of_event);
            }
            let unknown = *told.next().unwrap();
            match log.verdict(VerdictRef::Event(unknown), None).unwrap() {
                VerdictLookup::WithoutRow(event) => assert_eq!(event.reason, "token-unknown"),
                other => panic!("{other:?}"),
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_found_invalid_later_was_accepted_by_the_rules() {
    let world = Setup::new().job_declaration("consensus_check = \"after-accept\"").start().await;
    let coins = world.coins(1).await;
    let mut miner = world.miner("alice").await;
    let mut forged = spend(&coins[0], 1_000);
    forged.input[0].witness.push([7; 40]);
    let template = miner.template_of(&world.work(), vec![forged], 0);
    accepted(&miner.declare(&template).await);
    let withdrawn = || {
        let page = PageRequest { after: None, limit: 1 };
        let rows = world.store().templates(&TemplateFilter::default(), page).unwrap().items;
        rows.first().is_some_and(|row| row.result == ValidationResult::Invalidated)
    };
    wait::until_true("the template to be withdrawn", PATIENCE, withdrawn).unwrap();
    let world = after_the_end(world, |log| {
        let verdict = found(log, VerdictRef::Template(TemplateRef::Id(1)));
        assert!(verdict.words().starts_with("accepted, withdrawn later: "), "{}", verdict.words());
        check(&verdict);
    })
    .await;
    drop(world);
}
