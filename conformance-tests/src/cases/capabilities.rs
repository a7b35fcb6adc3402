//! What the harness says of the store is so: what it lacks answers Unsupported, and time moves.

use std::num::NonZeroU32;

use oncekey_core::{Resolution, ScanRequest, Seen, StoreError};

use crate::harness::{Capability, TimeControl};
use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Table, ["S7", "O1", "O2"], what_is_lacking_answers_unsupported),
        case!(Table, ["S1"], time_moves_as_the_harness_says),
        case!(Table, ["S1"], time_moves_for_every_client, needs ShiftTime),
    ]
}

async fn what_is_lacking_answers_unsupported(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    let seen = Seen { fence: grant.fence, lease_expires_at: Timestamp::ZERO };
    let other = Fence::new(grant.fence.get() + 1);
    check(&s, Capability::Resolve, s.store.resolve(&desk.slot, seen, &Resolution::Release).await)?;
    check(&s, Capability::Purge, s.store.purge(&desk.slot, other).await)?;
    check(&s, Capability::Scan, s.store.scan(&ScanRequest::first(NonZeroU32::MIN)).await)?;
    check(&s, Capability::Stats, s.store.stats().await)?;
    check(&s, Capability::Assess, s.store.assess().await)?;
    desk.complete(&grant, response("paid")).await?.stored()
}

#[track_caller]
fn check<T: std::fmt::Debug>(s: &Stage, capability: Capability, call: Result<T, StoreError>) -> Told {
    if s.context.capabilities.has(capability) {
        holds(format!("{capability:?} answers, and said {call:?}"), call.is_ok())
    } else {
        refused(call, ErrorKind::Unsupported)
    }
}

async fn time_moves_as_the_harness_says(s: Stage) -> Told {
    let has = |capability| s.context.capabilities.has(capability);
    let shifts = matches!(s.context.namespace.time(), TimeControl::Shift(_));
    same("ShiftTime among the capabilities, and TimeControl::Shift", has(Capability::ShiftTime), shifts)?;
    holds("where time moves back it moves at all", shifts || !has(Capability::RewindTime))?;
    // A lease ends, one way or the other.
    let desk = s.slot()?;
    desk.reserve(&s.brief()).await?.granted()?;
    s.lapse().await;
    same("lease left", desk.lookup().await?.pending()?.lease_left, None)
}

async fn time_moves_for_every_client(s: Stage) -> Told {
    let (here, who) = (s.slot()?, s.caller().lease(10 * MINUTE));
    let there = here.through(s.client()?);
    here.reserve(&who).await?.granted()?;
    there.reserve(&who.other()).await?.in_flight()?;
    s.advance(11 * MINUTE)?;
    let later = here.through(s.client()?);
    for desk in [&here, &there, &later] {
        same("lease left", desk.lookup().await?.pending()?.lease_left, None)?;
    }
    same("attempt", there.reserve(&who.other()).await?.granted()?.attempt, 2)
}
