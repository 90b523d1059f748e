//! Templates hold what the node would mine, with what it knows of each transaction.

use std::collections::HashMap;
use std::sync::Mutex;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, OutPoint, Transaction, TxOut, Wtxid};
use serde_json::{Value, json};
use signet::{Chain, Coin, Node, NodeOptions, anyone_can_spend};
use tdp_client::NodeState;
use validation::tx::Tx;

use super::*;

/// Blocks until a coinbase may be spent.
const MATURITY: u32 = 100;

/// Mines `count` coins that anyone can spend, and the blocks until they can be spent.
fn coins(node: &Node, count: u32) -> Vec<Coin> {
    let witness_script = anyone_can_spend();
    let descriptor = format!("raw({:x})", Coin::script_pubkey_of(&witness_script));
    let blocks: Vec<BlockHash> =
        node.call("generatetodescriptor", &[json!(count), json!(descriptor)]).unwrap();
    mine(node, MATURITY);
    let coin = |hash: &BlockHash| {
        let block: Value = node.call("getblock", &[json!(hash), json!(1)]).unwrap();
        let txid = serde_json::from_value(block["tx"][0].clone()).unwrap();
        let height = block["height"].as_u64().unwrap() as u32;
        let value_sat = signet::subsidy_sat(height, 150);
        let witness_script = witness_script.clone();
        Coin { outpoint: OutPoint { txid, vout: 0 }, value_sat, witness_script }
    };
    blocks.iter().map(coin).collect()
}

/// Sends the coin back to the same script, less the fee.
fn send(node: &Node, coin: &Coin, fee_sat: u64) -> Transaction {
    let output = TxOut { value: Amount::from_sat(coin.value_sat - fee_sat), ..coin.txout() };
    let tx = coin.spend(vec![output]);
    let _: Value = node.call("sendrawtransaction", &[json!(serialize_hex(&tx)), json!(0)]).unwrap();
    tx
}

#[tokio::test]
async fn a_template_holds_the_mempool_with_fees_sigops_and_bytes() {
    let node = regtest();
    let coins = coins(&node, 4);
    let sent: HashMap<Wtxid, (Transaction, u64)> = coins
        .iter()
        .zip([1_000, 4_000, 2_000, 3_000])
        .map(|(coin, fee_sat)| {
            let tx = send(&node, coin, fee_sat);
            (tx.compute_wtxid(), (tx, fee_sat))
        })
        .collect();
    let best: BlockHash = node.call("getbestblockhash", &[]).unwrap();
    let source = follow_unknown(&node);
    let template = template(&source, "four transactions", |t| t.txs.len() == 4).await;

    assert_eq!(template.prev_hash, best);
    let mut fees = Vec::new();
    for tx in &template.txs {
        let (expected, fee_sat) = &sent[&tx.wtxid()];
        assert_eq!(tx.raw(), bitcoin::consensus::serialize(expected));
        assert_eq!(tx.node_facts().map(|facts| facts.fee_sat), Some(*fee_sat));
        fees.push(*fee_sat);
    }
    assert_eq!(fees, [4_000, 3_000, 2_000, 1_000], "in the node's order");
    let raw: Value = node.call("getblocktemplate", &[json!({"rules": ["segwit"]})]).unwrap();
    assert_eq!(json!(template.height), raw["height"]);
    assert_eq!(json!(template.coinbase_value_sat), raw["coinbasevalue"]);
    assert_eq!(json!(template.version), raw["version"]);
    assert_eq!(json!(template.mintime), raw["mintime"]);
    let sigops: Vec<_> =
        template.txs.iter().map(|tx| json!(tx.node_facts().unwrap().sigop_cost)).collect();
    let expected: Vec<_> =
        raw["transactions"].as_array().unwrap().iter().map(|tx| tx["sigops"].clone()).collect();
    assert_eq!(sigops, expected);
    let commitment = template.witness_commitment.as_ref().map(|script| format!("{script:x}"));
    assert_eq!(json!(commitment), raw["default_witness_commitment"]);
}

