//! From an accepted job and a solution to a block, as bytes and as hex for a node.

use bitcoin::block::{Header, Version};
use bitcoin::consensus::{Encodable, encode};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, Target, TxMerkleNode, Txid};

use crate::job::AcceptedJob;
use crate::merkle;

/// What a solution needs besides the job, computed ahead so that a found block waits for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockBody {
    /// Hashes beside the coinbase's path in the merkle tree of txids, bottom up.
    branch: Box<[[u8; 32]]>,
    /// All transactions but the coinbase, serialised; `None` when they are to be gathered from
    /// the job at the time.
    rest: Option<Box<[u8]>>,
}

impl BlockBody {
    /// Hashes beside the coinbase's path in the merkle tree of txids, bottom up (the
    /// `merkle_path` of a mining job, SV2 5.3.16).
    pub fn merkle_branch(&self) -> &[[u8; 32]] {
        &self.branch
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + size_of_val(self.branch.as_ref())
            + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    /// Gives the serialised transactions back: the branch alone is some hundred bytes, and
    /// [`assemble`] gathers the transactions from the job instead.
    pub fn shrink(&mut self) {
        self.rest = None;
    }

    /// Root of the merkle tree with that coinbase.
    pub fn merkle_root(&self, coinbase_txid: Txid) -> TxMerkleNode {
        let root = merkle::root_from_branch(coinbase_txid.to_byte_array(), &self.branch);
        TxMerkleNode::from_byte_array(root)
    }
}

impl AcceptedJob {
    /// Computes the merkle branch and serialises the transactions: about a merkle tree over all
    /// txids and one copy of the block. Meant for a background thread, right after the reply.
    pub fn prepare_body(&self) -> BlockBody {
        let mut rest = Vec::with_capacity(self.rest_bytes());
        self.write_rest(&mut rest);
        BlockBody { rest: Some(rest.into()), ..self.prepare_branch() }
    }

    /// As [`Self::prepare_body`], the merkle branch alone: some hundred bytes of memory, and a
    /// copy of the block at the time of the solution.
    pub fn prepare_branch(&self) -> BlockBody {
        let txids = self.txs.iter().map(|tx| tx.txid().to_byte_array());
        BlockBody { branch: merkle::branch_of_first(txids).into(), rest: None }
    }

    fn rest_bytes(&self) -> usize {
        self.txs.iter().map(|tx| tx.raw().len()).sum()
    }

    fn write_rest(&self, bytes: &mut Vec<u8>) {
        for tx in &self.txs {
            bytes.extend_from_slice(tx.raw());
        }
    }
}

/// What `PushSolution` carries (SV2 6.4.9). Its nBits are left out on purpose: a solution is
/// judged against what our own node demands.
#[derive(Debug, Clone, Copy)]
pub struct Solution<'a> {
    /// The full extranonce.
    pub extranonce: &'a [u8],
    /// Hash of the block before.
    pub prev_hash: BlockHash,
    /// nNonce.
    pub nonce: u32,
    /// nTime, Unix seconds.
    pub ntime: u32,
    /// nVersion, whatever bits were rolled: a hash that makes a block is a block.
    pub version: u32,
}

/// Why a job and a solution make no block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SolutionError {
    /// The extranonce does not fill the hole in the coinbase.
    #[error("extranonce has {actual} bytes, the job declared {expected}")]
    ExtranonceLength {
        /// Bytes that the declared coinbase leaves for it.
        expected: usize,
        /// Bytes that came.
        actual: usize,
    },
    /// The header's hash is above the target.
    #[error("block hash {hash} is above the target {target:x}")]
    AboveTarget {
        /// The hash.
        hash: BlockHash,
        /// The network's target.
        target: Target,
    },
}

/// A block that meets the network's target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundBlock {
    /// Its hash.
    pub hash: BlockHash,
    /// Its header.
    pub header: Header,
    /// The whole block in consensus encoding.
    pub raw: Vec<u8>,
    /// Transactions in it, the coinbase included.
    pub tx_count: usize,
    /// The txid of its coinbase.
    pub coinbase_txid: Txid,
}

impl AsRef<[u8]> for FoundBlock {
    fn as_ref(&self) -> &[u8] {
        &self.raw
    }
}

impl FoundBlock {
    /// The whole block as hex, the argument of `submitblock`.
    pub fn hex(&self) -> String {
        to_hex(&self.raw)
    }
}

