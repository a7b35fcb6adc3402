//! One slot, seen through one client.

use std::fmt::Debug;
use std::future::Future;
use std::panic::Location;
use std::sync::Arc;

use oncekey_core::{
    CompleteOutcome, Completion, Entry, Fence, Grant, IdempotencyAdmin, ReleaseOutcome, RenewOutcome,
    Renewal, ReservationOutcome, Resolution, ResolveOutcome, Seen, Slot, StoreError, StoredResponse, Watch,
};

use super::{Caller, expect};
use crate::case::Failure;

/// One slot, seen through one client. Every method fails with the line of the case that called it.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    pub(crate) store: Arc<dyn IdempotencyAdmin>,
    pub(crate) slot: Slot,
}

impl Desk {
    /// The same slot through another client.
    pub(crate) fn through(&self, store: Arc<dyn IdempotencyAdmin>) -> Self {
        Self { store, slot: self.slot.clone() }
    }

    /// The store's own answer, its error too.
    pub(crate) async fn try_reserve(&self, who: &Caller) -> Result<ReservationOutcome, StoreError> {
        self.store.reserve_or_fetch(&self.slot, who.token, &who.request()?).await
    }

    #[track_caller]
    pub(crate) fn reserve(&self, who: &Caller) -> impl Future<Output = Result<ReservationOutcome, Failure>> {
        answered(self.try_reserve(who))
    }

    #[track_caller]
    pub(crate) fn renew(
        &self,
        grant: &Grant,
        renewal: Renewal,
    ) -> impl Future<Output = Result<RenewOutcome, Failure>> {
        answered(async move { self.store.renew(&self.slot, grant, &renewal).await })
    }

    #[track_caller]
    pub(crate) fn hand_over(&self, grant: &Grant) -> impl Future<Output = Result<RenewOutcome, Failure>> {
        self.renew(grant, Renewal::hand_over())
    }

    /// Completes with `response`, kept for the record's retention.
    #[track_caller]
    pub(crate) fn complete(
        &self,
        grant: &Grant,
        response: StoredResponse,
    ) -> impl Future<Output = Result<CompleteOutcome, Failure>> {
        self.complete_with(grant, Completion::new(response))
    }

    #[track_caller]
    pub(crate) fn complete_with(
        &self,
        grant: &Grant,
        completion: Completion,
    ) -> impl Future<Output = Result<CompleteOutcome, Failure>> {
        answered(async move { self.store.complete(&self.slot, grant, &completion).await })
    }

    #[track_caller]
    pub(crate) fn release(&self, grant: &Grant) -> impl Future<Output = Result<ReleaseOutcome, Failure>> {
        answered(async move { self.store.release(&self.slot, grant).await })
    }

    #[track_caller]
    pub(crate) fn lookup(&self) -> impl Future<Output = Result<Option<Entry>, Failure>> {
        answered(self.store.lookup(&self.slot))
    }

    /// The record as anybody may see it, without the one figure that changes by itself. Two of these are
    /// equal when nothing was written in between.
    #[track_caller]
    pub(crate) fn record(&self) -> impl Future<Output = Result<Option<Entry>, Failure>> {
        let lookup = self.lookup();
        async move {
            Ok(lookup.await?.map(|entry| match entry {
                Entry::Pending(mut pending) => {
                    pending.lease_left = None;
                    Entry::Pending(pending)
                }
                Entry::Completed(record) => Entry::Completed(record),
            }))
        }
    }

    pub(crate) fn watch(&self) -> Watch {
        self.store.watch(&self.slot)
    }

    #[track_caller]
    pub(crate) fn resolve(
        &self,
        seen: Seen,
        resolution: Resolution,
    ) -> impl Future<Output = Result<ResolveOutcome, Failure>> {
        answered(async move { self.store.resolve(&self.slot, seen, &resolution).await })
    }

    #[track_caller]
    pub(crate) fn purge(&self, fence: Fence) -> impl Future<Output = Result<bool, Failure>> {
        answered(self.store.purge(&self.slot, fence))
    }
}

/// The call's answer, or a failure that names the line of the case: an answer was due.
#[track_caller]
fn answered<T: Debug>(
    call: impl Future<Output = Result<T, StoreError>>,
) -> impl Future<Output = Result<T, Failure>> {
    let at = Location::caller();
    async move { call.await.map_err(|e| expect::error_at(at, &e)) }
}
