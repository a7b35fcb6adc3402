//! What callers do to a store that its docs ask them not to, or didn't think of asking.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test: its failure is a panic"
)]

mod common;

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use common::{answer, granted, request, request_with, slot};
use oncekey_sqlite::rusqlite::{Connection, DropBehavior, Transaction, TransactionBehavior};
use oncekey_sqlite::*;

/// Runs it on a thread of its own, so that a hang fails and doesn't hang the tests.
fn ends<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    ended.recv_timeout(Duration::from_secs(30)).expect("it should have ended, and hangs or panicked")
}

fn folder_and_store() -> (tempfile::TempDir, SqliteStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("oncekey.db")).unwrap();
    (folder, store)
}

fn begin(db: &mut Connection) -> Transaction<'_> {
    Transaction::new(db, TransactionBehavior::Immediate).unwrap()
}

fn count(db: &Connection, of: &str) -> i64 {
    db.query_one(&format!("SELECT count(*) FROM {of}"), [], |row| row.get(0)).unwrap()
}

#[test]
fn the_blocking_face_works_inside_a_task_call_after_call() {
    let calls = ends(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = SqliteStore::in_memory().unwrap().blocking();
            (0..300).filter(|n| store.lookup(&slot(format!("{n}"))).unwrap().is_none()).count()
        })
    });
    assert_eq!(calls, 300);
}

#[test]
fn the_store_called_inside_write_refuses_instead_of_waiting_for_itself() {
    let inside = ends(|| {
        let store = SqliteStore::in_memory().unwrap().blocking();
        let this = store.clone();
        store.write(move |_| Ok::<_, ()>(this.lookup(&slot("a")).map(drop))).unwrap()
    });
    let error = inside.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unsupported, Effect::NotApplied));
    assert!(error.to_string().contains("complete_in"), "{error}");
}

#[test]
fn a_transaction_that_rolled_itself_back_takes_no_answer() {
    let (_folder, store) = folder_and_store();
    let mut db = Connection::open(store.path().unwrap()).unwrap();
    db.execute_batch("CREATE TABLE ledger (entry TEXT UNIQUE); INSERT INTO ledger VALUES ('twice')").unwrap();
    let grant = granted(store.blocking().reserve_or_fetch(&slot("a"), Token::fresh(), &request()).unwrap());
    let tx = begin(&mut db);
    tx.execute("INSERT INTO ledger VALUES ('the payment')", []).unwrap();
    tx.execute("INSERT OR ROLLBACK INTO ledger VALUES ('twice')", []).unwrap_err();
    let error = store.complete_in(&tx, &slot("a"), &grant, &answer("paid")).unwrap_err();
    assert!(error.to_string().contains("ended already"), "{error}");
    drop(tx);
    let found = store.blocking().lookup(&slot("a")).unwrap();
    assert!(matches!(found, Some(Entry::Pending(_))), "{found:?}");
}

#[test]
fn a_transaction_on_another_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("a.db")).unwrap();
    SqliteStore::open(folder.path().join("b.db")).unwrap();
    granted(store.blocking().reserve_or_fetch(&slot("a"), Token::fresh(), &request()).unwrap());
    let mut db = Connection::open(folder.path().join("b.db")).unwrap();
    for store in [store, SqliteStore::in_memory().unwrap()] {
        let error = store.once(begin(&mut db), &slot("a"), &request()).unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidInput, Effect::NotApplied), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn a_transaction_that_reached_the_file_by_a_link_is_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real.db"), folder.path().join("link.db"));
    SqliteStore::open(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    for (own, other) in [(&real, &link), (&link, &real)] {
        let store = SqliteStore::open(own).unwrap();
        let mut db = Connection::open(other).unwrap();
        let outcome = store.once(begin(&mut db), &slot("a"), &request()).unwrap();
        assert!(matches!(outcome, ReservationOutcome::Reserved(_)));
    }
}

