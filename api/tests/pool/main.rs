//! The pool interface before a server that takes its time.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expected")]

#[expect(dead_code, reason = "the tests of the API use the rest")]
#[path = "../http/client.rs"]
mod client;
mod requests;
mod world;
