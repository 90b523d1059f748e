//! A verdict is a function of what is kept of it: given again it is the same, and given again on
//! anything else it shows.

#![allow(clippy::unwrap_used, reason = "a test ends where an unwrap fails")]

mod common;
#[path = "common/mutations.rs"]
mod mutations;
#[path = "common/random.rs"]
mod random;

use std::sync::Arc;

use bitcoin::{Amount, Network};
use common::*;
use mutations::{mutated, mutations};
use proptest::prelude::*;
use random::{build, spec};
use validation::replay::{DecidedBy, NodeWord, SecondLook, WtxidList, decided_by, replay};
use validation::{NodeFacts, Payout, Reason};

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn accepted_and_refused_ones_come_out_as_they_did(
        spec in spec(),
        which in any::<prop::sample::Index>(),
    ) {
        let (verdict, inputs) = build(&spec).declare().judged();
        assert_same(&replay(&inputs), &verdict);
        let mutations = mutations();
        let (_, reason, mutation) = &mutations[which.index(mutations.len())];
        let plain = random::Spec { commit: true, share_bp: 10_000, ..spec };
        let plain = random::Spec { tip_height: plain.tip_height.min(3_000), ..plain };
        let (verdict, inputs) = mutated(&plain, mutation).judged();
        prop_assert_eq!(verdict.as_ref().unwrap_err().reason, *reason);
        prop_assert_eq!(decided_by(*reason), DecidedBy::Rules);
        assert_same(&replay(&inputs), &verdict);
    }
}

fn template() -> Template {
    let parent = simple(1);
    let child = child(&parent, 500);
    Template::new(1_000, vec![parent, child, simple(2)]).with_fees(500)
}

/// Each of the inputs decides something.
#[test]
fn another_input_is_another_verdict() {
    let (verdict, inputs) = template().declare().judged();
    let job = verdict.unwrap();
    let refused = |change: &dyn Fn(&mut validation::replay::VerdictInputs)| {
        let mut inputs = inputs.clone();
        change(&mut inputs);
        replay(&inputs).result.unwrap_err().reason
    };
    assert_eq!(refused(&|it| it.version = 1), Reason::Version);
    assert_eq!(refused(&|it| it.coinbase_suffix.push(0)), Reason::CoinbaseTrailingBytes);
    assert_eq!(refused(&|it| it.coinbase_prefix.clear()), Reason::CoinbasePrefix);
    assert_eq!(refused(&|it| it.tip.as_mut().unwrap().height += 1), Reason::CoinbaseHeight);
    assert_eq!(refused(&|it| it.tip = None), Reason::NoTip);
    assert_eq!(refused(&|it| it.wtxids = WtxidList::Counted(3)), Reason::DuplicateWtxid);
    assert_eq!(refused(&|it| it.txs[1] = None), Reason::TransactionMissing);
    assert_eq!(refused(&|it| it.txs.swap(0, 1)), Reason::Internal);
    let solo = Payout::Solo { script: script(0x33), operator: None };
    assert_eq!(
        refused(&|it| Arc::make_mut(&mut it.rules).payout = solo.clone()),
        Reason::MinerUnderpaid
    );
    // A subsidy of 50 BTC less.
    assert_eq!(
        refused(&|it| Arc::make_mut(&mut it.rules).network = Network::Bitcoin),
        Reason::PoolUnderpaid
    );
    let imposed = output(0, script(0x34));
    assert_eq!(
        refused(&|it| Arc::make_mut(&mut it.rules).imposed_outputs.push(imposed.clone())),
        Reason::ImposedOutput
    );
    for (word, reason) in [
        (NodeWord::Invalid("bad-txns".into()), Reason::ConsensusCheck),
        (NodeWord::ChainState("bad-txns-inputs-missingorspent".into()), Reason::ChainState),
        (NodeWord::Superseded, Reason::Superseded),
    ] {
        assert_eq!(refused(&|it| it.node = Some(word.clone())), reason);
        assert_eq!(decided_by(reason), DecidedBy::Node);
    }
    let second = |tip| Some(SecondLook { tip, asked: vec![0], answer: Vec::new() });
    assert_eq!(refused(&|it| it.second = second(None)), Reason::NoTip);
    assert_eq!(refused(&|it| it.second = second(Some(tip(1_001)))), Reason::CoinbaseHeight);
    assert!(job.fees_verified());
    let mut unvouched = inputs.clone();
    unvouched.unvouched = vec![2];
    let again = replay(&unvouched).result.unwrap();
    assert!(!again.fees_verified(), "what no node had told is not counted");
}

/// What a node tells of a transaction after the verdict does not change it.
#[test]
fn what_was_learned_later_does_not_count() {
    let mut template = template();
    template.facts = vec![None; 3];
    template.coinbase.output[0].value = Amount::from_sat(1_000);
    let (verdict, inputs) = template.declare().judged();
    assert_eq!(verdict.as_ref().unwrap_err().reason, Reason::PoolUnderpaid);
    assert_same(&replay(&inputs), &verdict);
    let mut template = common::Template::new(1_000, vec![simple(1), simple(2)]);
    template.facts = vec![Some(NodeFacts { fee_sat: 5, sigop_cost: 4 }), None];
    let (verdict, inputs) = template.declare().judged();
    assert_eq!(verdict.as_ref().unwrap().unvouched(), [1]);
    let late = inputs.txs[1].as_ref().unwrap();
    late.learn(NodeFacts { fee_sat: 1_000_000, sigop_cost: 80_001 });
    assert_same(&replay(&inputs), &verdict);
}
