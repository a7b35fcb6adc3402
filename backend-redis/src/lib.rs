//! Idempotency reservations in Redis or Valkey.
//!
//! ```no_run
//! use oncekey_redis::*;
//!
//! # async fn pay() -> Result<(), Box<dyn std::error::Error>> {
//! let store = RedisStore::connect("redis://cache.internal:6379").await?;
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
//!  callers ──▶ one connection, which sends together what waits ──▶ a script on one key: reads, decides, writes once
//! ```
//!
//! Each operation is one round trip and one script (the project's backend-redis/lua), which validates first and writes
//! last. A slot is one key, its prefix and the digest of principal and key, so that a cluster has it on one server.
//! The clock is the server's. Redis deletes a key by itself some seconds after its record has expired.
//!
//! # What it promises, and what it can't
//!
//! On one server with `appendonly yes` and `appendfsync always` an acknowledged record survives a crash. But
//! replication is asynchronous: **a failover can lose an acknowledged record, whatever the settings**, and its work is
//! then done again. Waiting for replicas ([`RedisStoreBuilder::wait_for_replicas`]) narrows that and doesn't close it.
//! Where twice is too often, let the downstream refuse older fences, or keep the records in PostgreSQL. A server that
//! may evict records is refused, unless it is accepted in words ([`RedisStoreBuilder::accept_eviction`]).
//! [`assess`](IdempotencyAdmin::assess) reads what a live server may lose.
//!
//! A call is tried until its deadline, with the same token or grant (S6), through restarts, lost connections and
//! failovers; its error says whether it may have had an effect. When memory is full a reserve fails, and changes
//! nothing; a completion is kept all the same.

mod address;
mod admin;
mod answer;
mod assess;
mod builder;
mod call;
mod error;
mod flight;
mod lane;
mod link;
mod pause;
mod script;
mod settled;
mod source;
mod store;
mod topology;
mod value;
mod wake;
mod walk;

#[cfg(feature = "test-util")]
pub use builder::ClockOffset;
pub use builder::RedisStoreBuilder;
pub use store::RedisStore;

pub use oncekey_core::*;
