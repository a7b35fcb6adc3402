//! What these tests share: a server, databases of it, stores that are opened in this way and that, and every
//! operation of a store at once.

use std::fmt::Debug;
use std::future::Future;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oncekey_postgres::sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use oncekey_postgres::sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, raw_sql};
use oncekey_postgres::{
    CompleteOutcome, Completion, Effect, ErrorKind, Fingerprint, Grant, IdempotencyAdmin, IdempotencyStore,
    Policy, PostgresStore, Principal, Renewal, ReservationOutcome, ReserveRequest, Resolution, ScanRequest,
    Seen, Slot, StoreError, StoredResponse, Terms, Timestamp, Token,
};
use oncekey_testbed::postgres::Server;

pub const HOUR: Duration = Duration::from_secs(3_600);
/// What ends at all ends within this: a bound for tests that would hang, and no time that is waited for.
pub const SOON: Duration = Duration::from_secs(60);

/// The server of the tests that neither stop nor fill it. It is this binary's own: roles and databases with
/// settings of theirs are made on it.
pub fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::builder().tcp().setting("max_connections", "400").start().unwrap())
}

/// An empty database of it: its name.
pub fn database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("hostile_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    server().create_database(&name).unwrap();
    name
}

/// The URL of an empty database.
pub fn fresh_url() -> String {
    server().url(&database())
}

/// A connection of somebody else's.
pub async fn plain(url: &str) -> PgConnection {
    options(url).connect().await.unwrap()
}

pub fn options(url: &str) -> PgConnectOptions {
    PgConnectOptions::from_str(url).unwrap().disable_statement_logging()
}

/// A pool as an application has one.
pub async fn pool(url: &str, connections: u32) -> PgPool {
    PgPoolOptions::new().max_connections(connections).connect_with(options(url)).await.unwrap()
}

pub async fn run(connection: &mut PgConnection, sql: impl Into<String>) {
    let sql = sql.into();
    raw_sql(AssertSqlSafe(sql.clone())).execute(connection).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
}

