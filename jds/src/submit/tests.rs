//! Blocks beside a store that can not always be read or written, and beside a node that is down.

mod bounds;
mod of_before;
mod told;

use std::sync::atomic::AtomicUsize;

use bitcoin::consensus::encode::serialize;
use bitcoin::constants::genesis_block;
use bitcoin::{Network, Transaction};
use store::{
    Aggregate, Batch, BlockState, BlockSummary, Commit, Cursor, EventFilter, EventKind, EventPage,
    Full, MinerSummary, NodeSubmission, Page, PageRequest, ReadError, RecoverQuery, Recovered,
    RecoveredBlock, SharesQuery, Sizes, SpentToken, SqliteStore, Status, Store, StreamEpoch,
    SubmissionState, TemplateDetail, TemplateFilter, TemplateRef, TemplateSource, TemplateSummary,
    Webhook,
};
use tdp_client::{Auth, NodeSettings};
use tempfile::TempDir;
use tokio::task::JoinSet;
use validation::block::FoundBlock;

use super::*;
use crate::found::FoundFacts;
use crate::limits::FOUND_BLOCKS_OPEN_MAX;
use crate::tx_cache::TxCache;

const NODE: &str = "main";

/// A store that refuses what it is told to refuse.
struct Moody {
    store: SqliteStore,
    /// Ended: it takes nothing.
    ended: SqliteStore,
    takes_nothing: AtomicBool,
    /// Batches that it did not take.
    refused: AtomicUsize,
    /// No room at all: what is to be committed waits until this is gone, and is lost then.
    full: Mutex<Option<FullQueue>>,
    unreadable: AtomicBool,
    looks: AtomicUsize,
}

/// Both ends of a queue that nobody reads.
type FullQueue = (mpsc::Sender<store::Request>, mpsc::Receiver<store::Request>);

impl Moody {
    fn looks(&self) -> usize {
        self.looks.load(Ordering::SeqCst)
    }

    fn told(&self, kind: EventKind) -> usize {
        let page = self.store.events_after(Cursor::START, &EventFilter::default(), 1_000).unwrap();
        page.events.iter().filter(|event| event.event == kind).count()
    }
}

impl Store for Moody {
    fn commit(&self, batch: Batch) -> Commit {
        if self.takes_nothing.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return self.ended.commit(batch);
        }
        if let Some((queue, _)) = &*lock(&self.full) {
            return Commit::send(queue, batch);
        }
        self.store.commit(batch)
    }
    fn block(&self, block_hash: &str) -> Result<Option<BlockSummary>, ReadError> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        if self.unreadable.load(Ordering::SeqCst) {
            return Err(ReadError::Busy { readers: 4 });
        }
        self.store.block(block_hash)
    }
    fn try_commit(&self, batch: Batch) -> Result<Commit, Full> {
        match &*lock(&self.full) {
            Some(_) => Err(Full(batch)),
            None => self.store.try_commit(batch),
        }
    }
    fn chain_ends(&self) -> Result<store::chain::ChainEnds, ReadError> {
        self.store.chain_ends()
    }
    fn event_heads(&self, page: PageRequest) -> Result<Page<store::chain::SignedHead>, ReadError> {
        self.store.event_heads(page)
    }
    fn finish(&self) -> usize {
        self.store.finish()
    }
    fn status(&self) -> Status {
        self.store.status()
    }
    fn metrics(&self) -> store::Metrics {
        self.store.metrics()
    }
    fn epoch(&self) -> StreamEpoch {
        self.store.epoch()
    }
    fn watch(&self) -> watch::Receiver<u64> {
        self.store.watch()
    }
    fn events_after(
        &self,
        cursor: Cursor,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<EventPage, ReadError> {
        self.store.events_after(cursor, filter, limit)
    }
    fn templates(
        &self,
        filter: &TemplateFilter,
        page: PageRequest,
    ) -> Result<Page<TemplateSummary>, ReadError> {
        self.store.templates(filter, page)
    }
    fn template_summary(&self, which: TemplateRef) -> Result<Option<TemplateSummary>, ReadError> {
        self.store.template_summary(which)
    }
    fn template(&self, which: TemplateRef) -> Result<Option<TemplateDetail>, ReadError> {
        self.store.template(which)
    }
    fn template_transactions(&self, which: TemplateRef) -> Result<Option<Vec<Vec<u8>>>, ReadError> {
        self.store.template_transactions(which)
    }
    fn spent_tokens(&self, page: PageRequest) -> Result<Page<SpentToken>, ReadError> {
        self.store.spent_tokens(page)
    }
    fn blocks(&self, page: PageRequest) -> Result<Page<BlockSummary>, ReadError> {
        self.store.blocks(page)
    }
    fn shares_summary(&self, query: &SharesQuery) -> Result<Vec<Aggregate>, ReadError> {
        self.store.shares_summary(query)
    }
    fn accepted_shares(&self, heights: u32, max: usize) -> Result<Vec<String>, ReadError> {
        self.store.accepted_shares(heights, max)
    }
    fn accounting_after(
        &self,
        cursor: store::AccountingCursor,
        limit: usize,
    ) -> Result<store::AccountingPage, ReadError> {
        self.store.accounting_after(cursor, limit)
    }

    fn miner(&self, user: &str) -> Result<Option<MinerSummary>, ReadError> {
        self.store.miner(user)
    }
    fn miners(&self, after: Option<&str>, limit: usize) -> Result<store::MinersPage, ReadError> {
        self.store.miners(after, limit)
    }
    fn webhooks(&self) -> Result<Vec<Webhook>, ReadError> {
        self.store.webhooks()
    }
    fn sizes(&self) -> Result<Sizes, ReadError> {
        self.store.sizes()
    }
    fn recover(&self, query: &RecoverQuery) -> Result<Recovered, ReadError> {
        self.store.recover(query)
    }
}

