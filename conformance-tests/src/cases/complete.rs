//! complete: C1 to C5.

use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Table, ["C1"], a_holder_completes),
        case!(Table, ["C1"], completing_in_the_lease_keeps_the_records_end),
        case!(Table, ["C1"], an_answer_is_kept_for_the_retention_at_least, needs ShiftTime),
        case!(Table, ["C1", "R1"], without_retention_an_answer_ends_with_the_lease, needs ShiftTime),
        case!(Table, ["C2"], a_lapsed_holder_completes_if_nobody_took_over),
        case!(Table, ["C2"], a_late_answer_is_kept_for_its_retention, needs ShiftTime),
        case!(Table, ["C2"], a_late_answer_never_brings_the_end_nearer),
        case!(Table, ["C3", "S3"], the_first_answer_stays),
        case!(Table, ["C3", "S6"], a_repeated_complete_brings_back_the_stored_answer, needs ShiftTime),
        case!(Table, ["C4", "S2"], complete_is_lost_under_another_fence),
        case!(Table, ["C4"], complete_is_lost_under_another_token),
        case!(Table, ["C4", "S2"], complete_is_lost_after_a_takeover),
        case!(Table, ["C4", "S3"], complete_is_lost_after_the_successors_answer),
        case!(Table, ["C4"], complete_is_lost_on_an_unknown_slot),
        case!(Table, ["C4"], complete_is_lost_after_a_release),
        case!(Table, ["C4"], complete_is_lost_after_the_record_ended),
        case!(Table, ["C5"], an_answer_may_be_kept_shorter, needs ShiftTime),
        case!(Table, ["C5"], an_answer_may_be_kept_longer, needs ShiftTime),
        case!(Table, ["C5", "C2"], a_late_answer_may_be_kept_shorter, needs ShiftTime),
        case!(Table, ["C3", "C5"], a_repeated_complete_doesnt_change_how_long_it_is_kept),
    ]
}

/// A slot whose holder fell silent and was taken over: the old grant and the new one.
async fn taken_over(s: &Stage) -> Result<(Desk, Grant, Grant), Failure> {
    let desk = s.slot()?;
    let old = desk.reserve(&s.brief()).await?.granted()?;
    s.lapse().await;
    let new = desk.reserve(&s.caller()).await?.granted()?;
    Ok((desk, old, new))
}

async fn a_holder_completes(s: Stage) -> Told {
    for who in [s.caller(), s.caller().refusing()] {
        let desk = s.slot()?;
        let grant = desk.reserve(&who).await?.granted()?;
        let created_at = desk.lookup().await?.pending()?.created_at;
        desk.complete(&grant, response("paid")).await?.stored()?;
        let kept = desk.lookup().await?.completed()?;
        same("response", kept.response, response("paid"))?;
        same("fingerprint", kept.fingerprint, who.fingerprint())?;
        same("fence", kept.fence, grant.fence)?;
        same("attempt", kept.attempt, 1)?;
        same("created_at", kept.created_at, created_at)?;
        let (from, done) = (kept.created_at, kept.completed_at);
        holds(
            format!("created {from:?} <= completed {done:?}, a moment later"),
            from <= done && done < from + MINUTE,
        )?;
    }
    Ok(())
}

async fn completing_in_the_lease_keeps_the_records_end(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.renew(&grant, extend(HOUR)?).await?.renewed()?;
    let before = desk.lookup().await?.pending()?.expires_at;
    desk.complete(&grant, response("paid")).await?.stored()?;
    same("expires_at", desk.lookup().await?.completed()?.expires_at, before)
}

async fn an_answer_is_kept_for_the_retention_at_least(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(10 * MINUTE).retention(HOUR));
    let grant = desk.reserve(&who).await?.granted()?;
    s.advance(5 * MINUTE)?;
    desk.complete(&grant, response("paid")).await?.stored()?;
    s.advance(HOUR)?;
    desk.reserve(&who.other()).await?.replayed()?;
    s.advance(10 * MINUTE)?;
    desk.lookup().await?.absent()
}

