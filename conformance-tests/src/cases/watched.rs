//! A holder that renews in time, watched meanwhile: S9, S1.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::TimeControl;
use crate::kit::crowd::Crowd;
use crate::kit::prelude::*;

pub(crate) fn cases() -> Vec<Case> {
    vec![case!(Race, ["S9", "S1", "W1"], a_holder_that_renews_in_time_never_looks_lapsed, needs ShiftTime)]
}

const CLIENTS: usize = 4;
const WATCHERS: usize = 7;
const HEARTBEATS: usize = 60;

/// The holder renews for 10 min and 6 min pass, over and over. Whoever reads the record, and only then the
/// clock, finds a lease that has long been renewed, and takes it for lapsed.
async fn a_holder_that_renews_in_time_never_looks_lapsed(s: Stage) -> Told {
    let TimeControl::Shift(clock) = s.context.namespace.time().clone() else {
        return s.advance(Duration::ZERO);
    };
    let crowd = Crowd::new(&s, CLIENTS)?;
    let (desk, who) = (s.slot()?, s.caller().lease(10 * MINUTE));
    let grant = desk.reserve(&who).await?.granted()?;
    let done = Arc::new(AtomicBool::new(false));
    crowd
        .rush(&desk, 1 + WATCHERS, |number, desk| {
            let (clock, done, grant) = (Arc::clone(&clock), Arc::clone(&done), grant.clone());
            async move {
                if number > 0 {
                    while !done.load(Ordering::SeqCst) {
                        let seen = desk.lookup().await?.pending()?;
                        holds("the lease is live, to whoever looks", seen.lease_left.is_some())?;
                        desk.reserve(&who.other()).await?.in_flight()?;
                        tokio::task::yield_now().await;
                    }
                    return Ok(());
                }
                let mut held = Ok(());
                for _ in 0..HEARTBEATS {
                    held = desk
                        .renew(&grant, who.renewal()?)
                        .await
                        .and_then(|renewed| renewed.renewed().map(drop));
                    if held.is_err() {
                        break;
                    }
                    clock.advance(6 * MINUTE);
                    tokio::task::yield_now().await;
                }
                // The watchers wait for this, however it went.
                done.store(true, Ordering::SeqCst);
                held
            }
        })
        .await?;
    desk.complete(&grant, response("paid")).await?.stored()
}
