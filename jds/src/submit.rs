//! Found blocks: to every node at once, and again until each has an answer.
//!
//! Nothing is in front of this path: no queue, no lock held across an await, no wait for one node
//! on behalf of another. Beside it a block is recorded in the store with what each node made of
//! it. Where the store can not do that at once it goes to a file ([`crate::found`]), which stays
//! until the store has it, or without a store until every node has judged it.

mod announce;
mod known;
mod notes;
mod record;
mod resume;
mod steps;
#[cfg(test)]
mod tests;
mod to_node;
mod to_provider;
mod told;
mod under_way;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use store::NewBlock;
use tdp_client::{BlockBytes, Node, SubmitOutcome};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use crate::clock;
use crate::follow::Follower;
use crate::found::FoundFiles;
use crate::journal::Journal;
use crate::limits::NOTES_PER_SUBMISSION_MAX;
use crate::nodes::Nodes;
use known::Known;
use notes::Notes;
use record::{Recorder, ToRecord};
use steps::Steps;
use to_node::Way;
pub(crate) use to_provider::Handover;
pub(crate) use told::Told;
use told::Waiting;
pub(crate) use under_way::UnderWay;

/// Submits found blocks to all nodes.
#[derive(Debug)]
pub struct Submitter {
    nodes: Arc<Nodes>,
    journal: Arc<Journal>,
    follower: Arc<Follower>,
    metrics: api::Metrics,
    files: FoundFiles,
    /// Solutions are looked at on threads that are not the runtime's.
    runtime: Handle,
    known: Mutex<Known>,
    open: Mutex<Vec<Arc<Open>>>,
    solving: watch::Sender<usize>,
    under_way: watch::Sender<usize>,
    at_ready_nodes: watch::Sender<usize>,
    keeping: watch::Sender<usize>,
    ended: watch::Sender<bool>,
}

/// A block that some node has not judged yet, or that is not recorded yet.
#[derive(Debug)]
struct Open {
    hash: BlockHash,
    height: u32,
    /// Name of the user who declared the template.
    user: String,
    /// Template it was built from, 64 hex digits.
    template_hash: String,
    /// When the solution reached us, Unix milliseconds.
    found_at_ms: u64,
    /// When it did, or when this process learned of a block of an earlier one.
    received: Instant,
    /// Time between the two.
    before: Duration,
    /// Blocks on it, itself included, when the last process ended.
    confirmations: u32,
    /// The template provider that gets it as a solution of its own template, if any.
    provider: Option<String>,
    /// It was recorded before without its transactions.
    announced: bool,
    file: PathBuf,
    /// `file` is on the disk.
    in_file: AtomicBool,
    /// The store has it on the disk.
    in_store: AtomicBool,
    /// At least one node has it.
    taken: AtomicBool,
    /// Some node was handed all of it, or it is of an earlier process.
    sent: AtomicBool,
    waiting: Waiting,
}

impl Open {
    fn new(hash: BlockHash, file: PathBuf, found_at_ms: u64, received: Instant) -> Self {
        Self {
            hash,
            height: 0,
            user: String::new(),
            template_hash: String::new(),
            found_at_ms,
            received,
            before: Duration::ZERO,
            confirmations: 0,
            provider: None,
            announced: false,
            file,
            in_file: AtomicBool::new(false),
            in_store: AtomicBool::new(false),
            taken: AtomicBool::new(false),
            sent: AtomicBool::new(false),
            waiting: Waiting::begin(),
        }
    }

    /// From the solution on.
    fn latency(&self) -> Duration {
        self.before + self.received.elapsed()
    }

    /// Where a start finds the block, in words.
    fn kept(&self) -> Option<String> {
        match (self.in_store.load(Ordering::Relaxed), self.in_file.load(Ordering::Relaxed)) {
            (true, _) => Some("the store".to_owned()),
            (false, true) => Some(self.file.display().to_string()),
            (false, false) => None,
        }
    }
}

/// A submission that is under way.
type Call = Pin<Box<dyn Future<Output = SubmitOutcome> + Send>>;

/// What waits for the first answer of a node to a block.
struct FirstAnswer {
    /// Consensus checks, if the node was ready.
    holds_checks: Option<UnderWay>,
    /// The end of the server.
    under_way: Option<UnderWay>,
}

