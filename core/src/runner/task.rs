//! The task that works: from the grant to the settled slot, whether or not the caller still listens.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::answer::Answer;
use super::call::ErrorPolicy;
use super::heartbeat::Heartbeat;
use super::held::{Held, SaveError};
use super::hold::Hold;
use super::outcome::{How, OnError, OnPanic, Panic, RunError, RunOutcome, Unsaved};
use super::retry::{later, within};
use super::waiting::Waiting;
use crate::error::StoreError;
use crate::outcome::{CompleteOutcome, Loss};
use crate::record::{Body, Entry, IdempotencyRecord, StoredResponse};
use crate::request::Completion;

/// What the caller gave: the work, and what becomes of the slot if it fails.
pub(super) struct Job<F, P> {
    pub(super) work: F,
    pub(super) on_error: P,
    pub(super) on_panic: OnPanic,
    /// How long the caller waits for somebody else's answer.
    pub(super) wait_until: Instant,
}

/// What the task tells its caller.
pub(super) enum Report<T, E, F, P> {
    /// The work did not begin; here it is again.
    NotBegun(Job<F, P>, SaveError),
    /// It did.
    Ended(Result<RunOutcome<T>, RunError<E>>),
}

/// How the work ended, if it didn't panic.
enum Verdict<T, E> {
    Keep(T),
    HandOver(E),
    Release(E),
    Leave(E),
}

pub(super) async fn work_and_settle<T, E, F, W, P>(
    hold: Arc<Hold>,
    job: Job<F, P>,
    report: oneshot::Sender<Report<T, E, F, P>>,
) where
    T: Answer,
    F: FnOnce(Held) -> W,
    W: Future<Output = Result<T, E>>,
    P: ErrorPolicy<T, E>,
{
    // A caller that has gone away hears no report, and nothing here depends on its hearing.
    if hold.must_renew_first()
        && let Err(why) = hold.begin().await
    {
        let unknown = matches!(why, SaveError::Store(_));
        let _gone = report.send(Report::NotBegun(job, why));
        if unknown {
            hold.give_back().await;
        }
        return;
    }
    let heartbeat = Heartbeat::start(&hold);
    let held = Held(Arc::clone(&hold));
    let Job { work, on_error, on_panic, wait_until } = job;

    let verdict = caught(async move {
        match work(held).await {
            Ok(value) => Verdict::Keep(value),
            Err(error) => match on_error.decide(&error) {
                OnError::Store(value) => Verdict::Keep(value),
                OnError::HandOver => Verdict::HandOver(error),
                OnError::Release => Verdict::Release(error),
                OnError::Leave => Verdict::Leave(error),
            },
        }
    })
    .await;

    // Handing over and releasing do their best: if the store can't be told, the lease ends by itself.
    let error = match verdict {
        Ok(Verdict::Keep(value)) => return keep(&hold, value, wait_until, report).await,
        Ok(Verdict::HandOver(error)) => {
            let _best_effort = hold.hand_over().await;
            RunError::Work(error)
        }
        Ok(Verdict::Release(error)) => {
            let _best_effort = hold.release().await;
            RunError::Work(error)
        }
        Ok(Verdict::Leave(error)) => RunError::Work(error),
        Err(panic) => {
            if on_panic == OnPanic::HandOver {
                let _best_effort = hold.hand_over().await;
            }
            RunError::Panicked(panic)
        }
    };
    drop(heartbeat);
    let _gone = report.send(Report::Ended(Err(error)));
}

