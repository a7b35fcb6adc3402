//! The runner: [`Idempotency`] does a piece of work once, and gives its answer to everybody who asks.
//!
//! ```text
//!   call ── reserve ──┬─ Reserved ─▶ (renew first, at most once) ─▶ work ─▶ complete ─▶ Done, Ran
//!                     │                     heartbeat at lease / 3 ┄┄┄┄┄┄┄┄┄┄┄▶│
//!                     ├─ Replay ──────────────────────────────────────────────▶ Done, Replayed
//!                     ├─ InFlight ─▶ wait_up_to: woken, or ask again ┄▶ InFlight
//!                     ├─ Conflict
//!                     └─ Indeterminate
//! ```
//!
//! What happens from the grant on happens in a task of its own: a caller that goes away (a client that
//! disconnects drops the handler's future) loses nothing, the work is finished and its answer is kept.

mod answer;
mod call;
mod heartbeat;
mod held;
mod hold;
mod outcome;
mod reservation;
mod retry;
mod task;
mod waiting;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "json")]
pub use answer::Json;
pub use answer::{Answer, AnswerError};
pub use call::{Call, ErrorPolicy, HandOver};
pub use held::{Held, Lost, SaveError};
pub use outcome::{How, OnError, OnPanic, Panic, RunError, RunOutcome, Unsaved};
pub use reservation::{Reservation, SettleError};

use crate::error::InvalidInput;
use crate::fingerprint::Fingerprint;
use crate::request::{Policy, Terms};
use crate::slot::Slot;
use crate::store::IdempotencyStore;

/// How long the heartbeat keeps a slot, unless told otherwise: an hour.
const DEFAULT_CEILING: Duration = Duration::from_secs(60 * 60);
/// How long a call to the store is repeated, unless told otherwise.
const DEFAULT_CALL_DEADLINE: Duration = Duration::from_secs(10);

/// Does work once per slot, over any store. Cheap to clone.
///
/// Needs a tokio runtime with its timers on: the work and its heartbeat are tasks of it.
///
/// ```
/// use oncekey_core::*;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let idempotency = Idempotency::at_least_once(MemoryStore::new());
/// let slot = Principal::new("shop-17")?.slot("order-4711")?;
/// let meaning = Fingerprint::builder("pay/v1").part("9 EUR").finish();
///
/// for expected in [How::Ran, How::Replayed] {
///     let outcome = idempotency
///         .call(&slot, meaning)
///         .run(async |held| {
///             // The work. `held.fence()` goes with it to a downstream that can refuse an older holder.
///             Ok::<_, std::io::Error>(format!("paid by attempt {}", held.attempt()).into_bytes())
///         })
///         .await?;
///     match outcome {
///         RunOutcome::Done { value, how } => {
///             assert_eq!(value, b"paid by attempt 1");
///             assert_eq!(how, expected);
///         }
///         other => unreachable!("nobody else has this key: {other:?}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// # What it promises
///
/// - **At least once** or **at most once** is chosen here, and kept by the record (its first grant's
///   policy decides, R5). Exactly once takes a transaction with the store, or a downstream that refuses
///   old fences (S10).
/// - The lease is renewed at a third of it while the work runs, up to the [`ceiling`](Self::ceiling).
/// - A call whose answer is lost is made again, with the same token or grant, until the
///   [`call_deadline`](Self::call_deadline) (S6). A reserve that stays unknown doesn't execute; a
///   complete that stays unknown is repeated and never released (S7).
/// - A record under [`Policy::Refuse`] is renewed before the work begins, whatever this caller asked
///   for; if that isn't known to have worked, the work doesn't begin.
#[derive(Clone, Debug)]
pub struct Idempotency {
    store: Arc<dyn IdempotencyStore>,
    terms: Terms,
    ceiling: Duration,
    call_deadline: Duration,
}

impl Idempotency {
    /// Somebody finishes the work: when a holder falls silent, the next caller takes over, and reads
    /// attempt 2 ([`Policy::TakeOver`]). `store` is a store, or an `Arc` or `Box` of one.
    pub fn at_least_once(store: impl IdempotencyStore) -> Self {
        Self::new(store, Policy::TakeOver)
    }

    /// Nobody does the work twice: a holder that began and fell silent leaves an
    /// [`Indeterminate`](RunOutcome::Indeterminate), which an operator resolves ([`Policy::Refuse`]).
    pub fn at_most_once(store: impl IdempotencyStore) -> Self {
        Self::new(store, Policy::Refuse)
    }

    fn new(store: impl IdempotencyStore, policy: Policy) -> Self {
        let terms = Terms::standard(policy);
        let (ceiling, call_deadline) = (DEFAULT_CEILING, DEFAULT_CALL_DEADLINE);
        Self { store: shared(store), terms, ceiling, call_deadline }
    }

    /// Another lease (30 s by default) and retention (24 h by default).
    ///
    /// # Errors
    /// [`InvalidInput`] as [`Terms::new`].
    ///
    /// ```
    /// use oncekey_core::{Idempotency, MemoryStore};
    /// use std::time::Duration;
    ///
    /// let idempotency = Idempotency::at_most_once(MemoryStore::new())
    ///     .terms(Duration::from_secs(10), Duration::from_secs(7 * 86_400))?
    ///     .ceiling(Duration::from_secs(300))
    ///     .call_deadline(Duration::from_secs(2));
    /// # Ok::<(), oncekey_core::InvalidInput>(())
    /// ```
    pub fn terms(mut self, lease: Duration, retention: Duration) -> Result<Self, InvalidInput> {
        self.terms = Terms::new(self.terms.policy(), lease, retention)?;
        Ok(self)
    }

    /// The longest total time, from the reserve on, that the heartbeat keeps the slot; an hour by
    /// default. Work that hangs holds its slot no longer. It never cuts the first lease short.
    #[must_use]
    pub fn ceiling(mut self, ceiling: Duration) -> Self {
        self.ceiling = ceiling;
        self
    }

    /// How long one call to the store is repeated while it fails in ways that may pass; 10 s by default.
    #[must_use]
    pub fn call_deadline(mut self, deadline: Duration) -> Self {
        self.call_deadline = deadline;
        self
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn IdempotencyStore> {
        &self.store
    }

    /// A call for `slot`, meaning `fingerprint`. Nothing is sent before it is run, or reserved.
    pub fn call(&self, slot: &Slot, fingerprint: Fingerprint) -> Call {
        Call::new(self.clone(), slot.clone(), fingerprint)
    }
}

/// The store as the runner keeps it. What is an `Arc<dyn IdempotencyStore>` already stays itself: wrapped
/// again, each call would be boxed twice.
fn shared(store: impl IdempotencyStore) -> Arc<dyn IdempotencyStore> {
    match (&store as &dyn Any).downcast_ref::<Arc<dyn IdempotencyStore>>() {
        Some(shared) => Arc::clone(shared),
        None => Arc::new(store),
    }
}
