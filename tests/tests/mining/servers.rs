//! Several servers: whose receipts and tokens are worth what at which, before and after a change of keys.

use std::fs;

use jds::client::DeclareOutcome;
use jds_tests::{Setup, World, accepted, http, rejected};
use validation::receipt::{Endorsement, Receipt, ReceiptKey};

use crate::custom::{Jdc, STALE, TIP_GRACE, work_with_transactions};

const TOKEN: &str = "invalid-mining-job-token";

async fn server() -> World {
    Setup::new().job_declaration(TIP_GRACE).mining("").api("").start().await
}

/// The keys that a server publishes: public key, state, endorsement.
fn published(world: &World) -> Vec<(ReceiptKey, String, Option<Endorsement>)> {
    let keys = http::read(world.api(), "/v1/receipts/keys");
    let keys = keys["keys"].as_array().unwrap().clone();
    let parse = |key: &serde_json::Value| {
        let public = config::PublicKey::parse(key["public_key"].as_str().unwrap()).unwrap();
        let endorsement = key["endorsement"].as_str();
        let endorsement = endorsement.map(|hex| bitcoin::hex::FromHex::from_hex(hex).unwrap());
        let state = key["state"].as_str().unwrap().to_owned();
        (ReceiptKey::from_bytes(&public.to_bytes()).unwrap(), state, endorsement.map(Endorsement))
    };
    keys.iter().map(parse).collect()
}

