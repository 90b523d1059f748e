//! Which errors are the batch's fault, and which are the disk's.

use rusqlite::ErrorCode;

use crate::commit::{CommitError, Refusal};

/// Why a batch, or a whole transaction, was not written.
#[derive(Debug)]
pub(super) enum Fault {
    /// The batch can not be written, now or later.
    Batch(CommitError),
    /// Nothing can be written now: full, locked, failing.
    Disk(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::DiskFull
                | ErrorCode::CannotOpen
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::NotADatabase
                | ErrorCode::NoLargeFileSupport
                | ErrorCode::PermissionDenied
                | ErrorCode::OperationInterrupted
                | ErrorCode::OperationAborted,
            ) => Self::Disk(error),
            // Everything else says something about what was to be written; to try it again would
            // stop all writing for ever.
            _ => Self::refused(error.to_string()),
        }
    }
}

impl Fault {
    /// For a token that was used up before.
    pub(super) fn token_spent(sequence: u64) -> Self {
        Self::Batch(CommitError::Refused(Refusal::TokenSpent { sequence }))
    }

    /// For faults that the store finds by itself.
    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self::Batch(CommitError::Refused(Refusal::Other(why.into())))
    }
}
