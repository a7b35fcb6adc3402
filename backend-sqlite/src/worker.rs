//! One thread that owns one connection, and the bounded queue before it.
//!
//! ```text
//!  call A ──▶┐                       ┌─ A's answer
//!  call B ──▶┤ queue ▶ BEGIN IMMEDIATE · A · B · C · COMMIT ─┼─ B's answer
//!  call C ──▶┘                       └─ C's answer
//! ```
//!
//! No timer gathers: whatever arrived while the last transaction was under way goes into the next. Callers
//! that were just answered often come back at once, so that a thread which took the first of them alone
//! would pay two flushes for one: after a shared transaction it looks a few times more, as long as calls
//! keep arriving. A lone caller never waits for others. A call that fails alone is isolated: its batch is rolled back, and each call of it runs in a transaction of its
//! own. Answers leave after COMMIT said yes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use oncekey_core::{Clock, Effect, ErrorKind, Slot, StoreError, Timestamp, Watchers};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::calls::Ran;
use crate::error::{closed, gone, is_busy, store_error};

/// Calls in the queue, before callers wait to enter it. A call in the queue shares its bytes with its
/// caller, so that the queue adds none.
const QUEUE: usize = 1_024;
/// Calls in one transaction.
const BATCH_CALLS: usize = 512;
/// Bytes of bodies in one transaction, written or about to be answered: a long one would make everybody
/// wait, and replays are held in memory until COMMIT.
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// How long one try for the write lock waits, before calls whose deadline passed are answered.
pub(crate) const LOCK_SLICE: Duration = Duration::from_millis(250);
/// How long an idle thread looks at its queue, yielding, before it goes to sleep. A caller that completes
/// what it just reserved is back within some 100 us, most of it its own waking; to be woken as well would
/// cost as much again: at 50 us a lone caller's cycle ran at 0.57 of the bare loop's rate, at 250 at 0.75.
const LINGER: Duration = Duration::from_micros(250);
/// How long it looks for one more call that may share a transaction, where the last one was shared: a
/// small part of a flush.
const GATHER: Duration = Duration::from_micros(50);

/// What the thread is asked to do.
pub(crate) enum Job {
    /// One of many in a transaction.
    Call(Box<dyn Call>),
    /// Something with the connection to itself.
    Alone(Box<dyn FnOnce(&mut Connection) + Send>),
    /// Answer what was accepted, close the connection, and say so.
    Close(oneshot::Sender<()>),
}

/// A call that can share a transaction. It may run twice: when its batch was rolled back.
pub(crate) trait Call: Send {
    /// When its caller gives up.
    fn deadline(&self) -> Instant;
    /// How many bytes it writes, about.
    fn weight(&self) -> usize;
    /// How many bytes its answer holds, once it ran.
    fn answer_weight(&self) -> usize;
    /// Whether nobody waits for the answer any longer. Then it needn't begin (S8).
    fn is_abandoned(&self) -> bool;
    /// Runs the statements, under the write lock.
    fn run(&mut self, db: &Connection, clock: &Clock) -> rusqlite::Result<()>;
    /// Its transaction was committed: its answer holds.
    fn committed(self: Box<Self>);
    /// Its transaction failed.
    fn failed(self: Box<Self>, effect: Effect, error: rusqlite::Error);
    /// The write lock could not be had by its deadline; `effect` is that of its tries before.
    fn overdue(self: Box<Self>, db: &Connection, clock: &Clock, effect: Effect);
}

/// What a call weighs.
pub(crate) struct Weight<A> {
    /// Bytes that it writes, about.
    pub(crate) sent: usize,
    /// Bytes that its answer holds.
    pub(crate) answered: fn(&A) -> usize,
}

/// The one shape of [`Call`]: a closure over the arguments, and the way back.
pub(crate) struct Gathered<A, R, O> {
    pub(crate) name: &'static str,
    pub(crate) deadline: Instant,
    pub(crate) weight: Weight<A>,
    pub(crate) run: R,
    /// What to answer when the lock could not be had; by default that it timed out.
    pub(crate) overdue: O,
    /// Who waits for its slot, where it may end their waiting: woken after COMMIT.
    pub(crate) wakes: Option<(Watchers, Slot)>,
    pub(crate) answer: Option<Result<A, StoreError>>,
    pub(crate) reply: oneshot::Sender<Result<A, StoreError>>,
}

