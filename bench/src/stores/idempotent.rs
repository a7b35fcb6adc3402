//! The stores of the crate `idempotent` 0.3: in memory, and in Valkey or Redis.
//!
//! Used as its README does, in the cheapest correct way: the entry that claims the key is cloned (it is
//! small) to become the completed one, and the response's body is shared, not copied. The channel of
//! the one in memory has room for every caller, and its sweep, which walks all entries, never falls into a round.

use std::time::Duration;

use bytes::Bytes;
use idempotent::entry::{Completed, ExistingEntry, FencingToken};
use idempotent::fingerprint::{DefaultFingerprintStrategy, FingerprintStrategy};
use idempotent::store::memory::MemoryStore;
use idempotent::store::valkey::ValkeyStore;
use idempotent::store::{IdempotencyStore, InsertResult};
use idempotent::{CachedResponse, Fingerprint, IdempotencyEntry, IdempotencyKey, Metadata};

use crate::load::{BODY_BYTES, Contestant, Failure, RETENTION, fingerprint, key};

const CHANNEL: usize = 1_024;
const SWEEP: Duration = Duration::from_secs(3_600);

/// The store in memory.
pub(crate) type InMemory = MemoryStore;

pub(crate) struct Peer<S> {
    store: S,
    body: Bytes,
}

/// A claim: what completing it sends.
pub(crate) struct Claim {
    completed: IdempotencyEntry<Completed>,
    token: FencingToken,
}

impl Peer<MemoryStore> {
    /// Inside a runtime: the store is a task.
    pub(crate) fn new() -> Self {
        Self::of(MemoryStore::new(CHANNEL, SWEEP))
    }
}

impl<S> Peer<S> {
    fn of(store: S) -> Self {
        Self { store, body: Bytes::from(vec![b'x'; BODY_BYTES]) }
    }
}

impl Peer<ValkeyStore> {
    pub(crate) async fn connect(url: &str) -> Result<Self, Failure> {
        Ok(Self::of(ValkeyStore::with_prefix(redis::Client::open(url)?, Some("peer")).await?))
    }

    /// With responses of this size.
    pub(crate) fn with_body(self, bytes: usize) -> Self {
        Self { body: Bytes::from(vec![b'x'; bytes]), ..self }
    }
}

impl<S: IdempotencyStore> Contestant for Peer<S> {
    type Item = (IdempotencyKey, Fingerprint);
    type Grant = Claim;

    fn prepare(n: u64) -> Result<Self::Item, Failure> {
        let fingerprint = DefaultFingerprintStrategy.compute("pay", &fingerprint(n));
        Ok((IdempotencyKey::new(key(n))?, fingerprint))
    }

    async fn reserve(&self, (key, fingerprint): &Self::Item) -> Result<Claim, Failure> {
        let entry = IdempotencyEntry::new(*fingerprint, RETENTION);
        let response =
            CachedResponse { status_code: 200, metadata: Metadata::default(), body: self.body.clone() };
        let completed = entry.clone().complete(response);
        match self.store.try_insert(key, entry).await? {
            InsertResult::Claimed { fencing_token } => Ok(Claim { completed, token: fencing_token }),
            InsertResult::Exists(other) => Err(format!("a fresh key answered {other:?}").into()),
        }
    }

    async fn complete(&self, (key, _): &Self::Item, claim: Claim) -> Result<(), Failure> {
        Ok(self.store.complete(key, claim.completed, claim.token).await?)
    }

    async fn replay(&self, (key, fingerprint): &Self::Item) -> Result<usize, Failure> {
        match self.store.try_insert(key, IdempotencyEntry::new(*fingerprint, RETENTION)).await? {
            InsertResult::Exists(ExistingEntry::Completed(entry))
                if entry.fingerprint_matches(*fingerprint) =>
            {
                Ok(entry.response().body.len())
            }
            other => Err(format!("a completed key answered {other:?}").into()),
        }
    }
}