#[tokio::test]
async fn known_transactions_are_shared_and_not_parsed_again() {
    let node = regtest();
    let coins = coins(&node, 2);
    let ours = send(&node, &coins[0], 1_000);
    let other = send(&node, &coins[1], 2_000);
    let held = Arc::new(Tx::parse(&bitcoin::consensus::serialize(&ours)).unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let lookup = {
        let (held, asked) = (held.clone(), asked.clone());
        Arc::new(move |wtxid: &Wtxid| {
            asked.lock().unwrap().push(*wtxid);
            (*wtxid == held.wtxid()).then(|| held.clone())
        })
    };
    let source = spawn(&node, lookup);
    let first = template(&source, "two transactions", |t| t.txs.len() == 2).await;
    assert_eq!(*asked.lock().unwrap(), [other.compute_wtxid(), ours.compute_wtxid()]);
    assert!(Arc::ptr_eq(&first.txs[1], &held), "the transaction that we held");
    assert_eq!(held.node_facts().map(|facts| facts.fee_sat), Some(1_000), "learned on it");

    // An empty block leaves both in the mempool.
    let empty: Value = node.call("generateblock", &[json!("raw(51)"), json!([])]).unwrap();
    let empty: BlockHash = serde_json::from_value(empty["hash"].clone()).unwrap();
    let second = template(&source, "a template on the block", |t| t.prev_hash == empty).await;
    assert!(second.generation > first.generation);
    assert_eq!(second.txs.len(), 2);
    for (one, two) in first.txs.iter().zip(&second.txs) {
        assert!(Arc::ptr_eq(one, two), "the transaction of the template before");
    }
}

/// The tip stays, the mempool grows and shrinks: the template follows both.
#[tokio::test]
async fn the_template_follows_the_mempool_without_a_new_block() {
    let node = regtest();
    let coins = coins(&node, 2);
    let source = follow_unknown(&node);
    let empty = template(&source, "an empty template", |t| t.txs.is_empty()).await;
    let first = send(&node, &coins[0], 1_000);
    let one = template(&source, "one transaction", |t| t.txs.len() == 1).await;
    assert_eq!(one.txs[0].wtxid(), first.compute_wtxid());
    assert_eq!(one.prev_hash, empty.prev_hash);
    assert_eq!(one.coinbase_value_sat, empty.coinbase_value_sat + 1_000);
    let replacement = send(&node, &coins[0], 9_000);
    let replaced = template(&source, "the replacement", |t| {
        t.txs.len() == 1 && t.txs[0].wtxid() == replacement.compute_wtxid()
    });
    assert_eq!(replaced.await.coinbase_value_sat, empty.coinbase_value_sat + 9_000);
}

/// Signet needs a rule of its own in the request, and has other bits than the other networks.
#[tokio::test]
async fn a_private_signet_gives_templates_too() {
    let node = Node::start(NodeOptions { chain: Chain::Signet, ..options() }).unwrap();
    let source = follow_unknown(&node);
    state(&source, "ready", NodeState::is_ready).await;
    let best: BlockHash = node.call("getbestblockhash", &[]).unwrap();
    let template = template(&source, "a template", |t| t.prev_hash == best).await;
    let tip = tip(&source, best).await.tip;
    assert_eq!(tip.next_bits.at(template.curtime), template.bits);
    assert_eq!(template.height, tip.height + 1);
    assert_eq!(source.template_error(), None);
}

#[tokio::test]
async fn a_template_on_a_new_tip_waits_as_long_as_it_is_held_and_once_for_each_tip() {
    let (node, source) = ready().await;
    template(&source, "the first", |_| true).await;
    let (told, mut tips) = tokio::sync::mpsc::unbounded_channel();
    let (release, held) = std::sync::mpsc::channel();
    let held = Mutex::new(held);
    source.hold_templates(Arc::new(move |tip| {
        told.send(*tip).unwrap();
        held.lock().unwrap().recv_timeout(PATIENCE).unwrap();
    }));
    for _ in 0..2 {
        let hash = mine(&node, 1)[0];
        tip(&source, hash).await;
        let mut held_before = false;
        while tokio::time::timeout(PATIENCE, tips.recv()).await.unwrap() != Some(hash) {
            // The tip that was there when the hold began, whose template was due again.
            release.send(()).unwrap();
            held_before = true;
        }
        let on = source.template().borrow().as_deref().map(|template| template.prev_hash);
        assert!(on != Some(hash) || held_before, "it is held");
        release.send(()).unwrap();
        template(&source, "a template on the new tip", |t| t.prev_hash == hash).await;
    }
    assert!(tips.try_recv().is_err(), "no other call");
}
