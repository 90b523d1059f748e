//! What the store holds and how the server is, as readers get it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use api::{OwnTemplate, OwnTx};
use serde_json::{Value, json};
use store::Store;

use crate::client::within;
use crate::samples::{self, FEES_SAT, NOW_MS};
use crate::world::World;

fn own_template(height: u32, numbers: &[u64]) -> OwnTemplate {
    let own = |number: &u64| {
        let tx = samples::tx(*number);
        OwnTx { txid: tx.txid(), wtxid: tx.wtxid(), fee_sat: 500 }
    };
    OwnTemplate {
        node: "local".into(),
        prev_hash: samples::prev_hash(height),
        height,
        received_at_ms: NOW_MS,
        txs: numbers.iter().map(own).collect(),
    }
}

#[tokio::test]
async fn lists_are_paged_newest_first() {
    let world = World::start().await;
    for number in 0..7 {
        world.commit(samples::accepted("alice", samples::job(200, [number]))).await;
    }
    world.commit(samples::rejected("bob")).await;
    let (mut path, mut seen) = ("/v1/templates?limit=3".to_owned(), Vec::new());
    loop {
        let page = world.read(&path).await;
        seen.extend(page["items"].as_array().unwrap().clone());
        match page["next"].as_u64() {
            Some(next) => path = format!("/v1/templates?limit=3&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 8);
    let ids: Vec<_> = seen.iter().map(|item| item["declaration_id"].as_u64().unwrap()).collect();
    assert!(ids.is_sorted_by(|left, right| left > right), "{ids:?}");

    for (query, expected) in [
        ("user=bob", 1),
        ("user=alice", 7),
        ("user=nobody", 0),
        ("result=rejected", 1),
        ("result=accepted&user=bob", 0),
        (&format!("from={NOW_MS}"), 8),
        (&format!("until={NOW_MS}"), 0),
        (&format!("template_hash={}", seen[7]["template_hash"].as_str().unwrap()), 1),
    ] {
        let page = world.read(&format!("/v1/templates?{query}")).await;
        assert_eq!(page["items"].as_array().unwrap().len(), expected, "{query}");
    }
    for query in ["result=good", "template_hash=xyz", "limit=1001", "after=18446744073709551615"] {
        assert_eq!(world.get(&format!("/v1/templates?{query}")).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn a_declaration_says_how_it_went() {
    let world = World::start().await;
    world.commit(samples::rejected("bob")).await;
    let page = world.read("/v1/declarations").await;
    let declaration = &page["items"][0];
    assert_eq!(declaration["result"], "rejected");
    assert_eq!(declaration["reason"], "coinbase_height");
    assert_eq!(declaration["expected"], "200");
    assert_eq!(declaration["actual"], "199");
    assert_eq!(declaration["timings"]["validation_ms"], 0.4);
    assert_eq!(&world.read(&format!("/v1/declarations/{}", declaration["id"])).await, declaration);
    assert_eq!(world.get("/v1/declarations/99").await.problem(), "not-found");
}

#[tokio::test]
async fn a_template_is_shown_with_all_that_is_in_it() {
    let world = World::start().await;
    let job = samples::job(200, [1, 2, 3]);
    let path = format!("/v1/templates/{}", job.template_hash());
    let txids: Vec<_> = job.txs().iter().map(|tx| Value::from(tx.txid().to_string())).collect();
    assert_eq!(world.get(&path).await.problem(), "not-found");
    world.commit(samples::accepted("alice", job)).await;

    let detail = world.read(&path).await;
    assert_eq!(detail["template"]["total_fees_sat"], FEES_SAT);
    assert_eq!(
        detail["timings"],
        json!({"validation_ms": 1.5, "fetch_ms": 20.0, "txs_unknown": 2})
    );
    let content = &detail["content"];
    let listed: Vec<_> =
        content["transactions"].as_array().unwrap().iter().map(|tx| tx["txid"].clone()).collect();
    assert_eq!(listed, txids);
    let coinbase = &content["coinbase"]["decoded"];
    assert_eq!(coinbase["height"], 200);
    assert_eq!(coinbase["extranonce_bytes"], 8);
    assert!(coinbase["script_sig_prefix_text"].as_str().unwrap().ends_with("/tag/"));
    assert_eq!(coinbase["outputs"][0]["kind"], "p2wpkh");
    assert!(coinbase["outputs"][0]["address"].as_str().unwrap().starts_with("bcrt1"));
    assert_eq!(coinbase["outputs"][0]["value_sat"], 5_000_000_000_u64);
    assert_eq!(coinbase["outputs"][1]["kind"], "witness_commitment");
    assert_eq!(detail["difference"], json!({"state": "no_node_template"}));
}

#[tokio::test]
async fn a_template_is_compared_with_our_nodes() {
    let world = World::start().await;
    let job = samples::job(200, [1, 2, 3]);
    let path = format!("/v1/templates/{}", job.template_hash());
    world.commit(samples::accepted("alice", job)).await;
    *world.server.template.lock().unwrap() = Some(Arc::new(own_template(200, &[2, 3, 4, 5])));
    let difference = world.read(&path).await["difference"].take();
    assert_eq!(difference["state"], "compared");
    assert_eq!(difference["in_both"], 2);
    let only = |side: &str| -> Vec<String> {
        let list = difference[side].as_array().unwrap();
        list.iter().map(|tx| tx["wtxid"].as_str().unwrap().to_owned()).collect()
    };
    let wtxid = |number| samples::tx(number).wtxid().to_string();
    assert_eq!(only("only_in_declared"), [wtxid(1)]);
    assert_eq!(only("only_in_node"), [wtxid(4), wtxid(5)]);
    assert_eq!(difference["node_fees_sat"], 2_000);
    assert_eq!(difference["fees_difference_sat"], FEES_SAT as i64 - 2_000);

    *world.server.template.lock().unwrap() = Some(Arc::new(own_template(201, &[2])));
    let difference = world.read(&path).await["difference"].take();
    assert_eq!(difference["state"], "other_parent");
    assert_eq!(difference["node_height"], 201);
}

#[tokio::test]
async fn of_very_many_differences_so_many_are_listed() {
    let world = World::start().await;
    let job = samples::job(200, [1]);
    let path = format!("/v1/templates/{}", job.template_hash());
    world.commit(samples::accepted("alice", job)).await;
    let most = api::limits::DIFFERENCE_TXS_MAX;
    for (count, listed) in [(most, most), (most + 1, most)] {
        let others: Vec<u64> = (2..2 + count as u64).collect();
        *world.server.template.lock().unwrap() = Some(Arc::new(own_template(200, &others)));
        let difference = world.read(&path).await["difference"].take();
        assert_eq!(difference["only_in_node"].as_array().unwrap().len(), listed);
        assert_eq!(difference["only_in_node_count"], count);
    }
}

#[tokio::test]
async fn a_transaction_with_another_witness_is_in_both_and_differs() {
    let world = World::start().await;
    let job = samples::job(200, [1, 2]);
    let path = format!("/v1/templates/{}", job.template_hash());
    world.commit(samples::accepted("alice", job)).await;
    let mut own = own_template(200, &[1, 2]);
    own.txs[0].wtxid = samples::tx(9).wtxid();
    *world.server.template.lock().unwrap() = Some(Arc::new(own));
    let difference = world.read(&path).await["difference"].take();
    assert_eq!(difference["other_witness_count"], 1);
    assert_eq!(difference["in_both"], 1);
    assert_eq!(difference["only_in_declared"][0]["txid"], difference["only_in_node"][0]["txid"]);
}

#[tokio::test]
async fn a_rejected_template_is_there_without_its_content() {
    let world = World::start().await;
    *world.server.template.lock().unwrap() = Some(Arc::new(own_template(200, &[1])));
    let hash = samples::job(200, [1]).template_hash();
    world.commit(samples::rejected_as("bob", Some(hash))).await;
    let detail = world.read(&format!("/v1/templates/{hash}")).await;
    assert_eq!(detail["template"]["result"], "rejected");
    assert_eq!(detail["template"]["reason"], "coinbase_height");
    assert_eq!(detail["content"], Value::Null);
    assert_eq!(detail["difference"], json!({"state": "not_kept"}));
}

#[tokio::test]
async fn blocks_come_with_what_nodes_made_of_them() {
    let world = World::start().await;
    let (hash, batch) = samples::block(1);
    world.commit(batch).await;
    let block = world.read("/v1/blocks").await["items"][0].take();
    assert_eq!(block["block_hash"], hash.to_string());
    assert_eq!(block["state"], "found");
    assert_eq!(block["submissions"][0]["node"], "local");
    assert_eq!(block["submissions"][0]["state"], "accepted");
    assert_eq!(block["submissions"][0]["latency_ms"], 12.5);
    assert_eq!(world.read(&format!("/v1/blocks/{hash}")).await, block);
    assert_eq!(world.get(&format!("/v1/blocks/{}", "0".repeat(64))).await.problem(), "not-found");
    assert_eq!(world.get("/v1/blocks/x").await.problem(), "bad-parameter");
}

#[tokio::test]
async fn miners_see_how_far_their_badges_are() {
    let world = World::start().await;
    world.commit(samples::accepted("bc1q/rig", samples::job(200, [1]))).await;
    world.commit(samples::share("bc1q/rig")).await;
    let miner = world.read("/v1/miners/bc1q%2Frig").await;
    assert_eq!(miner["user"], "bc1q/rig");
    // Any identity of the user will do.
    assert_eq!(world.read("/v1/miners/bc1q%2Frig.farm").await, miner);
    let badge = |name: &str| {
        let badges = miner["badges"].as_array().unwrap();
        badges.iter().find(|badge| badge["badge"] == name).unwrap().clone()
    };
    assert_eq!(badge("sovereign_miner")["progress"], 1);
    assert_eq!(badge("sovereign_miner")["reached_at"], NOW_MS);
    assert_eq!(badge("node_runner")["progress"], 0);
    assert_eq!(badge("template_crafter")["progress"], 1);
    assert_eq!(badge("template_crafter")["goal"], 1_000);
    assert_eq!(world.get("/v1/miners/nobody").await.problem(), "not-found");
}

#[tokio::test]
async fn shares_are_summed_up_by_hour_and_day() {
    let world = World::start().await;
    world.commit(samples::share("alice")).await;
    world.commit(samples::share("bob")).await;
    let range = format!("from={}&until={}", NOW_MS - 7_200_000, NOW_MS + 1);
    let all = world.read(&format!("/v1/shares/summary?{range}")).await;
    assert_eq!(all["period"], "hour");
    let miner = all["periods"].as_array().unwrap().iter();
    let accepted: u64 = miner
        .filter(|period| period["template_source"] == "miner")
        .map(|period| period["shares_accepted"].as_u64().unwrap())
        .sum();
    assert_eq!(accepted, 2);
    let from = NOW_MS - 86_400_000;
    let path = format!("/v1/shares/summary?user=bob&period=day&from={from}&until={}", NOW_MS + 1);
    let bob = world.read(&path).await;
    assert_eq!(bob["user"], "bob");
    assert_eq!(bob["periods"][0]["difficulty"], 2.0);
    // As many periods as an answer holds, each for two sources.
    let longest = store::limits::AGGREGATES_MAX as u64 / 2 * 3_600_000;
    let answer = world.get(&format!("/v1/shares/summary?from=0&until={}", longest - 1)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let more = format!("from=0&until={longest}");
    for query in ["period=week", "from=5&until=4", "from=0", &more] {
        assert_eq!(world.get(&format!("/v1/shares/summary?{query}")).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn tokens_and_nodes_are_listed() {
    let world = World::start().await;
    let batch = store::Batch::new(NOW_MS).spend_token(5, NOW_MS + 1_000, "alice".into());
    world.commit(batch).await;
    let tokens = world.read("/v1/tokens").await;
    assert_eq!(tokens["live"], 7);
    assert_eq!(tokens["spent"][0]["sequence"], 5);
    assert_eq!(tokens["spent"][0]["user"], "alice");
    let node = &world.read("/v1/nodes").await["nodes"][0];
    assert_eq!((&node["name"], &node["height"]), (&json!("local"), &json!(199)));
}

#[tokio::test]
async fn miners_of_any_name_are_listed_one_by_one() {
    let world = World::start().await;
    // Nothing but a worker; a name of control characters alone, as it is written; and one of text.
    let mut names = ["".to_owned(), r"\u{7f}".repeat(255), "alice".to_owned()];
    names.sort();
    for name in &names {
        world.commit(samples::share(name)).await;
    }
    let (mut path, mut listed) = ("/v1/miners?limit=1".to_owned(), Vec::new());
    while listed.len() <= names.len() {
        let page = world.read(&path).await;
        listed.push(page["items"][0]["user"].as_str().unwrap().to_owned());
        let Some(next) = page["next"].as_str() else { break };
        let next = next.replace('\\', "%5C").replace('{', "%7B").replace('}', "%7D");
        path = format!("/v1/miners?limit=1&after={next}");
    }
    assert_eq!(listed, names);
    let long = names[1].replace('\\', "%5C").replace('{', "%7B").replace('}', "%7D");
    assert_eq!(world.read(&format!("/v1/miners/{long}")).await["user"], names[1]);
}

#[tokio::test]
async fn miners_and_their_open_channels_are_listed() {
    let world = World::start().await;
    for user in ["carol", "alice", "bob"] {
        world.commit(samples::share(user)).await;
    }
    let users = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|miner| miner["user"].as_str().unwrap().to_owned()).collect()
    };
    let first = world.read("/v1/miners?limit=2").await;
    assert_eq!(
        (users(&first), &first["next"]),
        (vec!["alice".into(), "bob".into()], &json!("bob"))
    );
    assert_eq!(first["items"][0], world.read("/v1/miners/alice").await);
    let rest = world.read("/v1/miners?limit=2&after=bob").await;
    assert_eq!((users(&rest), &rest["next"]), (vec!["carol".into()], &Value::Null));
    assert!(users(&world.read("/v1/miners?after=carol").await).is_empty());
    for query in ["limit=0", "limit=1001", "unknown=1"] {
        assert_eq!(world.get(&format!("/v1/miners?{query}")).await.status, 400, "{query}");
        assert_eq!(world.get(&format!("/v1/channels?{query}")).await.status, 400, "{query}");
    }
    let channel = &world.read("/v1/channels").await["items"][0];
    assert_eq!((&channel["user"], &channel["kind"]), (&json!("alice"), &json!("worker")));
    assert_eq!((&channel["protocol"], &channel["difficulty"]), (&json!("stratum_v1"), &json!(1.0)));
    assert_eq!(channel["target"].as_str().unwrap()[..12], *"00000000ffff");
    assert_eq!(world.read("/v1/channels?after=9").await["items"], json!([]));
}

#[tokio::test]
async fn readiness_names_the_part_that_is_not() {
    let world = World::start().await;
    assert_eq!(world.read("/healthz").await["status"], "ok");
    assert_eq!(world.read("/readyz").await["ready"], true);
    world.server.node_lost.store(true, Ordering::Relaxed);
    let answer = world.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["not_ready"], json!(["node:local"]));
    assert!(answer.text().contains("connection refused"));
    assert_eq!(world.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_store_that_can_not_write_is_named_and_reads_go_on() {
    let world =
        World::with(|_| {}, |store| store.stall_after = std::time::Duration::from_millis(50)).await;
    // The file may not grow: what SQLite says of a full disk.
    world.store.set_database_bytes_max(1);
    let filling = async {
        for number in 0.. {
            let job = samples::job(200, number * 1_000..number * 1_000 + 1_000);
            let commit = world.store.commit(samples::accepted("alice", job));
            if within("a commit", commit).await.unwrap().volatile {
                return;
            }
        }
    };
    within("the file to be full", filling).await;
    let answer = world.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["not_ready"], json!(["store"]));
    assert!(answer.text().contains("can not write since"), "{}", answer.text());
    let metrics = world.get("/metrics").await;
    assert!(metrics.text().contains("\njds_store_writes 0.0\n"), "{}", metrics.text());
    world.read("/v1/events").await;
    world.read("/v1/templates").await;

    world.store.set_database_bytes_max(u64::MAX);
    world.until_status("the store to write again", "/readyz", 200).await;
    let healed = world.read("/v1/events?types=store_recovered").await;
    assert_eq!(healed["events"].as_array().unwrap().len(), 1, "{healed}");
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let world = World::start().await;
    world.events(1..=2).await;
    let declaration = api::Declaration {
        result: "rejected",
        code: "stale-chain-tip",
        validation: std::time::Duration::from_micros(300),
        bytes: 5_000,
        txs: 100,
        missing_txs: 3,
        fetch: Some(std::time::Duration::from_millis(20)),
    };
    world.metrics.declaration(&declaration);
    world.metrics.cache("transactions", 97, 3);
    world.metrics.submission("local", "accepted", std::time::Duration::from_millis(5));
    world.metrics.block_sent(std::time::Duration::from_millis(5));
    world.metrics.traffic("job_declaration").received(5_000);
    world.metrics.traffic("job_declaration").sent(70);
    world.metrics.solution("block");
    world.metrics.share("miner", "accepted");
    world.metrics.channel_target("mining", "harder", 1_000.0);
    world.read("/v1/nodes").await;
    let answer = world.get("/metrics").await;
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = answer.text();
    assert!(text.ends_with("# EOF\n"));
    for line in [
        "jds_declarations_total{result=\"rejected\",code=\"stale-chain-tip\"} 1",
        "jds_validation_seconds_count 1",
        "jds_declaration_bytes_sum 5000.0",
        "jds_declared_txs_total 100",
        "jds_missing_txs_total 3",
        "jds_cache_lookups_total{cache=\"transactions\",result=\"hit\"} 97",
        "jds_submissions_total{node=\"local\",result=\"accepted\"} 1",
        "jds_protocol_bytes_total{protocol=\"job_declaration\",direction=\"in\"} 5000",
        "jds_protocol_bytes_total{protocol=\"job_declaration\",direction=\"out\"} 70",
        "jds_solutions_total{result=\"block\"} 1",
        "jds_channel_targets_total{protocol=\"mining\",change=\"harder\"} 1",
        "jds_channel_difficulty_bucket{le=\"1024.0\",protocol=\"mining\"} 1",
        "jds_shares_total{template_source=\"miner\",result=\"accepted\"} 1",
        "jds_missing_txs_wait_seconds_count 1",
        "jds_submission_seconds_count{node=\"local\"} 1",
        "jds_block_sent_seconds_bucket{le=\"0.005\"} 1",
        "jds_jobs_live 2.0",
        "jds_queue_capacity{queue=\"validation\"} 64.0",
        "jds_part_ready{part=\"node:local\"} 1.0",
        "jds_node_ready{node=\"local\"} 1.0",
        "jds_node_height{node=\"local\"} 199.0",
        "jds_store_queue_depth 0.0",
        "jds_store_volatile_batches 0.0",
        "jds_http_requests_total{method=\"GET\",route=\"/v1/nodes\",status=\"200\"} 1",
        "jds_tokens_live 7.0",
        "jds_connections{role=\"job_declaration\"} 3.0",
        "jds_queue_depth{queue=\"validation\"} 1.0",
        "jds_tip_age_seconds{node=\"local\"} 1.5",
        "jds_store_writes 1.0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let commits = text.lines().find(|line| line.starts_with("jds_store_commit_seconds_count "));
    assert_ne!(commits.unwrap().rsplit(' ').next(), Some("0"), "{text}");
    assert!(text.contains("jds_store_commit_seconds_bucket{le=\"+Inf\"}"), "{text}");
}
