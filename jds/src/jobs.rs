//! Accepted jobs: everything needed to turn a solution into a block, kept while it can matter.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use validation::block::BlockBody;
use validation::job::AcceptedJob;

use crate::limits::{
    JOB_DEPTH_KEPT_BLOCKS, JOBS_PER_USER_MAX, JOBS_TOTAL_MAX, READY_BODIES_BYTES_MAX,
};
use crate::token::UserTag;

/// The user of a job declaration connection: the identifier as sent, and its tag in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Printable form of `user_identifier`; bytes outside of printable UTF-8 are escaped.
    pub name: String,
    /// What tokens carry.
    pub tag: UserTag,
}

impl User {
    /// From the bytes of `AllocateMiningJobToken.user_identifier`.
    pub fn new(identifier: &[u8]) -> Self {
        let name = String::from_utf8_lossy(identifier).escape_debug().to_string();
        Self { name, tag: UserTag::of(identifier) }
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
    body: Mutex<Option<Arc<BlockBody>>>,
    withdrawn: OnceLock<String>,
}

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

    /// Makes all of it ready; how many bytes that takes.
    fn make_ready(&self) -> usize {
        let built = Arc::new(self.accepted.prepare_body());
        let bytes = built.memory_bytes();
        *lock(&self.body) = Some(built);
        bytes
    }

    /// The node found the job invalid: `reason` is the node's.
    pub fn withdraw(&self, reason: String) {
        let _ = self.withdrawn.set(reason);
    }

    /// Why the job was withdrawn, if it was.
    pub fn withdrawn(&self) -> Option<&str> {
        self.withdrawn.get().map(String::as_str)
    }

    /// Gives the serialised bytes back and keeps the merkle branch: a solution then costs a
    /// millisecond more.
    fn shrink_body(&self) {
        if let Some(body) = lock(&self.body).as_mut() {
            Arc::make_mut(body).shrink();
        }
    }
}

/// All accepted jobs, by user, newest first.
#[derive(Debug, Default)]
pub struct Jobs {
    inner: Mutex<Inner>,
    ready: Mutex<ReadyBodies>,
    ready_turn: tokio::sync::Mutex<()>,
    next_number: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    by_user: HashMap<UserTag, VecDeque<Arc<Job>>>,
    /// Order of acceptance, oldest first, for the bound on the total.
    order: VecDeque<Weak<Job>>,
    live: usize,
}

#[derive(Debug, Default)]
struct ReadyBodies {
    order: VecDeque<(Weak<Job>, usize)>,
    bytes: usize,
}

impl Jobs {
    /// A job from a verdict. Not yet kept: see [`Self::keep`].
    pub fn create(&self, user: Arc<User>, accepted: AcceptedJob) -> Arc<Job> {
        Arc::new(Job {
            user,
            accepted,
            number: self.next_number.fetch_add(1, Ordering::Relaxed),
            body: Mutex::new(None),
            withdrawn: OnceLock::new(),
        })
    }

    /// Keeps a job; the oldest of the user, or of all, makes room when a bound is met.
    pub fn keep(&self, job: &Arc<Job>) {
        let mut inner = lock(&self.inner);
        let of_user = inner.by_user.entry(job.user.tag).or_default();
        of_user.push_front(Arc::clone(job));
        let dropped = of_user.len().saturating_sub(JOBS_PER_USER_MAX);
        of_user.truncate(JOBS_PER_USER_MAX);
        inner.live += 1;
        inner.live -= dropped;
        inner.order.push_back(Arc::downgrade(job));
        inner.enforce_total();
    }

    /// Jobs of a user, newest first.
    pub fn of_user(&self, tag: &UserTag) -> Vec<Arc<Job>> {
        let inner = lock(&self.inner);
        inner.by_user.get(tag).map(|jobs| jobs.iter().cloned().collect()).unwrap_or_default()
    }

    fn newest_of(&self, tag: &UserTag) -> Option<u64> {
        lock(&self.inner).by_user.get(tag).and_then(VecDeque::front).map(|job| job.number)
    }

    /// How many jobs are kept.
    pub fn count(&self) -> usize {
        lock(&self.inner).live
    }

    /// Forgets jobs too deep below the tip to win. `tip_height` is the height of the tip itself.
    pub fn prune(&self, tip_height: u32) {
        let keep_from = tip_height.saturating_add(1).saturating_sub(JOB_DEPTH_KEPT_BLOCKS);
        let mut inner = lock(&self.inner);
        for jobs in inner.by_user.values_mut() {
            jobs.retain(|job| job.accepted.height() >= keep_from);
        }
        inner.by_user.retain(|_, jobs| !jobs.is_empty());
        inner.live = inner.by_user.values().map(VecDeque::len).sum();
        inner.order.retain(|job| job.strong_count() > 0);
    }

    /// Makes the body of `job` ready for a solution, unless a newer job of the user has come
    /// meanwhile. One at a time and off the reactor: declarations go first.
    pub async fn make_ready(self: &Arc<Self>, job: Arc<Job>) {
        let _turn = self.ready_turn.lock().await;
        if self.newest_of(&job.user.tag).is_some_and(|newest| newest != job.number) {
            return;
        }
        let jobs = Arc::clone(self);
        // A body that could not be made here is made when a solution comes.
        let _ = tokio::task::spawn_blocking(move || jobs.make_ready_now(&job)).await;
    }

    /// Keeps to the bytes that all ready bodies may take; the oldest ready body goes first.
    fn make_ready_now(&self, job: &Arc<Job>) {
        let bytes = job.make_ready();
        let mut ready = lock(&self.ready);
        ready.order.push_back((Arc::downgrade(job), bytes));
        ready.bytes += bytes;
        while ready.bytes > READY_BODIES_BYTES_MAX {
            let Some((oldest, bytes)) = ready.order.pop_front() else { break };
            ready.bytes -= bytes;
            if let Some(oldest) = oldest.upgrade() {
                oldest.shrink_body();
            }
        }
    }
}

impl Inner {
    fn enforce_total(&mut self) {
        while self.live > JOBS_TOTAL_MAX || self.order.len() > 2 * JOBS_TOTAL_MAX {
            let Some(oldest) = self.order.pop_front() else { return };
            let Some(oldest) = oldest.upgrade() else { continue };
            let tag = oldest.user.tag;
            let Some(jobs) = self.by_user.get_mut(&tag) else { continue };
            let before = jobs.len();
            jobs.retain(|job| job.number != oldest.number);
            self.live -= before - jobs.len();
            if jobs.is_empty() {
                self.by_user.remove(&tag);
            }
        }
    }
}

/// What is behind these locks is valid after every statement, so a panic elsewhere while one was
/// held does not make it unusable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
