//! Where tips, templates and transactions come from, and where blocks go.
//!
//! A [`Node`] is reached over plain JSON-RPC, which every Bitcoin Core has, or over IPC; a
//! [`Provider`] is any server of template distribution (SV2 7). What they tell has one shape,
//! [`Followed`]; what they can be asked to do differs.

#![deny(clippy::indexing_slicing)]

mod bits;
mod error;
mod followed;
mod ipc;
pub mod limits;
mod node;
pub mod noise_io;
mod outcome;
mod provider;
mod rpc;
mod settings;
mod source;
mod split;
mod tips;

pub use bits::{BlockFacts, BlockRef, next_bits};
pub use error::{Fault, NodeError};
pub use followed::{Followed, SourceKind};
pub use node::{BlockBytes, Node, OnSent, TemplateHold, TxLookup};
pub use outcome::{BlockStatus, Proposal, SubmitOutcome};
pub use provider::{
    Constraints, Link, LinkError, Provider, ProviderFacts, ProviderSettings, ProviderSolution,
    probe_provider,
};
pub use rpc::{
    ChainFacts, ClockFacts, MempoolFacts, NetworkFacts, Probe, RPC_WAIT, RPCS_NEEDED, TemplateFacts,
};
pub use settings::{Auth, IpcSettings, NodeSettings};
pub use source::{NodeState, ProviderTemplate, Template, TimeLeft, TipState};
