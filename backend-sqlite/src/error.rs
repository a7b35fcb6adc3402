//! From what SQLite says to what the contract says.

use std::fmt;

use oncekey_core::{Effect, ErrorKind, StoreError};
use rusqlite::ErrorCode;

/// Whether another connection holds the lock that was asked for: worth asking again.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed)
    )
}

/// SQLite's error as one of `operation`.
pub(crate) fn store_error(operation: &'static str, effect: Effect, error: rusqlite::Error) -> StoreError {
    let (kind, message) = match error.sqlite_error_code() {
        _ if is_stale_snapshot(&error) => (
            ErrorKind::Timeout,
            "the transaction was begun DEFERRED, and another one wrote since its first read: begin IMMEDIATE",
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => (
            ErrorKind::Timeout,
            "another connection holds the database's write lock: keep transactions short",
        ),
        Some(ErrorCode::DiskFull) => {
            (ErrorKind::Unavailable, "the disk is full: make room, or collect garbage")
        }
        Some(ErrorCode::ReadOnly) => (
            ErrorKind::Unavailable,
            "the database can't be written: check the rights of the file and its folder",
        ),
        Some(ErrorCode::CannotOpen) => (
            ErrorKind::Unavailable,
            "the database can't be opened: check the path and the rights of its folder",
        ),
        Some(ErrorCode::SystemIoFailure) => (ErrorKind::Unavailable, "the disk failed"),
        Some(ErrorCode::OutOfMemory) => (ErrorKind::Unavailable, "out of memory"),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            (ErrorKind::Corrupt, "the file is not a whole SQLite database: restore it, or open another")
        }
        Some(ErrorCode::TooBig) => {
            (ErrorKind::InvalidInput, "the response is longer than SQLite's own limit")
        }
        _ if is_missing_table(&error) => {
            (ErrorKind::SchemaMissing, "oncekey's tables are not there: call ensure_schema")
        }
        _ => (ErrorKind::Other, "SQLite failed"),
    };
    // The source tells the details; the message must stand alone in a log, so it carries them as well.
    let message = format!("{message} (SQLite: {error})");
    StoreError::new(kind, operation, effect, message).with_source(error)
}

/// BUSY_SNAPSHOT: no waiting helps a transaction that read before it wrote.
fn is_stale_snapshot(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|e| e.extended_code == rusqlite::ffi::SQLITE_BUSY_SNAPSHOT)
}

fn is_missing_table(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::Unknown))
        && error.to_string().contains("no such table: oncekey_")
}

/// The thread that would have answered is gone; the call may have been committed before it went.
pub(crate) fn gone(operation: &'static str) -> StoreError {
    StoreError::new(
        ErrorKind::Unavailable,
        operation,
        Effect::Unknown,
        "the store was closed before it answered",
    )
}

/// The store was closed before the call was sent.
pub(crate) fn closed(operation: &'static str) -> StoreError {
    StoreError::new(ErrorKind::Unavailable, operation, Effect::NotApplied, "the store is closed")
}

/// Why [`SqliteStore::write`](crate::SqliteStore::write) committed nothing, or isn't sure that it did.
#[derive(Debug)]
pub enum WriteError<E> {
    /// The work said no; everything it wrote was rolled back.
    Work(E),
    /// The store failed; its effect says whether the work may be committed.
    Store(StoreError),
}

impl<E: fmt::Display> fmt::Display for WriteError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for WriteError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Work(error) => error.source(),
            Self::Store(error) => error.source(),
        }
    }
}

impl<E> From<StoreError> for WriteError<E> {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
