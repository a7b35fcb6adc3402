//! Sessions that were set up by somebody else: stricter isolation, other time zones, other ways to write dates,
//! numbers and strings.

use std::time::Duration;

use oncekey_conformance::{Level, Options};
use oncekey_postgres::sqlx::postgres::{PgPool, PgPoolOptions};
use oncekey_postgres::sqlx::{Executor, raw_sql};
use oncekey_postgres::{
    CompleteOutcome, Entry, IdempotencyStore, Policy, PostgresStore, ReservationOutcome, ReserveRequest,
    Terms, Token,
};
use tokio::runtime::Runtime;

use crate::kit::{
    answer, ask, database, eventually, granted, options, pool, request, reserve, server, slot, works,
};
use crate::suite::{Way, levels, options_for, passes};

/// An empty database with these settings for all its sessions; its URL.
fn database_with(settings: &[(&str, &str)]) -> String {
    let database = database();
    for (name, value) in settings {
        server().psql(&format!("ALTER DATABASE {database} SET {name} = {value}")).unwrap();
    }
    server().url(&database)
}

/// A pool whose sessions do this once they are connected.
fn pool_that(url: &str, does: &'static str) -> PgPool {
    let pool = PgPoolOptions::new().max_connections(16).after_connect(move |connection, _| {
        Box::pin(async move { connection.execute(raw_sql(does)).await.map(drop) })
    });
    pool.connect_lazy_with(options(url))
}

/// FAULTS 28: a transaction that meets another is refused with 40001, and no caller hears of it.
fn meets_itself_under(isolation: &str, name: &'static str, options: &Options) {
    let url = database_with(&[("default_transaction_isolation", isolation)]);
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    passes(name, Way::Theirs(pool_that(&url, "")), options);
    // Or nothing was proved.
    runtime.block_on(eventually("statistics of transactions that were made again", async || {
        let conflicts = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()";
        let conflicts: u32 = ask(&url, conflicts).await.parse().unwrap();
        if conflicts > 20 { Ok(()) } else { Err(format!("{conflicts}")) }
    }));
}

#[test]
fn races_and_histories_hold_on_serializable_sessions() {
    meets_itself_under("serializable", "serializable sessions", &levels(&[Level::Race, Level::History]));
}

#[test]
fn races_hold_on_repeatable_read_sessions() {
    meets_itself_under("'repeatable read'", "repeatable-read sessions", &levels(&[Level::Race]));
}

#[test]
fn races_hold_on_a_pool_of_its_own_where_the_database_is_serializable() {
    let url = database_with(&[("default_transaction_isolation", "serializable")]);
    passes("serializable database", Way::Own(url.clone()), &levels(&[Level::Race]));
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let store = PostgresStore::connect(&url).await.unwrap();
        let asks: String = oncekey_postgres::sqlx::query_scalar("SHOW transaction_isolation")
            .fetch_one(store.pool())
            .await
            .unwrap();
        assert_eq!(asks, "read committed");
    });
}

/// All that changes how a value is written, read or compared.
const ODD: &[(&str, &str)] = &[
    ("TimeZone", "'Pacific/Kiritimati'"),
    ("DateStyle", "'German, DMY'"),
    ("IntervalStyle", "'sql_standard'"),
    ("bytea_output", "'escape'"),
    ("extra_float_digits", "-15"),
    ("standard_conforming_strings", "off"),
    ("transform_null_equals", "on"),
    ("search_path", "''"),
    ("default_transaction_deferrable", "on"),
    ("default_toast_compression", "'pglz'"),
    ("row_security", "off"),
];
const OTHERWISE: &str = "SET TIME ZONE 'America/Caracas'; SET DateStyle = 'SQL, MDY'; SET IntervalStyle = 'iso_8601'; \
    SET plan_cache_mode = force_custom_plan";

#[test]
fn what_is_counted_in_time_holds_in_odd_sessions() {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let pool = pool_that(&database_with(ODD), OTHERWISE);
    let timed = |rule: &&str| ["R4", "R5", "C2", "C5", "W1", "G1", "Q1", "O2"].contains(rule);
    let options = options_for(|case| case.level == Level::Table && case.rules.iter().any(timed));
    passes("odd sessions", Way::Theirs(pool), &options);
}

