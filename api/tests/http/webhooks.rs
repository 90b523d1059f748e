//! Webhooks: signed, in order, tried again, resumed, and kept away from private addresses.

use api::Token;
use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use serde_json::{Value, json};
use store::Store;

use crate::client::request;
use crate::receiver::{Receiver, status};
use crate::samples;
use crate::world::{READ_TOKEN, TOKEN, World};

const SECRET: &str = "0123456789abcdef-secret";

async fn create(world: &World, hook: Value) -> Value {
    let answer = world.write("POST", "/v1/webhooks", &hook.to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let created = answer.json();
    let location = format!("/v1/webhooks/{}", created["webhook"]["id"].as_str().unwrap());
    assert_eq!(answer.header("location"), Some(location.as_str()));
    created
}

fn path_of(created: &Value) -> String {
    format!("/v1/webhooks/{}", created["webhook"]["id"].as_str().unwrap())
}

#[tokio::test]
async fn deliveries_are_signed_and_in_order() {
    let world = World::start().await;
    let mut receiver = Receiver::start(status(204)).await;
    world.events(1..=150).await;
    let first = world.store.last_event_id() - 149;
    let hook = json!({"url": receiver.url(), "after": "0", "secret": SECRET});
    let created = create(&world, hook).await;
    assert_eq!(created["secret"], SECRET);

    let delivery = receiver.next().await;
    let mut engine = HmacEngine::<sha256::Hash>::new(SECRET.as_bytes());
    engine.input(delivery.header("x-jds-timestamp").as_bytes());
    engine.input(b".");
    engine.input(&delivery.body);
    let expected = format!("v1={}", Hmac::<sha256::Hash>::from_engine(engine));
    assert_eq!(delivery.header("x-jds-signature"), expected);
    assert_eq!(delivery.header("x-jds-webhook"), created["webhook"]["id"].as_str().unwrap());
    assert!(delivery.head.starts_with("POST /hook?key=hidden HTTP/1.1"), "{}", delivery.head);
    assert_eq!(delivery.json()["epoch"], world.store.epoch().to_string());

    let mut ids = delivery.ids();
    assert_eq!(ids.len(), api::limits::WEBHOOK_EVENTS_PER_DELIVERY, "no more at a time");
    ids.extend(receiver.next().await.ids());
    world.events(151..=151).await;
    ids.extend(receiver.next().await.ids());
    assert_eq!(ids, (first..first + 151).collect::<Vec<_>>());

    let hook = world
        .until("the cursor to be written", &path_of(&created), |hook| hook["lag_events"] == 0)
        .await;
    assert_eq!(hook["state"], "active");
    assert!(hook["delivered_at"].is_u64());
    let everything = world.get("/v1/webhooks").await;
    for hidden in [SECRET, "hidden"] {
        assert!(!everything.text().contains(hidden), "{hidden} shows in {}", everything.text());
    }
}

#[tokio::test]
async fn what_failed_is_tried_again_and_nothing_is_left_out() {
    let world = World::start().await;
    let mut receiver = Receiver::start(status(500)).await;
    let hook = json!({"url": receiver.url(), "types": "node_status"});
    let created = create(&world, hook).await;
    world.events(1..=2).await;
    let ids = receiver.next().await.ids();
    let hook = world
        .until("the failure to show", &path_of(&created), |hook| hook["state"] == "failing")
        .await;
    assert!(hook["last_error"].as_str().unwrap().contains("500"), "{hook}");
    receiver.answer_with(status(200));
    assert_eq!(receiver.next().await.ids()[..2], ids);
    world.until("it to be well", &path_of(&created), |hook| hook["state"] == "active").await;
    let metrics = world.get("/metrics").await;
    assert!(metrics.text().contains("jds_webhook_event_lag{webhook="), "{}", metrics.text());
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let world = World::start().await;
    let mut elsewhere = Receiver::start(status(200)).await;
    let answer = format!(
        "HTTP/1.1 307 X\r\nLocation: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        elsewhere.url()
    );
    let mut receiver = Receiver::start(Some(answer)).await;
    let created = create(&world, json!({"url": receiver.url()})).await;
    world.events(1..=1).await;
    receiver.next().await;
    let hook = world
        .until("the failure to show", &path_of(&created), |hook| hook["state"] == "failing")
        .await;
    assert!(hook["last_error"].as_str().unwrap().contains("redirects"), "{hook}");
    assert!(elsewhere.has_none());
}

#[tokio::test]
async fn private_addresses_are_not_reached() {
    let world = World::with(|settings| settings.webhook_allow.clear(), |_| {}).await;
    let mut receiver = Receiver::start(status(200)).await;
    let port = receiver.address.port();
    for host in ["127.0.0.1", "[::1]", "10.0.0.1", "169.254.169.254", "[::ffff:127.0.0.1]"] {
        let body = json!({"url": format!("http://{host}:{port}/")}).to_string();
        let answer = world.write("POST", "/v1/webhooks", &body).await;
        assert_eq!((answer.status, answer.problem().as_str()), (422, "bad-content"), "{host}");
        assert!(answer.text().contains("webhook_allow"), "{}", answer.text());
    }
    // Names, and numbers that are addresses in disguise, are known when they are looked up.
    for host in ["localhost", "any.LocalHost.", "2130706433", "0x7f000001"] {
        let created = create(&world, json!({"url": format!("http://{host}:{port}/")})).await;
        world.events(1..=1).await;
        let hook = world
            .until("the failure to show", &path_of(&created), |hook| hook["failures"] != 0)
            .await;
        let error = hook["last_error"].as_str().unwrap().to_owned();
        let named = host.to_ascii_lowercase().contains("localhost");
        assert!(error.contains("webhook_allow") || !named, "{host}: {error}");
    }
    assert!(receiver.has_none());
}

#[tokio::test]
async fn nodes_are_not_reached_whatever_is_allowed() {
    let mut node = Receiver::start(status(200)).await;
    let address = node.address;
    let world = World::with(|settings| settings.webhook_deny = vec![address].into(), |_| {}).await;
    let body = json!({"url": node.url()}).to_string();
    assert_eq!(world.write("POST", "/v1/webhooks", &body).await.status, 422);
    let url = format!("http://localhost:{}/", address.port());
    let created = create(&world, json!({"url": url})).await;
    world.events(1..=1).await;
    world.until("the failure to show", &path_of(&created), |hook| hook["failures"] != 0).await;
    assert!(node.has_none());
}

#[tokio::test]
async fn a_node_that_moves_is_known_at_its_new_address() {
    let mut node = Receiver::start(status(200)).await;
    let deny = api::DenyList::default();
    let shared = deny.clone();
    let world = World::with(|settings| settings.webhook_deny = shared, |_| {}).await;
    let created = create(&world, json!({"url": node.url()})).await;
    deny.set(vec![node.address]);
    world.events(1..=1).await;
    world.until("the failure to show", &path_of(&created), |hook| hook["failures"] != 0).await;
    assert!(node.has_none());
}

#[tokio::test]
async fn a_local_node_is_not_reached_at_other_addresses_of_this_machine() {
    // All interfaces, as a node that other machines may ask.
    let everywhere = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = everywhere.local_addr().unwrap().port();
    let deny = |settings: &mut api::Settings| {
        settings.webhook_allow = vec!["0.0.0.0/0".parse().unwrap()];
        settings.webhook_deny = vec![([127, 0, 0, 1], port).into()].into();
    };
    let world = World::with(deny, |_| {}).await;
    // Sends nothing, but chooses the interface. Without one there is loopback alone.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let found = socket.connect("198.51.100.77:9").and_then(|()| socket.local_addr());
    let own = found.map_or([127, 0, 0, 2].into(), |address| address.ip());
    let body = json!({"url": format!("http://{own}:{port}/")}).to_string();
    let answer = world.write("POST", "/v1/webhooks", &body).await;
    assert_eq!((answer.status, answer.problem().as_str()), (422, "bad-content"), "{own}");
    assert!(answer.text().contains("one of the nodes"), "{}", answer.text());
    let other = json!({"url": format!("http://{own}:{}/", port ^ 1)});
    create(&world, other).await;
}

#[tokio::test]
async fn only_who_may_write_sees_all_of_an_address() {
    let reads = Token::from_text(READ_TOKEN).unwrap();
    let world = World::with(|settings| settings.read_token = Some(reads), |_| {}).await;
    let url = "http://127.0.0.1:9/services/hidden?key=hidden";
    let created = create(&world, json!({"url": url})).await;
    assert_eq!(created["webhook"]["url"], url);
    let path = path_of(&created);
    for path in ["/v1/webhooks", &path] {
        for token in [None, Some(READ_TOKEN), Some(TOKEN)] {
            let bearer = token.map(|token| format!("Bearer {token}"));
            let headers: Vec<_> = bearer.iter().map(|b| ("Authorization", b.as_str())).collect();
            let answer = request(world.address, "GET", path, &headers, "").await;
            let shown = if token == Some(TOKEN) { url } else { "http://127.0.0.1:9/…" };
            let hook = answer.json();
            let hook = hook.get("webhooks").map_or(&hook, |hooks| &hooks[0]);
            assert_eq!(hook["url"], shown, "{path} {token:?}");
        }
    }
    // Failures have words and counters of their own.
    world.events(1..=1).await;
    world.until("the failure to show", &path, |hook| hook["failures"] != 0).await;
    for path in ["/v1/webhooks", "/metrics"] {
        let answer = world.get(path).await;
        assert!(!answer.text().contains("hidden"), "{}", answer.text());
    }
    let changed = world.write("PATCH", &path, "{}").await.json();
    assert_eq!(changed["url"], url);
}

#[tokio::test]
async fn events_that_a_webhook_does_not_want_are_no_lag() {
    let world = World::start().await;
    let hook = json!({"url": "http://127.0.0.1:9/", "types": "block_found"});
    let path = path_of(&create(&world, hook).await);
    let before = world.store.last_event_id();
    world.events(1..=150).await;
    let hook = world.until("the events to pass", &path, |hook| hook["lag_events"] == 0).await;
    let cursor = format!("{}-{}", world.store.epoch(), before + 150);
    assert_eq!((&hook["cursor"], &hook["state"]), (&json!(cursor), &json!("active")));
    let all = world.read("/v1/webhooks").await;
    assert_eq!(all["webhooks"][0], hook);
    // Paused, it stays there.
    world.write("PATCH", &path, r#"{"paused":true}"#).await;
    world.events(151..=152).await;
    assert!(world.read(&path).await["lag_events"].as_u64() >= Some(2));
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_itself_alone() {
    let world = World::start().await;
    let mut hung = Receiver::start(None).await;
    let mut well = Receiver::start(status(200)).await;
    let stuck = create(&world, json!({"url": hung.url()})).await;
    create(&world, json!({"url": well.url()})).await;
    world.events(1..=1).await;
    hung.next().await;
    for number in 2..=5 {
        well.next().await;
        world.events(number..=number).await;
    }
    let hook = world
        .until("the delivery to time out", &path_of(&stuck), |hook| hook["failures"] != 0)
        .await;
    assert!(hook["last_error"].as_str().unwrap().contains("timeout"), "{hook}");
}

#[tokio::test]
async fn a_webhook_goes_on_where_it_was_when_the_server_comes_back() {
    let mut world = World::start().await;
    let mut receiver = Receiver::start(status(200)).await;
    let created = create(&world, json!({"url": receiver.url(), "types": "node_status"})).await;
    world.events(1..=1).await;
    let last = *receiver.next().await.ids().last().unwrap();
    world
        .until("the cursor to be written", &path_of(&created), |hook| hook["lag_events"] == 0)
        .await;
    world.stop().await;
    world.events(2..=3).await;
    assert!(receiver.has_none());
    world.run().await;
    assert_eq!(receiver.next().await.ids(), [last + 1, last + 2]);
}

/// As if it had failed `failures` times in a row before it fails once more.
async fn fail_again(
    world: &mut World,
    receiver: &mut Receiver,
    path: &str,
    failures: u32,
) -> Value {
    world.stop().await;
    let id = path.rsplit('/').next().unwrap();
    let hook = store::Webhook { failures, ..world.store.webhook(id).unwrap().unwrap() };
    world.commit(store::Batch::new(samples::NOW_MS).change(store::Change::PutWebhook(hook))).await;
    world.run().await;
    receiver.next().await;
    world.until("one more failure", path, |hook| hook["failures"] == failures + 1).await
}

#[tokio::test]
async fn a_webhook_that_has_failed_for_long_is_dead_and_comes_back() {
    let mut world = World::start().await;
    let mut receiver = Receiver::start(status(500)).await;
    let created = create(&world, json!({"url": receiver.url(), "types": "node_status"})).await;
    let path = path_of(&created);
    world.events(1..=1).await;
    receiver.next().await;
    world.until("the failure to show", &path, |hook| hook["failures"] != 0).await;
    let dead = api::limits::WEBHOOK_DEAD_FAILURES;
    for (failures, state, shown) in [(dead - 2, "failing", "0.0"), (dead - 1, "dead", "1.0")] {
        let hook = fail_again(&mut world, &mut receiver, &path, failures).await;
        assert_eq!(hook["state"], state, "{hook}");
        let id = path.rsplit('/').next().unwrap();
        let line = format!("jds_webhook_dead{{webhook=\"{id}\"}} {shown}");
        let metrics = world.get("/metrics").await;
        assert!(metrics.text().lines().any(|found| found == line), "{line}: {}", metrics.text());
    }
    receiver.answer_with(status(200));
    world.write("PATCH", &path, "{}").await;
    receiver.next().await;
    let hook = world.until("it to be well", &path, |hook| hook["state"] == "active").await;
    assert_eq!(hook["failures"], 0);
}

#[tokio::test]
async fn webhooks_are_paused_resumed_and_deleted() {
    let world = World::start().await;
    let mut receiver = Receiver::start(status(200)).await;
    // Gets what the other does not, and so tells that there was something to get.
    let mut witness = Receiver::start(status(200)).await;
    create(&world, json!({"url": witness.url()})).await;
    let created = create(&world, json!({"url": receiver.url()})).await;
    let path = path_of(&created);
    let paused = world.write("PATCH", &path, r#"{"paused":true}"#).await.json();
    assert_eq!(paused["state"], "paused");
    world.events(1..=3).await;
    let lag = world.read(&path).await["lag_events"].as_u64().unwrap();
    assert_eq!(lag, 3);
    assert_eq!(witness.next().await.ids().len(), 3);
    assert!(receiver.has_none());
    let resumed = world.write("PATCH", &path, r#"{"paused":false}"#).await.json();
    assert_eq!(resumed["state"], "active");
    assert_eq!(receiver.next().await.ids().len(), 3);

    assert_eq!(world.write("DELETE", &path, "").await.status, 204);
    assert_eq!(world.get(&path).await.problem(), "not-found");
    assert_eq!(world.write("DELETE", &path, "").await.status, 404);
    assert_eq!(world.write("PATCH", &path, "{}").await.status, 404);
    world.events(4..=4).await;
    witness.next().await;
    assert!(receiver.has_none());
    let id = path.rsplit('/').next().unwrap().to_owned();
    assert!(!world.get("/metrics").await.text().contains(&id));
}

#[tokio::test]
async fn a_webhook_whose_events_are_gone_stops_until_it_gets_a_new_cursor() {
    let day_ms = 86_400_000;
    let world = World::with(|_| {}, |store| store.retention.events.age_ms = day_ms).await;
    let mut receiver = Receiver::start(status(200)).await;
    world.events(1..=1).await;
    let created = create(&world, json!({"url": receiver.url()})).await;
    let path = path_of(&created);
    world.write("PATCH", &path, r#"{"paused":true}"#).await;
    world.events(2..=20).await;
    let later = samples::NOW_MS + 3 * day_ms;
    world.commit(store::Batch::of_event(later, samples::numbered(21))).await;
    world.store.retain(later).unwrap();
    world.write("PATCH", &path, r#"{"paused":false}"#).await;
    let hook = world.until("it to stop", &path, |hook| hook["state"] == "lost").await;
    assert!(hook["last_error"].as_str().unwrap().contains("earliest"), "{hook}");
    assert!(world.get("/metrics").await.text().contains("jds_webhook_dead"));
    assert!(receiver.has_none());
    let changed = world.write("PATCH", &path, r#"{"after":"0"}"#).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    let id = world.store.last_event_id();
    assert_eq!(receiver.next().await.ids(), [id]);
}

#[tokio::test]
async fn what_makes_no_webhook_is_refused() {
    let world = World::start().await;
    for hook in [
        json!({"url": "ftp://127.0.0.1/"}),
        json!({"url": "http://user:pass@127.0.0.1/"}),
        json!({"url": "http://127.0.0.1/", "types": "nothing"}),
        json!({"url": "http://127.0.0.1/", "secret": "short"}),
        json!({"url": "http://127.0.0.1/", "secret": "sixteen and more, but with spaces"}),
        json!({"url": "http://127.0.0.1/", "after": "x"}),
    ] {
        let answer = world.write("POST", "/v1/webhooks", &hook.to_string()).await;
        assert_eq!((answer.status, answer.problem().as_str()), (422, "bad-content"), "{hook}");
    }
    let gone = json!({"url": "http://127.0.0.1/", "after": "00000000000000ff-1"}).to_string();
    assert_eq!(world.write("POST", "/v1/webhooks", &gone).await.status, 410);
}
