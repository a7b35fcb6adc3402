//! [`Call`]: one call for a slot, run or reserved.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Idempotency;
use super::answer::Answer;
use super::held::{Held, SaveError};
use super::hold::Hold;
use super::outcome::{How, OnError, OnPanic, Panic, RunError, RunOutcome};
use super::reservation::Reservation;
use super::retry::{later, within};
use super::task::{Job, Report, work_and_settle};
use super::waiting::Waiting;
use crate::error::{Effect, ErrorKind, StoreError};
use crate::fingerprint::Fingerprint;
use crate::outcome::ReservationOutcome;
use crate::record::IdempotencyRecord;
use crate::request::ReserveRequest;
use crate::slot::Slot;
use crate::token::Token;

/// One call for a slot. It is [`run`](Self::run), or [`reserve`](Self::reserve)d and settled by hand.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before it is run, or reserved"]
pub struct Call<P = HandOver> {
    asked: Asked,
    on_error: P,
    on_panic: OnPanic,
}

#[derive(Clone, Debug)]
struct Asked {
    runner: Idempotency,
    slot: Slot,
    fingerprint: Fingerprint,
    wait: Duration,
}

impl Call {
    pub(super) fn new(runner: Idempotency, slot: Slot, fingerprint: Fingerprint) -> Self {
        let asked = Asked { runner, slot, fingerprint, wait: Duration::ZERO };
        Self { asked, on_error: HandOver, on_panic: OnPanic::default() }
    }

    /// What becomes of the slot when the work fails; it is handed over unless this says otherwise.
    ///
    /// ```
    /// use oncekey_core::*;
    ///
    /// #[derive(Debug)]
    /// enum PayError { Declined, NotSent, Broken }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let idempotency = Idempotency::at_least_once(MemoryStore::new());
    /// # let slot = Principal::new("shop-17")?.slot("order-4711")?;
    /// # let meaning = Fingerprint::builder("pay/v1").part("9 EUR").finish();
    /// let outcome = idempotency
    ///     .call(&slot, meaning)
    ///     .on_error(|e: &PayError| match e {
    ///         PayError::Declined => OnError::Store(b"declined".to_vec()), // an answer like any other
    ///         PayError::NotSent => OnError::Release,                      // nothing was done
    ///         PayError::Broken => OnError::HandOver,                      // something may have been
    ///     })
    ///     .run(async |_held| Err(PayError::Declined))
    ///     .await;
    /// assert!(matches!(outcome, Ok(RunOutcome::Done { value, .. }) if value == b"declined"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_error<T, E, F>(self, decide: F) -> Call<F>
    where
        F: FnOnce(&E) -> OnError<T> + Send + 'static,
    {
        Call { asked: self.asked, on_error: decide, on_panic: self.on_panic }
    }

    /// Reserves the slot, to settle by hand. Where the record asks for at most once, it has been told
    /// that the work begins when this says Reserved.
    ///
    /// A future dropped before that leaves at most one lease to nobody.
    ///
    /// # Errors
    /// [`StoreError`], its effect the worst of all tries: don't work.
    pub async fn reserve(self) -> Result<ReservationOutcome<Reservation>, StoreError> {
        let times = self.asked.times();
        loop {
            let hold = match self.asked.acquire(times.wait_until).await? {
                ReservationOutcome::Reserved(hold) => hold,
                other => return Ok(other.map_reserved(|hold| Reservation::new(Arc::new(hold)))),
            };
            match begin(Arc::new(hold)).await {
                Ok(hold) => return Ok(ReservationOutcome::Reserved(Reservation::new(hold))),
                Err(SaveError::Store(error)) => return Err(error),
                Err(SaveError::Lost(_)) => times.again()?,
            }
        }
    }
}

