//! Connections that can't be had: a pool that others use up, a server that has none left, and one that takes
//! its time to give them.

use std::time::Duration;

use oncekey_postgres::sqlx::{Connection, PgConnection};
use oncekey_postgres::{
    CompleteOutcome, Entry, ErrorKind, IdempotencyAdmin, IdempotencyStore, PostgresStore,
};
use oncekey_testbed::postgres::Server;
use oncekey_testbed::proxy::{Direction, Proxy};

use crate::kit::{
    all_fail, answer, database, eventually, every_operation, fails, fresh_url, granted, in_time, options,
    pool, reserve, server, slot, works,
};

const BRIEF: Duration = Duration::from_millis(400);

#[tokio::test]
async fn a_pool_that_others_hold_is_an_error_by_the_deadline_and_works_once_they_give_back() {
    let pool = pool(&fresh_url(), 3).await;
    let store = PostgresStore::builder().call_deadline(BRIEF).from_pool(pool.clone()).await.unwrap();
    store.ensure_schema().await.unwrap();
    let grant = granted(reserve(&store, "a").await);
    let held = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    let told = in_time("all operations", every_operation(&store, &slot("a"), &grant)).await;
    all_fail(told, ErrorKind::Timeout, &["connection"]);
    let error = in_time("ensure_schema", store.ensure_schema()).await.unwrap_err();
    fails(&error, ErrorKind::Timeout, &["connection"]);
    let error = in_time("assess", store.assess()).await.unwrap_err();
    fails(&error, ErrorKind::Timeout, &["connection"]);
    let error =
        in_time("from_pool", PostgresStore::builder().call_deadline(BRIEF).from_pool(pool.clone())).await;
    fails(&error.unwrap_err(), ErrorKind::Timeout, &["connection"]);
    drop(held);
    // What was given up was never sent: the grant is as it was.
    assert_eq!(store.complete(&slot("a"), &grant, &answer("paid")).await.unwrap(), CompleteOutcome::Stored);
    works(&store, "b").await;
}

#[tokio::test]
async fn a_call_that_waits_for_the_pool_is_answered_when_a_connection_is_given_back() {
    let pool = pool(&fresh_url(), 1).await;
    let store = PostgresStore::from_pool(pool.clone()).await.unwrap();
    store.ensure_schema().await.unwrap();
    let held = pool.acquire().await.unwrap();
    let calls: Vec<_> = (0..20)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { reserve(&store, &format!("{n}")).await })
        })
        .collect();
    let stats = tokio::spawn({
        let store = store.clone();
        async move { store.stats().await }
    });
    assert!(calls.iter().all(|call| !call.is_finished()));
    drop(held);
    for call in calls {
        granted(in_time("a call", call).await.unwrap());
    }
    in_time("stats", stats).await.unwrap().unwrap();
}

/// One connection, two calls a statement, and always more that wait than go: whoever asks something else gets
/// its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_connection_no_kind_of_call_starves_another() {
    let pool = pool(&fresh_url(), 1).await;
    let builder = PostgresStore::builder().batch(2, 1024 * 1024);
    let store = builder.from_pool(pool).await.unwrap();
    store.ensure_schema().await.unwrap();
    let grants: Vec<_> = {
        let mut grants = Vec::new();
        for n in 0..10 {
            grants.push((n, granted(reserve(&store, &format!("own-{n}")).await)));
        }
        grants
    };
    let reserving: Vec<_> = (0..16)
        .map(|caller| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0.. {
                    granted(reserve(&store, &format!("{caller}-{n}")).await);
                }
            })
        })
        .collect();
    for (n, grant) in grants {
        let slot = slot(format!("own-{n}"));
        let stored = in_time("a complete", store.complete(&slot, &grant, &answer("x"))).await;
        assert_eq!(stored.unwrap(), CompleteOutcome::Stored);
        assert!(matches!(in_time("a lookup", store.lookup(&slot)).await.unwrap(), Some(Entry::Completed(_))));
        assert!(in_time("stats", store.stats()).await.unwrap().completed > n);
    }
    for caller in reserving {
        assert!(!caller.is_finished(), "a reserve failed: {:?}", caller.await);
        caller.abort();
    }
}

