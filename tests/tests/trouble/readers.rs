//! Readers of the event stream that stop reading.

use std::time::Duration;

use api::limits;
use jds_tests::{Setup, World, accepted};
use store::{Batch, NodeStatus};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::http::{Api, with_api};

/// Events that are there before anybody reads, and the size of each: together more than the
/// sockets of one reader take.
const EARLIER_EVENTS: usize = 1_600;
const EVENT_BYTES: usize = 10_000;
/// Declarations while readers hang.
const DECLARATIONS: usize = 200;

async fn fill_the_log(world: &World) {
    let store = world.store();
    for number in 0..EARLIER_EVENTS {
        let event = NodeStatus {
            kind: None,
            node: "main".to_owned(),
            state: "ready".to_owned(),
            height: None,
            detail: Some(format!("{number:0EVENT_BYTES$}")),
        };
        store.commit(Batch::of_event(1, event)).await.unwrap();
    }
}

/// One byte a second, for as long as it lasts.
async fn read_slowly(mut stream: TcpStream) {
    while stream.read_u8().await.is_ok() {
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_hang_hold_up_nobody_and_are_cut() {
    let (setup, _token) = with_api(Setup::new());
    let world = setup.start().await;
    fill_the_log(&world).await;
    let api = Api::of(&world);
    let silent = api.send_for_stream("0").await;
    let slow = tokio::spawn(read_slowly(api.send_for_stream("0").await));
    let mut reader = api.stream("latest");
    let hung_since = Instant::now();

    let mut miner = world.miner("alice").await;
    let template = miner.template(&world.work());
    for _ in 0..DECLARATIONS {
        accepted(&miner.declare(&template).await);
    }
    let mut told = 0;
    while told < DECLARATIONS {
        let event = reader.next_event().unwrap();
        told += usize::from(event["event"] == "template_accepted");
    }
    // Nothing piles up for those who do not read: neither queues nor bytes on their way.
    assert_eq!(api.metric("jds_queue_depth{queue=\"events\"}"), Some(0.0));
    assert_eq!(api.metric("jds_store_queue_depth"), Some(0.0));
    assert_eq!(api.metric("jds_store_volatile_batches"), Some(0.0));
    let log_bytes = (EARLIER_EVENTS * EVENT_BYTES) as f64;
    let sent = "jds_protocol_bytes_total{protocol=\"http\",direction=\"out\"}";
    let sent_bytes = api.metric(sent).unwrap();
    assert!(sent_bytes < 1.5 * log_bytes, "{sent_bytes} bytes, as if the two had read all");

    // All places but theirs are taken: when one is free again, one of them was cut.
    let mut others = Vec::new();
    let refused = loop {
        let (status, stream) = api.try_stream("latest").await;
        if status != 200 {
            break status;
        }
        others.push(stream);
        assert!(others.len() < limits::STREAM_CLIENTS_MAX, "more readers than places");
    };
    assert_eq!(refused, 503);
    let deadline = hung_since + 2 * limits::WRITE_TIMEOUT;
    while api.try_stream("latest").await.0 != 200 {
        assert!(Instant::now() < deadline, "waited for a reader that hangs to be cut");
        sleep(Duration::from_millis(200)).await;
    }
    drop(silent);
    slow.abort();
    world.assert_still_serving().await;
}
