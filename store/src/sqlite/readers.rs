//! Connections that read beside the writer.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use rusqlite::Connection;

use super::connect;
use super::shared::lock;
use crate::limits::{READER_WAIT, READERS_MAX};
use crate::query::ReadError;

/// A few connections, opened when they are first needed.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    pool: Mutex<Pool>,
    given_back: Condvar,
}

#[derive(Debug, Default)]
struct Pool {
    idle: Vec<Connection>,
    open: usize,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, pool: Mutex::default(), given_back: Condvar::new() }
    }

    /// Runs `query` on one of the connections.
    pub(super) fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let lent = Lent { readers: self, connection: Some(self.take()?) };
        match &lent.connection {
            Some(connection) => query(connection),
            None => Err(ReadError::Busy { readers: READERS_MAX }),
        }
    }

    fn take(&self) -> Result<Connection, ReadError> {
        let deadline = Instant::now() + READER_WAIT;
        let mut pool = lock(&self.pool);
        loop {
            if let Some(connection) = pool.idle.pop() {
                return Ok(connection);
            }
            if pool.open < READERS_MAX {
                pool.open += 1;
                drop(pool);
                return connect::reader(&self.path).map_err(|error| {
                    self.give_back(None);
                    error.into()
                });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ReadError::Busy { readers: READERS_MAX });
            }
            let waited = self.given_back.wait_timeout(pool, left);
            pool = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn give_back(&self, connection: Option<Connection>) {
        let mut pool = lock(&self.pool);
        match connection {
            Some(connection) => pool.idle.push(connection),
            None => pool.open -= 1,
        }
        drop(pool);
        self.given_back.notify_one();
    }
}

/// Comes back even when a query panics.
struct Lent<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.readers.give_back(self.connection.take());
    }
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.to_string())
    }
}
