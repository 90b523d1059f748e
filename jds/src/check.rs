//! Consensus checks by the node (BIP 23 proposals), so dosed that they never get in the way.
//!
//! A check holds the node's main lock for 100 ms and more, and hostile scripts can make it
//! seconds. So: one at a time, only the newest job of a user, a time budget per user and in total,
//! none while a found block is being submitted, none for what the node has vetted itself.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tdp_client::{Proposal, RpcNode};
use tokio::sync::{Notify, oneshot, watch};
use tracing::{debug, info, warn};

use crate::jobs::Job;
use crate::limits::{CHECK_BUDGET_PER_USER, CHECK_BUDGET_TOTAL, CHECK_WINDOW, CHECKS_QUEUED_MAX};
use crate::nodes::Nodes;
use crate::token::UserTag;

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// The node finds the block valid but for its proof of work.
    Valid,
    /// The node finds it invalid, for this reason.
    Invalid(String),
    /// Nobody judged it, for this reason. Never a ground for rejection.
    NotJudged(String),
}

/// The queue of jobs to check.
#[derive(Debug)]
pub struct Checker {
    queue: Mutex<Queue>,
    wake: Notify,
    nodes: Arc<Nodes>,
    check_node: Option<RpcNode>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Users in order of their first waiting job.
    order: VecDeque<UserTag>,
    waiting: HashMap<UserTag, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    job: Arc<Job>,
    answer: oneshot::Sender<Checked>,
}

impl Checker {
    /// Starts the one worker. `check_node`: the configured node for checks, else the one that the
    /// tip comes from.
    pub fn spawn(
        nodes: Arc<Nodes>,
        check_node: Option<RpcNode>,
        submissions: watch::Receiver<usize>,
    ) -> Arc<Self> {
        let queue = Mutex::default();
        let checker = Arc::new(Self { queue, wake: Notify::new(), nodes, check_node });
        let worker = Worker { submissions, spent: Budget::default() };
        tokio::spawn(worker.run(Arc::clone(&checker)));
        checker
    }

    /// The node that judges now.
    fn node(&self) -> Option<RpcNode> {
        self.check_node.clone().or_else(|| self.nodes.active())
    }

    /// True when the node has vetted all of the job already: it needs no place in the line, where
    /// it would wait for the check of somebody else's.
    pub fn has_vetted(&self, job: &Job) -> bool {
        self.node().is_some_and(|node| self.nodes.has_vetted(&job.accepted, &node))
    }

    /// Puts a job in line, instead of an older one of the same user.
    pub fn enqueue(&self, job: Arc<Job>) -> oneshot::Receiver<Checked> {
        let (answer, receiver) = oneshot::channel();
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let user = job.user.tag;
        if let Some(older) = queue.waiting.get_mut(&user) {
            let older = std::mem::replace(older, Waiting { job, answer });
            let _ = older.answer.send(Checked::NotJudged("a newer job of the user came".into()));
        } else if queue.waiting.len() >= CHECKS_QUEUED_MAX {
            let _ = answer.send(Checked::NotJudged("too many checks are waiting".into()));
        } else {
            queue.order.push_back(user);
            queue.waiting.insert(user, Waiting { job, answer });
        }
        drop(queue);
        self.wake.notify_one();
        receiver
    }

    async fn next(&self) -> Waiting {
        loop {
            let next = {
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                queue.order.pop_front().and_then(|user| queue.waiting.remove(&user))
            };
            match next {
                Some(waiting) => return waiting,
                None => self.wake.notified().await,
            }
        }
    }
}

struct Worker {
    submissions: watch::Receiver<usize>,
    spent: Budget,
}

impl Worker {
    async fn run(mut self, checker: Arc<Checker>) {
        loop {
            let Waiting { job, answer } = checker.next().await;
            let checked = self.check(&checker, &job).await;
            match &checked {
                Checked::Valid => debug!(template = %job.accepted.template_hash(), "check passed"),
                Checked::Invalid(reason) => {
                    warn!(template = %job.accepted.template_hash(), user = job.user.name, reason,
                        "template INVALID by consensus, withdrawn");
                    job.withdraw(reason.clone());
                }
                Checked::NotJudged(reason) => info!(
                    template = %job.accepted.template_hash(), user = job.user.name, reason,
                    "template not checked"
                ),
            }
            let _ = answer.send(checked);
        }
    }

