//! Checks of one connection's custom jobs under way. Each has an end: one that fails in itself ends in a
//! refusal, so that no request stays without its answer.

use std::collections::HashMap;
use std::future::Future;

use mining::CustomJobVerdict;
use mining_sv2::ERROR_CODE_SET_CUSTOM_MINING_JOB_JOB_NOT_YET_VALIDATED as NOT_YET_VALIDATED;
use tokio::task::{Id, JoinSet};
use tracing::Instrument;

/// What came of a check.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) request_id: u32,
    pub(super) channel_id: u32,
    pub(super) verdict: CustomJobVerdict,
}

/// See the module. Dropped, the checks end.
#[derive(Debug, Default)]
pub(super) struct Checks {
    tasks: JoinSet<CustomJobVerdict>,
    /// Request and channel.
    asked: HashMap<Id, (u32, u32)>,
}

impl Checks {
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn begin(
        &mut self,
        (request_id, channel_id): (u32, u32),
        check: impl Future<Output = CustomJobVerdict> + Send + 'static,
    ) {
        let task = self.tasks.spawn(check.in_current_span());
        self.asked.insert(task.id(), (request_id, channel_id));
    }

    /// The next that ends; none when none is under way. May be given up at any time.
    pub(super) async fn next(&mut self) -> Option<Checked> {
        let (task, verdict) = match self.tasks.join_next_with_id().await? {
            Ok(ended) => ended,
            // It panicked, and has said so in the log by itself.
            Err(error) => (error.id(), failed(&error)),
        };
        let (request_id, channel_id) = self.asked.remove(&task)?;
        Some(Checked { request_id, channel_id, verdict })
    }
}

fn failed(error: &impl ToString) -> CustomJobVerdict {
    CustomJobVerdict::Refused { error_code: NOT_YET_VALIDATED, detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_check_that_fails_in_itself_is_answered_like_any_other() {
        let mut checks = Checks::default();
        checks.begin((1, 10), async { panic!("a fault of ours") });
        checks.begin((2, 20), async {
            CustomJobVerdict::Refused { error_code: "stale-chain-tip", detail: String::new() }
        });
        let mut codes = HashMap::new();
        while let Some(Checked { request_id, channel_id, verdict }) = checks.next().await {
            let CustomJobVerdict::Refused { error_code, .. } = verdict else { panic!() };
            codes.insert((request_id, channel_id), error_code);
        }
        let expected = [((1, 10), NOT_YET_VALIDATED), ((2, 20), "stale-chain-tip")];
        assert_eq!(codes, expected.into());
        assert!(checks.is_empty() && checks.asked.is_empty());
    }
}