impl Submitter {
    /// For these nodes. Records in `journal`, and in files of `data_dir` where that can not be.
    /// [`Self::resume`] is to be called once, before the first solution comes.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn new(
        nodes: Arc<Nodes>,
        data_dir: &Path,
        journal: Arc<Journal>,
        follower: Arc<Follower>,
        metrics: api::Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            nodes,
            journal,
            follower,
            metrics,
            files: FoundFiles::open(data_dir),
            runtime: Handle::current(),
            known: Mutex::default(),
            open: Mutex::default(),
            solving: watch::Sender::new(0),
            under_way: watch::Sender::new(0),
            at_ready_nodes: watch::Sender::new(0),
            keeping: watch::Sender::new(0),
            ended: watch::Sender::new(false),
        })
    }

    /// Sends the block to every node, each by itself, and returns at once. `received` is when its
    /// solution came. False when this very block is known already: the same solution may come
    /// twice.
    pub fn submit(self: &Arc<Self>, block: NewBlock, received: Instant) -> bool {
        self.submit_with(block, None, received, None)
    }

    /// As [`Self::submit`], and hands the block to the template provider that gave its template.
    /// `told` is dropped once the block is on the disk.
    pub(crate) fn submit_with(
        self: &Arc<Self>,
        block: NewBlock,
        handover: Option<Handover>,
        received: Instant,
        told: Option<Told>,
    ) -> bool {
        let hash = block.block.hash;
        // Who finds the block known finds it among the open ones, too, to wait for the disk with.
        let mut open_blocks = lock(&self.open);
        let Some(announced) = lock(&self.known).submit(hash) else {
            drop(open_blocks);
            info!(block = %hash, "block found again, it is under way already");
            self.tell_when_kept(&hash, told);
            return false;
        };
        let was_announced = announced.is_some();
        let block = match announced {
            Some(announced) => announced.completed_by(block),
            None => block,
        };
        let file = self.files.path(&hash);
        let open = Open {
            height: block.height,
            user: block.user.to_string(),
            template_hash: block.template_hash.map(|hash| hash.to_string()).unwrap_or_default(),
            announced: was_announced,
            provider: handover.as_ref().map(|handover| handover.provider.name().to_owned()),
            ..Open::new(hash, file, clock::unix_us() / 1_000, received)
        };
        open.waiting.add(told);
        let open = Arc::new(open);
        open_blocks.push(Arc::clone(&open));
        drop(open_blocks);
        let bytes = Arc::clone(&block.block);
        self.start(&open, bytes, Steps::new(), ToRecord::New(block), handover);
        info!(
            block = %hash, height = open.height, user = open.user, template = open.template_hash,
            nodes = self.nodes.all().len(), provider = open.provider.as_deref().unwrap_or_default(),
            "BLOCK FOUND, submitting to every node"
        );
        true
    }

    /// Keeps `told` until a block that is known already is on the disk.
    pub(crate) fn tell_when_kept(&self, hash: &BlockHash, told: Option<Told>) {
        // In this order, one inside the other, as when an announced block becomes an open one.
        let open_blocks = lock(&self.open);
        match open_blocks.iter().find(|open| open.hash == *hash) {
            Some(open) => open.waiting.add(told),
            None => lock(&self.known).tell_when_kept(hash, told),
        }
    }

    /// Whether this block was submitted before, lately. One that was only announced was not.
    pub(crate) fn knows(&self, hash: &BlockHash) -> bool {
        lock(&self.known).is_submitted(hash)
    }

    /// What is counted of solutions and blocks.
    pub(crate) fn metrics(&self) -> &api::Metrics {
        &self.metrics
    }

    /// Gives the block to every node that has not judged it, before anything else is done with it.
    fn start(
        self: &Arc<Self>,
        open: &Arc<Open>,
        block: BlockBytes,
        steps: Steps,
        to_record: ToRecord,
        handover: Option<Handover>,
    ) {
        let ways: Vec<_> =
            self.nodes.all().iter().filter_map(|node| Way::new(node, &steps)).collect();
        let count = ways.len() + usize::from(handover.is_some());
        let (sender, notes) = mpsc::channel(count.max(1) * NOTES_PER_SUBMISSION_MAX);
        let sender = Notes::new(sender, &self.keeping);
        for way in ways {
            self.send(way, open, &block, sender.clone());
        }
        if let Some(handover) = handover {
            self.hand_over(handover, open, sender);
        } else {
            drop(sender);
        }
        let recorder = Recorder::new(Arc::clone(self), Arc::clone(open), steps, notes, count);
        let recording = UnderWay::begin(&self.keeping);
        self.spawn(recorder.run(to_record, block, recording));
    }

    /// Among those that are not recorded, or not judged by every node.
    fn opened(&self, open: Open) -> Arc<Open> {
        let open = Arc::new(open);
        lock(&self.open).push(Arc::clone(&open));
        open
    }

    fn send(self: &Arc<Self>, way: Way, open: &Arc<Open>, block: &BlockBytes, notes: Notes) {
        let (submitter, open, block) = (Arc::clone(self), Arc::clone(open), Arc::clone(block));
        // Counted before the task starts, so that nobody sees an idle moment in between.
        let ready = way.node().state().borrow().is_ready();
        let mut first = FirstAnswer {
            holds_checks: ready.then(|| UnderWay::begin(&self.at_ready_nodes)),
            under_way: Some(UnderWay::begin(&self.under_way)),
        };
        // From this very thread: tasks wait for their turn behind those of other connections.
        let call = self.call(way.node(), &open, &block);
        self.spawn(async move {
            submitter.to_node(way, &open, &block, call, &notes, &mut first).await;
            // What there was to tell is counted as being recorded by now.
            drop(first);
        });
    }

    /// Gives the block to a node. It is on its way when this returns.
    fn call(&self, node: &Node, open: &Arc<Open>, block: &BlockBytes) -> Call {
        let (metrics, open) = (self.metrics.clone(), Arc::clone(open));
        let on_sent = move || {
            if !open.sent.swap(true, Ordering::Relaxed) {
                metrics.block_sent(open.received.elapsed());
            }
        };
        Box::pin(node.submit_block(Arc::clone(block), Some(Arc::new(on_sent))))
    }

    fn hand_over(self: &Arc<Self>, handover: Handover, open: &Arc<Open>, notes: Notes) {
        let (submitter, open) = (Arc::clone(self), Arc::clone(open));
        let under_way = UnderWay::begin(&self.under_way);
        self.spawn(async move { submitter.to_provider(handover, &open, &notes, under_way).await });
    }

    /// Runs a task until the end of this.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut ended = self.ended.subscribe();
        self.runtime.spawn(async move {
            tokio::select! {
                biased;
                () = task => {}
                _ = ended.wait_for(|ended| *ended) => {}
            }
        });
    }

    /// Announces that a solution is being looked at, for as long as the guard lives. A consensus
    /// check does not wait for it: bad solutions could hold it up for ever.
    pub(crate) fn solving(&self) -> UnderWay {
        UnderWay::begin(&self.solving)
    }

    /// Solutions that are being looked at or wait for it.
    pub(crate) fn solutions(&self) -> usize {
        *self.solving.borrow()
    }

    /// Waits, no longer than `limit`, until every solution that came was looked at, every block
    /// found is on the disk and has had its first answer from every node, and every answer is
    /// recorded. Then no node is asked any more. Says which blocks no node has.
    pub async fn finish(&self, limit: Duration) {
        if tokio::time::timeout(limit, self.idle()).await.is_err() {
            warn!("a found block is still being submitted or recorded");
        }
        // Before its end is told: what follows a block lets go of it then.
        let open_blocks: Vec<_> = lock(&self.open).iter().cloned().collect();
        self.ended.send_replace(true);
        for open in open_blocks {
            if open.taken.load(Ordering::Relaxed) {
                continue;
            }
            let block = open.hash;
            match open.kept() {
                Some(kept) => {
                    error!(%block, "NO NODE HAS TAKEN this found block: {kept} holds it, \
                    and the next start submits it")
                }
                None => error!(%block, "NO NODE HAS TAKEN this found block, and it is not on the \
                    disk: it is lost unless a node still has it under way"),
            }
        }
    }

    async fn idle(&self) {
        // In this order: a solution that makes a block is counted as one before it is let go, and
        // an answer as one to record. A closed channel means that nobody counts any more.
        for count in [&self.solving, &self.under_way, &self.keeping] {
            let _ = count.subscribe().wait_for(|count| *count == 0).await;
        }
    }

    /// How many first submissions to nodes that are ready are under way; consensus checks wait
    /// while it is not zero.
    pub fn under_way(&self) -> watch::Receiver<usize> {
        self.at_ready_nodes.subscribe()
    }

    /// False when this block was submitted before.
    fn remember(&self, hash: BlockHash) -> bool {
        lock(&self.known).submit(hash).is_some()
    }

    fn node_names(&self) -> impl Iterator<Item = &str> {
        self.nodes.all().iter().map(Node::name)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
