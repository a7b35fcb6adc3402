//! Many callers at once on one slot: R7, R8, S1, G2. Each race is run several times, through several
//! clients; whatever the order, exactly one is granted, and nobody hears an error.

use std::num::NonZeroU32;

use oncekey_core::{
    CompleteOutcome, ReleaseOutcome, RenewOutcome, ReservationOutcome, Resolution, ResolveOutcome,
};

use crate::kit::crowd::Crowd;
use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Race, ["R7", "S1"], of_many_callers_of_an_absent_slot_one_is_granted),
        case!(Race, ["R7", "R5", "S1"], of_many_callers_of_a_lapsed_slot_one_takes_over),
        case!(Race, ["R7", "R1", "S1"], of_many_callers_of_an_ended_record_one_is_granted),
        case!(Race, ["R7", "L1"], of_many_callers_of_a_released_slot_one_is_granted),
        case!(Race, ["R7", "R6"], nobody_takes_over_an_unknown),
        case!(Race, ["R7", "R3", "S6"], copies_of_one_call_are_granted_once),
        case!(Race, ["R7", "R2"], of_many_requests_under_one_key_one_is_granted),
        case!(Race, ["R8", "R9"], callers_during_a_completion_hear_in_flight_or_its_answer),
        case!(Race, ["R8", "L1"], callers_during_a_release_are_granted_once_at_most),
        case!(Race, ["R8", "W1", "S1"], a_renewal_and_takeovers_have_one_winner),
        case!(Race, ["R8", "C2", "S2"], a_late_completion_and_takeovers_have_one_winner),
        case!(Race, ["R8", "L1", "S2"], a_late_release_and_takeovers_have_one_winner),
        case!(Race, ["C3", "S3"], of_many_completions_of_one_grant_the_first_stays),
        case!(Race, ["W1"], of_many_checkpoints_the_highest_stays),
        case!(Race, ["O1"], an_operator_and_the_holder_have_one_winner, needs Resolve),
        case!(Race, ["G2", "R8"], collection_beside_reserves_of_an_ended_record),
        case!(Race, ["G2", "R5"], collection_beside_takeovers),
        case!(Race, ["G2", "S1"], collection_beside_a_renewing_holder),
    ]
}

const ROUNDS: usize = 6;
const CALLERS: usize = 12;
const CLIENTS: usize = 4;

/// All reserve at once, each for itself.
async fn rush(s: &Stage, crowd: &Crowd, desk: &Desk) -> Result<Vec<ReservationOutcome>, Failure> {
    let who = s.caller();
    crowd.rush(desk, CALLERS, |_, desk| async move { desk.reserve(&who.other()).await }).await
}

/// The one grant among these; all others are in flight.
#[track_caller]
fn one_granted(outcomes: Vec<ReservationOutcome>) -> Result<Grant, Failure> {
    let told = format!("one Reserved, and InFlight for the others, among {outcomes:?}");
    let mut granted = Vec::new();
    for outcome in outcomes {
        match outcome {
            ReservationOutcome::Reserved(grant) => granted.push(grant),
            ReservationOutcome::InFlight(_) => {}
            _ => return Err(failed(told)),
        }
    }
    match granted.pop() {
        Some(grant) if granted.is_empty() => Ok(grant),
        _ => Err(failed(told)),
    }
}

async fn of_many_callers_of_an_absent_slot_one_is_granted(s: Stage) -> Told {
    let crowd = Crowd::new(&s, CLIENTS)?;
    for _ in 0..ROUNDS {
        let desk = s.slot()?;
        let grant = one_granted(rush(&s, &crowd, &desk).await?)?;
        same("attempt", grant.attempt, 1)?;
        desk.complete(&grant, response("paid")).await?.stored()?;
    }
    Ok(())
}

async fn of_many_callers_of_a_lapsed_slot_one_takes_over(s: Stage) -> Told {
    let crowd = Crowd::new(&s, CLIENTS)?;
    for _ in 0..ROUNDS {
        let desk = s.slot()?;
        let old = desk.reserve(&s.brief()).await?.granted()?;
        s.lapse().await;
        let new = one_granted(rush(&s, &crowd, &desk).await?)?;
        same("attempt", new.attempt, 2)?;
        desk.complete(&old, response("late")).await?.lost(Loss::TakenOver)?;
        desk.complete(&new, response("paid")).await?.stored()?;
    }
    Ok(())
}

async fn of_many_callers_of_an_ended_record_one_is_granted(s: Stage) -> Told {
    let crowd = Crowd::new(&s, CLIENTS)?;
    for round in 0..ROUNDS {
        let desk = s.slot()?;
        let old = desk.reserve(&s.fleeting()).await?.granted()?;
        if round % 2 == 0 {
            desk.complete(&old, response("paid")).await?.stored()?;
        }
        s.expire().await;
        let new = one_granted(rush(&s, &crowd, &desk).await?)?;
        same("attempt", new.attempt, 1)?;
        desk.complete(&new, response("paid again")).await?.stored()?;
    }
    Ok(())
}

