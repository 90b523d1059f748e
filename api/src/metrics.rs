//! What is counted: handles that the server increments.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Labels of a metric: names and values.
type Labels<const N: usize> = [(&'static str, String); N];

/// Every counter and histogram. Cheap to clone; all clones count together.
///
/// Numbers of the moment (tokens, connections, queues, nodes, the store) are not here: the API asks
/// [`crate::Backend`] and the store for them when it is asked.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    declarations: Family<Labels<2>, Counter>,
    validation_seconds: Histogram,
    declaration_bytes: Histogram,
    declared_txs: Counter,
    missing_txs: Counter,
    fetch_seconds: Histogram,
    cache_lookups: Family<Labels<2>, Counter>,
    solutions: Family<Labels<1>, Counter>,
    submissions: Family<Labels<2>, Counter>,
    submission_seconds: Family<Labels<1>, Histogram, fn() -> Histogram>,
    block_sent_seconds: Histogram,
    shares: Family<Labels<2>, Counter>,
    channel_targets: Family<Labels<2>, Counter>,
    channel_difficulty: Family<Labels<1>, Histogram, fn() -> Histogram>,
    template_messages: Family<Labels<1>, Counter>,
    template_tip_seconds: Histogram,
    share_difficulty: Family<Labels<1>, Counter<f64, AtomicU64>>,
    bytes: Family<Labels<2>, Counter>,
    requests: Family<Labels<3>, Counter>,
    request_seconds: Histogram,
    deliveries: Family<Labels<2>, Counter>,
    user_checks: Family<Labels<2>, Counter>,
}

/// One declaration, when its answer has left.
#[derive(Debug, Clone, Copy)]
pub struct Declaration<'a> {
    /// `accepted`, `rejected`, or another end in one word.
    pub result: &'static str,
    /// Code that the client was told; empty when it was accepted. Of a closed set.
    pub code: &'a str,
    /// Time that the verdict took.
    pub validation: Duration,
    /// Size of the declaration, bytes.
    pub bytes: u64,
    /// Transactions in it, without the coinbase.
    pub txs: u64,
    /// Those of them that we had to ask for.
    pub missing_txs: u64,
    /// From our question for them to the answer.
    pub fetch: Option<Duration>,
}

/// Bytes of one protocol: two counters to be kept by whoever moves bytes.
#[derive(Debug, Clone)]
pub struct Traffic {
    received: Counter,
    sent: Counter,
}

impl Traffic {
    /// So many bytes came.
    pub fn received(&self, bytes: u64) {
        self.received.inc_by(bytes);
    }

