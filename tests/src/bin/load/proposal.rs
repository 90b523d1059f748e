//! Templates of many miners, cut from one node's template: each with other transactions in another
//! order, and if wanted with some that only this miner has.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, ensure};
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{
    BlockHash, CompactTarget, ScriptBuf, Target, Transaction, TxMerkleNode, TxOut, WPubkeyHash,
    Wtxid,
};
use jds::client::template::{BLOCK_VERSION, MinerTemplate};
use jds_tests::bench::Material;
use rand::Rng;
use rand::seq::SliceRandom;
use validation::merkle;
use validation::tx::Tx;

/// Length of the full extranonce, bytes.
const EXTRANONCE_BYTES: usize = 16;
/// Length of the tag in front of the extranonce by which declarations differ, bytes.
const TAG_BYTES: usize = 8;
/// A witness commitment up to the hash (BIP 141).
const COMMITMENT_HEAD: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// What templates are cut from.
#[derive(Debug)]
pub(crate) struct Stock {
    material: Material,
    /// Transactions that spend or are spent by others of the stock; they stay, in their order.
    bound: Vec<usize>,
    /// The others.
    free: Vec<usize>,
}

/// A miner's template.
#[derive(Debug)]
pub(crate) struct Proposal {
    stock: Arc<Stock>,
    outputs: Vec<TxOut>,
    txs: Vec<Arc<Tx>>,
    fees_sat: u64,
    commitment: ScriptBuf,
    /// Of the block that would be mined.
    pub(crate) height: u32,
    /// Of the transactions, as they are declared.
    pub(crate) wtxids: Vec<[u8; 32]>,
    /// The coinbase up to the extranonce.
    pub(crate) prefix: Vec<u8>,
    /// And behind it.
    pub(crate) suffix: Vec<u8>,
}

/// A block header of a proposal that meets its target.
#[derive(Debug)]
pub(crate) struct Solution {
    pub(crate) header: Header,
    pub(crate) extranonce: Vec<u8>,
}

impl Stock {
    pub(crate) fn new(material: Material) -> Self {
        let txids: HashSet<_> = material.txs.iter().map(|tx| tx.txid()).collect();
        let spent: HashSet<_> = material
            .txs
            .iter()
            .flat_map(|tx| tx.inputs().iter().map(|input| input.outpoint.txid))
            .collect();
        let is_bound = |tx: &Tx| {
            spent.contains(&tx.txid())
                || tx.inputs().iter().any(|input| txids.contains(&input.outpoint.txid))
        };
        let (bound, free) = (0..material.txs.len())
            .partition(|index| material.txs.get(*index).is_some_and(|tx| is_bound(tx)));
        Self { material, bound, free }
    }

    /// Height of the block to be mined when it was fetched.
    pub(crate) fn height(&self) -> u32 {
        self.material.height
    }

    /// How many transactions there are.
    pub(crate) fn len(&self) -> usize {
        self.material.txs.len()
    }

    /// `count` of the transactions.
    fn cut(&self, count: usize, rng: &mut impl Rng) -> anyhow::Result<Vec<Arc<Tx>>> {
        let chosen = count.checked_sub(self.bound.len()).with_context(|| {
            format!("{} of the node's transactions hang together", self.bound.len())
        })?;
        ensure!(chosen <= self.free.len(), "the node has {} transactions", self.len());
        let mut free = self.free.clone();
        let (picked, _) = free.partial_shuffle(rng, chosen);
        let all = self.bound.iter().chain(picked.iter());
        Ok(all.filter_map(|index| self.material.txs.get(*index).cloned()).collect())
    }
}

impl Proposal {
    /// `count` transactions of the stock, of which `unknown` are replaced by others that pay the same.
    /// The coinbase pays `outputs`, those of a token.
    pub(crate) fn new(
        stock: &Arc<Stock>,
        outputs: Vec<TxOut>,
        count: usize,
        unknown: usize,
        rng: &mut impl Rng,
    ) -> anyhow::Result<Self> {
        let mut txs = stock.cut(count, rng)?;
        let facts = |tx: &Arc<Tx>| tx.node_facts().context("a fee that the node did not tell");
        let fees_sat = txs.iter().map(|tx| Ok(facts(tx)?.fee_sat)).sum::<anyhow::Result<u64>>()?;
        // The free ones come last.
        for tx in txs.iter_mut().rev().take(unknown) {
            *tx = Arc::new(twin(tx, rng)?);
        }
        let ids: Vec<Wtxid> = txs.iter().map(|tx| tx.wtxid()).collect();
        let mut proposal = Self {
            stock: Arc::clone(stock),
            outputs,
            fees_sat,
            commitment: commitment(merkle::witness_root(&ids)),
            height: 0,
            wtxids: ids.iter().map(|id| id.to_byte_array()).collect(),
            txs,
            prefix: Vec::new(),
            suffix: Vec::new(),
        };
        proposal.rise_to(stock.height());
        Ok(proposal)
    }

