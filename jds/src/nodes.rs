//! All configured nodes: which one the tip comes from, and what each of them knows.

mod branches;
mod choice;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bitcoin::BlockHash;
use tdp_client::{Node, Template, TipState};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};
use validation::job::AcceptedJob;
use validation::tip::ChainTip;
use validation::vetted::TemplateView;

use crate::limits::TIP_ORPHANED_MAX;
use crate::tx_cache::TxCache;
use branches::Branches;
use choice::Candidate;

/// The nodes, in the order of the configuration.
#[derive(Debug)]
pub struct Nodes {
    all: Vec<Node>,
    tip: watch::Sender<Option<ChainTip>>,
    chosen: Mutex<Chosen>,
    /// For each node its own template, as a set to look jobs up in.
    views: Vec<Mutex<Option<Arc<TemplateView>>>>,
    /// Tips that are on another branch than the one that counts.
    branches: Branches,
}

/// Where the tip comes from.
#[derive(Debug, Default)]
struct Chosen {
    /// Index of the node.
    active: Option<usize>,
    /// The tip that only nodes that are gone have had, and since when.
    orphaned: Option<(BlockHash, Instant)>,
}

/// Forever without a time.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// The tip of a node, if it is ready.
pub fn ready_tip(node: &Node) -> Option<TipState> {
    if !node.state().borrow().is_ready() {
        return None;
    }
    node.tip().borrow().as_deref().copied()
}

impl Nodes {
    /// Follows the nodes for as long as `tasks` live. Their template transactions go into `cache`.
    pub fn follow(all: Vec<Node>, cache: Arc<TxCache>, tasks: &mut JoinSet<()>) -> Arc<Self> {
        let views = all.iter().map(|_| Mutex::new(None)).collect();
        let branches = Branches::new(all.len());
        let (tip, chosen) = (watch::Sender::new(None), Mutex::default());
        let nodes = Arc::new(Self { all, tip, chosen, views, branches });
        for index in 0..nodes.all.len() {
            tasks.spawn(Arc::clone(&nodes).follow_tip(index));
            tasks.spawn(Arc::clone(&nodes).follow_templates(index, Arc::clone(&cache)));
            tasks.spawn(branches::follow(Arc::clone(&nodes), index));
        }
        nodes
    }

    /// No nodes, and a tip that nobody follows: see [`Self::set_tip`].
    #[cfg(test)]
    pub(crate) fn none() -> Arc<Self> {
        let tip = watch::Sender::new(None);
        let (chosen, branches) = (Mutex::default(), Branches::new(0));
        Arc::new(Self { all: Vec::new(), tip, chosen, views: Vec::new(), branches })
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
        let active = self.chosen.lock().unwrap_or_else(PoisonError::into_inner).active;
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

    /// When the first of our nodes told of this tip, if it is the tip of one now.
    pub fn tip_seen_at(&self, hash: &BlockHash) -> Option<Instant> {
        let seen = self.all.iter().filter_map(|node| node.tip().borrow().as_deref().copied());
        seen.filter(|seen| seen.tip.hash == *hash).map(|seen| seen.seen_at).min()
    }

    /// True when this tip of `node` is known to be on another branch than the tip that counts.
    pub fn is_stale(&self, node: &Node, tip: &BlockHash) -> bool {
        let index = self.all.iter().position(|other| other.name() == node.name());
        index.is_some_and(|index| self.branches.is_stale(index, tip))
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
            let look_at = self.choose();
            tokio::select! {
                changed = tip.changed() => if changed.is_err() { return },
                changed = state.changed() => if changed.is_err() { return },
                () = until(look_at) => {}
            }
        }
    }

    /// The best tip of a ready node wins ([`choice::best`]). Without a ready node the last tip stays:
    /// work on it can still become a block. The same for a while when the only node that had it is
    /// gone: the others are about to hear of that block. When to choose again, then.
    fn choose(&self) -> Option<Instant> {
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        let candidate = |(index, node): (usize, &Node)| {
            let state = ready_tip(node)?;
            Some(Candidate::new(index, &state))
        };
        let candidates: Vec<_> = self.all.iter().enumerate().filter_map(candidate).collect();
        let current = self.tip().map(|tip| tip.hash);
        let Some(Candidate { index, tip, .. }) = choice::best(&candidates, current) else {
            if chosen.active.take().is_some() {
                warn!("no node is ready: declarations go on with the last known tip");
            }
            return None;
        };
        if chosen.active != Some(index) {
            let name = self.all.get(index).map_or("", |node| node.name());
            info!(node = name, "the tip comes from this node now");
            chosen.active = Some(index);
        }
        if let Some(current) = current.filter(|_| self.is_orphaned(candidates, current)) {
            let since = match chosen.orphaned {
                Some((tip, since)) if tip == current => since,
                _ => {
                    warn!(hash = %current, "the node with the best tip is gone: kept for a while");
                    Instant::now()
                }
            };
            chosen.orphaned = Some((current, since));
            let until = since + TIP_ORPHANED_MAX;
            if Instant::now() < until {
                return Some(until);
            }
        }
        chosen.orphaned = None;
        self.tip.send_if_modified(|current| {
            let changed = *current != Some(tip);
            if changed {
                info!(hash = %tip.hash, height = tip.height, "new tip");
                *current = Some(tip);
            }
            changed
        });
        None
    }

    /// True when this tip is better than those of the ready nodes, and nodes that had it are gone.
    fn is_orphaned(&self, mut candidates: Vec<Candidate>, tip: Option<BlockHash>) -> bool {
        let has_it = |one: &Candidate| Some(one.tip.hash) == tip;
        if candidates.iter().any(has_it) {
            return false;
        }
        let gone =
            self.all.iter().enumerate().filter(|(_, node)| !node.state().borrow().is_ready());
        let last = |(index, node): (usize, &Node)| {
            node.tip().borrow().as_deref().map(|state| Candidate::new(index, state))
        };
        candidates.extend(gone.filter_map(last).filter(has_it));
        choice::best(&candidates, tip).as_ref().is_some_and(has_it)
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
