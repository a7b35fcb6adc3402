//! A connection that its pool hands out in somebody else's transaction: the driver gives it back so when a `begin`
//! is dropped half-way. What the store would write there is rolled back by whoever comes next.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;

use oncekey_postgres::sqlx::postgres::PgPool;
use oncekey_postgres::sqlx::raw_sql;
use oncekey_postgres::{IdempotencyStore, PostgresStore, ReleaseOutcome};

use crate::cancel::IN_TRANSACTION;
use crate::kit::{ask, eventually, fresh_url, granted, in_time, pool, reserve, slot, works};

/// Drops a `begin` whose BEGIN the server has run, and whose answer nobody has read.
async fn leave_a_transaction_open(pool: &PgPool, url: &str) {
    loop {
        let mut begin = pin!(pool.begin());
        while !poll_once(begin.as_mut()).await {
            // Another round trip to the server: what was sent before has arrived.
            if ask(url, IN_TRANSACTION).await != "0" {
                return;
            }
        }
        // The server was quick, and the transaction ends when it is dropped: once more.
        eventually("the transaction to end", async || match ask(url, IN_TRANSACTION).await.as_str() {
            "0" => Ok(()),
            left => Err(left.to_owned()),
        })
        .await;
    }
}

async fn poll_once<T>(mut future: Pin<&mut impl Future<Output = T>>) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await
}

/// That what `store` acknowledges next is there for everybody.
async fn keeps_its_word(store: &PostgresStore, pool: &PgPool, url: &str) {
    for n in 0..4 {
        let key = format!("after-{n}");
        leave_a_transaction_open(pool, url).await;
        let grant = granted(in_time("a reserve", reserve(store, &key)).await);
        let there = format!("SELECT count(*) FROM oncekey_slots WHERE key = '{key}'");
        assert_eq!(ask(url, &there).await, "1", "acknowledged, and in nobody's transaction");
        leave_a_transaction_open(pool, url).await;
        assert!(in_time("a lookup", store.lookup(&slot(&key))).await.unwrap().is_some());
        leave_a_transaction_open(pool, url).await;
        let released = in_time("a release", store.release(&slot(&key), &grant)).await.unwrap();
        assert_eq!(released, ReleaseOutcome::Released);
        assert_eq!(ask(url, &format!("{there} AND state = 'released'")).await, "1");
    }
    works(store, "afterwards").await;
    assert_eq!(ask(url, IN_TRANSACTION).await, "0");
}

#[tokio::test]
async fn on_a_pool_whose_begin_was_dropped_half_way_what_is_acknowledged_is_committed() {
    for builder in [PostgresStore::builder(), PostgresStore::builder().transaction_pooler()] {
        let url = fresh_url();
        let theirs = pool(&url, 1).await;
        let store = builder.from_pool(theirs.clone()).await.unwrap();
        store.ensure_schema().await.unwrap();
        keeps_its_word(&store, &theirs, &url).await;
    }
}

/// A stray may have failed, or have an isolation of its own.
#[tokio::test]
async fn a_stray_of_any_kind_is_closed() {
    for begin in ["BEGIN; SELECT 1 / 0", "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1"] {
        for builder in [PostgresStore::builder(), PostgresStore::builder().transaction_pooler()] {
            let url = fresh_url();
            let theirs = pool(&url, 1).await;
            let store = builder.from_pool(theirs.clone()).await.unwrap();
            store.ensure_schema().await.unwrap();
            let mut taken = theirs.acquire().await.unwrap();
            let _ = raw_sql(begin).execute(&mut *taken).await;
            drop(taken);
            in_time(begin, works(&store, "a")).await;
        }
    }
}
