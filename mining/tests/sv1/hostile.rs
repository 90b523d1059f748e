//! Lines of nobody's making: no panic, no flood of answers, no block out of nothing.

use mining::{Action, Input};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::miner::Rig;
use crate::support::EASY;

const METHODS: [&str; 12] = [
    "mining.subscribe",
    "mining.authorize",
    "mining.configure",
    "mining.submit",
    "mining.suggest_difficulty",
    "mining.suggest_target",
    "mining.extranonce.subscribe",
    "mining.ping",
    "client.get_version",
    "mining.get_transactions",
    "",
    "\u{0}",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[0-9a-fA-F]{0,20}".prop_map(Value::from),
        "\\PC{0,16}".prop_map(Value::from),
        Just(json!("alice.one")),
        Just(json!("1")),
        Just(json!("version-rolling")),
        Just(json!("0000000000000000")),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(
                prop_oneof![
                    Just("version-rolling.mask".to_owned()),
                    Just("minimum-difficulty.value".to_owned()),
                    "\\PC{0,8}",
                ],
                inner,
                0..4
            )
            .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    (value(), proptest::sample::select(&METHODS[..]), proptest::collection::vec(value(), 0..8))
        .prop_map(|(id, method, params)| {
            json!({"id": id, "method": method, "params": params}).to_string().into_bytes()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_requests_in_any_order(
        lines in proptest::collection::vec(
            prop_oneof![
                8 => request(),
                1 => proptest::collection::vec(any::<u8>(), 0..64),
            ],
            1..12,
        ),
        ready in any::<bool>(),
    ) {
        let mut rig = if ready {
            Rig::mining(crate::miner::settings(), EASY)
        } else {
            Rig::new(crate::support::deps(crate::miner::settings()))
        };
        rig.work(9, 4, EASY);
        for line in lines {
            let out = rig.input(Input::Line(&line));
            prop_assert!(out.len() <= 4, "{} lines for one", out.len());
            rig.later(std::time::Duration::from_millis(700));
            rig.input(Input::Tick);
        }
        // A share of noise may meet a target that half of all hashes meet: then it is a block.
        for action in rig.take_actions() {
            if let Action::Found(found) = action {
                prop_assert!(found.header.target().is_met_by(found.header.block_hash()));
            }
        }
    }
}
