//! The heartbeat: renews at a third of the lease while the slot is held, up to the ceiling.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::held::SaveError;
use super::hold::{Hold, Phase};
use super::retry::Backoff;
use crate::request::MIN_LEASE;

/// Beats while it lives. A task of its own, so that work that is long between two awaits doesn't stop it
/// (where the runtime has another thread).
#[derive(Debug)]
pub(super) struct Heartbeat {
    hold: Arc<Hold>,
    task: JoinHandle<()>,
}

impl Heartbeat {
    pub(super) fn start(hold: &Arc<Hold>) -> Self {
        Self { hold: Arc::clone(hold), task: tokio::spawn(beat(Arc::clone(hold))) }
    }
}

impl Drop for Heartbeat {
    /// However the holder ends, by return, panic or cancellation, the slot is renewed no longer.
    fn drop(&mut self) {
        self.hold.settle();
        self.task.abort();
    }
}

async fn beat(hold: Arc<Hold>) {
    let third = hold.lease / 3;
    // A beat that isn't answered within a third is given up: the next one may be.
    let patience = third.min(hold.call_deadline).max(MIN_LEASE);
    let mut state = hold.state.subscribe();
    let mut backoff = Backoff::for_tries();
    let mut retry_at = None;
    loop {
        let (renewed, until) = {
            let state = state.borrow_and_update();
            if state.phase != Phase::Beating {
                return;
            }
            (state.renewed, state.until)
        };
        if until >= hold.ceiling {
            return;
        }
        // A checkpoint that is saved is a beat as well, and puts the next one off.
        let due = (renewed + third).max(retry_at.unwrap_or(renewed));
        if due > Instant::now() {
            tokio::select! {
                _ = state.changed() => {}
                () = sleep_until(due) => {}
            }
            continue;
        }

        let turn = hold.turn.lock().await;
        // The last beat asks for no more than the ceiling leaves.
        let lease = hold.lease.min(hold.ceiling.saturating_duration_since(Instant::now()));
        if lease < MIN_LEASE {
            return;
        }
        match hold.renew(&turn, lease, None, patience).await {
            Ok(()) => (backoff, retry_at) = (Backoff::for_tries(), None),
            Err(SaveError::Lost(_)) => return,
            // Whatever it was, it may pass; and until the store says Lost, the slot may be ours.
            Err(SaveError::Store(_)) => retry_at = Some(Instant::now() + backoff.next()),
        }
    }
}
