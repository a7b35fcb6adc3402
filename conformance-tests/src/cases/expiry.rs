//! The end of a record (the spec's States), and the longest and shortest of times.

use oncekey_core::{MAX_LEASE, MAX_RETENTION, MIN_LEASE};

use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Table, ["R1"], an_ended_reservation_is_absent),
        case!(Table, ["R1"], an_ended_answer_is_absent),
        case!(Table, ["R1", "R11"], an_ended_release_is_absent),
        case!(Table, ["R1", "R2"], another_request_may_follow_an_ended_one),
        case!(Table, ["R5", "R1"], a_lapsed_record_ends_too, needs ShiftTime),
        case!(Hostile, ["R5"], the_shortest_lease_lapses),
        case!(Hostile, ["R4", "R5"], the_longest_lease_is_live_for_a_year, needs ShiftTime),
        case!(Hostile, ["R9"], the_longest_retention_is_kept_for_ten_years, needs ShiftTime),
        case!(Hostile, ["C5"], the_longest_and_shortest_keeping_of_an_answer, needs ShiftTime),
    ]
}

async fn an_ended_reservation_is_absent(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.fleeting());
    let first = desk.reserve(&who).await?.granted()?;
    desk.renew(&first, who.renewal()?.with_checkpoint(checkpoint(1, "begun")?)).await?.renewed()?;
    s.expire().await;
    desk.lookup().await?.absent()?;
    let second = desk.reserve(&who.other()).await?.granted()?;
    same("attempt", second.attempt, 1)?;
    same("checkpoint", second.checkpoint, None)?;
    same("begun", desk.lookup().await?.pending()?.begun, false)?;
    holds(format!("{:?} is above {:?}", second.fence, first.fence), second.fence > first.fence)
}

async fn an_ended_answer_is_absent(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.fleeting());
    let first = desk.reserve(&who).await?.granted()?;
    desk.complete(&first, response("paid")).await?.stored()?;
    s.expire().await;
    desk.lookup().await?.absent()?;
    desk.complete(&first, response("paid")).await?.lost(Loss::Gone)?;
    desk.renew(&first, who.renewal()?).await?.lost(Loss::Gone)?;
    desk.release(&first).await?.lost(Loss::Gone)?;
    let second = desk.reserve(&s.caller()).await?.granted()?;
    same("attempt", second.attempt, 1)?;
    holds(format!("{:?} is above {:?}", second.fence, first.fence), second.fence > first.fence)?;
    desk.complete(&second, response("paid again")).await?.stored()?;
    same("response", desk.reserve(&who.other()).await?.replayed()?.response, response("paid again"))
}

async fn an_ended_release_is_absent(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.fleeting());
    let first = desk.reserve(&who).await?.granted()?;
    desk.release(&first).await?.released()?;
    s.expire().await;
    let second = desk.reserve(&who).await?.granted()?;
    same("attempt", second.attempt, 1)?;
    holds(format!("{:?} is above {:?}", second.fence, first.fence), second.fence > first.fence)?;
    // The same token again, and another grant.
    desk.complete(&first, response("of the first grant")).await?.lost(Loss::TakenOver)
}

async fn another_request_may_follow_an_ended_one(s: Stage) -> Told {
    for finished in [false, true] {
        let (desk, who) = (s.slot()?, s.fleeting());
        let grant = desk.reserve(&who).await?.granted()?;
        if finished {
            desk.complete(&grant, response("paid")).await?.stored()?;
        }
        s.expire().await;
        let other = s.caller().meaning_otherwise();
        desk.reserve(&other).await?.granted()?;
        same("fingerprint", desk.lookup().await?.pending()?.fingerprint, other.fingerprint())?;
    }
    Ok(())
}

async fn a_lapsed_record_ends_too(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(MINUTE).retention(HOUR));
    desk.reserve(&who).await?.granted()?;
    s.advance(59 * MINUTE)?;
    same("lease left", desk.lookup().await?.pending()?.lease_left, None)?;
    s.advance(3 * MINUTE)?;
    desk.lookup().await?.absent()?;
    same("attempt", desk.reserve(&who.other()).await?.granted()?.attempt, 1)
}

async fn the_shortest_lease_lapses(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(MIN_LEASE));
    desk.reserve(&who).await?.granted()?;
    s.lapse().await;
    same("lease left", desk.lookup().await?.pending()?.lease_left, None)?;
    same("attempt", desk.reserve(&who.other()).await?.granted()?.attempt, 2)
}

async fn the_longest_lease_is_live_for_a_year(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(MAX_LEASE).retention(MAX_RETENTION));
    let grant = desk.reserve(&who).await?.granted()?;
    s.advance(364 * DAY)?;
    let retry_after = desk.reserve(&who.other()).await?.in_flight()?;
    holds(format!("retry_after of {retry_after:?}, a day before the end"), retry_after <= DAY)?;
    desk.renew(&grant, extend(MAX_LEASE)?).await?.renewed()?;
    s.advance(364 * DAY)?;
    desk.reserve(&who.other()).await?.in_flight()?;
    s.advance(2 * DAY)?;
    same("attempt", desk.reserve(&who.other()).await?.granted()?.attempt, 2)
}

async fn the_longest_retention_is_kept_for_ten_years(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(MAX_LEASE).retention(MAX_RETENTION));
    let grant = desk.reserve(&who).await?.granted()?;
    desk.complete(&grant, response("paid")).await?.stored()?;
    s.advance(10 * YEAR)?;
    s.collect_all().await?;
    same("response", desk.reserve(&who.other()).await?.replayed()?.response, response("paid"))?;
    s.advance(YEAR + DAY)?;
    desk.lookup().await?.absent()
}

async fn the_longest_and_shortest_keeping_of_an_answer(s: Stage) -> Told {
    let (long, short, who) = (s.slot()?, s.slot()?, s.caller());
    let grant = long.reserve(&who).await?.granted()?;
    let keep = |time| Completion::new(response("paid")).keep_for(time);
    long.complete_with(&grant, keep(MAX_RETENTION)?).await?.stored()?;
    let grant = short.reserve(&who).await?.granted()?;
    short.complete_with(&grant, keep(Duration::from_micros(1))?).await?.stored()?;
    s.advance(9 * YEAR)?;
    long.reserve(&who.other()).await?.replayed()?;
    short.lookup().await?.absent()
}
