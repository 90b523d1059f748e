//! JSON of all kinds: any, as a schema has it, and nearly so.

use std::collections::HashMap;

use bitcoin::hex::DisplayHex;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

use super::operation::Description;

/// Hex digits that are made up for one field.
const HEX_DIGITS_MAX: u64 = 600;

/// How deep values are nested.
const DEPTH: u32 = 4;

/// Values that mean something, by the name of their field.
#[derive(Debug, Default, Clone)]
pub(super) struct Dictionary {
    named: HashMap<String, Vec<Value>>,
    /// Whole bodies.
    pub(super) good: Vec<Value>,
}

impl Dictionary {
    /// The fields of an object.
    pub(super) fn add(&mut self, object: &Value) {
        for (name, value) in object.as_object().unwrap() {
            self.named.entry(name.clone()).or_default().push(value.clone());
        }
    }

    /// Those of that name and kind.
    fn of(&self, name: &str, is: fn(&Value) -> bool) -> Vec<Value> {
        self.named.get(name).into_iter().flatten().filter(|value| is(value)).cloned().collect()
    }
}

/// Any text, short and long, with what is often forgotten.
pub(super) fn any_text() -> impl Strategy<Value = String> {
    let odd = [
        "",
        "\0",
        "\u{0}a",
        "\u{7f}",
        "\u{feff}",
        "\u{202e}",
        "\u{10ffff}",
        "é",
        "null",
        "true",
        "-1",
        "0x00",
        "../..",
        "' OR 1=1 --",
        "%00",
        "{\"a\":1}",
        "\r\nX: y",
    ];
    prop_oneof![
        4 => any::<String>().prop_map(|text| text.chars().take(40).collect()),
        2 => select(odd.to_vec()).prop_map(str::to_owned),
        2 => vec(any::<u8>(), 0..40).prop_map(|bytes| bytes.to_lower_hex_string()),
        1 => (250usize..600).prop_map(|length| "a".repeat(length)),
        1 => (500usize..3_000).prop_map(|length| "0".repeat(length)),
    ]
}

fn any_number() -> impl Strategy<Value = Value> {
    let edges = [
        json!(0),
        json!(-1),
        json!(1),
        json!(u32::MAX),
        json!(1_u64 << 32),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(0.5),
        json!(-0.0),
        json!(1e300),
    ];
    prop_oneof![
        select(edges.to_vec()),
        any::<u32>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
    ]
}

/// Any JSON.
pub(super) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any_number(),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(DEPTH, 64, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::from),
            vec((any_text(), inner), 0..8)
                .prop_map(|fields| Value::from(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// JSON that fits a schema, with values from the dictionary where it has some.
pub(super) fn of_schema(
    name: &str,
    schema: &Value,
    description: &Description,
    dictionary: &Dictionary,
    depth: u32,
) -> BoxedStrategy<Value> {
    let schema = description.resolve(schema);
    let inner = |name: &str, schema: &Value| {
        of_schema(name, schema, description, dictionary, depth.saturating_sub(1))
    };
    for list in ["oneOf", "anyOf", "allOf"] {
        if let Some(choices) = schema[list].as_array().filter(|_| depth > 0) {
            let choices: Vec<_> = choices.iter().map(|choice| inner(name, choice)).collect();
            return proptest::strategy::Union::new(choices).boxed();
        }
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().find_map(|kind| kind.as_str().filter(|k| *k != "null")),
        kind => kind.as_str(),
    };
    match kind {
        Some("object") if depth > 0 => {
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            let fields = schema["properties"].as_object().cloned().unwrap_or_default();
            let fields: Vec<_> = fields
                .into_iter()
                .map(|(field, schema)| {
                    let needed = required.iter().any(|name| *name == *field);
                    let there = if needed { Just(true).boxed() } else { any::<bool>().boxed() };
                    (there, inner(&field, &schema))
                        .prop_map(move |(there, value)| there.then(|| (field.clone(), value)))
                })
                .collect();
            fields
                .prop_map(|fields| Value::from(fields.into_iter().flatten().collect::<Map<_, _>>()))
                .boxed()
        }
        Some("array") if depth > 0 => {
            vec(inner(name, &schema["items"]), 0..6).prop_map(Value::from).boxed()
        }
        Some("string") => {
            let length = schema["maxLength"].as_u64().unwrap_or(64).min(HEX_DIGITS_MAX) as usize;
            let hex = vec(any::<u8>(), 0..=length / 2).prop_map(|it| it.to_lower_hex_string());
            let hash = any::<[u8; 32]>().prop_map(|it| it.to_lower_hex_string());
            // More than any field may have.
            let endless = Just("0".repeat(140_000));
            let made = prop_oneof![4 => hex, 4 => hash, 4 => any_text(), 1 => endless];
            let made = made.prop_map(Value::from);
            known_or(dictionary.of(name, Value::is_string), made.boxed())
        }
        Some("integer" | "number") => {
            known_or(dictionary.of(name, Value::is_number), any_number().boxed())
        }
        Some("boolean") => any::<bool>().prop_map(Value::from).boxed(),
        _ => any_json().boxed(),
    }
}

fn known_or(known: Vec<Value>, made: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    if known.is_empty() { made } else { prop_oneof![4 => select(known), 1 => made].boxed() }
}

/// What is done to a value.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Replace(Index, Value),
    Remove(Index),
    Add(Index, String, Value),
    Wrap(Index),
}

/// Changes to a value.
pub(super) fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        3 => (any::<Index>(), any_json()).prop_map(|(at, value)| Change::Replace(at, value)),
        2 => any::<Index>().prop_map(Change::Remove),
        1 => (any::<Index>(), any_text(), any_json()).prop_map(|(at, k, v)| Change::Add(at, k, v)),
        1 => any::<Index>().prop_map(Change::Wrap),
    ];
    prop_oneof![1 => Just(Vec::new()), 2 => vec(change, 1..3)]
}

/// The value with its changes.
pub(super) fn changed(mut value: Value, changes: Vec<Change>) -> Value {
    for change in changes {
        let count = count(&value);
        match change {
            Change::Replace(at, with) => *node(&mut value, at.index(count)) = with,
            Change::Wrap(at) => {
                let node = node(&mut value, at.index(count));
                *node = json!([node.take()]);
            }
            Change::Add(at, name, with) => match node(&mut value, at.index(count)) {
                Value::Object(fields) => drop(fields.insert(name, with)),
                Value::Array(items) => items.push(with),
                other => *other = with,
            },
            Change::Remove(at) => match node(&mut value, at.index(count)) {
                Value::Object(fields) => {
                    let names: Vec<_> = fields.keys().cloned().collect();
                    if let Some(name) = names.get(at.index(names.len().max(1))) {
                        fields.remove(name);
                    }
                }
                Value::Array(items) => drop(items.pop()),
                other => *other = Value::Null,
            },
        }
    }
    value
}

/// A value and all that is in it.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// One of them, by its number.
fn node(value: &mut Value, number: usize) -> &mut Value {
    if number == 0 {
        return value;
    }
    let inside: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(fields) => fields.values_mut().collect(),
        _ => Vec::new(),
    };
    let mut left = number - 1;
    for item in inside {
        let there = count(item);
        if left < there {
            return node(item, left);
        }
        left -= there;
    }
    panic!("a value has no node {number}");
}
