//! The event log of a database that somebody else owns, read without a change to any of its files.
//!
//! SQLite reads a database with a write-ahead log through two more files, `-wal` and `-shm`. An
//! ordinary connection makes them when they are missing, and leaves them behind: made by another
//! user than the server's, they would keep the server from writing. So it depends on what is there:
//!
//! - both: they are read through, `-shm` without writing to it. SQLite knows by its locks whether a
//!   writer is there; when none is (it was killed), the write-ahead log is read without `-shm`.
//! - no `-wal`, or an empty one without `-shm`: nobody has the database open, and it is all there
//!   is. It is read as a file that does not change, and what was read counts only if it did not.
//! - a `-wal` without `-shm`: half of a copy. Here alone SQLite makes a `-shm`.
//!
//! Each page has a connection of its own: none is held while the reader of the events is slow, so
//! that the server can checkpoint, close in order and start again at any time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use rusqlite::{Connection, ErrorCode};
use validation::receipt::ReceiptKey;

use super::migrate::{APPLICATION_ID, MIGRATIONS};
use super::open::{DATABASE, EPOCH};
use super::state::meta;
use super::{connect, read_chain, read_events, read_verdict};
use crate::chain::{ChainError, ChainReport};
use crate::event::EventFilter;
use crate::limits::{EVENT_LOG_WAIT, RETRY_PAUSE};
use crate::query::{EventPage, Gone, ReadError};
use crate::types::{Cursor, StreamEpoch};
use crate::verdict::{VerdictLookup, VerdictRef};

/// Why the event log can not be read. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum EventLogError {
    /// There is no database.
    #[error("{path} does not exist: no server has run with this data directory")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The database holds nothing, not even tables.
    #[error("{path} is not set up yet: a server does that at its first start")]
    NotSetUp {
        /// The file.
        path: PathBuf,
    },
    /// The file is not ours.
    #[error("{path} is not a database of this program")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a newer version of the program.
    #[error(
        "{path} has version {found}, this program knows versions up to {known}: use the program \
         that the server runs"
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that this program reads.
        known: u32,
    },
    /// It was written by an older version of the program.
    #[error(
        "{path} has version {found}, this program reads version {known}: start the server of this \
         version once, which brings it up to date, or use the program that wrote it"
    )]
    TooOld {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that this program reads.
        known: u32,
    },
    /// What the cursor points at is not there: older than retention, of another epoch, or after the
    /// last event.
    #[error("the cursor {cursor} is gone; the earliest event in {path} is {} of epoch {}",
            .gone.earliest, .gone.epoch)]
    Gone {
        /// The file.
        path: PathBuf,
        /// The cursor.
        cursor: Cursor,
        /// What there is instead.
        gone: Gone,
    },
    /// It can not be read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The event log of a data directory, beside the server that writes it or without one.
///
/// Not for the process that has the store open: reading a file that nobody seems to have open can
/// end the locks of a store that this process opens at the same moment.
#[derive(Debug, Clone)]
pub struct EventLog {
    path: PathBuf,
}

