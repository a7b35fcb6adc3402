//! release: L1 to L5.

use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Table, ["L1"], a_first_holder_releases),
        case!(Table, ["L1"], a_lapsed_first_holder_releases),
        case!(Table, ["L1", "R11"], a_release_is_remembered_to_the_records_end, needs ShiftTime),
        case!(Table, ["L2"], a_later_holders_release_keeps_the_doubt),
        case!(Table, ["L2", "R2"], a_doubtful_release_keeps_request_and_checkpoint),
        case!(Table, ["L2", "S6"], a_doubtful_release_may_be_repeated),
        case!(Table, ["L2", "R3"], whoever_released_in_doubt_may_come_back),
        case!(Table, ["L2"], a_doubtful_release_outlives_a_step_back_of_the_clock, needs RewindTime),
        case!(Table, ["L3"], a_finished_record_is_never_released),
        case!(Table, ["L4", "S6"], a_release_may_be_repeated),
        case!(Table, ["L5"], a_release_is_lost_on_an_unknown_slot),
        case!(Table, ["L5", "S2"], a_release_is_lost_after_a_takeover),
        case!(Table, ["L5", "S2"], a_release_is_lost_under_another_fence_or_token),
        case!(Table, ["L5"], a_release_is_lost_after_the_record_ended),
        case!(Table, ["L5", "S2"], a_release_is_lost_after_somebody_elses),
        case!(Table, ["L5"], a_finished_record_is_never_released_by_its_former_holder),
    ]
}

async fn a_first_holder_releases(s: Stage) -> Told {
    for who in [s.caller(), s.caller().refusing()] {
        for begun in [false, true] {
            let desk = s.slot()?;
            let first = desk.reserve(&who).await?.granted()?;
            if begun {
                desk.renew(&first, who.renewal()?).await?.renewed()?;
            }
            desk.release(&first).await?.released()?;
            desk.lookup().await?.absent()?;
            let second = desk.reserve(&who.other()).await?.granted()?;
            same("attempt", second.attempt, 1)?;
            holds(format!("{:?} is above {:?}", second.fence, first.fence), second.fence > first.fence)?;
        }
    }
    Ok(())
}

async fn a_lapsed_first_holder_releases(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief());
    let first = desk.reserve(&who).await?.granted()?;
    s.lapse().await;
    desk.release(&first).await?.released()?;
    same("attempt", desk.reserve(&who.other()).await?.granted()?.attempt, 1)
}

async fn a_release_is_remembered_to_the_records_end(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(10 * MINUTE).retention(HOUR));
    let grant = desk.reserve(&who).await?.granted()?;
    desk.release(&grant).await?.released()?;
    s.advance(65 * MINUTE)?;
    refused(desk.try_reserve(&who).await, ErrorKind::TokenSpent)?;
    desk.release(&grant).await?.released()?;
    s.advance(10 * MINUTE)?;
    desk.release(&grant).await?.lost(Loss::Gone)?;
    desk.reserve(&who).await?.granted().map(drop)
}

/// A slot whose second holder has released it, under `TakeOver`: that holder, its grant, and the
/// checkpoint that it inherited.
async fn released_in_doubt(s: &Stage) -> Result<(Desk, Caller, Grant), Failure> {
    let (desk, who) = (s.slot()?, s.brief());
    let first = desk.reserve(&who).await?.granted()?;
    desk.renew(&first, who.renewal()?.with_checkpoint(checkpoint(1, "half done")?)).await?.renewed()?;
    s.lapse().await;
    let next = s.caller();
    let second = desk.reserve(&next).await?.granted()?;
    desk.release(&second).await?.released()?;
    Ok((desk, next, second))
}

async fn a_later_holders_release_keeps_the_doubt(s: Stage) -> Told {
    let (desk, who, second) = released_in_doubt(&s).await?;
    let seen = desk.lookup().await?.pending()?;
    same("attempt", seen.attempt, 2)?;
    same("lease left", seen.lease_left, None)?;
    let third = desk.reserve(&who.other()).await?.granted()?;
    same("attempt", third.attempt, 3)?;
    holds(format!("{:?} is above {:?}", third.fence, second.fence), third.fence > second.fence)
}

async fn a_doubtful_release_keeps_request_and_checkpoint(s: Stage) -> Told {
    let (desk, who, _) = released_in_doubt(&s).await?;
    desk.reserve(&who.other().meaning_otherwise()).await?.conflicts()?;
    let third = desk.reserve(&who.other()).await?.granted()?;
    same("checkpoint", third.checkpoint, Some(checkpoint(1, "half done")?))
}

