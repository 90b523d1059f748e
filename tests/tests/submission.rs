//! Over RPC: from `PushSolution` to the chain.
#![expect(clippy::unwrap_used, reason = "a test says what it expected")]

#[path = "by_source/submission.rs"]
mod submission;

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

/// What a node writes into its log for each block that the server gives it.
const SUBMISSION: &str = "method=submitblock";
