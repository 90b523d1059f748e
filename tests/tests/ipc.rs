//! Over IPC alone, without any login to RPC: the nodes under the server, the path of a found block,
//! and the node's judgement of a declared block.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expected")]

#[path = "by_source/consensus.rs"]
mod consensus;
#[path = "by_source/lookups.rs"]
mod lookups;
#[path = "by_source/nodes.rs"]
mod nodes;
#[path = "by_source/several.rs"]
mod several;
#[path = "by_source/submission.rs"]
mod submission;

use jds_tests::Setup;
use signet::NodeOptions;

/// A server that talks with its nodes over IPC.
fn setup() -> Setup {
    Setup::new().ipc()
}

/// The first node can be asked for transactions of its mempool by their wtxids.
const LOOKS_UP: bool = true;

/// A node for it.
fn options() -> NodeOptions {
    NodeOptions::regtest().ipc()
}

/// What a node writes into its log for each block that the server gives it.
const SUBMISSION: &str = "Mining.submitBlock$Params";
