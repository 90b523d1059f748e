//! All configured nodes and template providers: which one the tip comes from, and what each of them
//! knows.

mod branches;
mod choice;
mod lead;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bitcoin::BlockHash;
use tdp_client::{Constraints, Followed, Node, Provider, Template, TipState};
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
use lead::Lead;

/// The nodes and the template providers, each in the order of the configuration.
#[derive(Debug)]
pub struct Nodes {
    all: Vec<Node>,
    providers: Vec<Provider>,
    /// Nodes, then providers.
    sources: Vec<Followed>,
    tip: watch::Sender<Option<ChainTip>>,
    choice: Mutex<Choice>,
    /// For each node its own template, as a set to look jobs up in.
    views: Vec<Mutex<Option<Arc<TemplateView>>>>,
    /// Tips of nodes that are on another branch than the one that counts.
    branches: Branches,
}

/// Where the tip comes from.
#[derive(Debug, Default)]
struct Choice {
    /// Index of the source that the tip comes from.
    source: Option<usize>,
    /// Index of the node with the best tip.
    node: Option<usize>,
    /// For each provider.
    leads: Vec<Lead>,
    /// The tip that only sources that are gone have had, and since when.
    orphaned: Option<(BlockHash, Instant)>,
}

/// Forever without a time.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// The tip of a source, if it is ready.
pub fn ready_tip(source: &Followed) -> Option<TipState> {
    if !source.is_ready() {
        return None;
    }
    source.tip().borrow().as_deref().copied()
}

impl Nodes {
    /// Follows the nodes and providers for as long as `tasks` live. Their template transactions go
    /// into `cache`.
    pub fn follow(
        all: Vec<Node>,
        providers: Vec<Provider>,
        cache: Arc<TxCache>,
        tasks: &mut JoinSet<()>,
    ) -> Arc<Self> {
        let views = all.iter().map(|_| Mutex::new(None)).collect();
        let sources = all.iter().map(Node::followed);
        let sources = sources.chain(providers.iter().map(|one| one.followed().clone())).collect();
        let leads = vec![Lead::default(); providers.len()];
        let choice = Mutex::new(Choice { leads, ..Choice::default() });
        let (tip, branches) = (watch::Sender::new(None), Branches::new(all.len()));
        let nodes = Arc::new(Self { all, providers, sources, tip, choice, views, branches });
        for index in 0..nodes.sources.len() {
            tasks.spawn(Arc::clone(&nodes).follow_tip(index));
            tasks.spawn(Arc::clone(&nodes).follow_templates(index, Arc::clone(&cache)));
        }
        for index in 0..nodes.all.len() {
            tasks.spawn(branches::follow(Arc::clone(&nodes), index));
        }
        nodes
    }

