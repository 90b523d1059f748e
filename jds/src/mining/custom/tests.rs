//! Whose token is good where, for how long, and what becomes of it.

use bitcoin::consensus::serialize;
use bitcoin::{CompactTarget, ScriptBuf};
use store::{RecoverQuery, Settings, SqliteStore, Store};
use tokio::task::JoinSet;
use validation::receipt::ServerId;

use super::*;
use crate::counts::Counts;
use crate::jobs::tests::{HEIGHT, accepted, tip_below, tx};
use crate::jobs::{Declarer, Jobs};
use crate::limits::{CUSTOM_JOBS_WAITING_MAX, TOKEN_LIFETIME};
use crate::payout::PayoutTerms;
use crate::receipts::Receipts;
use crate::spent::SpentTokens;
use crate::token::TokenMint;
use crate::tx_cache::TxCache;

/// Connections of miners.
const HERE: u64 = 11;
const ELSEWHERE: u64 = 12;
const SERVER: ServerId = ServerId([3; 8]);
const EASY: u32 = 0x207f_ffff;

/// A server without sockets and nodes.
struct World {
    custom: CustomJobs,
    nodes: Arc<Nodes>,
    deps: Arc<SessionDeps>,
    receipts: Arc<Receipts>,
    jobs: Arc<Jobs>,
    dir: tempfile::TempDir,
    store: Arc<dyn Store>,
    _tasks: JoinSet<()>,
}

impl World {
    fn new(coinbase_only: bool, tip_grace: Duration) -> Self {
        Self::on(tempfile::tempdir().unwrap(), coinbase_only, tip_grace)
    }

    fn on(dir: tempfile::TempDir, coinbase_only: bool, tip_grace: Duration) -> Self {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(Settings::new(dir.path())).unwrap());
        let mut tasks = JoinSet::new();
        let (nodes, jobs) = (Nodes::none(), Arc::new(Jobs::default()));
        let script = ScriptBuf::from_bytes(vec![0x51]);
        let payout = config::Payout::Pool { script, min_share_bp: 10_000 };
        let receipts = Receipts::with_keys(&[7; 32], None, std::iter::empty(), SERVER).unwrap();
        let receipts = Arc::new(receipts);
        let deps = Arc::new(SessionDeps {
            mint: TokenMint::new(&[7; 32], TOKEN_LIFETIME).signing(Arc::clone(&receipts)),
            spent: SpentTokens::new(1_000, TOKEN_LIFETIME),
            payout: PayoutTerms::new(Network::Regtest, payout),
            jobs: Arc::clone(&jobs),
            full_template: true,
            coinbase_only,
        });
        let validator = Validator {
            nodes: Arc::clone(&nodes),
            cache: Arc::new(TxCache::new(1_000_000)),
            jobs: Arc::clone(&jobs),
            journal: Journal::new(Some(Arc::clone(&store)), &mut tasks),
            counts: Arc::new(Counts::default()),
            checker: None,
            receipts: Arc::clone(&receipts),
            tip_grace,
            cpu: Arc::new(Semaphore::new(2)),
        };
        let custom = CustomJobs::new(&validator, &deps, Network::Regtest);
        nodes.set_tip(tip_below(HEIGHT));
        Self { custom, nodes, deps, receipts, jobs, dir, store, _tasks: tasks }
    }

    /// Starts again over the same store.
    fn restarted(self) -> Self {
        let Self { store, dir, deps, .. } = self;
        assert_eq!(store.finish(), 0);
        drop(store);
        let world = Self::on(dir, deps.coinbase_only, Duration::ZERO);
        let query = RecoverQuery {
            now_ms: clock::unix_us() / 1_000,
            min_height: 0,
            templates_max: 10,
            user_templates_max: 10,
            spent_tokens_max: 10,
        };
        let recovered = world.store.recover(&query).unwrap();
        world.deps.spent.restore(recovered.spent_floor, recovered.spent_tokens.into_iter());
        world
    }

    /// A job of that user, and its token.
    fn declared(&self, user: &str) -> (Arc<Job>, Vec<u8>) {
        let declarer = Declarer::new(1, "peer");
        let accepted = accepted(HEIGHT, &[tx(10), tx(20)]);
        let user = Arc::new(User::new(user.as_bytes()));
        let token = self.receipts.accept(&accepted, user.tag);
        let job = self.jobs.create(Arc::clone(&user), &declarer, accepted);
        self.jobs.keep(&job);
        (job, token)
    }

    fn allocated(&self, user: &str) -> Vec<u8> {
        self.deps.mint.allocate(User::new(user.as_bytes()).tag, clock::unix_us()).1
    }

    async fn check(
        &self,
        connection: u64,
        request: CustomJobRequest,
    ) -> Result<Arc<CustomJob>, &'static str> {
        match self.custom.check(connection, request).await {
            CustomJobVerdict::Accepted(job) => Ok(job),
            CustomJobVerdict::Refused { error_code, detail } => {
                assert!(!detail.is_empty());
                Err(error_code)
            }
        }
    }
}

