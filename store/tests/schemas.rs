//! The published schemas are those of the types, and events keep to them.

use std::collections::BTreeSet;
use std::path::Path;

use store::{EventKind, schemas};

/// Set to rewrite the published schemas after a change.
const UPDATE: &str = "UPDATE_SCHEMAS";

#[test]
fn published_schemas_are_those_of_the_types() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let schemas = schemas();
    assert_eq!(schemas.len(), EventKind::ALL.len());
    for (name, schema) in &schemas {
        let path = dir.join(format!("{name}.json"));
        let text = format!("{}\n", serde_json::to_string_pretty(schema).unwrap());
        if std::env::var_os(UPDATE).is_some() {
            std::fs::write(&path, text).unwrap();
            continue;
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        let published: serde_json::Value = serde_json::from_str(&published).unwrap_or_default();
        let path = path.display();
        assert_eq!(published, *schema, "{path} is not up to date: run with {UPDATE}=1");
    }
    let files: BTreeSet<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected: BTreeSet<_> = schemas.keys().map(|name| format!("{name}.json")).collect();
    assert_eq!(files, expected, "a schema without an event, or the other way round");
}

#[test]
fn names_are_the_same_everywhere() {
    for kind in EventKind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        assert_eq!(kind.as_str().parse(), Ok(*kind));
        let schema = &schemas()[kind.as_str()];
        assert_eq!(schema["properties"]["event"]["const"], kind.as_str());
        let data = &schema["properties"]["data"];
        assert_eq!(data["type"], "object", "{kind}");
        assert!(data["properties"].as_object().is_some_and(|fields| !fields.is_empty()), "{kind}");
        assert!(!schema.to_string().contains("$ref"), "{kind} stands by itself");
    }
}

/// The fields that readers were promised, by event.
#[test]
fn payloads_have_the_promised_fields() {
    for (name, fields) in [
        ("miner_connected", "user connection_id remote role flags job_negotiation reason"),
        ("miner_disconnected", "user connection_id remote role flags job_negotiation reason"),
        ("token_allocated", "user token_id expires_at"),
        ("template_proposed", "user template_hash tx_count wtxids_unknown height bytes"),
        (
            "template_accepted",
            "user template_hash tx_count total_fees_sat fees_verified block_weight height \
             prev_hash validation_ms templates_accepted_total",
        ),
        (
            "template_rejected",
            "user template_hash error_code reason index expected actual validation_ms",
        ),
        ("template_invalidated", "user template_hash node reason"),
        (
            "job_negotiated",
            "user template_hash tx_count total_fees_sat block_weight validation_result channel_id \
             job_id",
        ),
        (
            "share_submitted",
            "user worker channel_id job_id accepted error_code difficulty share_hash \
             template_source miner_template_hash miner_tx_count miner_template_fees_sat \
             pool_payout_sat claimable_sat first_for_user",
        ),
        (
            "block_found",
            "user block_hash height template_source miner_template_hash tx_count reward_sat \
             assembled",
        ),
        ("block_submitted", "block_hash node result latency_ms"),
        ("block_confirmed", "block_hash confirmations"),
        ("block_orphaned", "block_hash confirmations"),
        ("node_status", "node state height detail"),
        ("server_started", "version schema network server_id"),
    ] {
        let schema = &schemas()[name];
        for field in fields.split_whitespace() {
            let described = &schema["properties"]["data"]["properties"][field];
            assert!(described["description"].is_string(), "{name}.{field}");
        }
    }
}
