//! The pool interface, over its socket and over TCP, with a real node behind the server.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what it expected"
)]

mod access;
mod accounting;
mod bounds;
mod example;
mod fuzz;
mod mining;
mod reorganised;
mod stream;
mod trouble;
mod without_tip;
mod worlds;
