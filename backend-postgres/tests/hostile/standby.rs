//! Servers that can't be written to: a standby answers from the past, so it answers nothing.

use oncekey_postgres::{
    CompleteOutcome, Entry, ErrorKind, IdempotencyAdmin, IdempotencyStore, PostgresStore, ReservationOutcome,
    Severity,
};
use oncekey_testbed::postgres::Server;

use crate::kit::{
    all_fail, answer, ask, eventually, every_operation, fails, fresh_url, granted, pool, reserve, slot, works,
};

const WORDS: &[&str] = &["a standby perhaps"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_answers_nothing_until_it_is_the_primary() {
    let primary = Server::builder().setting("max_connections", "40").start().unwrap();
    let store = PostgresStore::connect(&primary.url("postgres")).await.unwrap();
    store.ensure_schema().await.unwrap();
    let standby = primary.replica().unwrap();
    let url = standby.url("postgres");
    let own = PostgresStore::connect(&url).await.unwrap();
    let theirs = PostgresStore::from_pool(pool(&url, 2).await).await.unwrap();
    let both = [("own", &own), ("theirs", &theirs)];

    // Nothing is there: an empty page would be an answer too.
    let grant = granted(reserve(&store, "elsewhere").await);
    assert!(store.purge(&slot("elsewhere"), grant.fence).await.unwrap());
    for (name, store) in both {
        println!("{name}, empty");
        all_fail(every_operation(store, &slot("a"), &grant).await, ErrorKind::Unavailable, WORDS);
    }

    let grant = granted(reserve(&store, "a").await);
    let caught_up = "SELECT pg_current_wal_lsn()";
    let written = ask(&primary.url("postgres"), caught_up).await;
    let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
    eventually("the standby to follow", async || {
        if standby.psql(&replayed).unwrap() == "t" { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    for (name, store) in both {
        println!("{name}, with the record");
        all_fail(every_operation(store, &slot("a"), &grant).await, ErrorKind::Unavailable, WORDS);
        // A table that isn't there can't be made.
        let other = PostgresStore::builder().table("other");
        let other = match name {
            "own" => other.connect(&url).await.unwrap(),
            _ => other.from_pool(store.pool().clone()).await.unwrap(),
        };
        fails(&other.ensure_schema().await.unwrap_err(), ErrorKind::Unavailable, WORDS);
        let findings = store.assess().await.unwrap();
        let standby = findings.iter().find(|finding| finding.id == "postgres.standby");
        assert_eq!(standby.map(|finding| finding.severity), Some(Severity::Danger), "{findings:?}");
    }

    primary.kill().unwrap();
    standby.promote().unwrap();
    for (name, store) in both {
        works(store, name).await;
    }
    assert!(matches!(theirs.lookup(&slot("a")).await.unwrap(), Some(Entry::Pending(_))));
    assert_eq!(own.complete(&slot("a"), &grant, &answer("paid")).await.unwrap(), CompleteOutcome::Stored);
    let findings = own.assess().await.unwrap();
    assert!(findings.iter().all(|finding| finding.id != "postgres.standby"), "{findings:?}");
}

/// A primary whose sessions begin read-only: what is read there is true, and nothing is written.
#[tokio::test]
async fn sessions_that_are_read_only_write_nothing_and_say_so() {
    let url = fresh_url();
    let store = PostgresStore::connect(&url).await.unwrap();
    store.ensure_schema().await.unwrap();
    let grant = granted(reserve(&store, "a").await);
    let database = ask(&url, "SELECT current_database()").await;
    let alter =
        |setting: &str| format!("ALTER DATABASE {database} SET default_transaction_read_only = {setting}");
    crate::kit::server().psql(&alter("on")).unwrap();
    let own = PostgresStore::connect(&url).await.unwrap();
    let theirs = PostgresStore::from_pool(pool(&url, 2).await).await.unwrap();
    for store in [&own, &theirs] {
        let told = every_operation(store, &slot("a"), &grant).await;
        let (read, written): (Vec<_>, Vec<_>) =
            told.into_iter().partition(|(name, _)| ["lookup", "scan", "stats"].contains(name));
        all_fail(written, ErrorKind::Unavailable, &["read-only"]);
        for (name, said) in read {
            said.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
    crate::kit::server().psql(&alter("off")).unwrap();
    // A session that can't write is closed as soon as that is seen. The pool of the caller's has others, too.
    for (key, store) in [("own", &own), ("theirs", &theirs)] {
        let granted =
            eventually("new sessions", async || reserve(store, key).await.map_err(|error| error.to_string()));
        assert!(matches!(granted.await, ReservationOutcome::Reserved(_)));
    }
    assert_eq!(own.complete(&slot("a"), &grant, &answer("paid")).await.unwrap(), CompleteOutcome::Stored);
}
