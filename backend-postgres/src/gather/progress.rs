//! [`Progress`]: what a caller whose deadline passes has to know.
//!
//! ```text
//!   whoever sends:   under way! ─▶ fence ─▶ does anybody wait?        one of the two sees the other:
//!   whoever waited:  no longer  ─▶ fence ─▶ is it under way?          what is sent is never "not applied"
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use oncekey_core::Effect;
use tokio::sync::oneshot;

/// Whether a statement of a call is under way, or was and its outcome is unknown. One for all statements of a call, so
/// that its effect is the worst of all its tries (S7).
#[derive(Clone, Default, Debug)]
pub(crate) struct Progress(Arc<AtomicBool>);

impl Progress {
    pub(crate) fn effect(&self) -> Effect {
        if self.0.load(Ordering::Acquire) { Effect::Unknown } else { Effect::NotApplied }
    }

    pub(crate) fn set(&self, effect: Effect) {
        self.0.store(effect == Effect::Unknown, Ordering::Release);
    }

    /// Its statement is about to be sent; what its effect was before. None where nobody waits for it any longer, who
    /// may have been told that nothing was sent: then nothing may be.
    pub(super) fn begin<T>(&self, reply: &oneshot::Sender<T>) -> Option<Effect> {
        let before = self.effect();
        self.set(Effect::Unknown);
        fence(Ordering::SeqCst);
        (!reply.is_closed()).then_some(before)
    }

    /// Of a call that nobody waits for any longer: its receiver is gone.
    pub(super) fn given_up(&self) -> Effect {
        fence(Ordering::SeqCst);
        self.effect()
    }
}
