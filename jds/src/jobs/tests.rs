//! Whose job goes when a bound is met, and what is never lost to somebody else.

use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut,
    Txid, Witness, absolute::LockTime, transaction::Version,
};
use validation::coinbase::CoinbaseParts;
use validation::job::{Fees, JobParts};
use validation::tip::{ChainTip, NextBits};
use validation::tx::NodeFacts;

use super::*;
use crate::limits::{
    JOB_BYTES_PER_CONNECTION_MAX, JOB_DEPTH_KEPT_BLOCKS, JOBS_PER_CONNECTION_MAX,
    READY_BODIES_BYTES_MAX, READY_BODIES_MAX, SOLUTION_JOBS_MAX,
};

pub(crate) const HEIGHT: u8 = 200;

/// A transaction of about `bytes` bytes that nobody else has.
pub(crate) fn tx(bytes: usize) -> Arc<Tx> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut txid = [7; 32];
    txid[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    let tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array(txid), 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[vec![1; bytes]]),
        }],
        output: vec![TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::new() }],
    };
    Arc::new(Tx::parse(&bitcoin::consensus::serialize(&tx)).unwrap())
}

/// Halves of a coinbase that pays a subsidy of regtest to OP_TRUE, with 8 bytes of extranonce.
pub(crate) fn coinbase(height: u8) -> (Vec<u8>, Vec<u8>) {
    let mut prefix = vec![2, 0, 0, 0, 1];
    prefix.extend_from_slice(&[0; 32]);
    prefix.extend_from_slice(&[0xff; 4]);
    // Two bytes of number, because the highest bit of one would be the sign.
    prefix.extend_from_slice(&[3 + 8, 2, height, 0]);
    let mut suffix = vec![0xff; 4];
    suffix.push(1);
    suffix.extend_from_slice(&(25 * 100_000_000u64).to_le_bytes());
    suffix.extend_from_slice(&[1, 0x51, 0, 0, 0, 0]);
    (prefix, suffix)
}

/// The tip that a job of this height builds on.
pub(crate) fn tip_below(height: u8) -> ChainTip {
    ChainTip {
        hash: BlockHash::all_zeros(),
        height: u32::from(height) - 1,
        time: 1,
        median_time_past: 1,
        next_bits: NextBits::fixed(CompactTarget::from_consensus(0x207f_ffff)),
    }
}

pub(crate) fn accepted(height: u8, txs: &[Arc<Tx>]) -> AcceptedJob {
    let (prefix, suffix) = coinbase(height);
    AcceptedJob::restore(JobParts {
        template_hash: TemplateHash::from_bytes([1; 32]),
        version: 0x2000_0000,
        coinbase: CoinbaseParts::parse(&prefix, &suffix).unwrap(),
        txs: txs.to_vec(),
        tip: tip_below(height),
        weight_wu: 1_000,
        sigop_cost_min: 0,
        fees: Fees { total_sat: None, known_sat: 0 },
        pool_payout_sat: 0,
        miner_payout_sat: 0,
        claimable_sat: 0,
    })
}

/// One connection of one user.
struct Miner {
    jobs: Arc<Jobs>,
    user: Arc<User>,
    declarer: Declarer,
}

impl Miner {
    fn new(jobs: &Arc<Jobs>, name: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            jobs: Arc::clone(jobs),
            user: Arc::new(User::new(name.as_bytes())),
            declarer: Declarer::new(NEXT.fetch_add(1, Ordering::Relaxed), "peer"),
        }
    }

    fn create(&self, txs: &[Arc<Tx>]) -> Arc<Job> {
        self.jobs.create(Arc::clone(&self.user), &self.declarer, accepted(HEIGHT, txs))
    }

    fn keep(&self, txs: &[Arc<Tx>]) -> Arc<Job> {
        let job = self.create(txs);
        self.jobs.keep(&job);
        job
    }

    /// Keeps so many jobs of one transaction of so many bytes each; their numbers, newest first.
    fn keep_some(&self, count: usize, bytes: usize) -> Vec<u64> {
        let mut numbers: Vec<u64> = (0..count).map(|_| self.keep(&[tx(bytes)]).number).collect();
        numbers.reverse();
        numbers
    }

    fn candidates(&self) -> Vec<u64> {
        let tags = std::iter::once(&self.user.tag);
        numbers(&self.jobs.candidates(&self.declarer, tags, SOLUTION_JOBS_MAX))
    }
}

