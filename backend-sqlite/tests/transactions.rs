//! In the caller's own transaction: T1 to T5, as SQLite keeps them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test: its failure is a panic"
)]

mod common;

use std::time::Duration;

use common::{answer, granted, request, request_with, slot};
use oncekey_sqlite::rusqlite::{Connection, Transaction, TransactionBehavior};
use oncekey_sqlite::*;

struct Bank {
    _folder: tempfile::TempDir,
    store: SqliteStore,
    clock: Clock,
    db: Connection,
}

fn bank() -> Bank {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bank.db");
    let clock = Clock::shiftable();
    let store = SqliteStore::builder()
        .clock(clock.clone())
        .call_deadline(Duration::from_millis(150))
        .open(&path)
        .unwrap();
    let db = Connection::open(&path).unwrap();
    db.execute_batch("CREATE TABLE ledger (entry TEXT)").unwrap();
    Bank { _folder: folder, store, clock, db }
}

impl Bank {
    fn begin(&mut self) -> Transaction<'_> {
        Transaction::new(&mut self.db, TransactionBehavior::Immediate).unwrap()
    }

    fn entries(&self) -> i64 {
        self.db.query_one("SELECT count(*) FROM ledger", [], |row| row.get(0)).unwrap()
    }
}

fn book(tx: &Connection) {
    tx.execute("INSERT INTO ledger VALUES ('paid')", []).unwrap();
}

#[test]
fn complete_in_stores_the_answer_with_the_business_write_or_neither() {
    let mut bank = bank();
    let store = bank.store.blocking();
    let grant = granted(store.reserve_or_fetch(&slot("a"), Token::fresh(), &request()).unwrap());

    let sqlite = bank.store.clone();
    let tx = bank.begin();
    book(&tx);
    sqlite.complete_in(&tx, &slot("a"), &grant, &answer("first")).unwrap();
    tx.rollback().unwrap();
    assert_eq!(bank.entries(), 0);
    assert!(matches!(store.lookup(&slot("a")).unwrap(), Some(Entry::Pending(_))));

    let tx = bank.begin();
    book(&tx);
    sqlite.complete_in(&tx, &slot("a"), &grant, &answer("second")).unwrap();
    tx.commit().unwrap();
    assert_eq!(bank.entries(), 1);
    let Some(Entry::Completed(record)) = store.lookup(&slot("a")).unwrap() else { panic!("not completed") };
    assert_eq!(record.response, *answer("second").response());
}

