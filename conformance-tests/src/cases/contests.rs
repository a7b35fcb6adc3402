//! A holder against many callers, or against an operator: R8, S1, S2. Either the holder's call came first
//! or theirs did, and both sides agree which.

use std::future::Future;

use oncekey_core::{
    CompleteOutcome, ReleaseOutcome, RenewOutcome, ReservationOutcome, Resolution, ResolveOutcome,
};

use crate::kit::crowd::{CALLERS, CLIENTS, Crowd, ROUNDS, lapsed, one_granted};
use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Race, ["R8", "R9"], callers_during_a_completion_hear_in_flight_or_its_answer),
        case!(Race, ["R8", "L1"], callers_during_a_release_are_granted_once_at_most),
        case!(Race, ["R8", "W1", "S1"], a_renewal_and_takeovers_have_one_winner),
        case!(Race, ["R8", "C2", "S2"], a_late_completion_and_takeovers_have_one_winner),
        case!(Race, ["R8", "L1", "S2"], a_late_release_and_takeovers_have_one_winner),
        case!(Race, ["O1"], an_operator_and_the_holder_have_one_winner, needs Resolve),
    ]
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
    let (who, mut random) = (s.caller(), s.random());
    // Sometimes the holder is a little ahead of the others, sometimes behind: one among many, it would
    // mostly be neither.
    let (acts, ahead, behind) = (random.usize(..CALLERS), random.u32(..5), random.u32(..5));
    let heard = crowd
        .rush(desk, CALLERS, |number, desk| {
            let holder = (number == acts).then(|| holder(desk.clone()));
            async move {
                for _ in 0..if holder.is_some() { behind } else { ahead } {
                    tokio::task::yield_now().await;
                }
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
            // And it is a reservation, not only an answer.
            let grant = one_granted(outcomes)?;
            same("attempt", grant.attempt, 1)?;
            desk.complete(&grant, response("paid")).await?.stored()?;
        } else {
            for outcome in outcomes {
                outcome.in_flight()?;
            }
            desk.reserve(&s.caller()).await?.granted()?;
        }
    }
    Ok(())
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
