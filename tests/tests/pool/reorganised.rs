//! A block that a template was declared on gives way to another of its height: the job is good on both.

use bitcoin::BlockHash;
use jds_tests::rig::{Mined, Rig, by_receipt, solution};
use jds_tests::{PATIENCE, Setup, kept};
use signet::wait;
use store::SubmissionState;

use crate::worlds::{Site, counted, refused, rig, submit};

/// Another block in place of the tip, of the same height.
async fn rival(site: &Site) -> BlockHash {
    let node = site.world.node();
    node.invalidate(&node.tip().unwrap()).unwrap();
    let rival = node.mine(1).unwrap()[0];
    site.world.synced_to(rival).await;
    rival
}

/// A block of this work that is none on the other.
fn block_on(rig: &mut Rig, other: &Rig) -> Mined {
    std::iter::repeat_with(|| rig.mine(true)).find(|block| !other.makes_block(&block.json)).unwrap()
}

fn taken(site: &Site, hash: BlockHash) {
    wait::until_true("the node to have taken the block", PATIENCE, || {
        let kept = kept::wait_block(&*site.world.store(), hash);
        kept.submissions.iter().any(|node| node.state == SubmissionState::Accepted)
    })
    .unwrap();
    assert_eq!(site.world.node().block(&hash).unwrap().block_hash(), hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_on_the_new_one_is_submitted_after_a_restart_and_though_another_has_won() {
    let site = Site::start(Setup::new()).await;
    let receipt = site.receipt("alice").await;
    rival(&site).await;
    let mut rig = rig(&mut site.pool(), &receipt);
    let (first, second) = (rig.mine(true), rig.mine(true));
    site.world.node().mine_block(&[]).unwrap();
    let site = site.restart().await;
    let mut pool = site.pool();
    let found = pool.post("/v1/pool/blocks", &solution(&first.json)).json();
    assert_eq!(found["accepted"], true, "{found}");
    let result = submit(&mut pool, &second.json);
    refused(&result, "stale-share");
    assert_eq!(result["is_block"], true, "{result}");
    for block in [first, second] {
        taken(&site, block.hash);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_by_receipt_is_found_on_whichever_it_was_mined() {
    let site = Site::start(Setup::new()).await;
    let receipt = site.receipt("alice").await;
    let declared_on = site.world.node().tip().unwrap();
    let mut pool = site.pool();
    let mut old = rig(&mut pool, &receipt);
    rival(&site).await;
    let mut new = rig(&mut pool, &receipt);
    assert_ne!(old.name, new.name);
    let mut send = |block: &Mined, at: &str| {
        let json = by_receipt(&block.json, &receipt);
        match at {
            "solution" => {
                let found = pool.post("/v1/pool/blocks", &solution(&json)).json();
                assert_eq!(found["hash"], block.hash.to_string(), "{found}");
                assert_eq!(found["new"], true, "{found}");
            }
            _ => {
                let mut hard = json.clone();
                if at == "share" {
                    hard["target"] = format!("{:0>64}", "1").into();
                }
                let result = submit(&mut pool, &hard);
                assert_eq!(result["hash"], block.hash.to_string(), "{result}");
                assert_eq!(result["is_block"], true, "{result}");
            }
        }
        assert_eq!(kept::wait_block(&*site.world.store(), block.hash).user, "alice");
    };
    // The node will not have these: their parent was called invalid.
    for at in ["solution", "share"] {
        send(&block_on(&mut old, &new), at);
    }
    // A share on neither job, with a bit changed that no miner may change; a block all the same.
    let odd = Some(0x2000_0001);
    send(&block_on(&mut old.changed(odd, None), &new.changed(odd, None)), "odd share");
    site.world.synced().await;
    // The chain comes back to the first.
    let node = site.world.node();
    let rival = node.tip().unwrap();
    node.reconsider(&declared_on).unwrap();
    node.invalidate(&rival).unwrap();
    site.world.synced().await;
    for at in ["solution", "share"] {
        send(&block_on(&mut new, &old), at);
    }
}

/// What a block is not judged by, shares are: nothing counts that was not checked on the tip.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_comes_back_finds_its_job_checked() {
    let site = Site::start(Setup::new()).await;
    let receipt = site.receipt("alice").await;
    let declared_on = site.world.node().tip().unwrap();
    let mut rig = rig(&mut site.pool(), &receipt);
    let rival = rival(&site).await;
    let site = site.restart().await;
    let mut pool = site.pool();
    refused(&submit(&mut pool, &rig.mine(false).json), "stale-share");
    let node = site.world.node();
    node.reconsider(&declared_on).unwrap();
    node.invalidate(&rival).unwrap();
    site.world.synced_to(declared_on).await;
    counted(&submit(&mut pool, &rig.mine(false).json));
    counted(&submit(&mut pool, &by_receipt(&rig.mine(false).json, &receipt)));
}
