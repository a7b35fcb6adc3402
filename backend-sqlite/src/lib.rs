//! Idempotency reservations in a SQLite file, or in memory for tests.
//!
//! ```
//! use oncekey_sqlite::*;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = SqliteStore::in_memory()?; // in production: SqliteStore::open("oncekey.db")?
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
//!  callers ──▶ bounded queue ──▶ writer thread: BEGIN IMMEDIATE · all that waits · COMMIT ──▶ answers
//!  lookup, scan, stats ────────▶ reader thread: a connection of its own (files)
//! ```
//!
//! One thread owns the connection that writes. It takes everything that waits into one transaction, and
//! answers only after COMMIT said yes: a row that `RETURNING` shows is not a commit. A lone call waits for
//! nobody. Other processes may use the same file.
//!
//! # What it promises
//!
//! With [`Durability::Full`], the default, an acknowledged record survives a crash of the process, of the
//! system, and a power cut, as far as the disk honours fsync. [`Durability::Normal`] survives a crash of
//! the process, and may lose the last records at a power cut. The clock is the host's.
//!
//! # In your own transaction
//!
//! [`SqliteStore::once`] reserves, and commits the answer with your business write, in one transaction of
//! your own connection to the same file; [`SqliteStore::complete_in`] completes there. With
//! [`SqliteStore::write`] the same runs on the writer's connection, in memory too.

mod assess;
mod blocking;
mod calls;
mod connection;
mod error;
mod row;
mod schema;
mod statements;
mod store;
mod transaction;
mod waiting;
mod worker;

pub use blocking::BlockingSqliteStore;
pub use connection::{Durability, SqliteStoreBuilder};
pub use error::WriteError;
pub use store::SqliteStore;
pub use transaction::OnceTx;

pub use oncekey_core::*;
/// The driver, for the types of [`SqliteStore::write`] and [`SqliteStore::once`].
pub use rusqlite;

/// The README's examples are tested as this crate's.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
