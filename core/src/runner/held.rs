//! The slot as the work sees it: [`Held`].

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::hold::{Hold, Phase};
use crate::checkpoint::Checkpoint;
use crate::error::StoreError;
use crate::outcome::Loss;
use crate::slot::Slot;
use crate::token::{Fence, Grant};

/// The slot, as the work that holds it sees it. Cheap to clone; it may travel in a request's extensions.
///
/// ```
/// use oncekey_core::*;
///
/// # async fn charge(_account: &str, _fence: Fence) {}
/// async fn charge_all(held: Held, accounts: Vec<String>) -> Result<(), SaveError> {
///     // What a predecessor saved: how many accounts it had charged.
///     let mut done = held.checkpoint().map_or(0, |c| c.data().len());
///     while done < accounts.len() && !held.is_lost() {
///         charge(&accounts[done], held.fence()).await;
///         done += 1;
///         held.save(vec![b'x'; done]).await?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Held(pub(super) Arc<Hold>);

impl Held {
    /// Which slot.
    pub fn slot(&self) -> &Slot {
        &self.0.slot
    }

    /// What a store is shown: for a completion inside a transaction of the work's own.
    pub fn grant(&self) -> &Grant {
        &self.0.grant
    }

    /// 1 for the first holder. From 2 on, a predecessor may have done part of the work.
    pub fn attempt(&self) -> u32 {
        self.0.grant.attempt
    }

    /// Larger than that of any earlier holder: a downstream that remembers it can refuse an older one.
    pub fn fence(&self) -> Fence {
        self.0.grant.fence
    }

    /// What the predecessor saved last.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.0.grant.checkpoint.as_ref()
    }

    /// Saves `data`, at most 64 KiB, for whoever takes over; the lease is renewed with it. Checkpoints
    /// are numbered on from the inherited one, in the order of the calls.
    ///
    /// # Errors
    /// [`SaveError::Lost`] when the slot is held no longer: stop. [`SaveError::Store`] when the store
    /// gave no answer by the call deadline, or the data is too long.
    pub async fn save(&self, data: impl Into<Bytes>) -> Result<(), SaveError> {
        let sequence = self.0.sequence.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let checkpoint = Checkpoint::new(sequence, data).map_err(|e| e.in_operation("renew"))?;
        let turn = self.0.turn.lock().await;
        self.0.renew(&turn, self.0.lease, Some(checkpoint), self.0.call_deadline).await
    }

    /// Ends when the slot is no longer surely this holder's: work that can stop, stops then.
    ///
    /// [`Lost::Lapsed`] comes from the holder's own count, which begins before each call was sent
    /// (R10), on this machine's monotonic clock: time that the machine slept isn't seen.
    ///
    /// ```
    /// # use oncekey_core::*;
    /// # async fn crunch() -> u64 { 42 }
    /// async fn crunch_while_held(held: Held) -> Result<Vec<u8>, String> {
    ///     tokio::select! {
    ///         result = crunch() => Ok(result.to_le_bytes().into()),
    ///         lost = held.lost() => Err(format!("stopped: {lost}")),
    ///     }
    /// }
    /// ```
    pub async fn lost(&self) -> Lost {
        let mut state = self.0.state.subscribe();
        loop {
            let (lost, until) = {
                let state = state.borrow_and_update();
                (state.lost(), state.until)
            };
            if let Some(lost) = lost {
                return lost;
            }
            tokio::select! {
                _ = state.changed() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// Whether [`lost`](Self::lost) would end at once.
    pub fn is_lost(&self) -> bool {
        self.0.state.borrow().lost().is_some()
    }

    /// The rest of the lease by the holder's own count, which is never longer than the store's.
    pub fn lease_left(&self) -> Duration {
        self.0.state.borrow().until.saturating_duration_since(Instant::now())
    }

    /// Stops the heartbeat, and waits out a renewal that is under way. For the moment before a
    /// transaction of the work's own that completes the slot (T4): a renewal would wait for its lock.
    pub async fn stop_renewing(&self) {
        self.0.state.send_modify(|state| state.phase = state.phase.max(Phase::Resting));
        drop(self.0.turn.lock().await);
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("slot", &self.0.slot)
            .field("fence", &self.0.grant.fence)
            .field("attempt", &self.0.grant.attempt)
            .finish_non_exhaustive()
    }
}

/// Why a slot is no longer surely held.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Lost {
    /// The store said so: taken over, or gone.
    Said(Loss),
    /// It was completed for this holder: by an operator, or by a transaction of the work's own.
    Completed,
    /// The lease ran out without a renewal, by the holder's own count: somebody may have taken over, and
    /// nobody has said so. A later renewal may yet succeed.
    Lapsed,
    /// The runner has settled it: the work is over.
    Settled,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Said(Loss::Gone) => "the slot is lost: its record is gone",
            Self::Said(Loss::TakenOver) => "the slot is lost: another holder took over",
            Self::Completed => "the slot was completed already",
            Self::Lapsed => "the lease ran out before it was renewed",
            Self::Settled => "the slot was settled: the work is over",
        })
    }
}

/// Why a checkpoint was not saved.
#[derive(Debug)]
#[non_exhaustive]
pub enum SaveError {
    /// The slot is held no longer.
    Lost(Lost),
    /// The store gave no answer.
    Store(StoreError),
}

impl From<StoreError> for SaveError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(lost) => lost.fmt(f),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl Error for SaveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Lost(_) => None,
            Self::Store(error) => error.source(),
        }
    }
}