impl EventLog {
    /// Looks whether the database in that directory can be read.
    ///
    /// # Errors
    /// [`EventLogError`], except [`EventLogError::Gone`].
    pub fn open(dir: &Path) -> Result<Self, EventLogError> {
        let log = Self { path: dir.join(DATABASE) };
        log.read(|_, _| Ok(()))?;
        Ok(log)
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// As [`crate::Store::events_after`]. Blocks.
    ///
    /// # Errors
    /// [`EventLogError`].
    pub fn after(
        &self,
        cursor: Cursor,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<EventPage, EventLogError> {
        self.read(|snapshot, epoch| {
            read_events::page(snapshot, epoch, cursor, filter, limit)
                .map_err(|error| self.read_error(error, cursor))
        })
    }

    /// The cursor after which come the last `count` events that the filter wants, or all of them
    /// when there are fewer. Blocks.
    ///
    /// # Errors
    /// [`EventLogError`].
    pub fn last(&self, filter: &EventFilter, count: usize) -> Result<Cursor, EventLogError> {
        let (mut left, mut below) = (count, None);
        loop {
            let found = self.read(|snapshot, epoch| {
                read_events::back(snapshot, filter, left, below)
                    .map(|found| (epoch, found))
                    .map_err(|error| self.read_error(error, Cursor::START))
            })?;
            let (epoch, back) = found;
            left = left.saturating_sub(back.wanted);
            if left == 0 || back.first {
                // At the first one, retention may take it away before the reader comes: the start is
                // never gone.
                let id = if back.first { 0 } else { back.id - 1 };
                return Ok(Cursor { epoch: Some(epoch), id });
            }
            below = Some(back.id);
        }
    }

    /// A verdict with what it was given on. An event is looked for by its id; give the epoch of a
    /// cursor to notice that the log was restored. Blocks.
    ///
    /// # Errors
    /// [`EventLogError`].
    pub fn verdict(
        &self,
        which: VerdictRef,
        of: Option<StreamEpoch>,
    ) -> Result<VerdictLookup, EventLogError> {
        self.read(|snapshot, epoch| {
            if of.is_some_and(|of| of != epoch) {
                return Ok(VerdictLookup::EventGone);
            }
            read_verdict::look_up(snapshot, which)
                .map_err(|error| self.read_error(error, Cursor::START))
        })
    }

    /// Checks the hash chain of everything that is kept, and its heads against these keys. Blocks for
    /// as long as reading all of it takes.
    ///
    /// # Errors
    /// [`EventLogError`], when it can not be read; inside, where the chain is broken.
    pub fn verify(
        &self,
        keys: &[ReceiptKey],
    ) -> Result<Result<ChainReport, ChainError>, EventLogError> {
        self.read(|snapshot, _| {
            read_chain::verify(snapshot, keys)
                .map_err(|error| self.read_error(error, Cursor::START))
        })
    }

    /// Runs `query` on one snapshot. What only a change of the files in between can explain is tried
    /// again for a while.
    fn read<T>(
        &self,
        query: impl Fn(&Connection, StreamEpoch) -> Result<T, EventLogError>,
    ) -> Result<T, EventLogError> {
        let deadline = Instant::now() + EVENT_LOG_WAIT;
        loop {
            match self.attempt(&query) {
                Ok(value) => return Ok(value),
                Err(Failed::For(error)) => return Err(error),
                Err(Failed::Now(reason)) if Instant::now() >= deadline => {
                    return Err(EventLogError::Unreadable { path: self.path.clone(), reason });
                }
                Err(Failed::Now(_)) => std::thread::sleep(RETRY_PAUSE),
            }
        }
    }

    fn attempt<T>(
        &self,
        query: impl Fn(&Connection, StreamEpoch) -> Result<T, EventLogError>,
    ) -> Result<T, Failed> {
        let before = Files::of(&self.path).map_err(|error| Failed::For(self.io_error(&error)))?;
        let way = before.way();
        let result = self.through(way, query);
        let unchanged = || Files::of(&self.path).is_ok_and(|after| after == before);
        if way == Way::Alone && !unchanged() {
            return Err(Failed::Now("its files change all the time".to_owned()));
        }
        result
    }

    fn through<T>(
        &self,
        way: Way,
        query: impl Fn(&Connection, StreamEpoch) -> Result<T, EventLogError>,
    ) -> Result<T, Failed> {
        let sqlite = |error| self.sqlite_error(error);
        let connection = match way {
            Way::Beside => connect::beside(&self.path),
            Way::Alone => connect::alone(&self.path),
            Way::Copy => connect::reader(&self.path),
        };
        let connection = connection.map_err(sqlite)?;
        let snapshot = connection.unchecked_transaction().map_err(sqlite)?;
        let epoch = self.checked(&snapshot)?;
        query(&snapshot, epoch).map_err(Failed::For)
    }

    /// The epoch of a database that is ours, of the version that we know.
    fn checked(&self, snapshot: &Connection) -> Result<StreamEpoch, Failed> {
        let path = || self.path.clone();
        let sqlite = |error| self.sqlite_error(error);
        let pragma = |name| snapshot.pragma_query_value(None, name, |row| row.get(0));
        let application_id: i32 = pragma("application_id").map_err(sqlite)?;
        let version: i32 = pragma("user_version").map_err(sqlite)?;
        let tables: u32 = snapshot
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(sqlite)?;
        if application_id == 0 && version == 0 && tables == 0 {
            return Err(Failed::For(EventLogError::NotSetUp { path: path() }));
        }
        let (found, known) = (version.cast_unsigned(), MIGRATIONS.len() as u32);
        let error = match found {
            _ if application_id != APPLICATION_ID => EventLogError::Foreign { path: path() },
            found if found > known => EventLogError::TooNew { path: path(), found, known },
            found if found < known => EventLogError::TooOld { path: path(), found, known },
            _ => {
                let epoch = meta(snapshot, EPOCH).map_err(sqlite)?;
                return epoch
                    .and_then(|text| text.parse().ok())
                    // Between the migration and the first epoch of a new database.
                    .ok_or_else(|| Failed::Now("it has no stream epoch".to_owned()));
            }
        };
        Err(Failed::For(error))
    }

    fn read_error(&self, error: ReadError, cursor: Cursor) -> EventLogError {
        let path = self.path.clone();
        match error {
            ReadError::Gone(gone) => EventLogError::Gone { path, cursor, gone },
            error => EventLogError::Unreadable { path, reason: error.to_string() },
        }
    }

    fn io_error(&self, error: &std::io::Error) -> EventLogError {
        let path = self.path.clone();
        match error.kind() {
            std::io::ErrorKind::NotFound => EventLogError::Missing { path },
            _ => EventLogError::Unreadable { path, reason: error.to_string() },
        }
    }

    fn sqlite_error(&self, error: rusqlite::Error) -> Failed {
        let path = self.path.clone();
        match error.sqlite_error_code() {
            // Somebody starts or ends: the files come and go.
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::SchemaChanged,
            ) => Failed::Now(error.to_string()),
            Some(ErrorCode::NotADatabase) => Failed::For(EventLogError::Foreign { path }),
            _ => Failed::For(EventLogError::Unreadable { path, reason: error.to_string() }),
        }
    }
}

/// Why one attempt failed.
enum Failed {
    /// For good.
    For(EventLogError),
    /// Perhaps not the next time.
    Now(String),
}

/// How the files are read; see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Beside,
    Alone,
    Copy,
}

/// What tells that somebody has written.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    database: Stamp,
    wal: Option<Stamp>,
    has_shm: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl Files {
    fn of(path: &Path) -> std::io::Result<Self> {
        let beside = |suffix: &str| {
            let mut path = path.as_os_str().to_owned();
            path.push(suffix);
            match Stamp::of(Path::new(&path)) {
                Ok(stamp) => Ok(Some(stamp)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        };
        let has_shm = beside("-shm")?.is_some();
        Ok(Self { database: Stamp::of(path)?, wal: beside("-wal")?, has_shm })
    }

    fn way(&self) -> Way {
        match &self.wal {
            None => Way::Alone,
            Some(_) if self.has_shm => Way::Beside,
            Some(wal) if wal.bytes == 0 => Way::Alone,
            Some(_) => Way::Copy,
        }
    }
}

impl Stamp {
    fn of(path: &Path) -> std::io::Result<Self> {
        let meta = fs::metadata(path)?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&meta);
        #[cfg(not(unix))]
        let inode = 0;
        Ok(Self { bytes: meta.len(), modified: meta.modified().ok(), inode })
    }
}