#[test]
fn a_holder_that_lost_its_slot_hears_it_in_time_to_roll_back() {
    let mut bank = bank();
    let store = bank.store.blocking();
    let old = granted(store.reserve_or_fetch(&slot("a"), Token::fresh(), &request()).unwrap());
    bank.clock.advance(Duration::from_secs(301));
    let new = granted(store.reserve_or_fetch(&slot("a"), Token::fresh(), &request()).unwrap());

    let sqlite = bank.store.clone();
    let tx = bank.begin();
    book(&tx);
    let lost = sqlite.complete_in(&tx, &slot("a"), &old, &answer("old")).unwrap_err();
    assert!(matches!(lost, InTxError::Lost(Loss::TakenOver)), "{lost:?}");
    drop(tx);
    assert_eq!(bank.entries(), 0);

    // T1: a transaction that is made again after its COMMIT's answer was lost must not pay twice.
    for attempt in 1..=2 {
        let tx = bank.begin();
        book(&tx);
        match sqlite.complete_in(&tx, &slot("a"), &new, &answer("new")) {
            Ok(()) => tx.commit().unwrap(),
            Err(InTxError::AlreadyStored(record)) => {
                assert_eq!((attempt, &record.response), (2, answer("new").response()));
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(bank.entries(), 1);
}

#[test]
fn once_commits_reservation_write_and_answer_together() {
    let mut bank = bank();
    let sqlite = bank.store.clone();
    let ReservationOutcome::Reserved(once) = sqlite.once(bank.begin(), &slot("a"), &request()).unwrap()
    else {
        panic!("nobody else is there")
    };
    book(&once);
    drop(once);
    assert_eq!(bank.entries(), 0);
    assert_eq!(sqlite.blocking().lookup(&slot("a")).unwrap(), None, "a rollback leaves nothing");

    for _ in 0..3 {
        match sqlite.once(bank.begin(), &slot("a"), &request()).unwrap() {
            ReservationOutcome::Reserved(once) => {
                book(&once);
                once.commit(&answer("paid")).unwrap();
            }
            ReservationOutcome::Replay(record) => assert_eq!(record.response, *answer("paid").response()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bank.entries(), 1);
}

#[test]
fn a_duplicate_of_an_open_transaction_hears_in_flight_and_others_time_out() {
    let mut bank = bank();
    let store = bank.store.blocking();
    let held = granted(store.reserve_or_fetch(&slot("held"), Token::fresh(), &request()).unwrap());
    let done = granted(store.reserve_or_fetch(&slot("done"), Token::fresh(), &request()).unwrap());
    assert_eq!(store.complete(&slot("done"), &done, &answer("done")).unwrap(), CompleteOutcome::Stored);

    let sqlite = bank.store.clone();
    let ReservationOutcome::Reserved(once) = sqlite.once(bank.begin(), &slot("a"), &request()).unwrap()
    else {
        panic!("nobody else is there")
    };
    // T3: somebody is at work there, with which fingerprint nobody can know yet.
    let duplicate = store.reserve_or_fetch(&slot("a"), Token::fresh(), &request()).unwrap();
    assert!(matches!(duplicate, ReservationOutcome::InFlight(_)), "{duplicate:?}");
    // What a read can tell is told.
    let replay = store.reserve_or_fetch(&slot("done"), Token::fresh(), &request()).unwrap();
    assert!(matches!(replay, ReservationOutcome::Replay(_)), "{replay:?}");
    let error = store.complete(&slot("held"), &held, &answer("x")).unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::NotApplied));

    once.commit(&answer("paid")).unwrap();
    let after = store.reserve_or_fetch(&slot("a"), Token::fresh(), &request()).unwrap();
    assert!(matches!(after, ReservationOutcome::Replay(_)), "{after:?}");
    assert_eq!(store.complete(&slot("held"), &held, &answer("x")).unwrap(), CompleteOutcome::Stored);
}

#[test]
fn a_deferred_transaction_that_cannot_be_upgraded_says_so() {
    let bank = bank();
    let store = bank.store.blocking();
    let grant = granted(store.reserve_or_fetch(&slot("a"), Token::fresh(), &request()).unwrap());
    let tx = Transaction::new_unchecked(&bank.db, TransactionBehavior::Deferred).unwrap();
    let _snapshot: i64 = tx.query_one("SELECT count(*) FROM ledger", [], |row| row.get(0)).unwrap();
    granted(store.reserve_or_fetch(&slot("b"), Token::fresh(), &request()).unwrap());
    let error = bank.store.complete_in(&tx, &slot("a"), &grant, &answer("x")).unwrap_err();
    let InTxError::Store(error) = error else { panic!("{error:?}") };
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::NotApplied));
    assert!(error.to_string().contains("IMMEDIATE"), "{error}");
}

#[tokio::test]
async fn write_rolls_back_what_fails_and_survives_a_panic() {
    let store = SqliteStore::in_memory().unwrap();
    store.write(|tx| tx.execute_batch("CREATE TABLE ledger (entry TEXT)")).await.unwrap();

    let failed = store
        .write(|tx| {
            book(tx);
            Err::<(), _>("no")
        })
        .await;
    assert!(matches!(failed, Err(WriteError::Work("no"))));

    let panicking = store.clone();
    let panicked = tokio::spawn(async move {
        let work = |tx: &Transaction<'_>| -> Result<(), StoreError> {
            book(tx);
            panic!("at the disco")
        };
        panicking.write(work).await
    });
    assert!(panicked.await.unwrap_err().is_panic());

    let entries = store.write(|tx| tx.query_one("SELECT count(*) FROM ledger", [], |r| r.get::<_, i64>(0)));
    assert_eq!(entries.await.unwrap(), 0);
    granted(store.reserve_or_fetch(&slot("a"), Token::fresh(), &request()).await.unwrap());
}

