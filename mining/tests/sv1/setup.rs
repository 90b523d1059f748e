//! Until the first job: who mines, with which extensions.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::Network;
use mining::limits::{
    SETUP_TIMEOUT, SV1_FAULTS_MAX, SV1_FAULTS_WINDOW, SV1_WORKERS_MAX, USER_IDENTITY_BYTES_MAX,
};
use mining::{Action, ChannelKind, Deps, Extranonces, Input, JobBytes};
use serde_json::json;
use validation::rules::{Payout, Rules};

use crate::miner::Rig;
use crate::miner::settings;
use crate::support::{HARD, deps, script};

/// A pool: everybody mines for it.
fn pool() -> Arc<Deps> {
    Arc::new(Deps {
        network: Network::Regtest,
        settings: settings(),
        extranonces: Extranonces::new([5; 4]),
        custom_job_bytes: JobBytes::default(),
        terms: Box::new(|_| {
            let payout = Payout::Pool { script: script("pool"), min_share_bp: 10_000 };
            Ok(Arc::new(Rules { network: Network::Regtest, payout, imposed_outputs: Vec::new() }))
        }),
    })
}

#[test]
fn difficulty_and_job_follow_subscription_and_name_in_either_order() {
    for name_first in [false, true] {
        let mut rig = Rig::new(deps(settings()));
        rig.work(1, 1, HARD);
        let name = json!(["alice.one", "x"]);
        let after = if name_first {
            assert_eq!(rig.ask("mining.authorize", name).1, []);
            rig.ask("mining.subscribe", json!([])).1
        } else {
            assert_eq!(rig.ask("mining.subscribe", json!([])).1, []);
            rig.ask("mining.authorize", name).1
        };
        let methods: Vec<_> = after.iter().map(|line| line.method()).collect();
        assert_eq!(methods, ["mining.set_difficulty", "mining.notify"], "{name_first}");
        assert!(rig.job.as_ref().unwrap().clean_jobs);
        let opened = rig.take_actions();
        let [Action::Opened(opened), Action::Target(told)] = &opened[..] else {
            panic!("{opened:?}")
        };
        assert_eq!((&*opened.user, &*opened.worker), ("alice", "one"));
        assert_eq!((opened.kind, opened.target), (ChannelKind::Worker, None));
        assert_eq!(told.channel_id, None, "of all workers");
        assert!(!opened.work_selection);
    }
}

#[test]
fn two_connections_never_share_an_extranonce() {
    let deps = deps(settings());
    let mut one = Rig::new(Arc::clone(&deps));
    let mut two = Rig::new(deps);
    one.subscribe();
    two.subscribe();
    assert_ne!(one.extranonce1, two.extranonce1);
    let before = one.extranonce1.clone();
    one.subscribe();
    assert_eq!(one.extranonce1, before, "a second subscription changes nothing");
}

#[test]
fn a_session_id_is_part_of_the_answer() {
    let mut rig = Rig::new(deps(settings()));
    let resumed = json!(["miner/1", "0123456789abcdef", "host", 3333]);
    let result = rig.ask("mining.subscribe", resumed).0.unwrap();
    let id = &result[1];
    assert_eq!(result[0], json!([["mining.set_difficulty", id], ["mining.notify", id]]));
    assert_eq!(result[2], 8);
}

#[test]
fn a_refused_name_is_told_why_and_the_connection_waits_for_another() {
    let mut rig = Rig::new(deps(settings()));
    rig.work(1, 1, HARD);
    rig.subscribe();
    let (code, message) = rig.ask("mining.authorize", json!(["nobody", "x"])).0.unwrap_err();
    assert_eq!(code, 24);
    assert!(message.contains("never heard of"), "{message}");
    for bad in [json!([]), json!([7, "x"]), json!(["x".repeat(256)])] {
        assert!(rig.ask("mining.authorize", bad.clone()).0.is_err(), "{bad}");
    }
    assert!(rig.job.is_none());
    rig.ask("mining.authorize", json!(["alice"])).0.unwrap();
    assert!(rig.job.is_some());
}

