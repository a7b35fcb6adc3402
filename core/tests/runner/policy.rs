//! At most once: what is said before the work begins, and what isn't begun.

use std::time::Duration;

use oncekey_core::*;

use crate::support::*;

fn names(store: &Timed) -> Vec<&'static str> {
    store.diary().into_iter().map(|(name, _)| name).collect()
}

#[tokio::test(start_paused = true)]
async fn at_most_once_says_that_it_begins_before_it_does() {
    let store = Timed::new();
    let (ran, midway) = Work::default().start(call(&at_most_once(store.clone()))).await;
    assert!(pending(&store).await.begun, "the work runs, and the record doesn't know");
    assert_eq!(names(&store), ["reserve", "renew"]);
    midway.open();
    assert_eq!(soon(ran).await.unwrap().unwrap(), done("attempt 1", How::Ran));
}

#[tokio::test(start_paused = true)]
async fn at_least_once_does_not_pay_for_what_it_needs_not_say() {
    let store = Timed::new();
    let outcome = Work::default().run(call(&at_least_once(store.clone()))).await.unwrap();
    assert_eq!((outcome, names(&store)), (done("attempt 1", How::Ran), vec!["reserve", "complete"]));
}

#[tokio::test(start_paused = true)]
async fn the_records_policy_decides_and_not_the_callers() {
    let store = Timed::new();
    let first = stranger_asking(&store, Policy::Refuse).await;
    assert!(matches!(first, ReservationOutcome::Reserved(_)));
    pass(LEASE).await; // it never began
    let (ran, midway) = Work::default().start(call(&at_least_once(store.clone()))).await;
    assert!(pending(&store).await.begun, "a third caller could begin as well (FAULTS 55)");
    midway.open();
    assert_eq!(soon(ran).await.unwrap().unwrap(), done("attempt 2", How::Ran));
}

#[tokio::test(start_paused = true)]
async fn work_that_began_and_fell_silent_is_never_begun_again() {
    let store = Faulty::seeded(Timed::new(), 1);
    let (runner, work) = (at_most_once(store.clone()), Work::default());
    let (ran, _midway) = work.start(call(&runner)).await;
    ran.abort(); // its caller is gone, which stops nothing; now the store is, too
    store.odds(Method::ALL, Odds::none().refused(1.0));
    pass(LEASE).await;
    store.odds(Method::ALL, Odds::none());
    // Before its heartbeat is back:
    let other = stranger(store.inner()).await;
    assert!(matches!(other, ReservationOutcome::Indeterminate(_)), "{other:?}");
    assert_eq!(work.began(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_before_it_began_is_not_begun() {
    let store = Faulty::new(Timed::new());
    let (runner, work) = (at_most_once(store.clone()), Work::default());
    let gate = store.hold_next(Method::Renew);
    let ran = tokio::spawn({
        let (work, call) = (work.clone(), call(&runner));
        async move { work.run(call).await }
    });
    soon(gate.reached()).await;
    store.inner().skew(LEASE);
    let winner = stranger_granted(store.inner()).await;
    gate.open();
    let outcome = soon(ran).await.unwrap().unwrap();
    assert!(matches!(outcome, RunOutcome::InFlight(_)), "{outcome:?}");
    assert_eq!(work.began(), 0, "two would have worked");
    assert_eq!(pending(store.inner()).await.fence, winner.fence);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_have_been_said_is_not_begun_and_is_given_back() {
    let store = Faulty::seeded(Timed::new(), 1);
    store.odds([Method::Renew], Odds::none().answer_lost(1.0));
    let (runner, work) = (at_most_once(store.clone()), Work::default());
    let error = match work.run(call(&runner)).await {
        Err(RunError::Store(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!((error.operation(), error.effect()), ("renew", Effect::Unknown));
    assert_eq!(work.began(), 0);
    until("given back", async || store.inner().lookup(&slot()).await.unwrap().is_none()).await;
    assert_eq!(work.run(call(&at_least_once(store.clone()))).await.unwrap(), done("attempt 1", How::Ran));
}

#[tokio::test(start_paused = true)]
async fn a_grant_heard_too_late_is_renewed_before_the_work_begins() {
    let store = Faulty::new(Timed::new());
    let (runner, work) = (at_least_once(store.clone()).call_deadline(4 * LEASE), Work::default());
    let gate = store.hold_next_answer(Method::Reserve);
    let ran = tokio::spawn({
        let (work, call) = (work.clone(), call(&runner));
        async move { work.run(call).await }
    });
    soon(gate.reached()).await;
    pass(LEASE).await;
    gate.open();
    assert_eq!(soon(ran).await.unwrap().unwrap(), done("attempt 1", How::Ran));
    assert_eq!(names(store.inner()), ["reserve", "renew", "complete"]);
}

#[tokio::test(start_paused = true)]
async fn a_grant_heard_after_a_takeover_is_not_begun() {
    let store = Faulty::new(Timed::new());
    let (runner, work) = (at_least_once(store.clone()).call_deadline(4 * LEASE), Work::default());
    let gate = store.hold_next_answer(Method::Reserve);
    let ran = tokio::spawn({
        let (work, call) = (work.clone(), call(&runner));
        async move { work.run(call).await }
    });
    soon(gate.reached()).await;
    pass(LEASE).await;
    let _winner = stranger_granted(store.inner()).await;
    gate.open();
    let outcome = soon(ran).await.unwrap().unwrap();
    assert!(matches!(outcome, RunOutcome::InFlight(_)), "{outcome:?}");
    assert_eq!(work.began(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_beginning_confirmed_too_late_is_given_back_and_asked_for_anew() {
    let store = Faulty::new(Timed::new());
    let (runner, work) = (at_most_once(store.clone()).call_deadline(4 * LEASE), Work::default());
    let gate = store.hold_next_answer(Method::Renew);
    let ran = tokio::spawn({
        let (work, call) = (work.clone(), call(&runner));
        async move { work.run(call).await }
    });
    soon(gate.reached()).await;
    pass(LEASE + Duration::from_secs(1)).await;
    gate.open();
    assert_eq!(soon(ran).await.unwrap().unwrap(), done("attempt 1", How::Ran));
    assert_eq!(names(store.inner()), ["reserve", "renew", "release", "reserve", "renew", "complete"]);
    assert_eq!(work.began(), 1);
}
