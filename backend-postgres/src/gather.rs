//! [`Lane`]: the calls of one kind that wait, and the runners that take all of them into one statement.
//!
//! ```text
//!  call A ──▶┐                      ┌─ A's answer
//!  call B ──▶┤ queue ▶ one statement of all that waits, on one of a few connections ─┼─ B's answer
//!  call C ──▶┘                      └─ C's answer
//! ```
//!
//! No timer gathers: whatever arrived while the statements before were under way goes into the next, with those
//! that the runtime has ready to come in. A lone call finds an idle connection and goes out at once, by itself,
//! in its caller's own task ([`Lone`]).
//!
//! **No caller is in the way of its statement.** A runner is a task of its own, which nobody drops half-way:
//! a caller that goes away leaves an answer that nobody hears, and no connection with half an exchange on it.
//! A call that nobody waits for any longer, and that hasn't begun, is left out.
//!
//! **One alone.** A batch waits for locks only briefly. When it can't have one, or when a row of it makes it
//! fail, it has changed nothing, and each of its calls goes out again as a statement of its own, beside the
//! batches ([`aside`]). A slot that was locked is remembered for a while: its calls don't join a batch, so that an
//! open transaction on one slot holds up no other.

mod aside;
mod herd;
mod lone;
mod progress;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use oncekey_core::{Effect, Slot, StoreError};
use sqlx::Postgres;
use sqlx::error::BoxDynError;
use sqlx::pool::PoolConnection;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::bounds::{Bounds, held};
use crate::connection::Link;
use crate::error::{Failure, Next, gone, too_late};
use crate::operation::{Operation, Row};
use crate::pause;
use herd::OnItsWay;
use lone::Lone;

pub(crate) use herd::Herd;
pub(crate) use progress::Progress;

struct Call<O: Operation> {
    slot: Slot,
    asked: O::Asked,
    since: Instant,
    progress: Progress,
    reply: oneshot::Sender<Answer<O>>,
}

struct Answer<O: Operation> {
    said: Result<O::Said, Refused>,
    /// What is unknown once this is heard, and not a moment sooner: who hears it too late hears of a statement under way.
    before: Effect,
    /// Where others were answered with it: that its caller hasn't run yet.
    _unaware: Option<OnItsWay>,
}

impl<O: Operation> Call<O> {
    fn answer(self, said: Result<O::Said, StoreError>, before: Effect, unaware: Option<OnItsWay>) {
        let said = said.map_err(Refused::Failed);
        let _ = self.reply.send(Answer { said, before, _unaware: unaware });
    }

    fn refuse(self, failure: &Failure, operation: &O) {
        let before = self.progress.effect();
        let error = failure.to_error(operation.name(), before);
        let refused =
            if failure.next == Next::Locked { Refused::Locked(error) } else { Refused::Failed(error) };
        let _ = self.reply.send(Answer { said: Err(refused), before, _unaware: None });
    }
}

/// Why a call has no answer.
pub(crate) enum Refused {
    /// Somebody's open transaction held the slot's row for as long as a call waits (T3).
    Locked(StoreError),
    Failed(StoreError),
}

/// For calls other than a reserve it is an error like any other.
impl From<Refused> for StoreError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Locked(error) | Refused::Failed(error) => error,
        }
    }
}

/// The queue of one kind of call. Cheap to clone.
pub(crate) struct Lane<O: Operation>(Arc<Shared<O>>);

struct Shared<O: Operation> {
    operation: O,
    link: Link,
    bounds: Arc<Bounds>,
    queue: Mutex<Queue<O>>,
    /// The calls that go alone, by their slots: each is sent when those before it have been.
    aside: Mutex<HashMap<Slot, VecDeque<Call<O>>>>,
    /// That there may be enough for a batch.
    more: Notify,
}

struct Queue<O: Operation> {
    waiting: VecDeque<Call<O>>,
    runners: usize,
    /// How many calls the last statement had: whoever came alone is likely to come alone again.
    last: usize,
    /// Failures in a row that may pass.
    failures: u32,
}

impl<O: Operation> Clone for Lane<O> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<O: Operation> fmt::Debug for Lane<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("operation", &self.0.operation.name()).finish_non_exhaustive()
    }
}

impl<O: Operation> Lane<O> {
    pub(crate) fn new(operation: O, link: Link, bounds: Arc<Bounds>) -> Self {
        let queue = Mutex::new(Queue { waiting: VecDeque::new(), runners: 0, last: 1, failures: 0 });
        let aside = Mutex::default();
        Self(Arc::new(Shared { operation, link, bounds, queue, aside, more: Notify::new() }))
    }

    pub(crate) fn operation(&self) -> &O {
        &self.0.operation
    }

