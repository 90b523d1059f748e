//! The pool interface before a server that does as it is told: what a pool may have us read, hold and
//! wait for, up to the bound and beyond it.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expected")]

#[expect(dead_code, reason = "the tests of the API use the rest")]
#[path = "../http/client.rs"]
mod client;
mod requests;
mod values;
mod world;
