//! Many callers on many slots, as a service sees it: S1, S3, S4, S5.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use oncekey_core::{CompleteOutcome, ReservationOutcome};

use crate::kit::crowd::Crowd;
use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Race, ["R7", "S3", "S5"], a_swarm_does_each_of_many_things_once),
        case!(Race, ["S1", "S4"], a_slot_has_one_holder_at_a_time),
        case!(Race, ["S1", "S2", "R5"], a_swarm_that_falls_silent_has_one_answer),
    ]
}

const SLOTS: usize = 40;
const WORKERS: usize = 8;

/// Every worker wants everything, in an order of its own. Each thing is done once, and everybody hears the
/// same answer.
async fn a_swarm_does_each_of_many_things_once(s: Stage) -> Told {
    let crowd = Arc::new(Crowd::new(&s, 4)?);
    let desks = (0..SLOTS).map(|_| s.slot()).collect::<Result<Vec<_>, _>>()?;
    let desks: Arc<[Desk]> = desks.into();
    let (who, seed) = (s.caller(), s.context.seed);
    let done = crowd
        .rush(&desks[0], WORKERS, |worker, _| {
            let (crowd, desks) = (Arc::clone(&crowd), Arc::clone(&desks));
            async move {
                let mut random = fastrand::Rng::with_seed(seed.wrapping_add(worker as u64));
                let mut order: Vec<usize> = (0..SLOTS).collect();
                random.shuffle(&mut order);
                let mut done = Vec::new();
                for number in order {
                    let desk = crowd.desk(&desks[number], worker);
                    if let ReservationOutcome::Reserved(grant) = desk.reserve(&who.other()).await? {
                        let answer = response(format!("slot {number} by worker {worker}"));
                        desk.complete(&grant, answer).await?.stored()?;
                        done.push((number, worker));
                    }
                }
                Ok(done)
            }
        })
        .await?;
    let mut done: Vec<_> = done.into_iter().flatten().collect();
    done.sort_unstable();
    same(
        "slots that were done",
        done.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(),
        (0..SLOTS).collect::<Vec<_>>(),
    )?;
    for (number, worker) in done {
        let replay = crowd.desk(&desks[number], worker + 1).reserve(&who.other()).await?.replayed()?;
        same("the answer", replay.response, response(format!("slot {number} by worker {worker}")))?;
    }
    Ok(())
}

/// Workers reserve, look whether they are alone, and release or hand over; over and over.
async fn a_slot_has_one_holder_at_a_time(s: Stage) -> Told {
    let crowd = Crowd::new(&s, 4)?;
    let (desk, who) = (s.slot()?, s.caller());
    let (held, grants) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let fences = crowd
        .rush(&desk, WORKERS, |worker, desk| {
            let (held, grants) = (Arc::clone(&held), Arc::clone(&grants));
            async move {
                let mut fences = Vec::new();
                // Until the slot was held often enough, by whomever; and never for ever.
                for _ in 0..2_000 {
                    if grants.load(Ordering::SeqCst) >= 60 {
                        break;
                    }
                    let ReservationOutcome::Reserved(grant) = desk.reserve(&who.other()).await? else {
                        tokio::task::yield_now().await;
                        continue;
                    };
                    holds("nobody else holds the slot", !held.swap(true, Ordering::SeqCst))?;
                    grants.fetch_add(1, Ordering::SeqCst);
                    fences.push(grant.fence);
                    tokio::task::yield_now().await;
                    held.store(false, Ordering::SeqCst);
                    if worker % 2 == 0 {
                        desk.release(&grant).await?.released()?;
                    } else {
                        desk.hand_over(&grant).await?.renewed()?;
                    }
                    // Whoever settles lets others in: a store that never waits would have one holder throughout.
                    tokio::task::yield_now().await;
                }
                Ok(fences)
            }
        })
        .await?;
    for own in &fences {
        holds(format!("each worker's fences rise: {own:?}"), own.is_sorted())?;
    }
    let all: Vec<_> = fences.into_iter().flatten().collect();
    let apart: BTreeSet<_> = all.iter().copied().collect();
    same("different fences", apart.len(), all.len())
}

/// Every worker reserves and falls silent; later all complete. The last grant's answer is the one.
async fn a_swarm_that_falls_silent_has_one_answer(s: Stage) -> Told {
    let crowd = Crowd::new(&s, 4)?;
    let desk = s.slot()?;
    let mut grants = Vec::new();
    for worker in 0..WORKERS {
        let grant = crowd.desk(&desk, worker).reserve(&s.caller()).await?.granted()?;
        same("attempt", grant.attempt as usize, worker + 1)?;
        if worker + 1 < WORKERS {
            crowd.desk(&desk, worker + 1).hand_over(&grant).await?.renewed()?;
        }
        grants.push(grant);
    }
    let grants: Arc<[Grant]> = grants.into();
    let outcomes = crowd
        .rush(&desk, WORKERS, |worker, desk| {
            let grants = Arc::clone(&grants);
            async move { desk.complete(&grants[worker], response(format!("of worker {worker}"))).await }
        })
        .await?;
    for (worker, outcome) in outcomes.into_iter().enumerate() {
        if worker + 1 == WORKERS {
            same("the last grant's", outcome, CompleteOutcome::Stored)?;
        } else {
            outcome.lost(Loss::TakenOver)?;
        }
    }
    let last = format!("of worker {}", WORKERS - 1);
    same("response", desk.reserve(&s.caller()).await?.replayed()?.response, response(last))
}
