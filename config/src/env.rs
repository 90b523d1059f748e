//! Overrides from the environment: `JDS_` and the key's path in capitals, `__` between levels.

use std::collections::BTreeMap;

use toml::Value;

use crate::document::Document;
use crate::error::{Place, Problem};
use crate::known::{
    self, ENV_PREFIX, ENV_SEPARATOR, Key, Kind, NODE_DOWNLOAD_URL_VARIABLE, NODES_MAX, TABLES,
    Table,
};

/// What a variable's name stands for.
struct Target {
    table: &'static Table,
    index: usize,
    key: &'static Key,
}

/// Sets every key that has a variable, after the file and before the checks of values.
pub(crate) fn apply(
    document: &mut Document,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<(), Problem> {
    // In order of the entry, so that the entries 1 and 2 can both be new.
    let mut ours = BTreeMap::new();
    let is_ours = |name: &str| name.starts_with(ENV_PREFIX) && name != NODE_DOWNLOAD_URL_VARIABLE;
    for (variable, text) in variables.filter(|(name, _)| is_ours(name)) {
        let target = target(&variable)?;
        ours.insert((target.index, variable), (target, text));
    }
    for ((_, variable), (target, text)) in ours {
        let path = target.table.path(target.index, target.key.name);
        let place = Place { key: path.clone(), variable: Some(variable.clone()) };
        let value = convert(target.key, text, place)?;
        entry(document, &target, &variable)?.insert(target.key.name.to_owned(), value);
        document.places.0.insert(path, variable);
    }
    Ok(())
}

fn target(variable: &str) -> Result<Target, Problem> {
    let parts: Vec<&str> = variable.trim_start_matches(ENV_PREFIX).split(ENV_SEPARATOR).collect();
    let (table, index, key) = match parts.as_slice() {
        [key] => ("", None, *key),
        [table, key] => (*table, None, *key),
        [table, index, key] => (*table, Some(*index), *key),
        _ => return Err(unknown(variable, 0)),
    };
    let index_number = match index {
        // Digits only: `+1` and `01` would be second names of the same entry.
        Some(text) => text.parse().ok().filter(|number: &usize| number.to_string() == text),
        None => Some(0),
    };
    let found = TABLES
        .iter()
        .find(|known| known.array == index.is_some() && is_upper_of(table, known.name))
        .and_then(|known| Some((known, known.keys.iter().find(|k| is_upper_of(key, k.name))?)));
    match (found, index_number) {
        (Some((table, key)), Some(index)) => Ok(Target { table, index, key }),
        _ => Err(unknown(variable, index_number.unwrap_or(0))),
    }
}

fn is_upper_of(upper: &str, name: &str) -> bool {
    upper == name.to_ascii_uppercase()
}

fn unknown(variable: &str, index: usize) -> Problem {
    let known = known::all_paths(index).map(|path| known::variable(&path));
    let nearest = known::nearest(variable, known, ENV_SEPARATOR);
    Problem::UnknownVariable { variable: variable.escape_debug().to_string(), nearest }
}

fn convert(key: &Key, text: String, place: Place) -> Result<Value, Problem> {
    let wrong = |place, found: &str| {
        let (expected, found) = (key.kind.expected(), found.to_owned());
        Err(Problem::WrongType { place, expected, found })
    };
    if text.trim().is_empty() {
        return wrong(place, "an empty variable");
    }
    match key.kind {
        Kind::Text | Kind::Path | Kind::Choice(_) => Ok(Value::String(text)),
        Kind::Bool => match text.trim().parse() {
            Ok(yes) => Ok(Value::Boolean(yes)),
            Err(_) => wrong(place, "some other text"),
        },
        Kind::Integer { .. } => match text.trim().parse() {
            Ok(number) => Ok(Value::Integer(number)),
            Err(_) => wrong(place, "some other text"),
        },
        Kind::Number { .. } => match text.trim().parse() {
            Ok(number) => Ok(Value::Float(number)),
            Err(_) => wrong(place, "some other text"),
        },
        Kind::Choices(_) | Kind::Texts { .. } => {
            let words = text.split(',').map(|word| Value::String(word.trim().to_owned()));
            Ok(Value::Array(words.collect()))
        }
    }
}

/// The table that the key goes to, made when it is new.
fn entry<'a>(
    document: &'a mut Document,
    target: &Target,
    variable: &str,
) -> Result<&'a mut toml::Table, Problem> {
    let table = target.table;
    if table.name.is_empty() {
        return Ok(&mut document.root);
    }
    let empty =
        if table.array { Value::Array(Vec::new()) } else { Value::Table(toml::Table::new()) };
    let entries = match document.root.entry(table.name).or_insert(empty) {
        Value::Table(only) => return Ok(only),
        Value::Array(entries) => entries,
        // The shape of the file was checked before.
        _ => return Err(unknown(variable, target.index)),
    };
    if target.index == entries.len() && entries.len() < NODES_MAX {
        entries.push(Value::Table(toml::Table::new()));
    }
    let count = entries.len();
    match entries.get_mut(target.index) {
        Some(Value::Table(entry)) => Ok(entry),
        _ => Err(Problem::EntryIndex {
            variable: variable.to_owned(),
            table: table.name,
            entries: count,
            max: NODES_MAX,
        }),
    }
}
