//! A solution for a template provider's own template, on its way back to that provider.
//!
//! The protocol has no answer (SV2 7.7). What can be seen is whether the provider's tip becomes the
//! block.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tdp_client::{Provider, ProviderSolution, TipState};
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
        let is_it =
            |tip: &Option<Arc<TipState>>| tip.as_ref().is_some_and(|state| state.tip.hash == hash);
        // It leaves at once where there is a connection; the end of the server waits so long.
        let mut became = timeout(PROVIDER_HANDOVER_MAX, tip.wait_for(is_it)).await.is_ok();
        drop(under_way);
        if !became {
            let rest = PROVIDER_VERDICT_MAX.saturating_sub(PROVIDER_HANDOVER_MAX);
            became = timeout(rest, tip.wait_for(is_it)).await.is_ok_and(|tip| tip.is_ok());
        }
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