impl<A, R, O> Call for Gathered<A, R, O>
where
    A: Send,
    R: FnMut(&Connection, Timestamp) -> Ran<A> + Send,
    O: FnOnce(&Connection, Timestamp) -> Option<Result<A, StoreError>> + Send,
{
    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn weight(&self) -> usize {
        self.weight.sent
    }

    fn answer_weight(&self) -> usize {
        let answered = self.weight.answered;
        self.answer.as_ref().and_then(|answer| answer.as_ref().ok()).map_or(0, answered)
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn run(&mut self, db: &Connection, clock: &Clock) -> rusqlite::Result<()> {
        // The clock is read here, under the lock: a lease counts from its write (R10).
        self.answer = Some((self.run)(db, clock.now())?);
        Ok(())
    }

    fn committed(self: Box<Self>) {
        let answer = self.answer.unwrap_or_else(|| Err(gone(self.name)));
        // Here and not where the caller hears it: a caller that went away has written all the same.
        if let (Ok(_), Some((watchers, slot))) = (&answer, &self.wakes) {
            watchers.wake(slot);
        }
        // Whoever stopped waiting finds out by asking again (S6).
        let _ = self.reply.send(answer);
    }

    fn failed(self: Box<Self>, effect: Effect, error: rusqlite::Error) {
        let _ = self.reply.send(Err(store_error(self.name, effect, error)));
    }

    fn overdue(self: Box<Self>, db: &Connection, clock: &Clock, effect: Effect) {
        let answer = (self.overdue)(db, clock.now()).unwrap_or_else(|| {
            let message = "another connection held the database's write lock until the deadline";
            Err(StoreError::new(ErrorKind::Timeout, self.name, effect, message))
        });
        let _ = self.reply.send(answer);
    }
}

/// The way to a thread. Clones share it; it ends when the last is dropped, or at [`Worker::close`].
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    queue: mpsc::Sender<Job>,
    thread: ThreadId,
}

