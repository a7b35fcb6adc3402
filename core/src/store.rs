//! The contract: [`IdempotencyStore`].

use std::fmt::Debug;
use std::num::NonZeroU32;
use std::sync::Arc;

use async_trait::async_trait;

use crate::admin::{Finding, IdempotencyAdmin, Page, Resolution, ResolveOutcome, ScanRequest, Seen, Stats};
use crate::error::{InvalidInput, StoreError};
use crate::outcome::{CompleteOutcome, ReleaseOutcome, RenewOutcome, ReservationOutcome};
use crate::record::Entry;
use crate::request::{Completion, Renewal, ReserveRequest};
use crate::slot::Slot;
use crate::token::{Fence, Grant, Token};
use crate::watch::Watch;

/// The limit on a response unless a store is told otherwise: 16 MiB.
pub const DEFAULT_RESPONSE_BYTES: usize = 16 * 1024 * 1024;

/// What a store takes, known before the work and not after it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// The most bytes of headers and kept body in one response.
    pub response_bytes: usize,
}

impl Limits {
    /// With responses of at most `response_bytes`.
    pub fn new(response_bytes: usize) -> Self {
        Self { response_bytes }
    }

    /// Whether `completion` is within the limits.
    ///
    /// # Errors
    /// [`InvalidInput`] when it isn't, saying what to do.
    pub fn check(&self, completion: &Completion) -> Result<(), InvalidInput> {
        let (length, most) = (completion.response().len(), self.response_bytes);
        if length > most {
            return Err(InvalidInput::new(format!(
                "a response of {length} bytes is over the store's limit of {most}: \
                 store it as Body::NotKept, or raise the limit"
            )));
        }
        Ok(())
    }
}

impl Default for Limits {
    /// 16 MiB a response.
    fn default() -> Self {
        Self::new(DEFAULT_RESPONSE_BYTES)
    }
}

/// A place where reservations are kept. The rule ids below are those of docs/spec.md.
///
/// # Contract
///
/// - **Atomic** (R7, S9). Each call is one atomic step of the state machine [`state`](crate::state), at
///   one moment between the call and its answer. Of N callers at once, one is granted.
/// - **The store's clock decides** (S1). No caller's clock is compared with a stored time. A write takes
///   the clock once it has its lock; a read takes the clock before its snapshot.
/// - **Every call may be repeated** (S6) with the same token or grant, at once or much later, without a
///   second effect. Stores repeat transient faults themselves, within a deadline of their own.
/// - **Errors are not answers** (S7). A business result is an outcome; an error says whether the call may
///   have had an effect.
/// - **Cancel-safe** (S8). A dropped future leaves what some complete run of the call could have left.
/// - **Isolated** (S5). No call changes, reveals, or waits for a reservation of another slot.
///
/// All methods are required: a wrapper that forgets one is a bug that the compiler should find.
/// Values that exist are valid (a [`Slot`], a [`Terms`](crate::Terms)); what is left to check here is a
/// response over [`limits`](Self::limits).
///
/// ```
/// # use oncekey_core::*;
/// # async fn pay() {}
/// async fn pay_once(store: &dyn IdempotencyStore, slot: &Slot, order: &[u8]) -> Result<StoredResponse, StoreError> {
///     let request = ReserveRequest::new(Fingerprint::builder("pay/v1").part(order).finish(), Terms::default());
///     match store.reserve_or_fetch(slot, Token::fresh(), &request).await? {
///         ReservationOutcome::Reserved(grant) => {
///             pay().await;
///             let paid = StoredResponse::new(201, "", "paid");
///             match store.complete(slot, &grant, &Completion::new(paid.clone())).await? {
///                 CompleteOutcome::Stored => Ok(paid),
///                 CompleteOutcome::AlreadyStored(record) => Ok(record.response),
///                 CompleteOutcome::Lost(_) => Ok(StoredResponse::new(409, "", "somebody else took over")),
///             }
///         }
///         ReservationOutcome::Replay(record) => Ok(record.response),
///         ReservationOutcome::InFlight(_) => Ok(StoredResponse::new(409, "", "try again soon")),
///         ReservationOutcome::Conflict => Ok(StoredResponse::new(422, "", "this key was for another order")),
///         ReservationOutcome::Indeterminate(_) => Ok(StoredResponse::new(409, "", "ask an operator")),
///     }
/// }
/// ```
#[async_trait]
pub trait IdempotencyStore: Debug + Send + Sync + 'static {
    /// What this store takes.
    fn limits(&self) -> Limits;

    /// Makes what the store needs (tables, migrations), if it isn't there. Safe to run at any time, from
    /// many processes at once.
    ///
    /// # Errors
    /// [`StoreError`]; [`SchemaMissing`](crate::ErrorKind::SchemaMissing) where a newer program's
    /// schema is found.
    async fn ensure_schema(&self) -> Result<(), StoreError>;

    /// Reserves the slot, or says who has it, or gives the answer (R1 to R11).
    ///
    /// A lease that is granted is live when the store answers (R10): where a write waits for a lock or a
    /// flush for longer than the lease, the store asks again with the same token (R3) before it answers.
    ///
    /// # Errors
    /// [`TokenSpent`](crate::ErrorKind::TokenSpent) when this token's reservation was released (R11);
    /// otherwise [`StoreError`]. After an error of unknown effect, don't execute: ask again with the
    /// same token.
    async fn reserve_or_fetch(
        &self,
        slot: &Slot,
        token: Token,
        request: &ReserveRequest,
    ) -> Result<ReservationOutcome, StoreError>;

    /// Says that the holder is alive and has begun, saves a checkpoint, or hands over (W1 to W4).
    ///
    /// # Errors
    /// [`StoreError`]; repeat it.
    async fn renew(&self, slot: &Slot, grant: &Grant, renewal: &Renewal) -> Result<RenewOutcome, StoreError>;

    /// Stores the answer (C1 to C5).
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when the response is over the limits; otherwise
    /// [`StoreError`]: repeat it, never release.
    async fn complete(
        &self,
        slot: &Slot,
        grant: &Grant,
        completion: &Completion,
    ) -> Result<CompleteOutcome, StoreError>;

    /// Gives the slot back: the holder knows that it did nothing (L1 to L5).
    ///
    /// # Errors
    /// [`StoreError`]; repeat it.
    async fn release(&self, slot: &Slot, grant: &Grant) -> Result<ReleaseOutcome, StoreError>;

    /// Shows the record, and changes nothing (Q1).
    ///
    /// # Errors
    /// [`StoreError`].
    async fn lookup(&self, slot: &Slot) -> Result<Option<Entry>, StoreError>;

    /// Deletes at most `limit` records that have expired, and says how many (G1, G2). Fewer than `limit`
    /// means that none which had expired at its start is left.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn garbage_collect(&self, limit: NonZeroU32) -> Result<u64, StoreError>;

    /// Completes when the slot's record may have changed since this call: a hint for whoever waits for a
    /// holder, so that it asks again at once and not at its next look (Q2).
    ///
    /// It sends nothing and waits for nothing. A store wakes where somebody may go on: after a complete, a
    /// release, a hand-over, a resolve or a purge was written, and not after a renewal. It may wake where
    /// nothing changed. It may not wake at all ([`Watch::never`], a connection that broke, a lease that
    /// ended with nobody to say so), so whoever waits also asks now and then.
    ///
    /// Make the watch *before* the reserve whose [`InFlight`](ReservationOutcome::InFlight) makes you wait.
    /// Made after it, an answer that comes in between is not heard of before the next look:
    ///
    /// ```text
    ///   wrong:   reserve ── InFlight                    watch ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄ slept through
    ///   right:   watch ── reserve ── InFlight             │ already complete ─▶ reserve ── Replay
    ///   holder:                               complete ───┘
    /// ```
    ///
    /// ```
    /// # use oncekey_core::*;
    /// # use std::time::Duration;
    /// async fn wait(store: &dyn IdempotencyStore, slot: &Slot, request: &ReserveRequest) -> Result<ReservationOutcome, StoreError> {
    ///     loop {
    ///         let watch = store.watch(slot);
    ///         match store.reserve_or_fetch(slot, Token::fresh(), request).await? {
    ///             // Woken, or not: half a second on it looks again.
    ///             ReservationOutcome::InFlight(_) => drop(tokio::time::timeout(Duration::from_millis(500), watch).await),
    ///             other => return Ok(other),
    ///         }
    ///     }
    /// }
    /// ```
    fn watch(&self, slot: &Slot) -> Watch;
}

