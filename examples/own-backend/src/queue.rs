//! Calls that write, gathered: one flush for all that wait.
//!
//! redb lets one transaction write at a time, and each commit waits for the disk. So calls queue up here;
//! one of them leads, and takes all that wait into its transaction. While it flushes, the next ones queue.
//!
//! ```text
//!   A ─ queue ─ leads: begin · A · commit ───▶ answered
//!   B ─ queue ─ waits ─────────────────────┐
//!   C ─ queue ─ waits ─────────────────────┴ leads: begin · B, C · commit ───▶ both answered
//! ```
//!
//! There is no thread to start or to stop: a leader borrows one from the runtime, since redb blocks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oncekey_core::{Clock, Effect, StoreError, Timestamp};
use redb::{Database, WriteTransaction};
use tokio::sync::{Mutex as Turn, oneshot};
use tokio::task::spawn_blocking;

use crate::error::{Fault, gone, store_error};
use crate::records::Records;

/// Calls in one transaction, at most: a long queue must not mean one very long flush.
const MOST: usize = 512;

/// The calls that wait to write.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Vec<Box<dyn Call>>>,
    /// Whoever holds this leads. It is fair: everybody's turn comes.
    turn: Arc<Turn<()>>,
}

impl Queue {
    /// Runs `work` in a transaction, alone or with others, and answers once that is committed.
    pub(crate) async fn write<A: Send + 'static>(
        self: &Arc<Self>,
        db: &Arc<Database>,
        clock: &Clock,
        operation: &'static str,
        work: impl FnOnce(&mut Records<'_>, Timestamp) -> Result<A, Fault> + Send + 'static,
    ) -> Result<A, StoreError> {
        let (reply, mut answer) = oneshot::channel();
        let (work, done) = (Some(work), None);
        self.waiting().push(Box::new(Waiting { operation, work, done, reply }));
        // Dropped here (S8), the call stays in the queue with nobody to answer, and is passed over.
        loop {
            tokio::select! {
                biased;
                answered = &mut answer => {
                    return answered.unwrap_or_else(|_| Err(gone(operation, Effect::Unknown)));
                }
                turn = Arc::clone(&self.turn).lock_owned() => {
                    let (queue, db, clock) = (Arc::clone(self), Arc::clone(db), clock.clone());
                    let led = spawn_blocking(move || {
                        let _until_done = turn;
                        queue.lead(&db, &clock);
                    });
                    // Ours was among them, unless more than MOST were ahead: then around again.
                    led.await.map_err(|_| gone(operation, Effect::Unknown))?;
                }
            }
        }
    }

    fn lead(&self, db: &Database, clock: &Clock) {
        let begun = db.begin_write();
        // Taken only now: what came while the lock was somebody else's goes along.
        let mut calls = {
            let mut waiting = self.waiting();
            let most = waiting.len().min(MOST);
            waiting.drain(..most).collect::<Vec<_>>()
        };
        let ended = match begun {
            Ok(tx) => run(tx, clock, &mut calls),
            Err(error) => Err(Failed::new(Effect::NotApplied, error)),
        };
        for call in calls {
            call.answer(&ended);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Box<dyn Call>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of `calls` in one transaction: they are committed together, or none is.
fn run(tx: WriteTransaction, clock: &Clock, calls: &mut [Box<dyn Call>]) -> Result<(), Failed> {
    let changed = {
        let not_applied = |fault| match fault {
            Fault::Database(error) => Failed::new(Effect::NotApplied, error),
            Fault::Record(corrupt) => {
                Failed::new(Effect::NotApplied, redb::Error::Corrupted(corrupt.to_string()))
            }
        };
        let mut records = Records::open(&tx).map_err(not_applied)?;
        for call in calls {
            call.run(&mut records, clock).map_err(not_applied)?;
        }
        records.changed()
    };
    if !changed {
        // Nothing to flush. Dropped, the transaction is given up.
        return Ok(());
    }
    // What an error of a commit left on the disk, nobody knows before the file is opened again.
    tx.commit().map_err(|error| Failed::new(Effect::Unknown, error))
}

/// Why nothing, or nothing that is known of, was committed.
struct Failed {
    effect: Effect,
    error: Arc<redb::Error>,
}

impl Failed {
    fn new(effect: Effect, error: impl Into<redb::Error>) -> Self {
        Self { effect, error: Arc::new(error.into()) }
    }
}

/// A call in the queue, whatever it answers.
trait Call: Send {
    /// In the transaction. An error ends it for everybody.
    fn run(&mut self, records: &mut Records<'_>, clock: &Clock) -> Result<(), Fault>;
    /// After it.
    fn answer(self: Box<Self>, ended: &Result<(), Failed>);
}

struct Waiting<A, F> {
    operation: &'static str,
    work: Option<F>,
    done: Option<Result<A, Fault>>,
    reply: oneshot::Sender<Result<A, StoreError>>,
}

impl<A, F> Call for Waiting<A, F>
where
    A: Send,
    F: FnOnce(&mut Records<'_>, Timestamp) -> Result<A, Fault> + Send,
{
    fn run(&mut self, records: &mut Records<'_>, clock: &Clock) -> Result<(), Fault> {
        if self.reply.is_closed() {
            return Ok(());
        }
        // The clock, now that the lock is held (S9).
        let done = self.work.take().map(|work| work(records, clock.now()));
        match done {
            Some(Err(Fault::Database(error))) => Err(Fault::Database(error)),
            done => {
                self.done = done;
                Ok(())
            }
        }
    }

    fn answer(self: Box<Self>, ended: &Result<(), Failed>) {
        let answer = match (ended, self.done) {
            (_, Some(Err(fault))) => Err(fault.in_operation(self.operation)),
            (Err(failed), _) => Err(store_error(self.operation, failed.effect, Arc::clone(&failed.error))),
            (Ok(()), Some(Ok(answer))) => Ok(answer),
            // It was passed over: nobody listens.
            (Ok(()), None) => return,
        };
        let _nobody_listens = self.reply.send(answer);
    }
}
