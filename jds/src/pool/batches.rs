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
    /// How many could not be recorded.
    failed: u64,
}

/// One of them. Dropped when it is on the disk.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    batches: &'a Batches,
    number: u64,
    failed_before: u64,
}

/// Some batch could not be recorded: what seemed to be a duplicate may be in none that was.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SomeFailed;

impl Default for Batches {
    fn default() -> Self {
        Self(watch::Sender::new(Open::default()))
    }
}

impl Batches {
    pub(super) fn begin(&self) -> Batch<'_> {
        let (mut number, mut failed_before) = (0, 0);
        self.0.send_modify(|open| {
            (number, failed_before) = (open.next, open.failed);
            open.next += 1;
            open.numbers.insert(number);
        });
        Batch { batches: self, number, failed_before }
    }
}

impl Batch<'_> {
    /// It is on the disk; waits until those that have begun by now are, too.
    ///
    /// # Errors
    /// [`SomeFailed`], since this one began.
    pub(super) async fn recorded(self) -> Result<(), SomeFailed> {
        let (batches, failed_before) = (self.batches, self.failed_before);
        // Two that waited for each other would wait for ever.
        drop(self);
        let mut open = batches.0.subscribe();
        let next = open.borrow().next;
        let recorded = |open: &Open| open.numbers.first().is_none_or(|first| *first >= next);
        match open.wait_for(recorded).await {
            Ok(open) if open.failed != failed_before => Err(SomeFailed),
            // It ends with its sender alone, which is borrowed.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Nothing of it is recorded, and nothing of it remembered.
    pub(super) fn failed(self) {
        self.batches.0.send_modify(|open| open.failed += 1);
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
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn what_has_begun_is_waited_for_and_nothing_later() {
        let batches = Batches::default();
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(batches.begin().recorded()).poll(&mut context).is_ready());
        let (first, second) = (batches.begin(), batches.begin());
        let mut waiting = pin!(batches.begin().recorded());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        let third = batches.begin();
        drop(second);
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        drop(first);
        assert_eq!(waiting.as_mut().poll(&mut context), Poll::Ready(Ok(())));
        drop(third);
    }

    #[test]
    fn who_waited_for_one_that_failed_hears_of_it_and_who_comes_later_does_not() {
        let batches = Batches::default();
        let mut context = Context::from_waker(Waker::noop());
        let (first, second) = (batches.begin(), batches.begin());
        let mut waiting = pin!(second.recorded());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        first.failed();
        assert_eq!(waiting.as_mut().poll(&mut context), Poll::Ready(Err(SomeFailed)));
        let later = batches.begin();
        assert_eq!(pin!(later.recorded()).poll(&mut context), Poll::Ready(Ok(())));
    }
}
