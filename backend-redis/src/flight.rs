//! [`Flight`]: what one task does for all who want it meanwhile.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// How long it may take until a task runs.
const STARTS: Duration = Duration::from_secs(1);

/// By which the task says that it runs, and what came of it.
pub(crate) struct Landing<T>(watch::Sender<Option<T>>);

pub(crate) struct Flight<T> {
    begun: Instant,
    landed: watch::Receiver<Option<T>>,
}

impl<T: Clone> Flight<T> {
    pub(crate) fn begin() -> (Self, Landing<T>) {
        let (landing, landed) = watch::channel(None);
        (Self { begun: Instant::now(), landed }, Landing(landing))
    }

    /// Whether it may end yet, where that takes so long at most: the runtime that its task is on may have ended, or be one
    /// that nobody drives.
    pub(crate) fn is_under_way(&self, most: Duration) -> bool {
        let has_started = self.landed.has_changed();
        has_started.is_ok_and(|started| self.begun.elapsed() < if started { most } else { STARTS })
    }

    /// Whether it is the one that lands so.
    pub(crate) fn lands_by(&self, landing: &Landing<T>) -> bool {
        self.landed.same_channel(&landing.0.subscribe())
    }

    /// What comes of it; nothing, once it is no longer under way.
    pub(crate) fn wait(&self, most: Duration) -> impl Future<Output = Option<T>> + use<T> {
        let (begun, mut landed) = (self.begun, self.landed.clone());
        async move {
            if matches!(landed.has_changed(), Ok(false)) {
                timeout_at(begun + STARTS, landed.changed()).await.ok()?.ok()?;
            }
            timeout_at(begun + most, landed.wait_for(Option::is_some)).await.ok()?.ok()?.clone()
        }
    }
}

impl<T> Landing<T> {
    /// The task runs.
    pub(crate) fn start(&self) {
        self.0.send_replace(None);
    }

    pub(crate) fn land(self, with: T) {
        // Those who wait hold the other end, if there still are any.
        let _ = self.0.send(Some(with));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_for_a_flight_have_what_came_of_it() {
        let (flight, landing) = Flight::begin();
        let waits = flight.wait(MOST);
        landing.start();
        assert!(flight.is_under_way(MOST) && flight.lands_by(&landing));
        assert!(!flight.lands_by(&Flight::begin().1), "another's");
        landing.land(7);
        assert_eq!((waits.await, flight.wait(MOST).await), (Some(7), Some(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flight_whose_task_is_gone_or_never_runs_is_no_longer_under_way() {
        let (flight, landing) = Flight::<u8>::begin();
        let waits = flight.wait(MOST);
        drop(landing);
        assert!(!flight.is_under_way(MOST));
        assert_eq!(waits.await, None);

        let (flight, landing) = Flight::<u8>::begin();
        assert_eq!((flight.wait(MOST).await, flight.begun.elapsed()), (None, STARTS));
        assert!(!flight.is_under_way(MOST));
        landing.start();
        assert!(flight.is_under_way(MOST), "it runs late");
        assert_eq!((flight.wait(MOST).await, flight.begun.elapsed()), (None, MOST));
        assert!(!flight.is_under_way(MOST));
    }
}