    /// Makes it a template of that height, with the same transactions.
    pub(crate) fn rise_to(&mut self, height: u32) {
        if self.height == height {
            return;
        }
        self.height = height;
        let subsidy_sat = validation::subsidy(self.stock.material.network, height).to_sat();
        let (value_sat, outputs) = (subsidy_sat + self.fees_sat, self.outputs.clone());
        let mut template =
            MinerTemplate::new(height, value_sat, outputs, Vec::new(), EXTRANONCE_BYTES);
        if let Some(last) = template.coinbase.output.last_mut() {
            last.script_pubkey = self.commitment.clone();
        }
        if let Some(input) = template.coinbase.input.first_mut() {
            let mut script = input.script_sig.to_bytes();
            // A push of the tag, before the push of the extranonce.
            let at = script.len().saturating_sub(EXTRANONCE_BYTES + 1);
            script.splice(at..at, [TAG_BYTES as u8; 1 + TAG_BYTES]);
            input.script_sig = ScriptBuf::from_bytes(script);
        }
        (self.prefix, self.suffix) = template.halves();
    }

    /// Makes it one that nobody declared before.
    pub(crate) fn renew(&mut self) {
        static DECLARATIONS: AtomicU64 = AtomicU64::new(0);
        let number = DECLARATIONS.fetch_add(1, Ordering::Relaxed);
        let tag = (u64::from(std::process::id()) << 32 | number & 0xffff_ffff).to_be_bytes();
        let end = self.prefix.len().saturating_sub(1);
        if let Some(place) = self.prefix.get_mut(end.saturating_sub(TAG_BYTES)..end) {
            place.copy_from_slice(&tag);
        }
    }

    /// Header version.
    pub(crate) fn version(&self) -> u32 {
        BLOCK_VERSION
    }

    /// The transaction at a position, as it is supplied.
    pub(crate) fn raw_tx(&self, position: u16) -> Vec<u8> {
        self.txs.get(usize::from(position)).map(|tx| tx.raw().to_vec()).unwrap_or_default()
    }

    /// Searches a proof of work on that block; easy on the chains that this is for.
    pub(crate) fn solve(
        &self,
        prev_blockhash: BlockHash,
        time: u32,
        bits: CompactTarget,
        rng: &mut impl Rng,
    ) -> anyhow::Result<Solution> {
        let extranonce = rng.r#gen::<[u8; EXTRANONCE_BYTES]>().to_vec();
        let bytes = [&self.prefix[..], &extranonce, &self.suffix].concat();
        let coinbase: Transaction = deserialize(&bytes).context("the coinbase of a template")?;
        let branch = merkle::branch_of_first(self.txs.iter().map(|tx| *tx.txid().as_ref()));
        let root = merkle::root_from_branch(coinbase.compute_txid().to_byte_array(), &branch);
        let mut header = Header {
            version: Version::from_consensus(self.version() as i32),
            prev_blockhash,
            merkle_root: TxMerkleNode::from_byte_array(root),
            time,
            bits,
            nonce: 0,
        };
        header.nonce = signet::grind(&header, Target::from_compact(bits), 1).context("a nonce")?;
        Ok(Solution { header, extranonce })
    }
}

/// A transaction that spends and pays the same, to somebody else.
fn twin(tx: &Tx, rng: &mut impl Rng) -> anyhow::Result<Tx> {
    let mut twin: Transaction = deserialize(tx.raw()).context("a transaction of the node")?;
    if let Some(output) = twin.output.first_mut() {
        let nobody = WPubkeyHash::from_byte_array(rng.r#gen());
        output.script_pubkey = ScriptBuf::new_p2wpkh(&nobody);
    }
    Ok(Tx::parse(&serialize(&twin))?)
}

/// The output script that commits to the witnesses of a block (BIP 141).
fn commitment(witness_root: [u8; 32]) -> ScriptBuf {
    let hash = sha256d::Hash::hash([witness_root, [0; 32]].as_flattened());
    ScriptBuf::from_bytes([&COMMITMENT_HEAD[..], hash.as_byte_array()].concat())
}