fn numbers(jobs: &[Arc<Job>]) -> Vec<u64> {
    jobs.iter().map(|job| job.number).collect()
}

#[test]
fn the_bytes_of_one_connection_are_bounded_and_the_newest_job_stays() {
    let jobs = Arc::new(Jobs::default());
    let miner = Miner::new(&jobs, "alice");
    let most = JOB_BYTES_PER_CONNECTION_MAX / 3_000_000;
    let kept: Vec<u64> = (0..most * 2).map(|_| miner.keep(&[tx(3_000_000)]).number).collect();
    let held = miner.candidates();
    assert!(held.len() <= most, "{} jobs", held.len());
    assert_eq!(held.first(), kept.last(), "newest first");
    assert!(jobs.own_bytes() <= JOB_BYTES_PER_CONNECTION_MAX);
}

#[test]
fn the_count_of_one_connection_is_bounded() {
    let jobs = Arc::new(Jobs::default());
    let miner = Miner::new(&jobs, "alice");
    let kept: Vec<u64> = (0..JOBS_PER_CONNECTION_MAX + 3).map(|_| miner.keep(&[]).number).collect();
    let held = miner.candidates();
    assert_eq!(held.len(), JOBS_PER_CONNECTION_MAX);
    assert!(held.iter().eq(kept.iter().rev().take(JOBS_PER_CONNECTION_MAX)), "the oldest went");
    assert_eq!(jobs.count(), JOBS_PER_CONNECTION_MAX);
}

#[test]
fn a_flood_of_made_up_transactions_costs_the_honest_nothing() {
    let jobs = Arc::new(Jobs::default());
    let honest = Miner::new(&jobs, "alice");
    let gone = Miner::new(&jobs, "bob");
    let kept = honest.keep_some(5, 100_000);
    let left_behind = gone.keep_some(5, 100_000);
    let Miner { user, declarer, .. } = gone;
    drop(declarer);
    // Few connections that stay, and one after the other that goes at once.
    let stay: Vec<Miner> = (0..20).map(|n| Miner::new(&jobs, &format!("stay{n}"))).collect();
    for n in 0..150 {
        stay[n % stay.len()].keep(&[tx(3_900_000)]);
        Miner::new(&jobs, &format!("go{n}")).keep(&[tx(3_900_000)]);
        assert!(jobs.own_bytes() <= JOB_BYTES_TOTAL_MAX, "{} bytes", jobs.own_bytes());
    }
    assert_eq!(honest.candidates(), kept);
    assert_eq!(numbers(&jobs.of_user(&user.tag)), left_behind, "found by who comes again");
}

#[test]
fn a_flood_of_connections_with_a_job_each_costs_the_living_nothing() {
    let jobs = Arc::new(Jobs::default());
    let honest = Miner::new(&jobs, "alice");
    let kept = honest.keep_some(5, 100);
    for n in 0..JOBS_TOTAL_MAX + 100 {
        Miner::new(&jobs, &format!("go{n}")).keep(&[]);
    }
    assert_eq!(jobs.count(), JOBS_TOTAL_MAX);
    assert_eq!(honest.candidates(), kept);
}

#[test]
fn shared_transactions_are_counted_once_and_as_long_as_anybody_holds_them() {
    let jobs = Arc::new(Jobs::default());
    let (alice, bob) = (Miner::new(&jobs, "alice"), Miner::new(&jobs, "bob"));
    let shared = tx(1_000_000);
    alice.keep(&[Arc::clone(&shared)]);
    let one = jobs.own_bytes();
    assert!(one > 1_000_000);
    bob.keep(&[Arc::clone(&shared)]);
    assert!(jobs.own_bytes() < one + 10_000, "the second holder adds no transaction");
    for _ in 0..JOBS_PER_CONNECTION_MAX {
        alice.keep(&[]);
    }
    assert!(jobs.own_bytes() > 1_000_000, "bob holds it still");
    jobs.prune(u32::from(HEIGHT) + 10);
    assert_eq!((jobs.count(), jobs.own_bytes()), (0, 0));
    assert_eq!(Arc::strong_count(&shared), 1, "nobody holds it");
}