async fn of_many_callers_of_a_released_slot_one_is_granted(s: Stage) -> Told {
    let crowd = Crowd::new(&s, CLIENTS)?;
    let desk = s.slot()?;
    let mut last = desk.reserve(&s.caller()).await?.granted()?;
    for _ in 0..ROUNDS {
        desk.release(&last).await?.released()?;
        let next = one_granted(rush(&s, &crowd, &desk).await?)?;
        same("attempt", next.attempt, 1)?;
        holds(format!("{:?} is above {:?}", next.fence, last.fence), next.fence > last.fence)?;
        last = next;
    }
    Ok(())
}

async fn nobody_takes_over_an_unknown(s: Stage) -> Told {
    let crowd = Crowd::new(&s, CLIENTS)?;
    let (desk, who) = (s.slot()?, s.caller().refusing());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.renew(&grant, who.renewal()?).await?.renewed()?;
    desk.hand_over(&grant).await?.renewed()?;
    for outcome in rush(&s, &crowd, &desk).await? {
        outcome.indeterminate()?;
    }
    desk.complete(&grant, response("paid")).await?.stored()
}

async fn copies_of_one_call_are_granted_once(s: Stage) -> Told {
    let crowd = Crowd::new(&s, CLIENTS)?;
    for _ in 0..ROUNDS {
        let (desk, who) = (s.slot()?, s.caller());
        let copies = crowd.rush(&desk, CALLERS, |_, desk| async move { desk.reserve(&who).await }).await?;
        let first = desk.reserve(&who).await?.granted()?;
        same("attempt", first.attempt, 1)?;
        for copy in copies {
            same("the grant", copy.granted()?, first.clone())?;
        }
    }
    Ok(())
}

async fn of_many_requests_under_one_key_one_is_granted(s: Stage) -> Told {
    let crowd = Crowd::new(&s, CLIENTS)?;
    for _ in 0..ROUNDS {
        let (desk, one) = (s.slot()?, s.caller());
        let another = one.meaning_otherwise();
        let outcomes = crowd
            .rush(&desk, CALLERS, |number, desk| async move {
                let who = if number % 2 == 0 { one.other() } else { another.other() };
                Ok((who.fingerprint(), desk.reserve(&who).await?))
            })
            .await?;
        let held = desk.lookup().await?.pending()?.fingerprint;
        let (same_request, other): (Vec<_>, Vec<_>) =
            outcomes.into_iter().partition(|(fingerprint, _)| *fingerprint == held);
        one_granted(same_request.into_iter().map(|(_, outcome)| outcome).collect())?;
        for (_, outcome) in other {
            outcome.conflicts()?;
        }
    }
    Ok(())
}

/// The holder does one thing while all others reserve: what each heard.
async fn against<T, F>(
    s: &Stage,
    crowd: &Crowd,
    desk: &Desk,
    holder: impl Fn(Desk) -> F,
) -> Result<(T, Vec<ReservationOutcome>), Failure>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let (who, acts) = (s.caller(), s.random().usize(..CALLERS));
    let heard = crowd
        .rush(desk, CALLERS, |number, desk| {
            let holder = (number == acts).then(|| holder(desk.clone()));
            async move {
                Ok(match holder {
                    Some(holder) => (Some(holder.await?), None),
                    None => (None, Some(desk.reserve(&who.other()).await?)),
                })
            }
        })
        .await?;
    let (mut answer, mut outcomes) = (None, Vec::new());
    for (one, other) in heard {
        answer = one.or(answer);
        outcomes.extend(other);
    }
    Ok((answer.ok_or_else(|| failed("the holder didn't act"))?, outcomes))
}

async fn callers_during_a_completion_hear_in_flight_or_its_answer(s: Stage) -> Told {
    let crowd = Crowd::new(&s, CLIENTS)?;
    for _ in 0..ROUNDS {
        let desk = s.slot()?;
        let grant = desk.reserve(&s.caller()).await?.granted()?;
        let complete = |desk: Desk| {
            let grant = grant.clone();
            async move { desk.complete(&grant, response("paid")).await }
        };
        let (stored, outcomes) = against(&s, &crowd, &desk, complete).await?;
        stored.stored()?;
        for outcome in outcomes {
            match outcome {
                ReservationOutcome::InFlight(_) => {}
                other => same("response", other.replayed()?.response, response("paid"))?,
            }
        }
    }
    Ok(())
}

