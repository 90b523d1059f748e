//! End-to-end tests and load, with real peers and a real node.
//!
//! What the test files share: a [`World`] of a real node and a real server, [`Miner`]s that speak
//! to the server over the wire, and the [`Work`] that a node has for them.
//!
//! A failure of the harness fails the test that uses it, at the line of that test.
//!
//! The node's calls block. That is harmless in the body of a test of the multi-threaded runtime
//! (`#[tokio::test(flavor = "multi_thread")]`), which runs beside the server's threads; not so in
//! tasks that the test spawns.

#![expect(clippy::expect_used, reason = "a failure of the harness is a failure of the test")]

pub mod bench;
pub mod http;
pub mod jd_client;
pub mod kept;
mod miner;
pub mod pool;
pub mod proxy;
pub mod recorder;
pub mod reference;
pub mod rig;
pub mod sv1;
pub mod user_check;
mod work;
mod world;

use std::time::Duration;

pub use miner::{EXTRANONCE_BYTES, Miner, accepted, rejected};
pub use work::Work;
pub use world::{Setup, World};

/// Longest wait for anything that should happen at once: two cores run everything at the same time.
pub const PATIENCE: Duration = Duration::from_secs(120);
