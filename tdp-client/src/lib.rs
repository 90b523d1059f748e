//! Where tips, templates and transactions come from, and where blocks go.
//!
//! The shapes in [`NodeState`], [`TipState`] and [`Template`] say nothing of how the node is
//! reached. The source here is plain JSON-RPC ([`RpcNode`]), which every Bitcoin Core has.

#![deny(clippy::indexing_slicing)]

mod bits;
mod error;
pub mod limits;
mod outcome;
mod rpc;
mod settings;
mod source;
mod tips;

pub use bits::{BlockFacts, BlockRef, next_bits};
pub use error::{Fault, NodeError};
pub use outcome::{BlockStatus, Proposal, SubmitOutcome};
pub use rpc::{
    ChainFacts, ClockFacts, MempoolFacts, NetworkFacts, Probe, RPC_WAIT, RPCS_NEEDED, RpcNode,
    TemplateFacts, TxLookup,
};
pub use settings::{Auth, NodeSettings};
pub use source::{NodeState, Template, TipState};
