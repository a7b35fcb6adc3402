//! Its capacity, and its pages.

use super::*;
use crate::{Fingerprint, Policy, Principal, StoredResponse, Terms};
use std::time::Duration;

fn slot(n: usize) -> Slot {
    Principal::new("p").unwrap().slot(format!("key-{n}")).unwrap()
}

fn request() -> ReserveRequest {
    let terms = Terms::new(Policy::TakeOver, Duration::from_secs(30), Duration::from_secs(60)).unwrap();
    ReserveRequest::new(Fingerprint::from_bytes([0; 32]), terms)
}

async fn reserve(store: &MemoryStore, n: usize) -> Result<Grant, StoreError> {
    match store.reserve_or_fetch(&slot(n), Token::fresh(), &request()).await? {
        ReservationOutcome::Reserved(grant) => Ok(grant),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_full_store_refuses_reserves_and_still_completes() {
    let clock = Clock::frozen(Timestamp::from_micros(1));
    let store = MemoryStore::builder().capacity(2).clock(clock.clone()).build();
    let first = reserve(&store, 1).await.unwrap();
    reserve(&store, 2).await.unwrap();
    let full = reserve(&store, 3).await.unwrap_err();
    assert_eq!((full.kind(), full.effect()), (ErrorKind::Full, Effect::NotApplied));
    let done = Completion::new(StoredResponse::new(200, "", vec![0; 1_000]));
    assert_eq!(store.complete(&slot(1), &first, &done).await.unwrap(), CompleteOutcome::Stored);
    clock.advance(Duration::from_secs(3600));
    reserve(&store, 3).await.expect("expired records make room");
}

#[tokio::test]
async fn bytes_are_counted_back_to_zero() {
    let store = MemoryStore::builder().capacity_bytes(500).build();
    let grant = reserve(&store, 1).await.unwrap();
    let done = Completion::new(StoredResponse::new(200, "", vec![0; 1_000]));
    assert_eq!(store.complete(&slot(1), &grant, &done).await.unwrap(), CompleteOutcome::Stored);
    assert_eq!(reserve(&store, 2).await.unwrap_err().kind(), ErrorKind::Full);
    assert!(store.purge(&slot(1), grant.fence).await.unwrap());
    assert_eq!(store.0.bytes.load(Ordering::Relaxed), 0);
    assert_eq!(store.0.records.load(Ordering::Relaxed), 0);
    reserve(&store, 2).await.unwrap();
}

#[tokio::test]
async fn a_scan_shows_each_record_once_in_order() {
    let store = MemoryStore::new();
    for n in 0..25 {
        reserve(&store, n).await.unwrap();
    }
    let mut request = ScanRequest::first(NonZeroU32::new(10).unwrap());
    let mut seen = Vec::new();
    loop {
        let page = store.scan(&request).await.unwrap();
        seen.extend(page.summaries.into_iter().map(|s| s.slot));
        match page.next {
            Some(next) => request = request.after(next),
            None => break,
        }
    }
    assert_eq!(seen.len(), 25);
    assert!(seen.is_sorted());
}
