//! Calls to the store that fail, or whose answers are lost.

use std::time::Duration;

use oncekey_core::*;
use tokio::time::Instant;

use crate::support::*;

fn faulty() -> (Faulty<Timed>, Idempotency, Work) {
    let store = Faulty::seeded(Timed::new(), 1);
    (store.clone(), at_least_once(store), Work::default())
}

#[tokio::test(start_paused = true)]
async fn a_reserve_whose_answer_is_lost_is_asked_again_with_its_token() {
    let (store, runner, work) = faulty();
    store.next(Method::Reserve, Fault::AnswerLost);
    assert_eq!(
        work.run(call(&runner)).await.unwrap(),
        done("attempt 1", How::Ran),
        "another token: InFlight"
    );
    assert_eq!(store.calls(Method::Reserve), 2);
}

#[tokio::test(start_paused = true)]
async fn a_reserve_that_stays_unknown_does_not_execute() {
    let (store, runner, work) = faulty();
    store.next(Method::Reserve, Fault::AnswerLost);
    store.odds([Method::Reserve], Odds::none().refused(1.0));
    let started = Instant::now();
    let error = match work.run(call(&runner)).await {
        Err(RunError::Store(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(error.effect(), Effect::Unknown, "the last try had none, the first may have had one");
    assert!(
        started.elapsed() <= Duration::from_secs(5),
        "the deadline is 5 s, it took {:?}",
        started.elapsed()
    );
    assert!(store.calls(Method::Reserve) > 5, "asked {} times", store.calls(Method::Reserve));
    assert_eq!(work.began(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reserve_that_hangs_ends_at_the_deadline() {
    let (store, runner, work) = faulty();
    let _never_opened = store.hold_next(Method::Reserve);
    let started = Instant::now();
    let ran = work.run(call(&runner)).await;
    assert!(matches!(&ran, Err(RunError::Store(e)) if e.kind() == ErrorKind::Timeout), "{ran:?}");
    assert_eq!(started.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_reserve_that_will_not_pass_is_told_at_once() {
    let (store, runner, work) = faulty();
    store.next(Method::Reserve, Fault::Refused(ErrorKind::Full));
    let ran = work.run(call(&runner)).await;
    assert!(matches!(&ran, Err(RunError::Store(e)) if e.kind() == ErrorKind::Full), "{ran:?}");
    assert_eq!((store.calls(Method::Reserve), work.began()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_spent_token_is_replaced_by_a_new_one_but_not_for_ever() {
    let (store, runner, work) = faulty();
    let spent = || store.next(Method::Reserve, Fault::Refused(ErrorKind::TokenSpent));
    spent();
    assert_eq!(work.run(call(&runner)).await.unwrap(), done("attempt 1", How::Ran));
    spent();
    spent();
    let ran = work.run(call(&runner)).await;
    assert!(matches!(&ran, Err(RunError::Store(e)) if e.kind() == ErrorKind::TokenSpent), "{ran:?}");
}

#[tokio::test(start_paused = true)]
async fn a_token_really_spent_is_replaced() {
    // An operator releases what the lost answer had granted, before the runner asks again.
    let clock = Clock::frozen(Timestamp::from_micros(1_000_000));
    let memory = MemoryStore::builder().clock(clock.clone()).build();
    let store = Faulty::new(memory.clone());
    store.next(Method::Reserve, Fault::AnswerLost);
    let gate = store.hold_next(Method::Reserve);
    let (runner, work) = (at_least_once(store.clone()), Work::default());
    let ran = tokio::spawn({
        let (work, call) = (work.clone(), call(&runner));
        async move { work.run(call).await }
    });
    soon(gate.reached()).await;
    clock.advance(LEASE);
    let seen = pending(&memory).await.seen();
    let resolved = memory.resolve(&slot(), seen, &Resolution::Release).await.unwrap();
    assert_eq!(resolved, ResolveOutcome::Resolved);
    gate.open();
    assert_eq!(soon(ran).await.unwrap().unwrap(), done("attempt 1", How::Ran));
    assert_eq!(store.calls(Method::Reserve), 3);
}

#[tokio::test(start_paused = true)]
async fn a_completion_whose_answer_is_lost_is_repeated() {
    let (store, runner, work) = faulty();
    store.next(Method::Complete, Fault::AnswerLost);
    assert_eq!(work.run(call(&runner)).await.unwrap(), done("attempt 1", How::Ran));
    assert_eq!(store.calls(Method::Complete), 2);
    assert_eq!(work.run(call(&runner)).await.unwrap(), done("attempt 1", How::Replayed));
}

#[tokio::test(start_paused = true)]
async fn a_completion_that_stays_unknown_is_told_and_repeated_and_never_released() {
    for odds in [Odds::none().refused(1.0), Odds::none().late(1.0)] {
        let (store, runner, work) = faulty();
        store.odds([Method::Complete], odds);
        let started = Instant::now();
        let outcome = work.run(call(&runner)).await.unwrap();
        let RunOutcome::Done { value, how: How::Unsaved(Unsaved::NoAnswer(_)) } = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(value, b"attempt 1", "the live answer goes out");
        assert!(started.elapsed() <= Duration::from_secs(5), "took {:?}", started.elapsed());
        pass(Duration::from_secs(15)).await;
        assert!(!pending(store.inner()).await.is_lapsed(), "it is still held, for the answer's sake");
        store.odds([Method::Complete], Odds::none());
        pass(Duration::from_secs(2)).await;
        assert_eq!(completed(store.inner()).await.response.body, Body::Kept("attempt 1".into()));
        let calls = counts(&store.inner().diary());
        assert_eq!((calls.get("release"), calls.get("hand over")), (None, None), "{calls:?}");
        store.deliver_late().await;
        assert_eq!(work.run(call(&runner)).await.unwrap(), done("attempt 1", How::Replayed));
        assert_eq!(work.began(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_completion_is_not_repeated_for_ever() {
    let (store, runner, work) = faulty();
    store.odds([Method::Complete, Method::Renew], Odds::none().refused(1.0));
    let _unsaved = work.run(call(&runner)).await.unwrap();
    pass(LEASE + Duration::from_secs(2)).await;
    let (tried, beaten) = (store.calls(Method::Complete), store.calls(Method::Renew));
    pass(Duration::from_secs(600)).await;
    assert_eq!(store.calls(Method::Complete), tried);
    assert_eq!(store.calls(Method::Renew), beaten);
}

#[tokio::test(start_paused = true)]
async fn a_completion_that_will_not_pass_is_told_at_once() {
    let (store, runner, work) = faulty();
    store.next(Method::Complete, Fault::Refused(ErrorKind::Corrupt));
    let how = How::Unsaved(Unsaved::NoAnswer(ErrorKind::Corrupt));
    assert_eq!(work.run(call(&runner)).await.unwrap(), done("attempt 1", how));
    pass(LEASE).await;
    assert!(pending(store.inner()).await.is_lapsed());
    assert_eq!(store.calls(Method::Complete), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_refused_in_spite_of_the_limits_is_recorded_as_not_kept() {
    let (store, runner, work) = faulty();
    store.next(Method::Complete, Fault::Refused(ErrorKind::InvalidInput));
    assert_eq!(work.run(call(&runner)).await.unwrap(), done("attempt 1", How::NotKept));
    let again = work.run(call(&runner)).await.unwrap();
    assert!(matches!(again, RunOutcome::NotKept(_)), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_whose_answer_is_lost_is_repeated() {
    let (store, runner, _) = faulty();
    store.next(Method::Renew, Fault::Refused(ErrorKind::Unavailable));
    store.next(Method::Renew, Fault::AnswerLost);
    let ran = call(&runner).run(async |_| Err::<Vec<u8>, _>(Broken)).await;
    assert!(matches!(ran, Err(RunError::Work(Broken))));
    assert_eq!(store.calls(Method::Renew), 3);
    assert_eq!(stranger_granted(store.inner()).await.attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn failed_work_is_told_even_if_the_store_cannot_be() {
    let (store, runner, _) = faulty();
    store.odds([Method::Renew], Odds::none().refused(1.0));
    let started = Instant::now();
    let ran = call(&runner).run(async |_| Err::<Vec<u8>, _>(Broken)).await;
    assert!(matches!(ran, Err(RunError::Work(Broken))));
    assert!(started.elapsed() <= Duration::from_secs(5), "took {:?}", started.elapsed());
}
