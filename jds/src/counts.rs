//! What is counted of the server while it runs: for `/metrics` and `/readyz`, and for nothing else.
//! Nothing here waits, and nothing reads it to decide what to do.

mod gauge;
mod stream;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use api::{Declaration, Metrics, Traffic};
use validation::rejection::Rejection;

pub use gauge::{Gauge, Part};
pub(crate) use stream::CountedStream;

use crate::journal::{Case, Timing};

/// Name of the job declaration protocol in metrics.
pub(crate) const JOB_DECLARATION: &str = "job_declaration";

/// Name of the template distribution protocol in metrics.
pub(crate) const TEMPLATE_DISTRIBUTION: &str = "template_distribution";

/// Name of the Mining Protocol of Stratum V2 in metrics.
pub(crate) const MINING: &str = "mining";

/// Name of Stratum V1 in metrics.
pub(crate) const MINING_V1: &str = "mining_v1";

/// Counters and gauges of one server.
#[derive(Debug)]
pub struct Counts {
    /// Counters and histograms.
    pub metrics: Metrics,
    /// Connections that have not finished their handshake.
    pub handshakes: Gauge,
    /// Job declaration connections after it.
    pub connections: Gauge,
    /// Bytes of job declaration connections, as on the wire.
    pub traffic: Traffic,
    /// How the job declaration listener is.
    pub listener: Listener,
    /// Template distribution connections after their handshake.
    pub template_connections: Gauge,
    /// Bytes of template distribution connections, as on the wire.
    pub template_traffic: Traffic,
    /// How the template distribution listener is, if there is one.
    pub template_listener: Listener,
    /// Stratum V2 miners.
    pub mining: MiningCounts,
    /// Stratum V1 miners.
    pub mining_v1: MiningCounts,
}

impl Default for Counts {
    fn default() -> Self {
        Self::new(Metrics::new())
    }
}

impl Counts {
    /// Everything at zero, the listener down.
    pub fn new(metrics: Metrics) -> Self {
        Self {
            handshakes: Gauge::default(),
            connections: Gauge::default(),
            traffic: metrics.traffic(JOB_DECLARATION),
            listener: Listener::default(),
            template_connections: Gauge::default(),
            template_traffic: metrics.traffic(TEMPLATE_DISTRIBUTION),
            template_listener: Listener::default(),
            mining: MiningCounts::new(&metrics, MINING),
            mining_v1: MiningCounts::new(&metrics, MINING_V1),
            metrics,
        }
    }

    /// Counts a declaration whose verdict is known.
    pub fn observe(&self, case: &Case, verdict: Result<(), &Rejection>, timing: &Timing) {
        self.metrics.declaration(&Declaration {
            result: if verdict.is_ok() { "accepted" } else { "rejected" },
            code: verdict.err().map_or("", |rejection| rejection.code.as_str()),
            validation: timing.verdict,
            bytes: case.bytes,
            txs: u64::from(case.tx_count.saturating_sub(1)),
            missing_txs: timing.missing as u64,
            fetch: timing.fetch,
        });
    }

    /// Counts a declaration that was refused before the rules were asked.
    pub fn observe_refused(&self, rejection: &Rejection) {
        self.metrics.refused(rejection.code.as_str());
    }
}

/// What is counted of one of the ports for miners.
#[derive(Debug)]
pub struct MiningCounts {
    /// Connections, after their handshake where there is one.
    pub connections: Gauge,
    /// Their channels; of Stratum V1 each worker is one.
    pub channels: Gauge,
    /// Their bytes, as on the wire.
    pub traffic: Traffic,
    /// How the listener is, if there is one.
    pub listener: Listener,
}

impl MiningCounts {
    fn new(metrics: &Metrics, protocol: &'static str) -> Self {
        Self {
            connections: Gauge::default(),
            channels: Gauge::default(),
            traffic: metrics.traffic(protocol),
            listener: Listener::default(),
        }
    }
}

/// How a listener is.
#[derive(Debug)]
pub struct Listener {
    /// Why it takes nobody in; none while it does.
    down: Mutex<Option<String>>,
    places: AtomicUsize,
}

impl Default for Listener {
    fn default() -> Self {
        Self { down: Mutex::new(Some("not started".to_owned())), places: AtomicUsize::new(0) }
    }
}

impl Listener {
    /// It takes connections in, so many at a time.
    pub fn up(&self, places: usize) {
        self.places.store(places, Ordering::Relaxed);
        *self.down.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// It takes none in.
    pub fn down(&self, reason: impl Into<String>) {
        *self.down.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.into());
    }

    /// Why it takes nobody in.
    pub fn trouble(&self) -> Option<String> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections that fit.
    pub fn places(&self) -> usize {
        self.places.load(Ordering::Relaxed)
    }
}
