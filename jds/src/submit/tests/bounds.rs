//! What is bounded of the way of a block: how often and how long it is tried, and what waits meanwhile.

use store::TokenAllocated;

use super::*;
use crate::limits::{EVENTS_OVERFLOW_MAX, RECORD_AGAIN_MAX, SUBMIT_GIVE_UP};
use crate::submit::notes::News::{GaveUp, Sent, Unknown};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// While nobody takes down what it tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_never_answers_is_given_up_and_all_that_is_told_of_it_has_its_place() {
    let world = World::new();
    let (submitter, block) = (&world.submitter, new_block().block);
    let node = submitter.nodes.all()[0].clone();
    let found = |received| Open::new(block.hash, world.file(), 0, received);
    let just = found(Instant::now());
    assert_eq!(submitter.pointless(&node, &just).await, None, "it can still win");

    let open = Arc::new(found(Instant::now().checked_sub(SUBMIT_GIVE_UP).unwrap()));
    let (sender, mut notes) = mpsc::channel(NOTES_PER_SUBMISSION_MAX);
    let sender = Notes::new(sender, &submitter.keeping);
    let mut first = FirstAnswer { holds_checks: None, under_way: None };
    let way = Way::new(&node, &Steps::new()).unwrap();
    let block: BlockBytes = block;
    let call = submitter.call(&node, &open, &block);
    let trying = submitter.to_node(way, &open, &block, call, &sender, &mut first);
    tokio::time::timeout(PATIENCE, trying).await.expect("waited for the node to be given up");
    drop(sender);
    let mut told = Vec::new();
    while let Some(note) = notes.recv().await {
        told.push(note.news);
    }
    assert!(matches!(told[..], [Sent, Unknown(_), GaveUp]), "{told:?}");
    assert_eq!(told.len(), NOTES_PER_SUBMISSION_MAX);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_the_store_loses_time_after_time_stays_in_its_file() {
    let world = World::new();
    world.leave_file();
    world.store.takes_nothing.store(true, Ordering::SeqCst);
    let block = new_block();
    let mut open = Open::new(block.block.hash, world.file(), 1, Instant::now());
    open.in_file = AtomicBool::new(true);
    let (_sender, notes) = mpsc::channel(1);
    let submitter = Arc::clone(&world.submitter);
    let recorder = Recorder::new(submitter, Arc::new(open), Steps::new(), notes, 0);
    let again = recorder.record_again(block, Duration::from_millis(1));
    tokio::time::timeout(PATIENCE, again)
        .await
        .expect("waited for the recorder to leave it at that");
    assert_eq!(world.store.refused.load(Ordering::SeqCst), RECORD_AGAIN_MAX as usize);
    assert!(world.file().exists(), "it is all there is of the block");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_blocks_of_the_past_the_newest_are_remembered() {
    let world = World::new();
    let journal = &world.submitter.journal;
    let mut hashes = Vec::new();
    for number in 1..=3 {
        let mut block = FoundBlock::clone(&new_block().block);
        block.header.nonce += number;
        block.hash = block.header.block_hash();
        let hash = block.hash;
        hashes.push(hash);
        let new = NewBlock { block: Arc::new(block), ..new_block() };
        journal.found(new, u64::from(number), Vec::new()).await;
        journal.progress(hash, BlockState::Confirmed, 6).await;
    }
    let remembered = |max| {
        let journal = Arc::clone(journal);
        tokio::task::spawn_blocking(move || journal.final_blocks(max))
    };
    assert_eq!(remembered(2).await.unwrap(), hashes[1..], "the newest last");
    assert_eq!(remembered(10).await.unwrap(), hashes);
}

#[tokio::test]
async fn so_many_events_wait_for_room_in_the_store_and_no_more() {
    let world = World::new();
    let journal = &world.submitter.journal;
    let event = |number: usize| TokenAllocated {
        user: "alice".to_owned(),
        token_id: number.to_string(),
        expires_at: 1,
    };
    *lock(&world.store.full) = Some(mpsc::channel(1));
    for number in 0..EVENTS_OVERFLOW_MAX + 100 {
        journal.event(event(number));
    }
    assert_eq!(journal.waiting(), EVENTS_OVERFLOW_MAX);
    // The end waits for them no longer than it may.
    let ending = journal.finish(Duration::from_millis(10));
    let written = tokio::time::timeout(PATIENCE, ending).await.expect("waited for the end");
    assert!(!written, "it says that something is lost");
    // With room again, what waits goes on, and there are places.
    lock(&world.store.full).take();
    until("room for an event", || journal.waiting() < EVENTS_OVERFLOW_MAX).await;
    until("events in the store", || world.store.told(EventKind::TokenAllocated) > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_waits_for_what_is_under_way_no_longer_than_it_may() {
    let world = World::new();
    let under_way = UnderWay::begin(&world.submitter.under_way);
    let ending = world.submitter.finish(Duration::from_millis(10));
    tokio::time::timeout(PATIENCE, ending).await.expect("waited for the end");
    drop(under_way);
}
