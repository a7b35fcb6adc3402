//! Rows that were changed by hand, and batches that are bounded.

use std::collections::BTreeMap;

use oncekey_postgres::{
    CompleteOutcome, Effect, ErrorKind, Grant, IdempotencyAdmin, IdempotencyStore, PostgresStore,
    ReleaseOutcome, RenewOutcome, Renewal, ReservationOutcome, Resolution, Seen, StoreError, Timestamp,
};

use crate::kit::{
    HOUR, answer, ask, fresh_url, granted, in_time, plain, pool, request, reserve, run, slot, works,
};

/// What somebody did to a row, by `UPDATE .. SET`. Each leaves a record that can't be read.
const HARM: [&str; 10] = [
    "token = '\\x010203'",
    "fingerprint = 'too short'",
    "state = 'unheard of'",
    "policy = 'at will'",
    "attempt = 0",
    "attempt = 4294967296",
    "fence = -1",
    "retention = '1 month'",
    "checkpoint_sequence = 3",
    "expires_at = '4713-01-01 BC'",
];

/// Asks for all keys at once, so that they are gathered; the answers in their order.
async fn at_once<T: Send + 'static, F>(keys: &[String], call: impl Fn(String) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
{
    let calls: Vec<_> = keys.iter().map(|key| tokio::spawn(call(key.clone()))).collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(in_time("a call", call).await.unwrap());
    }
    answers
}

#[track_caller]
fn is_corrupt<T: std::fmt::Debug>(said: Result<T, StoreError>, harm: &str) {
    let error = said.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Corrupt, Effect::NotApplied), "{harm}: {error}");
}

/// The server would keep the worst out.
const UNGUARDED: &str = "ALTER TABLE oncekey_slots DROP CONSTRAINT oncekey_slots_state_check; \
    ALTER TABLE oncekey_slots DROP CONSTRAINT oncekey_slots_policy_check";

/// One thread: all are asked before any is sent, so that they are in one statement.
#[tokio::test]
async fn a_row_that_cant_be_read_is_its_own_callers_error_and_nobody_elses() {
    let url = fresh_url();
    let store = PostgresStore::connect(&url).await.unwrap();
    store.ensure_schema().await.unwrap();
    let mut owner = plain(&url).await;
    run(&mut owner, UNGUARDED).await;
    for (round, harm) in HARM.into_iter().enumerate() {
        let keys: Vec<_> = (0..9).map(|n| format!("{round}-{n}")).collect();
        let bad = &keys[4];
        let mut grants: Vec<Grant> = Vec::new();
        for key in &keys {
            grants.push(granted(reserve(&store, key).await));
        }
        run(&mut owner, format!("UPDATE oncekey_slots SET {harm} WHERE key = '{bad}'")).await;
        let answers = at_once(&keys, |key| {
            let store = store.clone();
            async move { (store.lookup(&slot(&key)).await, key) }
        });
        for (said, key) in answers.await {
            match key == *bad {
                true => is_corrupt(said, harm),
                false => assert!(said.unwrap().is_some(), "{harm}"),
            }
        }
        let answers = at_once(&keys, |key| {
            let store = store.clone();
            async move { (reserve(&store, &key).await, key) }
        });
        for (said, key) in answers.await {
            match key == *bad {
                true => is_corrupt(said, harm),
                false => {
                    let said = said.unwrap();
                    assert!(matches!(said, ReservationOutcome::InFlight(_)), "{harm}: {said:?}");
                }
            }
        }
        let seen = Seen { fence: grants[4].fence, lease_expires_at: Timestamp::ZERO };
        is_corrupt(store.resolve(&slot(bad), seen, &Resolution::Release).await, harm);

        // An operator clears it away.
        run(&mut owner, format!("DELETE FROM oncekey_slots WHERE key = '{bad}'")).await;
        works(&store, bad).await;
    }
}

/// What a holder asks.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Reserve,
    Renew,
    HandOver,
    Complete,
    Release,
}

impl Ask {
    async fn of(self, store: &PostgresStore, key: &str, grant: &Grant) -> Result<bool, StoreError> {
        let slot = slot(key);
        Ok(match self {
            Self::Reserve => {
                let again = store.reserve_or_fetch(&slot, grant.token, &request()).await?;
                matches!(again, ReservationOutcome::Reserved(again) if again == *grant)
            }
            Self::Renew => {
                let said = store.renew(&slot, grant, &Renewal::extend(HOUR).unwrap()).await?;
                matches!(said, RenewOutcome::Renewed(_))
            }
            Self::HandOver => {
                let said = store.renew(&slot, grant, &Renewal::hand_over()).await?;
                matches!(said, RenewOutcome::Renewed(_))
            }
            Self::Complete => store.complete(&slot, grant, &answer("paid")).await? == CompleteOutcome::Stored,
            Self::Release => store.release(&slot, grant).await? == ReleaseOutcome::Released,
        })
    }
}

