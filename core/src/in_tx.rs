//! [`InTxError`]: what a completion inside the caller's own transaction says when it must not be committed.

use std::fmt;

use crate::error::StoreError;
use crate::outcome::{CompleteOutcome, Loss};
use crate::record::IdempotencyRecord;

/// Why a completion inside a transaction is not to be committed (T1). With `?` the transaction rolls back.
#[derive(Debug)]
#[non_exhaustive]
pub enum InTxError {
    /// The grant is held no longer: somebody else's work counts.
    Lost(Loss),
    /// This grant has stored an answer already: the transaction is being made again after a COMMIT whose
    /// answer was lost. Here is what was stored.
    AlreadyStored(Box<IdempotencyRecord>),
    /// The store failed. Nothing is committed unless the caller does it.
    Store(StoreError),
}

impl fmt::Display for InTxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(Loss::Gone) => f.write_str("the reservation is gone: roll back"),
            Self::Lost(Loss::TakenOver) => f.write_str("the reservation was taken over: roll back"),
            Self::AlreadyStored(_) => f.write_str("this reservation was completed before: roll back"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for InTxError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::Lost(_) | Self::AlreadyStored(_) => None,
        }
    }
}

impl From<StoreError> for InTxError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl InTxError {
    /// What `complete` answered, as a transaction has to hear it (T1).
    ///
    /// # Errors
    /// Every answer but [`Stored`](CompleteOutcome::Stored).
    pub fn unless_stored(outcome: CompleteOutcome) -> Result<(), Self> {
        match outcome {
            CompleteOutcome::Stored => Ok(()),
            CompleteOutcome::AlreadyStored(record) => Err(Self::AlreadyStored(Box::new(record))),
            CompleteOutcome::Lost(loss) => Err(Self::Lost(loss)),
        }
    }
}
