//! The server never filters: whatever consensus takes is accepted, mined, and in the chain. And
//! nothing that a verdict is made of could express a wish about the content of a block.

#![expect(clippy::unwrap_used, reason = "a test that can not go on says where")]
#![expect(clippy::print_stdout, reason = "shown when a test fails: the case that it was at")]

use std::sync::Arc;

use bitcoin::Transaction;
use config::{Checked, JobDeclaration, TemplateDistribution};
use jds_tests::{Miner, Setup, Work, World, accepted};
use signet::FillSpec;
use signet::kinds::{Kind, Sample};
use validation::WitnessRoot;
use validation::declared::{Declared, TemplateHash};
use validation::job::AcceptedJob;
use validation::precheck::{Outline, Precheck, Prechecked, outline, precheck};
use validation::rejection::Rejection;
use validation::rules::{Payout, Rules};
use validation::tip::ChainTip;
use validation::tx::Tx;
use validation::verdict::{Refused, judge, seal_and_judge};

/// Declares, mines, and finds exactly these transactions in the chain.
async fn goes_through(
    world: &World,
    miner: &mut Miner,
    what: &str,
    txs: Vec<Transaction>,
    fees_sat: u64,
) {
    println!("case: {what}");
    world.synced().await;
    let work = world.work();
    let template = miner.template_of(&work, txs, fees_sat);
    accepted(&miner.declare(&template).await);
    let hash = miner.solve_and_push(&work, &template).await;
    world.assert_mined(hash, &template.txs);
}

/// `kinds`, each made of a coin of its own.
async fn build(world: &World, kinds: &[Kind]) -> Vec<Sample> {
    let coins = world.coins(kinds.len()).await;
    kinds.iter().zip(&coins).map(|(kind, coin)| kind.build(coin).unwrap()).collect()
}

