//! [`Ledger`]: what was asked of some slots and what was heard, for the checker of histories.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use oncekey_conformance::history::{BUDGET, Call, Moment, Tolerance, Verdict, check, perform};
use oncekey_core::state::{Answer, Operation};
use oncekey_core::{Clock, Effect, IdempotencyAdmin, Principal, ReservationOutcome, Slot, StoreError};

use crate::line::{self, Words};

/// The calls of all slots, by everybody. Times are the host's, which is the server's too, so that calls of
/// several processes have one order.
pub struct Ledger {
    calls: Mutex<BTreeMap<Slot, Vec<Option<Call>>>>,
    shift: Box<dyn Fn(Duration) + Send + Sync>,
    /// Microseconds of the host's clock when the history's time was zero.
    begun: u64,
    /// Microseconds that the store's clock was surely moved by, and that it may have been: they differ
    /// while it is being moved.
    least: AtomicI64,
    most: AtomicI64,
    troubles: AtomicU64,
    /// Lock timeouts of the stores.
    lock_timeouts: Vec<Duration>,
    /// Whether each call and answer is a line of the standard output at once, for [`Ledger::read`].
    tells: bool,
}

/// Somebody who calls.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// A lane of the drawing.
    pub number: usize,
    pub store: &'a dyn IdempotencyAdmin,
    pub tries: Tries<'a>,
}

/// Tries of a call besides the one that is answered. Each may have had its effect too, and is a call of the
/// history that is open for ever (S9).
#[derive(Clone, Copy, Debug)]
pub enum Tries<'a> {
    None,
    One,
    /// One, if [`Ledger::trouble`] came while the call was under way.
    InTrouble,
    /// One for each connection that was made meanwhile, counted here: a store of one connection makes a call again
    /// on another one alone.
    Connections(&'a AtomicU64),
}

impl Tries<'_> {
    /// What has been counted so far.
    fn count(self, troubles: &AtomicU64) -> u64 {
        match self {
            Self::None | Self::One => 0,
            Self::InTrouble => troubles.load(SeqCst),
            Self::Connections(count) => count.load(SeqCst),
        }
    }

    /// How many there were since the count was this.
    fn since(self, before: u64, troubles: &AtomicU64) -> u64 {
        match self {
            Self::None => 0,
            Self::One => 1,
            Self::InTrouble => (self.count(troubles) - before).min(1),
            Self::Connections(_) => self.count(troubles) - before,
        }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("begun", &self.begun).finish_non_exhaustive()
    }
}

impl Ledger {
    /// Of stores whose clock nobody moves.
    pub fn still() -> Self {
        Self::moving(|_| {})
    }

    /// Of stores whose clock this moves forward.
    pub fn moving(shift: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        Self::begun_at(micros(), Box::new(shift))
    }

    /// One whose time begins then, and that tells another process of its calls.
    pub fn telling(begun: u64) -> Self {
        Self { tells: true, ..Self::begun_at(begun, Box::new(|_| {})) }
    }

    fn begun_at(begun: u64, shift: Box<dyn Fn(Duration) + Send + Sync>) -> Self {
        let (least, most, troubles, lock_timeouts) = Default::default();
        Self { calls: Mutex::default(), shift, begun, least, most, troubles, lock_timeouts, tells: false }
    }

    /// T3: a store that can't have a row's lock in so long says InFlight for so long, whatever is there. That is no
    /// answer of the state machine, and changes nothing: such a call is not in the history. A busy machine stalls a
    /// session that holds a lock for longer than one expects.
    #[must_use]
    pub fn doubting(mut self, lock_timeouts: &[Duration]) -> Self {
        self.lock_timeouts = lock_timeouts.to_vec();
        self
    }