struct World {
    dir: TempDir,
    store: Arc<Moody>,
    submitter: Arc<Submitter>,
    _tasks: JoinSet<()>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let open = |name| {
            let folder = dir.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            SqliteStore::open(store::Settings::new(folder)).unwrap()
        };
        let ended = open("ended");
        ended.finish();
        let store = Arc::new(Moody {
            store: open("store"),
            ended,
            takes_nothing: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
            full: Mutex::default(),
            unreadable: AtomicBool::new(false),
            looks: AtomicUsize::new(0),
        });
        let settings = NodeSettings {
            name: NODE.to_owned(),
            // Nobody is there.
            rpc_url: "http://127.0.0.1:1".to_owned(),
            auth: Auth::UserPass { user: "u".to_owned(), password: "p".to_owned() },
            network: Network::Regtest,
        };
        let node = tdp_client::Node::spawn(settings, Arc::new(|_| None)).unwrap();
        let mut tasks = JoinSet::new();
        let nodes =
            Nodes::follow(vec![node], Vec::new(), Arc::new(TxCache::new(1_000)), &mut tasks);
        let journal = Journal::new(Some(Arc::clone(&store) as Arc<dyn Store>), &mut tasks);
        let follower = Follower::new(Arc::clone(&nodes), Arc::clone(&journal));
        let metrics = api::Metrics::new();
        let submitter = Submitter::new(nodes, dir.path(), journal, follower, metrics);
        Self { dir, store, submitter, _tasks: tasks }
    }

    fn file(&self) -> PathBuf {
        FoundFiles::open(self.dir.path()).path(&new_block().block.hash)
    }

    fn leave_file(&self) {
        self.leave_file_of("alice");
    }

    fn leave_file_of(&self, user: &str) {
        let NewBlock { block, height, .. } = new_block();
        let hex = block.hex();
        let facts = FoundFacts {
            hash: block.hash,
            height,
            user: user.to_owned(),
            template_hash: String::new(),
            found_at_unix_ms: clock::unix_us() / 1_000,
            digits: hex.len(),
        };
        FoundFiles::open(self.dir.path()).keep(&facts, &hex).unwrap();
    }
}

