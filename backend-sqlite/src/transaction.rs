//! In the caller's own transaction (T1 to T5): the answer and the business write, both or neither.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::Instant;

use oncekey_core::{
    Completion, Effect, ErrorKind, Grant, InTxError, ReservationOutcome, ReserveRequest, Slot, StoreError,
    Token,
};
use rusqlite::{Connection, DropBehavior, Transaction, TransactionBehavior};

use crate::calls;
use crate::connection::until;
use crate::error::{WriteError, store_error};
use crate::statements as sql;
use crate::store::SqliteStore;
use crate::worker::LOCK_SLICE;

impl SqliteStore {
    /// Reserves inside the caller's transaction: the grant exists for others from its commit (T2). The
    /// answer holds only if it commits.
    ///
    /// The transaction is on the caller's own connection to the same file, begun IMMEDIATE (T4), or the one
    /// that [`SqliteStore::write`] gives. The tables must be there.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of this call is then in the transaction.
    /// [`InvalidInput`](oncekey_core::ErrorKind::InvalidInput) when the transaction is on another database,
    /// or has ended already.
    pub fn reserve_in(
        &self,
        tx: &Transaction<'_>,
        slot: &Slot,
        token: Token,
        request: &ReserveRequest,
    ) -> Result<ReservationOutcome, StoreError> {
        self.join(tx, "reserve_in")?;
        let ran = calls::reserve_or_fetch(tx, slot, token, request, self.clock().now());
        ran.unwrap_or_else(|error| Err(in_transaction("reserve_in", error)))
    }

    /// Completes inside the caller's transaction: the answer is stored with the business write, both or
    /// neither (T1).
    ///
    /// Stop the heartbeat before (T4). What was reserved with [`IdempotencyStore`](oncekey_core::IdempotencyStore)
    /// is completed here; the transaction is on the caller's own connection to the same file, begun
    /// IMMEDIATE, or the one that [`SqliteStore::write`] gives. Whoever waits for the answer hears of it when
    /// `write` commits; when a transaction of the caller's does, at its next look.
    ///
    /// # Errors
    /// [`InTxError`] whenever this call did not store the answer, so that `?` rolls back.
    pub fn complete_in(
        &self,
        tx: &Transaction<'_>,
        slot: &Slot,
        grant: &Grant,
        completion: &Completion,
    ) -> Result<(), InTxError> {
        self.check("complete_in", completion)?;
        self.join(tx, "complete_in")?;
        let ran = calls::complete(tx, slot, grant, completion, self.clock().now());
        InTxError::unless_stored(ran.unwrap_or_else(|error| Err(in_transaction("complete_in", error)))?)?;
        if self.writer().is_here() {
            self.completed_here(slot);
        }
        Ok(())
    }

    /// Reserves, works and answers in one transaction and one flush: exactly once, as far as the work's
    /// effects are in this database. A crash leaves nothing.
    ///
    /// Takes the caller's transaction, begun IMMEDIATE on a connection of its own to the store's file.
    /// `Reserved` gives it back as [`OnceTx`], which only its own [`commit`](OnceTx::commit) commits; any
    /// other outcome has rolled it back.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("bank.db");
    /// use oncekey_sqlite::rusqlite::{Connection, Transaction, TransactionBehavior};
    /// use oncekey_sqlite::*;
    ///
    /// let store = SqliteStore::open(&path)?;
    /// let mut bank = Connection::open(&path)?;
    /// bank.execute_batch("CREATE TABLE paid (cents INTEGER)")?;
    ///
    /// let slot = Principal::new("shop-17")?.slot("order-4711")?;
    /// let request = ReserveRequest::new(Fingerprint::builder("pay/v1").part("9 EUR").finish(), Terms::default());
    /// for _ in 0..2 {
    ///     let tx = Transaction::new(&mut bank, TransactionBehavior::Immediate)?;
    ///     if let ReservationOutcome::Reserved(once) = store.once(tx, &slot, &request)? {
    ///         once.execute("INSERT INTO paid VALUES (900)", [])?;
    ///         once.commit(&Completion::new(StoredResponse::new(201, "", "paid")))?;
    ///     }
    /// }
    /// let paid = bank.query_one("SELECT sum(cents) FROM paid", [], |row| row.get::<_, i64>(0))?;
    /// assert_eq!(paid, 900);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StoreError`]; the transaction is rolled back.
    pub fn once<'c>(
        &self,
        mut tx: Transaction<'c>,
        slot: &Slot,
        request: &ReserveRequest,
    ) -> Result<ReservationOutcome<OnceTx<'c>>, StoreError> {
        // Whatever the caller chose: a business write must not be committed without its answer.
        tx.set_drop_behavior(DropBehavior::Rollback);
        let outcome = self.reserve_in(&tx, slot, Token::fresh(), request)?;
        // Unless reserved, `tx` is dropped here, and rolls back.
        Ok(outcome.map_reserved(|grant| OnceTx { store: self.clone(), slot: slot.clone(), grant, tx }))
    }

    /// Runs `work` in a transaction of its own on the writer's connection, in memory too, and commits what
    /// it did if it says `Ok`. Others wait meanwhile: keep it short, and leave the connection's settings as
    /// they are. Inside it, call [`reserve_in`](Self::reserve_in) and [`complete_in`](Self::complete_in):
    /// the store's own calls wait for this very thread, and answer
    /// [`Unsupported`](oncekey_core::ErrorKind::Unsupported).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use oncekey_sqlite::*;
    ///
    /// let store = SqliteStore::in_memory()?;
    /// let slot = Principal::new("shop-17")?.slot("order-4711")?;
    /// let request = ReserveRequest::new(Fingerprint::builder("pay/v1").finish(), Terms::default());
    /// let this = store.clone();
    /// store
    ///     .write(move |tx| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    ///         tx.execute_batch("CREATE TABLE paid (cents INTEGER)")?;
    ///         if let ReservationOutcome::Reserved(grant) = this.reserve_in(tx, &slot, Token::fresh(), &request)? {
    ///             tx.execute("INSERT INTO paid VALUES (900)", [])?;
    ///             this.complete_in(tx, &slot, &grant, &Completion::new(StoredResponse::new(201, "", "paid")))?;
    ///         }
    ///         Ok(())
    ///     })
    ///     .await
    ///     .map_err(|e| e.to_string())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`WriteError::Work`] with the work's own error, rolled back; [`WriteError::Store`] when the database
    /// failed.
    ///
    /// # Panics
    /// When `work` panics, with its panic; what it wrote is rolled back.
    pub async fn write<T, E>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, WriteError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let deadline = self.deadline();
        let store = self.clone();
        let run = move |db: &mut Connection| {
            let done = write_alone(db, deadline, work);
            let completed = store.take_completed();
            if matches!(done, Ok(Ok(_))) {
                completed.iter().for_each(|slot| store.wake(slot));
            }
            done
        };
        let done = self.writer().alone("write", run).await?;
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl SqliteStore {
    /// Makes sure that `tx` is an open transaction on this store's database, and that it holds the write
    /// lock, so that the clock is read after it (R10).
    fn join(&self, tx: &Transaction<'_>, operation: &'static str) -> Result<(), StoreError> {
        let refuse =
            |message| Err(StoreError::new(ErrorKind::InvalidInput, operation, Effect::NotApplied, message));
        // After `OR ROLLBACK`, and some errors, SQLite has rolled back by itself: what follows would be
        // committed at once, and the answer without the business write (T1).
        if tx.is_autocommit() {
            return refuse(
                "the transaction has ended already: SQLite rolled it back after an error, or it was ended by hand",
            );
        }
        if !self.is_on_its_file(tx) {
            return refuse("the transaction is on another database than the store's");
        }
        let lock = || tx.prepare_cached(sql::LOCK)?.execute([]);
        lock().map(drop).map_err(|error| in_transaction(operation, error))
    }

    fn is_on_its_file(&self, tx: &Transaction<'_>) -> bool {
        let there = tx.path().filter(|path| !path.is_empty()).map(Path::new);
        match (self.path(), there) {
            (None, None) => true,
            (Some(own), Some(there)) => {
                // SQLite knows a file by its full path, links resolved.
                own == there || std::fs::canonicalize(own).is_ok_and(|own| own == there)
            }
            _ => false,
        }
    }
}

