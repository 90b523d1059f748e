//! Pages of events: order, filters, cursors, waiting, and what is gone.

use std::time::{Duration, Instant};

use serde_json::Value;
use store::{Batch, Store};

use crate::client::request;
use crate::samples::{self, NOW_MS};
use crate::world::World;

fn ids(page: &Value) -> Vec<u64> {
    page["events"].as_array().unwrap().iter().map(|event| event["id"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn pages_follow_each_other_without_gaps() {
    let world = World::start().await;
    world.events(1..=25).await;
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let page = world.read(&format!("/v1/events?limit=10&after={cursor}")).await;
        assert_eq!(page["epoch"], world.store.epoch().to_string());
        seen.extend(ids(&page));
        cursor = page["next"].as_str().unwrap().to_owned();
        if page["more"] == false {
            break;
        }
    }
    let last = world.store.last_event_id();
    assert_eq!(seen, (last - 24..=last).collect::<Vec<_>>());
    let event = &world.read("/v1/events?limit=1").await["events"][0];
    assert_eq!(event["event"], "node_status");
    assert_eq!(event["source"], "hosted");
    assert_eq!(event["data"]["node"], "local");
}

#[tokio::test]
async fn types_are_filtered_and_the_cursor_moves_past_the_rest() {
    let world = World::start().await;
    world.events(1..=5).await;
    world.commit(samples::accepted("alice", samples::job(200, [1, 2]))).await;
    let page = world.read("/v1/events?types=template_*,block_found").await;
    assert_eq!(ids(&page).len(), 1);
    assert_eq!(page["events"][0]["event"], "template_accepted");
    let none = world.read("/v1/events?types=block_found").await;
    assert_eq!(none["next"], format!("{}-{}", world.store.epoch(), world.store.last_event_id()));
    let answer = world.get("/v1/events?types=tmplate_*").await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "bad-parameter"));
}

#[tokio::test]
async fn lines_are_there_for_the_asking() {
    let world = World::start().await;
    world.events(1..=3).await;
    let headers = [("Accept", "application/x-ndjson")];
    let answer = request(world.address, "GET", "/v1/events?limit=2", &headers, "").await;
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(answer.header("more-events"), Some("true"));
    let lines: Vec<Value> =
        answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    let next = answer.header("next-cursor").unwrap();
    assert!(next.ends_with(&format!("-{}", lines[1]["id"])), "{next}");
    let headers = [("Accept", "text/html")];
    let answer = request(world.address, "GET", "/v1/events", &headers, "").await;
    assert_eq!((answer.status, answer.problem().as_str()), (406, "not-acceptable"));
}

#[tokio::test]
async fn a_long_poll_ends_with_the_event_or_with_its_time() {
    let world = World::start().await;
    world.events(1..=1).await;
    let began = Instant::now();
    let page = world.read("/v1/events?after=latest&wait_ms=200").await;
    assert!(ids(&page).is_empty() && began.elapsed() >= Duration::from_millis(200));

    let began = Instant::now();
    let waiting = world.read("/v1/events?after=latest&wait_ms=30000&types=block_*,node_status");
    let writing = async {
        // The poll is under way when its place is taken and its first read is done.
        world.until("the poll to wait", "/v1/nodes", |_| began.elapsed().as_millis() > 50).await;
        world.events(2..=2).await;
    };
    let (page, ()) = tokio::join!(waiting, writing);
    assert_eq!(page["events"][0]["data"]["detail"], "2");
    assert!(began.elapsed() < Duration::from_secs(15), "it waited for its time");
}

#[tokio::test]
async fn a_cursor_that_retention_overtook_is_gone() {
    let day_ms = 86_400_000;
    let world = World::with(|_| {}, |store| store.retention.events.age_ms = day_ms).await;
    world.events(1..=20).await;
    let first = world.store.last_event_id() - 19;
    let later = NOW_MS + 3 * day_ms;
    world.commit(Batch::of_event(later, samples::numbered(21))).await;
    world.store.retain(later).unwrap();
    for path in ["/v1/events", "/v1/events/stream"] {
        let answer = world.get(&format!("{path}?after={first}")).await;
        assert_eq!((answer.status, answer.problem().as_str()), (410, "cursor-gone"), "{path}");
        let problem = answer.json();
        assert_eq!(problem["epoch"], world.store.epoch().to_string());
        assert_eq!(problem["earliest_id"], first + 20);
        let cursor = problem["earliest_cursor"].as_str().unwrap().to_owned();
        let page = world.read(&format!("/v1/events?after={cursor}")).await;
        assert_eq!(ids(&page), [first + 20]);
    }
}

#[tokio::test]
async fn a_cursor_of_another_epoch_is_gone() {
    let world = World::start().await;
    world.events(1..=3).await;
    let answer = world.get("/v1/events?after=00000000000000ff-1").await;
    assert_eq!((answer.status, answer.problem().as_str()), (410, "cursor-gone"));
    assert_eq!(answer.json()["epoch"], world.store.epoch().to_string());
}

#[tokio::test]
async fn parameters_without_meaning_are_named() {
    let world = World::start().await;
    for query in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "wait_ms=30001",
        "after=x",
        "after=-1",
        "lmit=5",
        "limit=1&limit=2",
    ] {
        let answer = world.get(&format!("/v1/events?{query}")).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "bad-parameter"), "{query}");
        let name = query.split('=').next().unwrap();
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(name), "{query}: {detail}");
    }
}

#[tokio::test]
async fn schemas_of_all_events_are_published() {
    let world = World::start().await;
    let schemas = world.read("/v1/schemas").await;
    for kind in store::EventKind::ALL {
        assert_eq!(schemas[kind.as_str()]["title"], kind.as_str());
    }
    assert_eq!(world.read("/v1/schemas/block_found").await, schemas["block_found"]);
    assert_eq!(world.get("/v1/schemas/block_lost").await.problem(), "not-found");
}
