//! T3, S5: somebody's open transaction holds the row of one slot, or of several.

use std::collections::BTreeSet;
use std::time::Duration;

use oncekey_postgres::sqlx::{Connection, PgConnection};
use oncekey_postgres::{
    CompleteOutcome, Effect, ErrorKind, Grant, IdempotencyAdmin, IdempotencyStore, Policy, PostgresStore,
    PostgresStoreBuilder, ReleaseOutcome, RenewOutcome, Renewal, ReservationOutcome, Resolution, StoreError,
    Token,
};

use crate::kit::{
    answer, ask, eventually, fresh_url, granted, in_time, plain, request, request_with, reserve, run, slot,
    works,
};

/// Far longer than a test: whoever waits for a lock doesn't answer before the lock is given back.
const LONG: Duration = Duration::from_secs(60);

fn patient_builder() -> PostgresStoreBuilder {
    PostgresStore::builder().lock_timeout(LONG).statement_deadline(2 * LONG).call_deadline(3 * LONG)
}

pub async fn patient(url: &str) -> PostgresStore {
    let store = patient_builder().connect(url).await.unwrap();
    store.ensure_schema().await.unwrap();
    store
}

async fn impatient(url: &str) -> PostgresStore {
    let store = PostgresStore::builder().lock_timeout(Duration::from_millis(100)).connect(url).await.unwrap();
    store.ensure_schema().await.unwrap();
    store
}

/// Begins a transaction that holds the rows of these slots, which are there.
async fn hold(url: &str, keys: &[String]) -> PgConnection {
    let mut holder = plain(url).await;
    run(&mut holder, "BEGIN").await;
    for key in keys {
        let lock = format!("SELECT FROM oncekey_slots WHERE key = '{key}' FOR UPDATE");
        run(&mut holder, lock).await;
    }
    holder
}

/// Begins a transaction that has inserted rows for these slots.
pub async fn insert(url: &str, keys: &[String]) -> PgConnection {
    let mut holder = plain(url).await;
    run(&mut holder, "BEGIN").await;
    for key in keys {
        let insert = format!(
            "INSERT INTO oncekey_slots VALUES (1, 1, now(), now() + interval '1 hour', now() + interval '2 hours', \
             NULL, '1 hour', 0, NULL, NULL, false, 'pending', 'take_over', 'test', '{key}', \
             decode(repeat('00', 32), 'hex'), decode(repeat('00', 16), 'hex'), NULL, NULL, NULL)"
        );
        run(&mut holder, insert).await;
    }
    holder
}

/// Of 36 keys the 12 that are held and the 24 that are free: a batch in the order of the keys begins with one
/// that is held, and has both everywhere.
fn keys(prefix: &str) -> (Vec<String>, Vec<String>) {
    let keys = |held| (0..36).filter(move |n| (n % 3 == 0) == held).map(|n| format!("{prefix}{n:02}"));
    (keys(true).collect(), keys(false).collect())
}

/// Asks `call` for all keys at the same moment, so that they are gathered; waits until those of `free` have
/// answered, and sees that none of `held` has; lets the holder go, and waits for the rest. All answers.
async fn beside<T: Send + 'static>(
    held: &[String],
    free: &[String],
    call: impl Fn(String) -> futures::Boxed<T>,
    holder: PgConnection,
) -> Vec<(String, T)> {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    // One thread: all of them are asked before any is sent.
    let keys: BTreeSet<_> = held.iter().chain(free).cloned().collect();
    for key in keys {
        let (call, tell) = (call(key.clone()), tell.clone());
        tokio::spawn(async move { tell.send((key, call.await)) });
    }
    drop(tell);
    let mut answers = Vec::new();
    let mut missing: BTreeSet<&String> = free.iter().collect();
    while !missing.is_empty() {
        let (key, answer) = in_time("a call beside the lock", told.recv()).await.unwrap();
        assert!(missing.remove(&key), "{key} answered while its row was locked");
        answers.push((key, answer));
    }
    holder.close().await.unwrap();
    while let Some(answer) = in_time("a call for the slot that was locked", told.recv()).await {
        answers.push(answer);
    }
    answers
}

mod futures {
    pub type Boxed<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send>>;
}

