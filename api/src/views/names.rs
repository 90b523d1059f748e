//! The names that fields may hold, told to the documentation. The values are the store's.
#![expect(dead_code, reason = "never made: they only describe the store's types")]

use utoipa::ToSchema;

/// Verdict on a template.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum TemplateResult {
    /// It kept every rule.
    Accepted,
    /// It broke a rule.
    Rejected,
    /// Accepted, then withdrawn because a node found it invalid.
    Invalidated,
}

/// Whose template.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum Source {
    /// One that the miner declared.
    Miner,
    /// One of the pool.
    Pool,
}

/// Where a block stands in the chain.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// Found; its end is not known yet.
    Found,
    /// Buried.
    Confirmed,
    /// Another block took its place.
    Orphaned,
    /// Every node refused it.
    Rejected,
}

/// A block's saga at one node.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum Submission {
    /// Written down, not sent yet.
    Found,
    /// Sent, no answer yet.
    Sent,
    /// The node has it.
    Accepted,
    /// The node refused it.
    Rejected,
    /// The connection broke before the answer; the node is asked again.
    Unknown,
}

/// Protocol of a miner.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum ProtocolName {
    /// Stratum V2.
    StratumV2,
    /// Stratum V1.
    StratumV1,
}

/// Length of time.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum PeriodName {
    /// One hour, UTC.
    Hour,
    /// One day, UTC.
    Day,
}
