//! From what redb says to what the contract says.

use oncekey_core::codec::Corrupt;
use oncekey_core::{Effect, ErrorKind, StoreError};
use redb::Error;
use std::sync::Arc;

/// Why a step in a transaction has no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The database failed, and with it the whole transaction.
    Database(Error),
    /// This one record can't be read. Nothing was written, and the transaction may go on.
    Record(Corrupt),
}

impl From<Corrupt> for Fault {
    fn from(corrupt: Corrupt) -> Self {
        Self::Record(corrupt)
    }
}

/// redb has an error type for each kind of call; the largest holds them all.
macro_rules! from_redb {
    ($($error:ty),+) => {
        $(impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self::Database(error.into())
            }
        })+
    };
}
from_redb!(redb::TransactionError, redb::TableError, redb::StorageError);

impl Fault {
    /// As an error of `operation`, in a transaction that committed nothing.
    pub(crate) fn in_operation(self, operation: &'static str) -> StoreError {
        match self {
            Self::Database(error) => store_error(operation, Effect::NotApplied, Arc::new(error)),
            Self::Record(corrupt) => corrupt.in_operation(operation),
        }
    }
}

/// redb's error as one of `operation`. It comes in an `Arc` because one failed commit fails every call
/// that shared it.
pub(crate) fn store_error(operation: &'static str, effect: Effect, error: Arc<Error>) -> StoreError {
    let (kind, message) = match &*error {
        Error::DatabaseAlreadyOpen => (
            ErrorKind::Unavailable,
            "the file is open elsewhere: one process has it, and its clones share it",
        ),
        Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => {
            (ErrorKind::Corrupt, "the file is no redb database: restore it, or open another")
        }
        Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull => {
            (ErrorKind::Unavailable, "the disk is full: make room, then open the file again")
        }
        Error::Io(_) | Error::Backend(_) => {
            (ErrorKind::Unavailable, "the disk failed, or the file can't be written")
        }
        Error::PreviousIo | Error::DatabaseClosed => {
            (ErrorKind::Unavailable, "redb gave the file up after an error: open it again")
        }
        Error::Corrupted(_) => (ErrorKind::Corrupt, "the file is damaged: restore it from a backup"),
        Error::TableDoesNotExist(_) => {
            (ErrorKind::SchemaMissing, "oncekey's tables are not there: call ensure_schema")
        }
        Error::TableTypeMismatch { .. } | Error::TypeDefinitionChanged { .. } | Error::UpgradeRequired(_) => {
            (ErrorKind::SchemaMissing, "the file was written by another version")
        }
        _ => (ErrorKind::Other, "redb failed"),
    };
    StoreError::new(kind, operation, effect, format!("{message} (redb: {error})")).with_source(error)
}

/// The thread that ran the call is gone: it panicked, or the runtime is shutting down.
pub(crate) fn gone(operation: &'static str, effect: Effect) -> StoreError {
    StoreError::new(ErrorKind::Unavailable, operation, effect, "the call was cut off while it ran")
}
