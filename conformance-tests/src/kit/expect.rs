//! Takes answers apart: each method fails with what it expected, what it saw, and the line of the case.

use std::fmt::{Debug, Display};
use std::panic::Location;
use std::time::Duration;

use oncekey_core::{
    CompleteOutcome, Effect, Entry, ErrorKind, Grant, IdempotencyRecord, Lapsed, Loss, PendingEntry,
    ReleaseOutcome, RenewOutcome, Renewed, ReservationOutcome, StoreError,
};

use crate::case::Failure;

/// Fails unless both are equal.
#[track_caller]
#[allow(clippy::needless_pass_by_value, reason = "a case reads better without ampersands")]
pub(crate) fn same<T: PartialEq<U> + Debug, U: Debug>(
    what: impl Display,
    seen: T,
    expected: U,
) -> Result<(), Failure> {
    if seen == expected {
        Ok(())
    } else {
        Err(failed(format!("{what}: expected {expected:?}, saw {seen:?}")))
    }
}

/// Fails unless it holds.
#[track_caller]
pub(crate) fn holds(what: impl Display, it_holds: bool) -> Result<(), Failure> {
    if it_holds { Ok(()) } else { Err(failed(format!("doesn't hold: {what}"))) }
}

/// Fails unless the call was refused with this kind of error, and surely had no effect.
#[track_caller]
pub(crate) fn refused<T: Debug>(call: Result<T, StoreError>, kind: ErrorKind) -> Result<(), Failure> {
    match call {
        Err(e) if e.kind() == kind && e.effect() == Effect::NotApplied => Ok(()),
        seen => unexpected(&format!("an error of kind {kind:?}, not applied"), seen),
    }
}

/// Fails unless whoever waits is woken, by this, within the case's patience.
#[track_caller]
pub(crate) fn woken(
    patience: Duration,
    by: impl Display,
    watch: impl Future<Output = ()>,
) -> impl Future<Output = Result<(), Failure>> {
    let at = place(Location::caller());
    async move {
        let woken = tokio::time::timeout(patience, watch).await;
        woken.map_err(|_| {
            Failure(format!("expected to be woken by {by}, and heard nothing for {patience:?}{at}"))
        })
    }
}

/// A failure with the caller's line.
#[track_caller]
pub(crate) fn failed(text: impl Display) -> Failure {
    Failure(format!("{text}{}", place(Location::caller())))
}

pub(super) fn error_at(at: &Location<'_>, error: &StoreError) -> Failure {
    Failure(format!("expected an answer, saw the error {}{}", Failure::from_error(error).0, place(at)))
}

pub(crate) fn place(at: &Location<'_>) -> String {
    // The suite's own file, wherever cargo keeps the crate.
    let file = at.file().rsplit_once("src/").map_or(at.file(), |(_, file)| file);
    format!(" [{file}:{}]", at.line())
}

#[track_caller]
fn unexpected<T>(expected: &str, seen: impl Debug) -> Result<T, Failure> {
    Err(failed(format!("expected {expected}, saw {seen:?}")))
}

pub(crate) trait Reserving {
    fn granted(self) -> Result<Grant, Failure>;
    fn replayed(self) -> Result<IdempotencyRecord, Failure>;
    /// How long the store says to wait.
    fn in_flight(self) -> Result<Duration, Failure>;
    fn conflicts(self) -> Result<(), Failure>;
    fn indeterminate(self) -> Result<Lapsed, Failure>;
}

impl Reserving for ReservationOutcome {
    #[track_caller]
    fn granted(self) -> Result<Grant, Failure> {
        match self {
            Self::Reserved(grant) => Ok(grant),
            seen => unexpected("Reserved", seen),
        }
    }
    #[track_caller]
    fn replayed(self) -> Result<IdempotencyRecord, Failure> {
        match self {
            Self::Replay(record) => Ok(record),
            seen => unexpected("Replay", seen),
        }
    }
    #[track_caller]
    fn in_flight(self) -> Result<Duration, Failure> {
        match self {
            Self::InFlight(busy) => Ok(busy.retry_after),
            seen => unexpected("InFlight", seen),
        }
    }
    #[track_caller]
    fn conflicts(self) -> Result<(), Failure> {
        match self {
            Self::Conflict => Ok(()),
            seen => unexpected("Conflict", seen),
        }
    }
    #[track_caller]
    fn indeterminate(self) -> Result<Lapsed, Failure> {
        match self {
            Self::Indeterminate(lapsed) => Ok(lapsed),
            seen => unexpected("Indeterminate", seen),
        }
    }
}

pub(crate) trait Completing {
    fn stored(self) -> Result<(), Failure>;
    fn already_stored(self) -> Result<IdempotencyRecord, Failure>;
    fn lost(self, loss: Loss) -> Result<(), Failure>;
}

impl Completing for CompleteOutcome {
    #[track_caller]
    fn stored(self) -> Result<(), Failure> {
        match self {
            Self::Stored => Ok(()),
            seen => unexpected("Stored", seen),
        }
    }
    #[track_caller]
    fn already_stored(self) -> Result<IdempotencyRecord, Failure> {
        match self {
            Self::AlreadyStored(record) => Ok(record),
            seen => unexpected("AlreadyStored", seen),
        }
    }
    #[track_caller]
    fn lost(self, loss: Loss) -> Result<(), Failure> {
        same("complete", self, Self::Lost(loss))
    }
}

pub(crate) trait Renewing {
    fn renewed(self) -> Result<Renewed, Failure>;
    fn already_stored(self) -> Result<(), Failure>;
    fn lost(self, loss: Loss) -> Result<(), Failure>;
}

impl Renewing for RenewOutcome {
    #[track_caller]
    fn renewed(self) -> Result<Renewed, Failure> {
        match self {
            Self::Renewed(renewed) => Ok(renewed),
            seen => unexpected("Renewed", seen),
        }
    }
    #[track_caller]
    fn already_stored(self) -> Result<(), Failure> {
        same("renew", self, Self::AlreadyStored)
    }
    #[track_caller]
    fn lost(self, loss: Loss) -> Result<(), Failure> {
        same("renew", self, Self::Lost(loss))
    }
}

pub(crate) trait Releasing {
    fn released(self) -> Result<(), Failure>;
    fn already_stored(self) -> Result<(), Failure>;
    fn lost(self, loss: Loss) -> Result<(), Failure>;
}

impl Releasing for ReleaseOutcome {
    #[track_caller]
    fn released(self) -> Result<(), Failure> {
        same("release", self, Self::Released)
    }
    #[track_caller]
    fn already_stored(self) -> Result<(), Failure> {
        same("release", self, Self::AlreadyStored)
    }
    #[track_caller]
    fn lost(self, loss: Loss) -> Result<(), Failure> {
        same("release", self, Self::Lost(loss))
    }
}

pub(crate) trait Found {
    fn pending(self) -> Result<PendingEntry, Failure>;
    fn completed(self) -> Result<IdempotencyRecord, Failure>;
    fn absent(self) -> Result<(), Failure>;
}

impl Found for Option<Entry> {
    #[track_caller]
    fn pending(self) -> Result<PendingEntry, Failure> {
        match self {
            Some(Entry::Pending(entry)) => Ok(entry),
            seen => unexpected("a Pending entry", seen),
        }
    }
    #[track_caller]
    fn completed(self) -> Result<IdempotencyRecord, Failure> {
        match self {
            Some(Entry::Completed(record)) => Ok(record),
            seen => unexpected("a Completed entry", seen),
        }
    }
    #[track_caller]
    fn absent(self) -> Result<(), Failure> {
        same("lookup", self, None::<Entry>)
    }
}
