//! The server, as the pool interface sees it.

use std::sync::Arc;
use std::time::Duration;

use api::pool::{
    Answer, CustomJob, FoundBlock, JobData, Judged, NotJudged, PoolBackend, Refused, Share, Untold,
};
use bitcoin::Network;
use mining::outside::Desk;
use tokio::sync::watch;
use validation::tip::ChainTip;

use super::jobs::PoolJobs;
use super::shares::ShareDesk;
use super::work::Work;
use crate::limits::POOL_TIP_WAIT;
use crate::server::Shared;

/// The server, as the pool interface sees it.
#[derive(Debug)]
pub(super) struct PoolView {
    shared: Arc<Shared>,
    work: Work,
    desk: ShareDesk,
}

impl PoolView {
    /// `desk` remembers the shares that an earlier process accepted.
    pub(super) fn new(shared: Arc<Shared>, desk: Desk) -> Self {
        let jobs = Arc::new(PoolJobs::new());
        Self {
            work: Work::new(Arc::clone(&shared), jobs),
            desk: ShareDesk::new(Arc::clone(&shared), desk),
            shared,
        }
    }

    /// Waits until a node has told a tip, at most [`POOL_TIP_WAIT`]: right after a start nothing is
    /// stale, only nobody knows yet.
    async fn tip_known(&self) -> bool {
        known_within(self.shared.nodes.watch_tip(), POOL_TIP_WAIT).await
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
            self.work.verify(job).await
        })
    }

    fn shares(&self, shares: Vec<Share>) -> Answer<'_, Result<Vec<Judged>, NotJudged>> {
        Box::pin(async {
            if !self.tip_known().await {
                return Err(NotJudged::NoTip);
            }
            self.desk.judge(&self.work, shares).await
        })
    }

    fn block(&self, solution: Share) -> Answer<'_, Result<FoundBlock, Refused>> {
        Box::pin(async {
            self.tip_known().await;
            self.desk.solve(&self.work, solution).await
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
}
