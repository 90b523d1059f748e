//! The rules about who the coinbase of a declared job pays, and how much it may take.

#![allow(clippy::unwrap_used, reason = "a test ends where an unwrap fails")]

mod common;

use bitcoin::Amount;
use common::*;
use validation::{ErrorCode, NodeFacts, Payout, Reason};

fn template() -> Template {
    Template::new(100, vec![simple(1), legacy(2)])
}

#[test]
fn pool_gets_its_share_of_subsidy_and_fees() {
    let full = template().with_fees(500);
    full.accepted();
    let mut short = full.clone();
    short.coinbase.output[0].value -= Amount::from_sat(1);
    let rejection = short.rejected(Reason::PoolUnderpaid);
    assert_eq!(rejection.code, ErrorCode::InvalidCoinbaseTx);
    assert_eq!(
        rejection.details(),
        "reason=pool-underpaid expected=at-least-5000001000 actual=5000000999"
    );
    // The rest to somebody else is the same to the pool.
    short.coinbase.output.insert(1, output(1, script(3)));
    short.rejected(Reason::PoolUnderpaid);
}

#[test]
fn several_outputs_to_the_pool_are_summed() {
    let mut template = template();
    template.coinbase.output[0].value -= Amount::from_sat(700);
    template.coinbase.output.push(output(300, pool_script()));
    template.coinbase.output.push(output(400, pool_script()));
    template.coinbase.output.rotate_left(1);
    assert_eq!(template.accepted().pool_payout_sat(), 5_000_000_000);
}

#[test]
fn smaller_share_is_recorded() {
    let mut template = template().with_fees(500);
    template.rules = pool_rules(5_050);
    // 50.5 % of 5,000,001,000, rounded up.
    let due = 2_525_000_505;
    template.coinbase.output[0].value = Amount::from_sat(due);
    template.coinbase.output.push(output(5_000_001_000 - due, script(3)));
    let job = template.accepted();
    assert_eq!((job.pool_payout_sat(), job.claimable_sat()), (due, 5_000_001_000));
    template.coinbase.output[0].value -= Amount::from_sat(1);
    template.rejected(Reason::PoolUnderpaid);
}

#[test]
fn share_of_nothing_is_not_enough() {
    for min_share_bp in [0, 1, 10_000] {
        let mut template = template();
        template.rules = pool_rules(min_share_bp);
        template.coinbase.output[0].value = Amount::ZERO;
        template.rejected(Reason::PoolUnderpaid);
        template.coinbase.output.push(output(5_000_000_000, script(3)));
        template.rejected(Reason::PoolUnderpaid);
        let mut with_fees = template.with_fees(0);
        with_fees.coinbase.output[0].value = Amount::ZERO;
        with_fees.rejected(Reason::PoolUnderpaid);
    }
}

#[test]
fn nothing_is_due_where_nothing_can_be_claimed() {
    // After 64 halvings of 150 blocks.
    let mut template = Template::new(9_600, vec![]);
    assert_eq!(template.accepted().claimable_sat(), 0);
    // With a transaction of unknown fee there may well be something.
    template.txs.push(simple(1));
    template.rejected(Reason::PoolUnderpaid);
    template.coinbase.output[0].value = Amount::from_sat(123);
    assert_eq!(template.accepted().claimable_sat(), 123);
}

#[test]
fn unknown_fees_are_judged_by_what_the_coinbase_takes() {
    let mut template = template();
    template.facts = vec![Some(NodeFacts { fee_sat: 100, sigop_cost: 0 }), None];
    template.coinbase.output[0].value = Amount::from_sat(5_000_070_000);
    let job = template.accepted();
    assert_eq!(job.fees().total_sat, None);
    assert_eq!(job.fees().known_sat, 100);
    assert_eq!(job.claimable_sat(), 5_000_070_000);
    assert!(!job.fees_verified());
    // What it takes beyond the subsidy is the pool's too.
    template.coinbase.output.push(output(1, script(3)));
    template.rejected(Reason::PoolUnderpaid);
    // And less than the subsidy is never enough.
    template.coinbase.output.pop();
    template.coinbase.output[0].value = Amount::from_sat(4_999_999_999);
    template.rejected(Reason::PoolUnderpaid);
}

