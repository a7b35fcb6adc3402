//! Old calls that arrive late, on purpose: S2 and S6.

use oncekey_core::ReservationOutcome;

use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Table, ["S2"], ghosts_change_nothing_after_a_takeover),
        case!(Table, ["S2", "S3"], ghosts_change_nothing_after_the_successors_answer),
        case!(Table, ["S2", "S3"], ghosts_change_nothing_after_their_own_answer),
        case!(Table, ["S2"], ghosts_change_nothing_after_a_release),
        case!(Table, ["S2", "R11"], ghosts_change_nothing_after_a_release_and_another_grant),
        case!(Table, ["S2"], ghosts_change_nothing_after_the_end_and_another_grant),
        case!(Table, ["S2", "C4"], a_token_that_takes_over_twice_has_two_grants),
        case!(Table, ["S6"], every_call_may_be_made_twice),
        case!(Model, ["S2", "S6"], a_storm_of_old_calls_changes_nothing),
    ]
}

/// A call of the past, on its way once more.
#[derive(Clone, Debug)]
enum Ghost {
    Reserve(Caller),
    Renew(Grant, u64),
    HandOver(Grant),
    Complete(Grant),
    Release(Grant),
}

/// Everything that this holder may have sent.
fn ghosts(who: &Caller, grant: &Grant) -> Vec<Ghost> {
    let grant = || grant.clone();
    vec![
        Ghost::Reserve(*who),
        Ghost::Renew(grant(), 99),
        Ghost::Complete(grant()),
        Ghost::Release(grant()),
        Ghost::HandOver(grant()),
        Ghost::Reserve(who.lease(YEAR).retention(YEAR)),
    ]
}

impl Ghost {
    /// Arrives. What it hears is its own affair; an error other than that its token is spent is not.
    async fn arrive(&self, desk: &Desk) -> Told {
        let arrived = match self {
            Self::Reserve(who) => match desk.try_reserve(who).await {
                Ok(ReservationOutcome::Reserved(_)) => Some("granted"),
                Ok(_) => None,
                Err(e) if e.kind() == ErrorKind::TokenSpent => None,
                Err(e) => return Err(e.into()),
            },
            Self::Renew(grant, sequence) => {
                let renewal = extend(YEAR)?.with_checkpoint(checkpoint(*sequence, "a ghost's")?);
                desk.renew(grant, renewal).await?.renewed().ok().map(|_| "renewed")
            }
            Self::HandOver(grant) => desk.hand_over(grant).await?.renewed().ok().map(|_| "handed over"),
            Self::Complete(grant) => {
                desk.complete(grant, response("a ghost's")).await?.stored().ok().map(|()| "stored")
            }
            Self::Release(grant) => {
                // Where it released, it released before: L4 says so again.
                let _released_or_not = desk.release(grant).await?;
                None
            }
        };
        arrived.map_or(Ok(()), |done| Err(failed(format!("a ghost was {done}: {self:?}"))))
    }
}

/// All of `ghosts` arrive, and the record stays what it was.
async fn haunt(desk: &Desk, ghosts: &[Ghost]) -> Told {
    let before = desk.record().await?;
    for ghost in ghosts {
        ghost.arrive(desk).await?;
        same(format!("the record after {ghost:?}"), desk.record().await?, before.clone())?;
    }
    Ok(())
}

async fn ghosts_change_nothing_after_a_takeover(s: Stage) -> Told {
    let (desk, who, next) = (s.slot()?, s.brief(), s.caller());
    let old = desk.reserve(&who).await?.granted()?;
    s.lapse().await;
    let new = desk.reserve(&next).await?.granted()?;
    haunt(&desk, &ghosts(&who, &old)).await?;
    desk.complete(&new, response("paid")).await?.stored()
}

async fn ghosts_change_nothing_after_the_successors_answer(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief());
    let old = desk.reserve(&who).await?.granted()?;
    s.lapse().await;
    let new = desk.reserve(&s.caller()).await?.granted()?;
    desk.complete(&new, response("paid")).await?.stored()?;
    haunt(&desk, &ghosts(&who, &old)).await?;
    same("response", desk.reserve(&who).await?.replayed()?.response, response("paid"))
}

async fn ghosts_change_nothing_after_their_own_answer(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let grant = desk.reserve(&who).await?.granted()?;
    desk.complete(&grant, response("paid")).await?.stored()?;
    haunt(&desk, &ghosts(&who, &grant)).await?;
    same("response", desk.reserve(&who).await?.replayed()?.response, response("paid"))
}