#[test]
fn what_our_node_vouches_for_is_not_counted() {
    let jobs = Arc::new(Jobs::default());
    let known = tx(1_000_000);
    known.learn(NodeFacts { fee_sat: 1, sigop_cost: 1 });
    assert!(Miner::new(&jobs, "alice").keep(&[known]).own_bytes() < 10_000);
}

#[test]
fn the_registry_is_the_only_owner() {
    let jobs = Arc::new(Jobs::default());
    let miner = Miner::new(&jobs, "alice");
    let job = Arc::downgrade(&miner.keep(&[]));
    assert_eq!(job.strong_count(), 1);
    jobs.prune(u32::from(HEIGHT) + 10);
    assert_eq!(job.strong_count(), 0);
    assert!(miner.candidates().is_empty());
}

#[test]
fn jobs_of_other_connections_come_after_the_own_and_the_newest_of_each_first() {
    let jobs = Arc::new(Jobs::default());
    let (old, spam, now) =
        (Miner::new(&jobs, "alice"), Miner::new(&jobs, "alice"), Miner::new(&jobs, "alice"));
    let of_old = [old.keep(&[]).number, old.keep(&[]).number];
    let of_spam: Vec<u64> = (0..60).map(|_| spam.keep(&[]).number).collect();
    let own = [now.keep(&[]).number, now.keep(&[]).number];
    Miner::new(&jobs, "bob").keep(&[]);
    drop(old);
    let found = now.candidates();
    assert_eq!(found[..4], [own[1], own[0], of_spam[59], of_old[1]]);
    assert_eq!(found.len(), 64);
    let tags = [now.user.tag];
    assert_eq!(jobs.candidates(&now.declarer, tags.iter(), 3).len(), 3, "as many as asked for");
}

#[test]
fn of_withdrawn_jobs_a_connection_keeps_the_newest() {
    let jobs = Arc::new(Jobs::default());
    let miner = Miner::new(&jobs, "alice");
    let kept: Vec<Arc<Job>> = (0..4).map(|_| miner.keep(&[])).collect();
    for n in [0, 2, 1] {
        kept[n].withdraw("bad-txns".into());
    }
    assert_eq!(miner.candidates(), numbers(&[Arc::clone(&kept[3]), Arc::clone(&kept[2])]));
    assert_eq!(jobs.count(), 2);
    // The check of a job may be over before the job is kept.
    let quick = miner.create(&[]);
    quick.withdraw("bad-txns".into());
    jobs.keep(&quick);
    assert_eq!(miner.candidates(), [quick.number, kept[3].number]);
}

#[test]
fn whoever_mines_on_jobs_is_told_where_one_ends() {
    let jobs = Arc::new(Jobs::default());
    let miner = Miner::new(&jobs, "alice");
    let mut ends = jobs.watch_ends();
    let mut told = || {
        let told = ends.has_changed().unwrap();
        ends.mark_unchanged();
        told
    };
    let oldest = miner.keep(&[]);
    assert!(!told() && oldest.ended().is_none());
    let kept: Vec<Arc<Job>> = (1..JOBS_PER_CONNECTION_MAX).map(|_| miner.keep(&[])).collect();
    assert!(!told());
    kept[0].withdraw("bad-txns".into());
    assert!(told());
    assert_eq!(kept[0].ended(), Some("bad-txns"));
    // One more than fits.
    miner.keep(&[]);
    assert!(told());
    assert_eq!(oldest.ended(), Some(LET_GO));
    jobs.prune(u32::from(HEIGHT) + 10);
    assert!(told());
    assert_eq!(kept[1].ended(), Some(LET_GO));
    assert_eq!(kept[0].ended(), Some("bad-txns"), "the reason stays");
}

#[tokio::test]
async fn every_job_gets_its_branch_and_the_newest_its_body() {
    let jobs = Arc::new(Jobs::default());
    let miner = Miner::new(&jobs, "alice");
    let (older, newest) = (miner.keep(&[tx(1_000)]), miner.keep(&[tx(1_000)]));
    for job in [&older, &newest] {
        jobs.make_ready(Arc::clone(job)).await;
    }
    let ready = |job: &Job| lock(&job.body).as_ref().map(|body| body.memory_bytes());
    assert!(ready(&newest).unwrap() > 1_000, "serialised");
    let branch = ready(&older).expect("a branch");
    assert!(branch < 1_000, "{branch} bytes: the branch alone");
}

