//! Over RPC: the node's judgement of a declared block.
#![expect(clippy::unwrap_used, reason = "a test says what it expected")]

#[path = "by_source/consensus.rs"]
mod consensus;

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
