//! The caller goes away, at each await.

use std::sync::Arc;
use std::time::Duration;

use oncekey_core::*;
use tokio::task::JoinHandle;

use crate::support::*;

/// Where the caller's future is dropped.
#[derive(Clone, Copy, PartialEq, Debug)]
enum At {
    Before(Method),
    Answer(Method),
    Work,
}

struct Scene {
    store: Faulty<Timed>,
    work: Work,
}

/// Starts a run, drops its caller at `at`, and lets everything go on.
async fn dropped(at: At, runner: fn(Faulty<Timed>) -> Idempotency) -> Scene {
    let store = Faulty::new(Timed::new());
    let gate = match at {
        At::Before(method) => store.hold_next(method),
        At::Answer(method) => store.hold_next_answer(method),
        At::Work => Gate::new(),
    };
    let (work, midway) = (Work::default(), Midway::default());
    let caller: JoinHandle<Ran> = tokio::spawn(call(&runner(store.clone())).run({
        let (work, midway) = (work.clone(), midway.clone());
        async move |held: Held| {
            work.begin();
            midway.pass().await;
            Ok(format!("attempt {}", held.attempt()).into_bytes())
        }
    }));
    if at == At::Work {
        midway.reached().await;
    } else {
        midway.open();
        soon(gate.reached()).await;
    }
    caller.abort();
    assert!(soon(caller).await.unwrap_err().is_cancelled());
    midway.open();
    gate.open();
    Scene { store, work }
}

const AFTER_THE_GRANT: [At; 3] = [At::Work, At::Before(Method::Complete), At::Answer(Method::Complete)];
const WHILE_BEGINNING: [At; 2] = [At::Before(Method::Renew), At::Answer(Method::Renew)];

async fn finishes(at: At, runner: fn(Faulty<Timed>) -> Idempotency) {
    let Scene { store, work } = dropped(at, runner).await;
    let finished = async || matches!(store.inner().lookup(&slot()).await, Ok(Some(Entry::Completed(_))));
    until("finished without its caller", finished).await;
    assert_eq!(work.began(), 1, "dropped at {at:?}");
    let again = work.run(call(&runner(store))).await.unwrap();
    assert_eq!(again, done("attempt 1", How::Replayed), "dropped at {at:?}");
}

#[tokio::test(start_paused = true)]
async fn work_that_was_granted_finishes_without_its_caller() {
    for at in AFTER_THE_GRANT {
        finishes(at, at_least_once).await;
        finishes(at, at_most_once).await;
    }
    for at in WHILE_BEGINNING {
        finishes(at, at_most_once).await;
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_before_the_grant_nothing_runs_and_one_lease_is_left_at_most() {
    for runner in [at_least_once, at_most_once] {
        let Scene { store, work } = dropped(At::Before(Method::Reserve), runner).await;
        assert_eq!(store.inner().lookup(&slot()).await.unwrap(), None);
        assert_eq!(work.began(), 0);

        let Scene { store, work } = dropped(At::Answer(Method::Reserve), runner).await;
        assert!(!pending(store.inner()).await.begun);
        pass(LEASE).await;
        let _granted = stranger_granted(store.inner()).await;
        assert_eq!(work.began(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_while_waiting_nothing_runs() {
    let store = Timed::new();
    let held = stranger_granted(&store).await;
    let work = Work::default();
    let waiting = tokio::spawn({
        let (work, call) = (work.clone(), call(&at_least_once(store.clone())));
        async move { work.run(call.wait_up_to(Duration::from_secs(600))).await }
    });
    pass(Duration::from_secs(5)).await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    let asked = store.times("reserve").len();
    pass(2 * LEASE).await;
    assert_eq!((work.began(), store.times("reserve").len()), (0, asked));
    assert_eq!(pending(&store).await.fence, held.fence);
}

#[tokio::test(start_paused = true)]
async fn failed_work_is_settled_without_its_caller() {
    let store = Timed::new();
    let there = Midway::default();
    let caller = tokio::spawn(call(&at_least_once(store.clone())).run({
        let there = there.clone();
        async move |_| {
            there.pass().await;
            Err::<Vec<u8>, _>(Broken)
        }
    }));
    there.reached().await;
    caller.abort();
    assert!(soon(caller).await.unwrap_err().is_cancelled());
    there.open();
    until("handed over", async || pending(&store).await.is_lapsed()).await;
}

#[tokio::test(start_paused = true)]
async fn a_reserve_that_is_dropped_while_it_begins_gives_the_slot_back() {
    for held_at in [Faulty::hold_next, Faulty::hold_next_answer] {
        let store = Faulty::new(Timed::new());
        let gate = held_at(&store, Method::Renew);
        let caller = tokio::spawn(call(&at_most_once(store.clone())).reserve());
        soon(gate.reached()).await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        gate.open();
        until("given back", async || store.inner().lookup(&slot()).await.unwrap().is_none()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_settling_that_is_dropped_leaves_the_slot_to_its_lease() {
    let store = Faulty::new(Timed::new());
    let ReservationOutcome::Reserved(reservation) =
        call(&at_least_once(store.clone())).reserve().await.unwrap()
    else {
        panic!("nobody else is there");
    };
    let gate = store.hold_next(Method::Complete);
    let settling =
        tokio::spawn(async move { reservation.complete(&Completion::new(body("done"))).await.is_ok() });
    soon(gate.reached()).await;
    settling.abort();
    assert!(settling.await.unwrap_err().is_cancelled());
    gate.open();
    assert!(!pending(store.inner()).await.is_lapsed());
    pass(LEASE).await;
    assert!(pending(store.inner()).await.is_lapsed(), "and no heartbeat goes on");
}

#[test]
fn a_runtime_that_is_shut_down_is_said_and_leaves_the_slot_to_its_lease() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (here, other) = (runtime(), runtime());
    let store = MemoryStore::new();
    let began = Arc::new(tokio::sync::Notify::new());
    // The call is first polled, and so its task lives, on the other runtime.
    let mut running = Box::pin(call(&at_least_once(store.clone())).run({
        let began = Arc::clone(&began);
        async move |_| {
            began.notify_one();
            std::future::pending::<Result<Vec<u8>, Broken>>().await
        }
    }));
    other.block_on(async {
        tokio::select! {
            ran = &mut running => panic!("{ran:?}"),
            () = soon(began.notified()) => {}
        }
    });
    drop(other);
    let ran = here.block_on(running);
    assert!(matches!(ran, Err(RunError::ShutDown)), "{ran:?}");
    assert!(!here.block_on(pending(&store)).is_lapsed());
}
