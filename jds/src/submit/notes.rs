//! From the submissions of a block to the one who records them.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::error;

use super::UnderWay;

/// What there is to tell of a block at one node.
#[derive(Debug)]
pub(super) struct Note {
    /// Name of the node.
    pub(super) node: String,
    pub(super) news: News,
    /// Attempts made so far, those before a restart included.
    pub(super) attempts: u32,
    /// From the solution on.
    pub(super) latency: Duration,
    /// The server does not end before this is recorded.
    pub(super) recording: UnderWay,
}

/// See [`Note`].
#[derive(Debug)]
pub(super) enum News {
    /// The first call began.
    Sent,
    /// It is open whether the node has the block: it is asked again.
    Unknown(String),
    /// The node has it. Says how, unless it simply took it.
    Accepted(Option<&'static str>),
    /// The node refused it.
    Rejected(String),
    /// The node is asked no more.
    GaveUp,
}

impl News {
    /// Nothing more comes from this node.
    pub(super) fn is_last(&self) -> bool {
        matches!(self, Self::Accepted(_) | Self::Rejected(_) | Self::GaveUp)
    }
}

/// Tells without waiting: there is room for everything that one submission can have to tell.
#[derive(Debug, Clone)]
pub(super) struct Notes {
    sender: mpsc::Sender<Note>,
    keeping: watch::Sender<usize>,
}

impl Notes {
    pub(super) fn new(sender: mpsc::Sender<Note>, keeping: &watch::Sender<usize>) -> Self {
        Self { sender, keeping: keeping.clone() }
    }

    pub(super) fn tell(&self, node: &str, news: News, attempts: u32, latency: Duration) {
        let recording = UnderWay::begin(&self.keeping);
        let note = Note { node: node.to_owned(), news, attempts, latency, recording };
        if let Err(lost) = self.sender.try_send(note) {
            error!(node, %lost, "what became of a block at a node is not recorded");
        }
    }
}
