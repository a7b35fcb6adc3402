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

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use oncekey_core::{Clock, Effect, ErrorKind, StoreError, Timestamp};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::calls::Ran;
use crate::error::{closed, gone, is_busy, store_error};

/// Calls in the queue, before callers wait to enter it. A call in the queue shares its bytes with its
/// caller, so that the queue adds none.
const QUEUE: usize = 1_024;
/// Calls in one transaction.
const BATCH_CALLS: usize = 512;
/// Bytes of bodies in one transaction: a long one would make everybody wait.
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// How long one try for the write lock waits, before calls whose deadline passed are answered.
const LOCK_SLICE: Duration = Duration::from_millis(250);
/// How long an idle thread looks at its queue before it goes to sleep. A caller that completes what it
/// just reserved arrives within a few microseconds; waking a thread costs ten times that.
const LINGER: Duration = Duration::from_micros(50);
/// How long it looks for one more call that may share a transaction, where the last one was shared: a
/// small part of a flush.
const GATHER: Duration = Duration::from_micros(30);

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
    /// Whether nobody waits for the answer any longer. Then it needn't begin (S8).
    fn is_abandoned(&self) -> bool;
    /// Runs the statements, under the write lock.
    fn run(&mut self, db: &Connection, clock: &Clock) -> rusqlite::Result<()>;
    /// Its transaction was committed: its answer holds.
    fn committed(self: Box<Self>);
    /// Its transaction failed.
    fn failed(self: Box<Self>, effect: Effect, error: rusqlite::Error);
    /// The write lock could not be had by its deadline.
    fn overdue(self: Box<Self>, db: &Connection, clock: &Clock);
}

/// The one shape of [`Call`]: a closure over the arguments, and the way back.
pub(crate) struct Gathered<A, R, O> {
    pub(crate) name: &'static str,
    pub(crate) deadline: Instant,
    pub(crate) weight: usize,
    pub(crate) run: R,
    /// What to answer when the lock could not be had; by default that it timed out.
    pub(crate) overdue: O,
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
        self.weight
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
        // Whoever stopped waiting finds out by asking again (S6).
        let _ = self.reply.send(answer);
    }

    fn failed(self: Box<Self>, effect: Effect, error: rusqlite::Error) {
        let _ = self.reply.send(Err(store_error(self.name, effect, error)));
    }

    fn overdue(self: Box<Self>, db: &Connection, clock: &Clock) {
        let answer = (self.overdue)(db, clock.now()).unwrap_or_else(|| {
            let message = "another connection held the database's write lock until the deadline";
            Err(StoreError::new(ErrorKind::Timeout, self.name, Effect::NotApplied, message))
        });
        let _ = self.reply.send(answer);
    }
}

/// The way to a thread. Clones share it; it ends when the last is dropped, or at [`Worker::close`].
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    queue: mpsc::Sender<Job>,
}

impl Worker {
    /// Starts a thread that owns `db`.
    pub(crate) fn spawn(name: &str, db: Connection, clock: Clock) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let thread = Thread { db, clock, jobs, shared: 1, closing: Vec::new() };
        let _: JoinHandle<()> =
            std::thread::Builder::new().name(name.to_owned()).spawn(move || thread.run())?;
        Ok(Self { queue })
    }

    /// Hands a job over, and waits while the queue is full.
    pub(crate) async fn send(&self, name: &'static str, job: Job) -> Result<(), StoreError> {
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
                Job::Alone(work) => work(&mut self.db),
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
        self.transact(batch);
        match after {
            Some(Job::Alone(work)) => work(&mut self.db),
            Some(Job::Close(reply)) => self.begin_closing(reply),
            Some(Job::Call(_)) | None => {}
        }
    }

    fn transact(&mut self, batch: Batch) {
        let mut batch = match self.begin(batch) {
            Ok(batch) => batch,
            Err((batch, error)) => return self.isolate(batch, (Effect::NotApplied, error)),
        };
        if batch.is_empty() {
            return;
        }
        let ran = batch.iter_mut().try_for_each(|call| call.run(&self.db, &self.clock));
        let failure = match ran {
            Ok(()) => match self.execute("COMMIT") {
                Ok(()) => {
                    for call in batch {
                        call.committed();
                    }
                    return;
                }
                // What COMMIT wrote before it failed may be found again after a crash.
                Err(error) => (Effect::Unknown, error),
            },
            Err(error) => (Effect::NotApplied, error),
        };
        self.roll_back();
        self.isolate(batch, failure);
    }

    /// One of these made the transaction fail: each gets one of its own, so that the others succeed.
    fn isolate(&mut self, mut batch: Batch, (effect, error): (Effect, rusqlite::Error)) {
        if batch.len() == 1 {
            if let Some(call) = batch.pop() {
                call.failed(effect, error);
            }
            return;
        }
        for call in batch {
            self.transact(vec![call]);
        }
    }

    /// Takes the write lock for those of the batch whose deadline doesn't pass meanwhile; the others are
    /// answered. It is taken unless none is left.
    fn begin(&self, mut batch: Batch) -> Result<Batch, (Batch, rusqlite::Error)> {
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
                        call.overdue(&self.db, &self.clock);
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
mod tests {
    use super::*;

    /// Back-pressure, not memory growth: behind a busy connection the queue takes so many calls, and the
    /// next caller waits to enter.
    #[test]
    fn the_queue_is_bounded_and_its_callers_wait() {
        let worker = Worker::spawn("test", Connection::open_in_memory().unwrap(), Clock::system()).unwrap();
        let (started, running) = std::sync::mpsc::channel();
        let (resume, resumed) = std::sync::mpsc::channel::<()>();
        let busy = Job::Alone(Box::new(move |_| {
            started.send(()).unwrap();
            resumed.recv().unwrap();
        }));
        pollster::block_on(worker.send("test", busy)).unwrap();
        running.recv().unwrap();

        let done = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let job = || {
            let done = done.clone();
            Job::Alone(Box::new(move |_| {
                done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }))
        };
        let accepted = (0..2 * QUEUE).take_while(|_| worker.queue.try_send(job()).is_ok()).count();
        assert_eq!(accepted, QUEUE);
        resume.send(()).unwrap();
        pollster::block_on(worker.send("test", job())).unwrap();
        pollster::block_on(worker.close());
        assert_eq!(done.load(std::sync::atomic::Ordering::SeqCst), QUEUE + 1, "every accepted call was run");
    }
}
