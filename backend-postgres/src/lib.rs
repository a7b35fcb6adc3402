//! Idempotency reservations in a table of a PostgreSQL database.
//!
//! ```no_run
//! use oncekey_postgres::*;
//!
//! # async fn pay() -> Result<(), Box<dyn std::error::Error>> {
//! let store = PostgresStore::connect("postgres://app@db.internal/payments").await?;
//! store.ensure_schema().await?; // or your migration tool, with the SQL of PostgresStoreBuilder::schema_sql
//! let slot = Principal::new("shop-17")?.slot("order-4711")?;
//! let request = ReserveRequest::new(Fingerprint::builder("pay/v1").part("9 EUR").finish(), Terms::default());
//!
//! if let ReservationOutcome::Reserved(grant) = store.reserve_or_fetch(&slot, Token::fresh(), &request).await? {
//!     let paid = StoredResponse::new(201, "", "paid"); // the work
//!     assert_eq!(store.complete(&slot, &grant, &Completion::new(paid)).await?, CompleteOutcome::Stored);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # How a call goes
//!
//! ```text
//!  callers ──▶ a queue for each kind of call ──▶ all that waits, as one statement, on one of a few connections
//!                                                  │ a row is locked, or fails
//!                                                  └──▶ each of its calls alone, beside the batches
//! ```
//!
//! Each operation is one autocommit statement, for one slot or for many. A fresh reserve is one round trip, and a
//! replay, an InFlight and a Conflict lock nothing and write nothing. A batch runs in a task of its own, and a lone
//! call's statement is finished in one when its caller is dropped: no connection is left half-way. Why the
//! statements look as they do is in the project's docs/decisions/.
//!
//! # What it promises
//!
//! An acknowledged record survives a crash of the process, and of the server with its defaults (`fsync`,
//! `full_page_writes` and `synchronous_commit` on), which [`assess`](IdempotencyAdmin::assess) reads. The clock is
//! the server's, whatever the session's time zone. Nothing is read from a standby.
//!
//! A call is tried until its deadline, with the same token or grant (S6), through restarts of the server, lost
//! connections and serialization failures; its error says whether it may have had an effect.
//!
//! # In your own transaction
//!
//! [`PostgresStore::once`] reserves, works and answers in one transaction and one flush: exactly once, as far as
//! the effects are in this database. [`PostgresStore::complete_in`] completes there what was reserved before, and
//! was seen by others meanwhile. Neither reaches the world beyond the database: an e-mail that is sent in between
//! is sent whether the transaction commits or not.
//!
//! # Behind a pooler
//!
//! PgBouncer in session mode needs nothing. In transaction mode say so
//! ([`PostgresStoreBuilder::transaction_pooler`]): otherwise prepared statements come and go.

mod admin;
mod assess;
mod bounds;
mod builder;
mod calls;
mod connection;
mod error;
mod gather;
mod identifier;
mod kept;
mod operation;
mod pause;
mod row;
mod schema;
mod settle;
mod statements;
mod store;
mod transaction;
mod wake;

pub use builder::PostgresStoreBuilder;
#[cfg(feature = "test-util")]
pub use connection::ClockOffset;
pub use store::PostgresStore;
pub use transaction::OnceTx;

pub use oncekey_core::*;
/// The driver, for the types of pools and transactions.
pub use sqlx;
