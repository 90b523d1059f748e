//! A server with a template provider and no node.

use std::time::Duration;

use jds_tests::http::{get, read};
use jds_tests::{PATIENCE, World};
use serde_json::json;
use signet::wait;
use store::{SubmissionState, TemplateSource};
use tdp_client::limits::PROVIDER_COINBASE_BYTES_MAX;

use crate::client::{Client, SIZE, connect, ids, payments};
use crate::worlds::{NAME, alone, giving, place, synced, until_ready};

async fn provider(ipc: bool) -> World {
    let setup = giving();
    if ipc { setup.ipc() } else { setup }.start().await
}

/// Transactions of the node under the provider reach a client of the follower, and its solution
/// becomes a block, without a node of the follower's own.
async fn templates_pass_through(ipc: bool) {
    let provider = provider(ipc).await;
    let (address, _) = place(&provider);
    let follower = alone(&provider, address).start_on(Vec::new()).await;
    until_ready(&follower, true).await;
    let txs = payments(&provider, 3).await;
    let work = provider.relay(&txs).await;
    synced(&follower, provider.node()).await;

    let tip = provider.node().tip().unwrap();
    let mut client = Client::connect(&follower, SIZE).await;
    let value_sat = work.subsidy_sat + work.fees_sat;
    client
        .until("the node's work", |client| {
            client.is_on(&tip) && client.template.value_sat == value_sat
        })
        .await;
    assert_eq!(ids(&client.transactions().await), ids(&work.txs));
    // A declaration may be made of them.
    follower.wait_known(&txs);

    for extra in [&b"one"[..], b"two"] {
        let coinbase = client.template.coinbase(provider.node().mining_script(), extra);
        let solved = client.template.solve(&client.on, coinbase).unwrap();
        let hash = solved.hash();
        client.wire.submit(&solved).await.unwrap();
        jds_tests::Work::wait_mined(provider.node(), hash, PATIENCE);
        client.until("the own block as tip", |client| client.is_on(&hash)).await;
        let store = follower.store();
        let block = wait::until("the block to be accepted", PATIENCE, || {
            let block = store.block(&hash.to_string()).unwrap()?;
            let taken = |one: &store::NodeSubmission| one.state == SubmissionState::Accepted;
            block.submissions.iter().any(taken).then_some(block)
        })
        .unwrap();
        assert_eq!(block.template_source, TemplateSource::Pool);
        let nodes: Vec<_> = block.submissions.iter().map(|one| one.node.as_str()).collect();
        assert_eq!(nodes, [NAME]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_pass_through_from_a_node_over_rpc() {
    templates_pass_through(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_pass_through_from_a_node_over_ipc() {
    templates_pass_through(true).await;
}

/// Nobody would take a block of our own choice of transactions: what goes out is the provider's,
/// whole, also to a client that needs more room than anybody before.
#[tokio::test(flavor = "multi_thread")]
async fn each_client_gets_a_whole_template_of_the_provider() {
    let provider = provider(false).await;
    let follower = alone(&provider, place(&provider).0).start_on(Vec::new()).await;
    let txs = payments(&provider, 2).await;
    let work = provider.relay(&txs).await;
    synced(&follower, provider.node()).await;
    let value_sat = work.subsidy_sat + work.fees_sat;
    let tip = provider.node().tip().unwrap();
    for size in [SIZE, PROVIDER_COINBASE_BYTES_MAX] {
        let mut client = Client::connect(&follower, size).await;
        let wanted = |client: &Client| client.is_on(&tip) && client.template.value_sat == value_sat;
        client.until("the whole template", wanted).await;
        assert_eq!(ids(&client.transactions().await), ids(&work.txs), "with {size} bytes");
    }
    // One that leaves no room for all of it has to find a node: what is cut for it nobody would
    // take.
    let weight: u64 = work.txs.iter().map(|tx| tx.weight().to_wu()).sum();
    let mut greedy = connect(&follower).await;
    greedy.constrain(((4_000_000 - 1_168 - weight) / 4) as u32, 0).await.unwrap();
    let come = tokio::time::timeout(Duration::from_millis(500), greedy.pushed()).await;
    assert!(come.is_err(), "{come:?}");
    // It gets the next one that is whole for it: without transactions.
    let txs = provider.node().mine(1).unwrap();
    let mut greedy = Client::start(greedy).await;
    greedy.until("the next tip", |client| client.is_on(&txs[0])).await;
    assert!(greedy.template.merkle_path.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_metrics_and_events_tell_of_the_provider() {
    let provider = provider(false).await;
    let follower = alone(&provider, place(&provider).0).start_on(Vec::new()).await;
    until_ready(&follower, true).await;
    synced(&follower, provider.node()).await;
    let nodes = read(follower.api(), "/v1/nodes");
    let tip = provider.node().tip().unwrap();
    let node = &nodes["nodes"][0];
    assert_eq!(node["name"], json!(NAME));
    assert_eq!(node["kind"], json!("template_provider"));
    assert_eq!(node["state"], json!("at_tip"));
    assert_eq!((&node["ready"], &node["active"]), (&json!(true), &json!(true)));
    assert_eq!(node["tip_hash"], json!(tip.to_string()));
    assert_eq!(node["height"], json!(provider.node().height().unwrap()));
    let text = get(follower.api(), "/metrics").body;
    let kind = format!("jds_node_info{{node=\"{NAME}\",kind=\"template_provider\"}} 1");
    assert!(text.contains(&kind), "{kind} is not in:\n{text}");
    let store = follower.store();
    wait::until_true("the event", PATIENCE, || {
        jds_tests::kept::events(&*store).iter().any(|event| {
            matches!(event.typed(), Ok(store::EventData::NodeStatus(status))
                if status.node == NAME && status.state == "at_tip"
                    && status.kind.as_deref() == Some("template_provider"))
        })
    })
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_key_is_refused_and_named() {
    let provider = provider(false).await;
    let (address, _) = place(&provider);
    let (_, other) = config::keys::generate().unwrap();
    let script =
        format!("mode = \"pool\"\nscript = \"raw({:x})\"", provider.node().mining_script());
    let follower = crate::worlds::following(address, &other.to_string())
        .payout(&script)
        .job_declaration("modes = [\"coinbase-only\"]")
        .start_on(Vec::new())
        .await;
    let state = until_ready(&follower, false).await;
    assert!(format!("{state:?}").contains("public_key"), "{state:?}");
    assert_eq!(follower.server.shared().nodes.tip(), None, "nothing of it is believed");
}
