//! A store as it is after some days, for a server that starts on it: shares, templates with their
//! transactions, tokens, found blocks, and the events that tell of them. All of it is written through
//! the store's own interface, so that sizes, hashes and indexes are those of a real one.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Txid, Witness,
};
use store::{
    AcceptedTemplate, Batch, BlockFound, BlockState, Change, Commit, Keep, NewBlock, Retention,
    Settings, ShareSubmitted, SqliteStore, Store, TemplateProposed, TemplateSource, TokenAllocated,
    UserTag,
};
use validation::block::FoundBlock;
use validation::coinbase::CoinbaseParts;
use validation::declared::{Declared, TemplateHash};
use validation::job::{AcceptedJob, Fees, JobParts};
use validation::tip::{ChainTip, NextBits};
use validation::tx::Tx;

/// What the store tells of.
const SPAN: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// Blocks of the chain in that time.
const HEIGHTS: u32 = 432;
/// A coinbase can name any height above these in the same way (BIP 34).
const HEIGHT_MIN: u32 = 17;
/// Miners.
const USERS: u32 = 200;
/// Accepted templates on each block but the last.
const TEMPLATES_PER_HEIGHT: u32 = 20;
/// Accepted templates on the last: those that a start takes back.
const TEMPLATES_LIVE: u32 = 1_000;
/// Part of the transactions that are others with each block: one in so many.
const RENEWED_DIVISOR: usize = 4;
/// On every so many blocks one of ours is found.
const FOUND_EVERY_HEIGHTS: u32 = 50;
/// Bytes of witness of a transaction.
const WITNESS_BYTES: usize = 220;
/// Shares of one miner that become durable together.
const SHARES_PER_BATCH: u64 = 10;
/// Commits that are under way at a time.
const COMMITS_MAX: usize = 256;
/// Of a token, from its allocation, milliseconds.
const TOKEN_LIFETIME_MS: u64 = 24 * 60 * 60 * 1_000;
/// What a coinbase takes, satoshi.
const REWARD_SAT: u64 = 312_500_000;
/// Intervals of the accounting feed are shorter than usual, for the days pass in seconds.
const ACCOUNTING_INTERVAL: Duration = Duration::from_millis(100);

/// The chain that the newest templates build on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    pub(crate) tip: BlockHash,
    pub(crate) height: u32,
}

/// Fills the store of a data directory with so many accepted shares and what goes with them. Returns the
/// size of the database, bytes. Blocks.
pub(crate) fn fill(dir: &Path, shares: u64, transactions: usize, at: At) -> anyhow::Result<u64> {
    let keep = Keep { age_ms: u64::MAX, bytes: u64::MAX };
    let settings = Settings {
        accounting_interval: ACCOUNTING_INTERVAL,
        // All of it is to be there, however long this takes.
        retention: Retention { events: keep, shares: keep, ..Retention::default() },
        ..Settings::new(dir)
    };
    let store = SqliteStore::open(settings).context("the store to be filled")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let mut days = Days {
        store: &store,
        under_way: VecDeque::new(),
        at_ms: now.saturating_sub(SPAN).as_millis() as u64,
        number: 0,
        txs: (0..transactions as u64).map(tx).collect::<Result<_, _>>()?,
        next_tx: transactions as u64,
    };
    let last = at.height + 1;
    let first = last.saturating_sub(HEIGHTS).max(HEIGHT_MIN);
    let heights = u64::from(last.saturating_sub(first)) + 1;
    let step_ms = SPAN.as_millis() as u64 / heights;
    for (height, done) in (first..=last).zip(0..heights) {
        days.renew(transactions / RENEWED_DIVISOR)?;
        let tip = if height == last { at.tip } else { BlockHash::hash(&height.to_le_bytes()) };
        let templates = if height == last { TEMPLATES_LIVE } else { TEMPLATES_PER_HEIGHT };
        let hashes = days.templates(height, tip, templates)?;
        let due = shares * (done + 1) / heights - shares * done / heights;
        days.shares(due, &hashes)?;
        if height % FOUND_EVERY_HEIGHTS == 0 {
            days.block(height)?;
        }
        days.at_ms += step_ms;
    }
    days.settle(0)?;
    store.close();
    Ok(std::fs::metadata(dir.join("jds.sqlite"))?.len())
}

/// What is being told.
struct Days<'a> {
    store: &'a SqliteStore,
    under_way: VecDeque<Commit>,
    at_ms: u64,
    /// Of whatever came last.
    number: u64,
    /// The newest, as many as a template has.
    txs: VecDeque<Arc<Tx>>,
    next_tx: u64,
}

