//! What the guides say of events and of the HTTP API is what the code says: the types of events are
//! made from the schemas; endpoints, metrics and limits are those of a running API; the example that
//! checks signatures takes the right ones and no others.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test says what it expected")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use api::{
    Backend, Declaration, Live, Metrics, NodeView, OwnTemplate, Part, Queue, Settings, Token,
};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network};
use jds_tests::http;
use serde_json::Value;
use store::{Batch, EventKind, NodeStatus, SqliteStore, Store, schemas};
use tempfile::TempDir;

/// Set to write the guide's part anew that is made from the code.
const UPDATE: &str = "UPDATE_REFERENCE";

/// Around that part.
const BEGIN: &str = "<!-- Made from the schemas; UPDATE_REFERENCE=1 writes it anew. -->\n";
const END: &str = "<!-- The end of what is made from the schemas. -->\n";

fn page(name: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guides/src").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

/// What a schema allows, in words.
fn type_of(schema: &Value) -> String {
    let quoted = |values: &Value| {
        let values = values.as_array().unwrap().iter().map(|value| value.as_str().unwrap());
        values.map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ")
    };
    if let Some(value) = schema["const"].as_str() {
        return format!("`{value}`");
    }
    if let Some(cases) = schema["oneOf"].as_array() {
        return cases.iter().map(type_of).collect::<Vec<_>>().join(", ");
    }
    if schema["enum"].is_array() {
        return quoted(&schema["enum"]);
    }
    let word = |name: &Value| match name.as_str().unwrap() {
        "string" => "text",
        "boolean" => "true or false",
        "null" => "null",
        "integer" => "integer",
        "number" => "number",
        other => panic!("no word for {other} in {schema}"),
    };
    match &schema["type"] {
        Value::Array(names) => names.iter().map(word).collect::<Vec<_>>().join(" or "),
        name => word(name).to_owned(),
    }
}

/// Every type of event with its fields.
fn types() -> String {
    let schemas = schemas();
    let mut text = String::new();
    for kind in EventKind::ALL {
        let schema = &schemas[kind.as_str()];
        let description = schema["description"].as_str().unwrap();
        let _ = write!(text, "\n### `{kind}`\n\n{description}\n\n");
        text.push_str("| field | type | meaning |\n|---|---|---|\n");
        let data = &schema["properties"]["data"];
        let required: Vec<_> = data["required"].as_array().unwrap().iter().collect();
        for (name, field) in data["properties"].as_object().unwrap() {
            let mut what = type_of(field);
            if !required.iter().any(|of| *of == name) && !what.contains("null") {
                what.push_str(", may be absent");
            }
            let meaning = field["description"].as_str().unwrap().replace('\n', " ");
            let _ = writeln!(text, "| `{name}` | {what} | {meaning} |");
        }
    }
    text.push('\n');
    text
}

#[test]
fn the_guide_lists_every_event_as_the_schemas_have_it() {
    let (path, text) = page("events.md");
    let (before, rest) = text.split_once(BEGIN).expect("the mark in front of the types");
    let (written, after) = rest.split_once(END).expect("the mark behind the types");
    let types = types();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{types}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(
        written, types,
        "guides/src/events.md is not what the schemas say; run \
         {UPDATE}=1 cargo test -p jds-tests --test guides"
    );
}

/// A server with one of everything that is counted.
struct Busy;

impl Backend for Busy {
    fn nodes(&self) -> Vec<NodeView> {
        vec![NodeView {
            kind: "bitcoin_core".to_owned(),
            name: "main".to_owned(),
            state: "at_tip".to_owned(),
            ready: true,
            active: true,
            height: Some(1),
            tip_hash: Some(BlockHash::all_zeros()),
            tip_age_ms: Some(1),
            download: None,
            detail: None,
        }]
    }

    fn own_template(&self) -> Option<Arc<OwnTemplate>> {
        None
    }

    fn live(&self) -> Live {
        Live {
            tokens: 1,
            connections: vec![("job_declaration", 1)],
            channels: vec![("mining", 1)],
            queues: vec![Queue { name: "events", depth: 1, capacity: 2 }],
            jobs: 1,
        }
    }

    fn readiness(&self) -> Vec<Part> {
        vec![Part::ready("nodes")]
    }
}

/// Counts something of everything.
fn count(metrics: &Metrics) {
    metrics.declaration(&Declaration {
        result: "accepted",
        code: "",
        validation: Duration::from_millis(1),
        bytes: 1_000,
        txs: 2,
        missing_txs: 1,
        fetch: Some(Duration::from_millis(1)),
    });
    metrics.cache("transactions", 1, 1);
    metrics.solution("block");
    metrics.submission("main", "accepted", Duration::from_millis(1));
    metrics.share("miner", "accepted");
    metrics.channel_target("mining", "opened", 1.0);
    metrics.user_check("allowed", "asked");
    metrics.template_message("new_template");
    metrics.share_difficulty("miner", 1.0);
    metrics.traffic("job_declaration").sent(1);
}

const TOKEN: &str = "0123456789abcdef-token";

/// An API with a webhook, for as long as the directory is there.
async fn serve(dir: &TempDir) -> SocketAddr {
    let mut settings = Settings::new("127.0.0.1:0".parse().unwrap(), Network::Regtest);
    settings.token = Some(Token::from_text(TOKEN).unwrap());
    settings.webhook_allow = vec!["127.0.0.0/8".parse().unwrap()];
    let store = Arc::new(SqliteStore::open(store::Settings::new(dir.path())).unwrap());
    let (node, state) = ("main".to_owned(), "at_tip".to_owned());
    let event = NodeStatus { kind: None, node, state, height: None, detail: None };
    store.commit(Batch::of_event(1, event)).await.unwrap();
    let metrics = Metrics::new();
    count(&metrics);
    let listener = api::bind(&settings).await.unwrap();
    let address = listener.local_addr().unwrap();
    let never = std::future::pending();
    tokio::spawn(api::serve(listener, settings, store, Arc::new(Busy), metrics, never));
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    // Nobody listens on port 1: the delivery fails, which is counted too.
    let hook = r#"{"url": "http://127.0.0.1:1/", "after": "0"}"#;
    let created = http::request(address, "POST", "/v1/webhooks", &headers, hook);
    assert_eq!(created.status, 201, "{}", created.body);
    address
}

/// The first column of each table of a page, when it is nothing but code.
fn first_column(text: &str) -> BTreeSet<String> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    cells.map(|(cell, _)| cell.to_owned()).collect()
}