async fn callers_during_a_release_are_granted_once_at_most(s: Stage) -> Told {
    let crowd = Crowd::new(&s, CLIENTS)?;
    for _ in 0..ROUNDS {
        let desk = s.slot()?;
        let grant = desk.reserve(&s.caller()).await?.granted()?;
        let release = |desk: Desk| {
            let grant = grant.clone();
            async move { desk.release(&grant).await }
        };
        let (released, outcomes) = against(&s, &crowd, &desk, release).await?;
        released.released()?;
        if outcomes.iter().any(|outcome| matches!(outcome, ReservationOutcome::Reserved(_))) {
            same("attempt", one_granted(outcomes)?.attempt, 1)?;
        } else {
            for outcome in outcomes {
                outcome.in_flight()?;
            }
            desk.reserve(&s.caller()).await?.granted()?;
        }
    }
    Ok(())
}

/// A slot whose holder has lapsed, and its grant.
async fn lapsed(s: &Stage) -> Result<(Desk, Grant), Failure> {
    let desk = s.slot()?;
    let grant = desk.reserve(&s.brief()).await?.granted()?;
    s.lapse().await;
    Ok((desk, grant))
}

async fn a_renewal_and_takeovers_have_one_winner(s: Stage) -> Told {
    let crowd = Crowd::new(&s, CLIENTS)?;
    for _ in 0..ROUNDS {
        let (desk, grant) = lapsed(&s).await?;
        let renewal = extend(HOUR)?;
        let renew = |desk: Desk| {
            let (grant, renewal) = (grant.clone(), renewal.clone());
            async move { desk.renew(&grant, renewal).await }
        };
        let (renewed, outcomes) = against(&s, &crowd, &desk, renew).await?;
        if let RenewOutcome::Renewed(_) = renewed {
            for outcome in outcomes {
                outcome.in_flight()?;
            }
            desk.complete(&grant, response("paid")).await?.stored()?;
        } else {
            renewed.lost(Loss::TakenOver)?;
            same("attempt", one_granted(outcomes)?.attempt, 2)?;
        }
    }
    Ok(())
}

async fn a_late_completion_and_takeovers_have_one_winner(s: Stage) -> Told {
    let crowd = Crowd::new(&s, CLIENTS)?;
    for _ in 0..ROUNDS {
        let (desk, grant) = lapsed(&s).await?;
        let complete = |desk: Desk| {
            let grant = grant.clone();
            async move { desk.complete(&grant, response("late")).await }
        };
        let (completed, outcomes) = against(&s, &crowd, &desk, complete).await?;
        if completed == CompleteOutcome::Stored {
            for outcome in outcomes {
                same("response", outcome.replayed()?.response, response("late"))?;
            }
        } else {
            completed.lost(Loss::TakenOver)?;
            let new = one_granted(outcomes)?;
            same("attempt", new.attempt, 2)?;
            desk.complete(&new, response("paid")).await?.stored()?;
        }
    }
    Ok(())
}

async fn a_late_release_and_takeovers_have_one_winner(s: Stage) -> Told {
    let crowd = Crowd::new(&s, CLIENTS)?;
    for _ in 0..ROUNDS {
        let (desk, grant) = lapsed(&s).await?;
        let release = |desk: Desk| {
            let grant = grant.clone();
            async move { desk.release(&grant).await }
        };
        let (released, outcomes) = against(&s, &crowd, &desk, release).await?;
        let new = one_granted(outcomes)?;
        if released == ReleaseOutcome::Released {
            same("attempt after the release", new.attempt, 1)?;
        } else {
            released.lost(Loss::TakenOver)?;
            same("attempt after the takeover", new.attempt, 2)?;
        }
        desk.complete(&new, response("paid")).await?.stored()?;
    }
    Ok(())
}

async fn of_many_completions_of_one_grant_the_first_stays(s: Stage) -> Told {
    let crowd = Crowd::new(&s, CLIENTS)?;
    for _ in 0..ROUNDS {
        let desk = s.slot()?;
        let grant = desk.reserve(&s.caller()).await?.granted()?;
        let outcomes = crowd
            .rush(&desk, CALLERS, |number, desk| {
                let grant = grant.clone();
                async move { desk.complete(&grant, response(format!("answer {number}"))).await }
            })
            .await?;
        let first = outcomes.iter().position(|outcome| *outcome == CompleteOutcome::Stored);
        let first = first.ok_or_else(|| failed(format!("nobody stored: {outcomes:?}")))?;
        for (number, outcome) in outcomes.into_iter().enumerate().filter(|(number, _)| *number != first) {
            let kept = outcome.already_stored()?.response;
            same(format!("what {number} heard"), kept, response(format!("answer {first}")))?;
        }
        let replay = desk.reserve(&s.caller()).await?.replayed()?;
        same("the replay", replay.response, response(format!("answer {first}")))?;
    }
    Ok(())
}

