//! What only this engine has, and the suite can't know: files, handles, commits that fail, flushes that
//! are shared.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

use std::future::ready;
use std::io;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oncekey_core::{
    Clock, CompleteOutcome, Completion, Effect, Entry, ErrorKind, Fingerprint, Grant, IdempotencyAdmin,
    IdempotencyStore, Principal, ReservationOutcome, ReserveRequest, Slot, StoreError, StoredResponse, Terms,
    Timestamp, Token,
};
use oncekey_example_own_backend::RedbStore;
use redb::{Database, StorageBackend, TableDefinition};

fn slot(n: usize) -> Slot {
    Principal::new("shop-17").unwrap().slot(format!("order-{n}")).unwrap()
}

fn request() -> ReserveRequest {
    ReserveRequest::new(Fingerprint::from_bytes([7; 32]), Terms::default())
}

fn paid() -> Completion {
    Completion::new(StoredResponse::new(201, "", "paid"))
}

async fn reserve(store: &RedbStore, slot: &Slot) -> Grant {
    match store.reserve_or_fetch(slot, Token::fresh(), &request()).await.unwrap() {
        ReservationOutcome::Reserved(grant) => grant,
        other => panic!("expected Reserved, saw {other:?}"),
    }
}

/// A disk in memory that counts its flushes, and can be full.
#[derive(Clone, Debug, Default)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    flushes: Arc<AtomicU64>,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn open(&self) -> Arc<Database> {
        Arc::new(Database::builder().create_with_backend(self.clone()).unwrap())
    }

    fn fails_if_full(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (bytes, start) = (self.bytes.lock().unwrap(), usize::try_from(offset).unwrap());
        out.copy_from_slice(&bytes[start..start + out.len()]);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fails_if_full()?;
        self.bytes.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        self.fails_if_full()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.fails_if_full()?;
        let start = usize::try_from(offset).unwrap();
        self.bytes.lock().unwrap()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_when_the_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oncekey.redb");
    let store = RedbStore::open(&path).unwrap();
    let grant = reserve(&store, &slot(1)).await;
    assert_eq!(store.complete(&slot(1), &grant, &paid()).await.unwrap(), CompleteOutcome::Stored);
    drop(store);

    let store = RedbStore::open(&path).unwrap();
    match store.reserve_or_fetch(&slot(1), Token::fresh(), &request()).await.unwrap() {
        ReservationOutcome::Replay(record) => assert_eq!(record.response, *paid().response()),
        other => panic!("expected Replay, saw {other:?}"),
    }
}

#[tokio::test]
async fn a_second_handle_is_refused_and_a_foreign_file_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oncekey.redb");
    let _first = RedbStore::open(&path).unwrap();
    let second = RedbStore::open(&path).unwrap_err();
    assert_eq!((second.kind(), second.effect()), (ErrorKind::Unavailable, Effect::NotApplied), "{second}");

    let foreign = folder.path().join("notes.txt");
    std::fs::write(&foreign, "no database, and long enough to look at: ".repeat(200)).unwrap();
    let error = RedbStore::open(&foreign).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[tokio::test]
async fn a_commit_that_failed_is_of_unknown_effect_and_grants_nothing() {
    let disk = Disk::default();
    let store = RedbStore::new(disk.open()).unwrap();
    let token = Token::fresh();
    let ask = async |store: &RedbStore| store.reserve_or_fetch(&slot(1), token, &request()).await;

    disk.full.store(true, Ordering::SeqCst);
    let error = ask(&store).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::Unknown), "{error}");

    // redb gives the file up until it is opened again, and what is refused until then surely did nothing.
    disk.full.store(false, Ordering::SeqCst);
    let error = ask(&store).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::NotApplied), "{error}");
    drop(store);

    let store = RedbStore::new(disk.open()).unwrap();
    match ask(&store).await.unwrap() {
        ReservationOutcome::Reserved(grant) => assert_eq!(grant.attempt, 1, "the same token asks again"),
        other => panic!("expected Reserved, saw {other:?}"),
    }
}

