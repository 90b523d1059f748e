//! The rules of SetCustomMiningJob: a good job in both modes, and every field wrong by itself, each
//! with the code that names it.

#![allow(clippy::unwrap_used, reason = "a test ends where an unwrap fails")]

mod common;

use std::collections::HashSet;

use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::{BlockHash, CompactTarget, Network};
use common::*;
use proptest::{collection::vec, prelude::*};
use validation::custom_job::{
    CustomJobCode as Code, CustomJobFault, CustomJobFields, GENERAL_PURPOSE_VERSION_BITS,
    MERKLE_PATH_MAX, NTIME_AHEAD_MAX_S, check_coinbase_only, check_declared, check_header,
};
use validation::payout::Paid;
use validation::{
    AcceptedJob, BlockBody, ChainTip, CoinbaseParts, CoinbaseWitness, MinDifficulty, NextBits,
    Payout,
};

const NOW: u32 = TIP_MTP + 4_000;

/// The fields of a message, to be changed.
#[derive(Debug, Clone)]
struct Message {
    version: u32,
    prev_hash: BlockHash,
    min_ntime: u32,
    nbits: u32,
    coinbase_tx_version: u32,
    coinbase_prefix: Vec<u8>,
    coinbase_sequence: u32,
    coinbase_outputs: Vec<u8>,
    coinbase_lock_time: u32,
    merkle_path: Vec<[u8; 32]>,
    extranonce_len: usize,
}

impl Message {
    fn fields(&self) -> CustomJobFields<'_> {
        CustomJobFields {
            version: self.version,
            prev_hash: self.prev_hash,
            min_ntime: self.min_ntime,
            nbits: self.nbits,
            coinbase_tx_version: self.coinbase_tx_version,
            coinbase_prefix: &self.coinbase_prefix,
            coinbase_sequence: self.coinbase_sequence,
            coinbase_outputs: &self.coinbase_outputs,
            coinbase_lock_time: self.coinbase_lock_time,
            merkle_path: &self.merkle_path,
            extranonce_len: self.extranonce_len,
        }
    }
}

/// A declared job, the message that sets it, and its tip.
struct Declared {
    job: AcceptedJob,
    body: BlockBody,
    message: Message,
    tip: ChainTip,
    network: Network,
}

impl Declared {
    fn new(template: &Template) -> Self {
        let job = template.accepted();
        let body = job.prepare_branch();
        let coinbase = template.sealed_coinbase();
        let input = &coinbase.input[0];
        let script = input.script_sig.as_bytes();
        let message = Message {
            version: template.version,
            prev_hash: template.tip.hash,
            min_ntime: NOW,
            nbits: EASY_BITS,
            coinbase_tx_version: coinbase.version.0 as u32,
            coinbase_prefix: script[..script.len() - template.extranonce_len].to_vec(),
            coinbase_sequence: input.sequence.0,
            coinbase_outputs: serialize(&coinbase.output),
            coinbase_lock_time: coinbase.lock_time.to_consensus_u32(),
            merkle_path: body.merkle_branch().to_vec(),
            extranonce_len: template.extranonce_len,
        };
        Self { job, body, message, tip: template.tip, network: Network::Regtest }
    }

    fn check(&self) -> Result<(), CustomJobFault> {
        let fields = self.message.fields();
        check_header(&fields, &self.tip, self.network, NOW)?;
        check_declared(&fields, &self.job, &self.body, &self.tip)
    }
}

fn template() -> Template {
    Template::new(100, vec![simple(1), legacy(2), simple(3)])
}