async fn of_many_checkpoints_the_highest_stays(s: Stage) -> Told {
    let crowd = Crowd::new(&s, CLIENTS)?;
    for _ in 0..ROUNDS {
        let desk = s.slot()?;
        let grant = desk.reserve(&s.caller()).await?.granted()?;
        let stored = crowd
            .rush(&desk, CALLERS, |number, desk| {
                let grant = grant.clone();
                async move {
                    let own = number as u64 + 1;
                    let renewal = extend(HOUR)?.with_checkpoint(checkpoint(own, "one of many")?);
                    Ok((own, desk.renew(&grant, renewal).await?.renewed()?.sequence))
                }
            })
            .await?;
        for (own, stored) in stored {
            holds(format!("{stored} is stored once {own} was"), stored >= own)?;
        }
        let seen = desk.lookup().await?.pending()?.checkpoint;
        same("sequence", seen.map(|c| c.sequence()), Some(CALLERS as u64))?;
    }
    Ok(())
}

async fn an_operator_and_the_holder_have_one_winner(s: Stage) -> Told {
    let crowd = Crowd::new(&s, 2)?;
    for _ in 0..ROUNDS {
        let (desk, grant) = lapsed(&s).await?;
        let seen = desk.lookup().await?.pending()?.seen();
        let heard = crowd
            .rush(&desk, 2, |number, desk| {
                let grant = grant.clone();
                async move {
                    if number == 0 {
                        return Ok((Some(desk.complete(&grant, response("the holder's")).await?), None));
                    }
                    let resolution = Resolution::Complete(Completion::new(response("the operator's")));
                    Ok((None, Some(desk.resolve(seen, resolution).await?)))
                }
            })
            .await?;
        let kept = desk.reserve(&s.caller()).await?.replayed()?.response;
        for (completed, resolved) in heard {
            if let Some(resolved) = resolved {
                let operator = kept == response("the operator's");
                let expected = if operator { ResolveOutcome::Resolved } else { ResolveOutcome::Changed };
                same("resolve", resolved, expected)?;
            }
            match completed {
                Some(CompleteOutcome::Stored) => same("the replay", &kept, &response("the holder's"))?,
                Some(other) => same("AlreadyStored", &other.already_stored()?.response, &kept)?,
                None => {}
            }
        }
    }
    Ok(())
}

async fn collection_beside_reserves_of_an_ended_record(s: Stage) -> Told {
    let crowd = Crowd::new(&s, CLIENTS)?;
    for _ in 0..ROUNDS {
        let (desk, who) = (s.slot()?, s.caller());
        let old = desk.reserve(&s.fleeting()).await?.granted()?;
        desk.complete(&old, response("paid")).await?.stored()?;
        s.expire().await;
        let outcomes = crowd
            .rush(&desk, CALLERS, |number, desk| async move {
                if number % 3 == 0 {
                    desk.store.garbage_collect(NonZeroU32::MAX).await?;
                    return Ok(None);
                }
                Ok(Some(desk.reserve(&who.other()).await?))
            })
            .await?;
        let new = one_granted(outcomes.into_iter().flatten().collect())?;
        same("attempt", new.attempt, 1)?;
        desk.complete(&new, response("paid again")).await?.stored()?;
    }
    Ok(())
}

async fn collection_beside_takeovers(s: Stage) -> Told {
    let crowd = Crowd::new(&s, CLIENTS)?;
    for _ in 0..ROUNDS {
        let ((desk, old), who) = (lapsed(&s).await?, s.caller());
        let outcomes = crowd
            .rush(&desk, CALLERS, |number, desk| async move {
                if number % 3 == 0 {
                    desk.store.garbage_collect(NonZeroU32::MAX).await?;
                    return Ok(None);
                }
                Ok(Some(desk.reserve(&who.other()).await?))
            })
            .await?;
        let new = one_granted(outcomes.into_iter().flatten().collect())?;
        same("attempt", new.attempt, 2)?;
        desk.complete(&old, response("late")).await?.lost(Loss::TakenOver)?;
        desk.complete(&new, response("paid")).await?.stored()?;
    }
    Ok(())
}

async fn collection_beside_a_renewing_holder(s: Stage) -> Told {
    let crowd = Crowd::new(&s, CLIENTS)?;
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    crowd
        .rush(&desk, CALLERS, |number, desk| {
            let grant = grant.clone();
            async move {
                for _ in 0..10 {
                    if number % 3 == 0 {
                        desk.renew(&grant, extend(HOUR)?).await?.renewed()?;
                    } else if number % 3 == 1 {
                        desk.store.garbage_collect(NonZeroU32::MAX).await?;
                    } else {
                        desk.reserve(&who.other()).await?.in_flight()?;
                    }
                }
                Ok(())
            }
        })
        .await?;
    desk.complete(&grant, response("paid")).await?.stored()
}
