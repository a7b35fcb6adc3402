//! The lease is renewed while the work runs, and not for ever.

use std::time::Duration;

use oncekey_core::*;

use crate::support::*;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Runs work that lasts `time`.
async fn lasting(runner: &Idempotency, time: Duration) -> Ran {
    call(runner)
        .run(async move |_| {
            pass(time).await;
            Ok(b"done".to_vec())
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_at_each_third_of_it() {
    let store = Timed::new();
    assert_eq!(lasting(&at_least_once(store.clone()), secs(95)).await.unwrap(), done("done", How::Ran));
    let thirds: Vec<u64> = (1..=9).map(|n| n * 10_000).collect();
    assert_eq!(store.times("renew"), thirds);
    pass(secs(600)).await;
    assert_eq!(store.times("renew").len(), 9, "and not once after it was completed");
}

#[tokio::test(start_paused = true)]
async fn the_heartbeat_keeps_the_slot_up_to_the_ceiling_and_no_longer() {
    let store = Timed::new();
    let runner = at_least_once(store.clone()).ceiling(secs(65));
    let (ran, midway) = Work::default().start(call(&runner)).await;
    pass(Duration::from_millis(64_990)).await;
    assert!(matches!(stranger(&store).await, ReservationOutcome::InFlight(_)), "{:?}", pending(&store).await);
    pass(Duration::from_millis(10)).await;
    assert_eq!(store.times("renew"), [10_000, 20_000, 30_000, 40_000], "the last one asks for 25 s");
    assert!(pending(&store).await.is_lapsed());
    midway.open();
    assert_eq!(
        soon(ran).await.unwrap().unwrap(),
        done("attempt 1", How::Ran),
        "nobody took over: it is stored (C2)"
    );
}

#[tokio::test(start_paused = true)]
async fn a_low_ceiling_does_not_cut_the_first_lease_short() {
    let store = Timed::new();
    let runner = at_least_once(store.clone()).ceiling(secs(5));
    let (_ran, _midway) = Work::default().start(call(&runner)).await;
    pass(secs(29)).await;
    assert!(matches!(stranger(&store).await, ReservationOutcome::InFlight(_)));
    assert!(store.times("renew").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_ceiling_without_end_is_no_ceiling() {
    let store = Timed::new();
    let runner = at_least_once(store.clone()).ceiling(Duration::MAX).call_deadline(Duration::MAX);
    assert_eq!(lasting(&runner, secs(7_201)).await.unwrap(), done("done", How::Ran));
    assert_eq!(store.times("renew").len(), 720);
}

#[tokio::test(start_paused = true)]
async fn a_beat_that_fails_is_repeated_soon() {
    let store = Faulty::new(Timed::new());
    for _ in 0..2 {
        store.next(Method::Renew, Fault::Refused(ErrorKind::Unavailable));
    }
    // Whatever it says: until the store says Lost, the slot may be ours.
    store.next(Method::Renew, Fault::Refused(ErrorKind::Corrupt));
    assert_eq!(lasting(&at_least_once(store.clone()), secs(12)).await.unwrap(), done("done", How::Ran));
    let beats = store.inner().times("renew");
    assert_eq!(beats.len(), 1, "{beats:?}");
    assert!(beats[0] > 10_000 && beats[0] < 10_200, "{beats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_beat_that_hangs_is_given_up_before_the_lease_ends() {
    let store = Faulty::new(Timed::new());
    let gate = store.hold_next(Method::Renew);
    let runner = at_least_once(store.clone()).call_deadline(secs(3600));
    assert_eq!(lasting(&runner, secs(45)).await.unwrap(), done("done", How::Ran));
    let beats = store.inner().times("renew");
    assert!(beats[0] >= 20_000 && beats[0] < 20_100, "after another third: {beats:?}");
    gate.open();
}

#[tokio::test(start_paused = true)]
async fn no_beat_arrives_after_the_slot_was_handed_over() {
    let store = Faulty::new(Timed::new());
    let gate = store.hold_next(Method::Renew);
    let runner = at_least_once(store.clone());
    let ran = tokio::spawn(call(&runner).run(async |_| {
        pass(secs(11)).await;
        Err::<Vec<u8>, _>(Broken)
    }));
    soon(gate.reached()).await; // at 10 s
    pass(secs(2)).await; // the work has failed meanwhile
    gate.open();
    assert!(matches!(soon(ran).await.unwrap(), Err(RunError::Work(Broken))));
    assert_eq!(store.inner().times("hand over"), [12_000], "it waits for the beat that is under way");
    assert!(pending(store.inner()).await.is_lapsed(), "a late beat held the slot for nobody");
}

#[tokio::test(start_paused = true)]
async fn the_work_may_stop_the_heartbeat_before_a_transaction_of_its_own() {
    let store = Faulty::new(Timed::new());
    let gate = store.hold_next(Method::Renew);
    let runner = at_least_once(store.clone());
    let inner = store.inner().clone();
    let ran = tokio::spawn(call(&runner).run(async move |held: Held| {
        pass(secs(11)).await;
        held.stop_renewing().await;
        let stopped = inner.times("renew");
        assert_eq!(stopped, [12_000], "the beat under way is waited out");
        pass(secs(15)).await;
        assert_eq!(inner.times("renew"), stopped);
        assert!(!held.is_lost(), "it is still ours");
        Ok::<_, Broken>(b"done".to_vec())
    }));
    soon(gate.reached()).await;
    pass(secs(2)).await;
    gate.open();
    assert_eq!(soon(ran).await.unwrap().unwrap(), done("done", How::Ran));
}

#[tokio::test(start_paused = true)]
async fn the_holder_counts_its_lease_from_before_the_call_was_sent() {
    let store = Faulty::new(Timed::new());
    let gate = store.hold_next_answer(Method::Reserve);
    let runner = at_least_once(store.clone());
    let ran = tokio::spawn(call(&runner).run(async |held: Held| {
        assert_eq!(held.lease_left(), LEASE - secs(4));
        pass(secs(8)).await;
        Ok::<_, Broken>(b"done".to_vec())
    }));
    soon(gate.reached()).await;
    pass(secs(4)).await;
    gate.open();
    assert_eq!(soon(ran).await.unwrap().unwrap(), done("done", How::Ran));
    assert_eq!(store.inner().times("renew"), [10_000], "a third after it was sent, not after it was heard");
}
