//! Connections to the database file.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::limits::{BUSY_TIMEOUT, WAL_KEPT_BYTES};

/// Prepared statements that a connection keeps.
const STATEMENTS_CACHED: usize = 64;

/// Page cache of the writer, KiB.
const WRITER_CACHE_KIB: i64 = 16_384;

/// The writer's connection, which has not changed anything yet.
pub(super) fn writer(path: &Path) -> rusqlite::Result<Connection> {
    open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
}

/// Makes the database one with a write-ahead log, and sets the writer's connection up.
pub(super) fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // Checkpoints are made beside the writer.
    connection.query_row("PRAGMA wal_autocheckpoint = 0", [], |_| Ok(()))?;
    let limit = format!("PRAGMA journal_size_limit = {WAL_KEPT_BYTES}");
    connection.query_row(&limit, [], |_| Ok(()))?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    connection.pragma_update(None, "temp_store", "MEMORY")
}

/// A connection that checkpoints.
pub(super) fn checkpointer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(connection)
}

/// A connection that reads.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// A connection that reads through the `-wal` and `-shm` files that are there, and writes to
/// neither.
pub(super) fn beside(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    open(&uri(path, "readonly_shm=1"), flags)
}

/// A connection that takes the database file as one that nobody changes: no locks, no other files.
pub(super) fn alone(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    open(&uri(path, "immutable=1"), flags)
}

/// <https://sqlite.org/uri.html>
fn uri(path: &Path, parameter: &str) -> PathBuf {
    let mut uri = String::from(if path.is_absolute() { "file://" } else { "file:" });
    for byte in path.as_os_str().as_encoded_bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"/-._~".contains(byte);
        if plain {
            uri.push(char::from(*byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    PathBuf::from(format!("{uri}?{parameter}"))
}

fn open(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    Ok(connection)
}

/// What a checkpoint found in the write-ahead log, pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checkpointed {
    /// What was in it.
    pub(super) logged: u64,
    /// What of that is not in the database yet.
    pub(super) left: u64,
}

/// Moves what it can from the write-ahead log into the database, without waiting for anybody.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<Checkpointed> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        // Minus one each, if there is no log.
        let pages =
            |column| row.get::<_, i64>(column).map(|pages| pages.try_into().unwrap_or(0_u64));
        let (logged, moved) = (pages(1)?, pages(2)?);
        Ok(Checkpointed { logged, left: logged.saturating_sub(moved) })
    })
}

/// Bounds the database file; 0 for none.
pub(super) fn set_max_bytes(connection: &Connection, bytes: u64) -> rusqlite::Result<()> {
    let page_bytes: u64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    // SQLite's own bound, in pages.
    let no_bound = u64::from(u32::MAX - 1);
    let pages = if bytes == 0 { no_bound } else { (bytes / page_bytes).clamp(1, no_bound) };
    connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
}
