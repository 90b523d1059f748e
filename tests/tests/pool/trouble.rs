//! Restarts, answers that were lost, and what no pool would send.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;

use bitcoin::hex::DisplayHex;
use jds_tests::rig::{by_receipt, solution};
use jds_tests::{EXTRANONCE_BYTES, PATIENCE, Setup, http, kept, pool};
use serde_json::{Value, json};
use signet::wait;
use store::SubmissionState;

use crate::worlds::{Site, counted, refused, rig, submit, verify};

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_goes_on_with_its_receipts_and_jobs_after_a_restart_and_nothing_counts_twice() {
    let site = Site::start(Setup::new()).await;
    let receipt = site.receipt("alice").await;
    let mut pool = site.pool();
    let mut rig = rig(&mut pool, &receipt);
    let before: Vec<_> = (0..4).map(|_| rig.mine(false).json).collect();
    for result in submit(&mut pool, &json!(before)).as_array().unwrap() {
        counted(result);
    }
    let site = site.restart().await;
    // The pool was gone as well: nothing is left of it but what it had on its disk.
    let mut pool = site.pool();
    for share in &before {
        refused(&submit(&mut pool, share), "duplicate-share");
        refused(&submit(&mut pool, &by_receipt(share, &receipt)), "duplicate-share");
    }
    counted(&submit(&mut pool, &rig.mine(false).json));
    counted(&submit(&mut pool, &by_receipt(&rig.mine(false).json, &receipt)));
    assert_eq!(verify(&mut pool, &receipt)["job"]["job"], rig.name);
    let block = rig.mine(true);
    let work = site.world.work();
    assert_eq!(submit(&mut pool, &block.json)["is_block"], true);
    site.world.assert_mined(block.hash, &work.txs);
    assert_eq!(site.shares().len(), 4 + 2 + 1);
}