/// What a client of "alice" sends for a job of these tests.
fn request(token: &[u8]) -> CustomJobRequest {
    let job = accepted(HEIGHT, &[tx(10), tx(20)]);
    let coinbase = job.coinbase();
    CustomJobRequest {
        user_identity: "alice".into(),
        channel_ok: true,
        extranonce_len: 8,
        job: SetCustomMiningJobOwned {
            channel_id: 1,
            request_id: 2,
            token: token.try_into().unwrap(),
            version: job.version(),
            prev_hash: tip_below(HEIGHT).hash.to_byte_array().into(),
            min_ntime: now_s(),
            nbits: EASY,
            coinbase_tx_version: coinbase.tx_version() as u32,
            coinbase_prefix: coinbase.script_sig_prefix().try_into().unwrap(),
            coinbase_tx_input_n_sequence: coinbase.sequence().0,
            coinbase_tx_outputs: coinbase.counted_outputs_bytes().try_into().unwrap(),
            coinbase_tx_locktime: 0,
            merkle_path: binary_sv2::Seq0255Owned::new(Vec::new()).unwrap(),
        },
    }
}

/// The same for a declared job.
fn request_of(job: &Job, token: &[u8]) -> CustomJobRequest {
    let mut request = request(token);
    let path = job.body().merkle_branch().iter().map(|hash| (*hash).into()).collect();
    request.job.merkle_path = binary_sv2::Seq0255Owned::new(path).unwrap();
    request
}

/// Longer than any test may take: who waits this long is stuck.
const FOR_EVER: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_declared_job_is_set_with_its_own_bytes_and_makes_its_block() {
    let world = World::new(false, FOR_EVER);
    let (job, token) = world.declared("alice");
    let custom = world.check(HERE, request_of(&job, &token)).await.unwrap();
    let coinbase = job.accepted.coinbase();
    assert_eq!(&*custom.coinbase_prefix, coinbase.prefix());
    assert_eq!(&*custom.coinbase_suffix, coinbase.suffix());
    assert_eq!((custom.extranonce_len, custom.tip), (8, tip_below(HEIGHT)));
    let declared = custom.declared.as_ref().unwrap();
    assert_eq!((declared.tx_count, declared.reward_sat), (3, 2_500_000_000));
    let extranonce = [9; 8];
    let mut bytes = Vec::new();
    coinbase.write_with(&extranonce, &mut bytes);
    let txid = coinbase.txid_with(&extranonce);
    let header = bitcoin::block::Header {
        version: bitcoin::block::Version::TWO,
        prev_blockhash: custom.tip.hash,
        merkle_root: job.body().merkle_root(txid),
        time: custom.min_ntime,
        bits: CompactTarget::from_consensus(EASY),
        nonce: 1,
    };
    let found = declared.source.block(&header, &bytes).unwrap();
    let block: bitcoin::Block = bitcoin::consensus::deserialize(&found.raw).unwrap();
    assert_eq!((found.hash, found.tx_count, found.coinbase_txid), (block.block_hash(), 3, txid));
    assert!(block.check_merkle_root());
    assert_eq!(serialize(&block.txdata[0]), bytes);
}

#[tokio::test]
async fn a_token_belongs_to_the_connection_that_first_used_it() {
    let world = World::new(false, FOR_EVER);
    let (job, token) = world.declared("alice");
    for _ in 0..3 {
        world.check(HERE, request_of(&job, &token)).await.unwrap();
    }
    assert_eq!(world.check(ELSEWHERE, request_of(&job, &token)).await.err(), Some(INVALID_TOKEN));
    let mut replayed = request_of(&job, &token);
    (replayed.channel_ok, replayed.user_identity) = (false, String::new());
    assert_eq!(
        world.check(ELSEWHERE, replayed).await.err(),
        Some(INVALID_TOKEN),
        "the token comes before the channel"
    );
}

