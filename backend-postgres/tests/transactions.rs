//! In the caller's own transaction (T1 to T5), on a real server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: its failure is a panic")]

mod common;

use std::time::Duration;

use common::tables;
use oncekey_postgres::*;
use sqlx::{Connection, Executor, PgConnection, PgPool};

const NO_TIME: Duration = Duration::from_millis(100);

struct Bank {
    store: PostgresStore,
    pool: PgPool,
    paid: String,
    offset: ClockOffset,
}

/// A store, a table for the business writes beside it, and a pool of the caller's own.
async fn bank() -> Bank {
    let (builder, url, offset) = tables();
    let store = builder.lock_timeout(NO_TIME).connect(&url).await.unwrap();
    store.ensure_schema().await.unwrap();
    let pool = PgPool::connect(&url).await.unwrap();
    let paid = format!("paid_{}", fastrand::u64(..));
    pool.execute(sqlx::AssertSqlSafe(format!("CREATE TABLE {paid} (cents bigint)"))).await.unwrap();
    Bank { store, pool, paid, offset }
}

impl Bank {
    async fn pay(&self, tx: &mut PgConnection) {
        tx.execute(sqlx::AssertSqlSafe(format!("INSERT INTO {} VALUES (900)", self.paid))).await.unwrap();
    }

    /// How often was paid, as everybody sees it.
    async fn payments(&self) -> i64 {
        let count = format!("SELECT count(*) FROM {}", self.paid);
        sqlx::query_scalar(sqlx::AssertSqlSafe(count)).fetch_one(&self.pool).await.unwrap()
    }
}

fn slot() -> Slot {
    common::slot("order")
}

fn answer(text: &'static str) -> Completion {
    Completion::new(StoredResponse::new(201, "", text))
}

fn reserved<H: std::fmt::Debug>(outcome: ReservationOutcome<H>) -> H {
    match outcome {
        ReservationOutcome::Reserved(holder) => holder,
        other => panic!("expected Reserved, saw {other:?}"),
    }
}

async fn grant_of(bank: &Bank) -> Grant {
    reserved(bank.store.reserve_or_fetch(&slot(), Token::fresh(), &common::request()).await.unwrap())
}

#[tokio::test]
async fn the_answer_and_the_write_are_both_there_or_neither() {
    let bank = bank().await;
    let grant = grant_of(&bank).await;
    for commit in [false, true] {
        let mut tx = bank.pool.begin().await.unwrap();
        bank.pay(&mut tx).await;
        bank.store.complete_in(&mut tx, &slot(), &grant, &answer("paid")).await.unwrap();
        match commit {
            false => tx.rollback().await.unwrap(),
            true => tx.commit().await.unwrap(),
        }
        let entry = bank.store.lookup(&slot()).await.unwrap().unwrap();
        assert_eq!(matches!(entry, Entry::Completed(_)), commit, "{entry:?}");
        assert_eq!(bank.payments().await, i64::from(commit));
    }
}

#[tokio::test]
async fn a_holder_that_lost_its_slot_hears_it_in_time_to_roll_back() {
    let bank = bank().await;
    let old = grant_of(&bank).await;
    bank.offset.advance(Duration::from_secs(400));
    let new = grant_of(&bank).await;
    let mut tx = bank.pool.begin().await.unwrap();
    bank.pay(&mut tx).await;
    let lost = bank.store.complete_in(&mut tx, &slot(), &old, &answer("late")).await.unwrap_err();
    assert!(matches!(lost, InTxError::Lost(Loss::TakenOver)), "{lost:?}");
    // The transaction is as it was: the caller decides.
    bank.pay(&mut tx).await;
    drop(tx);
    assert_eq!(bank.payments().await, 0);
    assert_eq!(bank.store.complete(&slot(), &new, &answer("paid")).await.unwrap(), CompleteOutcome::Stored);
    let mut tx = bank.pool.begin().await.unwrap();
    let again = bank.store.complete_in(&mut tx, &slot(), &new, &answer("again")).await.unwrap_err();
    assert!(
        matches!(&again, InTxError::AlreadyStored(r) if r.response.body.bytes().unwrap() == "paid"),
        "{again:?}"
    );
}

#[tokio::test]
async fn once_commits_all_of_it_and_replays_it() {
    let bank = bank().await;
    let mut once = reserved(begin_once(&bank).await);
    bank.pay(&mut once).await;
    once.commit(&answer("paid")).await.unwrap();
    match begin_once(&bank).await {
        ReservationOutcome::Replay(record) => assert_eq!(record.response.body.bytes().unwrap(), "paid"),
        other => panic!("expected Replay, saw {other:?}"),
    }
    assert_eq!(bank.payments().await, 1);
}

