//! Templates for clients of template distribution (SV2 7): made of what the nodes would mine, once
//! for all clients that leave the same room, and kept while solutions for them may come.
//!
//! A new tip needs no template of the node: an empty one goes out at once, the full one follows as
//! soon as the node has it. Where no node is ready that could take a block, only whole templates of
//! a template provider go out, which takes solutions of them. Each client takes the newest view there is when its line is free, so a
//! slow one skips what it was too slow for, and nobody waits for it.

mod book;
mod built;
pub(crate) mod connection;
mod news;
mod outgoing;
mod room;
pub mod session;
#[cfg(test)]
mod tests;
mod told;
mod view;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bitcoin::Network;
use tdp_client::{Constraints, Provider, Template};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, error};
use validation::tip::ChainTip;

pub use book::Lookup;
pub use built::{Built, Facts, NoBlock, Origin, TemplateSolution};
pub use room::Room;
pub use view::View;

use crate::clock;
use crate::limits::TEMPLATE_BUILDS_MAX;
use crate::nodes::Nodes;
use book::Book;
use told::Told;

/// nVersion of blocks while no node has said which (BIP 9).
const VERSION_WITHOUT_NODE: u32 = 0x2000_0000;

/// What decides when clients get another template on the same tip.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// More fees than those of the last one, satoshi.
    pub fee_threshold_sat: u64,
    /// Time since the last one.
    pub min_interval: Duration,
}

/// The templates of the moment, and those that were given out lately.
#[derive(Debug)]
pub struct Templates {
    network: Network,
    pace: Pace,
    current: watch::Sender<Option<Arc<View>>>,
    book: Mutex<Book>,
    next_id: AtomicU64,
    /// What the clients that are there leave room for, and how many each.
    rooms: Mutex<HashMap<Room, usize>>,
    /// The least that all of them need to be left in a template.
    needed: watch::Sender<Constraints>,
    /// Who has heard of the newest tip.
    told: Arc<Told>,
}

/// A client's room, told for as long as this lives, so that its templates are made ahead.
#[derive(Debug)]
pub(crate) struct RoomGuard {
    templates: Arc<Templates>,
    room: Room,
}

impl Drop for RoomGuard {
    fn drop(&mut self) {
        let mut rooms = lock(&self.templates.rooms);
        if let Some(clients) = rooms.get_mut(&self.room) {
            *clients -= 1;
            if *clients == 0 {
                rooms.remove(&self.room);
            }
        }
    }
}

impl Templates {
    /// Without any yet; see [`Self::follow`].
    pub fn new(network: Network, pace: Pace) -> Arc<Self> {
        // Above those of an earlier run, so that none is taken for another.
        let first_id = clock::unix_us();
        Arc::new(Self {
            network,
            pace,
            current: watch::Sender::new(None),
            book: Mutex::new(Book::new(first_id)),
            next_id: AtomicU64::new(first_id),
            rooms: Mutex::default(),
            needed: watch::Sender::new(Constraints::default()),
            told: Arc::default(),
        })
    }

    /// Follows the nodes for as long as `tasks` live.
    pub fn follow(self: &Arc<Self>, nodes: &Arc<Nodes>, tasks: &mut JoinSet<()>) {
        let news = Arc::new(Notify::new());
        for node in nodes.sources() {
            let (mut templates, news) = (node.template(), Arc::clone(&news));
            tasks.spawn(async move {
                while templates.changed().await.is_ok() {
                    news.notify_one();
                }
            });
        }
        let (mut needed, providers) = (self.needed.subscribe(), Arc::clone(nodes));
        tasks.spawn(async move {
            loop {
                let constraints = *needed.borrow_and_update();
                providers.leave_free(constraints);
                if needed.changed().await.is_err() {
                    return;
                }
            }
        });
        tasks.spawn(Arc::clone(self).run(Arc::clone(nodes), news));
    }

    /// Has the nodes' templates for a new tip wait until the clients have heard of it.
    pub(crate) fn go_before(&self, nodes: &Nodes) {
        for node in nodes.all() {
            let told = Arc::clone(&self.told);
            node.hold_templates(Arc::new(move |tip| told.wait(tip)));
        }
    }

