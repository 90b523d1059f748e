//! Where everybody writes down what they measured.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::shares::{Kind, Tally};

/// Longest latency that is told apart from longer ones, microseconds: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Decimal digits that are kept of a latency.
const DIGITS: u8 = 3;

/// Latencies of one kind.
#[derive(Debug)]
pub(crate) struct Latencies(Mutex<Histogram<u64>>);

impl Default for Latencies {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "the bounds are constants that the crate allows")]
        let empty = Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS).expect("valid bounds");
        Self(Mutex::new(empty))
    }
}

impl Latencies {
    /// One more.
    pub(crate) fn record(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        lock(&self.0).saturating_record(us);
    }

    /// Forgets them.
    pub(crate) fn clear(&self) {
        lock(&self.0).reset();
    }

    pub(crate) fn count(&self) -> u64 {
        lock(&self.0).len()
    }

    /// The latency that `percent` of them do not exceed, milliseconds.
    pub(crate) fn percentile_ms(&self, percent: f64) -> f64 {
        lock(&self.0).value_at_quantile(percent / 100.0) as f64 / 1e3
    }

    pub(crate) fn to_json(&self) -> Value {
        let all = lock(&self.0);
        let at = |quantile| all.value_at_quantile(quantile) as f64 / 1e3;
        json!({
            "count": all.len(),
            "p50_ms": at(0.5),
            "p90_ms": at(0.9),
            "p99_ms": at(0.99),
            "p99_9_ms": at(0.999),
            "max_ms": all.max() as f64 / 1e3,
        })
    }
}

/// All that is measured of one run against one server.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// From connecting to SetupConnection.Success.
    pub(crate) handshakes: Latencies,
    /// From when a token was due to be asked for until it was there.
    pub(crate) tokens: Latencies,
    /// From when a declaration was due until it was accepted.
    pub(crate) declarations: Latencies,
    /// Those of [`Self::declarations`] since somebody looked.
    pub(crate) window: Latencies,
    /// From when the node had a new tip until a template client had work on it.
    pub(crate) tip_to_work: Latencies,
    /// The same until it had work with transactions.
    pub(crate) tip_to_full_work: Latencies,
    /// What the server says: from a solution until its block was handed to the system.
    pub(crate) solution_handed_over: Latencies,
    /// From handing in a solution until the node was given the block.
    pub(crate) solution_to_submission: Latencies,
    /// The same until the block was the node's tip.
    pub(crate) solution_to_tip: Latencies,
    /// Bytes on the wire of declarations with their answers.
    pub(crate) declared_bytes: AtomicU64,
    /// Declarations that those belong to.
    pub(crate) answered: AtomicU64,
    /// Transactions that the server asked for.
    pub(crate) asked_txs: AtomicU64,
    /// In the order of [`Kind::ALL`].
    shares: [Tally; Kind::ALL.len()],
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Board {
    /// Of the miners of that kind.
    pub(crate) fn shares(&self, kind: Kind) -> &Tally {
        let [standard, extended, sv1] = &self.shares;
        match kind {
            Kind::Standard => standard,
            Kind::Extended => extended,
            Kind::Sv1 => sv1,
        }
    }

    /// Something went wrong, named by its code.
    pub(crate) fn error(&self, code: impl Into<String>) {
        *lock(&self.errors).entry(code.into()).or_default() += 1;
    }

    /// What went wrong, and how often.
    pub(crate) fn errors(&self) -> BTreeMap<String, u64> {
        lock(&self.errors).clone()
    }

    pub(crate) fn add_answered(&self, bytes: u64, asked_txs: usize) {
        self.declared_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.asked_txs.fetch_add(asked_txs as u64, Ordering::Relaxed);
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// On average; none without a declaration.
    pub(crate) fn bytes_per_declaration(&self) -> Option<u64> {
        let answered = self.answered.load(Ordering::Relaxed);
        self.declared_bytes.load(Ordering::Relaxed).checked_div(answered)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let latencies = Latencies::default();
        (1..=1_000).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        for (percent, ms) in [(50.0, 500.0), (99.0, 990.0), (100.0, 1_000.0)] {
            let measured = latencies.percentile_ms(percent);
            assert!((measured - ms).abs() <= ms / 500.0, "p{percent} is {measured}");
        }
        assert_eq!(latencies.count(), 1_000);
    }
}
