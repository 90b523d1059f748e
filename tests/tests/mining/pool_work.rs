//! On the pool's own templates, which need no job declaration.

use jds_tests::reference::mining_device;
use jds_tests::{PATIENCE, Setup, World};
use signet::wait;
use store::{Cursor, EventData, EventFilter, EventKind, ShareSubmitted, TemplateSource};

/// Blocks before the miner begins, so that the chain has left its initial download.
const BLOCKS_BEFORE: u32 = 20;

fn shares(world: &World) -> Vec<ShareSubmitted> {
    let filter = EventFilter::only(&[EventKind::ShareSubmitted]);
    let page = world.store().events_after(Cursor::START, &filter, 1_000).unwrap();
    page.events
        .iter()
        .filter_map(|event| match event.typed().unwrap() {
            EventData::ShareSubmitted(share) => Some(share),
            _ => None,
        })
        .collect()
}

/// The first slice: a device that needs no proxy, an extended or standard channel of its choice.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_a_device_on_the_pools_template_is_in_the_chain() {
    let world = Setup::new().mining("").start().await;
    world.node().mine(BLOCKS_BEFORE).unwrap();
    world.synced().await;
    let before = world.node().height().unwrap();
    let device = mining_device(world.mining(), &world.authority.to_string(), "alice.rig1");
    // Two: the second shows that a new tip reached the miner.
    for height in before + 1..=before + 2 {
        let what = format!("a block at height {height}");
        let hash = wait::until(&what, PATIENCE, || world.node().block_hash(height).ok())
            .unwrap_or_else(|error| panic!("{error}; {}", device.log_end()));
        let stored = wait::until("our server to know its block", PATIENCE, || {
            world.store().block(&hash.to_string()).unwrap()
        })
        .unwrap();
        assert_eq!((stored.user.as_str(), stored.template_source), ("alice", TemplateSource::Pool));
    }
    let share = wait::until("an accepted share in the log", PATIENCE, || {
        shares(&world).into_iter().find(|share| share.accepted)
    })
    .unwrap_or_else(|error| panic!("{error}; {}", device.log_end()));
    assert_eq!((share.user.as_str(), share.worker.as_str()), ("alice", "rig1"));
    assert_eq!(share.template_source, TemplateSource::Pool);
    assert_eq!(share.miner_template_hash, None);
}
