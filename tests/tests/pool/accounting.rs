//! The accounting feed over HTTP: pages, cursors that are none, cursors of another history.

use jds_tests::pool::Pool;
use jds_tests::{PATIENCE, Setup};
use serde_json::Value;
use signet::wait;
use store::{Batch, ShareSubmitted, TemplateSource};

use crate::worlds::{Site, counted, rig, submit};

fn share(user: &str, template: &str) -> ShareSubmitted {
    ShareSubmitted {
        user: user.to_owned(),
        worker: String::new(),
        channel_id: 1,
        job_id: 1,
        accepted: true,
        error_code: None,
        difficulty: 8.0,
        share_hash: "00".repeat(32),
        template_source: TemplateSource::Miner,
        miner_template_hash: Some(template.repeat(32)),
        miner_tx_count: Some(1),
        miner_template_fees_sat: Some(0),
        pool_payout_sat: Some(75),
        claimable_sat: Some(100),
        first_for_user: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_that_the_pool_handed_in_are_told_apart() {
    let site = Site::start(Setup::new().table("store", "accounting_interval_seconds = 1")).await;
    let receipt = site.receipt("alice").await;
    let mut pool = site.pool();
    counted(&submit(&mut pool, &rig(&mut site.pool(), &receipt).mine(false).json));
    let of_a_port = share("alice", "aa");
    site.world.store().commit(Batch::new(1_000).share(of_a_port)).await.unwrap();
    let mut origins = Vec::new();
    wait::until_true("both shares in closed intervals", PATIENCE, || {
        let entries = pool.get("/v1/pool/accounting").json()["entries"].clone();
        origins = entries.as_array().unwrap().iter().map(|e| e["origin"].to_string()).collect();
        origins.len() == 2
    })
    .unwrap();
    origins.sort_unstable();
    assert_eq!(origins, ["\"pool\"", "\"port\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_come_in_pages_and_each_once() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("pool.sock");
    let setup = Setup::new()
        .table("pool_interface", &format!("socket = {socket:?}"))
        .table("store", "accounting_interval_seconds = 1");
    let world = setup.start().await;
    for (user, template) in [("alice", "aa"), ("alice", "bb"), ("bob", "aa"), ("alice", "aa")] {
        let share = share(user, template);
        world.store().commit(Batch::new(1_000).share(share.clone()).event(share)).await.unwrap();
    }
    let mut pool = Pool::at(&socket);
    let (mut entries, mut after): (Vec<Value>, String) = (Vec::new(), "0".to_owned());
    wait::until_true("four shares in closed intervals", PATIENCE, || {
        let page = pool.get(&format!("/v1/pool/accounting?limit=1&after={after}"));
        assert_eq!(page.status, 200, "{}", page.body);
        let page = page.json();
        let of_page = page["entries"].as_array().unwrap();
        assert!(of_page.len() <= 1, "{page}");
        entries.extend(of_page.iter().cloned());
        after = page["next"].as_str().unwrap().to_owned();
        entries.iter().map(|entry| entry["shares"].as_u64().unwrap()).sum::<u64>() == 4
    })
    .unwrap();
    for (number, entry) in (1..).zip(&entries) {
        assert_eq!((&entry["entry"], &entry["kind"]), (&number.into(), &"work".into()), "{entry}");
        assert_eq!(entry["payout_share"], 0.75, "{entry}");
        assert_eq!(entry["work"], 8.0 * entry["shares"].as_f64().unwrap(), "{entry}");
    }
    let last = pool.get(&format!("/v1/pool/accounting?after={after}")).json();
    assert_eq!((&last["entries"], &last["next"]), (&Value::Array(Vec::new()), &after.into()));

    for wrong in ["after=1", "after=x", "after=-1", "limit=0", "limit=10001", "limit=x", "from=1"] {
        let answer = pool.get(&format!("/v1/pool/accounting?{wrong}"));
        let kind = &answer.json()["type"];
        assert_eq!((answer.status, kind), (400, &"/docs#problem-bad-parameter".into()), "{wrong}");
    }
    for gone in
        ["1-0000000000000000", "99-0123456789abcdef", "9223372036854775807-00000000000000ff"]
    {
        let answer = pool.get(&format!("/v1/pool/accounting?after={gone}"));
        assert_eq!(answer.status, 410, "{gone}: {}", answer.body);
        let problem = answer.json();
        assert_eq!(problem["type"], "/docs#problem-cursor-gone");
        assert_eq!(problem["earliest_cursor"], "0", "{problem}");
    }
}
