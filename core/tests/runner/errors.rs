//! What becomes of the slot when the work fails or panics.

use std::time::Duration;

use oncekey_core::*;

use crate::support::*;

async fn fails<P>(call: Call<P>) -> Ran
where
    P: ErrorPolicy<Vec<u8>, Broken> + Send + 'static,
{
    call.run(async |held: Held| {
        held.save("half done").await.unwrap();
        Err(Broken)
    })
    .await
}

fn is_work_error(ran: &Ran) -> bool {
    matches!(ran, Err(RunError::Work(Broken)))
}

#[tokio::test(start_paused = true)]
async fn failed_work_is_handed_over_with_its_checkpoint() {
    let store = Timed::new();
    let ran = fails(call(&at_least_once(store.clone()))).await;
    assert!(is_work_error(&ran), "{ran:?}");
    let next = stranger_granted(&store).await;
    assert_eq!(next.attempt, 2, "what was done stays known");
    assert_eq!(next.checkpoint.unwrap().data(), "half done");
}

#[tokio::test(start_paused = true)]
async fn failed_work_under_at_most_once_leaves_an_unknown() {
    let store = Timed::new();
    let ran = fails(call(&at_most_once(store.clone()))).await;
    assert!(is_work_error(&ran), "{ran:?}");
    let work = Work::default();
    let next = work.run(call(&at_most_once(store))).await.unwrap();
    assert!(matches!(next, RunOutcome::Indeterminate(Lapsed { lapsed_for: None, .. })), "{next:?}");
    assert_eq!(work.began(), 0);
}

#[tokio::test(start_paused = true)]
async fn failed_work_that_did_nothing_is_released() {
    for runner in [at_least_once, at_most_once] {
        let store = Timed::new();
        let ran = fails(call(&runner(store.clone())).on_error(|_: &Broken| OnError::Release)).await;
        assert!(is_work_error(&ran), "{ran:?}");
        let next = stranger_granted(&store).await;
        assert_eq!((next.attempt, next.checkpoint), (1, None), "as if it had never been");
    }
}

#[tokio::test(start_paused = true)]
async fn failed_work_that_is_left_keeps_its_lease() {
    let store = Timed::new();
    let ran = fails(call(&at_least_once(store.clone())).on_error(|_: &Broken| OnError::Leave)).await;
    assert!(is_work_error(&ran), "{ran:?}");
    assert!(matches!(stranger(&store).await, ReservationOutcome::InFlight(_)));
    pass(LEASE).await;
    assert_eq!(stranger_granted(&store).await.attempt, 2, "and no heartbeat goes on");
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_an_answer_is_kept_for_everybody() {
    let store = Timed::new();
    let runner = at_least_once(store.clone());
    let decline = |_: &Broken| OnError::Store(b"declined".to_vec());
    assert_eq!(fails(call(&runner).on_error(decline)).await.unwrap(), done("declined", How::Ran));
    assert_eq!(fails(call(&runner)).await.unwrap(), done("declined", How::Replayed));
}

async fn panics<P>(call: Call<P>) -> Ran
where
    P: ErrorPolicy<Vec<u8>, Broken> + Send + 'static,
{
    call.run(async |held: Held| {
        held.save("half done").await.unwrap();
        panic!("on purpose, attempt {}", held.attempt())
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_panic_releases_nothing_and_leaves_the_slot_to_its_lease() {
    for runner in [at_least_once, at_most_once] {
        let store = Timed::new();
        let Err(RunError::Panicked(panic)) = panics(call(&runner(store.clone()))).await else {
            panic!("a panic is told as one");
        };
        assert_eq!(panic.message(), "on purpose, attempt 1");
        let record = pending(&store).await;
        assert_eq!((record.attempt, record.is_lapsed()), (1, false));
        assert_eq!(counts(&store.diary()).get("release"), None);
        assert_eq!(counts(&store.diary()).get("hand over"), None);
        pass(LEASE).await;
        assert!(pending(&store).await.is_lapsed(), "no heartbeat goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_may_hand_over() {
    let store = Timed::new();
    let ran = panics(call(&at_least_once(store.clone())).on_panic(OnPanic::HandOver)).await;
    assert!(matches!(ran, Err(RunError::Panicked(_))), "{ran:?}");
    let next = stranger_granted(&store).await;
    assert_eq!(next.attempt, 2);
    assert_eq!(next.checkpoint.unwrap().data(), "half done");
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_the_first_await_or_while_deciding_is_caught_too() {
    #[allow(clippy::panic, reason = "the point")]
    fn at_once(_: Held) -> std::future::Ready<Result<Vec<u8>, Broken>> {
        panic!("at once")
    }
    let store = Timed::new();
    let ran = call(&at_least_once(store.clone())).run(at_once).await;
    assert!(matches!(&ran, Err(RunError::Panicked(p)) if p.message() == "at once"), "{ran:?}");
    assert!(!pending(&store).await.is_lapsed());

    let store = Timed::new();
    let decide = |_: &Broken| -> OnError<Vec<u8>> { panic!("undecided") };
    let ran = fails(call(&at_least_once(store.clone())).on_error(decide)).await;
    assert!(matches!(&ran, Err(RunError::Panicked(p)) if p.message() == "undecided"), "{ran:?}");
    assert!(!pending(&store).await.is_lapsed());
}

#[tokio::test(start_paused = true)]
async fn a_panic_can_go_on_in_the_caller() {
    let ran = tokio::spawn(async {
        match panics(call(&at_least_once(Timed::new()))).await {
            Err(RunError::Panicked(panic)) => panic.resume(),
            other => other,
        }
    });
    let payload = soon(ran).await.unwrap_err().into_panic();
    assert_eq!(payload.downcast_ref::<String>().unwrap(), "on purpose, attempt 1");
}

struct PanicsWhenWritten;

impl Answer for PanicsWhenWritten {
    fn to_stored(&self) -> Result<StoredResponse, AnswerError> {
        panic!("unwritable")
    }
    fn from_stored(_: StoredResponse) -> Result<Self, AnswerError> {
        Ok(Self)
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_after_the_work_leaves_the_slot_to_its_lease() {
    let store = Timed::new();
    let ran = call(&at_least_once(store.clone())).run(async |_| Ok::<_, Broken>(PanicsWhenWritten)).await;
    assert!(matches!(&ran, Err(RunError::Panicked(p)) if p.message() == "unwritable"));
    assert!(!pending(&store).await.is_lapsed());
    pass(LEASE + Duration::from_secs(1)).await;
    assert!(pending(&store).await.is_lapsed(), "no heartbeat goes on");
}
