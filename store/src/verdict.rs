//! Verdicts with what they were given on.

use std::fmt;

use validation::job::AcceptedJob;
use validation::rejection::Rejection;
use validation::replay::{Replayed, VerdictInputs};

use crate::event::{EventKind, TemplateRejected};
use crate::query::{TemplateRef, TemplateSummary};
use crate::types::ValidationResult;

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

impl StoredVerdict {
    /// The verdict in words: those that were signed, after `rejected: `.
    pub fn words(&self) -> String {
        let summary = &self.summary;
        let reason = summary.reason.as_deref().unwrap_or_default();
        match summary.result {
            ValidationResult::Accepted => "accepted".to_owned(),
            ValidationResult::Invalidated => format!("accepted, withdrawn later: {reason}"),
            ValidationResult::Rejected => {
                let code = summary.error_code.as_deref().unwrap_or_default();
                let mut words = format!("rejected: {code} reason={reason}");
                for (name, value) in [
                    ("index", summary.index.map(|index| index.to_string())),
                    ("expected", summary.expected.clone()),
                    ("actual", summary.actual.clone()),
                ] {
                    if let Some(value) = value {
                        words.push_str(&format!(" {name}={value}"));
                    }
                }
                words
            }
        }
    }

    /// What of it and of the verdict that was given again is not the same; nothing when it is.
    pub fn differences(&self, replayed: &Replayed) -> Vec<String> {
        let (stored, mut differences) = (&self.summary, Differences::default());
        let accepted = stored.result != ValidationResult::Rejected;
        match &replayed.result {
            Ok(job) if accepted => compare_accepted(self, job, &mut differences),
            Err(rejection) if !accepted => compare_rejected(stored, rejection, &mut differences),
            Ok(_) => differences.0.push(format!("{}, is accepted", self.words())),
            Err(rejection) => differences.0.push(format!("accepted, is {}", rejection.words())),
        }
        let hash = replayed.named.map(|(hash, _)| hash.to_string());
        differences.compare("template_hash", &stored.template_hash, &hash);
        differences.compare("height", stored.height, replayed.named.map(|(_, height)| height));
        differences.0
    }
}

/// What of two verdicts is not the same.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn compare<T: PartialEq + fmt::Debug>(&mut self, what: &str, stored: T, replayed: T) {
        if stored != replayed {
            self.0.push(format!("{what} was {stored:?}, is {replayed:?}"));
        }
    }
}

fn compare_accepted(verdict: &StoredVerdict, job: &AcceptedJob, to: &mut Differences) {
    let stored = &verdict.summary;
    to.compare("tx_count", stored.tx_count as usize, job.tx_count());
    to.compare("total_fees_sat", stored.total_fees_sat, job.fees().known_sat);
    to.compare("fees_verified", stored.fees_verified, job.fees_verified());
    to.compare("block_weight", stored.block_weight, job.weight_wu());
    to.compare("sigop_cost_min", verdict.sigop_cost_min, job.sigop_cost_min());
    to.compare("pool_payout_sat", stored.pool_payout_sat, job.pool_payout_sat());
    to.compare("miner_payout_sat", stored.miner_payout_sat, job.miner_payout_sat());
    to.compare("claimable_sat", stored.claimable_sat, job.claimable_sat());
    to.compare("reward_sat", stored.reward_sat, job.reward_sat());
    to.compare("prev_hash", stored.prev_hash.as_ref(), Some(&job.prev_hash().to_string()));
}

fn compare_rejected(stored: &TemplateSummary, rejection: &Rejection, to: &mut Differences) {
    to.compare("error_code", stored.error_code.as_deref(), Some(rejection.code.as_str()));
    to.compare("reason", stored.reason.as_deref(), Some(rejection.reason.as_str()));
    to.compare("index", stored.index, rejection.index.map(u64::from));
    to.compare("expected", &stored.expected, &rejection.expected);
    to.compare("actual", &stored.actual, &rejection.actual);
}