impl Days<'_> {
    fn commit(&mut self, batch: Batch) -> anyhow::Result<()> {
        self.under_way.push_back(self.store.commit(batch));
        self.settle(COMMITS_MAX)
    }

    /// Waits until so few are under way.
    fn settle(&mut self, at_most: usize) -> anyhow::Result<()> {
        while self.under_way.len() > at_most {
            if let Some(oldest) = self.under_way.pop_front() {
                oldest.wait().context("a store that is being filled")?;
            }
        }
        Ok(())
    }

    /// Of the transactions that miners choose from, so many are others.
    fn renew(&mut self, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            self.txs.pop_front();
            self.txs.push_back(tx(self.next_tx)?);
            self.next_tx += 1;
        }
        Ok(())
    }

    /// Templates of users in turns: their names.
    fn templates(
        &mut self,
        height: u32,
        tip: BlockHash,
        count: u32,
    ) -> anyhow::Result<Vec<String>> {
        let mut hashes = Vec::new();
        for _ in 0..count {
            self.number += 1;
            let number = self.number;
            let mut txs: Vec<_> = self.txs.iter().cloned().collect();
            let len = txs.len().max(1) as u64;
            txs.rotate_left((number * 7 % len) as usize);
            let user: Arc<str> = user(number).into();
            let job = job(height, tip, number as u32, txs)?;
            hashes.push(job.template_hash().to_string());
            let sequence = self.at_ms * 1_000 + number % 1_000;
            let expires_at = self.at_ms + TOKEN_LIFETIME_MS;
            let token = TokenAllocated {
                user: user.to_string(),
                token_id: format!("{sequence:016x}"),
                expires_at,
            };
            let template = accepted(&user, number, job);
            let proposed = proposed(&template);
            self.at_ms += 1;
            let batch = Batch::new(self.at_ms)
                .spend_token(sequence, expires_at, user)
                .event(token)
                .event(proposed)
                .accept_template(template);
            self.commit(batch)?;
        }
        Ok(hashes)
    }

    /// So many shares, half of them on the templates.
    fn shares(&mut self, count: u64, templates: &[String]) -> anyhow::Result<()> {
        let mut left = count;
        while left > 0 {
            let together = left.min(SHARES_PER_BATCH);
            let mut batch = Batch::new(self.at_ms);
            self.number += 1;
            let of = self.number;
            let template = templates.get(of as usize % templates.len().max(1));
            for _ in 0..together {
                self.number += 1;
                let share = share(of, self.number, template.filter(|_| of.is_multiple_of(2)));
                batch = batch.share(share.clone()).event(share);
            }
            self.commit(batch)?;
            left -= together;
        }
        Ok(())
    }

    /// A block that was found and is buried by now.
    fn block(&mut self, height: u32) -> anyhow::Result<()> {
        let header = Header {
            version: Version::TWO,
            prev_blockhash: BlockHash::hash(&height.to_le_bytes()),
            merkle_root: TxMerkleNode::all_zeros(),
            time: (self.at_ms / 1_000) as u32,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: height,
        };
        let (hash, user) = (header.block_hash(), user(height.into()));
        let block = NewBlock {
            block: Arc::new(FoundBlock {
                hash,
                header,
                raw: serialize(&header),
                tx_count: self.txs.len() + 1,
                coinbase_txid: Txid::hash(&height.to_le_bytes()),
            }),
            user: user.as_str().into(),
            height,
            template_source: TemplateSource::Pool,
            template_hash: None,
            reward_sat: REWARD_SAT,
        };
        let found = BlockFound {
            user,
            block_hash: hash.to_string(),
            height,
            template_source: TemplateSource::Pool,
            miner_template_hash: None,
            tx_count: self.txs.len() as u32 + 1,
            reward_sat: REWARD_SAT,
            assembled: true,
        };
        let buried = Change::BlockProgress {
            block_hash: hash,
            state: BlockState::Confirmed,
            confirmations: 100,
        };
        let batch = Batch::new(self.at_ms).change(Change::FindBlock(block)).event(found);
        self.commit(batch.change(buried))
    }
}

fn user(number: u64) -> String {
    format!("miner-{:03}", number % u64::from(USERS))
}

/// A transaction that is like no other.
fn tx(number: u64) -> anyhow::Result<Arc<Tx>> {
    let tx = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: Txid::hash(&number.to_le_bytes()), vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[vec![number as u8; WITNESS_BYTES]]),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(number),
            script_pubkey: ScriptBuf::from_bytes(vec![0x51]),
        }],
    };
    Ok(Arc::new(Tx::parse(&serialize(&tx)).context("a transaction that was just made")?))
}