impl Worker {
    /// Starts a thread that owns `db`.
    pub(crate) fn spawn(name: &str, db: Connection, clock: Clock) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let thread = Thread { db, clock, jobs, shared: 1, closing: Vec::new() };
        let handle = std::thread::Builder::new().name(name.to_owned()).spawn(move || thread.run())?;
        Ok(Self { queue, thread: handle.thread().id() })
    }

    /// Whether this is its thread.
    pub(crate) fn is_here(&self) -> bool {
        std::thread::current().id() == self.thread
    }

    /// Hands a job over, and waits while the queue is full.
    pub(crate) async fn send(&self, name: &'static str, job: Job) -> Result<(), StoreError> {
        // Whoever waits for this thread on this thread waits for ever.
        if self.is_here() {
            let message = "the store was called inside SqliteStore::write, whose thread would answer: \
                           call reserve_in or complete_in there";
            return Err(StoreError::new(ErrorKind::Unsupported, name, Effect::NotApplied, message));
        }
        self.queue.send(job).await.map_err(|_| closed(name))
    }

    /// Runs `work` with the connection to itself.
    pub(crate) async fn alone<A: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&mut Connection) -> A + Send + 'static,
    ) -> Result<A, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = move |db: &mut Connection| {
            let _ = reply.send(work(db));
        };
        self.send(name, Job::Alone(Box::new(job))).await?;
        answer.await.map_err(|_| gone(name))
    }

    /// Waits until every accepted call is answered and the connection is closed.
    pub(crate) async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.queue.send(Job::Close(reply)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

struct Thread {
    db: Connection,
    clock: Clock,
    jobs: mpsc::Receiver<Job>,
    /// How many calls shared the last transaction.
    shared: usize,
    closing: Vec<oneshot::Sender<()>>,
}

type Batch = Vec<Box<dyn Call>>;

impl Thread {
    fn run(mut self) {
        while let Some(job) = self.next() {
            match job {
                Job::Call(first) => self.gather(first),
                Job::Alone(work) => self.alone(work),
                Job::Close(reply) => self.begin_closing(reply),
            }
        }
        drop(self.db);
        for reply in self.closing {
            let _ = reply.send(());
        }
    }

    fn next(&mut self) -> Option<Job> {
        let idle_since = Instant::now();
        loop {
            match self.jobs.try_recv() {
                Ok(job) => return Some(job),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) if idle_since.elapsed() < LINGER => {
                    std::thread::yield_now();
                }
                Err(mpsc::error::TryRecvError::Empty) => return self.jobs.blocking_recv(),
            }
        }
    }

    /// No further call is accepted; those in the queue are still answered.
    fn begin_closing(&mut self, reply: oneshot::Sender<()>) {
        self.closing.push(reply);
        self.jobs.close();
    }

    /// Takes what waits behind `first` into one transaction, up to the bounds, in the order it came.
    fn gather(&mut self, first: Box<dyn Call>) {
        let mut bytes = first.weight();
        let mut batch = vec![first];
        let mut after = None;
        let mut arrived = Instant::now();
        while batch.len() < BATCH_CALLS && bytes < BATCH_BYTES {
            match self.jobs.try_recv() {
                Ok(Job::Call(call)) => {
                    bytes += call.weight();
                    batch.push(call);
                    arrived = Instant::now();
                }
                Ok(other) => {
                    after = Some(other);
                    break;
                }
                Err(_) if batch.len() < self.shared && arrived.elapsed() < GATHER => std::thread::yield_now(),
                Err(_) => break,
            }
        }
        self.shared = batch.len();
        batch.retain(|call| !call.is_abandoned());
        self.transact(batch, Effect::NotApplied);
        match after {
            Some(Job::Alone(work)) => self.alone(work),
            Some(Job::Close(reply)) => self.begin_closing(reply),
            Some(Job::Call(_)) | None => {}
        }
    }

    /// A stranger's code may panic, in its work or in what it drops: the thread goes on.
    fn alone(&mut self, work: Box<dyn FnOnce(&mut Connection) + Send>) {
        let _panic = catch_unwind(AssertUnwindSafe(|| work(&mut self.db)));
        self.roll_back();
    }

    /// Runs a batch, in as many transactions as the bytes of its answers take. `before` is the effect of
    /// earlier tries of these calls: an error tells the worst of all (S7).
    fn transact(&mut self, mut batch: Batch, before: Effect) {
        while !batch.is_empty() {
            batch = self.transact_some(batch, before);
        }
    }

    /// Runs the first of a batch in one transaction; gives back those that it had no room for.
    fn transact_some(&mut self, batch: Batch, before: Effect) -> Batch {
        let mut batch = match self.begin(batch, before) {
            Ok(batch) if batch.is_empty() => return batch,
            Ok(batch) => batch,
            Err((batch, error)) => return self.isolate(batch, before, error),
        };
        let done = self.run_some(&mut batch).and_then(|ran| match self.execute("COMMIT") {
            Ok(()) => Ok(batch.split_off(ran)),
            // What COMMIT wrote before it failed may be found again after a crash.
            Err(error) => Err((Effect::Unknown, error)),
        });
        match done {
            Ok(rest) => {
                for call in batch {
                    call.committed();
                }
                rest
            }
            Err((effect, error)) => {
                self.roll_back();
                self.isolate(batch, before.max(effect), error)
            }
        }
    }

    /// Runs calls until their answers hold enough bytes; how many.
    fn run_some(&self, batch: &mut Batch) -> Result<usize, (Effect, rusqlite::Error)> {
        let (mut ran, mut bytes) = (0, 0);
        for call in batch {
            call.run(&self.db, &self.clock).map_err(|error| (Effect::NotApplied, error))?;
            ran += 1;
            bytes += call.answer_weight();
            if bytes >= BATCH_BYTES {
                break;
            }
        }
        Ok(ran)
    }

    /// One of these made the transaction fail: each gets one of its own, so that the others succeed. None
    /// is left.
    fn isolate(&mut self, mut batch: Batch, effect: Effect, error: rusqlite::Error) -> Batch {
        if batch.len() == 1 {
            if let Some(call) = batch.pop() {
                call.failed(effect, error);
            }
            return batch;
        }
        for call in batch {
            self.transact(vec![call], effect);
        }
        Batch::new()
    }

    /// Takes the write lock for those of the batch whose deadline doesn't pass meanwhile; the others are
    /// answered. It is taken unless none is left.
    fn begin(&self, mut batch: Batch, before: Effect) -> Result<Batch, (Batch, rusqlite::Error)> {
        loop {
            let Some(nearest) = batch.iter().map(|call| call.deadline()).min() else { return Ok(batch) };
            let left = nearest.saturating_duration_since(Instant::now());
            let begun =
                self.db.busy_timeout(left.min(LOCK_SLICE)).and_then(|()| self.execute("BEGIN IMMEDIATE"));
            match begun {
                Ok(()) => return Ok(batch),
                Err(error) if is_busy(&error) => {
                    let now = Instant::now();
                    let (late, rest) = batch.into_iter().partition(|call| call.deadline() <= now);
                    batch = rest;
                    let late: Batch = late;
                    for call in late {
                        call.overdue(&self.db, &self.clock, before);
                    }
                }
                Err(error) => return Err((batch, error)),
            }
        }
    }

    fn execute(&self, statement: &str) -> rusqlite::Result<()> {
        self.db.prepare_cached(statement)?.execute([]).map(drop)
    }

    /// Some errors roll the transaction back by themselves; then there is nothing left to do.
    fn roll_back(&self) {
        if !self.db.is_autocommit() {
            // Should even this fail, the next BEGIN says so.
            let _ = self.execute("ROLLBACK");
        }
    }
}

#[cfg(test)]
mod tests;
