//! At most once: records of `Policy::Refuse`, before and after their holder began.

use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Table, ["R5"], a_refuse_holder_that_had_not_begun_is_taken_over_by_either_policy),
        case!(Table, ["R5", "R1"], a_record_keeps_the_policy_of_its_first_grant),
        case!(Table, ["R5"], takeover_under_refuse_keeps_the_larger_retention, needs ShiftTime),
        case!(Table, ["R6", "W1"], a_refuse_holder_that_began_leaves_an_unknown),
        case!(Table, ["R6", "W1"], a_take_over_caller_that_began_on_a_refuse_record_leaves_an_unknown),
        case!(Table, ["R3"], a_repeated_reserve_neither_begins_nor_unbegins),
        case!(Table, ["W1"], an_unknown_never_expires, needs ShiftTime),
        case!(Table, ["R1"], a_refuse_record_that_had_not_begun_expires),
        case!(Table, ["C1"], an_at_most_once_answer_expires_after_all, needs ShiftTime),
        case!(Table, ["C2"], an_at_most_once_answer_given_years_late_is_kept_for_its_retention, needs ShiftTime),
        case!(Table, ["C5"], an_at_most_once_answer_may_be_kept_shorter, needs ShiftTime),
        case!(Table, ["L1"], a_released_refuse_record_expires_after_all, needs ShiftTime),
        case!(Table, ["L1", "R11"], a_refuse_record_released_years_late_is_remembered, needs ShiftTime),
        case!(Table, ["L1"], a_later_attempt_under_refuse_releases_for_good),
        case!(Table, ["W4", "R6"], a_begun_refuse_holder_hands_over_an_unknown),
        case!(Table, ["W4", "L1"], a_refuse_holder_that_hands_over_unbegun_frees_the_slot),
        case!(Table, ["W4", "W3"], a_late_renewal_after_an_unbegun_hand_over_blocks_nobody),
    ]
}

async fn a_refuse_holder_that_had_not_begun_is_taken_over_by_either_policy(s: Stage) -> Told {
    for next in [s.brief(), s.brief().refusing()] {
        let desk = s.slot()?;
        let first = desk.reserve(&s.brief().refusing()).await?.granted()?;
        s.lapse().await;
        let second = desk.reserve(&next).await?.granted()?;
        same("attempt", second.attempt, 2)?;
        holds(format!("{:?} is above {:?}", second.fence, first.fence), second.fence > first.fence)?;
        // The second one didn't begin either.
        s.lapse().await;
        same("attempt", desk.reserve(&next.other()).await?.granted()?.attempt, 3)?;
    }
    Ok(())
}

async fn a_record_keeps_the_policy_of_its_first_grant(s: Stage) -> Told {
    let desk = s.slot()?;
    desk.reserve(&s.brief().refusing()).await?.granted()?;
    s.lapse().await;
    let second = desk.reserve(&s.caller()).await?.granted()?;
    same("the policy in the grant", second.policy, Policy::Refuse)?;
    same("the policy in the record", desk.lookup().await?.pending()?.policy, Policy::Refuse)?;

    let (desk, who) = (s.slot()?, s.caller());
    desk.reserve(&who).await?.granted()?;
    let again = desk.reserve(&who.refusing()).await?.granted()?;
    same("the policy in the grant", again.policy, Policy::TakeOver)?;
    same("the policy in the record", desk.lookup().await?.pending()?.policy, Policy::TakeOver)
}

async fn takeover_under_refuse_keeps_the_larger_retention(s: Stage) -> Told {
    for (first, second) in [(10 * HOUR, HOUR), (HOUR, 10 * HOUR)] {
        let (desk, who) = (s.slot()?, s.caller().refusing().lease(MINUTE));
        desk.reserve(&who.retention(first)).await?.granted()?;
        s.advance(2 * MINUTE)?;
        desk.reserve(&who.other().retention(second)).await?.granted()?;
        let seen = desk.lookup().await?.pending()?;
        same("expires_at after the lease's end", seen.expires_at - seen.lease_expires_at, 10 * HOUR)?;
    }
    Ok(())
}

