//! Opening a store: lock, migrate, decide on the stream epoch, start the threads.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::mpsc;

use super::accounts::is_open;
use super::apply::apply;
use super::carry::Passage;
use super::fault::Fault;
use super::group::Pen;
use super::housekeeping::Housekeeper;
use super::migrate::{MIGRATIONS, MigrateError, migrate, version};
use super::readers::Readers;
use super::shared::{Shared, now_ms};
use super::state::{State, meta, set_meta};
use super::stream::{Kept, Seen, StreamFile, boot_id, inode, lost};
use super::writer::Writer;
use super::{SqliteStore, Threads, before_users, connect};
use crate::batch::Batch;
use crate::event::StreamEpochStarted;
use crate::limits::QUEUE_BATCHES_MAX;
use crate::settings::Settings;
use crate::types::StreamEpoch;

/// Name of the database file in the data directory.
pub(super) const DATABASE: &str = "jds.sqlite";

/// Name of the file that is locked, and says what readers have seen.
const STREAM: &str = "jds.stream";

/// Name of the epoch in the table `meta`.
pub(super) const EPOCH: &str = "stream_epoch";

/// Name of the network in the table `meta`.
const NETWORK: &str = "network";

/// Why a store can not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{path} is in use by another process")]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// A file can not be used.
    #[error("cannot use {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is a database of another program.
    #[error("{path} is not a database of this program")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The database was written by a newer version of the program.
    #[error(
        "{path} has version {found}, this program knows versions up to {known}: use the newer \
         program, or a backup from before"
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// The database was begun on another network.
    #[error(
        "the database in data_dir {dir} is of {found}, `network` is {wanted}: each network needs a \
         data_dir of its own"
    )]
    OtherNetwork {
        /// The data directory.
        dir: PathBuf,
        /// The database's network.
        found: String,
        /// The network that is configured.
        wanted: String,
    },
    /// The database can not be copied before a change that has no way back.
    #[error(
        "cannot copy {path} to {copy} before its users are brought together: {error}; the database is \
         as it was, and the copy needs as much room again"
    )]
    Copy {
        /// The file.
        path: PathBuf,
        /// Where the copy was to be.
        copy: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The database fails.
    #[error("cannot open {path}: {error}")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        error: rusqlite::Error,
    },
    /// A thread can not be started.
    #[error("cannot start a thread of the store: {0}")]
    Thread(io::Error),
}

