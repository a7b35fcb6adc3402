//! [`Lane`]: a connection, made again when it breaks, and how long it may be silent.
//!
//! Redis answers a connection in order, and loses no answer of one that is alive. So nobody asks again because it takes
//! long: a try ends with its answer, with the call's deadline, or with the connection. That is given up when it owes
//! answers and has said nothing for longer than what is on its way can take.
//!
//! ```text
//!  a call gives up at its own deadline ──▶ its answer is nobody's, and one PING behind it tells whether there was any
//! ```
//!
//! Connecting is nobody's call either: it is a task that all wait for, so that a far server is reached in the end though
//! no call had the time.

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Cmd, RedisResult, Value};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use crate::error::Failure;
use crate::source::{Ask, Connection};

/// How long a connection that owes a small answer may say nothing: it may be dead without a word.
pub(crate) const SILENCE: Duration = Duration::from_secs(2);
/// Bytes a second that a link is given besides, for what was sent and isn't answered yet.
pub(crate) const FLOOR: u64 = 1 << 20;
/// How long it is remembered that a connection was given up: how much is to be received nobody knows, and if that was
/// why, the next one needs more time.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How often in a row the silence may get twice as long.
const DOUBLED: u32 = 3;

/// Makes connections.
pub(crate) trait Opener: Send + Sync + 'static {
    fn open(&self) -> impl Future<Output = Result<Connection, Failure>> + Send;
}

/// See the [module](self).
pub(crate) struct Lane {
    /// How long a command that waits for others may do so.
    within: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: Option<Arc<Live>>,
    connecting: Option<watch::Receiver<Option<Opened>>>,
    /// How many connections in a row were given up, and when that was last worth remembering.
    given_up: u32,
    remembered: Option<Instant>,
}

type Opened = Result<Arc<Live>, Failure>;

/// A connection that was made.
pub(crate) struct Live {
    connection: Connection,
    pulse: Mutex<Pulse>,
    /// That it was given up: whoever waits for its answers needn't.
    gone: Notify,
}