type Panic = Box<dyn Any + Send>;

fn write_alone<T, E>(
    db: &Connection,
    deadline: Instant,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
) -> Result<Result<T, WriteError<E>>, Panic> {
    let failed = |effect, error| WriteError::Store(store_error("write", effect, error));
    let begun = until(deadline, || {
        db.busy_timeout(LOCK_SLICE.min(deadline.saturating_duration_since(Instant::now())))?;
        Transaction::new_unchecked(db, TransactionBehavior::Immediate)
    });
    let tx = match begun {
        Ok(tx) => tx,
        Err(error) => return Ok(Err(failed(Effect::NotApplied, error))),
    };
    // A panic must not take the thread along, with every call that waits for it.
    match catch_unwind(AssertUnwindSafe(|| work(&tx)))? {
        Ok(value) => Ok(tx.commit().map(|()| value).map_err(|error| failed(Effect::Unknown, error))),
        Err(error) => Ok(Err(WriteError::Work(error))),
    }
}

/// An error inside a transaction that only its owner may commit.
fn in_transaction(operation: &'static str, error: rusqlite::Error) -> StoreError {
    store_error(operation, Effect::NotApplied, error)
}

/// A transaction that holds a reservation: work in it, then [`commit`](Self::commit) the answer with the
/// work. Dropping it rolls everything back, the reservation too.
#[must_use = "dropping it rolls back: commit the answer"]
pub struct OnceTx<'c> {
    store: SqliteStore,
    slot: Slot,
    grant: Grant,
    tx: Transaction<'c>,
}

impl OnceTx<'_> {
    /// What was granted: attempt, fence, a predecessor's checkpoint.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Stores the answer, and commits it with everything that was done in the transaction.
    ///
    /// # Errors
    /// [`InTxError`]; the transaction is rolled back. With an error of unknown effect, ask again with
    /// [`SqliteStore::once`]: it tells whether the answer is there.
    pub fn commit(self, completion: &Completion) -> Result<(), InTxError> {
        self.store.complete_in(&self.tx, &self.slot, &self.grant, completion)?;
        self.tx.commit().map_err(|error| InTxError::Store(store_error("once", Effect::Unknown, error)))?;
        self.store.wake(&self.slot);
        Ok(())
    }

    /// Rolls everything back.
    ///
    /// # Errors
    /// [`StoreError`] when even that failed; nothing is committed all the same.
    pub fn rollback(self) -> Result<(), StoreError> {
        self.tx.rollback().map_err(|error| store_error("once", Effect::NotApplied, error))
    }
}

/// To the connection, and not to the transaction: nothing but [`OnceTx::commit`] commits, unless the work
/// executes a `COMMIT` of its own, which `commit` then refuses to build on.
impl Deref for OnceTx<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.tx
    }
}

impl fmt::Debug for OnceTx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceTx").field("slot", &self.slot).field("grant", &self.grant).finish_non_exhaustive()
    }
}
