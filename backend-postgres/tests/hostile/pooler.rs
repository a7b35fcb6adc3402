//! PgBouncer in transaction mode: each transaction may be on another session, with what others left there.

use std::collections::BTreeMap;

use oncekey_conformance::Level;
use oncekey_postgres::{
    CompleteOutcome, Entry, ErrorKind, IdempotencyAdmin, IdempotencyStore, PostgresStore, ReservationOutcome,
    StoreError,
};
use oncekey_testbed::pgbouncer::{Bouncer, PoolMode};
use oncekey_testbed::postgres::Server;

use crate::kit::{
    SOON, answer, database, eventually, fails, granted, in_time, pool, reserve, server, slot, works,
};
use crate::suite::{Way, options_for, passes};

/// On so many sessions, and with these settings.
fn bouncer(sessions: &str, settings: &[(&str, &str)]) -> Bouncer {
    let builder = Bouncer::before(server(), PoolMode::Transaction)
        .setting("default_pool_size", sessions)
        .setting("max_client_conn", "2000");
    let builder = settings.iter().fold(builder, |builder, (name, value)| builder.setting(name, value));
    // Since 1.21 it can keep track of prepared statements, and later it does unless it is told not to.
    match builder.clone().setting("max_prepared_statements", "0").start() {
        Err(error) if error.to_string().contains("unknown parameter") => builder.start().unwrap(),
        started => started.unwrap(),
    }
}

const ADVICE: &[&str] = &["transaction_pooler"];

#[test]
fn the_suite_passes_behind_a_pooler() {
    let bouncer = bouncer("4", &[]);
    let way = Way::Pooler(bouncer.url(&database()), 1);
    passes("behind PgBouncer", way, &options_for(|case| case.level != Level::Model));
}

/// A load of several stores, of which each answer that came is true in the end; the errors.
async fn load(stores: &[PostgresStore], direct: &PostgresStore) -> Vec<StoreError> {
    let callers: Vec<_> = (0..16)
        .map(|caller| {
            let store = stores[caller % stores.len()].clone();
            tokio::spawn(async move {
                let (mut told, mut errors) = (BTreeMap::new(), Vec::new());
                for n in 0..12 {
                    let key = format!("{caller}-{n}");
                    let grant = match reserve(&store, &key).await {
                        Ok(ReservationOutcome::Reserved(grant)) => grant,
                        Ok(other) => panic!("{key}: {other:?}"),
                        Err(error) => {
                            errors.push(error);
                            continue;
                        }
                    };
                    match store.complete(&slot(&key), &grant, &answer(&key)).await {
                        Ok(CompleteOutcome::Stored) => drop(told.insert(key, (grant.fence, true))),
                        Ok(other) => panic!("{key}: {other:?}"),
                        Err(error) => {
                            told.insert(key, (grant.fence, false));
                            errors.push(error);
                        }
                    }
                }
                (told, errors)
            })
        })
        .collect();
    let mut errors = Vec::new();
    for caller in callers {
        let (told, failed) = in_time("a caller", caller).await.unwrap();
        errors.extend(failed);
        for (key, (fence, stored)) in told {
            match direct.lookup(&slot(&key)).await.unwrap() {
                Some(Entry::Completed(record)) if stored => {
                    assert_eq!((record.fence, &record.response), (fence, answer(&key).response()), "{key}");
                }
                Some(Entry::Pending(pending)) if !stored => assert_eq!(pending.fence, fence, "{key}"),
                other => panic!("{key} was told as stored: {stored}, and is {other:?}"),
            }
        }
    }
    errors
}

