//! Accepted jobs: everything needed to turn a solution into a block, kept while it can matter.
//!
//! [`Jobs`] is their only lasting owner. It keeps them by the connection that declared them, and
//! within bounds: who makes us hold the most loses jobs first, so nobody pays for a flood that
//! somebody else declares.

mod made_up;
mod ready;
mod registry;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::watch;
use validation::block::BlockBody;
use validation::declared::TemplateHash;
use validation::identity::{Identity, user_of_bytes};
use validation::job::AcceptedJob;
use validation::tx::Tx;

use crate::limits::{
    IDENTITIES_PER_USER_MAX, JOB_BYTES_TOTAL_MAX, JOB_DEPTH_KEPT_BLOCKS, JOBS_TOTAL_MAX,
};
use crate::token::UserTag;
use made_up::MadeUp;
use ready::ReadyBodies;
use registry::{Registry, Weigh};

/// The user of a job declaration connection, and the worker that it named, if it was one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user in the identity, printable; bytes outside of printable UTF-8 are escaped.
    pub name: String,
    /// The worker in it, printable; empty when there is none or more than one.
    pub worker: String,
    /// What tokens and receipts carry: of the user.
    pub tag: UserTag,
    /// What they carried before users and workers were told apart: of whole identities. At most
    /// [`IDENTITIES_PER_USER_MAX`], the most recent last; none that is the user's own.
    pub whole: Vec<UserTag>,
}

impl User {
    /// From the bytes of `AllocateMiningJobToken.user_identifier`.
    pub fn new(identifier: &[u8]) -> Self {
        let Identity { user, worker } = Identity::of_bytes(identifier);
        let (tag, whole) = (UserTag::of(user_of_bytes(identifier)), UserTag::of(identifier));
        Self {
            name: user.to_string(),
            worker: worker.to_string(),
            tag,
            whole: if whole == tag { Vec::new() } else { vec![whole] },
        }
    }

    /// The same user under both identities. Of several workers none can be told: the next token may be for
    /// any of them.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let worker = if self.worker == other.worker { self.worker.clone() } else { String::new() };
        let mut whole = self.whole.clone();
        whole.retain(|tag| !other.whole.contains(tag));
        whole.extend(&other.whole);
        whole.drain(..whole.len().saturating_sub(IDENTITIES_PER_USER_MAX));
        Self { name: self.name.clone(), worker, tag: self.tag, whole }
    }

    /// From the store.
    pub fn restored(name: String, worker: String, tag: UserTag) -> Self {
        Self { name, worker, tag, whole: Vec::new() }
    }

    /// Whether a token with that tag is this user's: of the user, or an earlier one of one of the very
    /// identities.
    pub fn is(&self, tag: UserTag) -> bool {
        self.tag == tag || self.whole.contains(&tag)
    }

    /// All tags, the user's own first.
    pub fn tags(&self) -> impl Iterator<Item = &UserTag> {
        std::iter::once(&self.tag).chain(&self.whole)
    }

    /// User and worker together, printable.
    pub fn identity(&self) -> String {
        let Self { name, worker, .. } = self;
        if worker.is_empty() { name.clone() } else { format!("{name}.{worker}") }
    }
}

/// The connection that declares jobs. While its session holds this, the connection counts as
/// alive; its jobs outlive it.
#[derive(Debug, Clone)]
pub struct Declarer {
    connection: Arc<u64>,
    peer: Arc<str>,
}

impl Declarer {
    /// For the connection with this number, unique in this process, from that address.
    pub fn new(connection: u64, peer: impl Into<Arc<str>>) -> Self {
        Self { connection: Arc::new(connection), peer: peer.into() }
    }

    /// Number of the connection.
    pub fn connection(&self) -> u64 {
        *self.connection
    }

    /// Address that it comes from, without the port.
    pub fn peer(&self) -> &Arc<str> {
        &self.peer
    }
}

/// One accepted job.
#[derive(Debug)]
pub struct Job {
    /// Who declared it.
    pub user: Arc<User>,
    /// The verdict and all that it holds.
    pub accepted: AcceptedJob,
    /// Rises by one for each job of this process.
    pub number: u64,
    connection: u64,
    /// Gone when the connection is.
    declarer: Weak<u64>,
    /// Positions of the transactions that our node has not told us of.
    made_up: Box<[u32]>,
    /// Memory of the job without any transaction.
    base_bytes: usize,
    /// That, and the memory of those transactions.
    own_bytes: usize,
    body: Mutex<Option<Arc<BlockBody>>>,
    withdrawn: OnceLock<String>,
    /// It is kept no more, though somebody may still hold it for a moment.
    let_go: AtomicBool,
    kept_in: Weak<Kept>,
}

/// Why nothing may be mined on a job that [`Jobs`] has let go.
pub(crate) const LET_GO: &str = "its transactions are not kept any more";

