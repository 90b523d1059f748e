//! Lists of wtxids, and supplied transactions, of any bytes.

use bitcoin::consensus::serialize;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{Amount, Block, OutPoint, ScriptBuf, Transaction, WitnessMerkleNode};
use jds::client::template::MinerTemplate;
use jds::client::{Declaration, DeclareOutcome};
use jds_tests::{Miner, World, accepted, rejected};
use signet::kinds::Kind;
use validation::precheck::TRANSACTIONS_MAX;

const JOB: &str = "invalid-job";

/// Commits to wtxids that need not be any transaction's.
fn commit(template: &mut MinerTemplate, wtxids: &[[u8; 32]]) {
    let leaves = std::iter::once([0; 32]).chain(wtxids.iter().copied());
    let root = bitcoin::merkle_tree::calculate_root(leaves.map(WitnessMerkleNode::from_byte_array));
    let commitment = Block::compute_witness_commitment(&root.unwrap(), &[0; 32]);
    let output = template.coinbase.output.last_mut().unwrap();
    let mut script = output.script_pubkey.to_bytes();
    script[6..38].copy_from_slice(&commitment.to_byte_array());
    output.script_pubkey = ScriptBuf::from_bytes(script);
}

/// Declares these ids, supplies these bytes for whatever is asked.
async fn declare(
    world: &World,
    miner: &mut Miner,
    wtxids: &[[u8; 32]],
    supply: impl Fn(u16) -> Vec<u8>,
) -> DeclareOutcome {
    let mut template = miner.template_of(&world.work(), vec![], 0);
    commit(&mut template, wtxids);
    let (prefix, suffix) = template.halves();
    let token = miner.token().await.bytes;
    let declaration = Declaration {
        token: &token,
        version: template.version,
        prefix: &prefix,
        suffix: &suffix,
        wtxids,
    };
    miner.client.declare(declaration, supply).await.unwrap()
}

fn wtxid(raw: &[u8]) -> [u8; 32] {
    sha256d::Hash::hash(raw).to_byte_array()
}