async fn reserves_beside(url: &str, store: &PostgresStore, holder: PgConnection) {
    let (held, free) = keys("k");
    let call = |key: String| -> futures::Boxed<_> {
        let store = store.clone();
        Box::pin(async move { reserve(&store, &key).await })
    };
    let answers = beside(&held, &free, call, holder).await;
    assert_eq!(answers.len(), held.len() + free.len());
    for (key, answer) in answers {
        let grant = granted(answer);
        assert_eq!(
            store.complete(&slot(&key), &grant, &crate::kit::answer("x")).await.unwrap(),
            CompleteOutcome::Stored
        );
    }
    assert_eq!(ask(url, "SELECT count(*) FROM oncekey_slots WHERE state = 'completed'").await, "36");
}

#[tokio::test]
async fn reserves_wait_for_nobody_elses_insert() {
    let url = fresh_url();
    let store = patient(&url).await;
    // It ends by a rollback: the rows never were.
    let holder = insert(&url, &keys("k").0).await;
    reserves_beside(&url, &store, holder).await;
}

#[tokio::test]
async fn takeovers_wait_for_nobody_elses_row_lock() {
    let url = fresh_url();
    let store = patient(&url).await;
    let (held, free) = keys("k");
    for key in held.iter().chain(&free) {
        let grant = granted(reserve(&store, key).await);
        assert!(matches!(
            store.renew(&slot(key), &grant, &Renewal::hand_over()).await,
            Ok(RenewOutcome::Renewed(_))
        ));
    }
    let holder = hold(&url, &held).await;
    reserves_beside(&url, &store, holder).await;
}

/// What a holder asks.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Complete,
    Renew,
    HandOver,
    Release,
}

async fn asks(store: &PostgresStore, ask: Ask, key: &str, grant: &Grant) -> Result<bool, StoreError> {
    let slot = slot(key);
    Ok(match ask {
        Ask::Complete => store.complete(&slot, grant, &answer("x")).await? == CompleteOutcome::Stored,
        Ask::Renew => {
            let renewal = Renewal::extend(LONG).unwrap();
            matches!(store.renew(&slot, grant, &renewal).await?, RenewOutcome::Renewed(_))
        }
        Ask::HandOver => {
            matches!(store.renew(&slot, grant, &Renewal::hand_over()).await?, RenewOutcome::Renewed(_))
        }
        Ask::Release => store.release(&slot, grant).await? == ReleaseOutcome::Released,
    })
}

#[tokio::test]
async fn what_a_holder_asks_waits_for_nobody_elses_row_lock() {
    let url = fresh_url();
    let store = patient(&url).await;
    for ask in [Ask::Renew, Ask::Complete, Ask::HandOver, Ask::Release] {
        let (held, free) = keys(&format!("{ask:?}"));
        let mut grants = std::collections::BTreeMap::new();
        for key in held.iter().chain(&free) {
            grants.insert(key.clone(), granted(reserve(&store, key).await));
        }
        let holder = hold(&url, &held).await;
        let call = |key: String| -> futures::Boxed<_> {
            let (store, grant) = (store.clone(), grants[&key].clone());
            Box::pin(async move { asks(&store, ask, &key, &grant).await })
        };
        for (key, answer) in beside(&held, &free, call, holder).await {
            assert!(answer.unwrap(), "{ask:?} of {key}");
        }
    }
}

#[tokio::test]
async fn a_read_waits_for_no_lock() {
    let url = fresh_url();
    let store = patient(&url).await;
    works(&store, "done").await;
    granted(reserve(&store, "live").await);
    let mut holder = plain(&url).await;
    run(&mut holder, "BEGIN; UPDATE oncekey_slots SET expires_at = expires_at + interval '1 day'").await;
    let replay = in_time("a replay", reserve(&store, "done")).await.unwrap();
    assert!(matches!(replay, ReservationOutcome::Replay(_)), "{replay:?}");
    let busy = in_time("a busy slot", reserve(&store, "live")).await.unwrap();
    assert!(matches!(busy, ReservationOutcome::InFlight(_)), "{busy:?}");
    assert!(in_time("a lookup", store.lookup(&slot("live"))).await.unwrap().is_some());
    assert_eq!(in_time("stats", store.stats()).await.unwrap().total(), 2);
    holder.close().await.unwrap();
}

