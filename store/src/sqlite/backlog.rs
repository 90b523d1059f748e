//! What was acknowledged while nothing could be written.

use std::collections::VecDeque;

use crate::batch::{AcceptedTemplate, Batch, Change, RejectedInputs, RejectedTemplate};
use crate::event::EventData;

/// Bounds on what is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) batches: usize,
    pub(super) templates: usize,
    /// Bytes of transactions that no node had when they were declared.
    pub(super) own_bytes: usize,
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

/// A batch with what it counts for.
#[derive(Debug)]
struct Kept {
    batch: Batch,
    /// As of when it came: a node may get to know transactions later.
    own_bytes: usize,
}

/// Batches in the order of their acknowledgement, bounded. Shares go first, found blocks last.
#[derive(Debug)]
pub(super) struct Backlog {
    bounds: Bounds,
    batches: VecDeque<Kept>,
    templates: usize,
    own_bytes: usize,
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
            own_bytes: 0,
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
        drop_inputs(&mut batch);
        let own_bytes = own_bytes_in(&batch);
        self.templates += templates_in(&batch);
        self.own_bytes += own_bytes;
        self.blocks += blocks_in(&batch);
        self.batches.push_back(Kept { batch, own_bytes });
        if self.batches.len() > self.bounds.batches && !self.without_shares {
            self.without_shares = true;
            for kept in &mut self.batches {
                drop_shares(&mut kept.batch, &mut self.account);
            }
            self.batches.retain(|kept| !kept.batch.is_empty());
        }
        while self.templates > self.bounds.templates
            || (self.own_bytes > self.bounds.own_bytes && self.templates > 1)
        {
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
        self.batches.iter().take(count).map(|kept| &kept.batch)
    }

    /// The oldest batches were written, but for `refused` of them.
    pub(super) fn written(&mut self, count: usize, refused: u64) {
        for Kept { batch, own_bytes } in self.batches.drain(..count) {
            self.templates -= templates_in(&batch);
            self.own_bytes -= own_bytes;
            self.blocks -= blocks_in(&batch);
        }
        self.account.kept += (count as u64).saturating_sub(refused);
        self.account.batches_lost += refused;
    }

