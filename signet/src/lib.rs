//! Gets Bitcoin Core and runs private chains.
//!
//! Everything here blocks the calling thread (processes, files, JSON-RPC); from async code call
//! it on a blocking thread.
//!
//! - [`provision`] finds, downloads or builds a Bitcoin Core binary.
//! - [`Node`] starts it on free ports with a data directory of its own, and stops it when
//!   dropped. `chain.rs` mines and reorganises, `funds.rs` pays without a wallet, `mempool.rs`
//!   fills the mempool.
//! - [`kinds`] builds transactions of many sorts, relayed by Bitcoin Core's policy or not.
//! - [`grind`](fn@grind) finds proof of work on the CPU for regtest and the private signet.
//! - [`wait`] waits on conditions with a deadline.

mod block;
mod chain;
mod coin;
mod error;
mod funds;
mod grind;
pub mod kinds;
mod mempool;
mod node;
mod premined;
pub mod provision;
pub mod wait;

pub use block::{assemble_block, subsidy_sat};
pub use chain::Reorg;
pub use coin::{Coin, anyone_can_spend, anyone_can_spend_tagged, padded_script};
pub use error::NodeError;
pub use grind::{default_threads, grind};
pub use mempool::{FillSpec, Filled};
pub use node::{Chain, Node, NodeOptions};
pub use premined::{PREMINED_BLOCKS, mine_premined, premined_blocks};
