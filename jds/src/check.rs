//! Consensus checks by the node (BIP 23 proposals), so dosed that they never get in the way.
//!
//! A check holds the node's main lock for 100 ms and more, and hostile scripts can make it
//! seconds. So: one at a time, only the newest job of a user on a connection, a time budget per user
//! and in total, none while a found block is being submitted, none for what the node has vetted
//! itself, and after one that took too long none until the node answers again.

mod budget;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tdp_client::{Fault, Node, Proposal};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use self::budget::Budget;
use crate::jobs::Job;
use crate::journal::Journal;
use crate::limits::{
    CHECK_PAUSE_MAX, CHECK_PROBE_PAUSE_MAX, CHECK_PROBE_PAUSE_MIN, CHECK_TIP_SETTLED,
    CHECKS_AGAIN_MAX, CHECKS_QUEUED_MAX,
};
use crate::nodes::Nodes;
use crate::token::UserTag;
use crate::validator::CheckMode;

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// The node finds the block valid but for its proof of work.
    Valid,
    /// The node finds it invalid on any chain, for this reason.
    Invalid(String),
    /// It does not fit the chain as the node has it, for this reason. On another block of the same
    /// height, which the miner's node may have seen first, it may be valid.
    ChainState(String),
    /// A newer job of the user on that connection took its place.
    Superseded,
    /// Nobody judged it, for this reason. Never a ground for rejection.
    NotJudged(String),
}

/// The queue of jobs to check.
#[derive(Debug)]
pub struct Checker {
    queue: Mutex<Queue>,
    wake: Notify,
    nodes: Arc<Nodes>,
    check_node: Option<Node>,
    journal: Arc<Journal>,
    /// Places for jobs that are asked about once more.
    again: Arc<Semaphore>,
}

/// Whose newer job takes the place of an older one: a user on one connection. On another one it is another
/// site of the user, with templates of its own.
type Line = (UserTag, u64);

#[derive(Debug, Default)]
struct Queue {
    /// In order of their first waiting job.
    order: VecDeque<Line>,
    waiting: HashMap<Line, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    job: Arc<Job>,
    answer: oneshot::Sender<Checked>,
    mode: CheckMode,
    /// The node was asked before, too early after a new tip.
    again: bool,
}

impl Waiting {
    fn line(&self) -> Line {
        (self.job.user.tag, self.job.connection())
    }
}

impl Queue {
    /// Puts a job in line, instead of an older one of the same user on the same connection.
    fn push(&mut self, waiting: Waiting) {
        let line = waiting.line();
        if let Some(older) = self.waiting.get_mut(&line) {
            let older = std::mem::replace(older, waiting);
            let _ = older.answer.send(Checked::Superseded);
        } else if self.waiting.len() >= CHECKS_QUEUED_MAX {
            let _ = waiting.answer.send(Checked::NotJudged("too many checks are waiting".into()));
        } else {
            self.order.push_back(line);
            self.waiting.insert(line, waiting);
        }
    }

    fn pop(&mut self) -> Option<Waiting> {
        self.order.pop_front().and_then(|line| self.waiting.remove(&line))
    }
}

impl Checker {
    /// Starts the one worker, in `tasks`. `check_node`: the configured node for checks, else the
    /// one that the tip comes from.
    pub fn spawn(
        nodes: Arc<Nodes>,
        check_node: Option<Node>,
        submissions: watch::Receiver<usize>,
        journal: Arc<Journal>,
        tasks: &mut JoinSet<()>,
    ) -> Arc<Self> {
        let again = Arc::new(Semaphore::new(CHECKS_AGAIN_MAX));
        let (queue, wake) = (Mutex::default(), Notify::new());
        let checker = Arc::new(Self { queue, wake, nodes, check_node, journal, again });
        let worker = Worker { submissions, spent: Budget::default(), overdue: HashMap::default() };
        tasks.spawn(worker.run(Arc::clone(&checker)));
        checker
    }

    /// Without a worker: nothing in line is ever judged.
    #[cfg(test)]
    pub(crate) fn idle(nodes: Arc<Nodes>, journal: Arc<Journal>) -> Self {
        let (queue, wake) = (Mutex::default(), Notify::new());
        let again = Arc::new(Semaphore::new(CHECKS_AGAIN_MAX));
        Self { queue, wake, nodes, check_node: None, journal, again }
    }

    /// Jobs in line.
    pub fn waiting(&self) -> usize {
        self.queue().waiting.len()
    }

    /// The node that judges now.
    fn node(&self) -> Option<Node> {
        self.check_node.clone().or_else(|| self.nodes.active())
    }

    /// True when the node has vetted all of the job already: it needs no place in the line, where
    /// it would wait for the check of somebody else's.
    pub fn has_vetted(&self, job: &Job) -> bool {
        self.node().is_some_and(|node| self.nodes.has_vetted(&job.accepted, &node))
    }

