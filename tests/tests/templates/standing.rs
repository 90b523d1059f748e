//! What the server says of its template distribution: readiness, metrics, events.

use jds_tests::{PATIENCE, http, kept};
use signet::wait;
use store::{EventData, Role};

use crate::client::{Client, SIZE, setup};

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_counted_and_told_of() {
    let world = setup().api("").start().await;
    let client = Client::connect(&world, SIZE).await;
    let ready = http::get(world.api(), "/readyz");
    assert_eq!(ready.status, 200, "{}", ready.body);
    assert!(ready.body.contains("\"listener:template_distribution\""), "{}", ready.body);
    let metrics = http::get(world.api(), "/metrics").body;
    let line = "jds_connections{role=\"template_distribution\"} 1.0";
    assert!(metrics.lines().any(|of| of == line), "{metrics}");
    drop(client);
    let store = world.store();
    let told = wait::until("the client's end to be told", PATIENCE, || {
        let events = kept::events(&*store);
        let told: Vec<_> = events
            .iter()
            .filter_map(|event| match event.typed().unwrap() {
                EventData::MinerConnected(event) => Some((true, event.role, event.connection_id)),
                EventData::MinerDisconnected(event) => {
                    Some((false, event.role, event.connection_id))
                }
                _ => None,
            })
            .collect();
        (told.len() == 2).then_some(told)
    })
    .unwrap();
    let role = Role::TemplateDistribution;
    assert!(matches!(told[..], [(true, a, x), (false, b, y)] if a == role && b == role && x == y));
}
