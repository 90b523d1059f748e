//! The Stratum V1 session against a miner that knows only what real ones know: the lines.
#![allow(unreachable_pub, reason = "modules of one test program")]

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod miner;
#[cfg(test)]
mod published;
#[cfg(test)]
mod setup;
#[cfg(test)]
mod shares;
#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;
