//! What a pool credits: accepted work by user and interval, told exactly once.
//!
//! Shares count in the interval in which they became durable, whatever their time, so an interval that
//! is closed never changes. Only closed ones are given out.

use std::fmt;
use std::str::FromStr;

use crate::event::ShareSubmitted;
use crate::types::TemplateSource;

/// A reader's place: everything up to and including the entry was read. As text `ENTRY-TAG`; 0 stands
/// for the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AccountingCursor {
    /// Number of the last entry that was read; 0 before the first.
    pub entry: u64,
    /// The tag of its interval: a store that went back to a backup has another history from there on,
    /// and a reader of the lost one is told.
    pub tag: u64,
}

impl AccountingCursor {
    /// Before the first entry that is kept.
    pub const START: Self = Self { entry: 0, tag: 0 };
}

/// Not a cursor of the accounting feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a cursor of this feed: expected 0, or a number, a dash and 16 hex digits")]
pub struct AccountingCursorError {
    /// What was given.
    pub text: String,
}

impl fmt::Display for AccountingCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry {
            0 => f.write_str("0"),
            entry => write!(f, "{entry}-{:016x}", self.tag),
        }
    }
}

impl FromStr for AccountingCursor {
    type Err = AccountingCursorError;

    fn from_str(text: &str) -> Result<Self, AccountingCursorError> {
        let error = || AccountingCursorError { text: text.to_owned() };
        if text == "0" {
            return Ok(Self::START);
        }
        let (entry, tag) = text.split_once('-').ok_or_else(error)?;
        let digits = |text: &str, ok: fn(&u8) -> bool| text.bytes().all(|byte| ok(&byte));
        let number = !entry.starts_with('0') && digits(entry, u8::is_ascii_digit);
        if !number || tag.len() != 16 || !digits(tag, u8::is_ascii_hexdigit) {
            return Err(error());
        }
        // What SQLite can not hold was never given out.
        let entry = entry.parse::<i64>().map_err(|_| error())?.unsigned_abs();
        Ok(Self { entry, tag: u64::from_str_radix(tag, 16).map_err(|_| error())? })
    }
}

/// One entry of the feed.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountingEntry {
    /// Its number, one more than that of the entry before.
    pub number: u64,
    /// Number of its interval.
    pub interval: u64,
    /// User identity.
    pub user: String,
    /// Whose template was mined on.
    pub template_source: TemplateSource,
    /// The miner's template, 64 hex digits; absent for the pool's own and in coinbase-only mode.
    pub template_hash: Option<String>,
    /// What it is about.
    pub what: Accounted,
}

/// How shares came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ShareOrigin {
    /// On our own mining ports.
    Port,
    /// Handed in by a pool.
    Pool,
}

impl ShareOrigin {
    /// Channel of the shares that a pool hands in: no channel of our own has this number.
    pub const POOL_CHANNEL: u32 = 0;

    /// How the share came.
    pub fn of(share: &ShareSubmitted) -> Self {
        if share.channel_id == Self::POOL_CHANNEL { Self::Pool } else { Self::Port }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Pool => "pool",
        }
    }
}

/// What an entry is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Accounted {
    /// Accepted shares of one user on one template in one interval, that came in one way.
    Work {
        /// That way; none in entries that were written before it was told apart.
        origin: Option<ShareOrigin>,
        /// How many.
        shares: u64,
        /// Their difficulties together.
        work: f64,
        /// What the coinbase of the miner's template pays to the pool, satoshi.
        pool_payout_sat: Option<u64>,
        /// What it could have claimed, satoshi.
        claimable_sat: Option<u64>,
        /// Time of the first of them, Unix milliseconds.
        first_at: u64,
        /// Time of the last of them, Unix milliseconds.
        last_at: u64,
    },
    /// A found block.
    Block {
        /// Its hash, 64 hex digits as usually printed.
        block_hash: String,
        /// Its height.
        height: u32,
        /// What its coinbase takes, satoshi.
        reward_sat: u64,
        /// When it was found, Unix milliseconds.
        found_at: u64,
    },
}

/// A closed interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountingInterval {
    /// Its number.
    pub number: u64,
    /// When its first share or block became durable, Unix milliseconds.
    pub opened_at: u64,
    /// When it was closed, Unix milliseconds.
    pub closed_at: u64,
    /// Its shares are those of the events above this one.
    pub after_event: u64,
    /// Up to this one.
    pub last_event: u64,
}

/// A page of the feed.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountingPage {
    /// Entries of closed intervals, in order.
    pub entries: Vec<AccountingEntry>,
    /// The intervals that they are of, in order.
    pub intervals: Vec<AccountingInterval>,
    /// Where to go on.
    pub next: AccountingCursor,
    /// There are more already.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_text() {
        let last = AccountingCursor { entry: i64::MAX as u64, tag: u64::MAX };
        for cursor in [AccountingCursor::START, AccountingCursor { entry: 7, tag: 0 }, last] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in [
            "",
            "7",
            "-1",
            "0-0000000000000000",
            "7-",
            "+7-0000000000000000",
            "7-000000000000000",
            "7-+000000000000000",
            "9223372036854775808-0000000000000000",
        ] {
            assert!(text.parse::<AccountingCursor>().is_err(), "{text:?}");
        }
    }
}