/// The part of a page under a heading of the second level.
#[track_caller]
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("\n## {heading}\n")).expect("the heading");
    rest.split("\n## ").next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_lists_every_endpoint_of_the_api() {
    let dir = TempDir::with_prefix("jds-guides-").unwrap();
    let address = serve(&dir).await;
    let described = http::read(address, "/v1/openapi.json");
    let mut endpoints = BTreeSet::new();
    for (path, methods) in described["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            endpoints.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    assert!(endpoints.len() > 15, "{endpoints:?}");
    assert_eq!(first_column(section(&page("api.md").1, "Endpoints")), endpoints);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_lists_every_metric() {
    let dir = TempDir::with_prefix("jds-guides-").unwrap();
    let address = serve(&dir).await;
    let is_complete = || {
        let text = http::get(address, "/metrics").body;
        text.contains("webhook_deliveries_total{").then_some(text)
    };
    let text = signet::wait::until("a delivery to be counted", jds_tests::PATIENCE, is_complete);
    let text = text.unwrap();
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    // A family is named without `_total`, a counter with it.
    let suffix = |kind| if kind == "counter" { "_total" } else { "" };
    let metrics: BTreeSet<_> =
        families.map(|(name, kind)| format!("{name}{}", suffix(kind))).collect();
    assert_eq!(first_column(section(&page("api.md").1, "Metrics")), metrics);
}

/// A supervisor that kills earlier cuts off an end in order.
#[test]
fn operations_say_how_long_an_end_in_order_takes() {
    let (_, page) = page("operations.md");
    let text = section(&page, "An end in order");
    let grace = jds::limits::SHUTDOWN_GRACE.as_secs();
    let rows = text.lines().filter(|line| line.ends_with(&format!("| {grace} s |"))).count();
    assert_eq!(rows, 4, "one for each part of the end");
    let all = rows as u64 * grace;
    assert!(text.contains(&format!("more than {all} seconds")), "{text}");
    for setting in ["stop_grace_period: ", "TimeoutStopSec="] {
        let seconds = text.split_once(setting).unwrap().1;
        let seconds: String = seconds.chars().take_while(char::is_ascii_digit).collect();
        assert!(seconds.parse::<u64>().unwrap() > all, "{setting}");
    }
}

#[test]
fn the_guide_states_the_limits_of_the_code() {
    use api::limits as of_api;
    let ms = |duration: Duration| format!("{} s", duration.as_secs());
    let rows = [
        ("connections", of_api::CONNECTIONS_MAX.to_string()),
        (
            "connections of one address (of IPv6: of one /64) other than this machine",
            (of_api::CONNECTIONS_MAX / of_api::PLACES_PER_PEER_DIVISOR).to_string(),
        ),
        ("readers of the stream, and long polls, together", of_api::STREAM_CLIENTS_MAX.to_string()),
        (
            "readers and long polls of one address other than this machine",
            (of_api::STREAM_CLIENTS_MAX / of_api::PLACES_PER_PEER_DIVISOR).to_string(),
        ),
        ("reads of the store at the same time; more wait", of_api::STORE_READS_MAX.to_string()),
        ("how long they wait", ms(of_api::STORE_READ_WAIT)),
        ("head of a request", format!("{} bytes", of_api::CONNECTION_BUFFER_BYTES)),
        ("time for it to come", ms(of_api::HEAD_TIMEOUT)),
        ("body of a request", format!("{} bytes", of_api::BODY_BYTES_MAX)),
        ("time to the head of the answer", ms(of_api::REQUEST_TIMEOUT)),
        ("time in which a client takes not one byte", ms(of_api::WRITE_TIMEOUT)),
        ("a long poll", format!("{} ms", of_api::LONG_POLL_MS_MAX)),
        ("events in an answer", of_api::EVENTS_PER_PAGE_MAX.to_string()),
        ("items in any other list", store::limits::PAGE_ITEMS_MAX.to_string()),
        ("patterns in `types`", store::limits::PATTERNS_MAX.to_string()),
        ("user identity", format!("{} bytes", of_api::USER_BYTES_MAX)),
        ("webhooks", store::limits::WEBHOOKS_MAX.to_string()),
        ("address of a webhook", format!("{} bytes", of_api::WEBHOOK_URL_BYTES_MAX)),
        ("deliveries at the same time", of_api::WEBHOOK_DELIVERIES_MAX.to_string()),
    ];
    let mut table = String::from("| what | at most |\n|---|---|\n");
    for (what, most) in rows {
        let _ = writeln!(table, "| {what} | {most} |");
    }
    let (_, text) = page("api.md");
    assert!(section(&text, "Limits").contains(&table), "api.md should have\n{table}");
}

/// The block of Python in the page on events.
fn verification() -> String {
    let (_, text) = page("events.md");
    let (_, rest) = text.split_once("\n```python\n").expect("a block of Python");
    rest.split_once("\n```\n").unwrap().0.to_owned()
}

#[test]
fn the_example_checks_signatures_as_they_are_made() {
    // The vector is from the tests of the API: printf '1700000000.{"a":1}' |
    // openssl dgst -sha256 -hmac 0123456789abcdef
    let asserts = r#"
def ask(secret="0123456789abcdef", stamp="1700000000", body=b'{"a":1}', now=1700000100.0, sign=None):
    sign = sign or "v1=9eb18f493f8ec135d9eb2dad817c369bb4e9cbfa818657897a7437c1cd8c3a23"
    return is_genuine(secret, {"X-JDS-Timestamp": stamp, "X-JDS-Signature": sign}, body, now)
assert ask()
assert not ask(secret="0123456789abcdeF")
assert not ask(stamp="1700000001")
assert not ask(body=b'{"a":2}')
assert not ask(sign="v1=" + "0" * 64)
assert not ask(now=1700000301.0), "an old delivery that somebody recorded"
print("checked")
"#;
    let output = Command::new("python3").arg("-c").arg(verification() + asserts).output();
    let output = output.expect("python3 on the PATH; ./test.sh installs it where it can");
    assert_eq!(output.stdout, b"checked\n", "{}", String::from_utf8_lossy(&output.stderr));
}
