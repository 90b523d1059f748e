//! A template as clients are sent it, and the block that a solution makes of it.
#![deny(clippy::indexing_slicing)]

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bitcoin::block::{Header, Version};
use bitcoin::consensus::{Encodable, deserialize, serialize};
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::script::Builder;
use bitcoin::{
    Amount, CompactTarget, ScriptBuf, Target, Transaction, TxMerkleNode, TxOut, Txid, VarInt,
    Witness,
};
use jds_wire::message::EncodeError;
use jds_wire::message::template::{
    NewTemplate, RequestTransactionDataSuccess, SetNewPrevHash, TemplateServerMessage,
};
use tdp_client::{Provider, ProviderSolution, ProviderTemplate};
use validation::block::FoundBlock;
use validation::merkle;
use validation::tip::ChainTip;
use validation::tx::Tx;

/// nVersion of the coinbase.
const COINBASE_VERSION: u32 = 2;
/// nSequence of the coinbase's input: not final, so that its lock time counts (BIP 54).
const COINBASE_SEQUENCE: u32 = 0xffff_fffe;
/// What the witness commitment commits to besides the witnesses (BIP 141).
const WITNESS_RESERVED: [u8; 32] = [0; 32];
/// `OP_RETURN`, a push of 36 bytes, and the mark of a witness commitment (BIP 141).
const COMMITMENT_HEAD: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
/// Block times are not before the parent's by more than this at the border of a difficulty period
/// (BIP 94), seconds.
const BORDER_LEEWAY_S: u32 = 600;

/// A template provider's own template.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Who gave it.
    pub provider: Provider,
    /// What it is there.
    pub template: ProviderTemplate,
}

/// What a template is made of.
#[derive(Debug)]
pub struct Facts {
    /// The template provider that takes solutions of it, if it is one's own template, whole.
    pub origin: Option<Origin>,
    /// As clients name it.
    pub id: u64,
    /// Number of the view that it is cut from.
    pub view: u64,
    /// The block that it builds on.
    pub tip: ChainTip,
    /// nVersion of the header.
    pub version: u32,
    /// Subsidy and the fees of its transactions, satoshi.
    pub value_sat: u64,
    /// Transactions, of which it has the first `count`.
    pub txs: Arc<[Arc<Tx>]>,
    /// See `txs`.
    pub count: usize,
    /// Over their wtxids, the coinbase's counted as zero.
    pub witness_root: [u8; 32],
    /// Beside the coinbase's path in the tree of txids, bottom up.
    pub merkle_path: Box<[[u8; 32]]>,
}

/// A template, and its message, encoded once for all who are sent it.
#[derive(Debug)]
pub struct Built {
    facts: Facts,
    future: Arc<[u8]>,
    present: Arc<[u8]>,
    /// The message with its transactions, while anybody is being sent it.
    data: Mutex<Option<Weak<[u8]>>>,
}

/// Why a template and a solution make no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoBlock {
    /// The coinbase is no transaction.
    #[error("the coinbase does not decode")]
    Coinbase,
    /// Not enough work.
    #[error("its hash is above the target")]
    AboveTarget,
}

/// The header and coinbase of a solution (SV2 7.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateSolution {
    /// nVersion.
    pub version: u32,
    /// nTime, Unix seconds.
    pub ntime: u32,
    /// nNonce.
    pub nonce: u32,
    /// The whole coinbase transaction, with its witness or without.
    pub coinbase: Vec<u8>,
}

impl Built {
    /// Encodes the message.
    pub fn new(facts: Facts) -> Self {
        let message = |future| facts.new_template(future).unwrap_or_default().into();
        let (future, present) = (message(true), message(false));
        Self { future, present, facts, data: Mutex::default() }
    }

    /// As clients name it.
    pub fn id(&self) -> u64 {
        self.facts.id
    }

    /// Number of the view that it is cut from.
    pub fn view(&self) -> u64 {
        self.facts.view
    }

    /// The block that it builds on.
    pub fn tip(&self) -> &ChainTip {
        &self.facts.tip
    }

    /// Subsidy and fees, satoshi.
    pub fn value_sat(&self) -> u64 {
        self.facts.value_sat
    }

    /// Its transactions in block order, without the coinbase.
    pub fn txs(&self) -> &[Arc<Tx>] {
        self.facts.txs.get(..self.facts.count).unwrap_or_default()
    }

    /// What the provider that gave the template is to be handed, if one did: the solution with the
    /// coinbase that its header stands for.
    pub fn handover(
        &self,
        header: &Header,
        coinbase: &[u8],
    ) -> Option<(Provider, ProviderSolution)> {
        let Origin { provider, template } = self.facts.origin.as_ref()?;
        let solution = ProviderSolution {
            template_id: template.id,
            version: header.version.to_consensus() as u32,
            ntime: header.time,
            nonce: header.nonce,
            coinbase: coinbase.into(),
        };
        Some((provider.clone(), solution))
    }

    /// NewTemplate (SV2 7.2), encoded.
    pub fn message(&self, future: bool) -> Arc<[u8]> {
        Arc::clone(if future { &self.future } else { &self.present })
    }

    /// nTime to begin with at `now_unix_s`, both Unix seconds.
    pub fn first_ntime(&self, now_unix_s: u32) -> u32 {
        let tip = &self.facts.tip;
        now_unix_s
            .max(tip.median_time_past.saturating_add(1))
            .max(tip.time.saturating_sub(BORDER_LEEWAY_S))
    }

