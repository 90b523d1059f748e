//! What a version left that named the whole identity: the user in it has the block.

use super::*;

/// Files named the whole identity once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_of_a_file_of_before_is_recorded_for_the_user_in_its_identity() {
    for (identity, user) in
        [("carol.farm", "carol"), ("carol.farm.2", "carol"), (".farm", "anonymous")]
    {
        let world = World::new();
        world.leave_file_of(identity);
        world.submitter.resume(Vec::new());
        until("the event", || world.store.told(EventKind::BlockFound) == 1).await;
        let hash = new_block().block.hash.to_string();
        until("the row", || world.store.block(&hash).unwrap().is_some()).await;
        assert_eq!(world.store.block(&hash).unwrap().unwrap().user, user);
        let page = world.store.events_after(Cursor::START, &EventFilter::default(), 1_000).unwrap();
        let found = page.events.iter().find(|event| event.event == EventKind::BlockFound).unwrap();
        assert_eq!(found.data["user"], user);
        assert!(world.submitter.knows(&new_block().block.hash), "it is on its way");
    }
}

/// A row that named the whole identity was brought up to date, its file was not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_before_beside_a_row_of_now_is_one_block() {
    let world = World::new();
    let journal = Arc::clone(&world.submitter.journal);
    journal.found(NewBlock { user: "carol".into(), ..new_block() }, 1, vec![NODE.to_owned()]).await;
    world.leave_file_of("carol.farm");
    world.submitter.resume(Vec::new());
    until("the block to be followed", || world.submitter.follower.count() == 1).await;
    assert_eq!(world.store.told(EventKind::BlockFound), 1);
    let hash = new_block().block.hash.to_string();
    assert_eq!(world.store.block(&hash).unwrap().unwrap().user, "carol");
}