impl Job {
    /// What is ready of the block beside header and coinbase: at least the merkle branch, which
    /// is made now if need be, and the serialised transactions if they are kept ready.
    pub fn body(&self) -> Arc<BlockBody> {
        if let Some(body) = lock(&self.body).clone() {
            return body;
        }
        // Built outside of the lock: two builders at once cost time, a lock held for
        // milliseconds in the way of a found block costs more.
        let built = Arc::new(self.accepted.prepare_branch());
        Arc::clone(lock(&self.body).get_or_insert(built))
    }

    /// Bytes of memory that this job makes us hold beside what our node vouches for: its lists,
    /// its coinbase, and every transaction that our node has not told us of.
    pub fn own_bytes(&self) -> usize {
        self.own_bytes
    }

    /// The node found the job invalid: `reason` is the node's. Only the newest such job of a
    /// connection is kept: should a solution of it meet the target, it is still submitted.
    pub fn withdraw(&self, reason: String) {
        let _ = self.withdrawn.set(reason);
        if let Some(kept) = self.kept_in.upgrade() {
            let dropped = lock(&kept.registry).forget_withdrawn(self.connection);
            kept.let_go(dropped);
            kept.tell();
        }
    }

    /// Why the job was withdrawn, if it was.
    pub fn withdrawn(&self) -> Option<&str> {
        self.withdrawn.get().map(String::as_str)
    }

    /// Number of the connection that declared it.
    pub(crate) fn connection(&self) -> u64 {
        self.connection
    }

    /// Why nothing may be mined on it any more: it was withdrawn, or is not kept.
    pub fn ended(&self) -> Option<&str> {
        let let_go = || self.let_go.load(Ordering::Acquire).then_some(LET_GO);
        self.withdrawn().or_else(let_go)
    }

    fn made_up_txs(&self) -> impl Iterator<Item = &Arc<Tx>> {
        self.made_up.iter().filter_map(|position| self.accepted.txs().get(*position as usize))
    }
}

/// All accepted jobs.
#[derive(Debug, Default)]
pub struct Jobs {
    kept: Arc<Kept>,
    ready: Mutex<ReadyBodies>,
    ready_turn: tokio::sync::Mutex<()>,
    next_number: AtomicU64,
}

/// Two locks, never held together: the way of a solution goes through the first one only.
#[derive(Debug, Default)]
struct Kept {
    registry: Mutex<Registry>,
    made_up: Mutex<MadeUp>,
    /// Rises when jobs have ended.
    ends: watch::Sender<u64>,
}

impl Jobs {
    /// A job from a verdict. Not yet kept: see [`Self::keep`].
    pub fn create(&self, user: Arc<User>, declarer: &Declarer, accepted: AcceptedJob) -> Arc<Job> {
        let txs = accepted.txs().iter().zip(0u32..);
        let made_up: Box<[u32]> =
            txs.filter(|(tx, _)| tx.node_facts().is_none()).map(|(_, position)| position).collect();
        let mut job = Job {
            user,
            number: self.next_number.fetch_add(1, Ordering::Relaxed),
            connection: declarer.connection(),
            declarer: Arc::downgrade(&declarer.connection),
            base_bytes: base_bytes(&accepted) + made_up.len() * MadeUp::BYTES_PER_TX,
            own_bytes: 0,
            made_up,
            accepted,
            body: Mutex::new(None),
            withdrawn: OnceLock::new(),
            let_go: AtomicBool::new(false),
            kept_in: Arc::downgrade(&self.kept),
        };
        let txs_bytes: usize = job.made_up_txs().map(|tx| tx.memory_bytes()).sum();
        job.own_bytes = job.base_bytes + txs_bytes;
        Arc::new(job)
    }

    /// Keeps a job, within the bounds of its connection and of all.
    pub fn keep(&self, job: &Arc<Job>) {
        let kept = &self.kept;
        lock(&kept.made_up).add(job);
        let mut dropped = lock(&kept.registry).insert(Arc::clone(job));
        kept.end(&dropped);
        loop {
            let weigh = if lock(&kept.made_up).bytes() > JOB_BYTES_TOTAL_MAX {
                Weigh::Bytes
            } else if self.count() > JOBS_TOTAL_MAX {
                Weigh::Count
            } else {
                break;
            };
            let Some(victim) = lock(&kept.registry).evict(weigh) else { break };
            kept.end(std::slice::from_ref(&victim));
            dropped.push(victim);
        }
        drop_elsewhere(dropped);
    }

    /// Changes after jobs have ended ([`Job::ended`]): whoever mines on some looks at them then.
    pub fn watch_ends(&self) -> watch::Receiver<u64> {
        self.kept.ends.subscribe()
    }

