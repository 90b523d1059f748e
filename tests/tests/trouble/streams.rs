//! Readers who come back after what they want next is gone: kept no longer, or lost with the
//! database that a backup was put back over.

use std::path::Path;

use jds_tests::http::Answer;
use jds_tests::{Setup, World, accepted};
use rusqlite::Connection;
use serde_json::json;
use store::{
    Batch, Cursor, EventData, EventFilter, EventKind, NodeStatus, Settings, SqliteStore, Store,
};

use crate::http::{Api, with_api};
use crate::webhooks::Endpoint;

const DAY_MS: u64 = 86_400_000;

async fn declare(world: &World, times: usize) {
    let mut miner = world.miner("alice").await;
    let template = miner.template(&world.work());
    for _ in 0..times {
        accepted(&miner.declare(&template).await);
    }
}

/// Ages the log by an event of a month later, and has retention run then. The server does that
/// by itself once a minute.
fn a_month_later(data_dir: &Path) {
    let store = SqliteStore::open(Settings::new(data_dir)).unwrap();
    let newest = store.events_after(
        Cursor { epoch: None, id: store.last_event_id() - 1 },
        &EventFilter::ALL,
        1,
    );
    let later = newest.unwrap().events[0].timestamp + 31 * DAY_MS;
    let event = NodeStatus {
        kind: None,
        node: "main".to_owned(),
        state: "later".to_owned(),
        height: None,
        detail: None,
    };
    store.commit(Batch::of_event(later, event)).wait().unwrap();
    store.retain(later).unwrap();
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_older_than_what_is_kept_is_told_where_to_go_on() {
    let (setup, _token) = with_api(Setup::new());
    let world = setup.start().await;
    declare(&world, 3).await;
    let epoch = world.store().epoch();
    let data_dir = world.data_dir().to_owned();
    // A thread that is not the runtime's may wait for a commit.
    let wait = || std::thread::scope(|scope| scope.spawn(|| a_month_later(&data_dir)).join());
    let world = world.restart(|| wait().unwrap()).await;
    let api = Api::of(&world);
    let store = world.store();
    assert_eq!(store.epoch(), epoch);
    let first = store.sizes().unwrap().first_event_id.unwrap();
    assert!(first > 6, "{first}");

    for path in ["/v1/events", "/v1/events/stream"] {
        let gone = api.get(&format!("{path}?after={epoch}-2"));
        assert_eq!(gone.status, 410, "{gone:?}");
        let problem = gone.json();
        assert_eq!(problem["earliest_id"], first, "{problem}");
        let cursor = problem["earliest_cursor"].as_str().unwrap();
        assert_eq!(api.stream(cursor).next_event().unwrap()["id"], first);
    }
}

/// As the guide has it: while the server runs, by SQLite's own means.
fn back_up(data_dir: &Path, to: &Path) {
    let database = Connection::open(data_dir.join("jds.sqlite")).unwrap();
    database.execute("VACUUM INTO ?1", [to.to_str().unwrap()]).unwrap();
}

/// As the guide has it: while the server is down, in place of the database and its log.
fn put_back(backup: &Path, data_dir: &Path) {
    for part in ["jds.sqlite-wal", "jds.sqlite-shm"] {
        // After an end in order there is none.
        let _ = std::fs::remove_file(data_dir.join(part));
    }
    std::fs::copy(backup, data_dir.join("jds.sqlite")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_begins_a_new_epoch_and_gives_no_id_twice() {
    let (setup, token) = with_api(Setup::new());
    let world = setup.start().await;
    declare(&world, 2).await;
    let endpoint = Endpoint::willing().await;
    let hook = json!({ "url": format!("http://{}/hook", endpoint.address), "after": "0" });
    let hook = Api::of(&world).write("POST", "/v1/webhooks", &hook).json();
    let hook = format!("/v1/webhooks/{}", hook["webhook"]["id"].as_str().unwrap());
    let caught_up = |answer: &Answer| {
        let hook = answer.json();
        hook["state"] == "active" && hook["lag_events"] == 0
    };
    Api::of(&world).wait("the webhook to catch up", &hook, caught_up);
    let (data_dir, backup) = (world.data_dir().to_owned(), token.path().join("backup"));
    back_up(&data_dir, &backup);
    let kept_last = last_id(&backup);
    declare(&world, 3).await;
    let before = world.store();
    let (old_epoch, mut seen_last) = (before.epoch(), 0);
    drop(before);
    let world = world
        .restart(|| {
            seen_last = last_id(&data_dir.join("jds.sqlite"));
            put_back(&backup, &data_dir);
        })
        .await;

    let (api, store) = (Api::of(&world), world.store());
    assert_ne!(store.epoch(), old_epoch);
    for after in [kept_last, seen_last] {
        let gone = api.get(&format!("/v1/events/stream?after={old_epoch}-{after}"));
        assert_eq!(gone.status, 410, "{gone:?}");
        assert_eq!(gone.json()["epoch"], store.epoch().to_string());
    }
    // From the start: what the backup had, then the news, above everything that was seen.
    let mut stream = api.stream("0");
    for id in 1..=kept_last {
        assert_eq!(stream.next_event().unwrap()["id"], id);
    }
    let told = stream.next_event().unwrap();
    assert_eq!(told["event"], EventKind::StreamEpochStarted.as_str());
    assert_eq!(told["id"], seen_last + 1);
    let told = EventData::from_value(EventKind::StreamEpochStarted, told["data"].clone());
    let Ok(EventData::StreamEpochStarted(told)) = told else { panic!("{told:?}") };
    assert_eq!(told.epoch, store.epoch().to_string());
    assert_eq!(told.previous_epoch, old_epoch.to_string());
    assert_eq!((told.previous_last_id, told.kept_last_id), (seen_last, kept_last));

    // A webhook goes on by itself, and what was lost never comes.
    declare(&world, 1).await;
    api.wait("the webhook to go on", &hook, caught_up);
    assert_eq!(endpoint.epoch(), store.epoch().to_string());
    let taken = endpoint.taken();
    assert!((1..=kept_last).all(|id| taken.contains(&id)), "{taken:?}");
    let news: Vec<u64> = taken.into_iter().filter(|id| *id > seen_last).collect();
    assert_eq!(news[..], (seen_last + 1..).take(news.len()).collect::<Vec<_>>());
    assert!(news.len() > 2, "{news:?}");
}

fn last_id(database: &Path) -> u64 {
    let database = Connection::open(database).unwrap();
    database.query_row("SELECT max(id) FROM events", [], |row| row.get(0)).unwrap()
}
