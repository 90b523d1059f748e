//! The node's judgement of a declared block: when it is asked for, what follows from it, and that
//! it is about consensus alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::{Transaction, Witness};
use jds::client::ClientError;
use jds::client::template::MinerTemplate;
use jds::jobs::Job;
use jds::limits::CHECK_TIP_SETTLED;
use jds::token::UserTag;
use jds_tests::{Miner, PATIENCE, Setup, Work, World, accepted, rejected};
use signet::kinds::Kind;
use signet::{Coin, FillSpec, Node, wait};

/// Far more than an answer takes that asks nobody, far less than a wait for a frozen node.
const AT_ONCE: Duration = Duration::from_secs(4);

fn mode(consensus_check: &str) -> Setup {
    crate::setup().job_declaration(&format!("consensus_check = \"{consensus_check}\""))
}

/// Spends the coin with a script that is not the coin's: every rule about structure is kept, only
/// running the script tells.
fn invalid_spend(coin: &Coin) -> (Transaction, u64) {
    let sample = Kind::Payment.build(coin).unwrap();
    let [mut tx] = <[Transaction; 1]>::try_from(sample.txs).unwrap();
    // OP_2 instead of the script that the output commits to.
    tx.input[0].witness = Witness::from_slice(&[[0x52]]);
    (tx, sample.fee_sat)
}

/// A miner's template with an invalid spend behind the node's transactions.
fn invalid_template(miner: &Miner, work: &Work, coin: &Coin) -> MinerTemplate {
    let (tx, _) = invalid_spend(coin);
    let txs = work.txs.iter().cloned().chain([tx]).collect();
    miner.template_of(work, txs, work.fees_sat)
}

/// The newest accepted job of a user.
fn newest_job(world: &World, user: &str) -> Option<Arc<Job>> {
    world.server.shared().jobs.of_user(&UserTag::of(user.as_bytes())).into_iter().next()
}

/// Waits until the node has found the job invalid; its reason.
fn wait_withdrawn(job: &Job) -> String {
    wait::until("the job to be withdrawn", PATIENCE, || job.withdrawn().map(str::to_owned)).unwrap()
}

