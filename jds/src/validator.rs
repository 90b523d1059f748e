//! Runs the pure rules over declarations: tip and transactions in hand, on as many threads as
//! there are cores, never on the reactor.

mod declaration;
mod lookup;
mod pass;
mod root;
mod seen;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use validation::declared::TemplateHash;
use validation::precheck::check_height;
use validation::rejection::{Reason, Rejection};
use validation::replay::{NodeWord, SecondLook, VerdictInputs};

pub use declaration::{Declaration, Draft};
#[cfg(test)]
pub(crate) use pass::draft;
use pass::{Accepted, Pass, Rulings, Verdict};
use seen::Seen;

use crate::check::{Checked, Checker};
use crate::counts::Counts;
use crate::jobs::{Job, Jobs};
use crate::journal::{self, Case, Journal, Recording, Timing};
use crate::limits::CHECK_WAIT_MAX;
use crate::nodes::Nodes;
use crate::receipts::Receipts;
use crate::tx_cache::TxCache;

/// How validation went on.
#[derive(Debug)]
pub enum Outcome {
    /// These transactions are not known here.
    NeedTxs(Box<Draft>),
    /// Accepted, and kept.
    Accepted {
        /// The job.
        job: Arc<Job>,
        /// Its receipt: the token for the miner.
        receipt: Vec<u8>,
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
    /// Signs verdicts.
    pub receipts: Arc<Receipts>,
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

impl Validator {
    /// First look at a declaration. A job one block ahead waits here for our node; so does any
    /// job while no node has told us a tip. A verdict is durable when this returns.
    pub async fn validate(&self, declaration: Declaration) -> Outcome {
        let case = declaration.case();
        match self.look(declaration).await {
            Ok(mut draft) => {
                self.look_up(&mut draft).await;
                if draft.asked.is_empty() {
                    return self.complete(draft, Vec::new()).await;
                }
                // The peer's time begins now.
                draft.asked_at = Instant::now();
                Outcome::NeedTxs(draft)
            }
            Err(verdict) => self.conclude(&case, *verdict).await,
        }
    }

    /// Second look, with the transactions that the peer supplied.
    pub async fn complete(&self, draft: Box<Draft>, answer: Vec<Vec<u8>>) -> Outcome {
        let case = draft.case();
        let verdict = self.look_again(draft, answer).await;
        self.conclude(&case, verdict).await
    }

    /// Ends a declaration whose transactions did not come as they should.
    pub async fn give_up(&self, draft: Box<Draft>, rejection: Rejection) -> Outcome {
        // No function of what was declared.
        let verdict = Verdict::after(Some(draft.named()), draft.timing(), Err(rejection));
        self.conclude(&draft.case(), verdict).await
    }

    async fn look(&self, mut declaration: Declaration) -> Result<Box<Draft>, Box<Verdict>> {
        let failed = |rejection| Err(Box::new(Verdict::refused(rejection)));
        let refused = |rejection, declaration, tip| {
            let seen = Seen { tip, ..Seen::default() };
            Err(Box::new(Verdict::refused(rejection).on(declaration, seen)))
        };
        let deadline = tokio::time::Instant::now() + self.tip_grace;
        let mut tips = self.nodes.watch_tip();
        loop {
            let tip = *tips.borrow_and_update();
            let mut grace_over = tokio::time::Instant::now() >= deadline;
            if let Some(tip) = tip {
                let rulings = self.rulings();
                let pass = on_cpu(&self.cpu, move || rulings.first_pass(declaration, &tip));
                match pass.await {
                    Err(rejection) => return failed(rejection),
                    Ok(Pass::Draft(draft)) => return Ok(draft),
                    Ok(Pass::Judged(verdict)) => return Err(verdict),
                    Ok(Pass::Ahead(back)) if grace_over => {
                        let next = tip.next_height();
                        let ahead = Rejection::ahead_of_tip(next, next.saturating_add(1));
                        return refused(ahead, *back, Some(tip));
                    }
                    Ok(Pass::Ahead(back)) => declaration = *back,
                }
            } else if grace_over {
                return refused(Rejection::no_tip(), declaration, None);
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
        let (named, timing) = (draft.named(), draft.timing());
        let failed = |rejection| Verdict::after(Some(named), timing, Err(rejection));
        let tip = self.nodes.tip();
        // Before the transactions: a miner whose own tip moved may no longer have them.
        let looked = tip.ok_or_else(Rejection::no_tip).and_then(|tip| {
            check_height(named.height, &tip)?;
            Ok(tip)
        });
        let tip = match looked {
            Ok(tip) => tip,
            Err(rejection) => {
                let Draft { declaration, first_tip, asked, .. } = *draft;
                let second = Some(SecondLook { tip, asked, answer: Vec::new() });
                let seen = Seen { second, ..Seen::on(first_tip) };
                return failed(rejection).on(declaration, seen);
            }
        };
        let rulings = self.rulings();
        let judged = on_cpu(&self.cpu, move || rulings.second_pass(*draft, answer, &tip, timing));
        judged.await.unwrap_or_else(failed)
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
        let Verdict { named, timing, result, template_hash, recording, fresh, inputs, permit } =
            verdict;
        let (missing, mut checked, mut inputs) = (timing.missing, None, inputs);
        let refusal = match result {
            Err(rejection) => rejection,
            Ok(Accepted { job, receipt }) => {
                let refusal = match &self.checker {
                    Some((checker, CheckMode::Before)) => {
                        let answer = check_before(checker, &job, CHECK_WAIT_MAX).await;
                        let word = word(&answer);
                        checked = Some(answer);
                        let refusal = word.as_ref().map(NodeWord::rejection);
                        inputs = self.by_node(case, &job, word).await;
                        refusal
                    }
                    Some((_, CheckMode::After)) | None => None,
                };
                match refusal {
                    Some(rejection) => rejection,
                    None => match self.accept(case, &job, timing, (recording, fresh)).await {
                        Ok(()) => return Outcome::Accepted { job, receipt, missing, checked },
                        Err(rejection) => {
                            let rejection = self.signed(case, template_hash, rejection).await;
                            job.withdraw(rejection.reason.as_str().to_owned());
                            self.journal.refused(&case.peer, Some(&case.user), &rejection);
                            return Outcome::Rejected(rejection);
                        }
                    },
                }
            }
        };
        let refusal = self.signed(case, template_hash, refusal).await;
        self.journal.rejected(case, named, &refusal, timing, inputs).await;
        drop(permit);
        Outcome::Rejected(refusal)
    }

    /// What a node's refusal was given on.
    async fn by_node(
        &self,
        case: &Case,
        job: &Arc<Job>,
        word: Option<NodeWord>,
    ) -> Option<Arc<VerdictInputs>> {
        let (word, case, job) = (word?, case.clone(), Arc::clone(job));
        let inputs = on_cpu(&self.cpu, move || seen::by_node(&case, &job.accepted, word)).await;
        inputs.ok().map(Arc::new)
    }

    /// The rejection with its proof.
    async fn signed(
        &self,
        case: &Case,
        template_hash: Option<TemplateHash>,
        rejection: Rejection,
    ) -> Rejection {
        let (receipts, user) = (Arc::clone(&self.receipts), case.user.tag);
        let work = move || receipts.reject(rejection, template_hash, user);
        on_cpu(&self.cpu, work).await.unwrap_or_else(|failed| failed)
    }

    /// Makes an acceptance durable, and keeps the job if that was not done with the verdict.
    async fn accept(
        &self,
        case: &Case,
        job: &Arc<Job>,
        timing: Timing,
        (recording, fresh): (Recording, usize),
    ) -> Result<(), Rejection> {
        let rulings = self.rulings();
        let kept = rulings.at_once;
        let recording = recording.or_else(|| self.journal.accepting(case, job, timing));
        journal::accepted(case, recording).await?;
        if !kept {
            let job = Arc::clone(job);
            on_cpu(&self.cpu, move || rulings.keep(&job, fresh)).await?;
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

    fn rulings(&self) -> Rulings {
        Rulings {
            jobs: Arc::clone(&self.jobs),
            cache: Arc::clone(&self.cache),
            cpu: Arc::clone(&self.cpu),
            journal: Arc::clone(&self.journal),
            receipts: Arc::clone(&self.receipts),
            at_once: !matches!(self.checker, Some((_, CheckMode::Before))),
        }
    }
}

/// Waits no longer than `limit`.
async fn check_before(checker: &Checker, job: &Arc<Job>, limit: Duration) -> Checked {
    if checker.has_vetted(job) {
        return Checked::Valid;
    }
    let answer = checker.enqueue(Arc::clone(job), CheckMode::Before);
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(checked)) => checked,
        Ok(Err(_)) | Err(_) => Checked::NotJudged("no answer in time".into()),
    }
}

/// Runs CPU work on the pool, as many at a time as there are permits.
pub(crate) async fn on_cpu<T: Send + 'static>(
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

/// The node's word on a job whose answer waits for it, where that is against the job.
fn word(checked: &Checked) -> Option<NodeWord> {
    match checked {
        Checked::Valid | Checked::NotJudged(_) => None,
        Checked::Invalid(reason) => Some(NodeWord::Invalid(reason.clone())),
        Checked::ChainState(reason) => Some(NodeWord::ChainState(reason.clone())),
        Checked::Superseded => Some(NodeWord::Superseded),
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;
    use crate::jobs::tests::{HEIGHT, accepted};
    use crate::jobs::{Declarer, User};

    /// A node that hangs is no reason to reject a job, or to let its miner wait.
    #[tokio::test]
    async fn a_check_that_has_no_answer_in_time_is_none() {
        let journal = Journal::new(None, &mut JoinSet::new());
        let checker = Checker::idle(Nodes::none(), journal);
        let (jobs, user) = (Jobs::default(), Arc::new(User::new(b"alice")));
        let job = jobs.create(user, &Declarer::new(1, "peer"), accepted(HEIGHT, &[]));
        let waiting = check_before(&checker, &job, Duration::from_millis(1));
        let checked = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        let checked = checked.expect("waited for a check to be given up");
        assert!(matches!(checked, Checked::NotJudged(_)), "{checked:?}");
        assert!(word(&checked).is_none(), "nothing against the job");
    }

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
