//! Beside the writer: checkpoints, and the search for what retention has to delete.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use super::clock::RetentionClock;
use super::connect::{self, Checkpointed};
use super::packed;
use super::readers::Readers;
use super::retention::live_height;
use super::shared::{Control, Shared, lock, now_ms};
use super::sizes::{Table, TableSizes};
use super::state::IdSet;
use super::wake;
use crate::commit::Request;
use crate::limits::{
    CHECKPOINT_PAUSE, CHECKPOINT_REST_PAGES, CHECKPOINT_ROUNDS_MAX, RETENTION_PAUSE,
    RETENTION_STEP_ROWS, USER_TEMPLATES_SAFE, WAL_CHECKPOINT_BYTES, WAL_FORCE_BYTES,
};
use crate::query::ReadError;
use crate::report::Status;
use crate::settings::Retention;

/// How long the writer may take for one step.
const STEP_WAIT: Duration = Duration::from_secs(30);

/// How often it is looked whether the writer has ended meanwhile.
const ANSWER_POLL: Duration = Duration::from_millis(100);

/// Pause between searches for transactions that nothing names, while there is room for them.
const SWEEP_PAUSE: Duration = Duration::from_secs(3_600);

/// Rounds in which the oldest templates give up their transactions, an eighth of them each.
const EVICTION_ROUNDS_MAX: usize = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Housekeeper {
    pub(super) path: PathBuf,
    pub(super) shared: Arc<Shared>,
    pub(super) queue: tokio::sync::mpsc::Sender<Request>,
    pub(super) readers: Arc<Readers>,
    pub(super) retention: Retention,
    /// One round of retention at a time.
    pub(super) turn: Mutex<()>,
    /// Time of the newest event from before this start, Unix milliseconds.
    pub(super) newest_ms: Option<u64>,
}

impl Housekeeper {
    /// Until the other end of `stop` is gone.
    pub(super) fn run(&self, stop: &Receiver<()>) {
        step_aside();
        let started = Instant::now();
        let mut clock = RetentionClock::new(self.newest_ms, now_ms(), Duration::ZERO);
        let (mut retained, mut swept) = (started, started);
        let mut checkpointer = None;
        while stop.recv_timeout(CHECKPOINT_PAUSE) == Err(RecvTimeoutError::Timeout) {
            self.checkpoint(&mut checkpointer);
            if self.shared.interval_is_due() {
                self.control(Control::CloseInterval);
            }
            if retained.elapsed() >= RETENTION_PAUSE {
                let sweep = swept.elapsed() >= SWEEP_PAUSE;
                let now_ms = clock.now_ms(now_ms(), started.elapsed());
                if let Err(error) = self.retain(now_ms, sweep) {
                    tracing::warn!(%error, "retention failed");
                }
                retained = Instant::now();
                if sweep {
                    swept = retained;
                }
            }
        }
    }

    /// Size of the write-ahead log, bytes.
    pub(super) fn wal_bytes(&self) -> u64 {
        let mut path = self.path.clone().into_os_string();
        path.push("-wal");
        std::fs::metadata(path).map_or(0, |wal| wal.len())
    }

