//! Miners at the mining endpoint, with the reference implementation's programs and a real node:
//! their shares are stored and told, their blocks are in the chain.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code outside of test functions")]

mod pool_work;
