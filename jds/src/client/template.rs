//! The miner's template: transactions, a coinbase with a hole for the extranonce, and the block
//! that a solution makes of them. Everything is open to change, so that tests can break it.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::OP_RETURN;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Target, Transaction,
    TxIn, TxMerkleNode, TxOut, Witness, WitnessMerkleNode, transaction,
};

/// Header version with no signals (BIP 9).
pub const BLOCK_VERSION: u32 = 0x2000_0000;
/// The witness reserved value that everybody uses (BIP 141).
const RESERVED_VALUE: [u8; 32] = [0; 32];
/// First bytes of a witness commitment (BIP 141).
const COMMITMENT_MAGIC: [u8; 4] = [0xaa, 0x21, 0xa9, 0xed];

/// A template as its miner holds it.
#[derive(Debug, Clone)]
pub struct MinerTemplate {
    /// Header version.
    pub version: u32,
    /// The coinbase with zeros where the extranonce goes: the last `extranonce_bytes` of its
    /// script.
    pub coinbase: Transaction,
    /// Length of the full extranonce.
    pub extranonce_bytes: usize,
    /// The transactions in block order, without the coinbase.
    pub txs: Vec<Transaction>,
}

/// A solution together with the block that it makes.
#[derive(Debug, Clone)]
pub struct Solved {
    /// The full extranonce.
    pub extranonce: Vec<u8>,
    /// The block, proof of work included.
    pub block: Block,
}

impl MinerTemplate {
    /// A template of `txs` at `height`: the first of `outputs` gets `value_sat`, the others stay
    /// as they are, and a witness commitment comes last.
    pub fn new(
        height: u32,
        value_sat: u64,
        mut outputs: Vec<TxOut>,
        txs: Vec<Transaction>,
        extranonce_bytes: usize,
    ) -> Self {
        if let Some(first) = outputs.first_mut() {
            first.value = Amount::from_sat(value_sat);
        }
        outputs.push(commitment(&txs));
        // The push opcode in front of the extranonce is a habit of mining software, not a rule.
        let mut script = Builder::new().push_int(i64::from(height)).into_bytes();
        script.push(extranonce_bytes as u8);
        script.resize(script.len() + extranonce_bytes, 0);
        let coinbase = Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::from_consensus(height.saturating_sub(1)),
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig: ScriptBuf::from_bytes(script),
                sequence: Sequence::ENABLE_LOCKTIME_NO_RBF,
                witness: Witness::from_slice(&[RESERVED_VALUE]),
            }],
            output: outputs,
        };
        Self { version: BLOCK_VERSION, coinbase, extranonce_bytes, txs }
    }

    /// Puts the commitment to the present transactions into the last output again.
    pub fn refresh_commitment(&mut self) {
        if let Some(last) = self.coinbase.output.last_mut() {
            *last = commitment(&self.txs);
        }
    }

    /// The coinbase's two halves, with the extranonce cut out (SV2 6.4.4).
    pub fn halves(&self) -> (Vec<u8>, Vec<u8>) {
        let bytes = serialize(&self.coinbase);
        let input = self.coinbase.input.first();
        let script_bytes = input.map_or(0, |input| input.script_sig.len());
        let segwit = input.is_some_and(|input| !input.witness.is_empty());
        // Version, marker and flag, input count, outpoint, script length (one byte: at most 100).
        let script_start = 4 + if segwit { 2 } else { 0 } + 1 + 36 + 1;
        let hole_end = (script_start + script_bytes).min(bytes.len());
        let hole_start = hole_end.saturating_sub(self.extranonce_bytes);
        let prefix = bytes.get(..hole_start).unwrap_or_default().to_vec();
        let suffix = bytes.get(hole_end..).unwrap_or_default().to_vec();
        (prefix, suffix)
    }

    /// The ids to declare, bytes as they are hashed.
    pub fn wtxids(&self) -> Vec<[u8; 32]> {
        self.txs.iter().map(|tx| tx.compute_wtxid().to_byte_array()).collect()
    }

    /// The transaction at a position, as `ProvideMissingTransactions.Success` carries it.
    pub fn raw_tx(&self, position: u16) -> Vec<u8> {
        self.txs.get(usize::from(position)).map(serialize).unwrap_or_default()
    }

    /// The block with this extranonce, nonce 0.
    pub fn block(
        &self,
        extranonce: &[u8],
        prev_hash: BlockHash,
        time: u32,
        bits: CompactTarget,
    ) -> Block {
        let mut coinbase = self.coinbase.clone();
        if let Some(input) = coinbase.input.first_mut() {
            let mut script = input.script_sig.to_bytes();
            script.truncate(script.len().saturating_sub(self.extranonce_bytes));
            script.extend_from_slice(extranonce);
            input.script_sig = ScriptBuf::from_bytes(script);
        }
        let mut block = Block {
            header: Header {
                version: Version::from_consensus(self.version as i32),
                prev_blockhash: prev_hash,
                merkle_root: TxMerkleNode::all_zeros(),
                time,
                bits,
                nonce: 0,
            },
            txdata: std::iter::once(coinbase).chain(self.txs.iter().cloned()).collect(),
        };
        if let Some(root) = block.compute_merkle_root() {
            block.header.merkle_root = root;
        }
        block
    }

    /// Searches a proof of work on all cores; `None` when no nonce has one (practically never on
    /// the chains that this is for).
    pub fn solve(
        &self,
        extranonce: &[u8],
        prev_hash: BlockHash,
        time: u32,
        bits: CompactTarget,
    ) -> Option<Solved> {
        let mut block = self.block(extranonce, prev_hash, time, bits);
        let target = Target::from_compact(bits);
        block.header.nonce = signet::grind(&block.header, target, signet::default_threads())?;
        Some(Solved { extranonce: extranonce.to_vec(), block })
    }
}

