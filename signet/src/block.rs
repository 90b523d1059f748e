//! Blocks put together by hand: coinbase, witness commitment, merkle root, proof of work.

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::OP_RETURN;
use bitcoin::script::Builder;
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, Script, ScriptBuf, Sequence, Target,
    Transaction, TxIn, TxMerkleNode, TxOut, Witness, WitnessMerkleNode, absolute::LockTime,
};

use crate::error::NodeError;
use crate::grind::grind;

/// Value of the first coinbase of every chain, satoshi.
const FIRST_SUBSIDY_SAT: u64 = 5_000_000_000;
/// Halvings after which nothing is left of the subsidy.
const HALVINGS_MAX: u32 = 64;
/// What a witness commitment output starts with (BIP 141), after `OP_RETURN` and the push.
const COMMITMENT_MAGIC: [u8; 4] = [0xaa, 0x21, 0xa9, 0xed];
/// Witness reserved value of the coinbase (BIP 141).
const RESERVED_VALUE: [u8; 32] = [0; 32];
/// BIP 9 version without signals.
const BLOCK_VERSION: i32 = 0x2000_0000;
/// Header times tried, in seconds after the wanted one, when no nonce meets the target.
const TIME_ROLLS_MAX: u32 = 600;

/// What a block by hand is made of.
#[derive(Debug)]
pub(crate) struct BlockPlan<'a> {
    pub(crate) prev_hash: BlockHash,
    pub(crate) height: u32,
    pub(crate) bits: CompactTarget,
    /// Header time, Unix seconds.
    pub(crate) time: u32,
    pub(crate) payout: &'a Script,
    pub(crate) value_sat: u64,
    /// Bytes after the height in the coinbase script.
    pub(crate) extra: &'a [u8],
    pub(crate) txs: Vec<Transaction>,
}

/// Block subsidy at `height`, satoshi, on a chain that halves every `interval` blocks (150 on
/// regtest, 210,000 elsewhere).
pub fn subsidy_sat(height: u32, interval: u32) -> u64 {
    let halvings = height / interval.max(1);
    if halvings >= HALVINGS_MAX { 0 } else { FIRST_SUBSIDY_SAT >> halvings }
}

/// Puts a block together over `txs`, in their order: header with merkle root, the coinbase as
/// given first. The nonce is left at zero.
pub fn assemble_block(
    prev_hash: BlockHash,
    bits: CompactTarget,
    time: u32,
    coinbase: Transaction,
    txs: Vec<Transaction>,
) -> Block {
    let mut txdata = Vec::with_capacity(txs.len() + 1);
    txdata.push(coinbase);
    txdata.extend(txs);
    let mut block = Block {
        header: Header {
            version: Version::from_consensus(BLOCK_VERSION),
            prev_blockhash: prev_hash,
            merkle_root: TxMerkleNode::all_zeros(),
            time,
            bits,
            nonce: 0,
        },
        txdata,
    };
    if let Some(root) = block.compute_merkle_root() {
        block.header.merkle_root = root;
    }
    block
}

impl BlockPlan<'_> {
    /// The block, with everything but the proof of work.
    pub(crate) fn assemble(self) -> Block {
        let coinbase = self.coinbase();
        let mut block = assemble_block(self.prev_hash, self.bits, self.time, coinbase, self.txs);
        // The root over wtxids takes zero for the coinbase, so it can be had from the block itself.
        let root = block.witness_root().unwrap_or_else(WitnessMerkleNode::all_zeros);
        let commitment = Block::compute_witness_commitment(&root, &RESERVED_VALUE);
        if let Some(output) =
            block.txdata.first_mut().and_then(|coinbase| coinbase.output.last_mut())
        {
            let mut data = [0; 36];
            data[..4].copy_from_slice(&COMMITMENT_MAGIC);
            data[4..].copy_from_slice(commitment.as_byte_array());
            output.script_pubkey =
                Builder::new().push_opcode(OP_RETURN).push_slice(data).into_script();
        }
        if let Some(root) = block.compute_merkle_root() {
            block.header.merkle_root = root;
        }
        block
    }

    fn coinbase(&self) -> Transaction {
        let mut script = Builder::new().push_int(i64::from(self.height)).into_script();
        let mut extra = bitcoin::script::PushBytesBuf::new();
        // Never longer than the 100 bytes that a coinbase script may have.
        let room = self.extra.iter().take(90).copied().collect::<Vec<u8>>();
        if extra.extend_from_slice(&room).is_ok() {
            script.push_slice(extra);
        }
        Transaction {
            version: TxVersion::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig: script,
                sequence: Sequence::MAX,
                witness: Witness::from_slice(&[RESERVED_VALUE]),
            }],
            output: vec![
                TxOut {
                    value: Amount::from_sat(self.value_sat),
                    script_pubkey: self.payout.to_owned(),
                },
                TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new() },
            ],
        }
    }
}

/// Gives `block` its proof of work; moves the header time on when no nonce does.
pub(crate) fn solve(block: &mut Block, threads: usize) -> Result<(), NodeError> {
    let target = Target::from_compact(block.header.bits);
    for _ in 0..TIME_ROLLS_MAX {
        if let Some(nonce) = grind(&block.header, target, threads) {
            block.header.nonce = nonce;
            return Ok(());
        }
        block.header.time = block.header.time.saturating_add(1);
    }
    Err(NodeError::Impossible(format!(
        "no proof of work for bits {:#010x} in {TIME_ROLLS_MAX} rounds of all nonces",
        block.header.bits.to_consensus()
    )))
}
