//! The saga of a found block, step by step.

use std::sync::Arc;

use bitcoin::BlockHash;
use store::{
    Batch, BlockConfirmed, BlockFound, BlockOrphaned, BlockState, BlockSubmitted, Change, NewBlock,
    SubmissionState, SubmissionStep, TemplateSource,
};
use tracing::error;
use validation::block::FoundBlock;

use super::{Journal, name, now_ms};
use crate::jobs::Job;

impl Journal {
    /// Records a found block, synced to the disk, with the nodes that it is sent to. Returns true
    /// when it is on the disk; false when the store could not write it, or only keeps it in
    /// memory.
    pub async fn found(&self, block: Arc<FoundBlock>, job: &Job) -> bool {
        let Some(store) = self.store() else { return false };
        let accepted = &job.accepted;
        let event = BlockFound {
            user: job.user.name.clone(),
            block_hash: block.hash.to_string(),
            height: accepted.height(),
            template_source: TemplateSource::Miner,
            miner_template_hash: Some(accepted.template_hash().to_string()),
            tx_count: block.tx_count as u32,
            reward_sat: accepted.reward_sat(),
        };
        let found = NewBlock {
            user: name(&job.user),
            height: accepted.height(),
            template_source: TemplateSource::Miner,
            template_hash: Some(accepted.template_hash()),
            reward_sat: accepted.reward_sat(),
            block,
        };
        let batch = Batch::new(now_ms()).change(Change::FindBlock(found)).event(event);
        match store.commit(batch).await {
            Ok(committed) => !committed.volatile,
            Err(error) => {
                error!(%error, "a found block could not be recorded");
                false
            }
        }
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
