//! reserve_or_fetch where nobody has lapsed: R1 to R4, R9 to R11.

use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Table, ["R1"], an_unknown_slot_is_reserved),
        case!(Table, ["R1"], a_first_reservation_lasts_for_lease_and_retention),
        case!(Table, ["R1"], a_reservation_shows_what_was_asked_for),
        case!(Table, ["R1", "L1"], a_released_slot_is_anybodys_for_any_request),
        case!(Table, ["R2"], another_request_under_a_held_key_conflicts),
        case!(Table, ["R2"], another_request_conflicts_even_with_the_holders_token),
        case!(Table, ["R2"], another_request_conflicts_when_the_holder_has_lapsed),
        case!(Table, ["R2"], another_request_conflicts_with_a_finished_record),
        case!(Table, ["R3", "S6"], a_reserve_repeated_with_its_token_gets_the_same_grant),
        case!(Table, ["R3"], a_lapsed_holder_reserves_again_with_its_token),
        case!(Table, ["R3"], a_repeated_reserve_brings_back_the_checkpoint),
        case!(Table, ["R3"], a_repeated_reserve_never_shortens_the_lease, needs ShiftTime),
        case!(Table, ["R3"], a_repeated_reserve_extends_the_lease, needs ShiftTime),
        case!(Table, ["R3"], a_repeated_reserve_raises_the_end_by_the_stored_retention, needs ShiftTime),
        case!(Table, ["R4"], a_second_caller_hears_in_flight),
        case!(Table, ["R4"], retry_after_is_the_rest_of_the_lease, needs ShiftTime),
        case!(Table, ["R4"], in_flight_changes_nothing),
        case!(Table, ["R9", "S3"], a_completed_slot_replays_its_answer),
        case!(Table, ["R9"], the_holder_itself_hears_the_replay),
        case!(Table, ["R9", "S3"], a_replay_changes_nothing, needs ShiftTime),
        case!(Table, ["R9"], a_replay_is_for_callers_of_either_policy),
        case!(Table, ["R10"], a_lease_counts_from_the_write),
        case!(Table, ["R11", "S7"], a_released_token_is_spent),
        case!(Table, ["R11"], a_spent_token_is_spent_for_every_request),
        case!(Table, ["R11", "R4"], a_spent_token_is_nobody_once_the_slot_is_held_again),
    ]
}

async fn an_unknown_slot_is_reserved(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    same("attempt", grant.attempt, 1)?;
    same("token", grant.token == who.token, true)?;
    same("checkpoint", grant.checkpoint, None)?;
    same("policy", grant.policy, Policy::TakeOver)?;
    let at_most_once = s.slot()?.reserve(&s.caller().refusing()).await?.granted()?;
    same("policy", at_most_once.policy, Policy::Refuse)
}

async fn a_first_reservation_lasts_for_lease_and_retention(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(10 * MINUTE).retention(HOUR));
    desk.reserve(&who).await?.granted()?;
    let seen = desk.lookup().await?.pending()?;
    same("expires_at after the lease's end", seen.expires_at - seen.lease_expires_at, HOUR)?;
    let left = seen.lease_left.unwrap_or_default();
    holds(format!("{left:?} of a lease of 10 min is left"), left <= 10 * MINUTE && left > 9 * MINUTE)?;
    let lease = seen.lease_expires_at - seen.created_at;
    holds(format!("{lease:?} is 10 min or hardly more"), lease >= 10 * MINUTE && lease < 11 * MINUTE)
}

async fn a_reservation_shows_what_was_asked_for(s: Stage) -> Told {
    for who in [s.caller(), s.caller().refusing()] {
        let desk = s.slot()?;
        let grant = desk.reserve(&who).await?.granted()?;
        let seen = desk.lookup().await?.pending()?;
        same("fingerprint", seen.fingerprint, who.fingerprint())?;
        same("fence", seen.fence, grant.fence)?;
        same("attempt", seen.attempt, 1)?;
        same("policy", seen.policy, grant.policy)?;
        same("begun", seen.begun, false)?;
        same("checkpoint", seen.checkpoint, None)?;
    }
    Ok(())
}

async fn a_released_slot_is_anybodys_for_any_request(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let first = desk.reserve(&who).await?.granted()?;
    desk.renew(&first, who.renewal()?.with_checkpoint(checkpoint(1, "page 1")?)).await?.renewed()?;
    desk.release(&first).await?.released()?;
    let next = who.other().meaning_otherwise().refusing();
    let second = desk.reserve(&next).await?.granted()?;
    same("attempt", second.attempt, 1)?;
    same("checkpoint", second.checkpoint, None)?;
    same("policy", second.policy, Policy::Refuse)?;
    let seen = desk.lookup().await?.pending()?;
    same("fingerprint", seen.fingerprint, next.fingerprint())?;
    same("begun", seen.begun, false)
}

