//! renew: W1 to W4.

use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Table, ["W1"], a_renewal_extends_the_lease, needs ShiftTime),
        case!(Table, ["W1"], a_renewal_says_how_much_lease_is_left),
        case!(Table, ["W1"], a_renewal_never_shortens_the_lease, needs ShiftTime),
        case!(Table, ["W1"], a_lapsed_holder_renews_if_nobody_took_over),
        case!(Table, ["W1"], a_renewal_says_that_the_holder_began),
        case!(Table, ["W1"], a_record_outlives_a_renewed_lease, needs ShiftTime),
        case!(Table, ["W1"], a_renewal_never_brings_the_end_nearer),
        case!(Table, ["W1"], a_higher_checkpoint_replaces_the_stored_one),
        case!(Table, ["W1", "S6"], an_older_checkpoint_changes_nothing),
        case!(Table, ["W1"], a_renewal_without_a_checkpoint_keeps_the_stored_one),
        case!(Table, ["W1"], checkpoints_go_on_from_the_inherited_one),
        case!(Table, ["W2"], a_renewal_after_completion_hears_already_stored),
        case!(Table, ["W3"], a_renewal_is_lost_on_an_unknown_slot),
        case!(Table, ["W3", "S2"], a_renewal_is_lost_after_a_takeover),
        case!(Table, ["W3", "S2"], a_renewal_is_lost_under_another_fence_or_token),
        case!(Table, ["W3"], a_renewal_is_lost_after_a_release),
        case!(Table, ["W3"], a_renewal_is_lost_after_the_record_ended),
        case!(Table, ["W3"], a_renewal_is_lost_after_somebody_elses_answer),
        case!(Table, ["W4"], handing_over_lapses_at_once),
        case!(Table, ["W4", "W1"], handing_over_passes_on_the_checkpoint),
        case!(Table, ["W4", "R2"], handing_over_keeps_the_request),
        case!(Table, ["W4"], a_hand_over_outlives_a_step_back_of_the_clock, needs RewindTime),
        case!(Table, ["W4", "W1"], a_holder_that_handed_over_may_come_back),
        case!(Table, ["W4", "C2"], a_holder_that_handed_over_may_complete),
        case!(Table, ["W4", "W2", "W3"], a_hand_over_by_nobody_changes_nothing),
    ]
}

async fn a_renewal_extends_the_lease(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(10 * MINUTE));
    let grant = desk.reserve(&who).await?.granted()?;
    for _ in 0..3 {
        s.advance(8 * MINUTE)?;
        desk.renew(&grant, who.renewal()?).await?.renewed()?;
        desk.reserve(&who.other()).await?.in_flight()?;
    }
    s.advance(11 * MINUTE)?;
    same("attempt", desk.reserve(&who.other()).await?.granted()?.attempt, 2)
}

async fn a_renewal_says_how_much_lease_is_left(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(MINUTE));
    let grant = desk.reserve(&who).await?.granted()?;
    let renewed = desk.renew(&grant, extend(10 * MINUTE)?).await?.renewed()?;
    let (left, then) = (renewed.lease_left, desk.lookup().await?.pending()?.lease_left.unwrap_or_default());
    let told = format!("{left:?} of 10 min is left, and {then:?} a moment later");
    holds(told, left <= 10 * MINUTE && then <= left && then > 9 * MINUTE)?;
    same("sequence where nothing was saved", renewed.sequence, 0)
}

async fn a_renewal_never_shortens_the_lease(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(10 * MINUTE));
    let grant = desk.reserve(&who).await?.granted()?;
    let left = desk.renew(&grant, extend(MINUTE)?).await?.renewed()?.lease_left;
    holds(format!("{left:?} of 10 min is left"), left > 9 * MINUTE)?;
    s.advance(5 * MINUTE)?;
    desk.reserve(&who.other()).await?.in_flight().map(drop)
}

async fn a_lapsed_holder_renews_if_nobody_took_over(s: Stage) -> Told {
    for who in [s.brief(), s.brief().refusing()] {
        let desk = s.slot()?;
        let grant = desk.reserve(&who).await?.granted()?;
        s.lapse().await;
        desk.renew(&grant, extend(10 * MINUTE)?).await?.renewed()?;
        desk.reserve(&who.other()).await?.in_flight()?;
        let seen = desk.lookup().await?.pending()?;
        same("attempt", seen.attempt, 1)?;
        same("fence", seen.fence, grant.fence)?;
    }
    Ok(())
}

async fn a_renewal_says_that_the_holder_began(s: Stage) -> Told {
    for who in [s.caller(), s.caller().refusing()] {
        let desk = s.slot()?;
        let grant = desk.reserve(&who).await?.granted()?;
        same("begun", desk.lookup().await?.pending()?.begun, false)?;
        desk.renew(&grant, who.renewal()?).await?.renewed()?;
        same("begun", desk.lookup().await?.pending()?.begun, true)?;
    }
    Ok(())
}

