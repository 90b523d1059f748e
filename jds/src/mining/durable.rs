//! Messages that leave only after what they acknowledge is durable, in order.

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
}

#[derive(Debug)]
enum Waiting<M> {
    Commit(Commit),
    /// A found block, and until when it is waited for.
    Block(oneshot::Receiver<Infallible>, Instant),
    Message(M),
}

impl<M> Default for WhenDurable<M> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), commits: 0 }
    }
}

impl<M> WhenDurable<M> {
    /// What follows waits for this.
    pub(super) fn after(&mut self, commit: Commit) {
        self.commits += 1;
        self.waiting.push_back(Waiting::Commit(commit));
    }

    /// What follows waits until this block is on the disk, or [`FOUND_KEPT_LIMIT`] is over.
    pub(super) fn after_block(&mut self, kept: oneshot::Receiver<Infallible>) {
        self.commits += 1;
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

    /// How many commits are waited for.
    pub(super) fn commits(&self) -> usize {
        self.commits
    }

    /// The next message, once its turn has come; none when a commit is done and nothing follows
    /// it. Cancellation-safe.
    ///
    /// # Errors
    /// What came before it will not be durable.
    pub(super) async fn next(&mut self) -> Result<Option<M>, CommitError> {
        loop {
            let done = match self.waiting.front_mut() {
                Some(Waiting::Commit(commit)) => commit.await.map(drop),
                Some(Waiting::Block(kept, until)) => {
                    if timeout_at(*until, kept).await.is_err() {
                        warn!(
                            "a found block is not on the disk in time: its share is acknowledged"
                        );
                    }
                    Ok(())
                }
                _ => break,
            };
            self.waiting.pop_front();
            self.commits -= 1;
            done?;
        }
        match self.waiting.pop_front() {
            Some(Waiting::Message(message)) => Ok(Some(message)),
            _ => Ok(None),
        }
    }
}
