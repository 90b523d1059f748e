//! Builds block templates of any shape with the `bitcoin` crate, and runs the rules over them.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses its own part of this")]

use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::script::Builder;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction,
    TxIn, TxOut, Txid, Witness, Wtxid, merkle_tree,
};
use validation::replay::{Replayed, SecondLook, VerdictInputs, WtxidList, replay};
use validation::{
    AcceptedJob, ChainTip, Declared, NextBits, NodeFacts, Payout, Precheck, Reason, Refused,
    Rejection, Rules, Tx, TxSlots, WitnessRoot, judge, judge_keeping, missing, outline, precheck,
    seal_and_judge, subsidy, supplied,
};

/// A verdict that was given again is the one that was given, in everything.
pub fn assert_same(replayed: &Replayed, verdict: &Result<AcceptedJob, Rejection>) {
    match (&replayed.result, verdict) {
        (Ok(again), Ok(job)) => {
            assert_eq!(again.template_hash(), job.template_hash());
            assert_eq!(again.coinbase(), job.coinbase());
            assert_eq!((again.tip(), again.fees()), (job.tip(), job.fees()));
            assert_eq!(again.weight_wu(), job.weight_wu());
            assert_eq!(again.sigop_cost_min(), job.sigop_cost_min());
            assert_eq!(again.unvouched(), job.unvouched());
            assert_eq!(again.claimable_sat(), job.claimable_sat());
            assert_eq!(again.pool_payout_sat(), job.pool_payout_sat());
            assert_eq!(again.miner_payout_sat(), job.miner_payout_sat());
        }
        (Err(again), Err(rejection)) => assert_eq!(again, rejection),
        (again, verdict) => panic!("{verdict:?} became {again:?}"),
    }
}

/// The easiest regtest target: one hash in two meets it.
pub const EASY_BITS: u32 = 0x207f_ffff;

pub const TIP_MTP: u32 = 1_700_000_000;

pub fn tip(height: u32) -> ChainTip {
    ChainTip {
        hash: BlockHash::hash(&height.to_le_bytes()),
        height,
        time: TIP_MTP + 3_600,
        median_time_past: TIP_MTP,
        next_bits: NextBits::fixed(CompactTarget::from_consensus(EASY_BITS)),
    }
}

/// A P2WPKH-shaped script.
pub fn script(byte: u8) -> ScriptBuf {
    let mut bytes = vec![0x00, 0x14];
    bytes.extend([byte; 20]);
    ScriptBuf::from_bytes(bytes)
}

pub fn pool_script() -> ScriptBuf {
    script(0xaa)
}

pub fn pool_rules(min_share_bp: u16) -> Rules {
    Rules {
        network: Network::Regtest,
        payout: Payout::Pool { script: pool_script(), min_share_bp },
        imposed_outputs: vec![TxOut { value: Amount::ZERO, script_pubkey: pool_script() }],
    }
}

pub fn output(sat: u64, script_pubkey: ScriptBuf) -> TxOut {
    TxOut { value: Amount::from_sat(sat), script_pubkey }
}

/// An outpoint of a transaction outside of the block.
pub fn outside(number: u64) -> OutPoint {
    OutPoint { txid: Txid::hash(&[b"outside", &number.to_le_bytes()[..]].concat()), vout: 0 }
}

pub fn input(previous_output: OutPoint, witness: &[&[u8]]) -> TxIn {
    TxIn {
        previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::from_slice(witness),
    }
}

pub fn tx(input: Vec<TxIn>, output: Vec<TxOut>) -> Transaction {
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output }
}

/// A segwit transaction with one input from outside and one output.
pub fn simple(number: u64) -> Transaction {
    tx(vec![input(outside(number), &[&[7; 64]])], vec![output(10_000, script(1))])
}

/// The same without a witness.
pub fn legacy(number: u64) -> Transaction {
    tx(vec![input(outside(number), &[])], vec![output(10_000, script(1))])
}

/// Spends the first output of `parent`, `fee` satoshi of it as fee.
pub fn child(parent: &Transaction, fee: u64) -> Transaction {
    let outpoint = OutPoint { txid: parent.compute_txid(), vout: 0 };
    let sat = parent.output[0].value.to_sat() - fee;
    tx(vec![input(outpoint, &[&[8; 64]])], vec![output(sat, script(2))])
}

/// A block template before it is declared.
#[derive(Debug, Clone)]
pub struct Template {
    pub tip: ChainTip,
    pub rules: Rules,
    pub version: u32,
    pub coinbase: Transaction,
    pub extranonce_len: usize,
    /// The segwit encoding of the coinbase needs a witness: the reserved value.
    pub reserved: Option<[u8; 32]>,
    /// Set the commitment to that of the transactions when declaring.
    pub commit: bool,
    pub txs: Vec<Transaction>,
    /// What the node knows of each transaction; short lists mean that it knows no more.
    pub facts: Vec<Option<NodeFacts>>,
}