    /// Gives up the oldest batch of that kind; any, if there is none.
    fn drop_oldest(&mut self, kind: impl Fn(&Batch) -> bool) {
        let place = self.batches.iter().position(|kept| kind(&kept.batch)).unwrap_or(0);
        let Some(Kept { batch, own_bytes }) = self.batches.remove(place) else { return };
        self.templates -= templates_in(&batch);
        self.own_bytes -= own_bytes;
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
        let oldest = self.batches.iter_mut().find(|kept| templates_in(&kept.batch) > 0);
        let Some(Kept { batch, own_bytes }) = oldest else { return };
        let (templates, events) = (templates_in(batch), batch.events.len());
        batch.changes.retain(|change| !matches!(change, Change::AcceptTemplate(_)));
        batch.events.retain(|event| !matches!(event.data, EventData::TemplateAccepted(_)));
        self.templates -= templates;
        self.own_bytes -= std::mem::take(own_bytes);
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

/// Inputs of rejected declarations are megabytes that nobody's money hangs on.
fn drop_inputs(batch: &mut Batch) {
    for change in &mut batch.changes {
        if let Change::RejectTemplate(RejectedTemplate { inputs, .. }) = change
            && matches!(inputs, RejectedInputs::Kept(_))
        {
            *inputs = RejectedInputs::Stalled;
        }
    }
}

/// Accepted templates in a batch.
pub(super) fn templates_in(batch: &Batch) -> usize {
    batch.changes.iter().filter(|change| matches!(change, Change::AcceptTemplate(_))).count()
}

/// Bytes of transactions in a batch that no node has told of: made up perhaps, and shared with
/// nobody.
fn own_bytes_in(batch: &Batch) -> usize {
    let of_template = |template: &AcceptedTemplate| -> usize {
        let txs = template.job.accepted_job().txs().iter();
        txs.filter(|tx| tx.node_facts().is_none()).map(|tx| tx.raw().len()).sum()
    };
    let templates = batch.changes.iter().filter_map(|change| match change {
        Change::AcceptTemplate(template) => Some(of_template(template)),
        _ => None,
    });
    templates.sum()
}

fn blocks_in(batch: &Batch) -> usize {
    batch.changes.iter().filter(|change| matches!(change, Change::FindBlock(_))).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{NOW_MS, block, job, numbered, share, template, txs};
    use crate::types::TemplateSource;

    const BOUNDS: Bounds = Bounds { batches: 10, templates: 3, own_bytes: usize::MAX, blocks: 2 };

    fn sequence(batch: &Batch) -> Option<u64> {
        batch.changes.iter().find_map(|change| match change {
            Change::SpendToken { sequence, .. } => Some(*sequence),
            _ => None,
        })
    }

    #[test]
    fn shares_go_first() {
        let mut backlog = Backlog::new(BOUNDS);
        for number in 0..8 {
            let share = share("alice", number, TemplateSource::Pool);
            backlog.push(Batch::new(NOW_MS).share(share.clone()).event(share));
        }
        for number in 0..6 {
            backlog.push(Batch::of_event(NOW_MS, numbered(number)));
        }
        backlog.push(Batch::new(NOW_MS).share(share("alice", 9, TemplateSource::Pool)));
        assert_eq!(backlog.len(), 6, "all that is no share is kept");
        let account = backlog.account;
        assert_eq!((account.acknowledged, account.shares_lost), (15, 9));
        assert_eq!((account.events_lost, account.batches_lost), (8, 0));
        backlog.written(6, 1);
        assert_eq!((backlog.account.kept, backlog.account.batches_lost), (5, 1));
        assert_eq!(backlog.len(), 0);
    }

    #[test]
    fn blocks_go_last() {
        let mut backlog = Backlog::new(BOUNDS);
        backlog.push(Batch::new(NOW_MS).change(Change::FindBlock(block(1, 100))));
        for number in 0..30 {
            backlog.push(Batch::of_event(NOW_MS, numbered(number)));
            assert!(backlog.len() <= BOUNDS.batches);
        }
        assert_eq!(blocks_in(backlog.oldest(1).next().unwrap()), 1);
        assert_eq!((backlog.account.batches_lost, backlog.account.events_lost), (21, 21));
        backlog.push(Batch::new(NOW_MS).change(Change::FindBlock(block(2, 100))));
        assert_eq!(backlog.account.blocks_lost, 0);
        backlog.push(Batch::new(NOW_MS).change(Change::FindBlock(block(3, 100))));
        assert_eq!(backlog.account.blocks_lost, 1, "megabytes each: they are bounded as well");
    }

    #[test]
    fn templates_are_given_up_before_their_tokens() {
        let mut backlog = Backlog::new(BOUNDS);
        for number in 0..5 {
            let template = template("alice", job(200, number as u32, txs(0..1)));
            let batch = Batch::new(NOW_MS).spend_token(number, NOW_MS, "alice".into());
            backlog.push(batch.accept_template(template));
        }
        assert_eq!(backlog.oldest(9).filter_map(sequence).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        let templates: Vec<_> = backlog.oldest(9).map(templates_in).collect();
        assert_eq!(templates, [0, 0, 1, 1, 1]);
        assert_eq!((backlog.account.templates_lost, backlog.account.events_lost), (2, 2));
        backlog.written(5, 0);
        assert_eq!(backlog.templates, 0);
    }

    #[test]
    fn templates_are_bounded_by_what_they_alone_hold() {
        let made_up = |number: u64| txs(number * 10..number * 10 + 10);
        let bytes = made_up(1).iter().map(|tx| tx.raw().len()).sum::<usize>();
        let bounds = Bounds { templates: 100, own_bytes: 2 * bytes + bytes / 2, ..BOUNDS };
        let mut backlog = Backlog::new(bounds);
        let batch = |number, txs| {
            let template = template("alice", job(200, number as u32, txs));
            Batch::new(NOW_MS).spend_token(number, NOW_MS, "alice".into()).accept_template(template)
        };
        for number in 0..5 {
            backlog.push(batch(number, made_up(number)));
            assert!(backlog.own_bytes <= bounds.own_bytes);
        }
        let templates: Vec<_> = backlog.oldest(9).map(templates_in).collect();
        assert_eq!(templates, [0, 0, 0, 1, 1], "their tokens are kept");
        assert_eq!((backlog.account.templates_lost, backlog.account.events_lost), (3, 3));
        // However large, the newest is kept.
        backlog.push(batch(5, txs(1_000..1_100)));
        assert_eq!(backlog.oldest(9).map(templates_in).sum::<usize>(), 1);
        backlog.written(6, 0);
        assert_eq!((backlog.templates, backlog.own_bytes), (0, 0));
    }
}