fn new_block() -> NewBlock {
    let block = genesis_block(Network::Regtest);
    let coinbase: &Transaction = &block.txdata[0];
    NewBlock {
        user: "alice".into(),
        height: 1,
        template_source: TemplateSource::Miner,
        template_hash: None,
        reward_sat: 50,
        block: Arc::new(FoundBlock {
            hash: block.block_hash(),
            header: block.header,
            tx_count: 1,
            coinbase_txid: coinbase.compute_txid(),
            raw: serialize(&block),
        }),
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_stays_while_nobody_can_say_whether_the_store_has_the_block() {
    let world = World::new();
    let (store, hash) = (&world.store, new_block().block.hash.to_string());
    store.takes_nothing.store(true, Ordering::SeqCst);
    store.unreadable.store(true, Ordering::SeqCst);
    assert!(world.submitter.submit(new_block(), Instant::now()));
    until("the file", || world.file().is_file()).await;
    // What came to nothing is looked at once the node has answered, which it never does.
    let open = lock(&world.submitter.open)[0].hash;
    assert_eq!(open.to_string(), hash);
    let recorder = record::Recorder::new(
        Arc::clone(&world.submitter),
        Arc::clone(&lock(&world.submitter.open)[0]),
        Steps::new(),
        mpsc::channel(1).1,
        0,
    );
    let again =
        tokio::spawn(
            async move { recorder.record_again(new_block(), Duration::from_millis(20)).await },
        );
    until("a second look", || store.looks() >= 2).await;
    assert!(world.file().is_file(), "it is all there is of the block");
    assert!(!again.is_finished());
    store.takes_nothing.store(false, Ordering::SeqCst);
    store.unreadable.store(false, Ordering::SeqCst);
    until("the store to have it", || store.store.block(&hash).unwrap().is_some()).await;
    until("the file to go", || !world.file().exists()).await;
    assert_eq!(store.told(EventKind::BlockFound), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_of_a_file_is_told_once_though_its_row_can_not_be_read_at_first() {
    let world = World::new();
    let store = &world.store;
    let journal = Arc::clone(&world.submitter.journal);
    journal.found(new_block(), 1, vec![NODE.to_owned()]).await;
    assert_eq!(store.told(EventKind::BlockFound), 1);
    world.leave_file();
    store.unreadable.store(true, Ordering::SeqCst);
    world.submitter.resume(Vec::new());
    until("two looks", || store.looks() >= 2).await;
    assert!(world.submitter.knows(&new_block().block.hash), "it is on its way all the same");
    store.unreadable.store(false, Ordering::SeqCst);
    until("the block to be followed", || world.submitter.follower.count() == 1).await;
    assert_eq!(store.told(EventKind::BlockFound), 1);
    assert!(world.file().is_file(), "no node has it yet");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_of_a_file_that_the_store_never_had_is_recorded_when_it_can_be_read() {
    let world = World::new();
    world.leave_file();
    world.store.unreadable.store(true, Ordering::SeqCst);
    world.submitter.resume(Vec::new());
    until("two looks", || world.store.looks() >= 2).await;
    assert_eq!(world.store.told(EventKind::BlockFound), 0);
    world.store.unreadable.store(false, Ordering::SeqCst);
    until("the event", || world.store.told(EventKind::BlockFound) == 1).await;
    until("the file to go", || !world.file().exists()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_that_every_node_has_judged_are_followed_without_their_bytes() {
    let world = World::new();
    let count = FOUND_BLOCKS_OPEN_MAX + 10;
    let judged = |number: usize| {
        let NewBlock { block, .. } = new_block();
        let mut block = FoundBlock::clone(&block);
        block.header.nonce += 1 + number as u32;
        block.hash = block.header.block_hash();
        recovered(block, SubmissionState::Accepted)
    };
    let mut blocks: Vec<_> = (0..count).map(judged).collect();
    // After all those, one that has to be submitted still.
    let open = recovered(FoundBlock::clone(&new_block().block), SubmissionState::Unknown);
    let hash = open.block_hash;
    blocks.push(open);
    world.submitter.resume(blocks);
    until("all to be followed", || world.submitter.follower.count() == count + 1).await;
    let held: Vec<_> = lock(&world.submitter.open).iter().map(|open| open.hash).collect();
    assert_eq!(held, [hash]);
}

/// The same block as [`new_block`], whole, from a client that nobody knows.
fn of_nobody() -> NewBlock {
    NewBlock {
        user: "template-distribution".into(),
        template_source: TemplateSource::Pool,
        ..new_block()
    }
}

fn announced() -> NewBlock {
    let new = new_block();
    let block = FoundBlock { raw: Vec::new(), tx_count: 0, ..FoundBlock::clone(&new.block) };
    NewBlock { block: Arc::new(block), ..new }
}

/// What a start finds of [`new_block`].
fn left(store: &Moody) -> Option<RecoveredBlock> {
    let query = RecoverQuery::ALL;
    store.recover(&query).unwrap().blocks.pop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_announced_block_is_submitted_when_its_bytes_come_in_the_name_of_its_miner() {
    let world = World::new();
    let store = &world.store;
    assert!(world.submitter.announce(announced(), None));
    assert!(!world.submitter.announce(announced(), None), "told once");
    assert!(!world.submitter.knows(&new_block().block.hash), "nobody has it yet");
    assert!(world.submitter.submit(of_nobody(), Instant::now()));
    assert!(!world.submitter.submit(of_nobody(), Instant::now()), "submitted once");
    assert!(!world.submitter.announce(announced(), None), "it is on its way");
    until("its bytes in the store", || left(store).is_some_and(|it| !it.block.raw.is_empty()))
        .await;
    until("what was announced", || *world.submitter.keeping.borrow() == 0).await;
    let row = left(store).unwrap();
    assert_eq!(row.block, *new_block().block);
    assert_eq!(row.summary.user, "alice");
    assert_eq!(row.summary.template_source, TemplateSource::Miner);
    assert_eq!(row.summary.submissions.len(), 1, "it is sent to the node");
    assert_eq!(store.told(EventKind::BlockFound), 1);
    // After SIGKILL there is a row with the bytes, and that is enough.
    let next = World::new();
    next.submitter.resume(vec![row]);
    until("the block to be on its way", || lock(&next.submitter.open).len() == 1).await;
    assert!(next.submitter.knows(&new_block().block.hash));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_was_announced_before_a_restart_is_submitted_when_its_bytes_come() {
    let before = World::new();
    assert!(before.submitter.announce(announced(), None));
    until("the row", || left(&before.store).is_some()).await;
    let row = left(&before.store).unwrap();
    assert!(row.block.raw.is_empty());
    let world = World::new();
    world.submitter.journal.found(announced(), 1, Vec::new()).await;
    world.submitter.resume(vec![row]);
    assert!(!world.submitter.announce(announced(), None), "told before");
    assert!(world.submitter.submit(of_nobody(), Instant::now()));
    until("its bytes in the store", || {
        left(&world.store).is_some_and(|it| !it.block.raw.is_empty() && it.summary.user == "alice")
    })
    .await;
    assert_eq!(world.store.told(EventKind::BlockFound), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_share_of_a_block_that_is_on_its_way_announces_nothing() {
    let world = World::new();
    assert!(world.submitter.submit(of_nobody(), Instant::now()));
    assert!(!world.submitter.announce(announced(), None));
    until("the row", || left(&world.store).is_some()).await;
    assert_eq!(left(&world.store).unwrap().block, *new_block().block);
    assert_eq!(world.store.told(EventKind::BlockFound), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_of_an_announced_block_whose_end_is_known_tell_nothing_again() {
    let world = World::new();
    let hash = new_block().block.hash;
    assert!(world.submitter.announce(announced(), None));
    until("it to be followed", || world.submitter.follower.count() == 1).await;
    world.submitter.follower.forget(&hash);
    world.submitter.journal.progress(hash, BlockState::Confirmed, 100).await;
    assert!(world.submitter.submit(of_nobody(), Instant::now()));
    until("a look at its row", || world.store.looks() >= 1).await;
    until("the end of it", || *world.submitter.keeping.borrow() == 0).await;
    assert_eq!(world.submitter.follower.count(), 0);
    assert_eq!(world.store.told(EventKind::BlockFound), 1);
}

fn recovered(block: FoundBlock, state: SubmissionState) -> RecoveredBlock {
    let submission = NodeSubmission {
        node: NODE.to_owned(),
        state,
        detail: None,
        attempts: 1,
        latency_ms: None,
        updated_at: 1,
    };
    let summary = BlockSummary {
        id: 1,
        block_hash: block.hash.to_string(),
        height: 1,
        user: "alice".to_owned(),
        found_at: 1,
        template_source: TemplateSource::Miner,
        miner_template_hash: None,
        tx_count: 1,
        reward_sat: 50,
        state: BlockState::Found,
        confirmations: 0,
        acknowledged_volatile: false,
        submissions: vec![submission],
    };
    RecoveredBlock { block_hash: block.hash, summary, block }
}
