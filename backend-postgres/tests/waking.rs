//! Callers that wait are woken across processes, played by two stores with nothing in common but the server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: its failure is a panic")]

mod common;

use std::time::Duration;

use common::{request, slot, tables};
use oncekey_postgres::*;
use tokio::time::timeout;

/// Longer than any wake takes, and never reached by a test that passes.
const FAR: Duration = Duration::from_secs(30);

async fn two_stores() -> (PostgresStore, PostgresStore) {
    let (builder, url, _) = tables();
    let one = builder.clone().connect(&url).await.unwrap();
    one.ensure_schema().await.unwrap();
    (one, builder.connect(&url).await.unwrap())
}

async fn grant(store: &PostgresStore, key: &str) -> Grant {
    match store.reserve_or_fetch(&slot(key), Token::fresh(), &request()).await.unwrap() {
        ReservationOutcome::Reserved(grant) => grant,
        other => panic!("expected Reserved, saw {other:?}"),
    }
}

fn answer() -> Completion {
    Completion::new(StoredResponse::new(200, "", "done"))
}

/// The first watch of a store connects its listener, and is completed once that listens.
async fn listening(store: &PostgresStore) {
    timeout(FAR, store.watch(&slot("anything"))).await.expect("nobody was woken once it listened");
}

#[tokio::test]
async fn whoever_waits_in_another_process_hears_of_each_end() {
    let (holder, waiter) = two_stores().await;
    listening(&waiter).await;
    for end in ["complete", "release", "hand over", "by hand"] {
        let held = grant(&holder, end).await;
        let watch = waiter.watch(&slot(end));
        match end {
            "complete" => assert_eq!(
                holder.complete(&slot(end), &held, &answer()).await.unwrap(),
                CompleteOutcome::Stored
            ),
            "release" => {
                assert_eq!(holder.release(&slot(end), &held).await.unwrap(), ReleaseOutcome::Released);
            }
            "hand over" => {
                let renewed = holder.renew(&slot(end), &held, &Renewal::hand_over()).await.unwrap();
                assert!(matches!(renewed, RenewOutcome::Renewed(_)));
            }
            _ => holder.wake(&slot(end)),
        }
        timeout(FAR, watch).await.unwrap_or_else(|_| panic!("{end}: nobody was woken"));
    }
}

#[tokio::test]
async fn a_listener_whose_connection_is_lost_listens_again_and_wakes_everybody() {
    let (holder, waiter) = two_stores().await;
    listening(&waiter).await;
    let watch = waiter.watch(&slot("lost"));
    let server = oncekey_testbed::postgres::shared().unwrap();
    let listeners = "SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a \
        JOIN pg_locks l ON l.pid = a.pid AND l.locktype = 'advisory' AND l.mode = 'ShareLock' \
        WHERE a.query LIKE 'LISTEN%'";
    assert_ne!(server.psql(listeners).unwrap(), "0", "nobody listened");
    timeout(FAR, watch).await.expect("what may have been missed was not told");
    let held = grant(&holder, "later").await;
    let watch = waiter.watch(&slot("later"));
    assert_eq!(holder.complete(&slot("later"), &held, &answer()).await.unwrap(), CompleteOutcome::Stored);
    timeout(FAR, watch).await.expect("nobody was woken after the connection was made again");
}

#[tokio::test]
async fn without_notifications_the_runner_finds_the_answer_by_looking() {
    let (builder, url, _) = tables();
    let holder = builder.clone().connect(&url).await.unwrap();
    holder.ensure_schema().await.unwrap();
    let waiter = builder.without_notifications().connect(&url).await.unwrap();
    let held = grant(&holder, "looked for").await;
    let call =
        Idempotency::at_least_once(waiter).call(&slot("looked for"), request().fingerprint).wait_up_to(FAR);
    let waiting = tokio::spawn(call.run(async |_| Ok::<_, std::io::Error>(b"ran".to_vec())));
    assert_eq!(
        holder.complete(&slot("looked for"), &held, &answer()).await.unwrap(),
        CompleteOutcome::Stored
    );
    match waiting.await.unwrap().unwrap() {
        RunOutcome::Done { value, how } => assert_eq!((value, how), (b"done".to_vec(), How::Replayed)),
        other => panic!("{other:?}"),
    }
}
