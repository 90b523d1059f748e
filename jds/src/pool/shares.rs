//! Shares and solutions that a pool hands in: judged in their order, blocks first, and recorded
//! before they are answered, as those of our own connections are.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use api::pool::{FoundBlock, Judged, NotJudged, Refused, Share};
use mining::FoundShare;
use mining::identity::printable;
use mining::outside::{Desk, OutsideOutcome, OutsideShare, OutsideSolution};
use mining_sv2::{
    ERROR_CODE_SUBMIT_SHARES_DIFFICULTY_TOO_LOW as TOO_LOW,
    ERROR_CODE_SUBMIT_SHARES_DUPLICATE_SHARE as DUPLICATE,
};
use store::{Protocol, ShareSubmitted, TemplateSource};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::warn;

use super::POOL_PEER;
use super::jobs::PoolJob;
use super::work::Work;
use crate::limits::FOUND_KEPT_LIMIT;
use crate::mining::{now, records};
use crate::server::Shared;
use crate::solve::{FoundTurns, Solvers};

/// Events about what a pool hands in say this: its miners may speak anything to it.
const PROTOCOL: Protocol = Protocol::StratumV2;

/// Judges what comes.
#[derive(Debug)]
pub(super) struct ShareDesk {
    shared: Arc<Shared>,
    desk: Mutex<Desk>,
    turns: FoundTurns,
}

impl ShareDesk {
    pub(super) fn new(shared: Arc<Shared>, desk: Desk) -> Self {
        Self { shared, desk: Mutex::new(desk), turns: FoundTurns::default() }
    }

    /// What each is worth. What counts is on the disk when this returns, and so are blocks.
    pub(super) async fn judge(
        &self,
        work: &Work,
        shares: Vec<Share>,
    ) -> Result<Vec<Judged>, NotJudged> {
        let (mut judged, mut accepted) = (Vec::with_capacity(shares.len()), Vec::new());
        let mut blocks = Vec::new();
        for share in shares {
            judged.push(self.one(work, share, &mut accepted, &mut blocks).await);
        }
        if !accepted.is_empty()
            && let Some(commit) = self.shared.journal.shares(PROTOCOL, accepted)
        {
            commit.await.map_err(|error| NotJudged::NotRecorded(error.to_string()))?;
        }
        for block in blocks {
            kept(block).await;
        }
        Ok(judged)
    }

    async fn one(
        &self,
        work: &Work,
        share: Share,
        accepted: &mut Vec<ShareSubmitted>,
        blocks: &mut Vec<oneshot::Receiver<Infallible>>,
    ) -> Judged {
        let Share { on, worker, extranonce, ntime, nonce, version, target } = share;
        let job = match work.find(on).await {
            Ok(job) => job,
            Err(refused) => {
                self.count(refused.code);
                return Judged { hash: None, is_block: false, worth: Err(refused) };
            }
        };
        let worker = worker.map(|worker| printable(&worker));
        let extranonce = extranonce.as_slice();
        let share =
            OutsideShare { extranonce, ntime, nonce, version, target, worker: worker.as_ref() };
        let tip = self.shared.nodes.watch_tip().borrow().map(|tip| tip.hash);
        let outcome = self.desk().submit(&job.job, &job.user, &share, tip, now());
        let OutsideOutcome { found, is_block, record } = outcome;
        if let Some(found) = found {
            blocks.push(self.found(found).await);
        }
        let event = records::submitted(&record, TemplateSource::Miner);
        self.count(record.error_code.unwrap_or("accepted"));
        let worth = match record.error_code {
            None => {
                let source = TemplateSource::Miner.as_str();
                self.shared.counts.metrics.share_difficulty(source, record.difficulty);
                accepted.push(event);
                Ok(record.difficulty)
            }
            Some(code) => {
                self.shared.journal.share_refused(POOL_PEER, PROTOCOL, event);
                Err(Refused { code, detail: detail(code, &job) })
            }
        };
        Judged { hash: record.share_hash, is_block, worth }
    }

    /// Submits the block of a solution; it is on the disk when this returns.
    pub(super) async fn solve(&self, work: &Work, solution: Share) -> Result<FoundBlock, Refused> {
        let Share { on, extranonce, ntime, nonce, version, target, .. } = solution;
        let job = work.find(on).await?;
        let extranonce = extranonce.as_slice();
        let share = OutsideShare { extranonce, ntime, nonce, version, target, worker: None };
        let solved = self.desk().solve(&job.job, &job.user, &share, now());
        let OutsideSolution { hash, is_block, found } =
            solved.map_err(|code| Refused { code, detail: detail(code, &job) })?;
        if !is_block {
            let detail = format!("its hash {hash} does not meet the network's target");
            return Err(Refused { code: TOO_LOW, detail });
        }
        let new = found.is_some() && !self.shared.submitter.knows(&hash);
        if let Some(found) = found {
            kept(self.found(found).await).await;
        }
        Ok(FoundBlock { hash, height: job.job.tip().next_height(), new })
    }

    /// Sends a block on its way, before anything else is done.
    async fn found(&self, share: Box<FoundShare>) -> oneshot::Receiver<Infallible> {
        Solvers::found(&self.shared, &self.turns, share, Instant::now()).await
    }

    fn count(&self, result: &'static str) {
        self.shared.counts.metrics.share(TemplateSource::Miner.as_str(), result);
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        // A share is judged before it is remembered: what a panic leaves behind is valid.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until a block is on the disk, not for ever.
async fn kept(block: oneshot::Receiver<Infallible>) {
    // It is never told anything: its sender goes when the block is on the disk.
    if timeout(FOUND_KEPT_LIMIT, block).await.is_err() {
        warn!("a found block is not on the disk in time: its share is answered");
    }
}

/// What there is to say beside the code.
fn detail(code: &'static str, job: &PoolJob) -> String {
    match (code, job.job.withdrawn()) {
        (DUPLICATE, _) => "it counted before".to_owned(),
        (_, Some(reason)) => format!("the job was withdrawn: {reason}"),
        _ => String::new(),
    }
}
