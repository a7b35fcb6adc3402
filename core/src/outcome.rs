//! What an operation answers. A business result is always one of these, never an error (S7).

use std::time::Duration;

use crate::checkpoint::Checkpoint;
use crate::record::IdempotencyRecord;
use crate::token::{Fence, Grant};

/// What `reserve_or_fetch` answers. `H` is what the holder gets: a [`Grant`] from a store, and richer
/// things from what is built on one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[must_use = "only Reserved lets the caller work"]
pub enum ReservationOutcome<H = Grant> {
    /// The caller holds the slot: do the work (R1, R3, R5).
    Reserved(H),
    /// The work was done: give this answer (R9).
    Replay(IdempotencyRecord),
    /// Somebody is at work (R4).
    InFlight(InFlight),
    /// The key was used for another request (R2).
    Conflict,
    /// The holder fell silent, and the policy forbids to work again (R6).
    Indeterminate(Lapsed),
}

impl<H> ReservationOutcome<H> {
    /// The same outcome with what the holder gets in another type.
    pub fn map_reserved<T>(self, f: impl FnOnce(H) -> T) -> ReservationOutcome<T> {
        match self {
            Self::Reserved(holder) => ReservationOutcome::Reserved(f(holder)),
            Self::Replay(record) => ReservationOutcome::Replay(record),
            Self::InFlight(busy) => ReservationOutcome::InFlight(busy),
            Self::Conflict => ReservationOutcome::Conflict,
            Self::Indeterminate(lapsed) => ReservationOutcome::Indeterminate(lapsed),
        }
    }
}

/// Somebody is at work.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct InFlight {
    /// The rest of the holder's lease, rounded up to whole milliseconds, never zero.
    pub retry_after: Duration,
}

impl InFlight {
    /// For a lease with `rest` left.
    ///
    /// ```
    /// use oncekey_core::InFlight;
    /// use std::time::Duration;
    /// assert_eq!(InFlight::new(Duration::from_micros(1)).retry_after, Duration::from_millis(1));
    /// assert_eq!(InFlight::new(Duration::ZERO).retry_after, Duration::from_millis(1));
    /// ```
    pub fn new(rest: Duration) -> Self {
        let millis = u64::try_from(rest.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        Self { retry_after: Duration::from_millis(millis.max(1)) }
    }
}

/// A holder that began, or may have begun, and fell silent.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Lapsed {
    /// Its fence.
    pub fence: Fence,
    /// Its attempt.
    pub attempt: u32,
    /// The last that it saved.
    pub checkpoint: Option<Checkpoint>,
    /// How long ago its lease ended; none after a hand-over, or a release that kept the doubt (L2).
    pub lapsed_for: Option<Duration>,
}

impl Lapsed {
    /// As a store gives it.
    pub fn new(
        fence: Fence,
        attempt: u32,
        checkpoint: Option<Checkpoint>,
        lapsed_for: Option<Duration>,
    ) -> Self {
        Self { fence, attempt, checkpoint, lapsed_for }
    }
}

/// Why a grant is held no longer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Loss {
    /// The record is gone: expired, released, or purged.
    Gone,
    /// Another grant holds it, or completed it.
    TakenOver,
}

/// What `complete` answers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[must_use = "only Stored and AlreadyStored mean that an answer of this grant is kept"]
pub enum CompleteOutcome {
    /// This response is the answer (C1, C2, C5).
    Stored,
    /// This grant has stored an answer already, or an operator did for it; here it is (C3).
    AlreadyStored(IdempotencyRecord),
    /// Nothing was written (C4).
    Lost(Loss),
}

/// What `renew` answers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[must_use = "a holder that lost its slot has to stop"]
pub enum RenewOutcome {
    /// The grant is held (W1), or handed over (W4).
    Renewed(Renewed),
    /// This grant has stored an answer already (W2).
    AlreadyStored,
    /// The grant is held no longer (W3).
    Lost(Loss),
}

/// What a renewal left.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Renewed {
    /// The rest of the lease; zero after a hand-over.
    pub lease_left: Duration,
    /// The sequence of the checkpoint that is stored now; 0 where there is none.
    pub sequence: u64,
}

impl Renewed {
    /// As a store gives it.
    pub fn new(lease_left: Duration, sequence: u64) -> Self {
        Self { lease_left, sequence }
    }
}

/// What `release` answers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[must_use = "a completed record is never released"]
pub enum ReleaseOutcome {
    /// The slot is free (L1, L4), or lapsed at once where a predecessor's doubt stays (L2).
    Released,
    /// This grant has stored an answer: it stays (L3).
    AlreadyStored,
    /// The grant is held no longer (L5).
    Lost(Loss),
}