async fn another_request_under_a_held_key_conflicts(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    let before = desk.record().await?;
    desk.reserve(&who.other().meaning_otherwise()).await?.conflicts()?;
    same("the record", desk.record().await?, before)?;
    desk.complete(&grant, response("paid")).await?.stored()
}

async fn another_request_conflicts_even_with_the_holders_token(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    desk.reserve(&who).await?.granted()?;
    let before = desk.record().await?;
    desk.reserve(&who.meaning_otherwise()).await?.conflicts()?;
    same("the record", desk.record().await?, before)
}

async fn another_request_conflicts_when_the_holder_has_lapsed(s: Stage) -> Told {
    for who in [s.brief(), s.brief().refusing()] {
        let desk = s.slot()?;
        let grant = desk.reserve(&who).await?.granted()?;
        s.lapse().await;
        let before = desk.record().await?;
        desk.reserve(&who.other().meaning_otherwise()).await?.conflicts()?;
        desk.reserve(&who.meaning_otherwise()).await?.conflicts()?;
        same("the record", desk.record().await?, before)?;
        desk.complete(&grant, response("paid, late")).await?.stored()?;
    }
    Ok(())
}

async fn another_request_conflicts_with_a_finished_record(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.complete(&grant, response("paid")).await?.stored()?;
    let before = desk.record().await?;
    desk.reserve(&who.other().meaning_otherwise()).await?.conflicts()?;
    desk.reserve(&who.meaning_otherwise()).await?.conflicts()?;
    same("the record", desk.record().await?, before)?;
    // The same request is not called a conflict afterwards.
    desk.reserve(&who.other()).await?.replayed().map(drop)
}

async fn a_reserve_repeated_with_its_token_gets_the_same_grant(s: Stage) -> Told {
    for who in [s.caller(), s.caller().refusing()] {
        let desk = s.slot()?;
        let first = desk.reserve(&who).await?.granted()?;
        let again = desk.reserve(&who).await?.granted()?;
        same("the grant", again, first.clone())?;
        same("begun", desk.lookup().await?.pending()?.begun, false)?;
        desk.complete(&first, response("paid")).await?.stored()?;
    }
    Ok(())
}

async fn a_lapsed_holder_reserves_again_with_its_token(s: Stage) -> Told {
    for who in [s.brief(), s.brief().refusing()] {
        let desk = s.slot()?;
        let first = desk.reserve(&who).await?.granted()?;
        s.lapse().await;
        let again = desk.reserve(&who.lease(10 * MINUTE)).await?.granted()?;
        same("the grant", again, first)?;
        desk.reserve(&who.other()).await?.in_flight()?;
    }
    Ok(())
}

async fn a_repeated_reserve_brings_back_the_checkpoint(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let first = desk.reserve(&who).await?.granted()?;
    let saved = checkpoint(7, "page 7")?;
    desk.renew(&first, who.renewal()?.with_checkpoint(saved.clone())).await?.renewed()?;
    let again = desk.reserve(&who).await?.granted()?;
    same("checkpoint", again.checkpoint, Some(saved))?;
    same("fence", again.fence, first.fence)?;
    same("begun", desk.lookup().await?.pending()?.begun, true)
}

async fn a_repeated_reserve_never_shortens_the_lease(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(10 * MINUTE));
    desk.reserve(&who).await?.granted()?;
    desk.reserve(&who.lease(MINUTE)).await?.granted()?;
    s.advance(5 * MINUTE)?;
    desk.reserve(&who.other()).await?.in_flight().map(drop)
}

async fn a_repeated_reserve_extends_the_lease(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(10 * MINUTE));
    desk.reserve(&who).await?.granted()?;
    s.advance(8 * MINUTE)?;
    desk.reserve(&who).await?.granted()?;
    s.advance(8 * MINUTE)?;
    desk.reserve(&who.other()).await?.in_flight().map(drop)
}

async fn a_repeated_reserve_raises_the_end_by_the_stored_retention(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(10 * MINUTE).retention(HOUR));
    desk.reserve(&who).await?.granted()?;
    s.advance(5 * MINUTE)?;
    desk.reserve(&who.retention(20 * HOUR)).await?.granted()?;
    let seen = desk.lookup().await?.pending()?;
    same("expires_at after the lease's end", seen.expires_at - seen.lease_expires_at, HOUR)
}

async fn a_second_caller_hears_in_flight(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    desk.reserve(&who).await?.granted()?;
    for other in [who.other(), who.other().refusing()] {
        let retry_after = desk.reserve(&other).await?.in_flight()?;
        let left = desk.lookup().await?.pending()?.lease_left.unwrap_or_default();
        let told =
            format!("retry_after of {retry_after:?} covers the {left:?} that were left a moment later");
        holds(told, retry_after >= left && retry_after <= 10 * MINUTE)?;
    }
    Ok(())
}

