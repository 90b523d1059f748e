//! Runs the pure rules over declarations: tip and transactions in hand, on as many threads as
//! there are cores, never on the reactor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::Wtxid;
use tokio::sync::Semaphore;
use validation::declared::Declared;
use validation::job::AcceptedJob;
use validation::precheck::{Precheck, Prechecked, precheck};
use validation::rejection::{Reason, Rejection};
use validation::rules::Rules;
use validation::tip::ChainTip;
use validation::verdict::{TxSlots, judge, missing, supplied};

use crate::budget::Permit;
use crate::check::{Checked, Checker};
use crate::jobs::{Declarer, Job, Jobs, User};
use crate::limits::CHECK_WAIT_MAX;
use crate::nodes::Nodes;
use crate::tx_cache::TxCache;

/// A declaration, taken off the wire.
#[derive(Debug)]
pub struct Declaration {
    /// Of the message; unique among the pending ones of its connection.
    pub request_id: u32,
    /// Who declares.
    pub user: Arc<User>,
    /// On which connection.
    pub declarer: Declarer,
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

enum Pass {
    Draft(Box<Draft>),
    Judged(Result<Arc<Job>, Rejection>),
    Ahead(Box<Declaration>),
}

enum FirstPass {
    Draft(Box<Draft>),
    Judged(Box<(Declaration, Result<AcceptedJob, Rejection>)>),
    Ahead(Box<Declaration>),
}

impl Validator {
    /// First look at a declaration. A job one block ahead waits here for our node; so does any
    /// job while no node has told us a tip.
    pub async fn validate(&self, mut declaration: Declaration) -> Outcome {
        let deadline = tokio::time::Instant::now() + self.tip_grace;
        let mut tips = self.nodes.watch_tip();
        loop {
            let tip = *tips.borrow_and_update();
            let mut grace_over = tokio::time::Instant::now() >= deadline;
            if let Some(tip) = tip {
                let keep = self.keeping();
                let pass =
                    on_cpu(&self.cpu, move || match first_pass(declaration, &tip, &keep.cache) {
                        FirstPass::Judged(judged) => {
                            let (declaration, verdict) = *judged;
                            Pass::Judged(keep.judged(declaration, verdict, 0))
                        }
                        FirstPass::Draft(draft) => Pass::Draft(draft),
                        FirstPass::Ahead(back) => Pass::Ahead(back),
                    });
                match pass.await {
                    Err(failed) => return failed,
                    Ok(Pass::Draft(draft)) => return Outcome::NeedTxs(draft),
                    Ok(Pass::Judged(verdict)) => return self.conclude(verdict, 0).await,
                    Ok(Pass::Ahead(back)) if grace_over => {
                        drop(back);
                        let next = tip.next_height();
                        return Outcome::Rejected(Rejection::ahead_of_tip(
                            next,
                            next.saturating_add(1),
                        ));
                    }
                    Ok(Pass::Ahead(back)) => declaration = *back,
                }
            } else if grace_over {
                return no_tip();
            }
            while !grace_over && *tips.borrow() == tip {
                tokio::select! {
                    changed = tips.changed() => grace_over = changed.is_err(),
                    () = tokio::time::sleep_until(deadline) => grace_over = true,
                }
            }
        }
    }

    /// Second look, with the transactions that the peer supplied.
    pub async fn complete(&self, draft: Box<Draft>, answer: Vec<Vec<u8>>) -> Outcome {
        let Some(tip) = self.nodes.tip() else { return no_tip() };
        // Before the transactions: a miner whose own tip moved may no longer have them.
        let (next, height) = (tip.next_height(), draft.prechecked.height());
        if height != next {
            let stale = Rejection::new(Reason::CoinbaseHeight).expected(next).actual(height);
            return Outcome::Rejected(stale);
        }
        let keep = self.keeping();
        let judged = on_cpu(&self.cpu, move || {
            let Draft { declaration, prechecked, mut slots, asked } = *draft;
            let verdict =
                supplied(&prechecked, &mut slots, &asked, answer.iter().map(Vec::as_slice))
                    .and_then(|()| judge(*prechecked, slots, &tip, &declaration.rules));
            (keep.judged(declaration, verdict, asked.len()), asked.len())
        });
        match judged.await {
            Err(failed) => failed,
            Ok((verdict, missing)) => self.conclude(verdict, missing).await,
        }
    }

