//! Many callers at once on one slot: R7, R8, G2. Each race is run several times, through several clients;
//! whatever the order, exactly one is granted, and nobody hears an error.

use std::num::NonZeroU32;

use oncekey_core::CompleteOutcome;

use crate::kit::crowd::{CALLERS, CLIENTS, Crowd, ROUNDS, lapsed, one_granted, rush};
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
        case!(Race, ["C3", "S3"], of_many_completions_of_one_grant_the_first_stays),
        case!(Race, ["W1"], of_many_checkpoints_the_highest_stays),
        case!(Race, ["G2", "R8"], collection_beside_reserves_of_an_ended_record),
        case!(Race, ["G2", "R5"], collection_beside_takeovers),
        case!(Race, ["G2", "S1"], collection_beside_a_renewing_holder),
    ]
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

async fn collection_beside_reserves_of_an_ended_record(s: Stage) -> Told {
    let crowd = Crowd::new(&s, CLIENTS)?;
    // Whoever comes last to the start goes first: in some rounds a collector, in others a caller.
    for round in 0..ROUNDS {
        let (desk, who) = (s.slot()?, s.caller());
        let old = desk.reserve(&s.fleeting()).await?.granted()?;
        desk.complete(&old, response("paid")).await?.stored()?;
        s.expire().await;
        let outcomes = crowd
            .rush(&desk, CALLERS, |number, desk| async move {
                if (number + round) % 3 == 0 {
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
    for round in 0..ROUNDS {
        let ((desk, old), who) = (lapsed(&s).await?, s.caller());
        let outcomes = crowd
            .rush(&desk, CALLERS, |number, desk| async move {
                if (number + round) % 3 == 0 {
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
