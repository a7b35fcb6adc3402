//! A slot that is lost while the work runs.

use std::time::Duration;

use oncekey_core::*;
use tokio::time::Instant;

use crate::support::*;

/// The holder sleeps through its lease, and a stranger takes over.
async fn taken_over(store: &Timed) -> Grant {
    store.skew(LEASE);
    stranger_granted(store).await
}

#[tokio::test(start_paused = true)]
async fn the_work_learns_that_it_was_taken_over() {
    let store = Timed::new();
    let runner = at_least_once(store.clone());
    let (tell, hear) = tokio::sync::oneshot::channel();
    let ran = tokio::spawn(call(&runner).run(async move |held: Held| {
        assert!(!held.is_lost());
        tell.send(()).unwrap();
        let lost = held.lost().await;
        assert!(held.is_lost());
        match held.save("too late").await {
            Err(SaveError::Lost(again)) => assert_eq!(again, lost),
            other => panic!("{other:?}"),
        }
        Ok::<_, Broken>(format!("{lost:?}").into_bytes())
    }));
    soon(hear).await.unwrap();
    let _winner = taken_over(&store).await;
    let outcome = soon(ran).await.unwrap().unwrap();
    let how = How::Unsaved(Unsaved::Lost(Loss::TakenOver));
    assert_eq!(outcome, done("Said(TakenOver)", how), "the value comes back, and is not kept");
    assert_eq!(store.times("renew")[0], 10_000, "told by the first beat");
}

#[tokio::test(start_paused = true)]
async fn the_work_learns_that_its_record_is_gone() {
    let store = Timed::new();
    let runner = at_least_once(store.clone());
    let (ran, midway) = Work::default().start(call(&runner)).await;
    store.skew(LEASE + RETENTION);
    midway.open();
    let how = How::Unsaved(Unsaved::Lost(Loss::Gone));
    assert_eq!(soon(ran).await.unwrap().unwrap(), done("attempt 1", how));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_lost_gives_the_winners_answer() {
    let store = Timed::new();
    let runner = at_least_once(store.clone());
    let (ran, midway) = Work::default().start(call(&runner)).await;
    let winner = taken_over(&store).await;
    stranger_completes(&store, &winner, body("theirs")).await;
    midway.open();
    assert_eq!(soon(ran).await.unwrap().unwrap(), done("theirs", How::Superseded));
    assert_eq!(completed(&store).await.response, body("theirs"), "the record is the winner's");
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_lost_waits_for_the_winner_as_long_as_it_would_wait_for_anybody() {
    for (wait, how) in [(60, How::Superseded), (1, How::Unsaved(Unsaved::Lost(Loss::TakenOver)))] {
        let store = Timed::new();
        let runner = at_least_once(store.clone());
        let (ran, midway) = Work::default().start(call(&runner).wait_up_to(Duration::from_secs(wait))).await;
        let winner = taken_over(&store).await;
        midway.open();
        pass(Duration::from_secs(5)).await;
        stranger_completes(&store, &winner, body("theirs")).await;
        let value = if how == How::Superseded { "theirs" } else { "attempt 1" };
        assert_eq!(soon(ran).await.unwrap().unwrap(), done(value, how), "waiting {wait} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_winners_answer_that_cannot_be_given_is_not_made_up() {
    let other_type = StoredResponse::new(200, "", "no receipt");
    for theirs in [StoredResponse::not_kept(200, "", 9), other_type] {
        let store = Timed::new();
        let there = Midway::default();
        let ran = tokio::spawn(call(&at_least_once(store.clone())).run({
            let there = there.clone();
            async move |_| {
                there.pass().await;
                Ok::<_, Broken>(Json(17_u8))
            }
        }));
        there.reached().await;
        let winner = taken_over(&store).await;
        stranger_completes(&store, &winner, theirs).await;
        there.open();
        let how = How::Unsaved(Unsaved::Lost(Loss::TakenOver));
        assert_eq!(soon(ran).await.unwrap().unwrap(), RunOutcome::Done { value: Json(17), how });
    }
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_another_request_is_no_winners_answer() {
    let store = Timed::new();
    let (ran, midway) = Work::default().start(call(&at_least_once(store.clone()))).await;
    store.skew(LEASE + RETENTION); // the record ended, and the key is used anew
    let terms = Terms::new(Policy::TakeOver, LEASE, RETENTION).unwrap();
    let other = ReserveRequest::new(Fingerprint::from_bytes([9; 32]), terms);
    let reserved = store.reserve_or_fetch(&slot(), Token::fresh(), &other).await.unwrap();
    let ReservationOutcome::Reserved(grant) = reserved else { panic!("{reserved:?}") };
    stranger_completes(&store, &grant, body("another's")).await;
    midway.open();
    let how = How::Unsaved(Unsaved::Lost(Loss::TakenOver));
    assert_eq!(soon(ran).await.unwrap().unwrap(), done("attempt 1", how));
}

#[tokio::test(start_paused = true)]
async fn a_silent_store_counts_as_a_lapse_until_it_renews_again() {
    let store = Faulty::seeded(Timed::new(), 1);
    store.odds([Method::Renew], Odds::none().refused(1.0));
    let runner = at_least_once(store.clone());
    let faults = store.clone();
    let ran = call(&runner).run(async move |held: Held| {
        let started = Instant::now();
        assert_eq!(held.lost().await, Lost::Lapsed);
        assert_eq!(started.elapsed(), LEASE, "by the holder's own count");
        assert_eq!(held.lease_left(), Duration::ZERO);
        faults.odds([Method::Renew], Odds::none());
        while held.is_lost() {
            assert!(started.elapsed() < 2 * LEASE, "the next beat renews it");
            pass(Duration::from_millis(10)).await;
        }
        Ok::<_, Broken>(b"done".to_vec())
    });
    assert_eq!(soon(ran).await.unwrap(), done("done", How::Ran), "nobody took over: it is still ours");
}

#[tokio::test(start_paused = true)]
async fn what_the_work_completed_itself_is_the_answer() {
    for (theirs, how) in [("same", How::Ran), ("in the transaction", How::Superseded)] {
        let store = Timed::new();
        let own = store.clone();
        let ran = call(&at_least_once(store.clone())).run(async move |held: Held| {
            held.stop_renewing().await;
            let completion = Completion::new(body(theirs));
            let stored = own.complete(held.slot(), held.grant(), &completion).await.unwrap();
            assert_eq!(stored, CompleteOutcome::Stored);
            Ok::<_, Broken>(b"same".to_vec())
        });
        assert_eq!(soon(ran).await.unwrap(), done(theirs, how));
    }
}

#[tokio::test(start_paused = true)]
async fn a_loser_that_failed_disturbs_nobody() {
    let store = Timed::new();
    let there = Midway::default();
    let ran = tokio::spawn(call(&at_least_once(store.clone())).run({
        let there = there.clone();
        async move |_| {
            there.pass().await;
            Err::<Vec<u8>, _>(Broken)
        }
    }));
    there.reached().await;
    let winner = taken_over(&store).await;
    there.open();
    assert!(matches!(soon(ran).await.unwrap(), Err(RunError::Work(Broken))));
    let record = pending(&store).await;
    assert_eq!((record.fence, record.is_lapsed()), (winner.fence, false), "S2");
}
