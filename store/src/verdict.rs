//! Verdicts with what they were given on.

use validation::replay::VerdictInputs;

use crate::event::{EventKind, TemplateRejected};
use crate::query::{TemplateRef, TemplateSummary};

/// Which verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerdictRef {
    /// That of a declaration.
    Template(TemplateRef),
    /// The one that the event with this id tells of.
    Event(u64),
}

/// A verdict as it was stored, with what it was given on.
#[derive(Debug)]
pub struct StoredVerdict {
    /// Its row.
    pub summary: TemplateSummary,
    /// Least sigop cost of the block, of an accepted one.
    pub sigop_cost_min: u64,
    /// What it was given on.
    pub inputs: Result<VerdictInputs, NoInputs>,
}

/// What became of a look for a verdict.
#[derive(Debug)]
pub enum VerdictLookup {
    /// It is there.
    Found(Box<StoredVerdict>),
    /// There is no such declaration, or not any more.
    Absent,
    /// There is no such event, or not any more.
    EventGone,
    /// The event tells of something else.
    OtherEvent(EventKind),
    /// The event tells of a refusal that has no row: it came before anything was looked at, or the row
    /// is not kept any more.
    WithoutRow(Box<TemplateRejected>),
}

/// Why what a verdict was given on is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoInputs {
    /// A server wrote it that did not keep them.
    #[error("it was given by a version of the server that did not keep its inputs")]
    OlderVersion,
    /// There are none.
    #[error("it is no function of anything that could be kept")]
    NoFunction,
    /// More was refused to that peer at that time than is kept.
    #[error(
        "its inputs were not kept: more was refused to that address within a minute than is kept"
    )]
    TooMany,
    /// They were too large.
    #[error(
        "its inputs were not kept: they have more than {} bytes",
        crate::limits::VERDICT_INPUTS_ROW_BYTES_MAX
    )]
    TooLarge,
    /// The store could not write.
    #[error("its inputs were not kept: the store could not write at that time")]
    Stalled,
    /// They made room.
    #[error("its inputs are not kept any more: later ones of the same user took their place")]
    Displaced,
    /// Retention took transactions.
    #[error("{gone} of {of} transactions that it needs are not kept any more")]
    TransactionsGone {
        /// How many.
        gone: usize,
        /// Of how many that were stored with accepted templates.
        of: usize,
    },
    /// Written by a version that kept the fee of a transaction only.
    #[error("what a node had told of transaction {at} was not kept by the version that stored it")]
    FactsGone {
        /// Its position.
        at: usize,
    },
    /// They can not be read.
    #[error("its inputs are damaged: {0}")]
    Damaged(String),
}
