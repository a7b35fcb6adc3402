//! This project's stores, through the trait that a service uses.

use std::time::Duration;

use bytes::Bytes;
use oncekey_core::{
    CompleteOutcome, Completion, Fingerprint, Grant, IdempotencyStore, Policy, Principal, ReservationOutcome,
    ReserveRequest, Slot, StoredResponse, Terms, Token,
};

use crate::load::{BODY_BYTES, Contestant, Failure, LEASE, RETENTION, fingerprint, key, principal};

/// Any store of ours.
#[derive(Debug)]
pub(crate) struct Ours<S> {
    store: S,
    completion: Completion,
}

impl<S: IdempotencyStore> Ours<S> {
    pub(crate) fn new(store: S) -> Self {
        let response = StoredResponse::new(200, Bytes::new(), Bytes::from(vec![b'x'; BODY_BYTES]));
        Self { store, completion: Completion::new(response) }
    }

    /// With responses of this size.
    pub(crate) fn with_body(self, bytes: usize) -> Self {
        let response = StoredResponse::new(200, Bytes::new(), Bytes::from(vec![b'x'; bytes]));
        Self { completion: Completion::new(response), ..self }
    }

    /// One whose answers are kept so long and no longer.
    pub(crate) fn kept_for(store: S, retention: Duration) -> Result<Self, Failure> {
        let Self { store, completion } = Self::new(store);
        Ok(Self { store, completion: completion.keep_for(retention)? })
    }
}

impl<S: IdempotencyStore> Contestant for Ours<S> {
    type Item = (Slot, ReserveRequest);
    type Grant = Grant;

    fn prepare(n: u64) -> Result<Self::Item, Failure> {
        let slot = Principal::new(principal(n))?.slot(key(n))?;
        let terms = Terms::new(Policy::TakeOver, LEASE, RETENTION)?;
        Ok((slot, ReserveRequest::new(Fingerprint::from_bytes(fingerprint(n)), terms)))
    }

    async fn reserve(&self, (slot, request): &Self::Item) -> Result<Grant, Failure> {
        match self.store.reserve_or_fetch(slot, Token::fresh(), request).await? {
            ReservationOutcome::Reserved(grant) => Ok(grant),
            other => Err(format!("a fresh slot answered {other:?}").into()),
        }
    }

    async fn complete(&self, (slot, _): &Self::Item, grant: Grant) -> Result<(), Failure> {
        match self.store.complete(slot, &grant, &self.completion).await? {
            CompleteOutcome::Stored => Ok(()),
            other => Err(format!("completing answered {other:?}").into()),
        }
    }

    async fn replay(&self, (slot, request): &Self::Item) -> Result<usize, Failure> {
        match self.store.reserve_or_fetch(slot, Token::fresh(), request).await? {
            ReservationOutcome::Replay(record) => Ok(record.response.len()),
            other => Err(format!("a completed slot answered {other:?}").into()),
        }
    }
}