/// The witness commitment output for these transactions (BIP 141).
fn commitment(txs: &[Transaction]) -> TxOut {
    let leaves = std::iter::once(WitnessMerkleNode::all_zeros())
        .chain(txs.iter().map(|tx| WitnessMerkleNode::from(tx.compute_wtxid())));
    let root = bitcoin::merkle_tree::calculate_root(leaves);
    let root = root.unwrap_or_else(WitnessMerkleNode::all_zeros);
    let hash = Block::compute_witness_commitment(&root, &RESERVED_VALUE);
    let mut data = PushBytesBuf::new();
    for byte in COMMITMENT_MAGIC.into_iter().chain(hash.to_byte_array()) {
        // 36 bytes are far below what a push can hold.
        let _ = data.push(byte);
    }
    let script_pubkey = Builder::new().push_opcode(OP_RETURN).push_slice(data).into_script();
    TxOut { value: Amount::ZERO, script_pubkey }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(height: u32, extranonce_bytes: usize) -> MinerTemplate {
        let output =
            TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(vec![0x51]) };
        MinerTemplate::new(height, 5_000_000_000, vec![output], vec![], extranonce_bytes)
    }

    #[test]
    fn the_halves_and_an_extranonce_make_the_coinbase_of_the_block() {
        for (height, extranonce_bytes) in [(1, 1), (17, 8), (200, 20), (900_000, 32)] {
            let template = template(height, extranonce_bytes);
            let extranonce: Vec<u8> = (0..extranonce_bytes as u8).map(|n| n + 1).collect();
            let (prefix, suffix) = template.halves();
            let bytes = [prefix, extranonce.clone(), suffix].concat();
            let block = template.block(
                &extranonce,
                BlockHash::all_zeros(),
                1,
                CompactTarget::from_consensus(0x207f_ffff),
            );
            assert_eq!(bytes, serialize(&block.txdata[0]));
            assert!(block.check_merkle_root() && block.check_witness_commitment());
        }
    }

    #[test]
    fn a_solution_meets_its_target() {
        let bits = CompactTarget::from_consensus(0x207f_ffff);
        let solved = template(1, 8).solve(&[7; 8], BlockHash::all_zeros(), 1, bits).unwrap();
        assert!(Target::from_compact(bits).is_met_by(solved.block.block_hash()));
    }
}
