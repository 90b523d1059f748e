//! What a restart in order must not lose: every job, whoever declared how many on how many
//! connections.

use jds_tests::{World, accepted, kept};
use store::{EventData, EventKind, STORE_VERSION};

/// Connections of one user, and jobs of each: less than one may hold, more in all.
const CONNECTIONS: usize = 3;
const JOBS_EACH: u32 = 50;

#[tokio::test(flavor = "multi_thread")]
async fn each_start_is_told_before_anything_else_of_it() {
    let world = World::start().await;
    let first = kept::events(&*world.store()).remove(0);
    let EventData::ServerStarted(told) = first.typed().unwrap() else { panic!("{first:?}") };
    assert_eq!((told.network.as_str(), told.schema), ("regtest", STORE_VERSION));
    let id = world.server.shared().validator.receipts.server().0;
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((told.server_id, told.version.is_empty()), (hex, false));
    let before = kept::events(&*world.store()).len();
    let world = world.restart(|| ()).await;
    world.synced().await;
    let events = kept::events(&*world.store());
    let starts: Vec<_> =
        events.iter().filter(|event| event.event == EventKind::ServerStarted).collect();
    assert_eq!(starts.len(), 2);
    assert!(starts[1].id > before as u64 && (1..).zip(&events).all(|(id, event)| event.id == id));
    let after = events.iter().filter(|event| event.id > starts[1].id);
    assert!(after.count() > 0, "the node's state of this start comes behind it");
    accepted(&declared(&world).await);
}

/// What comes of a template of a miner.
async fn declared(world: &World) -> jds::client::DeclareOutcome {
    let mut miner = world.miner("alice").await;
    let template = miner.template(&world.work());
    miner.declare(&template).await
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
