//! The HTTP API of a server at work: what it says of nodes, declarations, templates and events is
//! what happened.
#![expect(clippy::unwrap_used, reason = "a test says what it expected")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use bitcoin::Transaction;
use jds::client::{JdClient, SetupOptions};
use jds_tests::http::{self, EventStream};
use jds_tests::{Miner, PATIENCE, Setup, Work, World, accepted, rejected};
use serde_json::{Value, json};
use signet::kinds::{Kind, Sample};
use signet::{Node, NodeOptions, wait};
use tempfile::TempDir;

/// Lets whoever shows it write.
const TOKEN: &str = "0123456789abcdef-token";

async fn with_api() -> World {
    Setup::new().api("").start().await
}

/// A file with [`TOKEN`], as the operator keeps it.
fn token_file(dir: &TempDir) -> PathBuf {
    let file = dir.path().join("api.token");
    fs::write(&file, TOKEN).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    file
}

/// Asks again until the answer is what is wanted.
#[track_caller]
fn until(world: &World, what: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    wait::until(what, PATIENCE, || {
        last = http::get(world.api(), path).json();
        wanted(&last).then(|| last.clone())
    })
    .unwrap_or_else(|error| panic!("{error}: {last:#}"))
}

/// The value of a metric with these labels, as text; `None` when there is no such line.
fn metric(text: &str, name_and_labels: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name_and_labels))?;
    line.strip_prefix(' ')?.parse().ok()
}

fn metrics(world: &World) -> String {
    let answer = http::get(world.api(), "/metrics");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.ends_with("# EOF\n"), "{}", answer.body);
    answer.body
}

#[track_caller]
fn assert_metric(text: &str, name_and_labels: &str, expected: f64) {
    assert_eq!(metric(text, name_and_labels), Some(expected), "{name_and_labels} in:\n{text}");
}

/// The payload of the only event of this type.
#[track_caller]
fn only(events: &[Value], kind: &str) -> Value {
    let of_kind: Vec<_> = events.iter().filter(|event| event["event"] == kind).collect();
    assert_eq!(of_kind.len(), 1, "{kind} in {events:#?}");
    of_kind[0]["data"].clone()
}

/// The states of the node that were told, oldest first.
fn node_states(world: &World) -> Vec<String> {
    let page = http::read(world.api(), "/v1/events?types=node_status&limit=1000");
    let events = page["events"].as_array().unwrap().iter();
    events.map(|event| event["data"]["state"].as_str().unwrap().to_owned()).collect()
}

/// Two payments: one that the node knows and offers, and one that it does not.
async fn payments(world: &World) -> (Work, Sample, Sample) {
    let coins = world.coins(2).await;
    let [known, unknown] = [&coins[0], &coins[1]].map(|coin| Kind::Payment.build(coin).unwrap());
    let work = world.relay(&known.txs).await;
    (work, known, unknown)
}