    /// When its time began.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// Writes down what another process told, which stopped somewhere. A line that isn't whole was cut with it.
    pub fn read<'a>(&self, lines: impl IntoIterator<Item = &'a str>) {
        let mut open: HashMap<(Slot, usize), usize> = HashMap::new();
        for mut words in lines.into_iter().filter_map(Words::of) {
            let (what, key, theirs) = (words.word(), words.word(), words.number());
            let slot = Principal::new("crowd").unwrap().slot(key).unwrap();
            let place = (slot.clone(), theirs);
            match what {
                "call" => {
                    let (client, called, operation) = (words.number(), words.moment(), words.operation());
                    let ours = self.write(&slot, Call { client, operation, called, answered: None });
                    open.insert(place, ours);
                }
                "heard" => {
                    let answered = Some((words.moment(), words.answer()));
                    self.amend(&slot, open[&place], |call| Some(Call { answered, ..call }));
                }
                _ => self.amend(&slot, open[&place], |_| None),
            }
        }
    }

    /// Moves the store's clock.
    pub fn advance(&self, by: Duration) {
        let by_micros = i64::try_from(by.as_micros()).unwrap();
        self.most.fetch_add(by_micros, SeqCst);
        (self.shift)(by);
        self.least.fetch_add(by_micros, SeqCst);
    }

    /// When a call is about to be sent. Of a call and an answer in one microsecond nobody knows which was
    /// first: the call is, and they count as concurrent.
    pub fn before(&self) -> Moment {
        let now = micros() - self.begun;
        Moment { order: 2 * now, time: moved(now, self.least.load(SeqCst)) }
    }

    /// When an answer has come.
    pub fn after(&self) -> Moment {
        let now = micros() - self.begun;
        Moment { order: 2 * now + 1, time: moved(now, self.most.load(SeqCst)) }
    }

    /// Makes a call. One that surely had no effect isn't in the history; one whose effect is unknown is open
    /// for ever.
    pub async fn call(
        &self,
        client: Client<'_>,
        slot: &Slot,
        operation: &Operation,
    ) -> Result<Answer, StoreError> {
        let before = client.tries.count(&self.troubles);
        let (operation, called) = (operation.clone(), self.before());
        let call = Call { client: client.number, operation, called, answered: None };
        let place = self.write(slot, call.clone());
        let heard = perform(client.store, slot, &call.operation).await;
        match &heard {
            Err(error) if error.effect() == Effect::NotApplied => {
                self.amend(slot, place, |_| None);
                return heard;
            }
            Err(_) => {}
            Ok(Answer::Reserve(Ok(ReservationOutcome::InFlight(busy))))
                if self.lock_timeouts.contains(&busy.retry_after) =>
            {
                self.amend(slot, place, |_| None);
                return heard;
            }
            Ok(answer) => {
                let answered = Some((self.after(), answer.clone()));
                self.amend(slot, place, |call| Some(Call { answered, ..call }));
            }
        }
        for _ in 0..client.tries.since(before, &self.troubles) {
            self.write(slot, call.clone());
        }
        heard
    }

    /// From here on a call that is under way may have failed inside and been made again.
    pub fn trouble(&self) {
        self.troubles.fetch_add(1, SeqCst);
    }

    /// Writes a call down; its place, for its answer.
    fn write(&self, slot: &Slot, call: Call) -> usize {
        let mut all = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = all.entry(slot.clone()).or_default();
        let index = calls.len();
        if self.tells {
            let (sent, what) = (line::moment(call.called), line::operation(&call.operation));
            tell(&format!("call {} {index} {} {sent} {what}", slot.key(), call.client));
        }
        calls.push(Some(call));
        index
    }

    fn amend(&self, slot: &Slot, index: usize, change: impl FnOnce(Call) -> Option<Call>) {
        let mut all = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let place = &mut all.get_mut(slot).unwrap()[index];
        *place = place.take().and_then(change);
        if self.tells {
            match place.as_ref().and_then(|call| call.answered.as_ref()) {
                Some((at, answer)) => tell(&format!(
                    "heard {} {index} {} {}",
                    slot.key(),
                    line::moment(*at),
                    line::answer(answer)
                )),
                None => tell(&format!("void {} {index}", slot.key())),
            }
        }
    }

    /// The slots, each with its calls.
    pub fn all(&self) -> Vec<(Slot, Vec<Call>)> {
        let all = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(slot, calls)| (slot.clone(), calls.iter().flatten().cloned().collect())).collect()
    }

    /// Fails, with `what` and the story of it, unless each slot's calls have an order that the spec allows
    /// (S9). Forgets them.
    pub fn settle(&self, what: &str, tolerance: Tolerance) {
        for (slot, calls) in self.all() {
            match check(&calls, tolerance, BUDGET) {
                Verdict::Legal => {}
                Verdict::Illegal(why) => panic!("{what}: slot {}: {why}", slot.key()),
                Verdict::Undecided { states } => panic!(
                    "{what}: slot {}: no verdict after {states} states, so nothing is known:\n{}",
                    slot.key(),
                    calls.iter().map(told).collect::<String>(),
                ),
            }
        }
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A call as it is told to another process.
fn told(call: &Call) -> String {
    let heard = call.answered.as_ref().map(|(at, answer)| format!("{} {}", at.order, line::answer(answer)));
    format!(
        "{} {} {} -> {}\n",
        call.client,
        call.called.order,
        line::operation(&call.operation),
        heard.unwrap_or_default()
    )
}

fn moved(now: u64, by: i64) -> Duration {
    Duration::from_micros(now.checked_add_signed(by).unwrap())
}

/// One write, so that lines don't mix: what is written is with the other process, whatever becomes of this one.
fn tell(words: &str) {
    std::io::stdout().lock().write_all(line::line(words).as_bytes()).unwrap();
}

/// The host's clock.
fn micros() -> u64 {
    Clock::system().now().as_micros()
}
