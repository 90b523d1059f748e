//! Shares and solutions that a pool hands in: judged in their order, blocks first, and recorded
//! before they are answered, as those of our own connections are.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use api::pool::{FoundBlock, Judged, NotFound, NotJudged, Refused, Share};
use bitcoin::BlockHash;
use mining::FoundShare;
use mining::identity::printable;
use mining::outside::{Desk, OutsideOutcome, OutsideShare, OutsideSolution};
use mining_sv2::{
    ERROR_CODE_SUBMIT_SHARES_DIFFICULTY_TOO_LOW as TOO_LOW,
    ERROR_CODE_SUBMIT_SHARES_DUPLICATE_SHARE as DUPLICATE,
    ERROR_CODE_SUBMIT_SHARES_INVALID_JOB_ID as INVALID_JOB_ID,
};
use store::{Protocol, ShareSubmitted, TemplateSource};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::warn;

use super::POOL_PEER;
use super::batches::Batches;
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
    batches: Batches,
}

/// What is to be recorded of a batch.
#[derive(Debug, Default)]
struct ToRecord {
    accepted: Vec<ShareSubmitted>,
    /// What is remembered of these: the blocks that they build on, and their hashes.
    remembered: Vec<(BlockHash, BlockHash)>,
    blocks: Vec<oneshot::Receiver<Infallible>>,
    /// Some of it counted before, perhaps in a batch that is not on the disk yet.
    has_duplicates: bool,
}

impl ShareDesk {
    pub(super) fn new(shared: Arc<Shared>, desk: Desk) -> Self {
        let (turns, batches) = (FoundTurns::default(), Batches::default());
        Self { shared, desk: Mutex::new(desk), turns, batches }
    }

    /// What each is worth. What counts is on the disk when this returns, and so are blocks and what
    /// duplicates are duplicates of. Not to be dropped before its end: shares would be remembered
    /// that are not recorded.
    pub(super) async fn judge(
        &self,
        work: &Work,
        shares: Vec<Share>,
    ) -> Result<Vec<Judged>, NotJudged> {
        let batch = self.batches.begin();
        let mut judged = Vec::with_capacity(shares.len());
        let mut to_record = ToRecord::default();
        for share in shares {
            judged.push(self.one(work, share, &mut to_record).await);
        }
        let ToRecord { accepted, remembered, blocks, has_duplicates } = to_record;
        if !accepted.is_empty()
            && let Some(commit) = self.shared.journal.shares(PROTOCOL, accepted)
            && let Err(error) = commit.await
        {
            // They are welcome again.
            let mut desk = self.desk();
            remembered.into_iter().for_each(|(tip, share)| desk.forget(tip, share));
            drop(desk);
            batch.failed();
            return Err(NotJudged::NotRecorded(error.to_string()));
        }
        for block in blocks {
            kept(block).await;
        }
        if has_duplicates && batch.recorded().await.is_err() {
            let why = "the disk did not take a share that was sent before: send it again";
            return Err(NotJudged::NotRecorded(why.to_owned()));
        }
        Ok(judged)
    }

    async fn one(&self, work: &Work, share: Share, to_record: &mut ToRecord) -> Judged {
        let Share { on, worker, extranonce, ntime, nonce, version, target } = share;
        let mut job = match work.find(&on).await {
            Ok(job) => job,
            Err(refused) => {
                self.count(refused.code);
                return Judged { hash: None, is_block: false, worth: Err(refused) };
            }
        };
        let worker = worker.map(|worker| printable(&worker));
        let tip = self.shared.nodes.tip().map(|tip| tip.hash).filter(|_| job.checked);
        let extranonce = extranonce.as_slice();
        let share =
            OutsideShare { extranonce, ntime, nonce, version, target, worker: worker.as_ref() };
        let mut outcome = self.desk().submit(&job.job, &job.user, &share, tip, now());
        // Whatever this job says of it, it may be a block of another.
        if outcome.found.is_none()
            && outcome.record.error_code.is_some_and(|code| code != DUPLICATE)
        {
            for other in work.others(&on, &job) {
                let there = self.desk().submit(&other.job, &other.user, &share, None, now());
                if there.found.is_some() {
                    (job, outcome) = (other, there);
                    break;
                }
            }
        }
        let OutsideOutcome { found, record } = outcome;
        let is_block = found.is_some();
        if let Some(found) = found {
            to_record.blocks.push(self.found(found).await);
        }
        let event = records::submitted(&record, TemplateSource::Miner);
        self.count(record.error_code.unwrap_or("accepted"));
        let worth = match record.error_code {
            None => {
                let source = TemplateSource::Miner.as_str();
                self.shared.counts.metrics.share_difficulty(source, record.difficulty);
                to_record.accepted.push(event);
                to_record
                    .remembered
                    .extend(record.share_hash.map(|hash| (job.job.tip().hash, hash)));
                Ok(record.difficulty)
            }
            Some(code) => {
                to_record.has_duplicates |= code == DUPLICATE;
                self.shared.journal.share_refused(POOL_PEER, PROTOCOL, event);
                Err(Refused { code, detail: detail(code, &job) })
            }
        };
        Judged { hash: record.share_hash, is_block, worth }
    }

