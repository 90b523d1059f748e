//! What is to be remembered and told of what happened.

use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::{BlockHash, Target};

use crate::work::JobSource;

/// A share came.
#[derive(Debug, Clone)]
pub struct ShareRecord {
    /// User: the user identity up to the first dot, printable.
    pub user: Arc<str>,
    /// Worker: what comes after it, or what extension 0x0002 named, printable.
    pub worker: Arc<str>,
    /// Channel that it came on.
    pub channel_id: u32,
    /// Job that it names.
    pub job_id: u32,
    /// Why it does not count; a constant of the protocol crate.
    pub error_code: Option<&'static str>,
    /// Difficulty that it is paid for: that of the job's target.
    pub difficulty: f64,
    /// Hash of the header; absent when no job is known to make one with.
    pub share_hash: Option<BlockHash>,
    /// Whose template it was mined on; absent when the job is not known.
    pub source: Option<JobSource>,
}

/// A share whose hash meets the network's target, whatever else may be said about it.
#[derive(Debug, Clone)]
pub struct FoundShare {
    /// User, printable.
    pub user: Arc<str>,
    /// The header.
    pub header: Header,
    /// Its height.
    pub height: u32,
    /// The whole coinbase as it is in the block.
    pub coinbase: Vec<u8>,
    /// What it was mined on. In coinbase-only mode nobody here can build the block.
    pub source: JobSource,
}

/// A custom job was set on a channel.
#[derive(Debug, Clone)]
pub struct NegotiatedJob {
    /// User, printable.
    pub user: Arc<str>,
    /// The channel, or the group whose channels it was set on.
    pub channel_id: u32,
    /// The job.
    pub job_id: u32,
    /// What it is.
    pub job: Arc<crate::work::CustomJob>,
}

/// A channel was opened.
#[derive(Debug, Clone)]
pub struct ChannelOpened {
    /// User identity as the client sent it, printable.
    pub user: Arc<str>,
    /// Worker, printable.
    pub worker: Arc<str>,
    /// The channel.
    pub channel_id: u32,
    /// The connection asked for work selection, so its jobs are the miner's.
    pub work_selection: bool,
    /// Flags of SetupConnection as they came (SV2 5.3.1); 0 in Stratum V1, which has none.
    pub setup_flags: u32,
    /// What kind it is.
    pub kind: ChannelKind,
    /// What its shares have to meet; in Stratum V1 absent before the first job.
    pub target: Option<Target>,
}

/// What kind of channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind {
    /// A standard channel (SV2 5.2.1).
    Standard,
    /// An extended channel (SV2 5.2.2).
    Extended,
    /// A worker of a Stratum V1 connection.
    Worker,
}

/// The miner is told of another target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelTarget {
    /// The channel; in Stratum V1 absent, where it is the target of all workers.
    pub channel_id: Option<u32>,
    /// What shares have to meet from the next job on.
    pub target: Target,
}

/// A channel was closed, by either side or with its connection.
#[derive(Debug, Clone)]
pub struct ChannelClosed {
    /// User, printable.
    pub user: Arc<str>,
    /// The channel.
    pub channel_id: u32,
}