    /// So many bytes left.
    pub fn sent(&self, bytes: u64) {
        self.sent.inc_by(bytes);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// 10 µs to 5 s: a verdict takes well below a millisecond when everything is known.
const SECONDS: [f64; 14] =
    [1e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1, 0.5, 1.0, 5.0];

/// 0.25 ms to a minute: a block is to be with a node within 5 ms.
const SENT_SECONDS: [f64; 16] = [
    2.5e-4, 5e-4, 1e-3, 1.5e-3, 2e-3, 3e-3, 4e-3, 5e-3, 7.5e-3, 1e-2, 1.5e-2, 2.5e-2, 0.1, 0.5,
    5.0, 60.0,
];

/// 1 kB to 1 MB: a wtxid is 32 bytes.
const BYTES: [f64; 8] = [1e3, 4e3, 16e3, 64e3, 128e3, 256e3, 512e3, 1e6];

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// From a miner on a processor to many petahashes a second behind one proxy.
const DIFFICULTIES: [f64; 14] = [
    1e-6, 1e-4, 1e-2, 1.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1e6, 1e8, 1e10,
];

fn difficulties() -> Histogram {
    Histogram::new(DIFFICULTIES)
}

impl Metrics {
    /// Counters at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("jds");
        let all = Inner {
            declarations: Family::default(),
            validation_seconds: seconds(),
            declaration_bytes: Histogram::new(BYTES),
            declared_txs: Counter::default(),
            missing_txs: Counter::default(),
            fetch_seconds: seconds(),
            cache_lookups: Family::default(),
            solutions: Family::default(),
            submissions: Family::default(),
            submission_seconds: Family::new_with_constructor(seconds),
            block_sent_seconds: Histogram::new(SENT_SECONDS),
            shares: Family::default(),
            channel_targets: Family::default(),
            channel_difficulty: Family::new_with_constructor(difficulties),
            template_messages: Family::default(),
            template_tip_seconds: seconds(),
            share_difficulty: Family::default(),
            bytes: Family::default(),
            requests: Family::default(),
            request_seconds: seconds(),
            deliveries: Family::default(),
            user_checks: Family::default(),
            registry: Registry::default(),
        };
        all.register(&mut registry);
        Self { inner: Arc::new(Inner { registry, ..all }) }
    }

    /// Counts a declaration.
    pub fn declaration(&self, declaration: &Declaration<'_>) {
        let inner = &*self.inner;
        let labels =
            [("result", declaration.result.to_owned()), ("code", declaration.code.to_owned())];
        inner.declarations.get_or_create(&labels).inc();
        inner.validation_seconds.observe(declaration.validation.as_secs_f64());
        inner.declaration_bytes.observe(declaration.bytes as f64);
        inner.declared_txs.inc_by(declaration.txs);
        inner.missing_txs.inc_by(declaration.missing_txs);
        if let Some(fetch) = declaration.fetch {
            inner.fetch_seconds.observe(fetch.as_secs_f64());
        }
    }

    /// Counts a declaration that was refused before it was looked at, for instance for its token: it
    /// is a rejected one, and says nothing about times and sizes.
    pub fn refused(&self, code: &str) {
        let labels = [("result", "rejected".to_owned()), ("code", code.to_owned())];
        self.inner.declarations.get_or_create(&labels).inc();
    }

    /// Counts look-ups in a cache.
    pub fn cache(&self, name: &'static str, hits: u64, misses: u64) {
        for (result, count) in [("hit", hits), ("miss", misses)] {
            let labels = [("cache", name.to_owned()), ("result", result.to_owned())];
            self.inner.cache_lookups.get_or_create(&labels).inc_by(count);
        }
    }

    /// Counts a solution by what came of it (`block`, `unknown_job`, `low_difficulty` …).
    pub fn solution(&self, result: &'static str) {
        self.inner.solutions.get_or_create(&[("result", result.to_owned())]).inc();
    }

    /// Counts what a node answered to a block (`accepted`, `rejected`, `unknown`), and how long
    /// that took from the solution on.
    pub fn submission(&self, node: &str, result: &'static str, latency: Duration) {
        let labels = [("node", node.to_owned()), ("result", result.to_owned())];
        self.inner.submissions.get_or_create(&labels).inc();
        let of_node = [("node", node.to_owned())];
        self.inner.submission_seconds.get_or_create(&of_node).observe(latency.as_secs_f64());
    }

    /// All of a block was handed to the system for the first of the nodes (over IPC, to the connection), so
    /// long after its solution had come.
    pub fn block_sent(&self, latency: Duration) {
        self.inner.block_sent_seconds.observe(latency.as_secs_f64());
    }

    /// Counts a share: whose template (`miner`, `pool`), and `accepted` or the error code.
    pub fn share(&self, template_source: &'static str, result: &'static str) {
        let labels =
            [("template_source", template_source.to_owned()), ("result", result.to_owned())];
        self.inner.shares.get_or_create(&labels).inc();
    }

    /// Counts a target that a miner was given: `change` is `opened`, `harder` or `easier`.
    pub fn channel_target(&self, protocol: &'static str, change: &'static str, difficulty: f64) {
        let labels = [("protocol", protocol.to_owned()), ("change", change.to_owned())];
        self.inner.channel_targets.get_or_create(&labels).inc();
        let of_protocol = [("protocol", protocol.to_owned())];
        self.inner.channel_difficulty.get_or_create(&of_protocol).observe(difficulty);
    }

    /// Counts a look at whether a user may mine or declare: `allowed` or `denied`, and why that counts
    /// (`list`, `known`, `asked`, `old`, `down`).
    pub fn user_check(&self, result: &'static str, how: &'static str) {
        let labels = [("result", result.to_owned()), ("by", how.to_owned())];
        self.inner.user_checks.get_or_create(&labels).inc();
    }

    /// Counts a message to a client of template distribution (`new_template` …).
    pub fn template_message(&self, kind: &'static str) {
        self.inner.template_messages.get_or_create(&[("message", kind.to_owned())]).inc();
    }

    /// A client of template distribution was told of a new tip, so long after our node knew it.
    pub fn template_tip(&self, latency: Duration) {
        self.inner.template_tip_seconds.observe(latency.as_secs_f64());
    }

    /// Adds the difficulty of an accepted share: with 2^32 hashes for each, what was worked.
    pub fn share_difficulty(&self, template_source: &'static str, difficulty: f64) {
        let labels = [("template_source", template_source.to_owned())];
        self.inner.share_difficulty.get_or_create(&labels).inc_by(difficulty);
    }

    /// The counters of bytes of a protocol (`job_declaration`, `http` …). Keep them.
    pub fn traffic(&self, protocol: &'static str) -> Traffic {
        let counter = |direction: &str| {
            let labels = [("protocol", protocol.to_owned()), ("direction", direction.to_owned())];
            self.inner.bytes.get_or_create(&labels).clone()
        };
        Traffic { received: counter("in"), sent: counter("out") }
    }

    pub(crate) fn request(&self, method: &str, route: &str, status: u16, time: Duration) {
        let labels = [
            ("method", method.to_owned()),
            ("route", route.to_owned()),
            ("status", status.to_string()),
        ];
        self.inner.requests.get_or_create(&labels).inc();
        self.inner.request_seconds.observe(time.as_secs_f64());
    }

    pub(crate) fn delivery(&self, webhook: &str, result: &'static str) {
        let labels = [("webhook", webhook.to_owned()), ("result", result.to_owned())];
        self.inner.deliveries.get_or_create(&labels).inc();
    }

    /// A webhook is gone: so are its counters, or each that ever was would stay.
    pub(crate) fn forget_webhook(&self, webhook: &str) {
        for result in ["delivered", "failed"] {
            self.inner
                .deliveries
                .remove(&[("webhook", webhook.to_owned()), ("result", result.to_owned())]);
        }
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.inner.registry
    }
}

impl Inner {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "declarations",
            "Declared templates by verdict and code",
            self.declarations.clone(),
        );
        registry.register_with_unit(
            "validation",
            "Time of a verdict",
            Unit::Seconds,
            self.validation_seconds.clone(),
        );
        registry.register_with_unit(
            "declaration",
            "Size of a declaration",
            Unit::Bytes,
            self.declaration_bytes.clone(),
        );
        registry.register(
            "declared_txs",
            "Transactions in declarations, the coinbase left out",
            self.declared_txs.clone(),
        );
        registry.register(
            "missing_txs",
            "Transactions that had to be asked for; over declared_txs the missing-transaction rate",
            self.missing_txs.clone(),
        );
        registry.register_with_unit(
            "missing_txs_wait",
            "From the question for missing transactions to the answer",
            Unit::Seconds,
            self.fetch_seconds.clone(),
        );
        registry.register(
            "cache_lookups",
            "Look-ups in caches by result",
            self.cache_lookups.clone(),
        );
        registry.register("solutions", "Solutions by what came of them", self.solutions.clone());
        registry.register(
            "submissions",
            "Answers of nodes to blocks of ours",
            self.submissions.clone(),
        );
        registry.register_with_unit(
            "submission",
            "From a solution to a node's answer",
            Unit::Seconds,
            self.submission_seconds.clone(),
        );
        registry.register_with_unit(
            "block_sent",
            "From a solution to the last byte of its block handed over for the first node",
            Unit::Seconds,
            self.block_sent_seconds.clone(),
        );
        registry.register("shares", "Shares by source of the template", self.shares.clone());
        registry.register(
            "channel_targets",
            "Targets that channels were given, by whether that was at first, or harder or easier",
            self.channel_targets.clone(),
        );
        registry.register(
            "channel_difficulty",
            "Difficulty of targets that channels were given",
            self.channel_difficulty.clone(),
        );
        registry.register(
            "template_messages",
            "Messages to clients of template distribution",
            self.template_messages.clone(),
        );
        registry.register_with_unit(
            "template_tip",
            "From a new tip of a node to SetNewPrevHash handed to the system, for each client",
            Unit::Seconds,
            self.template_tip_seconds.clone(),
        );
        registry.register(
            "share_difficulty",
            "Difficulty of accepted shares by source of the template; 2^32 times its rate is a hashrate",
            self.share_difficulty.clone(),
        );
        registry.register_with_unit(
            "protocol",
            "Bytes on the wire by protocol and direction",
            Unit::Bytes,
            self.bytes.clone(),
        );
        registry.register("http_requests", "Requests to the HTTP API", self.requests.clone());
        registry.register_with_unit(
            "http_request",
            "From the head of a request to the head of its answer",
            Unit::Seconds,
            self.request_seconds.clone(),
        );
        registry.register(
            "webhook_deliveries",
            "Deliveries to webhooks by result",
            self.deliveries.clone(),
        );
        registry.register(
            "user_checks",
            "Looks at whether a user may mine or declare, by result and what it is based on",
            self.user_checks.clone(),
        );
    }
}
