//! No node has told a tip yet: a found block waits for none, and what can not be judged is said so.

use std::thread;

use jds_tests::rig::{by_receipt, solution};
use jds_tests::{EXTRANONCE_BYTES, PATIENCE, Setup, kept};
use serde_json::json;
use signet::{Node, wait};
use store::SubmissionState;

use crate::worlds::{Site, refused, rig};

#[tokio::test(flavor = "multi_thread")]
async fn a_block_on_a_kept_job_goes_out_before_any_tip_is_known() {
    let users = ["alice", "bob", "carol", "dave"];
    let mut site = Site::start(Setup::new()).await;
    let receipts = site.receipts(&users).await;
    let mut pool = site.pool();
    let mut rigs: Vec<_> = receipts.iter().map(|receipt| rig(&mut pool, receipt)).collect();
    let share = rigs[0].mine(false).json;
    let block = |number: u8| rigs[usize::from(number)].mine_with(&[number; EXTRANONCE_BYTES], true);
    let blocks: Vec<_> = (0..).map(block).take(users.len()).collect();
    site.world.nodes[0].stop().unwrap();
    let mut site = site.restart_alone().await;

    let mut pool = site.pool();
    let solutions =
        [solution(&blocks[0].json), solution(&by_receipt(&blocks[1].json, &receipts[1]))];
    for solution in solutions {
        let found = pool.post("/v1/pool/blocks", &solution).json();
        assert_eq!((&found["accepted"], &found["new"]), (&true.into(), &true.into()), "{found}");
    }
    // What shares are worth nobody knows, so these are asked for again; blocks among them are sent.
    let shares = json!([share, blocks[2].json, by_receipt(&blocks[3].json, &receipts[3])]);
    let later = pool.post("/v1/pool/shares", &shares);
    assert_eq!((later.status, &later.json()["type"]), (503, &"/docs#problem-no-tip".into()));
    assert_eq!(site.world.server.shared().nodes.tip(), None);
    for (block, user) in blocks.iter().zip(users) {
        assert_eq!(kept::wait_block(&*site.world.store(), block.hash).user, user);
    }

    site.world.nodes[0].restart().unwrap();
    for block in &blocks {
        wait::until_true("the node to have taken the block", PATIENCE, || {
            let kept = kept::wait_block(&*site.world.store(), block.hash);
            kept.submissions.iter().any(|node| node.state == SubmissionState::Accepted)
        })
        .unwrap();
        assert_eq!(site.world.node().block(&block.hash).unwrap().block_hash(), block.hash);
    }
    site.world.synced().await;
    let results = pool.post("/v1/pool/shares", &shares).json();
    for (result, is_block) in results.as_array().unwrap().iter().zip([false, true, true]) {
        refused(result, "stale-share");
        assert_eq!(result["is_block"], is_block, "{result}");
    }
    assert_eq!(site.shares(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_tip_is_asked_for_again() {
    let mut node = Node::regtest().unwrap();
    node.mine(3).unwrap();
    node.stop().unwrap();
    let mut site = Site::start_on(Setup::new(), vec![node]).await;
    // Of a job that is not kept: nobody can tell whether it will be one.
    let share = json!({ "job": "01".repeat(101), "extranonce": "00", "ntime": 1, "nonce": 1,
        "version": 1, "target": jds_tests::rig::ANY });
    let asked = [("/v1/pool/blocks", solution(&share)), ("/v1/pool/shares", share)];
    thread::scope(|scope| {
        for (path, body) in &asked {
            let mut pool = site.pool();
            scope.spawn(move || {
                let answer = pool.post(path, body);
                let (status, problem) = (answer.status, answer.json()["type"].clone());
                assert_eq!((status, problem), (503, "/docs#problem-no-tip".into()), "{path}");
            });
        }
    });
    site.world.nodes[0].restart().unwrap();
    site.world.synced().await;
    for (path, body) in &asked {
        let answer = site.pool().post(path, body);
        assert_eq!((answer.status, &answer.json()["code"]), (200, &"stale-share".into()), "{path}");
    }
}
