//! Templates given out to clients over a plain-RPC node: what they get is what the node would mine,
//! a new tip is told at once, and what they find becomes a block.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what it expected"
)]

mod client;
mod hostile;
mod reference;
mod solutions;
mod standing;
mod work;
