//! reserve_or_fetch where the holder has lapsed and finishing the work is what counts: R5, R6.

use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Table, ["R5", "S4"], a_lapsed_holder_is_taken_over),
        case!(Table, ["R5"], takeover_hands_on_the_checkpoint),
        case!(Table, ["R5", "R10"], takeover_starts_a_lease_of_its_own),
        case!(Table, ["R5"], takeover_begins_anew),
        case!(Table, ["R5"], takeover_brings_its_own_retention, needs ShiftTime),
        case!(Table, ["R5"], takeover_never_brings_the_end_nearer, needs ShiftTime),
        case!(Table, ["R5", "S4"], each_takeover_counts),
        case!(Table, ["R5", "C1"], the_answer_names_the_attempt_that_gave_it),
        case!(Table, ["R4", "R5"], a_live_lease_is_never_taken_over, needs ShiftTime),
        case!(Table, ["R6"], a_refuse_caller_leaves_a_take_over_record_to_others),
        case!(Table, ["R6"], indeterminate_says_for_how_long, needs ShiftTime),
        case!(Table, ["R6", "W4"], after_a_hand_over_nobody_lapsed_for_any_time),
        case!(Table, ["R6", "L2"], after_a_doubtful_release_nobody_lapsed_for_any_time),
    ]
}

async fn a_lapsed_holder_is_taken_over(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief());
    let first = desk.reserve(&who).await?.granted()?;
    s.lapse().await;
    let next = who.other();
    let second = desk.reserve(&next).await?.granted()?;
    same("attempt", second.attempt, 2)?;
    same("token is its own", second.token == next.token, true)?;
    same("policy", second.policy, Policy::TakeOver)?;
    holds(format!("{:?} is above {:?}", second.fence, first.fence), second.fence > first.fence)
}

async fn takeover_hands_on_the_checkpoint(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief());
    let first = desk.reserve(&who).await?.granted()?;
    let saved = checkpoint(3, "page 4")?;
    desk.renew(&first, who.renewal()?.with_checkpoint(saved.clone())).await?.renewed()?;
    s.lapse().await;
    let second = desk.reserve(&who.other()).await?.granted()?;
    same("attempt", second.attempt, 2)?;
    same("checkpoint", second.checkpoint, Some(saved))
}

async fn takeover_starts_a_lease_of_its_own(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief());
    desk.reserve(&who).await?.granted()?;
    s.lapse().await;
    desk.reserve(&who.other().lease(10 * MINUTE)).await?.granted()?;
    let left = desk.lookup().await?.pending()?.lease_left.unwrap_or_default();
    holds(format!("{left:?} of a lease of 10 min is left"), left <= 10 * MINUTE && left > 9 * MINUTE)?;
    desk.reserve(&who.other()).await?.in_flight().map(drop)
}

async fn takeover_begins_anew(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief());
    let first = desk.reserve(&who).await?.granted()?;
    desk.renew(&first, who.renewal()?).await?.renewed()?;
    let before = desk.lookup().await?.pending()?;
    same("begun", before.begun, true)?;
    s.lapse().await;
    desk.reserve(&s.caller()).await?.granted()?;
    let after = desk.lookup().await?.pending()?;
    same("begun", after.begun, false)?;
    same("created_at", after.created_at, before.created_at)?;
    same("fingerprint", after.fingerprint, before.fingerprint)
}

async fn takeover_brings_its_own_retention(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(MINUTE).retention(10 * MINUTE));
    desk.reserve(&who).await?.granted()?;
    s.advance(2 * MINUTE)?;
    desk.reserve(&who.other().retention(10 * HOUR)).await?.granted()?;
    let seen = desk.lookup().await?.pending()?;
    same("expires_at after the lease's end", seen.expires_at - seen.lease_expires_at, 10 * HOUR)?;
    // And a shorter one, as soon as the record outgrows its old end.
    s.advance(2 * MINUTE)?;
    let third = desk.reserve(&who.other().retention(MINUTE)).await?.granted()?;
    desk.renew(&third, extend(20 * HOUR)?).await?.renewed()?;
    let seen = desk.lookup().await?.pending()?;
    same("expires_at after the lease's end", seen.expires_at - seen.lease_expires_at, MINUTE)
}