async fn a_doubtful_release_may_be_repeated(s: Stage) -> Told {
    let (desk, who, second) = released_in_doubt(&s).await?;
    let before = desk.record().await?;
    desk.release(&second).await?.released()?;
    same("the record", desk.record().await?, before)?;
    same("attempt", desk.reserve(&who.other()).await?.granted()?.attempt, 3)?;
    desk.release(&second).await?.lost(Loss::TakenOver)
}

async fn whoever_released_in_doubt_may_come_back(s: Stage) -> Told {
    let (desk, who, second) = released_in_doubt(&s).await?;
    same("the grant", desk.reserve(&who).await?.granted()?, second)?;
    desk.reserve(&who.other()).await?.in_flight().map(drop)
}

async fn a_doubtful_release_outlives_a_step_back_of_the_clock(s: Stage) -> Told {
    let (desk, who, _) = released_in_doubt(&s).await?;
    s.rewind(5 * MINUTE)?;
    same("attempt", desk.reserve(&who.other()).await?.granted()?.attempt, 3)
}

async fn a_finished_record_is_never_released(s: Stage) -> Told {
    for who in [s.caller(), s.caller().refusing()] {
        let desk = s.slot()?;
        let grant = desk.reserve(&who).await?.granted()?;
        desk.complete(&grant, response("paid")).await?.stored()?;
        let before = desk.record().await?;
        desk.release(&grant).await?.already_stored()?;
        same("the record", desk.record().await?, before)?;
        same("response", desk.reserve(&who.other()).await?.replayed()?.response, response("paid"))?;
    }
    Ok(())
}

async fn a_release_may_be_repeated(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.release(&grant).await?.released()?;
    desk.release(&grant).await?.released()?;
    desk.lookup().await?.absent()?;
    // Own means token and fence, here too.
    desk.release(&under_token(&grant, Token::fresh())).await?.lost(Loss::Gone)?;
    desk.release(&under_fence(&grant, grant.fence.get() + 1)).await?.lost(Loss::Gone)
}

async fn a_release_is_lost_on_an_unknown_slot(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let elsewhere = s.slot()?.reserve(&who).await?.granted()?;
    desk.release(&elsewhere).await?.lost(Loss::Gone)?;
    // It left no memory of a token that never was reserved here.
    desk.reserve(&who).await?.granted().map(drop)
}

async fn a_release_is_lost_after_a_takeover(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief());
    let old = desk.reserve(&who).await?.granted()?;
    s.lapse().await;
    let new = desk.reserve(&s.caller()).await?.granted()?;
    let before = desk.record().await?;
    desk.release(&old).await?.lost(Loss::TakenOver)?;
    same("the record", desk.record().await?, before)?;
    desk.reserve(&s.caller()).await?.in_flight()?;
    desk.complete(&new, response("paid")).await?.stored()
}

async fn a_release_is_lost_under_another_fence_or_token(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    let before = desk.record().await?;
    let fence = grant.fence.get();
    for other in
        [under_fence(&grant, fence + 1), under_fence(&grant, fence - 1), under_token(&grant, Token::fresh())]
    {
        desk.release(&other).await?.lost(Loss::TakenOver)?;
    }
    same("the record", desk.record().await?, before)
}

async fn a_release_is_lost_after_the_record_ended(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.fleeting());
    let first = desk.reserve(&who).await?.granted()?;
    s.expire().await;
    desk.release(&first).await?.lost(Loss::Gone)?;
    desk.reserve(&s.caller()).await?.granted()?;
    desk.release(&first).await?.lost(Loss::TakenOver)
}

async fn a_release_is_lost_after_somebody_elses(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let first = desk.reserve(&who).await?.granted()?;
    desk.release(&first).await?.released()?;
    let second = desk.reserve(&who.other()).await?.granted()?;
    desk.release(&second).await?.released()?;
    desk.release(&first).await?.lost(Loss::Gone)?;
    desk.release(&second).await?.released()
}

async fn a_finished_record_is_never_released_by_its_former_holder(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief());
    let old = desk.reserve(&who).await?.granted()?;
    s.lapse().await;
    let new = desk.reserve(&s.caller()).await?.granted()?;
    desk.complete(&new, response("paid")).await?.stored()?;
    desk.release(&old).await?.lost(Loss::TakenOver)?;
    same("response", desk.reserve(&who.other()).await?.replayed()?.response, response("paid"))
}
