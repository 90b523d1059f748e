//! What is followed, whatever it is and however it is reached: a tip and a template.

use std::sync::Arc;

use bitcoin::BlockHash;
use tokio::sync::watch;
use validation::tip::ChainTip;

use crate::error::NodeError;
use crate::node::Shared;
use crate::source::{NodeState, Template, TipState};

/// What kind of source something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// A Bitcoin Core node: its word on the chain is that of a node which has checked every block.
    BitcoinCore,
    /// A template provider (SV2 7): it proves nothing of what it tells.
    TemplateProvider,
}

impl SourceKind {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BitcoinCore => "bitcoin_core",
            Self::TemplateProvider => "template_provider",
        }
    }
}

/// The tip and the template of a source, as far as we know them. Cheap to clone.
#[derive(Clone)]
pub struct Followed(pub(crate) Arc<Shared>);

impl Followed {
    /// The operator's name for it.
    pub fn name(&self) -> &str {
        &self.0.node
    }

    /// What it is.
    pub fn kind(&self) -> SourceKind {
        self.0.kind
    }

    /// How things stand with it.
    pub fn state(&self) -> watch::Receiver<NodeState> {
        self.0.state.subscribe()
    }

    /// True when its tip is known and followed.
    pub fn is_ready(&self) -> bool {
        self.0.is_ready()
    }

    /// Its tip: published as soon as it is known, before a template for it is. `None` until the
    /// first; while the source is away it stays what it was.
    pub fn tip(&self) -> watch::Receiver<Option<Arc<TipState>>> {
        self.0.tip.subscribe()
    }

    /// Its template; the `prev_hash` may for a moment lag behind the tip, or be ahead.
    pub fn template(&self) -> watch::Receiver<Option<Arc<Template>>> {
        self.0.template.subscribe()
    }

    /// Why there is no fresh template, if there is none although the source is ready: for instance
    /// a mainnet node without peers.
    pub fn template_error(&self) -> Option<NodeError> {
        self.0.template_error()
    }

    /// The tip with this hash, if it is or was the source's tip lately
    /// ([`crate::limits::TIPS_KEPT_MAX`]).
    pub fn tip_by_hash(&self, hash: &BlockHash) -> Option<ChainTip> {
        self.0.tip_by_hash(hash)
    }
}

impl std::fmt::Debug for Followed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Followed").field("name", &self.name()).finish_non_exhaustive()
    }
}