#[tokio::test]
async fn a_job_that_waits_for_its_turn_is_not_held() {
    let jobs = Arc::new(Jobs::default());
    let job = Miner::new(&jobs, "alice").create(&[]);
    let turn = jobs.ready_turn.lock().await;
    let weak = Arc::downgrade(&job);
    let mut waiting = std::pin::pin!(jobs.make_ready(job));
    assert!(is_pending(waiting.as_mut()).await);
    assert_eq!(weak.strong_count(), 0, "who waits owns nothing");
    drop(turn);
    waiting.await;
}

/// Polls once; true when there is nothing yet.
async fn is_pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(future.as_mut().poll(context).is_pending())
    })
    .await
}

#[test]
fn the_list_of_ready_bodies_is_bounded_by_count() {
    let jobs = Arc::new(Jobs::default());
    let miner = Miner::new(&jobs, "alice");
    for _ in 0..READY_BODIES_MAX * 2 {
        jobs.make_ready_now(&miner.keep(&[]));
    }
    let listed = lock(&jobs.ready).len();
    assert!(listed <= READY_BODIES_MAX, "{listed} listed, {} jobs", jobs.count());

    let mut ready = ReadyBodies::default();
    let held: Vec<Arc<Job>> = (0..=READY_BODIES_MAX).map(|_| miner.create(&[])).collect();
    let shrunk: Vec<Arc<Job>> = held.iter().flat_map(|job| ready.push(job, 32)).collect();
    assert_eq!(numbers(&shrunk), [held[0].number], "the oldest makes room");
}

#[test]
fn the_bytes_of_ready_bodies_are_bounded() {
    let jobs = Arc::new(Jobs::default());
    let miner = Miner::new(&jobs, "alice");
    let mut ready = ReadyBodies::default();
    let mut held: Vec<Arc<Job>> = (0..5).map(|_| miner.create(&[])).collect();
    let third = READY_BODIES_BYTES_MAX / 3;
    for job in &held[..3] {
        assert!(ready.push(job, third).is_empty());
    }
    assert_eq!(numbers(&ready.push(&held[3], third)), [held[0].number], "the oldest makes room");
    // A job that is gone has taken its body along.
    held.remove(1);
    assert!(ready.push(&held[3], third).is_empty());
    let everything = ready.push(&held[0], READY_BODIES_BYTES_MAX + 1);
    assert_eq!(everything.len(), 4, "nor is one kept that is larger than all may be");
    assert_eq!(ready.len(), 0);
}

#[test]
fn a_job_is_kept_until_its_parent_is_too_deep() {
    let jobs = Arc::new(Jobs::default());
    let miner = Miner::new(&jobs, "alice");
    let kept = miner.keep(&[]).number;
    let parent = tip_below(HEIGHT).height;
    for tip in parent..=parent + JOB_DEPTH_KEPT_BLOCKS {
        jobs.prune(tip);
        assert_eq!(miner.candidates(), [kept], "its parent is {} below the tip", tip - parent);
    }
    jobs.prune(parent + JOB_DEPTH_KEPT_BLOCKS + 1);
    assert_eq!((miner.candidates().len(), jobs.count()), (0, 0));
}

/// However many jobs and connections a user has.
#[test]
fn a_solution_is_tried_on_so_many_jobs_and_the_newest_of_each_connection_first() {
    let jobs = Arc::new(Jobs::default());
    let miners: Vec<Miner> =
        (0..SOLUTION_JOBS_MAX * 2).map(|_| Miner::new(&jobs, "alice")).collect();
    let mut newest = Vec::new();
    for miner in &miners {
        miner.keep(&[]);
        newest.push(miner.keep(&[]).number);
    }
    let of_user = numbers(&jobs.of_user(&miners[0].user.tag));
    assert_eq!(of_user.len(), SOLUTION_JOBS_MAX);
    assert!(of_user.iter().all(|number| newest.contains(number)), "{of_user:?}");
    let found = miners[0].candidates();
    assert_eq!(found.len(), SOLUTION_JOBS_MAX);
    assert_eq!(found[0], newest[0], "the own come first");
    // Whoever they are of.
    let parent = tip_below(HEIGHT).hash;
    let others = numbers(&jobs.on_parent(&parent, 8, &of_user, SOLUTION_JOBS_MAX));
    assert_eq!(others.len(), SOLUTION_JOBS_MAX);
    assert!(others.iter().all(|number| !of_user.contains(number)));
}
