//! A solution for a template provider's own template, on its way back to that provider.
//!
//! The protocol has no answer (SV2 7.7). What can be seen is whether the provider's tip becomes the
//! block.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bitcoin::BlockHash;
use tdp_client::{Provider, ProviderSolution, TipState};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::notes::{News, Notes};
use super::{Open, Submitter, UnderWay};
use crate::limits::{PROVIDER_HANDOVER_MAX, PROVIDER_VERDICT_MAX};

/// What a provider is to be handed.
#[derive(Debug)]
pub(crate) struct Handover {
    pub(super) provider: Provider,
    solution: ProviderSolution,
}

impl From<(Provider, ProviderSolution)> for Handover {
    fn from((provider, solution): (Provider, ProviderSolution)) -> Self {
        Self { provider, solution }
    }
}

/// What a provider's tip says of a block that it was handed.
const TIP: &str = "its tip became this block";

impl Submitter {
    /// Hands the solution over, and watches for the block.
    pub(super) async fn to_provider(
        &self,
        handover: Handover,
        open: &Open,
        notes: &Notes,
        under_way: UnderWay,
    ) {
        let Handover { provider, solution } = handover;
        let (name, hash) = (provider.name(), open.hash);
        let mut tip = provider.followed().tip();
        if let Err(error) = provider.submit(solution) {
            error!(block = %hash, node = name, %error, "the solution can not be handed over");
            self.metrics.submission(name, "unknown", open.latency());
            notes.tell(name, News::Unknown(error.to_string()), 1, open.latency());
            notes.tell(name, News::GaveUp, 1, open.latency());
            return;
        }
        notes.tell(name, News::Sent, 1, open.latency());
        let limits = (PROVIDER_HANDOVER_MAX, PROVIDER_VERDICT_MAX);
        let became = becomes(&mut tip, hash, under_way, limits).await;
        let latency = open.latency();
        let latency_ms = latency.as_secs_f64() * 1e3;
        if became {
            open.taken.store(true, Ordering::Relaxed);
            info!(block = %hash, node = name, latency_ms, "block accepted: {TIP}");
            self.metrics.submission(name, "accepted", latency);
            notes.tell(name, News::Accepted(Some(TIP)), 1, latency);
        } else {
            warn!(block = %hash, node = name, "the template provider's tip did not become the block");
            let why = "a template provider does not answer, and its tip did not become this block";
            self.metrics.submission(name, "unknown", latency);
            notes.tell(name, News::Unknown(why.to_owned()), 1, latency);
            notes.tell(name, News::GaveUp, 1, latency);
        }
    }
}

/// Whether the tip becomes this block. It leaves at once where there is a connection: the end of the
/// server (`under_way`) waits for the first of the limits, this for the second.
async fn becomes(
    tip: &mut watch::Receiver<Option<Arc<TipState>>>,
    hash: BlockHash,
    under_way: UnderWay,
    (handover_max, verdict_max): (Duration, Duration),
) -> bool {
    let is_it =
        |tip: &Option<Arc<TipState>>| tip.as_ref().is_some_and(|state| state.tip.hash == hash);
    let soon = timeout(handover_max, tip.wait_for(is_it)).await.is_ok_and(|tip| tip.is_ok());
    drop(under_way);
    if soon {
        return true;
    }
    let rest = verdict_max.saturating_sub(handover_max);
    timeout(rest, tip.wait_for(is_it)).await.is_ok_and(|tip| tip.is_ok())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::jobs::tests::tip_below;

    /// Far longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(30);
    const MOMENT: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn the_end_waits_for_the_handover_alone_and_nobody_for_ever() {
        let block = tip_below(9);
        let (tips, mut tip) = watch::channel(None);
        let counts = watch::Sender::new(0);
        let under_way = UnderWay::begin(&counts);
        let watching = tokio::spawn(async move {
            becomes(&mut tip, block.hash, under_way, (MOMENT, PATIENCE * 2)).await
        });
        let mut count = counts.subscribe();
        let free = timeout(PATIENCE, count.wait_for(|count| *count == 0)).await.is_ok();
        assert!(free, "the end of the server waited for the provider's tip");
        assert!(!watching.is_finished(), "its tip may become the block yet");
        let state = TipState { tip: block, work: None, seen_at: Instant::now() };
        tips.send_replace(Some(Arc::new(state)));
        let became = timeout(PATIENCE, watching).await.expect("waited for a tip that is there");
        assert!(became.unwrap());

        let (_tips, mut silent) = watch::channel(None);
        let watching =
            becomes(&mut silent, block.hash, UnderWay::begin(&counts), (MOMENT, MOMENT * 2));
        assert!(!timeout(PATIENCE, watching).await.expect("waited for a verdict for ever"));
    }
}
