//! garbage_collect: G1, G2.

use std::num::NonZeroU32;

use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Table, ["G1"], collection_deletes_what_has_ended, needs Collect),
        case!(Table, ["G1"], collection_deletes_at_most_its_limit, needs Collect),
        case!(Table, ["G1"], collection_touches_nothing_that_lives),
        case!(Table, ["G1"], collection_of_nothing_counts_nothing),
        case!(Table, ["G1"], collection_empties_the_store, needs Collect Stats),
        case!(Table, ["G1", "R11"], collection_deletes_what_was_released_once_it_has_ended, needs Collect ShiftTime),
        case!(Table, ["G2"], collection_changes_no_answer),
    ]
}

fn at_most(limit: u32) -> NonZeroU32 {
    NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN)
}

/// So many ended records: reservations, answers and releases in turn.
async fn ended(s: &Stage, count: usize) -> Told {
    for number in 0..count {
        let desk = s.slot()?;
        let grant = desk.reserve(&s.fleeting()).await?.granted()?;
        match number % 3 {
            0 => {}
            1 => desk.complete(&grant, response("paid")).await?.stored()?,
            _ => desk.release(&grant).await?.released()?,
        }
    }
    s.expire().await;
    Ok(())
}

async fn collection_deletes_what_has_ended(s: Stage) -> Told {
    ended(&s, 7).await?;
    s.slot()?.reserve(&s.caller()).await?.granted()?;
    same("deleted", s.collect_all().await?, 7)?;
    same("deleted the second time", s.collect_all().await?, 0)
}

async fn collection_deletes_at_most_its_limit(s: Stage) -> Told {
    ended(&s, 7).await?;
    s.slot()?.reserve(&s.caller()).await?.granted()?;
    for (limit, deleted) in [(3, 3), (1, 1), (2, 2), (3, 1), (3, 0)] {
        same(format!("deleted of {limit}"), s.store.garbage_collect(at_most(limit)).await?, deleted)?;
    }
    Ok(())
}

/// One record of every kind that lives.
async fn living(s: &Stage) -> Result<Vec<Desk>, Failure> {
    let live = s.slot()?;
    live.reserve(&s.caller()).await?.granted()?;
    let lapsed = s.slot()?;
    lapsed.reserve(&s.brief()).await?.granted()?;
    let unknown = s.slot()?;
    let who = s.fleeting().refusing();
    let grant = unknown.reserve(&who).await?.granted()?;
    unknown.renew(&grant, who.renewal()?).await?.renewed()?;
    let handed_over = s.slot()?;
    let grant = handed_over.reserve(&s.caller()).await?.granted()?;
    handed_over.hand_over(&grant).await?.renewed()?;
    let completed = s.slot()?;
    let grant = completed.reserve(&s.brief()).await?.granted()?;
    completed.complete(&grant, response("paid")).await?.stored()?;
    s.expire().await;
    Ok(vec![live, lapsed, unknown, handed_over, completed])
}

async fn collection_touches_nothing_that_lives(s: Stage) -> Told {
    let (free, who) = (s.slot()?, s.caller());
    let grant = free.reserve(&who).await?.granted()?;
    free.release(&grant).await?.released()?;
    let desks = living(&s).await?;
    let mut before = Vec::new();
    for desk in &desks {
        before.push(desk.record().await?);
    }
    ended(&s, 3).await?;
    s.collect_all().await?;
    for (desk, before) in desks.iter().zip(before) {
        same("the record", desk.record().await?, before)?;
    }
    // What was released is still remembered.
    refused(free.try_reserve(&who).await, ErrorKind::TokenSpent)
}

async fn collection_of_nothing_counts_nothing(s: Stage) -> Told {
    same("deleted", s.collect_all().await?, 0)?;
    s.slot()?.reserve(&s.caller()).await?.granted()?;
    same("deleted", s.store.garbage_collect(at_most(1)).await?, 0)
}

async fn collection_empties_the_store(s: Stage) -> Told {
    ended(&s, 25).await?;
    same("expired", s.store.stats().await?.expired, 25)?;
    // In rounds, as a worker does it: until a round deletes fewer than it may.
    while s.store.garbage_collect(at_most(10)).await? == 10 {}
    same("stored", s.store.stats().await?.total(), 0)
}

async fn collection_deletes_what_was_released_once_it_has_ended(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller().lease(MINUTE).retention(HOUR));
    let grant = desk.reserve(&who).await?.granted()?;
    desk.release(&grant).await?.released()?;
    s.advance(30 * MINUTE)?;
    same("deleted", s.collect_all().await?, 0)?;
    refused(desk.try_reserve(&who).await, ErrorKind::TokenSpent)?;
    s.advance(HOUR)?;
    same("deleted", s.collect_all().await?, 1)
}

async fn collection_changes_no_answer(s: Stage) -> Told {
    // The same story twice, with and without a collection after the end.
    for collected in [false, true] {
        let (desk, who) = (s.slot()?, s.fleeting());
        let grant = desk.reserve(&who).await?.granted()?;
        desk.complete(&grant, response("paid")).await?.stored()?;
        s.expire().await;
        if collected {
            s.collect_all().await?;
        }
        desk.lookup().await?.absent()?;
        desk.complete(&grant, response("paid")).await?.lost(Loss::Gone)?;
        desk.release(&grant).await?.lost(Loss::Gone)?;
        let next = desk.reserve(&who).await?.granted()?;
        same("attempt", next.attempt, 1)?;
        holds(format!("{:?} is above {:?}", next.fence, grant.fence), next.fence > grant.fence)?;
    }
    Ok(())
}
