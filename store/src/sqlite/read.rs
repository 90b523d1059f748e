//! What all readers share: pages, and columns as types.

use std::fmt::Display;
use std::str::FromStr;

use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{Txid, Wtxid};
use rusqlite::Row;
use rusqlite::types::FromSql;

use crate::limits::{PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX};
use crate::query::{Page, PageRequest, ReadError};

/// How many items a request may have.
pub(super) fn limit(request: PageRequest) -> usize {
    match request.limit {
        0 => PAGE_ITEMS_DEFAULT,
        limit => limit.min(PAGE_ITEMS_MAX),
    }
}

/// Below which row id the page starts.
pub(super) fn below(request: PageRequest) -> i64 {
    request.after.and_then(|after| i64::try_from(after).ok()).unwrap_or(i64::MAX)
}

/// A page out of one item more than it takes.
pub(super) fn page<T>(mut items: Vec<T>, request: PageRequest, id: impl Fn(&T) -> u64) -> Page<T> {
    let limit = limit(request);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(id);
    Page { items, next }
}

/// A column that holds a name or another text with a meaning.
pub(super) fn parsed<T>(row: &Row<'_>, column: &str) -> Result<T, ReadError>
where
    T: FromStr,
    T::Err: Display,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error| ReadError::Damaged(format!("{column}: {error}")))
}

/// A column that the row must have.
pub(super) fn required<T: FromSql>(row: &Row<'_>, column: &str) -> Result<T, ReadError> {
    let value: Option<T> = row.get(column)?;
    value.ok_or_else(|| ReadError::Damaged(format!("{column} is missing")))
}

pub(super) fn wtxid(bytes: [u8; 32]) -> Wtxid {
    Wtxid::from_raw_hash(sha256d::Hash::from_byte_array(bytes))
}

pub(super) fn txid(bytes: [u8; 32]) -> Txid {
    Txid::from_raw_hash(sha256d::Hash::from_byte_array(bytes))
}

/// Bytes of 64 hex digits, first byte first.
pub(super) fn hex32(hex: &str) -> Result<[u8; 32], ReadError> {
    let mut bytes = [0; 32];
    let digits = hex.as_bytes().as_chunks::<2>().0;
    let valid = hex.len() == 64 && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !valid {
        return Err(ReadError::Damaged(format!("{hex:?} is no hash")));
    }
    for (byte, pair) in bytes.iter_mut().zip(digits) {
        let digit = |digit: u8| char::from(digit).to_digit(16).unwrap_or_default() as u8;
        *byte = digit(pair[0]) << 4 | digit(pair[1]);
    }
    Ok(bytes)
}
