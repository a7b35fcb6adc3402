//! [`Wake`]: callers that wait for a running holder are told when it ends (Q2), in this process at once, and across
//! processes by PUBLISH. What is published is a hint that may be lost; whoever waits looks now and then all the same.
//!
//! Not by the scripts: whoever completes has its answer before anything is published, and one message tells of all
//! slots that were settled while the last was under way.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use oncekey_core::{Slot, Watch, Watchers};
use redis::{Cmd, Value};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::Next;
use crate::lane::SILENCE;
use crate::link::Link;
use crate::pause;

/// Slots in one message, 16 bytes each.
const SLOTS: usize = 400;
/// Slots that may wait to be told of. With more, everybody is woken.
const PENDING: usize = 4_096;
/// The message that wakes everybody.
const EVERYBODY: &str = "everybody";
/// How long nobody is told of anything, once nobody listened.
const UNHEARD: Duration = Duration::from_millis(250);
/// How long telling may take: a hint that comes later is of no use.
const TELL: Duration = Duration::from_secs(1);
/// How long it may take until the server has said that it is listened to.
const SUBSCRIBE: Duration = Duration::from_secs(5);
/// How long the listener waits before it looks whether it is still wanted.
const LOOK: Duration = Duration::from_secs(1);
/// After so long without a message the listener asks whether the server is there: it may be gone without a word, and
/// nothing else is ever sent on that connection.
const QUIET: Duration = Duration::from_secs(4);
/// How long the connection that listens outlives the last caller that waits.
const IDLE: Duration = Duration::from_secs(30);
/// Between two tries to listen; twice as long after each that was in vain, up to one of these. A server that is away may
/// be back soon; one that refuses, because of a right that is missing, does so until somebody grants it.
const PAUSE: Duration = Duration::from_millis(250);
const AWAY: Duration = Duration::from_secs(2);
const REFUSED: Duration = Duration::from_secs(60);

pub(crate) struct Wake {
    shared: Arc<Shared>,
    /// Closes when the store is dropped, and the listener's task ends with it.
    _open: watch::Sender<()>,
    closed: watch::Receiver<()>,
}

/// What the tasks share with the store.
struct Shared {
    link: Link,
    watchers: Watchers,
    channel: String,
    pending: Mutex<Pending>,
    listening: AtomicBool,
    /// That all was told.
    told: Notify,
}

#[derive(Default)]
struct Pending {
    slots: Vec<u64>,
    /// More were settled than `slots` has room for.
    more: bool,
    /// Whether a task is telling.
    telling: bool,
    /// Until when nobody is known to listen.
    unheard_until: Option<Instant>,
}

impl Wake {
    pub(crate) fn new(link: &Link, prefix: &str) -> Self {
        let shared = Arc::new(Shared {
            link: link.clone(),
            watchers: Watchers::new(),
            channel: format!("{prefix}:wake"),
            pending: Mutex::default(),
            listening: AtomicBool::new(false),
            told: Notify::new(),
        });
        let (open, closed) = watch::channel(());
        Self { shared, _open: open, closed }
    }

    /// The slot whose digest begins so was settled.
    pub(crate) fn changed(&self, prefix: u64) {
        if !self.shared.watchers.is_empty() {
            self.shared.watchers.wake_prefix(prefix);
        }
        self.shared.tell(prefix);
    }

    /// Returns when there is nothing left to tell.
    pub(crate) async fn told(&self) {
        loop {
            let told = self.shared.told.notified();
            if !self.shared.pending().telling {
                return;
            }
            told.await;
        }
    }

    pub(crate) fn watch(&self, slot: &Slot) -> Watch {
        let watch = self.shared.watchers.watch(slot);
        // Without a runtime the next one begins to listen.
        let Ok(runtime) = Handle::try_current() else { return watch };
        if !self.shared.listening.swap(true, Ordering::SeqCst) {
            runtime.spawn(Listening(Arc::clone(&self.shared)).run(self.closed.clone()));
        }
        watch
    }
}

