//! Nothing is read from a replica: what it says is a past, and it can't know how long ago that was.

use std::num::NonZeroU32;

use oncekey_redis::{Entry, ErrorKind, IdempotencyAdmin, IdempotencyStore, RedisStore, ScanRequest};
use oncekey_testbed::redis::Server;

use crate::kit::{BRIEF, all_reads_fail, answer, fails, reserve, slot};

const WORDS: &[&str] = &["this is a replica", "point the URL at the master"];

#[tokio::test]
async fn a_replica_that_the_url_names_answers_nothing() {
    let master = Server::builder().tcp().start().unwrap();
    let store = RedisStore::connect(&master.url(0)).await.unwrap();
    let grant = reserve(&store, "there").await;
    store.complete(&slot("there"), &grant, &answer()).await.map(drop).unwrap();
    let replica = Server::builder().tcp().replica_of(&master).start().unwrap();
    let mut builder = RedisStore::builder().call_deadline(BRIEF);
    for may_evict in [false, true] {
        if may_evict {
            builder = builder.accept_eviction();
        }
        let opened = builder.clone().connect(&replica.url(0)).await;
        fails("connect", opened, ErrorKind::Unavailable, WORDS);
        let store = builder.clone().connect_lazy(&replica.url(0)).unwrap();
        all_reads_fail("a replica", &store, ErrorKind::Unavailable, WORDS).await;
        // But what is wrong with it is told.
        let found = store.assess().await.unwrap();
        assert!(found.iter().any(|finding| finding.id == "redis.replica"), "{found:?}");
    }
}

/// It follows nobody who is there, and keeps what it has.
fn demote(server: &Server) {
    server.cli(["replicaof", "127.0.0.1", "1"]).unwrap();
}

#[tokio::test]
async fn a_master_that_is_demoted_answers_nothing_from_then_on_over_the_connection_that_it_has() {
    let server = Server::start().unwrap();
    let keeper = RedisStore::connect(&server.url(0)).await.unwrap();
    let grant = reserve(&keeper, "there").await;
    // With keys of its own that are refused one by one, and with none.
    for prefix in ["oncekey", "none"] {
        let builder = RedisStore::builder().prefix(prefix).call_deadline(BRIEF);
        for call in 0..7 {
            // A connection for each: one that a failed call has left is another one.
            let store = builder.clone().connect(&server.url(0)).await.unwrap();
            store.ensure_schema().await.unwrap();
            demote(&server);
            assert_eq!(server.cli(["dbsize"]).unwrap(), "1");
            let first = ScanRequest::first(NonZeroU32::MIN);
            match call {
                0 => fails("lookup", store.lookup(&slot("there")).await, ErrorKind::Unavailable, WORDS),
                1 => fails("lookup", store.lookup(&slot("absent")).await, ErrorKind::Unavailable, WORDS),
                2 => fails("scan", store.scan(&first).await, ErrorKind::Unavailable, WORDS),
                3 => fails("stats", store.stats().await, ErrorKind::Unavailable, WORDS),
                4 => fails("ensure_schema", store.ensure_schema().await, ErrorKind::Unavailable, WORDS),
                5 => {
                    let said = store.garbage_collect(NonZeroU32::MIN).await;
                    fails("garbage_collect", said, ErrorKind::Unavailable, WORDS);
                }
                _ => all_reads_fail("demoted", &store, ErrorKind::Unavailable, WORDS).await,
            }
            server.promote().unwrap();
            store.ensure_schema().await.unwrap();
        }
    }
    assert!(matches!(keeper.lookup(&slot("there")).await.unwrap(), Some(Entry::Pending(_))));
    keeper.complete(&slot("there"), &grant, &answer()).await.map(drop).unwrap();
}
