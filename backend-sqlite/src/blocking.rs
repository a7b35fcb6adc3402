//! The same store for programs without async.

use std::num::NonZeroU32;

use oncekey_core::{
    CompleteOutcome, Completion, Entry, Fence, Finding, Grant, IdempotencyAdmin, IdempotencyStore, Page,
    ReleaseOutcome, RenewOutcome, Renewal, ReservationOutcome, ReserveRequest, Resolution, ResolveOutcome,
    ScanRequest, Seen, Slot, Stats, StoreError, Token,
};
use rusqlite::Transaction;

use crate::error::WriteError;
use crate::store::SqliteStore;

/// Waits for a call on this thread. Outside tokio's budget: inside a task its channels would answer nothing
/// more once the budget is spent, and the task that could yield is the one that waits.
fn block_on<F: Future>(call: F) -> F::Output {
    pollster::block_on(tokio::task::coop::unconstrained(call))
}

/// Every call of [`SqliteStore`], blocking the caller's thread until the answer is there. Needs no runtime;
/// inside one it blocks a worker, so use the store itself there.
///
/// ```
/// use oncekey_sqlite::*;
///
/// let store = SqliteStore::in_memory()?.blocking();
/// let slot = Principal::new("cron")?.slot("nightly-2026-11-23")?;
/// let request = ReserveRequest::new(Fingerprint::builder("job/v1").finish(), Terms::default());
/// let first = store.reserve_or_fetch(&slot, Token::fresh(), &request)?;
/// assert!(matches!(first, ReservationOutcome::Reserved(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct BlockingSqliteStore(SqliteStore);

impl SqliteStore {
    /// The same store for programs without async.
    pub fn blocking(&self) -> BlockingSqliteStore {
        BlockingSqliteStore(self.clone())
    }
}

/// Forwards to the async method of the same name, with its errors.
macro_rules! blocking {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        impl BlockingSqliteStore {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// [`StoreError`], as the async method of this name.
                pub fn $name(&self, $($argument: $type),*) -> Result<$answer, StoreError> {
                    block_on(self.0.$name($($argument),*))
                }
            )*
        }
    };
}

blocking! {
    /// Makes the tables, or migrates them.
    ensure_schema() -> ();
    /// R1 to R11.
    reserve_or_fetch(slot: &Slot, token: Token, request: &ReserveRequest) -> ReservationOutcome;
    /// W1 to W4.
    renew(slot: &Slot, grant: &Grant, renewal: &Renewal) -> RenewOutcome;
    /// C1 to C5.
    complete(slot: &Slot, grant: &Grant, completion: &Completion) -> CompleteOutcome;
    /// L1 to L5.
    release(slot: &Slot, grant: &Grant) -> ReleaseOutcome;
    /// Q1.
    lookup(slot: &Slot) -> Option<Entry>;
    /// G1, G2.
    garbage_collect(limit: NonZeroU32) -> u64;
    /// O1.
    resolve(slot: &Slot, seen: Seen, resolution: &Resolution) -> ResolveOutcome;
    /// O2.
    purge(slot: &Slot, fence: Fence) -> bool;
    /// O2.
    scan(request: &ScanRequest) -> Page;
    /// How many records there are of each kind.
    stats() -> Stats;
    /// What about this database is unsafe.
    assess() -> Vec<Finding>;
}

impl BlockingSqliteStore {
    /// As [`SqliteStore::write`].
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn write<T, E>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, WriteError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        block_on(self.0.write(work))
    }

    /// As [`SqliteStore::close`].
    pub fn close(&self) {
        block_on(self.0.close());
    }

    /// The store itself, for async callers.
    pub fn store(&self) -> &SqliteStore {
        &self.0
    }
}