#[test]
fn coinbase_takes_no_more_than_there_is() {
    let mut template = template().with_fees(500);
    template.coinbase.output[0].value += Amount::from_sat(1);
    let rejection = template.rejected(Reason::CoinbaseValue);
    assert_eq!(rejection.code, ErrorCode::InvalidCoinbaseTx);
    assert_eq!(rejection.expected.as_deref(), Some("at-most-5000001000"));
    // An empty block has no unknown fees.
    let mut empty = Template::new(100, vec![]);
    empty.accepted();
    empty.coinbase.output[0].value += Amount::from_sat(1);
    empty.rejected(Reason::CoinbaseValue);
}

#[test]
fn imposed_outputs_are_present() {
    let mut template = template();
    template.rules.imposed_outputs.push(output(0, script(0xbb)));
    let rejection = template.rejected(Reason::ImposedOutput);
    assert_eq!((rejection.code, rejection.index), (ErrorCode::InvalidCoinbaseTx, Some(1)));
    template.coinbase.output.push(output(0, script(0xbb)));
    template.coinbase.output.push(output(0, script(0xcc)));
    template.coinbase.output.reverse();
    template.accepted();
    // With a value it is a demand for that much.
    template.rules = pool_rules(9_000);
    template.rules.imposed_outputs.push(output(10, script(0xbb)));
    template.rejected(Reason::ImposedOutput);
    template.coinbase.output.push(output(4, script(0xbb)));
    template.coinbase.output.push(output(6, script(0xbb)));
    template.accepted();
}

fn solo(fee_bp: Option<u16>) -> Template {
    let mut template = template().with_fees(500);
    template.rules.payout =
        Payout::Solo { script: script(0x50), operator: fee_bp.map(|bp| (script(0x0e), bp)) };
    template.rules.imposed_outputs.clear();
    template.coinbase.output[0] = output(5_000_001_000, script(0x50));
    template
}

#[test]
fn solo_miner_gets_everything() {
    let mut template = solo(None);
    let job = template.accepted();
    assert_eq!((job.miner_payout_sat(), job.pool_payout_sat()), (5_000_001_000, 0));
    template.coinbase.output[0].value -= Amount::from_sat(1);
    assert_eq!(template.rejected(Reason::MinerUnderpaid).code, ErrorCode::InvalidCoinbaseTx);
}

#[test]
fn operator_of_a_solo_miner_gets_the_stated_fee() {
    let mut template = solo(Some(150));
    template.rejected(Reason::OperatorUnderpaid);
    // 1.5 % of 5,000,001,000 is 75,000,015.
    template.coinbase.output[0].value = Amount::from_sat(5_000_001_000 - 75_000_015);
    template.coinbase.output.push(output(75_000_015, script(0x0e)));
    let job = template.accepted();
    assert_eq!(job.pool_payout_sat(), 75_000_015);
    assert_eq!(job.miner_payout_sat(), 4_925_000_985);
    let mut less = template.clone();
    less.coinbase.output[0].value -= Amount::from_sat(1);
    less.rejected(Reason::MinerUnderpaid);
    template.coinbase.output.last_mut().unwrap().value -= Amount::from_sat(1);
    template.rejected(Reason::OperatorUnderpaid);
}

#[test]
fn indivisible_satoshi_may_go_either_way() {
    for extra in [0, 1] {
        let mut template = solo(Some(1));
        // 0.01 % of 5,000,001,000 is 500,000.1.
        template.coinbase.output[0].value = Amount::from_sat(5_000_001_000 - 500_000 - extra);
        template.coinbase.output.push(output(500_000 + extra, script(0x0e)));
        template.accepted();
    }
    let mut own_operator = solo(Some(1));
    own_operator.rules.payout =
        Payout::Solo { script: script(0x50), operator: Some((script(0x50), 100)) };
    own_operator.accepted();
    let mut all_of_it = solo(Some(10_000));
    all_of_it.coinbase.output[0].script_pubkey = script(0x0e);
    all_of_it.accepted();
}
