//! What has ended, or ends soon; and what takeovers carry on to the end: R1, R5, W4, O1, G1.

use oncekey_core::{Resolution, ResolveOutcome};

use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Table, ["R1"], an_ended_record_leaves_nothing_to_the_next),
        case!(Table, ["R5", "C1"], an_answer_under_refuse_is_kept_for_the_larger_retention, needs ShiftTime),
        case!(Table, ["R5", "C2"], an_answer_after_a_takeover_is_kept_for_the_new_retention, needs ShiftTime),
        case!(Table, ["R5"], attempts_outgrow_a_byte),
        case!(Table, ["W4", "W3"], a_hand_over_is_lost_after_the_record_ended),
        case!(Table, ["O1", "R1"], what_has_ended_is_not_resolved, needs Resolve),
        case!(Table, ["O1", "G1"], what_an_operator_released_ends, needs Resolve ShiftTime Collect),
        case!(Table, ["G1", "G2"], collection_spares_what_ends_soon, needs ShiftTime),
    ]
}

async fn an_ended_record_leaves_nothing_to_the_next(s: Stage) -> Told {
    for finished in [false, true] {
        let (desk, who) = (s.slot()?, s.fleeting());
        let first = desk.reserve(&who).await?.granted()?;
        let saved = who.renewal()?.with_checkpoint(checkpoint(1, "half done")?);
        desk.renew(&first, saved).await?.renewed()?;
        desk.hand_over(&first).await?.renewed()?;
        let second = desk.reserve(&who.other()).await?.granted()?;
        same("attempt", second.attempt, 2)?;
        if finished {
            desk.complete(&second, response("paid")).await?.stored()?;
        }
        s.expire().await;
        let next = s.caller().refusing().meaning_otherwise();
        let third = desk.reserve(&next).await?.granted()?;
        same("attempt in the grant", third.attempt, 1)?;
        same("checkpoint in the grant", &third.checkpoint, &None)?;
        same("policy in the grant", third.policy, Policy::Refuse)?;
        let seen = desk.lookup().await?.pending()?;
        same("attempt", seen.attempt, 1)?;
        same("checkpoint", seen.checkpoint, None)?;
        same("policy", seen.policy, Policy::Refuse)?;
        same("begun", seen.begun, false)?;
        holds("it was created after the ended one", seen.created_at.as_micros() >= second.fence.get())?;
    }
    Ok(())
}

/// A slot that was reserved for one retention, taken over for another and renewed, all within the record's
/// first end; its grant, and who took over.
async fn taken_over(
    s: &Stage,
    who: Caller,
    first: Duration,
    second: Duration,
) -> Result<(Desk, Grant), Failure> {
    let (desk, who) = (s.slot()?, who.lease(MINUTE));
    desk.reserve(&who.retention(first)).await?.granted()?;
    s.advance(2 * MINUTE)?;
    let grant = desk.reserve(&who.other().retention(second)).await?.granted()?;
    same("attempt", grant.attempt, 2)?;
    Ok((desk, grant))
}

async fn an_answer_under_refuse_is_kept_for_the_larger_retention(s: Stage) -> Told {
    for (first, second) in [(10 * HOUR, HOUR), (HOUR, 10 * HOUR)] {
        // The record's end is "never" once the holder began; its answer's end is counted from the retention.
        let (desk, grant) = taken_over(&s, s.caller().refusing(), first, second).await?;
        desk.renew(&grant, extend(MINUTE)?).await?.renewed()?;
        let lease_end = desk.lookup().await?.pending()?.lease_expires_at;
        desk.complete(&grant, response("charged")).await?.stored()?;
        let kept = desk.lookup().await?.completed()?;
        same("expires_at after the lease's end", kept.expires_at - lease_end, 10 * HOUR)?;

        let (desk, grant) = taken_over(&s, s.caller().refusing(), first, second).await?;
        desk.renew(&grant, extend(MINUTE)?).await?.renewed()?;
        s.advance(YEAR)?;
        desk.complete(&grant, response("charged, late")).await?.stored()?;
        let kept = desk.lookup().await?.completed()?;
        same("expires_at after completed_at", kept.expires_at - kept.completed_at, 10 * HOUR)?;
    }
    Ok(())
}

