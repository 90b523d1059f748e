//! Numbers of the moment, asked for when they are wanted.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::app::App;

/// All metrics in the OpenMetrics text format.
///
/// # Errors
/// When a metric can not be written, which is a fault of ours.
pub(crate) fn encode(app: &App) -> Result<String, fmt::Error> {
    let mut live = Registry::with_prefix("jds");
    live.register_collector(Box::new(Live { app: app.clone() }));
    let mut text = String::new();
    encode_registry(&mut text, app.metrics.registry())?;
    encode_registry(&mut text, &live)?;
    encode_eof(&mut text)?;
    Ok(text)
}

struct Live {
    app: App,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live")
    }
}

/// Writes metrics with and without labels.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: impl IntoIterator<Item = (L, f64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in values {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}

impl Collector for Live {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut writer = Writer(encoder);
        self.server(&mut writer)?;
        self.nodes(&mut writer)?;
        self.store(&mut writer)?;
        self.webhooks(&mut writer)
    }
}

fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

impl Live {
    fn server(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let live = self.app.backend.live();
        writer.gauge("tokens_live", "Tokens given out and not used", live.tokens as f64)?;
        writer.gauge("jobs_live", "Accepted jobs ready for solutions", live.jobs as f64)?;
        let connections = live.connections.iter();
        writer.gauges(
            "connections",
            "Open connections by role",
            None,
            connections.map(|(role, count)| ([("role", *role)], *count as f64)),
        )?;
        let channels = live.channels.iter();
        writer.gauges(
            "channels",
            "Open channels of miners by role",
            None,
            channels.map(|(role, count)| ([("role", *role)], *count as f64)),
        )?;
        let queues = |value: fn(&crate::Queue) -> u64| {
            live.queues.iter().map(move |queue| ([("queue", queue.name)], value(queue) as f64))
        };
        writer.gauges("queue_depth", "Things in a queue", None, queues(|queue| queue.depth))?;
        writer.gauges("queue_capacity", "Things that fit", None, queues(|queue| queue.capacity))?;
        let parts = self.app.backend.readiness();
        writer.gauges(
            "part_ready",
            "1 for a part of the server that works",
            None,
            parts.iter().map(|part| ([("part", part.name.as_str())], flag(part.ready))),
        )
    }

    fn nodes(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let nodes = self.app.backend.nodes();
        let name = |node: &crate::NodeView| [("node", node.name.clone())];
        let kinds = nodes
            .iter()
            .map(|node| ([("node", node.name.clone()), ("kind", node.kind.clone())], 1.0));
        writer.gauges("node_info", "1, with what kind of node it is", None, kinds)?;
        writer.gauges(
            "node_ready",
            "1 for a node that can be relied on",
            None,
            nodes.iter().map(|node| (name(node), flag(node.ready))),
        )?;
        writer.gauges(
            "node_height",
            "Height of a node's tip",
            None,
            nodes.iter().filter_map(|node| Some((name(node), f64::from(node.height?)))),
        )?;
        writer.gauges(
            "tip_age",
            "Time since a node's tip came",
            Some(&Unit::Seconds),
            nodes.iter().filter_map(|node| Some((name(node), node.tip_age_ms? as f64 / 1e3))),
        )
    }

    fn store(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let store = &self.app.reader.store;
        let metrics = store.metrics();
        let writes =
            matches!(metrics.status, store::Status::Healthy | store::Status::Retrying { .. });
        writer.gauge("store_writes", "1 while the store writes", flag(writes))?;
        writer.gauge("store_queue_depth", "Batches that wait", metrics.queue_depth as f64)?;
        let capacity = metrics.queue_capacity as f64;
        writer.gauge("store_queue_capacity", "Batches that fit the queue", capacity)?;
        let volatile = metrics.volatile_batches as f64;
        writer.gauge("store_volatile_batches", "Batches kept in memory only", volatile)?;
        writer.gauge("last_event_id", "Id of the newest event", store.last_event_id() as f64)?;
        writer.counter("store_batches", "Batches written", metrics.batches_total)?;
        writer.counter("store_events", "Events written", metrics.events_total)?;
        writer.counter("store_refused", "Batches refused", metrics.refused_total)?;
        writer.counter(
            "store_failures",
            "Attempts to write that failed",
            metrics.failures_total,
        )?;
        writer.counter(
            "store_volatile",
            "Batches acknowledged in memory",
            metrics.volatile_total,
        )?;
        let bounds = metrics.commit_seconds_bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(metrics.commit_seconds.iter().copied()).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        writer
            .0
            .encode_descriptor(
                "store_commit",
                "Time of a transaction of the store",
                Some(&Unit::Seconds),
                MetricType::Histogram,
            )?
            .encode_histogram::<NoLabelSet>(metrics.commit_seconds_sum, count, &buckets, None)
    }

    fn webhooks(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let last = self.app.reader.store.last_event_id();
        let hooks = self.app.deliverer.progress();
        writer.gauges(
            "webhook_event_lag",
            "Events that a webhook is behind",
            None,
            hooks.iter().map(|(id, hook)| {
                ([("webhook", id.clone())], last.saturating_sub(hook.cursor.id) as f64)
            }),
        )?;
        writer.gauges(
            "webhook_failures",
            "Deliveries to a webhook that failed since the last that did not",
            None,
            hooks.iter().map(|(id, hook)| ([("webhook", id.clone())], f64::from(hook.failures))),
        )?;
        writer.gauges(
            "webhook_dead",
            "1 for a webhook that has failed for long, or whose cursor is gone",
            None,
            hooks.iter().map(|(id, hook)| ([("webhook", id.clone())], flag(hook.is_dead()))),
        )
    }
}
