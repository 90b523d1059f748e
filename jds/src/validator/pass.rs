//! The rules, over a declaration and what is known of its transactions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use validation::declared::{Declared, TemplateHash};
use validation::job::AcceptedJob;
use validation::precheck::{Precheck, outline};
use validation::rejection::{ErrorCode, Reason, Rejection};
use validation::replay::{SecondLook, VerdictInputs};
use validation::tip::ChainTip;
use validation::verdict::{Refused, judge_keeping, missing, seal_and_judge, supplied};

use super::declaration::{Declaration, Draft, named};
use super::root::BesideRoot;
use super::seen::Seen;
use crate::budget::Permit;
use crate::jobs::{Job, Jobs};
use crate::journal::{Journal, Named, Recording, Timing};
use crate::receipts::Receipts;
use crate::tx_cache::TxCache;

/// What the rules made of a declaration.
pub(super) struct Verdict {
    /// Unless the rules ended before it had a name.
    pub(super) named: Option<Named>,
    pub(super) timing: Timing,
    pub(super) result: Result<Accepted, Rejection>,
    /// The template, where the rules ended before it had a name and its hash could be had.
    pub(super) template_hash: Option<TemplateHash>,
    /// An acceptance that is on its way to the store already.
    pub(super) recording: Recording,
    /// Transactions that the cache did not have, count.
    pub(super) fresh: usize,
    /// What a refusal was given on, where it is a function of that.
    pub(super) inputs: Option<Arc<VerdictInputs>>,
    /// The share of what peers may make us hold that those take.
    pub(super) permit: Permit,
}

/// An accepted job, and the receipt for it.
pub(super) struct Accepted {
    pub(super) job: Arc<Job>,
    pub(super) receipt: Vec<u8>,
}

impl Verdict {
    /// Without asking the rules.
    pub(super) fn refused(rejection: Rejection) -> Self {
        Self::after(None, Timing::default(), Err(rejection))
    }

    pub(super) fn after(
        named: Option<Named>,
        timing: Timing,
        result: Result<Accepted, Rejection>,
    ) -> Self {
        let template_hash = named.map(|named| named.template_hash);
        let permit = Permit::default();
        Self {
            named,
            timing,
            result,
            template_hash,
            recording: None,
            fresh: 0,
            inputs: None,
            permit,
        }
    }

    /// Of this declaration, on what was looked at of it.
    pub(super) fn on(mut self, declaration: Declaration, seen: Seen) -> Self {
        let refused = self.result.as_ref().err();
        self.inputs = refused.map(|rejection| Arc::new(seen.inputs(&declaration, rejection)));
        self.permit = declaration.permit;
        self
    }
}

/// Where the first look ended.
pub(super) enum Pass {
    Draft(Box<Draft>),
    Judged(Box<Verdict>),
    Ahead(Box<Declaration>),
}

enum FirstPass {
    Draft(Box<Draft>),
    Judged(Box<Judged>),
    Ahead(Box<Declaration>),
}

struct Judged {
    declaration: Declaration,
    template_hash: Option<TemplateHash>,
    named: Option<Named>,
    result: Result<AcceptedJob, Rejection>,
    seen: Seen,
}

/// The rules with what they need at hand, off the reactor: thousands of entries are looked at and
/// moved.
pub(super) struct Rulings {
    pub(super) jobs: Arc<Jobs>,
    pub(super) cache: Arc<TxCache>,
    pub(super) cpu: Arc<Semaphore>,
    pub(super) journal: Arc<Journal>,
    pub(super) receipts: Arc<Receipts>,
    /// No check of the node comes first.
    pub(super) at_once: bool,
}

impl Rulings {
    pub(super) fn first_pass(&self, declaration: Declaration, tip: &ChainTip) -> Pass {
        let start = Instant::now();
        match first_pass(declaration, tip, &self.cache, &self.cpu) {
            FirstPass::Judged(judged) => {
                let Judged { declaration, template_hash, named, result, seen } = *judged;
                let timing = Timing { verdict: start.elapsed(), ..Timing::default() };
                let case = declaration.case();
                let result = self.judged(&declaration, result, 0);
                // From here, and not by way of the reactor: the store is what the answer waits for.
                let recording = match (&result, self.at_once) {
                    (Ok(job), true) => self.journal.accepting(&case, job, timing),
                    _ => None,
                };
                let result = result.map(|job| self.signed(job));
                let template_hash = template_hash.or(named.map(|named| named.template_hash));
                let verdict = Verdict::after(named, timing, result).on(declaration, seen);
                Pass::Judged(Box::new(Verdict { template_hash, recording, ..verdict }))
            }
            FirstPass::Draft(mut draft) => {
                draft.verdict = start.elapsed();
                Pass::Draft(draft)
            }
            FirstPass::Ahead(back) => Pass::Ahead(back),
        }
    }

