//! A look: who has which slots is asked of the servers themselves.
//!
//! ```text
//!  who was named last ──▶ all masters ──▶ all servers, and those of the URL
//! ```
//!
//! The next are asked where none of these says soon that the cluster is well, and who has what. One may be cut off from the
//! others and say what was, or be another cluster's by now: [`best`].

use std::sync::Arc;
use std::time::Duration;

use redis::Cmd;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::super::both;
use super::Cluster;
use super::said::{Said, best};
use crate::assess::field;
use crate::error::{Failure, Next};
use crate::flight::{Flight, Landing};
use crate::pause;
use crate::source::{Ask, text};
use crate::topology::{At, Topology};

/// How long those that should know it are asked before others are, and the others are waited for; and from one look to
/// the next.
pub(super) const SOON: Duration = Duration::from_millis(500);
/// The same from one look to the next where somebody was sent on.
const HURRY: Duration = Duration::from_millis(50);
/// How long the others' answers are waited for when a good one has come: they may know of a later change.
const OTHERS: Duration = Duration::from_millis(50);
/// How long each server may take.
const ANSWER: Duration = Duration::from_secs(3);
/// How often a look is begun again whose task is gone at once.
const TRIES: u32 = 3;
/// Longer than any look takes.
const LOOK: Duration = Duration::from_secs(6);

/// When a look begins, if none is under way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// After a while since the last one.
    InTime,
    /// Somebody was sent on, or wants what holds now.
    AtOnce,
}

impl Cluster {
    /// Looks anew, and waits for that. All who want it wait for the same.
    pub(super) async fn look(self: &Arc<Self>, when: When, deadline: Instant) -> Result<(), Failure> {
        for _ in 0..TRIES {
            match timeout_at(deadline, self.looking(when)).await {
                Ok(Some(looked)) => return looked,
                // Its task is gone, or never ran.
                Ok(None) => {}
                Err(_) => break,
            }
        }
        Err(self.known().failed.clone().unwrap_or_else(Failure::no_connection_yet))
    }

    /// Looks anew, if nothing was learned for long.
    pub(super) async fn look_if_long_ago(self: &Arc<Self>, deadline: Instant) {
        let learned = self.known().learned_at;
        if learned.is_none_or(|learned| learned.elapsed() > SOON) {
            // Who had it is asked all the same.
            let _ = self.look(When::InTime, deadline).await;
        }
    }

    /// Looks anew, and nobody waits.
    pub(super) fn look_beside(self: &Arc<Self>, when: When) {
        drop(self.looking(when));
    }

    fn looking(self: &Arc<Self>, when: When) -> impl Future<Output = Option<Result<(), Failure>>> + use<> {
        let mut known = self.known();
        if let Some(flight) = known.looking.as_ref().filter(|flight| flight.is_under_way(LOOK)) {
            if when == When::AtOnce {
                known.hurry.notify_one();
            }
            return flight.wait(LOOK);
        }
        let (flight, landing) = Flight::begin();
        known.hurry = Arc::default();
        let (last, hurry) = (known.asked_at, Arc::clone(&known.hurry));
        if when == When::AtOnce {
            hurry.notify_one();
        }
        tokio::spawn(Arc::clone(self).look_around(last, hurry, landing));
        known.looking.insert(flight).wait(LOOK)
    }

    async fn look_around(
        self: Arc<Self>,
        last: Option<Instant>,
        hurry: Arc<Notify>,
        landing: Landing<Result<(), Failure>>,
    ) {
        landing.start();
        if let Some(last) = last {
            tokio::select! {
                () = pause::until(last + SOON) => {}
                () = hurry.notified() => {}
            }
            pause::until(last + HURRY).await;
        }
        let (look, first) = self.known().begin();
        let found = self.find(first).await;
        let (looked, is_another) = {
            let mut known = self.known();
            known.looking.take_if(|flight| flight.lands_by(&landing));
            let looked = match found {
                Ok(said) => {
                    known.learn(said, look);
                    Ok(())
                }
                Err(failure) => {
                    known.failed = Some(failure.clone());
                    Err(failure)
                }
            };
            (looked, known.first.is_some())
        };
        landing.land(looked);
        // Somebody was sent on meanwhile.
        if is_another {
            self.look_beside(When::AtOnce);
        }
    }