async fn direct(database: &str) -> PostgresStore {
    let direct = PostgresStore::connect(&server().url(database)).await.unwrap();
    direct.ensure_schema().await.unwrap();
    direct
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_stores_share_few_sessions_and_none_hears_an_error() {
    let (bouncer, database) = (bouncer("2", &[]), database());
    let mut stores = Vec::new();
    for _ in 0..3 {
        let builder = || PostgresStore::builder().transaction_pooler();
        stores.push(builder().connect(&bouncer.url(&database)).await.unwrap());
        stores.push(builder().from_pool(pool(&bouncer.url(&database), 4).await).await.unwrap());
    }
    stores[0].ensure_schema().await.unwrap();
    let errors = load(&stores, &direct(&database).await).await;
    assert!(errors.is_empty(), "{}", errors[0]);
    assert_eq!(stores[3].stats().await.unwrap().completed, 16 * 12);
}

#[tokio::test]
async fn a_store_that_was_not_told_of_the_pooler_says_what_to_do() {
    let (bouncer, database) = (bouncer("4", &[]), database());
    direct(&database).await;
    // The pooler takes no settings with a connection.
    let error = PostgresStore::connect(&bouncer.url(&database)).await.unwrap_err();
    fails(&error, ErrorKind::Other, ADVICE);
    let store = PostgresStore::builder().connect_lazy(&bouncer.url(&database)).unwrap();
    fails(&reserve(&store, "a").await.unwrap_err(), ErrorKind::Other, ADVICE);
    fails(&store.ensure_schema().await.unwrap_err(), ErrorKind::Other, ADVICE);
}

/// A pooler that was told to let settings pass, and pools of others: what was prepared on one session is asked
/// for on another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prepared_statements_that_come_and_go_are_errors_that_say_what_to_do_and_never_wrong_answers() {
    let ignore = ("ignore_startup_parameters", "extra_float_digits, options");
    let (bouncer, database) = (bouncer("4", &[ignore]), database());
    let (direct, url) = (direct(&database).await, bouncer.url(&database));
    let mut stores = vec![];
    for _ in 0..2 {
        stores.push(PostgresStore::builder().connect_lazy(&url).unwrap());
        stores.push(PostgresStore::from_pool(pool(&url, 4).await).await.unwrap());
    }
    let errors = load(&stores, &direct).await;
    assert!(!errors.is_empty(), "the pooler took nothing away");
    for error in &errors {
        fails(error, ErrorKind::Other, ADVICE);
    }
    println!("{} of {} calls failed", errors.len(), 16 * 12 * 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_was_killed_is_reached_again() {
    let (bouncer, database) = (bouncer("4", &[]), database());
    direct(&database).await;
    let builder = PostgresStore::builder().transaction_pooler();
    let store = builder.connect(&bouncer.url(&database)).await.unwrap();
    let grant = granted(reserve(&store, "a").await);
    for round in 0..3 {
        bouncer.kill().unwrap();
        let call = tokio::spawn({
            let store = store.clone();
            async move { reserve(&store, &format!("{round}")).await }
        });
        bouncer.start_again().unwrap();
        granted(in_time("a call during the kill", call).await.unwrap());
    }
    eventually("an answer", async || {
        match store.complete(&slot("a"), &grant, &answer("paid")).await.map_err(|error| error.to_string())? {
            CompleteOutcome::Stored | CompleteOutcome::AlreadyStored(_) => Ok(()),
            CompleteOutcome::Lost(loss) => panic!("{loss:?}"),
        }
    })
    .await;
    works(&store, "b").await;
}

/// The pooler stays, and what it says while it has no server is no answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_again_behind_a_pooler_is_reached_again() {
    let server = Server::builder().setting("max_connections", "20").start().unwrap();
    let bouncer = Bouncer::before(&server, PoolMode::Transaction).setting("server_login_retry", "1");
    let bouncer = bouncer.start().unwrap();
    let builder = PostgresStore::builder().transaction_pooler().call_deadline(SOON);
    let store = builder.connect(&bouncer.url("postgres")).await.unwrap();
    store.ensure_schema().await.unwrap();
    let grant = granted(reserve(&store, "a").await);
    for round in 0..2 {
        server.shut_down_fast().unwrap();
        let calls: Vec<_> = (0..8)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move { reserve(&store, &format!("{round}-{n}")).await })
            })
            .collect();
        // The pooler has noticed that there is no server.
        eventually("the pooler to say so", async || match bouncer.psql_in("postgres", "SELECT 1") {
            Ok(one) => Err(one),
            Err(_) => Ok(()),
        })
        .await;
        server.start_again().unwrap();
        for call in calls {
            granted(in_time("a call", call).await.unwrap());
        }
    }
    assert_eq!(store.complete(&slot("a"), &grant, &answer("paid")).await.unwrap(), CompleteOutcome::Stored);
}
