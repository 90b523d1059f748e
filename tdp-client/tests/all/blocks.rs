//! Blocks proposed, submitted and asked about.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::{serialize, serialize_hex};
use bitcoin::script::Builder;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, OutPoint, ScriptBuf, Sequence, Target, Transaction, TxIn, TxOut, Witness,
};
use serde_json::{Value, json};
use tdp_client::{BlockBytes, BlockStatus, Proposal, SubmitOutcome};

use super::*;

/// An empty block on this template, without proof of work. Different for each `tag`.
fn empty_block(template: &Template, tag: i64, value_sat: u64) -> Block {
    block_on(template.prev_hash, template.height, template, tag, value_sat)
}

/// The same on another block.
fn block_on(
    prev_hash: BlockHash,
    height: u32,
    template: &Template,
    tag: i64,
    value_sat: u64,
) -> Block {
    let script = Builder::new().push_int(i64::from(height)).push_int(tag).into_script();
    let coinbase = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: script,
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(value_sat),
            script_pubkey: ScriptBuf::from_bytes(vec![0x51]),
        }],
    };
    signet::assemble_block(prev_hash, template.bits, template.curtime, coinbase, Vec::new())
}

/// The same block with proof of work.
fn solved(mut block: Block) -> Block {
    let target = Target::from_compact(block.header.bits);
    block.header.nonce = signet::grind(&block.header, target, 1).expect("regtest is easy");
    block
}

fn bytes(block: &Block) -> BlockBytes {
    Arc::new(serialize(block))
}

fn hex(block: &Block) -> Arc<str> {
    serialize_hex(block).into()
}

/// The template on the node's tip.
async fn template_on_tip(node: &Node, source: &Source) -> Arc<Template> {
    let best: BlockHash = node.call("getbestblockhash", &[]).unwrap();
    template(source, "a template on the tip", |t| t.prev_hash == best).await
}

#[tokio::test]
async fn proposals_are_judged_without_proof_of_work() {
    let (node, source) = ready().await;
    let base = template_on_tip(&node, &source).await;
    let value_sat = base.coinbase_value_sat;
    let good = empty_block(&base, 100, value_sat);
    assert_eq!(source.propose_block(hex(&good)).await, Proposal::Valid);

    let greedy = empty_block(&base, 100, value_sat + 1);
    let expected = Proposal::Invalid { reason: "bad-cb-amount".into() };
    assert_eq!(source.propose_block(hex(&greedy)).await, expected);
    let expected = Proposal::Invalid { reason: "Block decode failed".into() };
    assert_eq!(source.propose_block("00".into()).await, expected);

    mine(&node, 1);
    let expected = Proposal::NotJudged { reason: "inconclusive-not-best-prevblk".into() };
    assert_eq!(source.propose_block(hex(&good)).await, expected);
    let tip: BlockHash = node.call("getbestblockhash", &[]).unwrap();
    let known: String = node.call("getblock", &[json!(tip), json!(0)]).unwrap();
    assert_eq!(source.propose_block(known.into()).await, proposal_of_known());
}

#[tokio::test]
async fn submissions_tell_every_outcome_apart() {
    let (node, source) = ready().await;
    let base = template_on_tip(&node, &source).await;
    let good = solved(empty_block(&base, 100, base.coinbase_value_sat));
    assert_eq!(source.block_status(good.block_hash()).await, Ok(BlockStatus::Unknown));
    assert_eq!(source.submit_block(bytes(&good), None).await, SubmitOutcome::Accepted);
    let in_chain = BlockStatus::InChain { height: base.height, confirmations: 1 };
    assert_eq!(source.block_status(good.block_hash()).await, Ok(in_chain));
    tip(&source, good.block_hash()).await;
    assert_eq!(source.submit_block(bytes(&good), None).await, SubmitOutcome::Duplicate);

    let second = solved(empty_block(&base, 101, base.coinbase_value_sat));
    assert_eq!(source.submit_block(bytes(&second), None).await, SubmitOutcome::Inconclusive);
    let beside = BlockStatus::Known { height: base.height };
    assert_eq!(source.block_status(second.block_hash()).await, Ok(beside));

    let base = template_on_tip(&node, &source).await;
    let greedy = solved(empty_block(&base, 100, base.coinbase_value_sat + 1));
    let rejected = |reason: &str| SubmitOutcome::Rejected { reason: reason.into() };
    assert_eq!(source.submit_block(bytes(&greedy), None).await, rejected("bad-cb-amount"));
    assert_eq!(source.submit_block(bytes(&greedy), None).await, rejected("duplicate-invalid"));
    assert_eq!(source.submit_block(Arc::new([0]), None).await, rejected("Block decode failed"));
}

#[tokio::test]
async fn a_block_can_be_submitted_while_proposals_wait() {
    let (node, source) = ready().await;
    let base = template_on_tip(&node, &source).await;
    let block = solved(empty_block(&base, 100, base.coinbase_value_sat));
    let proposals: Vec<_> = (0..8)
        .map(|tag| {
            let (source, block) = (source.clone(), empty_block(&base, 200 + tag, 1));
            tokio::spawn(async move { source.propose_block(hex(&block)).await })
        })
        .collect();
    assert_eq!(source.submit_block(bytes(&block), None).await, SubmitOutcome::Accepted);
    for proposal in proposals {
        let proposal = proposal.await.unwrap();
        let fine = matches!(proposal, Proposal::Valid | Proposal::NotJudged { .. });
        assert!(fine, "valid before the block, and not to be judged after it: {proposal:?}");
    }
}

#[tokio::test]
async fn a_node_that_is_down_is_transient_and_loses_nothing() {
    let (mut node, source) = ready().await;
    let base = template_on_tip(&node, &source).await;
    let block = solved(empty_block(&base, 100, base.coinbase_value_sat));
    node.stop().unwrap();
    let outcome = source.submit_block(bytes(&block), None).await;
    assert!(matches!(outcome, SubmitOutcome::Transient { .. }), "{outcome:?}");
    let proposal = source.propose_block(hex(&block)).await;
    assert!(matches!(proposal, Proposal::Transient { .. }), "{proposal:?}");
    source.block_status(block.block_hash()).await.unwrap_err();
    node.restart().unwrap();
    assert_eq!(source.submit_block(bytes(&block), None).await, SubmitOutcome::Accepted);
    let best: Value = node.call("getbestblockhash", &[]).unwrap();
    assert_eq!(best, json!(block.block_hash()));
}

/// The node may be a moment behind the one that the job came from.
#[tokio::test]
async fn a_block_on_a_block_that_the_node_lacks_is_worth_another_try() {
    let (node, source) = ready().await;
    let base = template_on_tip(&node, &source).await;
    let value_sat = base.coinbase_value_sat;
    let parent = solved(empty_block(&base, 100, value_sat));
    let child = block_on(parent.block_hash(), base.height + 1, &base, 100, value_sat);
    let child = solved(child);
    let early = source.submit_block(bytes(&child), None).await;
    assert!(matches!(early, SubmitOutcome::Transient { .. }), "{early:?}");
    assert_eq!(source.submit_block(bytes(&parent), None).await, SubmitOutcome::Accepted);
    assert_eq!(source.submit_block(bytes(&child), None).await, SubmitOutcome::Accepted);
    assert_eq!(tip(&source, child.block_hash()).await.tip.height, base.height + 1);
}
