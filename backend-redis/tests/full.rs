//! FAULTS 24: memory is full, and the server may not forget. A reserve fails and changes nothing; what is there is told,
//! and what was begun comes to its end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: its failure is a panic")]

mod common;

use std::num::NonZeroU32;
use std::time::Duration;

use oncekey_redis::{
    ClockOffset, CompleteOutcome, Completion, Effect, Entry, ErrorKind, Fingerprint, Grant, IdempotencyAdmin,
    IdempotencyStore, Policy, Principal, RedisStore, ReleaseOutcome, RenewOutcome, Renewal,
    ReservationOutcome, ReserveRequest, Resolution, ResolveOutcome, Seen, Slot, StoredResponse, Terms, Token,
};
use oncekey_testbed::redis::Server;

const HOUR: Duration = Duration::from_secs(3600);

fn slot(key: &str) -> Slot {
    Principal::new("full").unwrap().slot(key).unwrap()
}

fn request() -> ReserveRequest {
    ReserveRequest::new(Fingerprint::from_bytes([7; 32]), Terms::new(Policy::TakeOver, HOUR, HOUR).unwrap())
}

async fn grant(store: &RedisStore, key: &str) -> Grant {
    match store.reserve_or_fetch(&slot(key), Token::fresh(), &request()).await {
        Ok(ReservationOutcome::Reserved(grant)) => grant,
        other => panic!("{key}: {other:?}"),
    }
}

#[tokio::test]
async fn when_memory_is_full_a_reserve_fails_and_a_completion_is_kept() {
    let (server, offset) = (Server::start().unwrap(), ClockOffset::shiftable());
    let builder = common::builder().clock_offset(offset.clone());
    let store = builder.connect(&server.url(0)).await.unwrap();
    let answer = Completion::new(StoredResponse::new(200, "", vec![7; 100_000]));
    let done = grant(&store, "done").await;
    assert_eq!(store.complete(&slot("done"), &done, &answer).await.unwrap(), CompleteOutcome::Stored);
    let (held, returned, renewed) =
        (grant(&store, "held").await, grant(&store, "returned").await, grant(&store, "renewed").await);
    grant(&store, "left").await;
    server.cli(["config", "set", "maxmemory", "1000000"]).unwrap();

    let error = store.reserve_or_fetch(&slot("new"), Token::fresh(), &request()).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::NotApplied), "{error}");
    assert!(error.to_string().contains("memory is full"), "{error}");
    // What writes nothing is answered.
    let told = store.reserve_or_fetch(&slot("done"), Token::fresh(), &request()).await.unwrap();
    assert!(matches!(&told, ReservationOutcome::Replay(record) if record.response == *answer.response()));
    let told = store.reserve_or_fetch(&slot("held"), Token::fresh(), &request()).await.unwrap();
    assert!(matches!(told, ReservationOutcome::InFlight(_)), "{told:?}");
    assert!(matches!(store.lookup(&slot("held")).await, Ok(Some(Entry::Pending(_)))));
    // But not to who asks that others have it: that can't be found out without a write.
    let waits = common::builder().wait_for_replicas(1, Duration::from_millis(1));
    let waits = waits.connect(&server.url(0)).await.unwrap();
    let error = waits.reserve_or_fetch(&slot("done"), Token::fresh(), &request()).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::NotApplied), "{error}");
    assert!(error.to_string().contains("memory is full"), "{error}");
    // What was begun is ended.
    assert_eq!(store.complete(&slot("held"), &held, &answer).await.unwrap(), CompleteOutcome::Stored);
    assert_eq!(store.release(&slot("returned"), &returned).await.unwrap(), ReleaseOutcome::Released);
    let told = store.renew(&slot("renewed"), &renewed, &Renewal::extend(2 * HOUR).unwrap()).await.unwrap();
    assert!(matches!(told, RenewOutcome::Renewed(_)), "{told:?}");
    assert!(store.purge(&slot("done"), done.fence).await.unwrap());
    // What was left is settled, and what has ended is deleted.
    let Some(Entry::Pending(left)) = store.lookup(&slot("left")).await.unwrap() else {
        panic!("it is there")
    };
    offset.advance(HOUR + Duration::from_secs(60));
    let seen = Seen { fence: left.fence, lease_expires_at: left.lease_expires_at };
    let told = store.resolve(&slot("left"), seen, &Resolution::Complete(answer.clone())).await.unwrap();
    assert_eq!(told, ResolveOutcome::Resolved);
    offset.advance(3 * HOUR);
    assert_eq!(store.garbage_collect(NonZeroU32::MAX).await.unwrap(), 4);

    server.cli(["config", "set", "maxmemory", "0"]).unwrap();
    assert!(store.lookup(&slot("new")).await.unwrap().is_none(), "nothing of it was applied");
    grant(&store, "new").await;
}

#[tokio::test]
async fn a_server_that_may_evict_is_refused_at_opening() {
    let server = Server::start().unwrap();
    for policy in
        ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-ttl", "volatile-random"]
    {
        server.cli(["config", "set", "maxmemory-policy", policy]).unwrap();
        let error = RedisStore::connect(&server.url(0)).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Unsupported, Effect::NotApplied), "{error}");
        assert!(
            error.to_string().contains(policy) && error.to_string().contains("accept_eviction"),
            "{error}"
        );
        // Nor by a call, where nothing was asked at opening.
        let lazy = RedisStore::builder().connect_lazy(&server.url(0)).unwrap();
        lazy.lookup(&slot("a")).await.unwrap_err();
        let store = RedisStore::builder().accept_eviction().connect(&server.url(0)).await.unwrap();
        assert!(store.lookup(&slot("a")).await.unwrap().is_none());
    }
}
