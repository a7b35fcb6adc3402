//! Links that are slow, and alive: nobody is cut off for it.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use oncekey_redis::{
    CompleteOutcome, Completion, Effect, Entry, ErrorKind, IdempotencyStore, Principal, RedisStore,
    RedisStoreBuilder, ReservationOutcome, ReserveRequest, Slot, StoredResponse, Terms, Token,
};
use oncekey_storm::deed::{Stage as _, fingerprint, granted, reserve};
use oncekey_testbed::proxy::Direction::{ToClient, ToServer};
use oncekey_testbed::proxy::Proxy;
use oncekey_testbed::redis::{Cluster, Server};
use oncekey_testbed::wait_until;
use tokio::time::timeout;

use crate::bench::{Bench, is_answered};

/// A store through the proxy that is connected, and a slot that it has seen.
async fn connected(
    bench: &Bench,
    build: impl FnOnce(RedisStoreBuilder) -> RedisStoreBuilder,
) -> (RedisStore, Slot) {
    let (store, slot) = (bench.another(build), bench.slot());
    is_answered(&store, &slot).await;
    (store, slot)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_large_answer_is_stored_and_read_over_a_slow_link() {
    let bench = Bench::open();
    // It is received when a connection may be silent for as long as it takes, which may be the third.
    let (store, slot) = connected(&bench, |builder| builder.call_deadline(Duration::from_secs(60))).await;
    let grant = granted(&bench.clean(&slot, &reserve(Token::fresh())).await);
    let large = Completion::new(StoredResponse::new(200, "", vec![7; 12 << 20]));
    for direction in [ToServer, ToClient] {
        bench.proxy.slow(direction, NonZeroU64::new(4 << 20).unwrap());
    }
    let stored = store.complete(&slot, &grant, &large).await.unwrap();
    assert_eq!(stored, CompleteOutcome::Stored);
    assert_eq!(bench.proxy.accepted(), 1, "it was given the time that its bytes take");
    // It is asked for beside others, which come behind it.
    let beside = bench.slot();
    let (read, _) = tokio::join!(store.lookup(&slot), async {
        for _ in 0..3 {
            assert!(store.lookup(&beside).await.unwrap().is_none());
        }
    });
    let Some(Entry::Completed(record)) = read.unwrap() else { panic!("another") };
    assert!(record.response == *large.response());
    let request = ReserveRequest::new(fingerprint(), Terms::default());
    let told = store.reserve_or_fetch(&slot, Token::fresh(), &request).await.unwrap();
    assert!(matches!(told, ReservationOutcome::Replay(record) if record.response == *large.response()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_that_gives_up_early_cuts_nobody_off() {
    let bench = Bench::open();
    let (store, slot) = connected(&bench, |builder| builder.call_deadline(Duration::from_millis(50))).await;
    for direction in [ToServer, ToClient] {
        bench.proxy.delay(direction, Duration::from_millis(100));
    }
    for _ in 0..30 {
        let error = store.lookup(&slot).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::NotApplied), "{error}");
    }
    bench.proxy.pass().unwrap();
    // On a machine that does other things besides, one may be late once more.
    is_answered(&store, &slot).await;
    assert_eq!(bench.proxy.accepted(), 1, "one connection, from the first call on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_far_server_is_reached_though_no_call_has_the_time_to_connect() {
    let bench = Bench::open();
    for direction in [ToServer, ToClient] {
        bench.proxy.delay(direction, Duration::from_millis(75));
    }
    // To connect is two exchanges at least, and to ask is one.
    let store = bench.another(|builder| builder.call_deadline(Duration::from_millis(400)));
    let slot = bench.slot();
    let mut failed = 0;
    while let Err(error) = store.lookup(&slot).await {
        failed += 1;
        assert!(failed < 100, "{error}");
    }
    assert!(failed > 0, "the first had no connection yet");
}

/// To connect takes longer than one of a cluster's servers is waited for at first, so that one which hangs holds up
/// nobody who asks the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_far_cluster_is_reached() {
    let cluster = Cluster::alone().unwrap();
    let server = &cluster.servers()[0];
    let proxy = Proxy::before(server.socket()).unwrap();
    let port = proxy.address().port().to_string();
    server.cli(["config", "set", "cluster-announce-port", &port]).unwrap();
    for direction in [ToServer, ToClient] {
        proxy.delay(direction, Duration::from_millis(300));
    }
    let url = format!("redis+cluster://{}", proxy.address());
    let slot = Principal::new("far").unwrap().slot("a").unwrap();
    // Two: one that calls, and one that is told by others alone.
    let builder = RedisStore::builder().call_deadline(Duration::from_secs(30));
    let [calls, waits] = [(); 2].map(|()| builder.clone().connect_lazy(&url).unwrap());
    assert!(calls.lookup(&slot).await.unwrap().is_none());
    timeout(Duration::from_secs(60), waits.watch(&slot)).await.expect("somebody to listen");
}

/// Whoever waits sends nothing on the connection that it is told by: whether that lives has to be asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_that_hints_come_by_is_replaced_when_it_says_nothing() {
    let bench = Bench::open();
    let (store, slot) = connected(&bench, |builder| builder).await;
    // It is told to look again as soon as somebody listens.
    store.watch(&slot).await;
    assert_eq!(bench.proxy.accepted(), 2);
    let waits = store.watch(&slot);
    bench.proxy.black_hole();
    let accepted = || match bench.proxy.accepted() {
        2 => Err("2 connections".to_owned()),
        _ => Ok(()),
    };
    wait_until("somebody to listen anew", Duration::from_secs(30), accepted).unwrap();
    bench.proxy.pass().unwrap();
    waits.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_that_says_nothing_is_replaced_though_each_call_gives_up_early() {
    let bench = Bench::open();
    let (store, slot) = connected(&bench, |builder| builder.call_deadline(Duration::from_millis(100))).await;
    // As a network does that has forgotten the connection.
    bench.proxy.black_hole();
    let mut failed = 0;
    while bench.proxy.accepted() == 1 {
        store.lookup(&slot).await.unwrap_err();
        failed += 1;
        assert!(failed < 1_000, "nobody connects anew");
    }
}

/// What is given up comes to more and more bytes, and none of them delays the next answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_that_says_nothing_is_replaced_however_much_it_is_sent() {
    let bench = Bench::open();
    let (store, slot) = connected(&bench, |builder| builder.call_deadline(Duration::from_millis(100))).await;
    let grant = granted(&bench.clean(&slot, &reserve(Token::fresh())).await);
    let large = Completion::new(StoredResponse::new(200, "", vec![7; 4 << 20]));
    bench.proxy.black_hole();
    let mut failed = 0;
    while bench.proxy.accepted() == 1 {
        store.complete(&slot, &grant, &large).await.unwrap_err();
        failed += 1;
        assert!(failed < 300, "nobody connects anew");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hint_that_comes_late_cuts_nobody_off() {
    // Of its own: a test beside it that makes the server busy is none of its business.
    let bench = Bench::before(Arc::new(Server::builder().setting("appendonly", "no").start().unwrap()));
    let (store, slot) = connected(&bench, |builder| builder).await;
    let grant = granted(&bench.clean(&slot, &reserve(Token::fresh())).await);
    bench.proxy.delay(ToClient, Duration::from_millis(1_200));
    let done = Completion::new(StoredResponse::new(200, "", "done"));
    assert_eq!(store.complete(&slot, &grant, &done).await.unwrap(), CompleteOutcome::Stored);
    store.clone().close().await;
    assert!(matches!(store.lookup(&slot).await, Ok(Some(Entry::Completed(_)))));
    assert_eq!(bench.proxy.accepted(), 1);
}

/// A thread with a runtime of its own gives a call up, and ends: what it leaves is nobody's, and not for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_runtime_that_ends_takes_nothing_along_that_tells_whether_a_connection_lives() {
    let bench = Bench::open();
    let (store, slot) = connected(&bench, |builder| builder.call_deadline(Duration::from_millis(100))).await;
    bench.proxy.delay(ToClient, Duration::from_millis(300));
    let given_up = {
        let (store, slot) = (store.clone(), slot.clone());
        std::thread::spawn(move || {
            let own = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            own.block_on(store.lookup(&slot)).unwrap_err()
        })
    };
    given_up.join().unwrap();
    bench.proxy.pass().unwrap();
    is_answered(&store, &slot).await;
    assert_eq!(bench.proxy.accepted(), 1, "it was alive all the while");
    bench.proxy.black_hole();
    let anew = async {
        while bench.proxy.accepted() == 1 {
            store.lookup(&slot).await.unwrap_err();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), anew).await.expect("somebody connects anew");
}
