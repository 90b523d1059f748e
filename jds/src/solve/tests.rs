//! Solutions in line, and those that make no block.

use super::*;

#[test]
fn a_burst_of_solutions_without_a_block_passes_and_then_a_few_each_second() {
    let start = Instant::now();
    let mut bucket = Bucket { full_at: start };
    for _ in 0..SOLUTIONS_WITHOUT_BLOCK_BURST {
        assert_eq!(bucket.take(start), Duration::ZERO);
    }
    let interval = SOLUTIONS_WITHOUT_BLOCK_INTERVAL;
    assert_eq!(bucket.take(start), interval);
    assert_eq!(bucket.take(start + interval), interval, "one for each interval");
    assert_eq!(bucket.take(start + interval * 3), Duration::ZERO);
    let later = start + interval * 1_000;
    for _ in 0..SOLUTIONS_WITHOUT_BLOCK_BURST {
        assert_eq!(bucket.take(later), Duration::ZERO, "no more than a burst was saved up");
    }
    assert_eq!(bucket.take(later), interval);
}

#[tokio::test]
async fn the_line_of_all_connections_has_an_end_and_who_waits_for_it_gets_in() {
    use tokio::time::timeout;

    let (patience, line) = (Duration::from_secs(10), Line::default());
    let mut held = Vec::new();
    for _ in 0..SOLUTIONS_QUEUED_MAX {
        held.push(timeout(patience, line.take()).await.expect("a place").unwrap());
    }
    let first = tokio::spawn({
        let line = Line(Arc::clone(&line.0));
        async move { line.take().await }
    });
    tokio::task::yield_now().await;
    assert!(timeout(Duration::ZERO, line.take()).await.is_err(), "it stands in line");
    held.pop();
    let first = timeout(patience, first).await.expect("the place of one that was looked at");
    assert!(first.unwrap().is_some());
}
