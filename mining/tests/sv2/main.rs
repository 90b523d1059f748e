//! The SV2 session, asked the way a miner asks it.

#[path = "../support/mod.rs"]
#[cfg(test)]
mod support;

#[cfg(test)]
mod jobs;
