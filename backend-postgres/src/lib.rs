//! Idempotency reservations in PostgreSQL.

mod admin;
mod assess;
mod builder;
mod calls;
mod connection;
mod error;
mod gather;
mod identifier;
mod row;
mod schema;
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
