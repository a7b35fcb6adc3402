//! reserve_or_fetch: R1 to R11.

use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Table, ["R1"], an_unknown_slot_is_reserved),
        case!(Table, ["R9", "S3"], a_completed_slot_replays_its_answer),
        case!(Table, ["R5"], takeover_hands_on_the_checkpoint),
    ]
}

async fn an_unknown_slot_is_reserved(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    same("attempt", grant.attempt, 1)?;
    same("token", grant.token, who.token)?;
    same("checkpoint", grant.checkpoint, None)
}

async fn a_completed_slot_replays_its_answer(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.complete(&grant, response("paid")).await?.stored()?;
    let replay = desk.reserve(&who.other()).await?.replayed()?;
    same("response", replay.response, response("paid"))
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
