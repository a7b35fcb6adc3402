//! Waking callers that wait for a running holder.
use oncekey_core::{Slot, Watch, Watchers};

use crate::connection::Link;
use crate::identifier::Table;

#[derive(Debug)]
pub(crate) struct Wake {
    watchers: Watchers,
}

impl Wake {
    pub(crate) fn new(_link: &Link, _table: &Table, _notifications: bool) -> Self {
        Self { watchers: Watchers::new() }
    }

    pub(crate) fn changed(&self, slot: &Slot) {
        self.watchers.wake(slot);
    }

    pub(crate) fn watch(&self, slot: &Slot) -> Watch {
        self.watchers.watch(slot)
    }
}
