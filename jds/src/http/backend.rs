//! What the API is told of the server. Nothing here asks a node or waits for anything but a lock
//! that is held for the length of a copy.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use api::{
    Backend, ChannelInfo, Download, Live, NodeView, OwnTemplate, OwnTx, Part, Queue, ReceiptKeys,
};
use store::{Page, PageRequest};
use tdp_client::{Followed, Node, NodeState, Template};

use super::standing::{Standing, State};
use crate::clock;
use crate::counts::{
    JOB_DECLARATION, Listener, MINING, MINING_V1, MiningCounts, TEMPLATE_DISTRIBUTION,
};
use crate::limits::{CHECKS_QUEUED_MAX, EVENTS_OVERFLOW_MAX};
use crate::server::Shared;

/// The server, as the API sees it.
pub(super) struct ServerView {
    shared: Arc<Shared>,
    /// The newest template as the API wants it, made once. The lock is held while it is made, so
    /// that those who want it at the same time share the work.
    own_template: Mutex<Option<Known>>,
    cores: usize,
}

struct Known {
    generation: u64,
    template: Arc<OwnTemplate>,
}

impl ServerView {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self { shared, own_template: Mutex::default(), cores }
    }

    /// The active node's template; without an active node the newest of any. What miners declare
    /// is compared with it, which a template provider, who tells no fees, is no measure for.
    fn newest_template(&self) -> Option<(Node, Arc<Template>)> {
        let with_template = |node: Node| {
            let template = node.template().borrow().clone()?;
            Some((node, template))
        };
        let nodes = &self.shared.nodes;
        nodes.active().and_then(with_template).or_else(|| {
            let all = nodes.all().iter().cloned().filter_map(with_template);
            all.max_by_key(|(_, template)| template.fetched_at)
        })
    }

    /// The ports for miners, and whether they are configured.
    fn mining_ports(&self) -> [(&'static str, &MiningCounts, bool); 2] {
        let (counts, mining) = (&self.shared.counts, self.shared.mining.as_ref());
        [
            (MINING, &counts.mining, mining.is_some_and(|mining| mining.listens)),
            (MINING_V1, &counts.mining_v1, mining.is_some_and(|mining| mining.listens_v1)),
        ]
    }

    fn nodes_part(&self) -> Part {
        let (nodes, now) = (&self.shared.nodes, Instant::now());
        let told = nodes.sources().iter().filter_map(|node| {
            let Standing { state, detail, .. } = Standing::of(node, nodes, now);
            if state == State::AtTip && detail.is_none() {
                return None;
            }
            let detail = detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
            Some(format!("{}: {}{detail}", node.name(), state.as_str()))
        });
        let told: Vec<_> = told.collect();
        let detail = (!told.is_empty()).then(|| told.join("; "));
        // One that works is enough to serve miners.
        Part { name: "nodes".to_owned(), ready: nodes.tip_source().is_some(), detail }
    }
}

impl Backend for ServerView {
    fn nodes(&self) -> Vec<NodeView> {
        let (nodes, now) = (&self.shared.nodes, Instant::now());
        let active = nodes.tip_source();
        let active = active.as_ref().map(Followed::name);
        let view = |node: &Followed| {
            let Standing { state, detail, tip } = Standing::of(node, nodes, now);
            NodeView {
                name: node.name().to_owned(),
                kind: node.kind().as_str().to_owned(),
                state: state.as_str().to_owned(),
                ready: state == State::AtTip,
                active: active == Some(node.name()),
                height: tip.as_ref().map(|tip| tip.tip.height),
                tip_hash: tip.as_ref().map(|tip| tip.tip.hash),
                tip_age_ms: tip.as_ref().map(|tip| age_ms(tip.seen_at, now)),
                download: download(node),
                detail,
            }
        };
        nodes.sources().iter().map(view).collect()
    }

    fn own_template(&self) -> Option<Arc<OwnTemplate>> {
        let (node, newest) = self.newest_template()?;
        let mut known = self.own_template.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &&Known| {
            known.generation == newest.generation && known.template.node == node.name()
        };
        if let Some(known) = known.as_ref().filter(same) {
            return Some(Arc::clone(&known.template));
        }
        let template = Arc::new(own_template(node.name(), &newest));
        *known = Some(Known { generation: newest.generation, template: Arc::clone(&template) });
        Some(template)
    }

