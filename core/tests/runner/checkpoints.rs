//! What the work saves, and the next holder reads.

use std::time::Duration;

use oncekey_core::*;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn checkpoints_are_numbered_on_from_the_inherited_one() {
    let store = Timed::new();
    let runner = at_least_once(store.clone());
    let first = call(&runner).run(async |held: Held| {
        assert!(held.checkpoint().is_none());
        for page in ["page 1", "page 2", "page 3"] {
            held.save(page).await.unwrap();
        }
        Err::<Vec<u8>, _>(Broken)
    });
    assert!(matches!(first.await, Err(RunError::Work(Broken))));

    let second = call(&runner).run(async |held: Held| {
        let inherited = held.checkpoint().unwrap();
        assert_eq!((inherited.sequence(), &inherited.data()[..]), (3, &b"page 3"[..]));
        assert_eq!(held.attempt(), 2);
        held.save("page 4").await.unwrap();
        Err::<Vec<u8>, _>(Broken)
    });
    assert!(matches!(second.await, Err(RunError::Work(Broken))));
    let kept = stranger_granted(&store).await.checkpoint.unwrap();
    assert_eq!((kept.sequence(), &kept.data()[..]), (4, &b"page 4"[..]), "numbered from 1, it would be lost");
}

#[tokio::test(start_paused = true)]
async fn clones_save_in_the_order_of_their_calls() {
    let store = Faulty::new(Timed::new());
    let runner = at_least_once(store.clone());
    let gate = store.hold_next(Method::Renew);
    let ran = call(&runner).run(async move |held: Held| {
        let slow = tokio::spawn({
            let held = held.clone();
            async move { held.save("older").await }
        });
        soon(gate.reached()).await;
        let fast = tokio::spawn({
            let held = held.clone();
            async move { held.save("newer").await }
        });
        gate.open();
        slow.await.unwrap().unwrap();
        fast.await.unwrap().unwrap();
        Err::<Vec<u8>, _>(Broken)
    });
    assert!(matches!(soon(ran).await, Err(RunError::Work(Broken))));
    assert_eq!(stranger_granted(store.inner()).await.checkpoint.unwrap().data(), "newer");
}

#[tokio::test(start_paused = true)]
async fn a_save_whose_answer_is_lost_is_repeated() {
    let store = Faulty::new(Timed::new());
    store.next(Method::Renew, Fault::AnswerLost);
    store.next(Method::Renew, Fault::Refused(ErrorKind::Unavailable));
    let ran = call(&at_least_once(store.clone())).run(async |held: Held| {
        held.save("saved").await.unwrap();
        Err::<Vec<u8>, _>(Broken)
    });
    assert!(matches!(soon(ran).await, Err(RunError::Work(Broken))));
    let kept = stranger_granted(store.inner()).await.checkpoint.unwrap();
    assert_eq!((kept.sequence(), &kept.data()[..]), (1, &b"saved"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_save_puts_the_next_beat_off() {
    let store = Timed::new();
    let ran = call(&at_least_once(store.clone())).run(async |held: Held| {
        for _ in 0..10 {
            pass(Duration::from_secs(6)).await;
            held.save("x").await.unwrap();
        }
        Ok::<_, Broken>(())
    });
    assert!(matches!(soon(ran).await.unwrap(), RunOutcome::Done { how: How::Ran, .. }));
    let saves: Vec<u64> = (1..=10).map(|n| n * 6_000).collect();
    assert_eq!(store.times("renew"), saves, "each save is the beat");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_long_to_save_is_said_before_it_is_sent() {
    let store = Timed::new();
    let ran = call(&at_least_once(store.clone())).run(async |held: Held| {
        match held.save(vec![0; MAX_CHECKPOINT_BYTES + 1]).await {
            Err(SaveError::Store(error)) if error.is_invalid_input() => {}
            other => panic!("{other:?}"),
        }
        held.save(vec![0; MAX_CHECKPOINT_BYTES]).await.unwrap();
        Ok::<_, Broken>(())
    });
    assert!(matches!(soon(ran).await.unwrap(), RunOutcome::Done { how: How::Ran, .. }));
    assert_eq!(store.times("renew").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_clone_that_outlives_the_work_saves_and_holds_nothing() {
    let store = Timed::new();
    let (tell, hear) = tokio::sync::oneshot::channel();
    let ran = call(&at_least_once(store.clone())).run(async move |held: Held| {
        let lost = tokio::spawn({
            let held = held.clone();
            async move { held.lost().await }
        });
        tell.send((held, lost)).unwrap();
        Err::<Vec<u8>, _>(Broken)
    });
    assert!(matches!(soon(ran).await, Err(RunError::Work(Broken))));
    let (held, lost) = soon(hear).await.unwrap();
    assert_eq!(soon(lost).await.unwrap(), Lost::Settled, "whoever waits for the loss is not left waiting");
    let late = held.save("late").await;
    assert!(matches!(late, Err(SaveError::Lost(Lost::Settled))), "{late:?}");
    assert!(pending(&store).await.is_lapsed(), "a late save must not hold what was handed over");
}
