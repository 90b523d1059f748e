//! Jobs, blocks and batches for tests: small, made from numbers, and as real as the store needs.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its part")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Txid, Witness,
};
use rusqlite::Connection;
use store::{
    AcceptedTemplate, Batch, Cursor, Event, EventFilter, Keep, NewBlock, NodeStatus,
    RejectedTemplate, Retention, ShareSubmitted, Sizes, Store, TemplateSource, UserTag,
};
use validation::block::FoundBlock;
use validation::coinbase::CoinbaseParts;
use validation::declared::{Declared, TemplateHash};
use validation::job::{AcceptedJob, Fees, JobParts};
use validation::tip::{ChainTip, MinDifficulty, NextBits};
use validation::tx::Tx;

/// A moment in 2023, Unix milliseconds.
pub const NOW_MS: u64 = 1_693_612_345_678;

/// Keeps everything.
pub const FOREVER: Keep = Keep { age_ms: u64::MAX, bytes: u64::MAX };

/// Keeps everything.
pub const KEEP_ALL: Retention = Retention {
    events: FOREVER,
    templates: FOREVER,
    transactions: FOREVER,
    rejected: FOREVER,
    shares: FOREVER,
    accounting: FOREVER,
    hourly_age_ms: u64::MAX,
    user_daily_age_ms: u64::MAX,
    spent_tokens_max: u64::MAX,
    aggregates_bytes: u64::MAX,
};

/// A transaction with so many bytes of witness; every other number has none at all.
pub fn tx(number: u64, witness_bytes: usize) -> Arc<Tx> {
    let witness =
        if number.is_multiple_of(2) { vec![] } else { vec![vec![number as u8; witness_bytes]] };
    let tx = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: Txid::hash(&number.to_le_bytes()), vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&witness),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(number),
            script_pubkey: ScriptBuf::from_bytes(vec![0x51]),
        }],
    };
    Arc::new(Tx::parse(&serialize(&tx)).unwrap())
}

pub fn txs(numbers: impl IntoIterator<Item = u64>) -> Vec<Arc<Tx>> {
    numbers.into_iter().map(|number| tx(number, 100)).collect()
}

/// A coinbase for that height (128 to 32,767) with `tag` in its scriptSig.
fn coinbase(height: u32, tag: u32) -> (Vec<u8>, Vec<u8>) {
    let mut prefix = vec![2, 0, 0, 0, 1];
    prefix.extend([0; 32]);
    prefix.extend([0xff; 4]);
    prefix.push(3 + 4 + 8);
    prefix.extend([2, height as u8, (height >> 8) as u8]);
    prefix.extend(tag.to_le_bytes());
    let mut suffix = vec![0xff; 4];
    suffix.push(1);
    suffix.extend(5_000_000_000_u64.to_le_bytes());
    suffix.extend([1, 0x51, 0, 0, 0, 0]);
    (prefix, suffix)
}

/// An accepted job of those transactions.
pub fn job(height: u32, tag: u32, txs: Vec<Arc<Tx>>) -> AcceptedJob {
    let (prefix, suffix) = coinbase(height, tag);
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
        weight_wu: 400 + txs.iter().map(|tx| u64::from(tx.weight_wu())).sum::<u64>(),
        txs,
        tip: ChainTip {
            hash: BlockHash::hash(&height.to_le_bytes()),
            height: height - 1,
            time: 1_693_612_000,
            median_time_past: 1_693_609_000,
            next_bits: NextBits {
                regular: CompactTarget::from_consensus(0x1d00_ffff),
                min_difficulty: height.is_multiple_of(2).then(|| MinDifficulty {
                    after: 1_693_613_200,
                    bits: CompactTarget::from_consensus(0x207f_ffff),
                }),
            },
        },
        sigop_cost_min: 17,
        fees: Fees { total_sat: tag.is_multiple_of(2).then_some(1_234), known_sat: 1_234 },
        pool_payout_sat: 4_900_000_000,
        miner_payout_sat: 1,
        claimable_sat: 5_000_001_234,
    })
}

