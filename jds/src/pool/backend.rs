//! The server, as the pool interface sees it.

use std::sync::Arc;

use api::pool::PoolBackend;
use bitcoin::Network;
use tokio::sync::watch;
use validation::tip::ChainTip;

use crate::server::Shared;

/// The server, as the pool interface sees it.
pub(super) struct PoolView {
    shared: Arc<Shared>,
}

impl PoolView {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl PoolBackend for PoolView {
    fn network(&self) -> Network {
        self.shared.network
    }

    fn watch_tip(&self) -> watch::Receiver<Option<ChainTip>> {
        self.shared.nodes.watch_tip()
    }
}