    /// What there is to mine; none until a node has told us a tip.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<View>>> {
        self.current.subscribe()
    }

    /// The template with this id.
    pub fn get(&self, id: u64, now: Instant) -> Lookup {
        lock(&self.book).get(id, now)
    }

    /// The template of a view for that room; see [`View::build`] for what it may cost.
    pub fn build(&self, view: &View, room: &Room) -> Arc<Built> {
        let (built, is_new) = view.build(room, || self.new_id());
        if is_new {
            lock(&self.book).add(&built);
        }
        built
    }

    fn told(&self) -> &Arc<Told> {
        &self.told
    }

    fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn register(self: &Arc<Self>, room: Room) -> RoomGuard {
        *lock(&self.rooms).entry(room).or_default() += 1;
        self.needed.send_if_modified(|needed| {
            let more = needed.max(room.additions());
            std::mem::replace(needed, more) != more
        });
        RoomGuard { templates: Arc::clone(self), room }
    }

    async fn run(self: Arc<Self>, nodes: Arc<Nodes>, news: Arc<Notify>) {
        let mut tips = nodes.watch_tip();
        let mut state = State::default();
        loop {
            let tip = *tips.borrow_and_update();
            let look_at = tip.and_then(|tip| self.step(tip, &nodes, &mut state));
            let prune_at = lock(&self.book).prune_at();
            let wake_at = look_at.into_iter().chain(prune_at).min();
            let wake_at = wake_at.unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
            tokio::select! {
                biased;
                changed = tips.changed() => if changed.is_err() { return },
                view = finished(&mut state.building) => {
                    state.building = None;
                    self.finish(view, *tips.borrow(), &mut state);
                }
                () = news.notified() => {}
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
            lock(&self.book).prune(Instant::now());
        }
    }

    /// Does what is to be done now; when there may be something to do on the same tip.
    fn step(self: &Arc<Self>, tip: ChainTip, nodes: &Nodes, state: &mut State) -> Option<Instant> {
        let current = self.current.borrow().clone();
        let current = match current {
            Some(current) if is_same_work(&current.tip, &tip) => current,
            before if nodes.can_submit() => {
                let version = before.map_or(VERSION_WITHOUT_NODE, |view| view.version());
                let view = View::empty(state.next_number(), self.network, tip, version);
                state.full = None;
                let view = self.build_ahead(Arc::new(view));
                self.give_out(Arc::clone(&view));
                view
            }
            // Nobody would take a block of our own making.
            before => {
                let given = nodes.template_on(&tip.hash);
                let given = given.filter(|(provider, _)| provider.is_some());
                if let Some((provider, template)) = given
                    && state.building.is_none()
                {
                    state.full = None;
                    self.start_building(tip, provider, template, before, true, state);
                }
                return None;
            }
        };
        if state.building.is_some() {
            return None;
        }
        let (provider, template) = nodes.template_on(&tip.hash)?;
        let now = Instant::now();
        let out_already =
            template.provider.is_some() && template.provider == current.provider_template();
        // One without transactions after another brings nothing.
        let no_news = provider.is_some() && template.txs.is_empty() && current.is_empty();
        if out_already || no_news {
            return None;
        }
        // A node knows what it tells; what a provider claims is the provider's word.
        let better_known = provider.is_none() && current.provider_template().is_some();
        if let Some(full) = &state.full {
            let wanted = current.value_sat().saturating_add(self.pace.fee_threshold_sat);
            if !better_known && template.coinbase_value_sat < wanted {
                return None;
            }
            let due = full.at + self.pace.min_interval;
            if now < due {
                return Some(due);
            }
        } else if provider.is_none()
            && !better_known
            && template.txs.is_empty()
            && template.version as u32 == current.version()
            && template.coinbase_value_sat == current.value_sat()
        {
            // What went out with the tip is all that there is.
            state.full = Some(Full { at: now });
            return None;
        }
        let only_whole = !nodes.can_submit();
        self.start_building(tip, provider, template, Some(current), only_whole, state);
        None
    }

    fn start_building(
        self: &Arc<Self>,
        tip: ChainTip,
        provider: Option<Provider>,
        template: Arc<Template>,
        before: Option<Arc<View>>,
        only_whole: bool,
        state: &mut State,
    ) {
        let (templates, network, number) = (Arc::clone(self), self.network, state.next_number());
        state.building = Some(tokio::task::spawn_blocking(move || {
            let view = View::of(number, network, tip, &template, before.as_deref());
            let view = match provider {
                Some(provider) => view.given_by(provider, &template, only_whole),
                None => view,
            };
            templates.build_ahead(Arc::new(view))
        }));
    }

    /// Gives out a view that was made on the side, unless there is a new tip meanwhile.
    fn finish(&self, view: Option<Arc<View>>, tip: Option<ChainTip>, state: &mut State) {
        let is_now = |view: &Arc<View>| tip.is_some_and(|tip| is_same_work(&view.tip, &tip));
        if view.as_ref().is_some_and(|view| !is_now(view)) {
            return;
        }
        // A provider's empty template is only the first one on its tip.
        let is_first = |view: &Arc<View>| view.is_empty() && view.provider_template().is_some();
        if !view.as_ref().is_some_and(is_first) {
            // Also where its making failed: the same again would fail again.
            state.full = Some(Full { at: Instant::now() });
        }
        let Some(view) = view else { return };
        debug!(
            txs = view.len(),
            height = view.tip.next_height(),
            value_sat = view.value_sat(),
            "a new template for clients"
        );
        self.give_out(view);
    }

    fn give_out(&self, view: Arc<View>) {
        lock(&self.book).open(&view, Instant::now());
        self.told.begin(view.tip.hash);
        self.current.send_replace(Some(view));
    }

    /// Makes the templates that those who are there will want.
    fn build_ahead(&self, view: Arc<View>) -> Arc<View> {
        let rooms: Vec<Room> = lock(&self.rooms).keys().copied().collect();
        let mut counts: HashMap<usize, Room> = HashMap::new();
        for room in rooms.into_iter().filter(|room| view.serves(room)) {
            counts.entry(view.fitting(&room)).or_insert(room);
            if counts.len() >= TEMPLATE_BUILDS_MAX {
                break;
            }
        }
        for room in counts.values() {
            view.build(room, || self.new_id());
        }
        view
    }
}

/// Where the distribution stands on the present tip.
#[derive(Default)]
struct State {
    number: u64,
    /// Set once the node's own template on this tip went out.
    full: Option<Full>,
    building: Option<JoinHandle<Arc<View>>>,
}

struct Full {
    at: Instant,
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }
}

/// The view being made, when it is ready; none if its making failed. Cancellation-safe.
async fn finished(building: &mut Option<JoinHandle<Arc<View>>>) -> Option<Arc<View>> {
    match building {
        Some(task) => task
            .await
            .inspect_err(|panicked| error!(%panicked, "making a template ended abnormally"))
            .ok(),
        None => std::future::pending().await,
    }
}

/// Whether work on the one is work on the other: what is known of a block besides may have grown.
pub(crate) fn is_same_work(one: &ChainTip, other: &ChainTip) -> bool {
    (one.hash, one.next_bits) == (other.hash, other.next_bits)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