fn job(height: u32, tip: BlockHash, tag: u32, txs: Vec<Arc<Tx>>) -> anyhow::Result<AcceptedJob> {
    let named = Builder::new().push_int(height.into()).into_script();
    let mut prefix = vec![2, 0, 0, 0, 1];
    prefix.extend([0; 32]);
    prefix.extend([0xff; 4]);
    // The height, a tag, and 8 bytes of extranonce that are left out.
    prefix.push((named.len() + 4 + 8) as u8);
    prefix.extend(named.as_bytes());
    prefix.extend(tag.to_le_bytes());
    let mut suffix = vec![0xff; 4];
    suffix.push(1);
    suffix.extend(REWARD_SAT.to_le_bytes());
    suffix.extend([1, 0x51, 0, 0, 0, 0]);
    let wtxids: Vec<_> = txs.iter().map(|tx| tx.wtxid()).collect();
    let declared = Declared {
        version: 0x2000_0000,
        coinbase_prefix: &prefix,
        coinbase_suffix: &suffix,
        wtxids: &wtxids,
    };
    let template_hash = TemplateHash::of(&declared);
    let coinbase = CoinbaseParts::parse(&prefix, &suffix)
        .map_err(|rejection| anyhow::anyhow!("a coinbase: {rejection}"))?;
    let time = (u64::from(height) * 600) as u32;
    Ok(AcceptedJob::restore(JobParts {
        template_hash,
        version: 0x2000_0000,
        coinbase,
        weight_wu: txs.iter().map(|tx| u64::from(tx.weight_wu())).sum(),
        txs,
        tip: ChainTip {
            hash: tip,
            height: height - 1,
            time,
            median_time_past: time.saturating_sub(3_600),
            next_bits: NextBits {
                regular: CompactTarget::from_consensus(0x207f_ffff),
                min_difficulty: None,
            },
        },
        sigop_cost_min: 0,
        fees: Fees { total_sat: Some(1_000_000), known_sat: 1_000_000 },
        pool_payout_sat: REWARD_SAT,
        miner_payout_sat: 0,
        claimable_sat: REWARD_SAT,
    }))
}

fn accepted(user: &Arc<str>, number: u64, job: AcceptedJob) -> AcceptedTemplate {
    let mut tag = [0; 16];
    tag[..8].copy_from_slice(&(number % u64::from(USERS)).to_le_bytes());
    AcceptedTemplate {
        user: Arc::clone(user),
        worker: "rig".into(),
        user_tag: UserTag(tag),
        request_bytes: 200 + 32 * job.txs().len() as u64,
        job: Arc::new(job),
        validation_ms: 1.5,
        fetch_ms: None,
        txs_unknown: 0,
        rules: Arc::new(validation::Rules {
            network: bitcoin::Network::Regtest,
            payout: validation::Payout::Pool {
                script: ScriptBuf::from_bytes(vec![0x51]),
                min_share_bp: 10_000,
            },
            imposed_outputs: Vec::new(),
        }),
    }
}

fn proposed(template: &AcceptedTemplate) -> TemplateProposed {
    let job = template.job.accepted_job();
    TemplateProposed {
        user: template.user.to_string(),
        worker: Some(template.worker.to_string()),
        template_hash: job.template_hash().to_string(),
        tx_count: job.tx_count() as u32,
        wtxids_unknown: 0,
        height: job.height(),
        bytes: template.request_bytes,
    }
}

fn share(of: u64, number: u64, template: Option<&String>) -> ShareSubmitted {
    let sat = template.map(|_| REWARD_SAT);
    ShareSubmitted {
        user: user(of),
        worker: "rig".to_owned(),
        channel_id: (of % u64::from(USERS)) as u32,
        job_id: (number / 1_000) as u32,
        accepted: true,
        error_code: None,
        difficulty: 65_536.0,
        share_hash: BlockHash::hash(&number.to_le_bytes()).to_string(),
        template_source: match template {
            Some(_) => TemplateSource::Miner,
            None => TemplateSource::Pool,
        },
        miner_template_hash: template.cloned(),
        miner_tx_count: template.map(|_| 4_001),
        miner_template_fees_sat: template.map(|_| 1_000_000),
        pool_payout_sat: sat,
        claimable_sat: sat,
        first_for_user: None,
    }
}