    /// Puts a job in line, instead of an older one of the same user on the same connection.
    pub fn enqueue(&self, job: Arc<Job>, mode: CheckMode) -> oneshot::Receiver<Checked> {
        let (answer, receiver) = oneshot::channel();
        self.queue().push(Waiting { job, answer, mode, again: false });
        self.wake.notify_one();
        receiver
    }

    /// Puts a job in line once more, unless a newer one is there.
    fn enqueue_again(&self, waiting: Waiting) {
        let mut queue = self.queue();
        if !queue.waiting.contains_key(&waiting.line()) {
            queue.push(waiting);
            self.wake.notify_one();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn next(&self) -> Waiting {
        loop {
            let next = self.queue().pop();
            match next {
                Some(waiting) => return waiting,
                None => self.wake.notified().await,
            }
        }
    }

    fn is_on_tip(&self, job: &Job) -> bool {
        self.nodes.tip().is_some_and(|tip| tip.hash == job.accepted.prev_hash())
    }

    /// How long the job's tip has been the tip of the node that judges, if it is.
    fn tip_age(&self, job: &Job) -> Option<Duration> {
        let tip = self.node()?.tip().borrow().clone()?;
        let same = tip.tip.hash == job.accepted.prev_hash() && self.is_on_tip(job);
        same.then(|| tip.seen_at.elapsed())
    }

    /// Takes back an accepted job.
    fn withdraw(&self, job: &Job, reason: &str) {
        job.withdraw(reason.to_owned());
        let node = self.node();
        self.journal.invalidated(job, node.as_ref().map_or("", Node::name), reason);
    }

    /// What follows when a job that was answered already does not fit the node's chain. Two blocks
    /// of one height may be around for a while after either came: only a tip that stayed speaks
    /// for itself.
    fn doubt(self: &Arc<Self>, waiting: Waiting, reason: &str) {
        let job = &waiting.job;
        let (template, user) = (job.accepted.template_hash(), job.user.name.clone());
        match Doubt::of(self.tip_age(job), waiting.again, &self.again) {
            Doubt::Settled => {
                warn!(%template, user, reason, "template INVALID on this tip, withdrawn");
                self.withdraw(job, reason);
            }
            Doubt::Again(after, place) => {
                info!(%template, user, reason, "invalid on a tip that is new: asking again");
                let checker = Arc::downgrade(self);
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    drop(place);
                    if let Some(checker) = checker.upgrade() {
                        checker.enqueue_again(Waiting { again: true, ..waiting });
                    }
                });
            }
            Doubt::Dropped => info!(%template, user, reason, "template not checked"),
        }
    }
}

/// What follows for an accepted job that does not fit the chain.
#[derive(Debug)]
enum Doubt {
    /// The tip speaks for itself.
    Settled,
    /// The tip is new: the node is asked once more after this time. With a place among those that wait
    /// for that.
    Again(Duration, OwnedSemaphorePermit),
    /// Nothing: the tip is gone, the node was asked again already, or too many wait.
    Dropped,
}

impl Doubt {
    fn of(tip_age: Option<Duration>, asked_again: bool, places: &Arc<Semaphore>) -> Self {
        match tip_age {
            Some(age) if age >= CHECK_TIP_SETTLED => Self::Settled,
            Some(age) if !asked_again => match Arc::clone(places).try_acquire_owned() {
                Ok(place) => Self::Again(CHECK_TIP_SETTLED.saturating_sub(age), place),
                Err(_) => Self::Dropped,
            },
            Some(_) | None => Self::Dropped,
        }
    }
}

struct Worker {
    submissions: watch::Receiver<usize>,
    spent: Budget,
    /// Nodes that may still be at a check that was given up, by name.
    overdue: HashMap<String, Overdue>,
}

/// A check that a node did not answer in time.
struct Overdue {
    user: UserTag,
    /// Until when its time is charged already.
    charged_to: Instant,
    /// When the node answered something again.
    answered: oneshot::Receiver<Instant>,
}