fn wtxids(txs: &[Transaction]) -> Vec<String> {
    txs.iter().map(|tx| tx.compute_wtxid().to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn readyz_says_which_part_is_not_ready_until_it_is() {
    let mut node = Node::regtest().unwrap();
    let name = node.name().to_owned();
    node.mine(1).unwrap();
    node.stop().unwrap();
    let mut world = Setup::new().api("").start_on(vec![node]).await;

    let part = |view: &Value, name: &str| -> Value {
        let parts = view["parts"].as_array().unwrap();
        parts.iter().find(|part| part["name"] == name).unwrap().clone()
    };
    let lost = until(&world, "the node to be missed", "/readyz", |view| {
        view["parts"][0]["detail"].as_str().is_some_and(|detail| detail.contains("unreachable"))
    });
    assert_eq!(lost["not_ready"], json!(["nodes"]), "{lost:#}");
    assert_eq!(http::get(world.api(), "/readyz").status, 503);
    let detail = part(&lost, "nodes")["detail"].as_str().unwrap().to_owned();
    assert!(detail.starts_with(&format!("{name}: unreachable (")), "{detail}");
    for name in ["store", "listener:job_declaration"] {
        assert_eq!(part(&lost, name)["ready"], true, "{lost:#}");
    }
    let view = http::read(world.api(), "/v1/nodes");
    let down = &view["nodes"][0];
    assert_eq!((&down["state"], &down["ready"]), (&json!("unreachable"), &json!(false)), "{view}");

    world.nodes[0].restart().unwrap();
    until(&world, "the server to be ready", "/readyz", |view| view["ready"] == true);
    let ready = http::read(world.api(), "/readyz");
    assert_eq!(ready["not_ready"], json!([]), "{ready:#}");

    world.nodes[0].stop().unwrap();
    until(&world, "the server not to be ready", "/readyz", |view| view["ready"] == false);
    wait::until_true("an event for each change of the node", PATIENCE, || {
        node_states(&world) == ["unreachable", "at_tip", "unreachable"]
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", node_states(&world)));
    // Without a node the process lives.
    assert_eq!(http::get(world.api(), "/healthz").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_of_two_is_enough_to_be_ready() {
    let good = Node::regtest().unwrap();
    good.mine(1).unwrap();
    let mut lost = Node::regtest().unwrap();
    lost.stop().unwrap();
    let (good_name, lost_name) = (good.name().to_owned(), lost.name().to_owned());
    let world = Setup::new().api("").start_on(vec![lost, good]).await;
    let view = until(&world, "the server to be ready", "/readyz", |view| {
        view["ready"] == true && view["parts"][0]["detail"].is_string()
    });
    let detail = view["parts"][0]["detail"].as_str().unwrap();
    assert!(detail.contains(&lost_name) && !detail.contains(&good_name), "{detail}");

    let tip = world.nodes[1].tip().unwrap().to_string();
    let view = http::read(world.api(), "/v1/nodes");
    let [first, second] = view["nodes"].as_array().unwrap().as_slice() else { panic!("{view}") };
    assert_eq!((&first["name"], &first["active"]), (&json!(lost_name), &json!(false)), "{view}");
    assert_eq!((&second["name"], &second["active"]), (&json!(good_name), &json!(true)), "{view}");
    assert_eq!(second["state"], "at_tip", "{view}");
    assert_eq!((&second["height"], &second["tip_hash"]), (&json!(1), &json!(tip)), "{view}");
    assert!(second["tip_age_ms"].as_u64().unwrap() < PATIENCE.as_millis() as u64, "{view}");
}

/// A node far behind: its last block is from 2020.
#[tokio::test(flavor = "multi_thread")]
async fn a_download_is_told_with_its_progress() {
    let node = Node::start(NodeOptions::signet().arg("-maxtipage=86400")).unwrap();
    let height = node.height().unwrap();
    let world = Setup::new().api("").start_on(vec![node]).await;
    let view = until(&world, "the node to be seen downloading", "/v1/nodes", |view| {
        view["nodes"][0]["state"] == "syncing"
    });
    let download = &view["nodes"][0]["download"];
    assert_eq!((&download["blocks"], &download["headers"]), (&json!(height), &json!(height)));
    let percent = download["percent"].as_f64().unwrap();
    assert!((0.0..=100.0).contains(&percent), "{view}");
    // It does not get on, so there is nothing to estimate from.
    assert_eq!(download["left_s"], Value::Null, "{view}");
    assert_eq!(http::get(world.api(), "/readyz").status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_was_declared() {
    // No check comes and goes while the queues are looked at.
    let setup = Setup::new().api("").job_declaration("consensus_check = \"off\"");
    let world = setup.start().await;
    let (work, known, unknown) = payments(&world).await;
    let mut miner = world.miner("alice").await;
    // The token of the connection's start is not used.
    assert_metric(&metrics(&world), "jds_tokens_live", 1.0);

    let txs = [known.txs.clone(), unknown.txs.clone()].concat();
    let declared_txs = txs.len() as f64;
    let missing = unknown.txs.len() as f64;
    let template = miner.template_of(&work, txs, known.fee_sat + unknown.fee_sat);
    accepted(&miner.declare(&template).await);
    let mut greedy = miner.template(&work);
    greedy.coinbase.output[0].value += bitcoin::Amount::ONE_SAT;
    rejected(&miner.declare(&greedy).await, "invalid-coinbase-tx", "coinbase-value");
    rejected(
        &miner.declare_with(b"nonsense", &template).await,
        "invalid-mining-job-token",
        "token-unknown",
    );

    let text = metrics(&world);
    let declarations = |labels: &str| format!("jds_declarations_total{{{labels}}}");
    assert_metric(&text, &declarations(r#"result="accepted",code="""#), 1.0);
    for code in ["invalid-coinbase-tx", "invalid-mining-job-token"] {
        let labels = format!(r#"result="rejected",code="{code}""#);
        assert_metric(&text, &declarations(&labels), 1.0);
    }
    // The one without a token says nothing of times and sizes.
    assert_metric(&text, "jds_validation_seconds_count", 2.0);
    assert_metric(&text, "jds_declaration_bytes_count", 2.0);
    assert!(metric(&text, "jds_validation_seconds_sum").unwrap() > 0.0, "{text}");
    let greedy_txs = greedy.wtxids().len() as f64;
    assert_metric(&text, "jds_declared_txs_total", declared_txs + greedy_txs);
    assert_metric(&text, "jds_missing_txs_total", missing);
    assert_metric(&text, "jds_missing_txs_wait_seconds_count", 1.0);
    let lookups = |result: &str| {
        format!(r#"jds_cache_lookups_total{{cache="transactions",result="{result}"}}"#)
    };
    assert_metric(&text, &lookups("miss"), missing);
    assert!(metric(&text, &lookups("hit")).unwrap() >= known.txs.len() as f64, "{text}");

    assert_metric(&text, "jds_jobs_live", 1.0);
    assert_metric(&text, "jds_tokens_live", 1.0);
    assert_metric(&text, r#"jds_connections{role="job_declaration"}"#, 1.0);
    assert_metric(&text, r#"jds_connections{role="handshake"}"#, 0.0);
    for part in ["nodes", "listener:job_declaration"] {
        assert_metric(&text, &format!("jds_part_ready{{part=\"{part}\"}}"), 1.0);
    }
    for (queue, depth) in [
        ("connections", 1.0),
        ("solutions", 0.0),
        ("consensus_checks", 0.0),
        ("peer_bytes", 0.0),
        ("events", 0.0),
    ] {
        assert_metric(&text, &format!("jds_queue_depth{{queue=\"{queue}\"}}"), depth);
        let capacity = metric(&text, &format!("jds_queue_capacity{{queue=\"{queue}\"}}"));
        assert!(capacity.unwrap() >= 1.0, "{queue}: {capacity:?}");
    }
    let node = world.node().name();
    let height = f64::from(world.node().height().unwrap());
    assert_metric(&text, &format!("jds_node_height{{node=\"{node}\"}}"), height);
    let bytes = |direction: &str| {
        let labels = format!(r#"{{protocol="job_declaration",direction="{direction}"}}"#);
        metric(&text, &format!("jds_protocol_bytes_total{labels}")).unwrap()
    };
    let raw_bytes: usize = unknown.txs.iter().map(Transaction::total_size).sum();
    assert!(bytes("in") > raw_bytes as f64 && bytes("out") > 0.0, "{text}");

    // What the connection held goes with it.
    drop(miner);
    wait::until_true("the connection and its token to be gone", PATIENCE, || {
        let text = metrics(&world);
        metric(&text, "jds_tokens_live") == Some(0.0)
            && metric(&text, r#"jds_connections{role="job_declaration"}"#) == Some(0.0)
    })
    .unwrap();
    assert_metric(&metrics(&world), "jds_jobs_live", 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_compared_with_the_nodes_own() {
    let world = with_api().await;
    let (work, known, unknown) = payments(&world).await;
    let mut miner = world.miner("alice").await;
    let template = miner.template_of(&work, unknown.txs.clone(), unknown.fee_sat);
    accepted(&miner.declare(&template).await);

    let list = http::read(world.api(), "/v1/templates?user=alice&result=accepted");
    let [listed] = list["items"].as_array().unwrap().as_slice() else { panic!("{list:#}") };
    let hash = listed["template_hash"].as_str().unwrap();
    let path = format!("/v1/templates/{hash}");
    let view = http::read(world.api(), &path);
    let difference = &view["difference"];
    assert_eq!(difference["state"], "compared", "{view:#}");
    assert_eq!(difference["node"], world.node().name());
    assert_eq!(difference["in_both"], 0);
    let listed = |side: &str| -> Vec<String> {
        let txs = difference[side].as_array().unwrap().iter();
        txs.map(|tx| tx["wtxid"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed("only_in_declared"), wtxids(&unknown.txs));
    assert_eq!(listed("only_in_node"), wtxids(&known.txs));
    assert_eq!(difference["node_fees_sat"], json!(work.fees_sat), "{view:#}");
    assert!(work.fees_sat > 0);
    let node_fees: u64 = difference["only_in_node"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tx| tx["fee_sat"].as_u64().unwrap())
        .sum();
    assert_eq!(node_fees, work.fees_sat, "the node's word on each transaction");

    // The node's own template does not differ.
    let own = miner.template(&work);
    accepted(&miner.declare(&own).await);
    let list = http::read(world.api(), "/v1/templates?limit=1");
    let hash = list["items"][0]["template_hash"].as_str().unwrap();
    let view = http::read(world.api(), &format!("/v1/templates/{hash}"));
    let difference = &view["difference"];
    assert_eq!(difference["in_both"], json!(known.txs.len()), "{view:#}");
    assert_eq!(difference["fees_difference_sat"], 0);
    assert_eq!(difference["only_in_declared_count"], 0);
    assert_eq!(difference["only_in_node_count"], 0);

    // A block later there is nothing to compare with.
    world.node().mine(1).unwrap();
    let moved = until(&world, "the node's template to move on", &path, |view| {
        view["difference"]["state"] == "other_parent"
    });
    assert_eq!(moved["difference"]["node_height"], json!(work.height + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_declaration_are_there_when_it_is_answered() {
    let world = with_api().await;
    let mut stream = EventStream::open(world.api(), "/v1/events/stream", "");
    let work = world.work();
    let mut miner = world.miner("alice").await;
    let template = miner.template(&work);
    accepted(&miner.declare(&template).await);

    let page = http::read(world.api(), "/v1/events?limit=1000");
    let events = page["events"].as_array().unwrap();
    let connected = only(events, "miner_connected");
    assert_eq!(
        (&connected["user"], &connected["role"]),
        (&json!("alice"), &json!("job_declaration"))
    );
    assert_eq!(connected["job_negotiation"], true);
    let told = only(events, "template_accepted");
    assert_eq!((&told["user"], &told["height"]), (&json!("alice"), &json!(work.height)));
    assert_eq!(told["prev_hash"], json!(work.prev_hash.to_string()));
    let proposed = only(events, "template_proposed");
    assert_eq!(proposed["template_hash"], told["template_hash"]);

    // The stream tells the same, in the same order.
    let mut streamed = Vec::new();
    while streamed.len() < events.len() {
        streamed.push(stream.next_event().expect("the stream ended"));
    }
    assert_eq!(&streamed, events);
    // A reader comes back, and the server ends.
    let last_id = stream.last_id.clone();
    drop(stream);
    drop(miner);
    let mut stream = EventStream::open(world.api(), "/v1/events/stream", &last_id);
    let left = stream.next_event().expect("the stream ended");
    assert_eq!(
        (&left["event"], &left["data"]["user"]),
        (&json!("miner_disconnected"), &json!("alice"))
    );
    world.server.shutdown().await;
    assert_eq!(stream.next_event(), None, "the stream ends with the server");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_can_not_be_made_to_talk_to_the_node_or_to_us() {
    let dir = tempfile::tempdir().unwrap();
    let lines =
        format!("token_file = {:?}\nwebhook_allow = [\"0.0.0.0/0\", \"::/0\"]", token_file(&dir));
    let world = Setup::new().api(&lines).start().await;
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let create = |url: &str| {
        let body = json!({ "url": url }).to_string();
        http::request(world.api(), "POST", "/v1/webhooks", &headers, &body)
    };
    let rpc = world.node().rpc_url();
    let port = rpc.rsplit_once(':').unwrap().1.trim_end_matches('/');
    for url in [
        rpc.clone(),
        format!("http://[::1]:{port}/"),
        format!("http://127.0.0.2:{port}/"),
        format!("http://{}/", world.api()),
        format!("http://{}/", world.address()),
    ] {
        let answer = create(&url);
        assert_eq!(answer.status, 422, "{url}: {}", answer.body);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("one of the nodes"), "{url}: {detail}");
    }
    // Everything else on this machine was allowed.
    assert_eq!(create("http://127.0.0.1:9/").status, 201);
    // And nobody writes without the token.
    let body = json!({ "url": "http://127.0.0.1:9/" }).to_string();
    let json_only = [("Content-Type", "application/json")];
    assert_eq!(http::request(world.api(), "POST", "/v1/webhooks", &json_only, &body).status, 401);
}

/// The API does not run where connections of miners do: here that is this very thread, and it
/// stands still while the API answers.
#[tokio::test]
async fn the_api_needs_no_thread_of_the_servers_runtime() {
    let world = with_api().await;
    let options = SetupOptions::default();
    let mut client =
        JdClient::connect(world.address(), Some(world.authority), &options).await.unwrap();
    client.allocate_token("alice").await.unwrap();
    for path in ["/healthz", "/readyz", "/v1/nodes", "/v1/events", "/v1/templates"] {
        http::read(world.api(), path);
    }
    assert_metric(&metrics(&world), "jds_tokens_live", 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_the_api_hold_up_no_miner() {
    let world = with_api().await;
    // All places for readers of the stream, none of whom reads.
    let streams: Vec<_> = (0..api::limits::STREAM_CLIENTS_MAX)
        .map(|_| EventStream::open(world.api(), "/v1/events/stream", ""))
        .collect();
    let mut miner: Miner = world.miner("alice").await;
    let work = world.work();
    for sequence in 1..=20 {
        let mut template = miner.template(&work);
        template.coinbase.input[0].sequence = bitcoin::Sequence::from_consensus(sequence);
        accepted(&miner.declare(&template).await);
    }
    assert_eq!(http::get(world.api(), "/v1/events/stream").status, 503);
    assert_eq!(streams.len(), api::limits::STREAM_CLIENTS_MAX);
}
