//! lookup: Q1; and that what one client did, every client sees: S9.

use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Table, ["Q1"], lookup_finds_nothing_where_nothing_is),
        case!(Table, ["Q1"], lookup_shows_the_life_of_a_record),
        case!(Table, ["Q1"], lookup_shows_a_lapsed_record),
        case!(Table, ["Q1"], lookup_changes_nothing),
        case!(Table, ["Q1", "S5"], lookup_sees_its_own_slot_alone),
        case!(Table, ["S9"], every_client_sees_what_another_did),
        case!(Table, ["S9"], a_grant_is_good_through_every_client),
        case!(Table, ["S6"], the_schema_may_be_ensured_again),
    ]
}

async fn lookup_finds_nothing_where_nothing_is(s: Stage) -> Told {
    let desk = s.slot()?;
    desk.lookup().await?.absent()?;
    desk.lookup().await?.absent()?;
    // Having been asked about, the slot is as free as before.
    same("attempt", desk.reserve(&s.caller()).await?.granted()?.attempt, 1)
}

async fn lookup_shows_the_life_of_a_record(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    let reserved = desk.lookup().await?.pending()?;
    same("begun", reserved.begun, false)?;
    let saved = checkpoint(1, "page 1")?;
    desk.renew(&grant, extend(HOUR)?.with_checkpoint(saved.clone())).await?.renewed()?;
    let renewed = desk.lookup().await?.pending()?;
    same("begun", renewed.begun, true)?;
    same("checkpoint", renewed.checkpoint, Some(saved))?;
    holds("the lease is longer", renewed.lease_expires_at > reserved.lease_expires_at)?;
    same("created_at", renewed.created_at, reserved.created_at)?;
    desk.complete(&grant, response("paid")).await?.stored()?;
    let replay = desk.reserve(&who.other()).await?.replayed()?;
    same("the record", desk.lookup().await?.completed()?, replay)
}

async fn lookup_shows_a_lapsed_record(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief());
    let grant = desk.reserve(&who).await?.granted()?;
    s.lapse().await;
    let seen = desk.lookup().await?.pending()?;
    same("lease left", seen.lease_left, None)?;
    same("fence", seen.fence, grant.fence)?;
    holds("the lease's end is still told", seen.lease_expires_at > Timestamp::ZERO)
}

async fn lookup_changes_nothing(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief());
    let grant = desk.reserve(&who).await?.granted()?;
    let before = desk.record().await?;
    same("the second look", desk.record().await?, before.clone())?;
    s.lapse().await;
    same("a look after the lease", desk.record().await?, before)?;
    desk.complete(&grant, response("paid")).await?.stored()?;
    let kept = desk.record().await?;
    same("the second look", desk.record().await?, kept)
}

async fn lookup_sees_its_own_slot_alone(s: Stage) -> Told {
    let (mine, yours) = (s.slot_named("me", "key")?, s.slot_named("you", "key")?);
    let grant = mine.reserve(&s.caller()).await?.granted()?;
    yours.lookup().await?.absent()?;
    mine.complete(&grant, response("mine")).await?.stored()?;
    yours.lookup().await?.absent()
}

async fn every_client_sees_what_another_did(s: Stage) -> Told {
    let other = s.client()?;
    for _ in 0..10 {
        let (here, who) = (s.slot()?, s.caller());
        let there = here.through(other.clone());
        let grant = here.reserve(&who).await?.granted()?;
        same("fence, as seen there", there.lookup().await?.pending()?.fence, grant.fence)?;
        there.reserve(&who.other()).await?.in_flight()?;
        there.renew(&grant, who.renewal()?).await?.renewed()?;
        same("begun, as seen here", here.lookup().await?.pending()?.begun, true)?;
        here.complete(&grant, response("paid")).await?.stored()?;
        same("the answer there", there.reserve(&who.other()).await?.replayed()?.response, response("paid"))?;
        same("the record there", there.record().await?, here.record().await?)?;
    }
    Ok(())
}

async fn a_grant_is_good_through_every_client(s: Stage) -> Told {
    let (here, who) = (s.slot()?, s.caller());
    let there = here.through(s.client()?);
    let grant = here.reserve(&who).await?.granted()?;
    same("the grant", there.reserve(&who).await?.granted()?, grant.clone())?;
    there.release(&grant).await?.released()?;
    refused(here.try_reserve(&who).await, ErrorKind::TokenSpent)?;
    let next = who.other();
    let grant = here.reserve(&next).await?.granted()?;
    there.complete(&grant, response("paid")).await?.stored()?;
    same("attempt", here.complete(&grant, response("paid")).await?.already_stored()?.attempt, 1)
}

async fn the_schema_may_be_ensured_again(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    let (one, two) = (s.client()?, s.client()?);
    let both = (one.ensure_schema(), two.ensure_schema(), s.store.ensure_schema());
    let (a, b, c) = tokio::join!(both.0, both.1, both.2);
    a?;
    b?;
    c?;
    same("fence", desk.lookup().await?.pending()?.fence, grant.fence)?;
    desk.complete(&grant, response("paid")).await?.stored()
}