/// The server's last connections, all of them.
async fn fill(url: &str) -> Vec<PgConnection> {
    let mut held = Vec::new();
    loop {
        match PgConnection::connect_with(&options(url)).await {
            Ok(connection) => held.push(connection),
            Err(error) => {
                let code = error.as_database_error().and_then(|e| e.code().map(|code| code.into_owned()));
                assert_eq!(code.as_deref(), Some("53300"), "{error}");
                return held;
            }
        }
    }
}

#[tokio::test]
async fn a_server_without_a_connection_left_is_an_error_by_the_deadline_and_works_once_it_has_one() {
    let server = Server::builder().setting("max_connections", "12").start().unwrap();
    server.psql("CREATE ROLE app LOGIN; GRANT CREATE ON SCHEMA public TO app").unwrap();
    let url = server.url("postgres").replace("user=postgres", "user=app");
    let builder = || PostgresStore::builder().call_deadline(BRIEF);
    let first = builder().connect(&url).await.unwrap();
    first.ensure_schema().await.unwrap();
    let grant = granted(reserve(&first, "a").await);
    first.pool().close().await;
    drop(first);

    let held = fill(&url).await;
    let error = in_time("connect", builder().connect(&url)).await.unwrap_err();
    fails(&error, ErrorKind::Timeout, &["connection"]);
    let store = builder().connect_lazy(&url).unwrap();
    let told = in_time("all operations", every_operation(&store, &slot("a"), &grant)).await;
    all_fail(told, ErrorKind::Timeout, &["max_connections"]);
    drop(held);
    let stored = eventually("the server to have connections", async || {
        store.complete(&slot("a"), &grant, &answer("paid")).await.map_err(|error| error.to_string())
    });
    assert_eq!(stored.await, CompleteOutcome::Stored);
    works(&store, "b").await;
}

/// Another continent, or TLS on a server that has much to do: a connection takes longer to make than a
/// runner looks for one at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_take_their_time_are_had_in_the_end() {
    let database = database();
    let direct = PostgresStore::connect(&server().url(&database)).await.unwrap();
    direct.ensure_schema().await.unwrap();
    let proxy = Proxy::before(server().socket()).unwrap();
    for direction in [Direction::ToServer, Direction::ToClient] {
        proxy.delay(direction, Duration::from_millis(150));
    }
    let url = server().url_by(proxy.address(), &database);
    let own = PostgresStore::builder().connect_lazy(&url).unwrap();
    granted(in_time("a reserve", reserve(&own, "own")).await);
    let theirs = PostgresStore::from_pool(pool(&url, 3).await).await.unwrap();
    let calls: Vec<_> = (0..8)
        .map(|n| {
            let store = theirs.clone();
            tokio::spawn(async move { reserve(&store, &format!("their-{n}")).await })
        })
        .collect();
    for call in calls {
        granted(in_time("a reserve", call).await.unwrap());
    }
    assert!(proxy.accepted() < 20, "a storm of {} connections", proxy.accepted());
}

#[tokio::test]
async fn a_closed_pool_is_an_error_at_once() {
    let pool = pool(&fresh_url(), 2).await;
    let store = PostgresStore::from_pool(pool.clone()).await.unwrap();
    store.ensure_schema().await.unwrap();
    let grant = granted(reserve(&store, "a").await);
    pool.close().await;
    let told = in_time("all operations", every_operation(&store, &slot("a"), &grant)).await;
    all_fail(told, ErrorKind::Unavailable, &["the pool is closed"]);
}

/// The store keeps connections from call to call, and a pool's close waits for each.
#[tokio::test]
async fn closing_the_stores_own_pool_waits_for_nobody() {
    let store = PostgresStore::connect(&fresh_url()).await.unwrap();
    store.ensure_schema().await.unwrap();
    for closed_before in [false, true] {
        let callers = (0..20).map(|n| {
            let store = store.clone();
            tokio::spawn(async move { reserve(&store, &format!("{n}")).await.map(drop) })
        });
        let callers: Vec<_> = callers.collect();
        for caller in callers {
            let told = in_time("a caller", caller).await.unwrap();
            assert_eq!(told.is_err(), closed_before, "{told:?}");
        }
        in_time("the pool to close", store.pool().close()).await;
        assert_eq!(store.pool().size(), 0);
    }
}
