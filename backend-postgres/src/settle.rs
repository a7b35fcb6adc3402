//! After a COMMIT whose answer was lost: what became of the transaction (T5).
//!
//! A reserve with the transaction's own token asks. It waits for the row while the transaction is open, and then
//! finds the answer, or nothing, or what somebody else has made of the slot since.

use oncekey_core::{
    CompleteOutcome, Completion, Effect, Entry, Fence, Grant, IdempotencyStore, InTxError, Loss,
    ReservationOutcome, ReserveRequest, Slot,
};
use tokio::time::{Instant, timeout_at};

use crate::error::Failure;
use crate::pause;
use crate::store::PostgresStore;

const ONCE: &str = "once";

/// What became of a transaction.
enum Became {
    Committed,
    /// Nothing of it is there, and the question was granted the slot.
    Nothing(Grant),
    /// Nothing of it is there, and somebody else has had the slot since.
    TakenOver,
}

impl PostgresStore {
    /// `Ok` where it was committed. What isn't there tells something only until `kept_until`: later it may have
    /// been there, and be over.
    pub(crate) async fn settle(
        &self,
        slot: &Slot,
        request: &ReserveRequest,
        grant: &Grant,
        completion: &Completion,
        kept_until: Instant,
        lost: Failure,
    ) -> Result<(), InTxError> {
        let deadline = self.deadline();
        let became = timeout_at(deadline, self.became(slot, request, grant, completion)).await;
        let tells = Instant::now() < kept_until;
        match became {
            Ok(Became::Committed) => return Ok(()),
            Ok(Became::Nothing(anew)) => {
                // Where it fails, the slot is held for one lease, by nobody.
                let released = timeout_at(deadline, self.release(slot, &anew)).await;
                drop(released);
                if tells {
                    return Err(lost.settled().into_error(ONCE, Effect::NotApplied).into());
                }
            }
            Ok(Became::TakenOver) if tells => return Err(InTxError::Lost(Loss::TakenOver)),
            Ok(Became::TakenOver) | Err(_) => {}
        }
        Err(lost.into_error(ONCE, Effect::Unknown).into())
    }

    /// Asks until it is told.
    async fn became(
        &self,
        slot: &Slot,
        request: &ReserveRequest,
        grant: &Grant,
        completion: &Completion,
    ) -> Became {
        let mut tries = 0;
        loop {
            match self.reserve_or_fetch(slot, grant.token, request).await {
                Ok(ReservationOutcome::Reserved(anew)) => return Became::Nothing(anew),
                // Whose it is, its token says, and no replay shows that.
                Ok(ReservationOutcome::Replay(_)) => match self.complete(slot, grant, completion).await {
                    Ok(CompleteOutcome::AlreadyStored(_) | CompleteOutcome::Stored) => {
                        return Became::Committed;
                    }
                    Ok(CompleteOutcome::Lost(_)) => return Became::TakenOver,
                    Err(_) => {}
                },
                Ok(ReservationOutcome::Conflict) => return Became::TakenOver,
                // The transaction may be open on the server still; but a later grant says that it isn't there.
                Ok(ReservationOutcome::InFlight(_) | ReservationOutcome::Indeterminate(_)) => {
                    let entry = self.lookup(slot).await;
                    if entry.is_ok_and(|entry| entry.is_some_and(|entry| fence_of(&entry) > grant.fence)) {
                        return Became::TakenOver;
                    }
                }
                Err(_) => {}
            }
            pause::after(tries).await;
            tries += 1;
        }
    }
}

fn fence_of(entry: &Entry) -> Fence {
    match entry {
        Entry::Pending(pending) => pending.fence,
        Entry::Completed(record) => record.fence,
    }
}
