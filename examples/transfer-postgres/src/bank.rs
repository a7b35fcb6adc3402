//! The bank: accounts in a PostgreSQL database, and transfers that happen exactly once, in two ways.

use std::error::Error;
use std::str::FromStr;
use std::time::Duration;

use oncekey_example_killed::step;
use oncekey_postgres::sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use oncekey_postgres::sqlx::{self, ConnectOptions};
use oncekey_postgres::{
    Completion, Fingerprint, Grant, Idempotency, IdempotencyStore, InTxError, Policy, PostgresStore,
    Principal, ReservationOutcome, ReserveRequest, Slot, StoredResponse, Terms,
};

use crate::money::{Order, move_money};

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Where the example's tables are, oncekey's among them.
const SCHEMA: &str = "oncekey_transfer";
/// How long a transfer waits for another one of the same key, before it says that the key is busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// A bank in a database.
pub(crate) struct Bank {
    store: PostgresStore,
    idempotency: Idempotency,
    terms: Terms,
    /// The bank's own connections. A lost COMMIT is asked about by others, those of the store.
    pool: PgPool,
}

/// How a transfer is made to happen exactly once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// All of it in one transaction.
    Once,
    /// Reserved first, where all see it; then done and completed in one transaction.
    CompleteIn,
}

/// What became of it.
pub(crate) enum Outcome {
    /// It was made, or refused, by this call.
    Now(StoredResponse),
    /// It was by an earlier call, and this is what that answered.
    Before(StoredResponse),
    /// The key was used for another transfer.
    KeyReused,
    /// Somebody is at work on it.
    Busy,
}

impl FromStr for Way {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "once" => Ok(Self::Once),
            "complete-in" => Ok(Self::CompleteIn),
            other => Err(format!("`{other}` is no way: once, complete-in")),
        }
    }
}

impl Bank {
    pub(crate) fn open(url: &str, lease: Duration) -> Result<Self, BoxError> {
        // Reached by the first call, which is made again while the server starts.
        let store = PostgresStore::builder().schema(SCHEMA).connect_lazy(url)?;
        let terms = Terms::new(Policy::TakeOver, lease, Terms::default().retention())?;
        let idempotency = Idempotency::at_least_once(store.clone()).terms(lease, terms.retention())?;
        // READ COMMITTED is the server's default, and said here because it is relied on (T4).
        let session = [("search_path", SCHEMA), ("default_transaction_isolation", "read committed")];
        let options = PgConnectOptions::from_str(url)?.options(session).disable_statement_logging();
        // A connection that died is found out by its transaction, which is made again.
        let pool = PgPoolOptions::new().test_before_acquire(false).connect_lazy_with(options);
        Ok(Self { store, idempotency, terms, pool })
    }

    /// Makes the tables that aren't there.
    pub(crate) async fn prepare(&self) -> Result<(), BoxError> {
        self.store.ensure_schema().await?;
        sqlx::raw_sql(include_str!("../sql/bank.sql")).execute(&self.pool).await?;
        Ok(())
    }

    /// Transfers, or says what the first call of this key said.
    pub(crate) async fn transfer(&self, way: Way, key: &str, order: &Order) -> Result<Outcome, BoxError> {
        match way {
            Way::Once => self.at_once(key, order).await,
            Way::CompleteIn => self.in_two(key, order).await,
        }
    }

    /// Reservation, debit, credit and answer are one transaction: at every moment all of them are in the
    /// database, or none is.
    async fn at_once(&self, key: &str, order: &Order) -> Result<Outcome, BoxError> {
        let (slot, meaning) = asked(key, order)?;
        let request = ReserveRequest::new(meaning, self.terms);

        step("before-begin");
        let tx = self.pool.begin().await?;
        step("after-begin");
        Ok(match self.store.once(tx, &slot, &request).await? {
            ReservationOutcome::Reserved(mut once) => {
                step("after-reserve");
                // An error drops `once`, and with it everything.
                let answer = move_money(&mut once, key, order).await?;
                step("before-commit");
                // Where the answer to its COMMIT is lost, it finds out by itself.
                once.commit(&Completion::new(answer.clone())).await?;
                step("after-commit");
                Outcome::Now(answer)
            }
            ReservationOutcome::Replay(record) => Outcome::Before(record.response),
            ReservationOutcome::Conflict => Outcome::KeyReused,
            ReservationOutcome::InFlight(_) | ReservationOutcome::Indeterminate(_) => Outcome::Busy,
        })
    }

