//! Messages that leave only after what they acknowledge is durable, in order.
//!
//! One commit of shares is under way at a time. What comes meanwhile is collected for the next one,
//! whose place among the messages is kept: a disk that stalls holds up answers, and not the reading.

use std::collections::VecDeque;
use std::convert::Infallible;

use store::{Commit, CommitError};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::limits::FOUND_KEPT_LIMIT;

/// What waits, in order.
#[derive(Debug)]
pub(super) struct WhenDurable<M> {
    waiting: VecDeque<Waiting<M>>,
    commits: usize,
    /// Shares in those commits.
    shares: usize,
    blocks: usize,
    /// [`Waiting::Collected`] is among what waits.
    collects: bool,
}

#[derive(Debug)]
enum Waiting<M> {
    /// With how many shares.
    Commit(Commit, usize),
    /// Shares that no commit was begun for: its place. No commit is behind it.
    Collected,
    /// A found block, and until when it is waited for.
    Block(oneshot::Receiver<Infallible>, Instant),
    Message(M),
}

impl<M> Default for WhenDurable<M> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), commits: 0, shares: 0, blocks: 0, collects: false }
    }
}

impl<M> WhenDurable<M> {
    /// What follows waits for shares whose commit is still to be begun, with [`Self::after`].
    pub(super) fn after_collected(&mut self) {
        if !self.collects {
            self.collects = true;
            self.waiting.push_back(Waiting::Collected);
        }
    }

    /// What follows waits for this commit of so many shares, and so does what waits for collected
    /// ones, which are all in it. None: they are in no commit and not waited for.
    pub(super) fn after(&mut self, commit: Option<Commit>, shares: usize) {
        let collected = |waiting: &Waiting<M>| matches!(waiting, Waiting::Collected);
        let place = if self.collects { self.waiting.iter().position(collected) } else { None };
        self.collects = false;
        let Some(commit) = commit else {
            place.and_then(|place| self.waiting.remove(place));
            return;
        };
        self.commits += 1;
        self.shares += shares;
        let commit = Waiting::Commit(commit, shares);
        match place.and_then(|place| self.waiting.get_mut(place)) {
            Some(collected) => *collected = commit,
            None => self.waiting.push_back(commit),
        }
    }

    /// What follows waits until this block is on the disk, or [`FOUND_KEPT_LIMIT`] is over.
    pub(super) fn after_block(&mut self, kept: oneshot::Receiver<Infallible>) {
        self.blocks += 1;
        self.waiting.push_back(Waiting::Block(kept, Instant::now() + FOUND_KEPT_LIMIT));
    }

    /// To leave after all that came before.
    pub(super) fn message(&mut self, message: M) {
        self.waiting.push_back(Waiting::Message(message));
    }

    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A commit is under way.
    pub(super) fn is_committing(&self) -> bool {
        self.commits > 0
    }

    /// How many found blocks are waited for.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// How much is held: shares under way, and all that waits for them.
    pub(super) fn held(&self) -> usize {
        self.shares + self.waiting.len()
    }

    /// A message has its turn now.
    pub(super) fn has_message(&self) -> bool {
        matches!(self.waiting.front(), Some(Waiting::Message(_)))
    }