/// Hash of the header that a solution makes with a job, or why it has none. Cheap: no transaction
/// is touched, so a solution can be tried on many jobs.
///
/// # Errors
/// [`SolutionError::ExtranonceLength`].
pub fn solution_header(
    job: &AcceptedJob,
    body: &BlockBody,
    solution: &Solution<'_>,
    bits: CompactTarget,
) -> Result<(Header, Txid), SolutionError> {
    let (expected, actual) = (job.coinbase.extranonce_len(), solution.extranonce.len());
    if actual != expected {
        return Err(SolutionError::ExtranonceLength { expected, actual });
    }
    let coinbase_txid = job.coinbase.txid_with(solution.extranonce);
    let header = Header {
        version: Version::from_consensus(solution.version as i32),
        prev_blockhash: solution.prev_hash,
        merkle_root: body.merkle_root(coinbase_txid),
        time: solution.ntime,
        bits,
        nonce: solution.nonce,
    };
    Ok((header, coinbase_txid))
}

/// Builds the block of a solution, if its hash meets the target. `bits` is what our node demands
/// of a block on `solution.prev_hash` at `solution.ntime`.
///
/// # Errors
/// [`SolutionError`]: the extranonce does not fit, or the hash is above the target. Nothing else
/// is a reason to hold a block back.
pub fn assemble(
    job: &AcceptedJob,
    body: &BlockBody,
    solution: &Solution<'_>,
    bits: CompactTarget,
) -> Result<FoundBlock, SolutionError> {
    let (header, coinbase_txid) = solution_header(job, body, solution, bits)?;
    let (hash, target) = (header.block_hash(), Target::from_compact(bits));
    if !target.is_met_by(hash) {
        return Err(SolutionError::AboveTarget { hash, target });
    }
    let raw = serialise(job, body, &header, solution.extranonce);
    Ok(FoundBlock { hash, header, raw, tx_count: job.tx_count(), coinbase_txid })
}

/// The block of a header whose proof of work is known, with a coinbase that is put together
/// already: the job's halves with some extranonce between them.
pub fn with_coinbase(
    job: &AcceptedJob,
    body: &BlockBody,
    header: &Header,
    coinbase: &[u8],
) -> FoundBlock {
    let (start, len) = (job.coinbase.prefix().len(), job.coinbase.extranonce_len());
    let extranonce = coinbase.get(start..start + len).unwrap_or_default();
    FoundBlock {
        hash: header.block_hash(),
        header: *header,
        raw: serialise_with(job, body, header, coinbase),
        tx_count: job.tx_count(),
        coinbase_txid: job.coinbase.txid_with(extranonce),
    }
}

/// The job's block as hex for a BIP 23 proposal: an extranonce of zeros and no work, on the tip
/// of the verdict, at time `ntime` (Unix seconds).
pub fn proposal_block_hex(job: &AcceptedJob, body: &BlockBody, ntime: u32) -> String {
    let extranonce = vec![0; job.coinbase.extranonce_len()];
    let header = Header {
        version: Version::from_consensus(job.version as i32),
        prev_blockhash: job.prev_hash(),
        merkle_root: body.merkle_root(job.coinbase.txid_with(&extranonce)),
        time: ntime,
        bits: job.tip.next_bits.at(ntime),
        nonce: 0,
    };
    to_hex(&serialise(job, body, &header, &extranonce))
}

fn serialise(job: &AcceptedJob, body: &BlockBody, header: &Header, extranonce: &[u8]) -> Vec<u8> {
    let mut coinbase = Vec::with_capacity(
        job.coinbase.prefix().len() + extranonce.len() + job.coinbase.suffix().len(),
    );
    job.coinbase.write_with(extranonce, &mut coinbase);
    serialise_with(job, body, header, &coinbase)
}

fn serialise_with(
    job: &AcceptedJob,
    body: &BlockBody,
    header: &Header,
    coinbase: &[u8],
) -> Vec<u8> {
    let count = encode::VarInt(job.tx_count() as u64);
    let rest_bytes = body.rest.as_ref().map_or_else(|| job.rest_bytes(), |rest| rest.len());
    let mut raw = Vec::with_capacity(Header::SIZE + count.size() + coinbase.len() + rest_bytes);
    // Writing to memory does not fail.
    let _ = header.consensus_encode(&mut raw);
    let _ = count.consensus_encode(&mut raw);
    raw.extend_from_slice(coinbase);
    match &body.rest {
        Some(rest) => raw.extend_from_slice(rest),
        None => job.write_rest(&mut raw),
    }
    raw
}

/// Lower-case hex, a few times faster than digit by digit: a block has millions of them.
pub fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
    let mut digits = vec![0; 2 * bytes.len()];
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 0xf)];
    }
    // Digits are ASCII: no byte is lost.
    String::from_utf8(digits).unwrap_or_default()
}
