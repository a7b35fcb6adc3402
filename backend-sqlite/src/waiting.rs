//! Who waits in this process for what its store commits.

use std::sync::{Mutex, PoisonError};

use oncekey_core::{Slot, Watchers};

use crate::store::SqliteStore;

/// Those who watch slots through a store or its clones.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) watchers: Watchers,
    /// What was completed in the transaction that [`SqliteStore::write`] has open.
    completed: Mutex<Vec<Slot>>,
}

impl SqliteStore {
    /// Wakes those who wait for a slot that was committed.
    pub(crate) fn wake(&self, slot: &Slot) {
        self.waiting().watchers.wake(slot);
    }

    /// Remembers a slot that was completed in the writer's own transaction, until that ends.
    pub(crate) fn completed_here(&self, slot: &Slot) {
        self.waiting().completed.lock().unwrap_or_else(PoisonError::into_inner).push(slot.clone());
    }

    /// What was completed in the writer's own transaction, which has ended.
    pub(crate) fn take_completed(&self) -> Vec<Slot> {
        std::mem::take(&mut *self.waiting().completed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
