//! Runs the pure rules over declarations: tip and transactions in hand, on as many threads as
//! there are cores, never on the reactor.

mod root;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::Wtxid;
use tokio::sync::Semaphore;
use validation::declared::Declared;
use validation::job::AcceptedJob;
use validation::precheck::{Precheck, Prechecked, outline};
use validation::rejection::{Reason, Rejection};
use validation::rules::Rules;
use validation::tip::ChainTip;
use validation::verdict::{TxSlots, judge, missing, seal_and_judge, supplied};

use crate::budget::Permit;
use crate::check::{Checked, Checker};
use crate::counts::Counts;
use crate::jobs::{Declarer, Job, Jobs, User};
use crate::journal::{Case, Journal, Named, Timing};
use crate::limits::CHECK_WAIT_MAX;
use crate::nodes::Nodes;
use crate::tx_cache::TxCache;
use root::BesideRoot;

/// A declaration, taken off the wire.
#[derive(Debug)]
pub struct Declaration {
    /// Of the message; unique among the pending ones of its connection.
    pub request_id: u32,
    /// Who declares.
    pub user: Arc<User>,
    /// On which connection.
    pub declarer: Declarer,
    /// Number of the token that it used up.
    pub token_sequence: u64,
    /// Size of the message, bytes.
    pub bytes: u64,
    /// The terms stated to that user.
    pub rules: Arc<Rules>,
    /// Header version.
    pub version: u32,
    /// Coinbase up to the extranonce.
    pub coinbase_prefix: Vec<u8>,
    /// Coinbase after the extranonce.
    pub coinbase_suffix: Vec<u8>,
    /// The transactions, without the coinbase.
    pub wtxids: Vec<Wtxid>,
    /// When its last byte came.
    pub received: Instant,
    /// Its share of what peers may make us hold.
    pub permit: Permit,
}

/// A declaration that waits for transactions from the peer.
#[derive(Debug)]
pub struct Draft {
    declaration: Declaration,
    prechecked: Box<Prechecked>,
    slots: TxSlots,
    /// What was asked for: positions in the list, ascending.
    pub asked: Vec<u16>,
    /// Time that the rules took so far.
    verdict: Duration,
    asked_at: Instant,
}

/// How validation went on.
#[derive(Debug)]
pub enum Outcome {
    /// These transactions are not known here.
    NeedTxs(Box<Draft>),
    /// Accepted, and kept.
    Accepted {
        /// The job.
        job: Arc<Job>,
        /// What was asked of the peer.
        missing: usize,
        /// What the consensus check said, where the answer waited for it.
        checked: Option<Checked>,
    },
    /// Refused.
    Rejected(Rejection),
}

/// Everything that validation needs, shared by all connections.
#[derive(Debug)]
pub struct Validator {
    /// The nodes.
    pub nodes: Arc<Nodes>,
    /// Known transactions.
    pub cache: Arc<TxCache>,
    /// Accepted jobs.
    pub jobs: Arc<Jobs>,
    /// Where verdicts become durable.
    pub journal: Arc<Journal>,
    /// Where verdicts are counted.
    pub counts: Arc<Counts>,
    /// Consensus checks, unless they are off.
    pub checker: Option<(Arc<Checker>, CheckMode)>,
    /// How long a job one block ahead waits for our node.
    pub tip_grace: Duration,
    /// One permit per core.
    pub cpu: Arc<Semaphore>,
}

/// When the node checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckMode {
    /// After the answer; a job that fails is withdrawn.
    After,
    /// The answer waits.
    Before,
}

/// What the rules made of a declaration.
struct Verdict {
    /// Unless the rules ended before it had a name.
    named: Option<Named>,
    timing: Timing,
    result: Result<Arc<Job>, Rejection>,
}

impl Verdict {
    /// Without asking the rules.
    fn refused(rejection: Rejection) -> Self {
        Self { named: None, timing: Timing::default(), result: Err(rejection) }
    }
}

enum Pass {
    Draft(Box<Draft>),
    Judged(Verdict),
    Ahead(Box<Declaration>),
}

enum FirstPass {
    Draft(Box<Draft>),
    Judged(Box<Judged>),
    Ahead(Box<Declaration>),
}