impl Shared {
    fn tell(self: &Arc<Self>, prefix: u64) {
        let mut pending = self.pending();
        if pending.slots.len() < PENDING {
            pending.slots.push(prefix);
        } else {
            pending.more = true;
        }
        if !pending.telling {
            pending.telling = true;
            drop(pending);
            tokio::spawn(Telling { shared: Arc::clone(self), active: true }.run());
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of some slots; whether somebody listens. Unknown counts as nobody. A cluster's servers tell each other,
    /// and none knows who listens to another.
    async fn publish(&self, message: &str) -> bool {
        let mut cmd = Cmd::new();
        cmd.arg("PUBLISH").arg(&self.channel).arg(message);
        match self.link.send(&cmd, Instant::now() + TELL).await {
            Ok(Value::Int(heard)) => heard > 0 || self.link.is_cluster(),
            _ => false,
        }
    }

    /// Wakes whom a message names. What isn't one of ours wakes nobody.
    fn heard(&self, message: &[u8]) {
        if message == EVERYBODY.as_bytes() {
            return self.watchers.wake_all();
        }
        for prefix in message.chunks(16) {
            let prefix = std::str::from_utf8(prefix).ok().and_then(|s| u64::from_str_radix(s, 16).ok());
            if let Some(prefix) = prefix {
                self.watchers.wake_prefix(prefix);
            }
        }
    }
}

/// A task that tells of what was settled, as long as there is something to tell.
struct Telling {
    shared: Arc<Shared>,
    /// Whether it is the one that `telling` speaks of.
    active: bool,
}

impl Drop for Telling {
    fn drop(&mut self) {
        // Only where the runtime ended half-way.
        if self.active {
            let mut pending = self.shared.pending();
            pending.telling = false;
            pending.slots.clear();
            drop(pending);
            // Whoever closes the store, on another runtime perhaps, waits for it.
            self.shared.told.notify_waiters();
        }
    }
}

impl Telling {
    async fn run(mut self) {
        loop {
            let unheard = self.shared.pending().unheard_until;
            if let Some(until) = unheard {
                pause::until(until).await;
            }
            let message = {
                let mut pending = self.shared.pending();
                let most = pending.slots.len().min(SLOTS);
                if most == 0 {
                    // Given up under the lock: the next to come starts another.
                    pending.telling = false;
                    self.active = false;
                    self.shared.told.notify_waiters();
                    return;
                }
                if std::mem::take(&mut pending.more) {
                    pending.slots.clear();
                    EVERYBODY.to_owned()
                } else {
                    pending.slots.drain(..most).map(|prefix| format!("{prefix:016x}")).collect()
                }
            };
            let heard = self.shared.publish(&message).await;
            let mut pending = self.shared.pending();
            pending.unheard_until = (!heard).then(|| Instant::now() + UNHEARD);
            if !heard {
                // Whoever begins to listen is told to look again.
                pending.slots.clear();
                pending.more = false;
            }
        }
    }
}

/// The task that listens, as long as somebody waits and a while longer.
struct Listening(Arc<Shared>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.listening.store(false, Ordering::SeqCst);
    }
}

impl Listening {
    async fn run(self, mut closed: watch::Receiver<()>) {
        tokio::select! {
            _ = closed.changed() => {}
            () = self.listen_while_wanted() => {}
        }
    }

    async fn listen_while_wanted(&self) {
        let mut in_vain = 0;
        while !self.0.watchers.is_empty() {
            let ended = self.listen().await;
            in_vain = if ended == Ended::Lost { 0 } else { in_vain + 1 };
            let Some(pause) = ended.pause(in_vain) else { break };
            pause::until(Instant::now() + pause).await;
        }
    }

    /// Listens until nobody has waited for a while, or until the connection is lost.
    async fn listen(&self) -> Ended {
        let shared = &self.0;
        let until = Instant::now() + SUBSCRIBE;
        let (mut sender, mut messages) = match shared.link.listener(until).await {
            Ok(listener) => listener.split(),
            Err(failure) => return if failure.next == Next::Give { Ended::Refused } else { Ended::Away },
        };
        match timeout_at(until, sender.subscribe(&shared.channel)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.code().is_some() => return Ended::Refused,
            Ok(Err(_)) | Err(_) => return Ended::Away,
        }
        shared.watchers.wake_all();
        let mut wanted = Instant::now();
        let mut heard = wanted;
        loop {
            match timeout(LOOK, messages.next()).await {
                Ok(Some(message)) => {
                    shared.heard(message.get_payload_bytes());
                    heard = Instant::now();
                }
                Ok(None) => return Ended::Lost,
                Err(_) if heard.elapsed() < QUIET => {}
                Err(_) => match timeout(SILENCE, sender.ping::<Value>()).await {
                    Ok(Ok(_)) => heard = Instant::now(),
                    Ok(Err(_)) | Err(_) => return Ended::Lost,
                },
            }
            if !shared.watchers.is_empty() {
                wanted = Instant::now();
            } else if wanted.elapsed() > IDLE {
                return Ended::Unwanted;
            }
        }
    }
}

/// Why nobody listens any more.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Ended {
    /// Nobody has waited for a while.
    Unwanted,
    /// The connection ended: what was said meanwhile is lost, and found by looking.
    Lost,
    /// None could be had.
    Away,
    /// The server won't have it.
    Refused,
}

impl Ended {
    /// Until the next try, after so many in vain; none if there is to be no other.
    fn pause(self, in_vain: u32) -> Option<Duration> {
        let most = match self {
            Self::Unwanted => return None,
            Self::Lost => PAUSE,
            Self::Away => AWAY,
            Self::Refused => REFUSED,
        };
        Some(PAUSE.saturating_mul(1 << in_vain.min(16)).min(most))
    }
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wake").field("channel", &self.shared.channel).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_not_listen_asks_ever_more_seldom() {
        let pauses = |ended: Ended| (1..=10).filter_map(|n| ended.pause(n)).collect::<Vec<_>>();
        let ms = Duration::from_millis;
        assert_eq!(pauses(Ended::Lost), [PAUSE; 10]);
        assert_eq!(pauses(Ended::Away)[..4], [ms(500), ms(1_000), AWAY, AWAY]);
        assert_eq!(pauses(Ended::Refused)[..7], [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000].map(ms));
        assert_eq!(Ended::Refused.pause(u32::MAX), Some(REFUSED));
        assert_eq!(Ended::Unwanted.pause(1), None);
    }
}
