//! For operators: resolve (O1), purge (O2), stats, assess (S11). For scan, see its own file.

use oncekey_core::{PendingEntry, Resolution, ResolveOutcome};

use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Table, ["O1"], an_operator_completes_for_a_silent_holder, needs Resolve),
        case!(Table, ["O1", "S3"], the_silent_holder_hears_the_operators_answer, needs Resolve),
        case!(Table, ["O1"], an_operator_releases_whatever_the_attempt, needs Resolve),
        case!(Table, ["O1"], an_operator_settles_an_unknown, needs Resolve ShiftTime),
        case!(Table, ["O1", "W4"], an_operator_settles_what_was_handed_over, needs Resolve),
        case!(Table, ["O1"], a_live_holder_is_not_resolved, needs Resolve),
        case!(Table, ["O1"], a_holder_that_came_back_meanwhile_is_not_resolved, needs Resolve),
        case!(Table, ["O1"], a_record_that_changed_meanwhile_is_not_resolved, needs Resolve),
        case!(Table, ["O1", "W4"], a_second_hand_over_is_not_the_one_that_was_seen, needs Resolve),
        case!(Table, ["O1", "S6"], a_resolution_may_be_repeated, needs Resolve),
        case!(Table, ["O1", "C2"], a_resolution_is_kept_as_a_late_answer, needs Resolve ShiftTime),
        case!(Table, ["O1", "C5"], a_resolution_may_say_how_long_it_is_kept, needs Resolve ShiftTime),
        case!(Table, ["O2"], purge_deletes_whatever_the_state, needs Purge),
        case!(Table, ["O2"], purge_spares_a_record_of_another_fence, needs Purge),
        case!(Table, ["O2", "S5"], purge_spares_other_slots, needs Purge),
        case!(Table, ["O2"], stats_count_each_kind, needs Stats),
        case!(Table, ["S11"], assess_finds_and_says, needs Assess),
    ]
}

/// A slot whose holder fell silent: its grant, and what an operator sees of it.
async fn silent(s: &Stage, who: &Caller) -> Result<(Desk, Grant, PendingEntry), Failure> {
    let desk = s.slot()?;
    let grant = desk.reserve(who).await?.granted()?;
    desk.renew(&grant, who.renewal()?).await?.renewed()?;
    s.lapse().await;
    let seen = desk.lookup().await?.pending()?;
    Ok((desk, grant, seen))
}

fn completion(text: &'static str) -> Resolution {
    Resolution::Complete(Completion::new(response(text)))
}

async fn an_operator_completes_for_a_silent_holder(s: Stage) -> Told {
    for who in [s.brief(), s.brief().refusing()] {
        let (desk, grant, seen) = silent(&s, &who).await?;
        let outcome = desk.resolve(seen.seen(), completion("it was paid")).await?;
        same("resolve", outcome, ResolveOutcome::Resolved)?;
        let replay = desk.reserve(&who.other()).await?.replayed()?;
        same("response", replay.response, response("it was paid"))?;
        same("fence", replay.fence, grant.fence)?;
        same("attempt", replay.attempt, 1)?;
    }
    Ok(())
}

async fn the_silent_holder_hears_the_operators_answer(s: Stage) -> Told {
    let (desk, grant, seen) = silent(&s, &s.brief().refusing()).await?;
    same("resolve", desk.resolve(seen.seen(), completion("it was paid")).await?, ResolveOutcome::Resolved)?;
    let kept = desk.complete(&grant, response("the holder's own")).await?.already_stored()?;
    same("response", kept.response, response("it was paid"))?;
    desk.renew(&grant, extend(HOUR)?).await?.already_stored()?;
    desk.release(&grant).await?.already_stored()?;
    same("response", desk.reserve(&s.caller()).await?.replayed()?.response, response("it was paid"))
}

async fn an_operator_releases_whatever_the_attempt(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief());
    desk.reserve(&who).await?.granted()?;
    s.lapse().await;
    let next = who.other();
    let second = desk.reserve(&next).await?.granted()?;
    s.lapse().await;
    let seen = desk.lookup().await?.pending()?;
    same("resolve", desk.resolve(seen.seen(), Resolution::Release).await?, ResolveOutcome::Resolved)?;
    desk.lookup().await?.absent()?;
    refused(desk.try_reserve(&next).await, ErrorKind::TokenSpent)?;
    desk.complete(&second, response("late")).await?.lost(Loss::Gone)?;
    let third = desk.reserve(&who.other()).await?.granted()?;
    same("attempt", third.attempt, 1)?;
    holds(format!("{:?} is above {:?}", third.fence, second.fence), third.fence > second.fence)
}

