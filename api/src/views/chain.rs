//! Blocks and nodes.

use serde::Serialize;
use store::{BlockState, BlockSummary, NodeSubmission, SubmissionState, TemplateSource};
use utoipa::ToSchema;

use super::names;
use crate::backend;

/// A block of ours.
#[derive(Serialize, ToSchema)]
#[schema(as = Block)]
pub(crate) struct BlockView {
    /// Its hash, 64 hex digits as usually printed.
    pub(crate) block_hash: String,
    /// Its height.
    pub(crate) height: u32,
    /// User identity.
    pub(crate) user: String,
    /// When it was found, Unix milliseconds.
    pub(crate) found_at: u64,
    /// Whose template it was mined on.
    #[schema(value_type = names::Source)]
    pub(crate) template_source: TemplateSource,
    /// The miner's template, 64 hex digits.
    pub(crate) miner_template_hash: Option<String>,
    /// Transactions in it, the coinbase included.
    pub(crate) tx_count: u32,
    /// What its coinbase takes, satoshi.
    pub(crate) reward_sat: u64,
    /// Where it stands in the chain.
    #[schema(value_type = names::Standing)]
    pub(crate) state: BlockState,
    /// Blocks from it to the tip, itself included.
    pub(crate) confirmations: u32,
    /// True when it was acknowledged while the store could not write.
    pub(crate) acknowledged_volatile: bool,
    /// What each node made of it.
    pub(crate) submissions: Vec<SubmissionView>,
}

/// What a node made of a block.
#[derive(Serialize, ToSchema)]
#[schema(as = BlockSubmission)]
pub(crate) struct SubmissionView {
    /// Name of the node.
    pub(crate) node: String,
    /// Where the saga stands.
    #[schema(value_type = names::Submission)]
    pub(crate) state: SubmissionState,
    /// The node's words, where it has any.
    pub(crate) detail: Option<String>,
    /// Attempts made.
    pub(crate) attempts: u32,
    /// From the solution to the answer, milliseconds.
    pub(crate) latency_ms: Option<f64>,
    /// When this last changed, Unix milliseconds.
    pub(crate) updated_at: u64,
}

impl From<BlockSummary> for BlockView {
    fn from(row: BlockSummary) -> Self {
        Self {
            block_hash: row.block_hash,
            height: row.height,
            user: row.user,
            found_at: row.found_at,
            template_source: row.template_source,
            miner_template_hash: row.miner_template_hash,
            tx_count: row.tx_count,
            reward_sat: row.reward_sat,
            state: row.state,
            confirmations: row.confirmations,
            acknowledged_volatile: row.acknowledged_volatile,
            submissions: row.submissions.into_iter().map(SubmissionView::from).collect(),
        }
    }
}

impl From<NodeSubmission> for SubmissionView {
    fn from(row: NodeSubmission) -> Self {
        Self {
            node: row.node,
            state: row.state,
            detail: row.detail,
            attempts: row.attempts,
            latency_ms: row.latency_ms,
            updated_at: row.updated_at,
        }
    }
}

/// The nodes that we work with.
#[derive(Serialize, ToSchema)]
#[schema(as = Nodes)]
pub(crate) struct NodesView {
    /// Nodes, then template providers, each in the order of the configuration.
    pub(crate) nodes: Vec<NodeView>,
}

/// A node.
#[derive(Serialize, ToSchema)]
#[schema(as = Node)]
pub(crate) struct NodeView {
    /// Its name in the configuration.
    pub(crate) name: String,
    /// What it is, in one word: `bitcoin_core` or `template_provider`.
    pub(crate) kind: String,
    /// What it does, in one word.
    pub(crate) state: String,
    /// True when it can be relied on at the moment.
    pub(crate) ready: bool,
    /// True for the one that the tip comes from.
    pub(crate) active: bool,
    /// Height of its tip.
    pub(crate) height: Option<u32>,
    /// Hash of its tip.
    pub(crate) tip_hash: Option<String>,
    /// How long ago its tip came, milliseconds.
    pub(crate) tip_age_ms: Option<u64>,
    /// How far it is with the download of the chain, while that goes on.
    pub(crate) download: Option<DownloadView>,
    /// What there is to say about it.
    pub(crate) detail: Option<String>,
}

/// A node's download of the chain.
#[derive(Serialize, ToSchema)]
#[schema(as = Download)]
pub(crate) struct DownloadView {
    /// By the node's own estimate, 0 to 100.
    pub(crate) percent: f64,
    /// Blocks that it has.
    pub(crate) blocks: u32,
    /// Headers that it has.
    pub(crate) headers: u32,
    /// How long the rest takes at the pace of the last minutes, seconds, once that is known.
    pub(crate) left_s: Option<u64>,
}

impl From<backend::Download> for DownloadView {
    fn from(download: backend::Download) -> Self {
        let backend::Download { percent, blocks, headers, left_s } = download;
        Self { percent, blocks, headers, left_s }
    }
}

impl From<backend::NodeView> for NodeView {
    fn from(node: backend::NodeView) -> Self {
        Self {
            name: node.name,
            kind: node.kind,
            state: node.state,
            ready: node.ready,
            active: node.active,
            height: node.height,
            tip_hash: node.tip_hash.map(|hash| hash.to_string()),
            tip_age_ms: node.tip_age_ms,
            download: node.download.map(DownloadView::from),
            detail: node.detail,
        }
    }
}
