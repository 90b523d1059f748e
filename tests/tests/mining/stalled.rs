//! A disk that hangs: a share that is a block is with the node at once, and what is written of it follows.

use jds_tests::{PATIENCE, Setup, kept};
use rusqlite::Connection;
use signet::wait;
use store::{EventData, EventKind};

use crate::custom::{Jdc, TIP_GRACE, work_with_transactions};
use crate::{events, shares, wait_event};

/// Longer than the disk hangs here: until then nothing is acknowledged that is not written.
const STALL: &str = "stall_ms = 60000";

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_a_share_passes_a_disk_that_hangs() {
    let world = Setup::new().job_declaration(TIP_GRACE).table("store", STALL).mining("");
    let world = world.start().await;
    let work = work_with_transactions(&world).await;
    let mut jdc = Jdc::connect(&world).await;
    let template = jdc.template(&work);
    let token = jdc.declare(&template).await;
    let job = jdc.job(&token, &template, &work);
    jdc.set(&job, &template).await;
    let share = jdc.channel.mine_share_only().expect("a share");
    let block = jdc.channel.mine_block().expect("a block");
    wait_event(&world, EventKind::JobNegotiated, |_| true);

    let other = Connection::open(world.data_dir().join("jds.sqlite")).unwrap();
    other.busy_timeout(PATIENCE).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    // The commit of the first hangs already when the second comes.
    for share in [&share, &block] {
        let message = jdc.channel.message(share).unwrap();
        jdc.client.send(&message).await.unwrap();
    }
    wait::until_true("the block to be the node's tip", PATIENCE, || {
        world.node().tip().unwrap() == block.hash()
    })
    .unwrap();
    let name = block.hash().to_string();
    assert!(shares(&world).is_empty(), "written though the disk hangs");
    assert!(events(&world, EventKind::BlockFound).is_empty());
    assert!(world.store().block(&name).unwrap().is_none());

    other.execute_batch("ROLLBACK").unwrap();
    for share in [&share, &block] {
        wait_event(&world, EventKind::ShareSubmitted, |event| match event {
            EventData::ShareSubmitted(told) => {
                told.accepted && told.share_hash == share.hash().to_string()
            }
            _ => false,
        });
    }
    wait_event(&world, EventKind::BlockFound, |event| match event {
        EventData::BlockFound(found) => found.block_hash == name && found.assembled,
        _ => false,
    });
    assert_eq!(
        kept::wait_block(&*world.store(), block.hash()).tx_count as usize,
        work.txs.len() + 1
    );
    world.assert_mined(block.hash(), &work.txs);
}
