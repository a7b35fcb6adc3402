//! What a run answers: [`RunOutcome`], how it came about, and what can go wrong.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::answer::AnswerError;
use crate::error::{ErrorKind, StoreError};
use crate::outcome::{InFlight, Lapsed, Loss};
use crate::record::IdempotencyRecord;

/// What [`Call::run`](crate::Call::run) answers. A business result is one of these, never an error.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "only Done has the answer"]
pub enum RunOutcome<T> {
    /// The work is done, and this is its answer.
    Done {
        /// The answer.
        value: T,
        /// How it came about.
        how: How,
    },
    /// The work was done by an earlier call, whose answer was not kept: it was over the store's limit.
    NotKept(IdempotencyRecord),
    /// Somebody is at work, and was still when the waiting ended.
    InFlight(InFlight),
    /// The key was used for another request.
    Conflict,
    /// A holder that began fell silent, and the policy forbids to work again: for an operator to resolve.
    Indeterminate(Lapsed),
}

impl<T> RunOutcome<T> {
    /// The answer, where there is one.
    pub fn into_value(self) -> Option<T> {
        match self {
            Self::Done { value, .. } => Some(value),
            Self::NotKept(_) | Self::InFlight(_) | Self::Conflict | Self::Indeterminate(_) => None,
        }
    }
}

/// How an answer came about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum How {
    /// This call ran the work, and the answer is kept.
    Ran,
    /// An earlier call ran the work, and this is its answer.
    Replayed,
    /// This call ran the work, but lost its slot meanwhile; the value is what is kept: the answer of
    /// whoever took over, of an operator, or of a transaction of the work's own that completed the slot.
    Superseded,
    /// This call ran the work, and the value is whole; the record says only that it was done, since the
    /// answer is over the store's limit or can't be written down.
    NotKept,
    /// This call ran the work, and the value is its answer, but it is not known to be kept.
    Unsaved(Unsaved),
}

/// Why an answer is not known to be kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Unsaved {
    /// The slot was lost, and the winner gave no answer that could be handed back: somebody else may do
    /// the work again, or have done it.
    Lost(Loss),
    /// The store failed to say that it stored the answer. Where the failure may pass, the runner goes on
    /// asking in the background for one more lease.
    NoAnswer(ErrorKind),
}

/// What becomes of the slot when the work fails. `Store` gives everybody, this caller included, an
/// answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OnError<T> {
    /// Steps back (the default): the next caller may take over at once, as a later attempt that knows
    /// that something may have been done. Under at-most-once, others hear Indeterminate.
    HandOver,
    /// Gives the slot back. Only where *nothing* was done: the next caller begins anew, as attempt 1
    /// (under at-least-once, a predecessor's doubt stays, and it is one attempt more).
    Release,
    /// Leaves the slot to the rest of its lease: time for what is still under way to land.
    Leave,
    /// Keeps this as the answer.
    Store(T),
}

/// What becomes of the slot when the work panics. Nothing is ever released: the work may have begun.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OnPanic {
    /// Leaves the slot to the rest of its lease: what a panic left under way is unknown.
    #[default]
    Leave,
    /// Steps back at once, as [`OnError::HandOver`].
    HandOver,
}

/// Why a run has no outcome.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError<E> {
    /// The work failed with this; the slot is as [`OnError`] says.
    Work(E),
    /// The work panicked; the slot is as [`OnPanic`] says.
    Panicked(Panic),
    /// The slot could not be reserved, or the store could not be told that the work begins. The work did
    /// not run.
    Store(StoreError),
    /// An answer is kept, and is not of this type.
    Answer(AnswerError),
    /// The runtime was shut down while the work ran. The slot is left to its lease.
    ShutDown,
}

impl<E> From<StoreError> for RunError<E> {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl<E: fmt::Display> fmt::Display for RunError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work(error) => write!(f, "the work failed: {error}"),
            Self::Panicked(panic) => write!(f, "the work panicked: {}", panic.message()),
            Self::Store(error) => write!(f, "the work did not run: {error}"),
            Self::Answer(error) => error.fmt(f),
            Self::ShutDown => f.write_str("the runtime was shut down while the work ran"),
        }
    }
}

impl<E: Error + 'static> Error for RunError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // Display shows these two already, so a chain that prints each source goes on beneath them.
            Self::Work(error) => error.source(),
            Self::Store(error) => error.source(),
            Self::Answer(error) => error.source(),
            Self::Panicked(_) | Self::ShutDown => None,
        }
    }
}

/// A panic of the work.
pub struct Panic {
    message: String,
    /// Behind a lock only so that the error is `Sync`.
    payload: Mutex<Box<dyn Any + Send>>,
}

impl Panic {
    pub(super) fn new(payload: Box<dyn Any + Send>) -> Self {
        let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_owned(),
            (_, Some(text)) => text.clone(),
            _ => "no message".to_owned(),
        };
        Self { message, payload: Mutex::new(payload) }
    }

    /// What it said.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Lets it go on in this thread, as if the work had been called here.
    pub fn resume(self) -> ! {
        std::panic::resume_unwind(self.payload.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panic").field(&self.message).finish()
    }
}
