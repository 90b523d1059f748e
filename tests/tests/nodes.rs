//! Over RPC: the nodes under the server.
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

/// A server that talks with its nodes over RPC.
fn setup() -> Setup {
    Setup::new()
}

/// A node of several that is reached over RPC.
const OVER_RPC: usize = 0;

/// The first node can be asked for transactions of its mempool by their wtxids.
const LOOKS_UP: bool = false;

/// A node for it.
fn options() -> NodeOptions {
    NodeOptions::regtest()
}