async fn an_answer_after_a_takeover_is_kept_for_the_new_retention(s: Stage) -> Told {
    // A lease that outgrows the first end shows which retention is counted from it.
    for (first, second) in [(10 * HOUR, HOUR), (HOUR, 10 * HOUR)] {
        let (desk, grant) = taken_over(&s, s.caller(), first, second).await?;
        desk.renew(&grant, extend(20 * HOUR)?).await?.renewed()?;
        let lease_end = desk.lookup().await?.pending()?.lease_expires_at;
        s.advance(20 * HOUR + MINUTE)?;
        let seen = desk.lookup().await?.pending()?;
        same("expires_at after the lease's end", seen.expires_at - lease_end, second)?;
        desk.complete(&grant, response("paid, late")).await?.stored()?;
        let kept = desk.lookup().await?.completed()?;
        same("expires_at after completed_at", kept.expires_at - kept.completed_at, second)?;
    }
    Ok(())
}

async fn attempts_outgrow_a_byte(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let mut grant = desk.reserve(&who).await?.granted()?;
    for attempt in 2..=260 {
        desk.hand_over(&grant).await?.renewed()?;
        grant = desk.reserve(&who.other()).await?.granted()?;
        same("attempt", grant.attempt, attempt)?;
    }
    desk.complete(&grant, response("paid at last")).await?.stored()?;
    same("attempt", desk.reserve(&who).await?.replayed()?.attempt, 260)
}

async fn a_hand_over_is_lost_after_the_record_ended(s: Stage) -> Told {
    for who in [s.fleeting(), s.fleeting().refusing()] {
        let desk = s.slot()?;
        let grant = desk.reserve(&who).await?.granted()?;
        s.expire().await;
        let over = Renewal::hand_over().with_checkpoint(checkpoint(1, "late")?);
        desk.renew(&grant, over).await?.lost(Loss::Gone)?;
        desk.lookup().await?.absent()?;
        let next = desk.reserve(&s.caller()).await?.granted()?;
        same("attempt", next.attempt, 1)?;
        same("checkpoint", &next.checkpoint, &None)?;
        desk.hand_over(&grant).await?.lost(Loss::TakenOver)?;
        desk.complete(&next, response("paid")).await?.stored()?;
    }
    Ok(())
}

async fn what_has_ended_is_not_resolved(s: Stage) -> Told {
    for resolution in [Resolution::Complete(Completion::new(response("it was paid"))), Resolution::Release] {
        let (desk, who) = (s.slot()?, s.fleeting());
        let grant = desk.reserve(&who).await?.granted()?;
        desk.hand_over(&grant).await?.renewed()?;
        let seen = desk.lookup().await?.pending()?.seen();
        s.expire().await;
        same("resolve", desk.resolve(seen, resolution.clone()).await?, ResolveOutcome::Changed)?;
        desk.lookup().await?.absent()?;
        // No answer stands, and no token is spent.
        let next = desk.reserve(&who.lease(10 * MINUTE)).await?.granted()?;
        same("attempt", next.attempt, 1)?;
        same("resolve", desk.resolve(seen, resolution).await?, ResolveOutcome::Changed)?;
        desk.complete(&next, response("paid")).await?.stored()?;
    }
    Ok(())
}

async fn what_an_operator_released_ends(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().refusing().lease(MINUTE).retention(HOUR));
    let grant = desk.reserve(&who).await?.granted()?;
    desk.renew(&grant, who.renewal()?).await?.renewed()?;
    s.advance(YEAR)?;
    let seen = desk.lookup().await?.pending()?.seen();
    same("resolve", desk.resolve(seen, Resolution::Release).await?, ResolveOutcome::Resolved)?;
    // Its memory lasts for the retention, and then there is nothing left.
    s.advance(50 * MINUTE)?;
    same("deleted", s.collect_all().await?, 0)?;
    refused(desk.try_reserve(&who).await, ErrorKind::TokenSpent)?;
    s.advance(20 * MINUTE)?;
    same("deleted", s.collect_all().await?, 1)?;
    desk.reserve(&who).await?.granted().map(drop)
}

async fn collection_spares_what_ends_soon(s: Stage) -> Told {
    let who = s.caller().lease(MINUTE).retention(10 * MINUTE);
    let (held, done, free) = (s.slot()?, s.slot()?, s.slot()?);
    held.reserve(&who).await?.granted()?;
    let grant = done.reserve(&who).await?.granted()?;
    done.complete(&grant, response("paid")).await?.stored()?;
    let grant = free.reserve(&who).await?.granted()?;
    free.release(&grant).await?.released()?;
    // Each ends in less than a minute.
    s.advance(10 * MINUTE + 30 * SECOND)?;
    let before = (held.record().await?, done.record().await?);
    s.collect_all().await?;
    same("the records", (held.record().await?, done.record().await?), before)?;
    same("attempt", held.reserve(&who.other()).await?.granted()?.attempt, 2)?;
    done.reserve(&who.other()).await?.replayed()?;
    refused(free.try_reserve(&who).await, ErrorKind::TokenSpent)
}
