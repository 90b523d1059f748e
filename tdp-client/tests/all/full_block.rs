//! A block as full as real ones: 4,000 transactions, nearly 4,000,000 weight units.

use std::collections::HashMap;
use std::time::Instant;

use bitcoin::Wtxid;
use bitcoin::consensus::encode::{serialize, serialize_hex};
use signet::FillSpec;
use tdp_client::{BlockBytes, Proposal, SubmitOutcome};

use super::*;

#[tokio::test]
async fn a_full_template_comes_over_and_a_full_block_goes_back() {
    let node = regtest();
    let filled = node.fill_mempool(FillSpec::default()).unwrap();
    let by_wtxid: HashMap<Wtxid, usize> =
        filled.txs.iter().enumerate().map(|(i, tx)| (tx.compute_wtxid(), i)).collect();

    let source = follow_unknown(&node);
    state(&source, "ready", NodeState::is_ready).await;
    let asked = Instant::now();
    let template = template(&source, "a full template", |t| t.txs.len() == 4_000).await;
    println!("template after {:?}", asked.elapsed());
    for tx in &template.txs {
        let index = by_wtxid[&tx.wtxid()];
        let facts = tx.node_facts().expect("the node's own transaction");
        assert_eq!(facts.fee_sat, filled.fees_sat[index]);
    }

    let order: Vec<_> =
        template.txs.iter().map(|tx| filled.txs[by_wtxid[&tx.wtxid()]].clone()).collect();
    let block = node.build_block_on(&template.prev_hash, &order).unwrap();
    let hex: Arc<str> = serialize_hex(&block).into();
    let asked = Instant::now();
    assert_eq!(source.propose_block(hex.clone()).await, Proposal::Valid);
    println!("proposal of {} bytes of hex answered after {:?}", hex.len(), asked.elapsed());
    let asked = Instant::now();
    let bytes: BlockBytes = Arc::new(serialize(&block));
    assert_eq!(source.submit_block(bytes.clone(), None).await, SubmitOutcome::Accepted);
    println!("submission answered after {:?}", asked.elapsed());
    tip(&source, block.block_hash()).await;
    assert_eq!(source.submit_block(bytes, None).await, SubmitOutcome::Duplicate);
}
