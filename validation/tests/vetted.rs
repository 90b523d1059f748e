//! When the node need not be asked: only if it has seen every part of the job itself, together.

#![allow(clippy::unwrap_used, reason = "a test ends where an unwrap fails")]

mod common;

use bitcoin::BlockHash;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{Transaction, Witness};
use common::*;
use validation::{TemplateView, Tx, needs_consensus_check};

fn view(tip_height: u32, txs: &[&Transaction]) -> TemplateView {
    let txs: Vec<_> = txs.iter().map(|tx| Tx::parse(&serialize(*tx)).unwrap()).collect();
    TemplateView::new(tip(tip_height).hash, &txs)
}

#[test]
fn part_of_the_nodes_own_transactions_is_vetted() {
    let (a, b) = (simple(1), simple(2));
    let c = child(&b, 0);
    let whole = view(100, &[&a, &b, &c]);
    assert_eq!((whole.len(), whole.is_empty(), whole.prev_hash()), (3, false, tip(100).hash));
    for txs in [vec![], vec![&a], vec![&b, &a], vec![&b, &c], vec![&b, &c, &a], vec![&b, &a, &c]] {
        let job = Template::new(100, txs.into_iter().cloned().collect()).with_fees(0).accepted();
        assert!(!needs_consensus_check(&job, &whole));
    }
}

#[test]
fn parent_left_out_needs_a_check() {
    let parent = simple(1);
    let child = child(&parent, 10);
    let job = Template::new(100, vec![child.clone()]).with_fees(10).accepted();
    assert!(needs_consensus_check(&job, &view(100, &[&parent, &child])));
    // A parent that the node no longer holds unconfirmed is in the chain.
    assert!(!needs_consensus_check(&job, &view(100, &[&child])));
}

#[test]
fn transaction_unknown_to_the_node_needs_a_check() {
    let (a, b) = (simple(1), simple(2));
    let job = Template::new(100, vec![a.clone(), b.clone()]).with_fees(0).accepted();
    assert!(needs_consensus_check(&job, &view(100, &[&a])));
    assert!(needs_consensus_check(&job, &view(100, &[])));
    let mut other_witness = b;
    other_witness.input[0].witness = Witness::from_slice(&[[1; 64]]);
    assert!(needs_consensus_check(&job, &view(100, &[&a, &other_witness])));
}

#[test]
fn view_of_another_tip_needs_a_check() {
    let a = simple(1);
    let job = Template::new(100, vec![a.clone()]).with_fees(0).accepted();
    assert!(needs_consensus_check(&job, &view(99, &[&a])));
    let txs = [Tx::parse(&serialize(&a)).unwrap()];
    assert!(needs_consensus_check(&job, &TemplateView::new(BlockHash::hash(b"fork"), &txs)));
}

#[test]
fn unverified_value_needs_a_check() {
    let a = simple(1);
    let job = Template::new(100, vec![a.clone()]).accepted();
    assert!(!job.fees_verified());
    assert!(needs_consensus_check(&job, &view(100, &[&a])));
}
