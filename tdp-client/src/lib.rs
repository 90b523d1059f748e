//! Where tips, templates and transactions come from, and where blocks go.
//!
//! A [`Node`] is reached over plain JSON-RPC, which every Bitcoin Core has, or over IPC. The shapes
//! in [`NodeState`], [`TipState`] and [`Template`] say nothing of that.

#![deny(clippy::indexing_slicing)]

mod bits;
mod error;
mod ipc;
pub mod limits;
mod node;
mod outcome;
mod rpc;
mod settings;
mod source;
mod split;
mod tips;

pub use bits::{BlockFacts, BlockRef, next_bits};
pub use error::{Fault, NodeError};
pub use node::{Node, TxLookup};
pub use outcome::{BlockStatus, Proposal, SubmitOutcome};
pub use rpc::{
    ChainFacts, ClockFacts, MempoolFacts, NetworkFacts, Probe, RPC_WAIT, RPCS_NEEDED, TemplateFacts,
};
pub use settings::{Auth, IpcSettings, NodeSettings};
pub use source::{NodeState, Template, TimeLeft, TipState};