#[tokio::test]
async fn once_in_memory_is_reserve_in_and_complete_in_on_the_writers_transaction() {
    let store = SqliteStore::in_memory().unwrap();
    store.write(|tx| tx.execute_batch("CREATE TABLE ledger (entry TEXT)")).await.unwrap();
    for _ in 0..3 {
        let this = store.clone();
        let pay = move |tx: &Transaction<'_>| -> Result<(), InTxError> {
            if let ReservationOutcome::Reserved(grant) =
                this.reserve_in(tx, &slot("a"), Token::fresh(), &request())?
            {
                book(tx);
                this.complete_in(tx, &slot("a"), &grant, &answer("paid"))?;
            }
            Ok(())
        };
        store.write(pay).await.unwrap();
    }
    let entries = store.write(|tx| tx.query_one("SELECT count(*) FROM ledger", [], |r| r.get::<_, i64>(0)));
    assert_eq!(entries.await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_answers_every_accepted_call_and_refuses_later_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oncekey.db");
    let store = SqliteStore::open(&path).unwrap();
    let calls: Vec<_> = (0..200)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                store.reserve_or_fetch(&slot(format!("{n}")), Token::fresh(), &request()).await
            })
        })
        .collect();
    store.close().await;
    let mut reserved = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(outcome) => {
                granted(outcome);
                reserved += 1;
            }
            Err(error) => {
                assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::NotApplied));
            }
        }
    }
    let late = store.reserve_or_fetch(&slot("late"), Token::fresh(), &request()).await.unwrap_err();
    assert_eq!((late.kind(), late.effect()), (ErrorKind::Unavailable, Effect::NotApplied));
    let live = SqliteStore::open(&path).unwrap().stats().await.unwrap().live;
    assert_eq!(live, reserved, "as many rows as answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_fails_alone_is_isolated_from_its_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oncekey.db");
    let store = SqliteStore::open(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    // A trigger stands for whatever makes one statement of many fail.
    other
        .execute_batch(
            "CREATE TRIGGER poison BEFORE INSERT ON oncekey_slots WHEN new.key LIKE 'poison%'
             BEGIN SELECT raise(ROLLBACK, 'poisoned'); END",
        )
        .unwrap();
    let calls: Vec<_> = (0..60)
        .map(|n| {
            let store = store.clone();
            let key = if n % 7 == 0 { format!("poison-{n}") } else { format!("good-{n}") };
            tokio::spawn(async move {
                (key.clone(), store.reserve_or_fetch(&slot(&key), Token::fresh(), &request()).await)
            })
        })
        .collect();
    for call in calls {
        let (key, result) = call.await.unwrap();
        match result {
            Ok(outcome) => {
                assert!(key.starts_with("good"), "{key}");
                granted(outcome);
                assert!(store.lookup(&slot(&key)).await.unwrap().is_some(), "{key} has no row");
            }
            Err(error) => {
                assert!(key.starts_with("poison"), "{key}: {error}");
                assert_eq!(error.effect(), Effect::NotApplied);
            }
        }
    }
}

#[tokio::test]
async fn a_dropped_call_poisons_no_connection() {
    let store = SqliteStore::in_memory().unwrap();
    for n in 0..200 {
        let (slot, request) = (slot(format!("{n}")), request_with(Policy::TakeOver, Duration::from_secs(60)));
        let mut call = Box::pin(store.reserve_or_fetch(&slot, Token::fresh(), &request));
        // Polled some times, then dropped: it may have been sent, or even answered.
        for _ in 0..n % 3 {
            let _ = std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx))).await;
        }
        drop(call);
    }
    let grant = granted(store.reserve_or_fetch(&slot("after"), Token::fresh(), &request()).await.unwrap());
    assert_eq!(store.complete(&slot("after"), &grant, &answer("x")).await.unwrap(), CompleteOutcome::Stored);
    assert!(matches!(store.lookup(&slot("after")).await.unwrap(), Some(Entry::Completed(_))));
}