    /// SetNewPrevHash (SV2 7.3) that makes it the work of now, Unix seconds.
    pub fn set_new_prev_hash(&self, now_unix_s: u32) -> SetNewPrevHash {
        let tip = &self.facts.tip;
        let header_timestamp = self.first_ntime(now_unix_s);
        let bits = tip.next_bits.at(header_timestamp);
        SetNewPrevHash {
            template_id: self.facts.id,
            prev_hash: tip.hash.to_byte_array(),
            header_timestamp,
            n_bits: bits.to_consensus(),
            target: Target::from_compact(bits).to_le_bytes(),
        }
    }

    /// RequestTransactionData.Success (SV2 7.5), encoded; the same bytes for all who want it at
    /// the same time.
    ///
    /// # Errors
    /// [`EncodeError`]: more transactions than a block can have.
    pub fn transaction_data(&self) -> Result<Arc<[u8]>, EncodeError> {
        let mut data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(data) = data.as_ref().and_then(Weak::upgrade) {
            return Ok(data);
        }
        let message = RequestTransactionDataSuccess {
            template_id: self.facts.id,
            excess_data: &[],
            transactions: self.txs().iter().map(|tx| tx.raw()).collect(),
        };
        let message = TemplateServerMessage::RequestTransactionDataSuccess(message).encode()?;
        let encoded: Arc<[u8]> = message.payload.into();
        *data = Some(Arc::downgrade(&encoded));
        Ok(encoded)
    }

    /// The header of a solution, and its coinbase with a witness.
    ///
    /// # Errors
    /// [`NoBlock::Coinbase`].
    pub fn header(
        &self,
        solution: &TemplateSolution,
        bits: CompactTarget,
    ) -> Result<(Header, Transaction), NoBlock> {
        let mut coinbase: Transaction =
            deserialize(&solution.coinbase).map_err(|_| NoBlock::Coinbase)?;
        // Sent without its witness, which a block with a commitment must have (BIP 141).
        if let [input] = coinbase.input.as_mut_slice()
            && input.witness.is_empty()
        {
            input.witness = Witness::from_slice(&[WITNESS_RESERVED]);
        }
        let txid = coinbase.compute_txid();
        let root = merkle::root_from_branch(txid.to_byte_array(), &self.facts.merkle_path);
        let header = Header {
            version: Version::from_consensus(solution.version as i32),
            prev_blockhash: self.facts.tip.hash,
            merkle_root: TxMerkleNode::from_byte_array(root),
            time: solution.ntime,
            bits,
            nonce: solution.nonce,
        };
        Ok((header, coinbase))
    }

    /// The block of a solution whose header and coinbase are those of [`Self::header`].
    ///
    /// # Errors
    /// [`NoBlock::AboveTarget`]. Nothing else holds a block back.
    pub fn block(&self, header: Header, coinbase: &Transaction) -> Result<FoundBlock, NoBlock> {
        let hash = header.block_hash();
        if !Target::from_compact(header.bits).is_met_by(hash) {
            return Err(NoBlock::AboveTarget);
        }
        let raw = serialize(coinbase);
        Ok(self.with_coinbase(&header, &raw, coinbase.compute_txid()))
    }

    /// The block of a header and the bytes of a whole coinbase, whatever its hash.
    pub fn with_coinbase(
        &self,
        header: &Header,
        coinbase: &[u8],
        coinbase_txid: Txid,
    ) -> FoundBlock {
        let tx_count = self.txs().len() + 1;
        let bytes: usize = self.txs().iter().map(|tx| tx.raw().len()).sum();
        let mut raw = Vec::with_capacity(Header::SIZE + 9 + coinbase.len() + bytes);
        // Writing to memory does not fail.
        let _ = header.consensus_encode(&mut raw);
        let _ = VarInt(tx_count as u64).consensus_encode(&mut raw);
        raw.extend_from_slice(coinbase);
        for tx in self.txs() {
            raw.extend_from_slice(tx.raw());
        }
        FoundBlock { hash: header.block_hash(), header: *header, raw, tx_count, coinbase_txid }
    }
}

impl Facts {
    fn new_template(&self, future_template: bool) -> Result<Vec<u8>, EncodeError> {
        let height = self.tip.next_height();
        let prefix = Builder::new().push_int(height.into()).into_bytes();
        let mut outputs = Vec::new();
        // Writing to memory does not fail.
        let _ = commitment(&self.witness_root).consensus_encode(&mut outputs);
        let message = NewTemplate {
            template_id: self.id,
            future_template,
            version: self.version,
            coinbase_tx_version: COINBASE_VERSION,
            coinbase_prefix: &prefix,
            coinbase_tx_input_sequence: COINBASE_SEQUENCE,
            coinbase_tx_value_remaining_sat: self.value_sat,
            coinbase_tx_outputs_count: 1,
            coinbase_tx_outputs: &outputs,
            coinbase_tx_locktime: self.tip.height,
            merkle_path: &self.merkle_path,
        };
        Ok(TemplateServerMessage::NewTemplate(message).encode()?.payload)
    }
}

/// The output that commits to the witnesses of a block (BIP 141).
fn commitment(witness_root: &[u8; 32]) -> TxOut {
    let commitment = sha256d::Hash::hash([*witness_root, WITNESS_RESERVED].as_flattened());
    let script = [&COMMITMENT_HEAD[..], commitment.as_byte_array()].concat();
    TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) }
}