#[tokio::test]
async fn a_job_that_is_refused_binds_its_token_too_and_a_wrong_channel_does_not() {
    let world = World::new(false, FOR_EVER);
    let (job, token) = world.declared("alice");
    let mut request = request_of(&job, &token);
    request.channel_ok = false;
    assert_eq!(world.check(ELSEWHERE, request).await.err(), Some(INVALID_CHANNEL_ID));
    let mut request = request_of(&job, &token);
    request.job.nbits += 1;
    assert_eq!(world.check(HERE, request).await.err(), Some("invalid-nbits"));
    assert_eq!(world.check(ELSEWHERE, request_of(&job, &token)).await.err(), Some(INVALID_TOKEN));
    world.check(HERE, request_of(&job, &token)).await.unwrap();
}

#[tokio::test]
async fn a_token_is_of_its_user_and_of_the_users_workers() {
    let world = World::new(false, FOR_EVER);
    let (job, token) = world.declared("alice");
    for (identity, good) in [("bob", false), ("alice2", false), ("", false), ("alice.rig", true)] {
        let mut request = request_of(&job, &token);
        request.user_identity = identity.into();
        let result = world.check(HERE, request).await;
        assert_eq!(result.err(), (!good).then_some(INVALID_TOKEN), "{identity:?}");
    }
}

#[tokio::test]
async fn a_token_that_a_worker_asked_for_is_of_its_user_and_an_earlier_one_of_that_identity() {
    let world = World::new(true, FOR_EVER);
    let (job, token) = world.declared("alice.rig1");
    // As a server gave them out, and stored the job, before users and workers were told apart.
    let whole = UserTag::of(b"alice.rig1");
    let earlier = User::restored("alice".into(), "rig1".into(), whole);
    let template = accepted(HEIGHT, &[tx(10), tx(20)]);
    let earlier_token = world.receipts.accept(&template, whole);
    let earlier_job = world.jobs.create(Arc::new(earlier), &Declarer::new(2, "peer"), template);
    world.jobs.keep(&earlier_job);
    let (_, earlier_allocated) = world.deps.mint.allocate(whole, clock::unix_us());
    for (identity, of_user, of_identity) in [
        ("alice.rig1", true, true),
        ("alice.rig2", true, false),
        ("alice.rig1.2", true, false),
        ("alice", true, false),
        ("alice2.rig1", false, false),
        ("rig1", false, false),
        (".rig1", false, false),
    ] {
        for (mut request, good) in [
            (request_of(&job, &token), of_user),
            (request_of(&earlier_job, &earlier_token), of_identity),
            (request(&earlier_allocated), of_identity),
        ] {
            request.user_identity = identity.into();
            let result = world.check(HERE, request).await;
            assert_eq!(result.err(), (!good).then_some(INVALID_TOKEN), "{identity:?}");
        }
    }
}

#[tokio::test]
async fn what_is_no_token_of_ours_is_refused_whatever_the_channel() {
    let world = World::new(true, FOR_EVER);
    let (_, good) = world.declared("alice");
    let other = TokenMint::new(&[8; 32], TOKEN_LIFETIME);
    let (_, foreign) = other.allocate(UserTag::of(b"alice"), clock::unix_us());
    let day_us = TOKEN_LIFETIME.as_micros() as u64;
    let earlier = TokenMint::new(&[7; 32], TOKEN_LIFETIME);
    let then_us = clock::unix_us() - day_us - 1_000_000;
    let (_, old) = earlier.allocate(UserTag::of(b"alice"), then_us);
    for token in [&[][..], &[1; 255], &good[1..], &foreign, &old] {
        for channel_ok in [true, false] {
            let mut request = request(token);
            request.channel_ok = channel_ok;
            assert_eq!(world.check(HERE, request).await.err(), Some(INVALID_TOKEN));
        }
    }
}