    async fn check(&mut self, checker: &Checker, job: &Arc<Job>) -> Checked {
        let user = job.user.tag;
        if let Err(why) = self.spent.allows(user, Instant::now()) {
            return Checked::NotJudged(why.into());
        }
        // A found block goes first. A closed channel means that nobody submits any more.
        let _ = self.submissions.wait_for(|under_way| *under_way == 0).await;
        if checker.nodes.tip().is_none_or(|tip| tip.hash != job.accepted.prev_hash()) {
            return Checked::NotJudged("the tip moved on".into());
        }
        let Some(node) = checker.node() else {
            return Checked::NotJudged("no node is ready".into());
        };
        if checker.nodes.has_vetted(&job.accepted, &node) {
            return Checked::Valid;
        }
        let block = Arc::clone(job);
        let hex = tokio::task::spawn_blocking(move || {
            let ntime = block_time_s(now_unix_s(), block.accepted.tip().median_time_past);
            validation::block::proposal_block_hex(&block.accepted, &block.body(), ntime)
        });
        let Ok(hex) = hex.await else {
            return Checked::NotJudged("building the proposal failed".into());
        };
        let start = Instant::now();
        let proposal = node.propose_block(hex.into()).await;
        self.spent.record(user, start, start.elapsed());
        match proposal {
            Proposal::Valid => Checked::Valid,
            Proposal::Invalid { reason } => Checked::Invalid(reason),
            Proposal::NotJudged { reason } => Checked::NotJudged(reason),
            Proposal::Transient { error } => Checked::NotJudged(error.to_string()),
        }
    }
}

fn now_unix_s() -> u32 {
    (crate::clock::unix_us() / 1_000_000) as u32
}

/// A time that the node takes for the next block (BIP 113), Unix seconds: where blocks came faster
/// than one a second, or our clock is behind, that is later than our clock says.
fn block_time_s(clock_s: u32, median_time_past: u32) -> u32 {
    clock_s.max(median_time_past.saturating_add(1))
}

/// Node time spent within the last [`CHECK_WINDOW`].
#[derive(Debug, Default)]
struct Budget {
    entries: VecDeque<(Instant, UserTag, Duration)>,
}

impl Budget {
    fn allows(&mut self, user: UserTag, now: Instant) -> Result<(), &'static str> {
        while self.entries.front().is_some_and(|(at, ..)| now.duration_since(*at) > CHECK_WINDOW) {
            self.entries.pop_front();
        }
        let total: Duration = self.entries.iter().map(|(_, _, spent)| *spent).sum();
        if total >= CHECK_BUDGET_TOTAL {
            return Err("the node's time for checks is used up for now");
        }
        let of_user: Duration = self
            .entries
            .iter()
            .filter(|(_, owner, _)| *owner == user)
            .map(|(_, _, spent)| *spent)
            .sum();
        if of_user >= CHECK_BUDGET_PER_USER {
            return Err("the user's share of the node's time for checks is used up for now");
        }
        Ok(())
    }

    fn record(&mut self, user: UserTag, at: Instant, spent: Duration) {
        self.entries.push_back((at, user, spent));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_can_not_use_up_the_time_of_all() {
        let (alice, bob) = (UserTag::of(b"alice"), UserTag::of(b"bob"));
        let start = Instant::now();
        let mut budget = Budget::default();
        assert!(budget.allows(alice, start).is_ok());
        budget.record(alice, start, CHECK_BUDGET_PER_USER);
        assert!(budget.allows(alice, start).is_err());
        assert!(budget.allows(bob, start).is_ok());
        let later = start + CHECK_WINDOW + Duration::from_millis(1);
        assert!(budget.allows(alice, later).is_ok(), "the window moved on");
    }

    #[test]
    fn a_proposal_is_never_dated_before_the_median_of_the_chain() {
        assert_eq!(block_time_s(100, 99), 100);
        assert_eq!(block_time_s(100, 100), 101);
        assert_eq!(block_time_s(100, 5_000), 5_001);
    }

    #[test]
    fn many_users_together_can_not_use_up_the_node() {
        let start = Instant::now();
        let mut budget = Budget::default();
        let mut used = Duration::ZERO;
        for user in 0..u32::MAX {
            if budget.allows(UserTag::of(&user.to_le_bytes()), start).is_err() {
                break;
            }
            budget.record(UserTag::of(&user.to_le_bytes()), start, Duration::from_millis(500));
            used += Duration::from_millis(500);
        }
        assert!(used >= CHECK_BUDGET_TOTAL && used < CHECK_BUDGET_TOTAL + Duration::from_secs(1));
    }
}