struct Judged {
    declaration: Declaration,
    named: Option<Named>,
    result: Result<AcceptedJob, Rejection>,
}

impl Validator {
    /// First look at a declaration. A job one block ahead waits here for our node; so does any
    /// job while no node has told us a tip. A verdict is durable when this returns.
    pub async fn validate(&self, declaration: Declaration) -> Outcome {
        let case = declaration.case();
        match self.look(declaration).await {
            Ok(draft) => Outcome::NeedTxs(draft),
            Err(verdict) => self.conclude(&case, *verdict).await,
        }
    }

    /// Second look, with the transactions that the peer supplied.
    pub async fn complete(&self, draft: Box<Draft>, answer: Vec<Vec<u8>>) -> Outcome {
        let case = draft.declaration.case();
        let verdict = self.look_again(draft, answer).await;
        self.conclude(&case, verdict).await
    }

    /// Ends a declaration whose transactions did not come as they should.
    pub async fn give_up(&self, draft: Box<Draft>, rejection: Rejection) -> Outcome {
        let verdict = Verdict {
            named: Some(named(&draft.prechecked)),
            timing: draft.timing(),
            result: Err(rejection),
        };
        self.conclude(&draft.declaration.case(), verdict).await
    }

    async fn look(&self, mut declaration: Declaration) -> Result<Box<Draft>, Box<Verdict>> {
        let refused = |rejection| Err(Box::new(Verdict::refused(rejection)));
        let deadline = tokio::time::Instant::now() + self.tip_grace;
        let mut tips = self.nodes.watch_tip();
        loop {
            let tip = *tips.borrow_and_update();
            let mut grace_over = tokio::time::Instant::now() >= deadline;
            if let Some(tip) = tip {
                let keep = self.keeping();
                let pass = on_cpu(&self.cpu, move || keep.first_pass(declaration, &tip));
                match pass.await {
                    Err(rejection) => return refused(rejection),
                    Ok(Pass::Draft(draft)) => return Ok(draft),
                    Ok(Pass::Judged(verdict)) => return Err(Box::new(verdict)),
                    Ok(Pass::Ahead(back)) if grace_over => {
                        drop(back);
                        let next = tip.next_height();
                        return refused(Rejection::ahead_of_tip(next, next.saturating_add(1)));
                    }
                    Ok(Pass::Ahead(back)) => declaration = *back,
                }
            } else if grace_over {
                return refused(no_tip());
            }
            while !grace_over && *tips.borrow() == tip {
                tokio::select! {
                    changed = tips.changed() => grace_over = changed.is_err(),
                    () = tokio::time::sleep_until(deadline) => grace_over = true,
                }
            }
        }
    }

    async fn look_again(&self, draft: Box<Draft>, answer: Vec<Vec<u8>>) -> Verdict {
        let (named, timing) = (named(&draft.prechecked), draft.timing());
        let refused = |rejection| Verdict { named: Some(named), timing, result: Err(rejection) };
        let Some(tip) = self.nodes.tip() else { return refused(no_tip()) };
        // Before the transactions: a miner whose own tip moved may no longer have them.
        let (next, height) = (tip.next_height(), named.height);
        if height != next {
            let stale = Rejection::new(Reason::CoinbaseHeight).expected(next).actual(height);
            return refused(stale);
        }
        let keep = self.keeping();
        let judged = on_cpu(&self.cpu, move || keep.second_pass(*draft, &answer, &tip, timing));
        judged.await.unwrap_or_else(refused)
    }

    /// Makes a verdict durable, and counts it.
    async fn conclude(&self, case: &Case, verdict: Verdict) -> Outcome {
        let timing = verdict.timing;
        let outcome = self.record(case, verdict).await;
        match &outcome {
            Outcome::Accepted { .. } => self.counts.observe(case, Ok(()), &timing),
            Outcome::Rejected(rejection) => self.counts.observe(case, Err(rejection), &timing),
            Outcome::NeedTxs(_) => {}
        }
        outcome
    }

