//! Random templates: every valid one is accepted, whatever its shape, and makes a sound block; no
//! bytes make the rules panic.

#![allow(clippy::unwrap_used, reason = "a test ends where an unwrap fails")]

mod common;
#[path = "common/random.rs"]
mod random;

use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::{Block, Transaction, Wtxid};
use common::*;
use proptest::collection::vec;
use proptest::prelude::*;
use random::{build, spec};
use validation::{CoinbaseParts, Declared, Precheck, Solution, TemplateHash, precheck, supplied};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn valid_templates_are_accepted(spec in spec()) {
        let template = build(&spec);
        let job = match template.verdict() {
            Ok(job) => job,
            Err(rejection) => return Err(TestCaseError::fail(rejection.to_string())),
        };
        prop_assert_eq!(job.template_hash(), TemplateHash::of(&template.declare().declared()));
        // And make a sound block.
        let body = job.prepare_body();
        let extranonce = vec![0xab; spec.extranonce_len];
        let found = (0..200).find_map(|nonce| {
            let solution = Solution {
                extranonce: &extranonce,
                prev_hash: job.prev_hash(),
                nonce,
                ntime: TIP_MTP + 1,
                version: spec.version,
            };
            let bits = bitcoin::CompactTarget::from_consensus(EASY_BITS);
            validation::assemble(&job, &body, &solution, bits).ok()
        });
        let block: Block = deserialize(&found.unwrap().raw).unwrap();
        prop_assert!(block.check_merkle_root());
        prop_assert!(block.check_witness_commitment());
        prop_assert_eq!(block.weight().to_wu(), job.weight_wu());
    }

    #[test]
    fn any_bytes_get_an_answer(
        prefix in vec(any::<u8>(), 0..200),
        suffix in vec(any::<u8>(), 0..400),
        wtxids in vec(any::<[u8; 32]>(), 0..20),
        version: u32,
    ) {
        let wtxids: Vec<_> = wtxids.into_iter().map(Wtxid::from_byte_array).collect();
        let declared = Declared {
            version,
            coinbase_prefix: &prefix,
            coinbase_suffix: &suffix,
            wtxids: &wtxids,
        };
        let _ = precheck(&declared, &tip(100), &pool_rules(10_000));
        let _ = CoinbaseParts::parse(&prefix, &suffix);
    }

    #[test]
    fn any_damage_gets_an_answer(
        spec in spec(),
        in_prefix in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        in_suffix in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in prop::option::of(any::<prop::sample::Index>()),
        answer in vec(vec(any::<u8>(), 0..80), 0..4),
    ) {
        let mut wire = build(&spec).declare();
        for (at, byte) in in_prefix {
            let at = at.index(wire.prefix.len());
            wire.prefix[at] = byte;
        }
        for (at, byte) in in_suffix {
            let at = at.index(wire.suffix.len());
            wire.suffix[at] = byte;
        }
        if let Some(cut) = cut {
            let at = cut.index(wire.suffix.len());
            wire.suffix.truncate(at);
        }
        if let Precheck::Ok(pre) = wire.precheck() {
            // What passes is a transaction, for any extranonce.
            let mut coinbase = Vec::new();
            pre.coinbase().write_with(&vec![0; pre.coinbase().extranonce_len()], &mut coinbase);
            let tx: Transaction = deserialize(&coinbase).unwrap();
            prop_assert!(tx.is_coinbase());
            prop_assert_eq!(tx.weight().to_wu(), pre.coinbase().weight_wu());
            let mut slots = vec![None; wire.wtxids.len()];
            let asked: Vec<u16> = (0..wire.wtxids.len() as u16 + 2).collect();
            let _ = supplied(&pre, &mut slots, &asked, answer.iter().map(Vec::as_slice));
            if wire.declared().coinbase_prefix == build(&spec).declare().prefix {
                let _ = wire.verdict();
            }
        }
    }
}