impl Worker {
    async fn run(mut self, checker: Arc<Checker>) {
        loop {
            let waiting = checker.next().await;
            let job = &waiting.job;
            // Costs nothing and is not worth a word.
            if checker.has_vetted(job) {
                let _ = waiting.answer.send(Checked::Valid);
                continue;
            }
            let checked = self.check(&checker, job).await;
            let (template, user) = (job.accepted.template_hash(), &job.user.name);
            match &checked {
                Checked::Valid => debug!(%template, user, "check passed"),
                Checked::Invalid(reason) => {
                    warn!(%template, user, reason, "template INVALID by consensus, withdrawn");
                    match waiting.mode {
                        CheckMode::After => checker.withdraw(job, reason),
                        // It is refused, so there is nothing to take back.
                        CheckMode::Before => job.withdraw(reason.clone()),
                    }
                }
                Checked::ChainState(reason) if waiting.mode == CheckMode::After => {
                    let reason = reason.clone();
                    checker.doubt(waiting, &reason);
                    continue;
                }
                Checked::ChainState(reason) => info!(%template, user, reason, "another chain"),
                Checked::NotJudged(reason) => {
                    info!(%template, user, reason, "template not checked");
                }
                Checked::Superseded => {}
            }
            let _ = waiting.answer.send(checked);
        }
    }

    async fn check(&mut self, checker: &Checker, job: &Arc<Job>) -> Checked {
        let user = job.user.tag;
        // A found block goes first, though not for ever. A closed channel means that nobody submits
        // any more.
        let pause = self.submissions.wait_for(|under_way| *under_way == 0);
        let _ = tokio::time::timeout(CHECK_PAUSE_MAX, pause).await;
        if !checker.is_on_tip(job) {
            return Checked::ChainState("the tip moved on".into());
        }
        let Some(node) = checker.node() else {
            return Checked::NotJudged("no node is ready".into());
        };
        if self.is_overdue(node.name()) {
            return Checked::NotJudged("the node is still busy with an earlier check".into());
        }
        if let Err(why) = self.spent.allows(user, Instant::now()) {
            return Checked::NotJudged(why.into());
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
        let end = Instant::now();
        self.spent.record(user, end, end.duration_since(start));
        match proposal {
            Proposal::Valid => Checked::Valid,
            Proposal::Invalid { reason } if depends_on_chain(&reason) => {
                Checked::ChainState(reason)
            }
            Proposal::Invalid { reason } => Checked::Invalid(reason),
            // Of a node that is on another tip than we are, that says nothing of the job.
            Proposal::NotJudged { reason } if !checker.is_on_tip(job) => {
                Checked::ChainState(reason)
            }
            Proposal::NotJudged { reason } => Checked::NotJudged(reason),
            Proposal::Transient { error } => {
                if matches!(error.fault(), Fault::TimedOut { .. }) {
                    let answered = probe(node.clone(), job.accepted.prev_hash());
                    let overdue = Overdue { user, charged_to: end, answered };
                    self.overdue.insert(node.name().to_owned(), overdue);
                }
                Checked::NotJudged(error.to_string())
            }
        }
    }

    /// True while the node has answered nothing since it did not answer a check in time: it goes
    /// on with that check, and would come to the next one after it. All of its time is charged.
    fn is_overdue(&mut self, node: &str) -> bool {
        let Some(overdue) = self.overdue.get_mut(node) else { return false };
        match overdue.answered.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return true,
            Ok(at) => {
                let more = at.saturating_duration_since(overdue.charged_to);
                self.spent.record(overdue.user, at, more);
            }
            Err(oneshot::error::TryRecvError::Closed) => {}
        }
        self.overdue.remove(node);
        false
    }
}

/// Tells when the node answers a question that it can not answer while it checks a block.
fn probe(node: Node, tip: bitcoin::BlockHash) -> oneshot::Receiver<Instant> {
    let (mut answer, answered) = oneshot::channel();
    tokio::spawn(async move {
        // Each question that goes unanswered may take one of the node's few threads: seldom.
        let mut pause = CHECK_PROBE_PAUSE_MIN;
        while node.block_status(tip).await.is_err() {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = answer.closed() => return,
            }
            pause = (pause * 2).min(CHECK_PROBE_PAUSE_MAX);
        }
        let _ = answer.send(Instant::now());
    });
    answered
}

/// Whether a block that is invalid for this reason may be valid on another chain of the same
/// height: what is spent, and how old it and the chain are, is not in the block itself.
fn depends_on_chain(reason: &str) -> bool {
    const REASONS: [&str; 9] = [
        "bad-txns-inputs-missingorspent",
        "bad-txns-nonfinal",
        "non-BIP68-final",
        "bad-txns-premature-spend-of-coinbase",
        "bad-txns-BIP30",
        "bad-diffbits",
        "bad-prevblk",
        "time-too-old",
        "time-timewarp-attack",
    ];
    REASONS.iter().any(|prefix| reason.starts_with(prefix))
}

fn now_unix_s() -> u32 {
    (crate::clock::unix_us() / 1_000_000) as u32
}

/// A time that the node takes for the next block (BIP 113), Unix seconds: where blocks came faster
/// than one a second, or our clock is behind, that is later than our clock says.
fn block_time_s(clock_s: u32, median_time_past: u32) -> u32 {
    clock_s.max(median_time_past.saturating_add(1))
}