/// Completes with `value`, and reports what became of it. The heartbeat goes on until this ends.
async fn keep<T: Answer, E, F, P>(
    hold: &Hold,
    value: T,
    wait_until: Instant,
    report: oneshot::Sender<Report<T, E, F, P>>,
) {
    let (mut completion, mut how) = completion_of(hold, &value);
    let mut outcome = hold.complete(&completion, hold.deadline()).await;
    // A layer between us and the store may take less than the limits say. The work is done, so the
    // record has to say so (FAULTS 35).
    if how == How::Ran && outcome.as_ref().is_err_and(StoreError::is_invalid_input) {
        completion = without_body(&completion);
        how = How::NotKept;
        outcome = hold.complete(&completion, hold.deadline()).await;
    }
    let retry = outcome.as_ref().is_err_and(StoreError::is_retryable);
    let (value, how) = match outcome {
        Ok(CompleteOutcome::Stored) => (value, how),
        // The try before this one was ours and stored it.
        Ok(CompleteOutcome::AlreadyStored(record)) if record.response == *completion.response() => {
            (value, how)
        }
        Ok(CompleteOutcome::AlreadyStored(record)) => superseded(Some(record), value, Loss::TakenOver),
        Ok(CompleteOutcome::Lost(loss)) => superseded(winner(hold, wait_until).await, value, loss),
        Err(error) => (value, How::Unsaved(Unsaved::NoAnswer(error.kind()))),
    };
    let _gone = report.send(Report::Ended(Ok(RunOutcome::Done { value, how })));
    if retry {
        // The caller has waited long enough; the store may come back while the slot is still ours. One
        // lease, since every answer that waits here is memory.
        let _best_effort = hold.complete(&completion, later(Instant::now(), hold.lease)).await;
    }
}

/// What is stored for `value`: itself, or that the work was done, where it can't be kept. Never an
/// error: after the work, the record must not be left for somebody to do it again.
fn completion_of<T: Answer>(hold: &Hold, value: &T) -> (Completion, How) {
    let stored = value.to_stored().unwrap_or_else(|_| StoredResponse::not_kept(0, "", 0));
    let how = match stored.body {
        Body::Kept(_) => How::Ran,
        Body::NotKept { .. } => How::NotKept,
    };
    let completion = match value.retention() {
        Some(retention) => {
            Completion::new(stored.clone()).keep_for(retention).unwrap_or_else(|_| Completion::new(stored))
        }
        None => Completion::new(stored),
    };
    match hold.store().limits().check(&completion) {
        Ok(()) => (completion, how),
        Err(_) => (without_body(&completion), How::NotKept),
    }
}

/// The same without body and headers, which explain a body and may be what was too long.
fn without_body(completion: &Completion) -> Completion {
    let StoredResponse { status, body, .. } = completion.response();
    let len = match body {
        Body::Kept(bytes) => bytes.len() as u64,
        Body::NotKept { len } => *len,
    };
    let bare = Completion::new(StoredResponse::not_kept(*status, "", len));
    match completion.retention() {
        Some(retention) => bare.clone().keep_for(retention).unwrap_or(bare),
        None => bare,
    }
}

/// The winner's answer where it can be given, else our own value, not kept.
fn superseded<T: Answer>(record: Option<IdempotencyRecord>, value: T, loss: Loss) -> (T, How) {
    let theirs = record.filter(|record| record.response.body.bytes().is_some());
    match theirs.map(|record| T::from_stored(record.response)) {
        Some(Ok(theirs)) => (theirs, How::Superseded),
        Some(Err(_)) | None => (value, How::Unsaved(Unsaved::Lost(loss))),
    }
}

/// What whoever took over answered, waited for as long as the caller would wait. A lookup and not a
/// reserve, which might be granted.
async fn winner(hold: &Hold, wait_until: Instant) -> Option<IdempotencyRecord> {
    let mut waiting = Waiting::until(wait_until);
    loop {
        match within(hold.deadline(), "lookup", || hold.store().lookup(&hold.slot)).await {
            Ok(Some(Entry::Completed(record))) if record.fingerprint == hold.fingerprint => {
                return Some(record);
            }
            Ok(Some(Entry::Pending(entry)))
                if entry.fingerprint == hold.fingerprint && !entry.is_lapsed() && !waiting.is_over() => {}
            _ => return None,
        }
        waiting.pass(hold.store(), &hold.slot, Duration::MAX).await;
    }
}

/// Runs `work`, and catches its panic.
async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Panic> {
    let mut work = pin!(work);
    // Unwind-safe: what panicked is never polled again, and what it shared with others is theirs.
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(payload) => Poll::Ready(Err(Panic::new(payload))),
    })
    .await
}
