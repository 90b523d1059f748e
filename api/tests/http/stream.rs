//! The stream: it resumes, it survives an end of the server, and its readers cost nothing.

use store::Store;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{Sse, within};
use crate::world::World;

#[tokio::test]
async fn a_reader_that_comes_back_misses_nothing_and_gets_nothing_twice() {
    let mut world = World::start().await;
    world.events(1..=5).await;
    let first = world.store.last_event_id() - 4;
    let mut seen = Vec::new();
    let mut sse = Sse::open(world.address, "/v1/events/stream", None).await;
    for _ in 0..3 {
        seen.push(sse.next_id().await);
    }
    let last_id = sse.last_id.clone();
    drop(sse);
    world.events(6..=8).await;

    let mut sse = Sse::open(world.address, "/v1/events/stream", Some(&last_id)).await;
    for _ in 0..5 {
        seen.push(sse.next_id().await);
    }
    // What comes while the reader waits.
    world.events(9..=9).await;
    let event = sse.next().await.unwrap();
    assert_eq!(event.event, "node_status");
    assert_eq!(event.id, Some(format!("{}-{}", world.store.epoch(), event.data["id"])));
    seen.push(event.data["id"].as_u64().unwrap());

    // The server ends, and with it the stream.
    world.stop().await;
    assert_eq!(sse.next().await, None);
    world.events(10..=11).await;
    world.run().await;
    let mut sse = Sse::open(world.address, "/v1/events/stream", Some(&sse.last_id)).await;
    seen.push(sse.next_id().await);
    seen.push(sse.next_id().await);
    assert_eq!(seen, (first..first + 11).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_not_asked_for_moves_the_cursor() {
    let world = World::start().await;
    world.events(1..=3).await;
    let path = "/v1/events/stream?types=block_found";
    let mut sse = Sse::open(world.address, path, None).await;
    assert_eq!(sse.status, 200);
    let end = format!("{}-{}", world.store.epoch(), world.store.last_event_id());
    // The first sign of life has the cursor; no event with data follows it.
    tokio::select! {
        event = sse.next() => panic!("{event:?} was not asked for"),
        () = tokio::time::sleep(std::time::Duration::from_millis(100)) => {}
    }
    assert_eq!(sse.last_id, end);
}

#[tokio::test]
async fn last_event_id_goes_before_after() {
    let world = World::start().await;
    world.events(1..=5).await;
    let last = world.store.last_event_id();
    let path = format!("/v1/events/stream?after={}", last - 4);
    let mut sse = Sse::open(world.address, &path, Some(&(last - 1).to_string())).await;
    assert_eq!(sse.next_id().await, last);
    let sse = Sse::open(world.address, "/v1/events/stream", Some("nonsense")).await;
    assert_eq!(sse.status, 400);
}

#[tokio::test]
async fn so_many_readers_and_no_more() {
    let world = World::start().await;
    let mut readers = Vec::new();
    for _ in 0..api::limits::STREAM_CLIENTS_MAX {
        readers.push(Sse::open(world.address, "/v1/events/stream", None).await);
    }
    assert!(readers.iter().all(|reader| reader.status == 200));
    let answer = world.get("/v1/events/stream").await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "busy"));
    assert!(answer.header("retry-after").is_some());
    // Pages are still there for everybody, and a place is free again when a reader goes.
    world.read("/v1/events").await;
    readers.pop();
    within("a free place", async {
        while Sse::open(world.address, "/v1/events/stream", None).await.status != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn readers_that_stop_reading_hold_up_nobody() {
    let world = World::start().await;
    let mut silent = Vec::new();
    for _ in 0..16 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let request = format!("GET /v1/events/stream HTTP/1.1\r\nHost: {}\r\n\r\n", world.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        silent.push(stream);
    }
    let mut sse = Sse::open(world.address, "/v1/events/stream", None).await;
    // More than what the sockets of the silent readers take.
    for round in 0..40 {
        world.events(round * 500 + 1..=round * 500 + 500).await;
    }
    let last = world.store.last_event_id();
    within("the reader that reads", async { while sse.next_id().await < last {} }).await;
}
