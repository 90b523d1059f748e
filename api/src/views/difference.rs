//! How a template differs from our own node's.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use store::{TemplateDetail, TemplateTx};
use utoipa::ToSchema;

use crate::backend::{OwnTemplate, OwnTx};
use crate::limits::DIFFERENCE_TXS_MAX;

/// How a template differs from the template of our own node at this moment.
#[derive(Serialize, ToSchema)]
#[schema(as = Difference)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(crate) enum DifferenceView {
    /// Both build on the same block.
    Compared(Box<ComparedView>),
    /// They build on different blocks, so there is nothing to compare: the template is of the past,
    /// or our node is behind.
    OtherParent {
        /// Block that our node's template builds on.
        node_prev_hash: String,
        /// Height of our node's template.
        node_height: u32,
    },
    /// Our node has told no template.
    NoNodeTemplate,
    /// The declared transactions are not kept: it was rejected, or is older than retention.
    NotKept,
}

/// Two templates on the same block, side by side.
#[derive(Serialize, ToSchema)]
#[schema(as = Comparison)]
pub(crate) struct ComparedView {
    /// Name of our node.
    pub(crate) node: String,
    /// When we got its template, Unix milliseconds.
    pub(crate) node_received_at: u64,
    /// Fees of the declared template, satoshi, as far as they are known.
    pub(crate) fees_sat: u64,
    /// True when they are all known.
    pub(crate) fees_verified: bool,
    /// Fees of our node's template, satoshi.
    pub(crate) node_fees_sat: u64,
    /// The former minus the latter, satoshi.
    pub(crate) fees_difference_sat: i64,
    /// Transactions in both.
    pub(crate) in_both: usize,
    /// Transactions in the declared template and not in our node's, in block order.
    pub(crate) only_in_declared: Vec<DifferingTx>,
    /// How many there are; more than are listed when they are very many.
    pub(crate) only_in_declared_count: usize,
    /// Transactions in our node's template and not in the declared one, in block order.
    pub(crate) only_in_node: Vec<DifferingTx>,
    /// How many there are; more than are listed when they are very many.
    pub(crate) only_in_node_count: usize,
    /// Transactions in both by txid, whose witness differs: listed on both sides too.
    pub(crate) other_witness_count: usize,
}

/// A transaction in one of two templates.
#[derive(Serialize, ToSchema)]
#[schema(as = DifferingTransaction)]
pub(crate) struct DifferingTx {
    /// Hash without witness.
    pub(crate) txid: String,
    /// Hash with witness.
    pub(crate) wtxid: String,
    /// Fee, satoshi, if it is known.
    pub(crate) fee_sat: Option<u64>,
}

impl DifferenceView {
    pub(crate) fn new(declared: Option<&TemplateDetail>, own: Option<&OwnTemplate>) -> Self {
        let Some((declared, txs)) = declared.and_then(|it| Some((it, it.txs.as_deref()?))) else {
            return Self::NotKept;
        };
        let Some(own) = own else { return Self::NoNodeTemplate };
        if declared.summary.prev_hash != Some(own.prev_hash.to_string()) {
            return Self::OtherParent {
                node_prev_hash: own.prev_hash.to_string(),
                node_height: own.height,
            };
        }
        Self::Compared(Box::new(ComparedView::new(declared, txs, own)))
    }
}

impl ComparedView {
    fn new(declared: &TemplateDetail, txs: &[TemplateTx], own: &OwnTemplate) -> Self {
        let ours: HashMap<_, _> = own.txs.iter().map(|tx| (tx.wtxid, tx.txid)).collect();
        let our_txids: HashSet<_> = ours.values().collect();
        let theirs: HashSet<_> = txs.iter().map(|tx| tx.wtxid).collect();
        let only_declared: Vec<_> = txs.iter().filter(|tx| !ours.contains_key(&tx.wtxid)).collect();
        let only_node: Vec<_> = own.txs.iter().filter(|tx| !theirs.contains(&tx.wtxid)).collect();
        let node_fees_sat = own.txs.iter().fold(0u64, |sum, tx| sum.saturating_add(tx.fee_sat));
        let fees_sat = declared.summary.total_fees_sat;
        let difference = i128::from(fees_sat) - i128::from(node_fees_sat);
        Self {
            node: own.node.clone(),
            node_received_at: own.received_at_ms,
            fees_sat,
            fees_verified: declared.summary.fees_verified,
            node_fees_sat,
            fees_difference_sat: difference.clamp(i64::MIN.into(), i64::MAX.into()) as i64,
            in_both: txs.len() - only_declared.len(),
            other_witness_count: only_declared
                .iter()
                .filter(|tx| our_txids.contains(&tx.txid))
                .count(),
            only_in_declared_count: only_declared.len(),
            only_in_node_count: only_node.len(),
            only_in_declared: list(&only_declared),
            only_in_node: list(&only_node),
        }
    }
}

fn list<'a, T>(txs: &[&'a T]) -> Vec<DifferingTx>
where
    DifferingTx: From<&'a T>,
{
    txs.iter().take(DIFFERENCE_TXS_MAX).map(|tx| DifferingTx::from(*tx)).collect()
}

impl From<&TemplateTx> for DifferingTx {
    fn from(tx: &TemplateTx) -> Self {
        Self { txid: tx.txid.to_string(), wtxid: tx.wtxid.to_string(), fee_sat: tx.fee_sat }
    }
}

impl From<&OwnTx> for DifferingTx {
    fn from(tx: &OwnTx) -> Self {
        Self { txid: tx.txid.to_string(), wtxid: tx.wtxid.to_string(), fee_sat: Some(tx.fee_sat) }
    }
}
