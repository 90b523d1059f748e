//! Transactions that no template of the node holds: the node is asked for them where it can be, and
//! the miner for the rest.

use bitcoin::Transaction;
use jds_tests::{Work, World, accepted};
use serde_json::{Value, json};
use signet::{Node, kinds::Kind};

use crate::LOOKS_UP;

/// A server on a node that mines nothing below a satoshi for each virtual byte.
async fn world() -> World {
    let node = Node::start(crate::options().arg("-blockmintxfee=0.00001")).unwrap();
    let world = crate::setup().start_on(vec![node]).await;
    world.synced().await;
    world
}

/// Transactions that are in the node's mempool and pay too little, by the operator's word, to be in
/// its template; and others that it has never seen.
async fn unwanted_and_unseen(world: &World) -> (Work, Vec<Transaction>, Vec<Transaction>) {
    let coins = world.coins(4).await;
    let mut samples: Vec<_> =
        coins.iter().take(4).map(|coin| Kind::Payment.build(coin).unwrap()).collect();
    let unseen = samples.split_off(2).into_iter().flat_map(|sample| sample.txs).collect();
    let node = world.node();
    for sample in &samples {
        // Enough to be relayed, too little to be mined.
        let args =
            [json!(sample.txs[0].compute_txid()), json!(0), json!(20 - sample.fee_sat as i64)];
        let _: Value = node.call("prioritisetransaction", &args).unwrap();
    }
    let txs: Vec<_> = samples.into_iter().flat_map(|sample| sample.txs).collect();
    node.send(&txs).unwrap();
    let mempool: Vec<String> = node.call("getrawmempool", &[]).unwrap();
    assert_eq!(mempool.len(), txs.len());
    let work = world.work();
    assert!(work.txs.is_empty(), "the node would mine what it was told not to");
    for tx in &txs {
        assert!(world.server.shared().validator.cache.get(&tx.compute_wtxid()).is_none());
    }
    (work, txs, unseen)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_node_has_is_asked_of_the_node() {
    let world = world().await;
    let (work, unwanted, unseen) = unwanted_and_unseen(&world).await;
    let mut miner = world.miner("alice").await;

    let template = miner.template_of(&work, unwanted.clone(), 0);
    let asked = accepted(&miner.declare(&template).await);
    assert_eq!(asked, if LOOKS_UP { 0 } else { 2 });
    // Those of an accepted job are known from then on.
    world.wait_known(&unwanted);

    // Among others, each in its place.
    let [a, b] = [&unseen[0], &unseen[1]].map(Clone::clone);
    let mixed = vec![a.clone(), unwanted[1].clone(), b.clone(), unwanted[0].clone()];
    let template = miner.template_of(&work, mixed, 0);
    let request_id = miner.send_declaration(&template).await;
    assert_eq!(miner.asked().await, (request_id, vec![0, 2]));
    miner.supply(request_id, &[0, 2].map(|at| template.raw_tx(at))).await;
    let (answered, outcome) = miner.verdict().await;
    assert_eq!(answered, request_id);
    accepted(&outcome);
    let hash = miner.solve_and_push(&work, &template).await;
    world.assert_mined(hash, &template.txs);
}

/// The first declaration that needs some from the node and some from the miner.
#[tokio::test(flavor = "multi_thread")]
async fn the_miner_is_asked_for_what_no_node_has() {
    let world = world().await;
    let (work, unwanted, unseen) = unwanted_and_unseen(&world).await;
    let mut miner = world.miner("alice").await;
    let txs = vec![unseen[0].clone(), unwanted[0].clone(), unwanted[1].clone(), unseen[1].clone()];
    let template = miner.template_of(&work, txs, 0);
    let request_id = miner.send_declaration(&template).await;
    let asked: Vec<u16> = if LOOKS_UP { vec![0, 3] } else { vec![0, 1, 2, 3] };
    assert_eq!(miner.asked().await, (request_id, asked.clone()));
    let supply: Vec<_> = asked.iter().map(|at| template.raw_tx(*at)).collect();
    miner.supply(request_id, &supply).await;
    accepted(&miner.verdict().await.1);
    world.wait_known(&template.txs);
}

/// A node that does not answer delays the question to the miner, and does not prevent it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_answer_is_not_waited_for() {
    let world = world().await;
    let (work, unwanted, _) = unwanted_and_unseen(&world).await;
    let mut miner = world.miner("alice").await;
    world.node().pause().unwrap();
    for _ in 0..3 {
        let template = miner.template_of(&work, unwanted.clone(), 0);
        let request_id = miner.send_declaration(&template).await;
        assert_eq!(miner.asked().await, (request_id, vec![0, 1]));
    }
    world.node().resume().unwrap();
}
