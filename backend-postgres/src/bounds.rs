//! [`Bounds`]: how much goes into one statement, how many statements go out at a time, and which slots go alone.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oncekey_core::Slot;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How long a slot that was locked is kept out of batches after its last lock timeout.
const REMEMBERED: Duration = Duration::from_secs(5);
/// How the calls of all lanes are bounded.
#[derive(Debug)]
pub(crate) struct Bounds {
    /// Calls in one statement.
    pub(crate) batch_rows: usize,
    /// Bytes of bodies and checkpoints in one statement.
    pub(crate) batch_bytes: usize,
    /// Statements of batches at a time, over all lanes.
    pub(crate) batches: Semaphore,
    pub(crate) runners: usize,
    /// Statements of single calls at a time, beside the batches.
    pub(crate) singles: Semaphore,
    /// Statements at a time that wait for a locked slot as long as a call does.
    pub(crate) patient: Semaphore,
    /// How long a batch waits for one lock.
    pub(crate) batch_lock_timeout: String,
    /// How long a single call does.
    pub(crate) lock_timeout: String,
    /// Slots that were locked a short while ago, and until when they go alone.
    pub(crate) locked: Mutex<HashMap<Slot, Instant>>,
}

impl Bounds {
    pub(crate) fn is_locked(&self, slot: &Slot) -> bool {
        let mut locked = held(&self.locked);
        if locked.is_empty() {
            return false;
        }
        let now = Instant::now();
        locked.retain(|_, until| *until > now);
        locked.contains_key(slot)
    }

    /// Keeps the calls of `slot` out of batches for a while.
    pub(crate) fn remember(&self, slot: &Slot) {
        held(&self.locked).insert(slot.clone(), Instant::now() + REMEMBERED);
    }

    pub(crate) fn forget(&self, slot: &Slot) {
        let mut locked = held(&self.locked);
        if !locked.is_empty() {
            locked.remove(slot);
        }
    }
}

/// A lock that outlives a panic of its holder: what it guards is whole between any two statements.
pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
