//! Every valid template with one single mutation is refused with the code and reason of that
//! mutation, on one plain template and on random ones.

#![allow(clippy::unwrap_used, reason = "a test ends where an unwrap fails")]

mod common;
#[path = "common/mutations.rs"]
mod mutations;
#[path = "common/random.rs"]
mod random;

use mutations::{Mutation, mutated, mutations};
use proptest::prelude::*;
use random::{Spec, spec};
use validation::{ErrorCode, Reason};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn single_mutations_are_refused_for_their_own_reason(
        spec in spec(),
        which in any::<prop::sample::Index>(),
    ) {
        let mutations = mutations();
        let (name, reason, mutation) = &mutations[which.index(mutations.len())];
        check_mutation(&spec, name, *reason, mutation)?;
    }
}

fn check_mutation(
    spec: &Spec,
    name: &str,
    reason: Reason,
    mutation: &Mutation,
) -> Result<(), TestCaseError> {
    let wire = mutated(spec, mutation);
    match wire.verdict() {
        Ok(_) => Err(TestCaseError::fail(format!("accepted: {name}"))),
        Err(rejection) => {
            prop_assert_eq!(rejection.reason, reason, "{}: {}", name, rejection);
            prop_assert_eq!(rejection.code, reason.code());
            Ok(())
        }
    }
}

/// Each mutation at least once, on one plain template: the random test draws some of them only.
#[test]
fn every_mutation_is_refused() {
    let spec = Spec {
        tip_height: 1_000,
        extranonce_len: 12,
        tag: b"/miner/".to_vec(),
        commit: true,
        reserved: [0; 32],
        version: 0x2000_0000,
        txs: vec![],
        share_bp: 10_000,
        reverse_outputs: false,
    };
    let mutations = mutations();
    assert!(mutations.len() >= 50);
    for (name, reason, mutation) in &mutations {
        check_mutation(&spec, name, *reason, mutation).unwrap();
    }
    let stale = mutations.iter().filter(|(_, r, _)| r.code() == ErrorCode::StaleChainTip);
    assert_eq!(stale.count(), 2);
}
