//! What wakes those who wait in this process: the commits of their store and of its clones. The rest they find
//! by looking (Q2).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: its failure is a panic")]

mod common;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use common::{answer, granted, request, slot};
use oncekey_sqlite::rusqlite::{Connection, Transaction, TransactionBehavior};
use oncekey_sqlite::*;

/// What must come soon.
async fn soon<T>(what: &str, it: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), it).await.unwrap_or_else(|_| panic!("never came: {what}"))
}

/// Whether it is complete already.
async fn is_complete(watch: &mut Watch) -> bool {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *watch).poll(context).is_ready())).await
}

async fn held(store: &SqliteStore, slot: &Slot) -> Grant {
    granted(store.reserve_or_fetch(slot, Token::fresh(), &request()).await.unwrap())
}

async fn stores(store: &SqliteStore, slot: &Slot, grant: &Grant) {
    assert_eq!(store.complete(slot, grant, &answer("paid")).await.unwrap(), CompleteOutcome::Stored);
}

async fn response(store: &SqliteStore, slot: &Slot) -> StoredResponse {
    match store.lookup(slot).await.unwrap() {
        Some(Entry::Completed(record)) => record.response,
        other => panic!("expected an answer, saw {other:?}"),
    }
}

struct File {
    _folder: tempfile::TempDir,
    store: SqliteStore,
    db: Connection,
}

fn file() -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oncekey.db");
    let store = SqliteStore::open(&path).unwrap();
    let db = Connection::open(&path).unwrap();
    File { _folder: folder, store, db }
}

#[tokio::test]
async fn a_commit_wakes_those_who_wait_and_they_find_it() {
    let file = file();
    let grant = held(&file.store, &slot("a")).await;
    let watch = file.store.clone().watch(&slot("a"));
    stores(&file.store, &slot("a"), &grant).await;
    soon("the wake", watch).await;
    assert_eq!(response(&file.store, &slot("a")).await, *answer("paid").response());
}

#[tokio::test]
async fn a_renewal_and_a_takeover_wake_nobody() {
    let clock = Clock::shiftable();
    let store = SqliteStore::builder().clock(clock.clone()).in_memory().unwrap();
    let grant = held(&store, &slot("a")).await;
    let mut watch = store.watch(&slot("a"));
    let renewal = Renewal::extend(Duration::from_secs(300)).unwrap();
    assert!(matches!(store.renew(&slot("a"), &grant, &renewal).await.unwrap(), RenewOutcome::Renewed(_)));
    clock.advance(Duration::from_secs(400));
    held(&store, &slot("a")).await;
    assert!(!is_complete(&mut watch).await);
}

#[tokio::test]
async fn what_write_completes_wakes_at_its_commit() {
    let store = SqliteStore::in_memory().unwrap();
    let grant = held(&store, &slot("a")).await;
    for commits in [false, true] {
        let mut watch = store.watch(&slot("a"));
        let (this, grant) = (store.clone(), grant.clone());
        let work = move |tx: &Transaction<'_>| {
            this.complete_in(tx, &slot("a"), &grant, &answer("paid")).map_err(|e| e.to_string())?;
            if commits { Ok(()) } else { Err("on purpose".to_owned()) }
        };
        assert_eq!(store.write(work).await.is_ok(), commits);
        assert_eq!(is_complete(&mut watch).await, commits, "committed: {commits}");
    }
}

#[tokio::test]
async fn what_was_rolled_back_is_not_woken_by_a_later_write() {
    let store = SqliteStore::in_memory().unwrap();
    let grant = held(&store, &slot("a")).await;
    let mut watch = store.watch(&slot("a"));
    let this = store.clone();
    let rolled_back = store
        .write(move |tx| {
            this.complete_in(tx, &slot("a"), &grant, &answer("paid")).unwrap();
            Err::<(), _>("on purpose")
        })
        .await;
    assert!(rolled_back.is_err());
    store.write(|_| Ok::<_, String>(())).await.unwrap();
    assert!(!is_complete(&mut watch).await);
}

#[tokio::test]
async fn once_wakes_when_it_commits() {
    let mut file = file();
    let mut watch = file.store.watch(&slot("a"));
    let tx = Transaction::new(&mut file.db, TransactionBehavior::Immediate).unwrap();
    let ReservationOutcome::Reserved(once) = file.store.once(tx, &slot("a"), &request()).unwrap() else {
        panic!("nobody else has it");
    };
    assert!(!is_complete(&mut watch).await);
    once.commit(&answer("paid")).unwrap();
    soon("the wake", watch).await;
}

#[tokio::test]
async fn what_another_store_on_the_file_writes_is_found_by_looking() {
    let file = file();
    let other = SqliteStore::open(file.store.path().unwrap()).unwrap();
    let grant = held(&other, &slot("a")).await;
    let runner = Idempotency::at_least_once(file.store.clone());
    let waiting = runner.call(&slot("a"), request().fingerprint).wait_up_to(Duration::from_secs(60));
    let waiting =
        tokio::spawn(waiting.run(async |_| Ok::<_, String>(StoredResponse::new(200, "", "paid twice"))));
    let mut watch = file.store.watch(&slot("a"));
    stores(&other, &slot("a"), &grant).await;
    let outcome = soon("the answer", waiting).await.unwrap().unwrap();
    assert_eq!(outcome.into_value(), Some(answer("paid").response().clone()));
    assert!(!is_complete(&mut watch).await, "if it is, say so: the docs don't");
}
