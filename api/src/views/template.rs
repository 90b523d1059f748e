//! Templates and declarations: the same rows, looked at for what they hold and for how it went.

use serde::Serialize;
use store::{TemplateSummary, TemplateTx, ValidationResult};
use utoipa::ToSchema;

use super::coinbase::CoinbaseView;
use super::difference::DifferenceView;
use super::names;

/// What a declared template holds.
#[derive(Serialize, ToSchema)]
#[schema(as = Template)]
pub(crate) struct TemplateView {
    /// Number of the declaration: see `/v1/declarations/{id}`.
    pub(crate) declaration_id: u64,
    /// Names the template, 64 hex digits; null when a rejected one came not so far.
    pub(crate) template_hash: Option<String>,
    /// User: what the identity has before its first dot.
    pub(crate) user: String,
    /// The worker that declared it; empty when none was named.
    pub(crate) worker: String,
    /// When it was declared, Unix milliseconds.
    pub(crate) submitted_at: u64,
    /// The verdict.
    #[schema(value_type = names::TemplateResult)]
    pub(crate) result: ValidationResult,
    /// Code that the client was told, of a rejected one.
    pub(crate) error_code: Option<String>,
    /// Rule that it broke, or the node's reason to withdraw it.
    pub(crate) reason: Option<String>,
    /// Transactions in the block, the coinbase included.
    pub(crate) tx_count: u32,
    /// Fees together, satoshi, as far as they are known.
    pub(crate) total_fees_sat: u64,
    /// True when every fee is known.
    pub(crate) fees_verified: bool,
    /// Weight of the block, weight units; 0 for a rejected one.
    pub(crate) block_weight: u64,
    /// Height of the block, if it came so far.
    pub(crate) height: Option<u32>,
    /// Hash of the block before, of an accepted one.
    pub(crate) prev_hash: Option<String>,
    /// What the coinbase pays to the pool, satoshi.
    pub(crate) pool_payout_sat: u64,
    /// What it pays to the miner's own script in solo mode, satoshi.
    pub(crate) miner_payout_sat: u64,
    /// What it could claim, satoshi.
    pub(crate) claimable_sat: u64,
    /// What it takes, satoshi.
    pub(crate) reward_sat: u64,
}

impl From<TemplateSummary> for TemplateView {
    fn from(row: TemplateSummary) -> Self {
        Self {
            declaration_id: row.id,
            template_hash: row.template_hash,
            user: row.user,
            worker: row.worker,
            submitted_at: row.submitted_at,
            result: row.result,
            error_code: row.error_code,
            reason: row.reason,
            tx_count: row.tx_count,
            total_fees_sat: row.total_fees_sat,
            fees_verified: row.fees_verified,
            block_weight: row.block_weight,
            height: row.height,
            prev_hash: row.prev_hash,
            pool_payout_sat: row.pool_payout_sat,
            miner_payout_sat: row.miner_payout_sat,
            claimable_sat: row.claimable_sat,
            reward_sat: row.reward_sat,
        }
    }
}

/// How a declaration went.
#[derive(Serialize, ToSchema)]
#[schema(as = Declaration)]
pub(crate) struct DeclarationView {
    /// Number of the declaration.
    pub(crate) id: u64,
    /// Names the template, 64 hex digits; null when a rejected one came not so far.
    pub(crate) template_hash: Option<String>,
    /// User: what the identity has before its first dot.
    pub(crate) user: String,
    /// The worker that declared it; empty when none was named.
    pub(crate) worker: String,
    /// When it came, Unix milliseconds.
    pub(crate) submitted_at: u64,
    /// The verdict.
    #[schema(value_type = names::TemplateResult)]
    pub(crate) result: ValidationResult,
    /// Code that the client was told, of a rejected one.
    pub(crate) error_code: Option<String>,
    /// Rule that it broke, or the node's reason to withdraw it.
    pub(crate) reason: Option<String>,
    /// Position of the offender, 0-based.
    pub(crate) index: Option<u64>,
    /// What the rule demands.
    pub(crate) expected: Option<String>,
    /// What was found.
    pub(crate) actual: Option<String>,
    /// Height of the block, if it came so far.
    pub(crate) height: Option<u32>,
    /// Transactions in the block, the coinbase included.
    pub(crate) tx_count: u32,
    /// Size of the declaration, bytes.
    pub(crate) request_bytes: u64,
    /// How long it took, and what we had to ask for.
    pub(crate) timings: TimingsView,
    /// True when it was acknowledged while the store could not write.
    pub(crate) acknowledged_volatile: bool,
}

