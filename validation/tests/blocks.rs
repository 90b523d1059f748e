//! From accepted jobs to blocks: what is built is what the `bitcoin` crate calls a sound block,
//! and real blocks, taken apart into a declaration and a solution, come out byte for byte.

#![allow(clippy::unwrap_used, reason = "a test ends where an unwrap fails")]

mod common;

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash, CompactTarget, Network, Target};
use common::*;
use validation::{
    AcceptedJob, BlockBody, ChainTip, ErrorCode, FoundBlock, NextBits, Payout, Reason, Rules,
    Solution, SolutionError, assemble, proposal_block_hex, solution_header,
};

const EXTRANONCE: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

fn easy() -> CompactTarget {
    CompactTarget::from_consensus(EASY_BITS)
}

fn solve(job: &AcceptedJob, body: &BlockBody, version: u32) -> FoundBlock {
    for nonce in 0..1_000 {
        let solution = Solution {
            extranonce: &EXTRANONCE,
            prev_hash: job.prev_hash(),
            nonce,
            ntime: TIP_MTP + 5_000,
            version,
        };
        match assemble(job, body, &solution, easy()) {
            Ok(block) => return block,
            Err(SolutionError::AboveTarget { hash, target }) => {
                assert!(!target.is_met_by(hash));
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("1000 hashes above a target that every other one meets")
}

#[test]
fn assembled_blocks_are_sound() {
    for template in [
        Template::new(100, (0..300).map(simple).collect()),
        Template::new(100, vec![]),
        Template::new(100, vec![simple(1)]),
        Template::new(100, vec![legacy(1), legacy(2), legacy(3)]).without_commitment(),
        Template::new(100, (0..252).map(legacy).collect()),
    ] {
        let job = template.accepted();
        let found = solve(&job, &job.prepare_body(), 0x2000_0000);
        let block: Block = deserialize(&found.raw).unwrap();
        assert!(block.check_merkle_root());
        assert!(block.check_witness_commitment());
        assert_eq!(block.weight().to_wu(), job.weight_wu());
        assert_eq!(block.txdata.len(), found.tx_count);
        assert_eq!(block.txdata[1..], template.txs);
        assert_eq!(block.txdata[0].compute_txid(), found.coinbase_txid);
        assert!(block.txdata[0].input[0].script_sig.as_bytes().ends_with(&EXTRANONCE));
        assert_eq!(block.header, found.header);
        assert_eq!(block.block_hash(), found.hash);
        assert_eq!(block.header.prev_blockhash, job.prev_hash());
        assert_eq!(block.bip34_block_height(), Ok(101));
        block.header.validate_pow(Target::from_compact(easy())).unwrap();
    }
}

#[test]
fn hex_is_that_of_the_bytes() {
    let job = Template::new(100, (0..20).map(simple).collect()).accepted();
    let found = solve(&job, &job.prepare_body(), 4);
    let block: Block = bitcoin::consensus::encode::deserialize_hex(&found.hex()).unwrap();
    assert_eq!(serialize(&block), found.raw);
    assert_eq!(found.hex(), bitcoin::consensus::encode::serialize_hex(&block));
}

#[test]
fn branch_alone_makes_the_same_block() {
    let job = Template::new(100, (0..20).map(simple).collect()).accepted();
    let (full, branch) = (job.prepare_body(), job.prepare_branch());
    assert_eq!(solve(&job, &full, 4), solve(&job, &branch, 4));
    let mut shrunk = full.clone();
    shrunk.shrink();
    assert_eq!(shrunk, branch);
    assert!(full.memory_bytes() > branch.memory_bytes() + 1_000);
    assert_eq!(full.merkle_branch().len(), 5);
}

#[test]
fn rolled_version_bits_hold_no_block_back() {
    let job = Template::new(100, vec![simple(1)]).accepted();
    for version in [0, 3, 0x3fff_e004, 0xffff_ffff] {
        let found = solve(&job, &job.prepare_body(), version);
        assert_eq!(found.header.version.to_consensus() as u32, version);
    }
}

#[test]
fn block_on_a_sibling_of_our_tip_is_built() {
    let job = Template::new(100, vec![]).accepted();
    let prev_hash = BlockHash::hash(b"sibling");
    let body = job.prepare_body();
    let found = (0..1_000).find_map(|nonce| {
        let extranonce = &EXTRANONCE;
        let solution = Solution { extranonce, prev_hash, nonce, ntime: TIP_MTP + 1, version: 4 };
        assemble(&job, &body, &solution, easy()).ok()
    });
    assert_eq!(found.unwrap().header.prev_blockhash, prev_hash);
}

#[test]
fn extranonce_fills_the_hole() {
    let job = Template::new(100, vec![]).accepted();
    let body = job.prepare_body();
    for length in [0, 1, 7, 9, 32, 255] {
        let extranonce = vec![0; length];
        let solution = Solution {
            extranonce: &extranonce,
            prev_hash: job.prev_hash(),
            nonce: 0,
            ntime: 0,
            version: 4,
        };
        let error = SolutionError::ExtranonceLength { expected: 8, actual: length };
        assert_eq!(assemble(&job, &body, &solution, easy()), Err(error.clone()));
        assert_eq!(solution_header(&job, &body, &solution, easy()), Err(error));
    }
}

#[test]
fn proposals_are_blocks_without_work() {
    let mut template = Template::new(100, (0..5).map(simple).collect());
    template.tip.next_bits = NextBits {
        regular: CompactTarget::from_consensus(0x1d00_ffff),
        min_difficulty: Some(validation::MinDifficulty { after: TIP_MTP + 9, bits: easy() }),
    };
    let job = template.accepted();
    for (ntime, bits) in [(TIP_MTP + 9, 0x1d00_ffff), (TIP_MTP + 10, EASY_BITS)] {
        let hex = proposal_block_hex(&job, &job.prepare_body(), ntime);
        let block: Block = bitcoin::consensus::encode::deserialize_hex(&hex).unwrap();
        assert!(block.check_merkle_root() && block.check_witness_commitment());
        assert_eq!(block.header.bits, CompactTarget::from_consensus(bits));
        assert_eq!(block.header.time, ntime);
        assert_eq!(block.header.version.to_consensus() as u32, job.version());
        assert_eq!(block.header.prev_blockhash, job.prev_hash());
        assert_eq!(block.txdata[0], template.sealed_coinbase());
    }
}

/// A real block as a declaration, its last eight bytes of scriptSig as the extranonce.
fn real(raw: &[u8], network: Network) -> (Block, Wire, Vec<u8>) {
    let block: Block = deserialize(raw).unwrap();
    let coinbase = &block.txdata[0];
    let (prefix, suffix) = split(coinbase, EXTRANONCE.len());
    let script_sig = coinbase.input[0].script_sig.as_bytes();
    let extranonce = script_sig[script_sig.len() - EXTRANONCE.len()..].to_vec();
    let height = block.bip34_block_height().unwrap() as u32;
    let paid = coinbase.output.iter().max_by_key(|output| output.value).unwrap();
    let wire = Wire {
        tip: ChainTip {
            hash: block.header.prev_blockhash,
            height: height - 1,
            time: block.header.time,
            // At least an hour of blocks lie behind it.
            median_time_past: block.header.time - 3_600,
            next_bits: NextBits::fixed(block.header.bits),
        },
        rules: Rules {
            network,
            payout: Payout::Pool { script: paid.script_pubkey.clone(), min_share_bp: 10_000 },
            imposed_outputs: vec![output(0, paid.script_pubkey.clone())],
        },
        version: block.header.version.to_consensus() as u32,
        prefix,
        suffix,
        wtxids: block.txdata[1..].iter().map(|tx| tx.compute_wtxid()).collect(),
        raw: block.txdata[1..].iter().map(serialize).collect(),
        facts: Vec::new(),
    };
    (block, wire, extranonce)
}

fn comes_out_byte_for_byte(raw: &[u8], network: Network) {
    let (block, wire, extranonce) = real(raw, network);
    let job = wire.verdict().unwrap_or_else(|no| panic!("a real block was refused: {no}"));
    assert_eq!(job.weight_wu(), block.weight().to_wu());
    let solution = Solution {
        extranonce: &extranonce,
        prev_hash: block.header.prev_blockhash,
        nonce: block.header.nonce,
        ntime: block.header.time,
        version: wire.version,
    };
    for body in [job.prepare_body(), job.prepare_branch()] {
        let found = assemble(&job, &body, &solution, block.header.bits).unwrap();
        assert!(found.raw == raw, "the block that was built differs from the real one");
        assert_eq!(found.hash, block.block_hash());
        // One nonce further there is no work in it.
        let miss = Solution { nonce: solution.nonce.wrapping_add(1), ..solution };
        assert!(matches!(
            assemble(&job, &body, &miss, block.header.bits),
            Err(SolutionError::AboveTarget { .. })
        ));
    }
}

const MAINNET: &[u8] = include_bytes!("data/mainnet_segwit_block.raw");
const TESTNET: &[u8] = include_bytes!("data/testnet_segwit_block.raw");

#[test]
fn real_mainnet_block() {
    comes_out_byte_for_byte(MAINNET, Network::Bitcoin);
}

#[test]
fn real_testnet_block() {
    comes_out_byte_for_byte(TESTNET, Network::Testnet);
}

#[test]
fn real_block_changed_is_refused() {
    let (_, wire, _) = real(MAINNET, Network::Bitcoin);
    let mut swapped = wire.clone();
    swapped.wtxids.swap(10, 11);
    swapped.raw.swap(10, 11);
    assert_eq!(swapped.rejected(Reason::WitnessCommitment).code, ErrorCode::InvalidCoinbaseTx);
    let mut dropped = wire.clone();
    dropped.wtxids.pop();
    dropped.rejected(Reason::WitnessCommitment);
    let mut stale = wire.clone();
    stale.tip.height += 1;
    stale.rejected(Reason::CoinbaseHeight);
    let mut withheld = wire.clone();
    withheld.raw.pop();
    assert_eq!(
        withheld.rejected(Reason::TransactionMissing).index,
        Some(wire.wtxids.len() as u32 - 1)
    );
}
