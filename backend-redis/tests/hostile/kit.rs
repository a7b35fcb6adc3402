//! What these tests share: a slot that is completed, and the errors that they expect.

use std::num::NonZeroU32;
use std::time::Duration;

use oncekey_redis::{
    Completion, Effect, ErrorKind, Fingerprint, Grant, IdempotencyAdmin, IdempotencyStore, Policy, Principal,
    RedisStore, ReservationOutcome, ReserveRequest, ScanRequest, Slot, StoreError, StoredResponse, Terms,
    Token,
};

/// How long a call is tried that can't be answered.
pub const BRIEF: Duration = Duration::from_millis(700);

pub fn slot(key: &str) -> Slot {
    Principal::new("p").unwrap().slot(key).unwrap()
}

pub fn request() -> ReserveRequest {
    let terms = Terms::new(Policy::TakeOver, Duration::from_secs(600), Duration::from_secs(6_000)).unwrap();
    ReserveRequest::new(Fingerprint::from_bytes([7; 32]), terms)
}

pub async fn reserve(store: &RedisStore, key: &str) -> Grant {
    match store.reserve_or_fetch(&slot(key), Token::fresh(), &request()).await.unwrap() {
        ReservationOutcome::Reserved(grant) => grant,
        other => panic!("{other:?}"),
    }
}

pub fn answer() -> Completion {
    Completion::new(StoredResponse::new(200, "", "paid"))
}

/// Fails unless the call failed so, for a reason in these words, and changed nothing.
pub fn fails<T: std::fmt::Debug>(what: &str, said: Result<T, StoreError>, kind: ErrorKind, words: &[&str]) {
    let error = said.expect_err(what);
    let told = error.to_string();
    assert_eq!((error.kind(), error.effect()), (kind, Effect::NotApplied), "{what}: {told}");
    assert!(words.iter().all(|word| told.contains(word)), "{what}: {told}");
}

/// Each call that reads alone.
pub async fn all_reads_fail(what: &str, store: &RedisStore, kind: ErrorKind, words: &[&str]) {
    fails(&format!("{what}: lookup"), store.lookup(&slot("there")).await, kind, words);
    fails(&format!("{what}: lookup of none"), store.lookup(&slot("absent")).await, kind, words);
    fails(&format!("{what}: scan"), store.scan(&ScanRequest::first(NonZeroU32::MIN)).await, kind, words);
    fails(&format!("{what}: stats"), store.stats().await, kind, words);
    fails(&format!("{what}: ensure_schema"), store.ensure_schema().await, kind, words);
    let said = store.garbage_collect(NonZeroU32::MIN).await;
    fails(&format!("{what}: garbage_collect"), said, kind, words);
}