async fn without_retention_an_answer_ends_with_the_lease(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(10 * MINUTE).retention(Duration::ZERO));
    let grant = desk.reserve(&who).await?.granted()?;
    let end = desk.lookup().await?.pending()?;
    same("expires_at", end.expires_at, end.lease_expires_at)?;
    desk.complete(&grant, response("paid")).await?.stored()?;
    s.advance(5 * MINUTE)?;
    desk.reserve(&who.other()).await?.replayed()?;
    s.advance(6 * MINUTE)?;
    let second = desk.reserve(&who.other()).await?.granted()?;
    same("attempt", second.attempt, 1)?;
    // And a holder that fell silent leaves nothing: its lease's end is the record's.
    s.advance(11 * MINUTE)?;
    desk.complete(&second, response("late")).await?.lost(Loss::Gone)?;
    same("attempt", desk.reserve(&who.other()).await?.granted()?.attempt, 1)
}

async fn a_lapsed_holder_completes_if_nobody_took_over(s: Stage) -> Told {
    for who in [s.brief(), s.brief().refusing()] {
        let desk = s.slot()?;
        let grant = desk.reserve(&who).await?.granted()?;
        s.lapse().await;
        desk.complete(&grant, response("paid, late")).await?.stored()?;
        same("response", desk.reserve(&who.other()).await?.replayed()?.response, response("paid, late"))?;
    }
    Ok(())
}

async fn a_late_answer_is_kept_for_its_retention(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(MINUTE).retention(HOUR));
    let grant = desk.reserve(&who).await?.granted()?;
    s.advance(50 * MINUTE)?;
    desk.complete(&grant, response("paid, late")).await?.stored()?;
    let kept = desk.lookup().await?.completed()?;
    same("expires_at after completed_at", kept.expires_at - kept.completed_at, HOUR)?;
    s.advance(50 * MINUTE)?;
    desk.reserve(&who.other()).await?.replayed()?;
    s.advance(20 * MINUTE)?;
    desk.lookup().await?.absent()
}

async fn a_late_answer_never_brings_the_end_nearer(s: Stage) -> Told {
    // Handed over, so lapsed, hours before the lease would have ended.
    let (desk, who) = (s.slot()?, s.caller().lease(10 * HOUR).retention(HOUR));
    let grant = desk.reserve(&who).await?.granted()?;
    desk.hand_over(&grant).await?.renewed()?;
    let before = desk.lookup().await?.pending()?.expires_at;
    desk.complete(&grant, response("paid after all")).await?.stored()?;
    same("expires_at", desk.lookup().await?.completed()?.expires_at, before)
}

async fn the_first_answer_stays(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.complete(&grant, response("first")).await?.stored()?;
    let kept = desk.lookup().await?.completed()?;
    let other = desk.complete(&grant, response("second")).await?.already_stored()?;
    same("the record that AlreadyStored brings", other, kept.clone())?;
    same("the replay", desk.reserve(&who.other()).await?.replayed()?, kept)
}

async fn a_repeated_complete_brings_back_the_stored_answer(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.complete(&grant, response("paid")).await?.stored()?;
    let kept = desk.lookup().await?.completed()?;
    same("the record", desk.complete(&grant, response("paid")).await?.already_stored()?, kept.clone())?;
    // Long after its lease, too.
    s.advance(HOUR)?;
    same("the record", desk.complete(&grant, response("paid")).await?.already_stored()?, kept)
}

async fn complete_is_lost_under_another_fence(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    let others = [under_fence(&grant, grant.fence.get() + 1), under_fence(&grant, grant.fence.get() - 1)];
    let before = desk.record().await?;
    for other in &others {
        desk.complete(other, response("stolen")).await?.lost(Loss::TakenOver)?;
    }
    same("the record", desk.record().await?, before)?;
    desk.complete(&grant, response("paid")).await?.stored()?;
    for other in &others {
        desk.complete(other, response("stolen")).await?.lost(Loss::TakenOver)?;
    }
    same("response", desk.reserve(&who.other()).await?.replayed()?.response, response("paid"))
}

async fn complete_is_lost_under_another_token(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    let other = under_token(&grant, Token::fresh());
    let before = desk.record().await?;
    desk.complete(&other, response("stolen")).await?.lost(Loss::TakenOver)?;
    same("the record", desk.record().await?, before)?;
    desk.complete(&grant, response("paid")).await?.stored()?;
    desk.complete(&other, response("stolen")).await?.lost(Loss::TakenOver)?;
    same("response", desk.reserve(&who.other()).await?.replayed()?.response, response("paid"))
}

