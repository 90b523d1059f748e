//! What a coinbase may not be, and what it may.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, TxOut, Txid, Witness};
use jds::client::template::MinerTemplate;
use jds_tests::{World, accepted, rejected};
use signet::kinds::Kind;

pub(super) type Edit = fn(&mut MinerTemplate);
/// Something to break, and the answer that it gets: code and reason.
pub(super) type Case = (&'static str, Edit, &'static str, &'static str);

const TX: &str = "invalid-coinbase-tx";
const INPUT: &str = "invalid-coinbase-tx-input";

fn to_anyone(sat: u64) -> TxOut {
    TxOut { value: Amount::from_sat(sat), script_pubkey: ScriptBuf::from_bytes(vec![0x51]) }
}

fn move_sat(template: &mut MinerTemplate, sat: u64) {
    template.coinbase.output[0].value -= Amount::from_sat(sat);
    template.coinbase.output.insert(1, to_anyone(sat));
}

fn set_script(template: &mut MinerTemplate, edit: fn(&mut Vec<u8>)) {
    let mut script = template.coinbase.input[0].script_sig.to_bytes();
    edit(&mut script);
    template.coinbase.input[0].script_sig = ScriptBuf::from_bytes(script);
}

/// The commitment is the last output, after the pool's.
pub(super) const CASES: &[Case] = &[
    ("the pool gets one satoshi too little", |t| move_sat(t, 1), TX, "pool-underpaid"),
    (
        "one satoshi is not taken at all",
        |t| t.coinbase.output[0].value -= Amount::ONE_SAT,
        TX,
        "pool-underpaid",
    ),
    (
        "the pool's output is worth nothing, another one everything",
        |t| move_sat(t, t.coinbase.output[0].value.to_sat()),
        TX,
        "pool-underpaid",
    ),
    (
        "nobody gets anything",
        |t| t.coinbase.output.iter_mut().for_each(|output| output.value = Amount::ZERO),
        TX,
        "pool-underpaid",
    ),
    (
        "the pool's output is another's",
        |t| t.coinbase.output[0].script_pubkey = ScriptBuf::from_bytes(vec![0x51]),
        TX,
        "imposed-output",
    ),
    ("the pool's output is absent", |t| drop(t.coinbase.output.remove(0)), TX, "imposed-output"),
    ("no outputs", |t| t.coinbase.output.clear(), TX, "coinbase-outputs"),
    (
        "one satoshi more than there is",
        |t| t.coinbase.output.insert(1, to_anyone(1)),
        TX,
        "coinbase-value",
    ),
    (
        "more than all the money",
        |t| t.coinbase.output.insert(1, to_anyone(21_000_001 * 100_000_000)),
        TX,
        "coinbase-value-range",
    ),
    (
        "sums that overflow",
        |t| t.coinbase.output.extend([to_anyone(u64::MAX), to_anyone(u64::MAX)]),
        TX,
        "coinbase-value-range",
    ),
    (
        "a bit of the commitment is wrong",
        |t| {
            let last = t.coinbase.output.last_mut().unwrap();
            let mut script = last.script_pubkey.to_bytes();
            script[37] ^= 1;
            last.script_pubkey = ScriptBuf::from_bytes(script);
        },
        TX,
        "witness-commitment",
    ),
    ("the commitment is to other transactions", |t| t.txs.swap(0, 1), TX, "witness-commitment"),
    (
        "the right commitment is not the last one",
        |t| {
            let mut other = t.clone();
            other.txs.clear();
            other.refresh_commitment();
            t.coinbase.output.push(other.coinbase.output.last().unwrap().clone());
        },
        TX,
        "witness-commitment",
    ),
    (
        "no commitment, and a witness in the coinbase",
        |t| drop(t.coinbase.output.pop()),
        TX,
        "witness-without-commitment",
    ),
    (
        "no commitment, and witnesses in the transactions",
        |t| {
            t.coinbase.output.pop();
            t.coinbase.input[0].witness = Witness::new();
        },
        TX,
        "witness-without-commitment",
    ),
    (
        "a commitment, and no reserved value",
        |t| t.coinbase.input[0].witness = Witness::new(),
        TX,
        "coinbase-witness",
    ),
    (
        "a commitment, and two reserved values",
        |t| t.coinbase.input[0].witness = Witness::from_slice(&[[0; 32], [0; 32]]),
        TX,
        "coinbase-witness",
    ),
    (
        "a commitment, and another reserved value",
        |t| t.coinbase.input[0].witness = Witness::from_slice(&[[1; 32]]),
        TX,
        "witness-commitment",
    ),
    (
        "locked until after this block",
        |t| {
            let locked = t.coinbase.lock_time.to_consensus_u32() + 1;
            t.coinbase.lock_time = LockTime::from_consensus(locked);
        },
        TX,
        "coinbase-not-final",
    ),
    (
        "an input that spends a transaction",
        |t| {
            let txid = Txid::from_byte_array([1; 32]);
            t.coinbase.input[0].previous_output = OutPoint { txid, vout: u32::MAX };
        },
        INPUT,
        "coinbase-outpoint",
    ),
    (
        "an input that spends output 0 of nothing",
        |t| t.coinbase.input[0].previous_output.vout = 0,
        INPUT,
        "coinbase-outpoint",
    ),
    (
        "two inputs",
        |t| t.coinbase.input.push(t.coinbase.input[0].clone()),
        INPUT,
        "coinbase-inputs",
    ),
    (
        "a script of 101 bytes",
        |t| set_script(t, |script| script.resize(101, 0)),
        INPUT,
        "coinbase-script-size",
    ),
    ("no room for an extranonce", |t| t.extranonce_bytes = 0, INPUT, "extranonce-size"),
    (
        "an extranonce of 33 bytes",
        |t| {
            set_script(t, |script| script.resize(60, 0));
            t.extranonce_bytes = 33;
        },
        INPUT,
        "extranonce-size",
    ),
    (
        "a height with a zero byte too many",
        |t| {
            set_script(t, |script| {
                let height = usize::from(script[0]);
                script[0] += 1;
                script.insert(1 + height, 0);
            });
        },
        INPUT,
        "coinbase-height-encoding",
    ),
    ("no height", |t| set_script(t, |script| script[0] = 0x4c), INPUT, "coinbase-height-encoding"),
    ("header version 3", |t| t.version = 3, "invalid-job", "version"),
    ("a negative header version", |t| t.version = 1 << 31, "invalid-job", "version"),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_broken_coinbase_gets_the_answer_of_its_own_fault() {
    let world = World::start().await;
    let coins = world.coins(3).await;
    let txs: Vec<_> =
        coins.iter().flat_map(|coin| Kind::Payment.build(coin).unwrap().txs).collect();
    // The server knows their fees, so that the claimable value is exact.
    let work = world.relay(&txs).await;
    let mut miner = world.miner("alice").await;
    let sound = miner.template(&work);
    for (what, break_it, code, reason) in CASES {
        println!("case: {what}");
        let mut template = sound.clone();
        break_it(&mut template);
        rejected(&miner.declare(&template).await, code, reason);
    }
    accepted(&miner.declare(&sound).await);
    let hash = miner.solve_and_push(&work, &sound).await;
    world.assert_mined(hash, &sound.txs);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_underpaid_pool_is_told_what_was_due() {
    let world = World::start().await;
    let coins = world.coins(1).await;
    let sample = Kind::Payment.build(&coins[0]).unwrap();
    let work = world.relay(&sample.txs).await;
    let mut miner = world.miner("alice").await;
    let due_sat = work.subsidy_sat + sample.fee_sat;
    let mut template = miner.template(&work);
    move_sat(&mut template, sample.fee_sat);
    let outcome = miner.declare(&template).await;
    let details = rejected(&outcome, TX, "pool-underpaid");
    let facts =
        format!("reason=pool-underpaid expected=at-least-{due_sat} actual={}", work.subsidy_sat);
    assert_eq!(details, facts);
    // Fees that nobody can know do not lower what is due: the coinbase's own total does not.
    let unknown = miner.template_of(&work, vec![], 0);
    let mut nothing = unknown.clone();
    nothing.coinbase.output.iter_mut().for_each(|output| output.value = Amount::ZERO);
    let outcome = miner.declare(&nothing).await;
    let details = rejected(&outcome, TX, "pool-underpaid");
    let facts = format!("reason=pool-underpaid expected=at-least-{} actual=0", work.subsidy_sat);
    assert_eq!(details, facts);
    accepted(&miner.declare(&unknown).await);
}

/// Unusual, and valid: a false rejection costs a miner blocks.
#[tokio::test(flavor = "multi_thread")]
async fn unusual_coinbases_are_accepted_and_mined() {
    let edits: &[(&str, Edit)] = &[
        ("the payout in two outputs", |t| {
            let half = t.coinbase.output[0].value / 2;
            t.coinbase.output[0].value -= half;
            let script_pubkey = t.coinbase.output[0].script_pubkey.clone();
            t.coinbase.output.insert(1, TxOut { value: half, script_pubkey });
        }),
        ("the payout after other outputs", |t| {
            t.coinbase.output.insert(0, to_anyone(0));
            t.coinbase.output.insert(0, to_anyone(0));
        }),
        ("the commitment first", |t| t.coinbase.output.reverse()),
        ("a script of 100 bytes, tags before the extranonce", |t| {
            set_script(t, |script| script.resize(100, 0x20));
        }),
        ("an extranonce of one byte", |t| t.extranonce_bytes = 1),
        ("an extranonce of 32 bytes", |t| {
            set_script(t, |script| script.resize(36, 0));
            t.extranonce_bytes = 32;
        }),
        ("no witness at all", |t| {
            t.coinbase.output.pop();
            t.coinbase.input[0].witness = Witness::new();
        }),
        ("a lock time that sequences switch off", |t| {
            t.coinbase.lock_time = LockTime::from_consensus(499_999_999);
            t.coinbase.input[0].sequence = Sequence::MAX;
        }),
        ("an old transaction version", |t| {
            t.coinbase.version = bitcoin::transaction::Version(1);
        }),
        ("every version bit that is free", |t| t.version = 0x3fff_e000),
        ("the least version", |t| t.version = 4),
    ];
    let world = World::start().await;
    let mut miner = world.miner("alice").await;
    for (what, edit) in edits {
        println!("case: {what}");
        world.synced().await;
        let work = world.work();
        let mut template = miner.template(&work);
        edit(&mut template);
        accepted(&miner.declare(&template).await);
        let hash = miner.solve_and_push(&work, &template).await;
        world.assert_mined(hash, &template.txs);
    }
}