    async fn conclude(&self, verdict: Result<Arc<Job>, Rejection>, missing: usize) -> Outcome {
        let job = match verdict {
            Ok(job) => job,
            Err(rejection) => return Outcome::Rejected(rejection),
        };
        match &self.checker {
            None => Outcome::Accepted { job, missing, checked: None },
            Some((checker, CheckMode::After)) => {
                // Asked after the reply is on its way: the caller's answer comes first.
                drop(checker.enqueue(Arc::clone(&job), CheckMode::After));
                Outcome::Accepted { job, missing, checked: None }
            }
            Some((checker, CheckMode::Before)) => {
                let checked = check_before(checker, &job).await;
                let refusal = match &checked {
                    Checked::Valid | Checked::NotJudged(_) => None,
                    Checked::Invalid(reason) => Some((Reason::ConsensusCheck, reason.as_str())),
                    Checked::ChainState(reason) => Some((Reason::ChainState, reason.as_str())),
                    Checked::Superseded => Some((Reason::Superseded, "a-newer-declaration")),
                };
                if let Some((reason, actual)) = refusal {
                    return Outcome::Rejected(Rejection::new(reason).actual(actual));
                }
                let (keep, kept) = (self.keeping(), Arc::clone(&job));
                match on_cpu(&self.cpu, move || keep.keep(&kept, missing)).await {
                    Err(failed) => failed,
                    Ok(()) => Outcome::Accepted { job, missing, checked: Some(checked) },
                }
            }
        }
    }

    fn keeping(&self) -> Keeping {
        Keeping {
            jobs: Arc::clone(&self.jobs),
            cache: Arc::clone(&self.cache),
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
    /// No check of the node comes first.
    at_once: bool,
}

impl Keeping {
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
) -> Result<T, Outcome> {
    // Of the work, not of who waits for it: a connection that ends leaves the work running.
    let permit = Arc::clone(cpu).acquire_owned().await;
    let work = move || {
        let done = work();
        drop(permit);
        done
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Outcome::Rejected(Rejection::new(Reason::Internal).actual(error)))
}

/// The answer while no node has told us a tip: the one code on which clients try again.
fn no_tip() -> Outcome {
    Outcome::Rejected(Rejection::new(Reason::NoTip))
}

fn first_pass(declaration: Declaration, tip: &ChainTip, cache: &TxCache) -> FirstPass {
    let declared = Declared {
        version: declaration.version,
        coinbase_prefix: &declaration.coinbase_prefix,
        coinbase_suffix: &declaration.coinbase_suffix,
        wtxids: &declaration.wtxids,
    };
    match precheck(&declared, tip, &declaration.rules) {
        Precheck::Reject(rejection) => FirstPass::Judged(Box::new((declaration, Err(rejection)))),
        Precheck::WaitForTip { .. } => FirstPass::Ahead(Box::new(declaration)),
        Precheck::Ok(prechecked) => {
            let slots = cache.get_all(&declaration.wtxids);
            let asked = missing(&prechecked, &slots);
            if asked.is_empty() {
                let verdict = judge(*prechecked, slots, tip, &declaration.rules);
                return FirstPass::Judged(Box::new((declaration, verdict)));
            }
            FirstPass::Draft(Box::new(Draft { declaration, prechecked, slots, asked }))
        }
    }
}

impl Draft {
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
    match first_pass(declaration, tip, &TxCache::new(0)) {
        FirstPass::Draft(draft) => draft,
        FirstPass::Judged(judged) => panic!("judged: {:?}", judged.1),
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
