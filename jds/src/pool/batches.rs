//! Batches of shares from the moment that they may be remembered until they are on the disk. A share
//! that is remembered is a duplicate at once; that is answered when the first of it is on the disk.

use std::collections::BTreeSet;

use tokio::sync::watch;

/// Those that are not on the disk.
#[derive(Debug)]
pub(super) struct Batches(watch::Sender<Open>);

#[derive(Debug, Default)]
struct Open {
    /// Number of the next one.
    next: u64,
    numbers: BTreeSet<u64>,
}

/// One of them. Dropped when it is on the disk, or forgotten.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    batches: &'a Batches,
    number: u64,
}

impl Default for Batches {
    fn default() -> Self {
        Self(watch::Sender::new(Open::default()))
    }
}

impl Batches {
    pub(super) fn begin(&self) -> Batch<'_> {
        let mut number = 0;
        self.0.send_modify(|open| {
            number = open.next;
            open.next += 1;
            open.numbers.insert(number);
        });
        Batch { batches: self, number }
    }

    /// Waits for those that have begun. Who waits has none open: two would wait for each other.
    pub(super) async fn recorded(&self) {
        let mut open = self.0.subscribe();
        let next = open.borrow().next;
        let recorded = |open: &Open| open.numbers.first().is_none_or(|first| *first >= next);
        // It ends with its sender alone, which is borrowed.
        let _ = open.wait_for(recorded).await;
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.batches.0.send_modify(|open| {
            open.numbers.remove(&self.number);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn what_has_begun_is_waited_for_and_nothing_later() {
        let batches = Batches::default();
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(batches.recorded()).poll(&mut context).is_ready());
        let (first, second) = (batches.begin(), batches.begin());
        let mut waiting = pin!(batches.recorded());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        let third = batches.begin();
        drop(second);
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        drop(first);
        assert!(waiting.as_mut().poll(&mut context).is_ready());
        drop(third);
    }
}
