//! A time in which the store can not write, and what must be so before, meanwhile and after.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use jds::client::template::MinerTemplate;
use jds_tests::{Miner, PATIENCE, Work, World, accepted, kept, rejected};
use serde_json::json;
use signet::wait;
use store::{
    Event, EventData, EventKind, Status, Store, StoreRecovered, SubmissionState, TemplateSummary,
};

use crate::http::Api;

/// How long answers wait for the store before it goes on in memory.
const STALL: Duration = Duration::from_millis(1_000);
/// Declarations while it goes on in memory.
const DECLARATIONS: u32 = 20;
/// Who mines.
const USER: &str = "alice";

/// The table `store` for this.
pub(crate) fn store_settings() -> String {
    format!("stall_ms = {}", STALL.as_millis())
}

/// Trouble that a test makes, and ends.
pub(crate) struct Outage<Begin, End> {
    /// In what the store says of it.
    pub(crate) reason: &'static str,
    /// Whether files beside the database can be written meanwhile.
    pub(crate) keeps_files: bool,
    /// Makes it.
    pub(crate) begin: Begin,
    /// Ends it.
    pub(crate) end: End,
}

impl<Begin, End, Held> Outage<Begin, End>
where
    Begin: FnOnce() -> Held,
    End: FnOnce(Held),
{
    /// Declares and finds a block before, during and after.
    pub(crate) async fn mine_through(self, world: World) {
        let store = world.store();
        let mut miner = world.miner(USER).await;
        let template = miner.template(&world.work());
        accepted(&miner.declare(&template).await);
        let before = kept::events(&*store).len();

        let held = (self.begin)();
        let began = Instant::now();
        accepted(&miner.declare(&template).await);
        assert!(began.elapsed() >= STALL, "an answer within {:?}", began.elapsed());
        let Status::Stalled { reason, since } = store.status() else {
            panic!("{:?}", store.status())
        };
        assert!(reason.contains(self.reason), "{reason}");

        let api = Api::of(&world);
        told_by_the_api(api, self.reason);
        let spent = in_memory(&world, &mut miner, &template).await;
        assert!(kept::events(&*store).len() <= before + 3, "nothing was written meanwhile");
        let (found, file) = find_block(&world, &mut miner, &template, self.keeps_files).await;
        let work = world.work();
        let last = miner.template(&work);
        accepted(&miner.declare(&last).await);
        world.assert_still_serving().await;
        let volatile = store.metrics().volatile_batches as u64;
        assert!(volatile >= u64::from(DECLARATIONS) + 4, "{volatile} batches in memory");

        (self.end)(held);
        kept::wait_status(&*store, "the store to heal", |status| *status == Status::Healthy);
        api.wait("the server to be ready", "/readyz", |answer| answer.status == 200);
        assert_eq!(api.metric("jds_store_writes"), Some(1.0));
        let what = format!("{} to be gone", file.display());
        wait::until_true(&what, PATIENCE, || !file.exists()).unwrap();
        accepted(&miner.declare(&last).await);
        let events = kept::events(&*store);
        let recovered = recovered(&events);
        assert_eq!(recovered.stalled_since, since);
        assert!(recovered.reason.contains(self.reason), "{recovered:?}");
        assert!(recovered.acknowledged_volatile >= volatile, "{recovered:?}");
        assert_eq!(recovered.batches_kept, recovered.acknowledged_volatile, "{recovered:?}");
        assert_eq!(store.metrics().volatile_batches, 0);

        // One before, one that waited, those in memory, one on the new tip, one after.
        let during = DECLARATIONS as usize + 2;
        let templates = kept::templates(&*store, USER);
        let marks: Vec<_> = templates.iter().rev().map(marked).collect();
        assert_eq!(marks, [vec![false], vec![true; during], vec![false]].concat());
        // And the one of `assert_still_serving`.
        assert_eq!(kept::spent_tokens(&*store).len(), during + 3);
        assert_block_is_recorded(&*store, found);
        drop((miner, store));
        nothing_is_lost_by_a_restart(world, &spent, found, &work, &last).await;
    }
}