    /// No nodes, and a tip that nobody follows: see [`Self::set_tip`].
    #[cfg(test)]
    pub(crate) fn none() -> Arc<Self> {
        Arc::new(Self {
            all: Vec::new(),
            providers: Vec::new(),
            sources: Vec::new(),
            tip: watch::Sender::new(None),
            choice: Mutex::default(),
            views: Vec::new(),
            branches: Branches::new(0),
        })
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

    /// All nodes: they take blocks, and judge them.
    pub fn all(&self) -> &[Node] {
        &self.all
    }

    /// All template providers.
    pub fn providers(&self) -> &[Provider] {
        &self.providers
    }

    /// All that is followed: nodes, then providers.
    pub fn sources(&self) -> &[Followed] {
        &self.sources
    }

    /// The node with this name.
    pub fn by_name(&self, name: &str) -> Option<&Node> {
        self.all.iter().find(|node| node.name() == name)
    }

    /// The ready node with the best tip. A template provider may know a higher one.
    pub fn active(&self) -> Option<Node> {
        let index = self.choice().node;
        index.and_then(|index| self.all.get(index)).cloned()
    }

    /// What the tip comes from; none while nothing is ready.
    pub fn tip_source(&self) -> Option<Followed> {
        let index = self.choice().source;
        index.and_then(|index| self.sources.get(index)).cloned()
    }

    /// A node is ready: blocks of our own making can be submitted.
    pub fn can_submit(&self) -> bool {
        self.choice().node.is_some()
    }

    /// True when our nodes did not confirm what the provider with this name told.
    pub fn is_left(&self, name: &str) -> bool {
        let index = self.providers.iter().position(|provider| provider.name() == name);
        let lead = index.and_then(|index| self.choice().leads.get(index).copied());
        lead.is_some_and(|lead| lead.is_left(Instant::now()))
    }

    /// The tip that jobs have to build on; none until a source was ready once.
    pub fn tip(&self) -> Option<ChainTip> {
        *self.tip.borrow()
    }

    /// Changes of [`Self::tip`]: another block, or that more is known of it.
    pub fn watch_tip(&self) -> watch::Receiver<Option<ChainTip>> {
        self.tip.subscribe()
    }

    /// The block with this hash, if it is or lately was the tip of one of our nodes, or else of a
    /// provider, which knows less of it.
    pub fn tip_by_hash(&self, hash: &BlockHash) -> Option<ChainTip> {
        self.sources.iter().find_map(|source| source.tip_by_hash(hash))
    }

    /// When the first of our sources told of this tip, if it is the tip of one now.
    pub fn tip_seen_at(&self, hash: &BlockHash) -> Option<Instant> {
        let seen = self.sources.iter().filter_map(|one| one.tip().borrow().as_deref().copied());
        seen.filter(|seen| seen.tip.hash == *hash).map(|seen| seen.seen_at).min()
    }

    /// True when this tip of the node with this name is known to be on another branch than the tip
    /// that counts.
    pub fn is_stale(&self, node: &str, tip: &BlockHash) -> bool {
        let index = self.all.iter().position(|other| other.name() == node);
        index.is_some_and(|index| self.branches.is_stale(index, tip))
    }

    /// What would be mined on this block, and the provider that gave it if no node did: the active
    /// node's word before that of others.
    pub fn template_on(&self, parent: &BlockHash) -> Option<(Option<Provider>, Arc<Template>)> {
        let on_it = |source: &Followed| {
            source.template().borrow().clone().filter(|template| template.prev_hash == *parent)
        };
        let of_node =
            self.active().iter().chain(&self.all).find_map(|node| on_it(&node.followed()));
        if let Some(template) = of_node {
            return Some((None, template));
        }
        self.providers
            .iter()
            .find_map(|provider| Some((Some(provider.clone()), on_it(provider.followed())?)))
    }

    /// Has the providers' templates leave so much free in the coinbase.
    pub fn leave_free(&self, constraints: Constraints) {
        self.providers.iter().for_each(|provider| provider.leave_free(constraints));
    }

    /// True when `node` has itself vetted every transaction of the job at the job's tip.
    pub fn has_vetted(&self, job: &AcceptedJob, node: &Node) -> bool {
        let index = self.all.iter().position(|other| other.name() == node.name());
        let Some(view) = index.and_then(|index| self.views.get(index)) else { return false };
        let view = view.lock().unwrap_or_else(PoisonError::into_inner).clone();
        view.is_some_and(|view| !validation::vetted::needs_consensus_check(job, &view))
    }

    async fn follow_tip(self: Arc<Self>, index: usize) {
        let Some(source) = self.sources.get(index) else { return };
        let (mut tip, mut state) = (source.tip(), source.state());
        loop {
            let look_at = self.choose();
            tokio::select! {
                changed = tip.changed() => if changed.is_err() { return },
                changed = state.changed() => if changed.is_err() { return },
                () = until(look_at) => {}
            }
        }
    }

    /// The best tip of a ready node wins ([`choice::best`]). A template provider's that is higher counts
    /// before it for a while ([`Lead`]), and by itself where no node is ready. Without anything ready
    /// the last tip stays: work on it can still become a block. The same for a while when the only
    /// source that had it is gone: the others are about to hear of that block. When to choose again,
    /// then.
    fn choose(&self) -> Option<Instant> {
        let mut choice = self.choice();
        let current = self.tip().map(|tip| tip.hash);
        let mut candidates: Vec<_> = self.ready().filter(|one| self.is_node(one.index)).collect();
        let node = choice::best(&candidates, current);
        choice.node = node.map(|node| node.index);
        let (believed, look_at) = self.believed(&mut choice, node.map(|node| node.tip));
        candidates.extend(believed);
        let Some(Candidate { index, tip, .. }) = choice::best(&candidates, current) else {
            if choice.source.take().is_some() {
                warn!("no node is ready: declarations go on with the last known tip");
            }
            return look_at;
        };
        if choice.source != Some(index) {
            let name = self.sources.get(index).map_or("", Followed::name);
            info!(node = name, "the tip comes from this node now");
            choice.source = Some(index);
        }
        if let Some(current) = current.filter(|_| self.is_orphaned(candidates, current)) {
            let since = match choice.orphaned {
                Some((tip, since)) if tip == current => since,
                _ => {
                    warn!(hash = %current, "the node with the best tip is gone: kept for a while");
                    Instant::now()
                }
            };
            choice.orphaned = Some((current, since));
            let until = since + TIP_ORPHANED_MAX;
            if Instant::now() < until {
                return look_at.into_iter().chain([until]).min();
            }
        }
        choice.orphaned = None;
        self.tip.send_if_modified(|current| {
            let changed = *current != Some(tip);
            if changed {
                if current.is_none_or(|current| current.hash != tip.hash) {
                    info!(hash = %tip.hash, height = tip.height, "new tip");
                }
                *current = Some(tip);
            }
            changed
        });
        look_at
    }

    /// True when this tip is better than those that count, and nodes that had it are gone.
    fn is_orphaned(&self, mut candidates: Vec<Candidate>, tip: Option<BlockHash>) -> bool {
        let has_it = |one: &Candidate| Some(one.tip.hash) == tip;
        if candidates.iter().any(has_it) {
            return false;
        }
        let gone = self.sources.iter().enumerate().filter(|(_, source)| !source.is_ready());
        let last = |(index, source): (usize, &Followed)| {
            source.tip().borrow().as_deref().map(|state| Candidate::new(index, state))
        };
        candidates.extend(gone.filter_map(last).filter(has_it));
        choice::best(&candidates, tip).as_ref().is_some_and(has_it)
    }

    /// The providers' tips that count beside the best of the nodes, and when that changes.
    fn believed(
        &self,
        choice: &mut Choice,
        node: Option<ChainTip>,
    ) -> (Vec<Candidate>, Option<Instant>) {
        let (now, mut look_at, mut believed) = (Instant::now(), None, Vec::new());
        let of_nodes = |hash: &BlockHash| self.all.iter().find_map(|node| node.tip_by_hash(hash));
        for told in self.ready().filter(|one| !self.is_node(one.index)) {
            let (index, tip) = (told.index, told.tip);
            let Some(lead) = choice.leads.get_mut(index - self.all.len()) else { continue };
            // Where a node of ours knows the block, it knows all of it.
            let mut known = told;
            known.tip = of_nodes(&tip.hash).unwrap_or(tip);
            let Some(node) = node else {
                lead.forget();
                believed.push(known);
                continue;
            };
            let was_left = lead.is_left(now);
            let (counts, until) =
                lead.is_believed(&tip, &node, |hash| of_nodes(hash).is_some(), now);
            if lead.is_left(now) && !was_left {
                let name = self.sources.get(index).map_or("", Followed::name);
                warn!(node = name, hash = %tip.hash, height = tip.height,
                    "no node of ours confirms what the template provider told: it is left for now");
            }
            look_at = look_at.into_iter().chain(until).min();
            if counts {
                believed.push(known);
            }
        }
        (believed, look_at)
    }

    fn is_node(&self, index: usize) -> bool {
        index < self.all.len()
    }

    /// All sources that are ready, with their tips.
    fn ready(&self) -> impl Iterator<Item = Candidate> {
        self.sources.iter().enumerate().filter_map(|(index, source)| {
            ready_tip(source).map(|state| Candidate::new(index, &state))
        })
    }

    fn choice(&self) -> MutexGuard<'_, Choice> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn follow_templates(self: Arc<Self>, index: usize, cache: Arc<TxCache>) {
        let Some(source) = self.sources.get(index) else { return };
        let mut templates = source.template();
        loop {
            let template: Option<Arc<Template>> = templates.borrow_and_update().clone();
            if let Some(template) = template {
                cache.insert_all(template.txs.iter().cloned());
                // A provider's template vouches for nothing.
                if let Some(view) = self.views.get(index) {
                    let set = Arc::new(TemplateView::new(
                        template.prev_hash,
                        template.txs.iter().map(Arc::as_ref),
                    ));
                    *view.lock().unwrap_or_else(PoisonError::into_inner) = Some(set);
                }
            }
            if templates.changed().await.is_err() {
                return;
            }
        }
    }
}
