//! The saga of a found block, step by step.

use std::sync::Arc;

use bitcoin::BlockHash;
use store::{
    Batch, BlockConfirmed, BlockFound, BlockOrphaned, BlockState, BlockSubmitted, Change,
    Committed, NewBlock, PageRequest, Status, SubmissionState, SubmissionStep,
};
use tracing::{error, warn};

use super::{Journal, now_ms};

/// Where a block is that was handed to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// On the disk: it survives a loss of power.
    OnDisk,
    /// The store can not write at the moment and holds it in memory.
    InMemory,
    /// The store did not take it.
    Failed,
    /// There is no store.
    NoStore,
}

/// What the store knows of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// Where it stands in the chain.
    Is(BlockState),
    /// Nothing.
    None,
    /// There is no store, or it could not be read.
    NotRead,
}

impl Journal {
    /// Records a block found at `found_at_ms` (Unix milliseconds) with the nodes that it is sent
    /// to; returns when it is on the disk, or when that can not be.
    pub async fn found(&self, found: NewBlock, found_at_ms: u64, nodes: Vec<String>) -> Kept {
        let Some(store) = self.store() else { return Kept::NoStore };
        let block_hash = found.block.hash;
        let event = BlockFound {
            user: found.user.to_string(),
            block_hash: block_hash.to_string(),
            height: found.height,
            template_source: found.template_source,
            miner_template_hash: found.template_hash.map(|hash| hash.to_string()),
            tx_count: found.block.tx_count as u32,
            reward_sat: found.reward_sat,
            assembled: found.is_assembled(),
        };
        let mut batch = Batch::new(found_at_ms).change(Change::FindBlock(found));
        for node in nodes {
            batch = batch.change(Change::Submission(SubmissionStep {
                block_hash,
                node,
                state: SubmissionState::Found,
                detail: None,
                attempts: 0,
                latency_ms: None,
            }));
        }
        match store.commit(batch.event(event)).await {
            Ok(Committed { volatile: false, .. }) => Kept::OnDisk,
            Ok(Committed { volatile: true, .. }) => Kept::InMemory,
            Err(error) => {
                error!(block = %block_hash, %error, "a found block could not be recorded");
                Kept::Failed
            }
        }
    }

    /// What the store has on its disk of a block. Blocks the thread.
    pub fn row(&self, block_hash: BlockHash) -> Row {
        let Some(store) = self.store() else { return Row::NotRead };
        match store.block(&block_hash.to_string()) {
            Ok(Some(summary)) => Row::Is(summary.state),
            Ok(None) => Row::None,
            Err(error) => {
                warn!(block = %block_hash, %error, "a block can not be looked up");
                Row::NotRead
            }
        }
    }

    /// As [`Self::row`], for tasks.
    pub async fn row_of(self: &Arc<Self>, block_hash: BlockHash) -> Row {
        let journal = Arc::clone(self);
        let row = tokio::task::spawn_blocking(move || journal.row(block_hash)).await;
        row.unwrap_or(Row::NotRead)
    }

    /// Blocks whose end is known, at most `max`, the newest last. Blocks the thread.
    pub fn final_blocks(&self, max: usize) -> Vec<BlockHash> {
        let Some(store) = self.store() else { return Vec::new() };
        let blocks = store.blocks(PageRequest { after: None, limit: max });
        let blocks = blocks.map(|page| page.items).unwrap_or_else(|error| {
            warn!(%error, "blocks of the past can not be looked up");
            Vec::new()
        });
        let ended = blocks.iter().rev().filter(|block| block.state != BlockState::Found);
        ended.filter_map(|block| block.block_hash.parse().ok()).collect()
    }

    /// The store writes, and holds nothing in memory only.
    pub fn is_healthy(&self) -> bool {
        self.store().is_some_and(|store| store.status() == Status::Healthy)
    }

    /// The store takes nothing any more.
    pub fn is_closed(&self) -> bool {
        self.store().is_none_or(|store| store.status() == Status::Closed)
    }

    /// Records a step of a block's saga at one node, with its event where the node answered or
    /// could not be asked.
    pub async fn step(&self, step: SubmissionStep) {
        let Some(store) = self.store() else { return };
        let told = matches!(
            step.state,
            SubmissionState::Accepted | SubmissionState::Rejected | SubmissionState::Unknown
        );
        let event = told.then(|| BlockSubmitted {
            block_hash: step.block_hash.to_string(),
            node: step.node.clone(),
            result: step.state,
            detail: step.detail.clone(),
            latency_ms: step.latency_ms.unwrap_or_default(),
        });
        let mut batch = Batch::new(now_ms()).change(Change::Submission(step));
        if let Some(event) = event {
            batch = batch.event(event);
        }
        if let Err(error) = store.commit(batch).await {
            error!(%error, "a step of a found block could not be recorded");
        }
    }

    /// Records where a block of ours ended up.
    pub async fn progress(&self, block_hash: BlockHash, state: BlockState, confirmations: u32) {
        let Some(store) = self.store() else { return };
        let change = Change::BlockProgress { block_hash, state, confirmations };
        let batch = Batch::new(now_ms()).change(change);
        let block_hash = block_hash.to_string();
        let batch = match state {
            BlockState::Confirmed => batch.event(BlockConfirmed { block_hash, confirmations }),
            BlockState::Orphaned => batch.event(BlockOrphaned { block_hash, confirmations }),
            BlockState::Found | BlockState::Rejected => batch,
        };
        if let Err(error) = store.commit(batch).await {
            error!(%error, "the end of a found block could not be recorded");
        }
    }
}