async fn an_operator_settles_an_unknown(s: Stage) -> Told {
    for release in [false, true] {
        let (desk, grant, seen) = silent(&s, &s.brief().refusing().retention(HOUR)).await?;
        s.advance(2 * YEAR)?;
        let resolution = if release { Resolution::Release } else { completion("it was paid") };
        same("resolve", desk.resolve(seen.seen(), resolution).await?, ResolveOutcome::Resolved)?;
        if release {
            desk.complete(&grant, response("late")).await?.lost(Loss::Gone)?;
        } else {
            desk.reserve(&s.caller()).await?.replayed()?;
        }
        // Never is over.
        s.advance(2 * HOUR)?;
        desk.lookup().await?.absent()?;
        same("attempt", desk.reserve(&s.caller()).await?.granted()?.attempt, 1)?;
    }
    Ok(())
}

async fn an_operator_settles_what_was_handed_over(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.hand_over(&grant).await?.renewed()?;
    let seen = desk.lookup().await?.pending()?;
    same("resolve", desk.resolve(seen.seen(), completion("it was paid")).await?, ResolveOutcome::Resolved)?;
    same("response", desk.reserve(&who.other()).await?.replayed()?.response, response("it was paid"))
}

async fn a_live_holder_is_not_resolved(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    let seen = desk.lookup().await?.pending()?;
    let before = desk.record().await?;
    for resolution in [completion("it was paid"), Resolution::Release] {
        same("resolve", desk.resolve(seen.seen(), resolution).await?, ResolveOutcome::NotLapsed)?;
    }
    same("the record", desk.record().await?, before)?;
    desk.complete(&grant, response("paid")).await?.stored()
}

async fn a_holder_that_came_back_meanwhile_is_not_resolved(s: Stage) -> Told {
    let who = s.brief();
    let (desk, grant, seen) = silent(&s, &who).await?;
    desk.renew(&grant, who.renewal()?).await?.renewed()?;
    s.lapse().await;
    // Lapsed again, under the same fence; but not the lapse that was seen.
    let before = desk.record().await?;
    for resolution in [completion("it was paid"), Resolution::Release] {
        same("resolve", desk.resolve(seen.seen(), resolution).await?, ResolveOutcome::Changed)?;
    }
    same("the record", desk.record().await?, before)?;
    desk.complete(&grant, response("paid")).await?.stored()
}

async fn a_record_that_changed_meanwhile_is_not_resolved(s: Stage) -> Told {
    let resolutions = || [completion("it was paid"), Resolution::Release];
    // Taken over, and lapsed again.
    let (desk, _, seen) = silent(&s, &s.brief()).await?;
    desk.reserve(&s.brief()).await?.granted()?;
    s.lapse().await;
    let before = desk.record().await?;
    for resolution in resolutions() {
        same("resolve", desk.resolve(seen.seen(), resolution).await?, ResolveOutcome::Changed)?;
    }
    same("the record", desk.record().await?, before)?;
    // Completed otherwise, released and reserved anew, and never there.
    let (desk, grant, seen) = silent(&s, &s.brief()).await?;
    desk.complete(&grant, response("the holder's own")).await?.stored()?;
    for resolution in resolutions() {
        same("resolve", desk.resolve(seen.seen(), resolution).await?, ResolveOutcome::Changed)?;
    }
    same("response", desk.reserve(&s.caller()).await?.replayed()?.response, response("the holder's own"))?;
    let (desk, grant, seen) = silent(&s, &s.brief()).await?;
    desk.release(&grant).await?.released()?;
    same("resolve", desk.resolve(seen.seen(), completion("it was paid")).await?, ResolveOutcome::Changed)?;
    same("resolve", s.slot()?.resolve(seen.seen(), Resolution::Release).await?, ResolveOutcome::Changed)
}

async fn a_second_hand_over_is_not_the_one_that_was_seen(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let first = desk.reserve(&who).await?.granted()?;
    desk.hand_over(&first).await?.renewed()?;
    let seen = desk.lookup().await?.pending()?;
    let second = desk.reserve(&who.other()).await?.granted()?;
    desk.hand_over(&second).await?.renewed()?;
    // Both leases ended at zero; the fence tells them apart.
    let before = desk.record().await?;
    for resolution in [completion("it was paid"), Resolution::Release] {
        same("resolve", desk.resolve(seen.seen(), resolution).await?, ResolveOutcome::Changed)?;
    }
    same("the record", desk.record().await?, before)
}

async fn a_resolution_may_be_repeated(s: Stage) -> Told {
    for (resolution, other) in
        [(completion("it was paid"), Resolution::Release), (Resolution::Release, completion("it was paid"))]
    {
        let (desk, _, seen) = silent(&s, &s.brief()).await?;
        same("resolve", desk.resolve(seen.seen(), resolution.clone()).await?, ResolveOutcome::Resolved)?;
        let before = desk.record().await?;
        same("again", desk.resolve(seen.seen(), resolution).await?, ResolveOutcome::AlreadyDone)?;
        same("otherwise", desk.resolve(seen.seen(), other).await?, ResolveOutcome::Changed)?;
        same("the record", desk.record().await?, before)?;
    }
    let (desk, _, seen) = silent(&s, &s.brief()).await?;
    same("resolve", desk.resolve(seen.seen(), completion("paid")).await?, ResolveOutcome::Resolved)?;
    same("otherwise", desk.resolve(seen.seen(), completion("not paid")).await?, ResolveOutcome::Changed)?;
    same("response", desk.reserve(&s.caller()).await?.replayed()?.response, response("paid"))
}

