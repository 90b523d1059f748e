//! Jobs and events made from numbers, as real as the API needs.

use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut,
    Txid, Witness,
};
use store::{
    AcceptedTemplate, Batch, Change, NewBlock, NodeStatus, RejectedTemplate, ShareSubmitted,
    SubmissionState, SubmissionStep, TemplateSource, UserTag,
};
use validation::block::FoundBlock;
use validation::job::{AcceptedJob, Fees, JobParts};
use validation::{ChainTip, CoinbaseParts, Declared, NextBits, TemplateHash, Tx};

/// A moment in 2023, Unix milliseconds.
pub(crate) const NOW_MS: u64 = 1_693_612_345_678;

/// Fees of every template here, satoshi.
pub(crate) const FEES_SAT: u64 = 1_234;

pub(crate) fn numbered(number: u64) -> NodeStatus {
    NodeStatus {
        kind: None,
        node: "local".into(),
        state: "at_tip".into(),
        height: None,
        detail: Some(number.to_string()),
    }
}

pub(crate) fn tx(number: u64) -> Arc<Tx> {
    let tx = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: Txid::hash(&number.to_le_bytes()), vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[number as u8; 20]]),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(number),
            script_pubkey: ScriptBuf::from_bytes(vec![0x51]),
        }],
    };
    Arc::new(Tx::parse(&serialize(&tx)).unwrap())
}

/// A coinbase with the text `/tag/` in its scriptSig, an output to a P2WPKH script, and a witness
/// commitment.
fn coinbase(height: u32) -> (Vec<u8>, Vec<u8>) {
    let mut prefix = vec![2, 0, 0, 0, 1];
    prefix.extend([0; 32]);
    prefix.extend([0xff; 4]);
    prefix.push(3 + 5 + 8);
    prefix.extend([2, height as u8, (height >> 8) as u8]);
    prefix.extend(b"/tag/");
    let mut suffix = vec![0xff; 4];
    suffix.push(2);
    suffix.extend(5_000_000_000_u64.to_le_bytes());
    suffix.extend([22, 0x00, 0x14]);
    suffix.extend([7; 20]);
    suffix.extend(0_u64.to_le_bytes());
    suffix.extend([38, 0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed]);
    suffix.extend([9; 32]);
    suffix.extend([0; 4]);
    (prefix, suffix)
}

pub(crate) fn prev_hash(height: u32) -> BlockHash {
    BlockHash::hash(&height.to_le_bytes())
}

pub(crate) fn job(height: u32, txs: impl IntoIterator<Item = u64>) -> AcceptedJob {
    let txs: Vec<_> = txs.into_iter().map(tx).collect();
    let (prefix, suffix) = coinbase(height);
    let wtxids: Vec<_> = txs.iter().map(|tx| tx.wtxid()).collect();
    let template_hash = TemplateHash::of(&Declared {
        version: 0x2000_0000,
        coinbase_prefix: &prefix,
        coinbase_suffix: &suffix,
        wtxids: &wtxids,
    });
    AcceptedJob::restore(JobParts {
        template_hash,
        version: 0x2000_0000,
        coinbase: CoinbaseParts::parse(&prefix, &suffix).unwrap(),
        weight_wu: 4_000,
        txs,
        tip: ChainTip {
            hash: prev_hash(height),
            height: height - 1,
            time: 1_693_612_000,
            median_time_past: 1_693_609_000,
            next_bits: NextBits::fixed(CompactTarget::from_consensus(0x207f_ffff)),
        },
        sigop_cost_min: 17,
        fees: Fees { total_sat: Some(FEES_SAT), known_sat: FEES_SAT },
        pool_payout_sat: 4_900_000_000,
        miner_payout_sat: 0,
        claimable_sat: 5_000_001_234,
    })
}

pub(crate) fn template(user: &str, job: AcceptedJob) -> AcceptedTemplate {
    AcceptedTemplate {
        user: user.into(),
        worker: "".into(),
        user_tag: UserTag([1; 16]),
        job: Arc::new(job),
        validation_ms: 1.5,
        fetch_ms: Some(20.0),
        txs_unknown: 2,
        request_bytes: 1_000,
        rules: Arc::new(validation::Rules {
            network: bitcoin::Network::Regtest,
            payout: validation::Payout::Pool {
                script: bitcoin::ScriptBuf::from_bytes(vec![0x51]),
                min_share_bp: 9_500,
            },
            imposed_outputs: Vec::new(),
        }),
    }
}

pub(crate) fn accepted(user: &str, job: AcceptedJob) -> Batch {
    Batch::new(NOW_MS).accept_template(template(user, job))
}

pub(crate) fn rejected(user: &str) -> Batch {
    rejected_as(user, None)
}

pub(crate) fn rejected_as(user: &str, template_hash: Option<TemplateHash>) -> Batch {
    Batch::new(NOW_MS).change(Change::RejectTemplate(RejectedTemplate {
        user: user.into(),
        worker: "".into(),
        user_tag: UserTag([1; 16]),
        template_hash,
        tx_count: 3,
        height: Some(200),
        error_code: "invalid-job-param-value".into(),
        reason: "coinbase_height".into(),
        index: Some(0),
        expected: Some("200".into()),
        actual: Some("199".into()),
        validation_ms: 0.4,
        request_bytes: 900,
        inputs: store::RejectedInputs::None,
    }))
}

pub(crate) fn share(user: &str) -> Batch {
    Batch::new(NOW_MS).share(ShareSubmitted {
        user: user.into(),
        worker: "rig".into(),
        channel_id: 1,
        job_id: 2,
        accepted: true,
        error_code: None,
        difficulty: 2.0,
        share_hash: "00".repeat(32),
        template_source: TemplateSource::Miner,
        miner_template_hash: Some("ab".repeat(32)),
        miner_tx_count: Some(3),
        miner_template_fees_sat: Some(FEES_SAT),
        pool_payout_sat: Some(1),
        claimable_sat: Some(2),
        first_for_user: None,
    })
}

/// A block, found and taken by a node. Its hash comes with it.
pub(crate) fn block(nonce: u32) -> (BlockHash, Batch) {
    let header = bitcoin::block::Header {
        version: bitcoin::block::Version::TWO,
        prev_blockhash: prev_hash(200),
        merkle_root: bitcoin::TxMerkleNode::hash(b"root"),
        time: 1_693_612_345,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce,
    };
    let hash = header.block_hash();
    let found = NewBlock {
        block: Arc::new(FoundBlock {
            hash,
            header,
            raw: serialize(&header),
            tx_count: 3,
            coinbase_txid: Txid::hash(b"coinbase"),
        }),
        user: "alice".into(),
        height: 200,
        template_source: TemplateSource::Miner,
        template_hash: None,
        reward_sat: 5_000_001_234,
    };
    let step = SubmissionStep {
        block_hash: hash,
        node: "local".into(),
        state: SubmissionState::Accepted,
        detail: None,
        attempts: 1,
        latency_ms: Some(12.5),
    };
    let batch = Batch::new(NOW_MS).change(Change::FindBlock(found));
    (hash, batch.change(Change::Submission(step)))
}