/// A block of this template is refused by the node.
async fn assert_worthless(miner: &mut Miner, work: &Work, world: &World, template: &MinerTemplate) {
    let solved = work.solve(template);
    let error = world.node().submit(&solved.block).unwrap_err();
    assert!(error.to_string().contains("script"), "{error}");
    miner.push(&solved).await;
    world.assert_still_serving().await;
    assert_eq!(world.node().tip().unwrap(), work.prev_hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_accept_withdraws_what_the_node_finds_invalid() {
    let world = mode("after-accept").start().await;
    let coins = world.coins(1).await;
    let work = world.work();
    let mut miner = world.miner("alice").await;
    let template = invalid_template(&miner, &work, &coins[0]);
    assert_eq!(accepted(&miner.declare(&template).await), 1);
    let job = newest_job(&world, "alice").unwrap();
    let reason = wait_withdrawn(&job);
    assert!(reason.contains("script"), "{reason}");

    // The miner's next template is judged by itself.
    let good = miner.template(&work);
    accepted(&miner.declare(&good).await);
    let hash = miner.solve_and_push(&work, &good).await;
    world.assert_mined(hash, &good.txs);
    assert_eq!(newest_job(&world, "alice").unwrap().withdrawn(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn before_accept_refuses_what_the_node_finds_invalid() {
    let world = mode("before-accept").start().await;
    let coins = world.coins(2).await;
    let work = world.work();
    let mut miner = world.miner("alice").await;
    let template = invalid_template(&miner, &work, &coins[0]);
    let outcome = miner.declare(&template).await;
    let details = rejected(&outcome, "invalid-job", "consensus-check");
    assert!(details.contains("actual=") && details.contains("script"), "{details}");

    // Nothing of it is kept: neither the job nor the transaction.
    assert!(newest_job(&world, "alice").is_none());
    let wtxid = template.txs.last().unwrap().compute_wtxid();
    assert!(world.server.shared().validator.cache.get(&wtxid).is_none());

    // The valid spend of the same coin is another transaction, and is accepted.
    let sample = Kind::Payment.build(&coins[0]).unwrap();
    let good = miner.template_of(&work, sample.txs.clone(), sample.fee_sat);
    accepted(&miner.declare(&good).await);
    let hash = miner.solve_and_push(&work, &good).await;
    world.assert_mined(hash, &sample.txs);
}

#[tokio::test(flavor = "multi_thread")]
async fn off_asks_nobody() {
    let world = mode("off").start().await;
    let coins = world.coins(1).await;
    let work = world.work();
    let mut miner = world.miner("alice").await;
    let template = invalid_template(&miner, &work, &coins[0]);
    assert_eq!(accepted(&miner.declare(&template).await), 1);
    assert!(world.server.shared().validator.checker.is_none(), "there is nobody to ask the node");

    // The node says so in the end, and the server takes no harm.
    assert_worthless(&mut miner, &work, &world, &template).await;
    let job = newest_job(&world, "alice").unwrap();
    assert_eq!(job.accepted.txs().len(), template.txs.len());
    assert_eq!(job.withdrawn(), None);
}

/// With the node frozen, whoever needs an answer of it has to wait.
#[tokio::test(flavor = "multi_thread")]
async fn the_node_is_asked_about_what_it_does_not_offer_itself_and_about_nothing_else() {
    let world = mode("before-accept").start().await;
    let coins = world.coins(1).await;
    let filled = world.node().fill_mempool(FillSpec::of(30)).unwrap();
    world.synced().await;
    world.wait_known(&filled.txs);
    let work = Work::with_txs(world.node(), filled.txs.len());
    let mut miner = world.miner("alice").await;
    // All that the node offers, a part of it, another order, nothing at all.
    let own = miner.template(&work);
    let reversed: Vec<_> = work.txs.iter().rev().cloned().collect();
    let reversed = miner.template_of(&work, reversed, work.fees_sat);
    let empty = miner.template_of(&work, Vec::new(), 0);
    let more = Kind::Payment.build(&coins[0]).unwrap();
    let txs = [work.txs.clone(), more.txs].concat();
    let more = miner.template_of(&work, txs, work.fees_sat + more.fee_sat);
    // What is declared below must not be vetted by a template of before.
    accepted(&miner.declare(&own).await);

    world.node().pause().unwrap();
    let start = Instant::now();
    for template in [&own, &reversed, &empty] {
        assert_eq!(accepted(&miner.declare(template).await), 0);
    }
    let elapsed = start.elapsed();
    assert!(elapsed < AT_ONCE, "three templates of known transactions took {elapsed:?}");

    let request_id = miner.send_declaration(&more).await;
    let (_, positions) = miner.asked().await;
    assert_eq!(positions, [30]);
    miner.supply(request_id, &[more.raw_tx(30)]).await;
    // Others are served meanwhile, this one waits.
    let mut other = world.miner("bob").await;
    accepted(&other.declare(&own).await);
    miner.token().await;
    let come = miner.client.recv_within(Duration::ZERO).await;
    assert!(matches!(come, Err(ClientError::Timeout { .. })), "{come:?}");
    world.node().resume().unwrap();
    let (answered, outcome) = miner.verdict().await;
    assert_eq!(answered, request_id);
    accepted(&outcome);

    let hash = miner.solve_and_push(&work, &more).await;
    world.assert_mined(hash, &more.txs);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_policy_refuses_and_consensus_allows_is_never_withdrawn() {
    let world = mode("after-accept").start().await;
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| !kind.relayed()).collect();
    let coins = world.coins(kinds.len() + 1).await;
    let work = world.work();
    let mut jobs = Vec::new();
    let (mut txs, mut fees_sat) = (Vec::new(), 0);
    // A user for each: only the newest job of a user is checked.
    for (kind, coin) in kinds.iter().zip(&coins) {
        let sample = kind.build(coin).unwrap();
        let mut miner = world.miner(kind.label()).await;
        let template = miner.template_of(&work, sample.txs.clone(), sample.fee_sat);
        assert_eq!(accepted(&miner.declare(&template).await), sample.txs.len(), "{kind:?}");
        jobs.push((kind, newest_job(&world, kind.label()).unwrap()));
        txs.extend(sample.txs);
        fees_sat += sample.fee_sat;
    }
    // Checks go one at a time and in order: with the last one judged, all are.
    let mut last = world.miner("last").await;
    let template = invalid_template(&last, &work, coins.last().unwrap());
    accepted(&last.declare(&template).await);
    wait_withdrawn(&newest_job(&world, "last").unwrap());
    for (kind, job) in &jobs {
        assert_eq!(job.withdrawn(), None, "{kind:?}");
    }

    // All of them in one block, which the node takes.
    let mut miner = world.miner("all").await;
    let template = miner.template_of(&work, txs, fees_sat);
    accepted(&miner.declare(&template).await);
    let hash = miner.solve_and_push(&work, &template).await;
    world.assert_mined(hash, &template.txs);
}

/// Blocks that came faster than one a second have left the median time of the chain ahead of the
/// clock: what is proposed to the node must not look too old for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_ahead_of_our_clock_makes_no_template_invalid() {
    let world = mode("before-accept").start().await;
    let coins = world.coins(1).await;
    world.node().mine(120).unwrap();
    world.synced().await;
    let tip = world.server.shared().nodes.tip().unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(u64::from(tip.median_time_past) > now, "the clock has caught up: {tip:?} at {now}");
    let work = world.work();
    let mut miner = world.miner("alice").await;
    let sample = Kind::Payment.build(&coins[0]).unwrap();
    let template = miner.template_of(&work, sample.txs.clone(), sample.fee_sat);
    accepted(&miner.declare(&template).await);
    let hash = miner.solve_and_push(&work, &template).await;
    world.assert_mined(hash, &sample.txs);
}

/// A template with a spend of a coin that is spent already on our node's chain: on another block
/// of the same height it may not be.
fn spent_on_our_chain(world: &World, miner: &Miner, coin: &Coin) -> MinerTemplate {
    let sample = Kind::Payment.build(coin).unwrap();
    let mut again = sample.txs[0].clone();
    again.output[0].value -= bitcoin::Amount::from_sat(1_000);
    world.node().mine_block(&sample.txs).unwrap();
    miner.template_of(&world.work(), vec![again], sample.fee_sat + 1_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn before_accept_sends_nobody_away_for_the_chain_that_our_node_is_on() {
    let world = mode("before-accept").start().await;
    let coins = world.coins(1).await;
    let mut miner = world.miner("alice").await;
    let template = spent_on_our_chain(&world, &miner, &coins[0]);
    world.synced().await;
    let outcome = miner.declare(&template).await;
    let details = rejected(&outcome, "stale-chain-tip", "chain-state");
    assert!(details.contains("missingorspent"), "{details}");
    assert!(newest_job(&world, "alice").is_none());
    world.assert_still_serving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_accept_withdraws_what_does_not_fit_the_chain_only_on_a_tip_that_stays() {
    let world = mode("after-accept").start().await;
    let coins = world.coins(1).await;
    let mut miner = world.miner("alice").await;
    let before_tip = Instant::now();
    let template = spent_on_our_chain(&world, &miner, &coins[0]);
    world.synced().await;
    accepted(&miner.declare(&template).await);
    let job = newest_job(&world, "alice").unwrap();
    let reason = wait_withdrawn(&job);
    assert!(reason.contains("missingorspent"), "{reason}");
    let elapsed = before_tip.elapsed();
    assert!(elapsed >= CHECK_TIP_SETTLED, "withdrawn {elapsed:?} after the tip came");
}

/// A newer declaration is no way around the check of an older one.
#[tokio::test(flavor = "multi_thread")]
async fn before_accept_accepts_nothing_unchecked_because_something_newer_came() {
    let world = mode("before-accept").start().await;
    let coins = world.coins(3).await;
    let work = world.work();
    let mut miner = world.miner("alice").await;
    world.node().pause().unwrap();
    let mut requests = Vec::new();
    for coin in &coins {
        let sample = Kind::Payment.build(coin).unwrap();
        let template = miner.template_of(&work, sample.txs.clone(), sample.fee_sat);
        requests.push(miner.send_declaration(&template).await);
        let (request_id, positions) = miner.asked().await;
        assert_eq!((request_id, &*positions), (requests[requests.len() - 1], &[0][..]));
        miner.supply(request_id, &[template.raw_tx(0)]).await;
    }
    // One is with the node, the newest waits, and one in between made room for it.
    let (superseded, outcome) = miner.verdict().await;
    rejected(&outcome, "stale-chain-tip", "superseded");
    assert!(requests[..2].contains(&superseded), "{superseded} of {requests:?}");
    world.node().resume().unwrap();
    let (last, outcome) = loop {
        let (request_id, outcome) = miner.verdict().await;
        if request_id == requests[2] {
            break (request_id, outcome);
        }
    };
    assert_eq!(last, requests[2]);
    accepted(&outcome);
}

/// Sites of one user, each with templates of its own, are checked beside each other.
#[tokio::test(flavor = "multi_thread")]
async fn before_accept_checks_the_declarations_of_each_site_of_a_user() {
    let world = mode("before-accept").start().await;
    let coins = world.coins(3).await;
    let work = world.work();
    world.node().pause().unwrap();
    let mut sites = Vec::new();
    // One is with the node, and the others wait.
    for (site, coin) in (0..).zip(&coins) {
        let mut miner = world.miner(&format!("carol.site{site}")).await;
        let sample = Kind::Payment.build(coin).unwrap();
        let template = miner.template_of(&work, sample.txs.clone(), sample.fee_sat);
        let request_id = miner.send_declaration(&template).await;
        assert_eq!(miner.asked().await, (request_id, vec![0]));
        miner.supply(request_id, &[template.raw_tx(0)]).await;
        sites.push((miner, request_id));
    }
    let shared = world.server.shared();
    wait::until_true("the declarations to be in line", PATIENCE, || {
        let (checker, _) = shared.validator.checker.as_ref().unwrap();
        checker.waiting() == sites.len() - 1
    })
    .unwrap();
    world.node().resume().unwrap();
    for (miner, request_id) in &mut sites {
        let (answered, outcome) = miner.verdict().await;
        assert_eq!(answered, *request_id);
        accepted(&outcome);
    }
}

/// A node that hangs on a found block holds up the others' checks for seconds, and then no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_found_block_that_one_node_does_not_answer_leaves_the_checks_of_the_other_going() {
    let nodes =
        vec![Node::start(crate::options()).unwrap(), Node::start(crate::options()).unwrap()];
    let world = mode("before-accept").start_on(nodes).await;
    let coins = world.coins(1).await;
    let work = world.work();
    let mut miner = world.miner("alice").await;
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);
    world.nodes[1].pause().unwrap();
    let hash = miner.solve_and_push(&work, &template).await;
    world.assert_mined(hash, &template.txs);
    world.synced_to(hash).await;
    let template = invalid_template(&miner, &world.work(), &coins[0]);
    rejected(&miner.declare(&template).await, "invalid-job", "consensus-check");
    world.nodes[1].resume().unwrap();
}