    fn checkpoint(&self, checkpointer: &mut Option<Connection>) {
        if self.wal_bytes() < WAL_CHECKPOINT_BYTES {
            return;
        }
        let connection = match checkpointer {
            Some(connection) => Ok(&*connection),
            None => connect::checkpointer(&self.path).map(|new| &*checkpointer.insert(new)),
        };
        match connection.and_then(move_pages) {
            Ok(true) => self.control(Control::Checkpoint),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "checkpoint failed"),
        }
    }

    fn control(&self, control: Control) {
        self.shared.push_control(control);
        wake(&self.queue);
    }

    /// Has the writer do something and waits for its answer; `None` when it does not come.
    fn ask<T>(&self, control: impl FnOnce(SyncSender<T>) -> Control) -> Option<T> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.control(control(answer));
        let deadline = Instant::now() + STEP_WAIT;
        loop {
            match answered.recv_timeout(ANSWER_POLL) {
                Ok(answer) => return Some(answer),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    let closed = self.shared.status() == Status::Closed;
                    if closed || Instant::now() >= deadline {
                        return None;
                    }
                }
            }
        }
    }

    /// Deletes everything that is too old or too much, as of `now_ms`.
    pub(super) fn retain(&self, now_ms: u64, sweep: bool) -> Result<(), ReadError> {
        let _turn = lock(&self.turn);
        while self.ask(|more| Control::Retain { now_ms, evict: Vec::new(), more }) == Some(true) {}
        let over = || -> Result<bool, ReadError> {
            let sizes = self.readers.read(|connection| Ok(TableSizes::load(connection)?))?;
            Ok(sizes.of(Table::Transactions).bytes > self.retention.transactions.bytes)
        };
        if sweep || over()? {
            self.sweep()?;
        }
        for _ in 0..EVICTION_ROUNDS_MAX {
            if !over()? {
                break;
            }
            let victims = self.readers.read(victims)?;
            if victims.is_empty() {
                break;
            }
            for evict in victims.chunks(RETENTION_STEP_ROWS) {
                let evict = evict.to_vec();
                if self.ask(|more| Control::Retain { now_ms, evict, more }).is_none() {
                    break;
                }
            }
            self.sweep()?;
        }
        Ok(())
    }

    /// Deletes transactions that no template names.
    ///
    /// The lists are read beside the writer. What it names from the start of that on is noted by
    /// the writer itself, so a transaction that a new template names is never deleted.
    fn sweep(&self) -> Result<(), ReadError> {
        if self.ask(|begun| Control::SweepBegin { begun }).is_none() {
            return Ok(());
        }
        let unnamed = self.readers.read(unnamed);
        if let Ok(unnamed) = &unnamed {
            for ids in unnamed.chunks(RETENTION_STEP_ROWS) {
                let ids = ids.to_vec();
                if self.ask(|done| Control::Sweep { ids, done }).is_none() {
                    break;
                }
            }
        }
        self.control(Control::SweepEnd);
        unnamed.map(drop)
    }
}

/// Lets the other threads of the process go first where the processor is short: a checkpoint takes tens of
/// milliseconds of it, and a share would wait for them. Who holds what a thread of higher priority needs may
/// not do so: a checkpoint beside the writer shares with it what is held for moments, the allocator and the log's
/// index, and this is no more than a preference.
fn step_aside() {
    // Elsewhere this would be about the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, crate::limits::HOUSEKEEPER_NICE)
    {
        tracing::debug!(%error, "housekeeping has the same priority as the rest");
    }
}

/// Templates that are next to give up their transactions: an eighth, the oldest first. Those that a
/// block may still come of go after all others, and then those of users who have the most: nobody
/// displaces what others live on by declaring much.
fn victims(connection: &Connection) -> Result<Vec<u64>, ReadError> {
    let height = live_height(connection)?;
    let sql = "WITH whole AS (
             SELECT id, height >= ?1 AND turn <= ?2 AS live, turn FROM (
                 SELECT id, height, row_number() OVER (PARTITION BY user_tag ORDER BY id DESC) AS turn
                 FROM miner_templates WHERE tx_list_id IS NOT NULL))
         SELECT id, live FROM whole
         ORDER BY live, CASE WHEN live THEN -turn END, id
         LIMIT (SELECT (count(*) + 7) / 8 FROM whole)";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![height, USER_TEMPLATES_SAFE], |row| {
        Ok((row.get::<_, u64>(0)?, row.get::<_, bool>(1)?))
    })?;
    let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
    // When it is the turn of the live ones is seen once the others are gone.
    let of = rows.first().map(|(_, live)| *live);
    Ok(rows.into_iter().filter(|(_, live)| Some(*live) == of).map(|(id, _)| id).collect())
}

