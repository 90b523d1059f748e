//! Templates that were given out, so that what comes back for them finds them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use validation::tip::ChainTip;

use super::built::Built;
use super::view::View;
use crate::limits::{STALE_TEMPLATE_KEPT, TEMPLATE_VIEWS_BYTES_MAX, TEMPLATE_VIEWS_KEPT_MAX};

/// What an id stands for.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// This one, on the present tip or one that was it a moment ago.
    Kept(Arc<Built>),
    /// One that there was.
    Stale,
    /// None.
    Unknown,
}

/// All templates on the present tip, and for [`STALE_TEMPLATE_KEPT`] those of the tips before.
#[derive(Debug)]
pub(super) struct Book {
    /// Oldest first.
    views: VecDeque<Kept>,
    by_id: BTreeMap<u64, Arc<Built>>,
    bytes: usize,
    bytes_max: usize,
    first_id: u64,
    /// Above all that there were.
    next_id: u64,
}

#[derive(Debug)]
struct Kept {
    view: Arc<View>,
    stale_since: Option<Instant>,
}

impl Kept {
    fn is_gone(&self, now: Instant) -> bool {
        self.stale_since.is_some_and(|since| now >= since + STALE_TEMPLATE_KEPT)
    }
}

impl Book {
    /// No id is less than this one.
    pub(super) fn new(first_id: u64) -> Self {
        let (views, by_id) = (VecDeque::new(), BTreeMap::new());
        let bytes_max = TEMPLATE_VIEWS_BYTES_MAX;
        Self { views, by_id, bytes: 0, bytes_max, first_id, next_id: first_id }
    }

    /// With another bound than [`TEMPLATE_VIEWS_BYTES_MAX`].
    #[cfg(test)]
    pub(super) fn with_bytes_max(self, bytes_max: usize) -> Self {
        Self { bytes_max, ..self }
    }

    /// A view whose templates will be given out. What builds on another tip is stale from now on.
    pub(super) fn open(&mut self, view: &Arc<View>, now: Instant) {
        self.tip_is(&view.tip, now);
        self.bytes += view.own_bytes();
        self.views.push_back(Kept { view: Arc::clone(view), stale_since: None });
        view.builds().iter().for_each(|built| self.add(built));
        self.prune(now);
    }

    /// A template was made of a view; forgotten when the view is.
    pub(super) fn add(&mut self, built: &Arc<Built>) {
        self.next_id = self.next_id.max(built.id() + 1);
        if self.views.iter().any(|kept| kept.view.number == built.view()) {
            self.by_id.insert(built.id(), Arc::clone(built));
        }
    }

    pub(super) fn get(&self, id: u64, now: Instant) -> Lookup {
        let kept = self.by_id.get(&id).filter(|built| {
            let view = self.views.iter().find(|kept| kept.view.number == built.view());
            view.is_some_and(|kept| !kept.is_gone(now))
        });
        match kept {
            Some(built) => Lookup::Kept(Arc::clone(built)),
            None if (self.first_id..self.next_id).contains(&id) => Lookup::Stale,
            None => Lookup::Unknown,
        }
    }

    /// Forgets what is stale for too long, and the oldest beyond the bounds.
    pub(super) fn prune(&mut self, now: Instant) {
        while let Some(oldest) = self.views.front() {
            let beyond = self.views.len() > TEMPLATE_VIEWS_KEPT_MAX
                || (self.views.len() > 1 && self.bytes > self.bytes_max);
            if !beyond && !oldest.is_gone(now) {
                break;
            }
            let (number, bytes) = (oldest.view.number, oldest.view.own_bytes());
            self.by_id.retain(|_, built| built.view() != number);
            self.bytes = self.bytes.saturating_sub(bytes);
            self.views.pop_front();
        }
    }

    /// When [`Self::prune`] has something to do next.
    pub(super) fn prune_at(&self) -> Option<Instant> {
        self.views.front()?.stale_since.map(|since| since + STALE_TEMPLATE_KEPT)
    }

    fn tip_is(&mut self, tip: &ChainTip, now: Instant) {
        for kept in &mut self.views {
            // A tip may come back after a reorganisation.
            if kept.view.tip.hash == tip.hash {
                kept.stale_since = None;
            } else {
                kept.stale_since.get_or_insert(now);
            }
        }
    }
}