async fn begin_once(bank: &Bank) -> ReservationOutcome<OnceTx<'static>> {
    let tx = bank.pool.begin().await.unwrap();
    bank.store.once(tx, &slot(), &common::request()).await.unwrap()
}

#[tokio::test]
async fn once_that_is_dropped_or_rolled_back_leaves_nothing() {
    let bank = bank().await;
    for by_hand in [false, true] {
        let mut once = reserved(begin_once(&bank).await);
        bank.pay(&mut once).await;
        if by_hand {
            once.rollback().await.unwrap();
        } else {
            drop(once);
        }
        // Waits for the row, where the rollback is still on its way.
        let free = loop {
            match begin_once(&bank).await {
                ReservationOutcome::InFlight(_) => {}
                other => break reserved(other),
            }
        };
        assert_eq!(free.grant().attempt, 1, "no trace of the one before");
        free.rollback().await.unwrap();
        assert_eq!(bank.payments().await, 0);
        assert!(bank.store.lookup(&slot()).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_duplicate_of_an_open_once_hears_in_flight_and_then_the_replay() {
    let bank = bank().await;
    let mut once = reserved(begin_once(&bank).await);
    bank.pay(&mut once).await;
    // T3: in a transaction, and by a store's own call.
    assert!(matches!(begin_once(&bank).await, ReservationOutcome::InFlight(_)));
    let outcome = bank.store.reserve_or_fetch(&slot(), Token::fresh(), &common::request()).await.unwrap();
    assert!(matches!(outcome, ReservationOutcome::InFlight(_)), "{outcome:?}");
    // Lookup waits for nobody, and shows what is committed: nothing.
    assert!(bank.store.lookup(&slot()).await.unwrap().is_none());
    // Other slots are not held up.
    let other = common::slot("another");
    reserved(bank.store.reserve_or_fetch(&other, Token::fresh(), &common::request()).await.unwrap());
    once.commit(&answer("paid")).await.unwrap();
    assert!(matches!(begin_once(&bank).await, ReservationOutcome::Replay(_)));
    assert_eq!(bank.payments().await, 1);
}

#[tokio::test]
async fn a_lock_timeout_leaves_the_callers_transaction_usable_and_its_setting_as_it_was() {
    let bank = bank().await;
    let grant = grant_of(&bank).await;
    let mut holder = bank.pool.begin().await.unwrap();
    bank.store.complete_in(&mut holder, &slot(), &grant, &answer("paid")).await.unwrap();

    let mut tx = bank.pool.begin().await.unwrap();
    tx.execute("SET LOCAL lock_timeout = '7s'").await.unwrap();
    bank.pay(&mut tx).await;
    let error = bank.store.complete_in(&mut tx, &slot(), &grant, &answer("paid")).await.unwrap_err();
    let InTxError::Store(error) = error else { panic!("{error:?}") };
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::NotApplied));
    // T3, T4: it goes on.
    let reserve = bank.store.reserve_in(&mut tx, &slot(), Token::fresh(), &common::request()).await.unwrap();
    assert!(matches!(reserve, ReservationOutcome::InFlight(_)), "{reserve:?}");
    let fresh = bank.store.reserve_in(&mut tx, &common::slot("b"), Token::fresh(), &common::request()).await;
    reserved(fresh.unwrap());
    let setting: String = sqlx::query_scalar("SHOW lock_timeout").fetch_one(&mut *tx).await.unwrap();
    assert_eq!(setting, "7s");
    tx.commit().await.unwrap();
    holder.commit().await.unwrap();
    assert_eq!(bank.payments().await, 1);
    assert!(bank.store.lookup(&common::slot("b")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_unique_conflict_with_another_transaction_aborts_nobodys() {
    let bank = bank().await;
    reserved(bank.store.reserve_or_fetch(&slot(), Token::fresh(), &common::request()).await.unwrap());
    let mut tx = bank.pool.begin().await.unwrap();
    let busy = bank.store.reserve_in(&mut tx, &slot(), Token::fresh(), &common::request()).await.unwrap();
    assert!(matches!(busy, ReservationOutcome::InFlight(_)), "{busy:?}");
    bank.pay(&mut tx).await;
    tx.commit().await.unwrap();
    assert_eq!(bank.payments().await, 1);
}

#[tokio::test]
async fn a_takeover_in_a_transaction_exists_for_others_from_its_commit() {
    let bank = bank().await;
    let old = grant_of(&bank).await;
    bank.offset.advance(Duration::from_secs(400));
    let mut tx = bank.pool.begin().await.unwrap();
    let taken = bank.store.reserve_in(&mut tx, &slot(), Token::fresh(), &common::request()).await.unwrap();
    let taken = reserved(taken);
    assert_eq!(taken.attempt, 2);
    let entry = bank.store.lookup(&slot()).await.unwrap().unwrap();
    assert!(matches!(&entry, Entry::Pending(p) if p.fence == old.fence), "{entry:?}");
    tx.commit().await.unwrap();
    let entry = bank.store.lookup(&slot()).await.unwrap().unwrap();
    assert!(matches!(&entry, Entry::Pending(p) if p.fence == taken.fence), "{entry:?}");
}

#[tokio::test]
async fn outside_a_transaction_nothing_is_done() {
    let bank = bank().await;
    let grant = grant_of(&bank).await;
    let mut plain = bank.pool.acquire().await.unwrap();
    let error = bank.store.complete_in(&mut plain, &slot(), &grant, &answer("paid")).await.unwrap_err();
    let InTxError::Store(error) = error else { panic!("{error:?}") };
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let error =
        bank.store.reserve_in(&mut plain, &slot(), Token::fresh(), &common::request()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(matches!(bank.store.lookup(&slot()).await.unwrap(), Some(Entry::Pending(_))));
}

#[tokio::test]
async fn a_transaction_that_was_ended_by_hand_is_not_committed_in_another() {
    let bank = bank().await;
    for (order, end) in ["COMMIT", "ROLLBACK", "ROLLBACK; BEGIN"].into_iter().enumerate() {
        let slot = common::slot(format!("order-{order}"));
        let tx = bank.pool.begin().await.unwrap();
        let mut once = reserved(bank.store.once(tx, &slot, &common::request()).await.unwrap());
        once.execute(sqlx::raw_sql(end)).await.unwrap();
        bank.pay(&mut once).await;
        let error = once.commit(&answer("paid")).await.unwrap_err();
        let InTxError::Store(error) = error else { panic!("{error:?}") };
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{end}: {error}");
        let entry = bank.store.lookup(&slot).await.unwrap();
        assert!(!matches!(entry, Some(Entry::Completed(_))), "{end}: {entry:?}");
    }
}

#[tokio::test]
async fn a_commit_that_the_database_refuses_is_an_error_and_leaves_nothing() {
    let bank = bank().await;
    let deferred =
        format!("ALTER TABLE {} ADD CONSTRAINT one UNIQUE (cents) DEFERRABLE INITIALLY DEFERRED", bank.paid);
    bank.pool.execute(sqlx::AssertSqlSafe(deferred)).await.unwrap();
    let mut once = reserved(begin_once(&bank).await);
    bank.pay(&mut once).await;
    bank.pay(&mut once).await;
    let error = once.commit(&answer("paid")).await.unwrap_err();
    let InTxError::Store(error) = error else { panic!("{error:?}") };
    assert_eq!(error.effect(), Effect::NotApplied, "{error}");
    assert_eq!(bank.payments().await, 0);
    assert!(bank.store.lookup(&slot()).await.unwrap().is_none());
}

#[tokio::test]
async fn many_duplicates_at_once_pay_once() {
    let bank = std::sync::Arc::new(bank().await);
    let all: Vec<_> = (0..16)
        .map(|_| {
            let bank = bank.clone();
            tokio::spawn(async move {
                loop {
                    let tx = bank.pool.begin().await.unwrap();
                    match bank.store.once(tx, &slot(), &common::request()).await.unwrap() {
                        ReservationOutcome::Reserved(mut once) => {
                            bank.pay(&mut once).await;
                            once.commit(&answer("paid")).await.unwrap();
                            return true;
                        }
                        ReservationOutcome::Replay(_) => return false,
                        ReservationOutcome::InFlight(_) => {}
                        other => panic!("{other:?}"),
                    }
                }
            })
        })
        .collect();
    let mut ran = 0;
    for task in all {
        ran += usize::from(task.await.unwrap());
    }
    assert_eq!((ran, bank.payments().await), (1, 1));
}

#[tokio::test]
async fn under_a_stricter_isolation_the_whole_transaction_is_to_be_made_again() {
    let bank = bank().await;
    let mut tx = PgConnection::connect(&tables().1).await.unwrap();
    tx.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
    let grant = grant_of(&bank).await;
    // The reservation was committed after this transaction's snapshot.
    let error =
        bank.store.reserve_in(&mut tx, &slot(), Token::fresh(), &common::request()).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(error.effect(), Effect::NotApplied);
    tx.execute("ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    bank.store.complete_in(&mut tx, &slot(), &grant, &answer("paid")).await.unwrap();
    tx.execute("COMMIT").await.unwrap();
    assert!(matches!(bank.store.lookup(&slot()).await.unwrap(), Some(Entry::Completed(_))));
}
