//! The first blocks of the private signet, mined once and kept as a list of nonces.
//!
//! A signet block costs a CPU seconds, and coins of a coinbase can be spent a hundred blocks
//! later: without these every start would take minutes. All of a block but its nonce follows
//! from its height, so the file `data/signet-nonces.txt` holds one nonce a line. It was made by
//! `cargo run --release -p jds-signet --example premine > signet/data/signet-nonces.txt`.

use bitcoin::constants::genesis_block;
use bitcoin::{Block, Network, Target};

use crate::block::{BlockPlan, subsidy_sat};
use crate::coin::{Coin, anyone_can_spend};
use crate::error::NodeError;
use crate::grind::grind;
use crate::node::{Chain, Node};

/// Blocks that every private signet starts with: 20 coinbases of them can be spent at once.
pub const PREMINED_BLOCKS: u32 = 120;
/// Header time from block to block, seconds.
const BLOCK_INTERVAL_SECS: u32 = 600;

const NONCES: &str = include_str!("../data/signet-nonces.txt");

/// The block at `height` on `prev`, without its nonce.
fn unsolved(prev: &Block, height: u32) -> Block {
    let genesis = genesis_block(Network::Signet).header;
    BlockPlan {
        prev_hash: prev.block_hash(),
        height,
        bits: genesis.bits,
        time: genesis.time + height * BLOCK_INTERVAL_SECS,
        payout: &Coin::script_pubkey_of(&anyone_can_spend()),
        value_sat: subsidy_sat(height, Chain::Signet.halving_interval()),
        extra: b"premined",
        txs: Vec::new(),
    }
    .assemble()
}

/// The premined blocks, from height 1 on.
///
/// # Errors
/// The list of nonces does not fit these blocks: it has to be made anew.
pub fn premined_blocks() -> Result<Vec<Block>, NodeError> {
    let mut prev = genesis_block(Network::Signet);
    let mut blocks = Vec::with_capacity(PREMINED_BLOCKS as usize);
    for (line, height) in NONCES.lines().zip(1..) {
        let mut block = unsolved(&prev, height);
        let fits = line.parse().is_ok_and(|nonce| {
            block.header.nonce = nonce;
            Target::from_compact(block.header.bits).is_met_by(block.block_hash())
        });
        if !fits {
            return Err(NodeError::Impossible(format!(
                "line {height} of signet-nonces.txt, {line:?}, is no proof of work for its block"
            )));
        }
        blocks.push(block.clone());
        prev = block;
    }
    Ok(blocks)
}

/// Mines the premined blocks, which takes minutes; `found` is told each height and nonce.
///
/// # Errors
/// No nonce does for a block.
pub fn mine_premined(threads: usize, mut found: impl FnMut(u32, u32)) -> Result<(), NodeError> {
    let mut prev = genesis_block(Network::Signet);
    for height in 1..=PREMINED_BLOCKS {
        let mut block = unsolved(&prev, height);
        let target = Target::from_compact(block.header.bits);
        block.header.nonce = grind(&block.header, target, threads).ok_or_else(|| {
            NodeError::Impossible(format!("no nonce solves the premined block {height}"))
        })?;
        found(height, block.header.nonce);
        prev = block;
    }
    Ok(())
}

/// Gives a node the premined blocks.
pub(crate) fn load(node: &Node) -> Result<(), NodeError> {
    for block in premined_blocks()? {
        node.submit(&block)?;
    }
    Ok(())
}
