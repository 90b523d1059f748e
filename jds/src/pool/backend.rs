//! The server, as the pool interface sees it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use api::pool::{
    Answer, CustomJob, FoundBlock, JobData, Judged, NotFound, NotJudged, PoolBackend, Refused,
    Share, Untold,
};
use bitcoin::Network;
use mining::outside::Desk;
use mining_sv2::ERROR_CODE_SET_CUSTOM_MINING_JOB_JOB_NOT_YET_VALIDATED as NOT_YET_VALIDATED;
use tokio::sync::{Semaphore, watch};
use validation::tip::ChainTip;

use super::jobs::PoolJobs;
use super::shares::ShareDesk;
use super::work::Work;
use crate::limits::{POOL_CHECKS_MAX, POOL_SOLUTIONS_MAX, POOL_TIP_WAIT, POOL_WORK_MAX};
use crate::server::Shared;

/// The server, as the pool interface sees it.
#[derive(Debug)]
pub(super) struct PoolView {
    shared: Arc<Shared>,
    work: Arc<Work>,
    desk: Arc<ShareDesk>,
    /// Places of shares.
    places: Arc<Semaphore>,
    /// Places of checks of jobs, which may wait for a node's next tip: shares do not wait for them.
    checks: Arc<Semaphore>,
    /// Places of solutions: what is abandoned by its client is not in front of them.
    solutions: Arc<Semaphore>,
}

/// Goes on to its end when nobody waits for it any more: a share that is remembered has to be
/// recorded, and a block submitted. Waits for a place first.
async fn to_its_end<T: Send + 'static>(
    places: &Arc<Semaphore>,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, NotJudged> {
    // It is never closed.
    let place = Arc::clone(places).acquire_owned().await.ok();
    let task = tokio::spawn(async move {
        let done = work.await;
        drop(place);
        done
    });
    // It panicked, and has said so in the log, or the server ends.
    task.await.map_err(|error| NotJudged::NotRecorded(format!("it ended abnormally: {error}")))
}

impl PoolView {
    /// `desk` remembers the shares that an earlier process accepted.
    pub(super) fn new(shared: Arc<Shared>, desk: Desk) -> Self {
        let jobs = Arc::new(PoolJobs::new());
        Self {
            work: Arc::new(Work::new(Arc::clone(&shared), jobs)),
            desk: Arc::new(ShareDesk::new(Arc::clone(&shared), desk)),
            places: Arc::new(Semaphore::new(POOL_WORK_MAX)),
            checks: Arc::new(Semaphore::new(POOL_CHECKS_MAX)),
            solutions: Arc::new(Semaphore::new(POOL_SOLUTIONS_MAX)),
            shared,
        }
    }

    /// Waits until a node has told a tip, at most [`POOL_TIP_WAIT`]: right after a start nothing is
    /// stale, only nobody knows yet.
    async fn tip_known(&self) -> bool {
        known_within(self.shared.nodes.watch_tip(), POOL_TIP_WAIT).await
    }

    /// Submits the block of a solution, whoever waits for the answer.
    async fn solve(&self, solution: Share) -> Result<FoundBlock, NotFound> {
        let (desk, work) = (Arc::clone(&self.desk), Arc::clone(&self.work));
        to_its_end(&self.solutions, async move { desk.solve(&work, solution).await }).await?
    }

    /// Has withdrawn jobs told of where they end, for as long as it is polled.
    pub(super) async fn watch_jobs(&self) {
        let (mut ends, mut tips) = (self.shared.jobs.watch_ends(), self.shared.nodes.watch_tip());
        loop {
            let tip = tips.borrow_and_update().map(|tip| tip.hash);
            self.work.jobs().look(tip);
            let news = tokio::select! {
                news = ends.changed() => news,
                news = tips.changed() => news,
            };
            if news.is_err() {
                return;
            }
        }
    }
}

async fn known_within(mut tips: watch::Receiver<Option<ChainTip>>, limit: Duration) -> bool {
    let known = tips.wait_for(Option::is_some);
    tokio::time::timeout(limit, known).await.is_ok_and(|tip| tip.is_ok())
}

impl PoolBackend for PoolView {
    fn network(&self) -> Network {
        self.shared.network
    }