    /// Jobs that a solution may belong to, at most `max`: those of the connection, newest first,
    /// then those of the same users on other connections, beginning with the newest of each.
    pub fn candidates<'a>(
        &self,
        declarer: &Declarer,
        users: impl Iterator<Item = &'a UserTag>,
        max: usize,
    ) -> Vec<Arc<Job>> {
        let registry = lock(&self.kept.registry);
        let mut jobs = registry.of_connection(declarer.connection());
        for tag in users {
            if jobs.len() < max {
                jobs.extend(registry.of_user(tag, Some(declarer.connection()), max - jobs.len()));
            }
        }
        jobs.truncate(max);
        jobs
    }

    /// Jobs of a user on all connections, at most [`SOLUTION_JOBS_MAX`], the newest of each
    /// connection first.
    ///
    /// [`SOLUTION_JOBS_MAX`]: crate::limits::SOLUTION_JOBS_MAX
    pub fn of_user(&self, tag: &UserTag) -> Vec<Arc<Job>> {
        lock(&self.kept.registry).of_user(tag, None, crate::limits::SOLUTION_JOBS_MAX)
    }

    /// The newest job that the user was accepted with this template.
    pub fn of_template(&self, tag: &UserTag, template: &TemplateHash) -> Option<Arc<Job>> {
        lock(&self.kept.registry).of_template(tag, template)
    }

    /// How many jobs are kept.
    pub fn count(&self) -> usize {
        lock(&self.kept.registry).count()
    }

    /// Memory that all kept jobs together take beside what our node vouches for, bytes; a
    /// transaction that many of them hold is counted once.
    pub fn own_bytes(&self) -> usize {
        lock(&self.kept.made_up).bytes()
    }

    /// Forgets jobs too deep below the tip to win. `tip_height` is the height of the tip itself.
    pub fn prune(&self, tip_height: u32) {
        let keep_from = tip_height.saturating_add(1).saturating_sub(JOB_DEPTH_KEPT_BLOCKS);
        let dropped = lock(&self.kept.registry).prune(keep_from);
        self.kept.let_go(dropped);
    }

    /// Makes `job` ready for a solution: its merkle branch, and if it is still the newest of its
    /// connection the serialised body. One at a time and off the reactor: declarations go first.
    pub async fn make_ready(self: &Arc<Self>, job: Arc<Job>) {
        // Who waits here owns nothing: the bounds of the registry hold for all jobs.
        let waiting = Arc::downgrade(&job);
        drop(job);
        let _turn = self.ready_turn.lock().await;
        let jobs = Arc::clone(self);
        // What could not be made here is made when a solution comes.
        let _ = tokio::task::spawn_blocking(move || {
            if let Some(job) = waiting.upgrade() {
                jobs.make_ready_now(&job);
            }
        })
        .await;
    }

    fn make_ready_now(&self, job: &Arc<Job>) {
        if lock(&self.kept.registry).is_newest(job) {
            let body = Arc::new(job.accepted.prepare_body());
            let bytes = body.memory_bytes();
            *lock(&job.body) = Some(body);
            let shrunk = lock(&self.ready).push(job, bytes);
            shrunk.iter().for_each(|job| job.shrink_body());
        } else {
            job.body();
        }
    }
}

impl Job {
    /// Gives the serialised bytes back and keeps the merkle branch: a solution then costs a
    /// millisecond more.
    fn shrink_body(&self) {
        if let Some(body) = lock(&self.body).as_mut() {
            Arc::make_mut(body).shrink();
        }
    }
}

impl Kept {
    /// Lets go of jobs that are in the registry no more.
    fn let_go(&self, jobs: Vec<Arc<Job>>) {
        self.end(&jobs);
        drop_elsewhere(jobs);
    }

    fn end(&self, jobs: &[Arc<Job>]) {
        for job in jobs {
            job.let_go.store(true, Ordering::Release);
            // One at a time: many jobs in a row are no reason for a declaration to wait.
            lock(&self.made_up).remove(job);
        }
        if !jobs.is_empty() {
            self.tell();
        }
    }

    fn tell(&self) {
        self.ends.send_modify(|ends| *ends += 1);
    }
}

/// Memory of a job without its transactions, body included once it is shrunk.
fn base_bytes(accepted: &AcceptedJob) -> usize {
    const BODY_BYTES: usize = 1_024;
    let coinbase = accepted.coinbase();
    let scripts: usize = coinbase.outputs().iter().map(|out| out.script_pubkey.len()).sum();
    size_of::<Job>()
        + BODY_BYTES
        + size_of_val(accepted.txs())
        + 2 * (coinbase.prefix().len() + coinbase.suffix().len())
        + size_of_val(coinbase.outputs())
        + scripts
}

/// Freeing thousands of transactions takes milliseconds: not on the reactor.
fn drop_elsewhere(jobs: Vec<Arc<Job>>) {
    if jobs.is_empty() {
        return;
    }
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        drop(runtime.spawn_blocking(move || drop(jobs)));
    }
}

/// What is behind these locks is valid after every statement, so a panic elsewhere while one was
/// held does not make it unusable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
