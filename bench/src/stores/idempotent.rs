//! The memory store of the crate `idempotent` 0.3.
//!
//! Used as its README does, in the cheapest correct way: the entry that claims the key is cloned (it is
//! small) to become the completed one, and the response's body is shared, not copied. Its channel has
//! room for every caller, and its sweep, which walks all entries, never falls into a round.

use std::time::Duration;

use bytes::Bytes;
use idempotent::entry::{Completed, ExistingEntry, FencingToken};
use idempotent::fingerprint::{DefaultFingerprintStrategy, FingerprintStrategy};
use idempotent::store::memory::MemoryStore;
use idempotent::store::{IdempotencyStore, InsertResult};
use idempotent::{CachedResponse, Fingerprint, IdempotencyEntry, IdempotencyKey, Metadata};

use crate::load::{BODY_BYTES, Contestant, Failure, RETENTION, fingerprint, key};

const CHANNEL: usize = 1_024;
const SWEEP: Duration = Duration::from_secs(3_600);

pub(crate) struct Peer {
    store: MemoryStore,
    body: Bytes,
}

/// A claim: what completing it sends.
pub(crate) struct Claim {
    completed: IdempotencyEntry<Completed>,
    token: FencingToken,
}

impl Peer {
    /// Inside a runtime: the store is a task.
    pub(crate) fn new() -> Self {
        Self { store: MemoryStore::new(CHANNEL, SWEEP), body: Bytes::from(vec![b'x'; BODY_BYTES]) }
    }
}

impl Contestant for Peer {
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