/// What the operator sees: the part that does not work and why, and a metric to raise an alarm by.
fn told_by_the_api(api: Api, reason: &str) {
    let answer = api.get("/readyz");
    assert_eq!(answer.status, 503, "{answer:?}");
    let readiness = answer.json();
    assert_eq!(readiness["not_ready"], json!(["store"]), "{readiness}");
    let parts = readiness["parts"].as_array().unwrap();
    let store = parts.iter().find(|part| part["name"] == "store").unwrap();
    assert!(store["detail"].as_str().unwrap().contains(reason), "{readiness}");
    assert_eq!(api.get("/healthz").status, 200);
    assert_eq!(api.metric("jds_store_writes"), Some(0.0));
    assert!(api.metric("jds_store_volatile_batches") >= Some(1.0));
    assert!(api.metric("jds_store_failures_total") >= Some(1.0));
    // Readers are not disturbed.
    assert_eq!(api.stream("0").next_event().unwrap()["id"], 1);
}

fn marked(template: &TemplateSummary) -> bool {
    template.acknowledged_volatile
}

/// Nobody waits for the disk any more. Gives a token that was used up.
async fn in_memory(world: &World, miner: &mut Miner, template: &MinerTemplate) -> Vec<u8> {
    let began = Instant::now();
    let mut token = Vec::new();
    for _ in 0..DECLARATIONS {
        token = miner.token().await.bytes;
        accepted(&miner.declare_with(&token, template).await);
    }
    let (took, limit) = (began.elapsed(), STALL * DECLARATIONS);
    assert!(took < limit, "{DECLARATIONS} answers took {took:?}, as if each had waited");
    let again = miner.declare_with(&token, template).await;
    rejected(&again, "invalid-mining-job-token", "token-spent");
    assert!(matches!(world.store().status(), Status::Stalled { .. }));
    token
}

/// A block that the node can be given only after a while. Gives the file that it is kept in as long,
/// where files can be written.
async fn find_block(
    world: &World,
    miner: &mut Miner,
    template: &MinerTemplate,
    keeps_files: bool,
) -> (BlockHash, PathBuf) {
    let node = world.node();
    let work = world.work();
    node.pause().unwrap();
    let hash = miner.solve_and_push(&work, template).await;
    // Taken in when this is answered.
    miner.token().await;
    let file = world.data_dir().join("found-blocks").join(hash.to_string());
    if keeps_files {
        let what = format!("{} to be there", file.display());
        wait::until_true(&what, PATIENCE, || file.exists()).unwrap();
    }
    node.resume().unwrap();
    Work::wait_mined(node, hash, PATIENCE);
    world.synced_to(hash).await;
    (hash, file)
}

/// What the store tells when it writes again: once, and of no loss.
#[track_caller]
fn recovered(events: &[Event]) -> StoreRecovered {
    let told = kept::payloads(events, EventKind::StoreRecovered);
    let [EventData::StoreRecovered(told)] = told.as_slice() else { panic!("{told:?}") };
    assert!(told.stalled_ms >= STALL.as_millis() as u64, "{told:?}");
    let lost = [
        told.batches_lost,
        told.events_lost,
        told.shares_lost,
        told.templates_lost,
        told.blocks_lost,
    ];
    assert_eq!(lost, [0; 5], "{told:?}");
    told.clone()
}

/// The block, what the node made of it, and the events of both.
#[track_caller]
fn assert_block_is_recorded(store: &dyn Store, hash: BlockHash) {
    assert!(kept::wait_block(store, hash).acknowledged_volatile);
    wait::until_true("the store to have the node's answer", PATIENCE, || {
        let block = kept::wait_block(store, hash);
        block.submissions.iter().all(|node| node.state == SubmissionState::Accepted)
    })
    .unwrap();
    let events = kept::events(store);
    for kind in [EventKind::BlockFound, EventKind::BlockSubmitted] {
        assert_eq!(kept::payloads(&events, kind).len(), 1, "{kind:?}");
    }
}

/// What was acknowledged in memory is in the database: the next run knows it.
async fn nothing_is_lost_by_a_restart(
    world: World,
    spent: &[u8],
    found: BlockHash,
    work: &Work,
    last: &MinerTemplate,
) {
    assert_eq!(work.prev_hash, found);
    let world = world.restart(|| {}).await;
    world.synced().await;
    let mut miner = world.miner(USER).await;
    let again = miner.declare_with(spent, last).await;
    rejected(&again, "invalid-mining-job-token", "token-spent");
    let hash = miner.solve_and_push(work, last).await;
    world.assert_mined(hash, &[]);
    kept::events(&*world.store());
}