    async fn find(self: &Arc<Self>, first: Option<At>) -> Result<Said, Failure> {
        let masters = self.known().topology.masters().to_vec();
        for some in [first.into_iter().collect(), masters] {
            if let Ok(said) = self.ask_each(some, SOON).await
                && said.is_well
                && said.is_of(&self.known().topology)
            {
                return Ok(said);
            }
        }
        self.ask_each(self.all(), ANSWER).await
    }

    /// The best of what they say so soon; or a little later than one of them.
    async fn ask_each(self: &Arc<Self>, each: Vec<At>, within: Duration) -> Result<Said, Failure> {
        let mut asked = JoinSet::new();
        for at in each {
            let cluster = Arc::clone(self);
            asked.spawn(async move { cluster.ask_one(&at).await });
        }
        let (mut until, mut all, mut failed) = (Instant::now() + within, Vec::new(), None::<Failure>);
        while let Ok(Some(ended)) = timeout_at(until, asked.join_next()).await {
            match ended {
                Ok(Ok(said)) => {
                    let is_good = said.is_well && said.is_of(&self.known().topology);
                    until = until.min(Instant::now() + if is_good { OTHERS } else { SOON });
                    all.push(said);
                }
                Ok(Err(failure)) => failed = Some(worse(failed, failure.not_applied())),
                Err(_) => {}
            }
        }
        let is_waited_for = !asked.is_empty();
        // The others' answers are owed, and end by themselves.
        asked.detach_all();
        let failed = failed.map(|failed| if is_waited_for { failed.passing() } else { failed });
        best(all, &self.known().topology).ok_or_else(|| failed.unwrap_or_else(Failure::unreached))
    }

    async fn ask_one(&self, at: &At) -> Result<Said, Failure> {
        let until = Instant::now() + ANSWER;
        let [mut slots, mut info] = [Cmd::new(), Cmd::new()];
        slots.arg("CLUSTER").arg("SLOTS");
        info.arg("CLUSTER").arg("INFO");
        let ready = self.server(at)?.ready(until).await?;
        let [slots, info] = both(ready.ask(&Ask::two(&slots, &info), until).await?)?;
        let (topology, info) = (Topology::read(&slots, &at.0), text(&info).unwrap_or_default());
        let topology = topology.ok_or_else(|| Failure::nonsense().not_applied())?;
        if topology.masters().is_empty() {
            return Err(Failure::no_member());
        }
        Ok(Said {
            topology,
            is_well: field(&info, "cluster_state").is_none_or(|state| state == "ok"),
            epoch: field(&info, "cluster_current_epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0),
        })
    }
}

/// Of two: what has to be mended is told before what may pass; and it may pass, if one of them may.
fn worse(one: Option<Failure>, other: Failure) -> Failure {
    match one {
        None => other,
        Some(one) => {
            let may_pass = one.next == Next::Retry || other.next == Next::Retry;
            let told = if one.next == Next::Retry { other } else { one };
            if may_pass { told.passing() } else { told }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_to_be_mended_is_told_and_may_pass_if_another_may() {
        let may_pass = || Failure::unreached();
        let may_not = || Failure::unsupported("no");
        for (one, other) in [(may_pass(), may_not()), (may_not(), may_pass())] {
            let told = worse(Some(one), other);
            assert_eq!((told.kind, told.next), (may_not().kind, Next::Retry));
        }
        assert_eq!(worse(Some(may_not()), may_not()).next, Next::Give);
        assert_eq!(worse(None, may_pass()).next, Next::Retry);
    }
}
