//! A grant with what it takes to keep and to settle it: what [`Held`](super::Held) shows the work, the
//! heartbeat renews and the runner settles.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::time::Instant;

use super::Idempotency;
use super::held::{Lost, SaveError};
use super::retry::{later, within};
use crate::checkpoint::Checkpoint;
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::outcome::{CompleteOutcome, ReleaseOutcome, RenewOutcome};
use crate::request::{Completion, Policy, Renewal};
use crate::slot::Slot;
use crate::store::IdempotencyStore;
use crate::token::Grant;

/// How far a hold has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Phase {
    /// Held, and renewed by the heartbeat.
    Beating,
    /// Held; the work asked the heartbeat to stop.
    Resting,
    /// Settled, or about to be: nothing renews it any more.
    Settled,
}

/// What the holder knows of its lease.
#[derive(Debug)]
pub(super) struct State {
    /// When the last call that gave or renewed the lease was sent.
    pub(super) renewed: Instant,
    /// When the lease ends, counted from there.
    pub(super) until: Instant,
    /// Told once by the store, and final.
    said: Option<Lost>,
    pub(super) phase: Phase,
}

impl State {
    pub(super) fn lost(&self) -> Option<Lost> {
        match self.said {
            Some(lost) => Some(lost),
            None if self.phase == Phase::Settled => Some(Lost::Settled),
            None if self.until <= Instant::now() => Some(Lost::Lapsed),
            None => None,
        }
    }
}

/// See the top of this file.
#[derive(Debug)]
pub(super) struct Hold {
    runner: Idempotency,
    pub(super) slot: Slot,
    pub(super) fingerprint: Fingerprint,
    pub(super) grant: Grant,
    pub(super) lease: Duration,
    pub(super) call_deadline: Duration,
    /// When the heartbeat stops at the latest.
    pub(super) ceiling: Instant,
    pub(super) state: watch::Sender<State>,
    /// The number of the newest checkpoint.
    pub(super) sequence: AtomicU64,
    /// One renewal at a time. Who settles takes its turn too, so that no renewal of ours is still under
    /// way then: one that arrived after a hand-over would hold the slot for nobody.
    pub(super) turn: Mutex<()>,
}

impl Hold {
    /// `sent`: when the reserve that was granted was sent, which is from when the holder counts (R10).
    pub(super) fn new(
        runner: Idempotency,
        slot: Slot,
        fingerprint: Fingerprint,
        grant: Grant,
        sent: Instant,
    ) -> Self {
        let (lease, call_deadline) = (runner.terms.lease(), runner.call_deadline);
        let (until, ceiling) = (later(sent, lease), later(sent, runner.ceiling));
        let state = State { renewed: sent, until, said: None, phase: Phase::Beating };
        // W1: numbering goes on from the inherited checkpoint; begun anew, it would be silently older.
        let sequence = AtomicU64::new(grant.checkpoint.as_ref().map_or(0, Checkpoint::sequence));
        let state = watch::Sender::new(state);
        Self {
            runner,
            slot,
            fingerprint,
            grant,
            lease,
            call_deadline,
            ceiling,
            state,
            sequence,
            turn: Mutex::new(()),
        }
    }

    /// Whether the holder has to renew before it may begin: under a `Refuse` record, to say that it
    /// begins; and where the grant's answer took so long that the lease may be over.
    pub(super) fn must_renew_first(&self) -> bool {
        self.grant.policy == Policy::Refuse || self.state.borrow().until <= Instant::now()
    }

    /// Renews before the work begins. On an error the work must not begin; after `Lost`, nothing of this
    /// grant is left, and after `Store` it has to be given back.
    pub(super) async fn begin(&self) -> Result<(), SaveError> {
        let turn = self.turn.lock().await;
        self.renew(&turn, self.lease, None, self.call_deadline).await?;
        drop(turn);
        // The answer itself may have come too late: then the record says begun, and nobody is to begin.
        let Some(lost) = self.state.borrow().lost() else { return Ok(()) };
        self.give_back().await;
        Err(SaveError::Lost(lost))
    }

    /// The work surely did not begin, though the store may believe it did: without this, an at-most-once
    /// slot would be blocked for ever by a renewal whose answer was lost.
    pub(super) async fn give_back(&self) {
        let _best_effort = self.release().await;
    }

    /// Renews for `lease`, within `patience`, in this turn.
    pub(super) async fn renew(
        &self,
        _turn: &MutexGuard<'_, ()>,
        lease: Duration,
        checkpoint: Option<Checkpoint>,
        patience: Duration,
    ) -> Result<(), SaveError> {
        if self.state.borrow().phase == Phase::Settled {
            return Err(SaveError::Lost(Lost::Settled));
        }
        let mut renewal = Renewal::extend(lease).map_err(|e| e.in_operation("renew"))?;
        if let Some(checkpoint) = checkpoint {
            renewal = renewal.with_checkpoint(checkpoint);
        }
        let renewal = &renewal;
        let (sent, outcome) = within(later(Instant::now(), patience), "renew", || async move {
            let sent = Instant::now();
            Ok((sent, self.runner.store.renew(&self.slot, &self.grant, renewal).await?))
        })
        .await?;
        let lost = match outcome {
            RenewOutcome::Renewed(_) => {
                self.state.send_modify(|state| {
                    state.renewed = sent;
                    state.until = state.until.max(later(sent, lease));
                });
                return Ok(());
            }
            RenewOutcome::AlreadyStored => Lost::Completed,
            RenewOutcome::Lost(loss) => Lost::Said(loss),
        };
        self.state.send_modify(|state| state.said = Some(lost));
        Err(SaveError::Lost(lost))
    }

    /// Ends all renewing, in clones of `Held` that outlive the work too, without waiting for anything.
    pub(super) fn settle(&self) {
        self.state.send_modify(|state| state.phase = Phase::Settled);
    }

    /// Ends all renewing, and waits out a renewal that is under way.
    async fn settle_and_wait(&self) {
        self.settle();
        drop(self.turn.lock().await);
    }

    /// Repeats the completion until `deadline`. The heartbeat goes on meanwhile.
    pub(super) async fn complete(
        &self,
        completion: &Completion,
        deadline: Instant,
    ) -> Result<CompleteOutcome, StoreError> {
        let store = &self.runner.store;
        within(deadline, "complete", || store.complete(&self.slot, &self.grant, completion)).await
    }

    pub(super) async fn release(&self) -> Result<ReleaseOutcome, StoreError> {
        self.settle_and_wait().await;
        let store = &self.runner.store;
        within(self.deadline(), "release", || store.release(&self.slot, &self.grant)).await
    }

    pub(super) async fn hand_over(&self) -> Result<RenewOutcome, StoreError> {
        self.settle_and_wait().await;
        let (store, step_back) = (&self.runner.store, Renewal::hand_over());
        within(self.deadline(), "renew", || store.renew(&self.slot, &self.grant, &step_back)).await
    }

    /// When a call that is made now is given up.
    pub(super) fn deadline(&self) -> Instant {
        later(Instant::now(), self.call_deadline)
    }

    pub(super) fn store(&self) -> &dyn IdempotencyStore {
        &*self.runner.store
    }
}
