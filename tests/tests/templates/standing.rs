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

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_the_time_to_a_new_tip_are_counted() {
    let world = setup().api("").start().await;
    let mut clients = [Client::connect(&world, SIZE).await, Client::connect(&world, SIZE).await];
    let value = |name: &str| {
        let metrics = http::get(world.api(), "/metrics").body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<f64>().ok())
    };
    let told = "jds_template_tip_seconds_count";
    let sent = |kind: &str| value(&format!("jds_template_messages_total{{message=\"{kind}\"}}"));
    // What a client begins with is no news.
    assert_eq!(value(told), Some(0.0));
    assert_eq!((sent("set_new_prev_hash"), sent("transaction_data")), (Some(2.0), None));
    clients[0].transactions().await;
    let tip = world.node().mine_block(&[]).unwrap();
    for client in &mut clients {
        client.until("the new tip", |client| client.is_on(&tip)).await;
    }
    wait::until_true("both to be counted", PATIENCE, || value(told) == Some(2.0)).unwrap();
    assert_eq!((sent("set_new_prev_hash"), sent("transaction_data")), (Some(4.0), Some(1.0)));
    assert!(sent("new_template") >= Some(4.0));
    let seconds = value("jds_template_tip_seconds_sum").unwrap();
    assert!(seconds > 0.0 && seconds < PATIENCE.as_secs_f64(), "{seconds}");
}
