//! The hash chain of the event log: its ends, its heads, and a look at all of it.

use rusqlite::{Connection, OptionalExtension, Row, params};
use validation::receipt::{KeyId, ReceiptKey, ServerId};

use super::state::{meta, set_meta};
use crate::chain::{
    ChainCheck, ChainEnds, ChainError, ChainReport, GENESIS, Link, SignedHead, StoredEvent,
};
use crate::query::{Page, PageRequest, ReadError};

/// Name of the last event that is kept no more, in the table `meta`.
const ANCHOR: &str = "events_anchor";

/// The newest event; event 0 where there is none.
pub(super) fn last(connection: &Connection) -> rusqlite::Result<Link> {
    let sql = "SELECT id, hash FROM events ORDER BY id DESC LIMIT 1";
    let found = connection.prepare_cached(sql)?.query_row([], link).optional()?;
    Ok(found.unwrap_or(Link { id: 0, hash: GENESIS }))
}

/// Notes that the events up to `id` are about to be deleted.
pub(super) fn drop_anchor(connection: &Connection, id: u64) -> rusqlite::Result<()> {
    let sql = "SELECT id, hash FROM events WHERE id = ?1";
    let Link { id, hash } = connection.prepare_cached(sql)?.query_row([id], link)?;
    if hash == GENESIS {
        // Of an event without a hash: the anchor is the last of those already.
        return Ok(());
    }
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    set_meta(connection, ANCHOR, &format!("{id} {hash}"))?;
    // Of the heads below the anchor nothing can be checked any more.
    connection.prepare_cached("DELETE FROM event_heads WHERE event_id < ?1")?.execute([id])?;
    Ok(())
}

/// Where the chain begins and ends.
pub(super) fn ends(connection: &Connection) -> Result<ChainEnds, ReadError> {
    let snapshot = connection.unchecked_transaction()?;
    Ok(ChainEnds { anchor: anchor(&snapshot)?, last: last(&snapshot)? })
}

/// What the chain that is kept comes after: the last event that was deleted, or that is from before
/// there were hashes.
fn anchor(snapshot: &Connection) -> Result<Link, ReadError> {
    let Some(text) = meta(snapshot, ANCHOR)? else { return Ok(Link { id: 0, hash: GENESIS }) };
    let parsed = text.split_once(' ').and_then(|(id, hash)| {
        let hash = <[u8; 32] as bitcoin::hex::FromHex>::from_hex(hash).ok()?;
        Some(Link { id: id.parse().ok()?, hash })
    });
    parsed.ok_or_else(|| ReadError::Damaged(format!("the anchor of the events, {text:?}")))
}

fn link(row: &Row<'_>) -> rusqlite::Result<Link> {
    let hash: Option<[u8; 32]> = row.get("hash")?;
    Ok(Link { id: row.get(0)?, hash: hash.unwrap_or(GENESIS) })
}

/// Keeps a head.
pub(super) fn put_head(connection: &Connection, head: &SignedHead) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO event_heads (event_id, epoch, hash, signed_at, server, key_id, signature)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (event_id) DO NOTHING",
        )?
        .execute(params![
            head.link.id,
            head.epoch.to_string(),
            head.link.hash,
            head.signed_at_ms,
            head.server.0,
            head.key_id.0,
            head.signature,
        ])?;
    Ok(())
}

/// Heads, newest first.
pub(super) fn heads(
    connection: &Connection,
    page: PageRequest,
) -> Result<Page<SignedHead>, ReadError> {
    let before = page.after.unwrap_or(i64::MAX as u64);
    let limit = page.limit.clamp(1, crate::limits::PAGE_ITEMS_MAX);
    let mut statement = connection.prepare_cached(
        "SELECT * FROM event_heads WHERE event_id < ?1 ORDER BY event_id DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(params![before, limit + 1], head)?;
    let mut items = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|head| head.link.id);
    Ok(Page { items, next })
}

fn head(row: &Row<'_>) -> rusqlite::Result<SignedHead> {
    let epoch: String = row.get("epoch")?;
    let epoch = epoch.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(SignedHead {
        link: Link { id: row.get("event_id")?, hash: row.get("hash")? },
        epoch,
        signed_at_ms: row.get("signed_at")?,
        server: ServerId(row.get("server")?),
        key_id: KeyId(row.get("key_id")?),
        signature: row.get("signature")?,
    })
}

/// Checks everything that is kept.
pub(super) fn verify(
    snapshot: &Connection,
    keys: &[ReceiptKey],
) -> Result<Result<ChainReport, ChainError>, ReadError> {
    let mut statement = snapshot.prepare("SELECT * FROM event_heads ORDER BY event_id")?;
    let heads = statement.query_map([], head)?.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut check = match ChainCheck::new(anchor(snapshot)?, heads, keys) {
        Ok(check) => check,
        Err(error) => return Ok(Err(error)),
    };
    let mut statement = snapshot.prepare(
        "SELECT id, kind, timestamp, source, protocol, schema, data, hash FROM events ORDER BY id",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id = row.get("id")?;
        let text = |name| row.get_ref(name)?.as_str().map_err(rusqlite::Error::from);
        let event = StoredEvent {
            id,
            timestamp: row.get("timestamp")?,
            schema: row.get("schema")?,
            kind: text("kind")?,
            source: text("source")?,
            protocol: text("protocol")?,
            data: text("data")?,
        };
        if let Err(error) = check.push(&event, row.get("hash")?) {
            return Ok(Err(error));
        }
    }
    Ok(check.finish())
}
