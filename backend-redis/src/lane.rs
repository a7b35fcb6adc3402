//! [`Lane`]: a connection, made again when it breaks, and how long it may be silent.
//!
//! Redis answers a connection in order, and loses no answer of one that is alive. So nobody asks again because it takes
//! long: a try ends with its answer, with the call's deadline, or with the connection. That is given up when it owes
//! answers and has said nothing for longer than what is on its way can take.
//!
//! ```text
//!  a call gives up at its own deadline ──▶ its answer is nobody's, and a question of ours tells whether there are any
//! ```
//!
//! It is sent as soon as it is seen that the call may give up first: the silence is counted over all calls.
//!
//! Connecting is nobody's call either: it is a task that all wait for, so that a far server is reached in the end though
//! no call had the time.

mod live;

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

pub(crate) use self::live::Live;
use self::live::{Asking, Left};
use crate::error::Failure;
use crate::flight::{Flight, Landing};
use crate::source::{Ask, command};

/// How long a connection that owes a small answer may say nothing: it may be dead without a word.
pub(crate) const SILENCE: Duration = Duration::from_secs(2);
/// How long nothing but the answer is looked at.
const SOON: Duration = Duration::from_millis(100);
/// How much later than it was to be woken somebody was stopped, and not only busy.
const LATE: Duration = Duration::from_millis(500);
/// KiB a second that a link is given besides, for what travels before the next answer.
const FLOOR: u32 = 1 << 10;
/// How long it is remembered that a connection was given up: how much is to be received nobody knows, and if that was
/// why, the next one needs more time.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How often it is begun to connect again where the task that does is gone at once.
const TRIES: u32 = 3;
/// Longer than any opener takes.
const CONNECTING: Duration = Duration::from_secs(12);
/// How often in a row the silence may get twice as long.
const DOUBLED: u32 = 3;