impl From<TemplateSummary> for DeclarationView {
    fn from(row: TemplateSummary) -> Self {
        Self {
            timings: TimingsView::of(&row),
            id: row.id,
            template_hash: row.template_hash,
            user: row.user,
            worker: row.worker,
            submitted_at: row.submitted_at,
            result: row.result,
            error_code: row.error_code,
            reason: row.reason,
            index: row.index,
            expected: row.expected,
            actual: row.actual,
            height: row.height,
            tx_count: row.tx_count,
            request_bytes: row.request_bytes,
            acknowledged_volatile: row.acknowledged_volatile,
        }
    }
}

/// How long a declaration took.
#[derive(Serialize, ToSchema)]
#[schema(as = Timings)]
pub(crate) struct TimingsView {
    /// Time that the verdict took, milliseconds.
    pub(crate) validation_ms: f64,
    /// From our question for transactions to the answer, milliseconds; null when there was none.
    pub(crate) fetch_ms: Option<f64>,
    /// Transactions that we had to ask for.
    pub(crate) txs_unknown: u32,
}

impl TimingsView {
    pub(crate) fn of(row: &TemplateSummary) -> Self {
        Self {
            validation_ms: row.validation_ms,
            fetch_ms: row.fetch_ms,
            txs_unknown: row.txs_unknown,
        }
    }
}

/// One template with all that we know of it.
#[derive(Serialize, ToSchema)]
#[schema(as = TemplateDetail)]
pub(crate) struct TemplateDetailView {
    /// What it holds.
    pub(crate) template: TemplateView,
    /// How the declaration went.
    pub(crate) timings: TimingsView,
    /// What was declared; null when it was rejected, as such are not kept.
    pub(crate) content: Option<ContentView>,
    /// How it differs from the template of our own node at this moment.
    pub(crate) difference: DifferenceView,
}

/// What was declared.
#[derive(Serialize, ToSchema)]
#[schema(as = TemplateContent)]
pub(crate) struct ContentView {
    /// nVersion of the block header.
    pub(crate) version: u32,
    /// Least sigop cost of the block.
    pub(crate) sigop_cost_min: u64,
    /// The coinbase, decoded.
    pub(crate) coinbase: CoinbaseView,
    /// All transactions but the coinbase, in block order; null when they are not kept any more.
    pub(crate) transactions: Option<Vec<TxView>>,
}

/// A transaction of a template.
#[derive(Serialize, ToSchema)]
#[schema(as = TemplateTransaction)]
pub(crate) struct TxView {
    /// Hash without witness.
    pub(crate) txid: String,
    /// Hash with witness.
    pub(crate) wtxid: String,
    /// Size, bytes.
    pub(crate) bytes: u32,
    /// Weight, weight units.
    pub(crate) weight_wu: u32,
    /// Fee, satoshi, if it is known.
    pub(crate) fee_sat: Option<u64>,
}

impl From<&TemplateTx> for TxView {
    fn from(tx: &TemplateTx) -> Self {
        Self {
            txid: tx.txid.to_string(),
            wtxid: tx.wtxid.to_string(),
            bytes: tx.bytes,
            weight_wu: tx.weight_wu,
            fee_sat: tx.fee_sat,
        }
    }
}
