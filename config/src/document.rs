//! TOML text and environment to [`Raw`]: names, types, ranges and choices are checked against
//! [`crate::known`], so that every message names the full key and no message quotes a secret.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Value;

use crate::error::{Place, Problem};
use crate::known::{self, Key, Kind, NODES_MAX, Need, TABLES, Table};
use crate::raw::Raw;

/// The settings on their way from text to [`Raw`].
pub(crate) struct Document {
    pub(crate) root: toml::Table,
    pub(crate) places: Places,
}

/// Which keys came from the environment.
#[derive(Debug, Default)]
pub(crate) struct Places(pub(crate) BTreeMap<String, String>);

impl Places {
    pub(crate) fn of(&self, key: &str) -> Place {
        Place { key: key.to_owned(), variable: self.0.get(key).cloned() }
    }
}

impl Document {
    /// Parses and checks names and types.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let root: toml::Table = text.parse().map_err(|error| syntax(text, &error))?;
        check_shape(&root)?;
        Ok(Self { root, places: Places::default() })
    }

    /// Checks values, fills defaults, and hands over the typed form.
    pub(crate) fn finish(mut self) -> Result<(Raw, Places), Problem> {
        self.check_values()?;
        self.fill_defaults()?;
        // Cannot fail after the checks above, as the tests of `known` against the types show;
        // the library's message is dropped because it may quote a value.
        let raw = Raw::deserialize(Value::Table(self.root)).map_err(|_| Problem::Invalid {
            place: Place { key: "the file".to_owned(), variable: None },
            reason: "a value passed the checks but does not fit its type (a defect)".to_owned(),
        })?;
        Ok((raw, self.places))
    }

    fn check_values(&self) -> Result<(), Problem> {
        for table in TABLES {
            for (index, entry) in self.entries(table) {
                for key in table.keys {
                    if let Some(value) = entry.get(key.name) {
                        let place = self.places.of(&table.path(index, key.name));
                        check_value(key, value, place)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The tables of that name in the document: none, one, or several.
    fn entries<'a>(&'a self, table: &Table) -> Vec<(usize, &'a toml::Table)> {
        match (table.name, self.root.get(table.name)) {
            ("", _) => vec![(0, &self.root)],
            (_, Some(Value::Table(entry))) => vec![(0, entry)],
            (_, Some(Value::Array(entries))) => {
                entries.iter().filter_map(Value::as_table).enumerate().collect()
            }
            (_, _) => Vec::new(),
        }
    }

    fn fill_defaults(&mut self) -> Result<(), Problem> {
        let has_provider = self.root.get(known::PROVIDERS).is_some_and(is_some_table);
        for table in TABLES {
            if table.name.is_empty() {
                fill(table, 0, &mut self.root)?;
                continue;
            }
            if table.optional.is_some() && !self.root.contains_key(table.name) {
                continue;
            }
            let empty = if table.array {
                Value::Array(Vec::new())
            } else {
                Value::Table(toml::Table::new())
            };
            match self.root.entry(table.name).or_insert(empty) {
                Value::Table(entry) => fill(table, 0, entry)?,
                Value::Array(entries) if !entries.is_empty() => {
                    for (index, entry) in entries.iter_mut().enumerate() {
                        if let Value::Table(entry) = entry {
                            fill(table, index, entry)?;
                        }
                    }
                }
                _ if has_provider => {}
                _ => {
                    let expected = format!(
                        "at least one [[{}]] table (or [[{}]])",
                        table.name,
                        known::PROVIDERS
                    );
                    return Err(Problem::Missing { key: table.name.to_owned(), expected });
                }
            }
        }
        Ok(())
    }
}

/// A list with at least one table.
fn is_some_table(value: &Value) -> bool {
    value.as_array().is_some_and(|entries| !entries.is_empty())
}

/// Position and message without the line itself.
fn syntax(text: &str, error: &toml::de::Error) -> Problem {
    let at = error.span().map_or(text.len(), |span| span.start).min(text.len());
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    Problem::Syntax { line, column, message: error.message().to_owned() }
}

fn check_shape(root: &toml::Table) -> Result<(), Problem> {
    for (name, value) in root {
        if let Some(key) = known::table("").and_then(|table| table.key(name)) {
            check_type(key, value, name)?;
            continue;
        }
        let Some(table) = known::table(name).filter(|table| !table.name.is_empty()) else {
            return Err(unknown(name, value, 0));
        };
        match value {
            Value::Table(entry) if !table.array => check_entry(table, 0, entry)?,
            Value::Array(entries) if table.array => {
                if entries.len() > NODES_MAX {
                    let found = format!("{} entries", entries.len());
                    let expected = format!("at most {NODES_MAX} entries");
                    return Err(Problem::OutOfRange { place: plain(name), found, expected });
                }
                for (index, entry) in entries.iter().enumerate() {
                    match entry {
                        Value::Table(entry) => check_entry(table, index, entry)?,
                        other => return Err(wrong_table(table, other)),
                    }
                }
            }
            other => return Err(wrong_table(table, other)),
        }
    }
    Ok(())
}

fn check_entry(table: &Table, index: usize, entry: &toml::Table) -> Result<(), Problem> {
    for (name, value) in entry {
        let path = table.path(index, name);
        match table.key(name) {
            Some(key) => check_type(key, value, &path)?,
            None => return Err(unknown(&path, value, index)),
        }
    }
    Ok(())
}

fn plain(key: &str) -> Place {
    Place { key: key.to_owned(), variable: None }
}

fn wrong_table(table: &Table, found: &Value) -> Problem {
    let (expected, found) = match (table.array, found) {
        (true, Value::Table(_)) => (format!("[[{}]]", table.name), format!("[{}]", table.name)),
        (true, other) => (format!("[[{}]] tables", table.name), other.type_str().to_owned()),
        (false, Value::Array(_)) => (format!("one [{}] table", table.name), "a list".to_owned()),
        (false, other) => (format!("a [{}] table", table.name), other.type_str().to_owned()),
    };
    Problem::WrongType { place: plain(table.name), expected, found }
}

fn unknown(path: &str, value: &Value, index: usize) -> Problem {
    let is_table = match value {
        Value::Table(_) => true,
        Value::Array(entries) => entries.iter().any(Value::is_table),
        _ => false,
    };
    let nearest = if is_table && !path.contains('.') {
        let tables = TABLES.iter().map(|table| table.name).filter(|name| !name.is_empty());
        known::nearest(path, tables.map(str::to_owned), ".")
    } else {
        known::nearest(path, known::all_paths(index), ".")
    };
    // A quoted key may hold anything, line ends included.
    Problem::UnknownKey { key: path.escape_debug().to_string(), nearest }
}

fn check_type(key: &Key, value: &Value, path: &str) -> Result<(), Problem> {
    let fits = match key.kind {
        Kind::Text | Kind::Path | Kind::Choice(_) => value.is_str(),
        Kind::Bool => value.is_bool(),
        Kind::Integer { .. } => value.is_integer(),
        Kind::Number { .. } => value.is_integer() || value.is_float(),
        Kind::Choices(_) | Kind::Texts { .. } => {
            value.as_array().is_some_and(|words| words.iter().all(Value::is_str))
        }
    };
    if fits {
        return Ok(());
    }
    let found = match value {
        Value::Array(_) => "a list of something else".to_owned(),
        other => other.type_str().to_owned(),
    };
    let (place, expected) = (plain(path), key.kind.expected());
    Err(Problem::WrongType { place, expected, found })
}

fn check_value(key: &Key, value: &Value, place: Place) -> Result<(), Problem> {
    match (key.kind, value) {
        (Kind::Integer { min, max }, Value::Integer(found)) if !(min..=max).contains(found) => {
            let (found, expected) = (found.to_string(), with_unit(key));
            Err(Problem::OutOfRange { place, found, expected })
        }
        (Kind::Number { min, max }, value) => {
            let found = number(value);
            // Also false for a NaN.
            if found >= min && found <= max {
                return Ok(());
            }
            let (found, expected) = (found.to_string(), with_unit(key));
            Err(Problem::OutOfRange { place, found, expected })
        }
        (Kind::Choice(words), Value::String(word)) => check_word(word, words, place),
        (Kind::Choices(words), Value::Array(found)) => {
            if found.is_empty() {
                let (found, expected) = ("an empty list".to_owned(), at_least_one(words));
                return Err(Problem::OutOfRange { place, found, expected });
            }
            for (position, word) in found.iter().enumerate() {
                let Value::String(text) = word else { continue };
                check_word(text, words, place.clone())?;
                if found.iter().take(position).any(|earlier| earlier == word) {
                    let reason = format!("{text:?} is listed twice");
                    return Err(Problem::Invalid { place, reason });
                }
            }
            Ok(())
        }
        (Kind::Texts { max, .. }, Value::Array(found)) => {
            if found.len() > max {
                let (found, expected) = (format!("{} entries", found.len()), key.kind.expected());
                return Err(Problem::OutOfRange { place, found, expected });
            }
            Ok(())
        }
        (Kind::Text | Kind::Path, Value::String(text)) if text.trim().is_empty() => {
            let reason = "is empty; leave the key out instead".to_owned();
            Err(Problem::Invalid { place, reason })
        }
        _ => Ok(()),
    }
}

fn at_least_one(words: &[&str]) -> String {
    format!("at least one of {}", known::quoted(words))
}

fn with_unit(key: &Key) -> String {
    match key.unit {
        "" => key.kind.expected(),
        unit => format!("{}, {unit}", key.kind.expected()),
    }
}

fn number(value: &Value) -> f64 {
    match value {
        // Every range is far below 2^53, where this is exact; beyond, it stays out of range.
        Value::Integer(integer) => *integer as f64,
        Value::Float(float) => *float,
        _ => f64::NAN,
    }
}

fn check_word(word: &str, words: &[&str], place: Place) -> Result<(), Problem> {
    if words.contains(&word) {
        return Ok(());
    }
    let nearest = known::nearest(word, words.iter().map(|word| (*word).to_owned()), ".");
    let expected = known::quoted(words);
    Err(Problem::NotAChoice { place, found: word.to_owned(), expected, nearest })
}

fn fill(table: &Table, index: usize, entry: &mut toml::Table) -> Result<(), Problem> {
    for key in table.keys {
        if entry.contains_key(key.name) {
            continue;
        }
        let default = match key.need {
            Need::Required => {
                let expected = format!("{} ({})", key.kind.expected(), key.meaning);
                return Err(Problem::Missing { key: table.path(index, key.name), expected });
            }
            Need::Default(value) => value,
            Need::DefaultWhen { key: sibling, is, value } => {
                if entry.get(sibling).and_then(Value::as_str) != Some(is) {
                    continue;
                }
                value
            }
            Need::Preferred(_) | Need::Optional(_) => continue,
        };
        entry.insert(key.name.to_owned(), literal(default));
    }
    Ok(())
}

/// A TOML value out of the table of keys.
pub(crate) fn literal(text: &str) -> Value {
    #[expect(clippy::expect_used, reason = "constants of `known`; a test parses all of them")]
    text.parse().expect("a TOML value")
}