    /// Submits the block of a solution; it is on the disk when this returns, also where it was found
    /// before.
    pub(super) async fn solve(&self, work: &Work, solution: Share) -> Result<FoundBlock, NotFound> {
        let (job, OutsideSolution { hash, found, is_new }) = self.look(work, solution).await?;
        let Some(found) = found else {
            let detail = format!("its hash {hash} does not meet the network's target");
            return Err(Refused { code: TOO_LOW, detail }.into());
        };
        let new = is_new && !self.shared.submitter.knows(&hash);
        let in_time = kept(self.found(found).await).await;
        if job.is_declared() && !self.shared.submitter.knows(&hash) {
            if !in_time {
                let why = format!("block {hash} is still being put together: ask again");
                return Err(NotJudged::NotRecorded(why).into());
            }
            let detail = format!("block {hash} can not be made: {}", crate::jobs::LET_GO);
            return Err(Refused { code: INVALID_JOB_ID, detail }.into());
        }
        Ok(FoundBlock { hash, height: job.job.tip().next_height(), new })
    }

    /// Submits the blocks among shares, and says nothing of the shares; the blocks are on the disk
    /// when this returns.
    pub(super) async fn blocks(&self, work: &Work, shares: Vec<Share>) {
        let mut blocks = Vec::new();
        for share in shares {
            if let Ok((_, OutsideSolution { found: Some(found), .. })) =
                self.look(work, share).await
            {
                blocks.push(self.found(found).await);
            }
        }
        for block in blocks {
            kept(block).await;
        }
    }

    /// Whether it is a block, and on which job.
    async fn look(
        &self,
        work: &Work,
        solution: Share,
    ) -> Result<(Arc<PoolJob>, OutsideSolution), Refused> {
        let Share { on, extranonce, ntime, nonce, version, target, .. } = solution;
        let job = work.find(&on).await?;
        let extranonce = extranonce.as_slice();
        let share = OutsideShare { extranonce, ntime, nonce, version, target, worker: None };
        let on_it = |job: &PoolJob| {
            let solved = self.desk().solve(&job.job, &job.user, &share, now());
            solved.map_err(|code| Refused { code, detail: detail(code, job) })
        };
        let solved = on_it(&job)?;
        if solved.found.is_none() {
            for other in work.others(&on, &job) {
                let there = on_it(&other)?;
                if there.found.is_some() {
                    return Ok((other, there));
                }
            }
        }
        Ok((job, solved))
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

/// Waits until a block is on the disk, not for ever; false when it is not by then.
async fn kept(block: oneshot::Receiver<Infallible>) -> bool {
    // It is never told anything: its sender goes when the block is on the disk.
    let in_time = timeout(FOUND_KEPT_LIMIT, block).await.is_ok();
    if !in_time {
        warn!("a found block is not on the disk in time: its share is answered");
    }
    in_time
}

/// What there is to say beside the code.
fn detail(code: &'static str, job: &PoolJob) -> String {
    match (code, job.job.withdrawn()) {
        (DUPLICATE, _) => "it counted before".to_owned(),
        (_, Some(reason)) => format!("the job was withdrawn: {reason}"),
        _ => String::new(),
    }
}