/// What is known of whether it lives.
struct Pulse {
    heard: Instant,
    /// Bytes that were sent, and not answered yet.
    owed: u64,
    /// Those of which nobody waits for the answer any more, and none of the PINGs that are under way was sent behind.
    abandoned: Option<u64>,
    /// Whether a task asks after them.
    asking: bool,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lane {
    /// A lane whose commands may wait for others for so long, by their own words.
    pub(crate) fn new(within: Duration) -> Self {
        Self { within, state: Mutex::default() }
    }

    /// Asks, and waits for the answer until `deadline`; and says which connection it was on.
    pub(crate) async fn ask<O: Opener>(
        self: &Arc<Self>,
        opener: &Arc<O>,
        ask: &Ask<'_>,
        deadline: Instant,
    ) -> Result<(RedisResult<Value>, Arc<Live>), Failure> {
        let live = self.live(opener, deadline).await?;
        let said = self.answer(&live, ask, ask.bytes(), deadline).await?;
        Ok((said, live))
    }

    /// This connection is to be used no more.
    pub(crate) fn leave(&self, live: &Arc<Live>) {
        let mut state = lock(&self.state);
        if state.live.as_ref().is_some_and(|current| Arc::ptr_eq(current, live)) {
            state.live = None;
        }
    }

    /// The connection; whoever finds none begins to make it.
    async fn live<O: Opener>(
        self: &Arc<Self>,
        opener: &Arc<O>,
        deadline: Instant,
    ) -> Result<Arc<Live>, Failure> {
        let mut connecting = {
            let mut state = lock(&self.state);
            if let Some(live) = &state.live {
                return Ok(Arc::clone(live));
            }
            // Closed, where the runtime ended that its task was on.
            match state.connecting.take().filter(|connecting| connecting.has_changed().is_ok()) {
                Some(connecting) => state.connecting.insert(connecting).clone(),
                None => {
                    let (tell, connecting) = watch::channel(None);
                    tokio::spawn(Arc::clone(self).connect(Arc::clone(opener), tell));
                    state.connecting.insert(connecting).clone()
                }
            }
        };
        match timeout_at(deadline, connecting.wait_for(Option::is_some)).await {
            Ok(Ok(opened)) => opened.clone().unwrap_or_else(|| Err(Failure::no_connection_yet())),
            Ok(Err(_)) | Err(_) => Err(Failure::no_connection_yet()),
        }
    }

    async fn connect<O: Opener>(self: Arc<Self>, opener: Arc<O>, tell: watch::Sender<Option<Opened>>) {
        let opened = opener.open().await.map(|connection| Arc::new(Live::new(connection)));
        {
            let mut state = lock(&self.state);
            state.live = opened.as_ref().ok().map(Arc::clone);
            state.connecting = None;
        }
        // Those who wait hold the other end, if there still are any.
        let _ = tell.send(Some(opened));
    }

    /// Sends it, and waits until it is answered, until `deadline`, or until the connection is given up.
    async fn answer(
        self: &Arc<Self>,
        live: &Arc<Live>,
        ask: &Ask<'_>,
        bytes: u64,
        deadline: Instant,
    ) -> Result<RedisResult<Value>, Failure> {
        let mut owed = Owed::new(self, live, bytes);
        let mut gone = pin!(live.gone.notified());
        let mut said = pin!(live.connection.say(ask));
        loop {
            let until = self.silent_until(live, owed.since).min(deadline);
            let either = async {
                tokio::select! {
                    biased;
                    said = &mut said => ControlFlow::Break(said),
                    () = &mut gone => ControlFlow::Continue(()),
                }
            };
            match timeout_at(until, either).await {
                Ok(ControlFlow::Break(said)) => {
                    owed.answered();
                    return Ok(said);
                }
                Ok(ControlFlow::Continue(())) => {
                    owed.over();
                    return Err(Failure::no_answer());
                }
                Err(_) => {}
            }
            let now = Instant::now();
            if self.silent_until(live, owed.since) <= now {
                self.give_up(live, now);
                owed.over();
                return Err(Failure::no_answer());
            }
            if deadline <= now {
                return Err(Failure::no_answer());
            }
        }
    }

    /// When the connection counts as dead, should nothing be heard until then by one who asked at `since`.
    fn silent_until(&self, live: &Live, since: Instant) -> Instant {
        let doubled = {
            let state = lock(&self.state);
            state.remembered.filter(|when| when.elapsed() < REMEMBERED).map_or(0, |_| state.given_up)
        };
        let pulse = lock(&live.pulse);
        // Of a cluster's servers one may be dead while the others talk.
        let since = if live.connection.is_cluster() { since } else { since.max(pulse.heard) };
        since + patience(doubled, pulse.owed) + self.within
    }

    fn give_up(&self, live: &Arc<Live>, now: Instant) {
        {
            let mut state = lock(&self.state);
            if state.live.as_ref().is_some_and(|current| Arc::ptr_eq(current, live)) {
                state.live = None;
                let again = state.remembered.is_some_and(|when| now.duration_since(when) < REMEMBERED);
                state.given_up = if again { (state.given_up + 1).min(DOUBLED) } else { 1 };
                state.remembered = Some(now);
            }
        }
        live.gone.notify_waiters();
    }

    /// It was silent for so long, and alive.
    fn heard_after(&self, silence: Duration, now: Instant) {
        if silence > SILENCE + self.within {
            let mut state = lock(&self.state);
            if state.remembered.is_some() {
                state.remembered = Some(now);
            }
        }
    }

    /// Sends one PING behind what nobody waits for any more, and again while there is more of that.
    async fn ask_after(self: Arc<Self>, mut asking: Asking) {
        let mut ping = Cmd::new();
        ping.arg("PING");
        loop {
            // By no deadline but the connection's own.
            let far = Instant::now() + 10 * REMEMBERED;
            if self.answer(&asking.live, &Ask::One(&ping), 0, far).await.is_err() {
                return;
            }
            if asking.is_over() {
                return;
            }
        }
    }
}

/// That a task asks after a connection. Dropped half-way, perhaps with a runtime that ends before the connection's, it
/// leaves that to the next one.
struct Asking {
    live: Arc<Live>,
    /// The bytes that its PING was sent behind.
    behind: Option<u64>,
}

impl Asking {
    /// The PING was answered, and what it was behind. Whether there is no more to ask after: then that is said under the
    /// same lock.
    fn is_over(&mut self) -> bool {
        let mut pulse = lock(&self.live.pulse);
        pulse.owed = pulse.owed.saturating_sub(self.behind.take().unwrap_or(0));
        self.behind = pulse.abandoned.take();
        pulse.asking = self.behind.is_some();
        !pulse.asking
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(behind) = self.behind {
            let mut pulse = lock(&self.live.pulse);
            *pulse.abandoned.get_or_insert(0) += behind;
            pulse.asking = false;
        }
    }
}

/// How long a connection may be silent that owes an answer to so many bytes.
fn patience(doubled: u32, owed: u64) -> Duration {
    SILENCE * (1 << doubled.min(DOUBLED)) + Duration::from_micros(owed.saturating_mul(1_000_000) / FLOOR)
}

impl Live {
    fn new(connection: Connection) -> Self {
        let pulse = Pulse { heard: Instant::now(), owed: 0, abandoned: None, asking: false };
        Self { connection, pulse: Mutex::new(pulse), gone: Notify::new() }
    }
}

/// That an answer is owed; dropped before it came, nobody waits for it.
struct Owed<'a> {
    lane: &'a Arc<Lane>,
    live: &'a Arc<Live>,
    since: Instant,
    bytes: u64,
    over: bool,
}

impl<'a> Owed<'a> {
    fn new(lane: &'a Arc<Lane>, live: &'a Arc<Live>, bytes: u64) -> Self {
        lock(&live.pulse).owed += bytes;
        Self { lane, live, since: Instant::now(), bytes, over: false }
    }

    /// There is no more to come.
    fn over(&mut self) {
        self.over = true;
    }

    fn answered(&mut self) {
        self.over = true;
        let now = Instant::now();
        let silence = {
            let mut pulse = lock(&self.live.pulse);
            pulse.owed = pulse.owed.saturating_sub(self.bytes);
            now.duration_since(std::mem::replace(&mut pulse.heard, now).max(self.since))
        };
        self.lane.heard_after(silence, now);
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut pulse = lock(&self.live.pulse);
        *pulse.abandoned.get_or_insert(0) += self.bytes;
        if pulse.asking {
            return;
        }
        // Without a runtime there is nobody to ask, and nobody to be asked for.
        if let Ok(runtime) = Handle::try_current() {
            pulse.asking = true;
            let asking = Asking { live: Arc::clone(self.live), behind: pulse.abandoned.take() };
            // Not under the lock: a runtime that is ending drops the task at once.
            drop(pulse);
            runtime.spawn(Arc::clone(self.lane).ask_after(asking));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_with_what_is_under_way_and_with_what_was_given_up() {
        assert_eq!(patience(0, 0), SILENCE);
        assert_eq!(patience(0, 12 * FLOOR), SILENCE + Duration::from_secs(12));
        assert_eq!(patience(1, FLOOR / 2), 2 * SILENCE + Duration::from_millis(500));
        assert_eq!(patience(99, 0), 8 * SILENCE);
        assert!(patience(0, u64::MAX) > Duration::from_secs(1_000_000), "and no number is too large");
    }
}