    pub(super) fn second_pass(
        &self,
        draft: Draft,
        answer: Vec<Vec<u8>>,
        tip: &ChainTip,
        mut timing: Timing,
    ) -> Verdict {
        let start = Instant::now();
        let Draft { declaration, prechecked, mut slots, asked, looked_up, first_tip, .. } = draft;
        let named = named(&prechecked);
        let fresh = asked.len() + looked_up;
        let raw = answer.iter().map(Vec::as_slice);
        let (verdict, seen) = match supplied(&prechecked, &mut slots, &asked, raw) {
            Err(rejection) => {
                let second = SecondLook { tip: Some(*tip), asked, answer };
                (Err(rejection), Seen { second: Some(second), ..Seen::on(first_tip) })
            }
            Ok(()) => {
                let second = SecondLook { tip: Some(*tip), asked, answer: Vec::new() };
                let seen = Seen { second: Some(second), ..Seen::on(first_tip) };
                match judge_keeping(*prechecked, slots, tip, &declaration.rules) {
                    Ok(job) => (Ok(job), seen),
                    Err(refused) => {
                        let Refused { rejection, txs, unvouched } = *refused;
                        (Err(rejection), Seen { txs, unvouched, ..seen })
                    }
                }
            }
        };
        timing.verdict += start.elapsed();
        let result = self.judged(&declaration, verdict, fresh).map(|job| self.signed(job));
        let verdict = Verdict::after(Some(named), timing, result).on(declaration, seen);
        Verdict { fresh, ..verdict }
    }

    /// While the store writes, where it does already.
    fn signed(&self, job: Arc<Job>) -> Accepted {
        let receipt = self.receipts.accept(&job.accepted, job.user.tag);
        Accepted { job, receipt }
    }

    fn judged(
        &self,
        declaration: &Declaration,
        verdict: Result<AcceptedJob, Rejection>,
        fresh: usize,
    ) -> Result<Arc<Job>, Rejection> {
        let user = Arc::clone(&declaration.user);
        let job = self.jobs.create(user, &declaration.declarer, verdict?);
        if self.at_once {
            self.keep(&job, fresh);
        }
        Ok(job)
    }

    pub(super) fn keep(&self, job: &Arc<Job>, fresh: usize) {
        if fresh > 0 {
            self.cache.insert_all(job.accepted.txs().iter().cloned());
        }
        self.jobs.keep(job);
    }
}

fn first_pass(
    declaration: Declaration,
    tip: &ChainTip,
    cache: &TxCache,
    cpu: &Arc<Semaphore>,
) -> FirstPass {
    let declared = Declared {
        version: declaration.version,
        coinbase_prefix: &declaration.coinbase_prefix,
        coinbase_suffix: &declaration.coinbase_suffix,
        wtxids: &declaration.wtxids,
    };
    let outline = match outline(&declared, tip, &declaration.rules) {
        Precheck::Ok(outline) => *outline,
        Precheck::Reject(rejection) => {
            let template_hash = provable(&rejection).then(|| TemplateHash::of(&declared));
            let (named, result, seen) = (None, Err(rejection), Seen::on(*tip));
            let judged = Judged { declaration, template_hash, named, result, seen };
            return FirstPass::Judged(Box::new(judged));
        }
        Precheck::WaitForTip { .. } => return FirstPass::Ahead(Box::new(declaration)),
    };
    let root = BesideRoot::begin(outline.wtxids(), cpu);
    let slots = cache.get_all(&declaration.wtxids);
    let asked = missing(&declaration.wtxids, &slots);
    if asked.is_empty() {
        let height = outline.height();
        let sealed = seal_and_judge(outline, slots, tip, &declaration.rules, || root.get());
        return match sealed {
            Ok((template_hash, result)) => {
                let named = Some(Named { template_hash, height });
                let seen = Seen::on(*tip);
                match result {
                    Ok(job) => judged(declaration, named, Ok(job), seen),
                    Err(refused) => {
                        let Refused { rejection, txs, unvouched } = *refused;
                        judged(declaration, named, Err(rejection), Seen { txs, unvouched, ..seen })
                    }
                }
            }
            Err(rejection) => judged(declaration, None, Err(rejection), Seen::on(*tip)),
        };
    }
    match outline.seal(root.get()) {
        Err(rejection) => judged(declaration, None, Err(rejection), Seen::on(*tip)),
        Ok(prechecked) => {
            let (verdict, asked_at) = (Duration::ZERO, Instant::now());
            let prechecked = Box::new(prechecked);
            let draft = Draft {
                declaration,
                first_tip: *tip,
                prechecked,
                slots,
                asked,
                looked_up: 0,
                verdict,
                asked_at,
            };
            FirstPass::Draft(Box::new(draft))
        }
    }
}

/// Whether the proof of a refusal that came before the template had a name is to name it, and whether
/// its list is kept: not one that the rules did not read. That costs
/// its witness root: not where everybody's template is refused at once, for its height alone, nor
/// where somebody lists more than a block can hold.
pub(super) fn provable(rejection: &Rejection) -> bool {
    rejection.code != ErrorCode::StaleChainTip && rejection.reason != Reason::TooManyTransactions
}

fn judged(
    declaration: Declaration,
    named: Option<Named>,
    result: Result<AcceptedJob, Rejection>,
    seen: Seen,
) -> FirstPass {
    let template_hash = None;
    FirstPass::Judged(Box::new(Judged { declaration, template_hash, named, result, seen }))
}

/// What becomes of a declaration of which no transaction is known.
#[cfg(test)]
pub(crate) fn draft(declaration: Declaration, tip: &ChainTip) -> Box<Draft> {
    match first_pass(declaration, tip, &TxCache::new(0), &Arc::new(Semaphore::new(0))) {
        FirstPass::Draft(draft) => draft,
        FirstPass::Judged(judged) => panic!("judged: {:?}", judged.result),
        FirstPass::Ahead(_) => panic!("ahead of the tip"),
    }
}
