//! Where a case plays: its namespace, its clients, and its time.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oncekey_core::{IdempotencyAdmin, Principal};

use super::{Caller, Desk};
use crate::case::{Context, Failure};
use crate::harness::{Faults, TimeControl};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// A case's namespace, with a first client.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) context: Context,
    pub(crate) store: Arc<dyn IdempotencyAdmin>,
    slots: AtomicU64,
}

impl Stage {
    pub(crate) fn new(context: Context) -> Result<Self, Failure> {
        let store = context.namespace.client().map_err(|e| Failure(format!("no client: {e}")))?;
        Ok(Self { context, store, slots: AtomicU64::new(0) })
    }

    /// A slot that this case has not used, through the first client.
    pub(crate) fn slot(&self) -> Result<Desk, Failure> {
        let number = self.slots.fetch_add(1, Ordering::Relaxed);
        self.slot_named("somebody", &format!("key-{number}"))
    }

    pub(crate) fn slot_named(&self, principal: &str, key: &str) -> Result<Desk, Failure> {
        let slot = Principal::new(principal)?.slot(key)?;
        Ok(Desk { store: Arc::clone(&self.store), slot })
    }

    /// Random choices that the run's seed replays. They differ once the case has asked for another slot.
    pub(crate) fn random(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.context.seed.wrapping_add(self.slots.load(Ordering::Relaxed)))
    }

    /// One more independent client.
    pub(crate) fn client(&self) -> Result<Arc<dyn IdempotencyAdmin>, Failure> {
        self.context.namespace.client().map_err(|e| Failure(format!("no further client: {e}")))
    }

    /// A caller whose lease (10 min) and retention (1 day) outlast any case that doesn't move its time by
    /// hand.
    pub(crate) fn caller(&self) -> Caller {
        Caller::fresh(10 * MINUTE, DAY)
    }

    /// A caller whose lease has ended after [`Stage::lapse`]: 30 s, or a blink on a clock that can't be
    /// moved. What it stores is kept for a day.
    pub(crate) fn brief(&self) -> Caller {
        self.caller().lease(self.brief_lease())
    }

    /// A caller whose record has ended after [`Stage::expire`].
    pub(crate) fn fleeting(&self) -> Caller {
        self.brief().retention(self.brief_lease())
    }

    /// Deletes all that has expired, and says how much that was.
    pub(crate) async fn collect_all(&self) -> Result<u64, Failure> {
        Ok(self.store.garbage_collect(NonZeroU32::MAX).await?)
    }

    /// What makes calls fail. For cases that need `Faults`.
    pub(crate) fn faults(&self) -> Result<Arc<dyn Faults>, Failure> {
        let none =
            "the harness's capabilities have Faults, and its namespace has none: see Namespace::with_faults";
        self.context.namespace.faults().cloned().ok_or_else(|| Failure(none.to_owned()))
    }

    /// How long a case waits for what comes soon, before it says that it doesn't: well before its deadline.
    pub(crate) fn patience(&self) -> Duration {
        (self.context.deadline / 8).min(5 * SECOND)
    }

    fn brief_lease(&self) -> Duration {
        match self.context.namespace.time() {
            TimeControl::Shift(_) => 30 * SECOND,
            TimeControl::Wall => Duration::from_millis(250),
        }
    }

    /// Lets every lease of a [`Stage::brief`] caller end, and no other.
    pub(crate) async fn lapse(&self) {
        self.outlive(self.brief_lease()).await;
    }

    /// Lets every record of a [`Stage::fleeting`] caller end, and no other.
    pub(crate) async fn expire(&self) {
        self.outlive(2 * self.brief_lease()).await;
    }

    async fn outlive(&self, time: Duration) {
        match self.context.namespace.time() {
            TimeControl::Shift(clock) => clock.advance(time + SECOND),
            TimeControl::Wall => wait(time + time / 4).await,
        }
    }

    /// Moves time forward. For cases that need `ShiftTime`.
    pub(crate) fn advance(&self, by: Duration) -> Result<(), Failure> {
        match self.context.namespace.time() {
            TimeControl::Shift(clock) => {
                clock.advance(by);
                Ok(())
            }
            TimeControl::Wall => Err(wall()),
        }
    }

    /// Moves time back. For cases that need `RewindTime`.
    pub(crate) fn rewind(&self, by: Duration) -> Result<(), Failure> {
        match self.context.namespace.time() {
            TimeControl::Shift(clock) if clock.rewind(by) => Ok(()),
            TimeControl::Shift(_) => Err(Failure(
                "the harness says that time can be rewound, and its ShiftTime::rewind says that it couldn't: \
                 declare Capabilities::all().without(Capability::RewindTime)"
                    .to_owned(),
            )),
            TimeControl::Wall => Err(wall()),
        }
    }
}

fn wall() -> Failure {
    Failure(
        "the harness says that time can be moved, and its namespace has TimeControl::Wall: declare \
         Capabilities::all().without(Capability::ShiftTime).without(Capability::RewindTime)"
            .to_owned(),
    )
}

/// The one place that waits for the wall clock: a store whose clock can't be moved leaves nothing else,
/// and the leases that it waits for are short.
#[allow(
    clippy::disallowed_methods,
    reason = "TimeControl::Wall: the store's clock moves with the wall's alone"
)]
async fn wait(time: Duration) {
    tokio::time::sleep(time).await;
}
