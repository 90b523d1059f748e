//! What the API needs from the server and can not read from the store.

use std::net::SocketAddr;
use std::sync::Arc;

use bitcoin::{BlockHash, Target, Txid, Wtxid};
use serde::Serialize;
use store::{Page, PageRequest, Protocol};
use utoipa::ToSchema;
use validation::receipt::{PublishedKey, ServerId};

/// The server, as the API sees it. Calls return at once: they read what is there, and never ask a
/// node.
pub trait Backend: Send + Sync + 'static {
    /// The configured nodes, in the order of the configuration.
    fn nodes(&self) -> Vec<NodeView>;

    /// The newest template of our own node, if it has told one.
    fn own_template(&self) -> Option<Arc<OwnTemplate>>;

    /// Numbers of the moment.
    fn live(&self) -> Live;

    /// Open mining channels, newest first; the cursor is [`ChannelInfo::number`].
    fn channels(&self, _page: PageRequest) -> Page<ChannelInfo> {
        Page { items: Vec::new(), next: None }
    }

    /// The keys that its receipts are checked with; none of a server that signs nothing.
    fn receipt_keys(&self) -> Option<ReceiptKeys> {
        None
    }

    /// Whether the parts of the server work: nodes, listeners and whatever else it has. The store
    /// is asked by the API itself.
    fn readiness(&self) -> Vec<Part>;
}

/// The keys of receipts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptKeys {
    /// The server that signs.
    pub server: ServerId,
    /// Every key that somebody may need, the one that signs first.
    pub keys: Vec<PublishedKey>,
}

/// An open mining channel.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelInfo {
    /// Rises with each channel that this process opens, from 1.
    pub number: u64,
    /// Number of its connection.
    pub connection_id: u64,
    /// Its number on the connection.
    pub channel_id: u32,
    /// User, printable.
    pub user: Arc<str>,
    /// Worker, printable.
    pub worker: Arc<str>,
    /// Address and port of the miner.
    pub remote: SocketAddr,
    /// What the miner speaks.
    pub protocol: Protocol,
    /// What kind of channel.
    pub kind: ChannelKind,
    /// Its jobs are the miner's.
    pub job_negotiation: bool,
    /// When it was opened, Unix milliseconds.
    pub since_ms: u64,
    /// What its shares have to meet, once the miner was told.
    pub target: Option<Target>,
    /// Shares that count.
    pub shares_accepted: u64,
    /// Shares that do not.
    pub shares_refused: u64,
    /// When the last share that counts came, Unix milliseconds.
    pub last_share_ms: Option<u64>,
}

/// What kind of channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    /// A standard channel of Stratum V2.
    Standard,
    /// An extended channel of Stratum V2.
    Extended,
    /// A worker of a Stratum V1 connection.
    Worker,
}

/// One node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeView {
    /// Its name in the configuration.
    pub name: String,
    /// What it is, in one word: `bitcoin_core` or `template_provider`.
    pub kind: String,
    /// What it does, in one word: `at_tip`, `behind`, `stale`, `unreachable` …
    pub state: String,
    /// True when it can be relied on at the moment.
    pub ready: bool,
    /// True for the one that the tip comes from.
    pub active: bool,
    /// Height of its tip.
    pub height: Option<u32>,
    /// Hash of its tip.
    pub tip_hash: Option<BlockHash>,
    /// How long ago its tip came, milliseconds.
    pub tip_age_ms: Option<u64>,
    /// How far it is with the download of the chain, while that goes on.
    pub download: Option<Download>,
    /// What there is to say about it.
    pub detail: Option<String>,
}

/// A node's download of the chain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Download {
    /// By the node's own estimate, 0 to 100.
    pub percent: f64,
    /// Blocks that it has.
    pub blocks: u32,
    /// Headers that it has.
    pub headers: u32,
    /// How long the rest takes at the pace of the last minutes, seconds, once that is known.
    pub left_s: Option<u64>,
}

/// A template of our own node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnTemplate {
    /// Name of the node.
    pub node: String,
    /// Block that it builds on.
    pub prev_hash: BlockHash,
    /// Height of the block that it is for.
    pub height: u32,
    /// When we got it, Unix milliseconds.
    pub received_at_ms: u64,
    /// Its transactions without the coinbase, in block order.
    pub txs: Vec<OwnTx>,
}

/// A transaction of our own node's template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnTx {
    /// Hash without witness.
    pub txid: Txid,
    /// Hash with witness.
    pub wtxid: Wtxid,
    /// Fee, satoshi.
    pub fee_sat: u64,
}

/// Numbers of the moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Live {
    /// Tokens that were given out and not used.
    pub tokens: u64,
    /// Open connections by role (`job_declaration`, `mining`, `handshake` …).
    pub connections: Vec<(&'static str, u64)>,
    /// Open channels of miners by role; of Stratum V1 each worker is one.
    pub channels: Vec<(&'static str, u64)>,
    /// Queues inside the server.
    pub queues: Vec<Queue>,
    /// Accepted jobs that are ready for solutions.
    pub jobs: u64,
}

/// How full a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: &'static str,
    /// Things in it.
    pub depth: u64,
    /// Things that fit.
    pub capacity: u64,
}

/// Whether a part of the server works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name, for instance `node:local` or `listener:job_declaration`.
    pub name: String,
    /// True when it does.
    pub ready: bool,
    /// Why it does not.
    pub detail: Option<String>,
}

impl Part {
    /// A part that works.
    pub fn ready(name: impl Into<String>) -> Self {
        Self { name: name.into(), ready: true, detail: None }
    }

    /// A part that does not, and why.
    pub fn not_ready(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), ready: false, detail: Some(detail.into()) }
    }
}
