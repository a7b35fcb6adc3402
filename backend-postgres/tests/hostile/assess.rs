//! S11: each finding, when it is set on a live server, and none when it isn't. For the standby see its own file.

use std::time::Duration;

use oncekey_postgres::sqlx::postgres::PgPoolOptions;
use oncekey_postgres::{ClockOffset, Effect, IdempotencyAdmin, IdempotencyStore, PostgresStore, Severity};
use oncekey_testbed::postgres::Server;

use crate::kit::{ask, eventually, fresh_url, options, pool, reserve};

async fn ids(store: &PostgresStore) -> Vec<(&'static str, Severity)> {
    store.assess().await.unwrap().into_iter().map(|finding| (finding.id, finding.severity)).collect()
}

#[tokio::test]
async fn each_setting_that_is_unsafe_is_found_when_it_is_set() {
    let server = Server::start().unwrap();
    let store = PostgresStore::builder().connections(1).connect(&server.url("postgres")).await.unwrap();
    store.ensure_schema().await.unwrap();
    assert_eq!(ids(&store).await, []);
    for (name, value, id, severity) in [
        ("fsync", "off", "postgres.fsync", Severity::Danger),
        ("full_page_writes", "off", "postgres.full_page_writes", Severity::Danger),
        ("synchronous_commit", "off", "postgres.synchronous_commit", Severity::Danger),
        ("default_transaction_isolation", "serializable", "postgres.isolation", Severity::Warning),
        ("autovacuum", "off", "postgres.autovacuum", Severity::Warning),
    ] {
        server.psql(&format!("ALTER SYSTEM SET {name} = '{value}'")).unwrap();
        server.psql("SELECT pg_reload_conf()").unwrap();
        // A session of its own has its own isolation; an application's hasn't.
        let other = options(&server.url("postgres")).options([("statement_timeout", "5s")]);
        let other = PgPoolOptions::new().max_connections(1).connect_with(other).await.unwrap();
        let other = PostgresStore::from_pool(other).await.unwrap();
        eventually("the server to have read it", async || match ids(&other).await {
            found if found == [(id, severity)] => Ok(()),
            found => Err(format!("{name}: {found:?}")),
        })
        .await;
        server.psql(&format!("ALTER SYSTEM RESET {name}")).unwrap();
        server.psql("SELECT pg_reload_conf()").unwrap();
        eventually("the server to have read it", async || match ids(&other).await {
            found if found.is_empty() => Ok(()),
            found => Err(format!("{name}: {found:?}")),
        })
        .await;
    }
}

#[tokio::test]
async fn a_table_that_nobody_vacuums_is_found_and_so_is_a_partition() {
    for partitions in [None, Some(3)] {
        let url = fresh_url();
        let builder = PostgresStore::builder();
        let builder = partitions.map_or(builder.clone(), |count| builder.partitions(count));
        let store = builder.connect(&url).await.unwrap();
        store.ensure_schema().await.unwrap();
        assert_eq!(ids(&store).await, [], "{partitions:?}");
        let one = if partitions.is_some() {
            ask(&url, "SELECT min(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'oncekey_slots'::regclass")
                .await
        } else {
            "oncekey_slots".to_owned()
        };
        let off = format!(
            "DO $$ BEGIN EXECUTE 'ALTER TABLE {one} SET (autovacuum_enabled = off)'; END $$; SELECT 1"
        );
        ask(&url, &off).await;
        assert_eq!(ids(&store).await, [("postgres.table_autovacuum", Severity::Warning)], "{one}");
    }
}

#[tokio::test]
async fn a_pool_whose_sessions_may_wait_for_ever_is_found() {
    let url = fresh_url();
    let theirs = pool(&url, 1).await;
    let store = PostgresStore::from_pool(theirs.clone()).await.unwrap();
    store.ensure_schema().await.unwrap();
    assert_eq!(ids(&store).await, [("postgres.statement_timeout", Severity::Warning)]);
    // Each transaction of a pooler's sets its own.
    let pooled = PostgresStore::builder().transaction_pooler().from_pool(theirs).await.unwrap();
    assert_eq!(ids(&pooled).await, [("postgres.pooler", Severity::Info)]);
}

#[tokio::test]
async fn commits_that_wait_for_a_standby_that_is_not_there_are_found() {
    let server = Server::start().unwrap();
    let builder = PostgresStore::builder().call_deadline(Duration::from_millis(500));
    let store = builder.connect(&server.url("postgres")).await.unwrap();
    store.ensure_schema().await.unwrap();
    assert_eq!(ids(&store).await, []);
    server.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").unwrap();
    server.psql("SELECT pg_reload_conf()").unwrap();
    eventually("a commit to wait", async || match reserve(&store, &fastrand::u64(..).to_string()).await {
        // It may be there, and nobody has said so.
        Err(error) if error.effect() == Effect::Unknown => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(ids(&store).await, [("postgres.sync_standby", Severity::Danger)]);
}

#[tokio::test]
async fn a_table_that_a_crash_empties_is_found() {
    let url = fresh_url();
    let store = PostgresStore::connect(&url).await.unwrap();
    store.ensure_schema().await.unwrap();
    assert_eq!(ids(&store).await, []);
    ask(&url, "DO $$ BEGIN EXECUTE 'ALTER TABLE oncekey_slots SET UNLOGGED'; END $$; SELECT 1").await;
    assert_eq!(ids(&store).await, [("postgres.table_unlogged", Severity::Danger)]);
}

#[tokio::test]
async fn a_clock_that_is_wrong_and_a_pooler_in_between_are_found() {
    let offset = ClockOffset::shiftable();
    let store = PostgresStore::builder().clock_offset(offset.clone()).connect(&fresh_url()).await.unwrap();
    assert_eq!(ids(&store).await, []);
    offset.advance(Duration::from_secs(60));
    assert_eq!(ids(&store).await, [("postgres.clock", Severity::Warning)]);
    let store = PostgresStore::builder().transaction_pooler().connect(&fresh_url()).await.unwrap();
    assert_eq!(ids(&store).await, [("postgres.pooler", Severity::Info)]);
}
