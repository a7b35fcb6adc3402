//! watch: Q2. Whoever waits for a holder is woken when it ends, whichever client ended it.
//!
//! A watch is a hint, so none of these asks that one stays pending. Where a store begins to listen with the
//! first watch it may complete that one for nothing; so each is made twice through the same clients.

use std::sync::Arc;

use oncekey_core::{
    Faulty, How, Idempotency, IdempotencyRecord, Method, ReservationOutcome, Resolution, ResolveOutcome,
    RunOutcome, StoredResponse, Watch,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::case::Failure;
use crate::kit::crowd::{CLIENTS, Crowd, ROUNDS};
use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(Table, ["Q2"], watching_changes_nothing),
        case!(Table, ["Q2", "C1"], a_watch_completes_when_the_work_is_done, needs Wake),
        case!(Table, ["Q2", "L1", "L2"], a_watch_completes_when_the_holder_releases, needs Wake),
        case!(Table, ["Q2", "W4"], a_watch_completes_when_the_holder_hands_over, needs Wake),
        case!(Table, ["Q2", "O1"], a_watch_completes_when_an_operator_resolves, needs Wake Resolve),
        case!(Table, ["Q2", "O2"], a_watch_completes_when_the_record_is_purged, needs Wake Purge),
        case!(Race, ["Q2", "R9"], a_caller_that_waits_gets_the_answer),
        case!(Race, ["Q2", "R9"], all_who_wait_are_woken_to_the_answer, needs Wake),
        case!(Race, ["Q2", "W4"], a_slot_goes_round_to_all_who_wait, needs Wake),
    ]
}

/// How often the same clients watch, one slot after another.
const TWICE: usize = 2;

async fn watching_changes_nothing(s: Stage) -> Told {
    let (desk, who) = (s.slot()?, s.caller());
    let kept = desk.watch();
    drop(desk.watch());
    desk.lookup().await?.absent()?;
    let grant = desk.reserve(&who).await?.granted()?;
    same("attempt", grant.attempt, 1)?;
    let held = desk.record().await?;
    let many: Vec<Watch> = (0..1_000).map(|_| desk.watch()).collect();
    same("the record, watched", desk.record().await?, held.clone())?;
    drop(many);
    same("the record, watched no longer", desk.record().await?, held)?;
    desk.complete(&grant, response("paid")).await?.stored()?;
    let paid = desk.record().await?;
    drop((desk.watch(), kept));
    same("the record, finished", desk.record().await?, paid)
}

/// Two watches of a slot, through a client that didn't end the hold: one that was awaited while the holder
/// was at work, and one that is awaited only now.
struct Watched {
    before: JoinSet<()>,
    after: Watch,
}

impl Watched {
    fn by(desk: &Desk) -> Self {
        let (mut before, after) = (JoinSet::new(), desk.watch());
        before.spawn(desk.watch());
        Self { before, after }
    }

    async fn woken(mut self, s: &Stage, by: &str) -> Told {
        woken(s.patience(), by, async { drop(self.before.join_next().await) }).await?;
        woken(s.patience(), by, self.after).await
    }
}

async fn a_watch_completes_when_the_work_is_done(s: Stage) -> Told {
    let other = s.client()?;
    for _ in 0..TWICE {
        let (here, who) = (s.slot()?, s.caller());
        let there = here.through(Arc::clone(&other));
        let grant = here.reserve(&who).await?.granted()?;
        let watched = Watched::by(&there);
        there.reserve(&who.other()).await?.in_flight()?;
        here.complete(&grant, response("paid")).await?.stored()?;
        watched.woken(&s, "complete").await?;
        there.reserve(&who.other()).await?.replayed()?;
    }
    Ok(())
}

async fn a_watch_completes_when_the_holder_releases(s: Stage) -> Told {
    let other = s.client()?;
    for _ in 0..TWICE {
        let (here, who) = (s.slot()?, s.brief());
        let there = here.through(Arc::clone(&other));
        let first = here.reserve(&who).await?.granted()?;
        let watched = Watched::by(&there);
        here.release(&first).await?.released()?;
        watched.woken(&s, "release").await?;
        // A release in doubt leaves the record, and frees the slot all the same.
        here.reserve(&who.other()).await?.granted()?;
        s.lapse().await;
        let second = here.reserve(&s.caller()).await?.granted()?;
        let watched = Watched::by(&there);
        here.release(&second).await?.released()?;
        watched.woken(&s, "release in doubt").await?;
        same("attempt", there.reserve(&who.other()).await?.granted()?.attempt, 3)?;
    }
    Ok(())
}

async fn a_watch_completes_when_the_holder_hands_over(s: Stage) -> Told {
    let other = s.client()?;
    for who in [s.caller(), s.caller(), s.caller().refusing(), s.caller().refusing()] {
        for begun in [false, true] {
            let here = s.slot()?;
            let there = here.through(Arc::clone(&other));
            let grant = here.reserve(&who).await?.granted()?;
            if begun {
                here.renew(&grant, who.renewal()?).await?.renewed()?;
            }
            let watched = Watched::by(&there);
            here.hand_over(&grant).await?.renewed()?;
            watched.woken(&s, "hand over").await?;
        }
    }
    Ok(())
}

async fn a_watch_completes_when_an_operator_resolves(s: Stage) -> Told {
    let other = s.client()?;
    for _ in 0..TWICE {
        for resolution in [Resolution::Release, Resolution::Complete(Completion::new(response("paid")))] {
            let (here, who) = (s.slot()?, s.brief().refusing());
            let there = here.through(Arc::clone(&other));
            let grant = here.reserve(&who).await?.granted()?;
            here.renew(&grant, who.renewal()?).await?.renewed()?;
            s.lapse().await;
            let watched = Watched::by(&there);
            let seen = there.lookup().await?.pending()?;
            same("resolve", here.resolve(seen.seen(), resolution).await?, ResolveOutcome::Resolved)?;
            watched.woken(&s, "resolve").await?;
        }
    }
    Ok(())
}