/// Both traits for a pointer to a store, every method forwarded.
macro_rules! forward {
    ($pointer:ident) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<S: IdempotencyStore + ?Sized> IdempotencyStore for $pointer<S> {
            fn limits(&self) -> Limits {
                (**self).limits()
            }
            async fn ensure_schema(&self) -> Result<(), StoreError> {
                (**self).ensure_schema().await
            }
            async fn reserve_or_fetch(
                &self,
                slot: &Slot,
                token: Token,
                request: &ReserveRequest,
            ) -> Result<ReservationOutcome, StoreError> {
                (**self).reserve_or_fetch(slot, token, request).await
            }
            async fn renew(
                &self,
                slot: &Slot,
                grant: &Grant,
                renewal: &Renewal,
            ) -> Result<RenewOutcome, StoreError> {
                (**self).renew(slot, grant, renewal).await
            }
            async fn complete(
                &self,
                slot: &Slot,
                grant: &Grant,
                completion: &Completion,
            ) -> Result<CompleteOutcome, StoreError> {
                (**self).complete(slot, grant, completion).await
            }
            async fn release(&self, slot: &Slot, grant: &Grant) -> Result<ReleaseOutcome, StoreError> {
                (**self).release(slot, grant).await
            }
            async fn lookup(&self, slot: &Slot) -> Result<Option<Entry>, StoreError> {
                (**self).lookup(slot).await
            }
            async fn garbage_collect(&self, limit: NonZeroU32) -> Result<u64, StoreError> {
                (**self).garbage_collect(limit).await
            }
            fn watch(&self, slot: &Slot) -> Watch {
                (**self).watch(slot)
            }
        }

        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<S: IdempotencyAdmin + ?Sized> IdempotencyAdmin for $pointer<S> {
            async fn resolve(
                &self,
                slot: &Slot,
                seen: Seen,
                resolution: &Resolution,
            ) -> Result<ResolveOutcome, StoreError> {
                (**self).resolve(slot, seen, resolution).await
            }
            async fn purge(&self, slot: &Slot, fence: Fence) -> Result<bool, StoreError> {
                (**self).purge(slot, fence).await
            }
            async fn scan(&self, request: &ScanRequest) -> Result<Page, StoreError> {
                (**self).scan(request).await
            }
            async fn stats(&self) -> Result<Stats, StoreError> {
                (**self).stats().await
            }
            async fn assess(&self) -> Result<Vec<Finding>, StoreError> {
                (**self).assess().await
            }
        }
    };
}

forward!(Arc);
forward!(Box);