#[tokio::test]
async fn a_job_on_an_unknown_block_waits_for_our_node() {
    let world = Arc::new(World::new(false, FOR_EVER));
    let ahead = tip_below(HEIGHT);
    let behind = ChainTip { hash: BlockHash::hash(b"before"), height: ahead.height - 1, ..ahead };
    world.nodes.set_tip(behind);
    let (job, token) = world.declared("alice");
    let request = request_of(&job, &token);
    let waiting = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.check(HERE, request).await }
    });
    // It waits once it looks for the next tip.
    while world.nodes.followers() < 1 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    world.nodes.set_tip(ahead);
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn where_too_many_wait_a_job_is_stale_at_once() {
    let world = World::new(false, FOR_EVER);
    let (job, token) = world.declared("alice");
    // One of each connection.
    let others = 0..CUSTOM_JOBS_WAITING_MAX as u64;
    let taken: Vec<_> = others.map(|other| world.custom.waiting.take(100 + other)).collect();
    let mut early = request_of(&job, &token);
    early.job.prev_hash = [5; 32].into();
    let checked = tokio::time::timeout(FOR_EVER / 10, world.check(HERE, early)).await;
    assert_eq!(checked.expect("it waits for nothing").err(), Some(STALE_CHAIN_TIP));
    world.check(HERE, request_of(&job, &token)).await.expect("who does not wait needs no place");
    drop(taken);
}

#[tokio::test]
async fn who_has_most_places_loses_one_and_an_honest_connection_waits_in_it() {
    let world = Arc::new(World::new(false, FOR_EVER));
    let ahead = tip_below(HEIGHT);
    let behind = ChainTip { hash: BlockHash::hash(b"before"), height: ahead.height - 1, ..ahead };
    world.nodes.set_tip(behind);
    let check = |connection, request| {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.check(connection, request).await })
    };
    let (job, token) = world.declared("alice");
    let mut greedy = JoinSet::new();
    for _ in 0..2 {
        let check = check(ELSEWHERE, request_of(&job, &token));
        greedy.spawn(async move { check.await.unwrap() });
    }
    while world.custom.waiting.taken() < 2 {
        tokio::task::yield_now().await;
    }
    let others = 2..CUSTOM_JOBS_WAITING_MAX as u64;
    let _taken: Vec<_> = others.map(|other| world.custom.waiting.take(100 + other)).collect();
    let (job, token) = world.declared("alice");
    let honest = check(HERE, request_of(&job, &token));
    let displaced = tokio::time::timeout(FOR_EVER / 10, greedy.join_next()).await;
    let displaced = displaced.expect("one of two to be told").unwrap().unwrap();
    assert_eq!(displaced.err(), Some(STALE_CHAIN_TIP));
    world.nodes.set_tip(ahead);
    honest.await.unwrap().expect("it waited");
    greedy.join_next().await.unwrap().unwrap().expect("the other one waited as well");
}

#[tokio::test]
async fn a_block_that_does_not_come_makes_the_job_stale_after_the_grace() {
    let world = World::new(false, Duration::from_millis(20));
    let (job, token) = world.declared("alice");
    let mut request = request_of(&job, &token);
    request.job.prev_hash = [5; 32].into();
    assert_eq!(world.check(HERE, request).await.err(), Some(STALE_CHAIN_TIP));
}

#[tokio::test]
async fn a_job_on_an_old_block_is_stale_at_once() {
    let world = World::new(false, FOR_EVER);
    let (job, token) = world.declared("alice");
    let old = tip_below(HEIGHT);
    let next = ChainTip { hash: BlockHash::hash(b"next"), height: old.height + 1, ..old };
    world.nodes.set_tip(next);
    let request = request_of(&job, &token);
    let checked = tokio::time::timeout(FOR_EVER / 10, world.check(HERE, request)).await;
    assert_eq!(checked.expect("it waits for nothing").err(), Some(STALE_CHAIN_TIP));
}