/// S7: it may be that all that a statement asks for can be read, and then it writes. What is an error without an
/// effect has none.
#[tokio::test]
async fn a_holder_whose_row_was_changed_hears_the_truth_and_those_beside_it_are_served() {
    let url = fresh_url();
    let store = PostgresStore::connect(&url).await.unwrap();
    store.ensure_schema().await.unwrap();
    let mut owner = plain(&url).await;
    run(&mut owner, UNGUARDED).await;
    let mut written = 0;
    for ask_for in [Ask::Reserve, Ask::Renew, Ask::HandOver, Ask::Complete, Ask::Release] {
        for (round, harm) in HARM.into_iter().enumerate() {
            let keys: Vec<_> = (0..5).map(|n| format!("{ask_for:?}-{round}-{n}")).collect();
            let bad = &keys[2];
            let mut grants = BTreeMap::new();
            for key in &keys {
                grants.insert(key.clone(), granted(reserve(&store, key).await));
            }
            run(&mut owner, format!("UPDATE oncekey_slots SET {harm} WHERE key = '{bad}'")).await;
            let row = format!("SELECT oncekey_slots::text FROM oncekey_slots WHERE key = '{bad}'");
            let before = ask(&url, &row).await;
            let answers = at_once(&keys, |key| {
                let (store, grant) = (store.clone(), grants[&key].clone());
                async move { (ask_for.of(&store, &key, &grant).await, key) }
            });
            for (said, key) in answers.await {
                match said {
                    said if key != *bad => assert!(said.unwrap(), "{harm}, {ask_for:?}"),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Corrupt, "{harm}, {ask_for:?}: {error}");
                        let same = ask(&url, &row).await == before;
                        assert!(same || error.effect() == Effect::Unknown, "{harm}, {ask_for:?}: {error}");
                    }
                    Ok(_) => written += 1,
                }
            }
        }
    }
    println!("{written} of {} were written all the same", 5 * HARM.len());
}

#[tokio::test]
async fn a_completed_row_that_cant_be_read_is_never_a_guess() {
    let url = fresh_url();
    let store = PostgresStore::connect(&url).await.unwrap();
    store.ensure_schema().await.unwrap();
    let mut owner = plain(&url).await;
    for (n, harm) in [
        "body = NULL",
        "body_length = 7",
        "status = NULL",
        "status = 70000",
        "headers = NULL",
        "completed_at = NULL",
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("{n}");
        let grant = granted(reserve(&store, &key).await);
        let stored = store.complete(&slot(&key), &grant, &answer("paid")).await;
        assert_eq!(stored.unwrap(), CompleteOutcome::Stored);
        run(&mut owner, format!("UPDATE oncekey_slots SET {harm} WHERE key = '{key}'")).await;
        is_corrupt(reserve(&store, &key).await, harm);
        is_corrupt(store.lookup(&slot(&key)).await, harm);
        is_corrupt(store.complete(&slot(&key), &grant, &answer("x")).await, harm);
        is_corrupt(store.release(&slot(&key), &grant).await, harm);
    }
}

/// What each statement wrote to the table, by a trigger of it: how many rows, and how many bytes of bodies.
async fn watched(url: &str, event: &str) {
    let trigger = format!(
        "CREATE TABLE written (rows bigint, bytes bigint); \
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             INSERT INTO written SELECT count(*), coalesce(sum(length(body)), 0) FROM new_rows; RETURN NULL; \
         END $$; \
         CREATE TRIGGER note AFTER {event} ON oncekey_slots REFERENCING NEW TABLE AS new_rows \
             FOR EACH STATEMENT EXECUTE FUNCTION note()"
    );
    run(&mut plain(url).await, trigger).await;
}

#[tokio::test]
async fn a_batch_is_bounded_by_its_bytes_and_one_larger_call_goes_by_itself() {
    const KIB: usize = 1024;
    let url = fresh_url();
    let pool = pool(&url, 1).await;
    let store = PostgresStore::builder().batch(100, 64 * KIB).from_pool(pool.clone()).await.unwrap();
    store.ensure_schema().await.unwrap();
    let keys: Vec<_> = (0..40).map(|n| format!("{n:02}")).collect();
    let mut grants = Vec::new();
    for key in &keys {
        grants.push(granted(reserve(&store, key).await));
    }
    watched(&url, "UPDATE").await;
    // Nothing goes out before all of them wait.
    let held = pool.acquire().await.unwrap();
    let calls: Vec<_> = keys
        .iter()
        .zip(grants)
        .enumerate()
        .map(|(n, (key, grant))| {
            let (store, slot) = (store.clone(), slot(key));
            let bytes = if n % 10 == 5 { 100 * KIB } else { 10 * KIB };
            tokio::spawn(async move { store.complete(&slot, &grant, &answer("x".repeat(bytes))).await })
        })
        .collect();
    // Each has been polled.
    tokio::task::yield_now().await;
    drop(held);
    for call in calls {
        assert_eq!(in_time("a complete", call).await.unwrap().unwrap(), CompleteOutcome::Stored);
    }
    let most = "SELECT max(bytes) FILTER (WHERE rows > 1) || ' ' || max(bytes) || ' ' || max(rows) || ' ' || sum(rows) \
        FROM written WHERE rows > 0";
    assert_eq!(ask(&url, most).await, format!("{} {} 6 40", 60 * KIB, 100 * KIB));
}

#[tokio::test]
async fn a_batch_is_bounded_by_its_rows() {
    let url = fresh_url();
    let pool = pool(&url, 1).await;
    let store = PostgresStore::builder().batch(7, 1024).from_pool(pool.clone()).await.unwrap();
    store.ensure_schema().await.unwrap();
    watched(&url, "INSERT").await;
    let held = pool.acquire().await.unwrap();
    let calls: Vec<_> = (0..40)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { reserve(&store, &format!("{n}")).await })
        })
        .collect();
    tokio::task::yield_now().await;
    drop(held);
    let mut grants = Vec::new();
    for call in calls {
        grants.push(granted(in_time("a reserve", call).await.unwrap()));
    }
    let most = "SELECT max(rows) || ' ' || sum(rows) FROM written";
    assert_eq!(ask(&url, most).await, "7 40");
    let released = store.release(&slot("0"), &grants[0]).await.unwrap();
    assert_eq!(released, ReleaseOutcome::Released);
}
