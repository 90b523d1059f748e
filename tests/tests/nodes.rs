//! Over RPC: the nodes under the server.

#[path = "by_source/nodes.rs"]
mod nodes;

use jds_tests::Setup;
use signet::NodeOptions;

/// A server that talks with its nodes over RPC.
fn setup() -> Setup {
    Setup::new()
}

/// A node for it.
fn options() -> NodeOptions {
    NodeOptions::regtest()
}
