//! scan: O2.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use oncekey_core::{IdempotencyAdmin, Phase, ScanFilter, ScanRequest, Slot, Summary};

use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Table, ["O2"], a_scan_shows_each_record_once, needs Scan),
        case!(Table, ["O2"], a_scan_has_the_same_order_each_time, needs Scan),
        case!(Table, ["O2"], a_scan_says_what_lookup_says, needs Scan),
        case!(Table, ["O2"], a_scan_shows_what_its_filter_asks_for, needs Scan),
        case!(Table, ["O2"], a_scan_shows_nothing_that_is_absent, needs Scan),
        case!(Table, ["O2"], a_scan_goes_on_through_changes, needs Scan),
        case!(Table, ["O2"], a_scan_changes_nothing, needs Scan),
    ]
}

/// All pages, of at most `limit` summaries each.
async fn all_pages(
    store: &dyn IdempotencyAdmin,
    limit: u32,
    filter: ScanFilter,
) -> Result<Vec<Summary>, Failure> {
    let limit = NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN);
    let mut request = ScanRequest::first(limit).only(filter);
    let mut seen = Vec::new();
    for _ in 0..1_000 {
        let page = store.scan(&request).await?;
        let length = page.summaries.len();
        holds(format!("a page of {length} is within its limit of {limit}"), length <= limit.get() as usize)?;
        seen.extend(page.summaries);
        match page.next {
            Some(next) => request = request.after(next),
            None => return Ok(seen),
        }
    }
    Err(failed("a scan of a few records hasn't ended after 1000 pages"))
}

fn slots(summaries: &[Summary]) -> Vec<Slot> {
    summaries.iter().map(|summary| summary.slot.clone()).collect()
}

/// Records under keys that sort in every which way.
async fn records(s: &Stage, count: usize) -> Result<Vec<Desk>, Failure> {
    let mut desks = Vec::new();
    for number in 0..count {
        let desk = s.slot_named(&format!("p{}", number % 3), &format!("{}-é-{number}", number * 7 % 10))?;
        desk.reserve(&s.caller()).await?.granted()?;
        desks.push(desk);
    }
    Ok(desks)
}

async fn a_scan_shows_each_record_once(s: Stage) -> Told {
    let desks = records(&s, 17).await?;
    let mut expected: Vec<_> = desks.iter().map(|desk| desk.slot.clone()).collect();
    expected.sort();
    for limit in [1, 3, 17, 1_000] {
        let mut seen = slots(&all_pages(&*s.store, limit, ScanFilter::All).await?);
        seen.sort();
        same(format!("slots in pages of {limit}"), seen, expected.clone())?;
    }
    Ok(())
}

async fn a_scan_has_the_same_order_each_time(s: Stage) -> Told {
    records(&s, 17).await?;
    let first = slots(&all_pages(&*s.store, 4, ScanFilter::All).await?);
    same("in other pages", slots(&all_pages(&*s.store, 5, ScanFilter::All).await?), first.clone())?;
    same("through another client", slots(&all_pages(&*s.client()?, 4, ScanFilter::All).await?), first)
}

async fn a_scan_says_what_lookup_says(s: Stage) -> Told {
    let (live, lapsed, done) = (s.slot()?, s.slot()?, s.slot()?);
    let who = s.caller().refusing();
    let grant = live.reserve(&who).await?.granted()?;
    live.renew(&grant, who.renewal()?).await?.renewed()?;
    let grant = lapsed.reserve(&s.caller()).await?.granted()?;
    lapsed.hand_over(&grant).await?.renewed()?;
    let grant = done.reserve(&s.caller()).await?.granted()?;
    done.complete(&grant, response("paid")).await?.stored()?;
    let summaries: BTreeMap<_, _> =
        all_pages(&*s.store, 2, ScanFilter::All).await?.into_iter().map(|x| (x.slot.clone(), x)).collect();
    let of = |desk: &Desk| summaries.get(&desk.slot).cloned().ok_or_else(|| failed("a record is missing"));

    for desk in [&live, &lapsed] {
        let (seen, it) = (desk.lookup().await?.pending()?, of(desk)?);
        same("fingerprint", it.fingerprint, seen.fingerprint)?;
        same("fence and attempt", (it.fence, it.attempt), (seen.fence, seen.attempt))?;
        same("created_at", it.created_at, seen.created_at)?;
        same("expires_at", it.expires_at, seen.expires_at)?;
        let (policy, begun, lease_expires_at) = (seen.policy, seen.begun, seen.lease_expires_at);
        let lapsed = seen.lease_left.is_none();
        same("phase", it.phase, Phase::Pending { policy, begun, lease_expires_at, lapsed })?;
    }
    let (seen, it) = (done.lookup().await?.completed()?, of(&done)?);
    same("fingerprint", it.fingerprint, seen.fingerprint)?;
    same("fence and attempt", (it.fence, it.attempt), (seen.fence, seen.attempt))?;
    same("created_at", it.created_at, seen.created_at)?;
    same("expires_at", it.expires_at, seen.expires_at)?;
    same("phase", it.phase, Phase::Completed { status: 200, completed_at: seen.completed_at })
}

