//! [`Lane`]: a connection, made again when it breaks, and how long it may be silent.
//!
//! Redis answers a connection in order, and loses no answer of one that is alive. So nobody asks again because it takes
//! long: a try ends with its answer, with the call's deadline, or with the connection. That is given up when it owes
//! answers and has said nothing for longer than what is on its way can take.
//!
//! ```text
//!  a call gives up at its own deadline ──▶ its answer is nobody's, and one question behind it tells whether there was any
//! ```
//!
//! Connecting is nobody's call either: it is a task that all wait for, so that a far server is reached in the end though
//! no call had the time.
//!
//! A cluster's connection is one to each of its servers. Where one of these is silent the others' calls shall not notice:
//! the connection is kept, and whoever asks the silent one waits for another connection, which is made beside it and
//! takes its place only if it reaches more. That is tried again while somebody waits.

mod live;

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{RedisResult, Value};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use self::live::Asking;
pub(crate) use self::live::Live;
use crate::error::Failure;
use crate::pause;
use crate::source::{Ask, Connection, Whom};
use crate::topology::Doubt;

/// How long a connection that owes a small answer may say nothing: it may be dead without a word.
pub(crate) const SILENCE: Duration = Duration::from_secs(2);
/// How long nothing but the answer is looked at.
const SOON: Duration = Duration::from_millis(100);
/// How much later than it was to be woken somebody was stopped, and not only busy.
const LATE: Duration = Duration::from_millis(500);
/// Bytes a second that a link is given besides, for what travels before the next answer.
pub(crate) const FLOOR: u64 = 1 << 20;
/// How long it is remembered that a connection was given up: how much is to be received nobody knows, and if that was
/// why, the next one needs more time.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How long it takes until the next connection is tried, beside one that serves some: the servers that are well have
/// work to do.
const BESIDE: Duration = Duration::from_millis(500);
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
    /// Which of a cluster's servers nobody is sent to by that connection.
    doubt: Doubt,
    connecting: Option<watch::Receiver<Option<Opened>>>,
    /// How many connections in a row were given up, and when that was last worth remembering.
    given_up: u32,
    remembered: Option<Instant>,
}

type Opened = Result<Arc<Live>, Failure>;

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn is(&self, live: &Arc<Live>) -> bool {
        self.live.as_ref().is_some_and(|current| Arc::ptr_eq(current, live))
    }
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
        let live = self.live(opener, ask, deadline).await?;
        let said = self.answer(&live, ask, ask.bytes(), deadline).await?;
        Ok((said, live))
    }

    /// This connection is to be used no more; or, in a cluster, to be sent no more to who was asked.
    pub(crate) fn leave(&self, live: &Arc<Live>, ask: &Ask<'_>) {
        let mut state = lock(&self.state);
        if state.is(live) && !state.doubt.add(&live.connection, &ask.whom()) {
            state.live = None;
        }
    }

    /// The connection; whoever finds none that will do begins to make one.
    async fn live<O: Opener>(
        self: &Arc<Self>,
        opener: &Arc<O>,
        ask: &Ask<'_>,
        deadline: Instant,
    ) -> Result<Arc<Live>, Failure> {
        let mut connecting = {
            let mut state = lock(&self.state);
            match &state.live {
                Some(live) if !state.doubt.is_of(|| ask.whom()) => return Ok(Arc::clone(live)),
                _ => {}
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
            Ok(Ok(opened)) => {
                let live = opened.clone().unwrap_or_else(|| Err(Failure::no_connection_yet()))?;
                let is_unreached = lock(&self.state).doubt.is_of(|| ask.whom());
                if is_unreached { Err(Failure::unreached()) } else { Ok(live) }
            }
            Ok(Err(_)) | Err(_) => Err(Failure::no_connection_yet()),
        }
    }

    async fn connect<O: Opener>(self: Arc<Self>, opener: Arc<O>, tell: watch::Sender<Option<Opened>>) {
        let begun = Instant::now();
        let opened = opener.open().await;
        let opened = match opened {
            Ok(connection) if self.is_better(&connection) => Ok(Arc::new(Live::new(connection))),
            Ok(_) => Err(Failure::unreached()),
            Err(failure) => Err(failure),
        };
        if opened.is_err() && lock(&self.state).live.is_some() {
            pause::until(begun + BESIDE).await;
        }
        let replaced = {
            let mut state = lock(&self.state);
            state.connecting = None;
            match &opened {
                Ok(live) => {
                    state.doubt = live.connection.doubt();
                    state.live.replace(Arc::clone(live))
                }
                Err(_) => None,
            }
        };
        if let Some(replaced) = replaced {
            self.remember(Instant::now());
            replaced.gone.notify_waiters();
        }
        // Those who wait hold the other end, if there still are any.
        let _ = tell.send(Some(opened));
    }

    /// Whether it may take the place of what there is.
    fn is_better(&self, connection: &Connection) -> bool {
        let state = lock(&self.state);
        state.live.is_none() || state.doubt.is_less_by(connection)
    }

    /// Sends it, and waits until it is answered, until `deadline`, or until the connection is given up.
    async fn answer(
        self: &Arc<Self>,
        live: &Arc<Live>,
        ask: &Ask<'_>,
        bytes: u64,
        deadline: Instant,
    ) -> Result<RedisResult<Value>, Failure> {
        let mut owed = Owed::new(self, live, ask, bytes);
        let mut gone = pin!(live.gone.notified());
        let mut said = pin!(live.connection.say(ask));
        // Most are answered soon, and nothing else needs to be looked at.
        let soon = owed.since + SOON;
        if let Ok(said) = timeout_at(deadline.min(soon), &mut said).await {
            owed.answered();
            return Ok(said);
        }
        let mut since = unless_stopped(owed.since, soon, Instant::now());
        loop {
            let until = self.silent_until(live, ask, since).min(deadline);
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
                    live.hear_of(&ask.whom(), Instant::now());
                    return Ok(said);
                }
                Ok(ControlFlow::Continue(())) => {
                    owed.over();
                    return Err(Failure::no_answer());
                }
                Err(_) => {}
            }
            let now = Instant::now();
            if deadline <= now {
                return Err(Failure::no_answer());
            }
            since = unless_stopped(since, until, now);
            if self.silent_until(live, ask, since) <= now {
                self.give_up(live, ask, since);
                owed.over();
                return Err(Failure::no_answer());
            }
        }
    }

    /// When the connection counts as dead, should nothing be heard until then by one who asked at `since`.
    fn silent_until(&self, live: &Live, ask: &Ask<'_>, since: Instant) -> Instant {
        let doubled = {
            let state = lock(&self.state);
            state.remembered.filter(|when| when.elapsed() < REMEMBERED).map_or(0, |_| state.given_up)
        };
        let since = live.heard_of(&ask.whom()).map_or(since, |heard| heard.max(since));
        since + patience(doubled, live.before_the_next()) + self.within
    }

    fn give_up(&self, live: &Arc<Live>, ask: &Ask<'_>, since: Instant) {
        let is_current = {
            let mut state = lock(&self.state);
            if live.connection.is_cluster() {
                let whom = ask.whom();
                // Any was asked, and others have spoken since: the next one that is asked may be another.
                let is_one = whom == Whom::Any && live.heard() >= since;
                if is_one || !state.is(live) || state.doubt.add(&live.connection, &whom) {
                    return;
                }
            }
            let is_current = state.is(live);
            if is_current {
                state.live = None;
            }
            is_current
        };
        if is_current {
            self.remember(Instant::now());
        }
        live.gone.notify_waiters();
    }

    /// A connection was given up.
    fn remember(&self, now: Instant) {
        let mut state = lock(&self.state);
        let again = state.remembered.is_some_and(|when| now.duration_since(when) < REMEMBERED);
        state.given_up = if again { (state.given_up + 1).min(DOUBLED) } else { 1 };
        state.remembered = Some(now);
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

    /// Sends one question behind what nobody waits for any more, and again while there is more of that.
    async fn ask_after(self: Arc<Self>, mut asking: Asking) {
        while let Some(whom) = asking.behind.as_ref().map(|behind| behind.whom.clone()) {
            // By no deadline but the connection's own.
            let far = Instant::now() + 10 * REMEMBERED;
            if self.answer(&asking.live, &Ask::Whether(&whom), 0, far).await.is_err() {
                return;
            }
            asking.answered();
        }
    }
}

