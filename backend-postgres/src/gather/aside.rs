//! Calls beside the batches: their slot was locked, or their batch failed. Those of one slot stand in a line.
//!
//! ```text
//!  slot a: A1 ▶ A2 ▶ A3    one statement at a time: what keeps A1 waiting keeps A2 waiting too,
//!  slot b: B1              and who has waited for as long as a call does is told what A1 is told
//! ```
//!
//! So a crowd before one locked slot takes one connection, and not all there are. Where more slots are locked than may
//! keep a connection each, the others are looked at now and then, by statements that wait for nothing: nobody is told
//! that his slot is locked by whom it wasn't asked for him.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use oncekey_core::Slot;
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use super::{Call, Shared};
use crate::bounds::held;
use crate::error::{Failure, Next};
use crate::operation::Operation;
use crate::pause;

/// Calls of one line that are sent one after another on one connection: then it is another line's turn.
const TURN: usize = 64;
/// The first pause between two looks at a locked slot; each further one is twice as long, up to the last.
const FIRST: Duration = Duration::from_millis(10);
const LAST: Duration = Duration::from_millis(320);

/// A task that sends the calls of one slot one by one. Dropped half-way, with its runtime, it lets them go.
struct Line<O: Operation> {
    shared: Arc<Shared<O>>,
    slot: Slot,
    is_over: bool,
}

/// How the statement of a call may wait for its lock.
enum Wait<'a> {
    /// Not at all: its batch failed, for another's sake perhaps, and whoever waits keeps the others' places.
    Alone,
    /// Nor where the slot was locked a moment ago: it is looked at whether it still is.
    Glance,
    /// As long as a call does, on one of the places for that.
    Patiently { _place: SemaphorePermit<'a> },
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
        let is_first = match held(&self.aside).entry(slot.clone()) {
            Entry::Occupied(mut line) => {
                line.get_mut().push_back(call);
                false
            }
            Entry::Vacant(place) => {
                place.insert(VecDeque::from([call]));
                true
            }
        };
        if is_first {
            // Not under the lock: a runtime that is ending drops the task at once.
            let line = Line { shared: Arc::clone(self), slot, is_over: false };
            tokio::spawn(line.run());
        }
    }
}

impl<O: Operation> Line<O> {
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let bounds = &shared.bounds;
        let (mut failures, mut pause) = (0, FIRST);
        let slot = self.slot.clone();
        let at_first = || if bounds.is_locked(&slot) { Wait::Glance } else { Wait::Alone };
        let mut wait = at_first();
        while let Some(call) = self.first() {
            let was_patient = matches!(wait, Wait::Patiently { .. });
            let Err((call, failure)) = self.turn(call, wait).await else {
                (wait, failures, pause) = (Wait::Alone, 0, FIRST);
                continue;
            };
            wait = at_first();
            match failure.next {
                Next::Retry => {
                    bounds.failed(&failure);
                    self.put_back(call);
                    pause::after(failures).await;
                    failures += 1;
                }
                Next::Locked => {
                    bounds.remember(&slot);
                    wait = Wait::Glance;
                    let rest = self.rest(&call);
                    if was_patient || rest.is_zero() {
                        call.refuse(&failure, &shared.operation);
                        while let Some(call) = self.first_that_waited() {
                            call.refuse(&failure, &shared.operation);
                        }
                    } else {
                        self.put_back(call);
                    }
                    if let Ok(place) = bounds.patient.try_acquire() {
                        wait = Wait::Patiently { _place: place };
                    } else {
                        pause::until(Instant::now() + pause.min(rest)).await;
                        pause = (2 * pause).min(LAST);
                    }
                }
                Next::Isolate | Next::Give => call.refuse(&failure, &shared.operation),
            }
        }
    }

    /// The first that anybody still waits for. Where there is none, the line is over, under the same lock: a call
    /// that comes a moment later begins one of its own.
    fn first(&mut self) -> Option<Call<O>> {
        if self.is_over {
            return None;
        }
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

    /// How long a call may wait yet for its lock. What it waited for those before it counts.
    fn rest(&self, call: &Call<O>) -> Duration {
        self.shared.bounds.lock_timeout.saturating_sub(call.since.elapsed())
    }

    /// Sends and answers this call, and those behind it, until one fails, or it is another line's turn.
    async fn turn(&mut self, first: Call<O>, wait: Wait<'_>) -> Result<(), (Call<O>, Failure)> {
        let shared = Arc::clone(&self.shared);
        let bounds = &shared.bounds;
        // Slots that are known to be locked leave places to calls whose batch failed for another's sake.
        let _glance = match wait {
            Wait::Glance => bounds.glances.acquire().await.ok(),
            Wait::Alone | Wait::Patiently { .. } => None,
        };
        let _single = match wait {
            Wait::Alone | Wait::Glance => bounds.singles.acquire().await.ok(),
            Wait::Patiently { .. } => None,
        };
        let wanted = |so_far: &_| {
            bounds.failed(so_far);
            !first.reply.is_closed()
        };
        let mut connection = match shared.link.connection_while(wanted).await {
            Ok(connection) => connection,
            Err(failure) => return Err((first, failure)),
        };
        let mut next = Some(first);
        for _ in 0..TURN {
            let Some(call) = next.take().or_else(|| self.first()) else { break };
            let lock_timeout = match wait {
                Wait::Alone | Wait::Glance => bounds.at_once(),
                Wait::Patiently { .. } => bounds.at_most(self.rest(&call)),
            };
            connection = self.send(connection, call, &lock_timeout).await?;
        }
        Ok(())
    }

    /// One statement for one call, which it answers; the connection.
    async fn send(
        &self,
        connection: PoolConnection<Postgres>,
        call: Call<O>,
        lock_timeout: &str,
    ) -> Result<PoolConnection<Postgres>, (Call<O>, Failure)> {
        let (shared, bounds) = (&self.shared, &self.shared.bounds);
        let Some(before) = call.progress.begin(&call.reply) else { return Ok(connection) };
        let batch = [call];
        let sent = shared.send(connection, &batch, lock_timeout).await;
        let [call] = batch;
        match sent {
            Ok((mut said, connection)) => {
                bounds.went_well();
                bounds.forget(&self.slot);
                // As many answers as calls.
                if let Some(said) = said.pop() {
                    call.answer(said, before, None);
                }
                Ok(connection)
            }
            Err((failure, _)) => {
                call.progress.set(before.max(failure.effect));
                Err((call, failure))
            }
        }
    }
}