#[test]
fn a_dropped_once_rolls_back_whatever_the_caller_chose() {
    let (_folder, store) = folder_and_store();
    let mut db = Connection::open(store.path().unwrap()).unwrap();
    db.execute_batch("CREATE TABLE ledger (entry TEXT)").unwrap();
    let mut tx = begin(&mut db);
    tx.set_drop_behavior(DropBehavior::Commit);
    let ReservationOutcome::Reserved(once) = store.once(tx, &slot("a"), &request()).unwrap() else {
        panic!("nobody else is there")
    };
    once.execute("INSERT INTO ledger VALUES ('paid')", []).unwrap();
    drop(once);
    assert_eq!(count(&db, "ledger"), 0);
}

/// Holds the write lock for as long as told.
fn lock_held(path: &Path, time: Duration) -> std::thread::JoinHandle<()> {
    let (locked, ready) = mpsc::channel();
    let path = path.to_owned();
    let holder = std::thread::spawn(move || {
        let mut db = Connection::open(path).unwrap();
        let tx = begin(&mut db);
        locked.send(()).unwrap();
        std::thread::park_timeout(time);
        tx.rollback().unwrap();
    });
    ready.recv().unwrap();
    holder
}

#[test]
fn a_lease_granted_in_a_deferred_transaction_counts_from_after_the_lock() {
    let (_folder, store) = folder_and_store();
    let mut db = Connection::open(store.path().unwrap()).unwrap();
    let wait = Duration::from_millis(300);
    let before = Clock::system().now();
    let holder = lock_held(store.path().unwrap(), wait);
    let tx = Transaction::new(&mut db, TransactionBehavior::Deferred).unwrap();
    let asked = request_with(Policy::TakeOver, Duration::from_secs(60));
    granted(store.reserve_in(&tx, &slot("a"), Token::fresh(), &asked).unwrap());
    tx.commit().unwrap();
    holder.join().unwrap();
    let Some(Entry::Pending(pending)) = store.blocking().lookup(&slot("a")).unwrap() else { panic!("gone") };
    assert!(pending.created_at >= before + wait, "the clock was read while the lock was waited for");
}

#[test]
fn an_error_tells_the_worst_of_all_tries() {
    let (_folder, store) = folder_and_store();
    let path = store.path().unwrap().to_owned();
    let db = Connection::open(&path).unwrap();
    // A second try of the same reserve is an update, and fails; the first was committed.
    db.execute_batch(
        "CREATE TRIGGER no BEFORE UPDATE ON oncekey_slots BEGIN SELECT raise(ABORT, 'no update'); END",
    )
    .unwrap();
    let holder = lock_held(&path, Duration::from_millis(50));
    let short = request_with(Policy::TakeOver, Duration::from_millis(1));
    let error = store.blocking().reserve_or_fetch(&slot("a"), Token::fresh(), &short).unwrap_err();
    holder.join().unwrap();
    assert_eq!(count(&db, "oncekey_slots"), 1, "the first try is there");
    assert_eq!(error.effect(), Effect::Unknown, "{error}");
}

#[test]
fn a_collection_that_fails_half_way_says_that_it_may_have_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oncekey.db");
    let clock = Clock::shiftable();
    let store = SqliteStore::builder().clock(clock.clone()).open(&path).unwrap().blocking();
    for n in 0..600 {
        granted(store.reserve_or_fetch(&slot(format!("{n}")), Token::fresh(), &request()).unwrap());
    }
    let db = Connection::open(&path).unwrap();
    db.execute_batch(
        "CREATE TRIGGER no BEFORE DELETE ON oncekey_slots WHEN old.key = '599'
         BEGIN SELECT raise(ABORT, 'not this one'); END",
    )
    .unwrap();
    clock.advance(Duration::from_secs(1_000_000));
    let error = store.garbage_collect(NonZeroU32::new(5_000).unwrap()).unwrap_err();
    assert!(count(&db, "oncekey_slots") < 600);
    assert_eq!(error.effect(), Effect::Unknown, "{error}");
    db.execute_batch("DROP TRIGGER no").unwrap();
    let left = count(&db, "oncekey_slots");
    let deleted = store.garbage_collect(NonZeroU32::new(5_000).unwrap()).unwrap();
    assert_eq!((i64::try_from(deleted).unwrap(), count(&db, "oncekey_slots")), (left, 0));
}