impl<P> Call<P> {
    /// Waits up to `wait` for the answer of somebody who is at work, and takes over if that holder lapses
    /// meanwhile; without this, or after it, the outcome is InFlight. A store that fails meanwhile may
    /// add one call deadline.
    ///
    /// The answer is heard of at once where the store [wakes](crate::IdempotencyStore::watch) those who wait, and
    /// else at the next look: after 10 ms at first, later each half second.
    pub fn wait_up_to(mut self, wait: Duration) -> Self {
        self.asked.wait = wait;
        self
    }

    /// What becomes of the slot when the work panics; it is left to its lease unless this says otherwise.
    pub fn on_panic(mut self, then: OnPanic) -> Self {
        self.on_panic = then;
        self
    }

    /// Runs `work` if this caller is granted the slot, and gives the answer, this or an earlier one.
    ///
    /// From the grant on, all of it happens in a task of its own: a future of this function that is
    /// dropped, because the client went away, doesn't stop the work, and its answer is kept for the
    /// client's next try. So `work` owns what it uses (`'static`, `Send`), and task-locals and the
    /// current span don't reach it by themselves. Dropped before the grant, nothing runs, and at most one
    /// lease is left to nobody.
    ///
    /// # Errors
    /// [`RunError::Work`] and [`RunError::Panicked`] when the work failed; [`RunError::Store`] when it
    /// did not run; [`RunError::Answer`] when the kept answer is no `T`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn run<T, E, F, W>(self, work: F) -> Result<RunOutcome<T>, RunError<E>>
    where
        T: Answer,
        E: Send + 'static,
        F: FnOnce(Held) -> W + Send + 'static,
        W: Future<Output = Result<T, E>> + Send + 'static,
        P: ErrorPolicy<T, E> + Send + 'static,
    {
        let Self { asked, on_error, on_panic } = self;
        let times = asked.times();
        let mut job = Job { work, on_error, on_panic, wait_until: times.wait_until };
        loop {
            let hold = match asked.acquire(times.wait_until).await? {
                ReservationOutcome::Reserved(hold) => Arc::new(hold),
                ReservationOutcome::Replay(record) => return replayed(record),
                ReservationOutcome::InFlight(busy) => return Ok(RunOutcome::InFlight(busy)),
                ReservationOutcome::Conflict => return Ok(RunOutcome::Conflict),
                ReservationOutcome::Indeterminate(lapsed) => return Ok(RunOutcome::Indeterminate(lapsed)),
            };
            // No await between the grant and the task: there is nowhere to be dropped.
            let (tell, hear) = oneshot::channel();
            let task = tokio::spawn(work_and_settle(hold, job, tell));
            job = match hear.await {
                Ok(Report::Ended(result)) => return result,
                Ok(Report::NotBegun(_, SaveError::Store(error))) => return Err(error.into()),
                Ok(Report::NotBegun(job, SaveError::Lost(_))) => job,
                // The task ended without a word: an `Answer` panicked, or the runtime is going down.
                Err(_) => {
                    return Err(match task.await {
                        Err(error) if error.is_panic() => RunError::Panicked(Panic::new(error.into_panic())),
                        _ => RunError::ShutDown,
                    });
                }
            };
            times.again()?;
        }
    }
}

fn replayed<T: Answer, E>(record: IdempotencyRecord) -> Result<RunOutcome<T>, RunError<E>> {
    if record.response.body.bytes().is_none() {
        return Ok(RunOutcome::NotKept(record));
    }
    let value = T::from_stored(record.response).map_err(RunError::Answer)?;
    Ok(RunOutcome::Done { value, how: How::Replayed })
}

impl Asked {
    fn times(&self) -> Times {
        let now = Instant::now();
        Times {
            wait_until: later(now, self.wait),
            give_up: later(now, self.wait.max(self.runner.call_deadline)),
        }
    }

