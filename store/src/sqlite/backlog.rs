//! What was acknowledged while nothing could be written.

use std::collections::VecDeque;

use crate::batch::{Batch, Change};
use crate::event::EventData;

/// Bounds on what is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) batches: usize,
    pub(super) templates: usize,
    pub(super) blocks: usize,
}

/// What was kept and what was given up, since the store stalled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) acknowledged: u64,
    pub(super) kept: u64,
    pub(super) batches_lost: u64,
    pub(super) events_lost: u64,
    pub(super) shares_lost: u64,
    pub(super) templates_lost: u64,
    pub(super) blocks_lost: u64,
}

/// Batches in the order of their acknowledgement, bounded. Shares go first, found blocks last.
#[derive(Debug)]
pub(super) struct Backlog {
    bounds: Bounds,
    batches: VecDeque<Batch>,
    templates: usize,
    blocks: usize,
    /// Once shares were given up, later ones are as well, until the store has healed.
    without_shares: bool,
    pub(super) account: Account,
}

impl Backlog {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            batches: VecDeque::new(),
            templates: 0,
            blocks: 0,
            without_shares: false,
            account: Account::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.batches.len()
    }

    /// Keeps a batch that is acknowledged now.
    pub(super) fn push(&mut self, mut batch: Batch) {
        self.account.acknowledged += 1;
        if self.without_shares {
            drop_shares(&mut batch, &mut self.account);
            if batch.is_empty() {
                return;
            }
        }
        self.templates += templates_in(&batch);
        self.blocks += blocks_in(&batch);
        self.batches.push_back(batch);
        if self.batches.len() > self.bounds.batches && !self.without_shares {
            self.without_shares = true;
            for batch in &mut self.batches {
                drop_shares(batch, &mut self.account);
            }
            self.batches.retain(|batch| !batch.is_empty());
        }
        while self.templates > self.bounds.templates {
            self.drop_oldest_template();
        }
        while self.blocks > self.bounds.blocks {
            self.drop_oldest(|batch| blocks_in(batch) > 0);
        }
        while self.batches.len() > self.bounds.batches {
            self.drop_oldest(|batch| blocks_in(batch) == 0);
        }
    }

    /// The oldest batches, to be written; they stay until [`Self::written`].
    pub(super) fn oldest(&self, count: usize) -> impl ExactSizeIterator<Item = &Batch> {
        self.batches.iter().take(count)
    }

    /// The oldest batches were written, but for `refused` of them.
    pub(super) fn written(&mut self, count: usize, refused: u64) {
        for batch in self.batches.drain(..count) {
            self.templates -= templates_in(&batch);
            self.blocks -= blocks_in(&batch);
        }
        self.account.kept += (count as u64).saturating_sub(refused);
        self.account.batches_lost += refused;
    }

    /// Gives up the oldest batch of that kind; any, if there is none.
    fn drop_oldest(&mut self, kind: impl Fn(&Batch) -> bool) {
        let place = self.batches.iter().position(kind).unwrap_or(0);
        let Some(batch) = self.batches.remove(place) else { return };
        self.templates -= templates_in(&batch);
        self.blocks -= blocks_in(&batch);
        self.account.batches_lost += 1;
        self.account.events_lost += batch.events.len() as u64;
        self.account.templates_lost += templates_in(&batch) as u64;
        self.account.blocks_lost += blocks_in(&batch) as u64;
        let shares = batch.changes.iter().filter(|change| matches!(change, Change::Share(_)));
        self.account.shares_lost += shares.count() as u64;
    }

    /// Gives up the oldest template; the token that was used up for it is kept.
    fn drop_oldest_template(&mut self) {
        let oldest = self.batches.iter_mut().find(|batch| templates_in(batch) > 0);
        let Some(batch) = oldest else { return };
        let (templates, events) = (templates_in(batch), batch.events.len());
        batch.changes.retain(|change| !matches!(change, Change::AcceptTemplate(_)));
        batch.events.retain(|event| !matches!(event.data, EventData::TemplateAccepted(_)));
        self.templates -= templates;
        self.account.templates_lost += templates as u64;
        self.account.events_lost += (events - batch.events.len()) as u64;
    }
}

fn drop_shares(batch: &mut Batch, account: &mut Account) {
    let (changes, events) = (batch.changes.len(), batch.events.len());
    batch.changes.retain(|change| !matches!(change, Change::Share(_)));
    batch.events.retain(|event| !matches!(event.data, EventData::ShareSubmitted(_)));
    account.shares_lost += (changes - batch.changes.len()) as u64;
    account.events_lost += (events - batch.events.len()) as u64;
}

/// Accepted templates in a batch.
pub(super) fn templates_in(batch: &Batch) -> usize {
    batch.changes.iter().filter(|change| matches!(change, Change::AcceptTemplate(_))).count()
}

fn blocks_in(batch: &Batch) -> usize {
    batch.changes.iter().filter(|change| matches!(change, Change::FindBlock(_))).count()
}
