//! A look: who has which slots is asked of the servers themselves.
//!
//! ```text
//!  who was named last ──▶ all masters ──▶ all servers, and those of the URL
//! ```
//!
//! The next are asked where none of these says it soon. One may be cut off from the others and say what was: so of several
//! answers, those count that come from where the cluster is well, and of these the one of the latest epoch.

use std::sync::Arc;
use std::time::Duration;

use redis::Cmd;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::super::both;
use super::Cluster;
use crate::assess::field;
use crate::error::{Failure, Next};
use crate::flight::{Flight, Landing};
use crate::pause;
use crate::source::{Ask, text};
use crate::topology::{At, Topology};

/// How long those that should know it are asked before others are; and from one look to the next.
pub(super) const SOON: Duration = Duration::from_millis(500);
/// The same from one look to the next where somebody was sent on.
const HURRY: Duration = Duration::from_millis(50);
/// How long the others' answers are waited for when one has come.
const OTHERS: Duration = Duration::from_millis(50);
/// How long each server may take.
const ANSWER: Duration = Duration::from_secs(3);
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

/// What one of them says.
struct Said {
    topology: Topology,
    /// By its own word, if it gives it.
    is_well: bool,
    epoch: u64,
}

impl Said {
    fn counts_less_than(&self, other: &Self) -> bool {
        (self.is_well, self.epoch) < (other.is_well, other.epoch)
    }
}

impl Cluster {
    /// Looks anew, and waits for that. All who want it wait for the same.
    pub(super) async fn look(self: &Arc<Self>, when: When, deadline: Instant) -> Result<(), Failure> {
        loop {
            match timeout_at(deadline, self.looking(when)).await {
                Ok(Some(looked)) => return looked,
                // Its task is gone, or never ran.
                Ok(None) => {}
                Err(_) => return Err(Failure::no_connection_yet()),
            }
        }
    }

    /// Looks anew, if that was long ago.
    pub(super) async fn look_if_long_ago(self: &Arc<Self>, deadline: Instant) {
        let looked = self.known().looked;
        if looked.is_none_or(|looked| looked.elapsed() > SOON) {
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
        let (last, hurry) = (known.looked, Arc::clone(&known.hurry));
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
        let (look, first) = self.known().looks();
        let found = self.find(first).await;
        let looked = {
            let mut known = self.known();
            known.looking.take_if(|flight| flight.lands_by(&landing));
            known.looked = Some(Instant::now());
            found.map(|topology| known.learn(topology, look))
        };
        landing.land(looked);
    }

    async fn find(self: &Arc<Self>, first: Option<At>) -> Result<Topology, Failure> {
        let masters = self.known().topology.masters().to_vec();
        for some in [first.into_iter().collect(), masters] {
            let said = self.ask_each(some, Instant::now() + SOON).await;
            if let Ok(Said { topology, is_well: true, .. }) = said {
                return Ok(topology);
            }
        }
        self.ask_each(self.all(), Instant::now() + ANSWER).await.map(|said| said.topology)
    }

    /// The best of what they say by then, or soon after one of them said something good.
    async fn ask_each(self: &Arc<Self>, each: Vec<At>, mut until: Instant) -> Result<Said, Failure> {
        let mut asked = JoinSet::new();
        for at in each {
            let cluster = Arc::clone(self);
            asked.spawn(async move { cluster.ask_one(&at).await });
        }
        let (mut best, mut failed) = (None::<Said>, None::<Failure>);
        while let Ok(Some(ended)) = timeout_at(until, asked.join_next()).await {
            match ended {
                Ok(Ok(said)) => {
                    if said.is_well {
                        until = until.min(Instant::now() + OTHERS);
                    }
                    if best.as_ref().is_none_or(|best| best.counts_less_than(&said)) {
                        best = Some(said);
                    }
                }
                Ok(Err(failure)) => failed = Some(worse(failed, failure.not_applied())),
                Err(_) => {}
            }
        }
        // The others' answers are owed, and end by themselves.
        asked.detach_all();
        best.ok_or_else(|| failed.unwrap_or_else(Failure::unreached))
    }

    async fn ask_one(&self, at: &At) -> Result<Said, Failure> {
        let until = Instant::now() + ANSWER;
        let [mut slots, mut info] = [Cmd::new(), Cmd::new()];
        slots.arg("CLUSTER").arg("SLOTS");
        info.arg("CLUSTER").arg("INFO");
        let ready = self.server(at)?.ready(until).await?;
        let [slots, info] = both(ready.ask(&Ask::two(&slots, &info), until).await?)?;
        let (topology, info) = (Topology::read(&slots, &at.0), text(&info).unwrap_or_default());
        Ok(Said {
            topology: topology.ok_or_else(Failure::no_member)?,
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
    fn who_is_cut_off_counts_less_than_who_is_not_and_an_older_epoch_less_than_a_later_one() {
        let said = |is_well, epoch| Said { topology: Topology::unknown(), is_well, epoch };
        let in_order = [(false, 1), (false, 2), (true, 0), (true, 1)];
        for (n, (is_well, epoch)) in in_order.into_iter().enumerate() {
            for (m, (its, other)) in in_order.into_iter().enumerate() {
                assert_eq!(said(is_well, epoch).counts_less_than(&said(its, other)), n < m, "{n} {m}");
            }
        }
    }

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