async fn a_scan_shows_what_its_filter_asks_for(s: Stage) -> Told {
    let (mut live, mut lapsed, mut done) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..9 {
        let desk = s.slot()?;
        let grant = desk.reserve(&s.caller()).await?.granted()?;
        match number % 3 {
            0 => live.push(desk.slot),
            1 => {
                desk.hand_over(&grant).await?.renewed()?;
                lapsed.push(desk.slot);
            }
            _ => {
                desk.complete(&grant, response("paid")).await?.stored()?;
                done.push(desk.slot);
            }
        }
    }
    let pending = [live, lapsed.clone()].concat();
    for (filter, mut expected) in [
        (ScanFilter::All, [pending.clone(), done].concat()),
        (ScanFilter::Pending, pending),
        (ScanFilter::Lapsed, lapsed),
    ] {
        let mut seen = slots(&all_pages(&*s.store, 2, filter).await?);
        seen.sort();
        expected.sort();
        same(format!("{filter:?}"), seen, expected)?;
    }
    Ok(())
}

async fn a_scan_shows_nothing_that_is_absent(s: Stage) -> Told {
    let (released, ended, free) = (s.slot()?, s.slot()?, s.slot()?);
    let grant = released.reserve(&s.caller()).await?.granted()?;
    released.release(&grant).await?.released()?;
    let grant = ended.reserve(&s.fleeting()).await?.granted()?;
    ended.complete(&grant, response("paid")).await?.stored()?;
    free.lookup().await?.absent()?;
    s.expire().await;
    for filter in [ScanFilter::All, ScanFilter::Pending, ScanFilter::Lapsed] {
        same(format!("{filter:?}"), all_pages(&*s.store, 10, filter).await?, Vec::new())?;
    }
    Ok(())
}

async fn a_scan_goes_on_through_changes(s: Stage) -> Told {
    let desks = records(&s, 12).await?;
    let limit = NonZeroU32::MIN.saturating_add(2);
    let first = s.store.scan(&ScanRequest::first(limit)).await?;
    let mut seen = slots(&first.summaries);
    // Between two pages, records come, are settled, and one that was shown is released.
    let comers = [s.slot_named("p0", "!")?, s.slot_named("p1", "5-")?, s.slot_named("zz", "~")?];
    for comer in &comers {
        comer.reserve(&s.caller()).await?.granted()?;
    }
    let mut next = first.next;
    let mut pages = 0;
    while let Some(cursor) = next {
        let page = s.store.scan(&ScanRequest::first(limit).after(cursor)).await?;
        seen.extend(slots(&page.summaries));
        next = page.next;
        pages += 1;
        holds("a scan of a few records ends", pages < 1_000)?;
    }
    for desk in &desks {
        let times = seen.iter().filter(|slot| **slot == desk.slot).count();
        same("how often a record that was there throughout is shown", times, 1)?;
    }
    for comer in &comers {
        let times = seen.iter().filter(|slot| **slot == comer.slot).count();
        holds(format!("a newcomer is shown once or not at all, not {times} times"), times <= 1)?;
    }
    Ok(())
}

async fn a_scan_changes_nothing(s: Stage) -> Told {
    let desks = records(&s, 3).await?;
    let mut before = Vec::new();
    for desk in &desks {
        before.push(desk.record().await?);
    }
    all_pages(&*s.store, 2, ScanFilter::All).await?;
    for (desk, before) in desks.iter().zip(before) {
        same("the record", desk.record().await?, before)?;
    }
    Ok(())
}