    /// Asks, and waits for the answer until the deadline.
    pub(crate) async fn call(
        &self,
        slot: &Slot,
        asked: O::Asked,
        deadline: Instant,
        progress: &Progress,
    ) -> Result<O::Said, Refused> {
        let name = self.0.operation.name();
        let _counted = self.0.bounds.herd.call();
        let (reply, answer) = oneshot::channel();
        let call =
            Call { slot: slot.clone(), asked, since: Instant::now(), progress: progress.clone(), reply };
        let lone = if self.0.bounds.is_locked(slot) {
            self.0.aside(call);
            None
        } else {
            self.0.enqueue(call)
        };
        let answered = async {
            if let Some(lone) = lone {
                lone.await;
            }
            answer.await
        };
        match timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => {
                progress.set(answer.before);
                answer.said
            }
            Ok(Err(_)) => Err(Refused::Failed(gone(name, progress.effect()))),
            Err(_) => {
                let (effect, trouble) = (progress.given_up(), self.0.bounds.trouble());
                Err(Refused::Failed(too_late(name, effect, trouble.as_deref())))
            }
        }
    }
}

impl<O: Operation> Shared<O> {
    /// Puts the call where a runner finds it, or, if there is nobody else, gives the caller its statement.
    fn enqueue(self: &Arc<Self>, mut call: Call<O>) -> Option<Lone> {
        let mut queue = held(&self.queue);
        if queue.runners == 0 && queue.waiting.is_empty() && queue.last == 1 {
            call = match self.lone(call) {
                Ok(lone) => return Some(lone),
                Err(call) => call,
            };
        }
        queue.waiting.push_back(call);
        if queue.waiting.len() >= self.bounds.herd.share() {
            self.more.notify_one();
        }
        self.start(queue);
        None
    }

    /// Starts a runner, if there is work and a place for one.
    fn start(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue<O>>) {
        if !queue.waiting.is_empty() && queue.runners < self.bounds.runners {
            queue.runners += 1;
            drop(queue);
            tokio::spawn(Runner { shared: Arc::clone(self), counted: true }.run());
        }
    }

    /// Whether somebody waits, for whom there is no connection yet.
    fn is_awaited(&self, so_far: &Failure) -> bool {
        self.bounds.failed(so_far);
        held(&self.queue).waiting.iter().any(|call| !call.reply.is_closed())
    }

    /// Takes what waits, up to the bounds, in the order of the slots. The second of two calls for one slot
    /// waits for the next batch: a statement changes a row once. One for a slot that has turned out to be locked
    /// meanwhile goes alone.
    fn take(self: &Arc<Self>) -> Vec<Call<O>> {
        let mut queue = held(&self.queue);
        let (mut batch, mut aside): (Vec<Call<O>>, Vec<Call<O>>) = Default::default();
        let mut bytes = 0;
        let most = self.bounds.batch_rows.min(self.bounds.herd.share());
        while batch.len() < most {
            let Some(next) = queue.waiting.front() else { break };
            let weight = self.operation.weight(&next.asked);
            if !batch.is_empty() && bytes + weight > self.bounds.batch_bytes {
                break;
            }
            let Some(next) = queue.waiting.pop_front() else { break };
            if next.reply.is_closed() {
                continue;
            }
            if self.bounds.is_locked(&next.slot) {
                aside.push(next);
                continue;
            }
            bytes += weight;
            batch.push(next);
        }
        // Stable: of two calls for one slot, the one that came first goes first.
        batch.sort_by(|a, b| a.slot.cmp(&b.slot));
        let mut kept: Vec<Call<O>> = Vec::with_capacity(batch.len());
        let mut later = Vec::new();
        for call in batch {
            match kept.last() {
                Some(last) if last.slot == call.slot => later.push(call),
                _ => kept.push(call),
            }
        }
        for call in later.into_iter().rev() {
            queue.waiting.push_front(call);
        }
        queue.last = kept.len();
        self.start(queue);
        for call in aside {
            self.aside(call);
        }
        kept
    }

    /// Sends these as one statement. What it says of each, and the connection; or the failure, and the
    /// connection if it is still good.
    async fn send(
        &self,
        connection: PoolConnection<Postgres>,
        batch: &[Call<O>],
        lock_timeout: &str,
    ) -> Result<Sent<O>, (Failure, Option<PoolConnection<Postgres>>)> {
        let rows: Vec<_> = batch.iter().map(|call| Row { slot: &call.slot, asked: &call.asked }).collect();
        let (operation, micros) = (&self.operation, self.link.offset.micros());
        let alone = match &rows[..] {
            [row] => operation.alone(row, micros, lock_timeout),
            _ => None,
        };
        let bound = alone.unwrap_or_else(|| {
            operation.bind(&rows, micros, lock_timeout).map(|arguments| (operation.sql(), arguments))
        });
        let (sql, arguments) = match bound {
            Ok(bound) => bound,
            Err(error) => return Err((unbound(error), Some(connection))),
        };
        let (found, connection) = self.link.run(connection, sql, arguments).await?;
        Ok((operation.read(&rows, &found), connection))
    }
}

/// What a statement said of each of its calls, and the connection that it ran on.
type Sent<O> = (Vec<Result<<O as Operation>::Said, StoreError>>, PoolConnection<Postgres>);