impl Template {
    /// Pays all of the subsidy to the pool; commits to witnesses; extranonce of 8 bytes.
    pub fn new(tip_height: u32, txs: Vec<Transaction>) -> Self {
        let tip = tip(tip_height);
        let reward = subsidy(Network::Regtest, tip.next_height()).to_sat();
        let mut template = Self {
            tip,
            rules: pool_rules(10_000),
            version: 0x2000_0000,
            coinbase: tx(
                vec![TxIn {
                    previous_output: OutPoint::null(),
                    script_sig: ScriptBuf::new(),
                    sequence: Sequence::MAX,
                    witness: Witness::new(),
                }],
                vec![output(reward, pool_script()), output(0, commitment_script([0; 32]))],
            ),
            extranonce_len: 8,
            reserved: Some([0; 32]),
            commit: true,
            txs,
            facts: Vec::new(),
        };
        template.set_script(tip.next_height(), b"/tag/");
        template
    }

    /// Height push, tag and an extranonce of `extranonce_len` zeros.
    pub fn set_script(&mut self, height: u32, tag: &[u8]) {
        let mut script = Builder::new().push_int(i64::from(height)).into_bytes();
        script.extend(tag);
        script.extend(vec![0; self.extranonce_len]);
        self.coinbase.input[0].script_sig = ScriptBuf::from_bytes(script);
    }

    pub fn without_commitment(mut self) -> Self {
        self.commit = false;
        self.reserved = None;
        self.coinbase.output.retain(|output| !output.script_pubkey.is_op_return());
        self
    }

    /// Tells the node's facts of every transaction, and lets the coinbase claim the fees.
    pub fn with_fees(mut self, fee_sat: u64) -> Self {
        self.facts = vec![Some(NodeFacts { fee_sat, sigop_cost: 4 }); self.txs.len()];
        self.coinbase.output[0].value += Amount::from_sat(fee_sat * self.txs.len() as u64);
        self
    }

    pub fn sealed_coinbase(&self) -> Transaction {
        let mut coinbase = self.coinbase.clone();
        if let Some(reserved) = self.reserved {
            coinbase.input[0].witness = Witness::from_slice(&[reserved]);
        }
        if self.commit {
            let leaves = self.txs.iter().map(|tx| tx.compute_wtxid().to_raw_hash());
            let leaves = std::iter::once(sha256d::Hash::all_zeros()).chain(leaves);
            let root = merkle_tree::calculate_root(leaves).unwrap().into();
            let commitment =
                Block::compute_witness_commitment(&root, &self.reserved.unwrap_or_default());
            if let Some(output) =
                coinbase.output.iter_mut().rev().find(|out| out.script_pubkey.is_op_return())
            {
                output.script_pubkey = commitment_script(commitment.to_byte_array());
            }
        }
        coinbase
    }

    /// As it goes over the wire, with the transactions at hand.
    pub fn declare(&self) -> Wire {
        let coinbase = self.sealed_coinbase();
        let (prefix, suffix) = split(&coinbase, self.extranonce_len);
        Wire {
            tip: self.tip,
            rules: self.rules.clone(),
            version: self.version,
            prefix,
            suffix,
            wtxids: self.txs.iter().map(Transaction::compute_wtxid).collect(),
            raw: self.txs.iter().map(serialize).collect(),
            facts: self.facts.clone(),
        }
    }

    pub fn verdict(&self) -> Result<AcceptedJob, Rejection> {
        self.declare().verdict()
    }

    #[track_caller]
    pub fn accepted(&self) -> AcceptedJob {
        self.verdict().unwrap_or_else(|rejection| panic!("a valid job was refused: {rejection}"))
    }

    #[track_caller]
    pub fn rejected(&self, reason: Reason) -> Rejection {
        self.declare().rejected(reason)
    }
}

/// A declaration as bytes.
#[derive(Debug, Clone)]
pub struct Wire {
    pub tip: ChainTip,
    pub rules: Rules,
    pub version: u32,
    pub prefix: Vec<u8>,
    pub suffix: Vec<u8>,
    pub wtxids: Vec<Wtxid>,
    pub raw: Vec<Vec<u8>>,
    pub facts: Vec<Option<NodeFacts>>,
}