async fn a_watch_completes_when_the_record_is_purged(s: Stage) -> Told {
    let other = s.client()?;
    for _ in 0..TWICE {
        let (here, who) = (s.slot()?, s.caller());
        let there = here.through(Arc::clone(&other));
        let grant = here.reserve(&who).await?.granted()?;
        let watched = Watched::by(&there);
        same("purge", here.purge(grant.fence).await?, true)?;
        watched.woken(&s, "purge").await?;
        same("attempt", there.reserve(&who.other()).await?.granted()?.attempt, 1)?;
    }
    Ok(())
}

/// The runner waits through the store, whether that wakes or not.
async fn a_caller_that_waits_gets_the_answer(s: Stage) -> Told {
    for waits_already in [false, true] {
        let (desk, who) = (s.slot()?, s.caller());
        let grant = desk.reserve(&who).await?.granted()?;
        let store = Faulty::new(s.client()?);
        let told = store.hold_next_answer(Method::Reserve);
        let runner = Idempotency::at_least_once(store.clone()).terms(10 * MINUTE, DAY)?;
        let call = runner.call(&desk.slot, who.fingerprint()).wait_up_to(s.patience());
        let mut waiting = JoinSet::new();
        waiting.spawn(call.run(async |_| Ok::<StoredResponse, std::io::Error>(response("paid twice"))));
        // It has been told InFlight, and hasn't heard it yet.
        told.reached().await;
        if waits_already {
            told.open();
            let looks_again = async {
                while store.calls(Method::Reserve) < 2 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                () = looks_again => {}
                ran = waiting.join_next() => return Err(failed(format!("it should wait, and heard {ran:?}"))),
            }
        }
        desk.complete(&grant, response("paid")).await?.stored()?;
        told.open();
        let Some(ran) = waiting.join_next().await else { return Err(failed("nobody waits")) };
        match ran?? {
            RunOutcome::Done { value, how: How::Replayed } => same("value", value, response("paid"))?,
            other => return Err(failed(format!("expected the holder's answer, saw {other:?}"))),
        }
    }
    Ok(())
}

const WAITERS: usize = 8;

/// Looks, and looks again when it is woken, and never for any other reason. `told` counts those who wait.
async fn wait_for_answer(
    desk: Desk,
    who: Caller,
    patience: Duration,
    told: Arc<Semaphore>,
) -> Result<IdempotencyRecord, Failure> {
    let mut first = true;
    loop {
        let watch = desk.watch();
        match desk.reserve(&who).await? {
            ReservationOutcome::InFlight(_) => {
                if std::mem::take(&mut first) {
                    told.add_permits(1);
                }
                woken(patience, "complete", watch).await?;
            }
            other => return other.replayed(),
        }
    }
}

async fn all_who_wait_are_woken_to_the_answer(s: Stage) -> Told {
    let crowd = Crowd::new(&s, CLIENTS)?;
    for _ in 0..ROUNDS {
        let (desk, who, told) = (s.slot()?, s.caller(), Arc::new(Semaphore::new(0)));
        let grant = desk.reserve(&who).await?.granted()?;
        let patience = s.patience();
        crowd
            .rush(&desk, 1 + WAITERS, |number, desk| {
                let (grant, told) = (grant.clone(), Arc::clone(&told));
                async move {
                    if number > 0 {
                        let record = wait_for_answer(desk, who.other(), patience, told).await?;
                        return same("response", record.response, response("paid"));
                    }
                    told_all(patience, &told, u32::try_from(WAITERS)?).await?;
                    desk.complete(&grant, response("paid")).await?.stored()
                }
            })
            .await?;
    }
    Ok(())
}

/// Each that waits is granted the slot in turn, and hands it over once all others wait for it again. Nobody
/// looks but when woken: a wake that one of them misses stops the round.
async fn a_slot_goes_round_to_all_who_wait(s: Stage) -> Told {
    let crowd = Crowd::new(&s, CLIENTS)?;
    for _ in 0..ROUNDS {
        let (desk, who, told) = (s.slot()?, s.caller(), Arc::new(Semaphore::new(0)));
        let patience = s.patience();
        let mut attempts = crowd
            .rush(&desk, WAITERS, |_, desk| {
                let (who, told) = (who.other(), Arc::clone(&told));
                async move {
                    loop {
                        let watch = desk.watch();
                        match desk.reserve(&who).await? {
                            ReservationOutcome::Reserved(grant) => {
                                let others = u32::try_from(WAITERS)?.saturating_sub(grant.attempt);
                                told_all(patience, &told, others).await?;
                                desk.hand_over(&grant).await?.renewed()?;
                                return Ok(grant.attempt);
                            }
                            other => drop(other.in_flight()?),
                        }
                        told.add_permits(1);
                        woken(patience, "hand over", watch).await?;
                    }
                }
            })
            .await?;
        attempts.sort_unstable();
        same("the attempts", attempts, (1..=u32::try_from(WAITERS)?).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Waits until so many have been told that somebody is at work.
async fn told_all(patience: Duration, told: &Semaphore, count: u32) -> Told {
    woken(patience, "all who wait, each told so", async {
        if let Ok(permits) = told.acquire_many(count).await {
            permits.forget();
        }
    })
    .await
}
