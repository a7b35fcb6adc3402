//! Sessions, servers and poolers that somebody else set up.

use std::sync::Arc;
use std::time::Duration;

use oncekey_conformance::{Capability, Harness, Level, Options, cases, run};
use oncekey_postgres::{
    CompleteOutcome, ErrorKind, IdempotencyStore, PostgresStore, ReservationOutcome, sqlx,
};
use oncekey_testbed::pgbouncer::{Bouncer, PoolMode};
use oncekey_testbed::postgres::Server;
use sqlx::Executor;
use sqlx::postgres::PgPoolOptions;

use crate::common::suite::Tables;
use crate::kit::{
    all_fail, answer, every_operation, fails, fresh_store, fresh_url, granted, in_time, options, plain, pool,
    reserve, run as sql, slot, works,
};

/// Whether the cases of these levels pass, each in tables of its own.
fn suite_passes(tables: Tables, levels: &[Level]) {
    let harness: Arc<dyn Harness> = Arc::new(tables);
    // Nobody listens behind a pooler: a watch is a hint that never comes.
    let heard = |case: &oncekey_conformance::Case| !case.needs.contains(&Capability::Wake);
    let wanted = cases().into_iter().filter(|case| levels.contains(&case.level) && heard(case));
    let options = wanted.fold(Options::from_env().unwrap(), |options, case| options.only(case.id));
    let report = run(&harness, &options);
    assert!(report.passed(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_stricter_isolation_by_default_nobody_hears_of_it() {
    for isolation in ["serializable", "repeatable read"] {
        let url = fresh_url();
        let mut owner = plain(&url).await;
        let database: String =
            sqlx::query_scalar("SELECT current_database()").fetch_one(&mut owner).await.unwrap();
        sql(
            &mut owner,
            &format!("ALTER DATABASE \"{database}\" SET default_transaction_isolation = '{isolation}'"),
        )
        .await;
        let plain_pool = pool(&url, 4).await;
        let seen: String =
            sqlx::query_scalar("SHOW transaction_isolation").fetch_one(&plain_pool).await.unwrap();
        assert_eq!(seen, isolation);
        let shared = PostgresStore::from_pool(plain_pool).await.unwrap();
        let own = PostgresStore::connect(&url).await.unwrap();
        own.ensure_schema().await.unwrap();
        for store in [own, shared] {
            for round in 0..20 {
                let key = format!("{isolation}/{round}/{}", fastrand::u64(..));
                let mut callers = tokio::task::JoinSet::new();
                for _ in 0..8 {
                    let (store, key) = (store.clone(), key.clone());
                    callers.spawn(async move {
                        match reserve(&store, &key).await.unwrap() {
                            ReservationOutcome::Reserved(grant) => {
                                let stored = store.complete(&slot(&key), &grant, &answer("x")).await.unwrap();
                                assert_eq!(stored, CompleteOutcome::Stored);
                                1
                            }
                            ReservationOutcome::InFlight(_) | ReservationOutcome::Replay(_) => 0,
                            other => panic!("{other:?}"),
                        }
                    });
                }
                let granted: i32 = callers.join_all().await.into_iter().sum();
                assert_eq!(granted, 1, "{isolation}");
            }
        }
    }
}

#[tokio::test]
async fn a_session_far_from_utc_keeps_leases_as_they_are() {
    let (store, url) = fresh_store().await;
    drop(store);
    for zone in ["Pacific/Kiritimati", "America/Caracas"] {
        let far = PgPoolOptions::new().max_connections(2).after_connect(move |connection, _| {
            Box::pin(async move {
                let set = format!("SET TIME ZONE '{zone}'; SET DateStyle = 'German'");
                connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(set))).await.map(drop)
            })
        });
        let store = PostgresStore::from_pool(far.connect_with(options(&url)).await.unwrap()).await.unwrap();
        works(&store, zone).await;
        let held = format!("held/{zone}");
        let _grant = granted(reserve(&store, &held).await);
        match reserve(&store, &held).await.unwrap() {
            ReservationOutcome::InFlight(busy) => {
                assert!(busy.retry_after <= Duration::from_secs(3_600), "{busy:?}");
            }
            other => panic!("{zone}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_standby_answers_nothing_until_it_is_promoted() {
    let primary = Server::start().unwrap();
    let store = PostgresStore::connect(&primary.url("postgres")).await.unwrap();
    store.ensure_schema().await.unwrap();
    works(&store, "done").await;
    let grant = granted(reserve(&store, "held").await);
    let standby = primary.replica().unwrap();
    let there = PostgresStore::builder()
        .call_deadline(Duration::from_secs(5))
        .connect(&standby.url("postgres"))
        .await
        .unwrap();
    let told = in_time("every operation", every_operation(&there, &slot("held"), &grant)).await;
    all_fail(told, ErrorKind::Unavailable, &["standby"]);
    fails(&there.lookup(&slot("done")).await.unwrap_err(), ErrorKind::Unavailable, &["primary"]);
    primary.kill().unwrap();
    standby.promote().unwrap();
    works(&there, "after").await;
}

#[test]
fn behind_a_pooler_in_transaction_mode_the_suite_passes() {
    let server = Server::start().unwrap();
    let bouncer = Bouncer::before(&server, PoolMode::Transaction)
        .setting("default_pool_size", "6")
        .setting("max_client_conn", "1000")
        .start()
        .unwrap();
    let builder = || PostgresStore::builder().transaction_pooler();
    let tables = Tables { name: "postgres, behind a pooler", url: bouncer.url("postgres"), builder };
    suite_passes(tables, &[Level::Hostile, Level::Race]);
}

#[tokio::test]
async fn on_a_pool_of_one_dropped_calls_leave_the_connection_usable() {
    let (store, url) = fresh_store().await;
    drop(store);
    let store = PostgresStore::from_pool(pool(&url, 1).await).await.unwrap();
    let mut acknowledged = Vec::new();
    for polls in 0..200_u32 {
        let key = format!("dropped/{polls}");
        let at = slot(&key);
        let call = async {
            let grant = granted(reserve(&store, &key).await);
            store.complete(&at, &grant, &answer("kept")).await.unwrap()
        };
        // Dropped after so many turns of the runtime, or answered before.
        let turns = async {
            for _ in 0..polls {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            stored = call => {
                assert_eq!(stored, CompleteOutcome::Stored);
                acknowledged.push(key.clone());
            }
            () = turns => {}
        }
    }
    for key in &acknowledged {
        let seen = reserve(&store, key).await.unwrap();
        assert!(matches!(seen, ReservationOutcome::Replay(_)), "{key}: {seen:?}");
    }
    works(&store, "afterwards").await;
    let mut other = plain(&url).await;
    let idle: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in trans%'",
    )
    .fetch_one(&mut other)
    .await
    .unwrap();
    assert_eq!(idle, 0);
}
