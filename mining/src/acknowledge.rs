//! Accepted shares that the miner has not been told of yet (SV2 5.3.13).

use std::time::Instant;

use crate::limits::ACKNOWLEDGE_AFTER;

/// The fields of SubmitShares.Success.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Acknowledgement {
    /// The miner's number of the newest share.
    pub last_sequence_number: u32,
    /// How many shares.
    pub count: u32,
    /// Sum of their difficulties.
    pub difficulty_sum: f64,
}

/// A batch that fills.
#[derive(Debug)]
pub(crate) struct Batch {
    size: u32,
    /// The first share of a channel is acknowledged at once: it tells the miner that all is well.
    first: bool,
    filling: Option<(Acknowledgement, Instant)>,
}

impl Batch {
    /// `size`: shares of a full one, at least 1.
    pub(crate) fn new(size: u32) -> Self {
        Self { size: size.max(1), first: true, filling: None }
    }

    /// One more share. Gives the batch when it is full.
    pub(crate) fn add(
        &mut self,
        sequence_number: u32,
        difficulty: f64,
        now: Instant,
    ) -> Option<Acknowledgement> {
        let empty = Acknowledgement { last_sequence_number: 0, count: 0, difficulty_sum: 0.0 };
        let (batch, _) = self.filling.get_or_insert((empty, now));
        batch.last_sequence_number = sequence_number;
        batch.count += 1;
        batch.difficulty_sum += difficulty;
        if !self.first && batch.count < self.size {
            return None;
        }
        self.first = false;
        self.take(true, now)
    }

    /// The batch, if it has waited long enough, or in any case with `all`.
    pub(crate) fn take(&mut self, all: bool, now: Instant) -> Option<Acknowledgement> {
        let due = all || self.deadline().is_some_and(|deadline| now >= deadline);
        if due { self.filling.take().map(|(batch, _)| batch) } else { None }
    }

    /// When it has waited long enough.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.filling.map(|(_, since)| since + ACKNOWLEDGE_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_counts_what_is_in_it_and_no_more() {
        let now = Instant::now();
        let mut batch = Batch::new(2);
        let first =
            batch.add(7, 1.5, now).map(|a| (a.last_sequence_number, a.count, a.difficulty_sum));
        assert_eq!(first, Some((7, 1, 1.5)));
        assert_eq!(batch.add(8, 2.25, now), None);
        assert_eq!(batch.deadline(), Some(now + ACKNOWLEDGE_AFTER));
        assert_eq!(batch.take(false, now), None);
        let second =
            batch.add(9, 4.0, now).map(|a| (a.last_sequence_number, a.count, a.difficulty_sum));
        assert_eq!(second, Some((9, 2, 6.25)));
        assert_eq!(batch.deadline(), None);
        assert_eq!(batch.take(true, now), None);
    }
}