async fn ghosts_change_nothing_after_a_release(s: Stage) -> Told {
    for who in [s.caller(), s.caller().refusing()] {
        let desk = s.slot()?;
        let grant = desk.reserve(&who).await?.granted()?;
        desk.release(&grant).await?.released()?;
        haunt(&desk, &ghosts(&who, &grant)).await?;
        same("attempt", desk.reserve(&who.other()).await?.granted()?.attempt, 1)?;
    }
    Ok(())
}

async fn ghosts_change_nothing_after_a_release_and_another_grant(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let first = desk.reserve(&who).await?.granted()?;
    desk.release(&first).await?.released()?;
    let second = desk.reserve(&who.other()).await?.granted()?;
    haunt(&desk, &ghosts(&who, &first)).await?;
    desk.release(&second).await?.released()?;
    // The slot is free again; its memory is of the second token now.
    let old: Vec<_> = ghosts(&who, &first).into_iter().filter(|g| !matches!(g, Ghost::Reserve(_))).collect();
    haunt(&desk, &old).await
}

async fn ghosts_change_nothing_after_the_end_and_another_grant(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.fleeting());
    let first = desk.reserve(&who).await?.granted()?;
    desk.complete(&first, response("of the first")).await?.stored()?;
    s.expire().await;
    let second = desk.reserve(&s.caller()).await?.granted()?;
    haunt(&desk, &ghosts(&who, &first)).await?;
    desk.complete(&second, response("of the second")).await?.stored()?;
    haunt(&desk, &ghosts(&who, &first)).await
}

async fn a_token_that_takes_over_twice_has_two_grants(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.brief());
    let first = desk.reserve(&who).await?.granted()?;
    s.lapse().await;
    desk.reserve(&who.other()).await?.granted()?;
    s.lapse().await;
    // A copy of the first call, delayed until now, takes over again with the token of the first grant.
    let third = desk.reserve(&who.lease(10 * MINUTE)).await?.granted()?;
    same("attempt", third.attempt, 3)?;
    let before = desk.record().await?;
    desk.complete(&first, response("of the first grant")).await?.lost(Loss::TakenOver)?;
    desk.renew(&first, extend(YEAR)?).await?.lost(Loss::TakenOver)?;
    desk.release(&first).await?.lost(Loss::TakenOver)?;
    desk.hand_over(&first).await?.lost(Loss::TakenOver)?;
    same("the record", desk.record().await?, before)?;
    desk.complete(&third, response("of the third")).await?.stored()?;
    desk.complete(&first, response("of the first grant")).await?.lost(Loss::TakenOver)
}

async fn every_call_may_be_made_twice(s: Stage) -> Told {
    for who in [s.caller(), s.caller().refusing()] {
        let desk = s.slot()?;
        let grant = desk.reserve(&who).await?.granted()?;
        same("the grant", desk.reserve(&who).await?.granted()?, grant.clone())?;
        let renewal = who.renewal()?.with_checkpoint(checkpoint(1, "page 1")?);
        for _ in 0..2 {
            same("sequence", desk.renew(&grant, renewal.clone()).await?.renewed()?.sequence, 1)?;
        }
        for _ in 0..2 {
            desk.hand_over(&grant).await?.renewed()?;
        }
        desk.complete(&grant, response("paid")).await?.stored()?;
        let kept = desk.complete(&grant, response("paid")).await?.already_stored()?;
        same("attempt", kept.attempt, 1)?;
        for _ in 0..2 {
            same("the replay", desk.reserve(&who).await?.replayed()?, kept.clone())?;
        }
    }
    Ok(())
}

/// A random life of one slot; after each step, old calls arrive in random order, and change nothing.
async fn a_storm_of_old_calls_changes_nothing(s: Stage) -> Told {
    let mut random = s.random();
    for _ in 0..6 {
        let desk = s.slot()?;
        let mut past = Vec::new();
        let mut who = s.caller();
        let mut grant = desk.reserve(&who).await?.granted()?;
        for _ in 0..6 {
            // The holder goes, one way or the other, and the next one comes.
            let attempt = if random.bool() {
                desk.hand_over(&grant).await?.renewed()?;
                grant.attempt + 1
            } else {
                desk.release(&grant).await?.released()?;
                if grant.attempt == 1 { 1 } else { grant.attempt + 1 }
            };
            past.extend(ghosts(&who, &grant));
            who = who.other();
            grant = desk.reserve(&who).await?.granted()?;
            same("attempt", grant.attempt, attempt)?;
            random.shuffle(&mut past);
            haunt(&desk, &past[..past.len().min(8)]).await?;
        }
        desk.complete(&grant, response("paid")).await?.stored()?;
        haunt(&desk, &past).await?;
    }
    Ok(())
}