/// Makes connections.
pub(crate) trait Opener: Send + Sync + 'static {
    fn open(&self) -> impl Future<Output = Result<MultiplexedConnection, Failure>> + Send;
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
    connecting: Option<Flight<Opened>>,
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

    /// Whether there is a connection.
    pub(crate) fn is_connected(&self) -> bool {
        lock(&self.state).live.is_some()
    }

    /// This connection is to be used no more.
    pub(crate) fn leave(&self, live: &Arc<Live>) {
        let mut state = lock(&self.state);
        if state.is(live) {
            state.live = None;
        }
    }

    /// The connection; whoever finds none begins to make one.
    pub(crate) async fn live<O: Opener>(
        self: &Arc<Self>,
        opener: &Arc<O>,
        deadline: Instant,
    ) -> Result<Arc<Live>, Failure> {
        for _ in 0..TRIES {
            let opened = {
                let mut state = lock(&self.state);
                if let Some(live) = &state.live {
                    return Ok(Arc::clone(live));
                }
                let under_way = state.connecting.take().filter(|flight| flight.is_under_way(CONNECTING));
                let flight = under_way.unwrap_or_else(|| {
                    let (flight, landing) = Flight::begin();
                    tokio::spawn(Arc::clone(self).connect(Arc::clone(opener), landing));
                    flight
                });
                state.connecting.insert(flight).wait(CONNECTING)
            };
            match timeout_at(deadline, opened).await {
                Ok(Some(opened)) => return opened,
                // Its task is gone, or never ran.
                Ok(None) => {}
                Err(_) => break,
            }
        }
        Err(Failure::no_connection_yet())
    }

    async fn connect<O: Opener>(self: Arc<Self>, opener: Arc<O>, landing: Landing<Opened>) {
        landing.start();
        let opened = opener.open().await.map(|connection| Arc::new(Live::new(connection)));
        {
            let mut state = lock(&self.state);
            state.connecting.take_if(|flight| flight.lands_by(&landing));
            if let Ok(live) = &opened {
                state.live = Some(Arc::clone(live));
            }
        }
        landing.land(opened);
    }

    /// Asks on it, and waits until that is answered, until `deadline`, or until the connection is given up.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        live: &Arc<Live>,
        ask: &Ask<'_>,
        deadline: Instant,
    ) -> Result<RedisResult<Value>, Failure> {
        self.answer(live, ask, ask.kib(), deadline).await
    }

    async fn answer(
        self: &Arc<Self>,
        live: &Arc<Live>,
        ask: &Ask<'_>,
        kib: u32,
        deadline: Instant,
    ) -> Result<RedisResult<Value>, Failure> {
        let mut owed = Owed::new(self, live, kib);
        let mut gone = pin!(live.gone.notified());
        let mut said = pin!(ask.on(&live.connection));
        // Most are answered soon, and nothing else needs to be looked at.
        let soon = owed.since + SOON;
        if let Ok(said) = timeout_at(deadline.min(soon), &mut said).await {
            owed.answered();
            return Ok(said);
        }
        let mut since = unless_stopped(owed.since, soon, Instant::now());
        if deadline < self.silent_until(live, since) {
            self.ask_whether(live, |left| Some(left.abandoned.take().unwrap_or(0)));
        }
        loop {
            let until = self.silent_until(live, since).min(deadline);
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
            if deadline <= now {
                return Err(Failure::no_answer());
            }
            since = unless_stopped(since, until, now);
            if self.silent_until(live, since) <= now {
                self.give_up(live);
                owed.over();
                return Err(Failure::no_answer());
            }
        }
    }

    /// When the connection counts as dead, should nothing be heard until then by one who has waited since.
    fn silent_until(&self, live: &Live, since: Instant) -> Instant {
        let doubled = {
            let state = lock(&self.state);
            state.remembered.filter(|when| when.elapsed() < REMEMBERED).map_or(0, |_| state.given_up)
        };
        live.heard().max(since) + patience(doubled, live.before_the_next()) + self.within
    }

    fn give_up(&self, live: &Arc<Live>) {
        let is_current = {
            let mut state = lock(&self.state);
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

    /// Has a task ask whether there are answers, unless one does, behind what that is said to be; if it is anything.
    fn ask_whether(self: &Arc<Self>, live: &Arc<Live>, behind: impl FnOnce(&mut Left) -> Option<u32>) {
        // Without a runtime there is nobody to ask, and nobody to be asked for.
        let Ok(runtime) = Handle::try_current() else { return };
        let mut left = lock(&live.left);
        if left.asking {
            return;
        }
        let Some(behind) = behind(&mut left) else { return };
        left.asking = true;
        // Not under the lock: a runtime that is ending drops the task at once.
        drop(left);
        let asking = Asking { live: Arc::clone(live), behind: Some(behind) };
        runtime.spawn(Arc::clone(self).ask_until_answered(asking));
    }

    /// Sends one question, and again while something was abandoned meanwhile.
    async fn ask_until_answered(self: Arc<Self>, mut asking: Asking) {
        let whether = command("PING");
        while asking.behind.is_some() {
            // By no deadline but the connection's own.
            let far = Instant::now() + 10 * REMEMBERED;
            if self.answer(&asking.live, &Ask::one(&whether), 0, far).await.is_err() {
                return;
            }
            asking.answered();
        }
    }
}

/// How long a connection may be silent, where so many KiB may be on their way before the next answer.
fn patience(doubled: u32, kib: u32) -> Duration {
    SILENCE * (1 << doubled.min(DOUBLED)) + Duration::from_secs(kib.into()) / FLOOR
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
    since: Instant,
    kib: u32,
    over: bool,
}

impl<'a> Owed<'a> {
    fn new(lane: &'a Arc<Lane>, live: &'a Arc<Live>, kib: u32) -> Self {
        live.owe(kib);
        Self { lane, live, since: Instant::now(), kib, over: false }
    }

    /// There is no more to come.
    fn over(&mut self) {
        self.over = true;
        self.live.pay(self.kib);
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
        if !self.over {
            lock(&self.live.left).abandon(self.kib);
            self.lane.ask_whether(self.live, |left| left.abandoned.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use redis::{AsyncConnectionConfig, RedisConnectionInfo};
    use tokio::io::duplex;

    use super::*;

    /// Connects to who says nothing.
    struct Silence;

    impl Opener for Silence {
        async fn open(&self) -> Result<MultiplexedConnection, Failure> {
            let (ours, theirs) = duplex(1 << 20);
            // Nothing has to be said to be connected.
            let who = RedisConnectionInfo::default().set_skip_set_lib_name();
            let config = AsyncConnectionConfig::new().set_response_timeout(None);
            let (connection, driver) = MultiplexedConnection::new_with_config(&who, ours, config)
                .await
                .map_err(Failure::no_connection)?;
            tokio::spawn(async move {
                driver.await;
                drop(theirs);
            });
            Ok(connection)
        }
    }

    /// The clock moves to whatever is waited for.
    #[tokio::test(start_paused = true)]
    async fn the_silence_is_counted_over_all_calls_that_heard_nothing() {
        let (lane, opener) = (Arc::new(Lane::new(Duration::ZERO)), Arc::new(Silence));
        // Longer than any call waits.
        for _ in 0..DOUBLED {
            lane.remember(Instant::now());
        }
        let begun = Instant::now();
        let mut ended = Vec::new();
        let cmd = command("TIME");
        for _ in 0..3 {
            let deadline = Instant::now() + 3 * SILENCE;
            let live = lane.live(&opener, deadline).await.unwrap();
            lane.ask(&live, &Ask::one(&cmd), deadline).await.unwrap_err();
            ended.push(begun.elapsed().as_secs());
        }
        assert_eq!(ended, [6, 12, 16], "the last one hears that the connection was given up");
        assert!(!lane.is_connected());
    }

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
        assert!(patience(0, u32::MAX) > Duration::from_secs(1_000_000), "and no number is too large");
    }
}
