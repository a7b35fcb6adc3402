//! A runtime that has ended, or is ending, under a store that somebody still calls.

use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::thread;

use oncekey_postgres::{IdempotencyStore, PostgresStore, ReservationOutcome, Token};
use tokio::runtime::{Builder, Runtime};

use crate::kit::{SOON, fresh_url, request, reserve, slot};
use crate::locks::insert;

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A store that knows these slots to be locked; whoever has locked them.
async fn locked(url: &str, keys: &[String]) -> (PostgresStore, oncekey_postgres::sqlx::PgConnection) {
    let store = PostgresStore::builder().lock_timeout(std::time::Duration::from_millis(100));
    let store = store.connect(url).await.unwrap();
    store.ensure_schema().await.unwrap();
    let holder = insert(url, keys).await;
    for key in keys {
        let busy = reserve(&store, key).await.unwrap();
        assert!(matches!(busy, ReservationOutcome::InFlight(_)), "{busy:?}");
    }
    (store, holder)
}

/// Polls a call for each of these slots once, and drops it.
fn begin(store: &PostgresStore, keys: &[String]) {
    for key in keys {
        let (slot, request) = (slot(key), request());
        let mut call = pin!(store.reserve_or_fetch(&slot, Token::fresh(), &request));
        let _ = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
}

#[test]
fn a_call_for_a_locked_slot_under_a_runtime_that_has_ended_comes_back() {
    let url = fresh_url();
    let runtime = runtime();
    let keys = ["a".to_owned()];
    let (store, holder) = runtime.block_on(locked(&url, &keys));
    let (handle, (tell, told)) = (runtime.handle().clone(), mpsc::channel());
    drop(runtime);
    thread::spawn(move || {
        let _entered = handle.enter();
        begin(&store, &keys);
        // Without a runtime to close its connections in, it is left alone.
        std::mem::forget(store);
        tell.send(()).unwrap();
    });
    told.recv_timeout(SOON).expect("it comes back");
    std::mem::forget(holder);
}

#[test]
fn a_runtime_ends_while_calls_for_locked_slots_begin() {
    let (url, (tell, told)) = (fresh_url(), mpsc::channel());
    thread::spawn(move || {
        for round in 0..10 {
            let runtime = runtime();
            let keys: Vec<_> = (0..8).map(|n| format!("{round}-{n}")).collect();
            let (store, holder) = runtime.block_on(locked(&url, &keys));
            let (ready, begun) = mpsc::channel();
            for _ in 0..2 {
                let (store, keys, ready) = (store.clone(), keys.clone(), ready.clone());
                runtime.spawn(async move {
                    loop {
                        begin(&store, &keys);
                        let _ = ready.send(());
                        tokio::task::yield_now().await;
                    }
                });
            }
            for _ in 0..20 {
                begun.recv().unwrap();
            }
            std::mem::forget((store, holder));
            drop(runtime);
        }
        tell.send(()).unwrap();
    });
    told.recv_timeout(SOON).expect("each runtime ends");
}
