//! What the pool interface needs from the server.

use bitcoin::Network;
use tokio::sync::watch;
use validation::tip::ChainTip;

/// The server, as the pool interface sees it.
pub trait PoolBackend: Send + Sync + 'static {
    /// The chain that is mined on.
    fn network(&self) -> Network;

    /// The block that work is to build on, as our nodes have it.
    fn watch_tip(&self) -> watch::Receiver<Option<ChainTip>>;
}
