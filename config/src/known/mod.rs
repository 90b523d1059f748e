//! The one table of all keys: the parser checks names, types, ranges and choices against it,
//! takes the defaults from it, and the reference is printed from it. The table itself is in
//! `tables`, `mining`, `pool` and `kept`, what it is made of is here.

mod kept;
mod mining;
mod pool;
mod tables;
mod user_check;

pub(crate) use tables::TABLES;

/// Bound of `[[node]]` entries, and of `[[template_provider]]` entries.
pub(crate) const NODES_MAX: usize = 16;

/// The table that may stand in for `[[node]]`.
pub(crate) const PROVIDERS: &str = "template_provider";

/// Prefix of every environment variable that is read.
pub(crate) const ENV_PREFIX: &str = "JDS_";

/// Names the place that `jds node install` downloads from: has our prefix but is no setting, so
/// it may be there while a configuration is loaded.
pub const NODE_DOWNLOAD_URL_VARIABLE: &str = "JDS_NODE_DOWNLOAD_URL";

/// Between the levels of a key in an environment variable.
pub(crate) const ENV_SEPARATOR: &str = "__";

/// Unit of a key in megabytes: 10^6 bytes in every key.
const MEGABYTES: &str = "megabytes (1,000,000 bytes)";

/// A table of the file.
#[derive(Debug)]
pub(crate) struct Table {
    /// Empty for the keys above all tables.
    pub(crate) name: &'static str,
    /// `[[name]]` instead of `[name]`.
    pub(crate) array: bool,
    /// What it means that the table is absent; `None` when that only means its defaults.
    pub(crate) optional: Option<&'static str>,
    pub(crate) meaning: &'static str,
    pub(crate) keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) need: Need,
    /// A TOML value to show where there is no default.
    pub(crate) example: &'static str,
    /// Empty for a plain text or word.
    pub(crate) unit: &'static str,
    /// Its value never appears in an output.
    pub(crate) secret: bool,
    pub(crate) meaning: &'static str,
}

const fn key(name: &'static str, kind: Kind, need: Need, meaning: &'static str) -> Key {
    Key { name, kind, need, example: "", unit: "", secret: false, meaning }
}

impl Key {
    const fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    const fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }

    const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }
}

/// Type and bounds of a value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Path,
    Bool,
    Integer {
        min: i64,
        max: i64,
    },
    Number {
        min: f64,
        max: f64,
    },
    Choice(&'static [&'static str]),
    Choices(&'static [&'static str]),
    /// A list, perhaps empty, of what `what` says.
    Texts {
        what: &'static str,
        max: usize,
    },
}

/// What happens when the key is absent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Need {
    /// An error.
    Required,
    /// This TOML value.
    Default(&'static str),
    /// This TOML value while the key `key` of the same table is `is`; else nothing.
    DefaultWhen { key: &'static str, is: &'static str, value: &'static str },
    /// One of several ways, this being the one that the reference shows first.
    Preferred(&'static str),
    /// Nothing; the text says what that means.
    Optional(&'static str),
}

impl Kind {
    /// For messages: `expected …`.
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Text => "a text in quotes".to_owned(),
            Self::Path => "a file path in quotes".to_owned(),
            Self::Bool => "true or false, without quotes".to_owned(),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Number { min, max } => format!("a number from {min} to {max}"),
            Self::Choice(words) => format!("one of {}", quoted(words)),
            Self::Choices(words) => format!("a list of {}", quoted(words)),
            Self::Texts { what, max } => format!("a list of {what} in quotes, {max} at most"),
        }
    }
}

/// `"a", "b"`.
pub(crate) fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}

/// The table of that name.
pub(crate) fn table(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name)
}

impl Table {
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// Full path of one of its keys, with `index` for an entry of an array of tables.
    pub(crate) fn path(&self, index: usize, key: &str) -> String {
        match (self.name, self.array) {
            ("", _) => key.to_owned(),
            (name, false) => format!("{name}.{key}"),
            (name, true) => format!("{name}.{index}.{key}"),
        }
    }
}

/// The variable that overrides the key at `path`.
pub(crate) fn variable(path: &str) -> String {
    format!("{ENV_PREFIX}{}", path.replace('.', ENV_SEPARATOR).to_ascii_uppercase())
}

/// The candidate that resembles `name` most. `candidates` are full paths (or variables) split at
/// `separator`; the last part counts alone as well, so that a key in the wrong table is found.
pub(crate) fn nearest(
    name: &str,
    candidates: impl Iterator<Item = String>,
    separator: &str,
) -> String {
    let last = |path: &str| path.rsplit(separator).next().unwrap_or_default().to_owned();
    let score = |candidate: &str| {
        let whole = strsim::normalized_damerau_levenshtein(name, candidate);
        let leaf = strsim::normalized_damerau_levenshtein(&last(name), &last(candidate));
        // The whole path breaks ties between equal leaves of several tables.
        whole.max(0.9 * leaf + 0.1 * whole)
    };
    candidates.max_by(|a, b| score(a).total_cmp(&score(b))).unwrap_or_default()
}

/// All key paths, with `index` for entries of arrays of tables.
pub(crate) fn all_paths(index: usize) -> impl Iterator<Item = String> {
    TABLES
        .iter()
        .flat_map(move |table| table.keys.iter().map(move |key| table.path(index, key.name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payout;

    #[test]
    fn the_script_forms_of_the_reference_are_those_of_the_parser() {
        let meaning = table("payout").unwrap().key("script").unwrap().meaning;
        assert!(meaning.contains(payout::FORMS), "{meaning}\n{}", payout::FORMS);
    }
}