fn authority(world: &World) -> ReceiptKey {
    ReceiptKey::from_bytes(&world.authority.into_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_share_a_key_honour_each_others_receipts_but_not_each_others_tokens() {
    let first = server().await;
    let second = first.sibling(|text| text).await;
    let work = work_with_transactions(&first).await;
    second.synced_to(work.prev_hash).await;
    let (mut here, mut there) = (Jdc::connect(&first).await, Jdc::connect(&second).await);
    let template = there.template(&work);
    let receipt = here.declare(&template).await;

    // The public key is all that anybody needs, and it says which server it was.
    let key = authority(&second);
    let of_first = *Receipt::decode(&receipt).unwrap().verify(&[key]).unwrap();
    assert_eq!(of_first.server, first.server.shared().validator.receipts.server());
    assert_ne!(of_first.server, second.server.shared().validator.receipts.server());

    // It is honoured, but there is no such job: declare again, and stay.
    let job = there.job(&receipt, &template, &work);
    assert_eq!(there.refused(&job, "a job that is not here").await, STALE);
    let own = there.declare(&template).await;
    assert_ne!(own, receipt);
    let facts = *Receipt::decode(&own).unwrap().verify(&[key]).unwrap();
    assert_eq!(facts.template_hash, of_first.template_hash);
    there.set(&job, &template).await;
    // Of somebody else it is worth nothing, there as here.
    let mut thief = crate::custom::work_selection(&second).await;
    let channel = thief.open_extended("mallory", crate::HASHRATE, 10).await.unwrap();
    let theirs = jds_wire::message::mining::SetCustomMiningJobOwned {
        channel_id: channel.id,
        ..job.clone()
    };
    assert_eq!(thief.set_custom_job(theirs).await.unwrap(), Err(TOKEN.to_owned()));

    // A token names its server: it can not be used here and there.
    let token = here.miner.token().await.bytes;
    let outcome = there.miner.declare_with(&token, &template).await;
    rejected(&outcome, TOKEN, "token-unknown");
    accepted(&here.miner.declare_with(&token, &template).await);
    rejected(&there.miner.declare_with(&token, &template).await, TOKEN, "token-unknown");
    rejected(&here.miner.declare_with(&token, &template).await, TOKEN, "token-spent");

    let block = there.mine_block().await;
    first.assert_mined(block, &work.txs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_key_of_its_own_honours_those_that_it_lists_and_no_others() {
    let first = server().await;
    let (secret, _) = config::keys::generate().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("own.key");
    config::keys::write_new(&key_file, &secret).unwrap();
    // The certificate is checked against the authority key, so that one stays; what signs verdicts, and
    // whose are honoured, is the matter here.
    let table = |listed: &str| {
        let lines = format!("\n[receipts]\nkey_file = {key_file:?}\nretired_keys = [{listed}]\n");
        move |text: String| text + &lines
    };
    let of_first = format!("\"{}\"", first.authority);
    let lists_it = first.sibling(table(&of_first)).await;
    let work = first.work();
    let template = Jdc::connect(&lists_it).await.template(&work);
    let receipt = Jdc::connect(&first).await.declare(&template).await;
    let mut there = Jdc::connect(&lists_it).await;
    let signed = there.declare(&template).await;
    let own = Receipt::decode(&signed).unwrap();
    assert!(own.verify(&[authority(&first)]).is_err(), "another key has signed");
    let job = there.job(&receipt, &template, &work);
    there.set(&job, &template).await;

    // Signed with a key that the first was never told of.
    let mut here = Jdc::connect(&first).await;
    let job = here.job(&signed, &template, &work);
    assert_eq!(here.refused(&job, "a key that nobody lists").await, TOKEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_receipts_stay_good_when_the_key_changes() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = ["old.key", "new.key"].map(|name| {
        let (secret, public) = config::keys::generate().unwrap();
        let path = dir.path().join(name);
        config::keys::write_new(&path, &secret).unwrap();
        (path, public)
    });
    let lines = format!("key_file = {:?}", old.0);
    let setup = Setup::new().job_declaration(TIP_GRACE).mining("").api("");
    let world = setup.table("receipts", &lines).start().await;
    let work = work_with_transactions(&world).await;
    let mut jdc = Jdc::connect(&world).await;
    let template = jdc.template(&work);
    let receipt = jdc.declare(&template).await;
    let facts = Receipt::decode(&receipt).unwrap();

    let file = world.config_file();
    let change = || {
        let text = fs::read_to_string(&file).unwrap();
        let lines_then = format!("key_file = {:?}\nretired_keys = [\"{}\"]", new.0, old.1);
        fs::write(&file, text.replace(&lines, &lines_then)).unwrap();
    };
    drop(jdc);
    let world = world.restart(change).await;
    world.synced().await;

    // Both are published, the old one as such, each with the word of the authority key.
    let keys = published(&world);
    let states: Vec<_> = keys.iter().map(|(_, state, _)| state.as_str()).collect();
    assert_eq!(states, ["active", "authority", "retired"]);
    let to_key = |public: &config::PublicKey| ReceiptKey::from_bytes(&public.to_bytes()).unwrap();
    assert_eq!((keys[0].0, keys[2].0), (to_key(&new.1), to_key(&old.1)));
    for (key, _, endorsement) in [&keys[0], &keys[2]] {
        endorsement.as_ref().unwrap().verify(&authority(&world), key).unwrap();
    }
    // Whoever asks now can check what was signed then.
    let all: Vec<_> = keys.iter().map(|(key, _, _)| *key).collect();
    let then = facts.verify(&all).unwrap();
    assert_eq!(facts.key_id(), to_key(&old.1).id());

    // The receipt is still good as a token: the job is back, and mined.
    let mut jdc = Jdc::connect(&world).await;
    let job = jdc.job(&receipt, &template, &work);
    jdc.set(&job, &template).await;
    let DeclareOutcome::Accepted { new_token, .. } = jdc.miner.declare(&template).await else {
        panic!("refused after the change of keys");
    };
    let again = Receipt::decode(&new_token).unwrap();
    assert_eq!(again.key_id(), to_key(&new.1).id());
    assert_eq!(again.verify(&all).unwrap().template_hash, then.template_hash);
    let block = jdc.mine_block().await;
    world.assert_mined(block, &work.txs);
}