    /// Reserves, waiting for a running holder until `wait_until`.
    async fn acquire(&self, wait_until: Instant) -> Result<ReservationOutcome<Hold>, StoreError> {
        let runner = &self.runner;
        let request = &ReserveRequest::new(self.fingerprint, runner.terms);
        let mut waiting = Waiting::until(wait_until);
        // One token for every try and every look: a try whose answer was lost, and which lands late, is
        // granted to the token that asks again (R3), and not to nobody.
        let mut token = Token::fresh();
        let mut spent = false;
        loop {
            let deadline = later(Instant::now(), runner.call_deadline);
            let reserved = within(deadline, "reserve_or_fetch", || async move {
                let sent = Instant::now();
                Ok((sent, runner.store.reserve_or_fetch(&self.slot, token, request).await?))
            });
            match reserved.await {
                Ok((_, ReservationOutcome::InFlight(busy))) if !waiting.is_over() => {
                    waiting.pass(&runner.store, &self.slot, busy.retry_after).await;
                }
                Ok((sent, outcome)) => {
                    return Ok(outcome.map_reserved(|grant| {
                        Hold::new(runner.clone(), self.slot.clone(), self.fingerprint, grant, sent)
                    }));
                }
                // An earlier try of ours was granted unheard, and released for us by an operator (R11).
                Err(error) if error.kind() == ErrorKind::TokenSpent && !spent => {
                    (token, spent) = (Token::fresh(), true);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// When a call stops waiting, and when it stops asking anew.
#[derive(Clone, Copy)]
struct Times {
    wait_until: Instant,
    give_up: Instant,
}

impl Times {
    /// After a grant that was lost before the work began: whether to ask again.
    fn again(self) -> Result<(), StoreError> {
        if Instant::now() < self.give_up {
            return Ok(());
        }
        let message = "the slot was lost before the work began, again and again: is the lease shorter than a \
                       call to the store takes?";
        Err(StoreError::new(ErrorKind::Timeout, "renew", Effect::NotApplied, message))
    }
}

/// Tells the store, where it must be told, that the work begins. In a task of its own: a caller that is
/// dropped half-way would leave a record that says *begun*, and that nobody works on.
async fn begin(hold: Arc<Hold>) -> Result<Arc<Hold>, SaveError> {
    if !hold.must_renew_first() {
        return Ok(hold);
    }
    let (tell, hear) = oneshot::channel();
    tokio::spawn(async move {
        let unclaimed = Unclaimed(Some(hold));
        if let Some(hold) = &unclaimed.0 {
            match hold.begin().await {
                Ok(()) => drop(tell.send(Ok(unclaimed))),
                Err(why) => drop(tell.send(Err((why, unclaimed)))),
            }
        }
    });
    match hear.await {
        Ok(Ok(begun)) => begun.claim(),
        Ok(Err((why, unclaimed))) => {
            // What is lost needs no giving back; what is unknown is given back as it is dropped.
            if matches!(why, SaveError::Lost(_)) {
                drop(unclaimed.claim());
            }
            Err(why)
        }
        Err(_) => Err(shut_down().into()),
    }
}

/// A hold that nobody has begun to work under: dropped, it is given back.
struct Unclaimed(Option<Arc<Hold>>);

impl Unclaimed {
    fn claim(mut self) -> Result<Arc<Hold>, SaveError> {
        self.0.take().ok_or_else(|| shut_down().into())
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let (Some(hold), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { hold.give_back().await });
        }
    }
}

fn shut_down() -> StoreError {
    StoreError::new(ErrorKind::Unavailable, "renew", Effect::Unknown, "the runtime was shut down")
}

/// Decides what becomes of a slot whose work failed: a closure given to [`Call::on_error`], or
/// [`HandOver`].
pub trait ErrorPolicy<T, E> {
    /// What becomes of it.
    fn decide(self, error: &E) -> OnError<T>;
}

/// Hands over whatever the error: what a [`Call`] does unless told otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct HandOver;

impl<T, E> ErrorPolicy<T, E> for HandOver {
    fn decide(self, _: &E) -> OnError<T> {
        OnError::HandOver
    }
}

impl<T, E, F: FnOnce(&E) -> OnError<T>> ErrorPolicy<T, E> for F {
    fn decide(self, error: &E) -> OnError<T> {
        self(error)
    }
}
