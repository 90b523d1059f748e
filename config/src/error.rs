//! Why a configuration is refused: always the key, what was found, and what was expected.
//!
//! No text here quotes the value of a secret key, nor a line of the file: a line can hold one.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::keys::{KeyFileError, KeyTextError};
use crate::payout::ScriptError;

/// A configuration that can not be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct ConfigError {
    /// The configuration file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Box<Problem>,
}

/// A key, and the environment variable that set it if one did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Full path, for example `node.0.rpc_url`.
    pub key: String,
    /// The variable that set it.
    pub variable: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.key)?;
        match &self.variable {
            Some(variable) => write!(f, " (set by {variable})"),
            None => Ok(()),
        }
    }
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file can not be read.
    #[error("cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The file is longer than any configuration.
    #[error("is longer than {max_bytes} bytes; it is not a configuration file")]
    TooLong {
        /// The bound, bytes.
        max_bytes: u64,
    },
    /// Not TOML. The line itself is not quoted, it could hold a secret.
    #[error("line {line}, column {column}: {message}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// A key that does not exist.
    #[error("unknown key `{key}`; the nearest known one is `{nearest}`")]
    UnknownKey {
        /// Full path of the key.
        key: String,
        /// The known key that resembles it most.
        nearest: String,
    },
    /// An environment variable with our prefix that names no key.
    #[error("unknown environment variable {variable}; the nearest known one is {nearest}")]
    UnknownVariable {
        /// Its name.
        variable: String,
        /// The known variable that resembles it most.
        nearest: String,
    },
    /// The text of a variable with our prefix is not UTF-8.
    #[error("environment variable {variable}: expected UTF-8 text, found other bytes")]
    VariableNotText {
        /// Its name.
        variable: String,
    },
    /// A variable for a table entry that would leave a gap.
    #[error(
        "environment variable {variable}: there are {entries} [[{table}]] entries, so the next \
         one has index {entries} (at most {max} entries)"
    )]
    EntryIndex {
        /// Its name.
        variable: String,
        /// The array of tables.
        table: &'static str,
        /// Entries so far.
        entries: usize,
        /// Bound of entries.
        max: usize,
    },
    /// A value of the wrong type, or a text that does not convert.
    #[error("{place}: expected {expected}, found {found}")]
    WrongType {
        /// The key.
        place: Place,
        /// What the key takes.
        expected: String,
        /// The type found, never the value.
        found: String,
    },
    /// A number outside of its range.
    #[error("{place} is {found}; expected {expected}")]
    OutOfRange {
        /// The key.
        place: Place,
        /// The number.
        found: String,
        /// The range.
        expected: String,
    },
    /// A word that is not one of the choices.
    #[error("{place} is {found:?}; expected one of {expected} (nearest: {nearest:?})")]
    NotAChoice {
        /// The key.
        place: Place,
        /// The word.
        found: String,
        /// The choices.
        expected: String,
        /// The choice that resembles the word most.
        nearest: String,
    },
    /// A key that has to be there.
    #[error("`{key}` is missing: {expected}")]
    Missing {
        /// Full path of the key.
        key: String,
        /// What it is for, or what would do instead.
        expected: String,
    },
    /// A value of the right type that can not be used.
    #[error("{place}: {reason}")]
    Invalid {
        /// The key.
        place: Place,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// Two settings that contradict each other.
    #[error("{first} and {second}: {reason}")]
    Conflict {
        /// One setting with its value (secret values are left out).
        first: String,
        /// The other one.
        second: String,
        /// Why they do not go together.
        reason: String,
    },
    /// A key text that is not a key.
    #[error("{place} {source}")]
    Key {
        /// The key of the configuration.
        place: Place,
        /// What is wrong with the text.
        source: KeyTextError,
    },
    /// A key file that can not be used.
    #[error("{place}: {source}")]
    KeyFile {
        /// The key of the configuration.
        place: Place,
        /// What is wrong with the file.
        source: KeyFileError,
    },
    /// The public key does not belong to the secret one.
    #[error(
        "{place} is {configured}, but {secret_from} holds the secret key of {derived}; correct \
         one of the two (leave the public key out to derive it)"
    )]
    KeyPair {
        /// Where the public key is set.
        place: Place,
        /// The public key as configured.
        configured: String,
        /// The setting that the secret key came from.
        secret_from: String,
        /// The public key that belongs to it.
        derived: String,
    },
    /// A payout script that can not be used.
    #[error("{place} {source}")]
    Script {
        /// The key of the configuration.
        place: Place,
        /// What is wrong with the descriptor.
        source: ScriptError,
    },
}
