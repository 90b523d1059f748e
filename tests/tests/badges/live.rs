//! Badges of a real miner, from the events of the real server in front of a real node.

use jds_tests::http;
use jds_tests::{Setup, World, accepted, rejected};
use serde_json::Value;

use crate::link::Link;
use crate::reader::Reader;
use crate::{Awards, THRESHOLD};

/// When the first event of that type happened for which something is true, Unix milliseconds.
#[track_caller]
pub(crate) fn first(world: &World, kind: &str, wanted: impl Fn(&Value) -> bool) -> u64 {
    let page = http::read(world.api(), &format!("/v1/events?limit=1000&types={kind}"));
    let events = page["events"].as_array().unwrap();
    let first = events.iter().find(|event| wanted(&event["data"]));
    first.unwrap_or_else(|| panic!("no such {kind} in {page}"))["timestamp"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miner_at_work_earns_its_badges_across_restarts() {
    let world = Setup::new().api("").start().await;
    let link = Link::to(world.api());
    let mut reader = Reader::new(link.url());
    reader.start();

    let mut alice = world.miner("alice").await;
    reader.wait_told(1);
    let template = alice.template(&world.work());
    for _ in 1..THRESHOLD {
        accepted(&alice.declare(&template).await);
    }
    // What is refused does not count.
    let outcome = alice.declare_with(b"no token", &template).await;
    rejected(&outcome, "invalid-mining-job-token", "token-unknown");
    let mut bob = world.miner("bob").await;
    accepted(&bob.declare(&template).await);
    reader.wait_told(2);
    let node_runners = reader.told();
    let badges: Vec<_> = node_runners.keys().map(|(_, badge)| badge.as_str()).collect();
    assert_eq!(badges, ["Node Runner"; 2], "{node_runners:?}");

    // The last template comes after a restart, while nobody reads.
    reader.kill();
    let world = world.restart(|| {}).await;
    world.synced().await;
    let mut alice = world.miner("alice").await;
    accepted(&alice.declare(&alice.template(&world.work())).await);
    link.lead_to(world.api());
    reader.start();
    reader.wait_told(3);

    // Another restart under the reader; what comes after it earns nothing new.
    let world = world.restart(|| {}).await;
    world.synced().await;
    link.lead_to(world.api());
    let mut alice = world.miner("alice").await;
    accepted(&alice.declare(&alice.template(&world.work())).await);
    world.miner("carol").await;
    reader.wait_told(4);
    reader.kill();

    let node_runner = |user: &str| first(&world, "miner_connected", |data| data["user"] == user);
    let crafter = first(&world, "template_accepted", |data| {
        data["user"] == "alice" && data["templates_accepted_total"] == THRESHOLD
    });
    let expected = [
        ("alice", "Node Runner", node_runner("alice")),
        ("alice", "Template Crafter", crafter),
        ("bob", "Node Runner", node_runner("bob")),
        ("carol", "Node Runner", node_runner("carol")),
    ];
    let expected: Awards = expected
        .map(|(user, badge, at)| ((user.to_owned(), badge.to_owned()), at))
        .into_iter()
        .collect();
    assert_eq!(reader.awards(), expected, "{}", reader.log());
    assert_eq!(reader.told(), expected);
    assert!(reader.told_again() <= reader.kills);
    assert!(!reader.logged("GAP"), "{}", reader.log());
    let (_, told) = reader.run("--once");
    assert_eq!(told, []);
}