    /// The reservation is there for all to see, and kept by a heartbeat, while whatever takes long is done;
    /// then debit, credit and answer are one transaction.
    async fn in_two(&self, key: &str, order: &Order) -> Result<Outcome, BoxError> {
        let (slot, meaning) = asked(key, order)?;

        step("before-reserve");
        let call = self.idempotency.call(&slot, meaning).wait_up_to(PATIENCE);
        Ok(match call.reserve().await? {
            ReservationOutcome::Reserved(reservation) => {
                step("after-reserve");
                // T4: a renewal would wait for the transaction, which has the slot's row.
                reservation.held().stop_renewing().await;
                let grant = reservation.held().grant();
                let mut answer = self.move_and_complete(&slot, grant, key, order).await;
                if answer.as_ref().is_err_and(|error| !is_lost(error)) {
                    // T5: it may have been committed and its answer lost. Made again, all of it, it says so. If
                    // that fails too, the slot is left to its lease: whoever asks then makes it again, or hears
                    // what was answered. Released it must not be.
                    answer = self.move_and_complete(&slot, grant, key, order).await;
                }
                Outcome::Now(answer?)
            }
            ReservationOutcome::Replay(record) => Outcome::Before(record.response),
            ReservationOutcome::Conflict => Outcome::KeyReused,
            ReservationOutcome::InFlight(_) | ReservationOutcome::Indeterminate(_) => Outcome::Busy,
        })
    }

    async fn move_and_complete(
        &self,
        slot: &Slot,
        grant: &Grant,
        key: &str,
        order: &Order,
    ) -> Result<StoredResponse, BoxError> {
        let mut tx = self.pool.begin().await?;
        step("after-begin");
        let answer = move_money(&mut tx, key, order).await?;
        match self.store.complete_in(&mut tx, slot, grant, &Completion::new(answer.clone())).await {
            Ok(()) => {}
            // This is the second time, and the first was committed. What was moved now is rolled back.
            Err(InTxError::AlreadyStored(record)) => return Ok(record.response),
            // Somebody else has taken over, and nothing of this may stay; or it isn't known.
            Err(error) => return Err(error.into()),
        }
        step("after-complete");
        tx.commit().await?;
        step("after-commit");
        // Whoever waits needn't wait for its next look.
        self.store.wake(slot);
        Ok(answer)
    }

    /// Ends when something may have happened to the key, or after a while.
    pub(crate) async fn pass(&self, key: &str) -> Result<(), BoxError> {
        let watch = self.store.watch(&slot(key)?);
        let _ = tokio::time::timeout(Duration::from_millis(100), watch).await;
        Ok(())
    }

    /// Opens an account, if it isn't there.
    pub(crate) async fn open_account(&self, name: &str, cents: i64) -> Result<(), BoxError> {
        let open = "INSERT INTO accounts VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        sqlx::query(open).bind(name).bind(cents).execute(&self.pool).await?;
        Ok(())
    }

    /// All accounts, by name.
    pub(crate) async fn accounts(&self) -> Result<Vec<(String, i64)>, BoxError> {
        Ok(sqlx::query_as("SELECT name, cents FROM accounts ORDER BY name").fetch_all(&self.pool).await?)
    }

    /// A key that nobody has used.
    pub(crate) async fn new_key(&self) -> Result<String, BoxError> {
        Ok(sqlx::query_scalar("SELECT gen_random_uuid()::text").fetch_one(&self.pool).await?)
    }
}

/// Whether somebody else has taken the slot over.
fn is_lost(error: &BoxError) -> bool {
    matches!(error.downcast_ref(), Some(InTxError::Lost(_)))
}

fn slot(key: &str) -> Result<Slot, BoxError> {
    Ok(Principal::new("bank")?.slot(key)?)
}

/// The slot of a transfer, and what it means.
fn asked(key: &str, order: &Order) -> Result<(Slot, Fingerprint), BoxError> {
    let meaning = Fingerprint::builder("transfer/v1")
        .part(&order.from)
        .part(&order.to)
        .part(order.cents.to_le_bytes())
        .finish();
    Ok((slot(key)?, meaning))
}
