//! What a restart in order must not lose: every job, whoever declared how many on how many
//! connections. And that a start is told.
#![expect(clippy::unwrap_used, reason = "a test says what it expected")]

use jds_tests::{PATIENCE, World, accepted, kept};
use store::{Event, EventData, EventKind, STORE_VERSION};

/// Connections of one user, and jobs of each: less than one may hold, more in all.
const CONNECTIONS: usize = 3;
const JOBS_EACH: u32 = 50;

/// The starts that were told, once there are so many.
fn starts(world: &World, count: usize) -> Vec<Event> {
    signet::wait::until(&format!("start number {count} to be told"), PATIENCE, || {
        let events = kept::events(&*world.store()).into_iter();
        let starts: Vec<_> = events.filter(|one| one.event == EventKind::ServerStarted).collect();
        (starts.len() >= count).then_some(starts)
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_start_is_told_before_anything_else_of_it() {
    let world = World::start().await;
    let first = starts(&world, 1).remove(0);
    assert_eq!(first.id, 1, "before the nodes and the miners");
    let EventData::ServerStarted(told) = first.typed().unwrap() else { panic!("{first:?}") };
    assert_eq!((told.network.as_str(), told.schema), ("regtest", STORE_VERSION));
    let id = world.server.shared().validator.receipts.server().0;
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((told.server_id, told.version.is_empty()), (hex, false));
    let mut alice = world.miner("alice").await;
    accepted(&alice.declare(&alice.template(&world.work())).await);
    drop(alice);

    let world = world.restart(|| ()).await;
    world.synced().await;
    let mut bob = world.miner("bob").await;
    accepted(&bob.declare(&bob.template(&world.work())).await);
    let second = starts(&world, 2)[1].id;
    let kinds = |about: &str| -> Vec<bool> {
        let events = kept::events(&*world.store()).into_iter();
        events.filter(|one| one.data["user"] == about).map(|one| one.id > second).collect()
    };
    let (before, after) = (kinds("alice"), kinds("bob"));
    assert!(before.len() >= 3 && before.iter().all(|later| !later), "{before:?}");
    assert!(after.len() >= 3 && after.iter().all(|later| *later), "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_all_jobs_of_a_user_with_several_connections() {
    let world = World::start().await;
    world.synced().await;
    let work = world.work();
    let mut declared = Vec::new();
    for connection in 0..CONNECTIONS as u32 {
        let mut miner = world.miner("farm").await;
        for number in 0..JOBS_EACH {
            let mut template = miner.template(&work);
            template.version += connection * JOBS_EACH + number;
            accepted(&miner.declare(&template).await);
            declared.push(template);
        }
    }
    let count = world.server.shared().jobs.count();
    assert_eq!(count, declared.len(), "before the restart");

    let world = world.restart(|| ()).await;
    assert_eq!(world.server.shared().jobs.count(), declared.len());
    // The first of all, from somebody who has said nothing yet but who they are.
    let mut miner = world.miner("farm").await;
    let first = declared.first().unwrap();
    let hash = miner.solve_and_push(&work, first).await;
    world.assert_mined(hash, &first.txs);
}