async fn a_resolution_is_kept_as_a_late_answer(s: Stage) -> Told {
    let (desk, _, seen) = silent(&s, &s.brief().retention(HOUR)).await?;
    s.advance(50 * MINUTE)?;
    same("resolve", desk.resolve(seen.seen(), completion("it was paid")).await?, ResolveOutcome::Resolved)?;
    let kept = desk.lookup().await?.completed()?;
    same("expires_at after completed_at", kept.expires_at - kept.completed_at, HOUR)
}

async fn a_resolution_may_say_how_long_it_is_kept(s: Stage) -> Told {
    let (desk, _, seen) = silent(&s, &s.brief()).await?;
    let brief = Completion::new(response("it was paid")).keep_for(5 * MINUTE)?;
    let outcome = desk.resolve(seen.seen(), Resolution::Complete(brief)).await?;
    same("resolve", outcome, ResolveOutcome::Resolved)?;
    s.advance(4 * MINUTE)?;
    desk.reserve(&s.caller()).await?.replayed()?;
    s.advance(2 * MINUTE)?;
    desk.lookup().await?.absent()
}

async fn purge_deletes_whatever_the_state(s: Stage) -> Told {
    for state in ["live", "lapsed", "unknown", "completed", "released"] {
        let (desk, who) = (s.slot()?, if state == "unknown" { s.brief().refusing() } else { s.brief() });
        let grant = desk.reserve(&who).await?.granted()?;
        match state {
            "lapsed" => s.lapse().await,
            "unknown" => {
                desk.renew(&grant, who.renewal()?).await?.renewed()?;
                s.lapse().await;
            }
            "completed" => desk.complete(&grant, response("paid")).await?.stored()?,
            "released" => desk.release(&grant).await?.released()?,
            _ => {}
        }
        same(format!("purge of a {state} record"), desk.purge(grant.fence).await?, true)?;
        same("purge once more", desk.purge(grant.fence).await?, false)?;
        desk.lookup().await?.absent()?;
        desk.complete(&grant, response("late")).await?.lost(Loss::Gone)?;
        desk.release(&grant).await?.lost(Loss::Gone)?;
        same("attempt", desk.reserve(&who.meaning_otherwise()).await?.granted()?.attempt, 1)?;
    }
    Ok(())
}

async fn purge_spares_a_record_of_another_fence(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    let fence = grant.fence.get();
    let before = desk.record().await?;
    for other in [fence - 1, fence + 1, 0, u64::MAX] {
        same("purge", desk.purge(Fence::new(other)).await?, false)?;
    }
    same("the record", desk.record().await?, before)?;
    desk.complete(&grant, response("paid")).await?.stored()
}

async fn purge_spares_other_slots(s: Stage) -> Told {
    let (mine, yours, who) = (s.slot_named("me", "key")?, s.slot_named("you", "key")?, s.caller());
    let grant = mine.reserve(&who).await?.granted()?;
    let other = yours.reserve(&who.other()).await?.granted()?;
    same("purge", mine.purge(grant.fence).await?, true)?;
    yours.complete(&other, response("yours")).await?.stored()?;
    same("response", yours.reserve(&who).await?.replayed()?.response, response("yours"))
}

async fn stats_count_each_kind(s: Stage) -> Told {
    same("stored at first", s.store.stats().await?.total(), 0)?;
    for _ in 0..2 {
        s.slot()?.reserve(&s.fleeting()).await?.granted()?;
    }
    s.expire().await;
    for number in 0..12 {
        let desk = s.slot()?;
        let grant = desk.reserve(&s.caller()).await?.granted()?;
        match number {
            0..3 => {}
            3..7 => {
                desk.hand_over(&grant).await?.renewed()?;
            }
            7..8 => desk.release(&grant).await?.released()?,
            _ => desk.complete(&grant, response("paid")).await?.stored()?,
        }
    }
    let stats = s.store.stats().await?;
    same("live", stats.live, 3)?;
    same("lapsed", stats.lapsed, 4)?;
    same("released", stats.released, 1)?;
    same("completed", stats.completed, 4)?;
    // Where the engine itself deletes, they may be gone by now.
    holds(format!("2 expired at most, of {}", stats.expired), stats.expired <= 2)?;
    same("total", stats.total(), 12 + stats.expired)
}

async fn assess_finds_and_says(s: Stage) -> Told {
    for finding in s.store.assess().await? {
        let told = format!("{finding:?} has a stable name, and says what was found");
        holds(
            told,
            !finding.id.is_empty() && finding.id.trim() == finding.id && !finding.message.is_empty(),
        )?;
    }
    Ok(())
}