async fn a_record_outlives_a_renewed_lease(s: Stage) -> Told {
    for retention in [Duration::ZERO, 5 * MINUTE] {
        let (desk, who) = (s.slot()?, s.caller().lease(MINUTE).retention(retention));
        let grant = desk.reserve(&who).await?.granted()?;
        desk.renew(&grant, extend(10 * HOUR)?).await?.renewed()?;
        let seen = desk.lookup().await?.pending()?;
        same("expires_at after the lease's end", seen.expires_at - seen.lease_expires_at, retention)?;
        s.advance(9 * HOUR)?;
        desk.reserve(&who.other()).await?.in_flight()?;
        desk.complete(&grant, response("paid")).await?.stored()?;
    }
    Ok(())
}

async fn a_renewal_never_brings_the_end_nearer(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(10 * HOUR).retention(MINUTE));
    let grant = desk.reserve(&who).await?.granted()?;
    let before = desk.lookup().await?.pending()?.expires_at;
    // Back in after a hand-over, with a lease that ends hours before the record.
    desk.hand_over(&grant).await?.renewed()?;
    desk.renew(&grant, extend(MINUTE)?).await?.renewed()?;
    same("expires_at", desk.lookup().await?.pending()?.expires_at, before)
}

async fn a_higher_checkpoint_replaces_the_stored_one(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    for (sequence, text) in [(1, "page 1"), (2, ""), (9, "page 9")] {
        let saved = checkpoint(sequence, text)?;
        let renewed = desk.renew(&grant, who.renewal()?.with_checkpoint(saved.clone())).await?.renewed()?;
        same("sequence", renewed.sequence, sequence)?;
        same("the stored one", desk.lookup().await?.pending()?.checkpoint, Some(saved))?;
    }
    Ok(())
}

async fn an_older_checkpoint_changes_nothing(s: Stage) -> Told {
    const LARGE: u64 = 1 << 32;
    for (stored, lates) in [(5, [1, 4, 5]), (LARGE, [5, LARGE - 1, LARGE])] {
        let (desk, who) = (s.slot()?, s.caller());
        let grant = desk.reserve(&who).await?.granted()?;
        let saved = checkpoint(stored, "the last page")?;
        desk.renew(&grant, who.renewal()?.with_checkpoint(saved.clone())).await?.renewed()?;
        for sequence in lates {
            let late = who.renewal()?.with_checkpoint(checkpoint(sequence, "delayed, or otherwise")?);
            same("sequence", desk.renew(&grant, late).await?.renewed()?.sequence, stored)?;
            same("the stored one", desk.lookup().await?.pending()?.checkpoint, Some(saved.clone()))?;
        }
    }
    Ok(())
}

async fn a_renewal_without_a_checkpoint_keeps_the_stored_one(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    let saved = checkpoint(2, "page 2")?;
    desk.renew(&grant, who.renewal()?.with_checkpoint(saved.clone())).await?.renewed()?;
    same("sequence", desk.renew(&grant, who.renewal()?).await?.renewed()?.sequence, 2)?;
    same("the stored one", desk.lookup().await?.pending()?.checkpoint, Some(saved))
}

async fn checkpoints_go_on_from_the_inherited_one(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief());
    let first = desk.reserve(&who).await?.granted()?;
    let saved = checkpoint(3, "page 3")?;
    desk.renew(&first, who.renewal()?.with_checkpoint(saved.clone())).await?.renewed()?;
    s.lapse().await;
    let next = s.caller();
    let second = desk.reserve(&next).await?.granted()?;
    let anew = next.renewal()?.with_checkpoint(checkpoint(1, "numbered anew")?);
    same("sequence", desk.renew(&second, anew).await?.renewed()?.sequence, 3)?;
    same("the stored one", desk.lookup().await?.pending()?.checkpoint, Some(saved.clone()))?;
    let onward = saved.next("page 4")?;
    let renewed = desk.renew(&second, next.renewal()?.with_checkpoint(onward.clone())).await?.renewed()?;
    same("sequence", renewed.sequence, 4)?;
    same("the stored one", desk.lookup().await?.pending()?.checkpoint, Some(onward))
}

async fn a_renewal_after_completion_hears_already_stored(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.complete(&grant, response("paid")).await?.stored()?;
    let before = desk.record().await?;
    desk.renew(&grant, extend(YEAR)?.with_checkpoint(checkpoint(9, "late")?)).await?.already_stored()?;
    desk.hand_over(&grant).await?.already_stored()?;
    same("the record", desk.record().await?, before)
}

async fn a_renewal_is_lost_on_an_unknown_slot(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let elsewhere = s.slot()?.reserve(&who).await?.granted()?;
    desk.renew(&elsewhere, who.renewal()?).await?.lost(Loss::Gone)?;
    desk.lookup().await?.absent()
}

async fn a_renewal_is_lost_after_a_takeover(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief());
    let old = desk.reserve(&who).await?.granted()?;
    s.lapse().await;
    desk.reserve(&who.other()).await?.granted()?;
    let before = desk.record().await?;
    desk.renew(&old, extend(YEAR)?.with_checkpoint(checkpoint(9, "late")?)).await?.lost(Loss::TakenOver)?;
    desk.hand_over(&old).await?.lost(Loss::TakenOver)?;
    same("the record", desk.record().await?, before)
}

