//! Coinbase halves of any bytes.

use jds::client::DeclareOutcome;
use jds::client::template::MinerTemplate;
use jds_tests::{EXTRANONCE_BYTES, Miner, World, accepted, rejected};

use crate::Noise;

/// Version, marker and flag, input count, outpoint, script length.
const SCRIPT_START: usize = 4 + 2 + 1 + 36 + 1;
const HUGE: u64 = 1 << 60;

const TX: &str = "invalid-coinbase-tx";
const INPUT: &str = "invalid-coinbase-tx-input";

/// The longest form of a CompactSize.
fn huge() -> Vec<u8> {
    [vec![0xff], HUGE.to_le_bytes().to_vec()].concat()
}

async fn declare(
    miner: &mut Miner,
    template: &MinerTemplate,
    prefix: &[u8],
    suffix: &[u8],
) -> DeclareOutcome {
    let token = miner.token().await;
    miner.declare_halves(&token.bytes, template, prefix, suffix).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_of_any_length_gets_its_answer() {
    let world = World::start().await;
    world.node().mine(20).unwrap();
    world.synced().await;
    let mut miner = world.miner("mallory").await;
    let template = miner.template(&world.work());
    let (whole, suffix) = template.halves();
    // Height 21: an opcode and one byte; then the push opcode of the extranonce.
    let height_end = SCRIPT_START + 2;
    assert_eq!(whole.len(), height_end + 1);
    for length in 0..=80 {
        let mut prefix = whole.clone();
        prefix.resize(length, 0);
        let outcome = declare(&mut miner, &template, &prefix, &suffix).await;
        println!("{length} bytes: {outcome:?}");
        match length {
            0..SCRIPT_START => drop(rejected(&outcome, TX, "coinbase-prefix")),
            _ if length < height_end => {
                rejected(&outcome, INPUT, "coinbase-height-encoding");
            }
            // The script's length is declared, so the extranonce has what the prefix leaves.
            _ if length < whole.len() + EXTRANONCE_BYTES => drop(accepted(&outcome)),
            _ => drop(rejected(&outcome, INPUT, "extranonce-size")),
        }
    }
    let mut longest = whole;
    longest.resize(65_535, 0);
    let outcome = declare(&mut miner, &template, &longest, &suffix).await;
    rejected(&outcome, INPUT, "extranonce-size");
    world.assert_still_serving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suffix_of_any_length_gets_its_answer() {
    let world = World::start().await;
    let mut miner = world.miner("mallory").await;
    let template = miner.template(&world.work());
    let (prefix, whole) = template.halves();
    for length in 0..whole.len() {
        let outcome = declare(&mut miner, &template, &prefix, &whole[..length]).await;
        println!("{length} bytes: {outcome:?}");
        rejected(&outcome, TX, "coinbase-suffix");
    }
    for extra in [1, 2, 4, 36, 1_000, 65_535 - whole.len()] {
        let suffix = [whole.clone(), vec![0; extra]].concat();
        let outcome = declare(&mut miner, &template, &prefix, &suffix).await;
        let details = rejected(&outcome, TX, "coinbase-trailing-bytes");
        assert!(details.ends_with(&format!(" expected=0 actual={extra}")), "{details}");
    }
    accepted(&declare(&mut miner, &template, &prefix, &whole).await);
    world.assert_still_serving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_length_or_count_of_2_to_the_60_is_answered() {
    let world = World::start().await;
    let mut miner = world.miner("mallory").await;
    let template = miner.template(&world.work());
    let (prefix, suffix) = template.halves();
    // The first output's script length follows sequence, output count and value.
    let output_script = 4 + 1 + 8;
    let witness = suffix.len() - 4 - 34;
    let cases = [
        ("inputs", 6, 0, INPUT, "coinbase-inputs"),
        ("script length", SCRIPT_START - 1, 0, INPUT, "coinbase-script-size"),
        ("outputs", 0, 4, TX, "coinbase-suffix"),
        ("length of an output's script", 0, output_script, TX, "coinbase-suffix"),
        ("witness items", 0, witness, TX, "coinbase-suffix"),
        ("length of a witness item", 0, witness + 1, TX, "coinbase-suffix"),
    ];
    for (what, in_prefix, in_suffix, code, reason) in cases {
        println!("case: {what}");
        let (mut prefix, mut suffix) = (prefix.clone(), suffix.clone());
        let (half, at) =
            if in_prefix > 0 { (&mut prefix, in_prefix) } else { (&mut suffix, in_suffix) };
        half.splice(at..=at, huge());
        let outcome = declare(&mut miner, &template, &prefix, &suffix).await;
        rejected(&outcome, code, reason);
        world.assert_still_serving().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coinbase_without_inputs_is_answered() {
    let world = World::start().await;
    let mut miner = world.miner("mallory").await;
    let template = miner.template(&world.work());
    let (prefix, suffix) = template.halves();
    let version = [2, 0, 0, 0];
    let prefixes = [
        // The legacy encoding with no input, and nothing or something behind it.
        [&version[..], &[0, 0]].concat(),
        [&version[..], &[0, 2], &prefix[7..]].concat(),
        // The segwit encoding with no input.
        [&version[..], &[0, 1, 0]].concat(),
        [&version[..], &[0, 1, 0], &prefix[7..]].concat(),
    ];
    for prefix in prefixes {
        let outcome = declare(&mut miner, &template, &prefix, &suffix).await;
        let details = rejected(&outcome, INPUT, "coinbase-inputs");
        assert_eq!(details, "reason=coinbase-inputs expected=1 actual=0");
    }
    world.assert_still_serving().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn halves_with_random_changes_never_end_more_than_their_own_declaration() {
    let world = World::start().await;
    let mut miner = world.miner("mallory").await;
    let template = miner.template(&world.work());
    let (prefix, suffix) = template.halves();
    let mut noise = Noise(1);
    let mut refused = 0;
    for round in 0..500 {
        let (mut prefix, mut suffix) = (prefix.clone(), suffix.clone());
        if round % 5 == 0 {
            let length = noise.below(200);
            prefix = noise.bytes(length);
        }
        for half in [&mut prefix, &mut suffix] {
            for _ in 0..noise.below(4) {
                let at = noise.below(half.len().max(1));
                match (noise.below(4), half.get_mut(at)) {
                    (0, Some(byte)) => *byte ^= 1 << noise.below(8),
                    (1, Some(byte)) => *byte = [0, 0xfd, 0xfe, 0xff][noise.below(4)],
                    (2, Some(_)) => drop(half.remove(at)),
                    (_, Some(_)) => half.truncate(at),
                    (_, None) => {}
                }
            }
        }
        // Some changes make another valid coinbase.
        let outcome = declare(&mut miner, &template, &prefix, &suffix).await;
        refused += usize::from(matches!(outcome, DeclareOutcome::Rejected { .. }));
    }
    assert!(refused > 300, "{refused}");
    world.assert_still_serving().await;
}
