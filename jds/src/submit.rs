//! Found blocks: to every node at once, and again until each has an answer.
//!
//! Nothing is in front of this path: no queue, no lock held across an await, no wait for one node
//! on behalf of another. Beside it a block goes to the disk ([`crate::found`]), and stays there
//! until every node has judged it.

mod to_node;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use tdp_client::RpcNode;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::clock;
use crate::found::{FoundFacts, FoundFiles};
use crate::limits::{FOUND_BLOCKS_OPEN_MAX, FOUND_BLOCKS_REMEMBERED_MAX};
use crate::nodes::Nodes;

/// Submits found blocks to all nodes.
#[derive(Debug)]
pub struct Submitter {
    nodes: Arc<Nodes>,
    files: FoundFiles,
    /// Solutions are looked at on threads that are not the runtime's.
    runtime: Handle,
    seen: Mutex<VecDeque<BlockHash>>,
    open: Mutex<Vec<Arc<Open>>>,
    solving: watch::Sender<usize>,
    under_way: watch::Sender<usize>,
    at_ready_nodes: watch::Sender<usize>,
    keeping: watch::Sender<usize>,
}

/// A found block, ready to be given to nodes.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its hash.
    pub hash: BlockHash,
    /// All of it, as `submitblock` takes it.
    pub hex: Arc<str>,
}

/// Where a found block came from, for the log.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Name of the user who declared the template.
    pub user: String,
    /// Template it was built from, 64 hex digits.
    pub template_hash: String,
    /// Height of the block.
    pub height: u32,
    /// When the solution reached us.
    pub received: Instant,
}

/// A block that some node has not judged yet.
#[derive(Debug)]
struct Open {
    hash: BlockHash,
    file: PathBuf,
    /// `file` is on the disk.
    kept: AtomicBool,
    /// At least one node has it.
    taken: AtomicBool,
    /// Nodes whose way has not ended.
    ways: AtomicUsize,
    /// Held from the end of the last way until the file is gone, so that a shutdown in between
    /// does not leave it behind.
    closing: Mutex<Option<UnderWay>>,
}

/// What waits for the first answer of a node to a block.
struct FirstAnswer {
    /// Consensus checks, if the node was ready.
    holds_checks: Option<UnderWay>,
    /// The end of the server.
    under_way: Option<UnderWay>,
}

/// How the way of a block to one node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Judged,
    GaveUp,
}