    /// The next message, once its turn has come; none when a commit is done and nothing follows
    /// it, or collected shares can have theirs. Cancellation-safe.
    ///
    /// # Errors
    /// What came before it will not be durable.
    pub(super) async fn next(&mut self) -> Result<Option<M>, CommitError> {
        loop {
            match self.waiting.front_mut() {
                Some(Waiting::Commit(commit, shares)) => {
                    let (done, shares) = (commit.await, *shares);
                    self.waiting.pop_front();
                    self.commits -= 1;
                    self.shares -= shares;
                    done?;
                    if self.collects {
                        return Ok(None);
                    }
                }
                Some(Waiting::Block(kept, until)) => {
                    if timeout_at(*until, kept).await.is_err() {
                        warn!(
                            "a found block is not on the disk in time: its share is acknowledged"
                        );
                    }
                    self.waiting.pop_front();
                    self.blocks -= 1;
                }
                Some(Waiting::Collected) => return Ok(None),
                Some(Waiting::Message(_)) | None => break,
            }
        }
        match self.waiting.pop_front() {
            Some(Waiting::Message(message)) => Ok(Some(message)),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use store::{Batch, Request};
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    /// Far longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// A store that takes batches and answers none of them until it is dropped.
    fn stalled() -> (mpsc::Sender<Request>, mpsc::Receiver<Request>) {
        mpsc::channel(16)
    }

    fn commit(store: &mpsc::Sender<Request>) -> Commit {
        Commit::send(store, Batch::new(0))
    }

    async fn waits<M>(durable: &mut WhenDurable<M>) -> bool {
        timeout(Duration::ZERO, durable.next()).await.is_err()
    }

    #[tokio::test]
    async fn shares_are_collected_behind_one_commit_and_nothing_is_answered_before_it() {
        let (store, mut taken) = stalled();
        let mut durable = WhenDurable::default();
        durable.after(Some(commit(&store)), 1);
        durable.message(0);
        for number in 1..=1_000 {
            assert!(durable.is_committing());
            durable.after_collected();
            durable.message(number);
        }
        // The first commit, 1,001 messages and one place for the next commit.
        assert_eq!(durable.held(), 1 + 1 + 1_001 + 1);
        assert!(waits(&mut durable).await);
        assert!(taken.try_recv().is_ok() && taken.try_recv().is_err(), "one batch for all");
        assert!(!durable.has_message());
    }

    #[tokio::test]
    async fn answers_leave_in_order_each_behind_the_commit_of_its_share() {
        let dir = tempfile::tempdir().unwrap();
        let settings = store::Settings::new(dir.path());
        let real = store::SqliteStore::open(settings).unwrap();
        let (store, _taken) = stalled();
        let next = async |durable: &mut WhenDurable<u32>| {
            timeout(PATIENCE, durable.next()).await.expect("the commit is done")
        };
        let mut durable = WhenDurable::default();
        durable.after(Some(store::Store::commit(&real, Batch::new(0))), 1);
        durable.message(1);
        durable.after_collected();
        durable.message(2);
        durable.after_collected();
        durable.message(3);
        // Time for the next commit, before anything is answered.
        assert_eq!(next(&mut durable).await, Ok(None));
        assert!(!durable.is_committing());
        durable.after(Some(commit(&store)), 2);
        durable.after_collected();
        durable.message(4);
        assert_eq!(next(&mut durable).await, Ok(Some(1)));
        assert!(waits(&mut durable).await, "the second commit is under way");
        assert_eq!(durable.held(), 2 + 5, "two shares, and what is in line");
    }

    #[tokio::test]
    async fn what_no_store_keeps_is_not_waited_for() {
        let mut durable = WhenDurable::default();
        durable.after_collected();
        durable.message(1);
        durable.after(None, 0);
        assert_eq!(durable.next().await, Ok(Some(1)));
        assert!(durable.is_empty());
    }

    /// Neither store nor file can be written: the share is acknowledged all the same, in its order.
    #[tokio::test]
    async fn a_block_that_is_not_on_the_disk_is_not_waited_for_for_ever() {
        let (_told, kept) = oneshot::channel();
        let mut durable = WhenDurable::default();
        let before = Instant::now();
        durable.after_block(kept);
        durable.message(1);
        assert!(waits(&mut durable).await);
        assert_eq!(durable.blocks(), 1);
        let Some(Waiting::Block(_, until)) = durable.waiting.front_mut() else { panic!() };
        let (least, most) = (before + FOUND_KEPT_LIMIT, Instant::now() + FOUND_KEPT_LIMIT);
        assert!(*until >= least && *until <= most);
        *until = Instant::now();
        let message = timeout(PATIENCE, durable.next()).await.expect("its time is over");
        assert_eq!((message, durable.blocks()), (Ok(Some(1)), 0));
    }
}