pub(super) fn open(settings: Settings) -> Result<SqliteStore, OpenError> {
    let path = settings.dir.join(DATABASE);
    let stream_path = settings.dir.join(STREAM);
    let opened = StreamFile::open(&stream_path)
        .map_err(|error| OpenError::File { path: stream_path.clone(), error })?;
    let Some((mut stream, seen)) = opened else {
        return Err(OpenError::InUse { path: stream_path });
    };
    let failed = |error| OpenError::Database { path: path.clone(), error };
    make_private(&path).map_err(|error| OpenError::File { path: path.clone(), error })?;
    let mut connection = connect::writer(&path).map_err(failed)?;
    let refused = |error| match error {
        MigrateError::Foreign => OpenError::Foreign { path: path.clone() },
        MigrateError::TooNew { found, known } => {
            OpenError::TooNew { path: path.clone(), found, known }
        }
        MigrateError::Database(error) => failed(error),
    };
    // What is not ours to use stays as it is, to the last byte.
    let version = version(&connection, MIGRATIONS).map_err(refused)?;
    let network = if version > 0 { meta(&connection, NETWORK).map_err(failed)? } else { None };
    if let Some(found) = network.filter(|found| is_other(&settings.network, found)) {
        return Err(OpenError::OtherNetwork { dir: settings.dir, found, wanted: settings.network });
    }
    connect::set_up(&connection).map_err(failed)?;
    before_users::set_aside(&connection, &path, version)?;
    migrate(&mut connection, MIGRATIONS).map_err(refused)?;
    note_network(&connection, &settings.network).map_err(failed)?;
    connect::set_max_bytes(&connection, settings.database_bytes_max).map_err(failed)?;
    let inode = inode(&path).map_err(|error| OpenError::File { path: path.clone(), error })?;
    let newest_ms = newest_ms(&connection).map_err(failed)?;
    let (state, epoch) =
        begin_stream(&mut connection, seen.as_ref(), inode, &settings.source).map_err(failed)?;
    let last_id = state.next_event_id - 1;
    let seen = Seen { epoch: epoch.0, last_id, inode, boot: boot_id(), clean: false };
    stream.write(&seen, true);

    let shared = Arc::new(Shared::new(epoch, last_id));
    let (queue, requests) = mpsc::channel(QUEUE_BATCHES_MAX);
    let readers = Arc::new(Readers::new(path.clone()));
    let housekeeper = Arc::new(Housekeeper {
        path,
        shared: Arc::clone(&shared),
        queue: queue.clone(),
        readers: Arc::clone(&readers),
        retention: settings.retention,
        turn: Mutex::new(()),
        newest_ms,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(OpenError::Thread)?;
    let interval = settings.accounting_interval;
    let mut pen = Pen::new(connection, state, Arc::clone(&shared), stream, seen, interval);
    // An interval ends with the run that opened it. A disk that is full may fail to take that: then it
    // is closed with the next one.
    let closed = is_open(&pen.connection).and_then(|open| match open {
        true => pen.close_interval(true),
        false => Ok(()),
    });
    closed.unwrap_or_else(|error| {
        tracing::warn!(%error, "an interval of the accounting feed stays open");
    });
    let writer = Writer::new(pen, requests, settings.retention, settings.stall_after, runtime);
    let (stop, stopped) = std::sync::mpsc::channel();
    let keeper = Arc::clone(&housekeeper);
    let threads = Threads {
        // First: without it the other ends when its sender is dropped.
        housekeeper: spawn("store-housekeeper", move || keeper.run(&stopped))?,
        stop_housekeeper: stop,
        writer: spawn("store-writer", move || writer.run())?,
    };
    Ok(SqliteStore { queue, shared, readers, housekeeper, threads: Mutex::new(Some(threads)) })
}

/// Makes a new database a file that only its owner can read: it holds the secrets of webhooks, and
/// the addresses of miners. SQLite gives its other files the same permissions. A file that is there
/// keeps its own.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(OpenError::Thread)
}

/// Whether a database of the network `found` is not for this one.
fn is_other(wanted: &str, found: &str) -> bool {
    !wanted.is_empty() && wanted != found
}

/// Notes the network of a database that has none yet. A disk that is full may fail to take it: the
/// next start does it then.
fn note_network(connection: &Connection, network: &str) -> rusqlite::Result<()> {
    if !network.is_empty() && meta(connection, NETWORK)?.is_none() {
        let noted = set_meta(connection, NETWORK, network);
        noted.unwrap_or_else(|error| tracing::warn!(%error, "cannot note the network"));
    }
    Ok(())
}

/// Time of the newest event, Unix milliseconds.
fn newest_ms(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    let sql = "SELECT timestamp FROM events ORDER BY id DESC LIMIT 1";
    connection.query_row(sql, [], |row| row.get(0)).optional()
}

/// Goes on with the stream of events, or begins a new epoch when readers may have seen events that
/// are not in the database.
fn begin_stream(
    connection: &mut Connection,
    seen: Option<&Seen>,
    inode: u64,
    source: &str,
) -> rusqlite::Result<(State, StreamEpoch)> {
    let epoch: Option<StreamEpoch> = meta(connection, EPOCH)?.and_then(|text| text.parse().ok());
    let sql = "SELECT coalesce(max(id), 0) FROM events";
    let last_id: u64 = connection.query_row(sql, [], |row| row.get(0))?;
    let kept = Kept { epoch: epoch.map(|epoch| epoch.0), last_id, inode };
    let lost = lost(&kept, seen, &boot_id());
    if let (None, Some(epoch)) = (&lost, epoch) {
        return Ok((State::load(connection, last_id + 1, source.to_owned())?, epoch));
    }
    let new = StreamEpoch(rand::random());
    let seen_id = seen.map_or(0, |seen| seen.last_id);
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction()?;
    // Ids go on above everything that readers may have seen.
    let next_event_id = last_id.max(seen_id) + 1;
    let mut state = State::load(&transaction, next_event_id, source.to_owned())?;
    set_meta(&transaction, EPOCH, &new.to_string())?;
    if let Some(from) = epoch {
        let passage = Passage { from, to: new, kept_last_id: last_id, first_id: next_event_id };
        passage.carry_webhooks(&transaction)?;
    }
    if let Some(reason) = lost {
        let previous = epoch.or(seen.map(|seen| StreamEpoch(seen.epoch)));
        let started = StreamEpochStarted {
            epoch: new.to_string(),
            previous_epoch: previous.map(|epoch| epoch.to_string()).unwrap_or_default(),
            previous_last_id: last_id.max(seen_id),
            kept_last_id: last_id,
            reason: reason.clone(),
        };
        tracing::warn!(epoch = %new, reason, "a new epoch of the event stream begins");
        let batch = Batch::of_event(now_ms(), started);
        match apply(&transaction, &mut state, &batch, false) {
            Ok(_) => state.sizes.store(&transaction)?,
            Err(Fault::Disk(error)) => return Err(error),
            // Readers learn of the epoch from their cursors as well.
            Err(Fault::Batch(error)) => tracing::warn!(%error, "cannot tell of the new epoch"),
        }
    }
    transaction.commit()?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok((state, new))
}
