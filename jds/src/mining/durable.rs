//! Messages that leave only after what they acknowledge is durable, in order.

use std::collections::VecDeque;

use store::{Commit, CommitError};

/// What waits, in order.
#[derive(Debug)]
pub(super) struct WhenDurable<M> {
    waiting: VecDeque<Waiting<M>>,
    commits: usize,
}

#[derive(Debug)]
enum Waiting<M> {
    Commit(Commit),
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
        while let Some(Waiting::Commit(commit)) = self.waiting.front_mut() {
            let done = commit.await;
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
