//! [`Gate`]: where a call waits until the test lets it go on.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Where calls wait until a test opens it; open, it stays open. Clones are the same gate. It needs no
/// particular runtime.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    open: bool,
    reached: bool,
    /// Whoever waits, on either side; woken at every change.
    waiting: Vec<Waker>,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets through what waits, and all that comes.
    pub fn open(&self) {
        self.change(|state| state.open = true);
    }

    /// Ends when a call has reached the gate, whether or not it still waits there.
    pub async fn reached(&self) {
        self.until(|state| state.reached).await;
    }

    /// A call reaches the gate, and waits until it is open.
    pub(super) async fn pass(&self) {
        self.change(|state| state.reached = true);
        self.until(|state| state.open).await;
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let waiting = {
            let mut state = self.state();
            change(&mut state);
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    async fn until(&self, met: impl Fn(&State) -> bool) {
        poll_fn(|context| {
            let mut state = self.state();
            if met(&state) {
                return Poll::Ready(());
            }
            if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                state.waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Gate").field("open", &state.open).field("reached", &state.reached).finish()
    }
}