#[tokio::test]
async fn a_reserve_that_meets_a_locked_row_hears_in_flight_after_the_lock_timeout() {
    let url = fresh_url();
    let store = impatient(&url).await;
    let old = granted(reserve(&store, "lapsed").await);
    assert!(matches!(
        store.renew(&slot("lapsed"), &old, &Renewal::hand_over()).await,
        Ok(RenewOutcome::Renewed(_))
    ));
    let released = granted(reserve(&store, "released").await);
    assert_eq!(store.release(&slot("released"), &released).await.unwrap(), ReleaseOutcome::Released);
    let held = ["lapsed", "released"].map(str::to_owned);
    let (locks, inserts) = (hold(&url, &held).await, insert(&url, &["new".to_owned()]).await);
    for round in 0..2 {
        for key in ["lapsed", "released", "new"] {
            let busy = in_time("a locked slot", reserve(&store, key)).await;
            assert!(matches!(busy, Ok(ReservationOutcome::InFlight(_))), "{key}, round {round}: {busy:?}");
        }
    }
    locks.close().await.unwrap();
    inserts.close().await.unwrap();
    // The server ends a session a moment after its client went away.
    for key in ["lapsed", "released", "new"] {
        eventually("the slot to be free", async || match reserve(&store, key).await {
            Ok(ReservationOutcome::Reserved(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
}

#[tokio::test]
async fn another_call_that_meets_a_locked_row_times_out_and_has_no_effect() {
    let url = fresh_url();
    let store = impatient(&url).await;
    let lapsing = request_with(Policy::TakeOver, Duration::from_millis(1));
    let grant = granted(store.reserve_or_fetch(&slot("a"), Token::fresh(), &lapsing).await);
    let seen = eventually("the lease to end", async || match store.lookup(&slot("a")).await.unwrap() {
        Some(oncekey_postgres::Entry::Pending(pending)) if pending.is_lapsed() => Ok(pending.seen()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let before = ask(&url, "SELECT xmin || ' ' || state FROM oncekey_slots").await;
    let holder = hold(&url, &["a".to_owned()]).await;
    let mut errors = Vec::new();
    for ask in [Ask::Complete, Ask::Renew, Ask::HandOver, Ask::Release] {
        errors.push(in_time("a call", asks(&store, ask, "a", &grant)).await.unwrap_err());
    }
    for resolution in [Resolution::Release, Resolution::Complete(answer("x"))] {
        errors.push(in_time("resolve", store.resolve(&slot("a"), seen, &resolution)).await.unwrap_err());
    }
    errors.push(in_time("purge", store.purge(&slot("a"), grant.fence)).await.unwrap_err());
    for error in errors {
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::NotApplied), "{error}");
        assert!(error.to_string().contains("another transaction"), "{error}");
    }
    // What is locked is left to the next collection, and waited for by none.
    assert_eq!(in_time("a collection", store.garbage_collect(10.try_into().unwrap())).await.unwrap(), 0);
    holder.close().await.unwrap();
    assert_eq!(ask(&url, "SELECT xmin || ' ' || state FROM oncekey_slots").await, before);
    let stored = eventually("the row to be free", async || {
        store.complete(&slot("a"), &grant, &answer("paid")).await.map_err(|error| error.to_string())
    });
    assert_eq!(stored.await, CompleteOutcome::Stored);
}

#[tokio::test]
async fn a_commit_by_the_holder_is_what_waiting_calls_answer_from() {
    let url = fresh_url();
    let store = patient(&url).await;
    let mut holder = insert(&url, &["a".to_owned()]).await;
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.reserve_or_fetch(&slot("a"), Token::fresh(), &request()).await }
    });
    eventually("a session that waits for the lock", async || {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        match ask(&url, waits).await.as_str() {
            "0" => Err("nobody waits".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    run(&mut holder, "COMMIT").await;
    // The holder's fingerprint is another one.
    let answer = in_time("the reserve", waiting).await.unwrap().unwrap();
    assert_eq!(answer, ReservationOutcome::Conflict);
}

/// R3, S7. Told that somebody else is at work there, it would wait for itself.
/// What an open transaction may be doing to the row of "a".
const CHANGES: [&str; 3] = [
    "SELECT FROM oncekey_slots WHERE key = 'a' FOR UPDATE",
    "UPDATE oncekey_slots SET expires_at = expires_at + interval '1 day' WHERE key = 'a'",
    "DELETE FROM oncekey_slots WHERE key = 'a'",
];

#[tokio::test]
async fn a_retry_that_meets_its_own_row_locked_hears_no_in_flight() {
    for change in CHANGES {
        for builder in [PostgresStore::builder(), PostgresStore::builder().always_batches()] {
            let url = fresh_url();
            let store = builder.lock_timeout(Duration::from_millis(100)).connect(&url).await.unwrap();
            store.ensure_schema().await.unwrap();
            let (token, asked) = (Token::fresh(), request());
            let reserve = async || store.reserve_or_fetch(&slot("a"), token, &asked).await;
            let grant = granted(reserve().await);
            let mut holder = plain(&url).await;
            run(&mut holder, format!("BEGIN; {change}")).await;
            for round in 0..2 {
                let error = in_time("a retry", reserve()).await.expect_err(change);
                let expected = (ErrorKind::Timeout, Effect::NotApplied);
                assert_eq!((error.kind(), error.effect()), expected, "{change}, round {round}");
            }
            // Anybody else waits for it.
            let busy = in_time("another", self::reserve(&store, "a")).await.unwrap();
            assert!(matches!(busy, ReservationOutcome::InFlight(_)), "{change}: {busy:?}");
            holder.close().await.unwrap();
            eventually("the row to be free", async || match reserve().await {
                Ok(ReservationOutcome::Reserved(again)) if again == grant => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await;
        }
    }
}

/// T5 by hand: the holder asks again while his COMMIT may be on its way.
#[tokio::test]
async fn a_retry_beside_its_own_open_completion_hears_no_in_flight() {
    let url = fresh_url();
    let store = impatient(&url).await;
    let (token, asked) = (Token::fresh(), request());
    let grant = granted(store.reserve_or_fetch(&slot("a"), token, &asked).await);
    let mut tx = store.pool().begin().await.unwrap();
    store.complete_in(&mut tx, &slot("a"), &grant, &answer("paid")).await.unwrap();
    let error = in_time("a retry", store.reserve_or_fetch(&slot("a"), token, &asked)).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::NotApplied), "{error}");
    tx.commit().await.unwrap();
    let replay = store.reserve_or_fetch(&slot("a"), token, &asked).await.unwrap();
    assert!(matches!(replay, ReservationOutcome::Replay(_)), "{replay:?}");
}

/// R10. An insert has read its clock before it waits for another of its key.
#[tokio::test]
async fn a_fresh_lease_counts_from_after_the_wait_for_a_row_that_was_rolled_back() {
    let url = fresh_url();
    let store = patient(&url).await;
    let batches = patient_builder().always_batches().connect(&url).await.unwrap();
    let mut watcher = plain(&url).await;
    for (store, name) in [(store, "alone"), (batches, "batch")] {
        let keys: Vec<_> = (0..4).map(|n| format!("{name}-{n}")).collect();
        let mut holder = insert(&url, &keys).await;
        let callers: Vec<_> = keys
            .iter()
            .map(|key| {
                let (store, key) = (store.clone(), key.clone());
                tokio::spawn(async move { (granted(reserve(&store, &key).await), key) })
            })
            .collect();
        let waiting = "SELECT count(*) FILTER (WHERE clock_timestamp() - query_start > interval '200 ms') \
             FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        eventually("all to have waited for a while", async || {
            let count: i64 = sqlx::query_scalar(waiting).fetch_one(&mut watcher).await.unwrap();
            if count == keys.len() as i64 { Ok(()) } else { Err(format!("{count} wait")) }
        })
        .await;
        let freed: f64 = sqlx::query_scalar("SELECT extract(epoch FROM clock_timestamp())::float8")
            .fetch_one(&mut holder)
            .await
            .unwrap();
        run(&mut holder, "ROLLBACK").await;
        for caller in callers {
            let (_, key) = in_time("a caller", caller).await.unwrap();
            let left: f64 = sqlx::query_scalar(
                "SELECT extract(epoch FROM lease_expires_at)::float8 - $1 FROM oncekey_slots WHERE key = $2",
            )
            .bind(freed)
            .bind(&key)
            .fetch_one(&mut watcher)
            .await
            .unwrap();
            let lease = request().terms.lease().as_secs_f64();
            assert!(left >= lease, "{key}: {left} s of {lease} s");
        }
    }
}