async fn takeover_never_brings_the_end_nearer(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(MINUTE).retention(10 * HOUR));
    desk.reserve(&who).await?.granted()?;
    let before = desk.lookup().await?.pending()?.expires_at;
    s.advance(2 * MINUTE)?;
    desk.reserve(&who.other().retention(MINUTE)).await?.granted()?;
    same("expires_at", desk.lookup().await?.pending()?.expires_at, before)
}

async fn each_takeover_counts(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief());
    let mut last = desk.reserve(&who).await?.granted()?;
    desk.renew(&last, who.renewal()?.with_checkpoint(checkpoint(1, "begun")?)).await?.renewed()?;
    for attempt in 2..=4 {
        s.lapse().await;
        let next = desk.reserve(&who.other()).await?.granted()?;
        same("attempt", next.attempt, attempt)?;
        same("checkpoint", next.checkpoint.clone(), Some(checkpoint(1, "begun")?))?;
        holds(format!("{:?} is above {:?}", next.fence, last.fence), next.fence > last.fence)?;
        last = next;
    }
    Ok(())
}

async fn the_answer_names_the_attempt_that_gave_it(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief());
    desk.reserve(&who).await?.granted()?;
    let created_at = desk.lookup().await?.pending()?.created_at;
    s.lapse().await;
    let second = desk.reserve(&s.caller()).await?.granted()?;
    desk.complete(&second, response("paid by the second")).await?.stored()?;
    let replay = desk.reserve(&who.other()).await?.replayed()?;
    same("response", replay.response, response("paid by the second"))?;
    same("attempt", replay.attempt, 2)?;
    same("fence", replay.fence, second.fence)?;
    same("created_at", replay.created_at, created_at)
}

async fn a_live_lease_is_never_taken_over(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(10 * MINUTE));
    let grant = desk.reserve(&who).await?.granted()?;
    for _ in 0..3 {
        s.advance(3 * MINUTE)?;
        desk.reserve(&who.other()).await?.in_flight()?;
    }
    s.advance(2 * MINUTE)?;
    let next = desk.reserve(&who.other()).await?.granted()?;
    same("attempt", next.attempt, grant.attempt + 1)
}

async fn a_refuse_caller_leaves_a_take_over_record_to_others(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief());
    let first = desk.reserve(&who).await?.granted()?;
    let saved = checkpoint(2, "page 2")?;
    desk.renew(&first, who.renewal()?.with_checkpoint(saved.clone())).await?.renewed()?;
    s.lapse().await;
    let before = desk.record().await?;
    let lapsed = desk.reserve(&who.other().refusing()).await?.indeterminate()?;
    same("fence", lapsed.fence, first.fence)?;
    same("attempt", lapsed.attempt, 1)?;
    same("checkpoint", lapsed.checkpoint, Some(saved))?;
    holds("a lease that ran out did so some time ago", lapsed.lapsed_for.is_some())?;
    same("the record", desk.record().await?, before)?;
    let second = desk.reserve(&who.other()).await?.granted()?;
    same("attempt", second.attempt, 2)
}

async fn indeterminate_says_for_how_long(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(MINUTE));
    desk.reserve(&who).await?.granted()?;
    s.advance(6 * MINUTE)?;
    let lapsed = desk.reserve(&who.other().refusing()).await?.indeterminate()?;
    let lapsed_for = lapsed.lapsed_for.unwrap_or_default();
    holds(
        format!("{lapsed_for:?}, of a lease of 1 min, 6 min ago"),
        lapsed_for >= 5 * MINUTE - SECOND && lapsed_for < 6 * MINUTE,
    )
}

async fn after_a_hand_over_nobody_lapsed_for_any_time(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let first = desk.reserve(&who).await?.granted()?;
    desk.hand_over(&first).await?.renewed()?;
    let lapsed = desk.reserve(&who.other().refusing()).await?.indeterminate()?;
    same("lapsed_for", lapsed.lapsed_for, None)
}

async fn after_a_doubtful_release_nobody_lapsed_for_any_time(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief());
    desk.reserve(&who).await?.granted()?;
    s.lapse().await;
    let second = desk.reserve(&s.caller()).await?.granted()?;
    desk.release(&second).await?.released()?;
    let lapsed = desk.reserve(&who.other().refusing()).await?.indeterminate()?;
    same("attempt", lapsed.attempt, 2)?;
    same("lapsed_for", lapsed.lapsed_for, None)
}