    /// Makes a verdict durable, after the node's word where the answer waits for that.
    async fn record(&self, case: &Case, verdict: Verdict) -> Outcome {
        let Verdict { named, timing, result } = verdict;
        let (missing, mut checked) = (timing.missing, None);
        let refusal = match result {
            Err(rejection) => rejection,
            Ok(job) => {
                let refusal = match &self.checker {
                    Some((checker, CheckMode::Before)) => {
                        let answer = check_before(checker, &job).await;
                        let refusal = refusal(&answer);
                        checked = Some(answer);
                        refusal
                    }
                    Some((_, CheckMode::After)) | None => None,
                };
                match refusal {
                    Some(rejection) => rejection,
                    None => match self.accept(case, &job, timing).await {
                        Ok(()) => return Outcome::Accepted { job, missing, checked },
                        Err(rejection) => {
                            job.withdraw(rejection.reason.as_str().to_owned());
                            return Outcome::Rejected(rejection);
                        }
                    },
                }
            }
        };
        self.journal.rejected(case, named, &refusal, timing).await;
        Outcome::Rejected(refusal)
    }

    /// Makes an acceptance durable, and keeps the job if that was not done with the verdict.
    async fn accept(&self, case: &Case, job: &Arc<Job>, timing: Timing) -> Result<(), Rejection> {
        let keep = self.keeping();
        let kept = keep.at_once;
        self.journal.accepted(case, job, timing).await?;
        if !kept {
            let job = Arc::clone(job);
            on_cpu(&self.cpu, move || keep.keep(&job, timing.missing)).await?;
        }
        Ok(())
    }

    /// To be called when the answer to an accepted declaration is on its way: has the node check
    /// the job, where it is not waited for.
    pub fn answered(&self, job: &Arc<Job>) {
        if let Some((checker, CheckMode::After)) = &self.checker {
            drop(checker.enqueue(Arc::clone(job), CheckMode::After));
        }
    }

    fn keeping(&self) -> Keeping {
        Keeping {
            jobs: Arc::clone(&self.jobs),
            cache: Arc::clone(&self.cache),
            cpu: Arc::clone(&self.cpu),
            at_once: !matches!(self.checker, Some((_, CheckMode::Before))),
        }
    }
}

async fn check_before(checker: &Checker, job: &Arc<Job>) -> Checked {
    if checker.has_vetted(job) {
        return Checked::Valid;
    }
    let answer = checker.enqueue(Arc::clone(job), CheckMode::Before);
    match tokio::time::timeout(CHECK_WAIT_MAX, answer).await {
        Ok(Ok(checked)) => checked,
        Ok(Err(_)) | Err(_) => Checked::NotJudged("no answer in time".into()),
    }
}

/// What becomes of a good job, off the reactor: thousands of entries move.
struct Keeping {
    jobs: Arc<Jobs>,
    cache: Arc<TxCache>,
    cpu: Arc<Semaphore>,
    /// No check of the node comes first.
    at_once: bool,
}

impl Keeping {
    fn first_pass(&self, declaration: Declaration, tip: &ChainTip) -> Pass {
        let start = Instant::now();
        match first_pass(declaration, tip, &self.cache, &self.cpu) {
            FirstPass::Judged(judged) => {
                let Judged { declaration, named, result } = *judged;
                let timing = Timing { verdict: start.elapsed(), ..Timing::default() };
                let result = self.judged(declaration, result, 0);
                Pass::Judged(Verdict { named, timing, result })
            }
            FirstPass::Draft(mut draft) => {
                draft.verdict = start.elapsed();
                Pass::Draft(draft)
            }
            FirstPass::Ahead(back) => Pass::Ahead(back),
        }
    }

    fn second_pass(
        &self,
        draft: Draft,
        answer: &[Vec<u8>],
        tip: &ChainTip,
        mut timing: Timing,
    ) -> Verdict {
        let start = Instant::now();
        let Draft { declaration, prechecked, mut slots, asked, .. } = draft;
        let named = named(&prechecked);
        let verdict = supplied(&prechecked, &mut slots, &asked, answer.iter().map(Vec::as_slice))
            .and_then(|()| judge(*prechecked, slots, tip, &declaration.rules));
        timing.verdict += start.elapsed();
        let result = self.judged(declaration, verdict, asked.len());
        Verdict { named: Some(named), timing, result }
    }