impl Submitter {
    /// For these nodes. Keeps blocks in `data_dir`, and submits what an earlier run left there.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn new(nodes: Arc<Nodes>, data_dir: &Path) -> Arc<Self> {
        let submitter = Arc::new(Self {
            nodes,
            files: FoundFiles::open(data_dir),
            runtime: Handle::current(),
            seen: Mutex::default(),
            open: Mutex::default(),
            solving: watch::Sender::new(0),
            under_way: watch::Sender::new(0),
            at_ready_nodes: watch::Sender::new(0),
            keeping: watch::Sender::new(0),
        });
        let earlier = Arc::clone(&submitter);
        // Counted, so that a shutdown at once does not cut it off in the middle.
        let reading = UnderWay::begin(&submitter.keeping);
        submitter.runtime.spawn_blocking(move || {
            earlier.submit_left_over();
            drop(reading);
        });
        submitter
    }

    /// Sends the block to every node, each by itself, and returns at once. False when this very
    /// block is known already: the same solution may come twice.
    pub fn submit(self: &Arc<Self>, found: &Found, origin: &Origin) -> bool {
        let hash = found.hash;
        if !self.remember(hash) {
            info!(block = %hash, "block found again, it is under way already");
            return false;
        }
        let (open, answers) = self.start(found, origin);
        info!(
            block = %hash, height = origin.height, user = origin.user,
            template = origin.template_hash, nodes = self.nodes.all().len(),
            "BLOCK FOUND, submitting to every node"
        );
        let kept = self.keep(&open, found, origin);
        self.runtime.spawn(Arc::clone(self).see_to_end(open, answers, kept));
        true
    }

    /// Whether this block was found before, lately.
    pub(crate) fn knows(&self, hash: &BlockHash) -> bool {
        lock(&self.seen).contains(hash)
    }

    /// Submits the blocks that an earlier run could give to no node, or not to all.
    fn submit_left_over(self: &Arc<Self>) {
        for file in self.files.left_over() {
            if lock(&self.open).len() >= FOUND_BLOCKS_OPEN_MAX {
                error!(file = %file.display(), max = FOUND_BLOCKS_OPEN_MAX,
                    "too many found blocks at once: the next start submits this one");
                continue;
            }
            let Some((facts, hex)) = self.files.load(&file) else { continue };
            if !self.remember(facts.hash) {
                continue;
            }
            let found = Found { hash: facts.hash, hex: hex.into() };
            let origin = Origin {
                user: facts.user,
                template_hash: facts.template_hash,
                height: facts.height,
                received: Instant::now(),
            };
            let (open, answers) = self.start(&found, &origin);
            open.kept.store(true, Ordering::Relaxed);
            warn!(block = %found.hash, height = origin.height, user = origin.user,
                file = %open.file.display(), found_at_unix_ms = facts.found_at_unix_ms,
                "a block found before the last end has not reached every node: submitting it again");
            self.runtime.spawn(Arc::clone(self).see_to_end(open, answers, None));
        }
    }

    /// Gives the block to every node before anything else is done with it.
    fn start(
        self: &Arc<Self>,
        found: &Found,
        origin: &Origin,
    ) -> (Arc<Open>, Vec<JoinHandle<End>>) {
        let open = Arc::new(Open {
            hash: found.hash,
            file: self.files.path(&found.hash),
            kept: AtomicBool::new(false),
            taken: AtomicBool::new(false),
            ways: AtomicUsize::new(self.nodes.all().len()),
            closing: Mutex::default(),
        });
        let to_node = |node: &RpcNode| {
            let (node, found, origin) = (node.clone(), found.clone(), origin.clone());
            let (submitter, open) = (Arc::clone(self), Arc::clone(&open));
            // Counted before the task starts, so that nobody sees an idle moment in between.
            let ready = node.state().borrow().is_ready();
            let mut first = FirstAnswer {
                holds_checks: ready.then(|| UnderWay::begin(&self.at_ready_nodes)),
                under_way: Some(UnderWay::begin(&self.under_way)),
            };
            self.runtime.spawn(async move {
                let end = submitter.to_node(&node, &found, &origin, &open, &mut first).await;
                if open.ways.fetch_sub(1, Ordering::Relaxed) == 1 {
                    *lock(&open.closing) = Some(UnderWay::begin(&submitter.keeping));
                }
                drop(first);
                end
            })
        };
        let answers = self.nodes.all().iter().map(to_node).collect();
        lock(&self.open).push(Arc::clone(&open));
        (open, answers)
    }

    /// Writes the block to the disk, beside its submission.
    fn keep(
        self: &Arc<Self>,
        open: &Arc<Open>,
        found: &Found,
        origin: &Origin,
    ) -> Option<JoinHandle<()>> {
        if lock(&self.open).len() > FOUND_BLOCKS_OPEN_MAX {
            error!(block = %found.hash, max = FOUND_BLOCKS_OPEN_MAX,
                "too many found blocks at once: this one is not kept on disk");
            return None;
        }
        let facts = FoundFacts {
            hash: found.hash,
            height: origin.height,
            user: origin.user.clone(),
            template_hash: origin.template_hash.clone(),
            found_at_unix_ms: clock::unix_us() / 1_000,
            digits: found.hex.len(),
        };
        let (submitter, open, hex) = (Arc::clone(self), Arc::clone(open), Arc::clone(&found.hex));
        let guard = UnderWay::begin(&self.keeping);
        Some(self.runtime.spawn_blocking(move || {
            match submitter.files.keep(&facts, &hex) {
                Ok(()) => open.kept.store(true, Ordering::Relaxed),
                Err(error) => error!(block = %open.hash, file = %open.file.display(), %error,
                    "a found block could not be kept on disk"),
            }
            drop(guard);
        }))
    }

    /// Forgets the block, and its file, when every node has judged it.
    async fn see_to_end(
        self: Arc<Self>,
        open: Arc<Open>,
        answers: Vec<JoinHandle<End>>,
        kept: Option<JoinHandle<()>>,
    ) {
        let mut judged = true;
        for answer in answers {
            judged &= matches!(answer.await, Ok(End::Judged));
        }
        // What is still being written could not be removed.
        if let Some(kept) = kept {
            let _ = kept.await;
        }
        let closing = lock(&open.closing).take();
        lock(&self.open).retain(|other| other.hash != open.hash);
        let file = open.file.display().to_string();
        if !open.kept.load(Ordering::Relaxed) {
            return;
        }
        if !judged && !open.taken.load(Ordering::Relaxed) {
            error!(block = %open.hash, file, "no node has taken this found block: the file stays, \
                and the next start submits it");
            return;
        }
        let submitter = Arc::clone(&self);
        let removed = self.runtime.spawn_blocking(move || submitter.files.remove(&open.hash)).await;
        if let Ok(Err(error)) = removed {
            warn!(file, %error, "can not be removed; the next start submits the block again");
        }
        drop(closing);
    }

    /// Announces that a solution is being looked at, for as long as the guard lives. A consensus
    /// check does not wait for it: bad solutions could hold it up for ever.
    pub(crate) fn solving(&self) -> UnderWay {
        UnderWay::begin(&self.solving)
    }

    /// Waits, no longer than `limit`, until every solution that came was looked at, and every
    /// block found is on the disk and has had its first answer from every node. Says which blocks
    /// no node has.
    pub async fn finish(&self, limit: Duration) {
        if tokio::time::timeout(limit, self.idle()).await.is_err() {
            warn!("a found block is still being submitted");
        }
        for open in lock(&self.open).iter() {
            if open.taken.load(Ordering::Relaxed) {
                continue;
            }
            let (block, file) = (open.hash, open.file.display());
            if open.kept.load(Ordering::Relaxed) {
                error!(%block, %file, "NO NODE HAS TAKEN this found block: the file holds it, and \
                    the next start submits it");
            } else {
                error!(%block, %file, "NO NODE HAS TAKEN this found block, and it is not on the \
                    disk: it is lost unless a node still has it under way");
            }
        }
    }

    async fn idle(&self) {
        // In this order: a solution that makes a block is counted as one before it is let go. A
        // closed channel means that nobody counts any more.
        for count in [&self.solving, &self.under_way, &self.keeping] {
            let _ = count.subscribe().wait_for(|count| *count == 0).await;
        }
    }

    /// How many first submissions to nodes that are ready are under way; consensus checks wait
    /// while it is not zero.
    pub fn under_way(&self) -> watch::Receiver<usize> {
        self.at_ready_nodes.subscribe()
    }

    /// Solutions that are being looked at or wait for it.
    pub(crate) fn solutions(&self) -> usize {
        *self.solving.borrow()
    }

    fn remember(&self, hash: BlockHash) -> bool {
        let mut seen = lock(&self.seen);
        if seen.contains(&hash) {
            return false;
        }
        seen.push_back(hash);
        if seen.len() > FOUND_BLOCKS_REMEMBERED_MAX {
            seen.pop_front();
        }
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts one solution or submission as under way for as long as it lives.
#[derive(Debug)]
pub(crate) struct UnderWay(watch::Sender<usize>);

impl UnderWay {
    fn begin(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
