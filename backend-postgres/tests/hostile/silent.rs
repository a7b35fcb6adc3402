//! A server that takes too long, or says nothing at all, in the middle of a transaction or before a second look: what
//! the error says of its effect is so (S7).

use std::time::Duration;

use oncekey_postgres::sqlx::{Connection, PgConnection, query_scalar};
use oncekey_postgres::{
    Effect, Entry, ErrorKind, IdempotencyStore, InTxError, PostgresStore, ReservationOutcome, StoreError,
    Token,
};
use oncekey_testbed::proxy::Direction::ToServer;
use oncekey_testbed::proxy::Proxy;

use crate::kit::{
    answer, ask, database, eventually, granted, in_time, plain, pool, request, reserve, run, server, slot,
    works,
};
use crate::locks::insert;

/// How long a statement may take here.
const BRIEF: Duration = Duration::from_millis(500);

async fn brief(url: &str) -> PostgresStore {
    let builder = PostgresStore::builder().lock_timeout(BRIEF / 2).statement_deadline(BRIEF);
    let store = builder.connect(url).await.unwrap();
    store.ensure_schema().await.unwrap();
    store
}

#[track_caller]
fn of_store(error: InTxError) -> StoreError {
    match error {
        InTxError::Store(error) => error,
        other => panic!("{other:?}"),
    }
}

async fn settings(tx: &mut PgConnection) -> String {
    let both = "SELECT current_setting('lock_timeout') || ' ' || current_setting('statement_timeout')";
    query_scalar(both).fetch_one(tx).await.unwrap()
}

#[tokio::test]
async fn a_statement_that_takes_too_long_in_the_callers_transaction_leaves_it_usable() {
    let url = server().url(&database());
    let store = brief(&url).await;
    let grant = granted(reserve(&store, "a").await);
    let mut holder = plain(&url).await;
    run(&mut holder, "BEGIN; LOCK TABLE oncekey_slots IN ACCESS EXCLUSIVE MODE").await;

    let theirs = pool(&url, 1).await;
    let mut tx = theirs.begin().await.unwrap();
    run(&mut tx, "SET LOCAL lock_timeout = '7s'; SET LOCAL statement_timeout = '8s'; CREATE TABLE paid ()")
        .await;
    let (b, request) = (slot("b"), request());
    let reserved = in_time("reserve_in", store.reserve_in(&mut tx, &b, Token::fresh(), &request)).await;
    let error = reserved.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::NotApplied), "{error}");
    let completed =
        in_time("complete_in", store.complete_in(&mut tx, &slot("a"), &grant, &answer("x"))).await;
    let error = of_store(completed.unwrap_err());
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::NotApplied), "{error}");
    assert_eq!(settings(&mut tx).await, "7s 8s");
    holder.close().await.unwrap();
    // And where nothing is in the way.
    store.complete_in(&mut tx, &slot("a"), &grant, &answer("x")).await.unwrap();
    assert_eq!(settings(&mut tx).await, "7s 8s");
    tx.commit().await.unwrap();
    assert!(matches!(store.lookup(&slot("a")).await.unwrap(), Some(Entry::Completed(_))));
    assert!(store.lookup(&b).await.unwrap().is_none());
    assert_eq!(ask(&url, "SELECT count(*) FROM paid").await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_the_server_says_nothing_in_is_to_be_rolled_back() {
    let database = database();
    let url = server().url(&database);
    let store = brief(&url).await;
    let proxy = Proxy::before(server().socket()).unwrap();
    let theirs = pool(&server().url_by(proxy.address(), &database), 1).await;
    let grant = granted(reserve(&store, "a").await);
    let mut tx = theirs.begin().await.unwrap();
    proxy.hold_after(ToServer, 0);
    let completed =
        in_time("complete_in", store.complete_in(&mut tx, &slot("a"), &grant, &answer("x"))).await;
    let error = of_store(completed.unwrap_err());
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::Unknown), "{error}");
    assert!(error.to_string().contains("roll the transaction back"), "{error}");
    // What was sent may arrive yet, and whoever commits commits it.
    proxy.let_pass(ToServer);
    tx.rollback().await.unwrap();
    assert!(matches!(store.lookup(&slot("a")).await.unwrap(), Some(Entry::Pending(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_waits_for_a_silent_server_no_longer_than_a_statement() {
    let database = database();
    let url = server().url(&database);
    let store = brief(&url).await;
    works(&store, "done").await;
    let proxy = Proxy::before(server().socket()).unwrap();
    let by_proxy = server().url_by(proxy.address(), &database);

    let theirs = pool(&by_proxy, 1).await;
    let once = store.once(theirs.begin().await.unwrap(), &slot("a"), &request()).await.unwrap();
    let ReservationOutcome::Reserved(once) = once else { panic!("{once:?}") };
    proxy.hold_after(ToServer, 0);
    let error = in_time("rollback", once.rollback()).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::NotApplied), "{error}");
    proxy.let_pass(ToServer);

    // Of a duplicate: how much it sends before its ROLLBACK, and then that much.
    let theirs = pool(&by_proxy, 1).await;
    let mut sent = 0;
    for last in [false, true] {
        let tx = theirs.begin().await.unwrap();
        let before = proxy.seen(ToServer);
        if last {
            proxy.hold_after(ToServer, sent);
        }
        let said = in_time("a duplicate", store.once(tx, &slot("done"), &request())).await.unwrap();
        // What was read is true, however its transaction ends.
        assert!(matches!(said, ReservationOutcome::Replay(_)), "{said:?}");
        // `Q`, a length, `ROLLBACK`, a zero byte.
        sent = proxy.seen(ToServer) - before - 14;
    }
    proxy.let_pass(ToServer);
}

/// A reserve that had to wait for another's row looks for its own again (R10); when it can't, the row is there.
#[tokio::test]
async fn a_reserve_that_wrote_and_could_not_look_again_has_an_unknown_effect() {
    let url = server().url(&database());
    // One of two may wait for a lock.
    let theirs = pool(&url, 2).await;
    let long = Duration::from_secs(30);
    let builder = PostgresStore::builder().lock_timeout(long).statement_deadline(2 * long);
    let store = builder.call_deadline(Duration::from_secs(3)).from_pool(theirs.clone()).await.unwrap();
    store.ensure_schema().await.unwrap();
    let mut holder = insert(&url, &["a".to_owned()]).await;
    let reserving = {
        let store = store.clone();
        tokio::spawn(async move { reserve(&store, "a").await })
    };
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                 AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '100 ms'";
    eventually("it to wait for a while", async || match ask(&url, waits).await.as_str() {
        "1" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    let other = theirs.acquire().await.unwrap();
    // The next to have the connection.
    let taking = tokio::spawn(async move { theirs.acquire().await.unwrap() });
    tokio::task::yield_now().await;
    run(&mut holder, "ROLLBACK").await;
    let taken = in_time("the connection", taking).await.unwrap();
    let error = in_time("the reserve", reserving).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::Unknown), "{error}");
    drop((taken, other));
    assert_eq!(ask(&url, "SELECT state FROM oncekey_slots WHERE key = 'a'").await, "pending");
}
