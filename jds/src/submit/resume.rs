//! What an earlier run left: blocks of the store whose end is not known, and files.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bitcoin::consensus::encode::deserialize;
use bitcoin::hex::FromHex;
use bitcoin::{Block, BlockHash};
use store::{BlockState, BlockSummary, NewBlock, RecoveredBlock, SubmissionState, TemplateSource};
use tracing::{error, info, warn};
use validation::block::FoundBlock;
use validation::declared::TemplateHash;
use validation::identity::user_of;

use super::known::Announced;
use super::record::ToRecord;
use super::steps::{self, Steps};
use super::{Open, Submitter, UnderWay, lock};
use crate::clock;
use crate::found::FoundFacts;
use crate::journal::Row;
use crate::limits::{FINAL_BLOCKS_REMEMBERED_MAX, FOUND_BLOCKS_OPEN_MAX};

impl Submitter {
    /// Takes up what an earlier run left: `blocks` of the store ([`store::Recovered::blocks`]),
    /// and then its files. Each goes to the nodes that have neither taken nor refused it, and is
    /// followed. Returns at once.
    pub fn resume(self: &Arc<Self>, blocks: Vec<RecoveredBlock>) {
        for block in blocks {
            self.resume_block(block);
        }
        let submitter = Arc::clone(self);
        // Counted, so that a shutdown at once does not cut it off in the middle.
        let reading = UnderWay::begin(&self.keeping);
        self.runtime.spawn_blocking(move || {
            for hash in submitter.journal.final_blocks(FINAL_BLOCKS_REMEMBERED_MAX) {
                submitter.remember(hash);
            }
            for file in submitter.files.left_over() {
                submitter.resume_file(&file);
            }
            drop(reading);
        });
    }

    fn resume_block(self: &Arc<Self>, block: RecoveredBlock) {
        let RecoveredBlock { block_hash: hash, summary, block } = block;
        // Announced: there is nothing that could be submitted, unless a file or its miner has it.
        if block.raw.is_empty() {
            let user = summary.user.as_str().into();
            lock(&self.known).announce(Announced::new(hash, user, summary.template_source));
            self.follower.add(hash, summary.height, summary.confirmations);
            return;
        }
        if !self.remember(hash) {
            return;
        }
        let steps = steps::recorded(hash, &summary);
        // Nobody is to get it any more: its bytes need not be held.
        if steps::judged(&steps, self.node_names()) {
            self.resume_judged(hash, &summary, &steps);
            return;
        }
        if lock(&self.open).len() >= FOUND_BLOCKS_OPEN_MAX {
            error!(block = %hash, max = FOUND_BLOCKS_OPEN_MAX,
                "too many found blocks at once: the next start submits this one");
            self.follower.add(hash, summary.height, summary.confirmations);
            return;
        }
        let taken = steps.values().any(|step| step.state == SubmissionState::Accepted);
        let open = Open {
            height: summary.height,
            user: summary.user,
            template_hash: summary.miner_template_hash.unwrap_or_default(),
            confirmations: summary.confirmations,
            in_store: AtomicBool::new(true),
            taken: AtomicBool::new(taken),
            ..self.reopened(hash, summary.found_at)
        };
        let open = self.opened(open);
        self.start(&open, Arc::new(block), steps, ToRecord::Nothing, None);
        info!(block = %hash, height = open.height, user = open.user,
            "a block found before the last end: it is followed, and goes to every node that has \
             not judged it");
    }

    /// A block that every node of ours has judged needs no submission.
    fn resume_judged(self: &Arc<Self>, hash: BlockHash, summary: &BlockSummary, steps: &Steps) {
        if steps::refused_by_all(steps, self.node_names()) {
            let (journal, recording) = (Arc::clone(&self.journal), UnderWay::begin(&self.keeping));
            self.spawn(async move {
                journal.progress(hash, BlockState::Rejected, 0).await;
                drop(recording);
            });
            return;
        }
        let (height, confirmations) = (summary.height, summary.confirmations);
        info!(block = %hash, height, confirmations, user = summary.user,
            "a block found before the last end: every node has judged it, it is followed");
        self.follower.add(hash, height, confirmations);
    }

    fn resume_file(self: &Arc<Self>, file: &Path) {
        if lock(&self.open).len() >= FOUND_BLOCKS_OPEN_MAX {
            error!(file = %file.display(), max = FOUND_BLOCKS_OPEN_MAX,
                "too many found blocks at once: the next start submits this one");
            return;
        }
        let Some((facts, raw)) = self.files.load(file) else { return };
        // An earlier version wrote whole identities.
        let facts = FoundFacts { user: user_of(&facts.user).to_owned(), ..facts };
        let hash = facts.hash;
        let new = self.remember(hash);
        let to_record = match (self.journal.row(hash), new) {
            // Taken up from the store already, or at its end.
            (Row::Is(state), new) if !new || state != BlockState::Found => {
                if let Err(error) = self.files.remove(&hash) {
                    warn!(file = %file.display(), %error,
                        "can not be removed; the next start looks at it again");
                }
                return;
            }
            // Found again in the meantime.
            (_, false) => return,
            (Row::Is(_), true) => ToRecord::FileAndRow,
            (Row::None, true) => new_block(&facts, &raw).map_or(ToRecord::FileAlone, ToRecord::New),
            (Row::NotRead, true) => {
                new_block(&facts, &raw).map_or(ToRecord::FileAlone, ToRecord::FileAndUnsure)
            }
        };
        let open = Open {
            height: facts.height,
            user: facts.user,
            template_hash: facts.template_hash,
            in_file: AtomicBool::new(true),
            ..self.reopened(hash, facts.found_at_unix_ms)
        };
        let open = self.opened(open);
        self.start(&open, Arc::new(raw), Steps::new(), to_record, None);
        warn!(block = %hash, height = open.height, user = open.user, file = %open.file.display(),
            found_at_unix_ms = open.found_at_ms,
            "a block found before the last end has not reached every node: submitting it again");
    }

    fn reopened(&self, hash: BlockHash, found_at_ms: u64) -> Open {
        let now_ms = clock::unix_us() / 1_000;
        let before = Duration::from_millis(now_ms.saturating_sub(found_at_ms));
        let file = self.files.path(&hash);
        let sent = AtomicBool::new(true);
        // The store or a file has it.
        let waiting = super::told::Waiting::over();
        Open { before, sent, waiting, ..Open::new(hash, file, found_at_ms, Instant::now()) }
    }
}

/// What the store keeps of a block that a file holds.
fn new_block(facts: &FoundFacts, raw: &[u8]) -> Option<NewBlock> {
    let block: Block = deserialize(raw).ok()?;
    let coinbase = block.coinbase()?;
    let template_hash = <[u8; 32]>::from_hex(&facts.template_hash).ok();
    let reward_sat = coinbase.output.iter().map(|output| output.value.to_sat()).sum();
    let found = FoundBlock {
        hash: facts.hash,
        header: block.header,
        tx_count: block.txdata.len(),
        coinbase_txid: coinbase.compute_txid(),
        raw: raw.to_vec(),
    };
    Some(NewBlock {
        user: facts.user.as_str().into(),
        height: facts.height,
        template_source: TemplateSource::Miner,
        template_hash: template_hash.map(TemplateHash::from_bytes),
        reward_sat,
        block: Arc::new(found),
    })
}