    fn watch_tip(&self) -> watch::Receiver<Option<ChainTip>> {
        self.shared.nodes.watch_tip()
    }

    fn verify(&self, job: CustomJob) -> Answer<'_, Result<Arc<JobData>, Refused>> {
        Box::pin(async {
            self.tip_known().await;
            let work = Arc::clone(&self.work);
            let verdict = to_its_end(&self.checks, async move { work.verify(job).await }).await;
            verdict.unwrap_or_else(|why| {
                Err(Refused { code: NOT_YET_VALIDATED, detail: format!("{why:?}") })
            })
        })
    }

    fn shares(&self, shares: Vec<Share>) -> Answer<'_, Result<Vec<Judged>, NotJudged>> {
        Box::pin(async {
            let (desk, work) = (Arc::clone(&self.desk), Arc::clone(&self.work));
            if self.shared.nodes.tip().is_none() {
                // What a share is worth nobody knows yet; whether it is a block needs no tip.
                let (desk, work, shares) = (Arc::clone(&desk), Arc::clone(&work), shares.clone());
                let blocks = async move { desk.blocks(&work, shares).await };
                to_its_end(&self.solutions, blocks).await?;
                if !self.tip_known().await {
                    return Err(NotJudged::NoTip);
                }
            }
            to_its_end(&self.places, async move { desk.judge(&work, shares).await }).await?
        })
    }

    fn block(&self, solution: Share) -> Answer<'_, Result<FoundBlock, NotFound>> {
        Box::pin(async {
            let had_tip = self.shared.nodes.tip().is_some();
            match self.solve(solution.clone()).await {
                // Without a tip not every job is found.
                Err(NotFound::Refused(_)) if !had_tip => {}
                solved => return solved,
            }
            if !self.tip_known().await {
                return Err(NotJudged::NoTip.into());
            }
            self.solve(solution).await
        })
    }

    fn withdrawn_after(&self, known: u64) -> Untold {
        self.work.jobs().withdrawals().after(known)
    }

    fn watch_withdrawn(&self) -> watch::Receiver<u64> {
        self.work.jobs().withdrawals().watch()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Waker};

    use tokio::time::timeout;

    use super::*;
    use crate::jobs::tests::tip_below;

    #[tokio::test]
    async fn the_first_tip_is_waited_for_and_not_for_ever() {
        const PATIENCE: Duration = Duration::from_secs(30);
        let (tips, tip) = watch::channel(None);
        let nobody = known_within(tip.clone(), Duration::from_millis(1));
        assert!(!timeout(PATIENCE, nobody).await.expect("waited for a tip for ever"));
        let waiting = tokio::spawn(known_within(tip.clone(), PATIENCE * 2));
        tokio::task::yield_now().await;
        tips.send_replace(Some(tip_below(9)));
        let known = timeout(PATIENCE, waiting).await.expect("waited for a tip that is there");
        assert!(known.unwrap());
        assert!(known_within(tip, Duration::ZERO).await, "from then on nobody waits");
    }

    #[tokio::test]
    async fn what_its_client_left_goes_on_in_its_place() {
        for most in [POOL_WORK_MAX, POOL_CHECKS_MAX, POOL_SOLUTIONS_MAX] {
            let (places, done) = (Arc::new(Semaphore::new(most)), Arc::new(AtomicUsize::new(0)));
            let gate = watch::Sender::new(false);
            let work = || {
                let (mut gate, done) = (gate.subscribe(), Arc::clone(&done));
                to_its_end(&places, async move {
                    gate.wait_for(|open| *open).await.unwrap();
                    done.fetch_add(1, Ordering::SeqCst)
                })
            };
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..most {
                assert!(pin!(work()).poll(&mut context).is_pending());
            }
            assert_eq!(places.available_permits(), 0, "they have their places");
            // One more waits; left in that time, nothing of it begins.
            assert!(pin!(work()).poll(&mut context).is_pending());
            gate.send_replace(true);
            work().await.unwrap();
            let _all = places.acquire_many(most as u32).await.unwrap();
            assert_eq!(done.load(Ordering::SeqCst), most + 1);
        }
    }
}
