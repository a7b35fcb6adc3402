//! [`Bounds`]: how much goes into one statement, how many statements go out at a time, and which slots go alone.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oncekey_core::Slot;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::error::Failure;
use crate::gather::Herd;

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
    /// Whether a caller's own task sends its call.
    pub(crate) lone: AtomicBool,
    pub(crate) herd: Herd,
    /// Statements of single calls at a time, beside the batches.
    pub(crate) singles: Semaphore,
    /// Of these, such as look whether a locked slot is free again.
    pub(crate) glances: Semaphore,
    /// Statements at a time that wait for a locked slot as long as a call does.
    pub(crate) patient: Semaphore,
    /// How long a batch waits for one lock.
    pub(crate) batch_lock_timeout: Duration,
    /// How long a single call does.
    pub(crate) lock_timeout: Duration,
    /// Slots that were locked a short while ago, and until when they go alone.
    pub(crate) locked: Mutex<HashMap<Slot, Instant>>,
    /// What went wrong last and may pass, until something goes well: for whoever gives up meanwhile.
    pub(crate) trouble: Mutex<Option<String>>,
}

impl Bounds {
    /// The lock timeout of a statement that waits for no lock: 0 would be none at all.
    pub(crate) fn at_once(&self) -> String {
        millis(Duration::ZERO)
    }

    /// The lock timeout of a batch, as a statement takes it.
    pub(crate) fn briefly(&self) -> String {
        millis(self.batch_lock_timeout)
    }

    /// That of a single call.
    pub(crate) fn patiently(&self) -> String {
        millis(self.lock_timeout)
    }

    /// That of a call which has so long left, and at least what a batch has.
    pub(crate) fn at_most(&self, rest: Duration) -> String {
        millis(rest.max(self.batch_lock_timeout))
    }

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

impl Bounds {
    pub(crate) fn failed(&self, failure: &Failure) {
        let mut trouble = held(&self.trouble);
        // What says why is worth more.
        if trouble.is_none() || !failure.is_late() {
            *trouble = Some(failure.to_string());
        }
    }

    pub(crate) fn went_well(&self) {
        *held(&self.trouble) = None;
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        held(&self.trouble).clone()
    }
}

/// As a setting of the server's: 0 would be no timeout at all.
fn millis(d: Duration) -> String {
    d.as_millis().max(1).to_string()
}

/// A lock that outlives a panic of its holder: what it guards is whole between any two statements.
pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
