//! T3: many who call for a slot that somebody's open transaction holds, and others beside them.

use std::time::Duration;

use oncekey_postgres::sqlx::Connection;
use oncekey_postgres::{ErrorKind, IdempotencyStore, PostgresStore, ReservationOutcome, StoreError};
use tokio::task::JoinHandle;

use crate::kit::{answer, ask, eventually, fresh_url, in_time, plain, request, reserve, run, slot, works};
use crate::locks::{insert, patient};

const BRIEF: Duration = Duration::from_millis(200);

/// Sessions of this database that have waited for a lock longer than a batch does.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                       AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '500 ms'";

type Calls = Vec<JoinHandle<Result<ReservationOutcome, StoreError>>>;

/// Begins so many calls for each of these slots.
fn calls(store: &PostgresStore, keys: &[String], each: usize) -> Calls {
    let keys = keys.iter().flat_map(|key| std::iter::repeat_n(key.clone(), each));
    keys.map(|key| {
        let store = store.clone();
        tokio::spawn(async move { reserve(&store, &key).await })
    })
    .collect()
}

/// Returns when as many wait as may.
async fn all_places_are_taken(url: &str) {
    eventually("all places to be taken by who waits", async || match ask(url, WAITING).await.as_str() {
        "4" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
}

/// A storm of retries while the first is still at work in a transaction: more than could wait one by one.
#[tokio::test]
async fn two_thousand_duplicates_of_a_locked_slot_all_hear_in_flight() {
    let url = fresh_url();
    let store = PostgresStore::connect(&url).await.unwrap();
    store.ensure_schema().await.unwrap();
    let holder = insert(&url, &["a".to_owned()]).await;
    let begun = tokio::time::Instant::now();
    let duplicates = calls(&store, &["a".to_owned()], 2_000);
    for duplicate in duplicates {
        let busy = in_time("a duplicate", duplicate).await.unwrap();
        assert!(matches!(busy, Ok(ReservationOutcome::InFlight(_))), "{busy:?}");
    }
    println!("2000 duplicates had their answer within {:?}", begun.elapsed());
    holder.close().await.unwrap();
}

/// Those who wait for slots that are locked hold nobody up whose slot was locked a while ago, and is free.
#[tokio::test]
async fn a_crowd_before_locked_slots_holds_up_no_other() {
    let url = fresh_url();
    let store = patient(&url).await;
    let keys: Vec<_> = (0..8).map(|n| format!("a{n}")).collect();
    let holder = insert(&url, &keys).await;
    let crowd = calls(&store, &keys, 50);
    all_places_are_taken(&url).await;
    // A transaction that ends without a word: its slot is still taken for locked.
    let once = store.once(store.pool().begin().await.unwrap(), &slot("b"), &request()).await.unwrap();
    assert!(matches!(once, ReservationOutcome::Reserved(_)));
    drop(once);
    in_time("a call beside the crowd", works(&store, "b")).await;
    holder.close().await.unwrap();
    for caller in crowd {
        let told = in_time("one of the crowd", caller).await.unwrap();
        let known = matches!(told, Ok(ReservationOutcome::Reserved(_) | ReservationOutcome::InFlight(_)));
        assert!(known, "{told:?}");
    }
}

/// More slots are locked than may keep a session waiting each: the others are looked at all the same.
#[tokio::test]
async fn who_has_no_place_to_wait_finds_out_that_his_slot_is_free() {
    let url = fresh_url();
    let store = patient(&url).await;
    let keys: Vec<_> = (0..8).map(|n| format!("a{n}")).collect();
    let holder = insert(&url, &keys).await;
    let crowd = calls(&store, &keys, 1);
    all_places_are_taken(&url).await;
    let theirs = store.pool().begin().await.unwrap();
    let once = store.once(theirs, &slot("b"), &request()).await.unwrap();
    let ReservationOutcome::Reserved(once) = once else { panic!("{once:?}") };
    let duplicates = calls(&store, &["b".to_owned()], 3);
    // By then they have looked, and found it locked.
    for n in 0..20 {
        in_time("a call beside them", works(&store, &format!("c{n}"))).await;
    }
    once.commit(&answer("paid")).await.unwrap();
    for duplicate in duplicates {
        let replay = in_time("a duplicate", duplicate).await.unwrap();
        assert!(matches!(replay, Ok(ReservationOutcome::Replay(_))), "{replay:?}");
    }
    holder.close().await.unwrap();
    for caller in crowd {
        let told = in_time("one of the crowd", caller).await.unwrap();
        assert!(matches!(told, Ok(ReservationOutcome::Reserved(_))), "{told:?}");
    }
}

/// Sessions of the store that wait for a lock.
const STUCK: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                     AND wait_event_type = 'Lock' AND application_name = 'oncekey'";

/// CREATE INDEX, VACUUM FULL, ALTER TABLE: the lock of a table comes before any lock timeout that a statement sets.
#[tokio::test]
async fn calls_that_gave_up_on_a_locked_table_leave_no_session_behind() {
    for builder in [PostgresStore::builder(), PostgresStore::builder().transaction_pooler()] {
        let url = fresh_url();
        let builder = builder.lock_timeout(BRIEF / 2).statement_deadline(BRIEF).call_deadline(10 * BRIEF);
        let named = format!("{url}{}application_name=oncekey", if url.contains('?') { '&' } else { '?' });
        let store = builder.connect(&named).await.unwrap();
        store.ensure_schema().await.unwrap();
        let mut holder = plain(&url).await;
        run(&mut holder, "BEGIN; LOCK TABLE oncekey_slots IN ACCESS EXCLUSIVE MODE").await;
        let keys: Vec<_> = (0..20).map(|n| n.to_string()).collect();
        let callers = calls(&store, &keys, 1);
        for caller in callers {
            let error = in_time("a caller", caller).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        }
        eventually("the sessions to be free, whoever holds the table", async || {
            match ask(&url, STUCK).await.as_str() {
                "0" => Ok(()),
                stuck => Err(format!("{stuck} sessions wait")),
            }
        })
        .await;
        holder.close().await.unwrap();
        works(&store, "afterwards").await;
    }
}
