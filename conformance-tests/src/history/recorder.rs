//! Makes calls, and writes down when: [`Recorder`].

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use oncekey_core::state::{Answer, Operation, TokenSpent};
use oncekey_core::{ErrorKind, IdempotencyAdmin, Slot, StoreError};

use super::call::{Call, Moment};
use super::time::{StoreTime, as_time};

/// The calls of one slot.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    calls: Mutex<Vec<Call>>,
}

/// What orders the calls and answers of all slots.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) time: StoreTime,
    order: AtomicU64,
}

impl Watch {
    pub(super) fn new(time: StoreTime) -> Self {
        Self { time, order: AtomicU64::new(0) }
    }

    fn order(&self) -> u64 {
        self.order.fetch_add(1, Ordering::SeqCst)
    }

    fn before(&self) -> Moment {
        Moment { time: as_time(self.time.least()), order: self.order() }
    }

    fn after(&self) -> Moment {
        Moment { order: self.order(), time: as_time(self.time.most()) }
    }
}

impl Recorder {
    /// Makes a call. It is in the history from before it is sent, so that one which is dropped, or fails,
    /// stays open for ever (S8, S9).
    pub(super) async fn call(
        &self,
        watch: &Watch,
        client: usize,
        store: &dyn IdempotencyAdmin,
        slot: &Slot,
        operation: &Operation,
    ) -> Result<Answer, StoreError> {
        let index = {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            let (operation, called) = (operation.clone(), watch.before());
            calls.push(Call { client, operation, called, answered: None });
            calls.len() - 1
        };
        let answer = perform(store, slot, operation).await?;
        let answered = Some((watch.after(), answer.clone()));
        if let Some(call) = self.calls.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
            call.answered = answered;
        }
        Ok(answer)
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Makes an operation as a call of the trait: for whoever records a history by hand.
///
/// # Errors
/// The call's own; but for a token that is spent, which is an [`Answer`] (R11).
pub async fn perform(
    store: &dyn IdempotencyAdmin,
    slot: &Slot,
    operation: &Operation,
) -> Result<Answer, StoreError> {
    Ok(match operation {
        Operation::Reserve { token, request } => match store.reserve_or_fetch(slot, *token, request).await {
            Err(e) if e.kind() == ErrorKind::TokenSpent => Answer::Reserve(Err(TokenSpent)),
            outcome => Answer::Reserve(Ok(outcome?)),
        },
        Operation::Renew { grant, renewal } => Answer::Renew(store.renew(slot, grant, renewal).await?),
        Operation::Complete { grant, completion } => {
            Answer::Complete(store.complete(slot, grant, completion).await?)
        }
        Operation::Release { grant } => Answer::Release(store.release(slot, grant).await?),
        Operation::Lookup => Answer::Lookup(store.lookup(slot).await?),
        Operation::Resolve { seen, resolution } => {
            Answer::Resolve(store.resolve(slot, *seen, resolution).await?)
        }
        Operation::Purge { fence } => Answer::Purge(store.purge(slot, *fence).await?),
    })
}

/// What `call` gives within so many turns of the scheduler; else it is dropped.
pub(super) async fn within_turns<F: Future>(turns: u32, call: F) -> Option<F::Output> {
    let mut call = pin!(call);
    for _ in 0..turns {
        if let Poll::Ready(output) = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}
