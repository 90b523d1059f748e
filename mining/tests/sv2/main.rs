//! The SV2 session, asked the way a miner asks it.

#[path = "../support/mod.rs"]
mod support;

mod jobs;