/// Row ids of transactions that no template names.
fn unnamed(connection: &Connection) -> Result<Vec<u32>, ReadError> {
    let transaction = connection.unchecked_transaction()?;
    let mut named = IdSet::default();
    // Each whole list comes right before those that are changes to it.
    let mut lists = transaction.prepare(
        "SELECT base_id, tx_count, packed,
             EXISTS (SELECT 1 FROM miner_templates WHERE tx_list_id = tx_lists.id)
         FROM tx_lists ORDER BY coalesce(base_id, id), base_id IS NOT NULL",
    )?;
    let mut lists = lists.query([])?;
    let mut base = Vec::new();
    while let Some(list) = lists.next()? {
        let (base_id, count): (Option<i64>, usize) = (list.get(0)?, list.get(1)?);
        let bytes =
            list.get_ref(2)?.as_blob().map_err(|error| ReadError::Damaged(error.to_string()))?;
        let ids = packed::unpack(bytes, &base, count)
            .map_err(|error| ReadError::Damaged(error.to_string()))?;
        // A list may be there only because others are changes to it: that needs its numbers, not
        // its transactions.
        if list.get(3)? {
            ids.iter().for_each(|id| named.insert(*id));
        }
        if base_id.is_none() {
            base = ids;
        }
    }
    let mut ids = transaction.prepare("SELECT id FROM tx_ids")?;
    let ids = ids.query_map([], |row| row.get::<_, u32>(0))?;
    let unnamed = ids.filter(|id| !id.as_ref().is_ok_and(|id| named.contains(*id)));
    Ok(unnamed.collect::<Result<_, _>>()?)
}

/// Checkpoints beside the writer; true when the writer has to stop for the rest. Then it was done again
/// and again: each time there is only that to move which was written the time before, so that the stop
/// is short.
fn move_pages(connection: &Connection) -> rusqlite::Result<bool> {
    let page_bytes: u64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    for _ in 0..CHECKPOINT_ROUNDS_MAX {
        let Checkpointed { logged, left } = connect::checkpoint(connection)?;
        if logged.saturating_mul(page_bytes) < WAL_FORCE_BYTES {
            return Ok(false);
        }
        if left <= CHECKPOINT_REST_PAGES {
            break;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::StreamEpoch;

    /// Whether the housekeeper moves what is in a log of about so many megabytes, and whether it has the
    /// writer stop for the rest.
    fn about_a_log_of(megabytes: usize) -> (bool, bool) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jds.sqlite");
        let writer = connect::writer(&path).unwrap();
        connect::set_up(&writer).unwrap();
        writer.execute_batch("CREATE TABLE large (bytes)").unwrap();
        for _ in 0..megabytes {
            writer.execute("INSERT INTO large VALUES (zeroblob(1048576))", []).unwrap();
        }
        let (queue, mut woken) = tokio::sync::mpsc::channel(1);
        let shared = Arc::new(Shared::new(StreamEpoch(1), 0));
        let keeper = Housekeeper {
            readers: Arc::new(Readers::new(path.clone())),
            path: path.clone(),
            shared: Arc::clone(&shared),
            queue,
            retention: Retention::default(),
            turn: Mutex::new(()),
            newest_ms: None,
        };
        keeper.checkpoint(&mut None);
        let asked = matches!(shared.pop_control(), Some(Control::Checkpoint));
        assert_eq!(woken.try_recv().is_ok(), asked, "the writer is woken up to do it");
        let moved = std::fs::metadata(&path).unwrap().len();
        (moved >= (megabytes as u64) << 20, asked)
    }

    #[test]
    fn a_log_that_outgrows_its_checkpoints_stops_the_writer() {
        let (checkpoint, force) =
            ((WAL_CHECKPOINT_BYTES >> 20) as usize, (WAL_FORCE_BYTES >> 20) as usize);
        assert_eq!(about_a_log_of(checkpoint - 1), (false, false));
        assert_eq!(about_a_log_of(checkpoint + 1), (true, false));
        assert_eq!(about_a_log_of(force - 1), (true, false));
        assert_eq!(about_a_log_of(force + 1), (true, true));
    }
}