fn together(samples: Vec<Sample>) -> (Vec<Transaction>, u64) {
    let fees_sat = samples.iter().map(|sample| sample.fee_sat).sum();
    (samples.into_iter().flat_map(|sample| sample.txs).collect(), fees_sat)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_any_one_kind_of_transaction_is_accepted_and_mined() {
    let world = World::start().await;
    let samples = build(&world, &Kind::ALL).await;
    let mut miner = world.miner("alice").await;
    for sample in samples {
        goes_through(&world, &mut miner, sample.kind.label(), sample.txs, sample.fee_sat).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_all_kinds_is_accepted_before_and_after_the_node_was_asked() {
    for mode in ["off", "after-accept", "before-accept"] {
        let line = format!("consensus_check = \"{mode}\"");
        let world = Setup::new().job_declaration(&line).start().await;
        let (txs, fees_sat) = together(build(&world, &Kind::ALL).await);
        let mut miner = world.miner("alice").await;
        goes_through(&world, &mut miner, mode, txs, fees_sat).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kinds_that_no_mempool_takes_are_really_refused_by_the_nodes_policy() {
    let world = World::start().await;
    for sample in build(&world, &Kind::ALL).await {
        let refused = world.node().send(&sample.txs).is_err();
        assert_eq!(refused, !sample.kind.relayed(), "{}", sample.kind.label());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_choices_of_transactions_are_accepted_and_mined() {
    let world = World::start().await;
    let only_data = together(build(&world, &[Kind::Data, Kind::OversizedData, Kind::Data]).await);
    let no_fee = together(build(&world, &[Kind::ZeroFee; 20]).await);
    let only_dust = together(build(&world, &[Kind::Dust; 20]).await);
    let mut miner = world.miner("alice").await;
    goes_through(&world, &mut miner, "an empty block", vec![], 0).await;
    for (what, (txs, fees_sat)) in
        [("only data", only_data), ("only zero-fee", no_fee), ("only dust", only_dust)]
    {
        goes_through(&world, &mut miner, what, txs, fees_sat).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_and_choice_of_the_nodes_own_transactions_is_the_miners() {
    let world = World::start().await;
    let mut miner = world.miner("alice").await;
    // Highest fee rate last, then only the worst half, then none while the mempool is full.
    let spec = FillSpec { tx_count: 100, target_weight_wu: 97_500, ..FillSpec::default() };
    let (work, fee_sat) = fill(&world, spec).await;
    let mut worst: Vec<_> = work.txs.into_iter().rev().collect();
    let rest = worst.split_off(worst.len() / 2);
    let [worst_sat, rest_sat] = [&worst, &rest].map(|txs| txs.iter().map(&fee_sat).sum());
    goes_through(&world, &mut miner, "the worst half, worst first", worst, worst_sat).await;
    goes_through(&world, &mut miner, "nothing of a full mempool", vec![], 0).await;
    goes_through(&world, &mut miner, "the rest, best last", rest, rest_sat).await;
}

/// Fills the node's mempool; the node's template of it, and the fee of each transaction.
async fn fill(world: &World, spec: FillSpec) -> (Work, impl Fn(&Transaction) -> u64) {
    let filled = world.node().fill_mempool(spec).unwrap();
    let work = world.relay(&[]).await;
    assert_eq!(work.txs.len(), filled.txs.len());
    let fees: std::collections::HashMap<_, _> =
        filled.txs.iter().map(Transaction::compute_txid).zip(filled.fees_sat).collect();
    (work, move |tx| fees[&tx.compute_txid()])
}

/// Fails to compile, or to pass, when a verdict comes to depend on anything new: whoever adds it
/// has to come here and say why it is not a policy about content.
#[test]
fn a_verdict_is_made_of_structure_the_tip_and_who_is_paid() {
    // All that goes in, by type.
    type TxSlots = Vec<Option<Arc<Tx>>>;
    let _: fn(&Declared<'_>, &ChainTip, &Rules) -> Precheck = precheck;
    let _: fn(Prechecked, TxSlots, &ChainTip, &Rules) -> Result<AcceptedJob, Rejection> = judge;
    // The same in other steps, for a root that is computed beside.
    type Named = Result<(TemplateHash, Result<AcceptedJob, Box<Refused>>), Rejection>;
    let _: fn(&Declared<'_>, &ChainTip, &Rules) -> Precheck<Outline> = outline;
    let _: fn(Outline, WitnessRoot) -> Result<Prechecked, Rejection> = Outline::seal;
    type Root = fn() -> WitnessRoot;
    let _: fn(Outline, TxSlots, &ChainTip, &Rules, Root) -> Named = seal_and_judge;
    let _fields_of_declared = |declared: Declared<'_>| {
        let Declared { version: _, coinbase_prefix: _, coinbase_suffix: _, wtxids: _ } = declared;
    };
    let _fields_of_tip = |tip: ChainTip| {
        let ChainTip { hash: _, height: _, time: _, median_time_past: _, next_bits: _ } = tip;
    };
    // All that an owner can demand: who gets the reward, nothing about transactions.
    let _fields_of_rules = |rules: Rules| {
        let Rules { network: _, payout, imposed_outputs: _ } = rules;
        match payout {
            Payout::Pool { script: _, min_share_bp: _ } => {}
            Payout::Solo { script: _, operator: _ } => {}
        }
    };
}

/// The same for what an operator can configure.
#[test]
fn no_setting_is_about_the_content_of_blocks() {
    let _fields_of_job_declaration = |settings: JobDeclaration| {
        let JobDeclaration {
            listen: _,
            full_template: _,
            coinbase_only: _,
            consensus_check: _,
            tip_grace: _,
            tx_cache_bytes: _,
            max_connections: _,
            check_node: _,
        } = settings;
    };
    // Which templates there are is the node's matter; how often they are sent is not about content.
    let _fields_of_template_distribution = |settings: TemplateDistribution| {
        let TemplateDistribution {
            listen: _,
            fee_threshold_sat: _,
            min_interval: _,
            max_connections: _,
        } = settings;
    };
    let _payout = |checked: Checked| match checked.payout {
        config::Payout::Pool { script: _, min_share_bp: _ } => {}
        config::Payout::Solo { operator: _ } => {}
    };
    let policy =
        ["dust", "fee_rate", "feerate", "datacarrier", "filter", "standard", "ban", "deny"];
    // Keys stand in front of `=`, also those that are commented out.
    let reference = config::reference();
    let lines = reference.lines().map(|line| line.trim_start_matches(['#', ' ']));
    let keys: Vec<_> = lines.filter_map(|line| Some(line.split_once('=')?.0.trim())).collect();
    for known in ["network", "listen", "consensus_check", "min_pool_share_percent"] {
        assert!(keys.contains(&known), "{known} is not among the keys of the reference: {keys:?}");
    }
    for key in keys {
        assert!(!policy.iter().any(|word| key.contains(word)), "a setting named {key}");
    }
}
