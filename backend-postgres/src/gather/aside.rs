//! Calls beside the batches: their slot was locked, or their batch failed. Those of one slot stand in a line.
//!
//! ```text
//!  slot a: A1 ▶ A2 ▶ A3    one statement at a time: what keeps A1 waiting keeps A2 waiting too,
//!  slot b: B1              and who has waited for as long as a call does is told what A1 is told
//! ```
//!
//! So a crowd before one locked slot takes one connection, and not all there are; and a line whose slot has not
//! turned out to be locked, or is free again, never stands behind those that wait for a lock.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use oncekey_core::{Slot, StoreError};
use tokio::time::timeout;

use super::{Call, Refused, Shared};
use crate::bounds::held;
use crate::error::{Failure, Next, too_late};
use crate::operation::Operation;
use crate::pause;

/// A task that sends the calls of one slot one by one. Dropped half-way, with its runtime, it lets them go.
struct Line<O: Operation> {
    shared: Arc<Shared<O>>,
    slot: Slot,
    is_over: bool,
}

/// How the statement of a call may wait for its lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// As a batch does: on a place that is soon free again.
    Briefly,
    /// As long as a call does, on one of the places for that: its slot is locked.
    Patiently,
}

impl<O: Operation> Drop for Line<O> {
    fn drop(&mut self) {
        if !self.is_over {
            held(&self.shared.aside).remove(&self.slot);
        }
    }
}

impl<O: Operation> Shared<O> {
    /// Sends it by itself, after those for its slot that came before.
    pub(super) fn aside(self: &Arc<Self>, call: Call<O>) {
        let slot = call.slot.clone();
        match held(&self.aside).entry(slot.clone()) {
            Entry::Occupied(mut line) => line.get_mut().push_back(call),
            Entry::Vacant(place) => {
                place.insert(VecDeque::from([call]));
                tokio::spawn(Line { shared: Arc::clone(self), slot, is_over: false }.run());
            }
        }
    }
}

impl<O: Operation> Line<O> {
    async fn run(mut self) {
        let (mut wait, mut failures) = (Wait::Briefly, 0);
        while let Some(call) = self.first() {
            let batch = [call];
            let sent = self.send(&batch, wait).await;
            let [call] = batch;
            let failure = match sent {
                Ok(said) => {
                    let _ = call.reply.send((said.map_err(Refused::Failed), None));
                    (wait, failures) = (Wait::Briefly, 0);
                    continue;
                }
                Err(failure) => failure,
            };
            match failure.next {
                Next::Retry => {
                    self.shared.bounds.failed(&failure);
                    self.put_back(call);
                    pause::after(failures).await;
                    failures += 1;
                }
                Next::Locked if wait == Wait::Briefly => {
                    self.shared.bounds.remember(&self.slot);
                    self.put_back(call);
                    wait = Wait::Patiently;
                }
                Next::Locked => {
                    self.shared.bounds.remember(&self.slot);
                    self.refuse(call, &failure);
                    while let Some(call) = self.first_that_waited() {
                        self.refuse(call, &failure);
                    }
                }
                Next::Isolate | Next::Give => self.refuse(call, &failure),
            }
        }
    }

    /// The first that anybody still waits for. Where there is none, the line is over, under the same lock: a call
    /// that comes a moment later begins one of its own.
    fn first(&mut self) -> Option<Call<O>> {
        let mut aside = held(&self.shared.aside);
        let line = aside.get_mut(&self.slot)?;
        while let Some(call) = line.pop_front() {
            if !call.reply.is_closed() {
                return Some(call);
            }
        }
        aside.remove(&self.slot);
        self.is_over = true;
        None
    }

    /// The first, if it has waited for as long as a call does.
    fn first_that_waited(&self) -> Option<Call<O>> {
        let mut aside = held(&self.shared.aside);
        let line = aside.get_mut(&self.slot)?;
        let waited = line.front().is_some_and(|call| self.rest(call).is_zero());
        if waited { line.pop_front() } else { None }
    }

    fn put_back(&self, call: Call<O>) {
        if let Some(line) = held(&self.shared.aside).get_mut(&self.slot) {
            line.push_front(call);
        }
    }

    fn refuse(&self, call: Call<O>, failure: &Failure) {
        let error = failure.to_error(self.shared.operation.name(), call.progress.effect());
        let refused =
            if failure.next == Next::Locked { Refused::Locked(error) } else { Refused::Failed(error) };
        let _ = call.reply.send((Err(refused), None));
    }

    /// How long a call may wait yet for its lock. What it waited for those before it counts.
    fn rest(&self, call: &Call<O>) -> Duration {
        self.shared.bounds.lock_timeout.saturating_sub(call.since.elapsed())
    }

    /// One statement for one call.
    async fn send(&self, batch: &[Call<O>; 1], wait: Wait) -> Result<Result<O::Said, StoreError>, Failure> {
        let (shared, bounds, call) = (&self.shared, &self.shared.bounds, &batch[0]);
        let (place, lock_timeout) = match wait {
            Wait::Briefly => (bounds.singles.acquire().await.ok(), bounds.briefly()),
            Wait::Patiently => {
                let place = timeout(self.rest(call), bounds.patient.acquire()).await;
                (place.ok().and_then(Result::ok), bounds.at_most(self.rest(call)))
            }
        };
        // It was locked when it was tried last, and those who wait for other slots leave no place to wait for it.
        let _place = place.ok_or_else(Failure::locked)?;
        let connection = shared
            .link
            .connection_while(|so_far| {
                bounds.failed(so_far);
                !call.reply.is_closed()
            })
            .await?;
        let before = call.progress.effect();
        match shared.send(connection, batch, &lock_timeout).await {
            Ok((mut said, _)) => {
                bounds.went_well();
                bounds.forget(&self.slot);
                // Answered: what is unknown is what came before this.
                call.progress.set(before);
                let silent = || Err(too_late(shared.operation.name(), before, None));
                Ok(said.pop().unwrap_or_else(silent))
            }
            Err((failure, _)) => {
                call.progress.set(before.max(failure.effect));
                Err(failure)
            }
        }
    }
}