impl Wire {
    pub fn declared(&self) -> Declared<'_> {
        Declared {
            version: self.version,
            coinbase_prefix: &self.prefix,
            coinbase_suffix: &self.suffix,
            wtxids: &self.wtxids,
        }
    }

    pub fn precheck(&self) -> Precheck {
        precheck(&self.declared(), &self.tip, &self.rules)
    }

    /// Transactions that the node knows are in their slots with its facts, the others are asked for
    /// and supplied.
    pub fn verdict(&self) -> Result<AcceptedJob, Rejection> {
        let (verdict, inputs) = self.judged();
        assert_same(&replay(&inputs), &verdict);
        verdict
    }

    /// The verdict, and what it was given on.
    pub fn judged(&self) -> (Result<AcceptedJob, Rejection>, VerdictInputs) {
        let mut inputs = VerdictInputs {
            version: self.version,
            coinbase_prefix: self.prefix.clone(),
            coinbase_suffix: self.suffix.clone(),
            wtxids: WtxidList::Listed(self.wtxids.as_slice().into()),
            rules: Arc::new(self.rules.clone()),
            tip: Some(self.tip),
            second: None,
            txs: TxSlots::new(),
            unvouched: Vec::new(),
            node: None,
        };
        let verdict = self.judge_into(&mut inputs);
        (verdict, inputs)
    }

    fn judge_into(&self, inputs: &mut VerdictInputs) -> Result<AcceptedJob, Rejection> {
        let pre = match self.precheck() {
            Precheck::Ok(pre) => pre,
            Precheck::Reject(rejection) => {
                assert_eq!(self.verdict_beside_root(TxSlots::new()).err(), Some(rejection.clone()));
                return Err(rejection);
            }
            Precheck::WaitForTip { height } => panic!("waits for the tip, for height {height}"),
        };
        let mut slots: TxSlots = vec![None; pre.wtxids().len()];
        for (index, slot) in slots.iter_mut().enumerate() {
            if let Some(facts) = self.facts.get(index).copied().flatten() {
                let tx = Tx::parse(&self.raw[index]).unwrap();
                tx.learn(facts);
                *slot = Some(Arc::new(tx));
            }
        }
        let asked = missing(pre.wtxids(), &slots);
        let answer: Vec<_> =
            asked.iter().filter_map(|at| self.raw.get(usize::from(*at)).cloned()).collect();
        let raw = answer.iter().map(Vec::as_slice);
        if let Err(rejection) = supplied(&pre, &mut slots, &asked, raw) {
            inputs.second = Some(SecondLook { tip: Some(self.tip), asked, answer });
            return Err(rejection);
        }
        inputs.second = Some(SecondLook { tip: Some(self.tip), asked, answer: Vec::new() });
        let beside = self.verdict_beside_root(slots.clone());
        assert_eq!(
            judge((*pre).clone(), slots.clone(), &self.tip, &self.rules).err(),
            beside.as_ref().err().cloned()
        );
        let verdict = match judge_keeping(*pre, slots, &self.tip, &self.rules) {
            Ok(job) => {
                inputs.txs = job.txs().iter().cloned().map(Some).collect();
                inputs.unvouched = job.unvouched().to_vec();
                Ok(job)
            }
            Err(refused) => {
                let Refused { rejection, txs, unvouched } = *refused;
                (inputs.txs, inputs.unvouched) = (txs, unvouched);
                Err(rejection)
            }
        };
        assert_eq!(beside.as_ref().err(), verdict.as_ref().err());
        assert_eq!(
            beside.as_ref().map(AcceptedJob::template_hash).ok(),
            verdict.as_ref().map(AcceptedJob::template_hash).ok(),
        );
        verdict
    }

    /// The verdict with the witness root at the end, which must be the same as in order.
    fn verdict_beside_root(&self, slots: TxSlots) -> Result<AcceptedJob, Rejection> {
        let outline = match outline(&self.declared(), &self.tip, &self.rules) {
            Precheck::Ok(outline) => *outline,
            Precheck::Reject(rejection) => return Err(rejection),
            Precheck::WaitForTip { height } => panic!("waits for the tip, for height {height}"),
        };
        let root = || WitnessRoot::of(&self.wtxids);
        seal_and_judge(outline, slots, &self.tip, &self.rules, root)
            .and_then(|(_, verdict)| verdict.map_err(|refused| refused.rejection))
    }

    #[track_caller]
    pub fn rejected(&self, reason: Reason) -> Rejection {
        match self.verdict() {
            Ok(_) => panic!("accepted, although {reason}"),
            Err(rejection) => {
                assert_eq!(rejection.reason, reason, "refused for another reason: {rejection}");
                assert_eq!(rejection.code, reason.code(), "{rejection}");
                rejection
            }
        }
    }
}

pub fn commitment_script(commitment: [u8; 32]) -> ScriptBuf {
    let mut bytes = vec![0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
    bytes.extend(commitment);
    ScriptBuf::from_bytes(bytes)
}

/// Cuts a coinbase whose scriptSig ends with the extranonce.
pub fn split(coinbase: &Transaction, extranonce_len: usize) -> (Vec<u8>, Vec<u8>) {
    let bytes = serialize(coinbase);
    let marker = if coinbase.input[0].witness.is_empty() { 0 } else { 2 };
    let end = 4 + marker + 1 + 36 + 1 + coinbase.input[0].script_sig.len();
    (bytes[..end - extranonce_len].to_vec(), bytes[end..].to_vec())
}