async fn complete_is_lost_after_a_takeover(s: Stage) -> Told {
    let (desk, old, new) = taken_over(&s).await?;
    let before = desk.record().await?;
    desk.complete(&old, response("the old holder's")).await?.lost(Loss::TakenOver)?;
    same("the record", desk.record().await?, before)?;
    desk.complete(&new, response("the new holder's")).await?.stored()
}

async fn complete_is_lost_after_the_successors_answer(s: Stage) -> Told {
    let (desk, old, new) = taken_over(&s).await?;
    desk.complete(&new, response("the new holder's")).await?.stored()?;
    let before = desk.record().await?;
    desk.complete(&old, response("the old holder's")).await?.lost(Loss::TakenOver)?;
    same("the record", desk.record().await?, before)?;
    desk.complete(&new, response("again")).await?.already_stored().map(drop)
}

async fn complete_is_lost_on_an_unknown_slot(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let elsewhere = s.slot()?.reserve(&who).await?.granted()?;
    desk.complete(&elsewhere, response("paid")).await?.lost(Loss::Gone)?;
    desk.lookup().await?.absent()?;
    desk.reserve(&who.other()).await?.granted().map(drop)
}

async fn complete_is_lost_after_a_release(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let first = desk.reserve(&who).await?.granted()?;
    desk.release(&first).await?.released()?;
    desk.complete(&first, response("paid")).await?.lost(Loss::Gone)?;
    desk.lookup().await?.absent()?;
    let second = desk.reserve(&who.other()).await?.granted()?;
    desk.complete(&first, response("paid")).await?.lost(Loss::TakenOver)?;
    desk.complete(&second, response("paid by the second")).await?.stored()
}

async fn complete_is_lost_after_the_record_ended(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.fleeting());
    let first = desk.reserve(&who).await?.granted()?;
    s.expire().await;
    desk.complete(&first, response("far too late")).await?.lost(Loss::Gone)?;
    desk.lookup().await?.absent()?;
    let second = desk.reserve(&s.caller()).await?.granted()?;
    desk.complete(&first, response("far too late")).await?.lost(Loss::TakenOver)?;
    desk.complete(&second, response("paid")).await?.stored()
}

async fn an_answer_may_be_kept_shorter(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().retention(10 * HOUR));
    let grant = desk.reserve(&who).await?.granted()?;
    let failed = Completion::new(response("503")).keep_for(5 * MINUTE)?;
    desk.complete_with(&grant, failed).await?.stored()?;
    let kept = desk.lookup().await?.completed()?;
    same("expires_at after completed_at", kept.expires_at - kept.completed_at, 5 * MINUTE)?;
    s.advance(4 * MINUTE)?;
    desk.reserve(&who.other()).await?.replayed()?;
    s.advance(2 * MINUTE)?;
    same("attempt", desk.reserve(&who.other()).await?.granted()?.attempt, 1)
}

async fn an_answer_may_be_kept_longer(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().retention(Duration::ZERO));
    let grant = desk.reserve(&who).await?.granted()?;
    let long = Completion::new(response("paid")).keep_for(YEAR)?;
    desk.complete_with(&grant, long).await?.stored()?;
    s.advance(364 * DAY)?;
    desk.reserve(&who.other()).await?.replayed()?;
    s.advance(2 * DAY)?;
    desk.lookup().await?.absent()
}

async fn a_late_answer_may_be_kept_shorter(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(MINUTE).retention(10 * HOUR));
    let grant = desk.reserve(&who).await?.granted()?;
    s.advance(HOUR)?;
    desk.complete_with(&grant, Completion::new(response("503")).keep_for(5 * MINUTE)?).await?.stored()?;
    s.advance(4 * MINUTE)?;
    desk.reserve(&who.other()).await?.replayed()?;
    s.advance(2 * MINUTE)?;
    desk.lookup().await?.absent()
}

async fn a_repeated_complete_doesnt_change_how_long_it_is_kept(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.complete(&grant, response("paid")).await?.stored()?;
    let before = desk.record().await?;
    for retention in [SECOND, YEAR] {
        let again = Completion::new(response("paid")).keep_for(retention)?;
        desk.complete_with(&grant, again).await?.already_stored()?;
    }
    same("the record", desk.record().await?, before)
}
