//! Small types that events, changes and queries share.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares an enum whose names are the same in JSON, in the database and in the API.
macro_rules! named {
    ($(#[$doc:meta])+ $type:ident { $($(#[$variant_doc:meta])+ $variant:ident = $name:literal,)+ }) => {
        $(#[$doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $type { $($(#[$variant_doc])+ $variant,)+ }

        impl $type {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(name: &str) -> Result<Self, UnknownName> {
                match name {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(UnknownName { name: name.to_owned(), expected: &[$($name,)+] }),
                }
            }
        }
    };
}

/// A name that none of the values has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is none of {expected:?}")]
pub struct UnknownName {
    /// What was given.
    pub name: String,
    /// The names that there are.
    pub expected: &'static [&'static str],
}

named! {
    /// Whose template a share or a block was mined on.
    TemplateSource {
        /// One that the miner declared.
        Miner = "miner",
        /// One of the pool.
        Pool = "pool",
    }
}

named! {
    /// The saga of a block at one node.
    SubmissionState {
        /// Written down, not sent yet.
        Found = "found",
        /// Sent, no answer yet.
        Sent = "sent",
        /// The node has it.
        Accepted = "accepted",
        /// The node refused it.
        Rejected = "rejected",
        /// The connection broke before the answer; the node is asked again.
        Unknown = "unknown",
    }
}

named! {
    /// Where a block of ours stands in the chain.
    BlockState {
        /// Found; its end is not known yet.
        Found = "found",
        /// Buried. Final.
        Confirmed = "confirmed",
        /// Another block took its place. Final.
        Orphaned = "orphaned",
        /// Every node refused it. Final.
        Rejected = "rejected",
    }
}

named! {
    /// Verdict on a template.
    ValidationResult {
        /// It kept every rule.
        Accepted = "accepted",
        /// It broke a rule.
        Rejected = "rejected",
        /// Accepted, then withdrawn because a node found it invalid.
        Invalidated = "invalidated",
    }
}

named! {
    /// Length of time that an aggregate covers.
    Period {
        /// One hour, UTC.
        Hour = "hour",
        /// One day, UTC.
        Day = "day",
    }
}

impl Period {
    /// How long it is, milliseconds.
    pub const fn ms(self) -> u64 {
        match self {
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
        }
    }

    /// Start of the period that holds `at_ms`, Unix milliseconds.
    pub const fn start_of(self, at_ms: u64) -> u64 {
        at_ms - at_ms % self.ms()
    }
}

/// What stands for a user in tokens: 16 bytes that the server derives from the identifier.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserTag(pub [u8; 16]);

impl fmt::Debug for UserTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserTag(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// One life of the event stream. A new one begins when events that readers may have seen are
/// gone, for instance because a backup was restored; so an id is never given twice within one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamEpoch(pub(crate) u64);

impl fmt::Display for StreamEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for StreamEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamEpoch({self})")
    }
}

/// Not a cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a cursor: expected an event id, or 16 hex digits, a dash and an event id")]
pub struct CursorError {
    /// What was given.
    pub text: String,
}

impl FromStr for StreamEpoch {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let error = || CursorError { text: text.to_owned() };
        let hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hex {
            return Err(error());
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| error())
    }
}

/// A reader's place in the stream: everything up to and including `id` was read.
///
/// As text `EPOCH-ID`, or the id alone for readers that do not care about epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The epoch that the id belongs to; `None` stands for the current one.
    pub epoch: Option<StreamEpoch>,
    /// Id of the last event that was read; 0 before the first.
    pub id: u64,
}

impl Cursor {
    /// Before the first event that is kept, whatever its id.
    pub const START: Self = Self { epoch: None, id: 0 };
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            Some(epoch) => write!(f, "{epoch}-{}", self.id),
            None => write!(f, "{}", self.id),
        }
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let error = || CursorError { text: text.to_owned() };
        let (epoch, id) = match text.split_once('-') {
            Some((epoch, id)) => (Some(epoch.parse().map_err(|_| error())?), id),
            None => (None, text),
        };
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error());
        }
        Ok(Self { epoch, id: id.parse().map_err(|_| error())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_text() {
        for cursor in [
            Cursor { epoch: None, id: 0 },
            Cursor { epoch: Some(StreamEpoch(7)), id: 1_042 },
            Cursor { epoch: Some(StreamEpoch(u64::MAX)), id: u64::MAX },
        ] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in ["", "-1", "7-", "7-1", "+5", "00000000000000007-1", "000000000000000+-1", "x"]
        {
            assert!(text.parse::<Cursor>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn periods_start_at_whole_hours_and_days() {
        let at = 1_693_612_345_678;
        assert_eq!(Period::Hour.start_of(at) % 3_600_000, 0);
        assert!(at - Period::Hour.start_of(at) < 3_600_000);
        assert!(at - Period::Day.start_of(at) < 86_400_000);
    }

    #[test]
    fn names_survive_text() {
        for state in SubmissionState::ALL {
            assert_eq!(state.as_str().parse(), Ok(*state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
