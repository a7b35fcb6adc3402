//! Calls that fail on the way: S6, S7. For harnesses that can make them fail.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use oncekey_core::{CompleteOutcome, Effect, ReservationOutcome, StoreError, StoredResponse};

use crate::kit::crowd::Crowd;
use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Race, ["S7"], a_reserve_that_failed_says_whether_it_had_an_effect, needs Faults),
        case!(Race, ["S7"], a_complete_that_failed_says_whether_it_had_an_effect, needs Faults),
        case!(Race, ["S6", "S3"], a_swarm_whose_calls_fail_does_each_thing_once, needs Faults),
    ]
}

/// Fails unless this is an error that a caller may answer by calling again.
#[track_caller]
fn passing(error: &StoreError) -> Told {
    holds(format!("a fault on the way may be retried: {error}"), error.is_retryable())
}

async fn a_reserve_that_failed_says_whether_it_had_an_effect(s: Stage) -> Told {
    let faults = s.faults()?;
    for _ in 0..60 {
        let (desk, who) = (s.slot()?, s.caller());
        faults.begin();
        let tried = desk.try_reserve(&who).await;
        faults.end();
        match tried {
            Ok(outcome) => drop(outcome.granted()?),
            Err(e) => {
                passing(&e)?;
                if e.effect() == Effect::NotApplied {
                    desk.lookup().await?.absent()?;
                }
            }
        }
        // Whatever became of it, the same token is granted, and nobody else is.
        same("attempt", desk.reserve(&who).await?.granted()?.attempt, 1)?;
        desk.reserve(&who.other()).await?.in_flight()?;
    }
    Ok(())
}

async fn a_complete_that_failed_says_whether_it_had_an_effect(s: Stage) -> Told {
    let faults = s.faults()?;
    for _ in 0..60 {
        let (desk, who) = (s.slot()?, s.caller());
        let grant = desk.reserve(&who).await?.granted()?;
        let completion = Completion::new(response("paid"));
        faults.begin();
        let tried = desk.store.complete(&desk.slot, &grant, &completion).await;
        faults.end();
        match tried {
            Ok(outcome) => kept(outcome)?,
            Err(e) => {
                passing(&e)?;
                if e.effect() == Effect::NotApplied {
                    desk.lookup().await?.pending()?;
                }
                kept(desk.complete(&grant, response("paid")).await?)?;
            }
        }
        same("response", desk.reserve(&who.other()).await?.replayed()?.response, response("paid"))?;
    }
    Ok(())
}

/// Asked again, by the caller or by the store itself, one answer of this grant is kept, by one of the tries.
#[track_caller]
fn kept(outcome: CompleteOutcome) -> Told {
    match outcome {
        CompleteOutcome::Stored => Ok(()),
        other => same("response", other.already_stored()?.response, response("paid")),
    }
}

/// Makes the call until it is answered, as every caller has to.
async fn until_answered<T, F>(call: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, StoreError>>,
{
    for _ in 0..1_000 {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(e) => passing(&e)?,
        }
    }
    Err(failed("no answer in 1000 tries"))
}

async fn a_swarm_whose_calls_fail_does_each_thing_once(s: Stage) -> Told {
    const SLOTS: usize = 20;
    const WORKERS: usize = 6;
    let (crowd, faults, who) = (Arc::new(Crowd::new(&s, 3)?), s.faults()?, s.caller());
    let desks: Arc<[Desk]> = (0..SLOTS).map(|_| s.slot()).collect::<Result<Vec<_>, _>>()?.into();
    faults.begin();
    let heard = crowd
        .rush(&desks[0], WORKERS, |worker, _| {
            let (crowd, desks) = (Arc::clone(&crowd), Arc::clone(&desks));
            async move {
                let mut heard = Vec::new();
                for number in (0..SLOTS).map(|n| (n + worker) % SLOTS) {
                    let (desk, me) = (crowd.desk(&desks[number], worker), who.other());
                    match until_answered(|| desk.try_reserve(&me)).await? {
                        ReservationOutcome::Reserved(grant) => {
                            let own = response(format!("slot {number} by worker {worker}"));
                            let completion = Completion::new(own.clone());
                            let done =
                                until_answered(|| desk.store.complete(&desk.slot, &grant, &completion))
                                    .await?;
                            match done {
                                CompleteOutcome::Stored => heard.push((number, own)),
                                other => heard.push((number, other.already_stored()?.response)),
                            }
                        }
                        ReservationOutcome::Replay(record) => heard.push((number, record.response)),
                        other => drop(other.in_flight()?),
                    }
                }
                Ok(heard)
            }
        })
        .await?;
    faults.end();
    let mut answers: BTreeMap<usize, StoredResponse> = BTreeMap::new();
    for (number, answer) in heard.into_iter().flatten() {
        let first = answers.entry(number).or_insert_with(|| answer.clone());
        same(format!("what two heard of slot {number}"), &answer, &*first)?;
    }
    same("slots that were done", answers.len(), SLOTS)?;
    for (number, answer) in answers {
        same("response", desks[number].reserve(&who.other()).await?.replayed()?.response, answer)?;
    }
    Ok(())
}