async fn a_renewal_is_lost_under_another_fence_or_token(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    let before = desk.record().await?;
    let late = extend(YEAR)?.with_checkpoint(checkpoint(9, "late")?);
    let fence = grant.fence.get();
    for other in
        [under_fence(&grant, fence + 1), under_fence(&grant, fence - 1), under_token(&grant, Token::fresh())]
    {
        desk.renew(&other, late.clone()).await?.lost(Loss::TakenOver)?;
        desk.hand_over(&other).await?.lost(Loss::TakenOver)?;
    }
    same("the record", desk.record().await?, before)
}

async fn a_renewal_is_lost_after_a_release(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.release(&grant).await?.released()?;
    desk.renew(&grant, who.renewal()?).await?.lost(Loss::Gone)?;
    desk.lookup().await?.absent()?;
    desk.reserve(&who.other()).await?.granted()?;
    desk.renew(&grant, who.renewal()?).await?.lost(Loss::TakenOver)
}

async fn a_renewal_is_lost_after_the_record_ended(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.fleeting());
    let grant = desk.reserve(&who).await?.granted()?;
    s.expire().await;
    desk.renew(&grant, extend(HOUR)?).await?.lost(Loss::Gone)?;
    desk.lookup().await?.absent()
}

async fn a_renewal_is_lost_after_somebody_elses_answer(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief());
    let old = desk.reserve(&who).await?.granted()?;
    s.lapse().await;
    let new = desk.reserve(&s.caller()).await?.granted()?;
    desk.complete(&new, response("paid")).await?.stored()?;
    desk.renew(&old, who.renewal()?).await?.lost(Loss::TakenOver)
}

async fn handing_over_lapses_at_once(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let first = desk.reserve(&who).await?.granted()?;
    let renewed = desk.hand_over(&first).await?.renewed()?;
    same("lease left", renewed.lease_left, Duration::ZERO)?;
    let seen = desk.lookup().await?.pending()?;
    same("lease left", seen.lease_left, None)?;
    same("attempt", seen.attempt, 1)?;
    same("begun", seen.begun, false)?;
    let second = desk.reserve(&who.other()).await?.granted()?;
    same("attempt", second.attempt, 2)?;
    holds(format!("{:?} is above {:?}", second.fence, first.fence), second.fence > first.fence)
}

async fn handing_over_passes_on_the_checkpoint(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let first = desk.reserve(&who).await?.granted()?;
    let saved = checkpoint(2, "page 2")?;
    let over = Renewal::hand_over().with_checkpoint(saved.clone());
    same("sequence", desk.renew(&first, over.clone()).await?.renewed()?.sequence, 2)?;
    // Once more, and an older one, late.
    same("sequence", desk.renew(&first, over).await?.renewed()?.sequence, 2)?;
    let older = Renewal::hand_over().with_checkpoint(checkpoint(1, "page 1")?);
    same("sequence", desk.renew(&first, older).await?.renewed()?.sequence, 2)?;
    same("checkpoint", desk.reserve(&who.other()).await?.granted()?.checkpoint, Some(saved))
}

async fn handing_over_keeps_the_request(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    let before = desk.lookup().await?.pending()?;
    desk.hand_over(&grant).await?.renewed()?;
    desk.reserve(&who.other().meaning_otherwise()).await?.conflicts()?;
    let after = desk.lookup().await?.pending()?;
    same("expires_at", after.expires_at, before.expires_at)?;
    same("fence", after.fence, before.fence)
}

async fn a_hand_over_outlives_a_step_back_of_the_clock(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let first = desk.reserve(&who).await?.granted()?;
    desk.hand_over(&first).await?.renewed()?;
    s.rewind(HOUR)?;
    same("lease left", desk.lookup().await?.pending()?.lease_left, None)?;
    let second = desk.reserve(&who.other()).await?.granted()?;
    same("attempt", second.attempt, 2)?;
    holds(format!("{:?} is above {:?}", second.fence, first.fence), second.fence > first.fence)
}

async fn a_holder_that_handed_over_may_come_back(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.hand_over(&grant).await?.renewed()?;
    let left = desk.renew(&grant, extend(10 * MINUTE)?).await?.renewed()?.lease_left;
    holds(format!("{left:?} of 10 min is left"), left <= 10 * MINUTE && left > 9 * MINUTE)?;
    desk.reserve(&who.other()).await?.in_flight().map(drop)
}

async fn a_holder_that_handed_over_may_complete(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.hand_over(&grant).await?.renewed()?;
    desk.complete(&grant, response("paid after all")).await?.stored()?;
    same("response", desk.reserve(&who.other()).await?.replayed()?.response, response("paid after all"))
}

async fn a_hand_over_by_nobody_changes_nothing(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.hand_over(&under_token(&grant, Token::fresh())).await?.lost(Loss::TakenOver)?;
    desk.reserve(&who.other()).await?.in_flight()?;
    desk.complete(&grant, response("paid")).await?.stored()?;
    desk.hand_over(&grant).await?.already_stored()?;
    desk.reserve(&who.other()).await?.replayed().map(drop)
}