/// A share is a duplicate from the moment that it is judged, so it has to be recorded then, whoever
/// waits for the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_sender_leaves_is_recorded_whole_when_it_comes_again() {
    let site = Site::start(Setup::new().api("")).await;
    let receipts = site.receipts(&["alice", "bob", "carol", "dave"]).await;
    let mut pool = site.pool();
    let rigs: Vec<_> = receipts.iter().map(|receipt| rig(&mut pool, receipt)).collect();
    // All have declared the same: each share has an extranonce of its own.
    let mut next = 0;
    let mut mine = |rig: usize| {
        next += 1;
        rigs[rig].mine_with(&[next; EXTRANONCE_BYTES], false).json
    };
    let site = site.restart().await;
    let mut pool = site.pool();
    // The job of the first is there again, those of the others have to be made again of their names,
    // on these threads.
    counted(&submit(&mut pool, &mine(0)));
    let cpu = &site.world.server.shared().validator.cpu;
    let all = cpu.available_permits();
    let held = cpu.acquire_many(all as u32).await.unwrap();
    let batches: Vec<Value> = (1..rigs.len())
        .map(|other| json!([mine(0), mine(0), mine(other), mine(0), mine(other)]))
        .collect();
    let accepted = "jds_shares_total{template_source=\"miner\",result=\"accepted\"}";
    for (number, batch) in (1..).zip(&batches) {
        let body = batch.to_string();
        let request = format!(
            "POST /v1/pool/shares HTTP/1.1\r\nHost: pool\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = pool::connect(&site.socket);
        stream.write_all(request.as_bytes()).unwrap();
        let judged = format!("{accepted} {}", 1 + 2 * number);
        wait::until_true("two shares of the batch to be judged", PATIENCE, || {
            http::get(site.world.api(), "/metrics").body.lines().any(|line| line == judged)
        })
        .unwrap();
        // The server hangs up as well when it has seen that the sender did.
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        assert_eq!(stream.read_to_string(&mut answer).unwrap(), 0, "{answer}");
    }
    assert_eq!(site.shares().len(), 1, "the rest waits");
    drop(held);
    for batch in &batches {
        for result in submit(&mut pool, batch).as_array().unwrap() {
            assert!(result["valid"] == true || result["code"] == "duplicate-share", "{result}");
        }
    }
    assert_eq!(site.shares().len(), 1 + 5 * batches.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_on_a_job_of_before_a_restart_is_submitted_though_another_has_won() {
    let site = Site::start(Setup::new()).await;
    let receipts = site.receipts(&["alice", "bob", "carol", "dave"]).await;
    let mut pool = site.pool();
    let mut mine = |(number, receipt): (u8, &Vec<u8>)| {
        rig(&mut pool, receipt).mine_with(&[number; EXTRANONCE_BYTES], true)
    };
    let blocks: Vec<_> = (1..).zip(&receipts).map(&mut mine).collect();
    let site = site.restart().await;
    site.world.node().mine_block(&[]).unwrap();
    site.world.synced().await;
    let mut pool = site.pool();
    for (index, block) in blocks.iter().enumerate() {
        let json = if index % 2 == 0 {
            block.json.clone()
        } else {
            by_receipt(&block.json, &receipts[index])
        };
        if index < 2 {
            let found = pool.post("/v1/pool/blocks", &solution(&json)).json();
            assert_eq!(
                (&found["accepted"], &found["new"]),
                (&true.into(), &true.into()),
                "{found}"
            );
        } else {
            let result = submit(&mut pool, &json);
            refused(&result, "stale-share");
            assert_eq!(result["is_block"], true, "{result}");
        }
        let stored = kept::wait_block(&*site.world.store(), block.hash);
        assert_eq!(stored.user, ["alice", "bob", "carol", "dave"][index]);
        wait::until_true("the node to have the block on its side branch", PATIENCE, || {
            let kept = kept::wait_block(&*site.world.store(), block.hash);
            kept.submissions.iter().any(|node| node.state == SubmissionState::Accepted)
        })
        .unwrap();
        assert_eq!(site.world.node().block(&block.hash).unwrap().block_hash(), block.hash);
    }
    assert_eq!(site.shares(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_send_a_block_at_once_one_is_the_first() {
    let site = Site::start(Setup::new()).await;
    let receipt = site.receipt("alice").await;
    let block = rig(&mut site.pool(), &receipt).mine(true);
    let new = std::thread::scope(|scope| {
        let post = || {
            let mut pool = site.pool();
            let found = pool.post("/v1/pool/blocks", &solution(&block.json)).json();
            assert_eq!(found["accepted"], true, "{found}");
            // A file may hold it while the store is slow.
            kept::wait_block(&*site.world.store(), block.hash);
            found["new"] == true
        };
        let asked: Vec<_> = (0..8).map(|_| scope.spawn(post)).collect();
        asked.into_iter().map(|one| usize::from(one.join().unwrap())).sum::<usize>()
    });
    assert_eq!(new, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_gets_the_same_answer_and_nothing_counts_twice() {
    let site = Site::start(Setup::new()).await;
    let receipt = site.receipt("alice").await;
    let mut pool = site.pool();
    let mut rig = rig(&mut pool, &receipt);
    let batch = json!([rig.mine(false).json, rig.mine(false).json]).to_string();
    let json = ("Content-Type", "application/json");
    let mut ask = |key: &str, body: &str| {
        pool.request("POST", "/v1/pool/shares", &[json, ("Idempotency-Key", key)], body.as_bytes())
    };
    let first = ask("batch-1", &batch);
    assert_eq!(first.status, 200, "{}", first.body);
    counted(&first.json()[1]);
    assert_eq!(ask("batch-1", &batch).body, first.body);
    let other = ask("batch-1", "[]");
    assert_eq!((other.status, &other.json()["type"]), (409, &"/docs#problem-conflict".into()));
    for key in ["", &"k".repeat(129)] {
        assert_eq!(ask(key, &batch).status, 400, "{key}");
    }
    refused(&ask("batch-2", &batch).json()[0], "duplicate-share");
    assert_eq!(site.shares().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_line_by_line_while_it_is_written() {
    let site = Site::start(Setup::new()).await;
    let receipt = site.receipt("alice").await;
    let mut rig = rig(&mut site.pool(), &receipt);
    let mut stream = BufReader::new(pool::connect(&site.socket));
    let head = "POST /v1/pool/shares HTTP/1.1\r\nHost: pool\r\nTransfer-Encoding: chunked\r\n\
        Content-Type: application/x-ndjson\r\n\r\n";
    stream.get_mut().write_all(head.as_bytes()).unwrap();
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert_ne!(stream.read_line(&mut line).unwrap(), 0, "the head of an answer");
        assert!(!line.starts_with("HTTP") || line.contains(" 200 "), "{line}");
    }
    let send = |stream: &mut BufReader<_>, text: &str| {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        Write::write_all(
            BufReader::<std::os::unix::net::UnixStream>::get_mut(stream),
            chunk.as_bytes(),
        )
        .unwrap();
    };
    // One at a time: each is answered before the next is written, and a line may come in pieces.
    for _ in 0..3 {
        let share = rig.mine(false).json.to_string() + "\n";
        let (one, two) = share.split_at(40);
        send(&mut stream, one);
        send(&mut stream, two);
        counted(&results(&mut stream, 1)[0]);
    }
    // Many, with one that is no share among them.
    let shares = [rig.mine(false).json, json!({"nonce": 1}), rig.mine(false).json];
    let text: String = shares.iter().map(|share| format!("{share}\n")).collect();
    send(&mut stream, &text);
    let many = results(&mut stream, 3);
    counted(&many[0]);
    refused(&many[1], "bad-share");
    counted(&many[2]);
    assert_eq!(site.shares().len(), 5);
    send(&mut stream, &"x".repeat(5_000));
    refused(&results(&mut stream, 1)[0], "line-too-long");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest.trim_end(), "0", "the stream ends");
}

/// The next results, out of however many chunks.
fn results(stream: &mut impl BufRead, count: usize) -> Vec<Value> {
    let mut text = String::new();
    while text.matches('\n').count() < count {
        let mut size = String::new();
        stream.read_line(&mut size).expect("a chunk in time");
        let size = usize::from_str_radix(size.trim_end(), 16).expect("the size of a chunk");
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).expect("a chunk");
        text.push_str(std::str::from_utf8(&chunk[..size]).unwrap());
    }
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_is_answered_by_a_typed_error() {
    let site = Site::start(Setup::new()).await;
    let receipt = site.receipt("alice").await;
    let token = receipt.to_lower_hex_string();
    let mut rig = rig(&mut site.pool(), &receipt);
    let share = rig.mine(false).json;
    let solution = jds_tests::rig::solution(&share);
    let job = json!({ "token": token });
    let many = json!(vec![share.clone(); 2_001]);
    let endpoints = [
        ("/v1/pool/custom-jobs/verify", &job),
        ("/v1/pool/shares", &share),
        ("/v1/pool/blocks", &solution),
    ];
    let mut bodies: Vec<(&str, Vec<u8>)> = vec![("/v1/pool/shares", many.to_string().into_bytes())];
    for (path, good) in endpoints {
        for body in ["", "{", "null", "1", "\"\"", "{}", "[[]]", "[{}]", "[null]", "\u{0}", "[1,2"]
        {
            bodies.push((path, body.as_bytes().to_vec()));
        }
        bodies.push((path, vec![0xff; 100]));
        bodies.push((path, b"[".repeat(100_000)));
        bodies.push((path, b"{\"a\":".repeat(100_000)));
        bodies.push((path, vec![b' '; 1024 * 1024 + 1]));
        let mut more = good.clone();
        more["unknown"] = json!(1);
        bodies.push((path, more.to_string().into_bytes()));
        for field in good.as_object().unwrap().keys() {
            for wrong in [
                json!([]),
                json!(-1),
                json!(1e300),
                json!("zz"),
                json!("0".repeat(1_001)),
                json!({}),
            ] {
                let mut body = good.clone();
                body[field] = wrong;
                bodies.push((path, body.to_string().into_bytes()));
            }
        }
    }
    let mut pool = site.pool();
    for (path, body) in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        let answer = pool.post_bytes(path, &body);
        let is_problem = || answer.json()["type"].as_str().unwrap().starts_with("/docs#problem-");
        let typed = match answer.status {
            // Well formed, and refused by a code; names may be anything.
            200 => answer.body.contains("\"code\":") || shown.contains("zz"),
            400..=422 => is_problem(),
            _ => false,
        };
        assert!(typed, "{path} {shown}: {} {}", answer.status, answer.body);
    }
    for (path, _) in endpoints {
        let answer = pool.request("POST", path, &[("Content-Type", "text/plain")], b"{}");
        assert_eq!(answer.status, 415, "{path}: {}", answer.body);
    }
    counted(&submit(&mut pool, &share));
}