fn unbound(error: BoxDynError) -> Failure {
    Failure::of(sqlx::Error::Encode(error)).not_applied()
}

/// A task that empties a lane's queue. Dropped half-way, with its runtime, it gives its place up.
struct Runner<O: Operation> {
    shared: Arc<Shared<O>>,
    /// Whether it is among the queue's runners.
    counted: bool,
}

impl<O: Operation> Drop for Runner<O> {
    fn drop(&mut self) {
        if self.counted {
            held(&self.shared.queue).runners -= 1;
        }
    }
}

impl<O: Operation> Runner<O> {
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut connection = None;
        while self.is_wanted() {
            let permit = match shared.bounds.batches.try_acquire() {
                Ok(permit) => permit,
                Err(_) => {
                    // Whoever has a permit needs a connection: nobody waits for one with the other in hand.
                    connection = None;
                    match shared.bounds.batches.acquire().await {
                        Ok(permit) => permit,
                        Err(_) => return,
                    }
                }
            };
            let got = match connection.take().or_else(|| shared.link.kept()) {
                Some(connection) => Ok(connection),
                None => shared.link.connection_while(|so_far| shared.is_awaited(so_far)).await,
            };
            connection = match got {
                Ok(connection) => {
                    let is_enough = || held(&shared.queue).waiting.len() >= shared.bounds.herd.share();
                    shared.bounds.herd.is_back(&shared.more, is_enough).await;
                    // What waits is taken now, and not before there is a connection to send it on.
                    let batch = shared.take();
                    if batch.is_empty() { Some(connection) } else { self.batch(connection, batch).await }
                }
                Err(failure) => {
                    self.unreachable(&failure);
                    None
                }
            };
            // Kept for as long as calls come, it would be kept from everybody else who shares a small pool.
            if shared.link.is_scarce() {
                connection = None;
            }
            drop(permit);
            let failures = held(&shared.queue).failures;
            if failures > 0 {
                pause::after(failures - 1).await;
            }
        }
        if let Some(connection) = connection {
            shared.link.keep(connection);
        }
    }

    /// Whether somebody waits. If nobody does, the place is given up under the same lock: a call that comes
    /// a moment later starts a runner of its own.
    fn is_wanted(&mut self) -> bool {
        let mut queue = held(&self.shared.queue);
        while queue.waiting.front().is_some_and(|call| call.reply.is_closed()) {
            queue.waiting.pop_front();
        }
        if queue.waiting.is_empty() {
            queue.runners -= 1;
            queue.failures = 0;
            self.counted = false;
        }
        self.counted
    }

    /// No connection: what may pass is waited for, and the rest is everybody's answer.
    fn unreachable(&self, failure: &Failure) {
        let mut queue = held(&self.shared.queue);
        if failure.next == Next::Retry {
            queue.failures += 1;
            self.shared.bounds.failed(failure);
            return;
        }
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        for call in waiting {
            call.refuse(failure, &self.shared.operation);
        }
    }

    /// Runs one batch; the connection, if it is still good.
    async fn batch(
        &self,
        connection: PoolConnection<Postgres>,
        batch: Vec<Call<O>>,
    ) -> Option<PoolConnection<Postgres>> {
        let shared = &self.shared;
        let begun = batch.into_iter().filter_map(|call| Some((call.progress.begin(&call.reply)?, call)));
        let (before, batch): (Vec<Effect>, Vec<Call<O>>) = begun.unzip();
        if batch.is_empty() {
            return Some(connection);
        }
        let briefly = shared.bounds.briefly();
        let (failure, connection) = match shared.send(connection, &batch, &briefly).await {
            Ok((said, connection)) => {
                held(&shared.queue).failures = 0;
                shared.bounds.went_well();
                // All of them before the first can run.
                let all = batch.len();
                let herd: Vec<_> = (0..all).map(|_| (all > 1).then(|| shared.bounds.herd.answer())).collect();
                for (((call, said), before), unaware) in batch.into_iter().zip(said).zip(before).zip(herd) {
                    call.answer(said, before, unaware);
                }
                return Some(connection);
            }
            Err(failed) => failed,
        };
        for (call, before) in batch.iter().zip(before) {
            call.progress.set(before.max(failure.effect));
        }
        match failure.next {
            Next::Retry => {
                let mut queue = held(&shared.queue);
                queue.failures += 1;
                shared.bounds.failed(&failure);
                for call in batch.into_iter().rev() {
                    queue.waiting.push_front(call);
                }
            }
            // Nothing of it was applied. A batch of one that was locked waited only briefly.
            Next::Locked if batch.len() == 1 => {
                for call in batch {
                    shared.bounds.remember(&call.slot);
                    shared.aside(call);
                }
            }
            Next::Locked | Next::Isolate if batch.len() > 1 => {
                for call in batch {
                    shared.aside(call);
                }
            }
            Next::Locked | Next::Isolate | Next::Give => {
                for call in batch {
                    call.refuse(&failure, &shared.operation);
                }
            }
        }
        connection
    }
}
