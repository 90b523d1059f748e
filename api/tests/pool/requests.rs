//! Connections, requests and streams: so many at a time, and one more is told to come back.

use std::sync::Arc;

use api::pool::limits::{CONNECTIONS_MAX, REQUESTS_MAX, SHARE_STREAMS_MAX, STREAM_CLIENTS_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Answer, within};
use crate::world::{TOKEN, World, share};

const SHARES: &str = "/v1/pool/shares";

fn is_busy(answer: &Answer) -> bool {
    answer.status == 503 && answer.problem() == "busy" && answer.header("retry-after").is_some()
}

/// Sends the head of a request.
async fn begin(world: &World, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let (line, headers) = request.split_once('\n').unwrap_or((request, ""));
    let headers: String = headers.lines().map(|line| format!("{line}\r\n")).collect();
    let host = world.address;
    let head = format!(
        "{line} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n{headers}\r\n"
    );
    // Whoever is refused may find the connection closed already.
    let _ = stream.write_all(head.as_bytes()).await;
    stream
}

/// The status of the answer that begins.
async fn status(stream: &mut TcpStream) -> u16 {
    let mut start = [0; 12];
    within("the beginning of an answer", stream.read_exact(&mut start)).await.unwrap();
    std::str::from_utf8(&start[9..]).unwrap().parse().unwrap()
}

#[tokio::test]
async fn so_many_requests_at_a_time() {
    let world = Arc::new(World::held().await);
    let body = share().to_string();
    let post = || {
        let (world, body) = (Arc::clone(&world), body.clone());
        tokio::spawn(async move { world.post(SHARES, &body).await })
    };
    let under_way: Vec<_> = (0..REQUESTS_MAX).map(|_| post()).collect();
    world.judging(REQUESTS_MAX).await;
    let one_more = world.post(SHARES, &body).await;
    assert!(is_busy(&one_more), "{one_more:?}");
    assert_eq!(world.tip().await, 503);
    world.server.release();
    for request in under_way {
        assert_eq!(request.await.unwrap().status, 200);
    }
    assert_eq!(world.post(SHARES, &body).await.status, 200);
    assert_eq!(world.tip().await, 200);
}

/// Who leaves makes no room for others as long as the work goes on.
#[tokio::test]
async fn requests_with_a_key_have_their_turn_until_they_are_done() {
    let world = World::held().await;
    let body = share().to_string();
    for number in 0..REQUESTS_MAX {
        let head = format!(
            "POST {SHARES}\nContent-Type: application/json\nIdempotency-Key: {number}\n\
             Content-Length: {}",
            body.len()
        );
        let mut stream = begin(&world, &head).await;
        stream.write_all(body.as_bytes()).await.unwrap();
        world.judging(number + 1).await;
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = within("the server to see that", stream.read_to_end(&mut rest)).await;
        assert_eq!(rest, b"");
    }
    let one_more = world.post(SHARES, &body).await;
    assert!(is_busy(&one_more), "{one_more:?}");
    world.server.release();
    within("the requests to be done", async {
        while world.tip().await != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Whoever comes back gets the answer that it left.
    let key = [("Idempotency-Key", "0")];
    let again = world.post_with(SHARES, &key, &body).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")));
}

#[tokio::test]
async fn so_many_connections_at_a_time() {
    let world = World::start().await;
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = begin(&world, "GET /v1/pool/tip").await;
        assert_eq!(status(&mut stream).await, 200);
        open.push(stream);
    }
    let mut one_more = TcpStream::connect(world.address).await.unwrap();
    let mut text = String::new();
    within("a refusal", one_more.read_to_string(&mut text)).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("problem-busy"), "{text}");
    assert!(text.contains("\r\nRetry-After: "), "{text}");
    open.pop();
    within("room", async {
        let mut start = [0; 12];
        loop {
            let mut stream = begin(&world, "GET /v1/pool/tip").await;
            if stream.read_exact(&mut start).await.is_ok() && start.ends_with(b"200") {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// As many streams as may be, one more, and then again when one of them goes. Single shares go on.
async fn streams(world: &World, request: &str, most: usize) {
    let mut open = Vec::new();
    for _ in 0..most {
        let mut stream = begin(world, request).await;
        assert_eq!(status(&mut stream).await, 200);
        open.push(stream);
    }
    let mut one_more = begin(world, request).await;
    assert_eq!(status(&mut one_more).await, 503);
    assert_eq!(world.post(SHARES, &share().to_string()).await.status, 200);
    open.pop();
    within("room for another stream", async {
        while status(&mut begin(world, request).await).await != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn so_many_follow_the_tip() {
    let world = World::start().await;
    streams(&world, "GET /v1/pool/stream", STREAM_CLIENTS_MAX).await;
}

#[tokio::test]
async fn so_many_streams_of_shares() {
    let world = World::start().await;
    let request = "POST /v1/pool/shares\nContent-Type: application/x-ndjson\n\
                   Transfer-Encoding: chunked";
    streams(&world, request, SHARE_STREAMS_MAX).await;
}
