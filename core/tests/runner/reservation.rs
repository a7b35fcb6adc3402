//! A slot that is settled by hand.

use std::time::Duration;

use oncekey_core::*;

use crate::support::*;

async fn reserved(runner: &Idempotency) -> Reservation {
    match call(runner).reserve().await.unwrap() {
        ReservationOutcome::Reserved(reservation) => reservation,
        other => panic!("nobody else is there: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_renewed_while_it_is_held_and_completed() {
    let store = Timed::new();
    let reservation = reserved(&at_least_once(store.clone())).await;
    assert_eq!((reservation.held().attempt(), reservation.held().slot()), (1, &slot()));
    pass(3 * LEASE + Duration::from_secs(1)).await;
    assert!(matches!(stranger(&store).await, ReservationOutcome::InFlight(_)));
    let outcome = reservation.complete(&Completion::new(body("done"))).await.unwrap();
    assert_eq!(outcome, CompleteOutcome::Stored);
    match call(&at_least_once(store.clone())).reserve().await.unwrap() {
        ReservationOutcome::Replay(record) => assert_eq!(record.response, body("done")),
        other => panic!("{other:?}"),
    }
    let beats = store.times("renew").len();
    pass(10 * LEASE).await;
    assert_eq!(store.times("renew").len(), beats, "no heartbeat goes on");
}

#[tokio::test(start_paused = true)]
async fn released_it_leaves_no_trace() {
    for runner in [at_least_once, at_most_once] {
        let store = Timed::new();
        let reservation = reserved(&runner(store.clone())).await;
        assert_eq!(reservation.release().await.unwrap(), ReleaseOutcome::Released);
        assert_eq!(stranger_granted(&store).await.attempt, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn handed_over_its_doubt_stays() {
    let store = Timed::new();
    let reservation = reserved(&at_least_once(store.clone())).await;
    assert!(matches!(reservation.hand_over().await.unwrap(), RenewOutcome::Renewed(_)));
    assert_eq!(stranger_granted(&store).await.attempt, 2);

    let store = Timed::new();
    let reservation = reserved(&at_most_once(store.clone())).await;
    assert!(pending(&store).await.begun, "it may work from now on");
    assert!(matches!(reservation.hand_over().await.unwrap(), RenewOutcome::Renewed(_)));
    assert!(matches!(stranger(&store).await, ReservationOutcome::Indeterminate(_)));
}

#[tokio::test(start_paused = true)]
async fn dropped_it_is_left_to_its_lease() {
    let store = Timed::new();
    let reservation = reserved(&at_least_once(store.clone())).await;
    pass(Duration::from_secs(15)).await;
    drop(reservation);
    assert!(matches!(stranger(&store).await, ReservationOutcome::InFlight(_)));
    pass(Duration::from_secs(25)).await;
    assert_eq!(stranger_granted(&store).await.attempt, 2, "the beat at 10 s holds it until 40 s");
}

#[tokio::test(start_paused = true)]
async fn a_failed_completion_gives_it_back_still_renewed() {
    let store = Faulty::seeded(Timed::new(), 1);
    let reservation = reserved(&at_least_once(store.clone())).await;
    store.odds([Method::Complete], Odds::none().late(1.0));
    let done = Completion::new(body("done"));
    let failed = reservation.complete(&done).await.unwrap_err();
    assert_eq!(failed.error().effect(), Effect::Unknown);
    let (error, reservation) = failed.into_parts();
    assert_eq!(error.operation(), "complete");
    pass(2 * LEASE).await;
    assert!(!pending(store.inner()).await.is_lapsed());
    store.odds([Method::Complete], Odds::none());
    assert_eq!(reservation.complete(&done).await.unwrap(), CompleteOutcome::Stored);
}

#[tokio::test(start_paused = true)]
async fn an_answer_over_the_limit_gives_it_back_to_be_stored_without_its_body() {
    let store = Timed::with_limits(Limits::new(3));
    let reservation = reserved(&at_least_once(store.clone())).await;
    let failed = reservation.complete(&Completion::new(body("long"))).await.unwrap_err();
    assert!(failed.error().is_invalid_input(), "{failed:?}");
    let (_, reservation) = failed.into_parts();
    let bare = Completion::new(StoredResponse::not_kept(200, "", 4));
    assert_eq!(reservation.complete(&bare).await.unwrap(), CompleteOutcome::Stored);
}

#[tokio::test(start_paused = true)]
async fn a_failed_release_gives_it_back_to_be_released_again() {
    let store = Faulty::seeded(Timed::new(), 1);
    let reservation = reserved(&at_least_once(store.clone())).await;
    store.odds([Method::Release], Odds::none().answer_lost(1.0));
    let failed = reservation.release().await.unwrap_err();
    assert_eq!(failed.error().effect(), Effect::Unknown);
    store.odds([Method::Release], Odds::none());
    let (_, reservation) = failed.into_parts();
    assert_eq!(reservation.release().await.unwrap(), ReleaseOutcome::Released, "L4");
}

#[tokio::test(start_paused = true)]
async fn reserving_waits_as_running_does() {
    let store = Timed::new();
    let runner = at_least_once(store.clone());
    let held = reserved(&runner).await;
    let waiting = tokio::spawn(call(&runner).wait_up_to(Duration::from_secs(30)).reserve());
    pass(Duration::from_secs(5)).await;
    assert_eq!(held.complete(&Completion::new(body("done"))).await.unwrap(), CompleteOutcome::Stored);
    let outcome = soon(waiting).await.unwrap().unwrap();
    assert!(matches!(&outcome, ReservationOutcome::Replay(r) if r.response == body("done")), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_beginning_that_may_not_have_been_said_is_no_reservation() {
    let store = Faulty::seeded(Timed::new(), 1);
    store.odds([Method::Renew], Odds::none().answer_lost(1.0));
    let error = call(&at_most_once(store.clone())).reserve().await.unwrap_err();
    assert_eq!((error.operation(), error.effect()), ("renew", Effect::Unknown));
    until("given back", async || store.inner().lookup(&slot()).await.unwrap().is_none()).await;
}
