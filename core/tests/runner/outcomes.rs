//! What a run answers when nothing fails.

use std::time::Duration;

use oncekey_core::*;
use tokio::time::Instant;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn the_first_call_runs_and_the_second_hears_its_answer() {
    let store = Timed::new();
    let (runner, work) = (at_least_once(store.clone()), Work::default());
    assert_eq!(work.run(call(&runner)).await.unwrap(), done("attempt 1", How::Ran));
    assert_eq!(work.run(call(&runner)).await.unwrap(), done("attempt 1", How::Replayed));
    assert_eq!(work.began(), 1);
    let diary = counts(&store.diary());
    assert_eq!(diary, [("complete", 1), ("reserve", 2)].into(), "no call that isn't needed");
}

#[tokio::test(start_paused = true)]
async fn a_key_used_for_another_request_is_a_conflict() {
    let (runner, work) = (at_least_once(Timed::new()), Work::default());
    assert_eq!(work.run(call(&runner)).await.unwrap(), done("attempt 1", How::Ran));
    let other = runner.call(&slot(), Fingerprint::from_bytes([9; 32]));
    assert_eq!(work.run(other).await.unwrap(), RunOutcome::Conflict);
    assert_eq!(work.began(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_waiting_a_running_holder_is_in_flight_at_once() {
    let store = Timed::new();
    let (runner, work) = (at_least_once(store.clone()), Work::default());
    let _held = stranger_granted(&store).await;
    let started = Instant::now();
    let outcome = work.run(call(&runner)).await.unwrap();
    assert_eq!(outcome, RunOutcome::InFlight(InFlight::new(LEASE)));
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn who_waits_gets_the_running_holders_answer() {
    let store = Timed::new();
    let (runner, work) = (at_least_once(store.clone()), Work::default());
    let (first, midway) = work.start(call(&runner)).await;
    let second = tokio::spawn({
        let (runner, work) = (runner.clone(), work.clone());
        async move { work.run(call(&runner).wait_up_to(Duration::from_secs(60))).await }
    });
    pass(Duration::from_secs(40)).await; // longer than a lease: the heartbeat holds it
    midway.open();
    let opened = Instant::now();
    assert_eq!(soon(first).await.unwrap().unwrap(), done("attempt 1", How::Ran));
    assert_eq!(soon(second).await.unwrap().unwrap(), done("attempt 1", How::Replayed));
    assert!(opened.elapsed() <= Duration::from_millis(500), "heard {:?} later", opened.elapsed());
    assert_eq!(work.began(), 1);
    assert!(store.times("reserve").len() < 200, "it asks more and more seldom: {:?}", store.times("reserve"));
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_in_flight_at_its_deadline() {
    let store = Timed::new();
    let (runner, work) = (at_least_once(store.clone()), Work::default());
    let _held = stranger_granted(&store).await;
    let started = Instant::now();
    let outcome = work.run(call(&runner).wait_up_to(Duration::from_secs(10))).await.unwrap();
    assert!(matches!(outcome, RunOutcome::InFlight(_)), "{outcome:?}");
    assert_eq!(started.elapsed().as_secs_f64().round(), 10.0, "waited {:?}", started.elapsed());
    assert_eq!(work.began(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_takes_over_when_the_holder_lapses() {
    let store = Timed::new();
    let (runner, work) = (at_least_once(store.clone()), Work::default());
    let _silent = stranger_granted(&store).await;
    let started = Instant::now();
    let outcome = work.run(call(&runner).wait_up_to(Duration::from_secs(60))).await.unwrap();
    assert_eq!(outcome, done("attempt 2", How::Ran));
    let took = started.elapsed();
    assert!(took >= LEASE && took < LEASE + Duration::from_millis(600), "took over after {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_whole_response_is_replayed_byte_for_byte() {
    let runner = at_least_once(Timed::new());
    let response = || StoredResponse::new(201, "content-type: x\0y", vec![0, 255, 10]);
    for how in [How::Ran, How::Replayed] {
        let outcome = call(&runner).run(async move |_| Ok::<_, Broken>(response())).await.unwrap();
        assert_eq!(outcome, RunOutcome::Done { value: response(), how });
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_an_answer_too() {
    let runner = at_least_once(Timed::new());
    for how in [How::Ran, How::Replayed] {
        let outcome = call(&runner).run(async |_| Ok::<(), Broken>(())).await.unwrap();
        assert_eq!(outcome, RunOutcome::Done { value: (), how });
    }
}

#[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
struct Receipt {
    id: String,
    cents: u64,
}

#[tokio::test(start_paused = true)]
async fn a_typed_answer_is_replayed_and_another_type_is_an_error() {
    let runner = at_least_once(Timed::new());
    let receipt = || Json(Receipt { id: "p-1".into(), cents: 900 });
    for how in [How::Ran, How::Replayed] {
        let outcome = call(&runner).run(async move |_| Ok::<_, Broken>(receipt())).await.unwrap();
        assert_eq!(outcome, RunOutcome::Done { value: receipt(), how });
    }
    let wrong = call(&runner).run(async |_| Ok::<_, Broken>(Json(17_u8))).await;
    assert!(matches!(wrong, Err(RunError::Answer(_))), "{wrong:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_over_the_limit_goes_out_whole_and_is_recorded_as_not_kept() {
    let store = Timed::with_limits(Limits::new(100));
    let runner = at_least_once(store.clone());
    let work = Work::default();
    let long = StoredResponse::new(201, vec![b'h'; 90], vec![b'x'; 60]);
    let run = async |call: Call| {
        let (long, work) = (long.clone(), work.clone());
        call.run(async move |_| {
            work.begin();
            Ok::<_, Broken>(long)
        })
        .await
        .unwrap()
    };
    assert_eq!(run(call(&runner)).await, RunOutcome::Done { value: long.clone(), how: How::NotKept });
    match run(call(&runner)).await {
        RunOutcome::NotKept(record) => assert_eq!(record.response, StoredResponse::not_kept(201, "", 60)),
        other => panic!("a replay of what was not kept is told as such, not as {other:?}"),
    }
    assert_eq!(work.began(), 1, "never done twice because its answer was long");
}

struct Unwritable;

impl Answer for Unwritable {
    fn to_stored(&self) -> Result<StoredResponse, AnswerError> {
        Err(AnswerError::new("on purpose"))
    }
    fn from_stored(_: StoredResponse) -> Result<Self, AnswerError> {
        Ok(Self)
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_written_down_still_marks_the_work_as_done() {
    let runner = at_least_once(Timed::new());
    let first = call(&runner).run(async |_| Ok::<_, Broken>(Unwritable)).await.unwrap();
    assert!(matches!(first, RunOutcome::Done { how: How::NotKept, .. }));
    let again = call(&runner).run(async |_| Ok::<_, Broken>(Unwritable)).await.unwrap();
    assert!(matches!(again, RunOutcome::NotKept(_)));
}

struct ShortLived;

impl Answer for ShortLived {
    fn to_stored(&self) -> Result<StoredResponse, AnswerError> {
        Ok(StoredResponse::new(503, "", ""))
    }
    fn from_stored(_: StoredResponse) -> Result<Self, AnswerError> {
        Ok(Self)
    }
    fn retention(&self) -> Option<Duration> {
        Some(Duration::from_secs(60))
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_say_how_long_it_is_kept() {
    let store = Timed::new();
    let runner = at_least_once(store.clone());
    let _ran = call(&runner).run(async |_| Ok::<_, Broken>(ShortLived)).await.unwrap();
    let record = completed(&store).await;
    assert_eq!(record.expires_at - record.completed_at, Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_shared_store_stays_the_store_that_it_is() {
    let shared: std::sync::Arc<dyn IdempotencyStore> = std::sync::Arc::new(MemoryStore::new());
    let runner = Idempotency::at_least_once(std::sync::Arc::clone(&shared));
    assert!(std::sync::Arc::ptr_eq(runner.store(), &shared), "not wrapped once more");
}

/// On real threads: the others run on a single one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_callers_at_once_one_runs_and_all_hear_its_answer() {
    for runner in [at_least_once, at_most_once] {
        let (runner, work) = (runner(MemoryStore::new()), Work::default());
        let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(32));
        let callers: Vec<_> = (0..32)
            .map(|_| {
                let (runner, work, barrier) = (runner.clone(), work.clone(), std::sync::Arc::clone(&barrier));
                tokio::spawn(async move {
                    barrier.wait().await;
                    work.run(call(&runner).wait_up_to(Duration::from_secs(60))).await.unwrap()
                })
            })
            .collect();
        let mut ran = 0;
        for caller in callers {
            match caller.await.unwrap() {
                RunOutcome::Done { value, how } => {
                    assert_eq!(value, b"attempt 1");
                    ran += usize::from(how == How::Ran);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((ran, work.began()), (1, 1));
    }
}
