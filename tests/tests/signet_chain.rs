//! The main job on a private signet, where a block costs work: a miner's template is declared,
//! mined, pushed, and ends up in the chain.
//!
//! What regtest can not show: a target that a random hash misses, so that only real work makes a
//! block, and a node that takes `signet` among the rules of a template.

use bitcoin::Target;
use jds_tests::{Setup, Work, accepted};
use signet::kinds::{COIN_VALUE_SAT_MIN, Kind};
use signet::{FillSpec, Node, NodeOptions};

#[tokio::test(flavor = "multi_thread")]
async fn a_miners_template_becomes_a_block_of_the_signet() {
    let node = Node::start(NodeOptions::signet()).unwrap();
    let coins = node.ensure_funds(1, COIN_VALUE_SAT_MIN).unwrap();
    let filled = node.fill_mempool(FillSpec::of(20)).unwrap();
    let world = Setup::new()
        .job_declaration("consensus_check = \"before-accept\"")
        .start_on(vec![node])
        .await;
    world.synced().await;
    world.wait_known(&filled.txs);
    let work = Work::with_txs(world.node(), filled.txs.len());

    // One transaction that no mempool takes, behind those of the node.
    let unseen = Kind::OddVersion.build(&coins[0]).unwrap();
    let txs = [work.txs.clone(), unseen.txs.clone()].concat();
    let mut miner = world.miner("signet-miner").await;
    let template = miner.template_of(&work, txs.clone(), work.fees_sat + unseen.fee_sat);
    assert_eq!(accepted(&miner.declare(&template).await), unseen.txs.len());

    // A header without work meets no target here.
    let lazy = template.block(&[0; 16], work.prev_hash, work.time, work.bits);
    assert!(!Target::from_compact(work.bits).is_met_by(lazy.block_hash()));

    let hash = miner.solve_and_push(&work, &template).await;
    world.assert_mined(hash, &txs);
    world.assert_still_serving().await;
}