/// FAULTS 16: a key that is live looks ended to a session in another time zone.
#[tokio::test]
async fn sessions_of_all_time_zones_see_the_same_moments() {
    let url = database_with(ODD);
    let mut stores = vec![
        PostgresStore::connect(&url).await.unwrap(),
        PostgresStore::from_pool(pool(&url, 2).await).await.unwrap(),
    ];
    for zone in ["SET TIME ZONE 'America/Caracas'", "SET TIME ZONE 'America/New_York'", "SET TIME ZONE -12"] {
        stores.push(PostgresStore::from_pool(pool_that(&url, zone)).await.unwrap());
    }
    let role = "SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'Postgres'";
    stores.push(PostgresStore::from_pool(pool_that(&url, role)).await.unwrap());
    stores[0].ensure_schema().await.unwrap();

    // A year: whatever is counted in days meets a change of the clocks.
    let (lease, retention) = (Duration::from_secs(300), Duration::from_secs(365 * 86_400));
    let terms = Terms::new(Policy::TakeOver, lease, retention).unwrap();
    let request = ReserveRequest::new(request().fingerprint, terms);
    for (n, store) in stores.iter().enumerate() {
        let (slot, now) =
            (slot(format!("{n}")), "SELECT (extract(epoch FROM clock_timestamp()) * 1e6)::bigint");
        let before: u64 = ask(&url, now).await.parse().unwrap();
        let grant = granted(store.reserve_or_fetch(&slot, Token::fresh(), &request).await);
        let after: u64 = ask(&url, now).await.parse().unwrap();
        let mut entries = Vec::new();
        for other in &stores {
            let busy = other.reserve_or_fetch(&slot, Token::fresh(), &request).await.unwrap();
            let ReservationOutcome::InFlight(busy) = busy else { panic!("{busy:?}") };
            assert!((lease / 2..=lease).contains(&busy.retry_after), "{busy:?}");
            let Some(Entry::Pending(mut pending)) = other.lookup(&slot).await.unwrap() else {
                panic!("absent")
            };
            assert!(pending.lease_left.take().is_some());
            entries.push(pending);
        }
        let first = &entries[0];
        assert!((before..=after).contains(&first.created_at.as_micros()), "{first:?}: {before} to {after}");
        assert_eq!(first.lease_expires_at.since(first.created_at), Some(lease));
        assert_eq!(first.expires_at.since(first.created_at), Some(lease + retention));
        assert!(entries.iter().all(|entry| entry == first), "{entries:?}");
        let other = &stores[(n + 1) % stores.len()];
        let stored =
            other.complete(&slot, &grant, &answer("paid").keep_for(retention).unwrap()).await.unwrap();
        assert_eq!(stored, CompleteOutcome::Stored);
        let Some(Entry::Completed(record)) = store.lookup(&slot).await.unwrap() else {
            panic!("not completed")
        };
        assert_eq!(record.expires_at.since(record.completed_at), Some(retention));
    }
}

/// A name that must be quoted, in sessions where a backslash means something.
#[tokio::test]
async fn odd_names_are_whole_in_odd_sessions() {
    let url = database_with(ODD);
    let builder = PostgresStore::builder().schema("it's \\'; --").table("\\\"drop $1 {slots}");
    for store in
        [builder.clone().connect(&url).await.unwrap(), builder.from_pool(pool(&url, 2).await).await.unwrap()]
    {
        store.ensure_schema().await.unwrap();
        let key = format!("{:?}", store.pool().options().get_max_connections());
        works(&store, &key).await;
        assert!(matches!(reserve(&store, &key).await, Ok(ReservationOutcome::Replay(_))));
    }
}

/// A statement tells one fence for all the rows that it wrote, whatever the planner joins first: with this setting it
/// reads the subquery of a clock once a row.
#[tokio::test]
async fn a_batch_has_one_clock_under_any_plan() {
    let url = database_with(&[("geqo_threshold", "2")]);
    let store = PostgresStore::connect(&url).await.unwrap();
    store.ensure_schema().await.unwrap();
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..64 {
        let store = store.clone();
        callers.spawn(async move { (n, granted(reserve(&store, &format!("k{n}")).await)) });
    }
    for (n, grant) in callers.join_all().await {
        let stored = store.complete(&slot(format!("k{n}")), &grant, &answer("done")).await.unwrap();
        assert!(matches!(stored, CompleteOutcome::Stored), "k{n}: {stored:?}");
    }
}
