//! The reference of all keys, printed from the table that the parser uses.

use std::fmt::Write;

use crate::known::{self, Key, Kind, Need, TABLES, Table};

/// Columns of the printed text.
const WIDTH: usize = 96;

/// Every key with type, unit, default, environment variable and meaning, as a TOML file: keys
/// that a configuration needs are set to examples, all others are comments (`#key = value`, no
/// space after the `#`) that show the default or an example.
pub fn reference() -> String {
    let mut out = String::new();
    comment(&mut out, "All settings of the server.");
    out.push_str("#\n");
    comment(
        &mut out,
        "Lines without `#` are needed and hold examples. Lines that start with `#key` (no space) \
         are optional and show the default, or an example where there is none. Every key can \
         also be set by the environment variable named with it, which wins over the file.",
    );
    for table in TABLES {
        out.push('\n');
        if !table.name.is_empty() {
            comment(&mut out, table.meaning);
            if let Some(facts) = optional(table) {
                comment(&mut out, &facts);
            }
            let mark = if table.optional.is_some() { "#" } else { "" };
            writeln(&mut out, &format!("{mark}{}", header(table)));
        }
        for (position, key) in table.keys.iter().enumerate() {
            if position > 0 || !table.name.is_empty() {
                out.push('\n');
            }
            comment(&mut out, key.meaning);
            let facts = [key.kind.name(), with_unit(key), absent(key), secrecy(key).to_owned()];
            let facts: Vec<&str> =
                facts.iter().map(String::as_str).filter(|fact| !fact.is_empty()).collect();
            comment(&mut out, &format!("Type: {}", facts.join("; ")));
            let variable = known::variable(&table.path(0, key.name));
            comment(&mut out, &format!("Environment: {variable}"));
            let is_set = is_shown_set(key) && table.optional.is_none();
            let mark = if is_set { "" } else { "#" };
            writeln(&mut out, &format!("{mark}{} = {}", key.name, shown(key)));
        }
    }
    out
}

/// The same as tables of a Markdown page.
pub fn reference_markdown() -> String {
    let mut out = String::from(
        "# Configuration reference\n\n<!-- Generated from the table of keys in `config/`; do not \
         edit. Regenerate with: UPDATE_REFERENCE=1 cargo test -p jds-config reference -->\n\n\
         Every key can also be set by an environment variable: `JDS_`, the key in capitals, and \
         `__` between the levels. `jds config-reference` prints the same as a commented TOML \
         file.\n",
    );
    for table in TABLES {
        let title = match table.name {
            "" => "Above all tables".to_owned(),
            _ => format!("`{}`", header(table)),
        };
        writeln(&mut out, &format!("\n## {title}\n\n{}\n", escape(table.meaning)));
        if let Some(facts) = optional(table) {
            writeln(&mut out, &format!("{}\n", escape(&facts)));
        }
        writeln(&mut out, "| key | type | unit | default | meaning |\n|---|---|---|---|---|");
        for key in table.keys {
            let row = [
                format!("`{}`", key.name),
                escape(&kind_and_secrecy(key)),
                key.unit.to_owned(),
                escape(&absent(key)),
                escape(key.meaning),
            ];
            writeln(&mut out, &format!("| {} |", row.join(" | ")));
        }
    }
    out
}

fn writeln(out: &mut String, line: &str) {
    // Writing to a String can not fail.
    let _ = writeln!(out, "{line}");
}

fn header(table: &Table) -> String {
    match table.array {
        true => format!("[[{}]]", table.name),
        false => format!("[{}]", table.name),
    }
}

/// For tables whose absence means something.
fn optional(table: &Table) -> Option<String> {
    let otherwise = table.optional?;
    Some(format!(
        "Optional, without it: {otherwise}. Its keys need the line `{}` above them; its variables \
         set it as well.",
        header(table)
    ))
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln(out, &line);
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    writeln(out, &line);
}

impl Kind {
    fn name(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Path => "path".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Integer { min, max } => format!("integer, {min} to {max}"),
            Self::Number { min, max } => format!("number, {min} to {max}"),
            Self::Choice(words) => format!("one of {}", known::quoted(words)),
            Self::Choices(words) => format!("list of {}", known::quoted(words)),
            Self::Texts { what, max } => format!("list of {what}, {max} at most"),
        }
    }
}

fn with_unit(key: &Key) -> String {
    match key.unit {
        "" => String::new(),
        unit => format!("in {unit}"),
    }
}

fn kind_and_secrecy(key: &Key) -> String {
    match secrecy(key) {
        "" => key.kind.name(),
        secrecy => format!("{}, {secrecy}", key.kind.name()),
    }
}

fn secrecy(key: &Key) -> &'static str {
    if key.secret { "secret, never printed" } else { "" }
}

/// What happens without the key.
fn absent(key: &Key) -> String {
    match key.need {
        Need::Required => "required".to_owned(),
        Need::Default(value) => format!("default {value}"),
        Need::DefaultWhen { key, is, value } => format!("default {value} where {key} is \"{is}\""),
        Need::Preferred(when) => when.to_owned(),
        Need::Optional(otherwise) => format!("optional, without it: {otherwise}"),
    }
}

/// True for keys that the reference sets, so that it is a configuration by itself.
fn is_shown_set(key: &Key) -> bool {
    matches!(key.need, Need::Required | Need::Preferred(_))
}

fn shown(key: &Key) -> &'static str {
    match key.need {
        Need::Default(value) | Need::DefaultWhen { value, .. } => value,
        Need::Required | Need::Preferred(_) | Need::Optional(_) => key.example,
    }
}
