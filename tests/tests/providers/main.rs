//! Template providers as sources: our own template distribution server over a real node is the
//! provider of another server, which has no node or has one of its own beside it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what it expected"
)]

mod alone;
mod beside;
mod liar;
mod line;
mod trouble;
mod worlds;

#[path = "../templates/client.rs"]
#[expect(dead_code, reason = "another test file uses the rest of it")]
mod client;
