//! Over IPC with RPC beside it for the first node, over RPC alone for the second: the nodes under the
//! server.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expected")]

#[path = "by_source/cut_off.rs"]
mod cut_off;
#[path = "by_source/lookups.rs"]
mod lookups;
#[path = "by_source/nodes.rs"]
mod nodes;
#[path = "by_source/several.rs"]
mod several;

use jds_tests::Setup;
use signet::NodeOptions;

/// A server that talks with its nodes in both ways.
fn setup() -> Setup {
    Setup::new().both()
}

/// A node of several that is reached over RPC.
const OVER_RPC: usize = 1;

/// The first node can be asked for transactions of its mempool by their wtxids.
const LOOKS_UP: bool = true;

/// A node for it.
fn options() -> NodeOptions {
    NodeOptions::regtest().ipc()
}