#[tokio::test]
async fn calls_that_wait_together_are_flushed_together() {
    let disk = Disk::default();
    let db = disk.open();
    let store = RedbStore::new(Arc::clone(&db)).unwrap();
    let mut grants = Vec::new();
    for n in 0..30 {
        grants.push(reserve(&store, &slot(n)).await);
    }
    let flushes = async |work: &dyn Fn() -> Vec<usize>| {
        let before = disk.flushes.load(Ordering::SeqCst);
        let held = db.begin_write().unwrap();
        let mut set = tokio::task::JoinSet::new();
        for n in work() {
            let (store, grant) = (store.clone(), grants[n].clone());
            set.spawn(async move { store.complete(&slot(n), &grant, &paid()).await });
        }
        // On this one thread, all have queued up once each had its turn.
        tokio::task::yield_now().await;
        drop(held);
        while let Some(stored) = set.join_next().await {
            assert_eq!(stored.unwrap().unwrap(), CompleteOutcome::Stored);
        }
        disk.flushes.load(Ordering::SeqCst) - before
    };
    let alone = flushes(&|| vec![0]).await;
    let together = flushes(&|| (1..30).collect()).await;
    assert_eq!(together, alone, "flushes of 29 calls, and of one");
}

#[tokio::test]
async fn a_call_that_was_dropped_before_its_turn_never_happens() {
    let db = Disk::default().open();
    let store = RedbStore::new(Arc::clone(&db)).unwrap();
    let grant = reserve(&store, &slot(1)).await;
    let held = db.begin_write().unwrap();
    let (slot_1, paid) = (slot(1), paid());
    tokio::select! {
        biased;
        answer = store.complete(&slot_1, &grant, &paid) => panic!("nobody can write now: {answer:?}"),
        () = ready(()) => {}
    }
    drop(held);
    // A later write, so that whoever led has ended.
    reserve(&store, &slot(2)).await;
    match store.lookup(&slot_1).await.unwrap() {
        Some(Entry::Pending(entry)) => assert_eq!(entry.fence, grant.fence),
        other => panic!("expected the reservation as it was, saw {other:?}"),
    }
}

#[tokio::test]
async fn a_record_that_cant_be_read_fails_alone() {
    let db = Disk::default().open();
    let store = RedbStore::new(Arc::clone(&db)).unwrap();
    let records: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("oncekey_records_v1");
    let tx = db.begin_write().unwrap();
    tx.open_table(records).unwrap().insert(&*slot(1).to_bytes(), &b"\x01P and then nothing"[..]).unwrap();
    tx.commit().unwrap();

    let refused = |error: StoreError| (error.kind(), error.effect());
    let unreadable = (ErrorKind::Corrupt, Effect::NotApplied);
    let again = store.reserve_or_fetch(&slot(1), Token::fresh(), &request()).await.unwrap_err();
    assert_eq!(refused(again), unreadable);
    let grant = reserve(&store, &slot(2)).await;
    let (bad, good, paid) = (slot(1), slot(2), paid());
    let (bad, good) = tokio::join!(store.complete(&bad, &grant, &paid), store.complete(&good, &grant, &paid));
    assert_eq!(refused(bad.unwrap_err()), unreadable);
    assert_eq!(good.unwrap(), CompleteOutcome::Stored);
}

#[tokio::test]
async fn a_record_is_collected_at_the_very_moment_it_ends() {
    let clock = Clock::frozen(Timestamp::from_micros(1_000_000));
    let store = RedbStore::new(Disk::default().open()).unwrap().with_clock(clock.clone());
    reserve(&store, &slot(1)).await;
    let (all, terms) = (NonZeroU32::MAX, Terms::default());
    clock.advance(terms.lease() + terms.retention() - Duration::from_micros(1));
    assert_eq!(store.garbage_collect(all).await.unwrap(), 0);
    clock.advance(Duration::from_micros(1));
    assert_eq!(store.garbage_collect(all).await.unwrap(), 1);
    assert_eq!(store.stats().await.unwrap().total(), 0);
}
