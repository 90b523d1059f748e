//! The event log, page by page.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::read::parsed;
use crate::event::{Event, EventFilter, EventKind, Protocol, StreamEpochStarted};
use crate::limits::{PAGE_EVENT_BYTES_MAX, PAGE_EVENTS_MAX, SCAN_EVENTS_MAX};
use crate::query::{EventPage, Gone, ReadError};
use crate::types::{Cursor, StreamEpoch};

/// Events after a cursor. Looks at [`SCAN_EVENTS_MAX`] events at most, so that a reader of rare
/// events does not read the whole log in one call.
pub(super) fn after(
    connection: &Connection,
    epoch: StreamEpoch,
    cursor: Cursor,
    filter: &EventFilter,
    limit: usize,
) -> Result<EventPage, ReadError> {
    // One snapshot for the bounds and the rows: retention may run in between.
    let snapshot = connection.unchecked_transaction()?;
    page(&snapshot, epoch, cursor, filter, limit)
}

/// As [`after`], within a transaction.
pub(super) fn page(
    snapshot: &Connection,
    epoch: StreamEpoch,
    cursor: Cursor,
    filter: &EventFilter,
    limit: usize,
) -> Result<EventPage, ReadError> {
    let (first, last) = bounds(snapshot)?;
    let gone = Gone { epoch, earliest: first.unwrap_or(last + 1) };
    let other_epoch = cursor.epoch.is_some_and(|of| of != epoch);
    let too_old = cursor != Cursor::START
        && cursor.id.saturating_add(1) < gone.earliest
        && !is_next(snapshot, gone.earliest, cursor.id)?;
    if other_epoch || too_old || cursor.id > last {
        return Err(ReadError::Gone(gone));
    }
    let scan_end = cursor.id.max(gone.earliest - 1).saturating_add(SCAN_EVENTS_MAX);
    let limit = limit.clamp(1, PAGE_EVENTS_MAX);
    let mut statement = snapshot.prepare_cached(
        "SELECT id, kind, timestamp, source, protocol, schema, data FROM events
         WHERE id > ?1 AND id <= ?2 ORDER BY id",
    )?;
    let mut rows = statement.query(params![cursor.id, scan_end.min(last)])?;
    let (mut events, mut next, mut bytes) = (Vec::new(), cursor.id, 0);
    let mut full = false;
    while !full && let Some(row) = rows.next()? {
        next = row.get(0)?;
        let kind: EventKind = parsed(row, "kind")?;
        if filter.wants(kind) {
            let (event, size) = event(row, kind)?;
            events.push(event);
            bytes += size;
            full = events.len() >= limit || bytes >= PAGE_EVENT_BYTES_MAX;
        }
    }
    if !full {
        next = scan_end.min(last);
    }
    Ok(EventPage { events, next: Cursor { epoch: Some(epoch), id: next }, more: next < last })
}

/// True when the event `id` begins an epoch and comes right after `before`: the ids between the two
/// were never in the log, so it is not retention that took them.
fn is_next(snapshot: &Connection, id: u64, before: u64) -> Result<bool, ReadError> {
    let kind = EventKind::StreamEpochStarted.as_str();
    let started: Option<String> = snapshot
        .prepare_cached("SELECT data FROM events WHERE id = ?1 AND kind = ?2")?
        .query_row(params![id, kind], |row| row.get(0))
        .optional()?;
    let started = started.and_then(|data| serde_json::from_str::<StreamEpochStarted>(&data).ok());
    Ok(started.is_some_and(|started| started.kept_last_id <= before))
}

/// What a look backwards found.
pub(super) struct Back {
    /// Wanted events, as many as were asked for at most.
    pub(super) wanted: usize,
    /// Id of the earliest event that was looked at; at least 1.
    pub(super) id: u64,
    /// True when there is none before it.
    pub(super) first: bool,
}

/// Looks for `count` wanted events, newest first, before the id `below` (`None`: from the end), at
/// [`SCAN_EVENTS_MAX`] events at most. Within a transaction.
pub(super) fn back(
    snapshot: &Connection,
    filter: &EventFilter,
    count: usize,
    below: Option<u64>,
) -> Result<Back, ReadError> {
    let (first, last) = bounds(snapshot)?;
    let below = below.map_or(last + 1, |below| below.min(last + 1));
    let earliest = first.unwrap_or(last + 1);
    let mut back = Back { wanted: 0, id: below, first: below <= earliest };
    let mut statement = snapshot
        .prepare_cached("SELECT id, kind FROM events WHERE id < ?1 ORDER BY id DESC LIMIT ?2")?;
    let mut rows = statement.query(params![below, SCAN_EVENTS_MAX])?;
    while back.wanted < count
        && let Some(row) = rows.next()?
    {
        back.id = row.get(0)?;
        back.first = back.id <= earliest;
        back.wanted += usize::from(filter.wants(parsed(row, "kind")?));
    }
    Ok(back)
}

/// Smallest and largest id that are kept; the largest is 0 when there is none.
pub(super) fn bounds(connection: &Connection) -> Result<(Option<u64>, u64), ReadError> {
    let first = connection
        .prepare_cached("SELECT min(id) FROM events")?
        .query_row([], |row| row.get::<_, Option<u64>>(0))?;
    let last = connection
        .prepare_cached("SELECT max(id) FROM events")?
        .query_row([], |row| row.get::<_, Option<u64>>(0))?;
    Ok((first, last.unwrap_or_default()))
}

fn event(row: &Row<'_>, kind: EventKind) -> Result<(Event, usize), ReadError> {
    let id = row.get("id")?;
    let protocol: String = row.get("protocol")?;
    let protocol = if protocol == Protocol::StratumV1.as_str() {
        Protocol::StratumV1
    } else {
        Protocol::StratumV2
    };
    let data: String = row.get("data")?;
    let value = serde_json::from_str(&data)
        .map_err(|error| ReadError::Damaged(format!("event {id}: {error}")))?;
    let event = Event {
        id,
        event: kind,
        timestamp: row.get("timestamp")?,
        source: row.get("source")?,
        protocol,
        schema: row.get("schema")?,
        data: value,
    };
    Ok((event, data.len()))
}
