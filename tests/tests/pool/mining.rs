//! Jobs, shares and blocks through the interface, to the block in the chain.

use bitcoin::hex::DisplayHex;
use jds::client::SetupOptions;
use jds::client::mining::MiningClient;
use jds_tests::rig::{Rig, by_receipt, solution};
use jds_tests::{Setup, accepted};
use serde_json::{Value, json};
use signet::kinds::Kind;

use crate::worlds::{Site, counted, receipt_of, refused, rig, submit, verify};

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_work_and_its_shares_count_as_those_of_our_own_port() {
    let site = Site::start(Setup::new()).await;
    let receipt = site.receipt("alice.rig1").await;
    let mut pool = site.pool();
    let mut rig = rig(&mut pool, &receipt);
    let mut shares: Vec<_> = (0..3).map(|_| rig.mine(false)).collect();
    shares[1].json["worker"] = "garage".into();
    shares[2].json = by_receipt(&shares[2].json, &receipt);
    let one = submit(&mut pool, &shares[0].json);
    counted(&one);
    assert_eq!(one["hash"], shares[0].hash.to_string());
    assert_eq!(
        (&one["is_block"], one["difficulty"].as_f64().unwrap() > 0.0),
        (&false.into(), true)
    );
    let two = submit(&mut pool, &json!([shares[1].json, shares[2].json, shares[0].json]));
    counted(&two[0]);
    counted(&two[1]);
    refused(&two[2], "duplicate-share");
    assert_eq!(two[2]["hash"], shares[0].hash.to_string());
    let stored = site.shares();
    let hashes: Vec<_> = stored.iter().map(|share| share.share_hash.clone()).collect();
    assert_eq!(hashes, shares.iter().map(|share| share.hash.to_string()).collect::<Vec<_>>());
    let workers: Vec<_> = stored.iter().map(|share| share.worker.as_str()).collect();
    assert_eq!(workers, ["rig1", "garage", "rig1"]);
    for share in &stored {
        assert_eq!((&*share.user, share.template_source.as_str()), ("alice", "miner"));
        assert_eq!((share.miner_tx_count, share.channel_id), (Some(2), 0));
        assert_eq!(Some(share.difficulty), one["difficulty"].as_f64());
    }
    let totals = site.world.store().miner("alice").unwrap().unwrap();
    assert_eq!(totals.shares_accepted_miner, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_share_is_said_by_its_code() {
    let site = Site::start(Setup::new()).await;
    let receipt = site.receipt("alice").await;
    let mut pool = site.pool();
    let mut rig = rig(&mut pool, &receipt);
    let share = rig.mine(false).json;
    let with = |field: &str, value: Value| {
        let mut share = share.clone();
        share[field] = value;
        share
    };
    let hard = format!("{:0>64}", "1");
    for (share, code) in [
        (with("target", hard.into()), "difficulty-too-low"),
        (with("extranonce", "00".into()), "bad-extranonce-size"),
        (rig.changed(None, Some(1)).mine(false).json, "invalid-share"),
        (rig.changed(Some(1), None).mine(false).json, "invalid-non-rollable-version-bit"),
        (with("job", "".into()), "invalid-job-id"),
        (with("job", "01".repeat(101).into()), "stale-share"),
        (with("job", "02".repeat(13).into()), "invalid-job-id"),
        (by_receipt(&share, b"no token"), "invalid-mining-job-token"),
    ] {
        let result = submit(&mut pool, &share);
        refused(&result, code);
        assert_eq!(result["is_block"], false, "{result}");
    }
    assert_eq!(site.shares(), []);
    counted(&submit(&mut pool, &share));
    site.world.node().mine_block(&[]).unwrap();
    site.world.synced().await;
    refused(&submit(&mut pool, &rig.mine(false).json), "stale-share");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_makes_a_block_is_in_the_chain_whatever_else_is_wrong_with_it() {
    let site = Site::start(Setup::new()).await;
    let receipt = site.receipt("alice").await;
    let mut pool = site.pool();
    let mut rig = rig(&mut pool, &receipt);
    let mut block = rig.mine(true);
    let work = site.world.work();
    // Harder than the network: it counts for what the block is worth, and the block is submitted.
    block.json["target"] = format!("{:0>64}", "1").into();
    let result = submit(&mut pool, &block.json);
    counted(&result);
    assert_eq!(result["is_block"], true, "{result}");
    site.world.assert_mined(block.hash, &work.txs);
    let stored = site.world.store().block(&block.hash.to_string()).unwrap().unwrap();
    assert_eq!((&*stored.user, stored.template_source.as_str()), ("alice", "miner"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_is_submitted_at_once_and_is_no_share() {
    let site = Site::start(Setup::new()).await;
    let receipt = site.receipt("alice").await;
    let mut pool = site.pool();
    let mut rig = rig(&mut pool, &receipt);
    let (share, block) = (rig.mine(false), rig.mine(true));
    let work = site.world.work();
    let mut post = |body: &Value| {
        let answer = pool.post("/v1/pool/blocks", body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    };
    let none = post(&solution(&share.json));
    assert_eq!((&none["accepted"], &none["code"]), (&false.into(), &"difficulty-too-low".into()));
    let found = post(&solution(&by_receipt(&block.json, &receipt)));
    assert_eq!(found["accepted"], true, "{found}");
    assert_eq!((&found["hash"], &found["new"]), (&block.hash.to_string().into(), &true.into()));
    site.world.assert_mined(block.hash, &work.txs);
    let again = post(&solution(&block.json));
    assert_eq!((&again["accepted"], &again["new"]), (&true.into(), &false.into()), "{again}");
    assert_eq!(site.shares(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_belongs_to_one_connection_and_one_user_here_and_at_our_own_port() {
    let site = Site::start(Setup::new()).await;
    let receipt = site.receipt("alice").await;
    let mut pool = site.pool();
    let mut ask = |user: Option<&str>, connection: Option<&str>| {
        let token = receipt.to_lower_hex_string();
        let body = json!({ "token": token, "user": user, "connection": connection });
        let answer = pool.post("/v1/pool/custom-jobs/verify", &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    };
    let bob = ask(Some("bob"), Some("miner 1"));
    assert_eq!(bob["code"], "invalid-mining-job-token", "{bob}");
    let first = ask(Some("alice.rig"), Some("miner 1"));
    assert_eq!(first["accepted"], true, "another user's attempt binds nothing: {first}");
    assert_eq!(ask(None, Some("miner 1"))["job"]["job"], first["job"]["job"]);
    for connection in [Some("miner 2"), None] {
        let verdict = ask(Some("alice"), connection);
        assert_eq!(verdict["code"], "invalid-mining-job-token", "{verdict}");
    }
    let mut rig = jds_tests::rig::Rig::of(&first["job"]);
    let share = rig.mine(false).json;
    counted(&submit(&mut pool, &share));
    refused(&submit(&mut pool, &by_receipt(&share, &receipt)), "invalid-mining-job-token");
    let mut named = by_receipt(&rig.mine(false).json, &receipt);
    named["connection"] = "miner 1".into();
    counted(&submit(&mut pool, &named));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fields_of_a_job_are_held_to_the_declared_ones() {
    let site = Site::start(Setup::new()).await;
    let mut miner = site.world.miner("alice").await;
    let coins = site.world.coins(1).await;
    let work = site.world.relay(&Kind::Payment.build(&coins[0]).unwrap().txs).await;
    let template = miner.template(&work);
    let receipt = receipt_of(miner.declare(&template).await);
    let mut pool = site.pool();
    let job = verify(&mut pool, &receipt)["job"].clone();
    let coinbase = &template.coinbase;
    let script = coinbase.input[0].script_sig.as_bytes();
    let kept = script.len() - job["extranonce_bytes"].as_u64().unwrap() as usize;
    let good = json!({
        "version": job["version"],
        "prev_hash": job["prev_hash"],
        "min_ntime": work.time,
        "nbits": job["nbits"],
        "coinbase_tx_version": coinbase.version.0,
        "coinbase_prefix": script[..kept].to_lower_hex_string(),
        "coinbase_tx_input_n_sequence": coinbase.input[0].sequence.0,
        "coinbase_tx_outputs":
            bitcoin::consensus::serialize(&coinbase.output).to_lower_hex_string(),
        "coinbase_tx_locktime": coinbase.lock_time.to_consensus_u32(),
        "merkle_path": job["merkle_path"],
        "extranonce_bytes": job["extranonce_bytes"],
    });
    let mut ask = |fields: &Value| {
        let body =
            json!({ "token": receipt.to_lower_hex_string(), "user": "alice", "job": fields });
        let answer = pool.post("/v1/pool/custom-jobs/verify", &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    };
    let verdict = ask(&good);
    assert_eq!(verdict["accepted"], true, "{verdict}");
    assert_eq!(verdict["job"]["min_ntime"], work.time);
    assert_eq!(verdict["job"]["coinbase_prefix"], job["coinbase_prefix"]);
    for (field, value, code) in [
        ("prev_hash", json!("00".repeat(32)), "stale-chain-tip"),
        ("min_ntime", json!(1), "invalid-min-ntime"),
        ("nbits", json!("1d00ffff"), "invalid-nbits"),
        ("version", json!(1), "invalid-version"),
        ("coinbase_tx_version", json!(7), "invalid-coinbase-tx-version"),
        ("coinbase_prefix", json!("03"), "invalid-coinbase-prefix"),
        ("coinbase_tx_input_n_sequence", json!(7), "invalid-coinbase-tx-input-n-sequence"),
        ("coinbase_tx_outputs", json!("00"), "invalid-coinbase-tx-outputs"),
        ("coinbase_tx_locktime", json!(7), "invalid-coinbase-tx-locktime"),
        ("merkle_path", json!([]), "invalid-merkle-path"),
        ("extranonce_bytes", json!(3), "invalid-coinbase-tx"),
    ] {
        let mut fields = good.clone();
        fields[field] = value;
        let verdict = ask(&fields);
        assert_eq!(
            (&verdict["accepted"], &verdict["code"]),
            (&false.into(), &code.into()),
            "{field}"
        );
        assert!(!verdict["detail"].as_str().unwrap().is_empty(), "{verdict}");
    }
    accepted(&miner.declare(&template).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_coinbase_only_mode_counts_and_needs_its_fields() {
    let site = Site::start(Setup::new()).await;
    let mut miner = site.world.miner("alice").await;
    let template = miner.template(&site.world.work());
    let token = miner.token().await.bytes;
    let mut pool = site.pool();
    let alone = verify(&mut pool, &token);
    assert_eq!(alone["code"], "invalid-mining-job-token", "{alone}");
    let tip = pool.get("/v1/pool/tip").json();
    let coinbase = &template.coinbase;
    let script = coinbase.input[0].script_sig.as_bytes();
    let kept = script.len() - jds_tests::EXTRANONCE_BYTES;
    let body = json!({ "token": token.to_lower_hex_string(), "user": "alice", "job": {
        "version": 0x2000_0000,
        "prev_hash": tip["prev_hash"],
        "min_ntime": tip["min_ntime"],
        "nbits": tip["nbits"],
        "coinbase_tx_version": coinbase.version.0,
        "coinbase_prefix": script[..kept].to_lower_hex_string(),
        "coinbase_tx_input_n_sequence": coinbase.input[0].sequence.0,
        "coinbase_tx_outputs":
            bitcoin::consensus::serialize(&coinbase.output).to_lower_hex_string(),
        "coinbase_tx_locktime": coinbase.lock_time.to_consensus_u32(),
        "merkle_path": [],
        "extranonce_bytes": jds_tests::EXTRANONCE_BYTES,
    }});
    let answer = pool.post("/v1/pool/custom-jobs/verify", &body).json();
    assert_eq!(answer["accepted"], true, "{answer}");
    assert!(answer["job"].get("template_hash").is_none());
    let mut rig = jds_tests::rig::Rig::of(&answer["job"]);
    counted(&submit(&mut pool, &rig.mine(false).json));
    assert_eq!(site.shares()[0].miner_template_hash, None);
}

/// One header would count at our own port, of a channel whose extranonce the coinbase holds, and here.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_an_extranonce_of_our_own_port_in_it_is_good_for_blocks_alone() {
    let site = Site::start(Setup::new().mining("")).await;
    let world = &site.world;
    world.node().mine(1).unwrap();
    world.synced().await;
    let options = SetupOptions::default();
    let client = MiningClient::connect(world.mining(), Some(world.authority), &options).await;
    let channel = client.unwrap().open_extended("alice", 1e6, 8).await.unwrap();
    let mut miner = world.miner("alice").await;
    let mut template = miner.template(&world.work());
    let mut script = template.coinbase.input[0].script_sig.to_bytes();
    let at = script.len() - template.extranonce_bytes;
    let mut pool = site.pool();
    // The same but for the bytes in front of the extranonce.
    for (prefix, is_good) in [(vec![0x55; channel.prefix.len()], true), (channel.prefix, false)] {
        script.splice(at..at + prefix.len(), prefix.iter().copied());
        template.coinbase.input[0].script_sig = script.clone().into();
        template.extranonce_bytes = script.len() - at - prefix.len();
        let receipt = receipt_of(miner.declare(&template).await);
        let verdict = verify(&mut pool, &receipt);
        assert_eq!(verdict["accepted"], is_good, "{verdict}");
        if is_good {
            let mut rig = Rig::of(&verdict["job"]);
            counted(&submit(&mut pool, &by_receipt(&rig.mine(false).json, &receipt)));
            continue;
        }
        assert_eq!(verdict["code"], "invalid-coinbase-prefix", "{verdict}");
    }
}