pub fn template(user: &str, job: AcceptedJob) -> AcceptedTemplate {
    let mut tag = [0; 16];
    tag[..user.len().min(16)].copy_from_slice(&user.as_bytes()[..user.len().min(16)]);
    AcceptedTemplate {
        user: user.into(),
        worker: "".into(),
        user_tag: UserTag(tag),
        job: Arc::new(job),
        validation_ms: 1.5,
        fetch_ms: None,
        txs_unknown: 0,
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

pub fn share(user: &str, number: u64, source: TemplateSource) -> ShareSubmitted {
    let miner = source == TemplateSource::Miner;
    ShareSubmitted {
        user: user.to_owned(),
        worker: "rig".to_owned(),
        channel_id: 1,
        job_id: 2,
        accepted: true,
        error_code: None,
        difficulty: 2.0,
        share_hash: format!("{number:064x}"),
        template_source: source,
        miner_template_hash: miner.then(|| "ab".repeat(32)),
        miner_tx_count: miner.then_some(3),
        miner_template_fees_sat: miner.then_some(1_234),
        pool_payout_sat: miner.then_some(4_900_000_000),
        claimable_sat: miner.then_some(5_000_001_234),
        first_for_user: None,
    }
}

pub fn block(number: u32, raw_bytes: usize) -> NewBlock {
    let header = Header {
        version: Version::TWO,
        prev_blockhash: BlockHash::hash(b"before"),
        merkle_root: TxMerkleNode::hash(b"root"),
        time: 1_693_612_345,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: number,
    };
    let mut raw = serialize(&header);
    raw.resize(raw_bytes.max(80), number as u8);
    NewBlock {
        block: Arc::new(FoundBlock {
            hash: header.block_hash(),
            header,
            raw,
            tx_count: 3,
            coinbase_txid: Txid::hash(&number.to_le_bytes()),
        }),
        user: "alice".into(),
        height: 200,
        template_source: TemplateSource::Miner,
        template_hash: Some(TemplateHash::from_bytes([7; 32])),
        reward_sat: 5_000_001_234,
    }
}

/// An event that carries a number.
pub fn numbered(number: u64) -> NodeStatus {
    NodeStatus {
        kind: None,
        node: "node".to_owned(),
        state: "ready".to_owned(),
        height: None,
        detail: Some(number.to_string()),
    }
}

/// Commits and waits.
pub fn commit(store: &dyn Store, batch: Batch) -> store::Committed {
    store.commit(batch).wait().unwrap()
}

/// Every event that is kept.
pub fn all_events(store: &dyn Store) -> Vec<Event> {
    let (mut cursor, mut events) = (Cursor::START, Vec::new());
    loop {
        let page = store.events_after(cursor, &EventFilter::ALL, 1_000).unwrap();
        events.extend(page.events);
        cursor = page.next;
        if !page.more {
            return events;
        }
    }
}

/// The ids are those from the first one on, without a gap.
pub fn assert_gap_free(events: &[Event]) {
    for pair in events.windows(2) {
        assert_eq!(pair[1].id, pair[0].id + 1, "a gap, or not in order");
    }
}

/// Waits until something is true.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited 30 s for {what}");
        std::thread::yield_now();
    }
}

/// Two jobs are the same in everything that a block needs.
pub fn assert_same_job(left: &AcceptedJob, right: &AcceptedJob) {
    assert_eq!(left.template_hash(), right.template_hash());
    assert_eq!(left.version(), right.version());
    assert_eq!(left.coinbase(), right.coinbase());
    assert_eq!(left.tip(), right.tip());
    assert_eq!(left.weight_wu(), right.weight_wu());
    assert_eq!(left.sigop_cost_min(), right.sigop_cost_min());
    assert_eq!(left.fees(), right.fees());
    assert_eq!(left.pool_payout_sat(), right.pool_payout_sat());
    assert_eq!(left.miner_payout_sat(), right.miner_payout_sat());
    assert_eq!(left.claimable_sat(), right.claimable_sat());
    let raw = |job: &AcceptedJob| job.txs().iter().map(|tx| tx.raw().to_vec()).collect::<Vec<_>>();
    assert_eq!(raw(left), raw(right));
}

pub fn rejected(number: u64) -> RejectedTemplate {
    RejectedTemplate {
        user: "mallory".into(),
        worker: "".into(),
        user_tag: UserTag([1; 16]),
        template_hash: None,
        tx_count: 4,
        height: None,
        error_code: "invalid-job".into(),
        reason: "weight".into(),
        index: None,
        expected: None,
        actual: Some(number.to_string()),
        validation_ms: 0.5,
        request_bytes: 600,
        inputs: store::RejectedInputs::None,
    }
}

pub fn size(sizes: &Sizes, table: &str) -> (u64, u64) {
    let size = sizes.tables.iter().find(|size| size.table == table).unwrap();
    (size.rows, size.bytes)
}

/// The sizes that the store counts are those that a look at all rows gives.
pub fn assert_counted(dir: &Path, sizes: &Sizes) {
    let database = Connection::open(dir.join("jds.sqlite")).unwrap();
    for (table, variable) in [
        ("events", "SELECT count(*), sum(octet_length(data)), 70 FROM events"),
        ("tokens", "SELECT count(*), 0, 60 FROM tokens"),
        ("verdict_inputs", "SELECT count(*), sum(bytes), 200 FROM verdict_inputs"),
        ("shares", "SELECT count(*), 0, 260 FROM shares"),
        ("transactions", "SELECT count(*), sum(length(raw)), 130 FROM transactions"),
        ("blocks", "SELECT count(*), sum(length(raw)), 600 FROM blocks"),
        ("users", "SELECT count(*), sum(octet_length(user_id)), 150 FROM users"),
        ("aggregates", "SELECT count(*), sum(octet_length(user_id)), 160 FROM aggregates"),
        ("accounting", "SELECT count(*), sum(octet_length(user_id)), 280 FROM accounting"),
        (
            "rejected",
            "SELECT count(*), 0, 400 FROM miner_templates WHERE validation_result = 'rejected'",
        ),
        (
            "templates",
            "SELECT count(*), sum(length(coinbase_prefix) + length(coinbase_suffix)
                     + coalesce(octet_length(rules), 0) + coalesce(length(unvouched), 0))
                 + (SELECT coalesce(sum(length(packed)), 0) FROM tx_lists), 500
             FROM miner_templates WHERE validation_result <> 'rejected'",
        ),
    ] {
        let (rows, bytes, each): (u64, Option<u64>, u64) = database
            .query_row(variable, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap();
        let lists: u64 =
            database.query_row("SELECT count(*) FROM tx_lists", [], |row| row.get(0)).unwrap();
        let expected = (rows, bytes.unwrap_or_default() + rows * each);
        if !(table == "templates" && rows == 0) {
            assert_eq!(size(sizes, table), expected, "{table}, with {lists} lists");
        }
    }
    let broken: u32 = database
        .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(broken, 0, "rows that name rows that are not there");
    let sound: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}
