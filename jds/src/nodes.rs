//! All configured nodes: which one the tip comes from, and what each of them knows.

use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::BlockHash;
use tdp_client::{Node, NodeState, Template};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};
use validation::job::AcceptedJob;
use validation::tip::ChainTip;
use validation::vetted::TemplateView;

use crate::tx_cache::TxCache;

/// The nodes, in the order of the configuration.
#[derive(Debug)]
pub struct Nodes {
    all: Vec<Node>,
    tip: watch::Sender<Option<ChainTip>>,
    /// Index of the node that the tip comes from.
    active: Mutex<Option<usize>>,
    /// For each node its own template, as a set to look jobs up in.
    views: Vec<Mutex<Option<Arc<TemplateView>>>>,
}

impl Nodes {
    /// Follows the nodes for as long as `tasks` live. Their template transactions go into `cache`.
    pub fn follow(all: Vec<Node>, cache: Arc<TxCache>, tasks: &mut JoinSet<()>) -> Arc<Self> {
        let views = all.iter().map(|_| Mutex::new(None)).collect();
        let nodes =
            Arc::new(Self { all, tip: watch::Sender::new(None), active: Mutex::new(None), views });
        for index in 0..nodes.all.len() {
            tasks.spawn(Arc::clone(&nodes).follow_tip(index));
            tasks.spawn(Arc::clone(&nodes).follow_templates(index, Arc::clone(&cache)));
        }
        nodes
    }

    /// No nodes, and a tip that nobody follows: see [`Self::set_tip`].
    #[cfg(test)]
    pub(crate) fn none() -> Arc<Self> {
        let tip = watch::Sender::new(None);
        Arc::new(Self { all: Vec::new(), tip, active: Mutex::new(None), views: Vec::new() })
    }

    #[cfg(test)]
    pub(crate) fn set_tip(&self, tip: ChainTip) {
        self.tip.send_replace(Some(tip));
    }

    /// How many wait for a tip.
    #[cfg(test)]
    pub(crate) fn followers(&self) -> usize {
        self.tip.receiver_count()
    }

    /// All nodes.
    pub fn all(&self) -> &[Node] {
        &self.all
    }

    /// The node with this name.
    pub fn by_name(&self, name: &str) -> Option<&Node> {
        self.all.iter().find(|node| node.name() == name)
    }

    /// The node that the tip comes from.
    pub fn active(&self) -> Option<Node> {
        let active = *self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.and_then(|index| self.all.get(index)).cloned()
    }

    /// The tip that jobs have to build on; none until a node was ready once.
    pub fn tip(&self) -> Option<ChainTip> {
        *self.tip.borrow()
    }

    /// Changes of [`Self::tip`].
    pub fn watch_tip(&self) -> watch::Receiver<Option<ChainTip>> {
        self.tip.subscribe()
    }

    /// The block with this hash, if it is or lately was the tip of one of our nodes.
    pub fn tip_by_hash(&self, hash: &BlockHash) -> Option<ChainTip> {
        self.all.iter().find_map(|node| node.tip_by_hash(hash))
    }

    /// True when `node` has itself vetted every transaction of the job at the job's tip.
    pub fn has_vetted(&self, job: &AcceptedJob, node: &Node) -> bool {
        let index = self.all.iter().position(|other| other.name() == node.name());
        let Some(view) = index.and_then(|index| self.views.get(index)) else { return false };
        let view = view.lock().unwrap_or_else(PoisonError::into_inner).clone();
        view.is_some_and(|view| !validation::vetted::needs_consensus_check(job, &view))
    }

    async fn follow_tip(self: Arc<Self>, index: usize) {
        let Some(node) = self.all.get(index) else { return };
        let (mut tip, mut state) = (node.tip(), node.state());
        loop {
            self.choose();
            tokio::select! {
                changed = tip.changed() => if changed.is_err() { return },
                changed = state.changed() => if changed.is_err() { return },
            }
        }
    }

    /// The highest tip of a ready node wins, the first configured node among equals. Without a
    /// ready node the last tip stays: work on it can still become a block.
    fn choose(&self) {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        let mut best: Option<(usize, ChainTip)> = None;
        for (index, node) in self.all.iter().enumerate() {
            if !matches!(*node.state().borrow(), NodeState::Ready) {
                continue;
            }
            let Some(tip) = node.tip().borrow().as_deref().map(|state| state.tip) else { continue };
            if best.is_none_or(|(_, other)| tip.height > other.height) {
                best = Some((index, tip));
            }
        }
        let Some((index, tip)) = best else {
            if active.take().is_some() {
                warn!("no node is ready: declarations go on with the last known tip");
            }
            return;
        };
        if *active != Some(index) {
            let name = self.all.get(index).map_or("", |node| node.name());
            info!(node = name, "the tip comes from this node now");
            *active = Some(index);
        }
        self.tip.send_if_modified(|current| {
            let changed = *current != Some(tip);
            if changed {
                info!(hash = %tip.hash, height = tip.height, "new tip");
                *current = Some(tip);
            }
            changed
        });
    }

    async fn follow_templates(self: Arc<Self>, index: usize, cache: Arc<TxCache>) {
        let (Some(node), Some(view)) = (self.all.get(index), self.views.get(index)) else { return };
        let mut templates = node.template();
        loop {
            let template: Option<Arc<Template>> = templates.borrow_and_update().clone();
            if let Some(template) = template {
                cache.insert_all(template.txs.iter().cloned());
                let set = Arc::new(TemplateView::new(
                    template.prev_hash,
                    template.txs.iter().map(Arc::as_ref),
                ));
                *view.lock().unwrap_or_else(PoisonError::into_inner) = Some(set);
            }
            if templates.changed().await.is_err() {
                return;
            }
        }
    }
}