async fn a_refuse_holder_that_began_leaves_an_unknown(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief().refusing());
    let first = desk.reserve(&who).await?.granted()?;
    let saved = checkpoint(1, "card charged?")?;
    desk.renew(&first, who.renewal()?.with_checkpoint(saved.clone())).await?.renewed()?;
    s.lapse().await;
    let before = desk.record().await?;
    for other in [s.brief(), s.brief().refusing()] {
        let lapsed = desk.reserve(&other).await?.indeterminate()?;
        same("fence", lapsed.fence, first.fence)?;
        same("attempt", lapsed.attempt, 1)?;
        same("checkpoint", lapsed.checkpoint, Some(saved.clone()))?;
        holds("the lease ran out some time ago", lapsed.lapsed_for.is_some())?;
    }
    same("the record", desk.record().await?, before)?;
    // It alone may still settle it.
    desk.complete(&first, response("charged")).await?.stored()
}

async fn a_take_over_caller_that_began_on_a_refuse_record_leaves_an_unknown(s: Stage) -> Told {
    let desk = s.slot()?;
    desk.reserve(&s.brief().refusing()).await?.granted()?;
    s.lapse().await;
    let who = s.brief();
    let second = desk.reserve(&who).await?.granted()?;
    desk.renew(&second, who.renewal()?).await?.renewed()?;
    s.lapse().await;
    for other in [s.brief(), s.brief().refusing()] {
        same("attempt", desk.reserve(&other).await?.indeterminate()?.attempt, 2)?;
    }
    Ok(())
}

async fn a_repeated_reserve_neither_begins_nor_unbegins(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief().refusing());
    let first = desk.reserve(&who).await?.granted()?;
    desk.reserve(&who).await?.granted()?;
    same("begun", desk.lookup().await?.pending()?.begun, false)?;
    desk.renew(&first, who.renewal()?).await?.renewed()?;
    desk.reserve(&who).await?.granted()?;
    let seen = desk.lookup().await?.pending()?;
    same("begun", seen.begun, true)?;
    same("expires_at", seen.expires_at, Timestamp::NEVER)?;
    s.lapse().await;
    desk.reserve(&who.other()).await?.indeterminate().map(drop)
}

async fn an_unknown_never_expires(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief().refusing());
    let first = desk.reserve(&who).await?.granted()?;
    desk.renew(&first, who.renewal()?).await?.renewed()?;
    same("expires_at", desk.lookup().await?.pending()?.expires_at, Timestamp::NEVER)?;
    s.advance(20 * YEAR)?;
    s.collect_all().await?;
    for other in [s.brief(), s.brief().refusing()] {
        same("fence", desk.reserve(&other).await?.indeterminate()?.fence, first.fence)?;
    }
    Ok(())
}

async fn a_refuse_record_that_had_not_begun_expires(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.fleeting().refusing());
    desk.reserve(&who).await?.granted()?;
    s.expire().await;
    desk.lookup().await?.absent()?;
    let next = desk.reserve(&s.caller()).await?.granted()?;
    same("attempt", next.attempt, 1)?;
    same("policy", next.policy, Policy::TakeOver)
}

async fn an_at_most_once_answer_expires_after_all(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().refusing().lease(10 * MINUTE).retention(HOUR));
    let grant = desk.reserve(&who).await?.granted()?;
    desk.renew(&grant, who.renewal()?).await?.renewed()?;
    let lease_end = desk.lookup().await?.pending()?.lease_expires_at;
    desk.complete(&grant, response("charged")).await?.stored()?;
    let kept = desk.lookup().await?.completed()?;
    same("expires_at after the lease's end", kept.expires_at - lease_end, HOUR)?;
    s.advance(65 * MINUTE)?;
    desk.reserve(&who.other()).await?.replayed()?;
    s.advance(10 * MINUTE)?;
    same("attempt", desk.reserve(&who.other()).await?.granted()?.attempt, 1)
}

async fn an_at_most_once_answer_given_years_late_is_kept_for_its_retention(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().refusing().lease(MINUTE).retention(HOUR));
    let grant = desk.reserve(&who).await?.granted()?;
    desk.renew(&grant, who.renewal()?).await?.renewed()?;
    s.advance(3 * YEAR)?;
    desk.complete(&grant, response("charged")).await?.stored()?;
    let kept = desk.lookup().await?.completed()?;
    same("expires_at after completed_at", kept.expires_at - kept.completed_at, HOUR)?;
    s.advance(50 * MINUTE)?;
    desk.reserve(&who.other()).await?.replayed()?;
    s.advance(20 * MINUTE)?;
    desk.lookup().await?.absent()
}