/// What `sql` says in the database of `url`, as text; null is empty.
pub async fn ask(url: &str, sql: &str) -> String {
    use oncekey_postgres::sqlx::Row;
    let mut connection = plain(url).await;
    let row = raw_sql(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await;
    let row = row.unwrap_or_else(|e| panic!("{sql}: {e}"));
    connection.close().await.unwrap();
    row.try_get_raw(0).unwrap().as_str().unwrap_or_default().to_owned()
}

pub fn slot(key: impl AsRef<str>) -> Slot {
    Principal::new("test").unwrap().slot(key).unwrap()
}

pub fn request_with(policy: Policy, lease: Duration) -> ReserveRequest {
    let terms = Terms::new(policy, lease, HOUR).unwrap();
    ReserveRequest::new(Fingerprint::builder("test").finish(), terms)
}

pub fn request() -> ReserveRequest {
    request_with(Policy::TakeOver, Duration::from_secs(300))
}

pub fn answer(text: impl Into<String>) -> Completion {
    Completion::new(StoredResponse::new(200, "", text.into()))
}

/// A generator seeded from `ONCEKEY_SEED`, or anew; the seed is printed, for a failure to be replayed.
pub fn random() -> fastrand::Rng {
    let seed = std::env::var("ONCEKEY_SEED").map_or_else(
        |_| fastrand::u64(..1_000_000_000_000),
        |n| n.parse().expect("ONCEKEY_SEED is a number"),
    );
    println!("ONCEKEY_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

#[track_caller]
pub fn granted(outcome: Result<ReservationOutcome, StoreError>) -> Grant {
    match outcome {
        Ok(ReservationOutcome::Reserved(grant)) => grant,
        other => panic!("expected Reserved, saw {other:?}"),
    }
}

pub async fn reserve(store: &PostgresStore, key: &str) -> Result<ReservationOutcome, StoreError> {
    store.reserve_or_fetch(&slot(key), Token::fresh(), &request()).await
}

/// Reserves and completes, and reads the answer back.
pub async fn works(store: &PostgresStore, key: &str) {
    let grant = granted(reserve(store, key).await);
    let stored = store.complete(&slot(key), &grant, &answer(key)).await.unwrap();
    assert_eq!(stored, CompleteOutcome::Stored);
    match reserve(store, key).await.unwrap() {
        ReservationOutcome::Replay(record) => assert_eq!(&record.response, answer(key).response()),
        other => panic!("expected Replay, saw {other:?}"),
    }
}

/// Every operation, at once, and what became of each: a hostile deployment has no favourites. What they
/// answer where they work doesn't matter here, but they answer it without an error.
pub async fn every_operation(
    store: &PostgresStore,
    slot: &Slot,
    grant: &Grant,
) -> Vec<(&'static str, Result<String, StoreError>)> {
    fn told<T: Debug>(said: Result<T, StoreError>) -> Result<String, StoreError> {
        said.map(|answer| format!("{answer:?}"))
    }
    let (request, late) = (request(), Seen { fence: grant.fence, lease_expires_at: Timestamp::ZERO });
    let (renewal, many) = (Renewal::extend(HOUR).unwrap(), 10.try_into().unwrap());
    let (reserve, renew, hand_over, complete, release, lookup, resolve, settle, purge, scan, stats, collect) = tokio::join!(
        store.reserve_or_fetch(slot, Token::fresh(), &request),
        store.renew(slot, grant, &renewal),
        async { store.renew(slot, grant, &Renewal::hand_over()).await },
        async { store.complete(slot, grant, &answer("x")).await },
        store.release(slot, grant),
        store.lookup(slot),
        store.resolve(slot, late, &Resolution::Release),
        async { store.resolve(slot, late, &Resolution::Complete(answer("x"))).await },
        store.purge(slot, grant.fence),
        async { store.scan(&ScanRequest::first(many)).await },
        store.stats(),
        store.garbage_collect(many),
    );
    vec![
        ("reserve_or_fetch", told(reserve)),
        ("renew", told(renew)),
        ("renew", told(hand_over)),
        ("complete", told(complete)),
        ("release", told(release)),
        ("lookup", told(lookup)),
        ("resolve", told(resolve)),
        ("resolve", told(settle)),
        ("purge", told(purge)),
        ("scan", told(scan)),
        ("stats", told(stats)),
        ("garbage_collect", told(collect)),
    ]
}

/// That each operation fails by this kind, surely without an effect, under its own name, and with a text
/// that holds one of `words`.
#[track_caller]
pub fn all_fail(told: Vec<(&'static str, Result<String, StoreError>)>, kind: ErrorKind, words: &[&str]) {
    for (name, said) in told {
        match said {
            Ok(answer) => panic!("{name} answered {answer}"),
            Err(error) => {
                fails(&error, kind, words);
                assert_eq!(error.operation(), name);
            }
        }
    }
}

#[track_caller]
pub fn fails(error: &StoreError, kind: ErrorKind, words: &[&str]) {
    assert_eq!((error.kind(), error.effect()), (kind, Effect::NotApplied), "{error}");
    assert!(words.iter().any(|word| error.to_string().contains(word)), "none of {words:?} in: {error}");
}

/// That it is one of a server that can't be had now, and says that it may pass.
#[track_caller]
pub fn fails_or_unknown(error: &StoreError) {
    assert!(error.is_retryable(), "{error}");
}

/// The answer, or a failure instead of a hang.
#[track_caller]
pub fn in_time<F: Future>(what: &'static str, future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        let ended = tokio::time::timeout(SOON, future).await;
        ended.unwrap_or_else(|_| panic!("{what} did not end within {SOON:?} ({caller})"))
    }
}

/// Looks until it is so, which other processes have to bring about.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let begun = tokio::time::Instant::now();
    loop {
        let last = match look().await {
            Ok(seen) => return seen,
            Err(last) => last,
        };
        assert!(begun.elapsed() < SOON, "waited {SOON:?} for {what}; last seen: {last}");
        #[allow(clippy::disallowed_methods, reason = "the pause between two looks at a condition")]
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
