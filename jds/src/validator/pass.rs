//! The rules, over a declaration and what is known of its transactions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use validation::declared::{Declared, TemplateHash};
use validation::job::AcceptedJob;
use validation::precheck::{Precheck, outline};
use validation::rejection::{ErrorCode, Reason, Rejection};
use validation::tip::ChainTip;
use validation::verdict::{judge, missing, seal_and_judge, supplied};

use super::declaration::{Declaration, Draft, named};
use super::root::BesideRoot;
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
        Self { named, timing, result, template_hash, recording: None, fresh: 0 }
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
                let Judged { declaration, template_hash, named, result } = *judged;
                let timing = Timing { verdict: start.elapsed(), ..Timing::default() };
                let case = declaration.case();
                let result = self.judged(declaration, result, 0);
                // From here, and not by way of the reactor: the store is what the answer waits for.
                let recording = match (&result, self.at_once) {
                    (Ok(job), true) => self.journal.accepting(&case, job, timing),
                    _ => None,
                };
                let result = result.map(|job| self.signed(job));
                let template_hash = template_hash.or(named.map(|named| named.template_hash));
                let verdict = Verdict::after(named, timing, result);
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
        answer: &[Vec<u8>],
        tip: &ChainTip,
        mut timing: Timing,
    ) -> Verdict {
        let start = Instant::now();
        let Draft { declaration, prechecked, mut slots, asked, looked_up, .. } = draft;
        let named = named(&prechecked);
        let verdict = supplied(&prechecked, &mut slots, &asked, answer.iter().map(Vec::as_slice))
            .and_then(|()| judge(*prechecked, slots, tip, &declaration.rules));
        timing.verdict += start.elapsed();
        let fresh = asked.len() + looked_up;
        let result = self.judged(declaration, verdict, fresh).map(|job| self.signed(job));
        Verdict { fresh, ..Verdict::after(Some(named), timing, result) }
    }

    /// While the store writes, where it does already.
    fn signed(&self, job: Arc<Job>) -> Accepted {
        let receipt = self.receipts.accept(&job.accepted, job.user.tag);
        Accepted { job, receipt }
    }

    fn judged(
        &self,
        declaration: Declaration,
        verdict: Result<AcceptedJob, Rejection>,
        fresh: usize,
    ) -> Result<Arc<Job>, Rejection> {
        let job = self.jobs.create(declaration.user, &declaration.declarer, verdict?);
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
            let judged = Judged { declaration, template_hash, named: None, result: Err(rejection) };
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
                judged(declaration, Some(Named { template_hash, height }), result)
            }
            Err(rejection) => judged(declaration, None, Err(rejection)),
        };
    }
    match outline.seal(root.get()) {
        Err(rejection) => judged(declaration, None, Err(rejection)),
        Ok(prechecked) => {
            let (verdict, asked_at) = (Duration::ZERO, Instant::now());
            let prechecked = Box::new(prechecked);
            let draft =
                Draft { declaration, prechecked, slots, asked, looked_up: 0, verdict, asked_at };
            FirstPass::Draft(Box::new(draft))
        }
    }
}

/// Whether the proof of a refusal that came before the template had a name is to name it. That costs
/// its witness root: not where everybody's template is refused at once, for its height alone, nor
/// where somebody lists more than a block can hold.
fn provable(rejection: &Rejection) -> bool {
    rejection.code != ErrorCode::StaleChainTip && rejection.reason != Reason::TooManyTransactions
}

fn judged(
    declaration: Declaration,
    named: Option<Named>,
    result: Result<AcceptedJob, Rejection>,
) -> FirstPass {
    let template_hash = None;
    FirstPass::Judged(Box::new(Judged { declaration, template_hash, named, result }))
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
