//! A caller that waits is woken by the store, and looks now and then whatever the store does.

use std::time::Duration;

use oncekey_core::*;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::*;

/// The longest pause between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// A caller of `store` that waits for a minute, or for as long as its holder may take.
fn waits(store: impl IdempotencyStore) -> JoinHandle<Ran> {
    let call = call(&at_least_once(store)).wait_up_to(Duration::from_secs(60));
    tokio::spawn(async move { Work::default().run(call).await })
}

async fn ended(waiter: JoinHandle<Ran>) -> RunOutcome<Vec<u8>> {
    soon(waiter).await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn who_waits_hears_the_end_of_the_work_at_once() {
    for (ends, hears) in [
        ("complete", done("theirs", How::Replayed)),
        ("release", done("attempt 1", How::Ran)),
        ("hand over", done("attempt 2", How::Ran)),
    ] {
        let store = Timed::new();
        let holder = stranger_granted(&store).await;
        let waiter = waits(store.clone());
        pass(Duration::from_secs(10)).await; // By now half a second lies between two looks.
        let ended_at = Instant::now();
        match ends {
            "complete" => stranger_completes(&store, &holder, body("theirs")).await,
            "release" => assert_eq!(store.release(&slot(), &holder).await.unwrap(), ReleaseOutcome::Released),
            _ => drop(store.renew(&slot(), &holder, &Renewal::hand_over()).await.unwrap()),
        }
        assert_eq!(ended(waiter).await, hears, "after {ends}");
        assert_eq!(ended_at.elapsed(), Duration::ZERO, "after {ends}: {:?}", store.times("reserve"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_falls_between_a_look_and_its_hearing_is_heard_of_at_once() {
    // The first look has no watch yet; the ones after it do.
    for earlier in [0, 1, 2, 7] {
        let store = Faulty::new(Timed::new());
        let holder = stranger_granted(store.inner()).await;
        for _ in 0..earlier {
            store.next_passes(Method::Reserve);
        }
        let gate = store.hold_next_answer(Method::Reserve);
        let waiter = waits(store.clone());
        soon(gate.reached()).await; // It was told InFlight, and hasn't heard so.
        stranger_completes(store.inner(), &holder, body("theirs")).await;
        let opened = Instant::now();
        gate.open();
        assert_eq!(ended(waiter).await, done("theirs", How::Replayed));
        let looks = store.inner().times("reserve");
        assert_eq!(opened.elapsed(), Duration::ZERO, "after {earlier} looks: {looks:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_wake_is_healed_by_the_next_look() {
    for hears in [Hears::Never, Hears::Test(Watchers::new())] {
        let store = Timed::heard(hears);
        let holder = stranger_granted(&store).await;
        let waiter = waits(store.clone());
        pass(Duration::from_secs(10)).await;
        let ended_at = Instant::now();
        stranger_completes(&store, &holder, body("theirs")).await;
        assert_eq!(ended(waiter).await, done("theirs", How::Replayed));
        assert!(ended_at.elapsed() <= LOOK, "heard {:?} later", ended_at.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_wakes_is_asked_no_more_often() {
    let store = Timed::heard(Hears::Never);
    let _holder = stranger_granted(&store).await;
    let waiter = waits(store.clone());
    pass(Duration::from_millis(3)).await;
    assert_eq!(store.times("reserve"), [0, 0], "the stranger's, and the first look");
    waiter.abort();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_wakes_all_the_time_is_not_asked_all_the_time() {
    let store = Timed::heard(Hears::Always);
    let holder = stranger_granted(&store).await;
    let waiter = waits(store.clone());
    pass(Duration::from_secs(20)).await;
    let looks = store.times("reserve");
    assert!(looks.len() < 100, "{} looks in 20 s: {looks:?}", looks.len());
    let ended_at = Instant::now();
    stranger_completes(&store, &holder, body("theirs")).await;
    assert_eq!(ended(waiter).await, done("theirs", How::Replayed));
    assert!(ended_at.elapsed() <= LOOK, "heard {:?} later", ended_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn after_a_quiet_while_a_wake_is_heard_at_once_again() {
    let watchers = Watchers::new();
    let store = Timed::heard(Hears::Test(watchers.clone()));
    let holder = stranger_granted(&store).await;
    let waiter = waits(store.clone());
    pass(Duration::from_secs(5)).await;
    let before = store.times("reserve").len();
    for _ in 0..1_000 {
        watchers.wake(&slot()); // For nothing.
        pass(Duration::from_millis(1)).await;
    }
    let looks = store.times("reserve").len() - before;
    assert!((2..20).contains(&looks), "{looks} looks in a second of wakes");
    pass(2 * LOOK).await;
    watchers.wake(&slot()); // For nothing, as when somebody else took over.
    pass(Duration::from_millis(20)).await;
    let ended_at = Instant::now();
    stranger_completes(&store, &holder, body("theirs")).await;
    watchers.wake(&slot());
    assert_eq!(ended(waiter).await, done("theirs", How::Replayed));
    assert_eq!(ended_at.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_wait_watches_nothing() {
    let store = Timed::new();
    let _holder = stranger_granted(&store).await;
    let outcome = Work::default().run(call(&at_least_once(store.clone()))).await.unwrap();
    assert!(matches!(outcome, RunOutcome::InFlight(_)), "{outcome:?}");
    assert_eq!((store.watches(), store.times("reserve").len()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_watches_no_longer() {
    let watchers = Watchers::new();
    let store = Timed::heard(Hears::Test(watchers.clone()));
    let holder = stranger_granted(&store).await;
    let dropped = waits(store.clone());
    pass(Duration::from_secs(5)).await;
    assert_eq!(watchers.len(), 1);
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    assert!(watchers.is_empty(), "dropped while it waited");
    let answered = waits(store.clone());
    pass(Duration::from_secs(5)).await;
    stranger_completes(&store, &holder, body("theirs")).await;
    assert_eq!(ended(answered).await, done("theirs", How::Replayed));
    assert!(watchers.is_empty(), "answered");
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_lost_hears_the_winners_answer_at_once() {
    let store = Timed::new();
    let call = call(&at_least_once(store.clone())).wait_up_to(Duration::from_secs(600));
    let (ran, midway) = Work::default().start(call).await;
    store.skew(2 * LEASE);
    let winner = stranger_granted(&store).await;
    midway.open();
    pass(Duration::from_secs(10)).await;
    let ended_at = Instant::now();
    stranger_completes(&store, &winner, body("theirs")).await;
    assert_eq!(ended(ran).await, done("theirs", How::Superseded));
    assert_eq!(ended_at.elapsed(), Duration::ZERO);
}
