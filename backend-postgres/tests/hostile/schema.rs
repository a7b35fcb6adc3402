//! Tables that many make at once, that somebody newer made, or made otherwise.

use std::time::Duration;

use oncekey_postgres::sqlx::Connection;
use oncekey_postgres::{
    Entry, ErrorKind, IdempotencyAdmin, IdempotencyStore, PostgresStore, PostgresStoreBuilder,
    ReservationOutcome, ScanRequest,
};
use tokio::task::JoinSet;

use crate::kit::{
    ask, eventually, fails, fresh_url, granted, in_time, plain, pool, reserve, run, slot, works,
};

/// Makes the tables by all of these at once, each on a pool of its own, as if in a process of its own.
async fn all_make(builders: impl IntoIterator<Item = PostgresStoreBuilder>, url: &str) -> Vec<PostgresStore> {
    let stores: Vec<_> = builders.into_iter().map(|builder| builder.connect_lazy(url).unwrap()).collect();
    let mut making = JoinSet::new();
    for store in stores.clone() {
        making.spawn(async move { store.ensure_schema().await });
    }
    for made in in_time("the making of tables", making.join_all()).await {
        made.unwrap();
    }
    stores
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_that_make_one_table_at_once_all_have_it() {
    let url = fresh_url();
    for round in 0..4 {
        let schema = format!("schema {round}");
        // Every other one would divide it: whoever comes first decides for all.
        let builders = (0..16).map(|n| {
            let builder = PostgresStore::builder().schema(&schema);
            if n % 2 == 0 { builder } else { builder.partitions(3) }
        });
        let stores = all_make(builders, &url).await;
        for (n, store) in stores.iter().enumerate() {
            works(store, &format!("{n}")).await;
        }
        assert_eq!(stores[0].stats().await.unwrap().completed, 16);
        let versions = ask(&url, &format!("SELECT count(*) FROM \"{schema}\".oncekey_slots_meta")).await;
        assert_eq!(versions, "1");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_that_make_their_tables_in_one_new_schema_all_have_them() {
    let url = fresh_url();
    for round in 0..4 {
        let table = |n: usize| format!("table {}", n % 8);
        let builders = (0..16).map(|n| PostgresStore::builder().schema(format!("s{round}")).table(table(n)));
        let stores = all_make(builders, &url).await;
        for (n, store) in stores.iter().enumerate() {
            works(store, &format!("{n}")).await;
        }
        // Two of them share each.
        assert_eq!(stores[0].stats().await.unwrap().completed, 2);
        // Again, where all is there.
        for store in &stores {
            store.ensure_schema().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_by_whoever_is_older() {
    let url = fresh_url();
    let store = PostgresStore::connect(&url).await.unwrap();
    store.ensure_schema().await.unwrap();
    let mut owner = plain(&url).await;
    run(&mut owner, "UPDATE oncekey_slots_meta SET value = 2 WHERE name = 'schema_version'").await;
    let words = ["of version 2"];
    fails(&store.ensure_schema().await.unwrap_err(), ErrorKind::SchemaMissing, &words);
    fails(&PostgresStore::connect(&url).await.unwrap_err(), ErrorKind::SchemaMissing, &words);
    let theirs = PostgresStore::from_pool(pool(&url, 1).await).await.unwrap_err();
    fails(&theirs, ErrorKind::SchemaMissing, &words);
    assert!(theirs.to_string().contains("upgrade"), "{theirs}");
    // Another table beside it is none of that one's business.
    let other = PostgresStore::builder().table("other").connect(&url).await.unwrap();
    other.ensure_schema().await.unwrap();
    works(&other, "a").await;
    run(&mut owner, "UPDATE oncekey_slots_meta SET value = 1 WHERE name = 'schema_version'").await;
    PostgresStore::connect(&url).await.unwrap().ensure_schema().await.unwrap();
}

#[tokio::test]
async fn a_divided_table_and_a_whole_one_are_found_by_stores_that_expect_the_other() {
    let url = fresh_url();
    for (table, first, then) in [("divided", Some(5), None), ("whole", None, Some(5))] {
        let builder = |partitions| {
            let builder = PostgresStore::builder().table(table);
            match partitions {
                Some(count) => builder.partitions(count),
                None => builder,
            }
        };
        let (first, then) = (builder(first), builder(then));
        let (first, then) = (first.connect(&url).await.unwrap(), then.connect(&url).await.unwrap());
        first.ensure_schema().await.unwrap();
        then.ensure_schema().await.unwrap();
        let parts = format!("SELECT count(*) FROM pg_inherits WHERE inhparent = 'public.{table}'::regclass");
        assert_eq!(ask(&url, &parts).await, if table == "divided" { "5" } else { "0" });
        for n in 0..20 {
            let (maker, other) = if n % 2 == 0 { (&first, &then) } else { (&then, &first) };
            let key = format!("{n:02}");
            granted(reserve(maker, &key).await);
            let busy = reserve(other, &key).await.unwrap();
            assert!(matches!(busy, ReservationOutcome::InFlight(_)), "{busy:?}");
            assert!(matches!(other.lookup(&slot(&key)).await.unwrap(), Some(Entry::Pending(_))));
        }
        for store in [&first, &then] {
            let page = store.scan(&ScanRequest::first(50.try_into().unwrap())).await.unwrap();
            let keys: Vec<_> = page.summaries.iter().map(|summary| summary.slot.key().to_owned()).collect();
            assert_eq!(keys, (0..20).map(|n| format!("{n:02}")).collect::<Vec<_>>());
        }
    }
}

/// Somebody else is at it, and doesn't end.
#[tokio::test]
async fn who_waits_for_others_to_make_the_tables_waits_until_its_deadline() {
    let url = fresh_url();
    let mut maker = plain(&url).await;
    let lock = "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('oncekey/ensure_schema', 0))";
    run(&mut maker, lock).await;
    let builder = PostgresStore::builder().call_deadline(Duration::from_millis(200));
    let store = builder.connect(&url).await.unwrap();
    let error = in_time("ensure_schema", store.ensure_schema()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    maker.close().await.unwrap();
    eventually("the lock to be given back", async || {
        store.ensure_schema().await.map_err(|error| error.to_string())
    })
    .await;
    works(&store, "a").await;
}

/// T4: tables of the caller's own migration, made in one transaction with others.
#[tokio::test]
async fn the_script_is_what_ensure_schema_would_have_made() {
    let url = fresh_url();
    let columns = "SELECT string_agg(format('%s %s %s', column_name, data_type, is_nullable), ', ' ORDER BY 1) \
        FROM information_schema.columns WHERE table_name = 'oncekey_slots' AND table_schema = ";
    let indexes = "SELECT string_agg(replace(indexdef, schemaname, ''), '; ' ORDER BY indexname) FROM pg_indexes \
        WHERE tablename LIKE 'oncekey_slots%' AND schemaname = ";
    let options = "SELECT string_agg(array_to_string(reloptions, ','), '; ' ORDER BY relname) FROM pg_class \
        WHERE relname LIKE 'oncekey_slots%' AND relnamespace::regnamespace::text = ";
    for partitions in [None, Some(2)] {
        let builder = |schema: &str| {
            let builder = PostgresStore::builder().schema(schema);
            partitions.map_or(builder.clone(), |count| builder.partitions(count))
        };
        let [by_script, by_store] =
            ["script", "store"].map(|how| format!("{how}_{}", partitions.unwrap_or(0)));
        let mut owner = plain(&url).await;
        let script = builder(&by_script).schema_sql().unwrap();
        run(&mut owner, format!("BEGIN; {script}; COMMIT")).await;
        builder(&by_store).connect(&url).await.unwrap().ensure_schema().await.unwrap();
        for what in [columns, indexes, options] {
            let [script, store] = [&by_script, &by_store].map(|schema| format!("{what} '{schema}'"));
            let (script, store) = (ask(&url, &script).await, ask(&url, &store).await);
            assert!(!script.is_empty());
            assert_eq!(script, store);
        }
        let store = builder(&by_script).connect(&url).await.unwrap();
        store.ensure_schema().await.unwrap();
        works(&store, "a").await;
    }
}
