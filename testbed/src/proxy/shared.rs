//! The plan, for all threads of a proxy.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::plan::Plan;
use crate::Error;

/// How long what a caller asks for may take.
const WITHIN: Duration = Duration::from_secs(30);

/// Whoever changes the plan tells all: there are few threads, and each knows what it waits for.
#[derive(Debug, Default)]
pub(super) struct Shared {
    plan: Mutex<Plan>,
    changed: Condvar,
}

impl Shared {
    /// The plan, to look at.
    pub(super) fn plan(&self) -> MutexGuard<'_, Plan> {
        // A test that panicked elsewhere still wants its connections ended.
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the plan, and tells all.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Plan) -> T) -> T {
        let result = change(&mut self.plan());
        self.changed.notify_all();
        result
    }

    /// Waits for a change, or until then.
    pub(super) fn wait<'a>(
        &'a self,
        plan: MutexGuard<'a, Plan>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, Plan> {
        match until {
            None => self.changed.wait(plan).unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                self.changed.wait_timeout(plan, left).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Waits until `condition` holds; its `Err` is what it saw instead.
    pub(super) fn wait_until(
        &self,
        what: &str,
        condition: impl Fn(&Plan) -> Result<(), String>,
    ) -> Result<(), Error> {
        let until = Instant::now() + WITHIN;
        let mut plan = self.plan();
        loop {
            if let Some(why) = &plan.failed {
                return Err(Error::new(format!("the proxy has failed: {why}")));
            }
            let Err(last) = condition(&plan) else { return Ok(()) };
            if Instant::now() >= until {
                return Err(Error::new(format!("waited {WITHIN:?} for {what}; last seen: {last}")));
            }
            plan = self.wait(plan, Some(until));
        }
    }
}