type Mutation = (&'static str, Code, fn(&mut Message));

/// What is wrong in either mode.
const HEADER: &[Mutation] = &[
    ("another parent", Code::StaleChainTip, |m| m.prev_hash = BlockHash::all_zeros()),
    ("at the median time", Code::MinNtime, |m| m.min_ntime = TIP_MTP),
    ("too far ahead", Code::MinNtime, |m| m.min_ntime = NOW + NTIME_AHEAD_MAX_S + 1),
    ("at the end of time", Code::MinNtime, |m| m.min_ntime = u32::MAX),
    ("easier", Code::Nbits, |m| m.nbits += 1),
    ("no target", Code::Nbits, |m| m.nbits = 0),
];

/// What differs from the declaration, one field at a time.
const DECLARED: &[Mutation] = &[
    ("the top bits of the version", Code::Version, |m| m.version ^= 1 << 29),
    ("the sign of the version", Code::Version, |m| m.version ^= 1 << 31),
    ("the lowest bit of the version", Code::Version, |m| m.version ^= 1),
    ("coinbase version", Code::CoinbaseTxVersion, |m| m.coinbase_tx_version += 1),
    ("a byte more of prefix", Code::CoinbasePrefix, |m| m.coinbase_prefix.push(0)),
    ("a byte less of prefix", Code::CoinbasePrefix, |m| {
        m.coinbase_prefix.pop();
    }),
    ("no prefix", Code::CoinbasePrefix, |m| m.coinbase_prefix.clear()),
    ("another tag", Code::CoinbasePrefix, |m| *m.coinbase_prefix.last_mut().unwrap() ^= 1),
    ("sequence", Code::CoinbaseSequence, |m| m.coinbase_sequence -= 1),
    ("an output's value", Code::CoinbaseOutputs, |m| m.coinbase_outputs[1] ^= 1),
    ("an output less", Code::CoinbaseOutputs, |m| m.coinbase_outputs[0] -= 1),
    ("a byte more of outputs", Code::CoinbaseOutputs, |m| m.coinbase_outputs.push(0)),
    ("no outputs", Code::CoinbaseOutputs, |m| m.coinbase_outputs.clear()),
    ("lock time", Code::CoinbaseLockTime, |m| m.coinbase_lock_time += 1),
    ("a hash of the path", Code::MerklePath, |m| m.merkle_path[0][0] ^= 1),
    ("the order of the path", Code::MerklePath, |m| m.merkle_path.reverse()),
    ("a hash less", Code::MerklePath, |m| {
        m.merkle_path.pop();
    }),
    ("a hash more", Code::MerklePath, |m| m.merkle_path.push([1; 32])),
    ("a longer extranonce", Code::CoinbaseTx, |m| m.extranonce_len += 1),
    ("a shorter extranonce", Code::CoinbaseTx, |m| m.extranonce_len -= 1),
];

/// What the rules say of a coinbase alone.
const COINBASE_ONLY: &[Mutation] = &[
    ("a version below 4", Code::Version, |m| m.version = 3),
    ("a negative version", Code::Version, |m| m.version |= 1 << 31),
    ("no height", Code::CoinbasePrefix, |m| m.coinbase_prefix.clear()),
    ("more than a script holds", Code::CoinbasePrefix, |m| m.coinbase_prefix = vec![1; 93]),
    ("more than one byte counts", Code::CoinbasePrefix, |m| m.coinbase_prefix = vec![1; 255]),
    ("a height not minimal", Code::CoinbasePrefix, |m| {
        m.coinbase_prefix = vec![2, 101, 0];
    }),
    ("another height", Code::StaleChainTip, |m| {
        m.coinbase_prefix = Builder::new().push_int(102).into_bytes();
    }),
    ("a pool paid too little", Code::CoinbaseOutputs, |m| m.coinbase_outputs[2] -= 1),
    ("another script", Code::CoinbaseOutputs, |m| m.coinbase_outputs[20] ^= 1),
    ("an output less", Code::CoinbaseOutputs, |m| m.coinbase_outputs[0] -= 1),
    ("an output more", Code::CoinbaseOutputs, |m| m.coinbase_outputs[0] += 1),
    ("a byte more of outputs", Code::CoinbaseOutputs, |m| m.coinbase_outputs.push(0)),
    ("a witness among the outputs", Code::CoinbaseOutputs, |m| {
        m.coinbase_outputs.extend([1, 34]);
    }),
    ("a byte less of outputs", Code::CoinbaseOutputs, |m| {
        m.coinbase_outputs.pop();
    }),
    ("no outputs", Code::CoinbaseOutputs, |m| m.coinbase_outputs = vec![0]),
    ("no count", Code::CoinbaseOutputs, |m| m.coinbase_outputs.clear()),
    ("too many outputs", Code::CoinbaseOutputs, |m| m.coinbase_outputs[0] = 0xff),
    ("not final", Code::CoinbaseLockTime, |m| {
        (m.coinbase_sequence, m.coinbase_lock_time) = (0, 101);
    }),
    ("too deep a tree", Code::MerklePath, |m| m.merkle_path = vec![[1; 32]; MERKLE_PATH_MAX + 1]),
    ("no extranonce", Code::CoinbaseTx, |m| m.extranonce_len = 0),
    ("too long an extranonce", Code::CoinbaseTx, |m| m.extranonce_len = 33),
];

#[test]
fn codes_are_those_of_the_protocol_crate() {
    use mining_sv2 as sv2;
    let theirs = [
        sv2::ERROR_CODE_SET_CUSTOM_MINING_JOB_STALE_CHAIN_TIP,
        sv2::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_MIN_NTIME,
        sv2::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_NBITS,
        sv2::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_VERSION,
        sv2::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_TX,
        sv2::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_TX_VERSION,
        sv2::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_PREFIX,
        sv2::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_TX_INPUT_N_SEQUENCE,
        sv2::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_TX_OUTPUTS,
        sv2::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_COINBASE_TX_LOCKTIME,
        sv2::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_MERKLE_PATH,
    ];
    assert_eq!(Code::ALL.map(Code::as_str), theirs);
}

#[test]
fn the_guide_names_every_code() {
    let guide = include_str!("../../guides/src/custom-jobs.md");
    for code in Code::ALL {
        assert!(guide.contains(&format!("| `{}` |", code.as_str())), "{code:?}");
    }
}

#[test]
fn the_tables_know_every_code() {
    let all = [HEADER, DECLARED].concat();
    let codes: HashSet<_> = all.iter().map(|(_, code, _)| *code).collect();
    assert_eq!(codes.len(), Code::ALL.len());
}

#[test]
fn a_job_is_its_declaration_and_nothing_else() {
    for template in [template(), template().without_commitment_of_legacy()] {
        Declared::new(&template).check().unwrap();
        for (what, code, mutate) in HEADER.iter().chain(DECLARED) {
            let mut declared = Declared::new(&template);
            mutate(&mut declared.message);
            let fault = declared.check().expect_err(what);
            assert_eq!(fault.code, *code, "{what}: {fault}");
            assert!(fault.detail.len() < 1_000 && !fault.detail.is_empty(), "{what}: {fault}");
        }
    }
}

trait Legacy {
    fn without_commitment_of_legacy(self) -> Self;
}

impl Legacy for Template {
    fn without_commitment_of_legacy(mut self) -> Self {
        self.txs = vec![legacy(1), legacy(2), legacy(3)];
        self.without_commitment()
    }
}

#[test]
fn the_bits_of_bip_323_are_free() {
    let mut declared = Declared::new(&template());
    declared.message.version ^= GENERAL_PURPOSE_VERSION_BITS;
    declared.check().unwrap();
}

#[test]
fn the_whole_range_of_times_is_good() {
    for good in [TIP_MTP + 1, NOW + NTIME_AHEAD_MAX_S] {
        let mut declared = Declared::new(&template());
        declared.message.min_ntime = good;
        declared.check().unwrap();
    }
}

#[test]
fn where_nbits_depend_on_the_time_they_are_those_of_min_ntime() {
    let mut declared = Declared::new(&template());
    let (regular, easy) = (CompactTarget::from_consensus(0x1d00_ffff), EASY_BITS);
    let min_difficulty =
        Some(MinDifficulty { after: NOW - 10, bits: CompactTarget::from_consensus(easy) });
    declared.tip.next_bits = NextBits { regular, min_difficulty };
    for (min_ntime, nbits, good) in [
        (NOW - 10, 0x1d00_ffff, true),
        (NOW - 10, easy, false),
        (NOW - 9, easy, true),
        (NOW - 9, 0x1d00_ffff, false),
    ] {
        (declared.message.min_ntime, declared.message.nbits) = (min_ntime, nbits);
        match declared.check() {
            Ok(()) => assert!(good, "{nbits:x} at {min_ntime}"),
            Err(fault) => assert!(!good && fault.code == Code::Nbits, "{fault}"),
        }
    }
}

#[test]
fn bip_94_holds_where_the_network_has_it() {
    // The first block of a period may be 600 s before its parent, whose time is an hour later than
    // the median.
    let of = |height, network, min_ntime| {
        let mut declared = Declared::new(&Template::new(height, vec![]));
        declared.network = network;
        declared.message.min_ntime = min_ntime;
        declared.check()
    };
    let first = TIP_MTP + 3_000;
    of(2_015, Network::Testnet4, first).unwrap();
    assert_eq!(of(2_015, Network::Testnet4, first - 1).unwrap_err().code, Code::MinNtime);
    of(2_014, Network::Testnet4, first - 1).unwrap();
    of(2_015, Network::Regtest, first - 1).unwrap();
    of(2_015, Network::Bitcoin, TIP_MTP + 1).unwrap();
}

#[test]
fn a_job_is_good_on_another_block_of_its_height_and_stale_on_any_other() {
    let mut declared = Declared::new(&template());
    declared.tip.hash = BlockHash::hash(b"a rival");
    declared.message.prev_hash = declared.tip.hash;
    declared.check().unwrap();
    for height in [99, 101] {
        declared.tip.height = height;
        assert_eq!(declared.check().unwrap_err().code, Code::StaleChainTip);
    }
}

#[test]
fn on_another_block_its_transactions_have_to_be_final_too() {
    let mut template = template();
    let mut locked = simple(9);
    locked.lock_time = bitcoin::absolute::LockTime::from_consensus(TIP_MTP - 1);
    locked.input[0].sequence = bitcoin::Sequence::ZERO;
    template.txs.push(locked);
    let mut declared = Declared::new(&template);
    declared.check().unwrap();
    declared.tip.hash = BlockHash::hash(b"a rival");
    declared.message.prev_hash = declared.tip.hash;
    declared.check().unwrap();
    declared.tip.median_time_past = TIP_MTP - 1;
    assert_eq!(declared.check().unwrap_err().code, Code::StaleChainTip);
}

fn coinbase_only(message: &Message, template: &Template) -> Result<CoinbaseParts, CustomJobFault> {
    let fields = message.fields();
    check_header(&fields, &template.tip, Network::Regtest, NOW)?;
    check_coinbase_only(&fields, &template.tip, &template.rules).map(|(parts, _)| parts)
}

fn paid(message: &Message, template: &Template) -> Paid {
    check_coinbase_only(&message.fields(), &template.tip, &template.rules).unwrap().1
}

#[test]
fn a_coinbase_alone_is_held_to_its_rules() {
    let template = template();
    let Declared { job, message, .. } = Declared::new(&template);
    let parts = coinbase_only(&message, &template).unwrap();
    assert_eq!(&parts, job.coinbase(), "the same coinbase as if it were declared");
    for (what, code, mutate) in HEADER.iter().chain(COINBASE_ONLY) {
        let mut message = message.clone();
        mutate(&mut message);
        let fault = coinbase_only(&message, &template).expect_err(what);
        assert_eq!(fault.code, *code, "{what}: {fault}");
    }
}

#[test]
fn a_coinbase_that_commits_to_nothing_has_no_witness() {
    let template = template().without_commitment_of_legacy();
    let Declared { job, message, .. } = Declared::new(&template);
    let parts = coinbase_only(&message, &template).unwrap();
    assert_eq!(&parts, job.coinbase());
    assert_eq!(parts.witness(), CoinbaseWitness::Absent);
}

#[test]
fn what_a_coinbase_takes_beyond_the_subsidy_is_the_pools_too() {
    let mut template = template();
    template.coinbase.output.insert(1, output(1, script(3)));
    template.coinbase.output[0].value -= bitcoin::Amount::from_sat(1);
    let mut message = Declared::new(&self::template()).message;
    message.coinbase_outputs = serialize(&template.sealed_coinbase().output);
    let fault = coinbase_only(&message, &template).unwrap_err();
    assert_eq!(fault.code, Code::CoinbaseOutputs, "{fault}");
    template.coinbase.output[0].value += bitcoin::Amount::from_sat(1);
    message.coinbase_outputs = serialize(&template.sealed_coinbase().output);
    let fault = coinbase_only(&message, &template).unwrap_err();
    assert_eq!(fault.code, Code::CoinbaseOutputs, "the fees are the pool's: {fault}");
    template.coinbase.output[0].value += bitcoin::Amount::from_sat(700);
    template.coinbase.output.remove(1);
    message.coinbase_outputs = serialize(&template.sealed_coinbase().output);
    coinbase_only(&message, &template).unwrap();
    let taken_sat = template.coinbase.output[0].value.to_sat();
    assert_eq!(paid(&message, &template).pool_sat, taken_sat);
    assert_eq!(paid(&message, &template).claimable_sat, taken_sat, "all that can be known");
    // Where the pool leaves a part to the miner, what it gets is told beside all that is taken.
    let kept_sat = 50_000_000;
    template.coinbase.output[0].value -= bitcoin::Amount::from_sat(kept_sat);
    template.coinbase.output.insert(1, output(kept_sat, script(3)));
    if let Payout::Pool { min_share_bp, .. } = &mut template.rules.payout {
        *min_share_bp = 5_000;
    }
    message.coinbase_outputs = serialize(&template.sealed_coinbase().output);
    let Paid { pool_sat, claimable_sat, .. } = paid(&message, &template);
    assert_eq!((pool_sat, claimable_sat), (taken_sat - kept_sat, taken_sat));
    // Who takes less than there surely is could have claimed that.
    template.coinbase.output.remove(1);
    message.coinbase_outputs = serialize(&template.sealed_coinbase().output);
    let Paid { pool_sat, claimable_sat, .. } = paid(&message, &template);
    assert_eq!((pool_sat, claimable_sat), (taken_sat - kept_sat, taken_sat - 700));
}

proptest! {
    /// Whatever the bytes: a coinbase with these outputs, or a fault.
    #[test]
    fn any_bytes_are_a_coinbase_or_a_fault(
        prefix in vec(any::<u8>(), 0..255),
        outputs in vec(any::<u8>(), 0..300),
        good_prefix: bool,
        tail in vec(any::<u8>(), 0..80),
        extranonce_len in 0_usize..40,
        words: [u32; 4],
    ) {
        let template = template();
        let mut message = Declared::new(&template).message;
        message.extranonce_len = extranonce_len;
        [
            message.version,
            message.coinbase_tx_version,
            message.coinbase_sequence,
            message.coinbase_lock_time,
        ] = words;
        if good_prefix {
            message.coinbase_outputs.extend(&tail);
        } else {
            (message.coinbase_prefix, message.coinbase_outputs) = (prefix, outputs);
        }
        let fields = message.fields();
        if let Ok((parts, _)) = check_coinbase_only(&fields, &template.tip, &template.rules) {
            prop_assert_eq!(parts.counted_outputs_bytes(), &message.coinbase_outputs[..]);
            prop_assert_eq!(parts.script_sig_prefix(), &message.coinbase_prefix[..]);
            prop_assert_eq!(parts.extranonce_len(), extranonce_len);
            prop_assert!(tail.is_empty() || !good_prefix);
        }
    }
}
