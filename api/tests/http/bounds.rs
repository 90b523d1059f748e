//! What a client may have the API read, hold and wait for, up to the bound and beyond it.

use std::time::{Duration, Instant};

use api::limits::{
    REQUEST_TIMEOUT, SHUTDOWN_WAIT, STORE_WRITE_WAIT, USER_BYTES_MAX, WEBHOOK_ID_BYTES_MAX,
    WEBHOOK_SECRET_BYTES, WEBHOOK_URL_BYTES_MAX,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::within;
use crate::world::{TOKEN, World};

/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(30);

const HOOK: &str = r#"{"url":"http://127.0.0.1:9/"}"#;

#[tokio::test]
async fn names_in_a_path_or_query_have_a_length() {
    let world = World::start().await;
    for (path, most, status) in [
        ("/v1/miners/", USER_BYTES_MAX, 404),
        ("/v1/templates?user=", USER_BYTES_MAX, 200),
        ("/v1/declarations?user=", USER_BYTES_MAX, 200),
        ("/v1/shares/summary?user=", USER_BYTES_MAX, 200),
        ("/v1/webhooks/", WEBHOOK_ID_BYTES_MAX, 404),
    ] {
        let answer = world.get(&format!("{path}{}", "u".repeat(most))).await;
        assert_eq!(answer.status, status, "{path}");
        let answer = world.get(&format!("{path}{}", "u".repeat(most + 1))).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "bad-parameter"), "{path}");
    }
}

#[tokio::test]
async fn what_a_webhook_is_made_of_has_a_length() {
    let world = World::start().await;
    let start = "http://127.0.0.1:9/";
    let url = |bytes: usize| json!({"url": start.to_owned() + &"x".repeat(bytes - start.len())});
    let secret = |bytes: usize| json!({"url": start, "secret": "s".repeat(bytes)});
    let (shortest, longest) = WEBHOOK_SECRET_BYTES.into_inner();
    for (hook, status) in [
        (url(WEBHOOK_URL_BYTES_MAX), 201),
        (url(WEBHOOK_URL_BYTES_MAX + 1), 422),
        (secret(shortest), 201),
        (secret(shortest - 1), 422),
        (secret(longest), 201),
        (secret(longest + 1), 422),
    ] {
        let answer = world.write("POST", "/v1/webhooks", &hook.to_string()).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
}

/// A request whose body does not come; the server reads it.
async fn begun(world: &World) -> TcpStream {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "POST /v1/webhooks HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n",
        world.address
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 25];
    within("a sign that the body is read", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

#[tokio::test]
async fn a_request_that_does_not_come_is_answered_in_its_time() {
    let world = World::start().await;
    let since = Instant::now();
    let mut stream = begun(&world).await;
    assert_eq!(world.get("/healthz").await.status, 200, "others are served meanwhile");
    let mut answer = vec![0; 12];
    let read = tokio::time::timeout(REQUEST_TIMEOUT + SLACK, stream.read_exact(&mut answer)).await;
    read.expect("waited for the end of a request").unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
    assert!(since.elapsed() >= REQUEST_TIMEOUT, "{:?}", since.elapsed());
}

#[tokio::test]
async fn at_the_end_requests_that_do_not_end_are_cut_off() {
    let mut world = World::start().await;
    let mut stream = begun(&world).await;
    let since = Instant::now();
    world.stop().await;
    assert!(since.elapsed() >= SHUTDOWN_WAIT, "cut off after {:?}", since.elapsed());
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = within("the end of the connection", stream.read_to_end(&mut rest)).await;
    assert_eq!(rest, b"");
}

/// A store that neither writes nor says that it can not: another process holds it, and nobody gave up
/// yet.
#[tokio::test]
async fn a_write_that_is_not_acknowledged_is_told_and_reads_go_on() {
    let stall = |store: &mut store::Settings| store.stall_after = Duration::from_secs(3_600);
    let world = World::with(|_| {}, stall).await;
    let other = rusqlite::Connection::open(world.dir().join("jds.sqlite")).unwrap();
    other.busy_timeout(SLACK).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let since = Instant::now();
    let answer = world.write("POST", "/v1/webhooks", HOOK).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "store-unavailable"));
    assert!(since.elapsed() >= STORE_WRITE_WAIT, "{:?}", since.elapsed());
    assert_eq!(world.read("/v1/webhooks").await["webhooks"], json!([]));
    other.execute_batch("ROLLBACK").unwrap();
    // Nobody took it back, as the answer says.
    let is_there = |all: &serde_json::Value| all["webhooks"].as_array().unwrap().len() == 1;
    world.until("what was written late", "/v1/webhooks", is_there).await;
    assert_eq!(world.write("POST", "/v1/webhooks", HOOK).await.status, 201);
}