    fn live(&self) -> Live {
        let Shared { validator, counts, submitter, peer_bytes, session_deps, jobs, .. } =
            &*self.shared;
        let (handshakes, connections) = (counts.handshakes.get(), counts.connections.get());
        let checks = validator.checker.as_ref().map_or(0, |(checker, _)| checker.waiting());
        let judging = self.cores.saturating_sub(validator.cpu.available_permits());
        let capacity = peer_bytes.capacity_bytes();
        let peer_bytes_held = capacity.saturating_sub(peer_bytes.free_bytes());
        let templates = counts.template_connections.get();
        let mut by_protocol = vec![("handshake", handshakes), (JOB_DECLARATION, connections)];
        let mut places = counts.listener.places();
        if self.shared.templates.is_some() {
            by_protocol.push((TEMPLATE_DISTRIBUTION, templates));
            places += counts.template_listener.places();
        }
        let mut channels = Vec::new();
        let mut open = handshakes + connections + templates;
        for (protocol, counts, there) in self.mining_ports() {
            if there {
                by_protocol.push((protocol, counts.connections.get()));
                channels.push((protocol, counts.channels.get()));
                open += counts.connections.get();
                places += counts.listener.places();
            }
        }
        let queue = |name, depth: usize, capacity: usize| Queue {
            name,
            depth: depth as u64,
            capacity: capacity as u64,
        };
        Live {
            tokens: session_deps.mint.unused().get(),
            connections: by_protocol,
            channels,
            queues: vec![
                queue("connections", open as usize, places),
                queue("validations", judging, self.cores),
                queue("consensus_checks", checks, CHECKS_QUEUED_MAX),
                // Of each connection one at a time.
                queue("solutions", submitter.solutions(), places),
                queue("peer_bytes", peer_bytes_held, capacity),
                queue("events", self.shared.journal.waiting(), EVENTS_OVERFLOW_MAX),
            ],
            jobs: jobs.count() as u64,
        }
    }

    fn channels(&self, page: PageRequest) -> Page<ChannelInfo> {
        self.shared.channels.page(page)
    }

    fn receipt_keys(&self) -> Option<ReceiptKeys> {
        let receipts = &self.shared.validator.receipts;
        Some(ReceiptKeys { server: receipts.server(), keys: receipts.published().to_vec() })
    }

    fn readiness(&self) -> Vec<Part> {
        let counts = &self.shared.counts;
        let mut parts = vec![self.nodes_part(), listener_part(JOB_DECLARATION, &counts.listener)];
        if self.shared.templates.is_some() {
            parts.push(listener_part(TEMPLATE_DISTRIBUTION, &counts.template_listener));
        }
        for (protocol, counts, there) in self.mining_ports() {
            if there {
                parts.push(listener_part(protocol, &counts.listener));
            }
        }
        parts
    }
}

fn listener_part(protocol: &str, listener: &Listener) -> Part {
    let name = format!("listener:{protocol}");
    match listener.trouble() {
        None => Part::ready(name),
        Some(trouble) => Part::not_ready(name, trouble),
    }
}

/// How far a node is with its download.
fn download(node: &Followed) -> Option<Download> {
    let NodeState::Syncing { progress, blocks, headers, left } = *node.state().borrow() else {
        return None;
    };
    // As precise as it is displayed.
    let percent = (progress * 10_000.0).round() / 100.0;
    Some(Download {
        percent,
        blocks,
        headers,
        left_s: left.map(|left| left.as_duration().as_secs()),
    })
}

fn own_template(node: &str, template: &Template) -> OwnTemplate {
    let age_ms = age_ms(template.fetched_at, Instant::now());
    let txs = template.txs.iter().map(|tx| OwnTx {
        txid: tx.txid(),
        wtxid: tx.wtxid(),
        // Every node of today gives a fee with each transaction of its template.
        fee_sat: tx.node_facts().map_or(0, |facts| facts.fee_sat),
    });
    OwnTemplate {
        node: node.to_owned(),
        prev_hash: template.prev_hash,
        height: template.height,
        received_at_ms: (clock::unix_us() / 1_000).saturating_sub(age_ms),
        txs: txs.collect(),
    }
}

fn age_ms(since: Instant, now: Instant) -> u64 {
    now.saturating_duration_since(since).as_millis() as u64
}