#[test]
fn who_names_no_user_mines_as_anonymous() {
    for (name, worker) in [("", ""), (".", ""), (".rig", "rig")] {
        let mut rig = Rig::new(pool());
        rig.work(1, 1, HARD);
        rig.subscribe();
        assert_eq!(rig.ask("mining.authorize", json!([name, ""])).0, Ok(json!(true)), "{name:?}");
        assert!(rig.job.is_some());
        let actions = rig.take_actions();
        let Some(Action::Opened(opened)) = actions.first() else { panic!("{actions:?}") };
        assert_eq!((&*opened.user, &*opened.worker), ("anonymous", worker));
    }
}

#[test]
fn workers_that_are_paid_alike_share_a_connection() {
    let mut rig = Rig::new(pool());
    rig.work(1, 1, HARD);
    rig.subscribe();
    for name in ["alice.one", "alice.two", "bob.one", "alice.one"] {
        assert_eq!(rig.ask("mining.authorize", json!([name, ""])).0, Ok(json!(true)), "{name}");
    }
    let opened: Vec<_> = rig
        .take_actions()
        .into_iter()
        .filter_map(|action| match action {
            Action::Opened(opened) => {
                assert_eq!(opened.target.is_some(), opened.channel_id > 1, "once it was told");
                Some((opened.channel_id, opened.user.to_string()))
            }
            Action::Target(_) => None,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(opened, [(1, "alice".into()), (2, "alice".into()), (3, "bob".into())]);
}

#[test]
fn a_second_payout_address_needs_a_connection_of_its_own() {
    let mut rig = Rig::easy();
    assert!(rig.ask("mining.authorize", json!(["alice.two", ""])).0.is_ok());
    let (code, message) = rig.ask("mining.authorize", json!(["bob", ""])).0.unwrap_err();
    assert_eq!(code, 24);
    assert!(message.contains("second connection"), "{message}");
}

#[test]
fn workers_of_a_connection_are_bounded() {
    let mut rig = Rig::new(pool());
    for number in 0..SV1_WORKERS_MAX {
        rig.ask("mining.authorize", json!([format!("w{number}"), ""])).0.unwrap();
    }
    assert_eq!(rig.ask("mining.authorize", json!(["one-too-many", ""])).0.unwrap_err().0, 24);
    assert!(rig.ask("mining.authorize", json!(["w0", ""])).0.is_ok(), "a known one stays");
}

#[test]
fn a_name_is_as_long_as_that_of_the_other_protocol_and_no_longer() {
    let mut rig = Rig::new(pool());
    rig.work(1, 1, HARD);
    rig.subscribe();
    let longest = "x".repeat(USER_IDENTITY_BYTES_MAX);
    let (code, message) =
        rig.ask("mining.authorize", json!([format!("{longest}x"), ""])).0.unwrap_err();
    assert_eq!(code, 24);
    assert!(message.contains("255 bytes"), "{message}");
    assert_eq!(rig.ask("mining.authorize", json!([longest, ""])).0, Ok(json!(true)));
}

#[test]
fn a_connection_that_never_gets_ready_ends() {
    let mut rig = Rig::new(deps(settings()));
    assert_eq!(rig.session.poll_timeout(), Some(rig.now.instant + SETUP_TIMEOUT));
    rig.later(SETUP_TIMEOUT - Duration::from_millis(1));
    rig.input(Input::Tick);
    assert_eq!(rig.close_reason(), None);
    rig.subscribe();
    rig.later(Duration::from_millis(1));
    rig.input(Input::Tick);
    assert_eq!(rig.close_reason(), Some("no mining.authorize within 10 s"));
    assert_eq!(rig.input(Input::Line(b"{\"id\":1,\"method\":\"mining.ping\"}")), []);
}

#[test]
fn without_work_a_miner_waits() {
    let mut rig = Rig::new(deps(settings()));
    rig.subscribe();
    rig.ask("mining.authorize", json!(["alice", ""])).0.unwrap();
    assert!(rig.job.is_none());
    rig.later(SETUP_TIMEOUT * 10);
    rig.input(Input::Tick);
    assert_eq!(rig.close_reason(), None);
    rig.work(1, 1, HARD);
    assert!(rig.job.as_ref().unwrap().clean_jobs);
}

#[test]
fn small_requests() {
    let mut rig = Rig::new(deps(settings()));
    assert_eq!(rig.ask("mining.ping", json!([])).0, Ok(json!("pong")));
    assert!(rig.ask("client.get_version", json!([])).0.unwrap().is_string());
    assert_eq!(rig.ask("mining.extranonce.subscribe", json!([])).0, Ok(json!(true)));
    assert_eq!(rig.ask("mining.get_transactions", json!(["1"])).0.unwrap_err().0, -3);
    let no_id = br#"{"method":"mining.ping","params":[]}"#;
    assert_eq!(rig.input(Input::Line(no_id)), []);
    let null = rig.input(Input::Line(br#"{"id":null,"method":"mining.ping","params":[]}"#));
    assert_eq!(null[0].value, json!({"id": null, "result": "pong", "error": null}));
    assert_eq!(rig.input(Input::Line(br#"{"id":1,"result":"cgminer/4","error":null}"#)), []);
    assert_eq!(rig.input(Input::Line(b" \r")), []);
    assert_eq!(rig.close_reason(), None);
}

#[test]
fn configure_is_answered_by_extension() {
    let mut rig = Rig::new(deps(settings()));
    let asked = json!([["version-rolling", "info"], {"version-rolling.mask": "1fffe000"}]);
    assert_eq!(
        rig.ask("mining.configure", asked).0,
        Ok(json!({"version-rolling": true, "version-rolling.mask": "1fffe000", "info": true}))
    );
    assert_eq!(rig.ask("mining.configure", json!([])).0.unwrap_err().0, 20);
}

#[test]
fn endless_useless_requests_end_the_connection() {
    let mut rig = Rig::easy();
    for round in 0..3 {
        for _ in 0..SV1_FAULTS_MAX {
            rig.ask("mining.nothing", json!([])).0.unwrap_err();
        }
        assert_eq!(rig.close_reason(), None, "round {round}");
        rig.later(SV1_FAULTS_WINDOW);
    }
    for _ in 0..=SV1_FAULTS_MAX {
        rig.ask("mining.nothing", json!([])).0.unwrap_err();
    }
    assert!(rig.close_reason().unwrap().contains("without use"));
}

#[test]
fn a_line_that_is_no_message_ends_the_connection() {
    for line in [&b"GET / HTTP/1.1\r"[..], b"\x00\x01\x02", b"[]", b"7", b"{\"id\":1}"] {
        let mut rig = Rig::easy();
        rig.input(Input::Line(line));
        assert!(rig.close_reason().is_some(), "{line:?}");
    }
}

#[test]
fn a_planned_end_asks_the_miner_to_connect_again() {
    let mut rig = Rig::easy();
    let lines = rig.input(Input::Shutdown);
    assert_eq!(lines[0].value, json!({"id": null, "method": "client.reconnect", "params": []}));
    assert!(rig.close_reason().is_some());
}

#[test]
fn with_the_connection_its_workers_go() {
    let mut rig = Rig::easy();
    rig.ask("mining.authorize", json!(["alice.two", ""])).0.unwrap();
    rig.input(Input::Shutdown);
    rig.take_actions();
    for expected in [&[1, 2][..], &[]] {
        assert_eq!(rig.input(Input::Disconnected), []);
        let closed: Vec<_> = rig
            .take_actions()
            .into_iter()
            .map(|action| match action {
                Action::Closed(closed) => closed.channel_id,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(closed, expected);
    }
}
