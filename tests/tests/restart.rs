//! What a restart in order must not lose: every job, whoever declared how many on how many
//! connections.

use jds_tests::{World, accepted};

/// Connections of one user, and jobs of each: less than one may hold, more in all.
const CONNECTIONS: usize = 3;
const JOBS_EACH: u32 = 50;

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