#[tokio::test]
async fn a_withdrawn_job_is_refused_and_one_that_is_gone_is_stale() {
    let world = World::new(false, FOR_EVER);
    let (job, token) = world.declared("alice");
    let custom = world.check(HERE, request_of(&job, &token)).await.unwrap();
    let source = &custom.declared.as_ref().unwrap().source;
    assert_eq!(source.withdrawn(), None);
    job.withdraw("bad-txns".into());
    assert_eq!(world.check(HERE, request_of(&job, &token)).await.err(), Some(INVALID_TOKEN));
    assert_eq!(source.withdrawn().as_deref(), Some("bad-txns"));
    let request = request_of(&job, &token);
    drop(job);
    world.jobs.prune(u32::from(HEIGHT) + 10);
    assert_eq!(world.check(HERE, request).await.err(), Some(STALE_CHAIN_TIP));
    // What was let go of is dropped on another thread.
    let gone = async {
        while source.withdrawn().as_deref() == Some("bad-txns") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the job to be dropped");
    assert!(source.withdrawn().is_some_and(|why| why.contains("not kept")));
}

#[tokio::test]
async fn coinbase_only_mode_uses_a_token_up_on_one_connection() {
    let world = World::new(true, FOR_EVER);
    let token = world.allocated("alice");
    let custom = world.check(HERE, request(&token)).await.unwrap();
    assert!(custom.declared.is_none());
    assert_eq!(custom.coinbase_prefix, accepted(HEIGHT, &[]).coinbase().prefix().into());
    world.check(HERE, request(&token)).await.expect("again on the same connection");
    assert_eq!(world.check(ELSEWHERE, request(&token)).await.err(), Some(INVALID_TOKEN));
    let sequence = world.deps.mint.open(&token).unwrap().sequence;
    assert!(world.deps.spent.spend_own(sequence, clock::unix_us()).is_err(), "nobody declares it");
    let world = world.restarted();
    assert_eq!(world.check(HERE, request(&token)).await.err(), Some(INVALID_TOKEN));
}

#[tokio::test]
async fn a_token_of_a_living_connection_sets_a_job_however_old_it_is_and_only_once() {
    let world = World::new(true, FOR_EVER);
    let earlier = TokenMint::new(&[7; 32], TOKEN_LIFETIME);
    let then_us = clock::unix_us() - 30 * TOKEN_LIFETIME.as_micros() as u64;
    let (sequence, token) = earlier.allocate(UserTag::of(b"alice"), then_us);
    world.deps.spent.held().hold(sequence);
    world.check(HERE, request(&token)).await.unwrap();
    assert!(!world.deps.spent.held().holds(sequence), "nobody can declare with it");
    world.check(HERE, request(&token)).await.expect("again on the same connection");
}

#[tokio::test]
async fn a_token_that_declared_something_sets_no_job_in_coinbase_only_mode() {
    let world = World::new(true, FOR_EVER);
    let token = world.allocated("alice");
    let sequence = world.deps.mint.open(&token).unwrap().sequence;
    world.deps.spent.spend_own(sequence, clock::unix_us()).unwrap();
    assert_eq!(world.check(HERE, request(&token)).await.err(), Some(INVALID_TOKEN));
}

#[tokio::test]
async fn without_coinbase_only_mode_a_job_has_to_be_declared_first() {
    let world = World::new(false, FOR_EVER);
    let token = world.allocated("alice");
    assert_eq!(world.check(HERE, request(&token)).await.err(), Some(NOT_YET_VALIDATED));
    let sequence = world.deps.mint.open(&token).unwrap().sequence;
    world.deps.spent.spend_own(sequence, clock::unix_us()).expect("it can still be declared with");
}

#[tokio::test]
async fn two_at_once_use_a_token_up_once() {
    for _ in 0..20 {
        let world = Arc::new(World::new(true, FOR_EVER));
        let token = world.allocated("alice");
        let checks = [HERE, ELSEWHERE].map(|connection| {
            let (world, request) = (Arc::clone(&world), request(&token));
            tokio::spawn(async move { world.check(connection, request).await.is_ok() })
        });
        let mut accepted = 0;
        for check in checks {
            accepted += u32::from(check.await.unwrap());
        }
        assert_eq!(accepted, 1);
    }
}

/// The reference client sends one for each of its miners, all at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_of_one_connection_at_once_may_use_its_token() {
    for _ in 0..50 {
        let world = Arc::new(World::new(true, FOR_EVER));
        let token = world.allocated("alice");
        let checks: Vec<_> = (0..8)
            .map(|_| {
                let (world, request) = (Arc::clone(&world), request(&token));
                tokio::spawn(async move { world.check(HERE, request).await.err() })
            })
            .collect();
        for check in checks {
            assert_eq!(check.await.unwrap(), None);
        }
    }
}

#[tokio::test]
async fn a_restart_binds_the_token_of_an_accepted_job_anew() {
    let world = World::new(false, FOR_EVER);
    let (job, token) = world.declared("alice");
    world.check(HERE, request_of(&job, &token)).await.unwrap();
    let world = world.restarted();
    // As what is taken back from the store.
    let (job, _) = world.declared("alice");
    world.check(ELSEWHERE, request_of(&job, &token)).await.unwrap();
    assert_eq!(world.check(HERE, request_of(&job, &token)).await.err(), Some(INVALID_TOKEN));
}
