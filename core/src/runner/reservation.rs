//! [`Reservation`]: a slot held by somebody who settles it by hand.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::heartbeat::Heartbeat;
use super::held::Held;
use super::hold::Hold;
use crate::error::StoreError;
use crate::outcome::{CompleteOutcome, ReleaseOutcome, RenewOutcome};
use crate::request::Completion;

/// A slot that is held, and renewed while this lives, up to the ceiling. It is settled once, by
/// [`complete`](Self::complete), [`release`](Self::release) or [`hand_over`](Self::hand_over); dropped,
/// it is left to the rest of its lease.
///
/// Under at-most-once it has said already that the work begins.
///
/// ```
/// use oncekey_core::*;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let idempotency = Idempotency::at_least_once(MemoryStore::new());
/// let slot = Principal::new("mailer")?.slot("welcome/ann")?;
/// let meaning = Fingerprint::builder("mail/v1").part("ann").finish();
///
/// match idempotency.call(&slot, meaning).reserve().await? {
///     ReservationOutcome::Reserved(reservation) => {
///         let sent = StoredResponse::new(202, "", "sent"); // the work
///         match reservation.complete(&Completion::new(sent)).await? {
///             CompleteOutcome::Stored => {}
///             other => println!("somebody else's answer stands: {other:?}"),
///         }
///     }
///     other => println!("not now: {other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropped, it keeps the slot from others for the rest of its lease"]
pub struct Reservation {
    held: Held,
    /// Dropped with it, which ends the renewing.
    _heartbeat: Heartbeat,
}

impl Reservation {
    pub(super) fn new(hold: Arc<Hold>) -> Self {
        let heartbeat = Heartbeat::start(&hold);
        Self { held: Held(hold), _heartbeat: heartbeat }
    }

    /// What the work may know of it, and save.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Stores the answer, repeated until the call deadline.
    ///
    /// # Errors
    /// [`SettleError`] gives the reservation back, renewed as before: complete it again. A response over
    /// the store's limit is [`InvalidInput`](crate::ErrorKind::InvalidInput): store it as not kept.
    pub async fn complete(self, completion: &Completion) -> Result<CompleteOutcome, SettleError> {
        match self.held.0.complete(completion, self.held.0.deadline()).await {
            Ok(outcome) => Ok(outcome),
            Err(error) => Err(SettleError::new(error, self)),
        }
    }

    /// Gives the slot back, repeated until the call deadline. Only where *nothing* was done.
    ///
    /// # Errors
    /// [`SettleError`] gives the reservation back, renewed no longer: release it again, or drop it.
    pub async fn release(self) -> Result<ReleaseOutcome, SettleError> {
        match self.held.0.release().await {
            Ok(outcome) => Ok(outcome),
            Err(error) => Err(SettleError::new(error, self)),
        }
    }

    /// Steps back: the next caller may take over at once, as a later attempt that knows that something
    /// may have been done. Under at-most-once, others hear Indeterminate. Repeated until the call
    /// deadline.
    ///
    /// # Errors
    /// [`SettleError`] gives the reservation back, renewed no longer: hand it over again, or drop it.
    pub async fn hand_over(self) -> Result<RenewOutcome, SettleError> {
        match self.held.0.hand_over().await {
            Ok(outcome) => Ok(outcome),
            Err(error) => Err(SettleError::new(error, self)),
        }
    }
}

/// A reservation could not be settled; it is inside, to settle again.
pub struct SettleError(Box<(StoreError, Reservation)>);

impl SettleError {
    fn new(error: StoreError, reservation: Reservation) -> Self {
        Self(Box::new((error, reservation)))
    }

    /// Why.
    pub fn error(&self) -> &StoreError {
        &self.0.0
    }

    /// Why, and the reservation.
    pub fn into_parts(self) -> (StoreError, Reservation) {
        *self.0
    }
}

/// Drops the reservation: the slot is left to its lease.
impl From<SettleError> for StoreError {
    fn from(error: SettleError) -> Self {
        error.into_parts().0
    }
}

impl fmt::Debug for SettleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SettleError").field(self.error()).finish()
    }
}

impl fmt::Display for SettleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error().fmt(f)
    }
}

impl Error for SettleError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error().source()
    }
}
