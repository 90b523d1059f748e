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
    pub cpu: Semaphore,
}

/// When the node checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckMode {
    /// After the answer; a job that fails is withdrawn.
    After,
    /// The answer waits.
    Before,
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
                let cache = Arc::clone(&self.cache);
                let pass = self.on_cpu(move || first_pass(declaration, &tip, &cache)).await;
                match pass {
                    Err(failed) => return failed,
                    Ok(FirstPass::Draft(draft)) => return Outcome::NeedTxs(draft),
                    Ok(FirstPass::Judged(judged)) => {
                        let (declaration, verdict) = *judged;
                        return self.conclude(declaration, verdict, 0).await;
                    }
                    Ok(FirstPass::Ahead(back)) if grace_over => {
                        drop(back);
                        return Outcome::Rejected(ahead_of_tip(&tip));
                    }
                    Ok(FirstPass::Ahead(back)) => declaration = *back,
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
        // The tip may have moved meanwhile; `judge` looks at the height again.
        let Some(tip) = self.nodes.tip() else { return no_tip() };
        let judged = self.on_cpu(move || {
            let Draft { declaration, prechecked, mut slots, asked } = *draft;
            let verdict =
                supplied(&prechecked, &mut slots, &asked, answer.iter().map(Vec::as_slice))
                    .and_then(|()| judge(*prechecked, slots, &tip, &declaration.rules));
            (declaration, verdict, asked.len())
        });
        match judged.await {
            Err(failed) => failed,
            Ok((declaration, verdict, missing)) => {
                self.conclude(declaration, verdict, missing).await
            }
        }
    }

    async fn conclude(
        &self,
        declaration: Declaration,
        verdict: Result<AcceptedJob, Rejection>,
        missing: usize,
    ) -> Outcome {
        let accepted = match verdict {
            Ok(accepted) => accepted,
            Err(rejection) => return Outcome::Rejected(rejection),
        };
        let job = self.jobs.create(declaration.user, &declaration.declarer, accepted);
        let mut checked = None;
        match &self.checker {
            Some((checker, CheckMode::Before)) if checker.has_vetted(&job) => {
                checked = Some(Checked::Valid);
            }
            Some((checker, CheckMode::Before)) => {
                let answer = checker.enqueue(Arc::clone(&job));
                let answer = match tokio::time::timeout(CHECK_WAIT_MAX, answer).await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(_)) | Err(_) => Checked::NotJudged("no answer in time".into()),
                };
                if let Checked::Invalid(reason) = answer {
                    return Outcome::Rejected(
                        Rejection::new(Reason::ConsensusCheck).actual(reason),
                    );
                }
                checked = Some(answer);
            }
            // Asked after the reply is on its way: the caller's answer comes first.
            Some((checker, CheckMode::After)) => drop(checker.enqueue(Arc::clone(&job))),
            None => {}
        }
        if missing > 0 {
            self.cache.insert_all(job.accepted.txs().iter().cloned());
        }
        self.jobs.keep(&job);
        Outcome::Accepted { job, missing, checked }
    }

    /// Runs CPU work on the pool, as many at a time as there are cores.
    async fn on_cpu<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Outcome> {
        let _permit = self.cpu.acquire().await;
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Outcome::Rejected(Rejection::new(Reason::Internal).actual(error)))
    }
}

/// The answer while no node has told us a tip: the one code on which clients try again.
fn no_tip() -> Outcome {
    Outcome::Rejected(Rejection::new(Reason::NoTip))
}

/// The answer to a job one block ahead whose block did not come in time.
fn ahead_of_tip(tip: &ChainTip) -> Rejection {
    let next = tip.next_height();
    Rejection::new(Reason::CoinbaseHeight).expected(next).actual(next.saturating_add(1))
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
