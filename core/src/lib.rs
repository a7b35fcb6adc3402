//! Idempotency reservations: exactly one caller does the work, everyone else gets the first answer, and
//! the work is taken over safely when its caller died.
//!
//! A client retries a payment; the network lost the answer, not the payment. Before working, a service
//! *reserves* the slot `(principal, key)`. One caller is granted it, for a *lease* that it renews while
//! it works, and completes it with an answer that is kept for the *retention*. Others hear
//! [`InFlight`](ReservationOutcome::InFlight), then the [`Replay`](ReservationOutcome::Replay), byte for
//! byte. When the holder falls silent, the next caller takes over under a higher *fence*, and nothing
//! that the old holder does later changes the record.
//!
//! This crate has the words, the [state machine](state), the contract [`IdempotencyStore`], a store in
//! memory and the runner. Pick a database by its crate: `oncekey-sqlite` re-exports all of this.
//!
//! ```
//! use oncekey_core::*;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStore::new();
//! let slot = Principal::new("shop-17")?.slot("order-4711")?;
//! let request = ReserveRequest::new(Fingerprint::builder("pay/v1").part("9 EUR").finish(), Terms::default());
//!
//! match store.reserve_or_fetch(&slot, Token::fresh(), &request).await? {
//!     ReservationOutcome::Reserved(grant) => {
//!         let paid = StoredResponse::new(201, "", "paid"); // the work
//!         let _stored = store.complete(&slot, &grant, &Completion::new(paid)).await?;
//!     }
//!     ReservationOutcome::Replay(record) => println!("the first answer: {:?}", record.response),
//!     other => println!("not now: {other:?}"),
//! }
//! # Ok(())
//! # }
//! ```

mod admin;
mod checkpoint;
mod clock;
pub mod codec;
mod error;
#[cfg(feature = "test-util")]
mod faulty;
mod fingerprint;
mod in_tx;
mod memory;
mod outcome;
mod record;
mod request;
#[cfg(feature = "runner")]
mod runner;
mod slot;
pub mod state;
mod store;
mod token;
mod watch;

pub use admin::{
    Cursor, Finding, IdempotencyAdmin, Page, Phase, Resolution, ResolveOutcome, ScanFilter, ScanRequest,
    Seen, Severity, Stats, Summary,
};
pub use checkpoint::{Checkpoint, MAX_CHECKPOINT_BYTES};
pub use clock::{Clock, Timestamp};
pub use error::{Effect, ErrorKind, InvalidInput, StoreError};
#[cfg(feature = "test-util")]
pub use faulty::{Fault, Faulty, Gate, Method, Odds};
pub use fingerprint::{Fingerprint, FingerprintBuilder};
pub use in_tx::InTxError;
pub use memory::{DEFAULT_CAPACITY, DEFAULT_CAPACITY_BYTES, MemoryStore, MemoryStoreBuilder};
pub use outcome::{
    CompleteOutcome, InFlight, Lapsed, Loss, ReleaseOutcome, RenewOutcome, Renewed, ReservationOutcome,
};
pub use record::{Body, Entry, IdempotencyRecord, PendingEntry, StoredResponse};
pub use request::{Completion, MAX_LEASE, MAX_RETENTION, MIN_LEASE, Policy, Renewal, ReserveRequest, Terms};
#[cfg(all(feature = "runner", feature = "json"))]
pub use runner::Json;
#[cfg(feature = "runner")]
pub use runner::{
    Answer, AnswerError, Call, ErrorPolicy, HandOver, Held, How, Idempotency, Lost, OnError, OnPanic, Panic,
    Reservation, RunError, RunOutcome, SaveError, SettleError, Unsaved,
};
pub use slot::{MAX_PART_BYTES, Principal, Slot, SlotDigest};
pub use store::{DEFAULT_RESPONSE_BYTES, IdempotencyStore, Limits};
pub use token::{Fence, Grant, Token};
pub use watch::{Watch, Watchers};

/// For implementors of the traits.
pub use async_trait::async_trait;
/// For bodies and checkpoints.
pub use bytes::Bytes;