#[test]
fn no_deadline_is_too_long() {
    let folder = tempfile::tempdir().unwrap();
    let builder = SqliteStore::builder().call_deadline(Duration::MAX);
    let file = builder.clone().open(folder.path().join("oncekey.db")).unwrap();
    for store in [file, builder.in_memory().unwrap()] {
        granted(store.blocking().reserve_or_fetch(&slot("a"), Token::fresh(), &request()).unwrap());
    }
}

#[test]
fn a_path_is_a_path_whatever_characters_it_has() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["file:abc.db", "x.db?mode=ro", "100%.db", "a b.db"] {
        let path = folder.path().join(name);
        SqliteStore::open(&path).unwrap();
        assert!(path.is_file(), "{name}");
    }
}

#[cfg(unix)]
#[test]
fn assess_says_when_the_file_was_replaced() {
    let (_folder, store) = folder_and_store();
    let finding = |store: &SqliteStore| {
        store.blocking().assess().unwrap().into_iter().any(|finding| finding.id == "sqlite.moved")
    };
    assert!(!finding(&store));
    let path = store.path().unwrap();
    std::fs::rename(path, path.with_extension("old")).unwrap();
    SqliteStore::open(path).unwrap();
    assert!(finding(&store));
}

#[test]
fn purge_overwrites_what_the_record_held() {
    let (_folder, store) = folder_and_store();
    let path = store.path().unwrap().to_owned();
    let secret = slot("secret-key-4711");
    let store = store.blocking();
    let grant = granted(store.reserve_or_fetch(&secret, Token::fresh(), &request()).unwrap());
    let stored = store.complete(&secret, &grant, &answer("the secret of Alice ".repeat(500))).unwrap();
    assert_eq!(stored, CompleteOutcome::Stored);
    let checkpoint = || {
        Connection::open(&path).unwrap().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let bytes = std::fs::read(&path).unwrap();
        [&b"secret of Alice"[..], b"secret-key-4711"].map(|text| bytes.windows(text.len()).any(|w| w == text))
    };
    assert_eq!(checkpoint(), [true, true], "it was there");
    assert!(store.purge(&secret, grant.fence).unwrap());
    assert_eq!(checkpoint(), [false, false]);
}

#[test]
fn replays_of_a_long_answer_come_back_whole_though_they_share_no_one_transaction() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let store = SqliteStore::in_memory().unwrap();
        let grant = granted(store.reserve_or_fetch(&slot("a"), Token::fresh(), &request()).await.unwrap());
        let long = answer("x".repeat(6 * 1024 * 1024));
        assert_eq!(store.complete(&slot("a"), &grant, &long).await.unwrap(), CompleteOutcome::Stored);
        let replays: Vec<_> = (0..20)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(
                    async move { store.reserve_or_fetch(&slot("a"), Token::fresh(), &request()).await },
                )
            })
            .collect();
        for replay in replays {
            let ReservationOutcome::Replay(record) = replay.await.unwrap().unwrap() else {
                panic!("no replay")
            };
            assert_eq!(&record.response, long.response());
        }
    });
}

/// Panics where a caller's value is dropped, on the store's own thread.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("at the drop");
    }
}

#[tokio::test]
async fn a_panic_in_what_a_caller_left_behind_does_not_end_the_store() {
    let store = SqliteStore::in_memory().unwrap();
    let (go, gone) = mpsc::channel::<()>();
    let mut write = Box::pin(store.write(move |_| {
        let _ = gone.recv();
        Ok::<_, ()>(Bomb)
    }));
    let _pending = std::future::poll_fn(|cx| std::task::Poll::Ready(write.as_mut().poll(cx))).await;
    drop(write);
    go.send(()).unwrap();
    granted(store.reserve_or_fetch(&slot("a"), Token::fresh(), &request()).await.unwrap());
}