async fn an_at_most_once_answer_may_be_kept_shorter(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().refusing().retention(10 * HOUR));
    let grant = desk.reserve(&who).await?.granted()?;
    desk.renew(&grant, who.renewal()?).await?.renewed()?;
    desk.complete_with(&grant, Completion::new(response("503")).keep_for(MINUTE)?).await?.stored()?;
    desk.reserve(&who.other()).await?.replayed()?;
    s.advance(2 * MINUTE)?;
    desk.lookup().await?.absent()
}

async fn a_released_refuse_record_expires_after_all(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().refusing().lease(MINUTE).retention(HOUR));
    let grant = desk.reserve(&who).await?.granted()?;
    desk.renew(&grant, who.renewal()?).await?.renewed()?;
    desk.release(&grant).await?.released()?;
    s.advance(30 * MINUTE)?;
    refused(desk.try_reserve(&who).await, ErrorKind::TokenSpent)?;
    s.advance(HOUR)?;
    // The memory of the token ends with the record.
    desk.reserve(&who).await?.granted().map(drop)
}

async fn a_refuse_record_released_years_late_is_remembered(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().refusing().lease(MINUTE).retention(HOUR));
    let grant = desk.reserve(&who).await?.granted()?;
    desk.renew(&grant, who.renewal()?).await?.renewed()?;
    s.advance(3 * YEAR)?;
    desk.release(&grant).await?.released()?;
    s.advance(50 * MINUTE)?;
    refused(desk.try_reserve(&who).await, ErrorKind::TokenSpent)?;
    s.advance(20 * MINUTE)?;
    desk.reserve(&who).await?.granted().map(drop)
}

async fn a_later_attempt_under_refuse_releases_for_good(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief().refusing());
    desk.reserve(&who).await?.granted()?;
    s.lapse().await;
    let next = s.caller().refusing();
    let second = desk.reserve(&next).await?.granted()?;
    desk.renew(&second, next.renewal()?).await?.renewed()?;
    desk.release(&second).await?.released()?;
    desk.lookup().await?.absent()?;
    same("attempt", desk.reserve(&who.other()).await?.granted()?.attempt, 1)
}

async fn a_begun_refuse_holder_hands_over_an_unknown(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().refusing());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.renew(&grant, who.renewal()?).await?.renewed()?;
    let saved = checkpoint(1, "half done")?;
    desk.renew(&grant, Renewal::hand_over().with_checkpoint(saved.clone())).await?.renewed()?;
    for other in [s.caller(), s.caller().refusing()] {
        let lapsed = desk.reserve(&other).await?.indeterminate()?;
        same("checkpoint", lapsed.checkpoint, Some(saved.clone()))?;
        same("lapsed_for", lapsed.lapsed_for, None)?;
    }
    desk.complete(&grant, response("whole after all")).await?.stored()
}

async fn a_refuse_holder_that_hands_over_unbegun_frees_the_slot(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().refusing());
    let grant = desk.reserve(&who).await?.granted()?;
    let renewed = desk.hand_over(&grant).await?.renewed()?;
    same("lease left", renewed.lease_left, Duration::ZERO)?;
    desk.lookup().await?.absent()?;
    refused(desk.try_reserve(&who).await, ErrorKind::TokenSpent)?;
    let next = desk.reserve(&who.other().meaning_otherwise()).await?.granted()?;
    same("attempt", next.attempt, 1)?;
    holds(format!("{:?} is above {:?}", next.fence, grant.fence), next.fence > grant.fence)
}

async fn a_late_renewal_after_an_unbegun_hand_over_blocks_nobody(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().refusing());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.hand_over(&grant).await?.renewed()?;
    desk.renew(&grant, who.renewal()?).await?.lost(Loss::Gone)?;
    desk.release(&grant).await?.released()?;
    same("attempt", desk.reserve(&who.other()).await?.granted()?.attempt, 1)
}
