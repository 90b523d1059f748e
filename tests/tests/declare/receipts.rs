//! Verdicts are signed: whoever has the public key can check them, and nothing else is needed.

use bitcoin::Wtxid;
use bitcoin::hashes::Hash;
use jds::client::DeclareOutcome;
use jds::client::template::MinerTemplate;
use jds_tests::{Setup, World, accepted, http, rejected};
use validation::Declared;
use validation::receipt::{
    Endorsement, Receipt, ReceiptKey, RejectionProof, UserHash, split_details,
};

fn authority(world: &World) -> ReceiptKey {
    ReceiptKey::from_bytes(&world.authority.into_bytes()).unwrap()
}

fn details(outcome: &DeclareOutcome) -> &str {
    let DeclareOutcome::Rejected { details, .. } = outcome else { panic!("accepted") };
    details
}

/// Checks that the receipt is about this template, and proves it with the halves swapped for others.
fn check_template(receipt: &Receipt, template: &MinerTemplate) {
    let (prefix, suffix) = template.halves();
    let wtxids: Vec<_> = template.wtxids().into_iter().map(Wtxid::from_byte_array).collect();
    let declared = Declared {
        version: template.version,
        coinbase_prefix: &prefix,
        coinbase_suffix: &suffix,
        wtxids: &wtxids,
    };
    receipt.check_template(&declared).unwrap();
    let other = Declared { version: template.version + 1, ..declared };
    receipt.check_template(&other).unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_of_an_accepted_job_proves_that_it_was_accepted() {
    let world = World::start().await;
    let mut alice = world.miner("alice").await;
    let work = world.work();
    let template = alice.template(&work);
    let outcome = alice.declare(&template).await;
    accepted(&outcome);
    let DeclareOutcome::Accepted { new_token, .. } = outcome else { unreachable!() };
    let receipt = Receipt::decode(&new_token).unwrap();
    let facts = receipt.verify(&[authority(&world)]).unwrap();
    check_template(&receipt, &template);
    assert_eq!(facts.user, UserHash::of(b"alice"));
    let tip = world.server.shared().nodes.tip().unwrap();
    assert_eq!(facts.height, tip.next_height());
    assert_eq!(facts.prev_hash, tip.hash);
    let job = world.server.shared().session_deps.mint.open_job(&new_token, facts.accepted_at_us);
    assert_eq!(job.unwrap().template, facts.template_hash);

    // Once more: another receipt of the same template, a moment later.
    let outcome = alice.declare(&template).await;
    accepted(&outcome);
    let DeclareOutcome::Accepted { new_token: again, .. } = outcome else { unreachable!() };
    let again = Receipt::decode(&again).unwrap();
    let later = again.verify(&[authority(&world)]).unwrap();
    assert_eq!(later.template_hash, facts.template_hash);
    assert!(later.accepted_at_us > facts.accepted_at_us);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_carries_the_proof_that_the_event_has_too() {
    let world = Setup::new().api("").start().await;
    let mut alice = world.miner("alice").await;
    let mut template = alice.template(&world.work());
    template.version = 0;
    let outcome = alice.declare(&template).await;
    rejected(&outcome, "invalid-job", "version");
    let (words, proof) = split_details(details(&outcome)).unwrap();
    let facts = RejectionProof::from_hex(proof).unwrap();
    let words = format!("invalid-job {words}");
    let facts = facts.verify(&words, &[authority(&world)]).unwrap();
    assert_eq!(facts.user, UserHash::of(b"alice"));
    let (prefix, suffix) = template.halves();
    let wtxids: Vec<_> = template.wtxids().into_iter().map(Wtxid::from_byte_array).collect();
    let hash = validation::TemplateHash::of(&Declared {
        version: template.version,
        coinbase_prefix: &prefix,
        coinbase_suffix: &suffix,
        wtxids: &wtxids,
    });
    assert_eq!(facts.template_hash, Some(hash));
    let page = http::read(world.api(), "/v1/events?types=template_rejected");
    assert_eq!(page["events"][0]["data"]["proof"], proof);

    // What the token alone decides is no verdict on a template, and is not signed.
    let outcome = alice.declare_with(b"made up", &template).await;
    rejected(&outcome, "invalid-mining-job-token", "token-unknown");
    assert_eq!(split_details(details(&outcome)), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_may_sign_and_the_authority_key_vouches_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("receipts.key");
    let (secret, public) = config::keys::generate().unwrap();
    config::keys::write_new(&path, &secret).unwrap();
    let (_, retired) = config::keys::generate().unwrap();
    let lines = format!("key_file = {path:?}\nretired_keys = [\"{retired}\"]");
    let world = Setup::new().api("").table("receipts", &lines).start().await;
    let mut alice = world.miner("alice").await;
    let outcome = alice.declare(&alice.template(&world.work())).await;
    accepted(&outcome);
    let DeclareOutcome::Accepted { new_token, .. } = outcome else { unreachable!() };

    let published = http::read(world.api(), "/v1/receipts/keys");
    let keys = published["keys"].as_array().unwrap();
    let states: Vec<_> = keys.iter().map(|key| key["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["active", "authority", "retired"]);
    assert_eq!(keys[0]["public_key"], public.to_string());
    assert_eq!(keys[1]["public_key"], world.authority.to_string());
    assert_eq!(keys[2]["public_key"], retired.to_string());
    let signing = ReceiptKey::from_bytes(&public.to_bytes()).unwrap();
    let endorsement = keys[0]["endorsement"].as_str().unwrap();
    let endorsement = Endorsement(bitcoin::hex::FromHex::from_hex(endorsement).unwrap());
    endorsement.verify(&authority(&world), &signing).unwrap();
    let receipt = Receipt::decode(&new_token).unwrap();
    receipt.verify(&[authority(&world)]).unwrap_err();
    receipt.verify(&[authority(&world), signing]).unwrap();
    assert_eq!(keys[0]["key_id"], receipt.key_id().to_string());
}
