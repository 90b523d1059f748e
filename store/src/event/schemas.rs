//! JSON Schemas of the events, made from the types.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::{EventKind, Protocol, SCHEMA_VERSION};

/// The JSON Schema (draft 2020-12) of every event with its envelope, by the event's name.
pub fn schemas() -> BTreeMap<&'static str, Value> {
    EventKind::ALL.iter().map(|kind| (kind.as_str(), schema(*kind))).collect()
}

fn schema(kind: EventKind) -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut payload = kind.payload_schema(&mut settings.into_generator()).to_value();
    let description = payload.as_object_mut().and_then(|payload| payload.remove("description"));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.as_str(),
        "description": description,
        "type": "object",
        "properties": {
            "id": {
                "description": "Gap-free and strictly increasing within a stream epoch.",
                "type": "integer",
                "minimum": 1,
            },
            "event": { "const": kind.as_str() },
            "timestamp": {
                "description": "Unix time in milliseconds.",
                "type": "integer",
                "minimum": 0,
            },
            "source": { "description": "Which installation says so.", "type": "string" },
            "protocol": {
                "enum": [Protocol::StratumV2.as_str(), Protocol::StratumV1.as_str()],
            },
            "schema": { "const": SCHEMA_VERSION },
            "data": payload,
        },
        "required": ["id", "event", "timestamp", "source", "protocol", "schema", "data"],
    })
}
