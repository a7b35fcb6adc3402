//! Fences rise: S4.

use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Table, ["S4"], fences_rise_through_release),
        case!(Table, ["S4"], fences_rise_through_completion_and_collection),
        case!(Table, ["S4"], fences_rise_through_a_release_on_a_clock_that_steps_back, needs RewindTime),
        case!(Table, ["S4"], fences_rise_through_takeover_on_a_clock_that_steps_back, needs RewindTime),
        case!(Table, ["S4"], fences_rise_through_an_end_on_a_clock_that_steps_back, needs RewindTime Collect),
        case!(Table, ["S4"], a_fence_is_at_least_the_stores_clock),
        case!(Table, ["S4"], slots_have_fences_of_their_own),
    ]
}

#[track_caller]
fn above(later: &Grant, earlier: &Grant) -> Told {
    holds(format!("{:?} is above {:?}", later.fence, earlier.fence), later.fence > earlier.fence)
}

async fn fences_rise_through_release(s: Stage) -> Told {
    // As fast as they come: several may fall into one microsecond.
    let desk = s.slot()?;
    let mut last: Option<Grant> = None;
    for _ in 0..30 {
        let grant = desk.reserve(&s.caller()).await?.granted()?;
        if let Some(last) = &last {
            above(&grant, last)?;
        }
        desk.release(&grant).await?.released()?;
        last = Some(grant);
    }
    Ok(())
}

async fn fences_rise_through_completion_and_collection(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.fleeting());
    let first = desk.reserve(&who).await?.granted()?;
    desk.complete(&first, response("paid")).await?.stored()?;
    s.expire().await;
    let second = desk.reserve(&who.other()).await?.granted()?;
    above(&second, &first)?;
    s.expire().await;
    s.collect_all().await?;
    let third = desk.reserve(&who.other()).await?.granted()?;
    above(&third, &second)
}

async fn fences_rise_through_a_release_on_a_clock_that_steps_back(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let mut last = desk.reserve(&who).await?.granted()?;
    for _ in 0..3 {
        desk.release(&last).await?.released()?;
        s.rewind(HOUR)?;
        let next = desk.reserve(&who.other()).await?.granted()?;
        above(&next, &last)?;
        last = next;
    }
    Ok(())
}

async fn fences_rise_through_takeover_on_a_clock_that_steps_back(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let mut last = desk.reserve(&who).await?.granted()?;
    for _ in 0..3 {
        desk.hand_over(&last).await?.renewed()?;
        s.rewind(HOUR)?;
        let next = desk.reserve(&who.other()).await?.granted()?;
        above(&next, &last)?;
        last = next;
    }
    Ok(())
}

async fn fences_rise_through_an_end_on_a_clock_that_steps_back(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(MINUTE).retention(MINUTE));
    let first = desk.reserve(&who).await?.granted()?;
    desk.release(&first).await?.released()?;
    s.rewind(HOUR)?;
    let second = desk.reserve(&who.other()).await?.granted()?;
    above(&second, &first)?;
    // Its record ends, nobody deletes it, and the clock is still short of its fence.
    s.advance(10 * MINUTE)?;
    let third = desk.reserve(&who.other()).await?.granted()?;
    same("attempt", third.attempt, 1)?;
    above(&third, &second)
}

async fn a_fence_is_at_least_the_stores_clock(s: Stage) -> Told {
    let (before, desk, who) = (s.slot()?, s.slot()?, s.caller());
    before.reserve(&who).await?.granted()?;
    let earlier = before.lookup().await?.pending()?.created_at;
    let grant = desk.reserve(&who.other()).await?.granted()?;
    holds(
        format!("{:?} is no less than the clock's {}, in µs", grant.fence, earlier.as_micros()),
        grant.fence.get() >= earlier.as_micros(),
    )
}

async fn slots_have_fences_of_their_own(s: Stage) -> Told {
    let (busy, quiet, who) = (s.slot()?, s.slot()?, s.caller());
    let held = quiet.reserve(&who).await?.granted()?;
    for _ in 0..5 {
        let grant = busy.reserve(&who.other()).await?.granted()?;
        busy.release(&grant).await?.released()?;
    }
    same("fence", quiet.lookup().await?.pending()?.fence, held.fence)?;
    quiet.complete(&held, response("paid")).await?.stored()
}
