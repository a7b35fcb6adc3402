//! [`Herd`]: the callers of a batch, on their way back.
//!
//! Callers that were answered together come back together, and for as long as their tasks haven't run there is
//! no telling who has another call. A runner that took the first of them alone would pay a statement and a flush
//! for one. So it stands back until they have run, or until enough are there: as many as make each connection's
//! batch as big as the other's. Fewer, and statements are many; all in one, and one connection waits while the
//! other works.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::bounds::held;

/// How long a caller may keep a batch waiting that it may not even come to: its task may be far from its turn.
const PATIENCE: Duration = Duration::from_millis(1);
/// Fewer calls than this are not divided among connections.
const FEW: usize = 16;

#[derive(Debug)]
pub(crate) struct Herd {
    /// Calls that aren't answered, and answers that nobody knows of yet.
    calls: Arc<AtomicUsize>,
    connections: usize,
    unaware: Mutex<Arc<Unaware>>,
}

#[derive(Default, Debug)]
struct Unaware {
    count: AtomicUsize,
    none: Notify,
}

/// A call, from its beginning to its end.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

/// Comes with an answer: dropped when its caller has taken it, or won't.
#[derive(Debug)]
pub(super) struct OnItsWay(Arc<Unaware>);

impl Herd {
    pub(crate) fn new(connections: usize) -> Self {
        Self { calls: Arc::default(), connections: connections.max(1), unaware: Mutex::default() }
    }

    pub(super) fn call(&self) -> Counted {
        self.calls.fetch_add(1, Ordering::AcqRel);
        Counted(Arc::clone(&self.calls))
    }

    pub(super) fn answer(&self) -> OnItsWay {
        let unaware = Arc::clone(&held(&self.unaware));
        unaware.count.fetch_add(1, Ordering::AcqRel);
        OnItsWay(unaware)
    }

    /// How many calls make a batch, with all that are under way.
    pub(super) fn share(&self) -> usize {
        self.calls.load(Ordering::Acquire).div_ceil(self.connections).max(FEW)
    }

    /// Waits until whoever was answered has run, or until there is enough, or for a while. Those that were waited
    /// for in vain aren't waited for again.
    pub(super) async fn is_back(&self, more: &Notify, is_enough: impl Fn() -> bool) {
        let unaware = Arc::clone(&held(&self.unaware));
        let back = async {
            loop {
                let none = unaware.none.notified();
                if unaware.count.load(Ordering::Acquire) == 0 || is_enough() {
                    return;
                }
                tokio::select! {
                    () = none => {}
                    () = more.notified() => {}
                }
            }
        };
        if timeout(PATIENCE, back).await.is_err() {
            let mut current = held(&self.unaware);
            if Arc::ptr_eq(&current, &unaware) {
                *current = Arc::default();
            }
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}