fn distinct(count: usize) -> Vec<[u8; 32]> {
    (0..count as u64).map(|n| wtxid(&n.to_le_bytes())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_equal_or_too_many_ids_are_answered_by_request_id() {
    let world = World::start().await;
    let mut miner = world.miner("mallory").await;
    let outcome = declare(&world, &mut miner, &[[7; 32]; TRANSACTIONS_MAX], |_| vec![]).await;
    let details = rejected(&outcome, JOB, "duplicate-wtxid");
    assert!(details.starts_with("reason=duplicate-wtxid index=1 expected=each-once "), "{details}");

    let outcome = declare(&world, &mut miner, &distinct(TRANSACTIONS_MAX + 1), |_| vec![]).await;
    let details = rejected(&outcome, JOB, "too-many-transactions");
    assert!(details.ends_with("expected=at-most-16665 actual=16666"), "{details}");

    // Too large even to be read: 2.1 MB.
    let outcome = declare(&world, &mut miner, &vec![[7; 32]; 65_535], |_| vec![]).await;
    let details = rejected(&outcome, JOB, "declaration-too-large");
    assert!(details.contains(" expected=at-most-750000 actual=2097"), "{details}");

    // And the same connection goes on.
    let template = miner.template(&world.work());
    accepted(&miner.declare(&template).await);
    world.assert_still_serving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_transactions_as_fit_a_block_are_asked_for_and_no_answer_to_that_does_harm() {
    let world = World::start().await;
    let mut miner = world.miner("mallory").await;
    let ids = distinct(TRANSACTIONS_MAX);
    let missing = |outcome: &DeclareOutcome| {
        let details = rejected(outcome, "missing-txs", "transaction-missing");
        assert!(details.starts_with("reason=transaction-missing index=0 "), "{details}");
        let DeclareOutcome::Rejected { missing, .. } = outcome else { unreachable!() };
        assert_eq!(*missing, TRANSACTIONS_MAX);
    };
    // 16,665 times nothing, times one byte, times 240 bytes of no meaning.
    for length in [1, 240] {
        let outcome = declare(&world, &mut miner, &ids, |_| vec![0; length]).await;
        let details = rejected(&outcome, JOB, "tx-decode");
        assert!(details.starts_with("reason=tx-decode index=0 "), "{details}");
    }
    let valid = {
        let coins = world.coins(1).await;
        serialize(&Kind::Payment.build(&coins[0]).unwrap().txs[0])
    };
    missing(&declare(&world, &mut miner, &ids, |_| valid.clone()).await);
    // More than the transactions of any block: not even read.
    let outcome = declare(&world, &mut miner, &ids, |_| vec![0; 260]).await;
    let details = rejected(&outcome, "missing-txs", "answer-too-large");
    assert!(details.contains(" expected=at-most-4200000 actual=43"), "{details}");
    let template = miner.template(&world.work());
    accepted(&miner.declare(&template).await);
    world.assert_still_serving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supplied_transaction_that_is_none_is_told_why() {
    let world = World::start().await;
    let coins = world.coins(1).await;
    let sound = Kind::Payment.build(&coins[0]).unwrap().txs.remove(0);
    let edited = |edit: fn(&mut Transaction)| {
        let mut tx = sound.clone();
        edit(&mut tx);
        serialize(&tx)
    };
    let raw = serialize(&sound);
    let huge = [&[0xff][..], &(1_u64 << 60).to_le_bytes()].concat();
    let with_huge = |at: usize| [&raw[..at], &huge, &raw[at + 1..]].concat();
    let one_output = [&1_000_u64.to_le_bytes()[..], &[1, 0x51]].concat();
    let cases = [
        ("nothing", vec![], "tx-decode"),
        ("one byte", vec![2], "tx-decode"),
        // No inputs: as the legacy encoding reads it, and behind a segwit marker.
        ("no inputs, no outputs", vec![2, 0, 0, 0, 0, 0, 0, 0, 0, 0], "tx-decode"),
        (
            "no inputs, one output, legacy",
            [&[2, 0, 0, 0, 0, 1][..], &one_output, &[0; 4]].concat(),
            "tx-decode",
        ),
        (
            "no inputs, one output, segwit",
            [&[2, 0, 0, 0, 0, 1, 0, 1][..], &one_output, &[0; 4]].concat(),
            "tx-no-inputs",
        ),
        ("no outputs", edited(|tx| tx.output.clear()), "tx-no-outputs"),
        ("a byte too many", [&raw[..], &[0]].concat(), "tx-trailing-bytes"),
        ("a byte too few", raw[..raw.len() - 1].to_vec(), "tx-decode"),
        ("2^60 inputs", with_huge(6), "tx-decode"),
        ("a script of 2^60 bytes", with_huge(7 + 36), "tx-decode"),
        (
            "more than all the money",
            edited(|tx| tx.output[0].value = Amount::from_sat(u64::MAX)),
            "tx-value-range",
        ),
        ("one coin twice", edited(|tx| tx.input.push(tx.input[0].clone())), "tx-duplicate-input"),
        (
            "a coinbase",
            edited(|tx| tx.input[0].previous_output = OutPoint::null()),
            "tx-null-outpoint",
        ),
        ("more bytes than a block", vec![2; 4_100_000], "tx-size"),
    ];
    let mut miner = world.miner("mallory").await;
    for (what, bytes, reason) in cases {
        println!("case: {what}");
        let id = wtxid(&bytes);
        let outcome = declare(&world, &mut miner, &[id], |_| bytes.clone()).await;
        let details = rejected(&outcome, JOB, reason);
        assert!(details.starts_with(&format!("reason={reason} index=0 ")), "{details}");
        world.assert_still_serving().await;
    }
    let outcome = declare(&world, &mut miner, &[wtxid(&raw)], |_| raw.clone()).await;
    assert_eq!(accepted(&outcome), 1);
}
