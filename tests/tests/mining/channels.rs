//! The list of open channels: every kind of them, with its target and its shares, for as long as it is
//! open.

use bitcoin::Target;
use bitcoin::hex::DisplayHex;
use jds_tests::sv1::{Sv1Client, is_block, is_share};
use jds_tests::{PATIENCE, Setup, World, http};
use jds_wire::message::mining::{
    MiningClientMessage, MiningServerMessage, UpdateChannelOwned, flags,
};
use serde_json::{Value, json};
use signet::wait;

use crate::{HASHRATE, client, extended};

/// Each hash is a share, for all kinds of miners.
const EACH_HASH: &str = "shares_per_minute = 600.0\nsv1_start_hashrate_ths = 0.000000000000001\n";

fn channels(world: &World) -> Vec<Value> {
    http::read(world.api(), "/v1/channels")["items"].as_array().unwrap().clone()
}

fn users(channels: &[Value]) -> Vec<&str> {
    channels.iter().map(|channel| channel["user"].as_str().unwrap()).collect()
}

fn hex(target: Target) -> Value {
    target.to_be_bytes().to_lower_hex_string().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn open_channels_are_listed_with_their_targets_and_shares() {
    let world = Setup::new().api("").mining(EACH_HASH).start().await;
    assert_eq!(channels(&world), [] as [Value; 0]);
    let mut alice = client(&world, flags::REQUIRES_STANDARD_JOBS).await;
    let mut rig = alice.open_standard("alice.rig1", HASHRATE).await.unwrap();
    alice.work(&mut rig).await.unwrap();
    let (mut bob, mut farm) = extended(&world, "bob").await;
    let mut carol = Sv1Client::mining(world.mining_v1(), "carol.rig2").await;

    let share = rig.mine_share_only().expect("a share");
    assert_eq!(alice.submit(&rig, &share).await.unwrap(), Ok(()));
    assert!(alice.submit(&rig, &share).await.unwrap().is_err(), "the same once more");
    for _ in 0..2 {
        let share = farm.mine_share_only().expect("a share");
        assert_eq!(bob.submit(&farm, &share).await.unwrap(), Ok(()));
    }
    let good = |header: &_, told| is_share(header, told) && !is_block(header, told);
    let share = carol.mine(1, good);
    let id = carol.submit("carol.rig2", &share).await;
    assert_eq!(carol.answer(id).await.unwrap(), Ok(json!(true)));

    let listed = channels(&world);
    assert_eq!(users(&listed), ["carol", "bob", "alice"], "newest first");
    let kinds: Vec<_> = listed.iter().map(|one| (&one["protocol"], &one["kind"])).collect();
    let (v1, v2) = (json!("stratum_v1"), json!("stratum_v2"));
    let names = [json!("worker"), json!("extended"), json!("standard")];
    assert_eq!(kinds, [(&v1, &names[0]), (&v2, &names[1]), (&v2, &names[2])]);
    let shares: Vec<_> =
        listed.iter().map(|one| (&one["shares_accepted"], &one["shares_refused"])).collect();
    let numbers = [json!(0), json!(1), json!(2)];
    let [none, one, two] = &numbers;
    assert_eq!(shares, [(one, none), (two, none), (one, one)]);
    assert_eq!((&listed[0]["worker"], &listed[2]["worker"]), (&json!("rig2"), &json!("rig1")));
    assert_eq!((&listed[1]["target"], &listed[2]["target"]), (&hex(farm.target), &hex(rig.target)));
    assert!(listed.iter().all(|one| one["difficulty"].as_f64().is_some_and(|told| told > 0.0)));
    for one in &listed {
        let (since, last) = (one["since"].as_u64(), one["last_share_at"].as_u64());
        assert!(since > Some(1_600_000_000_000) && last >= since, "{one}");
        assert!(one["remote"].as_str().unwrap().starts_with("127.0.0.1:"), "{one}");
    }
    let page = http::read(world.api(), "/v1/channels?limit=2");
    assert_eq!(users(page["items"].as_array().unwrap()), ["carol", "bob"]);
    let rest = http::read(world.api(), &format!("/v1/channels?limit=2&after={}", page["next"]));
    assert_eq!(
        (users(rest["items"].as_array().unwrap()), &rest["next"]),
        (vec!["alice"], &Value::Null)
    );

    let faster = UpdateChannelOwned {
        channel_id: farm.id,
        nominal_hash_rate: 1e12,
        maximum_target: [0xff; 32].into(),
    };
    bob.send(&MiningClientMessage::UpdateChannel(faster)).await.unwrap();
    let told = bob.wait("a target", |message| match message {
        MiningServerMessage::SetTarget(told) => Some(told.maximum_target.to_array()),
        _ => None,
    });
    let harder = Target::from_le_bytes(told.await.unwrap());
    assert!(harder < farm.target);
    wait::until_true("the list to have the target", PATIENCE, || {
        channels(&world)[1]["target"] == hex(harder)
    })
    .unwrap();
    let metrics = http::get(world.api(), "/metrics").body;
    for line in [
        "jds_channel_targets_total{protocol=\"mining\",change=\"opened\"} 2",
        "jds_channel_targets_total{protocol=\"mining\",change=\"harder\"} 1",
        "jds_channel_targets_total{protocol=\"mining_v1\",change=\"opened\"} 1",
        "jds_channel_difficulty_count{protocol=\"mining\"} 3",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }

    drop(alice);
    wait::until_true("alice to be gone", PATIENCE, || users(&channels(&world)) == ["carol", "bob"])
        .unwrap();
    let miners = http::read(world.api(), "/v1/miners");
    assert_eq!(users(miners["items"].as_array().unwrap()), ["alice", "bob", "carol"]);
}