async fn retry_after_is_the_rest_of_the_lease(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(10 * MINUTE));
    desk.reserve(&who).await?.granted()?;
    s.advance(7 * MINUTE)?;
    let retry_after = desk.reserve(&who.other()).await?.in_flight()?;
    let told = format!("retry_after of {retry_after:?}, 7 min into a lease of 10");
    holds(told, retry_after <= 3 * MINUTE && retry_after > 2 * MINUTE)
}

async fn in_flight_changes_nothing(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief());
    let grant = desk.reserve(&who).await?.granted()?;
    let before = desk.record().await?;
    let greedy = who.other().lease(HOUR).retention(30 * DAY).refusing();
    // On a clock that can't be moved, the short lease may be over before this call: then it is refused.
    let _either = desk.reserve(&greedy).await?;
    same("the record", desk.record().await?, before)?;
    s.lapse().await;
    let next = desk.reserve(&who.other()).await?.granted()?;
    same("attempt", next.attempt, grant.attempt + 1)
}

async fn a_completed_slot_replays_its_answer(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.complete(&grant, response("paid")).await?.stored()?;
    let replay = desk.reserve(&who.other()).await?.replayed()?;
    same("response", replay.response, response("paid"))?;
    same("fingerprint", replay.fingerprint, who.fingerprint())?;
    same("fence", replay.fence, grant.fence)?;
    same("attempt", replay.attempt, 1)?;
    let (from, done, until) = (replay.created_at, replay.completed_at, replay.expires_at);
    holds(format!("created {from:?} <= completed {done:?} < expires {until:?}"), from <= done && done < until)
}

async fn the_holder_itself_hears_the_replay(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.complete(&grant, response("paid")).await?.stored()?;
    same("response", desk.reserve(&who).await?.replayed()?.response, response("paid"))
}

async fn a_replay_changes_nothing(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.complete(&grant, response("paid")).await?.stored()?;
    let first = desk.reserve(&who.other()).await?.replayed()?;
    s.advance(HOUR)?;
    let greedy = who.other().lease(10 * HOUR).retention(30 * DAY);
    same("the second replay", desk.reserve(&greedy).await?.replayed()?, first.clone())?;
    same("the third replay", desk.reserve(&who.other()).await?.replayed()?, first)
}

async fn a_replay_is_for_callers_of_either_policy(s: Stage) -> Told {
    for who in [s.caller(), s.caller().refusing()] {
        let desk = s.slot()?;
        let grant = desk.reserve(&who).await?.granted()?;
        desk.complete(&grant, response("paid")).await?.stored()?;
        for other in [s.caller(), s.caller().refusing()] {
            same("response", desk.reserve(&other).await?.replayed()?.response, response("paid"))?;
        }
    }
    Ok(())
}

async fn a_lease_counts_from_the_write(s: Stage) -> Told {
    let (before, desk, who) = (s.slot()?, s.slot()?, s.caller().lease(10 * MINUTE));
    before.reserve(&who.other()).await?.granted()?;
    let earlier = before.lookup().await?.pending()?.created_at;
    desk.reserve(&who).await?.granted()?;
    let end = desk.lookup().await?.pending()?.lease_expires_at;
    holds(
        format!("the lease ends at {end:?}, 10 min after {earlier:?} or later"),
        end >= earlier + 10 * MINUTE,
    )
}

async fn a_released_token_is_spent(s: Stage) -> Told {
    for who in [s.caller(), s.caller().refusing()] {
        let desk = s.slot()?;
        let grant = desk.reserve(&who).await?.granted()?;
        desk.release(&grant).await?.released()?;
        refused(desk.try_reserve(&who).await, ErrorKind::TokenSpent)?;
        refused(desk.try_reserve(&who).await, ErrorKind::TokenSpent)?;
        desk.lookup().await?.absent()?;
        desk.reserve(&who.other()).await?.granted()?;
    }
    Ok(())
}

async fn a_spent_token_is_spent_for_every_request(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.release(&grant).await?.released()?;
    refused(desk.try_reserve(&who.meaning_otherwise()).await, ErrorKind::TokenSpent)?;
    // Spent for this slot alone.
    s.slot()?.reserve(&who).await?.granted().map(drop)
}

async fn a_spent_token_is_nobody_once_the_slot_is_held_again(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let first = desk.reserve(&who).await?.granted()?;
    desk.release(&first).await?.released()?;
    let second = desk.reserve(&who.other()).await?.granted()?;
    desk.reserve(&who).await?.in_flight()?;
    desk.release(&first).await?.lost(Loss::TakenOver)?;
    desk.complete(&second, response("paid")).await?.stored()
}