/// How long a connection may be silent, where so many bytes may be on their way before the next answer.
fn patience(doubled: u32, bytes: u64) -> Duration {
    SILENCE * (1 << doubled.min(DOUBLED)) + Duration::from_micros(bytes.saturating_mul(1_000_000) / FLOOR)
}

/// Since when somebody waits who began at `since`, was to be woken at `then` and was `now`: nobody could hear anything
/// while this process, or its machine, was stopped.
fn unless_stopped(since: Instant, then: Instant, now: Instant) -> Instant {
    if then + LATE <= now { now } else { since }
}

/// That an answer is owed; dropped before it came, nobody waits for it.
struct Owed<'a> {
    lane: &'a Arc<Lane>,
    live: &'a Arc<Live>,
    ask: &'a Ask<'a>,
    since: Instant,
    bytes: u64,
    over: bool,
}

impl<'a> Owed<'a> {
    fn new(lane: &'a Arc<Lane>, live: &'a Arc<Live>, ask: &'a Ask<'a>, bytes: u64) -> Self {
        live.owe(bytes);
        Self { lane, live, ask, since: Instant::now(), bytes, over: false }
    }

    /// There is no more to come.
    fn over(&mut self) {
        self.over = true;
        self.live.pay(self.bytes);
    }

    fn answered(&mut self) {
        self.over();
        let now = Instant::now();
        let silence = now.saturating_duration_since(self.live.hear(now).max(self.since));
        self.lane.heard_after(silence, now);
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let whom = if self.live.connection.is_cluster() { self.ask.whom() } else { Whom::Any };
        let mut left = lock(&self.live.left);
        left.abandon(self.bytes, whom);
        if left.asking {
            return;
        }
        // Without a runtime there is nobody to ask, and nobody to be asked for.
        if let Ok(runtime) = Handle::try_current() {
            left.asking = true;
            let asking = Asking { live: Arc::clone(self.live), behind: left.abandoned.take() };
            // Not under the lock: a runtime that is ending drops the task at once.
            drop(left);
            runtime.spawn(Arc::clone(self.lane).ask_after(asking));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_stopped_counts_the_silence_from_when_it_can_hear_again() {
        let since = Instant::now();
        let then = since + SILENCE;
        assert_eq!(unless_stopped(since, then, then + LATE / 2), since, "a busy machine");
        let now = then + 30 * SILENCE;
        assert_eq!(unless_stopped(since, then, now), now);
    }

    #[test]
    fn patience_grows_with_what_is_under_way_and_with_what_was_given_up() {
        assert_eq!(patience(0, 0), SILENCE);
        assert_eq!(patience(0, 12 * FLOOR), SILENCE + Duration::from_secs(12));
        assert_eq!(patience(1, FLOOR / 2), 2 * SILENCE + Duration::from_millis(500));
        assert_eq!(patience(99, 0), 8 * SILENCE);
        assert!(patience(0, u64::MAX) > Duration::from_secs(1_000_000), "and no number is too large");
    }
}
