//! How a caller waits for somebody who is at work: until the store wakes it, and looking now and then all
//! the same.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::retry::{Backoff, later, pause};
use crate::slot::Slot;
use crate::store::IdempotencyStore;
use crate::watch::Watch;

/// What goes on between two looks at a slot that somebody holds.
///
/// ```text
///   look ── held               first: a watch is made, and the next look is at once, so that no answer
///   look ── held               falls between the two
///   ┄┄┄┄┄┄┄┄┄┄ woken ─▶ look   the store wakes
///   ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄ look   or it doesn't, and the pause ends
/// ```
///
/// A watch is a hint (Q2): no wake is counted on, and none is taken for an answer.
pub(super) struct Waiting {
    until: Instant,
    watch: Option<Watch>,
    looks: Backoff,
    /// Between two looks that wakes cause: a store that wakes all the time must not be asked all the time.
    wakes: Backoff,
    next_wake: Instant,
}

impl Waiting {
    /// For a caller that waits until then.
    pub(super) fn until(until: Instant) -> Self {
        let (looks, wakes) = (Backoff::for_polls(), Backoff::for_polls());
        Self { until, watch: None, looks, wakes, next_wake: Instant::now() }
    }

    /// Whether it waits any longer.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Ends when the caller should look again: never later than a caller would that knows no watch, and
    /// not long past `hint`, when the slot may be open.
    pub(super) async fn pass(&mut self, store: &dyn IdempotencyStore, slot: &Slot, hint: Duration) {
        let watch = match self.watch.take() {
            Some(watch) => watch,
            None => {
                let watch = store.watch(slot);
                if !watch.is_never() {
                    self.watch = Some(watch);
                    return;
                }
                watch
            }
        };
        let look_at = later(Instant::now(), self.looks.next_before(hint)).min(self.until);
        if timeout_at(look_at, watch).await.is_ok() {
            // At once, the first time.
            let rest = self.next_wake.min(look_at).saturating_duration_since(Instant::now());
            if !rest.is_zero() {
                pause(rest).await;
            }
            self.next_wake = Instant::now() + self.wakes.next();
        } else {
            self.wakes = Backoff::for_polls();
        }
        // Before the next look, never after it.
        self.watch = Some(store.watch(slot));
    }
}