    fn judged(
        &self,
        declaration: Declaration,
        verdict: Result<AcceptedJob, Rejection>,
        missing: usize,
    ) -> Result<Arc<Job>, Rejection> {
        let job = self.jobs.create(declaration.user, &declaration.declarer, verdict?);
        if self.at_once {
            self.keep(&job, missing);
        }
        Ok(job)
    }

    fn keep(&self, job: &Arc<Job>, missing: usize) {
        if missing > 0 {
            self.cache.insert_all(job.accepted.txs().iter().cloned());
        }
        self.jobs.keep(job);
    }
}

/// Runs CPU work on the pool, as many at a time as there are permits.
async fn on_cpu<T: Send + 'static>(
    cpu: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Rejection> {
    // Of the work, not of who waits for it: a connection that ends leaves the work running.
    let permit = Arc::clone(cpu).acquire_owned().await;
    let work = move || {
        let done = work();
        drop(permit);
        done
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Rejection::new(Reason::Internal).actual(error))
}

/// The answer while no node has told us a tip: the one code on which clients try again.
fn no_tip() -> Rejection {
    Rejection::new(Reason::NoTip)
}

/// What follows from the node's word on a job whose answer waits for it.
fn refusal(checked: &Checked) -> Option<Rejection> {
    let (reason, actual) = match checked {
        Checked::Valid | Checked::NotJudged(_) => return None,
        Checked::Invalid(reason) => (Reason::ConsensusCheck, reason.as_str()),
        Checked::ChainState(reason) => (Reason::ChainState, reason.as_str()),
        Checked::Superseded => (Reason::Superseded, "a-newer-declaration"),
    };
    Some(Rejection::new(reason).actual(actual))
}

fn named(prechecked: &Prechecked) -> Named {
    Named { template_hash: prechecked.template_hash(), height: prechecked.height() }
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
        Precheck::Reject(rejection) => return judged(declaration, None, Err(rejection)),
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
            let draft = Draft { declaration, prechecked, slots, asked, verdict, asked_at };
            FirstPass::Draft(Box::new(draft))
        }
    }
}

fn judged(
    declaration: Declaration,
    named: Option<Named>,
    result: Result<AcceptedJob, Rejection>,
) -> FirstPass {
    FirstPass::Judged(Box::new(Judged { declaration, named, result }))
}

impl Declaration {
    fn case(&self) -> Case {
        Case {
            user: Arc::clone(&self.user),
            peer: Arc::clone(self.declarer.peer()),
            token_sequence: self.token_sequence,
            // A frame holds fewer wtxids than 2^32.
            tx_count: self.wtxids.len() as u32 + 1,
            bytes: self.bytes,
        }
    }
}

impl Draft {
    fn timing(&self) -> Timing {
        Timing {
            verdict: self.verdict,
            missing: self.asked.len(),
            fetch: Some(self.asked_at.elapsed()),
        }
    }

    /// The request that this answers.
    pub fn request_id(&self) -> u32 {
        self.declaration.request_id
    }

    /// Adds the share of the budget that the supplied transactions take. It is given back with
    /// that of the declaration, once both are judged.
    pub fn hold(&mut self, permit: Permit) {
        self.declaration.permit.add(permit);
    }

    /// When the declaration came.
    pub fn received(&self) -> Instant {
        self.declaration.received
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_takes_its_place_until_it_is_done_whoever_waits_for_it() {
        let cpu = Arc::new(Semaphore::new(1));
        let (started, running) = tokio::sync::oneshot::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let waits = tokio::spawn({
            let cpu = Arc::clone(&cpu);
            async move {
                let work = move || {
                    started.send(()).unwrap();
                    ended.recv().unwrap_err();
                };
                on_cpu(&cpu, work).await.unwrap();
            }
        });
        running.await.unwrap();
        waits.abort();
        assert!(waits.await.unwrap_err().is_cancelled());
        assert_eq!(cpu.available_permits(), 0, "it still runs");
        drop(end);
        let free = tokio::time::timeout(Duration::from_secs(10), cpu.acquire()).await;
        assert!(free.is_ok(), "waited for the end of the work to free its place");
    }
}
