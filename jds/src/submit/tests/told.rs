//! Who sends a block again is told of it when the first is on the disk.

use super::*;

/// A sender for one who waits, and what he sees.
fn waiter() -> (Option<Told>, tokio::sync::oneshot::Receiver<std::convert::Infallible>) {
    let (told, waiting) = tokio::sync::oneshot::channel();
    (Some(told), waiting)
}

async fn is_told(waiting: tokio::sync::oneshot::Receiver<std::convert::Infallible>) {
    let told = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    assert!(told.expect("waited to be told of a block").is_err(), "nothing is ever sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_announced_block() {
    let world = World::new();
    // Nothing is on the disk before this is gone.
    *lock(&world.store.full) = Some(mpsc::channel(1));
    let (first, mut of_first) = waiter();
    let (second, mut of_second) = waiter();
    assert!(world.submitter.announce(announced(), first));
    assert!(!world.submitter.announce(announced(), second), "it is the same");
    for waiting in [&mut of_first, &mut of_second] {
        let seen = waiting.try_recv().unwrap_err();
        assert_eq!(seen, tokio::sync::oneshot::error::TryRecvError::Empty, "told too early");
    }
    lock(&world.store.full).take();
    is_told(of_first).await;
    is_told(of_second).await;
    let (late, of_late) = waiter();
    assert!(!world.submitter.announce(announced(), late));
    is_told(of_late).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_that_was_announced_before_the_last_end() {
    let world = World::new();
    world.submitter.journal.found(announced(), 1, Vec::new()).await;
    world.submitter.resume(vec![left(&world.store).unwrap()]);
    *lock(&world.store.full) = Some(mpsc::channel(1));
    let (again, of_again) = waiter();
    assert!(!world.submitter.announce(announced(), again), "told before");
    is_told(of_again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_whose_bytes_are_here() {
    let world = World::new();
    *lock(&world.store.full) = Some(mpsc::channel(1));
    let (first, of_first) = waiter();
    let (second, of_second) = waiter();
    assert!(world.submitter.submit_with(new_block(), None, Instant::now(), first));
    assert!(!world.submitter.submit_with(new_block(), None, Instant::now(), second));
    for waiting in [of_second, of_first] {
        is_told(waiting).await;
        assert!(world.file().is_file(), "the store has no room, and no file holds it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_that_was_found_before_the_last_end_and_is_with_no_node() {
    let world = World::new();
    let open = recovered(FoundBlock::clone(&new_block().block), SubmissionState::Unknown);
    world.submitter.resume(vec![open]);
    let (again, of_again) = waiter();
    assert!(!world.submitter.submit_with(new_block(), None, Instant::now(), again), "found before");
    is_told(of_again).await;
}
