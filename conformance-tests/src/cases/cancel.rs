//! Dropped calls: S8.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use oncekey_core::CompleteOutcome;

use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Race, ["S8", "S6"], a_dropped_reserve_may_be_made_again),
        case!(Race, ["S8", "S6"], a_dropped_complete_may_be_made_again),
        case!(Race, ["S8"], a_storm_of_dropped_calls_poisons_no_client),
    ]
}

/// After how many polls a call is dropped: before it began, in its first steps, and after some milliseconds.
const CUTS: [u32; 14] = [0, 1, 2, 3, 4, 6, 10, 20, 50, 100, 300, 1_000, 3_000, 10_000];

/// The call's answer, or none where it is dropped before its answer, after so many polls.
async fn cut<F: Future>(call: F, polls: u32) -> Option<F::Output> {
    let mut call = pin!(call);
    let mut left = polls;
    poll_fn(|context| {
        let Some(rest) = left.checked_sub(1) else { return Poll::Ready(None) };
        left = rest;
        match call.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    })
    .await
}

async fn a_dropped_reserve_may_be_made_again(s: Stage) -> Told {
    for polls in CUTS {
        let (desk, who) = (s.slot()?, s.caller());
        let _dropped = cut(desk.reserve(&who), polls).await;
        // Whether the dropped call had an effect, or has one now, its token is this one's.
        let grant = desk.reserve(&who).await?.granted()?;
        same("attempt", grant.attempt, 1)?;
        desk.complete(&grant, response("paid")).await?.stored()?;
        same("response", desk.reserve(&who.other()).await?.replayed()?.response, response("paid"))?;
    }
    Ok(())
}

async fn a_dropped_complete_may_be_made_again(s: Stage) -> Told {
    for polls in CUTS {
        let (desk, who) = (s.slot()?, s.caller());
        let grant = desk.reserve(&who).await?.granted()?;
        let _dropped = cut(desk.complete(&grant, response("paid")), polls).await;
        match desk.complete(&grant, response("paid")).await? {
            CompleteOutcome::Stored => {}
            other => same("response", other.already_stored()?.response, response("paid"))?,
        }
        same("response", desk.reserve(&who.other()).await?.replayed()?.response, response("paid"))?;
    }
    Ok(())
}

/// Calls of every kind are dropped at random, on one client; then that client works as ever, and what it
/// says is there, is there for others.
async fn a_storm_of_dropped_calls_poisons_no_client(s: Stage) -> Told {
    let mut random = s.random();
    let other = s.client()?;
    for _ in 0..10 {
        let storm = s.slot()?;
        let grant = storm.reserve(&s.caller()).await?.granted()?;
        for _ in 0..10 {
            let polls = CUTS[random.usize(..CUTS.len() - 1)];
            match random.u8(..7) {
                0 => drop(cut(storm.reserve(&s.caller()), polls).await),
                1 => drop(cut(storm.renew(&grant, extend(HOUR)?), polls).await),
                2 => drop(cut(storm.hand_over(&grant), polls).await),
                3 => drop(cut(storm.complete(&grant, response("paid")), polls).await),
                4 => drop(cut(storm.release(&grant), polls).await),
                5 => drop(cut(storm.lookup(), polls).await),
                _ => drop(cut(s.collect_all(), polls).await),
            }
        }
        let (desk, who) = (s.slot()?, s.caller());
        let grant = desk.reserve(&who).await?.granted()?;
        same("fence", desk.through(other.clone()).lookup().await?.pending()?.fence, grant.fence)?;
        desk.complete(&grant, response("whole")).await?.stored()?;
        let there = desk.through(other.clone()).reserve(&who.other()).await?.replayed()?;
        same("response", there.response, response("whole"))?;
    }
    Ok(())
}
